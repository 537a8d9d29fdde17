"""Put into words what codes and figures mean to a pricing manager."""

import datetime as dt
import math

from pricing.decision.reasons import BIT, GUARDRAILS
from pricing.decision.switches import Review, Switch, Unfreeze

STATE = {
    "open": "to decide",
    "automatic": "by itself",
    "approved": "approved",
    "rejected": "rejected",
    "by hand": "set by hand",
    "held": "unchanged",
}
# Lists: beside proposals, the first has what stays and yet wants eyes.
SHOWN = {
    "todo": "to look at",
    **{state: words for state, words in STATE.items() if state != "open"},
    "all": "everything",
}
KIND = {
    "approve": "approved",
    "reject": "rejected",
    "freeze": "frozen",
    "override": "price given",
    "unfreeze": "freed again",
}
SORTS = {"money": "most money first", "move": "largest move first", "doubt": "least sure first", "product": "by name"}
GRADE = {
    "tested": "tested: from prices drawn at random",
    "own_history": "well known: from its own price changes",
    "category": "borrowed: from its category, its own history says too little",
    "prior_only": "hardly known: the price rests on no elasticity",
}
STEP = {
    "target": "demand",
    "step": "certainty",
    "guardrails": "limits",
    "price_test": "test",
    "switch": "by hand",
}
# What gains are counted over. A what-if counts one period, in which prices of many products can be compared.
UNTIL = "until the next delivery"
AGAINST = "against today's price, or the nearest to it that the guardrails allow"
TRIED_FOR = "in the one {period} priced, against today's price whether allowed or not; Today: until the next delivery"
# At the buttons.
FREEZE = "Freeze keeps today's price, inside cost and bands: that of an offer outside its band moves into it."
GIVEN = "A price below cost is raised to it ({floor} with tax), unless by pricing override --force."
_BY_HAND = (
    ("frozen", "A person has frozen it; only cost and bands move it."),
    ("overridden", "A person has given this price."),
    ("holdout", "Held out, to measure by; only the guardrails move it."),
)
_BY_RULE = (
    ("model_failed", "The model gave no usable figure, so a rule answered."),
    ("no_model", "No model is published, so a rule answered."),
    ("unknown_category", "Nobody knows this product yet, so a rule answered."),
)
# Step of the decision (none: it stays) → reasons and what they say; the first that holds counts.
_WHY = {
    "": (
        *_BY_RULE,
        ("field_test", "The model would move it, but it might lose if history misleads, so it stays."),
        ("low_confidence", "The model would move it but is too unsure, so it stays."),
        ("elasticity_unidentified", "Too little is known of how buyers answer to its price, so it stays."),
        ("held", "No other price promises enough more."),
    ),
    "guardrails": (
        ("largest_jump", "It goes as far as the largest jump from the last price charged allows."),
        ("cost", "The cost has risen to the price, so the price follows."),
    ),
    "target": (
        *_BY_RULE,
        (
            "elasticity_unidentified",
            "Too little is known of how buyers answer to its price, so it goes back to the regular one.",
        ),
    ),
}
_STEPS = {
    "": "It is where it should be.",
    "step": "How buyers answer is known only in part, so it goes back towards its regular price.",
    "stock": "The stock runs out before the next delivery, so what is left sells dearer.",
    "price_test": "An experiment tries this price for a week.",
}
_MOVES = {
    ("margin", True): "Few buyers are lost at a higher price, so it earns more.",
    ("margin", False): "A lower price sells enough more to earn more.",
    ("revenue", True): "A higher price brings more turnover.",
    ("revenue", False): "A lower price brings more turnover.",
    ("clearance", True): "It sells out in time at a higher price, too.",
    ("clearance", False): "The stock has to go, and a lower price moves it.",
    ("match", True): "It follows the competitor up.",
    ("match", False): "It follows the competitor down.",
}
_SURE = ((0.9, "almost sure"), (0.75, "likely"), (0.6, "more likely than not"), (0.5, "a close call"), (0, "doubtful"))


def why(step: str, bits: int, change: float, kind: str) -> str:
    """The reason why a price moves, or stays, in one sentence.

    `step` is the one that moves it furthest (`explanation.main_step`), `kind` the strategy's.
    """
    step = step if change else ""
    for code, sentence in (*_BY_HAND, *_WHY.get(step, ())):
        if bits & BIT[code]:
            return sentence
    if step == "guardrails":
        return f"Limits move it: {binding(bits) or 'prices that can be charged'}."
    return _STEPS.get(step) or _MOVES.get((kind, change > 0), "The strategy asks for it.")


def done(decision: Switch | Unfreeze | Review, product: str) -> str:
    """The decision of a person on a product's price."""
    if isinstance(decision, Unfreeze):
        return KIND["unfreeze"]
    if isinstance(decision, Review):
        return f"{KIND[decision.verdict]} at {money(decision.prices[product])}"
    return KIND[decision.action] + (f" at {money(decision.price)}" if decision.price else "")


def state(name: str, beyond: float | None) -> str:
    """The state of a proposal; without `decision.approve_beyond` none waits."""
    return STATE["automatic" if name == "open" and beyond is None else name]


def binding(bits: int) -> str:
    """Names the guardrails that bind; empty without any."""
    return ", ".join(words for name, words in GUARDRAILS.items() if bits & BIT[name])


def sure(confidence: float) -> str:
    """Confidence in words."""
    return next((words for least, words in _SURE if confidence >= least), "unknown")


def money(value: float | None, *, sign: bool = False, digits: int | None = None) -> str:
    """An amount of money as a person reads it; a dash where unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = (0 if abs(value) >= 1000 else 2) if digits is None else digits
    text = f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "−")
    return text.replace("−0.00", "0.00").replace("+0.00", "0.00")


def percent(value: float | None, *, sign: bool = True, digits: int = 1) -> str:
    """A fraction in per cent; a dash where unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    value = round(value * 100, digits) or 0.0  # no minus before nothing
    return f"{value:{'+' if sign and value else ''}.{digits}f} %".replace("-", "−")


def cover(stock: float, units: float, period: str) -> str:
    """The time that the stock lasts."""
    if not math.isfinite(stock):
        return "unknown"
    if stock <= 0:
        return "none left"
    if not units > 0:
        return "no sales expected"
    lasts = stock / units
    return f"{lasts:.0f} {period}{'' if round(lasts) == 1 else 's'}" if lasts < 1000 else f"over 999 {period}s"


def moment(at: dt.datetime) -> str:
    """A moment, to the minute, in the machine's time zone."""
    return at.astimezone().strftime("%-d %b %Y, %H:%M")


def reason(code: str) -> str:
    """A reason, or a guardrail that binds, in few words."""
    return f"held by the {GUARDRAILS[code]}" if code in GUARDRAILS else code.replace("_", " ")
