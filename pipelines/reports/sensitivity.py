"""Analyse a version's price sensitivity: one demand curve a product, as tables and as an HTML page."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Days, Floats, Ints, Strings
from pricing.data.net_price import net_price, unit_profit
from pricing.data.panel import STEP_DAYS
from pricing.demand.curve import SOURCES, Offers
from pricing.demand.table import DemandTable
from pricing.registry.version import LoadedVersion, shown_competitor, shown_elasticities

STEP = 0.05  # distance of price levels, as a fraction of list price
LEVEL = 0.80  # of all intervals
PASS = 500  # products evaluated at once
UNKNOWN = "unknown"
ROWS = 100  # products shown; all are in summary.parquet
WIDE, HIGH = 150, 44  # of a drawn curve, pixels


@dataclass(frozen=True)
class Sensitivity:
    """Price sensitivity of demand. Prices and money in currency units; units and money per period.

    Attributes:
        summary: One row per product: its elasticity with its interval, as it is shown everywhere
            (`registry.version.shown_elasticities`), today's price, units and profit at list price, whether they come
            from the product's own history or its category's, the elasticity's grade, why the price stays, and what the
            competitor's price does to demand, NaN where that is unknown; where products share elasticities, whose and
            by how many.
        products: One row per product and price level: units expected on ordinary days with an interval over what the
            model takes for possible, revenue, profit, and whether such a price was seen.
    """

    summary: pd.DataFrame
    products: pd.DataFrame


def analyse(version: LoadedVersion) -> Sensitivity:
    """Computes the tables from the version's demand on Mondays to Fridays of the week after its state's date."""
    facts, demand = version.facts, version.demand
    row = _rows_of(demand.product_ids, facts.product_ids)
    names = np.where(facts.categories == "", UNKNOWN, facts.categories)
    ratios = price_levels(version.config.decision.guardrails.band)
    price = facts.list_price[:, None] * ratios
    units = _expected(version, row, price)
    low, high, cost, tax = (
        column[:, None] for column in (facts.seen_low, facts.seen_high, facts.unit_cost, facts.tax_rates())
    )
    profit = units["units"] * unit_profit(price, cost, tax_rate=tax)
    columns = {
        "price": price,
        "seen": (price >= low * (1 - 1e-9)) & (price <= high * (1 + 1e-9)),
        **units,
        "revenue": units["units"] * net_price(price, tax),
        "profit": profit,
    }
    listed = int(np.searchsorted(ratios, 1.0 - 1e-9))
    summary = {
        "product_id": facts.product_ids,
        "category": names,
        "source": np.where((row >= 0) & demand.own[row], SOURCES[0], SOURCES[1]),
        **_sharing(demand, row, facts.product_ids),
        **shown_elasticities(demand, row, holds_only=version.holds_only),
        "price": facts.price,
        "list_price": facts.list_price,
        "unit_cost": facts.unit_cost,
        **competitor_columns(demand, row),
        **{name: values[:, listed] for name, values in units.items()},
        "tax_rate": facts.tax_rates(),
        "profit": profit[:, listed],
    }
    keys = {"product_id": facts.product_ids, "category": names}
    products = {
        **{name: np.repeat(values, len(ratios)) for name, values in keys.items()},
        "ratio": np.tile(ratios, len(row)),
        **{name: values.reshape(-1) for name, values in columns.items()},
    }
    return Sensitivity(pd.DataFrame(summary), pd.DataFrame(products))


def price_levels(band: tuple[float, float]) -> Floats:
    """Returns the price levels, as fractions of list price: the band's ends, list price, and steps of 5 % between."""
    low, high = min(band[0], 1.0), max(band[1], 1.0)
    between = 1.0 + STEP * np.arange(np.ceil((low - 1.0) / STEP), np.floor((high - 1.0) / STEP) + 1)
    inside = between[(between > low + STEP / 4) & (between < high - STEP / 4)]
    return np.unique(np.round(np.concatenate([[low, 1.0, high], inside]), 4))


def spread_over(size: Floats, *, count: int) -> Ints:
    """Returns the rows of at most `count` products, evenly spaced by rank from the largest to the smallest."""
    order = np.argsort(-np.nan_to_num(size), kind="stable")
    chosen: Ints = order[np.unique(np.linspace(0, len(order) - 1, num=min(count, len(order))).round().astype(int))]
    return chosen


def _expected(version: LoadedVersion, row: Ints, price: Floats) -> dict[str, Floats]:
    """(product, price) units expected a period, and the ends of their log-normal interval over the nodes."""
    facts, demand = version.facts, version.demand
    category, parts = _rows_of(demand.categories, facts.categories), []
    days: Days = np.datetime64(demand.state_date, "D") + STEP_DAYS[demand.period] + np.arange(7)
    days = days[:1] if demand.period == "week" else days[np.is_busday(days)]
    for start in range(0, len(row), PASS):
        some = np.repeat(np.arange(start, min(start + PASS, len(row))), len(days))
        offers = Offers(
            product=row[some],
            category=category[some],
            date=np.tile(days, len(some) // len(days)),
            list_price=facts.list_price[some],
            comp_price=facts.comp_price[some],
            is_promo=np.zeros(len(some)),
            periods=np.ones(len(some), np.int64),
        )
        grid = demand.curves(offers)(price[some])
        parts.append(grid.first.reshape(-1, len(days), *grid.first.shape[1:]).mean(axis=1, dtype=np.float64))
    units, weight = np.concatenate(parts), grid.weight  # (product, node, price), (node,)
    logs = np.log(np.maximum(units, 1e-12))
    middle = np.einsum("n,pnr->pr", weight, logs)
    spread = np.sqrt(np.einsum("n,pnr->pr", weight, (logs - middle[:, None]) ** 2))
    width = NormalDist().inv_cdf((1 + LEVEL) / 2) * spread
    mean = np.einsum("n,pnr->pr", weight, units)
    return {"units": mean, "units_low": np.exp(middle - width), "units_high": np.exp(middle + width)}


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
    rows = found.summary.nlargest(ROWS, "profit")
    curves = dict(iter(found.products[found.products["product_id"].isin(rows["product_id"])].groupby("product_id")))
    return (
        jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
        )
        .get_template("sensitivity_page.html")
        .render(
            title=title,
            plots={name.replace("_", " "): base64.b64encode(image).decode() for name, image in plots.items()},
            competitor=competitor_words(found.summary),
            rows=[
                {"shared_by": 1, **row, **_drawn(curves[row["product_id"]], row["price"])}
                for row in rows.to_dict("records")
            ],
            count=len(found.summary),
            wide=WIDE,
            high=HIGH,
        )
    )


def _drawn(curve: pd.DataFrame, today: float) -> dict[str, Any]:
    """Points of a product's curve and of its interval as SVG has them, and where today's price lies, in pixels."""
    price, most = curve["price"].to_numpy(), max(float(curve["units_high"].max()), 1e-12)
    span = max(price[-1] - price[0], 1e-12)
    x = WIDE * (price - price[0]) / span

    def points(name: str) -> list[str]:
        return [f"{at:.1f},{HIGH * (1 - units / most):.1f}" for at, units in zip(x, curve[name], strict=True)]

    at = float(np.clip(WIDE * (today - price[0]) / span, 0, WIDE)) if np.isfinite(today) else None
    band = [*points("units_low"), *reversed(points("units_high"))]
    return {"curve": " ".join(points("units")), "band": " ".join(band), "today": at}
