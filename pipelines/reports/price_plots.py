"""Plot price sensitivity: elasticities by category, slopes over the price level, demand curves of a few products."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.reports.canvas import BLACK, BLUE, GREEN, GREY, ORANGE, grid, titled
from pipelines.reports.sensitivity import Sensitivity
from pricing.demand.sensitivity import ORDINARY

CATEGORIES = 20  # most categories drawn, by profit
DOTS = 60  # most products drawn per category
FACETS = 6  # most categories with slopes over price
PRODUCTS = 4  # most products with curves


def draw_by_category(found: Sensitivity) -> Figure:
    """Draws the elasticities of each category's products with their intervals, and their medians."""
    table = found.categories
    rows = table[(table["context"] == ORDINARY.name) & np.isclose(table["ratio"], 1.0)]
    chosen = rows.nlargest(CATEGORIES, "profit")["category"]
    columns = ["elasticity", "elasticity_low", "elasticity_high"]
    rows = found.summary[found.summary["category"].isin(chosen)].groupby("category")[columns].median()
    rows = rows.sort_values("elasticity").reset_index()
    figure, (ax,) = grid(1, 1, height=1.2 + 0.55 * len(rows))
    for place, category in enumerate(rows["category"]):
        own = found.summary[found.summary["category"] == category].sort_values("elasticity")
        own = own.iloc[np.unique(np.linspace(0, len(own) - 1, num=min(DOTS, len(own))).astype(int))]
        height = place + (np.linspace(-0.32, 0.32, num=len(own)) if len(own) > 1 else np.zeros(1))
        ends = [own["elasticity"] - own["elasticity_low"], own["elasticity_high"] - own["elasticity"]]
        bars = ax.errorbar(
            own["elasticity"], height, xerr=np.abs(ends), fmt="o", color=GREY, markersize=3, elinewidth=0.7
        )
        bars.set_label("its products")
    middle, low, high = (rows[name].to_numpy() for name in ("elasticity", "elasticity_low", "elasticity_high"))
    ax.hlines(range(len(rows)), low, high, color=BLUE, linewidth=6, alpha=0.5, zorder=1)
    ax.plot(middle, range(len(rows)), "D", color=BLUE, markersize=7, zorder=3, label="median of the category")
    counts = found.summary["category"].value_counts()
    ax.set_yticks(range(len(rows)), [f"{name}\n{counts[name]} products" for name in rows["category"]])
    ax.axvline(-1, color=BLACK, linestyle="--", linewidth=0.8, label="−1: revenue does not depend on price")
    ax.set_xlabel("elasticity: per cent of demand for one per cent of price", fontsize=9)
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    note = "Bars: 80 % intervals; a category's is the median of its products' intervals."
    return titled(figure, "How strongly demand answers to price", note=note)


def draw_by_price(found: Sensitivity) -> Figure:
    """Draws the slope of each category's demand over the price level: ordinary days, weekend and promotion."""
    table = found.categories
    biggest = table[table["context"] == ORDINARY.name].groupby("category")["profit"].max().nlargest(FACETS).index
    figure, axes = grid(-(-len(biggest) // 3), min(3, len(biggest)), height=2.7)
    styles = {ORDINARY.name: (BLUE, "-", 2.0), "weekend": (GREEN, ":", 2.0), "promotion": (ORANGE, "--", 1.6)}
    for ax, category in zip(axes, biggest, strict=False):
        for context, (colour, line, width) in styles.items():
            rows = table[(table["category"] == category) & (table["context"] == context)]
            # The slope at a level is that from the level below to it.
            (drawn,) = ax.plot(rows["ratio"], rows["slope"], color=colour, linestyle=line, linewidth=width)
            drawn.set(drawstyle="steps-pre" if context == "promotion" else "default", label=context)
            if context == ORDINARY.name:
                ax.fill_between(
                    rows["ratio"],
                    rows["slope_low"],
                    rows["slope_high"],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
        ax.set_title(category, fontsize=9, loc="left")
        ax.axvline(1.0, color=GREY, linestyle="--", linewidth=0.8)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for ax in axes[len(biggest) :]:
        ax.set_visible(False)
    _label_outer(axes[: len(biggest)], columns=min(3, len(biggest)), x="price, % of list price", y="slope of demand")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    note = (
        "Per cent of the category's expected units for one per cent of price, at each price. Band: 80 % interval on "
        "ordinary days,\nits products' errors taken for shared in full. A promotion draws more the deeper the cut, to "
        "10 % below list."
    )
    return titled(figure, "Slope of demand over the price level, by category", note=note)


def draw_curves(found: Sensitivity) -> Figure:
    """Draws demand, revenue and profit over price for a few products, from the most to the least profitable."""
    table = found.products[found.products["context"] == ORDINARY.name]
    earned = table.groupby("product_id")["profit"].max().sort_values(ascending=False)
    chosen = earned.index[np.unique(np.linspace(0, len(earned) - 1, num=PRODUCTS).astype(int))]
    figure, axes = grid(len(chosen), 3, height=2.3)
    for place, product in enumerate(chosen):
        rows = table[table["product_id"] == product]
        listed = float(rows["price"].iloc[0] / rows["ratio"].iloc[0])
        trio = axes[3 * place : 3 * place + 3]
        for ax, (name, colour) in zip(trio, (("units", BLUE), ("revenue", ORANGE), ("profit", GREEN)), strict=True):
            _curve(ax, rows, name, colour)
            ax.axvline(listed, color=GREY, linestyle="--", linewidth=0.8)
            ax.set_ylabel({"units": "units a period"}.get(name, f"{name} a period"), fontsize=8)
            if name == "profit":
                best = rows.loc[rows["profit"].idxmax()]
                ax.plot(best["price"], best["profit"], "o", color=colour, markersize=6)
        trio[0].set_title(f"{product} · {rows['category'].iloc[0]}", fontsize=9, loc="left")
    for ax in axes[-3:]:
        ax.set_xlabel("price", fontsize=9)
    note = (
        "Ordinary days; 80 % interval of what is expected. Solid where prices were seen in the last year. Dashed: list "
        "price. Dot: most profit of the levels read."
    )
    return titled(figure, "Demand, revenue and profit over price, stock apart", note=note)


def _curve(ax: Axes, rows: pd.DataFrame, name: str, colour: str) -> None:
    ax.fill_between(rows["price"], rows[f"{name}_low"], rows[f"{name}_high"], color=colour, alpha=0.15, linewidth=0)
    ax.plot(rows["price"], rows[name], color=colour, linestyle=":", linewidth=1.5)
    ax.plot(rows["price"], rows[name].where(rows["seen"]), ".-", color=colour, linewidth=2, markersize=4)
    if name != "profit":
        ax.set_ylim(bottom=0)


def _label_outer(axes: list[Axes], *, columns: int, x: str, y: str) -> None:
    for place, ax in enumerate(axes):
        if place % columns == 0:
            ax.set_ylabel(y, fontsize=9)
        if place + columns >= len(axes):
            ax.set_xlabel(x, fontsize=9)


PRICE_PLOTS = {  # name → what draws it, in a size that is bounded for any number of products
    "elasticity_by_category": draw_by_category,
    "elasticity_by_price": draw_by_price,
    "price_demand_profit": draw_curves,
}
