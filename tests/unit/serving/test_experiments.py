"""Serving reads the experiments without a restart; each arm answers as it should, and a bad file tries nothing."""

import datetime as dt
from collections.abc import Iterator
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.experiments import NO_EXPERIMENTS, Arm, Experiment
from pricing.decision.pricer import Pricer
from pricing.decision.switches import Control
from tests.kit.serving import NOW, REQUEST, ServingApp, open_app
from tests.kit.versions import shared_version

MONDAY = NOW.date() - dt.timedelta(days=NOW.date().weekday())
PRODUCTS = [f"P{number:05d}" for number in range(1, 13)]
ASKED = {"is_promo": False, "current_price": 1.0, "list_price": 1.0, "unit_cost": 0.5, "comp_price": ...}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    """Champion 7, and version 8 beside it."""
    with open_app(tmp_path) as one:
        one.publish(shared_version(), version="7", challenger=("8", shared_version(seed=2)))
        yield one


def plan(shop: ServingApp, arm: Arm, *products: str) -> None:
    """The one experiment that there is, of three weeks, with one arm."""
    prices = dict.fromkeys(products, 1.0) if arm.kind == "draw" else {}
    one = Experiment("spring", MONDAY, 3, (arm,), dict.fromkeys(products, arm.name), prices=prices)
    shop.control(Control(experiments=NO_EXPERIMENTS.plus(one)))


def challenger(shop: ServingApp) -> None:
    plan(shop, Arm("challenger", 0.4, of="8"), *PRODUCTS[:5])


def item(product: str = "P00001") -> dict[str, Any]:
    return {name: value for name, value in {**REQUEST, **ASKED, "product_id": product}.items() if value is not ...}


def logged(shop: ServingApp) -> list[Any]:
    return [record["experiment"] for record in shop.logged()]


def versions(shop: ServingApp) -> list[str]:
    return [shop.answer(product_id=one)["model_version"] for one in PRODUCTS]


def test_a_challenger_that_fails_leaves_the_answer_to_the_champion(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(price: Any, self: Pricer, *args: Any, **more: Any) -> Any:
        if self.version == "8":
            raise ZeroDivisionError
        return price(self, *args, **more)

    for name in ("price", "price_detailed"):
        monkeypatch.setattr(Pricer, name, partialmethod(partial(fails, getattr(Pricer, name))))
    challenger(shop)

    answers = versions(shop)
    page = shop.metrics()

    assert answers == ["7"] * 12
    assert logged(shop) == [None] * 12
    assert "pricing_challenger_failures_total 5.0" in page
    assert "pricing_edge_fallbacks_total 0.0" in page


def test_a_draw_moves_prices_at_once_and_its_end_ends_it(shop: ServingApp) -> None:
    before = shop.answer(**ASKED)
    plan(shop, Arm("draw", 0.5, size=0.05), "P00001", "P00002")  # of P00001 this week 0.05 down

    during = shop.answer(**ASKED)
    batch = shop.batch(item(), item("P00003"))
    explained = shop.explain(item())
    simulated = shop.client.post("/simulate", json={"request": item()}).get_json()
    page = shop.metrics()
    shop.control(Control())
    after = shop.answer(**ASKED)

    assert during["recommended_price"] == pytest.approx(before["recommended_price"] / 1.05, abs=0.011)
    assert during["recommended_price"] < before["recommended_price"] == after["recommended_price"]
    assert batch[0]["recommended_price"] == during["recommended_price"]
    assert ["price_test" in one["reasons"] for one in (during, *batch, after)] == [True, True, False, False]
    assert "price_test" in {driver["name"] for driver in explained["drivers"]}
    assert simulated["experiment"] == "spring/draw"
    assert [one and (one["name"], one["arm"], one["odds"]) for one in logged(shop)] == [
        None, ("spring", "draw", 0.5), ("spring", "draw", 0.5), None, None,
    ]  # fmt: skip
    assert 'pricing_decisions_total{experiment="spring/draw"' in page
    assert "pricing_experiments 1.0" in page


def test_a_challengers_products_are_answered_by_that_version_alone_and_in_a_batch(shop: ServingApp) -> None:
    before = versions(shop)
    challenger(shop)

    alone = versions(shop)
    items = [{**REQUEST, "product_id": one} for one in PRODUCTS] + [{**REQUEST, "strategy": "greed"}]
    decisions = shop.batch(*items)
    explained = [shop.explain({**REQUEST, "product_id": one})["decision"] for one in PRODUCTS]

    assert before == ["7"] * 12
    assert alone == ["8"] * 5 + ["7"] * 7
    assert [one["model_version"] for one in decisions[:-1]] == [one["model_version"] for one in explained] == alone
    assert "error" in decisions[-1]
    assert [one and one["arm"] for one in logged(shop)[12:24]] == ["challenger/8"] * 5 + [None] * 7
    assert 'pricing_challenger_workers{version="8"} 1.0' in shop.metrics()
    assert (shop.client.get("/health/ready").json or {})["challenger"] == "8"


def test_the_challenger_prices_the_days_of_its_experiment_and_no_others(shop: ServingApp) -> None:
    challenger(shop)
    days = [MONDAY + dt.timedelta(days=days) for days in (-1, 0, 20, 21)]

    priced = [shop.answer(date=str(day), day_of_week=...)["model_version"] for day in days]

    assert priced == ["7", "8", "8", "7"]
    shop.publish(shared_version(), version="7")  # no longer with the challenger
    assert versions(shop) == ["7"] * 12
