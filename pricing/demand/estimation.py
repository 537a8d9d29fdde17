"""Estimate elasticities in one round: residual on residual, what falsifies it, and what random draws correct.

θ̂ = θ_old + δ (docs/develop/demand.md, section 3): regression gives δ, the change of the elasticities that the demand
forecasts assumed. Falsification tests and random draws tell the bias B that all estimates may share.
"""

from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.data.ewma import Norms
from pricing.demand.batches import FeatureTable
from pricing.demand.endogeneity import control_function, fit_price_change_mixture
from pricing.demand.falsification import FalsificationTest, FalsificationTests
from pricing.demand.grades import category_of_parents
from pricing.demand.nuisances import EventForecast
from pricing.demand.price_changes import AFTER, EstimationSample
from pricing.demand.regression import CONTROL_SD, Residuals, Shift, difference, placebo, regress
from pricing.demand.shrinkage import PosteriorElasticities, shrink
from pricing.demand.tested_gap import PairedMeans, between_variance, mean_elasticities, posterior_gaps

SERIES = 2  # of a product: its other periods and its advertised ones, each with an intercept of its own
LEAST_STAGE = 0.2  # lower bound of the first-stage slope of prices on draws
# Prior standard deviation, as a fraction of the level, of what a price does to the sales of the week after it: static
# estimates are 30 % too elastic for goods that keep (Hendel and Nevo 2006, doi:10.1111/j.1468-0262.2006.00721.x).
CARRIED = 0.3


@dataclass(frozen=True)
class Estimates:
    """Estimated elasticities of one round, before any prior; one a parent, and a product without one is its own."""

    value: Floats  # (parent,) θ̂
    error: Floats  # (parent,) ε, standard errors; infinite without an estimate
    category_information: Floats  # (category,) 1 / squared standard error of its mean, clustered over time
    level: float  # mean elasticity of all products
    level_error: float  # its standard error
    step: float  # by how much the round moved it
    moved: float  # by how much all rounds after the first did: they do not agree on a level that they move far
    bias: float  # B, standard deviation of the bias that all estimates share, on the scale of an elasticity
    shift: Shift  # the regression behind them
    checks: FalsificationTests
    exposure: Floats | float = 1.0  # (category,) part of `bias` that each category's estimates have
    tested: PairedMeans | None = None  # what draws tell beside people's price changes; None without draws

    def posterior(self, *, category: Ints, centre: Floats) -> PosteriorElasticities:
        """Compute the posterior; `category` is the (parent,) row of each category, `centre` as for `shrink`."""
        return shrink(
            self.value,
            self.error,
            category=category,
            centre=centre,
            bias=self.bias / max(abs(self.level), 1e-3),
            share=_share(self.category_information, self.error**2, category),
            exposure=self.exposure,
        )

    def describe(self) -> str:
        """Summarise the figures in a sentence."""
        level = f"{self.level:+.2f} ± {self.level_error:.2f}"
        shared = f"control {self.shift.control:+.2f}, advertised {self.shift.lift:+.2f}"
        return f"level {level}, shared doubt {self.bias:.2f}, {shared}"


def estimate_round(
    sample: EstimationSample,
    table: FeatureTable,
    forecast: EventForecast,
    *,
    norms: Norms,
    so_far: Estimates | None,
    doubt: float,
    least: float,
) -> Estimates:
    """Run one round: regression, falsification tests, and the shared bias from both and from the round before.

    `forecast` is of `sample.everything`, with the elasticities of `norms`, θ_old, in its offset. `doubt` is what the
    ladder adds to the bias, in units of an elasticity, and `least` a bias that nothing shows, in log units of the
    level; random draws alone remove them.
    """
    scored = _Scored(sample, table, _by_part(sample, forecast), norms)
    routine = control_function(sample.residual, fit_price_change_mixture(sample.residual))
    moves = replace(scored.residuals("moves", sample.residual), routine=routine)
    shift = scored.regress(moves)
    checks = FalsificationTests(
        before=scored.placebo("before", sample.residual[sample.coming]),
        later=scored.placebo("later", sample.residual[sample.past]),
        # Sales lost after a cut were brought forward: the long-run elasticity is smaller by as much.
        dip=scored.placebo("after", sample.depth * sample.lasted / AFTER),
        kinds=_compare_kinds(sample, moves, shift),
    )
    old = norms.elasticity[sample.first]  # all products of a parent have its elasticity
    known = _estimates(shift, checks, old=old, so_far=so_far)
    return replace(known, bias=float(np.hypot(np.hypot(known.bias, doubt), least * known.level)))


def correct_by_draws(
    known: Estimates, sample: EstimationSample, table: FeatureTable, forecast: EventForecast, *, norms: Norms
) -> Estimates:
    """Correct the estimates of a round by `sample.tests`; the other arguments are those of the round."""
    scored = _Scored(sample, table, _by_part(sample, forecast), norms)
    stage = _first_stage(sample, table)
    tests = replace(scored.residuals("tests", stage * sample.draw), routine=stage * sample.drawn_before)
    random = scored.regress(tests, control_sd=CARRIED * abs(known.level))
    category = category_of_parents(table.category, sample.parent)
    return with_draws(known, random, old=norms.elasticity[sample.first], category=category)


@dataclass(frozen=True)
class _Scored:
    """A round's scored periods with their features and forecasts, by part of the sample."""

    sample: EstimationSample
    table: FeatureTable
    forecasts: dict[str, EventForecast]
    norms: Norms

    def residuals(self, part: str, price: Floats) -> Residuals:
        """Gather what a regression on the (event,) price residuals of a part reads."""
        events = self.sample.parts[part]
        forecast = self.forecasts[part]
        product = events.product
        weekend = self.sample.weekend[events.at]
        draw = self.table.draw[product, events.at]
        return Residuals(
            product=SERIES * product + (draw > 0),
            cluster=self.sample.cluster[events.at],
            units=self.table.units[product, events.at].astype(np.float64),
            mean=np.asarray(forecast.mean, np.float64),
            price=np.asarray(price * (1.0 + self.norms.weekend[product] * weekend), np.float64),
            routine=np.zeros(len(events)),
            size=np.asarray(forecast.size, np.float64),
            weekend=np.asarray(self.norms.elasticity[product] * price * weekend, np.float64),
            advertised=np.asarray(draw, np.float64),
            censored=self.table.censored[product, events.at],
        )

    def regress(self, residuals: Residuals, *, control_sd: float = CONTROL_SD) -> Shift:
        weekend = float(self.norms.weekend[0])
        category = np.repeat(self.table.category, SERIES)
        parent = _parents(self.sample)
        return regress(residuals, weekend=weekend, parent=parent, category=category, control_sd=control_sd)

    def placebo(self, part: str, column: Floats) -> FalsificationTest:
        return FalsificationTest(*placebo(self.residuals(part, column), column, parent=_parents(self.sample)))


def _parents(sample: EstimationSample) -> Ints:
    """(series,) the parent of each series."""
    return np.repeat(sample.parent, SERIES)


def _by_part(sample: EstimationSample, forecast: EventForecast) -> dict[str, EventForecast]:
    """Split a forecast of `sample.everything` by the sample's parts."""
    found = {}
    begin = 0
    for name, events in sample.parts.items():
        found[name] = forecast.select(slice(begin, begin + len(events)))
        begin += len(events)
    return found


def _estimates(shift: Shift, checks: FalsificationTests, *, old: Floats, so_far: Estimates | None) -> Estimates:
    """Add the regression's shifts to the (parent,) old elasticities, and sum up what they all may be off by."""
    value = old + shift.value
    level_before = float(np.mean(old))
    level = level_before + shift.mean
    step = level - (level_before if so_far is None else so_far.level)
    moved = 0.0 if so_far is None else so_far.moved + step
    usable = np.isfinite(shift.error)
    common = float(np.sqrt(np.mean(shift.common[usable] ** 2))) if usable.any() else 0.0
    drift = shift.drift if np.isfinite(shift.drift) else abs(level)  # all moved at once: nothing tells it from a trend
    return Estimates(
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


def _compare_kinds(sample: EstimationSample, moves: Residuals, shift: Shift) -> dict[str, FalsificationTest]:
    """Compare each kind with the other price changes, with its share of the information."""
    information = moves.mean / (1.0 + moves.mean / moves.size) * moves.price**2
    total = max(information.sum(), 1e-300)
    checks = {}
    for name, kind in sample.kinds.items():
        value, error = difference(moves, shift, kind, parent=_parents(sample))
        checks[name] = FalsificationTest(value, error, share=float(information[kind].sum() / total))
    return checks


def _first_stage(sample: EstimationSample, table: FeatureTable) -> float:
    """First-stage slope: how much of a draw the prices show after guardrails and price endings.

    Slope of log price on the draws within products, beside those of a week before, with which they are correlated; by
    it two-stage least squares multiplies the instrument (Theil 1953). Other causes of price changes are independent of
    the draws.
    """
    product = sample.tests.product
    price = table.log_price[product, sample.tests.at]
    rows = np.maximum(np.bincount(product), 1)
    columns = [sample.draw, sample.drawn_before, price]
    drawn, before, moved = (values - (np.bincount(product, values) / rows)[product] for values in columns)
    slope = np.linalg.lstsq(np.stack([drawn, before], axis=1), moved)[0][0]
    return float(np.clip(slope, LEAST_STAGE, 1.0))


def _between_rounds(value: Floats, error: Floats, before: Estimates | None) -> float:
    """Standard deviation between two rounds of a parent's deviation from the common shift: error of estimation."""
    if before is None:
        return 0.0
    both = np.isfinite(error) & np.isfinite(before.error)
    if not both.any():
        return 0.0
    weight = 1.0 / error[both] ** 2  # rounds differ in random batches and starting elasticities
    change = (value - before.value)[both]
    around = change - np.average(change, weights=weight)
    return float(np.sqrt(np.average(around**2, weights=weight) / 2.0))


def with_draws(known: Estimates, random: Shift, *, old: Floats, category: Ints) -> Estimates:
    """Correct estimates from people's price changes by a regression on random draws; both shift the (parent,) `old`.

    A parent with both measures the gap of its (parent,) `category`, the bias of that category's observational
    estimates. Each is corrected by its category's gap (`tested_gap`), and a parent's two estimates are combined by
    precision. What stays unknown of a gap enters an estimate by the part f that people's price changes have in it:
    f² times its variance; the same, of a category's mean, enters the category's information.

    A draw lasts a week, and a price that lasts also acts on the week after it: by `random.control`, the coefficient of
    the draw a week before, which is added. Its error, and what all products share of a time, is common to all tests.
    """
    drift = random.drift if np.isfinite(random.drift) else abs(known.level)
    value = np.stack([known.value, old + random.value + random.control])
    variance = np.stack([known.error**2, random.error**2])
    information = np.stack([known.category_information, random.category_information])
    share = np.stack([_share(told, own, category) for told, own in zip(information, variance, strict=True)])
    tested = mean_elasticities(value, variance, share=share, category=category)
    both = np.isfinite(variance).all(axis=0)
    open_to = max(known.bias, float(np.min(known.error[both], initial=1.0)))
    between = between_variance(tested.gap, tested.variance, open_to=open_to)
    common = random.control_error**2 + drift**2
    gaps = posterior_gaps(tested.gap, tested.variance, open_to=open_to, between=between, common=common)

    correction = gaps.value[category]
    value -= np.stack([correction, np.full(len(correction), gaps.common)])
    precision = _precision(variance)
    total = precision.sum(axis=0)
    part = np.divide(precision, total, where=total > 0, out=np.stack([np.ones(len(total)), np.zeros(len(total))]))
    of_category = information.sum(axis=0)
    of_moves = np.divide(information[0], of_category, where=of_category > 0, out=np.ones(len(of_category)))
    widest = min(known.bias, gaps.shared_sd)  # of a category without tests
    shared = np.where(information[0] > 0, gaps.exposure * widest, gaps.tested_sd)
    bias = max(widest, float(shared.max(initial=0.0)))
    return replace(
        known,
        value=(part * value).sum(axis=0),
        error=np.sqrt(_precision(total) + part[0] ** 2 * gaps.variance[category]),
        category_information=of_category / (1.0 + gaps.variance * of_moves * information[0]),
        level=known.level - float(np.mean(correction)),
        bias=bias,
        exposure=shared / bias if bias else np.ones(len(shared)),
        tested=tested if tested.products.any() else None,
    )


def _share(information: Floats, variance: Floats, category: Ints) -> Floats:
    """(category,) information of its estimates' mean over what it were if all (parent,) errors were independent."""
    independent = np.bincount(category, _precision(variance), len(information))
    share = np.divide(information, independent, where=independent > information, out=np.ones(len(information)))
    return np.asarray(share)


def _precision(variance: Floats) -> Floats:
    """Inverse variances, or variances of precisions; 0 where one is infinite, and infinite where one is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / variance)
