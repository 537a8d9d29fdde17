"""Estimate elasticities from endogenous price history by double machine learning with LSTM nuisance networks.

Partially linear model, estimated by residual-on-residual regression (Robinson 1988) with cross-fitted nuisances
(Chernozhukov et al. 2018, doi:10.1111/ectj.12097).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.ewma import Norms
from pricing.data.features import KNOWN, PAST
from pricing.data.panel import Panel
from pricing.demand import forward
from pricing.demand.batches import (
    KNOWN_PRICES,
    FeatureTable,
    SamplingPlan,
    baseline,
    build_table,
    draw_batches,
    gather_known,
)
from pricing.demand.elasticity import BETWEEN, PosteriorElasticities, Prior
from pricing.demand.elasticity_estimation import (
    Estimates,
    EstimationSample,
    EventForecast,
    category_of_parents,
    gather_evidence,
    learn,
    posterior_elasticities,
    select_sample,
)
from pricing.demand.grades import Evidence, Grades, grade_categories, grade_products
from pricing.demand.network import Shape, Trainer, Weights
from pricing.demand.price_changes import SCORED_PERIODS, ScoredPeriods

Progress = Callable[[str], None]

SERIES = 64
CHUNK = 1000  # products encoded at a time
WEEKEND_LIMIT = 0.5  # of the relative change of the elasticity on weekends
NAMED = 5  # products named in a message


@dataclass(frozen=True)
class Identified:
    """Estimated elasticities with diagnostics.

    Attributes:
        norms: The products' scales, elasticities included.
        shrunk: Posterior elasticities; their deviations include all estimated errors.
        events: Number of scored periods of price changes.
        control: Coefficient of the control function; near 0 is no proof that prices are exogenous.
        evidence: Evidence in each product's history.
        grade: (product,) how well each elasticity is identified, index into `grades.GRADES`.
        category_grade: (category,) the same for a category's mean.
    """

    norms: Norms
    shrunk: PosteriorElasticities
    events: int
    control: float
    evidence: Evidence
    grade: Grades
    category_grade: Grades


def identify(
    panel: Panel,
    *,
    norms: Norms,
    category: Ints,
    config: DemandConfig,
    progress: Progress | None = None,
    tested: Floats | None = None,
    own: Bools | None = None,
) -> Identified:
    """Estimate the elasticity of every product; products of one parent (`Panel.parent_ids`) share one.

    1. The price network predicts price changes from sales, calendar and past prices, cross-fitted over blocks of time.
       Cost and stock are no inputs, so that price changes caused by them remain as identifying variation.
    2. The demand network, cross-fitted likewise, forecasts the periods of each price change from the day before, with
       the current elasticities in its offset and past sales restated by them.
    3. Residual-on-residual regression with a control function (`endogeneity`), then empirical-Bayes shrinkage.
    4. Steps 2 and 3 repeat with the new elasticities, `config.rounds` rounds in all.

    Args:
        panel: The history.
        norms: The products' scales.
        category: (product,) row of the category.
        config: The demand section.
        progress: Called with a sentence about each step.
        tested: (product, period) log of the price over that without a random draw; NaN outside price tests. The draws
            are an instrument: their estimate needs no control function and corrects that of other price changes.
        own: (product, period) True where the platform itself set the price. These price changes depend on the model's
            forecasts and on stock, and are left out.
    """
    say = progress or (lambda _: None)
    prior = Prior(
        config.elasticity_start,
        config.elasticity_prior_sd,
        widening=config.elasticity_sd_factor,
        limits=config.elasticity_limits,
    )
    current = replace(norms, elasticity=np.full_like(norms.elasticity, prior.mean))
    table = build_table(panel, norms=current, category=category)
    sample = select_sample(panel, table, tested=tested, own=own, half_life=config.recency_half_life)
    known = Estimates.nothing(len(sample.first), level=prior.mean)
    mostly, categories = category_of_parents(category, sample.parent), int(category.max(initial=-1)) + 1
    if not len(sample.everything):
        say(
            "no price change to learn from (none at all, or none with periods enough around it): elasticities stay at "
            f"demand.elasticity_start, {prior.mean:g} ± {prior.sd:g}"
        )
        return _identified(sample, table, current, known, category=category, prior=prior)
    nuisances = Nuisances(panel, category=category, config=config)
    residual, foreseen = nuisances.price_residual(table, sample.moves)
    say(f"{len(residual)} periods of price moves, {foreseen:.0%} of their variance foreseen")
    sample = replace(sample, residual=residual)
    for number in range(config.rounds):
        if number:
            del table  # two tables of a large panel may not fit in RAM
            table = build_table(panel, norms=current, category=category)
        mean, size = nuisances.demand_forecast(table, sample.everything, attempt=number)
        known = learn(sample, table, EventForecast(mean, size), norms=current, control=config.control, so_far=known)
        # The bias terms widen the final posterior only; forecasts use the estimate without them.
        shrunk = posterior_elasticities(
            known.without_shared_bias(), category=mostly, prior=prior, categories=categories
        )
        stronger = np.clip(current.weekend + known.shift.weekend, -WEEKEND_LIMIT, WEEKEND_LIMIT)
        current = replace(
            current, elasticity=shrunk.mean[sample.parent].astype(np.float32), weekend=stronger.astype(np.float32)
        )
        say(f"round {number + 1}: {known.describe()}, weekend {float(current.weekend[0]):+.2f}")
    found = _identified(sample, table, current, known, category=category, prior=prior)
    at_limit = panel.product_ids[found.shrunk.at_limit]
    if len(at_limit):
        low, high = prior.limits
        named = ", ".join(at_limit[:NAMED]) + (f" and {len(at_limit) - NAMED} more" if len(at_limit) > NAMED else "")
        say(f"{len(at_limit)} elasticities end at a limit ({low:g} or {high:g}), which is no finding: {named}")
    return found


def _identified(
    sample: EstimationSample, table: FeatureTable, current: Norms, known: Estimates, *, category: Ints, prior: Prior
) -> Identified:
    parent, mostly = sample.parent, category_of_parents(category, sample.parent)
    categories = int(category.max(initial=-1)) + 1
    shrunk = posterior_elasticities(known, category=mostly, prior=prior, categories=categories)
    evidence = gather_evidence(sample, table, known, shrunk, prior=prior)
    left = shrunk.mean_sd**2 / (prior.sd**2 * (1.0 - BETWEEN**2))
    category_grade = grade_categories(left, at_limit=shrunk.category_at_limit, evidence=evidence, category=mostly)
    grade = grade_products(evidence, category_grade=category_grade, category=mostly)
    return Identified(
        norms=replace(current, elasticity=shrunk.mean[parent].astype(np.float32)),
        shrunk=replace(shrunk, mean=shrunk.mean[parent], sd=shrunk.sd[parent], at_limit=shrunk.at_limit[parent]),
        events=len(sample.moves),
        control=known.shift.control,
        evidence=Evidence(**{name: values[parent] for name, values in vars(evidence).items()}),
        grade=grade[parent],
        category_grade=category_grade,
    )


class Nuisances:
    """The demand and price nuisance networks, compiled once and cross-fitted over blocks of time."""

    def __init__(self, panel: Panel, *, category: Ints, config: DemandConfig) -> None:
        self._config = config
        periods = len(panel.dates)
        length = min(config.context, periods * 2 // 3)
        shape = Shape(
            length=length,
            cutoffs=max(length - length // 6, 1),
            steps=1,
            past=PAST,
            known=KNOWN + 1,
            categories=int(category.max()) + 1,
            units=config.units,
        )
        self._demand = Trainer(shape, loss="demand", seed=config.seed)
        self._price = Trainer(replace(shape, known=KNOWN + 1 + KNOWN_PRICES), loss="price", seed=config.seed + 1)
        self._shape = shape
        block = config.block if panel.period == "day" else config.block // 7
        block = max(min(block, periods // config.nuisance_folds), 1)  # every fold of a short panel needs a block
        self._fold = (np.arange(periods) // block) % config.nuisance_folds

    def price_residual(self, table: FeatureTable, events: ScoredPeriods) -> tuple[Floats, float]:
        """(event,) log price change less its out-of-fold prediction, and the predicted share of its variance (R²)."""
        expected, _ = self._cross_fit(table, events, price=True)
        at = events.at
        move = table.log_price[events.product, at] - table.log_price[events.product, events.cutoff]
        residual = move - expected
        foreseen = 1.0 - float((residual**2).sum()) / max(float((move**2).sum()), 1e-12) if len(move) else 0.0
        return residual, foreseen

    def demand_forecast(self, table: FeatureTable, events: ScoredPeriods, *, attempt: int = 0) -> tuple[Floats, Floats]:
        """(event,) out-of-fold expected units at the price charged, and size; each attempt samples other batches."""
        log_mean, log_size = self._cross_fit(table, events, price=False, attempt=attempt)
        at = events.at
        log_mean = log_mean + baseline(table, events.product, events.cutoff, events.step)
        return np.exp(np.clip(log_mean + table.offset[events.product, at], -9, 14)), np.exp(log_size)

    def _cross_fit(
        self, table: FeatureTable, events: ScoredPeriods, *, price: bool, attempt: int = 0
    ) -> tuple[Floats, Floats]:
        config = self._config
        horizon = max(int(events.step.max(initial=1)), SCORED_PERIODS)
        trainer = self._price if price else self._demand
        value, size = np.zeros(len(events.product)), np.zeros(len(events.product))
        block = self._fold[events.at]
        for fold in range(config.nuisance_folds):
            plan = SamplingPlan(
                series=SERIES,
                length=self._shape.length,
                cutoffs=self._shape.cutoffs,
                steps=1,
                horizon=horizon,
                keep=(self._fold != fold).astype(np.float32),
                recency=np.ones(table.seen.shape[1], np.float32),
                price=price,
                flag=True,
            )
            rng = np.random.default_rng([config.seed, fold, int(price), attempt])
            weights = trainer.fit(
                draw_batches(table, plan, rng),
                steps=config.price_steps if price else config.demand_steps,
                rate=config.learning_rate,
            )
            scored = block == fold
            value[scored], size[scored] = read_events(weights, table, events.select(scored), price=price)
        return value, size


def read_events(
    weights: Weights, table: FeatureTable, events: ScoredPeriods, *, price: bool, chunk: int = CHUNK
) -> tuple[Floats, Floats]:
    """(event,) predict the network's log mean over the offset, and log size, `chunk` products at a time."""
    value, size = np.zeros(len(events.product), np.float32), np.zeros(len(events.product), np.float32)
    for begin in range(0, len(table.category), chunk):  # all products' states may not fit in RAM
        some = slice(begin, begin + chunk)
        inputs = table.past.inputs[some]
        states, _ = forward.encode(weights, inputs, state=forward.blank_state(weights, len(inputs)))
        at = np.flatnonzero((events.product >= begin) & (events.product < begin + chunk))
        rows, cutoff = events.product[at], events.cutoff[at]
        prepared = forward.prepare(weights, states[rows - begin, cutoff], table.category[rows])
        known = gather_known(table, rows, cutoff, events.step[at], flag=True, prices=price)
        value[at], _, size[at] = forward.respond(weights, prepared, known)
    return value, size
