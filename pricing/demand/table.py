"""The table that a version serves: levels and parameters of every product, and the demand that follows. NumPy only."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.data import features
from pricing.data.event_windows import EventLifts, Lift
from pricing.data.panel import STEP_DAYS, Period
from pricing.demand.competitor import CompetitorEffects
from pricing.demand.curve import DemandAt, DemandGrid, Offers
from pricing.demand.grades import Evidence, Grades
from pricing.demand.ladder import UNKNOWN, Ladder
from pricing.demand.shrinkage import PRIOR_SD
from pricing.demand.tested_gap import PairedMeans

NODES = 8
# Quadrature with equally likely nodes: normal quantiles of the elasticity, scaled to variance 1, each paired with a
# quantile of the level and a time of the next delivery, ordered to be nearly uncorrelated.
_QUANTILES = np.asarray([NormalDist().inv_cdf((i + 0.5) / NODES) for i in range(NODES)])
ELASTICITY_Z = _QUANTILES / _QUANTILES.std()
LEVEL_Z = ELASTICITY_Z[[5, 3, 0, 7, 1, 6, 2, 4]]
DELIVERY = np.array([2, 2, 0, 0, 3, 3, 1, 1])  # (node,) column of Offers.deliveries
# Half of the nodes take demand as exponential in the price, whose elasticity grows with it, half as of constant
# elasticity: the two most common forms, Box–Cox powers 1 and 0 (Box and Cox 1964).
EXPONENTIAL = slice(2, 6)  # the nodes of the former
WEIGHT = np.full(NODES, 1.0 / NODES)
MOST = 3.0  # log units that a low price adds at most: no history tells of more than twentyfold sales
POWER_LIMIT = 30.0  # log units; keeps absurd prices from overflowing
STALE_HORIZONS = 4  # horizons after the state's date beyond which the level's uncertainty stops growing
WEEK: dict[Period, int] = {"day": 7, "week": 1}  # periods; look-ahead past the table repeats its last week


class _Columns(NamedTuple):
    """Numbers of (request,) rows of the table that demand at a price needs."""

    reference: Floats
    list_price: Floats
    rival_usual: Floats
    rival: Floats
    promotion: Floats
    weekend: Floats
    size: Floats
    known: Floats  # share of the prior variance of the elasticity's log that data removed
    diversion: Floats
    steepest: Floats  # elasticity that a rise may meet at worst


@dataclass(frozen=True)
class DemandTable:
    """Demand of every product as a function of price, as of a date: what a version serves.

    Rows are products, then categories, then the unknown category. With W 1 on weekends, a period's log units are

        level + events + elasticity · (1 + weekend · W) · φ(log(price / reference)) + promotion · draw
            + rival · log(competitor's price / his usual price, within e^±1) + level error · node,

    with φ(x) = x at half of the nodes and e^x − 1 at the others, and elasticity · φ at most MOST. A term whose input is
    not known is 0. Levels hold at the reference price: no promotion, the competitor at his usual price, holidays in,
    named events out.
    """

    product_ids: Strings  # (product,) sorted
    categories: Strings  # (category,) sorted
    parent_ids: Strings  # (product,) the parent whose elasticity each shares; its own id without one
    category: Ints  # (product,) row among the categories; one past the end where it is unknown
    period: Period
    horizon: int  # periods after the state's date up to which the state is not stale
    state_date: dt.date  # last period that the levels rest on
    level_error: tuple[float, float]  # log-level sd one period ahead, and its growth with the root of the step
    levels: Floats  # (row, period) log units of the periods after the state's date
    lifts: EventLifts | None  # of named events; None without any
    reference: Floats  # (row,) price at which the level is known best; NaN where it is the request's list price
    list_price: Floats  # (row,) from which a promotion's cut is measured; NaN likewise
    unit: Floats  # (row,) counting unit, in the units of demand
    size: Floats  # (row,) of the negative binomial of one period
    elasticity: Floats  # (row,) posterior means
    elasticity_sd: Floats  # (row,) posterior standard deviations of their logs
    weekend: Floats  # (row,) relative change of the elasticity on weekends
    promotion: Floats  # (row,) log units that a full promotion adds beyond its price
    diversion: Floats  # (row,) share of what it loses, in money, that its category's other products win
    rival: Floats  # (row,) elasticity in the competitor's price, 0 or more
    rival_usual: Floats  # (row,) the competitor's usual price; NaN where unknown
    grade: Grades  # (row,) how well each elasticity is identified, index into `grades.GRADES`
    own: Bools  # (product,) whether its own history is used and not its category's
    evidence: Evidence  # behind each product's elasticity, and objections to it
    competitor: CompetitorEffects | None = None  # effect of his price, uncertain; None where not estimated
    ladder: Ladder = UNKNOWN  # what history says of the shop's elasticity, by what is held fixed
    tested: PairedMeans | None = None  # by category, observed beside tested elasticities; None where nothing was tested

    @cached_property
    def _nodes(self) -> Floats:
        """(row, node) elasticities: log-normal with the given mean."""
        factor = np.exp(self.elasticity_sd[:, None] * ELASTICITY_Z)
        factor /= factor.mean(axis=1, keepdims=True)
        return np.asarray(self.elasticity[:, None] * factor, np.float32)

    @cached_property
    def _shift(self) -> Floats:
        """(step, node) level deviations in log units; the mean of demand over the nodes is unchanged."""
        step = np.arange(STALE_HORIZONS * self.horizon + 1)
        shift = np.sqrt(self.level_error[0] ** 2 + self.level_error[1] ** 2 * step)[:, None] * LEVEL_Z
        return np.asarray(shift - np.log(np.exp(shift).mean(axis=1, keepdims=True)), np.float32)

    @cached_property
    def _columns(self) -> Floats:
        """(row, column) the numbers of a row that demand at a price needs, side by side as in `_Columns`."""
        known = np.maximum(1.0 - (self.elasticity_sd / PRIOR_SD) ** 2, 0.0)
        columns = _Columns(
            reference=self.reference,
            list_price=self.list_price,
            rival_usual=self.rival_usual,
            rival=self.rival,
            promotion=self.promotion,
            weekend=self.weekend,
            size=self.size,
            known=known,
            diversion=self.diversion,
            steepest=self._steepest,
        )
        return np.stack(columns, axis=1)

    @property
    def _steepest(self) -> Floats:
        """(row,) elasticity that a rise may meet over a week: the end of its interval, or the ladder's most elastic."""
        mean, low, _ = self.elasticities(np.arange(len(self.elasticity)))
        return np.asarray(np.minimum(low, mean * self.ladder.steepest))

    def _of(self, rows: Ints) -> "_Columns":
        return _Columns(*self._columns.take(rows, axis=0).T)

    @cached_property
    def _source(self) -> Ints:
        """(row,) index into `curve.SOURCES`: a product's own history, or its category."""
        return np.append(np.where(self.own, 0, 1), np.ones(len(self.categories) + 1, np.int64))

    @cached_property
    def _event_rows(self) -> Ints | None:
        """(row,) row among the lifts of events; None where the table knows of no event."""
        if self.lifts is None or not self.lifts.by_period.any():
            return None
        return np.append(self.category, np.arange(len(self.categories) + 1))

    @cached_property
    def _weekly(self) -> bool:
        """Tells whether any elasticity differs on weekends."""
        return self.period == "day" and bool(self.weekend.any())

    @cached_property
    def _first_day(self) -> int:
        return int(np.datetime64(self.state_date, "D").astype(np.int64))

    def rows(self, offers: Offers) -> Ints:
        """(request,) row of each: its product's, else its category's, last the unknown category's."""
        other = np.where(offers.category >= 0, len(self.product_ids) + offers.category, len(self.levels) - 1)
        return np.where(offers.product >= 0, offers.product, other)

    def steps(self, dates: Days) -> Ints:
        """(request,) periods from the state's date."""
        days = dates.astype("datetime64[D]", copy=False).view(np.int64) - self._first_day
        return days // STEP_DAYS[self.period]

    def ahead(self, rows: Ints, first: Ints, periods: int) -> Floats:
        """(request, period) log units at the reference price, named events in, from each request's first period on."""
        week = WEEK[self.period]
        last = self.levels.shape[1]
        at = first[:, None] + np.arange(-1, periods - 1)
        if at.min(initial=0) < 0 or at.max(initial=0) >= last:
            at = np.where(at < last, np.where(at < 0, at % week, at), last - week + (at - last) % week)
        return np.asarray(self.levels[rows[:, None], at] + self.events(rows, first, periods))

    def events(self, rows: Ints, first: Ints, periods: int) -> Floats | float:
        """(request, period) log units that named events add; 0.0 where the table knows of none."""
        if self.lifts is None or self._event_rows is None:
            return 0.0
        days = self._first_day + (first[:, None] + np.arange(periods)) * STEP_DAYS[self.period]
        return self.lifts.at(self._event_rows.take(rows)[:, None], days.view("datetime64[D]"))

    def weekends(self, first: Ints, periods: int) -> Bools:
        """(request, period) whether each period is a day of a weekend, from each request's first period on."""
        days = self._first_day + first[:, None] + np.arange(periods)
        return np.asarray(((days + 3) % 7 >= features.SATURDAY) & (self.period == "day"))

    def curves(self, offers: Offers) -> DemandAt:
        """Prepare demand as a function of candidate prices; see `curve.Demand`.

        The nodes' curves meet at the reference price. The same request gives the same figures in every batch: sums over
        periods run in their order, and nothing else crosses requests.
        """
        rows = self.rows(offers)
        first = self.steps(offers.date)
        row = self._of(rows)
        size = row.size
        days, until_size = self._units_at_reference(offers, rows, first, size)
        rest = self._shift.take(self._shift_row(first), axis=0)
        rest = (rest + _rival(offers.comp_price, row)[:, None])[:, :, None]
        nodes = self._nodes.take(rows, axis=0)[:, :, None]
        stronger = 1.0 + row.weekend[:, None, None]
        reference = _known(row.reference, offers.list_price)[:, None]
        drawn = _draw(offers, row) if offers.is_promo.any() else None
        source = self._source.take(rows)
        grade = self.grade.take(rows)
        unit = self.unit.take(rows)

        def at(prices: Floats) -> DemandGrid:
            power = _power(nodes, np.log(prices / reference).astype(np.float32))
            effect = np.empty((len(days), *power.shape), np.result_type(power, rest))
            np.add(power, rest, out=effect[0])
            if len(days) > 1:
                power *= stronger
                np.add(power, rest, out=effect[1])
            if drawn is not None:
                effect += drawn(prices)[:, None]
            np.maximum(effect, -POWER_LIMIT, out=effect)
            np.minimum(effect, POWER_LIMIT, out=effect)
            np.exp(effect, out=effect)
            sold = days[0] * effect[0]
            if len(days) > 1:
                sold += days[1] * effect[1]
            return DemandGrid(
                first=sold[1],
                until=sold[0],
                first_size=size,
                until_size=until_size,
                weight=WEIGHT,
                source=source,
                grade=grade,
                known=row.known,
                unit=unit,
                diverted=row.diversion,
                steepest=row.steepest,
            )

        return at

    def _units_at_reference(self, offers: Offers, rows: Ints, first: Ints, size: Floats) -> tuple[Floats, Floats]:
        """Sum the units at the reference price until each node's delivery, weekends apart where they differ.

        Returns:
            Units (kind of day, until delivery or in the first period, request, node, 1), and the (request,) size of
            the negative binomial of those until the delivery.
        """
        periods = np.maximum(offers.periods, 1)
        count = len(rows)
        ends = np.empty((count, NODES + 1), np.int64)  # periods until each node's delivery; last, those asked for
        ends[:, :NODES] = periods[:, None] if offers.deliveries is None else offers.deliveries[:, DELIVERY]
        ends[:, NODES] = periods
        units = np.exp(self.ahead(rows, first, int(ends.max(initial=1))))
        parts = np.empty((3 if self._weekly else 2, *units.shape), units.dtype)
        parts[0] = units
        np.multiply(units, units, out=parts[1])
        if self._weekly:
            weekend = self.weekends(first, units.shape[1])
            np.multiply(units, weekend, out=parts[2])
        ends += (np.arange(count) * units.shape[1] - 1)[:, None]
        sums = parts.cumsum(axis=2).reshape(len(parts), -1).take(ends, axis=1)  # (part, request, node and last)
        days = np.empty((len(parts) - 1, 2, count, NODES, 1), units.dtype)
        days[0, 0, :, :, 0] = sums[0, :, :NODES]
        days[0, 1] = units[:, :1, None]
        if self._weekly:
            days[1, 0, :, :, 0] = sums[2, :, :NODES]
            days[0, 0] -= days[1, 0]
            days[1, 1] = days[0, 1] * weekend[:, :1, None]
            days[0, 1] -= days[1, 1]
        # Size of a sum of independent periods, from its variance: Σ m² / r = M² / R.
        return days, size * sums[0, :, NODES] ** 2 / np.maximum(sums[1, :, NODES], 1e-12)

    def _shift_row(self, first: Ints) -> Ints:
        """(request,) row of `_shift`: the step, at most the last one from which the level's uncertainty stays."""
        return np.minimum(np.maximum(first, 1), len(self._shift) - 1)

    def terms(self, offers: Offers, prices: Floats) -> dict[str, Floats]:
        """Split the log of the units expected in the first period, at prices (request,), into terms that add up to it.

        `level` is of a mean period of the next week at the reference price; the others are what each adds to it.
        """
        rows = self.rows(offers)
        first = self.steps(offers.date)
        row = self._of(rows)
        level = self.levels[rows][:, : WEEK[self.period]].mean(axis=1)
        events = np.broadcast_to(self.events(rows, first, 1), (len(rows), 1))[:, 0]
        away = np.log(prices / _known(row.reference, offers.list_price)).astype(np.float32)[:, None]
        power = _power(self._nodes[rows][:, :, None], away)[:, :, 0]
        power *= 1.0 + self.weekend[rows, None] * self.weekends(first, 1)
        return {
            "level": level,
            "season": self.ahead(rows, first, 1)[:, 0] - events - level,
            "events": events,
            "price": np.log(np.exp(power + self._shift[self._shift_row(first)]) @ WEIGHT),
            "promotion": _draw(offers, row)(prices[:, None])[:, 0],
            "competitor": _rival(offers.comp_price, row),
        }

    def events_on(self, date: dt.date, *, category: int) -> Sequence[Lift]:
        """Lifts of a category by named events in the period that begins on `date`; see `curve.Demand.events_on`."""
        row = category if category >= 0 else len(self.categories)
        return [] if self.lifts is None else self.lifts.on(np.datetime64(date), row=row, period=self.period)

    def elasticities(self, rows: Ints) -> tuple[Floats, Floats, Floats]:
        """Mean, low and high of the 80 % interval of products `rows`, averaged over a week; (row,) each."""
        nodes = self._nodes[rows] * self.week_factor(rows)[:, None]
        logs = np.log(-nodes)
        middle = logs.mean(axis=1)
        width = NormalDist().inv_cdf(0.9) * logs.std(axis=1)
        return nodes.mean(axis=1), -np.exp(middle + width), -np.exp(middle - width)

    def week_factor(self, rows: Ints) -> Floats:
        """(row,) mean elasticity over a week as a multiple of that on its ordinary days."""
        return features.week_factor(self.weekend[rows], period=self.period)

    def sharing(self) -> tuple[Strings, Ints]:
        """(product,) the parent of each, and by how many products its elasticity is shared; itself and 1 without."""
        _, place, count = np.unique(self.parent_ids, return_inverse=True, return_counts=True)
        return self.parent_ids, count[place]


def _known(price: Floats, otherwise: Floats) -> Floats:
    """(request,) the table's own price; the request's list price where it has none."""
    return np.where(np.isfinite(price), price, otherwise)


def _draw(offers: Offers, row: _Columns) -> Callable[[Floats], Floats]:
    """Log units that a promotion adds beyond its price, at prices (request, candidate): only where it is really cut."""
    listed = _known(row.list_price, offers.list_price)[:, None]
    most = (offers.is_promo * row.promotion)[:, None]
    return lambda prices: (features.promo_effect_share(prices, listed) * most).astype(np.float32)


def _rival(comp_price: Floats, row: _Columns) -> Floats:
    """(request,) log units that the competitor's price adds; 0 where it, or his usual one, is not known."""
    gap = np.minimum(np.maximum(np.log(comp_price / row.rival_usual), -1.0), 1.0)
    return np.where(np.isnan(gap), 0.0, row.rival * gap).astype(np.float32)


def _power(nodes: Floats, away: Floats) -> Floats:
    """(request, node, candidate) log units from elasticities (request, node, 1) and log prices (request, candidate)."""
    power: Floats = nodes * away[:, None, :]
    bent = np.expm1(np.minimum(away, POWER_LIMIT))
    np.multiply(nodes[:, EXPONENTIAL], bent[:, None, :], out=power[:, EXPONENTIAL])
    return np.minimum(power, MOST, out=power)
