"""Model versions for tests: real files around a real demand model whose network has random weights, so no Keras."""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricing.config import load_config
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.event_windows import EventLifts, place, spread
from pricing.data.ewma import Norms
from pricing.data.panel import Event, Panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.demand.grades import CATEGORY
from pricing.demand.levels import Priors
from pricing.demand.model import DemandModel
from pricing.demand.table import DemandTable
from pricing.demand.tested_gap import PairedMeans
from pricing.registry.version import LoadedVersion, Origin, load, pack
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.demand_fakes import make_model, make_weights


@cache
def shared_panel() -> Panel:
    return make_panel()


@cache
def product_names() -> list[str]:
    """The products of the shared version."""
    return [str(product) for product in shared_panel().product_ids]


@cache
def shared_version(seed: int = 1) -> Path:
    """A version's folder that all tests of a session share and none may write to."""
    folder = Path(tempfile.mkdtemp(prefix="version-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_version(folder / "version", panel=shared_panel(), seed=seed)
    return folder / "version"


@cache
def loaded_version() -> LoadedVersion:
    return load(shared_version())


SCORES = {"wape": 0.3, "wape_naive": 0.4, "wape_baseline": 0.4, "coverage_80": 0.8, "coverage_95": 0.95}
GAIN = {"wape": -0.06, "wape_low": -0.08, "wape_high": -0.04, "crps": -0.15, "crps_low": -0.17, "crps_high": -0.13}
FIGURES: dict[str, Any] = {
    **SCORES,
    "bias": 0.01,
    "baseline": "direct",
    "against_baseline": GAIN,
    "folds": [{"cutoff": "2024-01-01", **SCORES}],
    "by_volume": {"low": SCORES, "high": SCORES},
    "by_step": {"15-21": SCORES, "1-7": SCORES, "8-14": SCORES},  # as sorted keys of JSON come
}


def make_panel(*, products: int = 12, days: int = 150, seed: int = 3) -> Panel:
    return build_panel(simulate(MarketConfig(products=products, days=days, seed=seed)).frame(), load_config().data)


def make_demand(panel: Panel, *, seed: int = 1, units: int = 8) -> DemandModel:
    rng = np.random.default_rng(seed)
    categories, category = np.unique(panel.categories, return_inverse=True)
    count, rows = len(panel.product_ids), len(categories) + 1
    weights = make_weights(units=units, categories=len(categories), scale=0.1, rng=rng)
    norms = Norms(
        usual_price=np.nanmedian(panel.price, axis=1).astype(np.float32),
        unit=np.ones(count, np.float32),
        prior_level=np.maximum(np.nanmean(panel.units_sold, axis=1), 0.5).astype(np.float32),
        elasticity=(-2.4 + 0.3 * rng.standard_normal(count)).astype(np.float32),
        weekend=np.full(count, 0.05, np.float32),
        promotion=np.zeros(count, np.float32),
    )
    return replace(
        make_model(panel, tail=35, weights=weights, norms=norms),
        categories=categories,
        category=category.astype(np.int32),
        period=panel.period,
        elasticity_sd=np.full(count, 0.3, np.float32),
        list_price=panel.list_price[:, -1].astype(np.float32),
        priors=Priors(
            level=np.full(rows, 1.0, np.float32),
            unit=np.ones(rows, np.float32),
            elasticity=np.full(rows, -2.4, np.float32),
            elasticity_sd=np.full(rows, 0.5, np.float32),
            grade=np.full(rows, CATEGORY, np.int8),
            counted=np.ones(rows, np.bool_),
            diversion=np.zeros(rows, np.float32),
        ),
        holidays=np.zeros(420, np.float32),
    )


def make_version(
    folder: Path,
    *,
    panel: Panel | None = None,
    seed: int = 1,
    units: int = 8,
    holds_only: bool = False,
    data: Mapping[str, object] | None = None,
) -> LoadedVersion:
    panel = panel or make_panel()
    return pack(
        folder,
        demand=make_demand(panel, seed=seed, units=units),
        facts=ProductFacts.from_panel(panel),
        config=load_config(),
        backtest=FIGURES,
        origin=Origin(kind="train", data=data or {"source": "simulated", "seed": seed}),
        holds_only=holds_only,
        anchors=Anchors.from_panel(panel),
    )


def with_test(demand: DemandTable) -> DemandTable:
    """Has the first category observed at −2.4 and tested at −1.6 by 12 products."""
    first = np.arange(len(demand.categories)) == 0
    tested = PairedMeans(
        observed=np.where(first, -2.4, np.nan),
        observed_error=np.where(first, 0.2, np.nan),
        tested=np.where(first, -1.6, np.nan),
        tested_error=np.where(first, 0.3, np.nan),
        products=np.where(first, 12, 0),
    )
    return replace(demand, tested=tested, weekend=np.zeros_like(demand.weekend))


def raise_prices(patch: pytest.MonkeyPatch) -> None:
    """Has every version answer dearer than it did when it was packed."""
    price = Pricer.price

    def dearer(self: Pricer, *args: Any, **more: Any) -> Any:
        found = price(self, *args, **more)
        return [one.model_copy(update={"recommended_price": one.recommended_price + 1}) for one in found]

    patch.setattr(Pricer, "price", dearer)


def with_feast(demand: DemandModel, *, date: str, lift: float = 0.3) -> DemandModel:
    """The model with one event, the Feast on `date`, that lifts the demand of all categories on it and the day before.

    States stay as they are: they contain no day of it.
    """
    day, start = np.datetime64(date), demand.encoded.tail.dates[0].astype("datetime64[D]")
    dates = start + np.arange(len(demand.encoded.tail.dates) + len(demand.holidays) - 1)
    events = (Event("Feast", day, day, before=1, after=1),)
    positions = np.array([-1, 0, 1])
    value = np.full((len(demand.categories) + 1, 1, 3), [lift / 2, lift, 0.0], np.float32)
    placed = list(place(events, ["Feast"], dates, period="day"))
    lifts = EventLifts(
        category=demand.category,
        categories=demand.categories,
        names=np.array(["Feast"]),
        positions=positions,
        value=value,
        sd=np.full(value.shape, 0.06, np.float32),
        seen=np.array([3], np.int32),
        dates=dates,
        by_period=spread(placed, value, positions, categories=demand.categories, periods=len(dates)),
        events=events,
    )
    return replace(demand, norms=replace(demand.norms, lifts=lifts))
