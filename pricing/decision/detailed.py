"""A decision with the figures behind it, as the decision log stores them."""

import datetime as dt
from typing import NamedTuple

import numpy as np

from pricing.data.net_price import unit_profit, with_tax
from pricing.decision.decide import Choices
from pricing.decision.experiments import Assignment
from pricing.decision.reasons import CODES
from pricing.decision.request import Decision
from pricing.decision.resolve import ResolvedBatch

SUMMARY = 9  # candidates that the decision log keeps of each decision


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


def details(batch: ResolvedBatch, choices: Choices, decisions: list[Decision]) -> list[DetailedDecision]:
    """Adds to each decision of a batch the figures behind it."""
    prices = choices.prices
    chosen = np.linspace(0, prices.shape[1] - 1, SUMMARY).astype(np.intp)
    first, weight = choices.grid.first[:, :, chosen].astype(np.float64), choices.grid.weight
    units = weight @ first
    # The mixture of nodes has variance E[m + m² / r] + Var(m); one negative binomial of its mean has this size.
    with np.errstate(all="ignore"):
        beyond = weight @ (first * first) / (units * units)
        sizes = 1 / (beyond - 1 + beyond / choices.grid.first_size[:, None])
    context = batch.context
    current = zip(context.current_price.tolist(), context.current_known, strict=True)
    columns = (  # in the order of DetailedDecision
        decisions,
        batch.dates,
        (category or None for category in batch.categories),
        (now if known else None for now, known in current),
        context.list_price.tolist(),
        context.unit_cost.tolist(),
        context.tax_rate.tolist(),
        prices[:, chosen].tolist(),
        units.tolist(),
        sizes.tolist(),
        choices.best.tolist(),
        choices.target.tolist(),
        choices.wanted.tolist(),
        choices.settled.tolist(),
        choices.against.tolist(),
        map(_followed, batch.assigned, decisions),
        np.broadcast_to(choices.grid.unit, len(prices)).tolist(),
    )
    return [DetailedDecision(*row) for row in zip(*columns, strict=True)]


def _followed(asked: Assignment | None, decision: Decision) -> Assignment | None:
    """What was asked of a decision, but for a challenger's arm that another version answered."""
    if asked is not None and asked.arm.kind == "challenger" and asked.arm.of != decision.model_version:
        return None
    return asked


# Reasons that say how a price was chosen, and so nothing of one that a person gave.
_OF_CHOICE = frozenset(
    {"low_confidence", "held", "elasticity_unidentified", "elasticity_from_category", "outside_seen_prices", "holdout"}
    | {"price_test", "stock_short"}
)


def as_frozen(kept: DetailedDecision) -> DetailedDecision:
    """The answer of a product that was priced as a held-out one, where a person has frozen its price."""
    reasons = ["frozen" if reason == "holdout" else reason for reason in kept.decision.reasons]
    return kept._replace(decision=kept.decision.model_copy(update={"reasons": reasons}), experiment=None)


def as_overridden(kept: DetailedDecision, *, price: float, units: float, raised: bool) -> DetailedDecision:
    """The answer with a price that a person gave; `raised` where that lay below cost, and was raised to it.

    Its confidence is that of a price that is sure to be charged: no model is asked.
    """
    said = {reason for reason in kept.decision.reasons if not reason.startswith(("at_", "gave_way_"))} - _OF_CHOICE
    said |= {"overridden"} | ({"at_cost"} if raised else set())
    profit = unit_profit(price, kept.unit_cost, tax_rate=kept.tax_rate)
    if price < with_tax(kept.unit_cost, kept.tax_rate):
        said.add("below_cost")
    changes = {
        "recommended_price": price,
        "confidence": 1.0,
        "price_range": (price, price),
        "expected_units": units,
        "expected_margin": units * profit,
        "source": "override",
        "reasons": [code for code in CODES if code in said],
    }
    return kept._replace(decision=kept.decision.model_copy(update=changes), experiment=None)
