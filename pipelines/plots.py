"""The plots of a training run: how good the forecast is, and how demand and profit answer to price."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.evaluation import error_by
from pricing.data.panel import STEP_DAYS
from pricing.decision.facts import ProductFacts
from pricing.demand.curve import Offers
from pricing.demand.model import DemandModel

Floats = NDArray[np.float64]

_MODEL = "#1f5fa8"
_NAIVE = "#9a9a9a"
_ACTUAL = "#222222"
_PROFIT = "#2c8a4b"
_LEVELS = {"q025": 0.025, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q975": 0.975}
_PANELS = 6


def draw_all(frame: pd.DataFrame, demand: DemandModel, facts: ProductFacts) -> Iterator[tuple[str, Figure]]:
    """Yields every plot of a training run with its name.

    Args:
        frame: One row per product, cutoff and step, as `Backtest.frame`.
        demand: The fitted model.
        facts: What is known of each of its products at its state date.
    """
    yield "forecast_fans", draw_fans(frame)
    yield "calibration", draw_calibration(frame)
    yield "error_by_step", draw_error_by_step(frame)
    yield "error_by_volume", draw_error_by_volume(frame)
    yield "elasticity_by_category", draw_elasticities(demand, facts)
    yield "price_demand_profit", draw_price_curves(demand, facts)


def draw_fans(frame: pd.DataFrame) -> Figure:
    """Forecast ranges of the last fold over what was sold, for products from the most to the least sold."""
    last = frame[frame["cutoff"] == frame["cutoff"].max()]
    sold = last.groupby("product_id", observed=True)["actual"].sum().sort_values(ascending=False)
    chosen = sold.index[np.unique(np.linspace(0, len(sold) - 1, num=_PANELS).astype(int))]
    figure, axes = _grid(len(chosen))
    for ax, product in zip(axes, chosen, strict=False):
        rows = last[last["product_id"] == product].sort_values("date")
        days = rows["date"].to_numpy()
        ax.fill_between(days, rows["q025"], rows["q975"], color=_MODEL, alpha=0.15, linewidth=0, label="95 % range")
        ax.fill_between(days, rows["q10"], rows["q90"], color=_MODEL, alpha=0.3, linewidth=0, label="80 % range")
        ax.plot(days, rows["forecast"], color=_MODEL, label="forecast")
        ax.plot(days, rows["actual"], ".-", color=_ACTUAL, linewidth=0.8, label="actual")
        met = rows["censored"].astype(bool).to_numpy()
        if met.any():
            ax.plot(days[met], rows["actual"].to_numpy()[met], "x", color="#c0392b", label="sold out")
        ax.set_title(str(product), fontsize=9)
        ax.tick_params(axis="x", rotation=30, labelsize=7)
        ax.set_ylabel("units")
    axes[0].legend(fontsize=7)
    return _finish(
        figure, f"Forecast and actual after {pd.Timestamp(last['cutoff'].iloc[0]).date()}, most to least sold"
    )


def draw_calibration(frame: pd.DataFrame) -> Figure:
    """How often sales stayed at or below each forecast quantile, against how often they should have."""
    scored = frame[~frame["censored"].astype(bool)]
    actual = scored["actual"].to_numpy(dtype=float)
    wanted, below, at = [], [], []
    for name, level in _LEVELS.items():
        quantile = scored[name].to_numpy(dtype=float)
        wanted.append(level)
        below.append(float(np.mean(actual < quantile)))
        at.append(float(np.mean(actual <= quantile)))
    figure, ax = _single()
    ax.plot([0, 1], [0, 1], color=_NAIVE, linestyle="--", label="perfect")
    # Units are whole numbers, so a quantile is right when its level lies between P(actual < q) and P(actual ≤ q).
    ax.vlines(wanted, below, at, color=_MODEL, linewidth=6, alpha=0.5, label="share below … at or below")
    ax.plot(wanted, at, "o", color=_MODEL)
    ax.set_xlabel("quantile of the forecast")
    ax.set_ylabel("share of days")
    ax.legend()
    return _finish(figure, f"Calibration over {len(scored):,} product-periods")


def draw_error_by_step(frame: pd.DataFrame) -> Figure:
    """Error by how far ahead the forecast looks, beside seasonal naive."""
    figure, ax = _single()
    for column, color, label in (("naive", _NAIVE, "seasonal naive"), ("q50", _MODEL, "model")):
        errors = error_by(frame, "step", forecast=column)
        ax.plot(errors.index, errors.to_numpy(), ".-", color=color, label=label)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("periods after the last known one")
    ax.set_ylabel("WAPE")
    ax.legend()
    return _finish(figure, "Error by how far ahead")


def draw_error_by_volume(frame: pd.DataFrame) -> Figure:
    """Error of rarely, sometimes and often sold products, beside seasonal naive."""
    model = error_by(frame, "volume_class")
    naive = error_by(frame, "volume_class", forecast="naive")
    classes = [name for name in ("low", "mid", "high") if name in model.index]
    place = np.arange(len(classes))
    figure, ax = _single()
    ax.bar(place - 0.2, naive[classes], width=0.4, color=_NAIVE, label="seasonal naive")
    ax.bar(place + 0.2, model[classes], width=0.4, color=_MODEL, label="model")
    ax.set_xticks(place, [f"{name} volume" for name in classes])
    ax.set_ylabel("WAPE")
    ax.legend()
    return _finish(figure, "Error by how much a product sells")


def draw_elasticities(demand: DemandModel, facts: ProductFacts) -> Figure:
    """The spread of the products' elasticities at list price, one box per category."""
    elasticity = demand.elasticity(np.arange(len(demand.product_ids)))[0]
    names = facts.categories
    order = sorted(set(names.tolist()), key=lambda name: float(np.median(elasticity[names == name])))
    figure, ax = _single(height=1.5 + 0.35 * len(order))
    ax.boxplot([elasticity[names == name] for name in order], orientation="horizontal", tick_labels=order)
    ax.axvline(-1, color=_NAIVE, linestyle="--", linewidth=0.8)
    ax.set_xlabel("elasticity at list price (−1: revenue does not depend on the price)")
    return _finish(figure, "How strongly demand answers to price")


def draw_price_curves(demand: DemandModel, facts: ProductFacts) -> Figure:
    """Expected units and profit over candidate prices on the next day, for products from the most to the least sold."""
    order = np.argsort(-np.nan_to_num(facts.typical_units))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, num=_PANELS).astype(int))]
    ratios = np.linspace(0.7, 1.35, num=40)
    prices = facts.list_price[chosen, None] * ratios  # (product, candidate)
    units = _expected(demand, facts, rows=chosen, prices=prices)
    figure, axes = _grid(len(chosen))
    for place, ax in enumerate(axes[: len(chosen)]):
        row = chosen[place]
        profit = units[place] * (prices[place] - facts.unit_cost[row])
        ax.plot(prices[place], units[place], color=_MODEL)
        ax.set_ylabel("units", color=_MODEL)
        ax.axvline(facts.list_price[row], color=_NAIVE, linestyle="--", linewidth=0.8)
        right = ax.twinx()
        right.plot(prices[place], profit, color=_PROFIT)
        right.plot(prices[place][profit.argmax()], profit.max(), "o", color=_PROFIT)
        right.set_ylabel("profit", color=_PROFIT)
        ax.set_title(str(demand.product_ids[row]), fontsize=9)
        ax.set_xlabel("price (dashed: list price)", fontsize=8)
    return _finish(figure, "Expected demand and profit on the next period, without promotion")


def _expected(demand: DemandModel, facts: ProductFacts, *, rows: NDArray[np.integer], prices: Floats) -> Floats:
    """(product, candidate) expected units of the first period after the state's date."""
    count = len(rows)
    next_period = facts.state_date + np.timedelta64(STEP_DAYS[facts.period], "D")
    offers = Offers(
        product=np.searchsorted(demand.product_ids, facts.product_ids[rows]),
        category=np.searchsorted(demand.categories, facts.categories[rows]),
        date=np.full(count, next_period),
        list_price=facts.list_price[rows],
        comp_price=facts.comp_price[rows],
        is_promo=np.zeros(count),
        is_holiday=np.zeros(count),
        periods=np.ones(count, dtype=np.int64),
    )
    grid = demand.grid(offers, prices)
    return np.asarray(np.einsum("pnc,n->pc", grid.first, grid.weight), dtype=np.float64)


def _single(*, height: float = 4.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, figure.add_subplot()


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(11, 3.2 * -(-count // 2)), layout="constrained")
    return figure, [figure.add_subplot(-(-count // 2), 2, place + 1) for place in range(count)]


def _finish(figure: Figure, title: str) -> Figure:
    figure.suptitle(title, fontsize=11)
    return figure
