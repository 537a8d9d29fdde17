"""A small panel and a model with random weights: enough to test everything that needs no training."""

from dataclasses import replace

import numpy as np

from pricing.data.ewma import Norms
from pricing.data.features import KNOWN, PAST
from pricing.data.panel import Panel
from pricing.demand.ensemble import network_only
from pricing.demand.grades import CATEGORY, OWN_HISTORY, blank_evidence
from pricing.demand.levels import Priors
from pricing.demand.model import DemandModel
from pricing.demand.state import encode_panel
from tests.kit import panels


def make_panel(*, products: int = 5, periods: int = 90, seed: int = 0) -> Panel:
    """Poisson sales with a late launch, a gap, a stock-out and missing competitor prices."""
    rng = np.random.default_rng(seed)
    shape = (products, periods)
    list_price = np.full(shape, 10.0, np.float32)
    price = (list_price * np.exp(rng.normal(0, 0.1, shape))).astype(np.float32)
    units = rng.poisson(6.0, shape).astype(np.float32)
    present = np.ones(shape, bool)
    present[1:2, :40] = False
    present[2:3, 50:60] = False
    stock = np.full(shape, 1000.0, np.float32)
    stock[3:4, 20:25] = units[3:4, 20:25]
    comp = np.where(rng.random(shape) < 0.3, np.nan, 9.5).astype(np.float32)
    for values in (price, list_price):
        values[1:2, :40] = np.nan
    units[~present] = np.nan
    made = panels.panel(
        products=products,
        days=periods,
        present=present,
        units_sold=units,
        price=price,
        list_price=list_price,
        unit_cost=list_price * 0.6,
        stock=stock,
        comp_price=comp,
        comp_price_age=comp * 0,
        is_promo=rng.random(shape) < 0.1,
        is_holiday=rng.random(periods) < 0.03,
    )
    return replace(
        made,
        product_ids=np.asarray([f"P{i}" for i in range(products)]),
        categories=np.asarray(["a" if i % 2 == 0 else "b" for i in range(products)]),
        dates=np.datetime64("2024-01-01") + np.arange(periods),
    )


def make_weights(
    *, units: int = 8, categories: int = 2, scale: float = 0.2, rng: np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """Weights of the right shapes, small and random."""
    rng = rng or np.random.default_rng(1)
    shapes = {
        "lstm_cell/kernel": (PAST, 4 * units),
        "lstm_cell/recurrent_kernel": (units, 4 * units),
        "lstm_cell/bias": (4 * units,),
        "from_state/kernel": (units, 32),
        "from_state/bias": (32,),
        "from_known/kernel": (KNOWN, 32),
        "from_category/kernel": (4, 32),
        "category_embedding/embeddings": (categories + 1, 4),
        "heads/kernel": (32, 3),
        "heads/bias": (3,),
    }
    drawn = {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}
    # A third output is drawn and dropped: the worlds of other tests rest on the numbers drawn after these.
    return drawn | {name: drawn[name][..., :2] for name in ("heads/kernel", "heads/bias")}


def make_norms(panel: Panel, **values: float) -> Norms:
    """Norms of all products with elasticity −2; some values replaced."""
    usual = {"usual_price": 10.0, "unit": 1.0, "prior_level": 5.0, "elasticity": -2.0, "weekend": 0.1, "promotion": 0.0}
    return Norms(**{name: np.full(len(panel.product_ids), one, np.float32) for name, one in (usual | values).items()})


def make_model(
    panel: Panel, *, tail: int = 20, weights: dict[str, np.ndarray] | None = None, norms: Norms | None = None
) -> DemandModel:
    """A model of `panel`, with random weights where none are given."""
    weights, norms = weights or make_weights(), norms or make_norms(panel)
    products = len(panel.product_ids)
    return DemandModel(
        product_ids=panel.product_ids,
        categories=np.asarray(["a", "b"]),
        category=np.asarray([i % 2 for i in range(products)], np.int32),
        period="day",
        horizon=28,
        own_periods=28,
        weights=weights,
        norms=norms,
        counted=np.ones(len(panel.product_ids), np.bool_),
        elasticity_sd=np.full(products, 0.5, np.float32),
        grade=np.full(products, OWN_HISTORY, np.int8),
        evidence=blank_evidence(products),
        list_price=np.full(products, 10.0, np.float32),
        priors=Priors(
            level=np.full(3, 5.0, np.float32),
            unit=np.ones(3, np.float32),
            elasticity=np.full(3, -2.0, np.float32),
            elasticity_sd=np.full(3, 0.8, np.float32),
            grade=np.full(3, CATEGORY, np.int8),
            counted=np.ones(3, np.bool_),
            diversion=np.zeros(3, np.float32),
        ),
        level_error=(0.1, 0.02),
        holidays=np.zeros(100, np.float32),
        combination=network_only(len(panel.product_ids)),
        encoded=encode_panel(weights, panel, norms=norms, tail=tail),
    )
