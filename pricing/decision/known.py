"""What history knows, as plain Python values, product by product: what a single request looks up fastest."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pricing.arrays import Floats
from pricing.decision.product_facts import ProductFacts
from pricing.demand.curve import Demand


class Known(NamedTuple):
    """What history knows of a product; None where it knows nothing.

    Attributes:
        row: Row among the demand's products; -1 where it does not know the product.
        category: Empty where unknown.
        price: Price charged last.
        list_price: Regular price.
        unit_cost: Cost of a unit.
        cost_assumed: Whether the configured margin stands in for the cost.
        units: Usual units a period.
        anchor_price: Regular price that a person last set; NaN where unknown.
        seen_low: Lowest price ever charged; NaN where unknown.
        seen_high: Highest price ever charged; NaN where unknown.
        place: Row among the facts; -1 where they do not know the product.
        last_change: The day on which the price last changed.
    """

    row: int
    category: str = ""
    price: float | None = None
    list_price: float | None = None
    unit_cost: float | None = None
    cost_assumed: bool = False
    units: float | None = None
    anchor_price: float = math.nan
    seen_low: float = math.nan
    seen_high: float = math.nan
    place: int = -1
    last_change: dt.date | None = None


STRANGER = Known(-1)


def known_products(demand: Demand | None, facts: ProductFacts | None) -> dict[str, Known]:
    """Everything that is known of each product, by product id."""
    rows = {name: row for row, name in enumerate(demand.product_ids.tolist() if demand else ())}
    known = {name: Known(row) for name, row in rows.items()}
    if facts is None:
        return known
    columns = zip(
        facts.product_ids.tolist(),
        facts.categories.tolist(),
        _values(facts.price),
        _values(facts.list_price),
        _values(facts.unit_cost),
        facts.cost_assumed.tolist(),
        _values(facts.typical_units),
        facts.anchor_price.tolist(),
        facts.seen_low.tolist(),
        facts.seen_high.tolist(),
        range(len(facts.product_ids)),
        facts.last_change.tolist(),
        strict=True,
    )
    known.update({name: Known(rows.get(name, -1), *rest) for name, *rest in columns})
    return known


class Typical(NamedTuple):
    """What is usual in a category; the medians of its products.

    Attributes:
        list_price: Regular price; None where unknown.
        units: Units a period; NaN where unknown.
        margin: Fraction of the list price above a cost that is really known; NaN where none is.
    """

    list_price: float | None
    units: float
    margin: float


def typical(facts: ProductFacts | None) -> dict[str, Typical]:
    """What is usual in each category, and over all products under the empty name."""
    if facts is None:
        return {"": Typical(None, np.nan, np.nan)}
    margin = np.where(facts.cost_assumed, np.nan, 1 - facts.unit_cost / facts.list_price)
    columns = np.stack([facts.list_price, facts.typical_units, margin], axis=1)
    order = np.argsort(facts.categories, kind="stable")
    names, first = np.unique(facts.categories[order], return_index=True)
    parts = dict(zip(names.tolist(), np.split(columns[order], first[1:]), strict=True))
    return {name: _medians(part) for name, part in {**parts, "": columns}.items()}


def _values(numbers: Floats) -> Iterator[Any]:
    return (None if math.isnan(number) else number for number in numbers.tolist())


def _medians(columns: Floats) -> Typical:
    price, units, margin = (_median(column) for column in columns.T)
    return Typical(None if math.isnan(price) else price, units, margin)


def _median(column: Floats) -> float:
    known = column[np.isfinite(column)]
    return float(np.median(known)) if len(known) else np.nan
