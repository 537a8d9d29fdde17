"""Estimate elasticities from price changes: regression on residuals, falsification tests, price tests, shared bias."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data.ewma import Norms
from pricing.data.features import weekends
from pricing.data.panel import Panel
from pricing.demand.batches import FeatureTable
from pricing.demand.elasticity import (
    RAISED,
    PosteriorElasticities,
    Prior,
    level_prior,
    level_start,
    shrink,
    with_shared_bias,
    within_limits,
)
from pricing.demand.endogeneity import (
    UNTESTED,
    FalsificationTest,
    FalsificationTests,
    control_function,
    fit_price_change_mixture,
)
from pricing.demand.grades import (
    AT_LIMIT,
    DIP_AFTER_CUT,
    FEW_MOVES,
    KINDS_DISAGREE,
    LEAST_CLUSTERS,
    MOVED_TOGETHER,
    TREND,
    Evidence,
)
from pricing.demand.price_changes import (
    AFTER,
    LATER,
    SCORED_PERIODS,
    ScoredPeriods,
    after_cuts,
    after_price_changes,
    around_price_changes,
    distinct_prices,
    during_tests,
    find_price_changes,
    join,
)
from pricing.demand.regression import Residuals, Shift, difference, placebo, regress

LEAST_STAGE = 0.2  # lower bound of the first-stage slope of prices on draws
# Ratio of one round's step to the one before: at least a half, at most four fifths.
SLOW, SLOWEST = 0.5, 0.8
FORTNIGHT = {"day": 14, "week": 2}
# In prior standard deviations: a smaller bias does not lower an estimate's grade but only widens it. Two kinds of price
# changes may differ by twice as much, since their mean is half as far from each.
MATERIAL = 0.5
COST_MOVE = 0.01  # log change of unit cost in the fortnight before a price change that makes it cost-driven


@dataclass(frozen=True)
class EstimationSample:
    """Scored periods of a panel and their price information, before any demand forecast.

    Attributes:
        moves: From price changes made by people on.
        before: Just before some of them.
        later: Some time after some of them.
        after: After temporary cuts.
        tests: At randomised prices.
        coming: (before event,) row in `moves` of the first period of the following price change.
        past: (later event,) row in `moves` of the first period of the preceding price change.
        depth: (after event,) log depth of the cut, below 0.
        lasted: (after event,) periods of the cut.
        draw: (test event,) log of the price over that without the draw.
        kinds: (event of moves,) masks of kinds of price changes, by name.
        residual: (event of moves,) price residual: log price change less its out-of-fold prediction.
        moved: (product, period) price changes made by people.
        cluster: (period,) fortnight.
        recency: (period,) weight.
        weekend: (period,) 1.0 on weekends.
        parent: (product,) row of the parent whose elasticity each product shares; one without a parent is its own.
        first: (parent,) row of its first product.
    """

    moves: ScoredPeriods
    before: ScoredPeriods
    later: ScoredPeriods
    after: ScoredPeriods
    tests: ScoredPeriods
    coming: Ints
    past: Ints
    depth: Floats
    lasted: Floats
    draw: Floats
    kinds: dict[str, Bools]
    residual: Floats
    moved: Bools
    cluster: Ints
    recency: Floats
    weekend: Floats
    parent: Ints
    first: Ints

    @property
    def everything(self) -> ScoredPeriods:
        """Concatenate all events, in the order of `EventForecast`."""
        return join([self.moves, self.before, self.later, self.after, self.tests])


@dataclass(frozen=True)
class EventForecast:
    """(event,) expected units and size of the negative binomial, of `EstimationSample.everything`."""

    mean: Floats
    size: Floats

    def part(self, begin: int, count: int) -> "EventForecast":
        """Select consecutive events."""
        return EventForecast(self.mean[begin : begin + count], self.size[begin : begin + count])


@dataclass(frozen=True)
class Estimates:
    """Estimated elasticities, before any prior; one a parent, and a product without a parent is its own.

    Attributes:
        value: (parent,) estimates.
        error: (parent,) their standard errors; infinite without an estimate.
        level: Mean elasticity of all products.
        level_error: Its standard error.
        untested_level: `level` before the correction by price tests.
        step: Change of `untested_level` in this round.
        doubt: (parent,) standard deviation of the bias that estimates share, which standard errors do not include.
        shared_bias_sd: The same for parents without an estimate of their own.
        shift: The regression behind the estimates.
        checks: Falsification tests.
        tested_error: (parent,) standard error from price tests alone; infinite without any.
    """

    value: Floats
    error: Floats
    level: float
    level_error: float
    untested_level: float
    step: float
    doubt: Floats
    shared_bias_sd: float
    shift: Shift
    checks: FalsificationTests
    tested_error: Floats

    @classmethod
    def nothing(cls, parents: int, *, level: float) -> "Estimates":
        """Return the values before the first round."""
        unknown, nil = np.full(parents, np.inf), np.zeros(parents)
        shift = Shift(nil, unknown, nil.astype(np.int64), 0.0, np.inf, 0.0, 0.0, nil, 0.0, nil, 0.0)
        return cls(
            value=nil + level,
            error=unknown,
            level=level,
            level_error=np.inf,
            untested_level=level,
            step=0.0,
            doubt=nil,
            shared_bias_sd=0.0,
            shift=shift,
            checks=FalsificationTests(UNTESTED, UNTESTED, UNTESTED, {}),
            tested_error=unknown,
        )

    def without_shared_bias(self) -> "Estimates":
        """Return the estimates with the shared bias set to 0."""
        return replace(self, doubt=np.zeros_like(self.doubt), shared_bias_sd=0.0)

    def describe(self) -> str:
        """Summarise the figures in a sentence."""

        def said(value: float, error: float) -> str:
            return f"{value:+.2f} ± {error:.2f}" if np.isfinite(error) else "unknown"

        checks = self.checks
        named = {"before moves": checks.before, "later": checks.later, "after cuts": checks.dip} | checks.kinds
        told = ", ".join(f"{name} {said(check.value, check.error)}" for name, check in named.items())
        level, control = said(self.level, self.level_error), f"{self.shift.control:+.2f}"
        doubt = f"{self.shared_bias_sd:.2f}" if np.isfinite(self.shared_bias_sd) else "unknown"
        return f"level {level}, shared doubt {doubt}, control {control}, {told}"


def select_sample(
    panel: Panel, table: FeatureTable, *, tested: Floats | None, own: Bools | None, half_life: float | None
) -> EstimationSample:
    """Select the events; see `identification.identify` for the arguments."""
    periods = len(panel.dates)
    drawn = np.full(panel.present.shape, np.nan) if tested is None else tested
    moved = find_price_changes(table, own=own)
    with_draw = np.isfinite(drawn)
    with_draw[:, 1:] |= with_draw[:, :-1]  # price changes into and out of a test are randomised, too
    moved &= ~with_draw
    moves = after_price_changes(table, moved)
    untouched = ~with_draw[moves.product, moves.at]
    moves = moves.select(untouched)
    first = np.flatnonzero(moves.step == 1)
    row_of = np.full(panel.present.shape, -1)
    row_of[moves.product[first], moves.at[first]] = first
    before, coming = around_price_changes(table, moved, first=-SCORED_PERIODS)
    later, past = around_price_changes(table, moved, first=LATER)
    coming, past = row_of[before.product, coming], row_of[later.product, past]
    after, depth, lasted = after_cuts(table, moved)
    tests = during_tests(table, drawn)
    first_series = parent = np.arange(len(panel.product_ids))
    if panel.parent_ids is not None:
        _, first_series, parent = np.unique(panel.parent_ids, return_index=True, return_inverse=True)
    return EstimationSample(
        moves=moves,
        before=before.select(coming >= 0),
        later=later.select(past >= 0),
        after=after,
        tests=tests,
        coming=coming[coming >= 0],
        past=past[past >= 0],
        depth=depth,
        lasted=lasted,
        draw=drawn[tests.product, tests.at],
        kinds=_kinds(panel, table, moves),
        residual=np.zeros(len(moves)),
        moved=moved,
        cluster=np.arange(periods) // FORTNIGHT[panel.period],
        recency=recency_weights(periods, half_life=half_life),
        weekend=weekends(panel.dates, period=panel.period),
        parent=parent,
        first=first_series,
    )


def _kinds(panel: Panel, table: FeatureTable, moves: ScoredPeriods) -> dict[str, Bools]:
    """(event,) masks of the kinds of price changes whose elasticities are compared."""
    move = table.log_price[moves.product, moves.at] - table.log_price[moves.product, moves.cutoff]
    size = np.abs(move)
    cost = np.log(np.where(panel.unit_cost > 0, panel.unit_cost, np.nan))
    earlier = np.maximum(moves.cutoff + 1 - FORTNIGHT[panel.period], 0)
    with np.errstate(invalid="ignore"):
        driven = np.abs(cost[moves.product, moves.cutoff + 1] - cost[moves.product, earlier]) > COST_MOVE
    driven &= ~panel.cost_assumed[moves.product]
    promoted = np.maximum(table.promo[moves.product, moves.at], table.promo[moves.product, moves.cutoff]) > 0
    large = size > np.median(size) if len(size) else size > 0
    return {"rises": move > 0, "large": large, "cost-driven": driven, "promoted": promoted}


def recency_weights(periods: int, *, half_life: float | None) -> NDArray[np.float32]:
    """(period,) weights that halve every `half_life` periods into the past; all 1 without a half-life."""
    if half_life is None:
        return np.ones(periods, np.float32)
    age = np.arange(periods)[::-1]
    return (0.5 ** (age / half_life)).astype(np.float32)


def learn(
    sample: EstimationSample,
    table: FeatureTable,
    forecast: EventForecast,
    *,
    norms: Norms,
    control: bool,
    so_far: Estimates,
) -> Estimates:
    """Run one round: regression, falsification tests, and the shared bias from both and from earlier rounds.

    Args:
        sample: The events, with price residuals.
        table: The panel's table, with the current elasticities.
        forecast: Out-of-fold demand forecasts of all events.
        norms: The current elasticities.
        control: Whether to use the control function.
        so_far: Result of the round before.
    """
    products = len(norms.elasticity)
    groups = (sample.moves, sample.before, sample.later, sample.after, sample.tests)
    begin = np.cumsum([0, *(len(events) for events in groups)])
    moving, before_it, after_it, after_cut, drawn = (
        forecast.part(int(at), len(events)) for at, events in zip(begin, groups, strict=False)
    )
    routine = (
        control_function(sample.residual, fit_price_change_mixture(sample.residual))
        if control
        else np.zeros(len(sample.moves))
    )
    moves = replace(_residuals(sample, table, sample.moves, moving, sample.residual, norms), routine=routine)
    shift = regress(moves, products=products, weekend=float(norms.weekend[0]), parent=sample.parent)
    checks = FalsificationTests(
        before=_tested(sample, table, sample.before, before_it, sample.residual[sample.coming], norms),
        later=_tested(sample, table, sample.later, after_it, sample.residual[sample.past], norms),
        # Sales lost after a cut were brought forward: the long-run elasticity is smaller by as much.
        dip=_tested(sample, table, sample.after, after_cut, sample.depth * sample.lasted / AFTER, norms),
        kinds=_compare_kinds(sample, moves, shift, products=products),
    )
    by_parent = norms.take(sample.first)  # all products of a parent have its elasticity
    level = float(np.mean(by_parent.elasticity)) + shift.mean
    value = by_parent.elasticity + shift.value
    error = np.hypot(shift.error, _between_rounds(value, shift.error, so_far))
    step = level - so_far.untested_level
    unsettled = remaining_change(step, before=so_far.step, noise=shift.mean_error)
    shared = float(np.sqrt(shift.drift**2 + unsettled**2 + checks.doubt**2))
    own = np.where(np.isfinite(error), np.hypot(shared, shift.common), shared)
    unknown = np.full(len(value), np.inf)
    known = Estimates(
        value=value,
        error=error,
        level=level,
        level_error=shift.mean_error,
        untested_level=level,
        step=step,
        doubt=own,
        shared_bias_sd=shared,
        shift=shift,
        checks=checks,
        tested_error=unknown,
    )
    if not len(sample.tests):
        return known
    random = _residuals(sample, table, sample.tests, drawn, _first_stage(sample, table) * sample.draw, norms)
    drawn_shift = regress(random, products=products, weekend=float(norms.weekend[0]), parent=sample.parent)
    return with_price_tests(known, drawn_shift, norms=by_parent)


def _compare_kinds(
    sample: EstimationSample, moves: Residuals, shift: Shift, *, products: int
) -> dict[str, FalsificationTest]:
    """Compare each kind with the other price changes, with its share of the information."""
    told = moves.weight * moves.mean / (1.0 + moves.mean / moves.size) * moves.price**2
    checks = {}
    for name, kind in sample.kinds.items():
        value, error = difference(moves, shift, kind, products=products, parent=sample.parent)
        checks[name] = FalsificationTest(value, error, share=float(told[kind].sum() / max(told.sum(), 1e-300)))
    return checks


def _first_stage(sample: EstimationSample, table: FeatureTable) -> float:
    """First-stage slope: how much of a draw the prices show after guardrails and price endings.

    Slope of log price on the draws within products, by which two-stage least squares multiplies the instrument
    (Theil 1953). Other causes of price changes are independent of the draws.
    """
    product, price = sample.tests.product, table.log_price[sample.tests.product, sample.tests.at]
    rows = np.maximum(np.bincount(product), 1)
    around = [values - (np.bincount(product, values) / rows)[product] for values in (sample.draw, price)]
    drawn, moved = around
    return float(np.clip(drawn @ moved / max(float(drawn @ drawn), 1e-12), LEAST_STAGE, 1.0))


def _residuals(
    sample: EstimationSample,
    table: FeatureTable,
    events: ScoredPeriods,
    forecast: EventForecast,
    price: Floats,
    norms: Norms,
) -> Residuals:
    who, at = events.product, events.at
    weekend = sample.weekend[at]
    return Residuals(
        product=who,
        cluster=sample.cluster[at],
        units=table.units[who, at].astype(np.float64),
        mean=np.asarray(forecast.mean, np.float64),
        price=np.asarray(price * (1.0 + norms.weekend[who] * weekend), np.float64),
        routine=np.zeros(len(at)),
        weight=sample.recency[at].astype(np.float64),
        size=np.asarray(forecast.size, np.float64),
        weekend=np.asarray(norms.elasticity[who] * price * weekend, np.float64),
        censored=table.censored[who, at],
    )


def _tested(
    sample: EstimationSample,
    table: FeatureTable,
    events: ScoredPeriods,
    forecast: EventForecast,
    column: Floats,
    norms: Norms,
) -> FalsificationTest:
    if not len(events):
        return UNTESTED
    plain = _residuals(sample, table, events, forecast, column, norms)
    return FalsificationTest(*placebo(plain, column, products=len(norms.elasticity), parent=sample.parent))


def remaining_change(step: float, *, before: float, noise: float) -> float:
    """Estimate the remaining change of a level over further rounds, from its last two changes.

    The remainder of a geometric series (Aitken 1926). Its ratio is SLOW, since rounds also differ by random batches,
    and larger only as far as the step before is significant against `noise`, a standard error.
    """
    if before == 0.0:
        return abs(step) * SLOW / (1.0 - SLOW)
    telling = before**2 / (before**2 + noise**2) if np.isfinite(noise) else 0.0
    ratio = SLOW + telling * (min(max(step / before, SLOW), SLOWEST) - SLOW)
    return abs(step) * ratio / (1.0 - ratio)


def _between_rounds(value: Floats, error: Floats, before: Estimates) -> float:
    """Standard deviation between two rounds of a parent's deviation from the common shift.

    Rounds differ in random batches and starting elasticities, so their disagreement is estimation error.
    """
    both = np.isfinite(error) & np.isfinite(before.error)
    if not both.any():
        return 0.0
    weight = 1.0 / error[both] ** 2
    change = (value - before.value)[both]
    around = change - np.average(change, weights=weight)
    return float(np.sqrt(np.average(around**2, weights=weight) / 2.0))


def with_price_tests(known: Estimates, random: Shift, *, norms: Norms) -> Estimates:
    """Correct estimates from observational price changes by those from randomised prices.

    Where a product has both, the gap between them estimates the bias that all observational estimates share, which is
    subtracted; its remaining uncertainty bounds the shared bias. A product's two estimates are then combined by
    precision.

    Args:
        known: Estimates from price changes made by people.
        random: Regression on the draws.
        norms: The elasticities in the offset of both, one a parent.
    """
    tested = norms.elasticity + random.value
    drift = random.drift if np.isfinite(random.drift) else 0.0
    noise = random.error**2 + drift**2
    both = np.isfinite(known.error) & np.isfinite(random.error)
    open_to = max(known.shared_bias_sd, float(np.min(known.error[both], initial=1.0)))
    weight = np.where(both, 1.0 / (np.where(both, known.error, 1.0) ** 2 + np.where(both, noise, 1.0)), 0.0)
    apart = np.where(both, known.value - tested, 0.0)
    left = 1.0 / (weight.sum() + 1.0 / open_to**2)
    bias = float((weight * apart).sum() * left)
    shared = min(known.shared_bias_sd, float(np.sqrt(left))) if both.any() else known.shared_bias_sd
    moves = np.where(np.isfinite(known.error), 1.0 / np.where(np.isfinite(known.error), known.error, 1.0) ** 2, 0.0)
    draws = np.where(np.isfinite(random.error), 1.0 / np.where(np.isfinite(random.error), noise, 1.0), 0.0)
    total = np.maximum(moves + draws, 1e-300)
    value = (moves * (known.value - bias) + draws * tested) / total
    return replace(
        known,
        value=np.where(moves + draws > 0, value, known.value - bias),
        error=np.where(moves + draws > 0, 1.0 / np.sqrt(total), np.inf),
        level=known.level - bias,
        doubt=np.where(moves + draws > 0, np.minimum(known.doubt, shared) * moves / total, shared),
        shared_bias_sd=shared,
        tested_error=np.where(np.isfinite(random.error), np.sqrt(noise), np.inf),
    )


def posterior_elasticities(
    known: Estimates, *, category: Ints, prior: Prior, categories: int = 0
) -> PosteriorElasticities:
    """Compute the posterior: empirical-Bayes shrinkage, shared bias and limits.

    Args:
        known: Estimates, one a parent.
        category: (parent,) row of the category.
        prior: The configured prior.
        categories: As for `shrink`.
    """
    of_level, shared = prior.widening * known.level_error, prior.widening * known.shared_bias_sd
    start = level_start(prior, level=known.level, error=float(np.hypot(of_level, shared)))

    def posterior(more: float) -> PosteriorElasticities:
        level = level_prior(known.level + more, of_level, start=start)
        error = prior.widening * known.error
        value = known.value + more
        return shrink(value, error, category=category, prior=level, sd=prior.sd, categories=categories)

    shrunk = with_shared_bias(
        posterior(0.0),
        raised=posterior(RAISED),
        level=known.level,
        error=of_level,
        own=prior.widening * known.doubt,
        shared=shared,
        start=start,
    )
    return within_limits(shrunk, category=category, prior=prior)


def category_of_parents(category: Ints, parent: Ints) -> Ints:
    """(parent,) the category of most of its products; of several, the first."""
    categories = int(category.max(initial=0)) + 1
    pairs, count = np.unique(parent * categories + category, return_counts=True)
    pairs = pairs[np.lexsort((-count, pairs // categories))]
    _, first = np.unique(pairs // categories, return_index=True)
    most: Ints = pairs[first] % categories
    return most


def gather_evidence(
    sample: EstimationSample, table: FeatureTable, known: Estimates, shrunk: PosteriorElasticities, *, prior: Prior
) -> Evidence:
    """Collect the evidence, one entry a parent, and the objections to its estimate.

    A parent's price changes are the periods in which one of its products changed its price, its distinct prices the
    most that one of them had.
    """
    own = known.error**2 + known.doubt**2
    tested = known.tested_error**2

    def left(noise: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(noise), noise / (noise + prior.sd**2), 1.0).astype(np.float32)

    clusters = known.shift.clusters
    checks = known.checks
    has = clusters > 0
    flags = np.where(clusters < LEAST_CLUSTERS, FEW_MOVES, 0) | np.where(shrunk.at_limit, AT_LIMIT, 0)
    flags |= np.where(has & checks.trend.failed(least=MATERIAL * prior.sd), TREND, 0)
    flags |= np.where(has & checks.dip.failed(least=MATERIAL * prior.sd), DIP_AFTER_CUT, 0)
    flags |= np.where(has & checks.disagreement.failed(least=2 * MATERIAL * prior.sd), KINDS_DISAGREE, 0)
    flags |= np.where(has & ~np.isfinite(known.shift.drift), MOVED_TOGETHER, 0)
    return Evidence(
        moves=_of_parents(sample.moved, sample).sum(axis=1).astype(np.int32),
        clusters=clusters.astype(np.int32),
        prices=_of_parents(_distinct_prices(table), sample),
        left=((shrunk.sd / prior.sd) ** 2).astype(np.float32),
        left_own=left(own),
        left_tested=left(tested),
        flags=flags.astype(np.int32),
    )


def _of_parents(values: NDArray[Any], sample: EstimationSample) -> NDArray[Any]:
    """(parent, …) largest of the (product, …) values of each parent's products, which are at least 0 or False."""
    largest = np.zeros((len(sample.first), *values.shape[1:]), values.dtype)
    np.maximum.at(largest, sample.parent, values)
    return largest


def _distinct_prices(table: FeatureTable) -> Ints:
    """(product,) number of prices that differ by more than rounding."""
    return distinct_prices(table.log_price, table.seen > 0)
