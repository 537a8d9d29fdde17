"""The challenger: a share of the products, and faults that nobody notices."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.pricer import Pricer
from pricing.decision_log.format import read_decisions
from pricing.errors import RequestError, VersionError
from serving import champion
from serving.champion import RETRY_SECONDS, PeriodicTasks
from tests.kit.serving import REQUEST, ServingApp, open_app, point_at_challenger
from tests.kit.versions import shared_version

PRODUCTS = [f"P{number:05d}" for number in range(1, 13)]


@contextmanager
def tried(folder: Path, **serving: Any) -> Iterator[ServingApp]:
    """Champion 7 and challenger 8."""
    folder.mkdir(exist_ok=True)
    path = folder / "try.yaml"
    path.write_text(json.dumps({"serving": serving}))
    with open_app(folder / "home", version=shared_version(), environment={"PRICING_CONFIG": str(path)}) as shop:
        point_at_challenger(shop.settings, shared_version(seed=2), version="8")
        shop.service.tick()
        yield shop


def versions(shop: ServingApp) -> dict[str, str]:
    return {one: shop.price(product_id=one).get_json()["model_version"] for one in PRODUCTS}


def logged(shop: ServingApp) -> list[dict[str, Any]]:
    shop.service.log.flush()
    return read_decisions(shop.settings.decisions_folder).records


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 8 fails whatever it is asked."""

    def fails(price: Any, self: Pricer, *args: Any, **more: Any) -> Any:
        if self.version == "8":
            raise ZeroDivisionError
        return price(self, *args, **more)

    for name in ("price", "price_detailed"):
        monkeypatch.setattr(Pricer, name, partialmethod(partial(fails, getattr(Pricer, name))))


def test_a_share_of_the_products_is_answered_by_the_challenger_for_good(tmp_path: Path) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        first = versions(shop)
        again = versions(shop)
        page = shop.client.get("/metrics").text
        strategy_tests = {record["product_id"]: record["strategy_test"] for record in logged(shop)}

    assert 0 < list(first.values()).count("8") < len(PRODUCTS)
    assert set(first.values()) == {"7", "8"}
    assert first == again
    assert strategy_tests == {one: "challenger/8" if version == "8" else None for one, version in first.items()}
    assert 'strategy_test="challenger/8"' in page
    assert 'pricing_challenger_workers{version="8"} 1.0' in page


def test_a_batch_sends_each_product_to_its_own_version_and_keeps_the_order(tmp_path: Path) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        alone = versions(shop)
        items = [{**REQUEST, "product_id": one} for one in PRODUCTS] + [{**REQUEST, "strategy": "greed"}]
        decisions = shop.client.post("/get_prices", json={"requests": items}).get_json()["decisions"]

    assert {one: answer["model_version"] for one, answer in zip(PRODUCTS, decisions[:-1], strict=True)} == alone
    assert "error" in decisions[-1]


def test_without_a_share_or_a_challenger_the_champion_answers_everything(tmp_path: Path) -> None:
    with tried(tmp_path / "a") as shop:
        untried = versions(shop)
    with tried(tmp_path / "b", challenger_share=0.4) as shop:
        shop.settings.places.challenger.unlink()
        shop.service.tick()
        gone = versions(shop)

    assert set(untried.values()) == set(gone.values()) == {"7"}


def test_a_challenger_that_fails_leaves_the_answer_to_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        broken(monkeypatch)
        answers = [shop.price(product_id=one) for one in PRODUCTS]
        page = shop.client.get("/metrics").text
        records = logged(shop)

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.get_json()["model_version"] for answer in answers} == {"7"}
    assert {answer.get_json()["source"] for answer in answers} == {"model"}
    assert "pricing_challenger_failures_total 0.0" not in page
    assert "pricing_edge_fallbacks_total 0.0" in page
    assert {record["strategy_test"] for record in records} == {None}


@pytest.mark.parametrize("damage", ["{half", '{"version": "8", "created_ms": 1, "folder": "nowhere"}'])
def test_a_challenger_that_cannot_be_loaded_is_not_tried(tmp_path: Path, damage: str) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        shop.settings.places.challenger.write_text(damage)
        shop.service.tick()
        found = versions(shop)

    assert set(found.values()) == {"7"}


def greedless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 8 knows no clearance."""
    price = Pricer.price_detailed

    def refuses(self: Pricer, requests: Any, **more: Any) -> Any:
        if self.version == "8" and any(one.strategy == "clearance" for one in requests):
            raise RequestError("strategy: clearance")
        return price(self, requests, **more)

    monkeypatch.setattr(Pricer, "price_detailed", refuses)


def test_no_callers_error_is_a_failure_of_the_challenger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        (one, other, third, *_) = shop.service.champion.challenger.canary  # type: ignore[union-attr]
        greed = shop.price(product_id=one, strategy="greed").status_code
        before = shop.client.get("/metrics").text
        greedless(monkeypatch)
        items = [{**REQUEST, "product_id": product} for product in (one, other, third)]
        items[0]["strategy"], items[1]["strategy"] = "greed", "clearance"
        decisions = shop.client.post("/get_prices", json={"requests": items}).get_json()["decisions"]
        after = shop.client.get("/metrics").text

    assert greed == 422
    assert "pricing_challenger_failures_total 0.0" in before
    assert "error" in decisions[0]
    assert [decision["model_version"] for decision in decisions[1:]] == ["7", "8"]
    assert "pricing_challenger_failures_total 1.0" in after


def test_a_promoted_challenger_is_no_challenger_any_more(tmp_path: Path) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        shop.point_at(shared_version(seed=2), version="8")
        shop.service.tick()
        page = shop.client.get("/metrics").text
        found = versions(shop)

    assert set(found.values()) == {"8"}
    assert "pricing_challenger_workers{" not in page


@pytest.mark.parametrize("promoted", [False, True])
def test_a_version_lost_to_the_disk_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promoted: bool
) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        with monkeypatch.context() as fails:
            fails.setattr(champion, "open_version", disk_fails)
            (shop.point_at if promoted else partial(point_at_challenger, shop.settings))(
                shared_version(seed=3), version="9"
            )
            shop.service.tick()
            during = found(shop)
        shop.service.tick()
        soon = found(shop)
        monkeypatch.setattr(shop.service.champion, "_clock", lambda: time.monotonic() + RETRY_SECONDS)
        shop.service.tick()
        later = found(shop)

    assert during == soon == (("7", "8") if promoted else ("7", None))
    assert later == (("9", "8") if promoted else ("7", "9"))


def disk_fails(folder: Path) -> Any:
    raise VersionError(f"{folder}: cannot be read") from OSError("Input/output error")


def found(shop: ServingApp) -> tuple[str, str | None]:
    challenger = shop.service.champion.challenger
    return shop.service.champion.served.name, challenger.name if challenger else None


def test_a_challenger_that_was_champion_for_a_while_is_tried_again(tmp_path: Path) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        shop.point_at(shared_version(seed=2), version="8")
        meanwhile = found(shop)
        shop.point_at(shared_version(), version="7")
        after = found(shop)

    assert (meanwhile, after) == (("8", None), ("7", "8"))


def test_a_version_that_refuses_its_own_requests_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(self: Pricer, *args: Any, **more: Any) -> Any:
        raise RequestError("strategy: greed is none of margin")

    with tried(tmp_path, challenger_share=0.4) as shop:
        monkeypatch.setattr(Pricer, "price", refuses)
        shop.point_at(shared_version(seed=3), version="9")
        after = found(shop)

    assert after == ("7", "8")
    assert "version 9 cannot answer here (RequestError: strategy: greed" in caplog.text


def test_a_task_that_fails_stops_neither_the_watch_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[int] = []
    enough = threading.Event()

    def fails() -> None:
        raise RequestError("strategy: greed")

    def works() -> None:
        looks.append(1)
        if len(looks) == 3:
            enough.set()

    watch = PeriodicTasks([fails, works], every=0.001)

    assert enough.wait(10)
    watch.close()
    assert caplog.text.count("what a worker does regularly failed") == 1


@pytest.mark.parametrize("fails", [False, True], ids=["sound", "failing"])
def test_explanations_and_simulations_are_by_the_version_that_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    with tried(tmp_path, challenger_share=0.4) as shop:
        if fails:
            broken(monkeypatch)
        prices = versions(shop)
        explained, simulated = (
            {
                one: shop.client.post(path, json={"request": {**REQUEST, "product_id": one}}).get_json()
                for one in PRODUCTS
            }
            for path in ("/explain", "/simulate")
        )

    assert {one: answer["decision"]["model_version"] for one, answer in explained.items()} == prices
    assert {one: answer["model_version"] for one, answer in simulated.items()} == prices
    assert set(prices.values()) == ({"7"} if fails else {"7", "8"})
