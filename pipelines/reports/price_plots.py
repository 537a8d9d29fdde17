"""Plot price sensitivity: elasticities by category, demand curves of a few products."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.reports.canvas import BLACK, BLUE, GREEN, GREY, ORANGE, grid, titled
from pipelines.reports.sensitivity import Sensitivity

CATEGORIES = 20  # most categories drawn, by profit
DOTS = 60  # most products drawn per category
PRODUCTS = 4  # most products with curves


def draw_by_category(found: Sensitivity) -> Figure:
    """Draws the elasticities of each category's products with their intervals, and their medians."""
    chosen = found.summary.groupby("category")["profit"].sum().nlargest(CATEGORIES).index
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


def draw_curves(found: Sensitivity) -> Figure:
    """Draws demand, revenue and profit over price for a few products, from the most to the least profitable."""
    table, summary = found.products, found.summary.set_index("product_id")
    earned = table.groupby("product_id")["profit"].max().sort_values(ascending=False)
    chosen = earned.index[np.unique(np.linspace(0, len(earned) - 1, num=PRODUCTS).astype(int))]
    figure, axes = grid(len(chosen), 3, height=2.3)
    for place, product in enumerate(chosen):
        rows, known = table[table["product_id"] == product], summary.loc[product]
        trio = axes[3 * place : 3 * place + 3]
        for ax, (name, colour) in zip(trio, (("units", BLUE), ("revenue", ORANGE), ("profit", GREEN)), strict=True):
            _curve(ax, rows, name, colour)
            ax.axvline(known["list_price"], color=GREY, linestyle="--", linewidth=0.8)
            ax.axvline(known["price"], color=BLACK, linewidth=0.8)
            ax.set_ylabel(f"{name} a period", fontsize=8)
            if name == "profit":
                best = rows.loc[rows["profit"].idxmax()]
                ax.plot(best["price"], best["profit"], "o", color=colour, markersize=6)
        trio[0].set_title(
            f"{product} · {known['category']} · {known['grade'].replace('_', ' ')}", fontsize=9, loc="left"
        )
    for ax in axes[-3:]:
        ax.set_xlabel("price", fontsize=9)
    note = (
        "Ordinary days; 80 % interval of what is expected. Solid curve where such prices were seen. Line: today's "
        "price, dashed:\nlist price. Dot: most profit of the levels read."
    )
    return titled(figure, "Demand, revenue and profit over price, stock apart", note=note)


def _curve(ax: Axes, rows: pd.DataFrame, name: str, colour: str) -> None:
    per_unit = rows[name] / rows["units"]
    low, high = per_unit * rows["units_low"], per_unit * rows["units_high"]
    ax.fill_between(rows["price"], low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(rows["price"], rows[name], color=colour, linestyle=":", linewidth=1.5)
    ax.plot(rows["price"], rows[name].where(rows["seen"]), ".-", color=colour, linewidth=2, markersize=4)
    if name != "profit":
        ax.set_ylim(bottom=0)


PRICE_PLOTS = {  # name → what draws it, in a size that is bounded for any number of products
    "elasticity_by_category": draw_by_category,
    "price_demand_profit": draw_curves,
}
