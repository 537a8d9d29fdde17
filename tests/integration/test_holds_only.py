"""A shop whose prices never moved: trained, promoted as holds_only, and every answer keeps its price."""

import datetime as dt
from pathlib import Path

import pytest
import yaml

from pricing.decision.request import PriceRequest
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import load
from tests.kit.mlflow_jobs import TINY, JobFolder, place, write_sales

LIMITS = {**TINY["registry"]["gates"], "elasticity_sane": 1.0, "identified": 0.1}


@pytest.fixture
def shop(empty_store: Path, tmp_path: Path) -> JobFolder:
    return place(tmp_path / "shop", template=empty_store)


def test_prices_that_never_moved_are_kept_by_the_version_learnt_from_them(shop: JobFolder) -> None:
    sales = write_sales(shop.folder / "sales.csv", moves=False)
    config = shop.folder / "config.yaml"
    config.write_text(yaml.safe_dump({**TINY, "registry": {"gates": LIMITS}}))

    trained = shop.run("pipelines.train", "--sales", str(sales), "--config", str(config))
    promoted = shop.run("pipelines.promote", "--config", str(config), "--reason", "a first try")
    history = shop.run("pipelines.history", "--config", str(config))

    assert (trained.code, promoted.code) == (0, 0), trained.err + promoted.err
    assert "the version is holds_only" in trained.out
    assert "the version is holds_only" in promoted.out
    assert "needed at least 0.1; promoted as holds_only" in promoted.out
    assert "a first try; holds_only: prices stay" in history.out
    registry = Registry("pricing", uri=shop.uri)
    champion = registry.find("champion")
    assert champion.holds_only
    assert champion.tags["identified"] == "0.0"
    version = load(registry.download("champion", shop.folder / "version"))
    today = version.demand.state_date + dt.timedelta(days=1)
    requests = [
        PriceRequest(product_id=product, current_stock=1e6, day_of_week=day, is_promo=promo)
        for product in version.demand.product_ids.tolist()
        for day in ("Monday", "Saturday")
        for promo in (False, True)
    ]
    current = dict(zip(version.facts.product_ids.tolist(), version.facts.price.tolist(), strict=True))
    for decision, request in zip(version.pricer(version="1").price(requests, today=today), requests, strict=True):
        assert decision.recommended_price == pytest.approx(current[request.product_id], abs=0.006)
        assert "elasticity_unidentified" in decision.reasons
