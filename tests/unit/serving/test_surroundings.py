"""What surrounds the prices: readiness, metrics, documents, headers, request ids, settings, logs."""

import json
import logging
import re
import sys
from pathlib import Path

import pytest

from pricing.decision.pricer import Pricer
from pricing.decision.request import Decision
from pricing.errors import ConfigError, RequestError
from pricing.registry.published_store import pointer_key
from serving.__main__ import JsonFormatter
from serving.settings import bind_address
from tests.kit.serving import MODEL, ServingApp, open_app, settings_in
from tests.kit.versions import make_version, shared_panel, shared_version

KEYS = "PRICING_API_KEYS"
PRICE_KEY, ADMIN_KEY = "p" * 20, "a" * 20


def test_ready_comes_with_the_first_version_and_live_at_once(tmp_path: Path) -> None:
    with open_app(tmp_path) as bare:
        before = [bare.client.get(f"/health/{path}").status_code for path in ("live", "ready")]
        price = bare.answer(list_price=5.0)
        bare.publish(shared_version(), version="7")
        ready = bare.client.get("/health/ready")

    assert before == [200, 503]
    assert (price["source"], price["model_version"], "no_model" in price["reasons"]) == ("rule", "none", True)
    assert (ready.status_code, ready.get_json()["model_version"]) == (200, "7")


def test_addresses_and_paths_are_told_to_the_scope_admin_alone(tmp_path: Path) -> None:
    make_version(
        tmp_path / "version", panel=shared_panel(), data={"etl_run_id": "run-7", "source": "postgresql://shop"}
    )
    environment = {KEYS: f"shop {PRICE_KEY} price;ops {ADMIN_KEY} price,admin", "PRICING_KEYS": "required"}
    with open_app(tmp_path, version=tmp_path / "version", environment=environment) as one:
        folder = Path(one.settings.published) / pointer_key(MODEL)
        folder.unlink()
        folder.mkdir()  # cannot be read
        one.service.follower.look()
        ready = one.client.get("/health/ready", headers={"X-API-Key": ADMIN_KEY})
        shop, admin = (one.client.get("/model", headers={"X-API-Key": key}) for key in (PRICE_KEY, ADMIN_KEY))

    assert [one.get_json()["following"]["state"] for one in (ready, shop, admin)] == ["unreachable"] * 3
    assert [str(tmp_path) in one.text for one in (ready, shop, admin)] == [False, False, True]
    assert shop.get_json()["data"] == {"etl_run_id": "run-7"}
    assert admin.get_json()["data"] == {"etl_run_id": "run-7", "source": "postgresql://shop"}


@pytest.mark.parametrize("fault", [ZeroDivisionError(), RequestError("strategy: gone"), None])
def test_ready_is_503_when_pricing_fails_or_gives_no_price(
    shared_shop: ServingApp, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    nothing = Decision.model_validate({**shared_shop.answer(), "recommended_price": 0})

    def fail(*_: object, **__: object) -> list[Decision]:
        if fault is None:
            return [nothing]
        raise fault

    monkeypatch.setattr(Pricer, "price", fail)

    answer = shared_shop.client.get("/health/ready")

    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")


def test_the_metrics_count_requests_decisions_and_reasons(shop: ServingApp) -> None:
    shop.price()
    shop.price(product_id="stranger", list_price=3)
    shop.price(current_stock=-1)
    shop.client.get("/nowhere")

    text = shop.metrics()

    assert 'pricing_requests_total{route="get_price",status="200"} 2.0' in text
    assert 'pricing_requests_total{route="get_price",status="422"} 1.0' in text
    assert 'pricing_decisions_total{experiment="",source="model",strategy="margin"} 1.0' in text
    assert 'pricing_reasons_total{reason="unknown_product"} 1.0' in text
    assert 'pricing_guardrails_total{guardrail="max_move",what="binds"}' in text
    assert 'pricing_requests_total{route="unknown",status="404"} 1.0' in text
    assert 'pricing_follower{state="following"} 1.0' in text
    assert "pricing_state_age_days 4.0" in text
    assert "pricing_log_issued 2.0" in text


def test_every_answer_is_a_problem_or_json_with_security_headers_and_a_harmless_request_id(
    shared_shop: ServingApp,
) -> None:
    found = {
        200: shared_shop.client.get("/docs"), 422: shared_shop.price(current_stock=-1),
        405: shared_shop.client.get("/get_price"),
        404: shared_shop.client.get("/nowhere", headers={"X-Request-ID": "<script>"}),
    }  # fmt: skip
    kept = shared_shop.client.get("/nowhere", headers={"X-Request-ID": "till-7:42"})

    for status, answer in found.items():
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (status, "nosniff")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-ID"])
        assert status == 200 or answer.content_type == "application/problem+json"
    assert kept.headers["X-Request-ID"] == kept.get_json()["request_id"] == "till-7:42"
    assert not re.search(r"""((src|href)=["']?(https?:)?//)|@import""", found[200].text)  # nothing from elsewhere


def test_a_bug_shows_no_trace_to_the_caller_and_is_in_the_log_by_the_request_s_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.routes.catalogue._products", lambda *_: 1 / 0)

    with open_app(tmp_path) as shop:
        answer = shop.client.get("/products", headers={"X-Request-ID": "till-7:42"})

    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "ZeroDivision" not in answer.text
    (line,) = [json.loads(JsonFormatter().format(record)) for record in caplog.records if record.name == "serving.app"]
    assert line["request_id"] == "till-7:42"


def test_products_and_elasticities_show_the_same_number(shared_shop: ServingApp) -> None:
    listed = {one["product_id"]: one for one in shared_shop.get("/products")["products"]}
    one = listed["P00001"]
    alone = shared_shop.get("/products/P00001/elasticity")
    some = shared_shop.client.get("/products", query_string={"category": one["category"]}).get_json()["products"]

    assert listed.keys() == {f"P{number:05d}" for number in range(1, 13)}
    assert (one["elasticity"], one["elasticity_low"], one["elasticity_high"]) == (
        alone["elasticity"], alone["low"], alone["high"],
    )  # fmt: skip
    assert alone["low"] < alone["elasticity"] < alone["high"] < 0
    assert some == [product for product in listed.values() if product["category"] == one["category"]]
    for name in ("P00000x", "P00001x", "a%2Fb ☕"):  # the first two sort before one that is known
        assert shared_shop.client.get(f"/products/{name}/elasticity").status_code == 404


@pytest.mark.parametrize(
    ("environment", "problem"),
    [({"PORT": "70000"}, "PORT"), ({"PRICING_KEYS": "off"}, "PRICING_KEYS"), ({"HOST": "shop.example"}, "HOST"),
     ({"PRICING_CONFIG": "/nowhere.yaml"}, "nowhere"), ({"PRICING_PUBLISHED": "s3://"}, "s3://"),
     ({"PRICING_DECISIONS_URL": "http://store/log"}, "http://store/log")],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem), open_app(tmp_path, environment=environment) as shop:
        bind_address(shop.settings.host)


def test_a_log_line_is_one_json_object_without_passwords_even_with_a_traceback() -> None:
    address = "postgresql://ops:a@hush@db:5432/mlflow"
    try:
        raise ValueError(f"two\nlines, {address}")
    except ValueError:
        record = logging.LogRecord("serving", logging.ERROR, "x", 1, "%s is down", (address,), sys.exc_info())

    line = JsonFormatter().format(record)

    fields = json.loads(line)
    assert ("\n" in line, "hush" in line) == (False, False)
    assert (fields["message"], fields["level"]) == ("postgresql://***@db:5432/mlflow is down", "error")
    assert "ValueError" in fields["traceback"]


def test_the_settings_in_force_are_the_given_files_or_else_the_baked_ones(tmp_path: Path) -> None:
    (tmp_path / "baked").mkdir()
    (tmp_path / "baked" / "config.yaml").write_text("serving: {threads: 5}")
    given = tmp_path / "my.yaml"
    given.write_text("decision: {guardrails: {band: [0.99, 1.01]}}\ndata: {country: DE}\n")
    with open_app(tmp_path, version=shared_version(), environment={"PRICING_CONFIG": str(given)}) as one:
        said = one.get("/model")["configuration"]
        bound = one.answer(current_stock=5, list_price=1.0)["recommended_price"]

    assert settings_in(tmp_path).config.serving.threads == 5
    assert said["replaced"] == {"decision.guardrails.band": {"version": [0.7, 1.35], "file": [0.99, 1.01]}}
    assert said["ignored"] == {"data.country": {"version": "US", "file": "DE"}}
    assert 0.99 <= bound <= 1.01


def test_a_file_that_contradicts_the_version_takes_it_out_of_service(tmp_path: Path) -> None:
    # Fits the file's own margin; with that of the version, the floor of the margin lies above the band.
    config = tmp_path / "my.yaml"
    config.write_text("data: {margin: {default: 0.6}}\ndecision: {guardrails: {min_margin: 0.5, band: [0.7, 1.2]}}\n")
    with open_app(tmp_path / "home", version=shared_version(), environment={"PRICING_CONFIG": str(config)}) as one:
        said = one.get("/model")

    assert (said["model_version"], said["following"]["state"]) == ("none", "refused")
    assert "min_margin" in said["following"]["refused"]["7"]
