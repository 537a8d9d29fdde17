"""Compute business figures: sales, margin, discounts, stock turns, and the gain over held-out products."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.holdout import first_day
from monitoring.performance import Interval
from monitoring.policy import Finding
from monitoring.samples import mean_units
from pricing.data.net_price import net_price, unit_profit
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.assignment import Holdout
from pricing.demand.ensemble import volume_rows

RESAMPLES = 2000
LEAST_PRODUCTS = 5
BEFORE_WINDOWS = 3
USUAL_WEEKS = 8  # before the newest one, whose median is what is usual


@dataclass(frozen=True)
class BusinessFigures:
    """Business figures of one week, of the whole shop or of a category.

    Attributes:
        name: "all", or the category.
        units: Units sold.
        revenue: Net of tax, in currency units.
        margin: Revenue less the cost of what was sold, in currency units.
        discount: How far prices paid lay below list prices, as a fraction of list.
        turns: Units sold as a fraction of the mean stock at opening; NaN where stock is unknown.
        sold_out: Fraction of product-days with a known stock that ended sold out.
        assumed: Fraction of the revenue whose cost is assumed from a configured margin, not given.
    """

    name: str
    units: float
    revenue: float
    margin: float
    discount: float
    turns: float
    sold_out: float
    assumed: float = 0.0


@dataclass(frozen=True)
class Effect:
    """Effect of pricing on margin, against static prices.

    Attributes:
        margin: Change of margin due to pricing, as a fraction, with its 95 % interval over products.
        priced: Number of products priced.
        held: Number of products held out.
        text: The same in a sentence, or why there is no estimate.
    """

    margin: Interval
    priced: int
    held: int
    text: str


def line(panel: Panel, *, name: str, rows: NDArray[np.bool_], periods: slice) -> BusinessFigures:
    """Adds up the panel over some products and periods."""
    part = panel.select(rows)
    seen = part.present[:, periods]
    units = np.where(seen, part.units_sold[:, periods], 0.0)
    price, list_price, cost, tax_rate = (
        np.nan_to_num(value[:, periods])
        for value in (part.price, part.list_price, part.unit_cost, panel.tax_rates()[rows])
    )
    paid, at_list = float((units * price).sum()), float((units * list_price).sum())
    kept = units * net_price(price, tax_rate)
    revenue, guessed = float(kept.sum()), float(kept[part.cost_assumed].sum())
    stock = part.stock[:, periods]
    known = np.isfinite(stock) & seen
    per_period = known.any(axis=0).sum()
    mean_stock = stock[known].sum() / per_period if per_period else 0.0
    return BusinessFigures(
        name=name,
        units=float(units.sum()),
        revenue=revenue,
        margin=float((units * unit_profit(price, cost, tax_rate=tax_rate)).sum()),
        discount=1 - paid / at_list if at_list > 0 else float("nan"),
        turns=float(units[known].sum() / mean_stock) if mean_stock > 0 else float("nan"),
        sold_out=float(part.censored[:, periods].sum() / known.sum()) if known.any() else float("nan"),
        assumed=guessed / revenue if revenue > 0 else float(part.cost_assumed.any()),
    )


def weeks(panel: Panel, *, count: int = 2) -> list[tuple[str, slice]]:
    """Returns the newest weeks, oldest first: their dates as text, and their periods."""
    step = 7 // STEP_DAYS[panel.period]
    total = len(panel.dates)
    spans = [slice(max(0, total - step * back), total - step * (back - 1)) for back in range(count, 0, -1)]
    days = np.timedelta64(STEP_DAYS[panel.period] - 1, "D")
    return [
        (f"{panel.dates[span.start]} to {panel.dates[span.stop - 1] + days}", span) for span in spans if span.stop > 0
    ]


def implausible(panel: Panel, *, factor: float) -> list[Finding]:
    """Finds figures of the newest week that no business explains: a fault of the data, until somebody has looked.

    Units, sales and margin are held against their medians of the weeks before, prices against each product's own.

    Args:
        panel: Actual sales.
        factor: Times that a figure may be what is usual, or the reverse.
    """
    spans = weeks(panel, count=USUAL_WEEKS + 1)
    if len(spans) < 2:
        return []
    everything = np.ones(len(panel.product_ids), dtype=bool)
    lines = [line(panel, name="all", rows=everything, periods=span) for _, span in spans]
    found = {
        what: (getattr(lines[-1], what), float(np.median([getattr(one, what) for one in lines[:-1]])))
        for what in ("units", "revenue", "margin")
    }
    before = slice(spans[0][1].start, spans[-1][1].start)
    usual, now = (_median_prices(panel, span) for span in (before, spans[-1][1]))
    both = np.isfinite(usual) & np.isfinite(now)
    if both.any():
        found["prices"] = (float(np.median(now[both] / usual[both])), 1.0)
    wrong = [
        f"{what} are {signed(value / typical - 1)} of what is usual"
        for what, (value, typical) in found.items()
        if typical > 0 and not plausible(value, typical, factor=factor)
    ]
    if not wrong:
        return []
    text = f"figures of the week of {spans[-1][0]} are not plausible, look at the data first: {', '.join(wrong)}"
    return [Finding("figures_implausible", "warning", text)]


def plausible(value: float, usual: float, *, factor: float) -> bool:
    """Whether a figure may be what it is beside what is usual: at most so many times as much, or as little.

    What is not known, and what fell to or below 0, is not for this to judge.
    """
    return not value > 0 or not usual > 0 or 1 / factor <= value / usual <= factor


def _median_prices(panel: Panel, periods: slice) -> NDArray[np.float64]:
    """(product,) median price over the periods with a row; NaN without any."""
    prices = np.where(panel.present[:, periods], panel.price[:, periods], np.nan).astype(float)
    out = np.full(len(prices), np.nan)
    there = np.isfinite(prices).any(axis=1)
    out[there] = np.nanmedian(prices[there], axis=1)
    return out


def effect(
    panel: Panel, joined: pd.DataFrame, holdout: Holdout | None, *, window: int, rng: np.random.Generator
) -> Effect:
    """Estimates the effect of pricing as a ratio of changes in margin: priced against held-out products.

    Margin per product in the newest window is compared with that just before pricing began. The margin of priced
    products at static prices is estimated as their margin before, times the change of held-out products of the same
    volume class. The interval is a bootstrap over products, stratified by group and class.

    Args:
        panel: Actual sales.
        joined: `Joined.frame`; pricing began on its first live day, or earlier if the holdout says so. A replay of the
            past has no live day; its first day counts.
        holdout: The held-out products and the first day of pricing.
        window: Periods of the newest window.
        rng: Draws the products.
    """
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    if holdout is None or not holdout.held:
        return Effect(
            nothing,
            0,
            0,
            "No products are held out on static prices, so what pricing earns cannot be told apart; "
            "pricing holdout draws some.",
        )
    if joined.empty:
        return Effect(nothing, 0, len(holdout.held), "No decision has met its sales yet.")
    days = [day for day in (first_day(joined), holdout.began) if day is not None]
    first = np.datetime64(min(days) if days else joined["period"].min(), "D")
    begin = int(np.searchsorted(panel.dates, first))
    total = len(panel.dates)
    after = slice(max(begin, total - window), total)
    before = slice(max(0, begin - BEFORE_WINDOWS * window), begin)
    followed = joined[joined["period"] >= pd.Timestamp(panel.dates[after.start])]
    priced_ids = set(followed.loc[followed["pricing"] == "followed", "product_id"]) - holdout.held
    held = np.isin(panel.product_ids, sorted(holdout.held))
    priced = np.isin(panel.product_ids, sorted(priced_ids))
    known = panel.present[:, before].any(axis=1) & panel.present[:, after].any(axis=1)
    held, priced = held & known, priced & known
    if min(held.sum(), priced.sum()) < LEAST_PRODUCTS or before.start == before.stop:
        text = f"{int(held.sum())} held-out and {int(priced.sum())} priced products sold before and after: too few."
        return Effect(nothing, int(priced.sum()), int(held.sum()), text)
    earned_before, earned_after = _margin(panel, before), _margin(panel, after)
    classes = volume_rows(mean_units(panel.units_sold[:, before])).astype(np.intp)

    def gain(rows_priced: NDArray[np.intp], rows_held: NDArray[np.intp]) -> float:
        pooled = _ratio(earned_after[rows_held].sum(), earned_before[rows_held].sum())
        static = 0.0
        for stratum in range(int(classes.max()) + 1):
            mine, theirs = rows_priced[classes[rows_priced] == stratum], rows_held[classes[rows_held] == stratum]
            change = _ratio(earned_after[theirs].sum(), earned_before[theirs].sum()) if len(theirs) > 1 else pooled
            static += float(earned_before[mine].sum()) * (change if np.isfinite(change) else pooled)
        return _ratio(earned_after[rows_priced].sum(), static) - 1

    groups = [np.flatnonzero(priced), np.flatnonzero(held)]
    draws = [gain(*(_draw(group, classes, rng) for group in groups)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    found = Interval(gain(*groups), float(low), float(high))
    sure = "a gain" if low > 0 else "a loss" if high < 0 else "which may be chance"
    text = (
        f"Priced products earned {abs(found.value):.1%} {'more' if found.value >= 0 else 'less'} margin than at static "
        f"prices, {sure} (95 % between {signed(low)} and {signed(high)}; {len(groups[0])} priced, {len(groups[1])} "
        "held-out products)."
    )
    return Effect(found, len(groups[0]), len(groups[1]), text)


def _margin(panel: Panel, periods: slice) -> NDArray[np.float64]:
    """(product,) mean margin over the periods with a row."""
    seen = panel.present[:, periods]
    units = np.where(seen, panel.units_sold[:, periods], 0.0)
    price, cost, tax_rate = (value[:, periods] for value in (panel.price, panel.unit_cost, panel.tax_rates()))
    each = units * np.nan_to_num(unit_profit(price, cost, tax_rate=tax_rate))
    earned: NDArray[np.float64] = each.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return earned


def signed(value: float) -> str:
    """Formats a change in per cent with its sign; minus, not hyphen."""
    return f"{value:+.1%}".replace("-", "−")


def _draw(group: NDArray[np.intp], classes: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    parts = [group[classes[group] == stratum] for stratum in np.unique(classes[group])]
    return np.concatenate([part[rng.integers(0, len(part), len(part))] for part in parts])


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
