"""Between which prices a decision may move, which guardrail set each limit, and which had to give way."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import Guardrails
from pricing.decision.context import Circumstances
from pricing.decision.reasons import GAVE_WAY, GUARDRAILS

NUMBER = {name: place for place, name in enumerate(GUARDRAILS)}


@dataclass(frozen=True, slots=True)
class Limits:
    """The allowed interval of each request; never empty.

    Attributes:
        low: (request,) lowest allowed price.
        high: (request,) highest allowed price, at least `low`.
        low_by: (request,) number of the guardrail that set `low`.
        high_by: (request,) number of the guardrail that set `high`.
        gave_way: (request,) reason bits of the guardrails that had to give way.
        ceiling: (request,) whether the interval shrank to its upper end, which no rounding may pass.
    """

    low: Floats
    high: Floats
    low_by: Ints
    high_by: Ints
    gave_way: Ints
    ceiling: Bools


def limits(these: Circumstances, config: Guardrails) -> Limits:
    """Lays the guardrails over one another, the strongest first.

    Each one cuts the interval that the stronger ones left. Where it does not meet that interval it gives way as
    little as it can: the interval shrinks to its end nearest to the guardrail. So a cost above the band around list
    gives exactly the cost.
    """
    low = these.unit_cost
    least, most = these.list_price * config.band[0], these.list_price * config.band[1]
    below = most < low
    above = least > low
    limits_ = Limits(
        np.maximum(least, low),
        np.maximum(most, low),
        above * NUMBER["band"],
        ~below * NUMBER["band"],
        below * GAVE_WAY[NUMBER["band"]],
        np.zeros(len(low), bool),
    )
    for name, least, most in _guardrails(these, config):
        limits_ = _cut(limits_, NUMBER[name], least, most)
    return limits_


def _cut(by: Limits, number: int, least: Floats, most: Floats) -> Limits:
    """The limits with one more guardrail laid over them."""
    above, below = least > by.high, most < by.low  # it asks for more, or less, than the stronger ones allow
    low = np.minimum(np.maximum(least, by.low), by.high)
    high = np.maximum(np.minimum(most, by.high), by.low)
    return Limits(
        low,
        high,
        np.where(low > by.low, np.where(above, by.high_by, number), by.low_by),
        np.where(high < by.high, np.where(below, by.low_by, number), by.high_by),
        by.gave_way | (above | below) * GAVE_WAY[number],
        np.where(by.low < by.high, above, by.ceiling),
    )


def _guardrails(these: Circumstances, config: Guardrails) -> Iterator[tuple[str, Floats, Floats]]:
    """Every further guardrail that is on, with the interval it asks for; -inf and inf where it does not apply."""
    # A list price may be our own prices handed back by the shop; the anchor cannot be.
    yield (
        "anchor",
        np.where(np.isnan(these.anchor_price), -np.inf, these.anchor_price * config.band[0]),
        np.where(np.isnan(these.anchor_price), np.inf, these.anchor_price * config.band[1]),
    )
    if config.min_margin:
        yield "min_margin", these.unit_cost / (1 - config.min_margin), np.full_like(these.list_price, np.inf)
    if config.min_advertised is not None:
        least = np.where(these.is_promo, these.list_price * config.min_advertised, -np.inf)
        yield "min_advertised", least, np.full_like(least, np.inf)
    if config.min_days:
        fixed = these.current_known & (these.days_since_change < config.min_days)
        yield (
            "min_days",
            np.where(fixed, these.current_price, -np.inf),
            np.where(fixed, these.current_price, np.inf),
        )
    if config.max_move is not None:
        move = np.where(these.current_known, config.max_move, np.inf)
        yield "max_move", these.current_price * (1 - move), these.current_price * (1 + move)
    if config.seen is not None:
        # Where the cost is only assumed, a price that nobody ever charged may lie below the real one.
        beyond = np.where(these.cost_assumed, 0.0, config.seen)
        yield (
            "seen",
            np.where(np.isnan(these.seen_low), -np.inf, these.seen_low * (1 - beyond)),
            np.where(np.isnan(these.seen_high), np.inf, these.seen_high * (1 + config.seen)),
        )
    if config.comp_band is not None:
        known = np.isfinite(these.comp_price)
        yield (
            "comp_band",
            np.where(known, these.comp_price * config.comp_band[0], -np.inf),
            np.where(known, these.comp_price * config.comp_band[1], np.inf),
        )
