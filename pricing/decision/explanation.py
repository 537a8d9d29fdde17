"""Explain a price by the steps of its decision in money, and units by the terms of their sum."""

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Literal

from pricing.decision.experiments import NO_EXPERIMENTS, Experiments
from pricing.decision.limits import NEAR
from pricing.decision.pricer import Pricer
from pricing.decision.reasons import GUARDRAILS
from pricing.decision.request import DetailedDecision, PriceRequest
from pricing.decision.switches import NO_SWITCHES, Switches

Quantity = Literal["price", "demand"]

UNIT_DIGITS = 4  # significant digits of units
MOST_DECIMALS = 6  # of a price that is given with more than the smallest step of price has
_SENTENCES = {
    "target": "{strategy} at a unit cost of {cost}{elasticity}{diverted}, stock and guardrails apart.",
    "step": "Only part of the way from the regular price: as far as the elasticity is known.",
    "unidentified": "Too little is known of how demand answers to price: it stays, or goes back to the regular one.",
    "stock": "Stock of {stock} until the next delivery.",
    "guardrails": "{binding}.",
    "price_test": "What an experiment drew for this week.",
    "switch": "A person has {done}.",
    "approval": "The price waits for a person's approval.",
    "season": "{weekday}, {date}, rather than a mean period of the next week.",
    "events": "{events}.",
    "price": "The price of {price}, rather than the usual one.",
    "promotion": "The advertised promotion, beyond its price.",
    "competitor": "The competitor at {comp_price}, rather than at his usual price. {competitor}",
}
_HELD = {
    "low_confidence": "The model is too unsure of a move inside the guardrails",
    "held": "Too little is gained by a move inside the guardrails",
    "holdout": "The product is held out to measure by",
}


@dataclass(frozen=True)
class Driver:
    """A step of a decision, or a term of demand."""

    name: str  # a key of _SENTENCES
    effect: float  # in currency or units, rounded so that the effects add up to the difference as printed
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """How a price, or demand, comes about: a start and effects that add up to the value."""

    quantity: Quantity
    decision: DetailedDecision
    baseline_value: float  # charged now (under a draw, at planning), or units of a mean period at the usual price
    value: float  # of the request; rounded, as the other
    digits: int  # decimals of the two and of the effects
    summary: str
    drivers: tuple[Driver, ...]  # in the order of the decision, or of the sum


def explain(
    request: PriceRequest,
    pricer: Pricer,
    *,
    today: dt.date,
    quantity: Quantity = "price",
    experiments: Experiments = NO_EXPERIMENTS,
    switches: Switches = NO_SWITCHES,
    elasticity: float | None = None,  # for the sentences, as it is shown everywhere; None where it is not known
    competitor: str = "",  # a sentence on what the competitor's price does to demand
) -> Explanation:
    """Explains the price of a request, or the units expected at it; raises RequestError where the pricer does.

    A price is explained by the steps of its decision, each less the one before: from the price charged now to what cost
    and elasticity ask for with ample stock, as far as the step goes, with the stock there is, inside the guardrails and
    where a move pays, and by an experiment's draw. Units are a product of terms; the log of each, times the logarithmic
    mean of start and end, is its effect, so that they add up (Ang 2004, doi:10.1016/S0301-4215(03)00076-4).
    """
    (decided,) = pricer.price_detailed([request], today=today, experiments=experiments, switches=switches)
    if quantity == "demand":
        terms = pricer.terms(request, decided.decision.recommended_price, today=today)
        start = math.exp(terms.pop("level"))
        end = start * math.exp(sum(terms.values()))
        mean = start if math.isclose(start, end) else (end - start) / math.log(end / start)
        effects = {name: mean * term for name, term in terms.items() if abs(term) > 1e-6}
        digits = unit_digits(start, end)
    else:
        start, effects = _steps(decided, pricer)
        end = decided.decision.recommended_price
        digits = _money_digits(pricer.policy.config.price_step, start, end)
    rounded = round_together(effects.values(), start=start, end=end, digits=digits)
    words = _words(request, decided, pricer, elasticity) | {"competitor": competitor}
    drivers = tuple(
        Driver(name, effect, _SENTENCES[words["target"] if name == "target" else name].format(**words).strip())
        for name, effect in zip(effects, rounded, strict=True)
    )
    start = round(start, digits)
    end = round(end, digits)
    summary = _summary(quantity, decided, start, end, digits)
    return Explanation(quantity, decided, start, end, digits, summary, drivers)


def main_step(decided: DetailedDecision, pricer: Pricer) -> str:
    """The step that takes a price furthest the way that it goes, an approval apart; empty where the price stays."""
    _, effects = _steps(decided, pricer)
    effects.pop("approval", None)
    way = sum(effects.values())
    return max(effects, key=lambda name: effects[name] * way) if abs(way) > NEAR else ""


def _steps(decided: DetailedDecision, pricer: Pricer) -> tuple[float, dict[str, float]]:
    """The price charged now, and what each step of the decision adds to it."""
    decision = decided.proposed or decided.decision
    price = decision.recommended_price
    reasons = decision.reasons
    now = decided.current_price or float(pricer.policy.allowed.grid.nearest(decided.list_price))
    if {"frozen", "overridden"} & set(reasons):
        return now, {"switch": price - now}

    assigned = decided.experiment
    start = assigned.base if assigned is not None and assigned.deviation is not None else now
    unknown = "elasticity_unidentified" in reasons
    best = decided.target if unknown else decided.best
    effects = {
        "target": best - start,
        "step": decided.target - best,
        "stock": decided.wanted - decided.target,
        "guardrails": decided.settled - decided.wanted,
        "price_test": price - decided.settled,
    }
    if "holdout" in reasons:
        effects = {"guardrails": price - start}
    effects["approval"] = decided.decision.recommended_price - price
    told = "target" if unknown else ""
    return start, {name: effect for name, effect in effects.items() if abs(effect) > 1e-9 or name == told}


def round_together(effects: Iterable[float], *, start: float, end: float, digits: int) -> list[float]:
    """Rounds effects so that, as printed, they lead from the rounded start to the rounded end: by their partial sums.

    An effect of 0 stays 0, and none moves by more than one unit of the last digit. Digits are decimals.
    """
    sums = [round(value, digits) for value in accumulate(effects, initial=start)]
    sums[-1] = round(end, digits)
    return [round(after - before, digits) + 0.0 for before, after in pairwise(sums)]


def unit_digits(*units: float) -> int:
    """Decimals that leave the larger number UNIT_DIGITS significant digits, at most as many."""
    largest = max(*units, 1e-9)
    return min(max(UNIT_DIGITS - 1 - math.floor(math.log10(largest)), 0), UNIT_DIGITS)


def _money_digits(step: float, *prices: float) -> int:
    """Decimals of a price: those of its smallest step, more where a price that is kept has more."""
    digits = max(0, -int(Decimal(repr(step)).normalize().as_tuple().exponent))
    while digits < MOST_DECIMALS and any(abs(round(price, digits) - price) > 1e-9 * price for price in prices):
        digits += 1
    return digits


def _words(
    request: PriceRequest, decided: DetailedDecision, pricer: Pricer, elasticity: float | None
) -> dict[str, str]:
    """The words that the sentences are filled with."""
    decision = decided.proposed or decided.decision
    reasons = decision.reasons
    digits = _money_digits(pricer.policy.config.price_step)
    cost = f"{decided.unit_cost:,.{digits}f}{' (assumed)' if 'cost_assumed' in reasons else ''}"
    whose = " of its category" if "elasticity_from_category" in reasons else ""
    known = f" and an elasticity{whose} of −{abs(elasticity):.2f}" if elasticity is not None else ""
    stock = request.current_stock
    comp_price = decision.comp_price_used
    follows = comp_price is not None and pricer.policy.config.strategies[decision.strategy].kind == "match"
    beside = f" beside a competitor at {comp_price:,.{digits}f}" if follows else ""
    rounding = "The guardrails, and rounding to a price that can be charged"
    binding = next((words for code, words in _HELD.items() if code in reasons), rounding)
    if decision.binds:
        binding = f"The guardrails ({', '.join(GUARDRAILS[name] for name in decision.binds)})"
    return {
        "strategy": f"What the strategy {decision.strategy} asks for{beside}",
        "cost": cost,
        "elasticity": known,
        "diverted": f", with {lost_to_others(decided.diverted)}" if lost_to_others(decided.diverted) else "",
        "target": "unidentified" if "elasticity_unidentified" in reasons else "target",
        "stock": "unknown size" if stock is None else f"{stock:,.10g} unit{'' if stock == 1 else 's'}",
        "binding": binding,
        "done": "given this price" if "overridden" in reasons else "frozen prices",
        "weekday": f"{decided.date:%A}",
        "date": str(decided.date),
        "events": "; ".join(lift.words() for lift in pricer.events_on(decided.date, category=decided.category)),
        "price": f"{decided.decision.recommended_price:,.{digits}f}",  # of the one charged, as the terms are
        "comp_price": f"{comp_price or 0.0:,.{digits}f}",
    }


def lost_to_others(diverted: float) -> str:
    """The words for the share of lost sales that other products win; empty for less than a twentieth."""
    share = round(10 * diverted)
    return f"{share} of 10 lost sales going to other products of its category" if share else ""


def _summary(quantity: Quantity, decided: DetailedDecision, start: float, end: float, digits: int) -> str:
    """A sentence on the start and the value."""
    before = f"{start:,.{digits}f}"
    after = f"{end:,.{digits}f}"
    if quantity == "demand":
        ample = "With ample stock, " if decided.decision.expected_units < end * (1 - NEAR) else ""
        return f"{ample}{after} units would sell at the recommended price, {before} in a mean period at the usual one."
    origin = "charged now" if decided.current_price is not None else "which stands in for an unknown current one"
    if "price_test" in decided.decision.reasons:
        origin = "from which its draws start"
    if abs(end - start) <= NEAR * start:
        return f"The price stays at {after}, {origin}."
    return f"The price goes from {before}, {origin}, to {after}."
