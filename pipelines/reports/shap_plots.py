"""Plot what drives prices and demand of a sample of products: exact Shapley values, drawn with shap."""

import datetime as dt
import importlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from pipelines.reports.canvas import BLACK, BLUE, DPI, GREY, RED, grid, titled
from pipelines.reports.sensitivity import spread_over
from pricing.arrays import Floats, Ints
from pricing.data.net_price import margin_of
from pricing.decision.explanation import GUARDRAILS, PRICE_TEST, Explanation, Quantity, Told, explain
from pricing.decision.request import PriceRequest, Weekday
from pricing.registry.version import LoadedVersion, shown_elasticities

SAMPLE = 24  # products explained; each needs dozens of pricing calls
PROMOTED = 0.3  # share of the sample explained as on promotion
SEED = 7
START = {
    "price": "Start: the price charged now, at usual cost, list price as charged, ample stock, an ordinary Wednesday,\n"
    "with nothing known of the elasticity, guardrails apart.",
    "demand": "Start: the price charged now, on an ordinary Wednesday without promotion or holiday.",
}
LABELS = {
    "elasticity": "elasticity",
    "price": "recommended price over the one now",
    "cost": "unit cost over list price",
    "list_price": "list price over the price now",
    "stock": "stock, in usual days",
    "competitor": "competitor's price over list price",
    "promotion": "promotion",
    "season": "season, by weekday",
    "strategy": "strategy",
    "guardrails": "guardrails",
}


@dataclass(frozen=True)
class Sample:
    """Explanations of a sample of requests, as arrays for shap.

    Attributes:
        names: Drivers with an effect in any request.
        explained: One explanation per request.
        effects: (request, driver) effects, 0 where the request has no such driver.
        inputs: (request, driver) a number for the driver's input, which colours the plot.
        scale: (request,) divisor that makes effects comparable: the larger of value and baseline value.
    """

    names: tuple[str, ...]
    explained: tuple[Explanation, ...]
    effects: Floats
    inputs: Floats
    scale: Floats


def shap_plots(version: LoadedVersion) -> Iterator[tuple[str, bytes]]:
    """Yields a summary and a waterfall plot of prices and of demand, as PNG images with their names.

    The sample has a fixed size and seed, so the cost does not grow with the number of products.

    Args:
        version: The version to explain, through its pricer.
    """
    shap = load_shap()
    requests = sample_requests(version)
    today = version.demand.state_date
    for quantity in ("price", "demand"):
        sample = explain_sample(version, requests, today=today, quantity=quantity)
        if not len(sample.names):
            continue
        labels = [LABELS[name] for name in sample.names]
        relative = shap.Explanation(
            values=100 * sample.effects / sample.scale[:, None],
            base_values=np.zeros(len(requests)),
            data=sample.inputs,
            feature_names=labels,
        )
        yield f"shap_summary_{quantity}", _summary(shap, relative, quantity)
        chosen = most_telling(sample)
        if any(driver.effect for driver in sample.explained[chosen].drivers):  # a price that is kept has no effects
            yield f"shap_waterfall_{quantity}", _waterfall(sample.explained[chosen], request=requests[chosen])


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
        date = version.demand.state_date + dt.timedelta(days=1 + int(rng.integers(7)))
        stock = float(facts.stock[row])
        requests.append(
            PriceRequest(
                product_id=str(facts.product_ids[row]),
                current_stock=stock if np.isfinite(stock) else None,
                day_of_week=get_args(Weekday)[date.weekday()],
                date=date,
                is_promo=bool(rng.random() < PROMOTED),
            )
        )
    return requests


def explain_sample(
    version: LoadedVersion, requests: Sequence[PriceRequest], *, today: dt.date, quantity: Quantity
) -> Sample:
    """Explains each request from the price charged now."""
    pricer, rows = version.pricer(version="shap"), _rows(version, requests)
    told = [Told(elasticity=float(one)) for one in shown_elasticities(version.demand, rows)["elasticity"]]
    explained = tuple(
        explain(request, pricer, today=today, quantity=quantity, told=known)
        for request, known in zip(requests, told, strict=True)
    )
    found = [{driver.name: driver.effect for driver in one.drivers} for one in explained]
    names = tuple(name for name in LABELS if any(effects.get(name) for effects in found))
    return Sample(
        names=names,
        explained=explained,
        effects=np.array([[effects.get(name, 0.0) for name in names] for effects in found]).reshape(len(found), -1),
        inputs=_inputs(version, requests, explained, names),
        scale=np.array([max(one.value, one.baseline_value, 1e-9) for one in explained]),
    )


def most_telling(sample: Sample) -> int:
    """Returns the row of the request with the largest sum of absolute net effect and second-largest effect."""
    relative = sample.effects / sample.scale[:, None]
    second = np.sort(np.abs(relative), axis=1)[:, -2:].min(axis=1)
    return int((second + np.abs(relative.sum(axis=1))).argmax())


def _inputs(
    version: LoadedVersion, requests: Sequence[PriceRequest], explained: Sequence[Explanation], names: Sequence[str]
) -> Floats:
    facts = version.facts
    row = np.searchsorted(facts.product_ids, [request.product_id for request in requests])
    listed = facts.list_price[row]
    recommended = np.array([one.decision.decision.recommended_price for one in explained])
    columns = {
        "elasticity": shown_elasticities(version.demand, _rows(version, requests))["elasticity"],
        "price": recommended / facts.price[row],
        "cost": 1 - margin_of(listed, facts.unit_cost[row], tax_rate=facts.tax_rates()[row]),
        "list_price": listed / facts.price[row],
        "stock": facts.stock[row] / np.maximum(facts.typical_units[row], 0.1),
        "competitor": facts.comp_price[row] / listed,
        "promotion": [float(request.is_promo) for request in requests],
        "season": [one.decision.date.weekday() for one in explained],
        "strategy": [0.0] * len(requests),
        "guardrails": [0.0] * len(requests),
    }
    return np.array([columns[name] for name in names], dtype=np.float64).reshape(len(names), len(requests)).T


def _rows(version: LoadedVersion, requests: Sequence[PriceRequest]) -> Ints:
    return np.searchsorted(version.demand.product_ids, [request.product_id for request in requests])


def _summary(shap: ModuleType, relative: Any, quantity: Quantity) -> bytes:
    figure = plt.figure(figsize=(9, 1.8 + 0.55 * relative.shape[1]))
    axes = figure.add_subplot()
    shap.plots.beeswarm(
        relative,
        max_display=len(LABELS),
        show=False,
        ax=axes,
        plot_size=None,
        color_bar_label="input, from low to high",
    )
    unit = f"effect on {quantity}, % of the larger of the request's and what it starts from"
    axes.set_xlabel(f"{unit}\n{START[quantity]}", fontsize=9)
    title = f"What moves {'prices' if quantity == 'price' else 'demand at the price given'}: {len(relative)} requests"
    axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
    return _png(figure)


def _waterfall(one: Explanation, *, request: PriceRequest) -> bytes:
    """Draws the steps from what a request starts from to what it comes to, each with its sentence below.

    shap's own waterfall rounds each bar by itself, so that the printed ones do not add up.
    """
    # What acts on the price that was chosen comes last.
    drivers = sorted((one for one in one.drivers if one.effect), key=lambda one: one.name in (GUARDRAILS, PRICE_TEST))
    ends = one.baseline_value + np.cumsum([0.0, *(driver.effect for driver in drivers)])
    low, high = float(ends.min()), float(ends.max())
    room = 0.03 * max(high - low, 1e-9)
    figure, (ax,) = grid(1, 1, height=1.2 + 0.55 * (len(drivers) + 2))
    for place, driver in enumerate(drivers, start=1):
        before, after = float(ends[place - 1]), float(ends[place])
        colour = RED if driver.effect > 0 else BLUE
        ax.barh(place, driver.effect, left=before, color=colour, height=0.4)
        ax.plot([before, before], [place - 0.8, place + 0.2], color=GREY, linewidth=0.8)
        written = f"{driver.effect:+.{one.digits}f}".replace("-", "−")
        ax.text(max(before, after) + room, place, written, va="center", fontsize=9, color=colour)
        below: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "bbox": {"color": "white", "pad": 1.0}}
        ax.text(0.01, place + 0.4, driver.sentence, va="center", fontsize=8, color="#555555", **below)
    ax.plot([ends[-1], ends[-1]], [len(drivers) - 0.2, len(drivers) + 1], color=GREY, linewidth=0.8)
    for place, value in ((0, one.baseline_value), (len(drivers) + 1, one.value)):
        ax.plot(value, place, "D", color=BLACK, markersize=7)
        ax.text(value + room, place, f"{value:.{one.digits}f}", va="center", fontsize=10, fontweight="bold")
    names = [LABELS[driver.name].split(" over ")[0].split(",")[0] for driver in drivers]
    ax.set_yticks(range(len(drivers) + 2), ["start", *names, "recommended" if one.quantity == "price" else "expected"])
    ax.set_ylim(len(drivers) + 1.6, -0.6)
    ax.set_xlim(low - 2 * room, high + 5 * room)
    none = [LABELS[driver.name].split(" over ")[0].split(",")[0] for driver in one.drivers if not driver.effect]
    unit = "price" if one.quantity == "price" else "expected units of the period"
    ax.set_xlabel(f"{unit}\nWithout an effect: {', '.join(none)}." if none else unit, fontsize=9)
    title = f"Why this {one.quantity}: {request.product_id} on {one.decision.date:%A}, {one.decision.date}"
    return _png(titled(figure, title, note=f"{one.summary}\n{START[one.quantity]}"))


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return written.getvalue()
