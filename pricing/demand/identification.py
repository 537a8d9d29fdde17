"""Estimate elasticities from endogenous price history by double machine learning with LSTM nuisance networks.

Partially linear model, estimated by residual-on-residual regression (Robinson 1988) with cross-fitted nuisances
(Chernozhukov et al. 2018, doi:10.1111/ectj.12097). Falsification tests and random draws tell the bias that all
estimates may share; `shrinkage` makes the posterior.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.ewma import Norms
from pricing.data.features import KNOWN, PAST
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand import batches
from pricing.demand.batches import FeatureTable
from pricing.demand.endogeneity import FalsificationTest, FalsificationTests, control_function, fit_price_change_mixture
from pricing.demand.grades import Evidence, Grades, category_of_parents, gather_evidence, grade_products
from pricing.demand.price_changes import AFTER, SCORED_PERIODS, EstimationSample, ScoredPeriods, select_sample
from pricing.demand.regression import Residuals, Shift, difference, placebo, regress
from pricing.demand.shrinkage import START, PosteriorElasticities, shrink
from pricing.demand.state import NUISANCE_FOLDS, Networks, Weights, blank_state, encode, prepare, respond

if TYPE_CHECKING:
    from pricing.demand.network import Shape, Trainer

Progress = Callable[[str], None]

SERIES = 64
BLOCK = 28  # days in a block; blocks alternate between the cross-fitting folds
CHUNK = 1000  # products encoded at a time
WEEKEND_LIMIT = 0.5  # of the relative change of the elasticity on weekends
LEAST_STAGE = 0.2  # lower bound of the first-stage slope of prices on draws
# Log units of the level that no test sees: hidden demand that prices follow half. What every family of simulated
# markets needs for its 80 % intervals to hold 70 to 90 %.
LEAST_BIAS = 0.15


@dataclass(frozen=True)
class Identified:
    """Estimated elasticities with diagnostics."""

    norms: Norms  # the products' scales, elasticities included
    shrunk: PosteriorElasticities  # (product,) posterior
    evidence: Evidence  # what each product's history tells of it
    grade: Grades  # (product,) how well each elasticity is known, index into `grades.GRADES`
    networks: Networks  # those that they were estimated with


@dataclass(frozen=True)
class EventForecast:
    """(event,) expected units and size of the negative binomial, of `EstimationSample.everything`."""

    mean: Floats
    size: Floats


@dataclass(frozen=True)
class Estimates:
    """Estimated elasticities of one round, before any prior; one a parent, and a product without one is its own."""

    value: Floats  # (parent,)
    error: Floats  # (parent,) standard errors; infinite without an estimate
    category_information: Floats  # (category,) 1 / squared standard error of its mean, clustered over time
    level: float  # mean elasticity of all products
    level_error: float  # its standard error
    step: float  # by how much the round moved it
    moved: float  # by how much all rounds after the first did: they do not agree on a level that they move far
    bias: float  # standard deviation of the bias that all estimates share, on the scale of an elasticity
    shift: Shift  # the regression behind them
    checks: FalsificationTests

    def posterior(self, *, category: Ints, categories: int) -> PosteriorElasticities:
        """Compute the posterior; `category` is the (parent,) row of each category."""
        bias = float(np.hypot(LEAST_BIAS, self.bias / max(abs(self.level), 1e-3)))
        apart = np.bincount(category, 1.0 / self.error**2, categories)  # information, were all independent
        told = self.category_information
        share = np.divide(told, apart, where=apart > told, out=np.ones(categories))
        return shrink(self.value, self.error, category=category, categories=categories, bias=bias, share=share)

    def describe(self) -> str:
        """Summarise the figures in a sentence."""
        level = f"{self.level:+.2f} ± {self.level_error:.2f}"
        return f"level {level}, shared doubt {self.bias:.2f}, control {self.shift.control:+.2f}"


def identify(
    panel: Panel,
    *,
    norms: Norms,
    category: Ints,
    config: DemandConfig,
    progress: Progress | None = None,
    tested: Floats | None = None,
    own: Bools | None = None,
    networks: Networks | None = None,
) -> Identified:
    """Estimate the elasticity of every product; products of one parent (`Panel.parent_ids`) share one.

    1. The price network predicts price changes from sales, calendar and past prices, cross-fitted over blocks of time.
       Cost and stock are no inputs, so that price changes caused by them remain as identifying variation.
    2. The demand network, cross-fitted likewise, forecasts the periods of each price change from the day before, with
       the current elasticities in its offset and past sales restated by them.
    3. Residual-on-residual regression with a control function (`endogeneity`), then shrinkage.
    4. Steps 2 and 3 repeat with the new elasticities, at least twice, until the level moves by less than its standard
       error, `config.rounds` rounds at most.

    `category` is each product's row of it; `progress` is called with a sentence about each step. `tested` is (product,
    period) log of the price over that without a random draw, NaN outside experiments: an instrument, whose estimate
    needs no control function and corrects that of other price changes. `own` is (product, period) True where the
    platform itself set the price: such changes depend on the model's forecasts and on stock, and are left out.
    `networks` are those of a sample of the shop, which predict in place of new ones, round by round.
    """
    say = progress or (lambda _: None)
    current = replace(norms, elasticity=np.full_like(norms.elasticity, START))
    table = batches.build_table(panel, norms=current, category=category)
    sample = select_sample(panel, table, tested=tested, own=own)
    evidence = gather_evidence(panel, own=own, tested=tested)
    grade = grade_products(evidence, panel)
    mostly, categories = category_of_parents(category, sample.parent), int(category.max(initial=-1)) + 1
    unknown = np.full(len(sample.first), np.inf)
    shrunk = shrink(np.zeros(len(unknown)), unknown, category=mostly, categories=categories, bias=0.0)
    nuisances = Nuisances(panel, category=category, config=config, networks=networks)
    if not len(sample.everything) or (networks is not None and not networks.weights):
        say("no price change to learn from: elasticities stay at the prior")
        return _identified(sample, shrunk, current, evidence, grade, nuisances.networks)
    residual, foreseen = nuisances.price_residual(table, sample.moves)
    say(f"{len(residual)} periods of price moves, {foreseen:.0%} of their variance foreseen")
    sample = replace(sample, residual=residual)
    known: Estimates | None = None
    for number in range(config.rounds if networks is None else networks.rounds):
        if number:
            del table  # two tables of a large panel may not fit in RAM
            table = batches.build_table(panel, norms=current, category=category)
        forecast = nuisances.demand_forecast(table, sample.everything, attempt=number)
        known = learn(sample, table, forecast, norms=current, so_far=known)
        shrunk = known.posterior(category=mostly, categories=categories)
        stronger = np.clip(current.weekend + known.shift.weekend, -WEEKEND_LIMIT, WEEKEND_LIMIT)
        current = replace(
            current, elasticity=shrunk.elasticity[sample.parent].astype(np.float32), weekend=stronger.astype(np.float32)
        )
        flags = np.where(evidence.fortnights > 0, known.checks.flags, 0).astype(np.int32)
        evidence = replace(evidence, flags=flags)
        say(f"round {number + 1}: {known.describe()}, weekend {float(current.weekend[0]):+.2f}")
        if number and abs(known.step) < known.level_error:
            break
    return _identified(sample, shrunk, current, evidence, grade, nuisances.networks)


def _identified(
    sample: EstimationSample,
    shrunk: PosteriorElasticities,
    current: Norms,
    evidence: Evidence,
    grade: Grades,
    networks: Networks,
) -> Identified:
    """Give each product what its parent has."""
    each = replace(shrunk, mean=shrunk.mean[sample.parent], sd=shrunk.sd[sample.parent])
    return Identified(replace(current, elasticity=each.elasticity.astype(np.float32)), each, evidence, grade, networks)


def learn(
    sample: EstimationSample, table: FeatureTable, forecast: EventForecast, *, norms: Norms, so_far: Estimates | None
) -> Estimates:
    """Run one round: regression, falsification tests, and the shared bias from both and from the round before."""
    products = len(norms.elasticity)
    ends = np.cumsum([len(events) for events in (sample.moves, sample.before, sample.later, sample.after)])
    forecasts = zip(np.split(forecast.mean, ends), np.split(forecast.size, ends), strict=True)
    moving, before_it, after_it, after_cut, drawn = (EventForecast(mean, size) for mean, size in forecasts)

    def residuals(events: ScoredPeriods, forecast: EventForecast, price: Floats) -> Residuals:
        who, at = events.product, events.at
        weekend = sample.weekend[at]
        return Residuals(
            product=who,
            cluster=sample.cluster[at],
            units=table.units[who, at].astype(np.float64),
            mean=np.asarray(forecast.mean, np.float64),
            price=np.asarray(price * (1.0 + norms.weekend[who] * weekend), np.float64),
            routine=np.zeros(len(at)),
            size=np.asarray(forecast.size, np.float64),
            weekend=np.asarray(norms.elasticity[who] * price * weekend, np.float64),
            censored=table.censored[who, at],
        )

    def tested(events: ScoredPeriods, forecast: EventForecast, column: Floats) -> FalsificationTest:
        plain = residuals(events, forecast, column)
        return FalsificationTest(*placebo(plain, column, products=products, parent=sample.parent))

    routine = control_function(sample.residual, fit_price_change_mixture(sample.residual))
    moves = replace(residuals(sample.moves, moving, sample.residual), routine=routine)
    weekend, of = float(norms.weekend[0]), table.category
    shift = regress(moves, products=products, weekend=weekend, parent=sample.parent, category=of)
    checks = FalsificationTests(
        before=tested(sample.before, before_it, sample.residual[sample.coming]),
        later=tested(sample.later, after_it, sample.residual[sample.past]),
        # Sales lost after a cut were brought forward: the long-run elasticity is smaller by as much.
        dip=tested(sample.after, after_cut, sample.depth * sample.lasted / AFTER),
        kinds=_compare_kinds(sample, moves, shift),
    )
    by_parent = norms.take(sample.first)  # all products of a parent have its elasticity
    level = float(np.mean(by_parent.elasticity)) + shift.mean
    value = by_parent.elasticity + shift.value
    usable = np.isfinite(shift.error)
    common = float(np.sqrt(np.mean(shift.common[usable] ** 2))) if usable.any() else 0.0
    step = level - (so_far.level if so_far is not None else float(np.mean(by_parent.elasticity)))
    moved = so_far.moved + step if so_far is not None else 0.0
    drift = shift.drift if np.isfinite(shift.drift) else abs(level)  # all moved at once: nothing tells it from a trend
    known = Estimates(
        value=value,
        error=np.hypot(shift.error, _between_rounds(value, shift.error, so_far)),
        category_information=shift.category_information,
        level=level,
        level_error=shift.mean_error,
        step=step,
        moved=moved,
        bias=float(np.sqrt(drift**2 + moved**2 + common**2 + checks.doubt**2)),
        shift=shift,
        checks=checks,
    )
    if not len(sample.tests):
        return known
    random = residuals(sample.tests, drawn, _first_stage(sample, table) * sample.draw)
    drawn_shift = regress(random, products=products, weekend=weekend, parent=sample.parent, category=of)
    return with_draws(known, drawn_shift, norms=by_parent)


def _compare_kinds(sample: EstimationSample, moves: Residuals, shift: Shift) -> dict[str, FalsificationTest]:
    """Compare each kind with the other price changes, with its share of the information."""
    told = moves.mean / (1.0 + moves.mean / moves.size) * moves.price**2
    checks = {}
    for name, kind in sample.kinds.items():
        value, error = difference(moves, shift, kind, parent=sample.parent)
        checks[name] = FalsificationTest(value, error, share=float(told[kind].sum() / max(told.sum(), 1e-300)))
    return checks


def _first_stage(sample: EstimationSample, table: FeatureTable) -> float:
    """First-stage slope: how much of a draw the prices show after guardrails and price endings.

    Slope of log price on the draws within products, by which two-stage least squares multiplies the instrument (Theil
    1953). Other causes of price changes are independent of the draws.
    """
    product, price = sample.tests.product, table.log_price[sample.tests.product, sample.tests.at]
    rows = np.maximum(np.bincount(product), 1)
    drawn, moved = (values - (np.bincount(product, values) / rows)[product] for values in (sample.draw, price))
    return float(np.clip(drawn @ moved / max(float(drawn @ drawn), 1e-12), LEAST_STAGE, 1.0))


def _between_rounds(value: Floats, error: Floats, before: Estimates | None) -> float:
    """Standard deviation between two rounds of a parent's deviation from the common shift: error of estimation."""
    both = np.isfinite(error) & np.isfinite(before.error) if before is not None else np.zeros(len(error), np.bool_)
    if before is None or not both.any():
        return 0.0  # rounds differ in random batches and starting elasticities
    weight = 1.0 / error[both] ** 2
    change = (value - before.value)[both]
    around = change - np.average(change, weights=weight)
    return float(np.sqrt(np.average(around**2, weights=weight) / 2.0))


def with_draws(known: Estimates, random: Shift, *, norms: Norms) -> Estimates:
    """Correct estimates from people's price changes by a regression on random draws; `norms` is the offset of both.

    Where a parent has both, the gap between them estimates the bias that all observational estimates share, which is
    subtracted; its remaining uncertainty bounds the shared bias. Its two estimates are then combined by precision.
    """
    tested = norms.elasticity + random.value
    noise = random.error**2 + (random.drift**2 if np.isfinite(random.drift) else 0.0)
    both = np.isfinite(known.error) & np.isfinite(random.error)
    open_to = max(known.bias, float(np.min(known.error[both], initial=1.0)))
    weight = np.where(both, 1.0 / (np.where(both, known.error, 1.0) ** 2 + np.where(both, noise, 1.0)), 0.0)
    left = 1.0 / (weight.sum() + 1.0 / open_to**2)
    bias = float((weight * np.where(both, known.value - tested, 0.0)).sum() * left)
    moves, draws = (
        np.divide(1.0, variance, where=np.isfinite(variance), out=np.zeros(len(noise)))
        for variance in (known.error**2, noise)
    )
    total = np.maximum(moves + draws, 1e-300)
    value = (moves * (known.value - bias) + draws * tested) / total
    return replace(
        known,
        value=np.where(moves + draws > 0, value, known.value - bias),
        error=np.where(moves + draws > 0, 1.0 / np.sqrt(total), np.inf),
        category_information=known.category_information + random.category_information,
        level=known.level - bias,
        bias=min(known.bias, float(np.sqrt(left))),
    )


class Nuisances:
    """The demand and price nuisance networks, cross-fitted over blocks of time: new ones, or those of a sample."""

    def __init__(self, panel: Panel, *, category: Ints, config: DemandConfig, networks: Networks | None = None) -> None:
        self._config, self._panel, self._category = config, panel, category
        self.networks = Networks({}, panel.dates[:1]) if networks is None else networks
        periods, days = len(panel.dates), np.timedelta64(STEP_DAYS[panel.period], "D")
        block = BLOCK if panel.period == "day" else BLOCK // 7
        block = max(min(block, periods // NUISANCE_FOLDS), 1)  # every fold of a short panel needs a block
        since = int((panel.dates[0] - self.networks.start[0]) // days)
        self._fold = ((since + np.arange(periods)) // block) % NUISANCE_FOLDS

    @cached_property
    def _trainers(self) -> tuple["Trainer", "Trainer", "Shape"]:
        """Trainers of demand and of prices, compiled once."""
        from pricing.demand.network import Shape, Trainer  # noqa: PLC0415 - importing Keras takes seconds

        config, periods = self._config, len(self._panel.dates)
        length = min(config.context, periods * 2 // 3)
        shape = Shape(
            length=length,
            cutoffs=max(length - length // 6, 1),
            steps=1,
            past=PAST,
            known=KNOWN + 1,
            categories=int(self._category.max()) + 1,
            units=config.units,
        )
        demand = Trainer(shape, loss="demand", seed=config.seed)
        priced = replace(shape, known=KNOWN + 1 + batches.KNOWN_PRICES)
        return demand, Trainer(priced, loss="price", seed=config.seed + 1), shape

    def price_residual(self, table: FeatureTable, events: ScoredPeriods) -> tuple[Floats, float]:
        """(event,) log price change less its out-of-fold prediction, and the predicted share of its variance (R²)."""
        move = table.log_price[events.product, events.at] - table.log_price[events.product, events.cutoff]
        residual = move - self._cross_fit(table, events, price=True)[0]
        foreseen = 1.0 - float((residual**2).sum()) / max(float((move**2).sum()), 1e-12) if len(move) else 0.0
        return residual, foreseen

    def demand_forecast(self, table: FeatureTable, events: ScoredPeriods, *, attempt: int) -> EventForecast:
        """Out of fold, at the price charged; each attempt samples other batches."""
        log_mean, log_size = self._cross_fit(table, events, price=False, attempt=attempt)
        log_mean = log_mean + batches.baseline(table, events.product, events.cutoff, events.step)
        log_mean = log_mean + table.offset[events.product, events.at]
        return EventForecast(np.exp(np.clip(log_mean, -9, 14)), np.exp(log_size))

    def _cross_fit(
        self, table: FeatureTable, events: ScoredPeriods, *, price: bool, attempt: int = 0
    ) -> tuple[Floats, Floats]:
        horizon = max(int(events.step.max(initial=1)), SCORED_PERIODS)
        value, size = np.zeros(len(events.product)), np.zeros(len(events.product))
        block, known = self._fold[events.at], dict(self.networks.weights)
        for fold in range(NUISANCE_FOLDS):
            name = f"{'price' if price else 'demand'}-{attempt}-{fold}"
            if name not in known:
                known[name] = self._fitted(table, fold, horizon, price=price, attempt=attempt)
            scored = block == fold
            value[scored], size[scored] = read_events(known[name], table, events.select(scored), price=price)
        self.networks = replace(self.networks, weights=known)
        return value, size

    def _fitted(self, table: FeatureTable, fold: int, horizon: int, *, price: bool, attempt: int) -> Weights:
        """Fit a network on all blocks but those of a fold."""
        config, (demand, priced, shape) = self._config, self._trainers
        plan = batches.SamplingPlan(
            series=SERIES,
            length=shape.length,
            cutoffs=shape.cutoffs,
            steps=1,
            horizon=horizon,
            keep=(self._fold != fold).astype(np.float32),
            price=price,
            flag=True,
        )
        rng = np.random.default_rng([config.seed, fold, int(price), attempt])
        return (priced if price else demand).fit(
            batches.draw_batches(table, plan, rng),
            steps=config.price_steps if price else config.demand_steps,
            rate=config.learning_rate,
        )


def read_events(
    weights: Weights, table: FeatureTable, events: ScoredPeriods, *, price: bool, chunk: int = CHUNK
) -> tuple[Floats, Floats]:
    """(event,) predict the network's log mean over the offset, and log size, `chunk` products at a time."""
    value, size = np.zeros(len(events.product), np.float32), np.zeros(len(events.product), np.float32)
    for begin in range(0, len(table.category), chunk):  # all products' states may not fit in RAM
        some = slice(begin, begin + chunk)
        inputs = table.past.inputs[some]
        states, _ = encode(weights, inputs, state=blank_state(weights, len(inputs)))
        at = np.flatnonzero((events.product >= begin) & (events.product < begin + chunk))
        rows, cutoff = events.product[at], events.cutoff[at]
        prepared = prepare(weights, states[rows - begin, cutoff], table.category[rows])
        known = batches.gather_known(table, rows, cutoff, events.step[at], flag=True, prices=price)
        value[at], _, size[at] = respond(weights, prepared, known)
    return value, size
