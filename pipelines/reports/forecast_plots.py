"""Plot a backtest: forecast fans, calibration, and error by horizon and product class."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.evaluation import BINS, coverage_by, error_by, transform_figures, transform_histogram
from pipelines.reports.canvas import BLACK, BLUE, GREY, ORANGE, RED, grid, titled
from pricing.arrays import Floats
from pricing.demand import evaluation
from pricing.demand.baselines import DIRECT, FLAT, NAIVE, NAMES, baseline_forecast, baseline_words, sales_rows
from pricing.demand.ensemble import CLASSES

FANS = 6
TICKS = 5
LEVELS = np.linspace(0.05, 0.95, 19)
_CLASS_COLOURS = dict(zip(CLASSES, (ORANGE, "#56B4E9", "#CC79A7"), strict=True))


def draw_fans(frame: pd.DataFrame) -> Figure:
    """Draws forecast intervals and sales of the last fold, for products from the most to the least sold."""
    last = frame[frame["cutoff"] == frame["cutoff"].max()]
    sold = last.groupby("product_id", observed=True)["actual"].sum().sort_values(ascending=False)
    chosen = sold.index[np.unique(np.linspace(0, len(sold) - 1, num=FANS).astype(int))]
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
    ticks = days[np.unique(np.linspace(0, len(days) - 1, num=TICKS).astype(int))]
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
            right.plot(LEVELS, _covered(part), color=_CLASS_COLOURS[name], linewidth=1.3, label=f"{name} volume")
    right.plot(LEVELS, _covered(scored), "o-", color=BLUE, markersize=3.5, linewidth=1.8, label="all")
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
    return np.array([evaluation.coverage(scored, level=float(level)) for level in LEVELS])


def draw_by_step(frame: pd.DataFrame) -> Figure:
    """Draws error and coverage by forecast step, with the baselines' errors."""
    figure, (left, right) = grid(1, 2, height=4.0)
    rows = sales_rows(frame)
    held = rows.assign(chosen=baseline_forecast(rows))
    for column, style, colour, label in (
        (NAIVE, ":", GREY, NAMES[NAIVE]),
        (FLAT, "--", GREY, NAMES[FLAT]),
        (DIRECT, "-.", GREY, NAMES[DIRECT]),
        ("chosen", ".-", GREY, _baseline_label(frame)),
        ("q50", ".-", BLUE, "model"),
    ):
        if column not in held:
            continue
        errors = error_by(held, "step", forecast=column)
        left.plot(errors.index, errors.to_numpy(), style, color=colour, label=label)
    left.set_ylim(bottom=0)
    left.set_ylabel("WAPE (error over sales)", fontsize=9)
    left.legend(fontsize=8, frameon=False)
    for level, colour in ((0.95, "#56B4E9"), (0.80, BLUE)):
        shares = coverage_by(frame, "step", level=level)
        right.plot(shares.index, shares.to_numpy(), ".-", color=colour, label=f"{level:.0%} range held")
        right.axhline(level, color=colour, linestyle="--", linewidth=1)
    right.set_ylim(0.5, 1.0)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.set_ylabel("share of outcomes (dashed: as it should be)", fontsize=9)
    right.legend(fontsize=8, frameon=False, loc="lower left")
    for ax in (left, right):
        ax.set_xlabel("step: periods after the cutoff", fontsize=9)
    folds = frame["cutoff"].nunique()
    return titled(figure, "Error and coverage by how far ahead", note=f"All {folds} folds together.")


def draw_by_class(frame: pd.DataFrame) -> Figure:
    """Draws the error by volume class and by volatility class, beside the chosen baseline's."""
    figure, axes = grid(1, 2, height=4.0)
    rows = sales_rows(frame)
    held = rows.assign(chosen=baseline_forecast(rows))
    columns = {"volume_class": "volume: mean units", "volatility_class": "volatility: spread of weekly sales"}
    for ax, (column, words) in zip(axes, columns.items(), strict=True):
        base, model = error_by(held, column, forecast="chosen"), error_by(frame, column)
        classes = [name for name in CLASSES if name in model.index]
        for shift, errors, colour, label in ((-0.2, base, GREY, _baseline_label(frame)), (0.2, model, BLUE, "model")):
            bars = ax.bar(np.arange(len(classes)) + shift, errors[classes], width=0.38, color=colour, label=label)
            ax.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
        products = frame.groupby(column, observed=True)["product_id"].nunique()
        ax.set_xticks(np.arange(len(classes)), [f"{name}\n{products[name]} products" for name in classes])
        ax.set_title(f"By {words}", fontsize=9, loc="left")
        ax.set_ylabel("WAPE (error over sales)", fontsize=9)
        ax.margins(y=0.15)
    axes[0].legend(fontsize=8, frameon=False)
    note = "Thirds of the products, as they stood at each cutoff. Volatility is what goes beyond the luck of counts."
    return titled(figure, "Error by kind of product", note=note)


def _baseline_label(frame: pd.DataFrame) -> str:
    return f"baseline ({baseline_words(frame.groupby('cutoff')['baseline'].first().tolist())})"


FORECAST_PLOTS = {  # name → what draws it of the evaluation frame, from `evaluation.described`
    "forecast_fans": draw_fans,
    "calibration": draw_calibration,
    "error_by_step": draw_by_step,
    "error_by_class": draw_by_class,
}
