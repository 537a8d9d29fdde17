"""Draw a training run's plots, and lay one demand curve a product beside its price. What fails is left out."""

import datetime as dt
import importlib
import io
import tempfile
import warnings
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.reports import dispensable, render
from pricing.arrays import Floats, Ints
from pricing.data.panel import STEP_DAYS
from pricing.decision.explanation import Explanation, Quantity, explain
from pricing.decision.request import PriceRequest
from pricing.demand import evaluation
from pricing.demand.baselines import sales_rows
from pricing.registry.knowledge import shown_elasticities
from pricing.registry.version import LoadedVersion

# Okabe and Ito's palette: distinct in hue and lightness.
BLUE = "#0072B2"
RED = "#D55E00"
BLACK = "#222222"
WIDTH = 11.0  # inches
DPI = 110  # dots an inch
FANS = 6  # most products with fans
SAMPLE = 24  # products explained
START = {"price": "the price charged now", "demand": "units of a mean period at the usual price"}
_LEVELS = np.linspace(0.05, 0.95, 19)
STEP = 0.05  # distance of price levels of a sensitivity analysis, as a fraction of list price
PASS = 500  # products evaluated at once
ROWS = 100  # products shown; all are in summary.parquet
WIDE = 150  # of a drawn curve, pixels
HIGH = 44


def log_artifacts(frame: pd.DataFrame, version: LoadedVersion) -> None:
    """Logs `plots/` and `sensitivity/` of a `Backtest`'s frame and a version to the active run; takes seconds."""
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        write_artifacts(Path(scratch), frame, version=version)
        mlflow.log_artifacts(scratch)


def write_artifacts(folder: Path, frame: pd.DataFrame, *, version: LoadedVersion) -> None:
    """Writes the artifacts of `log_artifacts` to a folder, but for those that cannot be made."""
    plots = folder / "plots"
    tables = folder / "sensitivity"
    plots.mkdir(parents=True)
    tables.mkdir()
    for name, draw in FORECAST_PLOTS.items():
        with dispensable(f"plots/{name}.png"):
            (plots / f"{name}.png").write_bytes(png(draw(frame)))
    with dispensable("sensitivity/"):
        found = analyse(version)
        for name in ("summary", "products"):
            getattr(found, name).to_parquet(tables / f"{name}.parquet", index=False)
        title = f"How demand answers to price, as of {version.demand.state_date}"
        (tables / "sensitivity.html").write_text(sensitivity_page(found, title=title), encoding="utf-8")
    with dispensable("plots/shap_*.png"):
        for name, image in shap_plots(version):
            (plots / f"{name}.png").write_bytes(image)


def grid(rows: int, columns: int, *, height: float, title: str, note: str) -> tuple[Figure, list[Axes]]:
    """Returns a figure with a title and a note below it, and its axes in reading order, each `height` inches high."""
    figure = Figure(figsize=(WIDTH, height * rows + 0.6), dpi=DPI, layout="constrained")
    figure.suptitle(f"{title}\n", fontsize=13, x=0.01, ha="left", fontweight="bold")
    figure.text(0.01, 1 - 0.29 / figure.get_figheight(), note, fontsize=9, color="#555555", va="top")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def spread_over(size: Floats, *, count: int) -> Ints:
    """Returns the rows of at most `count` products, evenly spaced by rank from the largest to the smallest."""
    order = np.argsort(-np.nan_to_num(size), kind="stable")
    chosen: Ints = order[np.unique(np.linspace(0, len(order) - 1, num=min(count, len(order))).round().astype(int))]
    return chosen


def draw_fans(frame: pd.DataFrame) -> Figure:
    """Draws forecast intervals and sales of the last fold, for products from the most to the least sold."""
    last = frame[frame["cutoff"] == frame["cutoff"].max()]
    sold = last.groupby("product_id", observed=True)["actual"].sum().sort_values(ascending=False)
    chosen = spread_over(sold.to_numpy(), count=FANS).tolist()
    cutoff = pd.Timestamp(last["cutoff"].iloc[0]).date()
    figure, axes = grid(
        -(-len(chosen) // 2),
        min(len(chosen), 2),
        height=2.7,
        title=f"Forecast and sales after {cutoff}, the last fold",
        note="Demand at the prices that were really charged. A censored day sold out: its demand may have been higher.",
    )
    for ax, place in zip(axes, chosen, strict=False):
        product = sold.index[place]
        _fan(ax, last[last["product_id"] == product].sort_values("date"))
        ax.set_title(f"{product} · {place + 1} of {len(sold)} by units sold", fontsize=9, loc="left")
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


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
    """Draws the coverage of central intervals over their level."""
    scored = sales_rows(frame)
    note = f"{len(scored):,} product-periods: sales, given what was on the shelf. Below the line ranges are too narrow."
    figure, (ax,) = grid(1, 1, height=4.4, title="Calibration of the forecast's ranges", note=note)
    ax.plot([0, 1], [0, 1], color=BLACK, linestyle="--", linewidth=1)
    covered = [evaluation.coverage(scored, level=level) for level in _LEVELS.tolist()]
    ax.plot(_LEVELS, covered, "o-", color=BLUE, markersize=3.5, linewidth=1.8)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("interval should hold", fontsize=9)
    ax.set_ylabel("interval held", fontsize=9)
    return figure


FORECAST_PLOTS = {  # name → what draws it of the evaluation frame
    "forecast_fans": draw_fans,
    "calibration": draw_calibration,
}


def shap_plots(version: LoadedVersion) -> Iterator[tuple[str, bytes]]:
    """Yields a summary plot of prices and of demand, as PNG images with their names.

    Where nothing moves any price of the sample, that quantity has no plot.
    """
    shap = load_shap()
    requests = sample_requests(version)
    rows = np.searchsorted(version.demand.product_ids, [request.product_id for request in requests])
    elasticities = shown_elasticities(version.demand, rows, holds_only=version.holds_only)["elasticity"].tolist()
    pricer = version.pricer(version="shap")
    today = version.demand.state_date
    quantities: tuple[Quantity, ...] = get_args(Quantity)
    for quantity in quantities:
        explained = [
            explain(request, pricer, today=today, quantity=quantity, elasticity=elasticity)
            for request, elasticity in zip(requests, elasticities, strict=True)
        ]
        values = as_shap(shap, explained)
        if not values.values.any():
            continue
        figure = plt.figure(figsize=(9, 1.8 + 0.55 * values.values.shape[1]))
        axes = figure.add_subplot()
        shap.plots.beeswarm(values, show=False, ax=axes, plot_size=None, color_bar_label="effect")
        subject = "prices" if quantity == "price" else "demand at the price given"
        axes.set_xlabel(f"effect, % of {START[quantity]}", fontsize=9, loc="left")
        axes.set_title(f"What moves {subject}: {len(requests)} requests", fontsize=11, loc="left", fontweight="bold")
        yield f"shap_summary_{quantity}", png(figure)


def load_shap() -> ModuleType:
    """Imports shap lazily: with numba and scikit-learn it takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # shap 0.51's colour maps on matplotlib 3.11
        return importlib.import_module("shap")


def sample_requests(version: LoadedVersion) -> list[PriceRequest]:
    """Builds requests for products from the most to the least sold over the week after the states; some promoted."""
    facts = version.facts
    day = version.demand.state_date
    return [
        PriceRequest(
            product_id=str(facts.product_ids[row]),
            current_stock=float(facts.stock[row]) if np.isfinite(facts.stock[row]) else None,
            date=day + dt.timedelta(days=1 + place % 7),
            is_promo=place % 3 == 0,
        )
        for place, row in enumerate(spread_over(facts.typical_units, count=SAMPLE).tolist())
    ]


def as_shap(shap: ModuleType, explained: list[Explanation]) -> Any:
    """Puts explanations into a `shap.Explanation`: effects in per cent of what each starts from."""
    found = [{driver.name: driver.effect for driver in explanation.drivers} for explanation in explained]
    names = list(dict.fromkeys(name for effects in found for name in effects))
    start = np.array([max(explanation.baseline_value, 1e-9) for explanation in explained])
    values = np.array([[effects.get(name, 0.0) for name in names] for effects in found]).reshape(len(found), -1)
    return shap.Explanation(
        values=100 * values / start[:, None], base_values=np.zeros(len(found)), feature_names=names, data=values
    )


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG image, and closes it."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return written.getvalue()


@dataclass(frozen=True)
class Sensitivity:
    """Price sensitivity of demand. Prices in currency units, units per period."""

    # A row per product: its elasticity with its interval and grade, as it is shown everywhere
    # (`registry.knowledge.shown_elasticities`), today's price, and what it usually sells; where products share
    # elasticities, whose and by how many.
    summary: pd.DataFrame
    products: pd.DataFrame  # a row per product and price level: units expected that day, and if such a price was seen
    day: dt.date  # the next one that is no weekend, or the next week


def analyse(version: LoadedVersion) -> Sensitivity:
    """Computes the tables by the version's pricer, for an ordinary day after its state's date, without promotion."""
    facts = version.facts
    demand = version.demand
    today = version.demand.state_date
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
    low = facts.seen_low[:, None] * (1 - 1e-9)
    high = facts.seen_high[:, None] * (1 + 1e-9)
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
    low = min(band[0], 1.0)
    high = max(band[1], 1.0)
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
    price = curve["price"].to_numpy()
    most = max(float(curve["units"].max()), 1e-12)
    x = WIDE * (price - price[0]) / max(price[-1] - price[0], 1e-12)
    y = HIGH * (1 - curve["units"].to_numpy() / most)
    points = np.array([f"{right:.1f},{down:.1f}" for right, down in zip(x, y, strict=True)])
    today = row["price"]
    return {
        "curve": " ".join(points),
        "seen": " ".join(points[curve["seen"]]),
        "today": float(np.interp(today, price, x)) if np.isfinite(today) else None,
    }
