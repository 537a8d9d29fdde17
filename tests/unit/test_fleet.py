"""Serving tasks that know of each other: heartbeats in the database, and what workers make of them."""

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pricing.errors import ConfigError, RegistryError
from pricing.registry.task_record import FORGET_SECONDS, TaskEntry, TaskRecord
from pricing.runtime.shared_state import task_name
from serving.absence import REMIND_SECONDS
from serving.fleet import ALIVE_SECONDS, ALONE, STALE_SECONDS, Fleet, FleetTask, Heartbeat, read_fleet
from tests.kit.serving import NOW, ServingApp, open_app, settings_in
from tests.kit.versions import shared_version

SHARED = {"PRICING_DATABASE_URL": "postgresql://db/pricing", "PRICING_RUN_ID": "one", "PRICING_TASK": "serving-1"}

REFUSED = "record of serving tasks (PRICING_DATABASE_URL): postgresql://ann:hush@db/pricing: connection refused"


@dataclass
class FakeRecord:
    entries: Sequence[TaskEntry] = ()
    down: bool = False
    told: list[tuple[str, str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def beat(self, *, run: str, task: str, version: str) -> Sequence[TaskEntry]:
        if self.down:
            raise RegistryError(REFUSED)
        self.told.append((run, task, version))
        return self.entries

    def leave(self, *, run: str) -> None:
        if self.down:
            raise RegistryError(REFUSED)
        self.left.append(run)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def record(tmp_path: Path) -> Iterator[TaskRecord]:
    one = TaskRecord(f"sqlite:///{tmp_path / 'pricing.db'}", model="pricing")
    yield one
    one.close()


def made_older(path: Path, run: str, seconds: float) -> None:
    """Lets a row have been written so long ago."""
    with closing(sqlite3.connect(path)) as connection:
        then = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
        connection.execute(
            "update pricing_serving_tasks set seen_at = ? where run = ?", (f"{then:%Y-%m-%d %H:%M:%S}", run)
        )
        connection.commit()


def heartbeat(record: FakeRecord, path: Path, clock: Clock) -> Heartbeat:
    return Heartbeat(record, path=path, run="one", task="serving-1", version=lambda: "7", clock=clock)


def test_each_task_has_one_row_that_its_beats_renew(record: TaskRecord) -> None:
    record.beat(run="one", task="serving-1", version="7")
    record.beat(run="two", task="serving-2", version="7")

    found = record.beat(run="one", task="serving-1", version="8")

    assert [(one.run, one.task, one.version) for one in found] == [("one", "serving-1", "8"), ("two", "serving-2", "7")]
    assert all(0 <= one.age_seconds < 60 for one in found)


def test_tasks_of_one_name_are_two_and_those_of_another_model_none(record: TaskRecord, tmp_path: Path) -> None:
    other = TaskRecord(f"sqlite:///{tmp_path / 'pricing.db'}", model="books")
    other.beat(run="three", task="host", version="1")
    record.beat(run="two", task="host", version="7")

    found = record.beat(run="one", task="host", version="7")

    other.close()
    assert [one.run for one in found] == ["one", "two"]


def test_rows_long_silent_are_deleted_by_whoever_writes_and_a_task_that_leaves_is_gone_at_once(
    record: TaskRecord, tmp_path: Path
) -> None:
    for run in ("one", "two", "three", "four"):
        record.beat(run=run, task=run, version="7")
    made_older(tmp_path / "pricing.db", "two", FORGET_SECONDS + 5)
    made_older(tmp_path / "pricing.db", "three", FORGET_SECONDS - 60)
    record.leave(run="four")

    found = record.beat(run="one", task="one", version="7")

    assert [one.run for one in found] == ["one", "three"]
    assert found[1].age_seconds == pytest.approx(FORGET_SECONDS - 60, abs=30)
    with closing(sqlite3.connect(tmp_path / "pricing.db")) as connection:
        assert connection.execute("select count(*) from pricing_serving_tasks").fetchone() == (2,)


def test_a_database_that_refuses_is_an_error_in_one_line_without_its_password(tmp_path: Path) -> None:
    record = TaskRecord("postgresql://ops:hush@127.0.0.1:9/pricing", model="pricing")

    with pytest.raises(RegistryError, match=r"serving tasks .*127\.0\.0\.1:9/pricing \(PRICING_DATABASE_URL") as e:
        record.beat(run="one", task="a", version="7")
    with pytest.raises(RegistryError):
        record.leave(run="one")

    assert "hush" not in str(e.value)
    assert "\n" not in str(e.value)


def test_the_workers_file_names_the_tasks_alive(tmp_path: Path) -> None:
    entries = [
        TaskEntry("one", "serving-1", "7", 0.0),
        TaskEntry("two", "serving-2", "6", ALIVE_SECONDS),
        TaskEntry("three", "serving-3", "6", ALIVE_SECONDS + 1),
    ]
    record = FakeRecord(entries)

    heartbeat(record, tmp_path / "fleet.json", Clock()).beat()

    fleet = read_fleet(tmp_path / "fleet.json")
    own, other = FleetTask("serving-1", "7", 1000.0, own=True), FleetTask("serving-2", "6", 1000.0 - ALIVE_SECONDS)
    assert fleet == Fleet((own, other), 1000.0)
    assert (fleet.size, fleet.versions, fleet.others("7"), fleet.others("6")) == (2, {"7": 1, "6": 1}, 1, 0)
    assert record.told == [("one", "serving-1", "7")]


def test_while_the_database_is_away_the_tasks_last_known_count_on_and_are_called_stale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    clock, path = Clock(), tmp_path / "fleet.json"
    record = FakeRecord([TaskEntry("one", "serving-1", "7", 0.0), TaskEntry("two", "serving-2", "7", 0.0)])
    one = heartbeat(record, path, clock)
    one.beat()

    record.down = True
    for passed in (2.0, STALE_SECONDS + 1, REMIND_SECONDS + 3):
        clock.now = 1000.0 + passed
        one.beat()
    away = read_fleet(path)
    record.down = False
    one.beat()

    assert (away.size, away.read_at) == (2, 1000.0)
    assert "connection refused" in str(away.detail)
    assert away.state(1000.0 + STALE_SECONDS, expected=True) == "known"
    assert away.state(1001.0 + STALE_SECONDS, expected=True) == "stale"
    assert read_fleet(path).state(clock.now, expected=True) == "known"
    said = [line.message for line in caplog.records]
    assert said[0].endswith("connection refused; the 2 serving tasks last known count on")
    assert len(said) == 3  # twice away, ten minutes apart
    assert said[-1].startswith("the record of serving tasks answers again; it was away since ")


def test_a_task_that_stops_says_so_and_is_not_kept_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = FakeRecord()
    one = heartbeat(record, tmp_path / "fleet.json", Clock())

    one.leave()
    record.down = True
    one.leave()
    one.beat()

    assert record.left == ["one"]
    assert "hush" not in caplog.text
    assert f"the other tasks count this one for {ALIVE_SECONDS:g} s more" in caplog.text


def test_a_task_that_cannot_tell_its_workers_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")

    heartbeat(FakeRecord(), tmp_path / "file" / "fleet.json", Clock()).beat()

    assert "the workers go on with the tasks that it names" in caplog.text


def test_without_a_database_a_task_is_alone() -> None:
    assert (ALONE.size, ALONE.versions, ALONE.state(5.0, expected=False)) == (1, {}, "off")
    assert ALONE.state(5.0, expected=True) == "starting"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    with open_app(tmp_path, version=shared_version(), environment=SHARED) as one:
        yield one


def knows(shop: ServingApp, *tasks: tuple[str, str], age: float = 1.0) -> None:
    listed = [FleetTask(name, version, NOW.timestamp() - age, own=name == "serving-1") for name, version in tasks]
    document = {"tasks": [vars(one) for one in listed], "read_at": NOW.timestamp() - age, "detail": None}
    shop.settings.fleet_file.parent.mkdir(parents=True, exist_ok=True)
    shop.settings.fleet_file.write_text(json.dumps(document))
    shop.service.tick()


def test_model_and_metrics_show_the_fleet(shop: ServingApp) -> None:
    knows(shop, ("serving-1", "7"), ("serving-2", "7"), ("serving-3", "6"))

    fleet = shop.client.get("/model").get_json()["fleet"]
    page = shop.client.get("/metrics").get_data(as_text=True)

    assert fleet == {
        "state": "known",
        "tasks": 3,
        "versions": {"7": 2, "6": 1},
        "on_other_version": 1,
        "members": [
            {"task": f"serving-{n}", "model_version": version, "seen_seconds_ago": 1.0}
            for n, version in ((1, "7"), (2, "7"), (3, "6"))
        ],
        "detail": None,
    }
    assert "pricing_tasks 3.0" in page
    assert "pricing_tasks_on_other_version 1.0" in page


def test_a_fleet_that_is_not_known_is_told_as_such(shop: ServingApp, tmp_path: Path) -> None:
    starting = shop.client.get("/model").get_json()["fleet"]
    knows(shop, ("serving-1", "7"), ("serving-2", "7"), age=STALE_SECONDS + 1)
    stale = shop.client.get("/model").get_json()["fleet"]
    with open_app(tmp_path / "other", version=shared_version()) as alone:
        off = alone.client.get("/model").get_json()["fleet"]
        page = alone.client.get("/metrics").get_data(as_text=True)

    assert (starting["state"], starting["tasks"], starting["versions"]) == ("starting", 1, {"7": 1})
    assert (stale["state"], stale["tasks"]) == ("stale", 2)
    assert (off["state"], off["tasks"]) == ("off", 1)
    assert "pricing_tasks" not in page


def test_names_of_tasks_are_told_to_keys_of_scope_admin_alone(tmp_path: Path) -> None:
    keys = {"PRICING_KEYS": "required", "PRICING_API_KEYS": "a 0123456789abcdef price; b fedcba9876543210 price,admin"}
    with open_app(tmp_path, version=shared_version(), environment={**SHARED, **keys}) as shop:
        knows(shop, ("serving-1", "7"))
        told = [
            shop.client.get("/model", headers={"X-API-Key": key}).get_json()["fleet"]["members"]
            for key in ("0123456789abcdef", "fedcba9876543210")
        ]

    assert told[0] is None
    assert [one["task"] for one in told[1]] == ["serving-1"]


def test_a_rate_limit_is_shared_among_the_tasks_alive(tmp_path: Path) -> None:
    path = tmp_path / "limited.yaml"
    path.write_text("serving: {rate_limit: 0.001, rate_burst: 12}")
    with open_app(tmp_path, version=shared_version(), environment={**SHARED, "PRICING_CONFIG": str(path)}) as shop:
        knows(shop, *((f"serving-{n}", "7") for n in range(1, 5)))
        answers = [shop.price().status_code for _ in range(5)]

    assert answers == [200, 200, 200, 429, 429]


def test_only_a_service_that_was_given_a_database_tells_of_itself(tmp_path: Path) -> None:
    assert settings_in(tmp_path, **SHARED).knows_others
    assert not settings_in(tmp_path, **{**SHARED, "PRICING_DATABASE_URL": ""}).knows_others
    assert settings_in(tmp_path, **SHARED).task == "serving-1"


def test_a_task_s_name_is_that_of_its_host_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "ip-10/0 é")

    assert task_name({}) == "ip-10-0--"
    assert task_name({"PRICING_TASK": "a.b_c-1"}) == "a.b_c-1"
    for bad in ("a/b", "a b", "é", "x" * 101):
        with pytest.raises(ConfigError, match="PRICING_TASK: expected up to 100 of letters"):
            task_name({"PRICING_TASK": bad})
