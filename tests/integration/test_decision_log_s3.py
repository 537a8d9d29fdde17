"""The decision log in a real S3 store."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from pricing.decision_log import write
from pricing.decision_log.read import archive, holds_decisions, open_log
from pricing.decision_log.write import LogWriter
from pricing.errors import SourceError
from pricing.objects import open_store
from tests.kit.servers import free_port, object_store
from tests.unit.decision_log.test_write import entry

URL = "s3://logs/it's/shop"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_store(tmp_path_factory.mktemp("s3"), bucket="logs") as environment:
        yield environment


def decisions() -> tuple[list[str], int]:
    with open_log(URL) as (con, damaged):
        found = con.execute("SELECT decision_id FROM decisions ORDER BY ALL").fetchall()
    return [name for (name,) in found], damaged


def test_decisions_reach_the_store_although_it_was_away_and_are_archived_there(
    s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    away = LogWriter(tmp_path, url=URL)
    away.append([entry(number) for number in range(50)])
    away.close()
    with pytest.raises(SourceError):
        decisions()

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"])
    before = holds_decisions(URL)
    monkeypatch.setattr(write, "_LEFT_SECONDS", 0.0)
    there = LogWriter(tmp_path, url=URL)
    there.append([entry(number) for number in range(50, 80)])
    there.close()
    open_store(URL).put("lines/2026-03-06/hostile-000000.jsonl", b'{"schema": 3}\n\xff')

    sent = decisions()
    today = dt.datetime.now(dt.UTC).date()
    assert (away.status().waiting, there.status().failure, before) == (1, None, False)
    assert list(tmp_path.iterdir()) == []
    assert sent == (sorted(f"d-{n}" for n in range(80)), 2)

    moved = [archive(URL, before=today + dt.timedelta(days=1)) for _ in range(2)]

    assert moved == [82, 0]
    days = [key.rpartition("/")[0] for key in open_store(URL).keys("")]
    assert days == ["parquet/date=2026-03-06", f"parquet/date={today}"]
    assert decisions() == sent
