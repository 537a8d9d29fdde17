"""The smoke test passes on the real service, and fails on every promise that a service breaks."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy import smoke
from tests.kit.price_api import Handler, price_api
from tests.kit.servers import free_port, python, running
from tests.kit.serving import publish
from tests.kit.versions import shared_version

KEY = "00112233445566778899aabbccddeeff"
SERVICE = {"PRICING_KEYS": "required", "PRICING_API_KEYS": f"smoke {KEY} price,explain"}
Reply = tuple[int, Any]
Answer = Callable[[str, dict[str, str], dict[str, Any]], Reply]  # to path, headers and body


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_SMOKE_KEY", KEY)


@pytest.mark.slow
def test_the_real_service_passes_and_another_version_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, port = tmp_path / "home", free_port()
    publish(str(home / "published"), shared_version(), version="7")
    environment = {**SERVICE, "PRICING_HOME": str(home), "PORT": str(port)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    url = f"http://127.0.0.1:{port}"
    with running(
        python("serving"), ready=f"{url}/health/live", log=tmp_path / "log", environment=environment, folder=tmp_path
    ):
        whole = smoke.main([url, "--version", "7"])
        other = smoke.main([url, "--version", "8", "--wait", "0"])

    assert (whole, other) == (0, 1), capsys.readouterr().out


def good(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    """A service that keeps every promise."""
    if path == "/health/ready":
        return 200, {"status": "ok", "model_version": "7"}
    if headers.get("X-API-Key") != KEY:
        return 401, {"detail": "a key is needed"}
    if path == "/products":
        return 200, {"products": [{"product_id": "A", "price": 10.0, "stock": 5.0, "comp_price": None}]}
    if (body["current_stock"] or 0) < 0:
        return 422, {"detail": "current_stock"}
    decision = {"recommended_price": 10.5, "price_range": [10.0, 11.0], "source": "model", "reasons": []}
    return 200, {**decision, "model_version": "7"}


def priced(**changes: Any) -> Answer:
    def reply(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        status, answer = good(path, headers, body)
        return (status, {**answer, **changes}) if "recommended_price" in answer else (status, answer)

    return reply


@contextmanager
def service(reply: Answer) -> Iterator[str]:
    def answer(handler: Handler) -> None:
        asked = handler.api.asked[-1]
        key = {"X-API-Key": handler.headers.get("X-API-Key", "")}
        status, said = reply(asked.path, key, json.loads(asked.body or "{}"))
        handler.send(status, json.dumps(said).encode())

    with price_api(answer) as api:
        yield api.url.removesuffix("/offers")


def without_key(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    return good(path, {**headers, "X-API-Key": KEY}, body)


def lenient(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    return good(path, headers, {**body, "current_stock": 1})


def empty(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    return (200, {"products": []}) if path == "/products" else good(path, headers, body)


def failing(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    return (500, {"detail": "broken"}) if body.get("product_id") == "A" else good(path, headers, body)


def starting(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    return (503, {"detail": "no version"}) if path == "/health/ready" else good(path, headers, body)


@pytest.mark.parametrize(
    ("reply", "options", "complaint"),
    [
        (starting, [], "not ready, or not with version any"),
        (good, ["--version", "8"], "not ready, or not with version 8"),
        (without_key, [], "a request without a key is answered 200"),
        (lenient, [], "a bad request is answered 200"),
        (empty, [], "/products names none"),
        (failing, [], "A: status 500"),
        (priced(recommended_price=0), [], "A: status 200"),
        (priced(source="rule", reasons=["no_model"]), [], "A: by rule, no_model"),
        (priced(model_version="6"), [], "A: version 6, /health/ready names 7"),
        (priced(recommended_price=11.5), [], "A: 11.5 lies outside its range 10 to 11"),
        (priced(recommended_price=14, price_range=[13, 15]), [], "A: 14 instead of 10 is a move beyond the limit"),
    ],
)
def test_a_broken_promise_fails_and_is_named(
    reply: Answer,
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with service(reply) as url:
        code = smoke.main([url, "--wait", "0", *options])

    assert (code, complaint) == (1, complaint)
    assert complaint in capsys.readouterr().out


@pytest.mark.parametrize("reply", [priced(source="override", recommended_price=14, price_range=[14, 14]), good])
def test_a_persons_price_may_move_as_far_as_it_likes(reply: Answer) -> None:
    with service(reply) as url:
        assert smoke.main([url, "--wait", "0"]) == 0


def test_a_price_of_the_version_that_an_experiment_tries_will_do() -> None:
    def trying(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        if path == "/health/ready":
            return 200, {"status": "ok", "model_version": "7", "challenger": "8"}
        return priced(model_version="8")(path, headers, body)

    with service(trying) as url:
        assert smoke.main([url, "--version", "7", "--wait", "0"]) == 0


def test_before_the_first_promotion_prices_by_rule_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    def by_rule(path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        if path == "/products":
            return 200, {"products": []}
        if path.startswith("/health/"):
            return (200 if path == "/health/live" else 503), {"detail": "no version"}
        price = priced(source="rule", model_version="none", recommended_price=9.99, price_range=[9.99, 9.99])
        return price(path, headers, body)

    with service(by_rule) as url:
        assert smoke.main([url, "--wait", "0", "--by_rule"]) == 0, capsys.readouterr().out


def test_a_service_that_is_not_there_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert smoke.main([f"http://127.0.0.1:{free_port()}", "--wait", "0"]) == 1
    assert "ConnectionRefusedError" in capsys.readouterr().out
