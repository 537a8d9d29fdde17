"""Sixty nights of the real loop on the needed columns: train, pack, refresh, price, sell."""

import numpy as np
import pytest

from pricing.config import Config, load_config
from pricing.data.anchors import Anchors
from pricing.data.panel import Panel
from pricing.decision.product_facts import ProductFacts
from pricing.demand.model import DemandModel
from pricing.demand.training import train
from pricing.registry.version import Origin, pack
from tests.kit.closed_loop import Learnt, LoopResult, Shop, run_nights
from tests.model.test_network import TINY

pytestmark = [pytest.mark.slow, pytest.mark.weekly]
PRODUCTS = 10
CENT = 0.005


def small_shop() -> Shop:
    """Products of elasticity −2.5 whose true margin is the assumed one; sales are drawn."""
    rng = np.random.default_rng(5)
    return Shop(
        elasticity=np.full(PRODUCTS, 2.5),
        margin=np.full(PRODUCTS, 0.35),
        list_price=np.round(np.exp(rng.normal(2.0, 0.5, PRODUCTS)), 2),
        level=np.exp(rng.normal(2.3, 0.8, PRODUCTS)),
        size=10.0,
    )


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config().model_copy(update={"demand": TINY})


@pytest.fixture(scope="module")
def nights(config: Config, tmp_path_factory: pytest.TempPathFactory) -> LoopResult:
    folder = tmp_path_factory.mktemp("loop") / "version"

    def learn(panel: Panel, anchors: Anchors) -> DemandModel:
        version = pack(
            folder,
            demand=train(panel, config.demand),
            facts=ProductFacts.from_panel(panel, anchors=anchors),
            config=config,
            backtest={"wape": 0.4},
            origin=Origin(kind="train", data={}),
            holds_only=False,
            anchors=anchors,
        )
        assert version.anchors.digest() == anchors.digest()
        return version.learner

    def refresh(demand: Learnt, panel: Panel) -> DemandModel:
        assert isinstance(demand, DemandModel)
        return demand.refresh(panel)

    return run_nights(small_shop(), config, learn=learn, refresh=refresh, history=364)


def test_prices_of_sixty_nights_stay_in_the_band_come_to_rest_and_earn_what_holding_earns(nights: LoopResult) -> None:
    low, high = load_config().decision.guardrails.band

    assert len(nights.price) == 60
    assert (nights.price >= low * nights.anchor - CENT).all()
    assert (nights.price <= high * nights.anchor + CENT).all()
    assert np.median(nights.moved(last=10)) < 0.02
    assert nights.earned.sum() >= 0.98 * nights.held.sum()  # what holding the prices earns
