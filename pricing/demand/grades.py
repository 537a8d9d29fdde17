"""How well each product's elasticity is identified: from a prior alone to prices drawn at random."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints

Grades = NDArray[np.int8]

GRADES = ("prior_only", "category", "own_history", "tested")
PRIOR_ONLY, CATEGORY, OWN_HISTORY, TESTED = range(4)
IDENTIFIED = 0.5  # share of the prior variance that the data must have removed
TELLS = 0.1  # share of it below which a product's own moves tell nothing worth lending
LEAST_CLUSTERS = 4  # fortnights with moves below which a standard error is itself hardly known

# What speaks against an estimate; bit n of `Evidence.flags` is FLAGS[n].
FLAGS = ("few_moves", "trend", "dip_after_cut", "kinds_disagree", "at_limit", "moved_together")
FEW_MOVES, TREND, DIP_AFTER_CUT, KINDS_DISAGREE, AT_LIMIT, MOVED_TOGETHER = (1 << n for n in range(len(FLAGS)))
FALSIFIED = TREND | DIP_AFTER_CUT | KINDS_DISAGREE  # tests of what the estimate rests on, which failed


@dataclass(frozen=True)
class Evidence:
    """What each product's history offers to learn its elasticity from; one entry a product.

    Attributes:
        moves: Price moves in the history that were not the platform's own.
        clusters: Fortnights in which they lie.
        prices: Distinct prices ever charged.
        left: Posterior over prior variance.
        left_own: The same if the product's own moves were all there is: nothing borrowed from its category.
        left_tested: The same if its price tests were all there is; 1 without any.
        flags: What speaks against the estimate, as bits named by FLAGS.
    """

    moves: Ints
    clusters: Ints
    prices: Ints
    left: Floats
    left_own: Floats
    left_tested: Floats
    flags: Ints


def blank_evidence(products: int) -> Evidence:
    """The evidence of products that are not known to have any."""
    nothing, all_left = np.zeros(products, np.int32), np.ones(products, np.float32)
    return Evidence(nothing, nothing, nothing, all_left, all_left, all_left, nothing)


def flag_names(flags: int) -> tuple[str, ...]:
    """Names of the bits that are set."""
    return tuple(name for n, name in enumerate(FLAGS) if flags >> n & 1)


def grade_products(evidence: Evidence, *, category_grade: Grades, category: Ints) -> Grades:
    """(product,) grades.

    *tested*: price tests alone removed half of the prior variance. *Own history*: the product's own moves did, from
    enough fortnights, and the estimate ends at no limit. Else what its category is, if another product of the category
    tells anything: what a product says itself is no more for being called its category's. Where a test of the
    assumptions failed, all but *tested* are one grade lower, and *prior only* where no other product tells anything.

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

    What all categories have in common may do so as well, so at least one product of its own must tell anything.

    Args:
        left: (category,) posterior over prior variance of the category's mean.
        at_limit: (category,) whether its mean ends at a limit.
        evidence: Of the products.
        category: (product,) row of each product's category.
    """
    some = np.bincount(category, _tells(evidence), minlength=len(left)) > 0
    return np.where((left <= 1.0 - IDENTIFIED) & ~at_limit & some, CATEGORY, PRIOR_ONLY).astype(np.int8)


def _tells(evidence: Evidence) -> NDArray[np.bool_]:
    """(product,) whether its own moves or price tests tell anything worth lending."""
    return np.asarray(evidence.left_own <= 1.0 - TELLS)


def _others_tell(evidence: Evidence, *, category: Ints) -> NDArray[np.bool_]:
    """(product,) whether the moves or price tests of another product in its category tell anything."""
    tells = _tells(evidence)
    return np.asarray(np.bincount(category, tells)[category] > tells)
