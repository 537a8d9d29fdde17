import datetime as dt
import errno
import json
import math
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log import write
from pricing.decision_log.write import LogEntry, LogStatus, LogWriter, put_decisions
from pricing.errors import SourceError
from tests.kit.monitoring_world import detailed, redecided
from tests.kit.servers import wait_for
from tests.kit.serving import sent

NOON = dt.datetime(2026, 3, 6, 12, tzinfo=dt.UTC)
AMOUNTS = st.floats(-1e15, 1e15) | st.sampled_from([math.nan, math.inf, -math.inf])


def entry(number: int = 1, *, at: dt.datetime = NOON, product_id: str = "Tee ☕") -> LogEntry:
    request = PriceRequest(product_id=product_id, current_stock=3, day_of_week="Friday", comp_price=21.5)
    decision = Decision(
        recommended_price=23.75, confidence=0.87, price_range=(23.0, 24.5), expected_units=4.2, expected_margin=31.0,
        source="model", reasons=["stock"], binds=["cost"], gave_way=[], strategy="margin", model_version="7",
        decision_id=f"d-{number}",
    )  # fmt: skip
    answer = detailed(
        decision, date=dt.date(2026, 3, 6), category="tea", current_price=24.0, list_price=25.0, unit_cost=math.nan,
        candidate_prices=[20.0, 25.0], candidate_units=[6.0, 3.5], candidate_sizes=[2.0, 4.0], unit=0.5,
    )  # fmt: skip
    return LogEntry(request, answer, at)


def writer(folder: Path) -> LogWriter:
    return LogWriter(folder / "segments", url=str(folder / "log"))


def ids(url: Path) -> list[str]:
    return [record["decision"]["decision_id"] for record in sent(str(url))]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FLUSH_SECONDS", "_SEGMENT_SECONDS", "_SEND_SECONDS"):
        monkeypatch.setattr(write, name, 0.02)


@given(
    product_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    numbers=st.lists(AMOUNTS, max_size=5),
    price=st.none() | AMOUNTS,
)
def test_every_decision_makes_one_line_of_strict_json(
    product_id: str, numbers: list[float], price: float | None
) -> None:
    one = redecided(entry(product_id=product_id), candidate_prices=numbers, current_price=price)

    line = one.encode("w", 7)

    record = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert line.count(b"\n") == 1
    assert (record["product_id"], record["worker"], record["sequence"]) == (product_id, "w", 7)
    for number, kept in zip([price, *numbers], [record["current_price"], *record["candidates"]["price"]], strict=True):
        assert kept == (None if number is None or not math.isfinite(number) else number)


def test_a_stop_sends_every_decision_under_the_day_and_the_worker(tmp_path: Path) -> None:
    log = writer(tmp_path)

    log.append([entry(number) for number in range(3)])
    log.append([entry(3)])
    log.close()

    today = dt.datetime.now(dt.UTC).date()
    assert {path.parent for path in (tmp_path / "log").rglob("*.jsonl")} == {tmp_path / "log" / "lines" / str(today)}
    assert [(one["worker"], one["sequence"]) for one in sent(str(tmp_path / "log"))] == [
        (log.worker, number) for number in (1, 2, 3, 4)
    ]
    assert list((tmp_path / "segments").iterdir()) == []
    assert log.status() == LogStatus(4, 4, 0, 0, None)


def test_a_store_that_is_away_for_a_while_loses_nothing_and_stops_no_price(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("in the way")
    log = writer(tmp_path)

    log.append([entry(1)])
    wait_for(lambda: log.status().waiting == 1)
    away = log.status()
    (tmp_path / "log").unlink()
    wait_for(lambda: log.status().waiting == 0)
    log.close()

    assert (away.written, away.failure) == (1, None)  # of the disk
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]  # told once, not at each attempt
    assert ids(tmp_path / "log") == ["d-1"]


def test_the_segment_of_a_killed_worker_is_sent_and_that_of_a_living_one_is_left(tmp_path: Path) -> None:
    other = tmp_path / "segments" / "2026-03-06_other-000001.jsonl"
    other.parent.mkdir()
    other.write_bytes(entry(1).encode("other", 1))
    log = writer(tmp_path)
    log.append([entry(2)])
    log.close()
    of_living = ids(tmp_path / "log")
    os.utime(other, (0, 0))

    writer(tmp_path).close()

    assert of_living == ["d-2"]
    assert sorted(ids(tmp_path / "log")) == ["d-1", "d-2"]


def test_a_full_disk_stops_no_price_and_leaves_no_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, whole = True, os.write

    def part(descriptor: int, block: bytes) -> int:
        if full:
            whole(descriptor, block[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, block[:100])  # and some disks take a part at a time

    monkeypatch.setattr(os, "write", part)
    log = writer(tmp_path)
    log.append([entry(1), entry(2)])
    wait_for(lambda: log.status().failure is not None)
    failed = log.status()
    full = False
    log.append([entry(3)])
    log.close()

    assert failed == LogStatus(2, 0, 0, 0, f"{tmp_path / 'segments'}: No space left on device")
    assert log.status() == LogStatus(3, 3, 0, 0, None)
    assert ids(tmp_path / "log") == ["d-1", "d-2", "d-3"]


@pytest.mark.parametrize("hangs", [False, True])
def test_while_the_disk_takes_nothing_the_oldest_lines_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    back, whole = threading.Event(), os.write

    def fails(descriptor: int, block: bytes) -> int:
        if hangs:
            assert back.wait(30)
        if not back.is_set():
            raise OSError(errno.EIO, "Input/output error")
        return whole(descriptor, block)

    monkeypatch.setattr(write, "_KEPT", 3)
    monkeypatch.setattr(os, "write", fails)
    log = writer(tmp_path)

    log.append([entry(number) for number in range(10)])
    full = log.status()
    back.set()
    log.close()

    assert (full.issued, full.written, full.dropped) == (10, 0, 7)
    assert log.status() == LogStatus(10, 3, 7, 0, None)
    assert ids(tmp_path / "log") == ["d-7", "d-8", "d-9"]


def test_a_job_s_decisions_are_in_the_store_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_AT_ONCE", 2)
    put_decisions(str(tmp_path / "log"), [entry(number) for number in range(5)])
    (tmp_path / "file").touch()

    assert ids(tmp_path / "log") == [f"d-{number}" for number in range(5)]
    with pytest.raises(SourceError):
        put_decisions(str(tmp_path / "file"), [entry()])
