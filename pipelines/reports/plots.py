"""Draw plots: a backtest's forecasts, elasticities, and shap's of how prices and demand come about."""

import datetime as dt
import importlib
import io
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.evaluation import BINS, transform_figures, transform_histogram
from pipelines.reports.sensitivity import Sensitivity
from pricing.arrays import Floats, Ints
from pricing.decision.explanation import Explanation, Quantity, Told, explain
from pricing.decision.request import PriceRequest
from pricing.demand import evaluation
from pricing.demand.baselines import sales_rows
from pricing.demand.ensemble import CLASSES
from pricing.registry.version import LoadedVersion, shown_elasticities

# Okabe and Ito's palette: distinct in hue and lightness.
BLUE, ORANGE, RED, GREY, BLACK = "#0072B2", "#E69F00", "#D55E00", "#8c8c8c", "#222222"
WIDTH, DPI = 11.0, 110  # inches, dots an inch
FANS, CATEGORIES, DOTS = 6, 20, 60  # most products with fans, categories, products of each
SAMPLE, PROMOTED, SEED = 24, 0.3, 7  # products explained, share of them on promotion
START = {"price": "the price charged now", "demand": "units of a mean period at the usual price"}
_LEVELS = np.linspace(0.05, 0.95, 19)
_CLASS_COLOURS = dict(zip(CLASSES, (ORANGE, "#56B4E9", "#CC79A7"), strict=True))


def grid(rows: int, columns: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """Returns a figure and its axes in reading order, each `height` inches high, without top and right spines."""
    figure = Figure(figsize=(WIDTH, height * rows + 0.6), dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def titled(figure: Figure, title: str, *, note: str) -> Figure:
    """Adds a title, and a line below it in smaller type; returns the figure."""
    figure.suptitle(f"{title}\n", fontsize=13, x=0.01, ha="left", fontweight="bold")
    figure.text(0.01, 1 - 0.29 / figure.get_figheight(), note, fontsize=9, color="#555555", va="top")
    return figure


def spread_over(size: Floats, *, count: int) -> Ints:
    """Returns the rows of at most `count` products, evenly spaced by rank from the largest to the smallest."""
    order = np.argsort(-np.nan_to_num(size), kind="stable")
    chosen: Ints = order[np.unique(np.linspace(0, len(order) - 1, num=min(count, len(order))).round().astype(int))]
    return chosen


def draw_fans(frame: pd.DataFrame) -> Figure:
    """Draws forecast intervals and sales of the last fold, for products from the most to the least sold."""
    last = frame[frame["cutoff"] == frame["cutoff"].max()]
    sold = last.groupby("product_id", observed=True)["actual"].sum().sort_values(ascending=False)
    chosen = sold.index[spread_over(sold.to_numpy(), count=FANS)]
    rows = -(-len(chosen) // 2)
    figure, axes = grid(rows, 2 if len(chosen) > 1 else 1, height=2.7)
    for ax, product in zip(axes, chosen, strict=False):
        _fan(ax, last[last["product_id"] == product].sort_values("date"))
        place = int(np.flatnonzero(sold.index == product)[0]) + 1
        ax.set_title(f"{product} · {place} of {len(sold)} by units sold", fontsize=9, loc="left")
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    cutoff = pd.Timestamp(last["cutoff"].iloc[0]).date()
    note = "Demand at the prices that were really charged. A censored day sold out: its demand may have been higher."
    return titled(figure, f"Forecast and sales after {cutoff}, the last fold", note=note)


def _fan(ax: Axes, rows: pd.DataFrame) -> None:
    days = rows["date"].to_numpy()
    ax.fill_between(days, rows["q025"], rows["q975"], color=BLUE, alpha=0.15, linewidth=0, label="95 % range")
    ax.fill_between(days, rows["q10"], rows["q90"], color=BLUE, alpha=0.30, linewidth=0, label="80 % range")
    ax.plot(days, rows["forecast"], color=BLUE, linewidth=1.5, label="expected")
    ax.plot(days, rows["actual"], ".-", color=BLACK, linewidth=0.7, markersize=5, label="sold")
    met = rows["censored"].astype(bool).to_numpy()
    ax.plot(days[met], rows["actual"].to_numpy()[met], "x", color=RED, markeredgewidth=2, label="sold out (censored)")
    ticks = days[np.unique(np.linspace(0, len(days) - 1, num=5).astype(int))]
    ax.set_xticks(ticks, [f"{day:%d %b}" for day in pd.DatetimeIndex(ticks)])
    ax.set_ylim(bottom=0)
    ax.set_ylabel("units", fontsize=8)


def draw_calibration(frame: pd.DataFrame) -> Figure:
    """Draws the histogram of the randomised PIT, and the coverage of central intervals over their level."""
    scored = sales_rows(frame)
    figure, (left, right) = grid(1, 2, height=4.4)
    shares = transform_histogram(scored) if len(scored) else np.zeros(BINS)
    left.bar((np.arange(BINS) + 0.5) / BINS, shares * BINS, width=0.94 / BINS, color=BLUE)
    left.axhline(1.0, color=BLACK, linestyle="--", linewidth=1)
    left.set_xlabel("randomised probability transform of what was sold", fontsize=9)
    left.set_ylabel("density (1 = calibrated)", fontsize=9)
    found = transform_figures(scored)
    left.set_title(
        f"mean {found['mean']:.2f} (0.50 is unbiased), spread {found['spread']:.2f} (1.00 is as wide as it should be)",
        fontsize=9,
        loc="left",
    )
    right.plot([0, 1], [0, 1], color=BLACK, linestyle="--", linewidth=1, label="calibrated")
    for name in CLASSES:
        part = scored[scored["volume_class"] == name]
        if len(part):
            right.plot(_LEVELS, _covered(part), color=_CLASS_COLOURS[name], linewidth=1.3, label=f"{name} volume")
    right.plot(_LEVELS, _covered(scored), "o-", color=BLUE, markersize=3.5, linewidth=1.8, label="all")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.set_xlabel("interval should hold", fontsize=9)
    right.set_ylabel("interval held", fontsize=9)
    right.set_title("Coverage of central intervals", fontsize=9, loc="left")
    right.legend(fontsize=8, frameon=False)
    note = (
        f"{len(scored):,} product-periods: sales, given what was on the shelf. Whole counts are spread over their own "
        "probability, else every range would seem to hold too much."
    )
    return titled(figure, "Calibration of the forecast's ranges", note=note)


def _covered(scored: pd.DataFrame) -> Floats:
    return np.array([evaluation.coverage(scored, level=float(level)) for level in _LEVELS])


def draw_by_category(found: Sensitivity) -> Figure:
    """Draws the elasticities of each category's products with their intervals, and their medians."""
    chosen = found.summary.groupby("category")["typical_units"].sum().nlargest(CATEGORIES).index
    columns = ["elasticity", "elasticity_low", "elasticity_high"]
    rows = found.summary[found.summary["category"].isin(chosen)].groupby("category")[columns].median()
    rows = rows.sort_values("elasticity").reset_index()
    figure, (ax,) = grid(1, 1, height=1.2 + 0.55 * len(rows))
    for place, category in enumerate(rows["category"]):
        own = found.summary[found.summary["category"] == category].sort_values("elasticity")
        own = own.iloc[spread_over(-own["elasticity"].to_numpy(), count=DOTS)]
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


FORECAST_PLOTS = {  # name → what draws it of the evaluation frame
    "forecast_fans": draw_fans,
    "calibration": draw_calibration,
}


def shap_plots(version: LoadedVersion) -> Iterator[tuple[str, bytes]]:
    """Yields a summary and a waterfall plot of prices and of demand, as PNG images with their names.

    The sample has a fixed size and seed. Where nothing moves any price of it, that quantity has no plot.

    Args:
        version: The version to explain, through its pricer.
    """
    shap = load_shap()
    requests = sample_requests(version)
    rows = np.searchsorted(version.demand.product_ids, [request.product_id for request in requests])
    elasticities = shown_elasticities(version.demand, rows, holds_only=version.holds_only)["elasticity"].tolist()
    pricer, today = version.pricer(version="shap"), version.demand.state_date
    quantities: tuple[Quantity, ...] = get_args(Quantity)
    for quantity in quantities:
        explained = [
            explain(request, pricer, today=today, quantity=quantity, told=Told(elasticity=elasticity))
            for request, elasticity in zip(requests, elasticities, strict=True)
        ]
        values = as_shap(shap, explained)
        if not values.values.any():
            continue
        yield f"shap_summary_{quantity}", _summary(shap, values, quantity)
        chosen = int(np.abs(values.values).sum(axis=1).argmax())
        yield f"shap_waterfall_{quantity}", _waterfall(shap, explained[chosen], requests[chosen])


def load_shap() -> ModuleType:
    """Imports shap lazily: with numba and scikit-learn it takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # shap 0.51's colour maps on matplotlib 3.11
        return importlib.import_module("shap")


def sample_requests(version: LoadedVersion) -> list[PriceRequest]:
    """Builds requests for products from the most to the least sold, on random days of the week after the state date."""
    facts, rng = version.facts, np.random.default_rng(SEED)
    requests = []
    for row in spread_over(facts.typical_units, count=SAMPLE).tolist():
        date, stock = version.demand.state_date + dt.timedelta(days=1 + int(rng.integers(7))), float(facts.stock[row])
        requests.append(
            PriceRequest(
                product_id=str(facts.product_ids[row]),
                current_stock=stock if np.isfinite(stock) else None,
                date=date,
                is_promo=bool(rng.random() < PROMOTED),
            )
        )
    return requests


def as_shap(shap: ModuleType, explained: list[Explanation]) -> Any:
    """Puts explanations into a `shap.Explanation`: effects in per cent of what each starts from."""
    found = [{driver.name: driver.effect for driver in one.drivers} for one in explained]
    names = list(dict.fromkeys(name for effects in found for name in effects))
    start = np.array([max(one.baseline_value, 1e-9) for one in explained])
    values = np.array([[effects.get(name, 0.0) for name in names] for effects in found]).reshape(len(found), -1)
    return shap.Explanation(
        values=100 * values / start[:, None], base_values=np.zeros(len(found)), feature_names=names, data=values
    )


def _summary(shap: ModuleType, values: Any, quantity: Quantity) -> bytes:
    figure = plt.figure(figsize=(9, 1.8 + 0.55 * values.shape[1]))
    shap.plots.beeswarm(values, show=False, ax=figure.add_subplot(), plot_size=None, color_bar_label="effect")
    axes = figure.axes[0]
    axes.set_xlabel(f"effect, % of {START[quantity]}", fontsize=9)
    title = f"What moves {'prices' if quantity == 'price' else 'demand at the price given'}: {len(values)} requests"
    axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
    return png(figure)


def _waterfall(shap: ModuleType, one: Explanation, request: PriceRequest) -> bytes:
    figure = plt.figure(figsize=(9, 5))
    drawn = shap.Explanation(
        values=np.array([driver.effect for driver in one.drivers]),
        base_values=one.baseline_value,
        feature_names=[driver.name for driver in one.drivers],
    )
    axes = shap.plots.waterfall(drawn, show=False)
    sentences = "\n".join(f"{driver.name}: {driver.sentence}" for driver in one.drivers)
    axes.set_xlabel(f"{one.summary} It starts from {START[one.quantity]}.\n{sentences}", fontsize=9, loc="left")
    title = f"Why this {one.quantity}: {request.product_id} on {one.decision.date:%A}, {one.decision.date}"
    axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
    return png(figure)


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG image, and closes it."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return written.getvalue()
