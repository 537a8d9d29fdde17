"""Sales when stock may run out: expected sales of a negative binomial demand, in closed form and NumPy only."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.counting_units import in_steps
from pricing.data.net_price import net_price, unit_profit
from pricing.decision.request import Outcome, Spread
from pricing.demand.curve import DemandAt, DemandGrid

LARGEST_SIZE = 1e6  # beyond it a negative binomial is Poisson to six digits
TABLE = 40  # means at which a request's expected sales are worked out before interpolating
_POINTS = np.arange(TABLE)
_LAST = np.nextafter(np.float32(TABLE - 1), np.float32(0))  # the furthest place from which there is a next point
AMPLE = 6.0  # standard deviations above the mean at which stock sets no limit
NOTHING = 1e-30  # expected sales, or worth of a unit, of which there is no log
SHORT = 0.98  # expected sales below this fraction of expected demand mean that stock is short
_LEAST_MEAN = 1e-12  # of demand, in what counts as one, that a table begins at
_ODD = (1.59543566, 7.35965074e-02, -6.31612787e-04)  # of z, z³ and z⁵ in `normal_chance`
_RANGE = 9.0  # log units of demand below the largest that a table covers
INTERVAL = (0.1, 0.9)  # ends of what outcomes may be
_HALVINGS = 60


def expected_sales(mean: Floats, *, size: Floats, stock: Floats) -> Floats:
    """E[min(D, S)] for D negative binomial with variance mean + mean² / size.

    With p = size / (size + mean), q = 1 − p, F the distribution function of the negative binomial of size + 2 and the
    same p, and A = Γ(size + S + 1) / (Γ(size + 1) S!) · p^size · q^S,

        E[min(D, S)] = mean + (1 − F(S) − A p q (size + S + 1) / (size + 1)) (S − mean) − (size + S) q A,

    from E[D; D ≤ S] = mean · P(D' ≤ S − 1) with D' of size + 1, and the recurrence of the incomplete beta function in
    its first parameter (Abramowitz and Stegun 26.5.16). F is the normal approximation of Peizer and Pratt (1968, JASA
    63, 1416-1456). The relative error is below 0.012 for a size of at least 0.2, below 0.007 from 0.5 on, and 0.0004 on
    average.

    Mean demand and size are above 0, stock is finite, in the shape of `size`, which broadcasts against `mean`; of less
    than 1 all is sold as soon as one is asked for. Never above `mean` nor `stock`.
    """
    units = np.maximum(stock, 1.0)
    q, mass, above = _mass_and_tail(mean, size=size, units=units)
    sales = above * (units - mean) + mean - mass * q * (size + units)
    return np.minimum(np.minimum(np.maximum(sales, 0.0), mean), units) * np.minimum(stock, 1.0)


def chance_above(mean: Floats, *, size: Floats, units: Floats) -> Floats:
    """P(D > units) for the demand of `expected_sales`, by the same approximation; interpolated between whole units.

    Units are at least 0, in the shape of `size`.
    """
    q, mass, above = _mass_and_tail(mean, size=size, units=units)
    return np.minimum(np.maximum(above - mass * q, 0.0), 1.0)


def normal_chance(deviation: Floats) -> Floats:
    """P(Z ≤ z) to 2e-5: a logistic function of an odd polynomial, fitted to the normal between −4 and 4."""
    z = np.minimum(np.maximum(deviation, -8.0), 8.0)
    square = z * z
    odd = ((square * _ODD[2] + _ODD[1]) * square + _ODD[0]) * z
    return np.asarray(1 / (np.exp(-odd) + 1))


def _mass_and_tail(mean: Floats, *, size: Floats, units: Floats) -> tuple[Floats, Floats, Floats]:
    """Q and A of `expected_sales`, and P(D' > units) for D' negative binomial of size + 1 and the same p."""
    pairs = zip(size.ravel().tolist(), units.ravel().tolist(), strict=True)
    constants = np.array([_constants(*pair) for pair in pairs]).T.reshape(9, *size.shape)
    at_q, at_p, log_at_q, log_at_p, log_choose, of_q, constant, per, ratio = constants
    total = size + mean
    q = np.asarray(mean / total, np.float64)
    p = np.asarray(size / total, np.float64)
    log_q = np.log(q)
    log_p = np.log(p)
    bent = _skew(at_q / q, log_at_q - log_q) * p + _skew(at_p / p, log_at_p - log_p) * q
    mass = np.exp(log_q * units + log_p * size + log_choose)
    spread = np.sqrt(np.maximum(bent + 1, 0.0) / (p * q) * per)
    return q, mass, normal_chance((of_q * q + constant) * spread) - p * q * mass * ratio


class Sales:
    """Expected sales of a batch over a grid of demand, until the next delivery and in the requested period.

    At a few points a request, evenly spaced in log mean, they are exact; between them the share of demand that is
    served is interpolated. Requests whose stock is ample cost nothing.
    """

    def __init__(self, grid: DemandGrid, stock: Floats) -> None:
        """Limits the grid's demand by `stock` (request,), units on hand; 0 and NaN set no limit."""
        until = grid.until
        size = grid.until_size
        # Chance counts in what counts as one.
        limit = np.where(stock > 0, stock, np.inf) / grid.unit
        most = until.max(axis=(1, 2)) / grid.unit
        self._short = (limit < most + AMPLE * np.sqrt(most + most * most / size)).nonzero()[0]
        self._first = grid.first
        self._demand = until
        self.weight = grid.weight
        self.until: Floats = until  # (request, node, candidate) expected sales until the next delivery
        if not len(self._short):
            return

        rows = self._short
        units = np.broadcast_to(grid.unit, stock.shape)[rows]
        demand = until[rows], grid.first[rows]
        ends = np.array([[each.max(axis=(1, 2)), each.min(axis=(1, 2))] for each in demand]) / units
        top, bottom = np.log(np.maximum(ends, _LEAST_MEAN)).swapaxes(0, 1)  # (2, request)
        bottom = np.minimum(np.maximum(bottom, top - _RANGE), top - 0.01)
        step = (top - bottom) / (TABLE - 1)
        means = np.exp(bottom[..., None] + step[..., None] * _POINTS)  # (2, request, point)
        sizes = np.minimum(np.array([size[rows], grid.first_size[rows]]), LARGEST_SIZE)[..., None]
        table = expected_sales(means, size=sizes, stock=np.broadcast_to(limit[rows], top.shape)[..., None])
        table /= means
        # Single precision halves the time; its error, a few parts in a million, is far below the approximation's.
        self._table = table.astype(np.float32).reshape(2, -1)
        self._slope = np.empty_like(self._table)
        np.subtract(self._table[:, 1:], self._table[:, :-1], out=self._slope[:, :-1])
        self._bottom = (bottom + np.log(units)).astype(np.float32)
        self._per = (1 / step).astype(np.float32)

        served = demand[0] * self._served(0, demand[0])
        if len(rows) < len(until):
            self.until = until.copy()
            self.until[rows] = served
        else:
            self.until = served

    def first(self, column: Ints) -> Floats:
        """(request,) expected sales in the requested period at one candidate a request."""
        demand = self._first[np.arange(len(self._first)), :, column]  # (request, node)
        if len(self._short):
            demand[self._short] *= self._served(1, demand[self._short])
        return np.asarray((demand * self.weight).sum(axis=1))

    def runs_out(self, column: Ints) -> Bools:
        """(request,) whether stock is expected to cut sales short at one candidate a request."""
        if not len(self._short):
            return np.zeros(len(self.until), np.bool_)
        rows = np.arange(len(self.until))
        sold = (self.until[rows, :, column] * self.weight).sum(axis=1)
        wanted = (self._demand[rows, :, column] * self.weight).sum(axis=1)
        return np.asarray(sold < SHORT * wanted)

    def _served(self, kind: int, mean: Floats) -> Floats:
        """The share of demand that is served; the first axis of `mean` runs over the requests that are short."""
        shape = [-1] + [1] * (mean.ndim - 1)
        place = np.log(np.maximum(mean, 1e-300)).astype(np.float32, copy=False)
        place -= self._bottom[kind].reshape(shape)
        place *= self._per[kind].reshape(shape)
        np.fmax(place, 0.0, out=place)  # where demand is no number it stays none, but the place is one
        np.fmin(place, _LAST, out=place)
        whole = np.floor(place)
        place -= whole
        left = whole.astype(np.intp)
        left += np.arange(0, len(mean) * TABLE, TABLE).reshape(shape)
        place *= self._slope[kind].take(left)
        share: Floats = self._table[kind].take(left)
        share += place
        return share


def _skew(ratio: Floats, logs: Floats) -> Floats:
    """Peizer and Pratt's g(x) = (1 − x² + 2x log x) / (1 − x)², from x and log x."""
    away = ratio - 1
    return ((logs * 2 - ratio) * ratio + 1) / (away * away + 1e-12)  # at x = 1 both are 0, and so is g


@lru_cache(maxsize=1024)  # of one pass: each size and stock comes up to four times
def _constants(size: float, units: float) -> tuple[float, ...]:
    """The constants of `_mass_and_tail` of one size and stock, in Python's own floats: NumPy has no log Γ."""
    shifted = size + 2
    trials = shifted + units
    of_p = -0.02 / (units + 1) - 0.02 / (trials + 1)
    at_q = (units + 0.5) / trials
    at_p = (shifted - 0.5) / trials
    return (
        at_q,  # with the next: the two ratios that Peizer and Pratt's g is taken of, times q and p
        at_p,
        math.log(at_q),
        math.log(at_p),
        math.lgamma(size + units + 1) - math.lgamma(size + 1) - math.lgamma(units + 1),
        trials + 1 / 3 + 0.02 / shifted - of_p,  # with the next: coefficient of q and constant of their distance
        of_p + 0.01 / (trials + 1) - 2 / 3 - units,
        1 / (trials + 1 / 6),  # inverse of what its spread is divided by
        (size + units + 1) / (size + 1),  # ratio of A to its neighbour
    )


class Tried(NamedTuple):
    """A price to try, the strategy that chose it or None where it was given, and whether the guardrails allow it."""

    price: float
    strategy: str | None
    allowed: bool


def outcomes(
    tried: Sequence[Tried], demand_at: DemandAt, *, stock: float, unit_cost: float, tax_rate: float
) -> list[Outcome]:
    """Computes the outcome of each price, in order.

    The intervals cover parameter uncertainty and chance together: quantiles of the mixture of the nodes' negative
    binomials. Demand is that of one request at prices (1, candidate); stock is infinite where unknown.
    """
    prices = np.unique([each.price for each in tried])
    grid = demand_at(prices[None])
    unit = float(np.broadcast_to(grid.unit, 1)[0])  # the amount that the negative binomial counts as one
    mean = np.maximum(grid.until[0] / unit, 1e-9)  # (node, candidate)
    size = np.broadcast_to(grid.until_size[0], mean.shape)
    low, high = (unit * _quantile(mean, size, grid.weight, level) for level in INTERVAL)
    wanted = unit * (grid.weight @ mean)
    sold = np.minimum(wanted, stock)
    gone = np.ones(len(prices))
    if 0 < stock < np.inf:
        there = np.full_like(mean, in_steps(np.array([stock]), np.array([unit]))[0])
        sold = np.minimum(unit * (grid.weight @ expected_sales(mean, size=size, stock=there)), stock)
        last = np.maximum(np.ceil(there) - 1, 0.0)  # sold out: demand exceeds all units but the last
        gone = grid.weight @ chance_above(mean, size=size, units=last)

    made = []
    for price, strategy, allowed in tried:
        place = int(np.searchsorted(prices, price))
        demand = Spread(mean=float(wanted[place]), low=float(low[place]), high=float(high[place]))
        units = Spread(mean=float(sold[place]), low=min(demand.low, stock), high=min(demand.high, stock))
        made.append(
            Outcome(
                price=price,
                strategy=strategy,
                allowed=allowed,
                demand=demand,
                units=units,
                revenue=_times(units, net_price(price, tax_rate)),
                margin=_times(units, unit_profit(price, unit_cost, tax_rate=tax_rate)),
                stock_out=float(gone[place]) if stock < np.inf else None,
            )
        )
    return made


def _times(units: Spread, worth: float) -> Spread:
    ends = sorted((units.low * worth, units.high * worth))
    return Spread(mean=units.mean * worth, low=ends[0], high=ends[1])


def _quantile(mean: Floats, size: Floats, weight: Floats, level: float) -> Floats:
    """(candidate,) the least whole number of units that demand exceeds with probability ≤ 1 − level; by bisection."""
    below = np.full(mean.shape[1], -1.0)
    above = np.ceil(mean.max(axis=0) * 20 + 60 / np.minimum(size[0], 1.0))
    for _ in range(_HALVINGS):
        middle = np.floor((below + above) / 2)
        exceeded = weight @ chance_above(mean, size=size, units=np.broadcast_to(np.maximum(middle, 0.0), mean.shape))
        passed = (exceeded <= 1 - level) & (middle >= 0)
        above = np.where(passed, middle, above)
        below = np.where(passed, below, middle)
        if ((above - below) <= 1).all():
            break
    return np.asarray(above)
