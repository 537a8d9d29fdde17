"""What tasks share by PostgreSQL: monitoring's memory and claims, the control table, and the locks of jobs."""

import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from monitoring.store import MonitoringStore
from pipelines.commands import only_one
from pricing.decision.control import parse_control
from pricing.errors import ConfigError, LockError, RegistryError
from pricing.objects import FolderStore
from pricing.paths import ROOT
from pricing.registry.control import ControlRecord
from pricing.registry.database import session_lock
from pricing.registry.published import control_key
from tests.kit.servers import postgres as postgres_server
from tests.unit.test_control import experiment, freeze, frozen, plan
from tests.unit.test_monitoring_store import (  # noqa: F401 - the same rules of the memory, in PostgreSQL
    store,
    test_a_day_of_which_only_a_part_is_read_keeps_what_was_known,
    test_a_day_without_a_scored_decision_is_remembered_and_spoils_none,
    test_errors_are_those_of_scored_decisions_as_known_last,
    test_failures_count_with_start_and_end_until_a_retraining_ends_well,
    test_jobs_are_remembered_until_they_end,
    test_of_two_runs_at_once_only_one_gets_to_start_the_job,
    test_old_outcomes_are_deleted_and_no_others,
)

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
CLAIM = """
import datetime as dt, sys
from monitoring.policy import PolicyOutcome
from monitoring.store import MonitoringStore
store = MonitoringStore(sys.argv[1], model=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
def decide(past):
    return PolicyOutcome("none" if past.running_since else "retrain", "error grew", "decay")
outcome, job = store.claim(decide, now=dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC))
print(outcome.action, flush=True)
"""
HOLD = """
import sys
from pathlib import Path
from pipelines.commands import only_one
with only_one("nightly", home=Path(sys.argv[1]), model="shop") as held:
    import subprocess
    left = subprocess.Popen(["sleep", "60"], pass_fds=held, stdout=subprocess.DEVNULL)
    print(left.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A shop of its own for each test, all on one server."""
    return str(request.node.name)


@pytest.fixture
def opened(postgres: str, model: str, tmp_path: Path) -> Callable[[], MonitoringStore]:
    return lambda: MonitoringStore(postgres, model=model)


def process(program: str, *words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=ROOT, env={**os.environ, **environment}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_that_claim_at_once_one_starts_the_job(
    postgres: str, model: str, opened: Callable[[], MonitoringStore]
) -> None:
    both = [process(CLAIM, postgres, model) for _ in range(2)]
    ready = [line_of(one) for one in both]

    answers = [one.communicate("go\n", timeout=60)[0].strip() for one in both]

    assert ready == ["ready"] * 2
    assert sorted(answers) == ["none", "retrain"]
    assert len(opened().running()) == 1


def test_no_product_is_in_two_experiments_and_no_switch_is_lost_however_many_write_at_once(
    postgres: str, model: str, tmp_path: Path
) -> None:
    objects = FolderStore(tmp_path)

    def write(number: int) -> str:
        record = ControlRecord(postgres, model=model, store=objects)
        try:
            record.append_switch(freeze(f"p{number}"))
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
    assert (mirrored.sequence, mirrored.unread) == (5, ())


def test_a_night_on_one_machine_keeps_that_of_another_from_starting_until_all_it_started_has_ended(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_DATABASE_URL", postgres)
    holder = process(HOLD, str(tmp_path / "one"))
    left = int(line_of(holder))

    with (
        pytest.raises(LockError),
        only_one("nightly", home=tmp_path / "other", model="shop"),
    ):
        pass
    with only_one("nightly", home=tmp_path / "other", model="another shop"):
        pass
    with only_one("retrain", home=tmp_path / "other", model="shop"):
        pass
    holder.kill()
    holder.communicate()
    with pytest.raises(LockError), only_one("nightly", home=tmp_path / "other", model="shop"):
        pass
    os.kill(left, 9)

    for _ in range(100):  # the server notices that the last process with the connection has gone
        try:
            with only_one("nightly", home=tmp_path / "other", model="shop") as held:
                assert len(held) == 2
            break
        except LockError:
            threading.Event().wait(0.05)
    else:
        pytest.fail("the lock is still held")


def test_a_job_does_not_run_unlocked_where_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_DATABASE_URL", "postgresql://ann:hush@127.0.0.1:1/pricing")

    with (
        pytest.raises(RegistryError, match="lock of nightly of shop") as found,
        only_one("nightly", home=tmp_path, model="shop"),
    ):
        pass

    assert "hush" not in str(found.value)


def test_a_lock_is_free_after_an_error_and_after_its_server_has_gone() -> None:
    with postgres_server() as url, ExitStack() as locks:
        with pytest.raises(ZeroDivisionError), session_lock(url, "nightly"):
            raise ZeroDivisionError
        locks.enter_context(session_lock(url, "nightly"))
        server_gone = locks.pop_all()
    server_gone.close()
