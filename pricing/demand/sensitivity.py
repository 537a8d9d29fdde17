"""Demand curves and their slopes by context and price level, with intervals; from `curve.Demand` only. NumPy only."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pricing.arrays import Days, Floats, Ints
from pricing.data.panel import STEP_DAYS, Period
from pricing.demand.curve import Demand, Offers

CUT = 0.005  # log price difference over which slopes are computed
LEVEL = 0.80  # of all intervals
PASS = 500  # products evaluated at once
TINY = 1e-12


@dataclass(frozen=True)
class DemandContext:
    """Covariates under which a demand curve is evaluated.

    Attributes:
        name: Name in tables.
        weekdays: Monday 0; days of a week to average over. Not used on a weekly panel.
        is_promo: Whether the offer is advertised.
        gap: Competitor's price over list price; None for its last known price.
    """

    name: str
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    is_promo: bool = False
    gap: float | None = None


ORDINARY = DemandContext("ordinary days")
CONTEXTS = (
    ORDINARY,
    DemandContext("weekend", weekdays=(5, 6)),
    DemandContext("promotion", is_promo=True),
    DemandContext("competitor 10 % below", gap=0.9),
    DemandContext("competitor 10 % above", gap=1.1),
)


def contexts(period: Period) -> tuple[DemandContext, ...]:
    """Return the contexts that differ on a panel of this grain."""
    return tuple(context for context in CONTEXTS if period == "day" or context.weekdays == ORDINARY.weekdays)


@dataclass(frozen=True)
class ProductSelection:
    """Products whose curves are evaluated, as columns of one length.

    Attributes:
        product: (product,) row among the demand's products.
        category: (product,) row among the demand's categories; -1 where it is unknown.
        list_price: (product,) regular price in currency units.
        comp_price: (product,) the competitor's last known price; NaN where unknown.
    """

    product: Ints
    category: Ints
    list_price: Floats
    comp_price: Floats

    def take(self, rows: slice) -> "ProductSelection":
        """Select products."""
        return ProductSelection(self.product[rows], self.category[rows], self.list_price[rows], self.comp_price[rows])


@dataclass(frozen=True)
class Range:
    """A mean and its interval of probability `LEVEL` under the model; arrays of one shape."""

    mean: Floats
    low: Floats
    high: Floats

    def times(self, factor: Floats) -> "Range":
        """Multiply by a factor, which may be negative."""
        ends = np.stack([self.low * factor, self.high * factor])
        return Range(self.mean * factor, ends.min(axis=0), ends.max(axis=0))


@dataclass(frozen=True)
class Curves:
    """Expected demand at prices and at slightly lower ones, for each node of the model's uncertainty.

    Attributes:
        units: (curve, node, price) expected units a period.
        cheaper: (curve, node, price) the same at a price lower by `CUT` in logs.
        weight: (node,) probabilities that sum to 1.
    """

    units: Floats
    cheaper: Floats
    weight: Floats

    def demand(self) -> Range:
        """(curve, price) expected units a period; the interval is of the expectation, without the noise of one day."""
        mean = np.einsum("n,cnp->cp", self.weight, self.units)
        low, high = _interval(self.units, self.weight)
        return Range(mean, low, high)

    def slope(self) -> Range:
        """(curve, price) slope of expected demand in logs, from a slightly lower price; at a kink towards lower prices.

        It differs from the product's elasticity (`DemandModel.elasticity`), the mean of the nodes' at list price over
        a whole week: here the nodes, and days, that sell most count most.
        """
        now = np.einsum("n,cnp->cp", self.weight, self.units)
        then = np.einsum("n,cnp->cp", self.weight, self.cheaper)
        slope = np.log(np.maximum(self.cheaper, TINY) / np.maximum(self.units, TINY)) / CUT
        low, high = _interval(slope, self.weight)
        return Range(-np.log(np.maximum(then, TINY) / np.maximum(now, TINY)) / CUT, -high, -low)

    def together(self, group: Ints, *, groups: int) -> "Curves":
        """Sum curves over groups of products whose prices change by the same factor.

        Errors are taken as perfectly correlated between products, so a group's interval is an upper bound.

        Args:
            group: (curve,) number of each curve's group.
            groups: Number of groups.
        """
        summed = []
        for values in (self.units, self.cheaper):
            total = np.zeros((groups, *values.shape[1:]))
            np.add.at(total, group, values)
            summed.append(total)
        return Curves(summed[0], summed[1], self.weight)


def read_curves(
    demand: Demand,
    selection: ProductSelection,
    ratios: Floats,
    *,
    after: np.datetime64,
    period: Period,
    context: DemandContext = ORDINARY,
) -> Curves:
    """Evaluate each product's curve in a context, averaged over its days in the week after a date.

    Args:
        demand: The demand model.
        selection: The products.
        ratios: (price,) prices over list price, ascending, more than `CUT` apart in logs.
        after: The day before that week.
        period: The grain.
        context: The covariates.
    """
    days = _days(after, period=period, context=context)
    parts = []
    for start in range(0, len(selection.product), PASS):
        some = selection.take(slice(start, start + PASS))
        grid = demand.grid(_offers(some, days, context), _asked(some, ratios, len(days)))
        units = grid.first.reshape(len(some.product), len(days), *grid.first.shape[1:])
        parts.append(units.mean(axis=1, dtype=np.float64))  # (product, node, cheaper and price in turn)
        weight = grid.weight
    whole = np.concatenate(parts)
    return Curves(whole[:, :, 1::2], whole[:, :, 0::2], weight)


def _days(after: np.datetime64, *, period: Period, context: DemandContext) -> Days:
    """Return the context's days in the week after a date; on a weekly panel the first day of the next week."""
    first = after.astype("datetime64[D]") + np.timedelta64(STEP_DAYS[period], "D")
    week: Days = first + np.arange(1 if period == "week" else 7)
    meant = period == "week" or np.isin((week.astype(np.int64) + 3) % 7, context.weekdays)
    return np.asarray(week[np.broadcast_to(meant, week.shape)])


def _offers(selection: ProductSelection, days: Days, context: DemandContext) -> Offers:
    """Build offers for every product on every day, grouped by product."""
    count, rows = len(days), len(selection.product) * len(days)
    comp_price = selection.comp_price if context.gap is None else selection.list_price * context.gap
    return Offers(
        product=np.repeat(selection.product, count),
        category=np.repeat(selection.category, count),
        date=np.tile(days, len(selection.product)),
        list_price=np.repeat(selection.list_price, count),
        comp_price=np.repeat(comp_price, count),
        is_promo=np.full(rows, float(context.is_promo)),
        periods=np.ones(rows, np.int64),
    )


def _asked(selection: ProductSelection, ratios: Floats, days: int) -> Floats:
    """(product × day, 2 × price) candidate prices: each price preceded by the slightly lower one."""
    pairs = np.stack([ratios * np.exp(-CUT), ratios], axis=1).reshape(-1)
    return np.repeat(selection.list_price[:, None] * pairs, days, axis=0)


def _interval(values: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Ends of a log-normal interval with the moments of positive values at the nodes."""
    logs = np.log(np.maximum(values, TINY))  # (curve, node, price)
    mean = np.einsum("n,cnp->cp", weight, logs)
    around = logs - mean[:, None]
    width = NormalDist().inv_cdf((1 + LEVEL) / 2) * np.sqrt(np.einsum("n,cnp->cp", weight, around * around))
    return np.exp(mean - width), np.exp(mean + width)
