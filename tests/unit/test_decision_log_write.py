import datetime as dt
import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log import write
from pricing.decision_log.read import read_decisions
from pricing.decision_log.write import LogEntry, LogStatus, LogWriter
from pricing.errors import ConfigError
from tests.kit.monitoring_world import detailed, redecided

NOON = dt.datetime(2026, 3, 6, 12, tzinfo=dt.UTC)
AMOUNTS = st.floats(-1e15, 1e15) | st.sampled_from([math.nan, math.inf, -math.inf])


def entry(number: int = 1, *, at: dt.datetime = NOON, product_id: str = "Tee ☕") -> LogEntry:
    request = PriceRequest(product_id=product_id, current_stock=3, day_of_week="Friday", comp_price=21.5)
    decision = Decision(
        recommended_price=23.75, confidence=0.87, price_range=(23.0, 24.5), expected_units=4.2, expected_margin=31.0,
        source="model", reasons=["stock"], strategy="margin", model_version="7", decision_id=f"d-{number}",
    )  # fmt: skip
    answer = detailed(
        decision, date=dt.date(2026, 3, 6), category="tea", current_price=24.0, list_price=25.0, unit_cost=math.nan,
        candidate_prices=[20.0, 25.0], candidate_units=[6.0, 3.5], candidate_sizes=[2.0, 4.0], unit=0.5,
    )  # fmt: skip
    return LogEntry(request, answer, at)


def ids(url: Path) -> list[str]:
    return sorted(record["decision"]["decision_id"] for record in read_decisions(str(url)).records)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@given(product_id=st.text(min_size=1, max_size=50))
def test_every_product_id_makes_one_line_of_json(product_id: str) -> None:
    line = entry(product_id=product_id).encode()

    assert line.count(b"\n") == 1
    assert json.loads(line)["product_id"] == product_id


@given(numbers=st.lists(AMOUNTS, max_size=5), price=st.none() | AMOUNTS)
def test_every_number_is_strict_json_and_close_to_what_it_was(numbers: list[float], price: float | None) -> None:
    one = redecided(entry(), candidate_prices=numbers, current_price=price)

    record = json.loads(one.encode(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))

    for number, kept in zip([price, *numbers], [record["current_price"], *record["candidates"]["price"]], strict=True):
        expected = None if number is None or not math.isfinite(number) else pytest.approx(number, rel=1e-5)
        assert kept == expected


def test_a_stop_sends_every_decision_under_the_day_and_the_worker(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "segments", url=str(tmp_path / "log"))

    log.append([entry(number) for number in range(3)])
    log.close()

    (sent,) = (tmp_path / "log").rglob("*.jsonl")
    today = dt.datetime.now(dt.UTC).date()
    assert sent.relative_to(tmp_path / "log").as_posix() == f"lines/{today}/{log.worker}-000000.jsonl"
    assert [json.loads(line)["sequence"] for line in sent.read_text().splitlines()] == [1, 2, 3]
    assert ids(tmp_path / "log") == ["d-0", "d-1", "d-2"]
    assert list((tmp_path / "segments").iterdir()) == []
    assert log.status() == LogStatus(3, 3, 0, 0, None)


def test_a_segment_is_sent_while_the_worker_goes_on(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "segments", url=str(tmp_path / "log"), segment_seconds=0.05)

    for number in (1, 2):
        log.append([entry(number)])
        until(lambda sent=number: len(list((tmp_path / "log").rglob("*.jsonl"))) == sent)  # type: ignore[misc]

    log.close()
    assert ids(tmp_path / "log") == ["d-1", "d-2"]


def test_a_store_that_is_away_for_a_while_loses_nothing_and_stops_no_price(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")
    log = LogWriter(tmp_path / "segments", url=str(tmp_path / "log"), segment_seconds=0.05)

    log.append([entry(1)])
    until(lambda: log.status().waiting == 1)
    away = log.status()
    (tmp_path / "log").unlink()
    until(lambda: log.status().waiting == 0)
    back = log.status()
    log.close()

    assert (away.written, away.failure) == (1, None)  # of the disk
    assert (away.written, back.failure) == (1, None)
    assert ids(tmp_path / "log") == ["d-1"]


def test_what_a_stop_could_not_send_the_next_worker_sends(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")
    stopped = LogWriter(tmp_path / "segments", url=str(tmp_path / "log"))
    stopped.append([entry(1)])
    stopped.close()
    (tmp_path / "log").unlink()

    LogWriter(tmp_path / "segments", url=str(tmp_path / "log")).close()

    assert stopped.status().waiting == 1
    assert ids(tmp_path / "log") == ["d-1"]


KILLED = """
import sys, time
from pathlib import Path
from pricing.decision_log.write import LogWriter
from tests.unit.test_decision_log_write import entry
log = LogWriter(Path(sys.argv[1]), url=sys.argv[2])
log.append([entry(number) for number in range(100)])
while log.status().written < 100 or not list(Path(sys.argv[1]).glob("*.open")):
    time.sleep(0.1)
print("written", flush=True)
time.sleep(60)
"""


def test_of_a_killed_worker_the_segment_is_sent_and_of_a_living_one_it_is_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "segments"), str(tmp_path / "log")]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"written\n"

    LogWriter(tmp_path / "segments", url=str(tmp_path / "log")).close()
    of_living = ids(tmp_path / "log")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    LogWriter(tmp_path / "segments", url=str(tmp_path / "log")).close()

    assert of_living == []
    assert len(ids(tmp_path / "log")) == 100


def test_a_full_disk_stops_no_price_and_leaves_no_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, whole = True, os.write

    def part(descriptor: int, block: bytes) -> int:
        if full:
            whole(descriptor, block[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, block[:100])  # and some disks take a part at a time

    monkeypatch.setattr(os, "write", part)
    log = LogWriter(tmp_path / "segments", url=str(tmp_path / "log"))
    log.append([entry(1), entry(2)])
    until(lambda: log.status().failure is not None)
    failed = log.status()
    full = False
    log.append([entry(3)])
    log.close()

    assert failed == LogStatus(2, 0, 0, 0, f"{tmp_path / 'segments'}: No space left on device")
    assert log.status() == LogStatus(3, 3, 0, 0, None)
    assert (ids(tmp_path / "log"), read_decisions(str(tmp_path / "log")).damaged) == (["d-1", "d-2", "d-3"], 0)


def test_of_more_than_fits_in_memory_while_the_disk_takes_nothing_the_oldest_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_KEPT", 3)
    (tmp_path / "segments").write_text("in the way")
    log = LogWriter(tmp_path / "segments", url=str(tmp_path / "log"))

    log.append([entry(number) for number in range(10)])
    until(lambda: log.status().dropped > 0)
    full = log.status()
    (tmp_path / "segments").unlink()
    log.close()

    assert (full.issued, full.written, full.dropped) == (10, 0, 7)
    assert log.status() == LogStatus(10, 3, 7, 0, None)
    assert ids(tmp_path / "log") == ["d-7", "d-8", "d-9"]


def test_an_open_segment_is_locked_and_an_empty_one_that_was_left_is_deleted(tmp_path: Path) -> None:
    segments = tmp_path / "segments"
    segments.mkdir()
    (segments / "left-000000.open").touch()
    log = LogWriter(segments, url=str(tmp_path / "log"))
    log.append([entry(1)])
    until(lambda: log.status().written == 1)

    (segment,) = segments.glob(f"{log.worker}*.open")
    with segment.open("rb") as opened, pytest.raises(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    log.close()

    assert ids(tmp_path / "log") == ["d-1"]


def test_an_address_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        LogWriter(tmp_path, url="gs://bucket")
