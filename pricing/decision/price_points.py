"""The prices that may be charged: price points (whole cents, price endings, or a ladder) between the limits."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_models import DecisionConfig
from pricing.decision.context import PricingContext
from pricing.decision.guardrails import NO_PRICE_POINT, NUMBER, SOFT_OFF, Limits, limits

SLACK = 1e-9  # steps of price; what floating point may lose
NEAR = 1e-6  # relative; prices nearer than this are one price, as single precision holds seven digits
CANDIDATES = 33  # prices at which the objective is computed; between them it is a parabola


class PricePoints(ABC):
    """A set of allowed prices, ascending without end on both sides."""

    @abstractmethod
    def above(self, prices: Floats) -> Floats:
        """The lowest price point at or above each price; infinite where there is none."""

    @abstractmethod
    def below(self, prices: Floats) -> Floats:
        """The highest price point at or below each price; minus infinite, or not above 0, where there is none."""

    def nearest(self, prices: Floats) -> Floats:
        """The price point nearest to each price; ascending prices give price points that do not descend."""
        below, above = self.below(prices), self.above(prices)
        return np.where((prices - below <= above - prices) & (below > 0), below, above)


class PriceGrid(PricePoints):
    """Whole multiples of the smallest step of price.

    Attributes:
        per_unit: Steps that make a currency unit.
    """

    def __init__(self, step: float) -> None:
        self.per_unit = 1.0 / step if abs(1.0 / step - round(1.0 / step)) > SLACK else float(round(1.0 / step))

    def above(self, prices: Floats) -> Floats:
        """See PricePoints."""
        return np.asarray(np.maximum(np.ceil(prices * self.per_unit - SLACK), 1.0) / self.per_unit)

    def below(self, prices: Floats) -> Floats:
        """See PricePoints."""
        return np.asarray(np.floor(prices * self.per_unit + SLACK) / self.per_unit)

    def nearest(self, prices: Floats) -> Floats:
        """See PricePoints; at least one step."""
        return np.asarray(np.maximum(np.floor(prices * self.per_unit + 0.5), 1.0) / self.per_unit)


class PriceLadder(PricePoints):
    """A given list of prices."""

    def __init__(self, prices: list[float]) -> None:
        self._prices = np.concatenate([[-np.inf], np.unique(prices), [np.inf]])

    def above(self, prices: Floats) -> Floats:
        """See PricePoints."""
        return np.asarray(self._prices[np.searchsorted(self._prices, prices * (1 - SLACK))])

    def below(self, prices: Floats) -> Floats:
        """See PricePoints."""
        return np.asarray(self._prices[np.searchsorted(self._prices, prices * (1 + SLACK), side="right") - 1])


class PriceEndings(PricePoints):
    """Prices that end in one of a few amounts within a unit, such as .49 and .99 within 1."""

    def __init__(self, endings: list[float], *, unit: float, step: float) -> None:
        self._endings = np.unique(endings)
        self._unit = unit
        self._per_unit = PriceGrid(step).per_unit

    def above(self, prices: Floats) -> Floats:
        """See PricePoints."""
        base = np.floor(prices / self._unit)
        place = np.searchsorted(self._endings, prices - base * self._unit - SLACK)
        point = self._point(base, place)
        return np.where(point > 0, point, self._point(base, place + 1))

    def below(self, prices: Floats) -> Floats:
        """See PricePoints."""
        base = np.floor(prices / self._unit)
        return self._point(base, np.searchsorted(self._endings, prices - base * self._unit + SLACK, side="right") - 1)

    def _point(self, base: Floats, place: NDArray[np.integer]) -> Floats:
        carry, place = np.divmod(place, len(self._endings))
        points = (base + carry) * self._unit + self._endings[place]
        return np.asarray(np.rint(points * self._per_unit) / self._per_unit)


class AllowedPrices:
    """The prices that may be charged: price points between the guardrails' limits. Made once for a version.

    Attributes:
        grid: The smallest steps of price.
    """

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None) -> None:
        """Prepares the price points; `largest_jump` is as in `guardrails.limits`."""
        given = config.guardrails
        self.grid = PriceGrid(config.price_step)
        self._largest_jump = largest_jump
        self._guardrails, self._bands = given, given.model_copy(update=SOFT_OFF)
        self._points: PricePoints = self.grid
        if given.ladder:
            self._points = PriceLadder(given.ladder)
        elif given.endings:
            self._points = PriceEndings(given.endings, unit=given.ending_unit, step=config.price_step)

    def candidates(self, context: PricingContext) -> Floats:
        """(request, candidate) prices between cost and band around the regular price, evenly spaced in log price."""
        low, high = (np.log(context.anchor * end) for end in self._guardrails.band)
        low = np.maximum(low, np.log(context.cost_floor))
        reach = np.maximum(high - low, 1e-4)  # where the cost lies above the band
        return np.asarray(np.exp(low[:, None] + reach[:, None] * np.linspace(0.0, 1.0, CANDIDATES)))

    def limits(self, context: PricingContext) -> Limits:
        """The guardrails' limits, moved inwards to price points; to whole steps where no price point lies between them.

        Where no whole step does either: to the one of the two steps beside them that cost, largest jump and bands
        allow; where they allow both or neither, down where the upper end's guardrail is the stronger one, if that
        covers the cost, else up.
        """
        limit = limits(context, self._guardrails, largest_jump=self._largest_jump)
        low, high, gave_way = self.grid.above(limit.low), self.grid.below(limit.high), limit.gave_way
        empty = low > high
        if empty.any():
            bands = limits(context, self._bands, largest_jump=self._largest_jump)
            lower, upper = bands.holds(high), bands.holds(low)
            down = np.where(lower == upper, limit.high_by < limit.low_by, lower)
            low = np.where(empty & down & (high >= context.cost_floor), high, low)
            high = np.where(empty, low, high)
            gave_way = gave_way | (empty & (limit.low < limit.high)) * NO_PRICE_POINT
        if self._points is self.grid:
            return limit._replace(low=low, high=high, gave_way=gave_way)
        on_low, on_high = self._points.above(low), self._points.below(high)
        none, one = on_low > on_high, (on_low == on_high) & (low < high)
        return limit._replace(
            low=np.where(none, low, on_low),
            high=np.where(none, high, on_high),
            low_by=np.where(one, NUMBER["price_rung"], limit.low_by),
            gave_way=gave_way | none * NO_PRICE_POINT,
        )

    def nearest(self, prices: Floats, limit: Limits) -> Floats:
        """(request,) the allowed price nearest to each of `prices` (request,)."""
        inside = np.clip(prices, limit.low, limit.high)
        steps = self.grid.nearest(inside)
        if self._points is not self.grid:
            steps = np.where(limit.gave_way & NO_PRICE_POINT, steps, self._points.nearest(inside))
        return np.clip(steps, limit.low, limit.high)

    def allows(self, prices: Floats, limit: Limits) -> Bools:
        """(price,) which of some prices the limits of one request allow."""
        points = self.grid if limit.gave_way[0] & NO_PRICE_POINT else self._points
        return np.asarray(limit.holds(prices) & (np.abs(points.nearest(prices) - prices) <= NEAR * prices))

    def towards(self, prices: Floats, home: Floats, limit: Limits) -> Floats:
        """(request,) the allowed price nearest to each of `prices` that is no further from `home`."""
        near = self.nearest(prices, limit)
        beyond = np.abs(np.log(near / home)) > np.abs(np.log(prices / home)) + NEAR
        by_step, by_point = (
            np.where(prices > home, points.below(near * (1 - NEAR)), points.above(near * (1 + NEAR)))
            for points in (self.grid, self._points)
        )
        inward = np.where(limit.gave_way & NO_PRICE_POINT, by_step, by_point)
        return np.where(beyond, np.clip(inward, np.minimum(home, near), np.maximum(home, near)), near)
