"""The guardrails: between which prices a decision may move, which of them set each limit, and which had to give way."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import Guardrails
from pricing.data.net_price import price_at_margin
from pricing.decision.context import PricingContext
from pricing.decision.reasons import AT, GAVE_WAY, GUARDRAILS

NUMBER = {name: place for place, name in enumerate(GUARDRAILS)}
EDGE = 1e-9  # relative; what floating point may lose at a limit
_INF = np.inf
# What switches off every guardrail of the configuration but the band and the price points.
SOFT_OFF: dict[str, Any] = {"min_margin": 0.0, "min_days": 0} | dict.fromkeys(
    ("min_advertised", "max_move", "seen", "comp_band")
)
NO_PRICE_POINT = int(GAVE_WAY[NUMBER["price_rung"]])  # reason bit: no price point lies between the limits


class Limits(NamedTuple):
    """The allowed interval of each request, (request,) each; never empty."""

    low: Floats  # lowest allowed price
    high: Floats  # highest, at least `low`
    low_by: Ints  # number of the guardrail that set `low`
    high_by: Ints
    gave_way: Ints  # reason bits of the guardrails that had to give way

    def holds(self, prices: Floats) -> Bools:
        """Whether prices lie between the limits, as far as floating point can tell."""
        return np.asarray((prices >= self.low * (1 - EDGE)) & (prices <= self.high * (1 + EDGE)))

    def reasons(self, price: Floats, *, stays: Bools) -> Ints:
        """(request,) reason bits of the guardrails that gave way, and of those at which a price stands.

        None of the latter where it `stays`: it is the current price for another reason than a limit.
        """
        at_low, at_high = (price <= self.low) & ~stays, (price >= self.high) & ~stays
        return np.asarray(self.gave_way | at_low * AT[self.low_by] | at_high * AT[self.high_by])


def limits(context: PricingContext, config: Guardrails, *, largest_jump: float | None = None) -> Limits:
    """Lays the guardrails over one another, the strongest first.

    Each one cuts the interval that the stronger ones left. One that does not meet that interval gives way: it has no
    effect at all, as if it were not configured. One that floating point alone parts from the interval's end meets it
    there: 0.7 × 8.3 is a little more than 5.81. A cost above the largest jump or above the band around list, which is
    always there, gives exactly the cost: it must not free the price to go anywhere. `largest_jump` is the largest
    distance from the last price charged, a fraction of it; None: any.
    """
    where = np.where
    low, high = context.cost_floor, np.full(len(context), _INF)
    if largest_jump is not None:  # an assumed cost is a share of the list price, and is wrong wherever that is
        low = where(context.cost_assumed & (low > context.last_price * (1 + largest_jump)), 0.0, low)
    low_by = high_by = np.full(len(context), NUMBER["cost"])
    gave_way = np.zeros(len(context), np.int64)
    for name, bottom, top in _guardrails(context, config, largest_jump=largest_jump):
        number = NUMBER[name]
        asked_low, asked_high = where(np.isfinite(bottom), bottom, -_INF), where(np.isfinite(top), top, _INF)
        meets = (asked_low <= high * (1 + EDGE)) & (asked_high >= low * (1 - EDGE))
        least, most = np.minimum(asked_low, high), np.maximum(asked_high, low)
        raises, lowers = meets & (least > low), meets & (most < high)
        gave_way = gave_way | ~meets * GAVE_WAY[number]
        low, low_by = where(raises, least, low), where(raises, number, low_by)
        high, high_by = where(lowers, most, high), where(lowers, number, high_by)
        if name in ("largest_jump", "band"):
            below = ~meets & (asked_high < low) & (low_by == NUMBER["cost"])
            high, high_by = where(below, low, high), where(below, NUMBER["cost"], high_by)
    return Limits(low=low, high=high, low_by=low_by, high_by=high_by, gave_way=gave_way)


def _guardrails(
    context: PricingContext, config: Guardrails, *, largest_jump: float | None
) -> Iterator[tuple[str, Floats, Floats]]:
    """Every guardrail but the cost that is on, strongest first, and what it asks for; NaN or infinite for nothing."""
    where, free = np.where, np.full(len(context), _INF)
    if largest_jump is not None:
        yield "largest_jump", context.last_price * (1 - largest_jump), context.last_price * (1 + largest_jump)
    yield "band", context.list_price * config.band[0], context.list_price * config.band[1]
    # A list price may be our own prices handed back by the shop; the anchor cannot be.
    yield "anchor", context.anchor_price * config.band[0], context.anchor_price * config.band[1]
    if config.min_margin:
        yield "min_margin", price_at_margin(context.unit_cost, config.min_margin, tax_rate=context.tax_rate), free
    if config.min_advertised is not None:
        yield "min_advertised", where(context.is_promo, context.list_price * config.min_advertised, -_INF), free
    if config.min_days:
        fixed = context.current_known & (context.days_since_change < config.min_days)
        yield "min_days", where(fixed, context.current_price, -_INF), where(fixed, context.current_price, _INF)
    if config.max_move is not None:
        move = where(context.current_known, config.max_move, _INF)
        yield "max_move", context.current_price * (1 - move), context.current_price * (1 + move)
    if config.seen is not None:
        # Where the cost is only assumed, a price that nobody ever charged may lie below the real one.
        beyond = where(context.cost_assumed, 0.0, config.seen)
        yield "seen", context.seen_low * (1 - beyond), context.seen_high * (1 + config.seen)
    if config.comp_band is not None:
        yield "comp_band", context.comp_price * config.comp_band[0], context.comp_price * config.comp_band[1]
