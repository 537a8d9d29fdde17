import io
import json
import math
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from serving import problems
from serving.routes import pricing
from tests.kit.serving import REQUEST, ServingApp
from tests.kit.versions import loaded_version

BROKEN = Mock(side_effect=ZeroDivisionError)


def test_a_price_has_every_field_of_the_contract_and_is_logged_with_its_request(shop: ServingApp) -> None:
    answer = shop.price()

    assert answer.status_code == 200
    decision = answer.get_json()
    assert decision.keys() == {
        "recommended_price", "confidence", "price_range", "expected_units", "expected_margin",
        "source", "reasons", "binds", "gave_way", "strategy", "model_version", "decision_id", "expected_gain",
        "worst_case", "comp_price_used", "comp_price_age",
    }  # fmt: skip
    low, high = decision["price_range"]
    assert low <= decision["recommended_price"] <= high
    assert 0 <= decision["confidence"] <= 1
    assert (decision["source"], decision["strategy"], decision["model_version"]) == ("model", "margin", "7")
    (record,) = shop.logged()
    assert record["decision"] == decision
    assert (record["request"], record["date"]) == (REQUEST, "2023-08-04")
    assert len(record["candidates"]["price"]) == 9


def test_each_answer_has_the_id_by_which_its_decisions_and_errors_are_logged(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shop.service.follower.current.champion.pricer, "price_detailed", BROKEN)
    sent = {"X-Request-ID": "till-7:42"}

    shop.client.post("/get_price", json=REQUEST, headers=sent)
    shop.client.post("/get_prices", json={"requests": [REQUEST]}, headers=sent)
    named = shop.price().headers["X-Request-ID"]

    assert [record["request_id"] for record in shop.logged()] == ["till-7:42", "till-7:42", named]
    assert [record.request_id for record in caplog.records if record.exc_info] == ["till-7:42", "till-7:42", named]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", [{"current_price": 1000.0}, {"list_price": 0.5}])
@pytest.mark.parametrize("by", ["the model", "the rules of the version"])
def test_no_request_moves_an_answer_far_from_the_last_price_charged(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch, by: str, fault: dict[str, float]
) -> None:
    if by != "the model":
        monkeypatch.setattr(shop.service.follower.current.champion.pricer, "price_detailed", BROKEN)
    version = loaded_version()
    product = str(version.facts.product_ids[2])
    last = float(version.facts.last_price[2])

    decision = shop.answer(product_id=product, **fault)

    assert decision["model_version"] == ("7" if by == "the model" else "none")
    assert 0.7 * last - 0.005 <= decision["recommended_price"] <= 1.3 * last + 0.005


@pytest.mark.parametrize("fields", [{}, {"strict": True, "current_price": 3.49}], ids=["nothing known", "strict"])
@pytest.mark.parametrize("path", ["/get_price", "/explain"])
def test_an_unknown_product_of_which_nothing_is_known_or_that_is_asked_for_strictly_is_not_found(
    shop: ServingApp, path: str, fields: dict[str, Any]
) -> None:
    asked = {**REQUEST, "product_id": "p7", **fields}

    answer = shop.client.post(path, json=asked if "get_price" in path else {"request": asked})

    problem = answer.get_json()
    assert (answer.status_code, problem["status"]) == (404, 404)
    assert [fault["field"] for fault in problem["errors"]] == ["product_id"]
    assert shop.logged() == []


@pytest.mark.parametrize(
    "changes",
    [{"comp_price": None, "current_stock": None}, {"comp_price": ..., "is_promo": ..., "current_stock": ...},
     {"current_stock": 0}, {"current_stock": 1e12, "list_price": 1e9}, {"comp_price": 1e-4},
     {"product_id": '日本茶 ☕": "b:c', "list_price": 9}, {"date": "2023-08-04", "day_of_week": ...},
     {"date": "0001-01-05"}, {"next_delivery": "9999-12-31"}, {"strategy": "clearance"}],
)  # fmt: skip
def test_what_is_unusual_but_allowed_is_priced(shared_shop: ServingApp, changes: dict[str, Any]) -> None:
    answer = shared_shop.price(**changes)

    assert answer.status_code == 200, answer.get_json()
    assert answer.get_json()["recommended_price"] > 0


@pytest.mark.parametrize(
    "faults",
    [
        {"product_id": ..., "current_stock": -1, "day_of_week": "Fri", "comp_price": "21.5", "comp_prise": 2},
        {"day_of_week": ...},
        {"product_id": "", "current_stock": "150", "comp_price": 0, "is_promo": "true"},
        {"product_id": 12345, "current_stock": True, "day_of_week": 5, "comp_price": 1e300, "is_promo": 1},
        {"product_id": "p" * 201, "current_price": 1e-12, "category": "c" * 201, "competitor": 1, "date": 19570},
        {"strategy": "greed"},
        {"date": "2023-08-05"},  # no Friday
        {"next_delivery": "0001-01-01"},
    ],
)
def test_whatever_cannot_be_understood_is_refused_by_name_all_at_once(
    shared_shop: ServingApp, faults: dict[str, Any]
) -> None:
    answer = shared_shop.price(**faults)

    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert {fault["field"] for fault in answer.get_json()["errors"]} == faults.keys()
    many = shared_shop.answer(**{f"a{one}": one for one in range(3000)})["errors"]
    assert len(many) == problems.LISTED + 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b'{"a":' * 100_000, 400),
        (b"null", 422),
        (json.dumps({**REQUEST, "current_stock": math.nan}).encode(), 422),
        (json.dumps({**REQUEST, "comp_price": math.inf}).encode(), 422),
        (json.dumps({**REQUEST, "product_id": "\ud800"}).encode(), 400),
        (b'{"current_stock": ' + b"9" * 5000 + b"}", 400),
    ],
)
@pytest.mark.parametrize("path", ["/get_price", "/get_prices"])
def test_no_body_brings_the_service_down(shared_shop: ServingApp, path: str, body: bytes, status: int) -> None:
    answer = shared_shop.send(path, body)

    assert answer.status_code in ({status} if path == "/get_price" else {status, 422})
    assert strict(answer.data)["status"] == answer.status_code


PLAIN = json.dumps(REQUEST)
TWICE = PLAIN[:-1] + ', "current_stock": 2}'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/get_price", PLAIN[:-1] + ', "current_\\u0073tock": 2}'),
        ("/explain", f'{{"request": {TWICE}}}'),
        ("/get_prices", f'{{"requests": [{PLAIN}, {TWICE}]}}'),
    ],
)
def test_a_name_given_twice_is_refused_since_either_may_be_meant(shared_shop: ServingApp, path: str, body: str) -> None:
    answer = shared_shop.send(path, body)

    assert answer.status_code == 400
    assert answer.get_json()["errors"] == [
        {"field": "current_stock", "problem": "is given twice in one object; send it once"}
    ]


def test_a_batch_is_answered_in_order_and_a_bad_item_fails_alone(shop: ServingApp) -> None:
    bad: list[Any] = [{"current_stock": -5}, {"strategy": "greed"}, {"is_promo": 1}, {"comp_price": math.nan}]
    bad.append({"product_id": "p7"})
    items = [{**REQUEST, "product_id": "P00002"}, *({**REQUEST, **one} for one in bad), "no object", REQUEST]

    answer = shop.send("/get_prices", json.dumps({"requests": items}))

    assert answer.status_code == 200
    decisions = answer.get_json()["decisions"]
    assert ["error" in decision for decision in decisions] == [False, *[True] * 6, False]
    faults = [decision["error"]["errors"][0]["field"] for decision in decisions[1:6]]
    assert faults == ["current_stock", "strategy", "is_promo", "comp_price", "product_id"]
    assert [record["product_id"] for record in shop.logged()] == ["P00002", "P00001"]
    assert "pricing_bad_items_total 6.0" in shop.metrics()


def test_a_batch_over_the_limit_is_counted_before_its_items_are_looked_at(
    shared_shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing, "from_validation", lambda *_, **__: pytest.fail("an item was looked at"))
    body = f'{{"requests":[{",".join(["{}"] * 25_000)}]}}'

    answer = shared_shop.send("/get_prices", body)

    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/get_price", "/get_prices"])
@pytest.mark.parametrize("headers", [{"Content-Length": "512100"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_above_the_limit_is_refused_also_where_no_length_is_declared(
    shared_shop: ServingApp, path: str, headers: dict[str, str]
) -> None:
    body = io.BytesIO(PLAIN.encode().ljust(512_100))
    environment = {"wsgi.input_terminated": True}

    answer = shared_shop.client.post(
        path, input_stream=body, environ_overrides=environment, headers={"Content-Type": "application/json", **headers}
    )

    assert answer.status_code == answer.get_json()["status"] == 413


def test_a_dry_run_is_priced_and_not_logged(shop: ServingApp) -> None:
    answer = shop.client.post("/get_price?dry_run=true", json={**REQUEST, "strategy": "revenue"})
    strays = [shop.client.post(f"/get_price?{query}", json=REQUEST) for query in ("dry_run=perhaps", "dry=true")]

    assert answer.get_json()["strategy"] == "revenue"
    assert [one.status_code for one in strays] == [422, 422]
    assert shop.logged() == []


def test_the_rules_that_answer_for_a_version_that_fails_know_its_costs(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = shop.service.follower.current.champion.version
    assert version is not None
    row = int(np.argmax(version.facts.unit_cost))
    monkeypatch.setattr(shop.service.follower.current.champion.pricer, "price_detailed", BROKEN)

    decision = shop.answer(product_id=str(version.facts.product_ids[row]), comp_price=...)

    assert (decision["source"], decision["model_version"]) == ("rule", "none")
    assert decision["recommended_price"] >= version.facts.unit_cost[row]
    assert "pricing_edge_fallbacks_total 1.0" in shop.metrics()


def test_a_request_on_which_a_version_fails_costs_the_others_of_its_pass_nothing(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    pricer = shop.service.follower.current.champion.pricer
    price = pricer.price_detailed

    def fails_on_seven(asked: Any, **options: Any) -> Any:
        if any(one.current_stock == 7 for one in asked):
            raise ZeroDivisionError
        return price(asked, **options)

    monkeypatch.setattr(pricer, "price_detailed", fails_on_seven)
    requests = [{**REQUEST, "current_stock": stock} for stock in (5, 6, 7, 8, 9)]

    answers = shop.batch(*requests)

    assert [one["source"] for one in answers] == ["model", "model", "rule", "model", "model"]
    assert "pricing_edge_fallbacks_total 1.0" in shop.metrics()


def strict(body: bytes) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(body, parse_constant=refuse)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        (" p 0000 1 ", ["P00001"]),
        ("P-00001", ["P00001"]),
        ("P0001", ["P00010", "P00011", "P00012"]),
        ("7", ["0007"]),
        ("tea", []),
        ("---", []),
    ],
)
def test_ids_like_the_one_that_is_unknown_are_named(asked: str, near: list[str]) -> None:
    assert problems.near_ids(np.array(["0007", *(f"P{number:05d}" for number in range(1, 13))]), asked) == near


def test_an_unknown_product_is_answered_with_ids_like_it_and_few_of_a_batch(shared_shop: ServingApp) -> None:
    asked = {"product_id": "p00003", "day_of_week": "Friday"}
    one = shared_shop.client.post("/simulate", json={"request": asked})
    alone = shared_shop.client.post("/get_price", json=asked)

    batch = shared_shop.batch(*[asked] * (problems.LISTED + 5))

    for told in (one.get_json(), alone.get_json(), batch[0]["error"]):
        assert (told["status"], told["near"], "P00003" in told["detail"]) == (404, ["P00003"], True)
    assert sum("near" in item["error"] for item in batch) == problems.LISTED
