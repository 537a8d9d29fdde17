"""What a price is chosen under, and which may be charged: guardrails laid over one another, price points between them.

A guardrail that does not meet what the stronger ones left gives way; those at which a price stands are named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DecisionConfig, Guardrails
from pricing.data.net_price import price_at_margin, with_tax
from pricing.decision.reasons import BIT, GAVE_WAY, GUARDRAILS

NUMBER = {name: place for place, name in enumerate(GUARDRAILS)}
EDGE = 1e-9  # relative; what floating point may lose at a limit
SLACK = 1e-9  # steps of price; the same
NEAR = 1e-6  # relative; prices nearer than this are one price, as single precision holds seven digits
CANDIDATES = 33  # prices at which the objective is computed; between them it is a parabola
# What switches off every guardrail of the configuration but the band and the price points.
SOFT_OFF: dict[str, Any] = {"min_margin": 0.0, "min_days": 0} | dict.fromkeys(
    ("min_advertised", "max_move", "seen", "comp_band")
)
NO_PRICE_POINT = GAVE_WAY["price_rung"]  # no price point lies between the limits
_BINDS = np.array([BIT[name] for name in GUARDRAILS], dtype=np.int64)
_COST, _INF = NUMBER["cost"], np.inf
_PLACES = np.linspace(0.0, 1.0, CANDIDATES)
_MEETS = np.array([[1 + EDGE], [1 - EDGE]])


@dataclass(frozen=True, slots=True)
class PricingContext:
    """A batch of requests as columns of one length. Prices and costs in currency units, costs without tax."""

    current_price: Floats  # charged now, above 0; the list price where there is none
    current_known: Bools
    list_price: Floats  # regular price, above 0
    unit_cost: Floats  # cost of a unit, above 0
    tax_rate: Floats  # tax that prices include, a fraction of the net price
    cost_sd: Floats  # standard deviation of the doubt about the cost; 0 where it is known
    cost_assumed: Bools  # the configured margin stands in for a cost that nobody gave
    comp_price: Floats  # the competitor's price; NaN where unknown or too old
    stock: Floats  # units on hand; infinite where unknown, so that they set no limit
    supply: Floats  # the same where it is known when the next delivery comes; infinite elsewhere
    last_price: Floats  # charged last, says the sales history (`last_price.last_prices`); NaN where unknown
    anchor_price: Floats  # regular price that a person last set; NaN where unknown
    anchor: Floats  # the same moved by what costs have done since, else list price: steps start from it
    seen_low: Floats  # lowest price that a person has ever charged; NaN where unknown
    seen_high: Floats  # highest such price
    is_promo: Bools  # where the offer is advertised
    days_since_change: Floats  # days from the last change of price to the day priced; infinite where unknown
    target_margin: Floats | None  # fraction of price that the category should earn; NaN where it is free
    strategy: Ints  # number of the strategy in the policy's list
    keep: Ints  # bits of the reasons for which the current price is kept, whatever it costs; 0: it is not
    test_base: Floats | None = None  # price from which an experiment's draw has the price chosen; NaN without a draw
    test_draw: Floats | None = None  # log of the factor that it drew for the chosen price

    def __len__(self) -> int:
        return len(self.current_price)

    @property
    def cost_floor(self) -> Floats:
        """(request,) the lowest price that covers the cost once tax is paid."""
        return np.asarray(with_tax(self.unit_cost, self.tax_rate))


class Limits(NamedTuple):
    """The allowed interval of each request, (request,) each; never empty."""

    low: Floats  # lowest allowed price
    high: Floats  # highest, at least `low`
    low_by: Ints  # number of the guardrail that set `low`
    high_by: Ints
    gave_way: Ints  # reason bits of the guardrails that had to give way

    def holds(self, prices: Floats) -> Bools:
        """Tells whether prices lie between the limits, as far as floating point can tell."""
        return np.asarray((prices >= self.low * (1 - EDGE)) & (prices <= self.high * (1 + EDGE)))

    def reasons(self, price: Floats, *, stays: Bools) -> Ints:
        """(request,) reason bits of the guardrails that gave way, and of those at which a price stands.

        None of the latter where it `stays`: it is the current price for another reason than a limit.
        """
        at_low, at_high = (price <= self.low) & ~stays, (price >= self.high) & ~stays
        return np.asarray(self.gave_way | at_low * _BINDS[self.low_by] | at_high * _BINDS[self.high_by])


def flagged(**flags: Bools) -> Ints:
    """(request,) bits of the codes whose flags (request,) are set."""
    return np.asarray(np.array([BIT[code] for code in flags]) @ np.array(list(flags.values())))


def limits(context: PricingContext, config: Guardrails, *, largest_jump: float | None = None) -> Limits:
    """Lays the guardrails over one another, the strongest first.

    Each one cuts the interval that the stronger ones left. One that does not meet it gives way, as if it were not
    configured. One that floating point alone parts from the interval's end meets it there: 0.7 × 8.3 is a little more
    than 5.81. A cost above the largest jump or the band around list gives exactly the cost: it must not free the price
    to go anywhere. `largest_jump` is the largest distance from the last price charged, a fraction of it; None: any.
    """
    ends = np.array([context.cost_floor, np.full(len(context), -_INF)])  # (2, request) low and minus high
    if largest_jump is not None and context.cost_assumed.any():
        # An assumed cost is a share of the list price, and is wrong wherever that is.
        ends[0, context.cost_assumed & (ends[0] > context.last_price * (1 + largest_jump))] = 0.0
    by, gave_way = np.full(ends.shape, _COST), np.zeros(len(context), np.int64)
    for name, asked in _guardrails(context, config, largest_jump=largest_jump):
        opposite = -ends[::-1]
        apart = asked > opposite * _MEETS
        cut = np.minimum(asked, opposite)
        tighter = cut > ends
        if np.count_nonzero(apart):
            gives_way = apart.any(axis=0)
            gave_way |= gives_way * GAVE_WAY[name]
            tighter &= ~gives_way
            if name in ("largest_jump", "band"):
                held = apart[1] & (by[0] == _COST)
                ends[1], by[1] = np.where(held, -ends[0], ends[1]), np.where(held, _COST, by[1])
        ends = np.where(tighter, cut, ends)
        by = np.where(tighter, NUMBER[name], by)
    return Limits(low=ends[0], high=-ends[1], low_by=by[0], high_by=by[1], gave_way=gave_way)


def _guardrails(
    context: PricingContext, config: Guardrails, *, largest_jump: float | None
) -> Iterator[tuple[str, Floats]]:
    """Every guardrail but the cost that is on, strongest first, and the ends (2, request) it asks for.

    They are the low one and minus the high one, so that the larger is the stricter; NaN and −inf ask for nothing.
    """
    if largest_jump is not None:
        yield "largest_jump", context.last_price * _ends(1 - largest_jump, 1 + largest_jump)
    yield "band", context.list_price * _ends(*config.band)
    # A list price may be our own prices handed back by the shop; the anchor cannot be.
    yield "anchor", context.anchor_price * _ends(*config.band)
    if config.min_margin:
        least = price_at_margin(context.unit_cost, config.min_margin, tax_rate=context.tax_rate)
        yield "min_margin", least * _ends(1.0, _INF)
    if config.min_advertised is not None:
        listed = np.where(context.is_promo, context.list_price, np.nan)
        yield "min_advertised", listed * _ends(config.min_advertised, _INF)
    current = np.where(context.current_known, context.current_price, np.nan)
    if config.min_days:
        yield "min_days", np.where(context.days_since_change < config.min_days, current, np.nan) * _ends(1.0, 1.0)
    if config.max_move is not None:
        yield "max_move", current * _ends(1 - config.max_move, 1 + config.max_move)
    if config.seen is not None:
        # Where the cost is only assumed, a price that nobody ever charged may lie below the real one.
        beyond = np.where(context.cost_assumed, 0.0, config.seen)
        yield "seen", np.array([context.seen_low * (1 - beyond), context.seen_high * -(1 + config.seen)])
    if config.comp_band is not None:
        yield "comp_band", context.comp_price * _ends(*config.comp_band)


@lru_cache
def _ends(low: float, high: float) -> Floats:
    """(2, 1) a low end, and minus a high one."""
    ends = np.array(((low,), (-high,)))
    ends.setflags(write=False)  # all threads share it
    return ends


class PriceGrid:
    """Prices that are whole multiples of the smallest step, `per_unit` of which make a currency unit."""

    def __init__(self, step: float) -> None:
        self.per_unit = 1.0 / step if abs(1.0 / step - round(1.0 / step)) > SLACK else float(round(1.0 / step))

    def above(self, prices: Floats | float) -> Floats:
        """The lowest price point at or above each price, above 0."""
        return np.asarray(np.maximum(np.ceil(prices * self.per_unit - SLACK), 1.0) / self.per_unit)

    def below(self, prices: Floats | float) -> Floats:
        """The highest price point at or below each price; not above 0 where there is none."""
        return np.asarray(np.floor(prices * self.per_unit + SLACK) / self.per_unit)

    def nearest(self, prices: Floats | float) -> Floats:
        """The price point nearest to each price, above 0; ascending prices give price points that do not descend."""
        return np.asarray(np.maximum(np.floor(prices * self.per_unit + 0.5), 1.0) / self.per_unit)

    def moved(self, prices: Floats, before: Floats) -> Bools:
        """Whether each price is another one than before, in whole steps; what is unknown is not."""
        return np.asarray(np.abs(self.nearest(prices) - self.nearest(before)) > 0)


class PriceEndings:
    """Prices that end in one of a few amounts within a unit, such as .49 and .99 within 1; methods as of PriceGrid."""

    def __init__(self, endings: list[float], *, unit: float, step: float) -> None:
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
        below, above = self.below(prices), self.above(prices)
        return np.where((prices - below <= above - prices) & (below > 0), below, above)

    def _point(self, base: Floats, place: NDArray[np.integer]) -> Floats:
        carry, place = np.divmod(place, len(self._endings))
        points = (base + carry) * self._unit + self._endings[place]
        return np.asarray(np.rint(points * self._per_unit) / self._per_unit)


class AllowedPrices:
    """The prices that may be charged: price points between the guardrails' limits, and the `grid` of smallest steps."""

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None) -> None:
        """Prepares the price points; `largest_jump` is as in `guardrails.limits`."""
        given, self.grid, self.largest_jump = config.guardrails, PriceGrid(config.price_step), largest_jump
        self._guardrails, self._bands = given, given.model_copy(update=SOFT_OFF)
        self._points: PriceGrid | PriceEndings = self.grid
        if given.endings:
            self._points = PriceEndings(given.endings, unit=given.ending_unit, step=config.price_step)

    def candidates(self, context: PricingContext) -> Floats:
        """(request, candidate) prices between cost and band around the regular price, evenly spaced in log price."""
        low, high = np.log(context.anchor * np.array([[end] for end in self._guardrails.band]))
        low = np.maximum(low, np.log(context.cost_floor))
        reach = np.maximum(high - low, 1e-4)  # where the cost lies above the band
        return np.asarray(np.exp(low[:, None] + reach[:, None] * _PLACES))

    def limits(self, context: PricingContext) -> Limits:
        """The guardrails' limits, moved inwards to price points; to whole steps where no price point lies between them.

        Where no whole step does either: to the one of the two steps beside them that cost, largest jump and bands
        allow; where they allow both or neither, down where the upper end's guardrail is the stronger one, if that
        covers the cost, else up.
        """
        limit = limits(context, self._guardrails, largest_jump=self.largest_jump)
        low, high, gave_way = self.grid.above(limit.low), self.grid.below(limit.high), limit.gave_way
        empty = low > high
        if empty.any():
            bands = limits(context, self._bands, largest_jump=self.largest_jump)
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
        """(…, request) the allowed price nearest to each of `prices` (…, request)."""
        inside = np.minimum(np.maximum(prices, limit.low), limit.high)
        steps = self.grid.nearest(inside)
        if self._points is not self.grid:
            steps = np.where(limit.gave_way & NO_PRICE_POINT, steps, self._points.nearest(inside))
        return np.minimum(np.maximum(steps, limit.low), limit.high)

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
