"""How well elasticities and effects of the competitor's price are known, as every place shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.decision.product_facts import ProductFacts
from pricing.demand.grades import GRADES, PRIOR_ONLY, flag_names, why_held
from pricing.demand.table import DemandTable

MEANINGS: Mapping[str, str] = {
    "tested": "prices drawn at random in experiments tell how demand answers to price",
    "own_history": "the product's own price changes tell how demand answers to price",
    "category": "the product's own price changes tell too little, so its elasticity is that of its category",
    "prior_only": "too little tells how demand answers to price, so the price stays, or goes back to list price from "
    "above, but for stock and guardrails",
}
HOLDS_ONLY_MEANING = (
    "the version is holds_only: it knows too little of elasticities, so it forecasts and every price stays, or goes "
    "back to list price from above, but for stock, guardrails and strategies that rest on no elasticity"
)

ELASTICITY_DIGITS = 2  # decimals of an elasticity, wherever it is shown


@dataclass(frozen=True)
class ShownCompetitor:
    """The effect of the competitor's price on a product's demand, as every place shows it.

    `effect` is by how many per cent demand rises when that price does by one, `low` and `high` are the ends of its 80 %
    interval; all None where it is unknown. `moves` counts those in the history that it was estimated from.
    """

    effect: float | None
    low: float | None
    high: float | None
    moves: int
    words: str


def shown_competitor(demand: DemandTable, row: int) -> ShownCompetitor:
    """The effect of the competitor's price on the product in a row, −1 for one that is not known."""
    estimate = demand.competitor and demand.competitor.spread(np.array([row]))
    moves = int(estimate.moves[0]) if estimate else 0
    if estimate is None or not np.isfinite(estimate.mean[0]):
        words = f"What the competitor's price does to demand is unknown; moves of it in the history: {moves}."
        return ShownCompetitor(None, None, None, moves, words)

    lower, upper = estimate.interval()
    effect, low, high = (round(float(figure[0]), ELASTICITY_DIGITS) + 0.0 for figure in (estimate.mean, lower, upper))
    doubt = ", so perhaps nothing" if low <= 0 <= high else ""
    doubt += ", and prices take it for nothing" if effect < 0 else ""
    words = (
        f"A competitor 1 % dearer changes demand by {effect:+.2f} % "
        f"(80 % interval {low:+.2f} to {high:+.2f}{doubt}; {moves} moves of its price)."
    )
    return ShownCompetitor(effect, low, high, moves, words.replace("-", "−"))


def words_of_tests(demand: DemandTable) -> dict[str, str]:
    """Returns by category its mean elasticities, observed and tested, over a week and with standard errors.

    They are of its products that have both; a category without such is absent.
    """
    known = demand.tested
    if known is None:
        return {}
    week = demand.week_factor(len(demand.product_ids) + np.arange(len(known.products)))
    means = np.stack([known.observed, known.observed_error, known.tested, known.tested_error], axis=1) * week[:, None]
    words = "observed {:.2f} ± {:.2f}, tested {:.2f} ± {:.2f} ({} products)"
    return {
        str(demand.categories[row]): words.format(*means[row], known.products[row]).replace("-", "−")
        for row in np.flatnonzero(known.products)
    }


def shown_elasticities(demand: DemandTable, rows: Ints, *, holds_only: bool) -> dict[str, NDArray[Any]]:
    """Describes the elasticities of products `rows` and how well they are known, as columns (row,), for every place.

    `elasticity_low` and `_high` are the ends of the 80 % interval. `grade` is one of `grades.GRADES`, `moves` and
    `prices` count price moves and distinct prices that it was learnt from, `doubts` names what speaks against it
    (`grades.FLAGS`, joined by commas), `why` is why the price stays where it does (`grades.why_held`). A row of −1 is
    a product that the model does not know.
    """
    known = rows >= 0

    def own(column: NDArray[Any]) -> NDArray[Any]:
        return np.where(known, column[rows], 0)

    def rounded(values: Floats) -> Floats:
        return np.where(known, np.round(values.astype(np.float64), ELASTICITY_DIGITS), np.nan)

    middle, low, high = demand.elasticities(np.where(known, rows, 0))
    evidence = demand.evidence
    grade, moves, fortnights = own(demand.grade), own(evidence.moves), own(evidence.fortnights)
    all_stay = "stays, as all do: too little of what is sold has a known answer to price (holds_only)"
    why = [
        why_held(its_grade, moves=its_moves, fortnights=its_fortnights) or (all_stay if holds_only else "")
        for its_grade, its_moves, its_fortnights in zip(
            grade.tolist(), moves.tolist(), fortnights.tolist(), strict=True
        )
    ]
    doubts = [", ".join(flag_names(flags)) for flags in own(evidence.flags).tolist()]
    return {
        "elasticity": rounded(middle),
        "elasticity_low": rounded(low),
        "elasticity_high": rounded(high),
        "grade": np.array(GRADES)[grade],
        "moves": moves,
        "prices": own(evidence.prices),
        "doubts": np.array(doubts, dtype=np.str_),
        "why": np.array(why, dtype=np.str_),
    }


def shares_by_grade(demand: DemandTable, facts: ProductFacts) -> dict[str, float]:
    """Share of the units sold recently per grade, highest grade first; all 0 without products.

    A product that has not been on sale recently weighs 0; where all weigh 0, all count the same.
    """
    shares, grades = _unit_shares(demand, facts)
    return {GRADES[grade]: float(shares[grades == grade].sum()) for grade in reversed(range(len(GRADES)))}


def identified_share(demand: DemandTable, facts: ProductFacts) -> float:
    """Share of the units whose elasticity is known from more than a prior, 0…1.

    Below `registry.gates.identified` a version must be `holds_only`: no price may rest on its elasticities.
    """
    shares, grades = _unit_shares(demand, facts)
    return float(shares[grades != PRIOR_ONLY].sum())


def _unit_shares(demand: DemandTable, facts: ProductFacts) -> tuple[Floats, Ints]:
    """(product,) share of the units sold recently, and the grade, in the demand model's order."""
    sold = dict(zip(facts.product_ids.tolist(), np.nan_to_num(facts.typical_units).tolist(), strict=True))
    units = np.array([sold.get(product, 0.0) for product in demand.product_ids.tolist()])
    if not units.any():
        units = np.ones(len(units))
    return units / units.sum(), demand.grade[: len(units)]
