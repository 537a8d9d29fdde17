"""What tasks share by PostgreSQL: promotions, monitoring's memory and claims, the control table, and locks of jobs."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from monitoring.store import MonitoringStore
from pipelines.steps.commands import only_one
from pricing.decision.switches import parse_control
from pricing.errors import ConfigError, LockError, RegistryError
from pricing.objects import FolderStore
from pricing.paths import ROOT
from pricing.registry import CHAMPION
from pricing.registry.control import ControlRecord
from pricing.registry.promotion import Audit, move, record_refusal
from pricing.registry.published_store import control_key
from pricing.runtime import doctor
from tests.kit.monitoring_world import NOW
from tests.kit.promotions import FakeRegistry, asked
from tests.kit.servers import wait_for
from tests.unit.monitoring.test_store import (  # noqa: F401 - the same rules of the memory, in PostgreSQL
    store,
    test_errors_are_those_of_scored_decisions_as_known_last,
    test_jobs_are_remembered_until_they_end,
    test_of_two_runs_at_once_only_one_gets_to_start_the_job,
    test_old_outcomes_are_deleted_and_no_others,
)
from tests.unit.registry.test_control import experiment, freeze, frozen, plan

RACERS, ROUNDS = 4, 12
HOLD = """
import subprocess, sys
from pathlib import Path
from pipelines.steps.commands import only_one
with only_one("nightly", home=Path(sys.argv[1]), model="shop") as held:
    left = subprocess.Popen(["sleep", "60"], pass_fds=held, stdout=subprocess.DEVNULL)
    print(left.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A shop of its own for each test, all in one database."""
    return str(request.node.name)


@pytest.fixture
def opened(postgres: str, model: str, tmp_path: Path) -> Callable[[], MonitoringStore]:
    return lambda: MonitoringStore(postgres, model=model)


def test_no_product_is_in_two_experiments_and_no_switch_is_lost_however_many_write_at_once(
    postgres: str, model: str, tmp_path: Path
) -> None:
    objects = FolderStore(tmp_path)

    def write(number: int) -> str:
        record = ControlRecord(postgres, model=model, store=objects)
        try:
            record.append(freeze(f"p{number}"))
            plan(record, experiment(f"e{number}", "rye"))
        except ConfigError:
            return "refused"
        finally:
            record.mirror(now=NOW)
        return "planned"

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(write, range(4)))

    content = objects.get(control_key(model))
    assert content is not None
    mirrored = parse_control(content)
    assert sorted(told) == ["planned", "refused", "refused", "refused"]
    assert (frozen(mirrored), len(mirrored.experiments.every)) == ({"p0", "p1", "p2", "p3"}, 1)
    assert (mirrored.entries, mirrored.unread) == (5, ())


def test_a_night_on_one_machine_keeps_that_of_another_from_starting_until_all_it_started_has_ended(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_DATABASE_URL", postgres)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    left = int(holder.stdout.readline())

    def free(job: str = "nightly", model: str = "shop") -> bool:
        try:
            with only_one(job, home=tmp_path / "other", model=model):
                return True
        except LockError:
            return False

    held = free(), free(model="another shop"), free("retrain")
    holder.kill()
    holder.communicate()
    held_on = free()
    os.kill(left, 9)

    assert (held, held_on) == ((False, True, True), False)
    wait_for(free)  # the server notices that the last process with the connection has gone
    monkeypatch.setenv("PRICING_DATABASE_URL", "postgresql://ann:hush@127.0.0.1:1/pricing")
    with pytest.raises(RegistryError) as away:  # no job runs unlocked
        free()
    assert "hush" not in str(away.value)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_promotions_at_once_one_wins_and_none_is_lost(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/pricing.db" if database == "sqlite" else request.getfixturevalue("postgres")
    registry = FakeRegistry()

    def race(racer: int) -> Counter[str]:
        audit, rng = Audit(url), random.Random(racer)
        told = Counter[str]()
        for _ in range(ROUNDS):
            expected = registry.aliases().get(CHAMPION)
            to = rng.choice([number for number in "123456789" if number != expected])
            try:
                move(registry, audit, asked(to, expected))
                told["done"] += 1
            except RegistryError as error:
                told["lost" if "run it again" in str(error) else str(error)] += 1
        return told

    with ThreadPoolExecutor(RACERS) as pool:
        told = sum(pool.map(race, range(RACERS)), Counter[str]())

    entries = Audit(url).entries("pricing@1")
    done = [entry for entry in entries if entry.outcome == "done"]
    assert [entry.sequence for entry in entries] == list(range(1, RACERS * ROUNDS + 1)), "each attempt is recorded"
    assert all(entry.action == "promote" for entry in entries), "no move looks as if it were made by hand"
    assert told == Counter(entry.outcome for entry in entries), "each was told what the record says"
    assert [entry.from_version for entry in done] == [None, *(entry.to_version for entry in done[:-1])]
    assert registry.aliases()[CHAMPION] == done[-1].to_version


@pytest.mark.parametrize("change", ["UPDATE {} SET who = 'eve'", "DELETE FROM {}", "TRUNCATE {}"])
def test_postgres_too_only_appends(postgres: str, change: str) -> None:
    record_refusal(FakeRegistry(), Audit(postgres), asked("1"))
    engine = sqlalchemy.create_engine(postgres)

    with pytest.raises(sqlalchemy.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(change.format("pricing_promotions"))
    engine.dispose()


def test_the_doctor_opens_the_database_as_jobs_do(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PRICING_DATABASE_URL", postgres)

    assert doctor.main([]) == 0
