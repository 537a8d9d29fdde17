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

from pipelines.reports.canvas import DPI
from pipelines.reports.sensitivity import spread_over
from pricing.arrays import Floats
from pricing.decision.explanation import GROUPS, PLENTY, Explanation, Quantity, explain
from pricing.decision.request import PriceRequest, Weekday
from pricing.registry.version import LoadedVersion

SAMPLE = 24  # products explained; each needs dozens of pricing calls
PROMOTED = 0.3  # share of the sample explained as on promotion
SEED = 7
LEAST = 0.005  # currency units, or units; smaller effects are not drawn
ORDINARY = (
    "An ordinary day: Wednesday, no promotion or holiday, ample stock,\n"
    "no competitor known, the category's history in place of the product's."
)
LABELS = {
    "day": "day of the week",
    "holiday": "holiday",
    "promotion": "promotion",
    "stock": "stock, in usual days",
    "competitor": "competitor's price over list",
    "cost": "unit cost over list",
    "list_price": "list price",
    "current_price": "current price over list",
    "strategy": "strategy",
    "history": "own history: elasticity",
}


@dataclass(frozen=True)
class Sample:
    """Explanations of a sample of requests, as arrays for shap.

    Attributes:
        names: Input groups with an effect in any request.
        explained: One explanation per request.
        effects: (request, group) Shapley values, 0 where a group equals its baseline.
        inputs: (request, group) a number for the group's input, which colours the plot.
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
            yield f"shap_waterfall_{quantity}", _waterfall(shap, sample.explained[chosen], request=requests[chosen])


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
        stock, comp_price = float(facts.stock[row]), float(facts.comp_price[row])
        requests.append(
            PriceRequest(
                product_id=str(facts.product_ids[row]),
                current_stock=stock if np.isfinite(stock) else PLENTY,
                day_of_week=get_args(Weekday)[date.weekday()],
                date=date,
                comp_price=comp_price if np.isfinite(comp_price) else None,
                is_promo=bool(rng.random() < PROMOTED),
            )
        )
    return requests


def explain_sample(
    version: LoadedVersion, requests: Sequence[PriceRequest], *, today: dt.date, quantity: Quantity
) -> Sample:
    """Explains each request against its baseline, an ordinary day."""
    pricer = version.pricer(version="shap")
    explained = tuple(explain(request, pricer, today=today, quantity=quantity) for request in requests)
    found = [{driver.name: driver.effect for driver in one.drivers} for one in explained]
    names = tuple(name for name in LABELS if any(name in effects for effects in found))
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
    demand = version.demand
    elasticity = demand.elasticity(np.searchsorted(demand.product_ids, facts.product_ids[row]))[0]
    columns = {
        "day": [one.decision.date.weekday() for one in explained],
        "holiday": [0.0] * len(requests),
        "promotion": [float(request.is_promo) for request in requests],
        "stock": [min(request.current_stock, PLENTY) for request in requests]
        / np.maximum(facts.typical_units[row], 0.1),
        "competitor": facts.comp_price[row] / listed,
        "cost": facts.unit_cost[row] / listed,
        "list_price": listed,
        "current_price": facts.price[row] / listed,
        "strategy": [0.0] * len(requests),
        "history": elasticity,
    }
    return np.stack([np.asarray(columns[name], dtype=np.float64) for name in names], axis=1)


def _summary(shap: ModuleType, relative: Any, quantity: Quantity) -> bytes:
    figure = plt.figure(figsize=(9, 1.8 + 0.55 * relative.shape[1]))
    axes = figure.add_subplot()
    shap.plots.beeswarm(relative, max_display=len(GROUPS), show=False, ax=axes, plot_size=None)
    unit = f"effect on {quantity}, % of the larger of the request's and the ordinary day's"
    axes.set_xlabel(f"{unit}\n{ORDINARY}", fontsize=9)
    title = f"What moves {'prices' if quantity == 'price' else 'demand at the price given'}: {len(relative)} requests"
    axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
    return _png(figure)


def _waterfall(shap: ModuleType, one: Explanation, *, request: PriceRequest) -> bytes:
    drivers = [driver for driver in one.drivers if abs(driver.effect) > LEAST] or list(one.drivers)
    alone = shap.Explanation(
        values=np.array([driver.effect for driver in drivers]),
        base_values=one.baseline_value,
        feature_names=[_words(driver.name, one) for driver in drivers],
    )
    figure = plt.figure()
    axes = shap.plots.waterfall(alone, max_display=len(GROUPS), show=False)
    low, high = axes.get_xlim()
    for each in figure.axes:  # room for the figures beside the bars
        each.set_xlim(low - 0.12 * (high - low), high + 0.05 * (high - low))
    unit = "price" if one.quantity == "price" else "expected units at the price given"
    axes.set_title(
        f"{request.product_id} on {one.decision.date:%A} {one.decision.date}: {unit}\n", fontsize=11, loc="left", pad=24
    )
    axes.annotate(
        f"from {one.baseline_value:.2f} on an ordinary day, E[f(X)], to {one.value:.2f} for this request, f(x)",
        (0, 1),
        xytext=(0, 26),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color="#555555",
    )
    return _png(figure)


def _words(name: str, one: Explanation) -> str:
    """Returns a driver's label with the request's value."""
    decided = one.decision
    held = {
        "day": f"{decided.date:%A}",
        "competitor": LABELS[name].split(" over")[0],
        "current_price": f"current price {decided.current_price}",
        "cost": f"unit cost {decided.unit_cost:.2f}",
        "history": "the product's own history",
        "stock": "stock on hand",
    }
    return held.get(name, LABELS[name])


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return written.getvalue()
