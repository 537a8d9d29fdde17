"""The prices that a decision considers: price points (whole cents, price endings, or a ladder) between the limits."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DecisionConfig
from pricing.decision.context import PricingContext
from pricing.decision.guardrails import NO_PRICE_POINT, NUMBER, SOFT_OFF, Limits, limits

SLACK = 1e-9  # steps of price; what floating point may lose
NEAR = 1e-6  # relative; prices nearer than this are one price, as single precision holds seven digits


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

    def payable(self, prices: Floats) -> Floats:
        """The whole step nearest to each price, at least one."""
        return np.asarray(np.maximum(np.floor(prices * self.per_unit + 0.5), 1.0) / self.per_unit)

    def nearest(self, prices: Floats) -> Floats:
        """See PricePoints."""
        points = prices * self.per_unit
        np.rint(points, out=points)
        points /= self.per_unit
        return points


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
        self._grid = PriceGrid(step)

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
        return self._grid.nearest((base + carry) * self._unit + self._endings[place])


class CandidatePrices(NamedTuple):
    """The candidate prices of a batch.

    Attributes:
        prices: (request, candidate) ascending. All are allowed, except perhaps the current price.
        limits: What the guardrails left; `low` and `high` are price points where any lies between the limits.
        current: (request,) column of the current price.
        allowed: (request,) whether the current price may be charged.
        nearest: (request,) column of the allowed price nearest to the current one: its own column if allowed.
    """

    prices: Floats
    limits: Limits
    current: Ints
    allowed: Bools
    nearest: Ints

    def at(self, column: Ints) -> Floats:
        """(request,) the prices in a column each."""
        return np.asarray(self.prices[np.arange(len(column)), column])

    def put_forbidden(self, values: Any, value: Any) -> None:
        """Puts a value in (request, candidate) `values` wherever the current price may not be charged."""
        rows = np.flatnonzero(~self.allowed)
        values[rows, self.current[rows]] = value


class CandidateGrid:
    """Candidate prices at fixed ratios of the list price: a limit that moves a little does not move them all.

    Attributes:
        ratios: (candidate,) ascending; the current price comes on top.
        grid: The smallest steps of price.
    """

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None) -> None:
        """Prepares the grid; `largest_jump` is as in `guardrails.limits`."""
        self.grid = PriceGrid(config.price_step)
        self._largest_jump = largest_jump
        self._guardrails = config.guardrails
        self._bands = config.guardrails.model_copy(update=SOFT_OFF)
        given = config.guardrails
        self._points: PricePoints | None = None  # where any whole step will do
        if given.ladder:
            self._points = PriceLadder(given.ladder)
        elif given.endings:
            self._points = PriceEndings(given.endings, unit=given.ending_unit, step=config.price_step)
        low, high = np.log(config.guardrails.band)
        ratios = config.candidates - 1  # one column is the current price's
        step = max((high - low) / (ratios - 2), 1e-9)
        first = np.floor(low / step + 1e-9) if low < 0 < high else low / step  # so that list price is one of them
        self.ratios = np.exp(step * (first + np.arange(ratios)))

    def candidates(self, context: PricingContext, *, anchor: Floats | None = None) -> CandidatePrices:
        """Makes the candidates of every request; its outermost allowed prices are the limits themselves.

        Args:
            context: What each request is priced under.
            anchor: (request,) a further price to consider where the guardrails allow it; NaN for none.
        """
        # A current price that nobody can pay, such as 5.445, can only be kept as the whole step beside it.
        current = self.grid.payable(context.current_price)
        limit = self._limits_in_steps(context)
        allowed = limit.holds(current)  # with a tolerance, which is not to lead out of the limits
        current = np.where(allowed, np.clip(current, limit.low, limit.high), current)
        further = context.list_price if anchor is None else np.where(np.isnan(anchor), context.list_price, anchor)
        prices = np.concatenate([context.list_price[:, None] * self.ratios, further[:, None]], axis=1)
        if self._points is None:
            prices = self.grid.nearest(prices)
        else:
            prices, limit, on_point = self._on_price_points(self._points, prices, limit, current)
            allowed = allowed & on_point
        full = np.concatenate([np.clip(prices, limit.low[:, None], limit.high[:, None]), current[:, None]], axis=1)
        full.sort(axis=1)
        place = (full < current[:, None]).sum(axis=1)
        return CandidatePrices(full, limit, place, allowed, nearest=_nearest_allowed(full, place, allowed))

    def allows(self, prices: Floats, candidates: CandidatePrices) -> Bools:
        """(price,) which of some prices the guardrails of one request allow.

        A price counts that is a price point between the limits, or is the current price where that may stay.

        Args:
            prices: What is asked of.
            candidates: Of a batch of that one request.
        """
        limit = candidates.limits
        points = self._points if self._points is not None and not limit.gave_way[0] & NO_PRICE_POINT else self.grid
        on_point = np.abs(points.nearest(prices) - prices) <= NEAR * prices
        current = candidates.prices[0, candidates.current]
        stays = candidates.allowed & (np.abs(current - prices) <= NEAR * prices)
        return np.asarray(limit.holds(prices) & (on_point | stays))

    def towards(self, prices: Floats, home: Floats, *, limit: Limits) -> Floats:
        """(request,) the price point that is nearest to each of `prices` and no further from `home`.

        Args:
            prices: (request,) in currency units.
            home: (request,) likewise.
            limit: Of the requests; where no price point lies between them any whole step is one.
        """
        below, above = self.grid.below(prices), self.grid.above(prices)
        if self._points is not None:
            free = (limit.gave_way & NO_PRICE_POINT) > 0
            below = np.where(free, below, self._points.below(prices))
            above = np.where(free, above, self._points.above(prices))
        toward = np.where(prices > home, np.maximum(below, home), np.minimum(above, home))
        return np.where(prices == home, home, toward)

    def _limits_in_steps(self, context: PricingContext) -> Limits:
        """The guardrails' limits, moved inwards to whole steps.

        Where none lies between them: to the one of the two steps beside them that cost, largest jump and bands allow;
        where they allow both or neither, down where the upper end's guardrail is the stronger one, if that covers the
        cost, else up.
        """
        limit = limits(context, self._guardrails, largest_jump=self._largest_jump)
        low, high = self.grid.above(limit.low), self.grid.below(limit.high)
        empty = low > high
        gave_way = limit.gave_way
        if empty.any():
            where = np.where
            bands = limits(context, self._bands, largest_jump=self._largest_jump)
            lower, upper = bands.holds(high), bands.holds(low)
            down = where(lower == upper, limit.high_by < limit.low_by, lower)
            low = where(empty & down & (high >= context.cost_floor), high, low)
            high = where(empty, low, high)
            gave_way = gave_way | (empty & (limit.low < limit.high)) * NO_PRICE_POINT
        return limit._replace(low=low, high=high, gave_way=gave_way)

    def _on_price_points(
        self, points: PricePoints, prices: Floats, limit: Limits, current: Floats
    ) -> tuple[Floats, Limits, Bools]:
        """The candidates and limits of a batch on a ladder or on endings, and whether the current price is such a one.

        Where no price point lies between the limits, any whole step will do.
        """
        low, high = points.above(limit.low), points.below(limit.high)
        gives_way: Bools = low > high
        prices = np.where(gives_way[:, None], self.grid.nearest(prices), points.nearest(prices))
        # The price points on either side of the current price, which the ratios may step over.
        beside = np.stack([points.below(current), points.above(current)], axis=1)
        prices = np.concatenate([prices, np.where(gives_way[:, None], prices[:, :2], beside)], axis=1)
        on_point = np.abs(points.nearest(current) - current) <= NEAR / self.grid.per_unit  # it is a whole step
        only_one = ~gives_way & (low == high) & (limit.low < limit.high)
        limit = limit._replace(
            low=np.where(gives_way, limit.low, low),
            high=np.where(gives_way, limit.high, high),
            low_by=np.where(only_one, NUMBER["price_rung"], limit.low_by),
            gave_way=limit.gave_way | gives_way * NO_PRICE_POINT,
        )
        return prices, limit, gives_way | on_point


def _nearest_allowed(prices: Floats, place: Ints, allowed: Bools) -> Ints:
    """(request,) the column nearest to the current price's, which is in `place`; that itself where it is allowed."""
    if allowed.all():
        return place
    rows, last = np.arange(len(place)), prices.shape[1] - 1
    below, above = np.maximum(place - 1, 0), np.minimum(place + 1, last)
    down, up = prices[rows, place] - prices[rows, below], prices[rows, above] - prices[rows, place]
    lower = (place > 0) & ((down <= up) | (place == last))
    return np.where(allowed, place, np.where(lower, below, above))
