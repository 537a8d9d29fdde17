"""Guardrails laid over one another: the interval in which the price of each request may lie.

They are laid the strongest first. One that does not meet what the stronger ones left gives way; those at which a price
stands are named.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import Guardrails
from pricing.data.net_price import net_price, price_at_margin, with_tax
from pricing.decision.reasons import BIT, GAVE_WAY, GUARDRAILS

NUMBER = {name: place for place, name in enumerate(GUARDRAILS)}
EDGE = 1e-9  # relative; what floating point may lose at a limit
NEAR = 1e-6  # relative; prices nearer than this are one price, as single precision holds seven digits
_BINDS = np.array([BIT[name] for name in GUARDRAILS], dtype=np.int64)
_COST = NUMBER["cost"]
# A cost above these gives exactly the cost: it must not free the price to go anywhere. # decision 101
_YIELD_TO_COST = ("largest_jump", "band")


@dataclass(frozen=True, slots=True)
class HardContext:
    """The (request,) columns that the hard guardrails rest on, in currency units, costs without tax."""

    current_price: Floats  # charged now, above 0; the list price where there is none
    list_price: Floats  # regular price, above 0
    unit_cost: Floats  # cost of a unit, above 0
    tax_rate: Floats  # tax that prices include, a fraction of the net price
    cost_assumed: Bools  # the configured margin stands in for a cost that nobody gave
    last_price: Floats  # charged last, says the sales history (`last_price.last_prices`); NaN where unknown
    anchor_price: Floats  # regular price that a person last set; NaN where unknown

    def __len__(self) -> int:
        return len(self.current_price)

    @property
    def cost_floor(self) -> Floats:
        """(request,) the lowest price that covers the cost once tax is paid."""
        return np.asarray(with_tax(self.unit_cost, self.tax_rate))


@dataclass(frozen=True, slots=True)
class PricingContext(HardContext):
    """A batch of requests as columns of one length: what the hard guardrails rest on, and all else."""

    current_known: Bools
    cost_sd: Floats  # standard deviation of the doubt about the cost; 0 where it is known
    comp_price: Floats  # the competitor's price; NaN where unknown or too old
    stock: Floats  # units on hand; infinite where unknown, so that they set no limit
    supply: Floats  # the same where it is known when the next delivery comes; infinite elsewhere
    anchor: Floats  # `anchor_price` moved by what costs have done since, else list price: steps start from it
    seen_low: Floats  # lowest price that a person has ever charged; NaN where unknown
    seen_high: Floats  # highest such price
    others_margin: Floats  # of the other products of its category, a fraction of their net price; 0 where unknown
    is_promo: Bools  # where the offer is advertised
    days_since_change: Floats  # days from the last change of price to the day priced; infinite where unknown
    target_margin: Floats | None  # fraction of price that the category should earn; NaN where it is free
    strategy: Ints  # number of the strategy in the policy's list
    keep: Ints  # bits of the reasons for which the current price is kept, whatever it costs; 0: it is not
    test_base: Floats | None = None  # price from which an experiment's draw has the price chosen; NaN without a draw
    test_draw: Floats | None = None  # log of the factor that it drew for the chosen price
    test_size: Floats | None = None  # largest log of a factor that it might have drawn
    field_elasticity: Floats | None = None  # of a cut at worst; NaN where the configuration has none


def forgone(context: PricingContext, diverted: Floats | float, *, margin: Floats) -> Floats:
    """(request,) money that other products earn by a unit not sold: the share `diverted` of its net regular price.

    Of that they keep `margin`, a fraction: `others_margin`, or 1 where no cost counts.
    """
    return np.asarray(diverted * net_price(context.anchor, context.tax_rate) * margin)


class Limits(NamedTuple):
    """The allowed interval of each request, (request,) each; never empty."""

    low: Floats  # lowest allowed price
    high: Floats  # highest, at least `low`
    low_by: Ints  # number of the guardrail that set `low`
    high_by: Ints
    gave_way: Ints  # reason bits of the guardrails that had to give way

    def holds(self, prices: Floats) -> Bools:
        """True for prices between the limits, as far as floating point can tell."""
        return (prices >= self.low * (1 - EDGE)) & (prices <= self.high * (1 + EDGE))

    def reasons(self, price: Floats, *, stays: Bools) -> Ints:
        """(request,) reason bits of the guardrails that gave way, and of those at which a price stands.

        None of the latter where it `stays`: it is the current price for another reason than a limit.
        """
        at_low = (price <= self.low) & ~stays
        at_high = (price >= self.high) & ~stays
        return self.gave_way | at_low * _BINDS[self.low_by] | at_high * _BINDS[self.high_by]


class Rule(NamedTuple):
    """The interval that a guardrail asks for, (request,) each; an end that is NaN or infinite asks for nothing."""

    name: str
    low: Floats
    high: Floats | float = np.inf


def flagged(**flags: Bools) -> Ints:
    """(request,) bits of the codes whose flags (request,) are set."""
    return np.asarray(np.array([BIT[code] for code in flags]) @ np.array(list(flags.values())))


def limits(context: PricingContext, config: Guardrails, *, largest_jump: float | None = None) -> Limits:
    """The limits of all guardrails; `largest_jump` is the largest distance from the last price charged, a fraction."""
    return _laid(rules(context, config, largest_jump=largest_jump), context, largest_jump)


def hard_limits(context: HardContext, config: Guardrails, *, largest_jump: float | None = None) -> Limits:
    """The limits of cost, largest jump and bands alone."""
    return _laid(_hard_rules(context, config, largest_jump), context, largest_jump)


def rules(context: PricingContext, config: Guardrails, *, largest_jump: float | None) -> Iterator[Rule]:
    """Yields every guardrail but the cost that is on, the strongest first."""
    return chain(_hard_rules(context, config, largest_jump), _soft_rules(context, config))


def _laid(asked: Iterable[Rule], context: HardContext, largest_jump: float | None) -> Limits:
    """Lays rules over the cost, the strongest first; each cuts the interval that the stronger ones left.

    One that does not meet it gives way, as if it were not configured. One that floating point alone parts from the
    interval's end meets it there: 0.7 × 8.3 is a little more than 5.81.
    """
    low = _floor(context, largest_jump)
    high = np.full(len(low), np.inf)
    low_by = np.full(len(low), _COST)
    high_by = low_by
    gave_way = np.zeros(len(low), np.int64)

    for name, least, most in asked:
        above = least > high * (1 + EDGE)
        below = most < low * (1 - EDGE)
        raised = np.minimum(least, high)
        lowered = np.maximum(most, low)
        raises = raised > low
        lowers = lowered < high

        apart = above | below  # it gives way # decision 80
        if np.count_nonzero(apart):
            gave_way |= apart * GAVE_WAY[name]
            raises &= ~apart
            lowers &= ~apart
            if name in _YIELD_TO_COST:
                at_cost = below & (low_by == _COST)
                high = np.where(at_cost, low, high)
                high_by = np.where(at_cost, _COST, high_by)

        if np.count_nonzero(raises):
            low = np.where(raises, raised, low)
            low_by = np.where(raises, NUMBER[name], low_by)
        if np.count_nonzero(lowers):
            high = np.where(lowers, lowered, high)
            high_by = np.where(lowers, NUMBER[name], high_by)
    return Limits(low, high, low_by, high_by, gave_way)


def _floor(context: HardContext, largest_jump: float | None) -> Floats:
    """The price that covers the cost; 0 where that is only assumed and lies beyond the largest jump.

    An assumed cost is a share of the list price, and is wrong wherever that is.
    """
    floor = context.cost_floor
    if largest_jump is None or not context.cost_assumed.any():
        return floor
    beyond = floor > context.last_price * (1 + largest_jump)
    return np.where(context.cost_assumed & beyond, 0.0, floor)


def _hard_rules(context: HardContext, config: Guardrails, largest_jump: float | None) -> Iterator[Rule]:
    """Those that hold for a frozen price, too."""
    if largest_jump is not None:
        yield _around("largest_jump", context.last_price, (1 - largest_jump, 1 + largest_jump))
    yield _around("band", context.list_price, config.band)
    # A list price may be our own prices handed back by the shop; the anchor cannot be.
    yield _around("anchor", context.anchor_price, config.band)


def _soft_rules(context: PricingContext, config: Guardrails) -> Iterator[Rule]:
    """Those of the configuration that a person's freeze goes before."""
    if config.min_margin:
        yield Rule("min_margin", price_at_margin(context.unit_cost, config.min_margin, tax_rate=context.tax_rate))
    if config.min_advertised is not None:
        yield Rule("min_advertised", np.where(context.is_promo, context.list_price, np.nan) * config.min_advertised)

    current = np.where(context.current_known, context.current_price, np.nan)
    if config.min_days:
        fixed = np.where(context.days_since_change < config.min_days, current, np.nan)
        yield Rule("min_days", fixed, fixed)
    if config.max_move is not None:
        yield _around("max_move", current, (1 - config.max_move, 1 + config.max_move))

    if config.seen is not None:
        # Where the cost is only assumed, a price that nobody ever charged may lie below the real one.
        beyond = np.where(context.cost_assumed, 0.0, config.seen)
        yield Rule("seen", context.seen_low * (1 - beyond), context.seen_high * (1 + config.seen))
    if config.comp_band is not None:
        yield _around("comp_band", context.comp_price, config.comp_band)


def _around(name: str, price: Floats, band: tuple[float, float]) -> Rule:
    least, most = band
    return Rule(name, price * least, price * most)
