"""The sensitivity analysis of a version as tables: elasticities, and demand, revenue and profit over price."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints, Strings
from pricing.data.panel import Panel
from pricing.demand.curve import SOURCES
from pricing.demand.sensitivity import ORDINARY, Context, Curves, Range, Shelf, contexts, read_curves
from pricing.registry.knowledge import known_of
from pricing.registry.version import LoadedVersion

Columns = Mapping[str, Floats | NDArray[np.bool_]]

CURVES = 200  # products with whole curves; more would make a table that nobody reads
SEEN = (0.01, 0.99)  # quantiles of a product's past prices between which its curve has been seen
RECENT = 365  # periods that count for it
STEP = 0.05  # of list price, between two price levels
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sensitivity:
    """How demand answers to price. Prices and money in currency units, units and money a period.

    Attributes:
        summary: One row a product: its elasticity at list price on ordinary days with its interval, what it sells and
            earns there, whether its own history speaks or its category's, and how well its elasticity is known.
        products: One row a product, context and price level, for as many products as were asked for.
        categories: One row a category, context and price level, over all its products.
    """

    summary: pd.DataFrame
    products: pd.DataFrame
    categories: pd.DataFrame


def analyse(version: LoadedVersion, panel: Panel, *, most: int = CURVES) -> Sensitivity:
    """Reads every curve that the tables need, through what serves.

    Args:
        version: The model, and what is known of its products.
        panel: The history it was trained on, which says where prices have been.
        most: Products with whole curves.
    """
    facts = version.facts
    ratios = price_levels(version.config.decision.guardrails.band)
    shelf, names = shelf_of(version), np.where(facts.categories == "", UNKNOWN, facts.categories)
    groups, group = np.unique(names, return_inverse=True)
    low, high = seen_ratios(panel)
    chosen = spread_over(facts.typical_units, count=most)
    seen = (ratios >= low[chosen, None] - 1e-9) & (ratios <= high[chosen, None] + 1e-9)
    summary, products, categories = pd.DataFrame(), [], []
    for context in contexts(facts.period):
        curves = read_curves(
            version.demand, shelf, ratios, after=facts.state_date, period=facts.period, context=context
        )
        if context is ORDINARY:
            summary = _summary(version, curves, names, at=int(np.searchsorted(ratios, 1.0 - 1e-9)))
        some = Curves(curves.units[chosen], curves.cheaper[chosen], curves.weight)
        columns = _product_columns(some, ratios, facts.list_price[chosen], facts.unit_cost[chosen])
        keys = {"product_id": facts.product_ids[chosen], "category": names[chosen]}
        products.append(_table(keys, context, ratios, {**columns, "seen": seen}))
        money = facts.list_price[:, None] * ratios, facts.unit_cost[:, None]
        categories.append(_table({"category": groups}, context, ratios, _group_columns(curves, group, *money)))
    return Sensitivity(summary, pd.concat(products, ignore_index=True), pd.concat(categories, ignore_index=True))


def price_levels(band: tuple[float, float]) -> Floats:
    """Prices over list price at which curves are read: the band's ends, list price, and every 5 % between."""
    low, high = min(band[0], 1.0), max(band[1], 1.0)
    between = 1.0 + STEP * np.arange(np.ceil((low - 1.0) / STEP), np.floor((high - 1.0) / STEP) + 1)
    inside = between[(between > low + STEP / 4) & (between < high - STEP / 4)]
    return np.unique(np.round(np.concatenate([[low, 1.0, high], inside]), 4))


def shelf_of(version: LoadedVersion) -> Shelf:
    """Every product of a version, in the order of its facts."""
    facts, demand = version.facts, version.demand
    return Shelf(
        product=_rows_of(demand.product_ids, facts.product_ids),
        category=_rows_of(demand.categories, facts.categories),
        list_price=facts.list_price,
        comp_price=facts.comp_price,
    )


def seen_ratios(panel: Panel) -> tuple[Floats, Floats]:
    """(product,) lowest and highest price over list price of the last year, one in a hundred periods apart."""
    recent = slice(-RECENT, None)
    with np.errstate(invalid="ignore"):
        ratio = np.where(panel.present, panel.price / panel.list_price, np.nan)[:, recent].astype(np.float64)
    bounds = np.ones((2, len(ratio)))
    known = np.isfinite(ratio).any(axis=1)
    bounds[:, known] = np.nanquantile(ratio[known], SEEN, axis=1)
    return bounds[0], bounds[1]


def spread_over(size: Floats, *, count: int) -> Ints:
    """Rows of at most `count` products, evenly over their order from the largest to the smallest."""
    order = np.argsort(-np.nan_to_num(size), kind="stable")
    chosen: Ints = order[np.unique(np.linspace(0, len(order) - 1, num=min(count, len(order))).round().astype(int))]
    return chosen


def _summary(version: LoadedVersion, curves: Curves, names: Strings, *, at: int) -> pd.DataFrame:
    facts, demand = version.facts, version.demand
    row = _rows_of(demand.product_ids, facts.product_ids)
    own = (row >= 0) & (demand.own()[row])
    units = curves.demand()
    return pd.DataFrame(
        {
            "product_id": facts.product_ids,
            "category": names,
            "source": np.where(own, SOURCES[0], SOURCES[1]),
            **known_of(demand, row),
            "list_price": facts.list_price,
            "unit_cost": facts.unit_cost,
            **_named("elasticity", _at(curves.elasticity(), at)),
            **_named("units", _at(units, at)),
            "profit": units.mean[:, at] * (facts.list_price - facts.unit_cost),
        }
    )


def _product_columns(curves: Curves, ratios: Floats, list_price: Floats, unit_cost: Floats) -> dict[str, Floats]:
    price, units = list_price[:, None] * ratios, curves.demand()
    return {
        "price": price,
        **_named("elasticity", curves.elasticity()),
        **_named("units", units),
        **_named("revenue", units.times(price)),
        **_named("profit", units.times(price - unit_cost[:, None])),
    }


def _group_columns(curves: Curves, group: Ints, price: Floats, unit_cost: Floats) -> dict[str, Floats]:
    """(group, price) columns; all prices of a group stand at the same share of their list prices."""
    groups = int(group.max(initial=-1)) + 1
    together, units = curves.together(group, groups=groups), curves.demand().mean
    return {
        **_named("elasticity", together.elasticity()),
        **_named("units", together.demand()),
        "revenue": _sums(units * price, group, groups),
        "profit": _sums(units * (price - unit_cost), group, groups),
    }


def _sums(values: Floats, group: Ints, groups: int) -> Floats:
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, values)
    return total


def _table(keys: dict[str, Strings], context: Context, ratios: Floats, columns: Columns) -> pd.DataFrame:
    """Arrays (curve, price) as rows."""
    count = len(next(iter(keys.values())))
    return pd.DataFrame(
        {
            **{name: np.repeat(values, len(ratios)) for name, values in keys.items()},
            "context": context.name,
            "ratio": np.tile(ratios, count),
            **{name: values.reshape(-1) for name, values in columns.items()},
        }
    )


def _named(name: str, figures: Range) -> dict[str, Floats]:
    return {name: figures.mean, f"{name}_low": figures.low, f"{name}_high": figures.high}


def _at(figures: Range, place: int) -> Range:
    return Range(figures.mean[:, place], figures.low[:, place], figures.high[:, place])


def _rows_of(sorted_names: Strings, wanted: Strings) -> Ints:
    """Row of each wanted name among sorted ones; -1 where it is not among them."""
    if not len(sorted_names):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(sorted_names, wanted), len(sorted_names) - 1)
    return np.where(sorted_names[place] == wanted, place, -1)
