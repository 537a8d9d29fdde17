"""Analyse a version's price sensitivity: one demand curve a product beside what the service decides of its price."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.reports.page import render
from pricing.arrays import Floats, Ints
from pricing.data.net_price import net_price, unit_profit
from pricing.data.panel import STEP_DAYS
from pricing.decision.reasons import REASONS
from pricing.decision.request import Decision, PriceRequest
from pricing.demand.table import DemandTable
from pricing.registry.version import LoadedVersion, shown_competitor, shown_elasticities

STEP = 0.05  # distance of price levels, as a fraction of list price
PASS = 500  # products evaluated at once
ROWS = 100  # products shown; all are in summary.parquet
WIDE, HIGH = 150, 44  # of a drawn curve, pixels


@dataclass(frozen=True)
class Sensitivity:
    """Price sensitivity of demand. Prices and money in currency units; units and money per period.

    Attributes:
        summary: One row per product: its elasticity with its interval, as it is shown everywhere
            (`registry.version.shown_elasticities`), today's price, the price `decided` for the next day and the
            `decision` in words, units and profit at list price, the elasticity's grade, and what the competitor's
            price does to demand, NaN where that is unknown; where products share elasticities, whose and by how many.
        products: One row per product and price level: units expected that day, revenue, profit, and whether such a
            price was seen.
        day: The next day that is no weekend, or the next week.
    """

    summary: pd.DataFrame
    products: pd.DataFrame
    day: dt.date


def analyse(version: LoadedVersion) -> Sensitivity:
    """Computes the tables by the version's pricer, for an ordinary day after its state's date, without promotion."""
    facts, demand, today = version.facts, version.demand, version.demand.state_date
    row, pricer = np.searchsorted(demand.product_ids, facts.product_ids), version.pricer(version="sensitivity")
    day = today + dt.timedelta(days=STEP_DAYS[demand.period])
    while demand.period == "day" and day.weekday() >= 5:
        day += dt.timedelta(days=1)
    requests = [PriceRequest(product_id=name, date=day, is_promo=False) for name in facts.product_ids.tolist()]
    decisions = pricer.price(requests, today=today)
    ratios = price_levels(version.config.decision.guardrails.band)
    price = facts.list_price[:, None] * ratios
    units = np.empty(price.shape)
    for start in range(0, len(requests), PASS):
        some = slice(start, start + PASS)
        asked = [request for request in requests[some] for _ in ratios]
        units[some] = np.reshape(pricer.demand_at(asked, price[some].ravel().tolist(), today=today), (-1, len(ratios)))
    cost, tax = facts.unit_cost[:, None], facts.tax_rates()[:, None]
    low, high = facts.seen_low[:, None] * (1 - 1e-9), facts.seen_high[:, None] * (1 + 1e-9)
    curves = {
        "price": price,
        "seen": (price >= low) & (price <= high),
        "units": units,
        "revenue": units * net_price(price, tax),
        "profit": units * unit_profit(price, cost, tax_rate=tax),
    }
    listed = int(np.searchsorted(ratios, 1.0 - 1e-9))
    parents, count = demand.sharing()
    summary = {
        "product_id": facts.product_ids,
        "category": np.where(facts.categories == "", "unknown", facts.categories),
        **({"parent_id": parents[row], "shared_by": count[row]} if (count > 1).any() else {}),
        **shown_elasticities(demand, row, holds_only=version.holds_only),
        "price": facts.price,
        "list_price": facts.list_price,
        "unit_cost": facts.unit_cost,
        "tax_rate": facts.tax_rates(),
        "decided": [one.recommended_price for one in decisions],
        "decision": [_said(one, now) for one, now in zip(decisions, facts.price.tolist(), strict=True)],
        **competitor_columns(demand, row),
        **{name: curves[name][:, listed] for name in ("units", "profit")},
    }
    products = {
        "product_id": np.repeat(facts.product_ids, len(ratios)),
        "category": np.repeat(summary["category"], len(ratios)),
        "ratio": np.tile(ratios, len(row)),
        **{name: values.reshape(-1) for name, values in curves.items()},
    }
    return Sensitivity(pd.DataFrame(summary), pd.DataFrame(products), day)


def _said(decision: Decision, today: float) -> str:
    """The decision in words, beginning with whether today's price is kept."""
    price = decision.recommended_price
    moved = "kept" if abs(price - today) < 0.005 else f"{price:.2f} in place of {today:.2f}"
    return f"{moved}: {'; '.join(REASONS[code] for code in decision.reasons)}" if decision.reasons else moved


def price_levels(band: tuple[float, float]) -> Floats:
    """Returns the price levels, as fractions of list price: the band's ends, list price, and steps of 5 % between."""
    low, high = min(band[0], 1.0), max(band[1], 1.0)
    between = 1.0 + STEP * np.arange(np.ceil((low - 1.0) / STEP), np.floor((high - 1.0) / STEP) + 1)
    inside = between[(between > low + STEP / 4) & (between < high - STEP / 4)]
    return np.unique(np.round(np.concatenate([[low, 1.0, high], inside]), 4))


def competitor_columns(demand: DemandTable, rows: Ints) -> dict[str, Floats]:
    """Columns (row,) of what the competitor's price does to the demand of products `rows`; NaN where unknown."""
    shown = [shown_competitor(demand, row) for row in rows.tolist()]
    effects = np.array([(one.effect, one.low, one.high, one.moves) for one in shown], np.float64).reshape(-1, 4)
    return dict(zip(("competitor", "competitor_low", "competitor_high", "competitor_moves"), effects.T, strict=True))


def competitor_words(summary: pd.DataFrame) -> str:
    """Says what is known of the competitor's effect on demand; `summary` has the columns of `competitor_columns`."""
    known = summary[summary["competitor"].notna()]
    rest = len(summary) - len(known)
    if known.empty:
        return (
            f"The competitor: what its price does to demand is unknown for {rest} of {len(summary)} products, whose "
            "history has no or too few moves of it, or no other product to tell its effect from what all share."
        )
    middle, low, high = known[["competitor", "competitor_low", "competitor_high"]].median()
    clear = int((known["competitor_low"] > 0).sum())
    said = (
        f"The competitor: for the middle one of {len(known)} products demand changes by {middle:+.2f} % where its "
        f"price rises by 1 % (80 % interval {low:+.2f} to {high:+.2f}); for {clear} of them the interval lies above 0."
    )
    return f"{said} For {rest} products it is unknown." if rest else said


def sensitivity_page(found: Sensitivity, plots: dict[str, str], *, title: str) -> str:
    """Returns the report as self-contained HTML.

    Args:
        found: The tables.
        plots: PNG images by name, in base64, shown in order.
        title: Title of the page.
    """
    rows = found.summary.nlargest(ROWS, "profit")
    curves = dict(iter(found.products[found.products["product_id"].isin(rows["product_id"])].groupby("product_id")))
    shown = [
        {"shared_by": 1, **row, **_drawn(curves[row["product_id"]], row["price"])} for row in rows.to_dict("records")
    ]
    return render(
        "sensitivity_page.html.jinja",
        title=title,
        day=found.day,
        plots=plots,
        competitor=competitor_words(found.summary),
        rows=shown,
        count=len(found.summary),
        wide=WIDE,
        high=HIGH,
    )


def _drawn(curve: pd.DataFrame, today: float) -> dict[str, object]:
    """Points of a product's curve as SVG has them, and where today's price lies, in pixels."""
    price, most = curve["price"].to_numpy(), max(float(curve["units"].max()), 1e-12)
    x = WIDE * (price - price[0]) / max(price[-1] - price[0], 1e-12)
    points = (f"{at:.1f},{HIGH * (1 - units / most):.1f}" for at, units in zip(x, curve["units"], strict=True))
    return {"curve": " ".join(points), "today": float(np.interp(today, price, x)) if np.isfinite(today) else None}
