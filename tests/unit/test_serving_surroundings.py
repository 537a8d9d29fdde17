"""What surrounds the prices: readiness, metrics, documents, headers, request ids, settings, logs."""

import json
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.pricer import Pricer
from pricing.decision.request import Decision
from pricing.demand.grades import CATEGORY
from pricing.errors import ConfigError, RequestError
from pricing.fileio import replace_json
from serving.champion import FIRST_ATTEMPT_SECONDS, FIRST_ATTEMPT_SECONDS_WITH_VERSION, Champion
from serving.current_version import BAKED, FollowerStatus, Pointer, write_pointer
from serving.hot_path import ARRIVED
from serving.logs import JsonFormatter
from serving.metrics import Exchange, Metrics, page
from tests.kit.serving import REQUEST, ServingApp, open_app, point_at, settings_in
from tests.kit.versions import make_version, shared_panel, shared_version

ROOT = Path(__file__).parents[2]
OURS = {"PRICING_RUN_ID": "now"}


def alone(folder: Path) -> dict[str, str]:
    """The environment of a run that consists of one worker."""
    path = folder / "alone.yaml"
    path.write_text("serving: {workers: 1}")
    return {**OURS, "PRICING_CONFIG": str(path)}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    with open_app(tmp_path, version=shared_version()) as one:
        yield one


def tell(shop: ServingApp, following: FollowerStatus) -> None:
    replace_json(shop.settings.places.status, asdict(following))


def test_ready_comes_only_after_the_first_attempt_to_load_a_champion(tmp_path: Path) -> None:
    with open_app(tmp_path / "home", environment=alone(tmp_path)) as shop:
        ready = [shop.client.get("/health/ready").status_code]
        for following in (
            FollowerStatus("now"),
            FollowerStatus("an earlier run", "no_champion", attempted=True),
            FollowerStatus("now", "following", attempted=True, champion="7", served="7"),
        ):
            tell(shop, following)
            ready.append(shop.client.get("/health/ready").status_code)
        shop.point_at(shared_version(), version="7")
        ready.append(shop.client.get("/health/ready").status_code)
        prices = shop.price().status_code

    assert ready == [503, 503, 503, 503, 200]
    assert prices == 200


def test_ready_comes_only_when_every_worker_serves_the_champion(tmp_path: Path) -> None:
    with open_app(tmp_path, version=shared_version(), environment=OURS) as shop:
        tell(shop, FollowerStatus("now", "following", attempted=True, champion="7", served="7"))
        alone = shop.client.get("/health/ready").status_code
        other = Metrics()
        colleague = Exchange(other, folder=shop.settings.run_folder, worker=f"20230801T120000-{os.getpid()}-abc")
        other.set("pricing_workers", "none", to=1)
        colleague.publish()
        behind = shop.client.get("/health/ready").status_code
        other.clear("pricing_workers")
        other.set("pricing_workers", "7", to=1)
        colleague.publish()
        together = shop.client.get("/health/ready").status_code
        other.clear("pricing_workers")
        colleague.publish()
        later = shop.client.get("/health/ready").status_code

    assert (alone, behind, together, later) == (503, 503, 200, 200)


@pytest.mark.parametrize("state", ["no_champion", "unreachable", "refused", "failed"])
def test_ready_does_not_wait_for_a_champion_that_cannot_be_had(tmp_path: Path, state: Any) -> None:
    with open_app(tmp_path / "home", environment=alone(tmp_path)) as shop:
        tell(shop, FollowerStatus("now", state, attempted=True))
        answer = shop.client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.get_json()["following"]["state"] == state


@pytest.mark.parametrize("state", ["no_champion", "unreachable", "refused", "failed"])
def test_where_a_model_is_needed_ready_is_503_with_the_reason_until_a_version_is_served(
    tmp_path: Path, state: Any
) -> None:
    environment = {**alone(tmp_path), "PRICING_NEEDS_MODEL": "true"}
    with open_app(tmp_path / "home", environment=environment) as shop:
        tell(shop, FollowerStatus("now", state, attempted=True))
        without = shop.client.get("/health/ready")
        price, live = shop.price(list_price=5.0), shop.client.get("/health/live")
        shop.point_at(shared_version(), version="7")
        served = shop.client.get("/health/ready")

    assert without.status_code == 503
    assert "no model version is served, and serving.needs_model" in without.get_json()["detail"]
    assert f"the follower: {state}: " in without.get_json()["detail"]
    assert (price.status_code, price.get_json()["source"], live.status_code) == (200, "rule", 200)
    assert (served.status_code, served.get_json()["model_version"]) == (200, "7")


def test_where_a_model_is_needed_every_worker_needs_one(tmp_path: Path) -> None:
    environment = {**OURS, "PRICING_NEEDS_MODEL": "true"}
    with open_app(tmp_path, version=shared_version(), environment=environment) as shop:
        tell(shop, FollowerStatus("now", "following", attempted=True, champion="7", served="7"))
        other = Metrics()
        colleague = Exchange(other, folder=shop.settings.run_folder, worker=f"20230801T120000-{os.getpid()}-abc")
        ready = []
        for name in ("7", "none", "7"):  # the second: started again, and its files were damaged
            other.clear("pricing_workers")
            other.set("pricing_workers", name, to=1)
            colleague.publish()
            ready.append(shop.client.get("/health/ready").status_code)

    assert ready == [200, 503, 200]


def test_whether_a_model_is_needed_is_said_by_file_or_environment(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("serving: {needs_model: true}")

    def needed(**environment: str) -> bool:
        return settings_in(tmp_path, **environment).config.serving.needs_model

    assert not needed()
    assert needed(PRICING_CONFIG=str(path))
    assert needed(PRICING_NEEDS_MODEL="true")
    assert not needed(PRICING_CONFIG=str(path), PRICING_NEEDS_MODEL="false")
    with pytest.raises(ConfigError, match="PRICING_NEEDS_MODEL: expected true or false, found 'yes'"):
        needed(PRICING_NEEDS_MODEL="yes")


@pytest.mark.parametrize(
    ("version", "seconds"),
    [(None, FIRST_ATTEMPT_SECONDS), (shared_version, FIRST_ATTEMPT_SECONDS_WITH_VERSION)],
)
def test_the_first_attempt_is_waited_for_briefly_where_a_version_answers_already(
    tmp_path: Path, version: Any, seconds: float
) -> None:
    settings = settings_in(tmp_path, **OURS)
    if version is not None:
        point_at(settings, version(), version="7")
    now = 0.0
    champion = Champion(settings, clock=lambda: now)

    ended = []
    for now in (seconds, seconds + 0.1):  # noqa: B007 - what the clock tells
        ended.append(champion.first_attempt_ended)

    assert ended == [False, True]
    assert FIRST_ATTEMPT_SECONDS_WITH_VERSION <= 5


KEYS = "PRICING_API_KEYS"
PRICE_KEY, ADMIN_KEY = "p" * 20, "a" * 20


@pytest.mark.parametrize(
    ("path", "key", "told"),
    [
        ("/health/ready", None, False),
        ("/health/ready", ADMIN_KEY, False),
        ("/model", PRICE_KEY, False),
        ("/model", ADMIN_KEY, True),
    ],
)
def test_addresses_and_paths_are_told_to_the_scope_admin_alone(
    tmp_path: Path, path: str, key: str | None, told: bool
) -> None:
    keys = f"shop {PRICE_KEY} price;ops {ADMIN_KEY} price,admin"
    environment = {**alone(tmp_path), KEYS: keys, "PRICING_KEYS": "required"}
    where = {"detail": "registry postgresql://db.intern:5432/x: refused", "refused": {"8": "/var/lib/x/8-1: damaged"}}
    with open_app(tmp_path / "home", environment=environment) as shop:
        tell(shop, FollowerStatus("now", "unreachable", attempted=True, **where))
        answer = shop.client.get(path, headers={"X-API-Key": key} if key else {})

    following = answer.get_json()["following"]
    assert (answer.status_code, following["state"], list(following["refused"])) == (200, "unreachable", ["8"])
    assert ("db.intern" in answer.text) is told
    assert ("/var/lib/x" in answer.text) is told
    assert told or following["detail"].startswith("the registry does not answer; why is told by the service's log")


def test_the_image_is_healthy_when_it_answers_and_ready_when_it_serves_a_model() -> None:
    image = (ROOT / "Dockerfile.serve").read_text()

    (check,) = re.findall(r"HEALTHCHECK.*\n.*", image)
    assert "/health/live" in check
    assert "/health/ready" not in check
    assert "PRICING_NEEDS_MODEL=true" in image


def test_a_refused_version_is_reported_in_model_health_and_metrics(tmp_path: Path) -> None:
    with open_app(tmp_path / "home", version=shared_version(), environment=alone(tmp_path)) as shop:
        tell(shop, FollowerStatus("now", "refused", attempted=True, champion="8", served="7", refused={"8": "damaged"}))
        model = shop.client.get("/model").get_json()
        health = shop.client.get("/health/ready").get_json()
        metrics = shop.client.get("/metrics").text

    assert model["model_version"] == "7"
    assert model["following"]["refused"] == {"8": "damaged"}
    assert list(health["following"]["refused"]) == ["8"]
    assert "pricing_refused_versions 1.0" in metrics
    assert 'pricing_follower{state="refused"} 1.0' in metrics


def test_ready_really_prices_something(shop: ServingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Decision.model_validate({**shop.price().get_json(), "recommended_price": 0})
    monkeypatch.setattr(Pricer, "price", lambda *_, **__: [nothing])

    answer = shop.client.get("/health/ready")

    assert answer.status_code == 503
    assert "gives no price" in answer.get_json()["detail"]


@pytest.mark.parametrize("fault", [ZeroDivisionError(), KeyError("x"), RequestError("strategy: gone")])
def test_ready_is_503_when_pricing_fails(shop: ServingApp, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(Pricer, "price", fail)

    answer = shop.client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["detail"] == f"version 7 cannot price ({type(fault).__name__})"


def test_the_baked_version_serves_until_the_follower_has_another(tmp_path: Path) -> None:
    baked = replace(settings_in(tmp_path).places, registry=BAKED)
    shutil.copytree(shared_version(), baked.versions / "3-1")
    write_pointer(baked.pointer, Pointer("3", 1, "3-1"))
    with open_app(tmp_path) as shop:
        versions = [shop.price().get_json()["model_version"]]
        shop.point_at(shared_version(seed=2), version="4")
        versions.append(shop.price().get_json()["model_version"])
        shop.service.tick()
        versions.append(shop.price().get_json()["model_version"])

    assert versions == ["3", "4", "4"]


def test_a_pointer_that_stays_loads_nothing_again(shop: ServingApp) -> None:
    served = shop.service.champion.served

    for _ in range(3):
        shop.service.tick()

    assert shop.service.champion.served is served


def test_one_thread_at_a_time_looks_for_versions_and_no_request_waits_for_it(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    looks: list[str] = []

    def reload() -> bool:
        looks.append(threading.current_thread().name)
        begun.set()
        return go_on.wait(30)

    monkeypatch.setattr(shop.service.champion, "reload", reload)
    slow = threading.Thread(target=shop.service.tick)
    slow.start()
    assert begun.wait(30)
    try:
        answers = [shop.client.get(path).status_code for path in ("/metrics", "/health/ready")]
        seen = len(looks)
    finally:
        go_on.set()
        slow.join(30)

    assert answers[0] == 200
    assert seen == 1


def test_the_configuration_of_the_version_governs_unless_a_file_is_given(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("decision: {guardrails: {band: [0.99, 1.01]}}")
    with open_app(tmp_path / "a", version=shared_version()) as shop:
        free = shop.price(current_stock=5, list_price=1.0).get_json()["recommended_price"]
    with open_app(tmp_path / "b", version=shared_version(), environment={"PRICING_CONFIG": str(config)}) as shop:
        bound = shop.price(current_stock=5, list_price=1.0).get_json()["recommended_price"]

    assert free > 1.01
    assert 0.99 <= bound <= 1.01


def test_the_metrics_count_requests_decisions_and_reasons(shop: ServingApp) -> None:
    shop.price()
    shop.price(product_id="stranger", list_price=3)
    shop.price(current_stock=-1)
    text = shop.client.get("/metrics").text

    assert 'pricing_requests_total{route="get_price",status="200"} 2.0' in text
    assert 'pricing_requests_total{route="get_price",status="422"} 1.0' in text
    assert 'pricing_decisions_total{experiment="",source="model",strategy="margin"} 1.0' in text
    assert 'pricing_reasons_total{reason="unknown_product"} 1.0' in text
    assert 'pricing_request_seconds_count{route="get_price"} 3.0' in text
    assert "pricing_confidence_count 2.0" in text
    assert "pricing_state_age_days 4.0" in text
    assert 'pricing_workers{version="7"} 1.0' in text
    assert "pricing_log_issued 2.0" in text


@pytest.mark.parametrize("path", ["/get_price", "/strategies"])
def test_a_wait_for_a_thread_counts_as_time_to_an_answer(shop: ServingApp, path: str) -> None:
    came = {ARRIVED: time.perf_counter() - 60}

    shop.client.open(path, method="POST" if path == "/get_price" else "GET", json=REQUEST, environ_overrides=came)

    sums = {labels: value[-1] for name, labels, value in shop.service.counts() if name == "pricing_request_seconds"}
    assert sums[(path[1:],)] >= 60


def test_the_page_adds_up_the_workers_and_forgets_no_dead_one(tmp_path: Path) -> None:
    living, dead, own = (Metrics() for _ in range(3))
    for metrics, confidence in ((living, 0.9), (dead, 0.1), (own, 0.9)):
        metrics.count("pricing_bad_items", by=2)
        metrics.set("pricing_log_failing", to=1)
        metrics.observe("pricing_confidence", confidence)
    Exchange(living, folder=tmp_path, worker="20230801T120000-1-abc").publish()
    Exchange(dead, folder=tmp_path, worker="20230801T120000-999999999-abc").publish()
    exchange = Exchange(own, folder=tmp_path, worker="20230801T120000-2-abc")
    exchange.publish()

    text = page([*own.state(), *exchange.others()]).decode()

    assert "pricing_bad_items_total 6.0" in text
    assert "pricing_log_failing 2.0" in text
    assert 'pricing_confidence_bucket{le="0.15"} 1.0' in text
    assert 'pricing_confidence_bucket{le="+Inf"} 3.0' in text
    assert "pricing_confidence_sum 1.9" in text


def test_a_folder_that_cannot_be_written_stops_no_worker(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    exchange = Exchange(Metrics(), folder=tmp_path / "file", worker="x-1-y")
    exchange.publish()

    assert list(exchange.others()) == []
    assert (tmp_path / "file").read_text() == "in the way"


def test_every_answer_carries_security_headers_and_a_request_id(shop: ServingApp) -> None:
    for answer in (shop.price(), shop.price(current_stock=-1), shop.client.get("/nowhere"), shop.client.get("/docs")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-ID"])


def test_a_request_id_is_kept_when_it_is_harmless(shop: ServingApp) -> None:
    kept = shop.client.get("/nowhere", headers={"X-Request-ID": "till-7:42"})
    replaced = shop.client.get("/nowhere", headers={"X-Request-ID": "<script>"})

    assert kept.headers["X-Request-ID"] == kept.get_json()["request_id"] == "till-7:42"
    assert replaced.headers["X-Request-ID"] != "<script>"


def test_the_bare_address_leads_to_the_documents_and_needs_no_key(tmp_path: Path) -> None:
    keys = {"PRICING_KEYS": "required", "PRICING_API_KEYS": "shop secret-key-of-the-shop price"}
    with open_app(tmp_path, environment=keys) as shop:
        answer = shop.client.get("/")
        documents = shop.client.get("/", follow_redirects=True)

    assert (answer.status_code, answer.headers["Location"]) == (302, "docs")
    assert documents.status_code == 200
    assert "text/html" in documents.headers["Content-Type"]


@pytest.mark.parametrize(("path", "method", "status"), [("/nowhere", "GET", 404), ("/get_price", "GET", 405)])
def test_wrong_addresses_are_problems_too(shop: ServingApp, path: str, method: str, status: int) -> None:
    answer = shop.client.open(path, method=method)

    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"


def test_a_bug_shows_no_trace_to_the_caller(shop: ServingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.routes.catalogue._products", lambda *_: 1 / 0)

    answer = shop.client.get("/products")

    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "ZeroDivision" not in answer.text
    assert "Traceback" not in answer.text


def test_the_openapi_document_describes_every_route_and_refers_to_nothing_missing(shop: ServingApp) -> None:
    document = shop.client.get("/openapi.json").get_json()

    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in shop.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert document["openapi"].startswith("3.1")
    assert described == routes - {("get", "/")}  # which leads to /docs
    assert references == set(document["components"]["schemas"])
    assert document["components"]["schemas"]["Decision"]["properties"]["price_range"]["items"] == {"type": "number"}
    assert "prefixItems" not in json.dumps(document)


def test_the_contracts_five_fields_are_all_that_a_price_needs_or_offers_first(shop: ServingApp) -> None:
    schema = shop.client.get("/openapi.json").get_json()["components"]["schemas"]["PriceRequest"]

    assert list(schema["properties"])[:5] == ["product_id", "current_stock", "day_of_week", "comp_price", "is_promo"]
    assert schema["required"] == ["product_id"]


def test_the_page_for_people_loads_nothing_from_elsewhere(shop: ServingApp) -> None:
    text = shop.client.get("/docs").text

    assert "/get_price" in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "@import" not in text


def test_products_are_listed_whole_or_by_category(shop: ServingApp) -> None:
    products = shop.client.get("/products").get_json()["products"]
    category = products[0]["category"]
    some = shop.client.get("/products", query_string={"category": category}).get_json()["products"]

    assert [product["product_id"] for product in products] == [f"P{number:05d}" for number in range(1, 13)]
    assert some == [product for product in products if product["category"] == category]


def test_an_elasticity_has_an_interval_around_it_and_a_source(shop: ServingApp) -> None:
    answer = shop.client.get("/products/P00003/elasticity").get_json()

    assert answer["low"] < answer["elasticity"] < answer["high"] < 0
    assert answer["source"] == "model"
    assert answer["state_date"] == "2023-07-28"


def test_products_and_elasticities_show_the_same_number(shop: ServingApp) -> None:
    listed = {one["product_id"]: one for one in shop.client.get("/products").get_json()["products"]}

    for product_id, one in listed.items():
        alone = shop.client.get(f"/products/{product_id}/elasticity").get_json()
        assert (one["elasticity"], one["elasticity_low"], one["elasticity_high"]) == (
            alone["elasticity"],
            alone["low"],
            alone["high"],
        )
        assert alone["elasticity"] == round(alone["elasticity"], 2)


def test_every_product_and_elasticity_has_the_grade_that_the_version_gave_it(tmp_path: Path) -> None:
    make_version(tmp_path / "version", panel=shared_panel(), grade=CATEGORY)
    with open_app(tmp_path / "home", version=tmp_path / "version") as shop:
        products = shop.client.get("/products").get_json()["products"]
        elasticity = shop.client.get("/products/P00003/elasticity").get_json()
        model = shop.client.get("/model").get_json()

    assert {product["grade"] for product in products} == {"category"}
    assert elasticity["grade"] == "category"
    assert model["grades"] == {"tested": 0.0, "own_history": 0.0, "category": 1.0, "prior_only": 0.0}
    assert model["holds_only"] is False


def test_the_model_names_the_rows_behind_it_and_where_they_lay_to_admins_alone(tmp_path: Path) -> None:
    told = {"fingerprint": "f00", "manifest": "abc", "etl_run_id": "run-7"}
    make_version(tmp_path / "version", panel=shared_panel(), data={**told, "source": "postgresql://shop/sales"})
    keys = f"shop {PRICE_KEY} price;ops {ADMIN_KEY} price,admin"
    environment = {KEYS: keys, "PRICING_KEYS": "required"}

    with open_app(tmp_path / "home", version=tmp_path / "version", environment=environment) as shop:
        answers = [
            shop.client.get("/model", headers={"X-API-Key": key}).get_json()["data"] for key in (PRICE_KEY, ADMIN_KEY)
        ]

    assert answers == [told, {**told, "source": "postgresql://shop/sales"}]


def test_a_version_that_holds_only_says_so_and_keeps_prices_over_http(tmp_path: Path) -> None:
    make_version(tmp_path / "version", panel=shared_panel(), holds_only=True)
    with open_app(tmp_path / "home", version=tmp_path / "version") as shop:
        model = shop.client.get("/model").get_json()
        priced = shop.price(current_price=1.0, list_price=1.0, current_stock=1e6).get_json()
        grade = shop.client.post("/explain", json={"request": REQUEST}).get_json()["grade"]

    assert model["holds_only"] is True
    assert (priced["recommended_price"], priced["source"]) == (1.0, "rule")
    assert "elasticity_unidentified" in priced["reasons"]
    assert grade["code"] == "own_history"
    assert "the version is holds_only" in grade["meaning"]


@pytest.mark.parametrize("product", ["nobody", "a/b c", "☕"])
def test_the_elasticity_of_an_unknown_product_is_404(shop: ServingApp, product: str) -> None:
    assert shop.client.get(f"/products/{product}/elasticity").status_code == 404


def test_without_a_version_the_catalogue_is_empty(tmp_path: Path) -> None:
    with open_app(tmp_path) as shop:
        assert shop.client.get("/products").get_json() == {"products": []}
        assert shop.client.get("/products/P00001/elasticity").status_code == 404
        model = shop.client.get("/model").get_json()
        assert (model["model_version"], model["grades"], model["holds_only"]) == ("none", None, None)
        assert {one["name"] for one in shop.client.get("/strategies").get_json()["strategies"]} >= {"margin", "match"}


@pytest.mark.parametrize(
    ("environment", "problem"),
    [({"PORT": "http"}, "PORT"), ({"PORT": "70000"}, "PORT"), ({"PRICING_KEYS": "off"}, "PRICING_KEYS"),
     ({"PRICING_CONFIG": "/nowhere.yaml"}, "nowhere")],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        settings_in(tmp_path, **environment)


def test_two_registries_never_share_a_folder(tmp_path: Path) -> None:
    one, other = (settings_in(tmp_path, MLFLOW_TRACKING_URI=f"http://{host}:5000") for host in ("a", "b"))

    assert one.places.versions != other.places.versions


def test_a_log_line_is_one_json_object_even_with_a_traceback() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("serving", logging.ERROR, "x", 1, "it %s", ("broke",), sys.exc_info())
    record.request_id = "42"

    line = JsonFormatter().format(record)

    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["level"], fields["request_id"]) == ("it broke", "error", "42")
    assert "ValueError" in fields["traceback"]
    assert REQUEST["product_id"] not in line


def test_no_log_line_and_no_traceback_names_a_password() -> None:
    address = "postgresql://ops:a@hush@db:5432/mlflow"
    try:
        raise ValueError(f"{address} refuses")
    except ValueError:
        record = logging.LogRecord("serving", logging.ERROR, "x", 1, "%s is down", (address,), sys.exc_info())

    line = JsonFormatter().format(record)

    assert "hush" not in line
    assert json.loads(line)["message"] == "postgresql://***@db:5432/mlflow is down"
