"""Draw with shap how prices and demand of a sample of products come about."""

import datetime as dt
import importlib
import io
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from pipelines.reports.canvas import DPI
from pipelines.reports.sensitivity import spread_over
from pricing.decision.explanation import Explanation, Quantity, Told, explain
from pricing.decision.request import PriceRequest, Weekday
from pricing.registry.version import LoadedVersion, shown_elasticities

SAMPLE = 24  # products explained
PROMOTED = 0.3  # share of the sample explained as on promotion
SEED = 7
START = {"price": "the price charged now", "demand": "units of a mean period at the usual price"}


def shap_plots(version: LoadedVersion) -> Iterator[tuple[str, bytes]]:
    """Yields a summary and a waterfall plot of prices and of demand, as PNG images with their names.

    The sample has a fixed size and seed. Where nothing moves any price of it, that quantity has no plot.

    Args:
        version: The version to explain, through its pricer.
    """
    shap = load_shap()
    requests = sample_requests(version)
    rows = np.searchsorted(version.demand.product_ids, [request.product_id for request in requests])
    known = shown_elasticities(version.demand, rows, holds_only=version.holds_only)
    elasticities = known["elasticity"].tolist()
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
    return _png(figure)


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
    return _png(figure)


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return written.getvalue()
