"""Why a gate may have refused a version: causes that the figures of the version and its sales show, in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pricing.demand.grades import LEAST_FORTNIGHTS

MUCH_SOLD_OUT = 0.2  # share of the rows judged from which they may be what a refusal is about


@dataclass(frozen=True)
class Circumstances:
    """Figures of a version and its sales that may have made a gate refuse it."""

    products: int
    below_cost: int = 0  # products with a given cost that passes the price charged last, net of tax
    few_moves: int = 0  # products with price moves in too few fortnights for an elasticity of their own
    sold_out: float = 0.0  # share of the periods judged, 0…1
    short: Sequence[str] = ()  # how the history is short, a sentence each


def _cost_above_price(found: Circumstances) -> str:
    words = f"cost above price on {found.below_cost:,} of {found.products:,} products"
    return words if found.below_cost else ""


def _few_price_moves(found: Circumstances) -> str:
    words = f"few price moves: {found.few_moves:,} of {found.products:,} products have them in fewer than"
    return f"{words} {LEAST_FORTNIGHTS} fortnights" if 2 * found.few_moves > found.products else ""


def _sold_out(found: Circumstances) -> str:
    if found.sold_out >= 1:
        return "sold-out rows only: no sale shows what more stock would have sold"
    return f"{found.sold_out:.0%} of the rows judged sold out" if found.sold_out >= MUCH_SOLD_OUT else ""


def _short_history(found: Circumstances) -> str:
    return "; ".join(sentence.partition(":")[0] for sentence in found.short)


# Gate, and those whose names begin so → what may be behind its refusal.
CAUSES: dict[str, tuple[Callable[[Circumstances], str], ...]] = {
    "beats_naive": (_short_history, _sold_out),
    "bias": (_short_history, _sold_out),
    "coverage": (_short_history, _sold_out),
    "elasticity_sane": (_few_price_moves, _short_history),
    "price_moves": (_cost_above_price,),
}


def causes(gate: str, found: Circumstances) -> list[str]:
    """The likely causes of a gate's refusal that the figures show, a sentence each; none where they show none."""
    tried = next((those for beginning, those in CAUSES.items() if gate.startswith(beginning)), ())
    sentences = [cause(found) for cause in tried]
    return [sentence for sentence in sentences if sentence]
