"""How well a version's elasticities are known: grades, shares of units, whether prices may rest on them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.decision.product_facts import ProductFacts
from pricing.demand.grades import GRADES, PRIOR_ONLY, flag_names
from pricing.demand.model import DemandModel

MEANINGS: Mapping[str, str] = {
    "tested": "prices drawn at random in price tests tell how demand answers to price",
    "own_history": "the product's own price changes tell how demand answers to price",
    "category": "the product's own price changes tell too little, so its elasticity is that of its category",
    "prior_only": "no price change tells how demand answers to price, so the price stays, but for stock and guardrails",
}
HOLDS_ONLY_MEANING = (
    "the version is holds_only: it knows too little of elasticities, so it forecasts and every price stays, but for "
    "stock, guardrails and strategies that rest on no elasticity"
)


def known_of(demand: DemandModel, rows: Ints) -> dict[str, NDArray[Any]]:
    """How well the elasticities of products `rows` are known, as columns (row,), for all places that show it.

    `grade` is one of `grades.GRADES`, `moves` and `prices` count price moves and distinct prices that it was learnt
    from, `doubts` names what speaks against it (`grades.FLAGS`, joined by commas). A row of −1 is a product that the
    model does not know.
    """
    known, evidence = rows >= 0, demand.evidence
    doubts = [", ".join(flag_names(int(flags))) for flags in np.where(known, evidence.flags[rows], 0)]
    return {
        "grade": np.array(GRADES)[np.where(known, demand.grade[rows], PRIOR_ONLY)],
        "moves": np.where(known, evidence.moves[rows], 0),
        "prices": np.where(known, evidence.prices[rows], 0),
        "doubts": np.array(doubts, dtype=np.str_),
    }


def unit_shares(demand: DemandModel, facts: ProductFacts) -> Floats:
    """(product,) share of the units sold recently, in the demand model's order.

    A product that has not been on sale recently weighs 0; where all weigh 0, all count the same.
    """
    ids = facts.product_ids
    units = np.zeros(len(demand.product_ids))
    if len(ids):
        place = np.minimum(np.searchsorted(ids, demand.product_ids), len(ids) - 1)
        units = np.where(ids[place] == demand.product_ids, np.nan_to_num(facts.typical_units[place]), 0.0)
    if not units.any():
        units = np.ones(len(units))
    return np.asarray(units / max(float(units.sum()), 1e-300))


def shares_by_grade(demand: DemandModel, facts: ProductFacts) -> dict[str, float]:
    """Share of the units per grade, highest grade first; all 0 without products."""
    shares = unit_shares(demand, facts)
    found = np.bincount(demand.grade, weights=shares, minlength=len(GRADES)) if len(shares) else np.zeros(len(GRADES))
    return {name: float(found[grade]) for grade, name in reversed(tuple(enumerate(GRADES)))}


def identified_share(demand: DemandModel, facts: ProductFacts) -> float:
    """Share of the units whose elasticity is known from more than a prior, 0…1."""
    return float(unit_shares(demand, facts)[demand.grade != PRIOR_ONLY].sum())


def knows_too_little(demand: DemandModel, facts: ProductFacts, *, least: float) -> bool:
    """Whether a version of these parts must be `holds_only`: no price may rest on its elasticities.

    Args:
        demand: The demand model.
        facts: Facts about its products.
        least: Least identified share of the units at which prices may move (`registry.gates.identified`).
    """
    return identified_share(demand, facts) < least


def without_grades(demand: DemandModel) -> DemandModel:
    """The same model with all elasticities graded *prior only*: what a `holds_only` version prices with."""
    priors = replace(demand.priors, grade=np.full_like(demand.priors.grade, PRIOR_ONLY))
    return replace(demand, grade=np.full_like(demand.grade, PRIOR_ONLY), priors=priors)
