"""Unite what was learnt of the partitions of a shop into the one table and the one set of facts that are served."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.decision.product_facts import ProductFacts
from pricing.demand.grades import Evidence
from pricing.demand.table import DemandTable
from pricing.errors import HistoryError

_PRODUCTS = ("product_ids", "parent_ids", "category", "own")  # (product,) columns of a table
_ROWS = (  # (row,) columns: products, then categories
    "levels",
    "reference",
    "list_price",
    "unit",
    "size",
    "elasticity",
    "elasticity_sd",
    "weekend",
    "promotion",
    "diversion",
    "rival",
    "rival_usual",
    "grade",
)


def unite_tables(parts: Sequence[DemandTable], *, like: DemandTable) -> DemandTable:
    """Returns the table of all parts' products, by id; rows of categories, and what is common, are those of `like`."""
    order = _by_id(parts)
    columns = _joined(parts, _PRODUCTS, order)
    for name in _ROWS:
        products = np.concatenate([getattr(part, name)[: len(part.product_ids)] for part in parts])[order]
        categories = getattr(like, name)[len(like.product_ids) :]
        columns[name] = np.concatenate([products, categories])
    competitor = parts[0].competitor
    if competitor is not None:  # as in all others: it is estimated of whole shops and of partitions
        competitor = replace(competitor, **_joined([part.competitor for part in parts], vars(competitor), order))
    evidence = Evidence(**_joined([part.evidence for part in parts], vars(parts[0].evidence), order))
    lifts = like.lifts and like.lifts.with_products(columns["category"])
    return replace(like, lifts=lifts, evidence=evidence, competitor=competitor, **columns)


def unite_facts(parts: Sequence[ProductFacts]) -> ProductFacts:
    """Returns the facts of all parts' products, by id; no plans, which are the shop's."""
    return replace(parts[0], **_joined(parts, parts[0].columns(), _by_id(parts)))


def _by_id(parts: Sequence[DemandTable] | Sequence[ProductFacts]) -> NDArray[np.intp]:
    """The order of all parts' products by id; HistoryError where one is in two parts."""
    ids = np.concatenate([part.product_ids for part in parts])
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise HistoryError(
            f"{str(twice[0])!r} is in two partitions, as its parent_id changed: partition the whole history, and train"
        )
    return order


def _joined(parts: Sequence[Any], names: Iterable[str], order: NDArray[np.intp]) -> dict[str, Any]:
    return {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
