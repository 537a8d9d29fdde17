"""Lay one demand curve a product beside today's price, and how well its elasticity is known."""

import datetime as dt
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.reports import render
from pricing.arrays import Floats
from pricing.data.panel import STEP_DAYS
from pricing.decision.request import PriceRequest
from pricing.registry.version import LoadedVersion, shown_elasticities

STEP = 0.05  # distance of price levels, as a fraction of list price
PASS = 500  # products evaluated at once
ROWS = 100  # products shown; all are in summary.parquet
WIDE, HIGH = 150, 44  # of a drawn curve, pixels


@dataclass(frozen=True)
class Sensitivity:
    """Price sensitivity of demand. Prices in currency units, units per period."""

    # A row per product: its elasticity with its interval and grade, as it is shown everywhere
    # (`registry.version.shown_elasticities`), today's price, and what it usually sells; where products share
    # elasticities, whose and by how many.
    summary: pd.DataFrame
    products: pd.DataFrame  # a row per product and price level: units expected that day, and if such a price was seen
    day: dt.date  # the next one that is no weekend, or the next week


def analyse(version: LoadedVersion) -> Sensitivity:
    """Computes the tables by the version's pricer, for an ordinary day after its state's date, without promotion."""
    facts, demand, today = version.facts, version.demand, version.demand.state_date
    pricer = version.pricer(version="sensitivity")
    day = today + dt.timedelta(days=STEP_DAYS[demand.period])
    while demand.period == "day" and day.weekday() >= 5:
        day += dt.timedelta(days=1)
    requests = [PriceRequest(product_id=name, date=day, is_promo=False) for name in facts.product_ids.tolist()]
    ratios = price_levels(version.config.decision.guardrails.band)
    price = facts.list_price[:, None] * ratios
    units = np.empty(price.shape)
    for start in range(0, len(requests), PASS):
        some = slice(start, start + PASS)
        asked = [request for request in requests[some] for _ in ratios]
        units[some] = np.reshape(pricer.demand_at(asked, price[some].ravel().tolist(), today=today), (-1, len(ratios)))
    low, high = facts.seen_low[:, None] * (1 - 1e-9), facts.seen_high[:, None] * (1 + 1e-9)
    row = np.searchsorted(demand.product_ids, facts.product_ids)
    parents, count = demand.sharing()
    summary = {
        "product_id": facts.product_ids,
        "category": np.where(facts.categories == "", "unknown", facts.categories),
        **({"parent_id": parents[row], "shared_by": count[row]} if (count > 1).any() else {}),
        **shown_elasticities(demand, row, holds_only=version.holds_only),
        "typical_units": facts.typical_units,
        "price": facts.price,
        "list_price": facts.list_price,
    }
    products = {
        "product_id": np.repeat(facts.product_ids, len(ratios)),
        "ratio": np.tile(ratios, len(row)),
        "price": price.ravel(),
        "seen": ((price >= low) & (price <= high)).ravel(),
        "units": units.ravel(),
    }
    return Sensitivity(pd.DataFrame(summary), pd.DataFrame(products), day)


def price_levels(band: tuple[float, float]) -> Floats:
    """Returns the price levels, as fractions of list price: the band's ends, list price, and steps of 5 % between."""
    low, high = min(band[0], 1.0), max(band[1], 1.0)
    steps = 1.0 + STEP * np.arange(np.ceil((low - 1.0) / STEP), np.floor((high - 1.0) / STEP) + 1)
    inside = steps[(steps > low + STEP / 4) & (steps < high - STEP / 4)]
    return np.unique(np.round(np.concatenate([[low, 1.0, high], inside]), 4))


def sensitivity_page(found: Sensitivity, *, title: str) -> str:
    """Returns the report as self-contained HTML, the products with the most money first."""
    summary = found.summary
    sold = (summary["typical_units"] * summary["price"]).fillna(0.0)
    rows = summary.loc[sold.sort_values(ascending=False, kind="stable").index[:ROWS]]
    curves = dict(iter(found.products[found.products["product_id"].isin(rows["product_id"])].groupby("product_id")))
    return render(
        "sensitivity_page.html.jinja",
        title=title,
        day=found.day,
        rows=[{"shared_by": 1, **row, **_drawn(curves[row["product_id"]], row)} for row in rows.to_dict("records")],
        count=len(summary),
        wide=WIDE,
        high=HIGH,
    )


def _drawn(curve: pd.DataFrame, row: dict[Hashable, Any]) -> dict[str, object]:
    """Points of a product's curve in pixels, whole and where prices were seen, and today's price."""
    price, most = curve["price"].to_numpy(), max(float(curve["units"].max()), 1e-12)
    x, y = WIDE * (price - price[0]) / max(price[-1] - price[0], 1e-12), HIGH * (1 - curve["units"].to_numpy() / most)
    points = np.array([f"{right:.1f},{down:.1f}" for right, down in zip(x, y, strict=True)])
    today = row["price"]
    return {
        "curve": " ".join(points),
        "seen": " ".join(points[curve["seen"]]),
        "today": float(np.interp(today, price, x)) if np.isfinite(today) else None,
    }
