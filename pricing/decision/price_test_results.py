"""Evaluate price tests: the draws that were really charged, the elasticity that they identify, and their cost."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import unit_profit
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.price_tests import NO_TESTS, Plan

CHARGED = 0.005  # log units; where sales show a price further from the one given, that was not charged
Z80 = 1.2816  # standard deviations to either side that hold 80 % of a normal distribution
FEWEST = 5  # products without which resampling them says nothing
RESAMPLES = 1000
_STEEPEST, _FLATTEST = -20.0, 10.0
_HALVINGS = 60


@dataclass(frozen=True)
class Draws:
    """The usable draws of price tests.

    Attributes:
        deviation: (product, period) log of the price asked over the one that would have been charged; NaN where nothing
            was drawn, or another price was charged than was given.
        name: (product, period) the test that drew; "" where `deviation` is NaN.
        week: (product, period) number of the week, from Monday on, that was drawn for; -1 where `deviation` is NaN.
        logged: Periods of the panel in which a draw was in force, according to the log.
    """

    deviation: Floats
    name: NDArray[np.str_]
    week: Ints
    logged: int

    @property
    def used(self) -> int:
        """Periods whose draw is used."""
        return int(np.isfinite(self.deviation).sum())

    def of(self, name: str) -> "Draws":
        """The draws of one test."""
        mine = self.name == name
        return Draws(
            np.where(mine, self.deviation, np.nan),
            np.where(mine, self.name, ""),
            np.where(mine, self.week, -1),
            int(mine.sum()),
        )


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error; NaN where it cannot be estimated."""

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 80 % interval."""
        return self.value - Z80 * self.error, self.value + Z80 * self.error


def find_draws(panel: Panel, records: Sequence[Mapping[str, Any]], *, plan: Plan = NO_TESTS) -> Draws:
    """Finds the draws in a decision log whose prices were charged.

    A decision belongs to the panel's period (day or week) that contains its date, and counts if it was made before that
    period ended; the last of several counts. It is in force from there until the next period with a decision, or the
    end of its test. Such a period has the decision's draw if the sales show the price that was given; a week in whose
    middle the price changed has none.

    Args:
        panel: The sales.
        records: `decision.log.LogReading.records`, in the order of `at`.
        plan: Gives the end of tests that were stopped; for a test that it lacks, the log's planned end counts.
    """
    row_of = {product: row for row, product in enumerate(panel.product_ids.tolist())}
    first, step = panel.dates[0].astype(dt.date), STEP_DAYS[panel.period]
    last: dict[int, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        row = row_of.get(str(record["product_id"]))
        column = (_day(record["date"]) - first).days // step
        made = (_day(record["at"]) - first).days // step
        if row is not None and not record["shadow"] and made <= column < len(panel.dates):
            last.setdefault(row, {})[column] = record
    deviation = np.full(panel.present.shape, np.nan)
    given = np.full(panel.present.shape, np.nan)
    name = np.full(panel.present.shape, "", dtype=object)
    week = np.full(panel.present.shape, -1)
    for row, decisions in last.items():
        for column, following in pairwise([*sorted(decisions), len(panel.dates)]):
            record = decisions[column]
            test = record["test"]
            if not test:
                continue
            over = -(-(_end(record, plan) - first).days // step)  # the first period that begins after the test
            force = slice(max(column, 0), max(min(following, max(over, column + 1)), 0))
            deviation[row, force], name[row, force] = float(test["deviation"]), str(test["name"])
            given[row, force] = float(record["decision"]["recommended_price"])
            week[row, force] = _week(_day(record["date"]))
    drawn = np.isfinite(deviation) & panel.present
    with np.errstate(invalid="ignore", divide="ignore"):
        charged = drawn & (np.abs(np.log(panel.price / given)) <= CHARGED)
    return Draws(
        np.where(charged, deviation, np.nan),
        np.where(charged, name, "").astype(str),
        np.where(charged, week, -1),
        int(drawn.sum()),
    )


def _day(moment: str) -> dt.date:
    return dt.date.fromisoformat(moment[:10])


def _end(record: Mapping[str, Any], plan: Plan) -> dt.date:
    """The first day after a record's test."""
    planned = plan.find(str(record["test"]["name"]))
    return _day(record["test"]["end"]) if planned is None else planned.end


def _week(day: dt.date) -> int:
    """Number of a day's week, from Monday on."""
    return (day.toordinal() - 1) // 7


def estimate_elasticity(panel: Panel, draws: Draws) -> Estimate:
    """Estimates the common elasticity with the draws as instrument for the price.

    The moment condition of an exponential demand with multiplicative errors and an instrument (Mullahy 1997,
    doi:10.1162/003465397557169): sales restated by the elasticity, units · exp(−e · log price), are uncorrelated with
    the draws. The price itself may be endogenous; the draws are random. A product's mean and each period's share of all
    sales are taken out, for precision only. Standard errors are clustered by product and draw. Sold-out periods are
    left out.
    """
    mask = np.isfinite(draws.deviation) & ~panel.censored
    rows = mask.sum(axis=1) > 1
    if not rows.any():
        return Estimate(np.nan, np.nan)
    mask = mask[rows]
    units = np.where(mask, panel.units_sold[rows], 0.0).astype(np.float64)
    log_price = _centred(np.log(np.where(mask, panel.price[rows], 1.0).astype(np.float64)), mask)
    draw = _centred(np.where(mask, draws.deviation[rows], 0.0), mask)
    if not (draw != 0).any() or units.sum() == 0:
        return Estimate(np.nan, np.nan)

    def parts(elasticity: float) -> tuple[Floats, Floats]:
        restated = units * np.exp(-elasticity * log_price)
        level = restated.sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
        expected = level * mask
        season = restated.sum(axis=0) / np.maximum(expected.sum(axis=0), 1e-12)
        return restated, draw * (restated - expected * season)

    low, high = _STEEPEST, _FLATTEST
    if parts(low)[1].sum() * parts(high)[1].sum() >= 0:
        return Estimate(np.nan, np.nan)
    falling = parts(low)[1].sum() > 0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = (parts(middle)[1].sum() > 0) == falling
        low, high = (middle, high) if above else (low, middle)
    restated, moments = parts(low)
    drawn = np.stack([np.nonzero(mask)[0], draws.week[rows][mask]])
    clusters = np.bincount(np.unique(drawn, axis=1, return_inverse=True)[1].ravel(), moments[mask])
    degrees_of_freedom = max(len(clusters) - int(rows.sum()), 1)  # each product's level was estimated
    slope = float((draw * log_price * restated).sum())
    return Estimate(
        low, float(np.sqrt((clusters**2).sum() * len(clusters) / degrees_of_freedom)) / max(abs(slope), 1e-12)
    )


def price_test_cost(panel: Panel, draws: Draws, *, rng: np.random.Generator) -> Estimate:
    """Estimates what the moved prices cost, as a fraction of the profit without price tests; below 0 they earned more.

    Each product's moved periods are compared with its own at the chosen price; the standard error is from a bootstrap
    over products.
    """
    mask = np.isfinite(draws.deviation)
    moved = mask & (np.abs(np.where(mask, draws.deviation, 0.0)) > 0)
    still = mask & ~moved
    both = moved.any(axis=1) & still.any(axis=1)
    if not both.any():
        return Estimate(np.nan, np.nan)
    earned = unit_profit(panel.price, panel.unit_cost, tax_rate=panel.tax_rates())
    profit = np.nan_to_num(panel.units_sold * earned).astype(np.float64)[both]
    moved, still = moved[both], still[both]
    usual = (profit * still).sum(axis=1) / still.sum(axis=1)
    earned, would = (profit * moved).sum(axis=1) + (profit * still).sum(axis=1), usual * (moved | still).sum(axis=1)

    def share(sample: NDArray[np.integer]) -> float:
        return float(1 - earned[sample].sum() / would[sample].sum())

    everyone = np.arange(len(earned))
    if len(everyone) < FEWEST:
        return Estimate(share(everyone), np.nan)
    again = [share(rng.choice(everyone, size=len(everyone))) for _ in range(RESAMPLES)]
    return Estimate(share(everyone), float(np.std(again)))


def _centred(values: Floats, mask: Bools) -> Floats:
    mean = (values * mask).sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
    return np.asarray((values - mean) * mask)
