"""Evaluate experiments: the draws that were charged, the elasticity that they identify, their cost, profit by arm."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import unit_profit
from pricing.data.own_prices import was_charged
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.ensemble import volume_rows

Z80 = 1.2816  # standard deviations to either side that hold 80 % of a normal distribution
FEWEST = 5  # products without which resampling them says nothing
RESAMPLES = 1000
BEFORE_DAYS = 84  # before an experiment, with which profit is compared
_STEEPEST, _FLATTEST = -20.0, 10.0
_HALVINGS = 60


@dataclass(frozen=True)
class Interval:
    """A figure with an interval, of 95 % where nothing else is said; NaN where it cannot be computed."""

    value: float
    low: float
    high: float


UNKNOWN = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Draws:
    """The usable draws of experiments."""

    deviation: Floats  # (product, period) log of the price asked over the one without; NaN where no draw was charged
    week: Ints  # (product, period) number of the week, from Monday on, that was drawn for, else −1
    logged: int  # periods of the panel in which a draw was in force, according to the log

    @property
    def used(self) -> int:
        """Periods whose draw is used."""
        return int(np.isfinite(self.deviation).sum())


@dataclass(frozen=True)
class Gain:
    """Profit of some products against others."""

    profit: Interval  # change, as a fraction of what it would have been without what they differ in
    products: int  # that sold before and after; others likewise
    others: int


def find_draws(panel: Panel, records: Sequence[Mapping[str, Any]], *, name: str | None = None) -> Draws:
    """Finds the draws in a decision log, whose lines come in the order of `at`, whose prices were charged.

    A decision belongs to the panel's period that contains its date, and counts if it was made before that ended; the
    last of several counts, until the next period with a decision, a week at most. Its draw counts where the sales show
    the price given; a week in whose middle the price changed has none. Given a `name`, draws of that experiment count.
    """
    row_of = {product: row for row, product in enumerate(panel.product_ids.tolist())}
    first = panel.dates[0].astype(dt.date)
    step = STEP_DAYS[panel.period]
    last: dict[int, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        row = row_of.get(str(record["product_id"]))
        days = [dt.date.fromisoformat(record[name][:10]) for name in ("date", "at")]
        column, made = ((day - first).days // step for day in days)
        if row is not None and made <= column < len(panel.dates):
            last.setdefault(row, {})[column] = record

    deviation = np.full(panel.present.shape, np.nan)
    given = deviation.copy()
    week = np.full(panel.present.shape, -1)
    for row, decisions in last.items():
        for column, following in pairwise([*sorted(decisions), len(panel.dates)]):
            record = decisions[column]
            asked = record["experiment"] or {}
            if "deviation" in asked and name in (None, asked["name"]):
                force = slice(max(column, 0), max(min(following, column + 7 // step), 0))
                deviation[row, force] = float(asked["deviation"])
                given[row, force] = float(record["decision"]["recommended_price"])
                week[row, force] = (dt.date.fromisoformat(record["date"]).toordinal() - 1) // 7
    drawn = np.isfinite(deviation) & panel.present
    charged = drawn & was_charged(panel.price, given)
    return Draws(np.where(charged, deviation, np.nan), np.where(charged, week, -1), int(drawn.sum()))


def estimate_elasticity(panel: Panel, draws: Draws) -> Interval:
    """Estimates the common elasticity, with its 80 % interval, with the draws as instrument for the price.

    The moment condition of an exponential demand with multiplicative errors and an instrument (Mullahy 1997,
    doi:10.1162/003465397557169): sales restated by the elasticity, units · exp(−e · log price), are uncorrelated with
    the draws. A product's mean and each period's share of all sales are taken out, for precision only. Standard errors
    are clustered by product and draw. Sold-out periods are left out.
    """
    mask = np.isfinite(draws.deviation) & ~panel.censored
    rows = mask.sum(axis=1) > 1
    mask = mask[rows]
    units = np.where(mask, panel.units_sold[rows], 0.0).astype(np.float64)
    draw = _centred(np.where(mask, draws.deviation[rows], 0.0), mask)
    if not (draw != 0).any() or units.sum() == 0:
        return UNKNOWN
    log_price = _centred(np.log(np.where(mask, panel.price[rows], 1.0).astype(np.float64)), mask)

    def parts(elasticity: float) -> tuple[Floats, Floats]:
        restated = units * np.exp(-elasticity * log_price)
        expected = restated.sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True) * mask
        season = restated.sum(axis=0) / np.maximum(expected.sum(axis=0), 1e-12)
        return restated, draw * (restated - expected * season)

    def moment(elasticity: float) -> float:
        return float(parts(elasticity)[1].sum())

    low = _STEEPEST
    high = _FLATTEST
    falling = moment(low) > 0
    if moment(low) * moment(high) >= 0:
        return UNKNOWN
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (moment(middle) > 0) == falling:
            low = middle
        else:
            high = middle

    restated, moments = parts(low)
    drawn = np.stack([np.nonzero(mask)[0], draws.week[rows][mask]])
    clusters = np.bincount(np.unique(drawn, axis=1, return_inverse=True)[1].ravel(), moments[mask])
    degrees_of_freedom = max(len(clusters) - int(rows.sum()), 1)  # each product's level was estimated
    slope = max(abs(float((draw * log_price * restated).sum())), 1e-12)
    error = float(np.sqrt((clusters**2).sum() * len(clusters) / degrees_of_freedom)) / slope
    return Interval(low, low - Z80 * error, low + Z80 * error)


def cost_of_draws(panel: Panel, draws: Draws, *, rng: np.random.Generator) -> Interval:
    """Estimates what moved prices cost, as a fraction of the profit without draws; below 0 they earned more.

    A product's moved periods are compared with its own at the chosen price; the interval, 80 %, resamples products.
    """
    mask = np.isfinite(draws.deviation)
    moved = mask & (np.abs(np.where(mask, draws.deviation, 0.0)) > 0)
    both = moved.any(axis=1) & (mask & ~moved).any(axis=1)
    if not both.any():
        return UNKNOWN
    profit = _profit(panel)[both]
    still = (mask & ~moved)[both]
    mask = mask[both]
    usual = (profit * still).sum(axis=1) / still.sum(axis=1)
    earned = (profit * mask).sum(axis=1)
    would = usual * mask.sum(axis=1)

    def share(sample: Ints) -> float:
        return float(1 - earned[sample].sum() / would[sample].sum())

    everyone = np.arange(len(earned))
    if len(everyone) < FEWEST:
        return Interval(share(everyone), np.nan, np.nan)
    again = [share(rng.choice(everyone, size=len(everyone))) for _ in range(RESAMPLES)]
    low, high = np.percentile(again, (10, 90))
    return Interval(share(everyone), float(low), float(high))


def spans(panel: Panel, *, start: dt.date, end: dt.date = dt.date.max, most: int | None = None) -> tuple[slice, slice]:
    """The panel's periods before an experiment, and within it, to before `end`, the `most` newest ones."""
    begin, stop = np.searchsorted(panel.dates, np.array([start, end], "datetime64[D]")).tolist()
    since = begin if most is None else max(begin, stop - most)
    return slice(max(0, begin - BEFORE_DAYS // STEP_DAYS[panel.period]), begin), slice(since, stop)


def profit_gain(
    panel: Panel,
    products: Collection[str],
    others: Collection[str],
    *,
    before: slice,
    after: slice,
    rng: np.random.Generator,
) -> Gain:
    """Estimates how much more profit products earn than if they had been treated as others, by a ratio of changes.

    They would have earned their profit per product before, times the change of the others of the same volume class. The
    interval is a bootstrap over products, stratified by group and class.
    """
    known = panel.present[:, before].any(axis=1) & panel.present[:, after].any(axis=1)
    treated = np.flatnonzero(np.isin(panel.product_ids, sorted(products)) & known)
    compared_with = np.flatnonzero(np.isin(panel.product_ids, sorted(others)) & known)
    counts = {"products": len(treated), "others": len(compared_with)}
    if min(counts.values()) < FEWEST:
        return Gain(UNKNOWN, **counts)
    earned = _profit(panel)
    was = _per_period(earned, panel.present, before)
    now = _per_period(earned, panel.present, after)
    classes = volume_rows(_per_period(np.nan_to_num(panel.units_sold), panel.present, before)).astype(np.intp)

    def gain(rows: Ints, compared: Ints) -> float:
        pooled = _ratio(now[compared].sum(), was[compared].sum())
        static = 0.0
        for stratum in range(int(classes.max()) + 1):
            mine = rows[classes[rows] == stratum]
            theirs = compared[classes[compared] == stratum]
            change = _ratio(now[theirs].sum(), was[theirs].sum()) if len(theirs) > 1 else pooled
            static += float(was[mine].sum()) * (change if np.isfinite(change) else pooled)
        return _ratio(now[rows].sum(), static) - 1

    again = [gain(_resampled(treated, classes, rng), _resampled(compared_with, classes, rng)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(again, (2.5, 97.5)) if np.isfinite(again).any() else (np.nan, np.nan)
    return Gain(Interval(gain(treated, compared_with), float(low), float(high)), **counts)


def _profit(panel: Panel) -> Floats:
    """(product, period) profit; 0 where there is no row."""
    each = unit_profit(panel.price, panel.unit_cost, tax_rate=panel.tax_rates())
    return np.where(panel.present, np.nan_to_num(panel.units_sold * each), 0.0).astype(np.float64)


def _per_period(values: Floats, present: Bools, periods: slice) -> Floats:
    """(product,) mean over the periods with a row."""
    there = present[:, periods]
    return np.asarray((values[:, periods] * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1))


def _resampled(group: Ints, classes: Ints, rng: np.random.Generator) -> Ints:
    parts = [group[classes[group] == stratum] for stratum in np.unique(classes[group])]
    return np.concatenate([part[rng.integers(0, len(part), len(part))] for part in parts])


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")


def _centred(values: Floats, mask: Bools) -> Floats:
    mean = (values * mask).sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
    return np.asarray((values - mean) * mask)
