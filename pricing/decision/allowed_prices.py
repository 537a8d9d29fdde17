"""The prices that may be charged: price points between the guardrails' limits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_models import DecisionConfig
from pricing.decision.limits import EDGE, NEAR, NUMBER, HardContext, Limits, PricingContext, hard_limits, limits
from pricing.decision.reasons import GAVE_WAY

SLACK = 1e-9  # steps of price; what floating point may lose
CANDIDATES = 33  # prices at which the objective is computed; between them it is a parabola
NO_PRICE_POINT = GAVE_WAY["price_rung"]  # no price point lies between the limits
_PLACES = np.linspace(0.0, 1.0, CANDIDATES)


class PriceGrid:
    """Prices that are whole multiples of the smallest step, `per_unit` of which make a currency unit."""

    def __init__(self, step: float) -> None:
        exact = 1.0 / step
        whole = float(round(exact))
        self.per_unit = whole if abs(exact - whole) <= SLACK else exact

    def above(self, prices: Floats | float) -> Floats:
        """The lowest price point at or above each price, above 0."""
        return np.maximum(np.ceil(prices * self.per_unit - SLACK), 1.0) / self.per_unit

    def below(self, prices: Floats | float) -> Floats:
        """The highest price point at or below each price; not above 0 where there is none."""
        return np.floor(prices * self.per_unit + SLACK) / self.per_unit

    def nearest(self, prices: Floats | float) -> Floats:
        """The price point nearest to each price, above 0; ascending prices give price points that do not descend."""
        return np.maximum(np.floor(prices * self.per_unit + 0.5), 1.0) / self.per_unit

    def moved(self, prices: Floats, before: Floats) -> Bools:
        """True for a price that is another one than before, in whole steps; an unknown one is not."""
        return np.abs(self.nearest(prices) - self.nearest(before)) > 0


class PriceEndings:
    """Prices that end in one of a few amounts within a unit, such as .49 and .99 within 1; methods as of PriceGrid."""

    def __init__(self, endings: Sequence[float], *, unit: float, step: float) -> None:
        self._endings = np.unique(endings)
        self._unit = unit
        self._per_unit = PriceGrid(step).per_unit

    def above(self, prices: Floats) -> Floats:
        """See PriceGrid."""
        base = np.floor(prices / self._unit)
        place = np.searchsorted(self._endings, prices - base * self._unit - SLACK)
        point = self._point(base, place)
        return np.where(point > 0, point, self._point(base, place + 1))

    def below(self, prices: Floats) -> Floats:
        """See PriceGrid."""
        base = np.floor(prices / self._unit)
        return self._point(base, np.searchsorted(self._endings, prices - base * self._unit + SLACK, side="right") - 1)

    def nearest(self, prices: Floats) -> Floats:
        """See PriceGrid."""
        below = self.below(prices)
        above = self.above(prices)
        return np.where((prices - below <= above - prices) & (below > 0), below, above)

    def _point(self, base: Floats, place: NDArray[np.integer]) -> Floats:
        carry, place = np.divmod(place, len(self._endings))
        points = (base + carry) * self._unit + self._endings[place]
        return np.asarray(np.rint(points * self._per_unit) / self._per_unit)


class AllowedPrices:
    """The prices that may be charged under a configuration, and the `grid` of smallest steps."""

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None, frozen: bool = False) -> None:
        """Prepares the price points.

        Args:
            config: Guardrails, and the smallest step of prices.
            largest_jump: As in `limits.limits`.
            frozen: Only cost, largest jump and bands hold, as for a frozen price.
        """
        self.grid = PriceGrid(config.price_step)
        self.largest_jump = largest_jump
        self.frozen = frozen
        self._guardrails = config.guardrails
        self._points: PriceGrid | PriceEndings = self.grid
        if config.guardrails.endings and not frozen:
            self._points = PriceEndings(
                config.guardrails.endings, unit=config.guardrails.ending_unit, step=config.price_step
            )

    def candidates(self, context: PricingContext) -> Floats:
        """(request, candidate) prices between cost and band around the regular price, evenly spaced in log price."""
        least, most = self._guardrails.band
        low = np.maximum(np.log(context.anchor * least), np.log(context.cost_floor))
        high = np.log(context.anchor * most)
        reach = np.maximum(high - low, 1e-4)  # where the cost lies above the band
        return np.asarray(np.exp(low[:, None] + reach[:, None] * _PLACES))

    def limits(self, context: PricingContext) -> Limits:
        """The guardrails' limits, moved inwards to price points; to whole steps where none lies between them."""
        if self.frozen:
            return self.hard_limits(context)
        limit = self._in_steps(context, limits(context, self._guardrails, largest_jump=self.largest_jump))
        if self._points is self.grid:
            return limit
        low = self._points.above(limit.low)
        high = self._points.below(limit.high)
        none = low > high
        only = (low == high) & (limit.low < limit.high)
        return limit._replace(
            low=np.where(none, limit.low, low),
            high=np.where(none, limit.high, high),
            low_by=np.where(only, NUMBER["price_rung"], limit.low_by),
            gave_way=limit.gave_way | none * NO_PRICE_POINT,
        )

    def without_moves(self, context: PricingContext) -> Limits:
        """The limits but for the largest move, and the days that a price stays: those hold before a draw alone."""
        return self.limits(replace(context, current_known=np.zeros(len(context), bool)))

    def has_room(self, context: PricingContext, home: Floats, *, factor: Floats | float) -> Bools:
        """(request,) whether a draw may move a price `home` by `factor`, above 1, to either side.

        A drawn price is rounded towards home. Next week's may lie at the other end: no further than the largest jump.
        """
        limit = self.without_moves(context)
        up = self.grid.below(home * factor)
        down = self.grid.above(home / factor)
        jump = np.inf if self.largest_jump is None else self.largest_jump
        return limit.holds(up) & limit.holds(down) & (factor * factor <= 1 + jump + EDGE)

    def hard_limits(self, context: HardContext) -> Limits:
        """The limits of cost, largest jump and bands alone, moved inwards to whole steps."""
        return self._in_steps(context, hard_limits(context, self._guardrails, largest_jump=self.largest_jump))

    def _in_steps(self, context: HardContext, limit: Limits) -> Limits:
        """Limits moved inwards to whole steps.

        Where no step lies between them: to the one of the two steps beside them that cost, largest jump and bands
        allow; where they allow both or neither, down where the upper end's guardrail is the stronger one, if that
        covers the cost, else up.
        """
        low = self.grid.above(limit.low)
        high = self.grid.below(limit.high)
        empty = low > high
        if not empty.any():
            return limit._replace(low=low, high=high)

        hard = hard_limits(context, self._guardrails, largest_jump=self.largest_jump)
        lower = hard.holds(high)
        down = np.where(lower == hard.holds(low), limit.high_by < limit.low_by, lower)
        low = np.where(empty & down & (high >= context.cost_floor), high, low)
        gave_way = limit.gave_way | (empty & (limit.low < limit.high)) * NO_PRICE_POINT
        return limit._replace(low=low, high=np.where(empty, low, high), gave_way=gave_way)

    def nearest(self, prices: Floats, limit: Limits) -> Floats:
        """(…, request) the allowed price nearest to each of `prices` (…, request)."""
        inside = np.minimum(np.maximum(prices, limit.low), limit.high)
        steps = self.grid.nearest(inside)
        if self._points is not self.grid:
            steps = np.where(limit.gave_way & NO_PRICE_POINT, steps, self._points.nearest(inside))
        return np.minimum(np.maximum(steps, limit.low), limit.high)

    def allows(self, prices: Floats, limit: Limits) -> Bools:
        """(price,) which of some prices the limits of one request allow."""
        points = self.grid if limit.gave_way[0] & NO_PRICE_POINT else self._points
        return limit.holds(prices) & (np.abs(points.nearest(prices) - prices) <= NEAR * prices)

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

    def to_freeze(self, context: HardContext, limit: Limits) -> Floats:
        """(request,) the price that a freeze keeps where the hard limits allow it: the current one.

        One further than the largest jump from the last price charged is taken for a fault: that last price stays.
        """
        if self.largest_jump is None:
            return context.current_price
        far = np.abs(context.current_price / context.last_price - 1) > self.largest_jump + EDGE
        return np.where(far, np.clip(context.last_price, limit.low, limit.high), context.current_price)
