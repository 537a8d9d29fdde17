"""A person's switches: what the service answers under them, and where it knows them from."""

import datetime as dt
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.switches import Switch, Switches, read_switches, write_switches
from pricing.errors import RegistryError
from pricing.registry.switch_record import SwitchEntry, SwitchRecord, in_force
from pricing.runtime.cli import UsageError
from serving.absence import REMIND_SECONDS
from serving.switch import act
from serving.switch_watch import SwitchWatch
from tests.kit.serving import NOW, ServingApp, open_app
from tests.kit.versions import shared_version

NEAR = {"current_price": 1.2, "list_price": 1.1, "unit_cost": 0.5, "comp_price": 1.2, "is_promo": False}
HOUR = dt.timedelta(hours=1)


def freeze(scope: Any = "all", name: str = "", **more: Any) -> Switch:
    return Switch(action="freeze", scope=scope, name=name, reason="wrong costs", by="ops", at=NOW, **more)


def override(price: float, name: str = "P00001", **more: Any) -> Switch:
    given = {"reason": "deal", "by": "ops", "at": NOW, "until": NOW + HOUR, **more}
    return Switch(action="override", scope="product", name=name, price=price, **given)


def entry(action: Any = "freeze", scope: Any = "all", name: str = "", **more: Any) -> SwitchEntry:
    return SwitchEntry(**{"at": NOW, "who": "ops", "why": "wrong costs", **more}, action=action, scope=scope, name=name)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    with open_app(tmp_path, version=shared_version()) as one:
        yield one


def switch(shop: ServingApp, *switches: Switch) -> None:
    write_switches(shop.settings.switch_file, Switches(switches))
    shop.service.tick()


def test_every_route_answers_the_price_that_a_person_froze_or_gave(shop: ServingApp) -> None:
    free = shop.price(**NEAR).get_json()
    switch(shop, freeze(), override(1.77, "P00002"))
    ask = {"product_id": "P00002", "current_stock": 150, "day_of_week": "Friday"}

    frozen, given = shop.price(**NEAR).get_json(), shop.price(**NEAR, product_id="P00002").get_json()
    batch = shop.client.post(
        "/get_prices", json={"requests": [{**ask, **NEAR, "product_id": f"P0000{n}"} for n in (1, 2)]}
    )

    assert free["recommended_price"] != 1.2
    assert (frozen["recommended_price"], frozen["source"]) == (1.2, "rule")
    assert (given["recommended_price"], given["source"], given["confidence"]) == (1.77, "override", 1.0)
    assert [one["recommended_price"] for one in batch.get_json()["decisions"]] == [1.2, 1.77]
    assert [one["source"] for one in batch.get_json()["decisions"]] == ["rule", "override"]


def test_switches_count_without_any_model(tmp_path: Path) -> None:
    with open_app(tmp_path) as shop:
        switch(shop, freeze("category", "drinks"), override(1.77, "tea"))
        answers = [
            shop.price(**NEAR, product_id=product, category="drinks").get_json()["recommended_price"]
            for product in ("cola", "tea")
        ]

    assert answers == [1.2, 1.77]


def test_a_switch_that_ends_frees_the_price_without_anybody_writing_a_file(tmp_path: Path) -> None:
    with open_app(tmp_path, version=shared_version()) as shop:
        switch(shop, override(1.77, until=NOW + HOUR), freeze("product", "P00002", until=NOW))
        sources = [shop.price(**NEAR, product_id=product).get_json()["source"] for product in ("P00001", "P00002")]

    assert sources == ["override", "model"]


@pytest.mark.parametrize("content", [None, "{half"])
def test_whatever_becomes_of_the_file_the_switches_last_known_stay_in_force(
    shop: ServingApp, content: str | None
) -> None:
    switch(shop, freeze())
    if content is None:
        shop.settings.switch_file.unlink()
    else:
        shop.settings.switch_file.write_text(content)
    shop.service.tick()

    assert "frozen" in shop.price(**NEAR).get_json()["reasons"]
    assert f"pricing_switch_faults {float(content is not None)}" in shop.client.get("/metrics").text


def test_model_and_metrics_say_what_is_in_force(shop: ServingApp) -> None:
    nothing = shop.client.get("/model").get_json()["switches"]
    switch(shop, freeze(), override(1.77), override(2.0, "P00002"), freeze("category", "x", until=NOW))

    metrics = shop.client.get("/metrics").text

    assert nothing == {"freezes": 0, "overrides": 0, "everything": None}
    assert shop.client.get("/model").get_json()["switches"] == {"freezes": 1, "overrides": 2, "everything": "freeze"}
    assert 'pricing_switches{action="freeze"} 1.0' in metrics
    assert 'pricing_switches{action="override"} 2.0' in metrics


def test_explain_names_the_person_and_adds_up(shop: ServingApp) -> None:
    switch(shop, freeze(), override(1.77, "P00002"))
    ask = {"current_stock": 150, "day_of_week": "Friday", **NEAR}

    frozen, given = (
        shop.client.post("/explain", json={"request": {**ask, "product_id": product}}).get_json()
        for product in ("P00001", "P00002")
    )
    tried = shop.client.post("/simulate", json={"request": {**ask, "product_id": "P00002"}, "prices": [1.2]}).get_json()

    assert (frozen["value"], frozen["baseline_value"]) == (1.2, 1.2)
    assert [(one["name"], one["effect"]) for one in frozen["drivers"]] == [("switch", 0.0)]
    assert given["baseline_value"] == 1.2
    assert [(one["name"], one["effect"]) for one in given["drivers"]] == [("switch", 0.57)]
    assert (tried["switch"], tried["experiment"]) == ("override", None)


def test_explain_tells_demand_at_the_price_that_was_given(shop: ServingApp) -> None:
    switch(shop, override(1.77))
    ask = {"product_id": "P00001", "current_stock": 150, "day_of_week": "Friday", **NEAR}

    answer = shop.client.post("/explain", json={"request": ask, "of": "demand"}).get_json()

    assert answer["value"] == pytest.approx(shop.price(**NEAR).get_json()["expected_units"], abs=0.05)
    total = sum(driver["effect"] for driver in answer["drivers"])
    assert total == pytest.approx(answer["value"] - answer["baseline_value"])


class FakeRecord:
    def __init__(self, entries: Sequence[SwitchEntry] = ()) -> None:
        self.kept, self.down, self.reads, self.numbers = list(entries), False, 0, list[int]()

    def extent(self) -> tuple[int, int, str]:
        if self.down:
            raise RegistryError("record of switches: connection refused")
        return len(self.kept), max([len(self.kept), *self.numbers]), "then"

    def entries(self) -> list[SwitchEntry]:
        self.reads += 1
        return self.kept


class Clock:
    now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


def test_the_follower_writes_what_is_in_force_and_reads_the_record_only_where_it_has_grown(tmp_path: Path) -> None:
    record, path, clock = FakeRecord(), tmp_path / "switches.json", Clock()
    watch = SwitchWatch(record, path=path, now=clock)
    watch.look()
    without = path.exists()
    record.kept += [entry(), entry("override", "product", "tea", price=5.0, until=NOW + HOUR)]
    for _ in range(3):
        watch.look()
    both = [one.action for one in read_switches(path)]
    clock.now = NOW + HOUR
    watch.look()
    one = [one.action for one in read_switches(path)]
    record.kept.append(entry("unfreeze"))
    watch.look()

    assert not without
    assert (both, one, list(read_switches(path))) == (["freeze", "override"], ["freeze"], [])
    assert record.reads == 3


def test_while_the_database_is_away_the_switches_last_known_stay_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record, path, clock = FakeRecord([entry()]), tmp_path / "switches.json", Clock()
    SwitchWatch(record, path=path, now=clock).look()
    record.down = True
    again = SwitchWatch(record, path=path, now=clock)  # of a task that is started meanwhile
    again.look()
    again.look()
    clock.now += dt.timedelta(seconds=REMIND_SECONDS)
    again.look()
    kept = list(read_switches(path))
    record.down, record.kept = False, [*record.kept, entry("unfreeze")]
    again.look()

    said = [line.getMessage() for line in caplog.records if "stay in force" in line.getMessage()]
    assert [one.action for one in kept] == ["freeze"]
    assert said == 2 * ["record of switches: connection refused; the switches last known stay in force"]
    assert not read_switches(path)


def test_a_file_of_switches_that_is_gone_or_damaged_is_written_anew(tmp_path: Path) -> None:
    path, watch = tmp_path / "switches.json", SwitchWatch(FakeRecord([entry()]), path=tmp_path / "switches.json")
    watch.look()
    path.unlink()
    watch.look()
    there = path.exists()
    path.write_text("{half")
    SwitchWatch(FakeRecord([entry()]), path=path).look()

    assert there
    assert [one.action for one in read_switches(path)] == ["freeze"]


def test_a_damaged_file_of_switches_is_written_anew_where_none_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "switches.json"
    path.write_text("{half")

    SwitchWatch(FakeRecord(), path=path).look()

    assert list(read_switches(path)) == []


def test_an_entry_that_appears_after_one_with_a_higher_number_is_not_missed(tmp_path: Path) -> None:
    record, path = FakeRecord([entry("freeze", "product", "tea")]), tmp_path / "switches.json"
    record.numbers = [6]  # 5 was begun earlier and is committed later
    watch = SwitchWatch(record, path=path)
    watch.look()

    record.kept.insert(0, entry("freeze"))
    watch.look()

    assert {one.scope for one in read_switches(path)} == {"all", "product"}


def test_a_row_that_no_command_wrote_takes_nothing_out_of_force(tmp_path: Path) -> None:
    record, path = FakeRecord([entry()]), tmp_path / "switches.json"
    watch = SwitchWatch(record, path=path)
    watch.look()
    record.kept.append(entry("explode"))

    watch.look()

    assert [one.action for one in read_switches(path)] == ["freeze"]


def test_a_database_that_is_back_is_read_wholly_however_far_its_record_goes(tmp_path: Path) -> None:
    record, path = FakeRecord([entry("freeze", "product", "tea")]), tmp_path / "switches.json"
    watch = SwitchWatch(record, path=path)
    watch.look()
    record.down = True
    watch.look()

    record.down, record.kept = False, [entry("freeze", "product", "jam")]
    watch.look()

    assert [one.name for one in read_switches(path)] == ["jam"]


def test_a_switch_set_after_the_database_was_restored_counts_for_whoever_saw_the_lost_one(tmp_path: Path) -> None:
    database, path = tmp_path / "pricing.db", tmp_path / "switches.json"
    record = SwitchRecord(f"sqlite:///{database}", model="shop")
    watch = SwitchWatch(record, path=path, now=lambda: NOW + HOUR)
    record.append(entry("freeze", "product", "tea"))
    copy = database.read_bytes()
    record.append(entry("freeze", "product", "jam"))
    watch.look()
    before = {one.name for one in read_switches(path)}

    record.close()
    database.write_bytes(copy)
    record.append(entry("freeze", "product", "rye", at=NOW + HOUR))
    watch.look()

    assert before == {"tea", "jam"}
    assert {one.name for one in read_switches(path)} == {"tea", "rye"}
    record.close()


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PRICING_DATABASE_URL", f"sqlite:///{tmp_path}/new/shared.db")
    monkeypatch.delenv("PRICING_CONFIG", raising=False)
    monkeypatch.setenv("PRICING_ACTOR", "ada@ops")
    return os.environ["PRICING_DATABASE_URL"]


def run(action: str, *words: str, now: dt.datetime = NOW) -> int:
    return act(action, words, now=lambda: now)


def test_what_is_frozen_given_and_ended_is_on_record(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("freeze", "--all", "--reason", "wrong costs")
    run("override", "--product", "tea", "--price", "4.99", "--until", "2023-08-02", "--reason", "deal", "--force")
    run("freeze", "--category", "drinks", "--until", "2023-08-01T20:00+00:00", "--reason", "feed", "--by", "bob")
    run("unfreeze", "--all", "--reason", "mended")
    capsys.readouterr()
    run("freeze", "--list")

    said = capsys.readouterr().out
    record = SwitchRecord(url, model="pricing")
    entries = record.entries()
    found = in_force(entries, at=NOW)
    record.close()
    assert [(one.who, one.action, one.scope, one.name, one.why) for one in entries] == [
        ("ada@ops", "freeze", "all", "", "wrong costs"),
        ("ada@ops", "override", "product", "tea", "deal"),
        ("bob", "freeze", "category", "drinks", "feed"),
        ("ada@ops", "unfreeze", "all", "", "mended"),
    ]
    assert [(one.action, one.name, one.price, one.below_cost) for one in found] == [
        ("override", "tea", 4.99, True), ("freeze", "drinks", None, False),
    ]  # fmt: skip
    assert said.index("unfreeze of everything: mended") < said.index("freeze of everything: wrong costs")
    assert "override of product tea at 4.99, below cost too until " in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--product", "p00001"), "knows no product 'p00001'; did you mean 'P00001'?"),
        (("--product", "socks"), "knows no product 'socks'. Nothing was changed"),
        (("--category", "Toiletry"), "knows no category 'Toiletry'; it knows "),
    ],
)
def test_a_typing_error_freezes_nothing_and_says_what_was_meant(
    shop: ServingApp, url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(shop.settings.home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shop.settings.registry_uri)

    with pytest.raises(UsageError) as refused:
        run("freeze", *words, "--reason", "wrong costs")

    assert told in str(refused.value)
    assert run("freeze", *words, "--reason", "wrong costs", "--new") == 0
    assert run("freeze", "--product", "P00001", "--reason", "wrong costs") == 0


def test_a_date_means_the_end_of_that_day_on_this_machine(url: str) -> None:
    run("freeze", "--all", "--until", "2023-08-01", "--reason", "x")

    record = SwitchRecord(url, model="pricing")
    (found,) = record.entries()
    record.close()
    assert found.until is not None
    assert found.until.astimezone().strftime("%Y-%m-%d %H:%M") == "2023-08-02 00:00"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("freeze --reason x", "exactly one of --all, --category NAME and --product ID"),
        ("freeze --all --product tea --reason x", "exactly one of"),
        ("freeze --all", "--reason: say why"),
        ("freeze --all --reason x --until 2023-07-01", "that is past"),
        ("freeze --all --reason x --until tomorrow", "expected a time such as"),
        ("freeze --all --reason x --price 5", "price"),
        ("override --product tea --price 5 --reason x", "needs --price and --until"),
        ("override --product tea --until 2023-08-02 --reason x", "needs --price and --until"),
        ("override --product tea --price -5 --until 2023-08-02 --reason x", "price: Input should be greater"),
        (
            "override --product tea --price 4.995 --until 2023-08-02 --reason x",
            r"--price 4\.995: .* multiples of 0\.01 \(decision\.price_step\); the nearest: 4\.99 and 5$",
        ),
        ("override --product tea --price 0.004 --until 2023-08-02 --reason x", r"the nearest: 0\.01$"),
        ("override --product tea --price 12345.678 --until 2023-08-02 --reason x", r"12345\.67 and 12345\.68$"),
        (
            "override --all --price 1e9 --until 2023-08-02 --reason x",
            "override of everything: it is one price, 1000000000, .*--product ID.* --wide where that is meant",
        ),
        (
            "override --category drinks --price 5 --until 2023-08-02 --reason x --force",
            "override of category drinks: .*",
        ),
        ("unfreeze --product tea --reason x", "nothing is frozen or overridden for product tea. In force: nothing"),
    ],
)
def test_a_command_that_does_not_say_what_to_do_changes_nothing(url: str, words: str, told: str) -> None:
    action, *rest = words.split()

    with pytest.raises(UsageError, match=told):
        run(action, *rest)

    record = SwitchRecord(url, model="pricing")
    assert record.entries() == []
    record.close()


def test_an_override_says_that_cost_is_charged_unless_it_was_forced(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("override", "--product", "tea", "--price", "5", "--until", "2023-08-02", "--reason", "x")
    run(*words)
    plain = capsys.readouterr().out
    run(*words, "--force")

    assert "the cost is charged; --force charges it all the same" in plain
    assert "cost is charged" not in capsys.readouterr().out


@pytest.mark.parametrize("price", ["0.01", "0.07", "4.35", "12345.67", "999999.99"])
def test_a_price_of_whole_steps_is_on_record_as_it_was_given(
    url: str, price: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("override", "--all", "--wide", "--price", price, "--until", "2023-08-02", "--reason", "x")

    record = SwitchRecord(url, model="pricing")
    (found,) = record.entries()
    record.close()
    assert (found.price, found.below_cost) == (float(price), False)
    assert f"override of everything at {price} until " in capsys.readouterr().out


def test_models_that_share_a_database_share_no_switch_and_reading_makes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    mine, other = (SwitchRecord(url, model=name) for name in ("mine", "other"))

    before = (mine.extent(), mine.entries(), (tmp_path / "shared.db").exists())
    mine.append(entry(until=NOW + HOUR))

    assert before == ((0, 0, ""), [], False)
    assert (other.extent(), other.entries()) == ((0, 0, ""), [])
    assert mine.extent()[:2] == (1, 1)
    assert mine.entries() == [entry(until=NOW + HOUR)]
    for one in (mine, other):
        one.close()


def test_a_database_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "shared.db").write_text("this is no database at all, but text")
    record = SwitchRecord(f"sqlite:///{tmp_path}/shared.db", model="pricing")

    with pytest.raises(RegistryError, match=r"record of switches .*shared\.db \(PRICING_DATABASE_URL\): "):
        record.entries()

    record.close()


def test_a_lock_that_another_process_holds_is_said_in_words(tmp_path: Path) -> None:
    record = SwitchRecord(f"sqlite:///{tmp_path}/shared.db", model="pricing", lock_seconds=0.01)
    record.append(entry())
    with closing(sqlite3.connect(tmp_path / "shared.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(RegistryError, match=r"another process has held the database's lock for 0\.01 s, .* again"):
            record.append(entry("unfreeze"))

    record.append(entry("unfreeze"))
    record.close()


def test_the_file_of_switches_is_json_that_names_its_format(tmp_path: Path) -> None:
    write_switches(tmp_path / "switches.json", Switches([freeze()]))

    document = json.loads((tmp_path / "switches.json").read_text())
    assert document["format"] == 1
    assert document["switches"][0]["by"] == "ops"
