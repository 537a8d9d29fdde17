"""Serving reads the experiments without a restart; each arm answers as it should, and a bad file tries nothing."""

import datetime as dt
import threading
import time
from collections.abc import Iterator
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.experiments import NO_EXPERIMENTS, Arm, Experiment, write_experiments
from pricing.decision.pricer import Pricer
from pricing.decision_log.read import read_decisions
from pricing.errors import RequestError, VersionError
from serving import champion
from serving.champion import RETRY_SECONDS, PeriodicTasks
from tests.kit.serving import NOW, REQUEST, ServingApp, as_explained, open_app, point_at_challenger
from tests.kit.versions import shared_version

MONDAY = NOW.date() - dt.timedelta(days=NOW.date().weekday())
PRODUCTS = [f"P{number:05d}" for number in range(1, 13)]
ASKED = {"is_promo": False, "current_price": 1.2, "list_price": 1.2, "unit_cost": 0.5, "comp_price": ...}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    """Champion 7, and version 8 beside it."""
    with open_app(tmp_path, version=shared_version()) as one:
        point_at_challenger(one.settings, shared_version(seed=2), version="8")
        one.service.tick()
        yield one


def plan(shop: ServingApp, arm: Arm, *products: str, name: str = "spring", **values: Any) -> None:
    """The one experiment that there is, with one arm."""
    prices = dict.fromkeys(products, 1.2) if arm.kind == "draw" else {}
    weeks = values.pop("weeks", 3)
    one = Experiment(name, MONDAY, weeks, (arm,), dict.fromkeys(products, arm.name), prices=prices, **values)
    write_experiments(shop.settings.experiments_file, NO_EXPERIMENTS.plus(one))
    shop.service.tick()


def challenger(shop: ServingApp) -> None:
    plan(shop, Arm("challenger", 0.4, of="8"), *PRODUCTS[:5])


def item(product: str = "P00001") -> dict[str, Any]:
    return {name: value for name, value in {**REQUEST, **ASKED, "product_id": product}.items() if value is not ...}


def logged(shop: ServingApp) -> list[Any]:
    shop.service.log.flush()
    return [record["experiment"] for record in read_decisions(shop.settings.decisions_folder).records]


def versions(shop: ServingApp) -> list[str]:
    return [shop.price(product_id=one).get_json()["model_version"] for one in PRODUCTS]


def found(shop: ServingApp) -> tuple[str, str | None]:
    loaded = shop.service.champion.challenger
    return shop.service.champion.served.name, loaded.name if loaded else None


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 8 fails whatever it is asked."""

    def fails(price: Any, self: Pricer, *args: Any, **more: Any) -> Any:
        if self.version == "8":
            raise ZeroDivisionError
        return price(self, *args, **more)

    for name in ("price", "price_detailed"):
        monkeypatch.setattr(Pricer, name, partialmethod(partial(fails, getattr(Pricer, name))))


def test_a_draw_moves_prices_at_once_and_its_end_ends_it(shop: ServingApp) -> None:
    before = shop.price(**ASKED).get_json()
    size = Arm("draw", 0.5, size=0.05)
    names = (str(number) for number in range(50))
    name = next(
        name
        for name in names
        if Experiment(name, MONDAY, 3, (size,), {"P00001": "draw"}, {"P00001": 1.2}).deviation("P00001", MONDAY) < 0
    )
    plan(shop, size, "P00001", "P00002", name=name)

    during = shop.price(**ASKED).get_json()
    batch = shop.client.post("/get_prices", json={"requests": [item(), item("P00003")]}).get_json()["decisions"]
    explained = shop.client.post("/explain", json={"request": item()}).get_json()
    simulated = shop.client.post("/simulate", json={"request": item()}).get_json()
    page = shop.client.get("/metrics").text
    shop.settings.experiments_file.unlink()
    shop.service.tick()
    after = shop.price(**ASKED).get_json()

    assert during["recommended_price"] == pytest.approx(before["recommended_price"] / 1.05, abs=0.011)
    assert during["recommended_price"] < before["recommended_price"] == after["recommended_price"]
    assert batch[0]["recommended_price"] == during["recommended_price"]
    assert ["price_test" in one["reasons"] for one in (during, *batch, after)] == [True, True, False, False]
    assert "price_test" in {driver["name"] for driver in explained["drivers"]}
    assert simulated["experiment"] == f"{name}/draw"
    assert [one and (one["name"], one["arm"], one["odds"]) for one in logged(shop)] == [
        None, (name, "draw", 0.5), (name, "draw", 0.5), None, None,
    ]  # fmt: skip
    assert f'pricing_decisions_total{{experiment="{name}/draw"' in page
    assert 'pricing_experiments{state="read"} 1.0' in page


def test_a_kept_product_keeps_its_price_and_the_log_says_so(shop: ServingApp) -> None:
    plan(shop, Arm("keep", 0.1), "P00001", weeks=None)

    kept, other = (shop.price(**ASKED, product_id=one).get_json() for one in PRODUCTS[:2])
    explained = shop.client.post("/explain", json={"request": item()}).get_json()

    assert (kept["recommended_price"], kept["source"]) == (1.2, "rule")
    assert "holdout" in kept["reasons"]
    assert "holdout" not in other["reasons"]
    assert logged(shop) == [{"name": "spring", "arm": "keep", "odds": 0.1}, None]
    assert explained["decision"] == as_explained(kept, decision_id=explained["decision"]["decision_id"])


def test_a_strategy_is_that_of_the_arm_unless_the_request_names_one(shop: ServingApp) -> None:
    plan(shop, Arm("strategy", 0.5, of="clearance"), "P00001")

    answers = [shop.price(**asked).get_json()["strategy"] for asked in ({}, {"strategy": "revenue"})]

    assert answers == ["clearance", "revenue"]
    assert [one and one["arm"] for one in logged(shop)] == ["strategy/clearance", None]


def test_a_challengers_products_are_answered_by_that_version_alone_and_in_a_batch(shop: ServingApp) -> None:
    before = versions(shop)
    challenger(shop)

    alone = versions(shop)
    items = [{**REQUEST, "product_id": one} for one in PRODUCTS] + [{**REQUEST, "strategy": "greed"}]
    decisions = shop.client.post("/get_prices", json={"requests": items}).get_json()["decisions"]
    asked = [{"request": {**REQUEST, "product_id": one}} for one in PRODUCTS]
    explained = [shop.client.post("/explain", json=one).get_json()["decision"] for one in asked]

    assert before == ["7"] * 12
    assert alone == ["8"] * 5 + ["7"] * 7
    assert [one["model_version"] for one in decisions[:-1]] == [one["model_version"] for one in explained] == alone
    assert "error" in decisions[-1]
    assert [one and one["arm"] for one in logged(shop)[12:24]] == ["challenger/8"] * 5 + [None] * 7
    assert 'pricing_challenger_workers{version="8"} 1.0' in shop.client.get("/metrics").text


def test_a_challenger_that_fails_leaves_the_answer_to_the_champion(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenger(shop)
    broken(monkeypatch)

    answers = versions(shop)
    page = shop.client.get("/metrics").text

    assert answers == ["7"] * 12
    assert logged(shop) == [None] * 12
    assert "pricing_challenger_failures_total 5.0" in page
    assert "pricing_edge_fallbacks_total 0.0" in page


@pytest.mark.parametrize("damage", ["{half", '{"version": "8", "created_ms": 1, "folder": "nowhere"}', None])
def test_a_challenger_that_cannot_be_loaded_is_answered_by_the_champion(shop: ServingApp, damage: str | None) -> None:
    challenger(shop)
    if damage is None:
        shop.settings.places.challenger.unlink()
    else:
        shop.settings.places.challenger.write_text(damage)
    shop.service.tick()

    assert versions(shop) == ["7"] * 12


def test_no_callers_error_is_a_failure_of_the_challenger(shop: ServingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    challenger(shop)
    price = Pricer.price_detailed

    def refuses(self: Pricer, requests: Any, **more: Any) -> Any:
        if self.version == "8" and any(one.strategy == "clearance" for one in requests):
            raise RequestError("strategy: clearance")
        return price(self, requests, **more)

    greed = shop.price(strategy="greed").status_code
    monkeypatch.setattr(Pricer, "price_detailed", refuses)
    items = [{**REQUEST, "product_id": product} for product in PRODUCTS[:3]]
    items[0]["strategy"], items[1]["strategy"] = "greed", "clearance"
    decisions = shop.client.post("/get_prices", json={"requests": items}).get_json()["decisions"]

    assert greed == 422
    assert "error" in decisions[0]
    assert [one["model_version"] for one in decisions[1:]] == ["7", "8"]
    assert "pricing_challenger_failures_total 1.0" in shop.client.get("/metrics").text


def test_a_version_that_becomes_champion_is_no_challenger_until_another_one_is(shop: ServingApp) -> None:
    shop.point_at(shared_version(seed=2), version="8")
    meanwhile = found(shop)
    shop.point_at(shared_version(), version="7")

    assert (meanwhile, found(shop)) == (("8", None), ("7", "8"))


@pytest.mark.parametrize("promoted", [False, True])
def test_a_version_lost_to_the_disk_for_a_moment_is_tried_again(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch, promoted: bool
) -> None:
    def disk_fails(folder: Path) -> Any:
        raise VersionError(f"{folder}: cannot be read") from OSError("Input/output error")

    with monkeypatch.context() as fails:
        fails.setattr(champion, "open_version", disk_fails)
        point = shop.point_at if promoted else partial(point_at_challenger, shop.settings)
        point(shared_version(seed=3), version="9")
        shop.service.tick()
        during = found(shop)
    shop.service.tick()
    soon = found(shop)
    monkeypatch.setattr(shop.service.champion, "_clock", lambda: time.monotonic() + RETRY_SECONDS)
    shop.service.tick()

    assert during == soon == (("7", "8") if promoted else ("7", None))
    assert found(shop) == (("9", "8") if promoted else ("7", "9"))


def test_a_version_that_refuses_its_own_requests_changes_nothing(
    shop: ServingApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(self: Pricer, *args: Any, **more: Any) -> Any:
        raise RequestError("strategy: greed is none of margin")

    monkeypatch.setattr(Pricer, "price", refuses)
    shop.point_at(shared_version(seed=3), version="9")

    assert found(shop) == ("7", "8")
    assert "version 9 cannot answer here (RequestError: strategy: greed" in caplog.text


def test_a_damaged_file_tries_nothing_and_is_counted(shop: ServingApp) -> None:
    plan(shop, Arm("keep", 0.1), "P00001", weeks=None)
    shop.settings.experiments_file.write_text("{")
    shop.service.tick()

    assert "holdout" not in shop.price(**ASKED).get_json()["reasons"]
    page = shop.client.get("/metrics").text
    assert "pricing_experiment_faults 1.0" in page
    assert 'pricing_experiments{state="unreadable"} 0.0' in page


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
