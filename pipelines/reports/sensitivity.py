"""Analyse a version's price sensitivity: tables and an HTML page of elasticities, demand curves and their slopes."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints, Strings
from pricing.data.net_price import net_price, unit_profit
from pricing.data.panel import Panel
from pricing.demand.curve import SOURCES
from pricing.demand.sensitivity import (
    CONTEXTS,
    ORDINARY,
    Curves,
    DemandContext,
    ProductSelection,
    Range,
    contexts,
    read_curves,
)
from pricing.demand.table import DemandTable
from pricing.registry.version import LoadedVersion, elasticity_knowledge, shown_competitor, shown_elasticities

Columns = Mapping[str, Floats | NDArray[np.bool_]]

CURVES = 200  # most products with full curves
SEEN = (0.01, 0.99)  # quantiles of a product's past prices that bound the observed range
RECENT = 365  # periods used for it
STEP = 0.05  # distance of price levels, as a fraction of list price
UNKNOWN = "unknown"
ROWS = 100  # products shown; all are in summary.parquet
NEGLIGIBLE = 0.02  # smaller differences of slopes are ignored
_NOTES = (
    "An elasticity of −2 means: one per cent dearer, two per cent fewer units. Each product has one, here as in the "
    "model card and the service: at its list price, averaged over a week without promotion or holiday and over what "
    "the model takes for possible.",
    "A curve’s <em>slope</em> is local: also per cent of units for one per cent of price, but of the units expected at "
    "one price and on one kind of day, towards lower prices. It is steeper than the elasticity where the more elastic "
    "of the possible curves sell most, and steeper still where a cut is advertised.",
    "Intervals hold 80 % of what the model takes for possible; they do not hold what drove both price and demand and "
    "is not in the data. They are of expectations, without the luck of single days, and stock is taken to be ample.",
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } img { max-width: 100%; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .55em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.note { color: #555; }
"""


@dataclass(frozen=True)
class Sensitivity:
    """Price sensitivity of demand. Prices and money in currency units; units and money per period.

    Attributes:
        summary: One row per product: its elasticity with its interval, as it is shown everywhere
            (`registry.version.shown_elasticities`), units and profit at list price on ordinary days, whether it comes
            from the product's own history or its category's, the elasticity's grade, why the price stays, and what the
            competitor's price does to demand, NaN where that is unknown; where products share elasticities, whose and
            by how many.
        products: One row per product, context and price level, for at most `CURVES` products: units, money, and the
            local slope of the demand curve.
        categories: One row per category, context and price level, over all its products.
    """

    summary: pd.DataFrame
    products: pd.DataFrame
    categories: pd.DataFrame


def analyse(version: LoadedVersion, panel: Panel, *, most: int = CURVES) -> Sensitivity:
    """Computes the tables from the version's demand curves.

    Args:
        version: Demand model and product facts.
        panel: The history it was trained on, for the observed price range.
        most: Products whose curves are tabulated.
    """
    facts = version.facts
    ratios = price_levels(version.config.decision.guardrails.band)
    selection, names = shelf_of(version), np.where(facts.categories == "", UNKNOWN, facts.categories)
    groups, group = np.unique(names, return_inverse=True)
    low, high = seen_ratios(panel)
    chosen = spread_over(facts.typical_units, count=most)
    seen = (ratios >= low[chosen, None] - 1e-9) & (ratios <= high[chosen, None] + 1e-9)
    summary, products, categories = pd.DataFrame(), [], []
    for context in contexts(facts.period):
        curves = read_curves(
            version.demand, selection, ratios, after=facts.state_date, period=facts.period, context=context
        )
        if context is ORDINARY:
            summary = _summary(version, curves, names, at=int(np.searchsorted(ratios, 1.0 - 1e-9)))
        some = Curves(curves.units[chosen], curves.cheaper[chosen], curves.weight)
        columns = _product_columns(some, ratios, version=version, rows=chosen)
        keys = {"product_id": facts.product_ids[chosen], "category": names[chosen]}
        products.append(_table(keys, context, ratios, {**columns, "seen": seen}))
        earned = _earned(version, ratios)
        categories.append(_table({"category": groups}, context, ratios, _group_columns(curves, group, earned)))
    return Sensitivity(summary, pd.concat(products, ignore_index=True), pd.concat(categories, ignore_index=True))


def price_levels(band: tuple[float, float]) -> Floats:
    """Returns the price levels, as fractions of list price: the band's ends, list price, and steps of 5 % between."""
    low, high = min(band[0], 1.0), max(band[1], 1.0)
    between = 1.0 + STEP * np.arange(np.ceil((low - 1.0) / STEP), np.floor((high - 1.0) / STEP) + 1)
    inside = between[(between > low + STEP / 4) & (between < high - STEP / 4)]
    return np.unique(np.round(np.concatenate([[low, 1.0, high], inside]), 4))


def shelf_of(version: LoadedVersion) -> ProductSelection:
    """Returns every product of a version, in the order of its facts."""
    facts, demand = version.facts, version.demand
    return ProductSelection(
        product=_rows_of(demand.product_ids, facts.product_ids),
        category=_rows_of(demand.categories, facts.categories),
        list_price=facts.list_price,
        comp_price=facts.comp_price,
    )


def seen_ratios(panel: Panel) -> tuple[Floats, Floats]:
    """(product,) 1 % and 99 % quantiles of price over list price in the last year, as (low, high)."""
    recent = slice(-RECENT, None)
    with np.errstate(invalid="ignore"):
        ratio = np.where(panel.present, panel.price / panel.list_price, np.nan)[:, recent].astype(np.float64)
    bounds = np.ones((2, len(ratio)))
    known = np.isfinite(ratio).any(axis=1)
    bounds[:, known] = np.nanquantile(ratio[known], SEEN, axis=1)
    return bounds[0], bounds[1]


def spread_over(size: Floats, *, count: int) -> Ints:
    """Returns the rows of at most `count` products, evenly spaced by rank from the largest to the smallest."""
    order = np.argsort(-np.nan_to_num(size), kind="stable")
    chosen: Ints = order[np.unique(np.linspace(0, len(order) - 1, num=min(count, len(order))).round().astype(int))]
    return chosen


def _summary(version: LoadedVersion, curves: Curves, names: Strings, *, at: int) -> pd.DataFrame:
    facts, demand = version.facts, version.demand
    row = _rows_of(demand.product_ids, facts.product_ids)
    own = (row >= 0) & (demand.own[row])
    units, shown = curves.demand(), shown_elasticities(demand, row).values()
    return pd.DataFrame(
        {
            "product_id": facts.product_ids,
            "category": names,
            "source": np.where(own, SOURCES[0], SOURCES[1]),
            **_sharing(demand, row, facts.product_ids),
            **elasticity_knowledge(demand, row, holds_only=version.holds_only),
            "list_price": facts.list_price,
            "unit_cost": facts.unit_cost,
            **{f"elasticity{end}": values for end, values in zip(("", "_low", "_high"), shown, strict=True)},
            **competitor_columns(demand, row),
            **_named("units", _at(units, at)),
            "tax_rate": facts.tax_rates(),
            "profit": units.mean[:, at] * unit_profit(facts.list_price, facts.unit_cost, tax_rate=facts.tax_rates()),
        }
    )


def _sharing(demand: DemandTable, rows: Ints, product_ids: Strings) -> dict[str, NDArray[Any]]:
    """Columns (row,) of whose elasticity each product has and how many have it in common; none where each its own."""
    parents, count = demand.sharing()
    if not (count > 1).any():
        return {}
    known = rows >= 0
    return {
        "parent_id": np.where(known, parents[rows], product_ids),
        "shared_by": np.where(known, count[rows], 1),
    }


def competitor_columns(demand: DemandTable, rows: Ints) -> dict[str, Floats]:
    """Columns (row,) of what the competitor's price does to the demand of products `rows`; NaN where unknown."""
    shown = [shown_competitor(demand, row) for row in rows.tolist()]
    effects = np.array([(one.effect, one.low, one.high, one.moves) for one in shown], np.float64).reshape(-1, 4)
    return dict(zip(("competitor", "competitor_low", "competitor_high", "competitor_moves"), effects.T, strict=True))


class _Earned(NamedTuple):
    """(product, price) what a unit brings at each price level: paid, kept after tax, and earned over its cost."""

    price: Floats
    revenue: Floats
    profit: Floats


def _earned(version: LoadedVersion, ratios: Floats, *, rows: Ints | slice = slice(None)) -> _Earned:
    facts = version.facts
    listed, cost, tax_rate = (values[rows, None] for values in (facts.list_price, facts.unit_cost, facts.tax_rates()))
    price = listed * ratios
    return _Earned(price, net_price(price, tax_rate), unit_profit(price, cost, tax_rate=tax_rate))


def _product_columns(curves: Curves, ratios: Floats, *, version: LoadedVersion, rows: Ints) -> dict[str, Floats]:
    earned, units = _earned(version, ratios, rows=rows), curves.demand()
    return {
        "price": earned.price,
        **_named("slope", curves.slope()),
        **_named("units", units),
        **_named("revenue", units.times(earned.revenue)),
        **_named("profit", units.times(earned.profit)),
    }


def _group_columns(curves: Curves, group: Ints, earned: _Earned) -> dict[str, Floats]:
    """Returns (group, price) columns; all prices of a group are at the same fraction of their list prices."""
    groups = int(group.max(initial=-1)) + 1
    together, units = curves.together(group, groups=groups), curves.demand().mean
    return {
        **_named("slope", together.slope()),
        **_named("units", together.demand()),
        "revenue": _sums(units * earned.revenue, group, groups),
        "profit": _sums(units * earned.profit, group, groups),
    }


def _sums(values: Floats, group: Ints, groups: int) -> Floats:
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, values)
    return total


def _table(keys: dict[str, Strings], context: DemandContext, ratios: Floats, columns: Columns) -> pd.DataFrame:
    """Flattens arrays (curve, price) to a table with one row per element."""
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
    """Returns the row of each wanted name in the sorted names, -1 where absent."""
    if not len(sorted_names):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(sorted_names, wanted), len(sorted_names) - 1)
    return np.where(sorted_names[place] == wanted, place, -1)


def sensitivity_page(found: Sensitivity, plots: Mapping[str, bytes], *, title: str) -> str:
    """Returns the sensitivity report as self-contained HTML.

    Args:
        found: The tables.
        plots: PNG images by name, shown in order.
        title: Title of the page.
    """
    shown = min(ROWS, len(found.summary))
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="note">{paragraph}</p>' for paragraph in _NOTES),
        "<h2>What the slope depends on</h2>",
        _list(dependence(found)),
        _contexts(found),
        f"<p>{escape(competitor_words(found.summary))}</p>",
        "<h2>Categories</h2>",
        _categories(found),
        *(_image(name, image) for name, image in plots.items()),
        f"<h2>Products{f', the {shown} that earn most' if shown < len(found.summary) else ''}</h2>",
        _products(found, shown),
        '<p class="note">summary.parquet holds every product; products.parquet the curves of up to '
        f"{found.products['product_id'].nunique()} products over price and context; categories.parquet those of "
        "categories.</p>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def dependence(found: Sensitivity) -> list[str]:
    """Describes in sentences what the slope of demand depends on and what not, computed from the tables."""
    table = found.products
    plain = table[table["context"] == ORDINARY.name].set_index(["product_id", "ratio"])
    sentences, same = [], []
    for context in table["context"].unique():
        if context == ORDINARY.name:
            continue
        other = table[table["context"] == context].set_index(["product_id", "ratio"])
        apart = (other["slope"] - plain["slope"]).abs()
        most = float(apart.max())
        if most < NEGLIGIBLE:
            same.append(context)
            continue
        where = apart[apart > NEGLIGIBLE].index.get_level_values("ratio")
        sentences.append(
            f"{context.capitalize()}: differs from ordinary days by up to {most:.2f}, at price levels from "
            f"{where.min():.0%} to {where.max():.0%} of list price; for the middle product by "
            f"{float(apart.groupby('ratio').median().max()):.2f}."
        )
    if same:
        sentences.append(
            f"Not on: {', '.join(same)}. There more or less sells, and it answers to price as on ordinary days."
        )
    ends = plain["slope_low"].unstack()
    bend = float((ends.iloc[:, 0] - ends.iloc[:, -1]).abs().max())
    change = plain["slope"].unstack()
    drift = float((change.iloc[:, -1] - change.iloc[:, 0]).median())
    if bend < NEGLIGIBLE:
        sentences.append(
            "Price level: each curve that the model takes for possible has one elasticity at all prices. What is "
            f"expected of them all is flatter at high prices (by {drift:.2f} from end to end for the middle product): "
            "there the less elastic of the possible curves sell most of what is sold."
        )
    else:
        sentences.append(
            f"Price level: from the lowest to the highest it moves by {drift:+.2f} for the middle product."
        )
    return sentences


def competitor_words(summary: pd.DataFrame) -> str:
    """What is known of the competitor's effect on demand, in sentences.

    Args:
        summary: At least the columns of `competitor_columns`.
    """
    known = summary[summary["competitor"].notna()]
    rest = len(summary) - len(known)
    unknown = f"The competitor: what its price does to demand is unknown for {rest} of {len(summary)} products, "
    unknown += "whose history has no or too few moves of it, or no other product to tell its effect from what all "
    unknown += "share."
    if known.empty:
        return unknown
    middle, low, high = known[["competitor", "competitor_low", "competitor_high"]].median()
    clear = int((known["competitor_low"] > 0).sum())
    said = (
        f"The competitor: for the middle one of {len(known)} products demand changes by {middle:+.2f} % where its "
        f"price rises by 1 % (80 % interval {low:+.2f} to {high:+.2f}); for {clear} of them the interval lies above 0."
    )
    return f"{said} For {rest} products it is unknown." if rest else said


def _contexts(found: Sensitivity) -> str:
    table = found.categories[np.isclose(found.categories["ratio"], 1.0)]
    units = table.groupby("context")["units"].sum()
    rows = [
        [context.name, f"{units[context.name] / units[ORDINARY.name] - 1:+.1%}"]
        for context in CONTEXTS
        if context.name in units.index and context is not ORDINARY
    ]
    return _html_table(["context", "units at list price, against ordinary days"], rows)


def _categories(found: Sensitivity) -> str:
    table = found.categories[found.categories["context"] == ORDINARY.name]
    rows = []
    for category, part in table.groupby("category"):
        listed = part[np.isclose(part["ratio"], 1.0)].iloc[0]
        own = found.summary[found.summary["category"] == category]
        middle = own[["elasticity", "elasticity_low", "elasticity_high"]].median()
        best = part.iloc[int(part["profit"].to_numpy().argmax())]
        rows.append(
            [
                str(category),
                f"{len(own):,}",
                f"{middle['elasticity']:.2f}",
                _interval(middle),
                f"{own['elasticity'].quantile(0.1):.2f} to {own['elasticity'].quantile(0.9):.2f}",
                f"{listed['units']:,.1f}",
                f"{listed['profit']:,.2f}",
                f"{best['ratio']:.0%}",
            ]
        )
    head = ["category", "products", "median elasticity", "median 80 % interval", "10–90 % of them"]
    return _html_table([*head, "units a period", "profit a period", "most profit at"], rows)


def _products(found: Sensitivity, shown: int) -> str:
    rows = [
        [
            str(row["product_id"]),
            str(row["category"]),
            f"{row['elasticity']:.2f}",
            _interval(row),
            "its own" if row["source"] == "model" else "its category",
            str(row["grade"]).replace("_", " ") + _shared_cell(row),
            str(row["why"]),
            _competitor_cell(row),
            f"{row['list_price']:,.2f}",
            f"{row['units']:,.2f} ({row['units_low']:,.2f} to {row['units_high']:,.2f})",
            f"{row['profit']:,.2f}",
        ]
        for _, row in found.summary.nlargest(shown, "profit").iterrows()
    ]
    head = ["product", "category", "elasticity", "80 % interval", "history", "grade", "the price", "competitor +1 %"]
    return _html_table([*head, "list price", "units a period", "profit a period"], rows)


def _shared_cell(row: "pd.Series[Any]") -> str:
    return f", shared by {row['shared_by']} of {row['parent_id']}" if row.get("shared_by", 1) > 1 else ""


def _competitor_cell(row: "pd.Series[Any]") -> str:
    if np.isnan(row["competitor"]):
        return "unknown"
    return f"{row['competitor']:+.2f} % ({row['competitor_low']:+.2f} to {row['competitor_high']:+.2f})"


def _interval(row: "pd.Series[float]") -> str:
    return f"{row['elasticity_low']:.2f} to {row['elasticity_high']:.2f}"


def _html_table(head: list[str], rows: list[list[str]]) -> str:
    cells = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    first = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"
    return f'<div class="wide"><table>{first}{"".join(cells)}</table></div>'


def _list(sentences: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _image(name: str, image: bytes) -> str:
    data = base64.b64encode(image).decode()
    return f'<p><img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}"></p>'
