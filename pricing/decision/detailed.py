"""A decision with the figures behind it, as the decision log stores them."""

import datetime as dt
from typing import Any, NamedTuple

from pricing.data.net_price import unit_profit, with_tax
from pricing.decision.experiments import Assignment
from pricing.decision.guardrails import NEAR
from pricing.decision.reasons import REASONS
from pricing.decision.request import Decision, Spread


class DetailedDecision(NamedTuple):
    """A decision with the figures behind it, for the decision log."""

    decision: Decision
    date: dt.date  # first day of the period priced
    category: str | None
    current_price: float | None
    list_price: float  # this and the next two: given, known or assumed
    unit_cost: float  # without tax
    tax_rate: float  # a fraction of the net price
    candidate_prices: list[float]  # nine prices that were considered, ascending
    candidate_units: list[float]  # demand expected at each over the requested period, stock apart
    candidate_sizes: list[float]  # size of the negative binomial with the mean and variance that are forecast at each
    best: float  # the price that cost and elasticity ask for with ample stock
    target: float  # the same as far as the step goes
    wanted: float  # the target with the stock that there is
    settled: float  # the price without a draw
    against: float  # the price that its confidence compares it with
    experiment: Assignment | None = None
    unit: float = 1.0  # the amount that the negative binomials count as one
    proposed: Decision | None = None  # what waits for a person's approval; all figures above but the decision are of it


# Reasons that say how a price was chosen, and so nothing of one that a person gave.
_OF_CHOICE = frozenset(
    {"low_confidence", "held", "elasticity_unidentified", "elasticity_from_category", "outside_seen_prices", "holdout"}
    | {"frozen", "price_test", "stock_short"}
)


def as_waiting(proposed: DetailedDecision, *, price: float, units: float, raised: bool) -> DetailedDecision:
    """The answer with the price that was approved last, while the proposal waits; `raised` as in `with_price`."""
    decision = proposed.decision
    stays = proposed.current_price is not None and abs(price / proposed.current_price - 1) <= NEAR
    gain = Spread(mean=0.0, low=0.0, high=0.0) if stays else None
    doubt = {"confidence": round(1 - decision.confidence, 4), "source": "rule", "expected_gain": gain}
    found = with_price(proposed, "awaiting_approval", price=price, units=units, raised=raised, **doubt)
    return found._replace(proposed=decision)


def with_price(
    kept: DetailedDecision, code: str, *, price: float, units: float, raised: bool, **more: Any
) -> DetailedDecision:
    """The answer with a price that no model chose, for a reason; `raised` where it lay below cost, and is cost now."""
    said = {*kept.decision.reasons, code} - _OF_CHOICE
    profit = unit_profit(price, kept.unit_cost, tax_rate=kept.tax_rate)
    if price < with_tax(kept.unit_cost, kept.tax_rate) * (1 - NEAR):
        said.add("below_cost")
    changes = {
        "recommended_price": price,
        "price_range": (price, price),
        "expected_units": units,
        "expected_margin": units * profit,
        "reasons": [code for code in REASONS if code in said],
        "binds": ["cost"] if raised else [],
        "gave_way": [],
    }
    return kept._replace(decision=kept.decision.model_copy(update=changes | more), experiment=None)
