"""Products that are held out keep their prices, and a bad list holds nobody out."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.serving import REQUEST, ServingApp, as_explained, open_app
from tests.kit.versions import shared_version

DEAR = {"current_price": 1.2, "list_price": 1.1, "unit_cost": 0.5, "comp_price": 1.2, "is_promo": False}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    with open_app(tmp_path, version=shared_version()) as one:
        yield one


def hold(shop: ServingApp, text: str) -> None:
    shop.settings.holdout_file.parent.mkdir(parents=True, exist_ok=True)
    shop.settings.holdout_file.write_text(text)
    shop.service.tick()


def held(*products: str) -> str:
    return json.dumps({"held": list(products), "priced": ["P00002"]})


def test_a_held_product_keeps_its_price_and_says_why(shop: ServingApp) -> None:
    before = shop.price(**DEAR).get_json()
    hold(shop, held("P00001"))

    after = shop.price(**DEAR).get_json()

    assert before["recommended_price"] != 1.2
    assert after["recommended_price"] == 1.2
    assert after["source"] == "rule"
    assert "holdout" in after["reasons"]
    assert not {"held", "low_confidence"} & set(after["reasons"])
    assert "holdout" not in before["reasons"]
    assert shop.price(**DEAR, product_id="P00002").get_json()["source"] == "model"


def test_a_held_product_stays_inside_the_guardrails(shop: ServingApp) -> None:
    hold(shop, held("P00001"))

    decision = shop.price(**{**DEAR, "unit_cost": 1.5}).get_json()

    assert decision["recommended_price"] == 1.5
    assert {"holdout", "at_cost"} <= set(decision["reasons"])


def test_a_held_product_without_a_price_gets_its_list_price(shop: ServingApp) -> None:
    hold(shop, held("nobody knows"))

    decision = shop.price(product_id="nobody knows", list_price=10.0).get_json()

    assert decision["recommended_price"] == 10.0
    assert "holdout" in decision["reasons"]


def test_a_batch_holds_only_those_that_are_held(shop: ServingApp) -> None:
    hold(shop, held("P00001"))
    items = [{**REQUEST, **DEAR, "product_id": one} for one in ("P00002", "P00001", "P00003")]

    decisions = shop.client.post("/get_prices", json={"requests": items}).get_json()["decisions"]

    assert ["holdout" in decision["reasons"] for decision in decisions] == [False, True, False]


def test_rules_hold_too(tmp_path: Path) -> None:
    with open_app(tmp_path) as bare:
        hold(bare, held("P00001"))
        decision = bare.price(**DEAR).get_json()

    assert decision["recommended_price"] == 1.2
    assert {"holdout", "no_model"} <= set(decision["reasons"])


@pytest.mark.parametrize(
    "text", ["{half", "[]", '{"priced": []}', '{"held": "P00001"}', '{"held": [1]}', "\0", '{"held": null}']
)
def test_a_garbled_list_holds_nobody_is_logged_and_counted(
    shop: ServingApp, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    hold(shop, held("P00001"))

    hold(shop, text)

    page = shop.client.get("/metrics").text
    assert "holdout" not in shop.price(**DEAR).get_json()["reasons"]
    assert "pricing_holdout_faults 1.0" in page
    assert 'pricing_holdout{state="unreadable"} 0.0' in page
    assert "is no list of held-out products" in caplog.text


def test_a_missing_list_holds_nobody_and_one_that_goes_is_said(
    shop: ServingApp, caplog: pytest.LogCaptureFixture
) -> None:
    silent = caplog.text
    hold(shop, held("P00001"))
    there = shop.client.get("/metrics").text

    shop.settings.holdout_file.unlink()
    shop.service.tick()

    assert "held" not in silent
    assert 'pricing_holdout{state="read"} 1.0' in there
    assert 'pricing_holdout{state="none"} 0.0' in shop.client.get("/metrics").text
    assert "holdout" not in shop.price(**DEAR).get_json()["reasons"]
    assert "is gone" in caplog.text


def test_a_request_is_held_out_by_one_list_though_another_comes_meanwhile(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = iter([frozenset({"P00001"})])
    read_once = property(lambda _: next(lists), lambda *_: None)
    monkeypatch.setattr(type(shop.service.holdout), "content", read_once, raising=False)

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(shop.service.champion.served.pricer, "price_detailed", fails)

    decision = shop.price(**DEAR).get_json()

    assert (decision["recommended_price"], decision["source"]) == (1.2, "rule")
    assert "holdout" in decision["reasons"]


@pytest.mark.parametrize("of", ["price", "demand"])
def test_an_explanation_of_a_held_product_is_of_the_price_that_it_gets(shop: ServingApp, of: str) -> None:
    hold(shop, held("P00001"))
    request = {**REQUEST, **DEAR}

    answer = shop.client.post("/explain", json={"request": request, "of": of}).get_json()

    given = shop.price(**DEAR).get_json()
    assert answer["decision"] == as_explained(given, decision_id=answer["decision"]["decision_id"])
    if of == "price":
        assert answer["value"] == given["recommended_price"]
        assert answer["drivers"] == []
    assert "holdout" in {reason["code"] for reason in answer["reasons"]}


def test_a_simulation_says_that_a_product_is_held_out(shop: ServingApp) -> None:
    hold(shop, held("P00001"))

    for product, expected in (("P00001", True), ("P00002", False)):
        answer = shop.client.post("/simulate", json={"request": {**REQUEST, "product_id": product}}).get_json()

        assert answer["held_out"] is expected


def test_a_held_product_whose_price_lies_beyond_the_largest_jump_goes_to_its_end(shop: ServingApp) -> None:
    hold(shop, held("P00001"))

    decision = shop.price(**{**DEAR, "current_price": 1.3, "list_price": 1.2}).get_json()

    assert decision["recommended_price"] == 1.22  # 0.94 was charged last
    assert {"holdout", "jump_limited"} <= set(decision["reasons"])
