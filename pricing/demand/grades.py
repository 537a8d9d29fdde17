"""Grade how well each product's elasticity is known, from its moves alone: by prior, category, own history or tests.

A move is a price set by a person, at least 2 % from the one before, that stands for three days (one row if weekly), so
that revenue divided by units, which wobbles, makes none. Falsification tests change no grade: they widen the posterior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data.panel import Panel, Period

Grades = NDArray[np.int8]

GRADES = ("prior_only", "category", "own_history", "tested")
PRIOR_ONLY, CATEGORY, OWN_HISTORY, TESTED = range(4)
LEAST_MOVE = 0.02  # log units
STANDS: dict[Period, int] = {"day": 3, "week": 1}  # periods that a new price must stand
FORTNIGHT: dict[Period, int] = {"day": 14, "week": 2}  # periods
LEAST_FORTNIGHTS = 4  # with moves, or with random draws, for a usable standard error
LEAST_MOVES = 8  # of a category
LEAST_MOVED = 3  # its products that made them

# Objections to an estimate, which widen it; bit n of `Evidence.flags` is FLAGS[n].
FLAGS = ("trend", "dip_after_cut", "kinds_disagree")
TREND, DIP_AFTER_CUT, KINDS_DISAGREE = (1 << n for n in range(len(FLAGS)))


@dataclass(frozen=True)
class Evidence:
    """What each product's elasticity rests on; one entry a product, that of its parent where it has one."""

    moves: Ints  # in the history, the most of any of the parent's products
    fortnights: Ints  # with a move of any of them
    prices: Ints  # distinct ones ever charged, the most of any of them
    drawn: Ints  # fortnights with a random draw of an experiment
    flags: Ints  # falsification tests that failed, as bits named by FLAGS


def blank_evidence(products: int) -> Evidence:
    """Return the evidence of products without any."""
    return Evidence(*(np.zeros(products, np.int32) for _ in range(5)))


def gather_evidence(panel: Panel, *, own: Bools | None = None, tested: Floats | None = None) -> Evidence:
    """Count what the history tells of each product's elasticity; objections are added later."""
    moved = moves_of(panel.price, panel.present, period=panel.period)
    if own is not None:
        moved &= ~own  # prices set by the platform are no moves
    drawn = np.zeros_like(moved) if tested is None else np.isfinite(tested)  # NaN outside experiments
    parent = parents_of(panel)
    price = np.sort(np.where(panel.present, np.log(panel.price), np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        steps = np.isfinite(price[:, 1:]) & (np.diff(price, axis=1) > 0.5 * LEAST_MOVE)
    prices = steps.sum(axis=1) + np.isfinite(price[:, 0])
    fortnight = np.arange(moved.shape[1]) // FORTNIGHT[panel.period]
    begins = np.flatnonzero(np.diff(fortnight, prepend=-1))

    def most(values: Ints) -> Ints:
        found = np.zeros(len(values), np.int32)
        np.maximum.at(found, parent, values.astype(np.int32))
        return found[parent]

    def fortnights(mask: Bools) -> Ints:
        together = np.zeros_like(mask)
        np.logical_or.at(together, parent, mask)
        counted = np.logical_or.reduceat(together, begins, axis=1).sum(axis=1)
        return np.asarray(counted.astype(np.int32)[parent])

    return Evidence(
        moves=most(moved.sum(axis=1)),
        fortnights=fortnights(moved),
        prices=most(prices),
        drawn=fortnights(drawn),
        flags=np.zeros(len(moved), np.int32),
    )


def moves_of(price: Floats, present: Bools, *, period: Period) -> Bools:
    """(product, period) True where a move begins, and stands; prices of periods without a row are those before."""
    log_price = np.log(price)
    moved = np.zeros(price.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        moved[:, 1:] = present[:, 1:] & (np.abs(np.diff(log_price, axis=1)) >= LEAST_MOVE - 1e-6)
        for later in range(1, STANDS[period]):
            moved[:, :-later] &= np.abs(log_price[:, later:] - log_price[:, :-later]) < 0.5 * LEAST_MOVE
            moved[:, -later:] = False
    return moved


def parents_of(panel: Panel) -> Ints:
    """(product,) row of the first product that shares an elasticity with it: a product's stores; else its own."""
    if panel.parent_ids is None:
        return np.arange(len(panel.product_ids))
    _, first, inverse = np.unique(panel.parent_ids, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def grade_products(evidence: Evidence, panel: Panel) -> Grades:
    """(product,) grades: *tested* and *own history* by the product's fortnights, *category* by its category's moves."""
    _, category = np.unique(panel.categories, return_inverse=True)
    lent = category_tells(evidence, category=category, parent=parents_of(panel))[category]
    own = np.where(evidence.fortnights >= LEAST_FORTNIGHTS, OWN_HISTORY, np.where(lent, CATEGORY, PRIOR_ONLY))
    return np.where(evidence.drawn >= LEAST_FORTNIGHTS, TESTED, own).astype(np.int8)


def category_of_parents(category: Ints, parent: Ints) -> Ints:
    """(parent,) the category of most of its products; of several, the first."""
    pairs = np.zeros((int(parent.max(initial=-1)) + 1, int(category.max(initial=0)) + 1), np.int64)
    np.add.at(pairs, (parent, category), 1)
    return np.asarray(pairs.argmax(axis=1))


def category_tells(evidence: Evidence, *, category: Ints, parent: Ints) -> Bools:
    """(category,) whether enough of its products moved often enough that others may be priced by its elasticity.

    All that share a `parent` (see `parents_of`) have the same evidence, and are one product.
    """
    told = np.where(parent == np.arange(len(parent)), evidence.moves + evidence.drawn, 0)
    whose = category_of_parents(category, parent)[parent]
    count = int(category.max(initial=-1)) + 1
    moves, moved = (np.bincount(whose, each, minlength=count) for each in (told, told > 0))
    return np.asarray((moves >= LEAST_MOVES) & (moved >= LEAST_MOVED))


def flag_names(flags: int) -> tuple[str, ...]:
    """Names of the bits that are set."""
    return tuple(name for n, name in enumerate(FLAGS) if flags >> n & 1)


def why_held(grade: int, *, moves: int, fortnights: int) -> str:
    """Say in a sentence about a product's price why it stays; empty where it may move by its elasticity."""
    if grade != PRIOR_ONLY:
        return ""
    if not moves:
        return "stays, but for stock and cost: no person ever moved it, and only such moves can be learnt from"
    some = f"{moves} move{'s' if moves > 1 else ''} in {fortnights} fortnight{'s' if fortnights != 1 else ''}"
    return f"stays, but for stock and cost: it made {some}, and {LEAST_FORTNIGHTS} are needed"
