"""What sells when stock may run out: expected sales of a negative binomial demand, in closed form and NumPy only."""

import math

import numpy as np
from numpy.typing import NDArray

from pricing.decision.confidence import normal_chance
from pricing.demand.curve import DemandGrid

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

LARGEST_SIZE = 1e6  # beyond it a negative binomial is Poisson to six digits
TABLE = 40  # means at which a request's expected sales are worked out before interpolating
AMPLE = 6.0  # standard deviations above the mean at which stock sets no limit


def expected_sales(mean: Floats, *, size: Floats, stock: Floats) -> Floats:
    """E[min(D, S)] for D negative binomial with variance mean + mean² / size.

    With p = size / (size + mean), q = 1 − p, F the distribution function of the negative binomial of size + 2 and the
    same p, and A = Γ(size + S + 1) / (Γ(size + 1) S!) · p^size · q^S,

        E[min(D, S)] = mean + (1 − F(S) − A p q (size + S + 1) / (size + 1)) (S − mean) − (size + S) q A,

    from E[D; D ≤ S] = mean · P(D' ≤ S − 1) with D' of size + 1, and the recurrence of the incomplete beta function in
    its first parameter (Abramowitz and Stegun 26.5.16). F is the normal approximation of Peizer and Pratt (1968, JASA
    63, 1416-1456), good because size + 2 is never small. The relative error is below 0.012 for a size of at least 0.2,
    below 0.007 from 0.5 on, and 0.0004 on average.

    Args:
        mean: Expected demand, above 0, in units.
        size: Of the negative binomial, above 0; broadcasts against `mean`.
        stock: Units on hand, finite, in the shape of `size`; below 1 it is taken as 1.

    Returns:
        Expected units sold, in the shape of `mean`, never above `mean` nor `stock`.
    """
    units = np.maximum(stock, 1.0)
    total = size + mean
    p, q = size / total, mean / total
    mass, above = _mass_and_tail(p, q, size=size, units=units)
    sales = mean + above * (units - mean) - (size + units) * q * mass
    return np.asarray(np.minimum(np.maximum(sales, 0.0), np.minimum(mean, units)))


def chance_above(mean: Floats, *, size: Floats, units: Floats) -> Floats:
    """P(D > units) for the demand of `expected_sales`, by the same approximation.

    Args:
        mean: Expected demand, above 0, in units.
        size: Of the negative binomial, above 0; broadcasts against `mean`.
        units: At least 0, in the shape of `size`; between whole units it is interpolated.
    """
    total = size + mean
    p, q = size / total, mean / total
    mass, above = _mass_and_tail(p, q, size=size, units=units)
    return np.asarray(np.minimum(np.maximum(above - mass * q, 0.0), 1.0))


def _mass_and_tail(p: Floats, q: Floats, *, size: Floats, units: Floats) -> tuple[Floats, Floats]:
    """A of `expected_sales`, and P(D' > units) for D' negative binomial of size + 1 and the same p."""
    mass = np.exp(_log_choose(size, units) + size * np.log(p) + units * np.log(q))
    shifted = size + 2
    trials = shifted + units
    ratio = np.empty((2, *p.shape))
    np.divide(units + 0.5, trials * q, out=ratio[0])
    np.divide(shifted - 0.5, trials * p, out=ratio[1])
    bent = _skew(ratio)
    pq = p * q
    spread = np.maximum(1 + p * bent[0] + q * bent[1], 0.0) / ((trials + 1 / 6) * pq)
    distance = (trials + 1 / 3) * q - units - 2 / 3
    distance -= p * (0.02 / (units + 1) + 0.02 / (trials + 1)) - q * (0.02 / shifted) - 0.01 / (trials + 1)
    return mass, normal_chance(distance * np.sqrt(spread)) - mass * pq * ((size + units + 1) / (size + 1))


class Shelf:
    """Expected sales over a grid of demand, until the next delivery and in the requested period.

    Exact means are worked out at a few points a request, evenly spaced in log mean, and the share of demand that is
    served is interpolated between them. Requests whose stock is ample cost nothing.
    """

    def __init__(self, grid: DemandGrid, stock: Floats) -> None:
        """Lays the grid's demand beside `stock` (request,), units on hand; NaN sets no limit."""
        until, first, size = grid.until, grid.first, grid.until_size
        most = until[:, :, 0].max(axis=1)
        self._short = np.flatnonzero(stock < most + AMPLE * np.sqrt(most + most * most / size))
        self._first = first
        self.until: Floats = until
        if not len(self._short):
            return
        everything = len(self._short) == len(stock)
        rows = slice(None) if everything else self._short
        ends = np.array([[most[rows], first[rows, :, 0].max(axis=1)], [_least(until[rows]), _least(first[rows])]])
        ends = np.log(np.maximum(ends, 1e-12))
        top, bottom = ends[0], np.minimum(np.maximum(ends[1], ends[0] - 9.0), ends[0] - 0.01)  # (2, request)
        step = (top - bottom) / (TABLE - 1)
        means = np.exp(bottom[..., None] + step[..., None] * np.arange(TABLE))  # (2, request, point)
        sizes = np.minimum(np.array([size[rows], grid.first_size[rows]]), LARGEST_SIZE)[..., None]
        units = np.broadcast_to(stock[rows], top.shape)[..., None]
        self._table = expected_sales(means, size=sizes, stock=units) / means
        self._bottom, self._per = bottom, 1 / step
        demand = until[rows]
        served = self._served(0, demand) * demand
        if everything:
            self.until = served
        else:
            self.until = until.copy()
            self.until[self._short] = served

    def first(self, rows: Ints, column: Ints) -> Floats:
        """(request, node) expected sales in the requested period at one candidate a request; `rows` are all rows."""
        demand = self._first[rows, :, column]
        if len(self._short):
            demand[self._short] *= self._served(1, demand[self._short])
        return demand

    def _served(self, kind: int, mean: Floats) -> Floats:
        """The share of demand that is served; the first axis of `mean` runs over the requests that are short."""
        shape = (-1, *(1,) * (mean.ndim - 1))
        # Single precision halves the time; its error, a few parts in a million, is far below the approximation's.
        place = np.log(np.maximum(mean, 1e-300)).astype(np.float32)
        place -= self._bottom[kind].reshape(shape).astype(np.float32)
        place *= self._per[kind].reshape(shape).astype(np.float32)
        np.fmax(place, 0.0, out=place)  # where demand is no number it stays none, but the place is one
        np.fmin(place, TABLE - 1.001, out=place)
        left = place.astype(np.intp)
        place -= left
        left += np.arange(0, len(mean) * TABLE, TABLE).reshape(shape)
        flat = self._table[kind].astype(np.float32).ravel()
        share: Floats = flat[left]
        left += 1
        place *= flat[left] - share
        share += place
        return share


def _least(mean: Floats) -> Floats:
    least: Floats = mean[:, :, -1].min(axis=1)
    return least


def _skew(ratio: Floats) -> Floats:
    """Peizer and Pratt's g(x) = (1 − x² + 2x log x) / (1 − x)²; changes `ratio`."""
    logs = np.log(ratio)
    logs *= 2
    logs -= ratio
    logs *= ratio
    logs += 1
    ratio -= 1
    ratio *= ratio
    ratio += 1e-12  # at x = 1 both are 0, and so is g
    logs /= ratio
    return logs


def _log_choose(size: Floats, units: Floats) -> Floats:
    """Gives log Γ(size + units + 1) − log Γ(size + 1) − log Γ(units + 1), request by request: NumPy has no log Γ."""
    pairs = zip(size.ravel().tolist(), units.ravel().tolist(), strict=True)
    gamma = math.lgamma
    return np.array([gamma(k + n + 1) - gamma(k + 1) - gamma(n + 1) for k, n in pairs]).reshape(size.shape)
