"""Every reason code that a decision can carry, and its meaning."""

from functools import lru_cache

import numpy as np

# Strongest first: each gives way to those before it, and cost to none (docs/guardrails.md).
GUARDRAILS = (
    "cost",
    "largest_jump",
    "band",
    "anchor",
    "min_margin",
    "min_advertised",
    "min_days",
    "max_move",
    "seen",
    "comp_band",
    "price_rung",
)

_MAY_HAVE_NO_EFFECT = {
    "anchor": "the band around the price that a person last set as regular",
    "min_margin": "the least margin",
    "min_advertised": "the minimum advertised price",
    "min_days": "the least time between two changes",
    "max_move": "the largest move",
    "seen": "the range of prices that were ever charged",
    "comp_band": "the band around the competitor's price",
}


REASONS: dict[str, str] = {
    "unknown_product": "the product is not in the model's history",
    "low_confidence": "the model's own price was too doubtful; the current price was kept inside the guardrails, and "
    "the confidence is that of the price kept",
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
    "low_confidence and elasticity_unidentified beside it are said of the price before the draw",
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
    "at_cost": "the cost is the lower limit that binds",
    "jump_limited": "the largest distance from the last price charged, as the sales history says, binds "
    "(serving.largest_jump)",
    "at_band": "the band around the list price binds",
    "at_anchor": "the band around the price that a person last set as regular binds",
    "at_min_margin": "the least margin binds",
    "at_min_advertised": "the minimum advertised price binds",
    "at_min_days": "the least time between two changes binds",
    "at_seen": "the range of prices that were ever charged binds",
    "at_max_move": "the largest move binds",
    "at_comp_band": "the band around the competitor's price binds",
    "at_price_rung": "only one price of the ladder or of the allowed endings lies inside the other limits",
    "gave_way_largest_jump": "the largest distance from the last price charged (serving.largest_jump) gave way to the "
    "cost, and the price is the cost",
    "gave_way_band": "the band around the list price gave way: to the cost, and the price is the cost; or to the "
    "largest distance from the last price charged, and it has no effect on the price",
    **{
        f"gave_way_{name}": f"{what} cannot hold beside a stronger guardrail "
        f"({', '.join(GUARDRAILS[: GUARDRAILS.index(name)])}): it has no effect on the price"
        for name, what in _MAY_HAVE_NO_EFFECT.items()
    },
    "gave_way_price_rung": "no allowed ending, ladder price or smallest unit lies inside the stronger guardrails; the "
    "nearest whole unit of price inside them, or beside them where there is none, is given",
}

CODES = tuple(REASONS)
# A person has set the price, or has yet to: no model or rule is to be judged by it.
SWITCHED = frozenset({"frozen", "overridden", "awaiting_approval"})
BIT = {code: 1 << place for place, code in enumerate(CODES)}
BINDS = {name: f"at_{name}" for name in GUARDRAILS} | {"largest_jump": "jump_limited"}  # the code of each that binds
OF_GUARDRAILS = frozenset(code for code in CODES if code in BINDS.values() or code.startswith("gave_way_"))
AT = np.array([BIT[BINDS[name]] for name in GUARDRAILS], dtype=np.int64)
GAVE_WAY = np.array([0] + [BIT[f"gave_way_{name}"] for name in GUARDRAILS[1:]], dtype=np.int64)


@lru_cache(maxsize=4096)
def codes(bits: int) -> tuple[str, ...]:
    """The codes behind a sum of `BIT` values, in the order of `REASONS`."""
    return tuple(code for place, code in enumerate(CODES) if bits >> place & 1)
