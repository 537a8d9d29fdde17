"""Every reason and every guardrail that a decision can name, in words, and the bits by which a batch carries them."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# Strongest first: each gives way to those before it, and cost to none (docs/shop/guardrails.md).
GUARDRAILS: dict[str, str] = {
    "cost": "cost",
    "largest_jump": "largest jump from the last price charged",
    "band": "band around list price",
    "anchor": "band around the regular price that a person set",
    "min_margin": "least margin",
    "min_advertised": "least advertised price",
    "min_days": "least days between changes",
    "max_move": "largest move",
    "seen": "band around the prices ever charged",
    "comp_band": "band around the competitor's price",
    "price_rung": "set of allowed prices",
}

REASONS: dict[str, str] = {
    "unknown_product": "the product is not in the model's history",
    "low_confidence": "the model's own price was too doubtful; the current price was kept inside the guardrails, and "
    "the confidence is that of the price kept",
    "field_test": "the move loses money if history misleads: its worst case is below the profit of the regular price; "
    "where decision.field_test is hold it is not made",
    "held": "no allowed price promises enough more than the current one",
    "elasticity_unidentified": "the history does not tell how demand answers to price; the price stays, but one above "
    "the regular one goes back to it, and stock that runs out raises it",
    "elasticity_from_category": "the elasticity is that of the category: the product's own history says too little",
    "outside_seen_prices": "no person has ever charged a price as low, or as high, as this one",
    "holdout": "the product is held out to measure by; its price is kept inside the guardrails",
    "frozen": "a person has frozen prices; the price charged now is kept, inside the hard guardrails (cost, the "
    "largest distance from the last price charged, the bands around list price and around the price that a person last "
    "set as regular); in place of a current price beyond that distance, the last price charged is kept",
    "overridden": "a person has given this price, which no guardrail but the cost moves",
    "below_cost": "the person who gave the price has said that it may lie below cost, and it does",
    "awaiting_approval": "the price proposed lies further than decision.approve_beyond from the one that a person "
    "approved last, or from the current one where nobody did; that one is kept, inside the cost, until a person "
    "approves the proposal",
    "price_test": "an experiment drew a small change of the chosen price for this week, inside the guardrails; held, "
    "field_test, low_confidence and elasticity_unidentified beside it are said of the price before the draw",
    "promotion_planned": "the request does not say whether the offer is advertised; a promotion is planned for it",
    "delivery_planned": "the request does not say when the next delivery comes; the planned one counts",
    "stock_short": "stock is expected to run out before the next delivery, and a price that is not kept allows for it",
    "no_stock": "there is no stock; priced as it will be once there is",
    "no_model": "no model version is loaded; a rule answered",
    "model_failed": "the model's figures were not finite; a rule answered",
    "unknown_category": "neither the product nor its category is in the model's history; a rule kept the current price "
    "inside the guardrails, or list price where none was sent",
    "delivery_beyond_horizon": "the next delivery lies beyond the horizon; demand was counted no further",
    "stale_state": "the model's state is older than its horizon",
    "cost_assumed": "no cost is known; the configured margin stands in for it",
    "tax_rate_assumed": "no tax rate is known of the product; the highest of its category or of all stands in",
    "list_price_assumed": "no list price is known; it was taken from the other prices of the request or the category",
    "demand_unknown": "nothing says how much sells; units and margin are left at 0",
    "current_price_unknown": "no current price is known; the list price stands in for it",
    "comp_price_stale": "the competitor's price is older than decision.comp_price_max_age and was not used",
    "no_comp_price": "the strategy follows a competitor whose price is not known; it maximised margin instead",
}

# A person has set the price, or has yet to: no model or rule is to be judged by it.
SWITCHED = frozenset({"frozen", "overridden", "awaiting_approval"})
# Of each reason, and of each guardrail that binds; then of each that gave way.
BIT = {name: 1 << place for place, name in enumerate((*REASONS, *GUARDRAILS))}
GAVE_WAY = {name: BIT[name] << len(GUARDRAILS) for name in GUARDRAILS}


@lru_cache(maxsize=4096)
def named(bits: int) -> dict[str, Any]:
    """The `reasons`, `binds` and `gave_way` of a decision behind a sum of bits; shared, so not to be changed."""
    groups = {"reasons": (REASONS, BIT), "binds": (GUARDRAILS, BIT), "gave_way": (GUARDRAILS, GAVE_WAY)}
    return {group: [name for name in names if bits & bit[name]] for group, (names, bit) in groups.items()}


def meanings(reasons: Iterable[str], binds: Iterable[str] = (), gave_way: Iterable[str] = ()) -> dict[str, str]:
    """Reason or guardrail → what it says of a price, for people."""
    found = {code: REASONS[code] for code in reasons if code in REASONS}
    for names, what in ((binds, "binds"), (gave_way, "gave way to a stronger guardrail")):
        found |= {name: f"the {GUARDRAILS[name]} {what}" for name in names if name in GUARDRAILS}
    return found
