"""Grade how well each product's elasticity is identified: by prior only, category, own history or price tests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints

Grades = NDArray[np.int8]

GRADES = ("prior_only", "category", "own_history", "tested")
PRIOR_ONLY, CATEGORY, OWN_HISTORY, TESTED = range(4)
IDENTIFIED = 0.5  # share of the prior variance that the data must remove
TELLS = 0.1  # share below which a product's own data do not support its category
LEAST_CLUSTERS = 4  # least fortnights with price changes for a usable standard error

# Objections to an estimate; bit n of `Evidence.flags` is FLAGS[n].
FLAGS = ("few_moves", "trend", "dip_after_cut", "kinds_disagree", "at_limit", "moved_together")
FEW_MOVES, TREND, DIP_AFTER_CUT, KINDS_DISAGREE, AT_LIMIT, MOVED_TOGETHER = (1 << n for n in range(len(FLAGS)))
FALSIFIED = TREND | DIP_AFTER_CUT | KINDS_DISAGREE  # failed tests of the identifying assumptions

# In words, those that can hold a price; the first that applies is told.
_AGAINST = {
    TREND: "demand moved before it did",
    DIP_AFTER_CUT: "shoppers laid in when it was low",
    KINDS_DISAGREE: "moves of different kinds tell different elasticities",
    AT_LIMIT: "what they tell ends at a limit, which is no finding",
}


@dataclass(frozen=True)
class Evidence:
    """Evidence on each product's elasticity in its history; one entry a product.

    Attributes:
        moves: Price changes in the history, without the platform's own.
        clusters: Number of fortnights that contain them.
        prices: Distinct prices ever charged.
        left: Posterior over prior variance.
        left_own: The same from the product's own price changes only, without its category.
        left_tested: The same from its price tests only; 1 without any.
        flags: Objections to the estimate, as bits named by FLAGS.
    """

    moves: Ints
    clusters: Ints
    prices: Ints
    left: Floats
    left_own: Floats
    left_tested: Floats
    flags: Ints


def blank_evidence(products: int) -> Evidence:
    """Return the evidence of products without any."""
    nothing, all_left = np.zeros(products, np.int32), np.ones(products, np.float32)
    return Evidence(nothing, nothing, nothing, all_left, all_left, all_left, nothing)


def flag_names(flags: int) -> tuple[str, ...]:
    """Names of the bits that are set."""
    return tuple(name for n, name in enumerate(FLAGS) if flags >> n & 1)


def why_held(grade: int, *, moves: int, fortnights: int, flags: int = 0) -> str:
    """Say in a sentence, whose subject is a product's price, why it stays; empty where it may move by its elasticity.

    Args:
        grade: Of the product, index into GRADES.
        moves: Price changes in its history, without the platform's own.
        fortnights: With moves that can be learnt from.
        flags: Objections to the estimate, as in `Evidence`; 0 before there is one.
    """
    if grade != PRIOR_ONLY:
        return ""
    if not moves:
        return "stays, but for stock and cost: no person ever moved it, and only such moves can be learnt from"
    moved = f"stays, but for stock and cost: it moved {moves} time{'s' if moves > 1 else ''}"
    if fortnights < LEAST_CLUSTERS:
        plural = "" if fortnights == 1 else "s"
        return f"{moved}, in {fortnights} fortnight{plural} that can be learnt from, and {LEAST_CLUSTERS} are needed"
    against = next((words for flag, words in _AGAINST.items() if flags & flag), "")
    return f"{moved}, but {against or 'too little sold then to tell its effect from chance'}"


def grade_products(evidence: Evidence, *, category_grade: Grades, category: Ints) -> Grades:
    """(product,) grades.

    *tested*: price tests alone removed half of the prior variance. *Own history*: the product's own price changes did,
    in enough fortnights, and the estimate is at no limit. Else the category's grade, if another product of the category
    has evidence: a product's own evidence does not count as its category's. Where a test of the identifying assumptions
    failed, all but *tested* are one grade lower, and *prior only* if no other product has evidence.

    Args:
        evidence: Of the products.
        category_grade: (category,) grade of each category.
        category: (product,) row of each product's category.
    """
    learnt = evidence.left <= 1.0 - IDENTIFIED
    own = learnt & (evidence.left_own <= 1.0 - IDENTIFIED) & (evidence.clusters >= LEAST_CLUSTERS)
    own &= (evidence.flags & AT_LIMIT) == 0
    tested = evidence.left_tested <= 1.0 - IDENTIFIED
    lent = _others_tell(evidence, category=category)
    grades = np.where(own, OWN_HISTORY, np.where(lent, np.minimum(category_grade[category], CATEGORY), PRIOR_ONLY))
    lower = np.where(lent, np.maximum(grades - 1, PRIOR_ONLY), PRIOR_ONLY)
    grades = np.where((evidence.flags & FALSIFIED) > 0, lower, grades)
    return np.where(tested, TESTED, grades).astype(np.int8)


def grade_categories(left: Floats, *, at_limit: NDArray[np.bool_], evidence: Evidence, category: Ints) -> Grades:
    """(category,) *category* where the data removed half of the prior variance of the category's mean, else prior only.

    The common level of all categories may suffice for that, so at least one of its own products must have evidence.

    Args:
        left: (category,) posterior over prior variance of the category's mean.
        at_limit: (category,) whether its mean is at a limit.
        evidence: Of the products.
        category: (product,) row of each product's category.
    """
    some = np.bincount(category, _tells(evidence), minlength=len(left)) > 0
    return np.where((left <= 1.0 - IDENTIFIED) & ~at_limit & some, CATEGORY, PRIOR_ONLY).astype(np.int8)


def _tells(evidence: Evidence) -> NDArray[np.bool_]:
    """(product,) whether its own price changes or price tests are evidence for its category."""
    return np.asarray(evidence.left_own <= 1.0 - TELLS)


def _others_tell(evidence: Evidence, *, category: Ints) -> NDArray[np.bool_]:
    """(product,) whether another product of its category has evidence."""
    tells = _tells(evidence)
    return np.asarray(np.bincount(category, tells)[category] > tells)
