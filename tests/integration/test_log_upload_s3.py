"""The decision log of serving tasks in an S3 store: the store itself, its lock, and running services that end."""

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricing.decision_log import objects
from pricing.decision_log.format import read_decisions
from pricing.objects import S3Store, Stored, open_store
from pricing.errors import LockError, SourceError
from serving.compact import compact_uploads
from serving.log_upload import LogUpload
from tests.kit.servers import free_port, object_store
from tests.unit.test_decision_log import NOON, entry, writer

ROOT = Path(__file__).parents[2]
REQUEST = {"product_id": "P1", "day_of_week": "Friday", "list_price": 5}
PATIENCE = 60.0  # seconds that a loaded machine may take


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_store(tmp_path_factory.mktemp("s3"), bucket="logs") as environment:
        yield environment


@pytest.fixture
def store(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> S3Store:
    """A store in a place of its own."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    opened = open_store(where(request.node.name))
    assert isinstance(opened, S3Store)
    return opened


def where(test: str) -> str:
    return f"s3://logs/{test.partition('[')[0]}/shop"


def test_objects_are_put_listed_read_and_deleted(store: S3Store) -> None:
    for key in ("day=1/a/x", "day=1/b", "day=2/c", "lock"):
        store.put(key, key.encode())

    assert store.folders() == ["day=1", "day=2"]
    assert store.listed("day=1/") == [Stored("day=1/a/x", 9), Stored("day=1/b", 7)]
    assert list(store.read(["day=2/c", "day=3", "day=1/b"])) == [b"day=2/c", None, b"day=1/b"]
    store.delete(["day=1/a/x", "day=1/b", "day=9/none"])
    assert store.listed("day=") == [Stored("day=2/c", 7)]


def test_many_objects_are_read_in_order(store: S3Store) -> None:
    keys = [f"{number:03d}" for number in range(2 * objects.READERS)]
    for key in keys:
        store.put(key, key.encode())

    assert [content.decode() for content in store.read(keys) if content] == keys


def test_a_lock_is_held_by_one_until_it_is_released_or_its_holder_is_dead(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.locked("lock") as renew:
        renew()
        with pytest.raises(LockError, match="holds it"), store.locked("lock"):
            pass
    monkeypatch.setattr(objects, "LEASE_SECONDS", -1.0)  # so that it has run out at once
    with store.locked("lock") as renew_dead, store.locked("lock"):
        with pytest.raises(LockError, match="another process"):
            renew_dead()
        assert [stored.key for stored in store.listed("")] == ["lock"]


def test_a_store_that_cannot_be_used_is_an_error_that_names_it(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="s3://no-such-bucket/x"):
        open_store("s3://no-such-bucket").put("x", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SourceError, match="s3://logs/"):
        open_store("s3://logs").folders()


def test_what_is_uploaded_to_s3_is_read_and_compacted(store: S3Store, tmp_path: Path) -> None:
    address = where("test_what_is_uploaded_to_s3_is_read_and_compacted")
    log = writer(tmp_path / "decisions")
    log.append([entry(1), entry(2), entry(3, at=NOON + dt.timedelta(days=1))])
    log.close()
    here = read_decisions(tmp_path / "decisions")
    upload = LogUpload(
        tmp_path / "decisions", store=lambda: store, task="one", status=tmp_path / "status", waiting_bytes=10**9
    )

    upload.look()

    archive = f"{address}/parquet"
    assert read_decisions(tmp_path / "none", uploads=address, archive=archive) == here
    assert compact_uploads(address, to=archive, before=NOON.date() + dt.timedelta(days=1)) == (1, 2)
    assert read_decisions(tmp_path / "none", uploads=address, archive=archive) == here


class Task:
    """A serving task whose disk dies with it, and which prices by rule."""

    def __init__(self, home: Path, *, url: str, environment: dict[str, str], every: float) -> None:
        home.mkdir(parents=True)
        self.home, self.port = home, free_port()
        settings = {
            "serving": {"workers": 2, "upload_seconds": every, "upload_stop_seconds": 1, "lame_duck_seconds": 0}
        }
        (home / "settings.yaml").write_text(json.dumps(settings))
        values = {
            "PRICING_HOME": str(home), "PRICING_CONFIG": str(home / "settings.yaml"), "PRICING_TASK": home.name,
            "PRICING_DECISIONS_URL": url, "MLFLOW_TRACKING_URI": f"sqlite:///{home}/none.db", "PORT": str(self.port),
            "PYTHONPATH": str(ROOT), **environment,
        }  # fmt: skip
        self.log = (home / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving"], env={**os.environ, **values}, cwd=home, stderr=self.log
        )

    def ready(self) -> "Task":
        wait_for(lambda: self.get("/health/ready") is not None)
        return self

    def get(self, path: str, body: object = None) -> str | None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.HTTPError):
            return None

    def price(self, count: int) -> set[str]:
        answers = [self.get("/get_price", REQUEST) for _ in range(count)]
        return {str(json.loads(answer)["decision_id"]) for answer in answers if answer}

    def stop(self, number: int) -> str:
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        self.log.close()
        return (self.home / "log").read_text()


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ids(url: str, folder: Path) -> tuple[set[str], int]:
    reading = read_decisions(folder / "none", uploads=url)
    return {record["decision"]["decision_id"] for record in reading.records}, reading.lost


def test_a_stopped_task_loses_nothing_and_a_killed_one_nothing_that_was_uploaded(
    store: S3Store, s3: dict[str, str], tmp_path: Path
) -> None:
    url = where("test_a_stopped_task_loses_nothing_and_a_killed_one_nothing_that_was_uploaded")
    stopped = Task(tmp_path / "stopped", url=url, environment=s3, every=3600)
    killed = Task(tmp_path / "killed", url=url, environment=s3, every=0.5)
    given = stopped.ready().price(20)
    early = killed.ready().price(20)
    with contextlib.ExitStack() as last:
        last.callback(killed.stop, signal.SIGKILL)
        wait_for(lambda: ids(url, tmp_path)[0] >= early)
        assert not given & ids(url, tmp_path)[0]  # its next upload is an hour away
        metrics = killed.get("/metrics") or ""

        log = stopped.stop(signal.SIGTERM)

    found, lost = ids(url, tmp_path)
    assert found == given | early
    assert lost == 0
    assert "the decision log is uploaded to its end" in log
    assert not list((tmp_path / "stopped" / "decisions").glob("decisions-*"))
    assert "pricing_log_upload_lag_seconds" in metrics


def test_a_task_whose_store_is_away_answers_says_so_at_its_end_and_uploads_in_its_next_run(
    store: S3Store, s3: dict[str, str], tmp_path: Path
) -> None:
    url = where("test_a_task_whose_store_is_away_answers_says_so_at_its_end_and_uploads_in_its_next_run")
    nowhere = {**s3, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    task = Task(tmp_path / "task", url=url, environment=nowhere, every=0.5)
    given = task.ready().price(5)

    log = task.stop(signal.SIGTERM)
    upload = LogUpload(
        tmp_path / "task" / "decisions", store=lambda: store, task="task", status=tmp_path / "s", waiting_bytes=10**9
    )
    upload.look()

    assert len(given) == 5
    assert "of the decision log, in" in log
    assert "are not uploaded" in log
    assert ids(url, tmp_path) == (given, 0)
