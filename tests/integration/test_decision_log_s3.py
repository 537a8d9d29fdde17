"""The decision log in a real S3 store."""

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pricing.decision_log.read import archive, holds_decisions, read_decisions
from pricing.decision_log.write import LogWriter
from pricing.errors import SourceError
from pricing.objects import open_store
from tests.kit.servers import free_port, object_store
from tests.unit.test_decision_log_write import entry

URL = "s3://logs/it's/shop"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_store(tmp_path_factory.mktemp("s3"), bucket="logs") as environment:
        yield environment


def test_decisions_reach_the_store_although_it_was_away_and_are_archived_there(
    s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    away = LogWriter(tmp_path, url=URL)
    away.append([entry(number) for number in range(50)])
    began = time.monotonic()
    away.close()
    took = time.monotonic() - began
    with pytest.raises(SourceError):
        read_decisions(URL)

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"])
    before = holds_decisions(URL)
    there = LogWriter(tmp_path, url=URL)
    there.append([entry(number) for number in range(50, 80)])
    there.close()
    open_store(URL).put("lines/2026-03-06/hostile-000000.jsonl", b'{"schema": 3}\n\xff')

    sent = read_decisions(URL)
    today = dt.datetime.now(dt.UTC).date()
    assert (away.status().waiting, there.status().failure, before) == (1, None, False)
    assert took < 15
    assert list(tmp_path.iterdir()) == []
    assert sorted(record["decision"]["decision_id"] for record in sent.records) == sorted(f"d-{n}" for n in range(80))
    assert sent.damaged == 2

    moved = [archive(URL, before=today + dt.timedelta(days=1)) for _ in range(2)]

    assert moved == [82, 0]
    assert open_store(URL).keys() == [
        "parquet/date=2026-03-06/decisions.parquet",
        f"parquet/date={today}/decisions.parquet",
    ]
    assert read_decisions(URL) == sent
