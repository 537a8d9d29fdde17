"""A person's word on prices: what waits for approval, what is charged meanwhile, what a freeze or an override keeps.

Every rule works on columns, of one price as of a whole price table: the service and the console call the same.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats
from pricing.data.net_price import unit_profit, with_tax
from pricing.decision.allowed_prices import AllowedPrices, PriceGrid
from pricing.decision.limits import EDGE, NEAR, HardContext, PricingContext
from pricing.decision.reasons import BIT, REASONS
from pricing.decision.request import DetailedDecision, Spread

# Reasons that say how a price was chosen, and so nothing of one that a person gave.
_OF_CHOICE = {
    "low_confidence",
    "field_test",
    "held",
    "elasticity_unidentified",
    "elasticity_from_category",
    "outside_seen_prices",
    "holdout",
    "frozen",
    "price_test",
    "stock_short",
}


class Approval(NamedTuple):
    """The outcome for proposed prices, (product,) each."""

    waits: Bools  # a person has to approve the proposal first
    kept: Floats  # the price charged meanwhile
    raised: Bools  # which the cost has raised


def approval(
    proposed: Floats,
    *,
    before: Floats,  # the current price, or list price where that is unknown
    approved: Floats,  # the price that a person approved last; NaN where nobody did
    floor: Floats,  # `cost_step`
    drawn: Bools,  # by an experiment, which a person began: no draw waits
    beyond: float | None,  # largest move that nobody has to approve, a fraction; None: nothing has to be approved
    grid: PriceGrid,
) -> Approval:
    """Holds back each proposal further than `beyond` from the price approved last, or from the one before.

    That price is kept, inside the cost.
    """
    last = np.where(np.isnan(approved), before, grid.nearest(approved))
    kept = np.maximum(last, floor)
    near = np.abs(proposed / kept - 1) <= (np.inf if beyond is None else beyond + EDGE)
    return Approval(waits=~(near | drawn), kept=kept, raised=np.asarray(kept > last))


def cost_step(unit_cost: Floats, tax_rate: Floats, grid: PriceGrid, *, assumed: Bools) -> Floats:
    """(product,) the lowest whole step that covers a cost once tax is paid.

    It is 0 for a cost that is only assumed: a share of the list price moves no price that a person set.
    """
    return np.where(assumed, 0.0, grid.above(with_tax(unit_cost, tax_rate)))


def given_price(price: float, floor: Floats, *, below_cost: bool, grid: PriceGrid) -> Floats:
    """The price that a person gave; at cost where that is higher, unless they said that it may lie below.

    One that is no whole step goes to the nearest one: the step of a version may not be that of the command.
    """
    given = grid.nearest(price)
    return np.broadcast_to(given, floor.shape) if below_cost else np.maximum(given, floor)


def frozen_price(context: HardContext, allowed: AllowedPrices) -> Floats:
    """(product,) the price that a freeze keeps: the nearest to `AllowedPrices.to_freeze` inside the hard guardrails."""
    limit = allowed.hard_limits(context)
    kept = allowed.grid.nearest(allowed.to_freeze(context, limit))
    return np.minimum(np.maximum(kept, limit.low), limit.high)


def as_frozen(context: PricingContext, allowed: AllowedPrices) -> PricingContext:
    """The context of a freeze, in which the price that it keeps is the current one, and stays."""
    now = allowed.to_freeze(context, allowed.hard_limits(context))
    return replace(context, current_price=now, keep=np.full(len(context), BIT["frozen"]))


def as_waiting(proposed: DetailedDecision, *, price: float, units: float, raised: bool) -> DetailedDecision:
    """The answer with the price that is kept while the proposal waits; `raised` as in `with_price`."""
    stays = proposed.current_price is not None and abs(price / proposed.current_price - 1) <= NEAR
    waiting = with_price(
        proposed,
        "awaiting_approval",
        price=price,
        units=units,
        raised=raised,
        confidence=round(1 - proposed.decision.confidence, 4),
        source="rule",
        expected_gain=Spread(mean=0.0, low=0.0, high=0.0) if stays else None,
    )
    return waiting._replace(proposed=proposed.decision)


def with_price(
    kept: DetailedDecision, code: str, *, price: float, units: float, raised: bool, **more: Any
) -> DetailedDecision:
    """The answer with a price that no model chose, for a reason; `raised` where it lay below cost, and is cost now."""
    said = {*kept.decision.reasons, code} - _OF_CHOICE
    if price < with_tax(kept.unit_cost, kept.tax_rate) * (1 - NEAR):
        said.add("below_cost")
    changes = {
        "recommended_price": price,
        "price_range": (price, price),
        "expected_units": units,
        "expected_margin": units * unit_profit(price, kept.unit_cost, tax_rate=kept.tax_rate),
        "reasons": [code for code in REASONS if code in said],
        "binds": ["cost"] if raised else [],
        "gave_way": [],
        "worst_case": None,
    }
    return kept._replace(decision=kept.decision.model_copy(update=changes | more), experiment=None)
