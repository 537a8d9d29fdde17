"""Serving reads the plan of price tests without a restart, and a bad plan tests nothing."""

import datetime as dt
import json
from pathlib import Path

import pytest
from pricing.decision.price_tests import Plan, PriceTest, write_plan

from pricing.decision_log.format import read_decisions
from tests.kit.serving import NOW, REQUEST, ServingApp, open_app
from tests.kit.versions import shared_version

MONDAY = NOW.date() - dt.timedelta(days=NOW.date().weekday())
ASKED = {"is_promo": False, "current_price": 1.2, "list_price": 1.2, "unit_cost": 0.5, "comp_price": ...}


@pytest.fixture
def shop(tmp_path: Path):
    with open_app(tmp_path, version=shared_version()) as one:
        yield one


def plan(shop: ServingApp) -> PriceTest:
    """Plans a test of two products in whose first week P00001 has the arm down."""
    tests = [PriceTest(str(name), {"P00001": 1.2, "P00002": 1.2}, 0.05, MONDAY, 3) for name in range(20)]
    test = next(one for one in tests if one.draw("P00001", NOW.date()).arm == "down")
    write_plan(shop.settings.price_tests_file, Plan((test,)))
    shop.service.tick()
    return test


def test_a_plan_moves_prices_at_once_and_its_end_ends_it(shop: ServingApp) -> None:
    before = shop.price(**ASKED).get_json()
    test = plan(shop)

    during = shop.price(**ASKED).get_json()
    batch = shop.client.post("/get_prices", json={"requests": [_item("P00001"), _item("P00003")]}).get_json()
    shop.settings.price_tests_file.unlink()
    shop.service.tick()
    after = shop.price(**ASKED).get_json()

    assert during["recommended_price"] == pytest.approx(before["recommended_price"] / 1.05, abs=0.011)
    assert during["recommended_price"] < before["recommended_price"]
    assert "price_test" in during["reasons"]
    assert batch["decisions"][0]["recommended_price"] == during["recommended_price"]
    assert "price_test" not in batch["decisions"][1]["reasons"]
    assert after["recommended_price"] == before["recommended_price"]
    shop.service.log.flush()
    drawn = [record["test"] for record in read_decisions(shop.settings.decisions_folder).records]
    assert [one and (one["name"], one["arm"]) for one in drawn] == [
        None, (test.name, "down"), (test.name, "down"), None, None,
    ]  # fmt: skip


def test_explain_and_simulate_say_so(shop: ServingApp) -> None:
    plan(shop)

    explained = shop.client.post("/explain", json={"request": _item("P00001")}).get_json()
    simulated = shop.client.post("/simulate", json={"request": _item("P00001")}).get_json()

    assert "price_test" in {driver["name"] for driver in explained["drivers"]}
    assert explained["value"] == explained["decision"]["recommended_price"]
    assert simulated["price_test"] is True


def test_a_held_out_product_is_not_tested(shop: ServingApp) -> None:
    plan(shop)
    shop.settings.holdout_file.parent.mkdir(parents=True, exist_ok=True)
    shop.settings.holdout_file.write_text(json.dumps({"held": ["P00001"], "priced": []}))
    shop.service.tick()

    assert "price_test" not in shop.price(**ASKED).get_json()["reasons"]


def test_a_damaged_plan_tests_nothing_and_is_counted(shop: ServingApp) -> None:
    plan(shop)
    shop.settings.price_tests_file.write_text("{")
    shop.service.tick()

    assert "price_test" not in shop.price(**ASKED).get_json()["reasons"]
    assert "pricing_price_test_faults 1" in shop.client.get("/metrics").get_data(as_text=True)


def _item(product: str) -> dict[str, object]:
    return {name: value for name, value in {**REQUEST, **ASKED, "product_id": product}.items() if value is not ...}
