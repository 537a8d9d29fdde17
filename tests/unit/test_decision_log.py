import datetime as dt
import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from monitoring.decisions import tabulate
from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log.format import REQUIRED, LogEntry, read_decisions
from pricing.decision_log.writer import LATE, LogStatus, LogWriter
from pricing.errors import SourceError

NOON = dt.datetime(2026, 3, 6, 12, tzinfo=dt.UTC)


def entry(number: int = 1, *, at: dt.datetime = NOON, product_id: str = "Tee ☕") -> LogEntry:
    request = PriceRequest(product_id=product_id, current_stock=3, day_of_week="Friday", comp_price=21.5)
    decision = Decision(
        recommended_price=23.75, confidence=0.87, price_range=(23.0, 24.5), expected_units=4.2, expected_margin=31.0,
        source="model", reasons=["stock"], strategy="margin", model_version="7", decision_id=f"d-{number}",
    )  # fmt: skip
    return LogEntry(
        request=request, decision=decision, at=at, date=dt.date(2026, 3, 6), category="tea", current_price=24.0,
        list_price=25.0, unit_cost=float("nan"), candidate_prices=(20.0, 25.0), candidate_units=(6.0, 3.5),
        candidate_sizes=(2.0, 4.0), unit=0.5,
    )  # fmt: skip


def writer(folder: Path, **options: object) -> LogWriter:
    return LogWriter(folder, flush_seconds=3600, **options)  # type: ignore[arg-type]


def test_what_is_written_is_read_back_whole(tmp_path: Path) -> None:
    log = writer(tmp_path)

    log.append([entry(1), entry(2)])
    log.close()

    reading = read_decisions(tmp_path)
    first = reading.records[0]
    assert [record["decision"]["decision_id"] for record in reading.records] == ["d-1", "d-2"]
    assert first.keys() == REQUIRED
    assert first["request"] == {
        "product_id": "Tee ☕", "current_stock": 3.0, "day_of_week": "Friday", "comp_price": 21.5, "is_promo": False,
    }  # fmt: skip
    assert first["decision"] == json.loads(entry(1).decision.model_dump_json())
    ends = {
        name: (0.5 * nbinom.ppf(at, [2, 4], [2 / 14, 4 / 11])).tolist() for name, at in (("q10", 0.1), ("q90", 0.9))
    }
    assert first["candidates"] == {"price": [20.0, 25.0], "units": [6.0, 3.5], "size": [2.0, 4.0], "unit": 0.5, **ends}
    assert first["unit_cost"] is None
    assert (reading.damaged, reading.lost, reading.pending) == (0, 0, 0)


def test_a_decision_on_an_unknown_stock_is_logged_and_read_without_one(tmp_path: Path) -> None:
    log, known = writer(tmp_path), entry(1)
    log.append([replace(known, request=known.request.model_copy(update={"current_stock": None}))])
    log.close()

    reading = read_decisions(tmp_path)
    frame, findings = tabulate(reading, now=NOON)

    assert "current_stock" not in reading.records[0]["request"]
    assert frame["stock"].isna().all()
    assert findings == []


def test_a_line_that_stands_twice_hides_no_lost_one(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append([entry(1), entry(2), entry(3)])
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    first, _, third = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first + first + third)

    reading = read_decisions(tmp_path)

    assert [record["decision"]["decision_id"] for record in reading.records] == ["d-1", "d-3"]
    assert (reading.lost, reading.repeated) == (1, 1)


def test_a_decision_is_on_the_disk_before_it_is_answered_where_that_is_asked(tmp_path: Path) -> None:
    for sync in (True, False):
        log = writer(tmp_path / str(sync), sync=sync)
        log.append([entry(1)])
        assert len(read_decisions(tmp_path / str(sync)).records) == sync
        log.close()


@given(product_id=st.text(min_size=1, max_size=50))
def test_every_product_id_makes_one_line_of_json(product_id: str) -> None:
    line = entry(product_id=product_id).encode()

    assert line.count(b"\n") == 1
    assert json.loads(line)["product_id"] == product_id


AMOUNTS = st.floats(-1e15, 1e15) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(numbers=st.lists(AMOUNTS, max_size=5), price=st.none() | AMOUNTS)
def test_every_number_is_strict_json_and_close_to_what_it_was(numbers: list[float], price: float | None) -> None:
    one = replace(entry(), candidate_prices=numbers, current_price=price)

    record = json.loads(one.encode(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))

    for number, kept in zip([price, *numbers], [record["current_price"], *record["candidates"]["price"]], strict=True):
        if number is None or not math.isfinite(number):
            assert kept is None
        else:
            assert kept == pytest.approx(number, rel=1e-5)


@pytest.mark.parametrize("candidates", [{"price": [20, 25], "units": [6, 3.5]}, {"price": [], "units": [], "size": []},
    {"price": [20], "units": [6], "size": [None]}, {"price": [20], "units": [6], "size": [1, 2]},
    {"price": [20], "units": [6], "size": [1], "unit": None},
    {"price": [20], "units": [6], "size": [1], "unit": 0}])  # fmt: skip
def test_lines_without_whole_sizes_stay_readable_and_have_no_interval(tmp_path: Path, candidates: Any) -> None:
    log = writer(tmp_path)
    log.append([entry()])
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    segment.write_text(json.dumps({**json.loads(segment.read_text()), "candidates": candidates}) + "\n")

    reading = read_decisions(tmp_path)

    assert reading.records[0]["candidates"] == candidates
    assert (reading.damaged, reading.lost) == (0, 0)


def test_a_line_reaches_the_disk_without_being_asked_within_the_flush_time(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, flush_seconds=0.01)

    log.append([entry()])

    deadline = time.monotonic() + 10
    while not read_decisions(tmp_path).records and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(read_decisions(tmp_path).records) == 1
    log.close()


def test_decisions_of_a_living_worker_that_wait_are_pending_not_lost(tmp_path: Path) -> None:
    log = writer(tmp_path)

    log.append([entry(1), entry(2), entry(3)])

    reading = read_decisions(tmp_path)
    assert (len(reading.records), reading.lost, reading.pending) == (0, 0, 3)
    log.close()


def test_a_killed_worker_leaves_a_count_of_what_it_lost(tmp_path: Path) -> None:
    program = (
        "import sys, time; sys.path.insert(0, 'tests/unit')\n"
        "from pathlib import Path; from test_decision_log import entry, writer\n"
        f"log = writer(Path({str(tmp_path)!r}))\n"
        "log.append([entry(1), entry(2)]); log.flush(); log.append([entry(3), entry(4), entry(5)])\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        worker.send_signal(signal.SIGKILL)

    reading = read_decisions(tmp_path)

    assert (len(reading.records), reading.lost, reading.pending) == (2, 3, 0)


def test_damaged_lines_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append([entry(1), entry(2), entry(3)])
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(lines[0] + b"\x00\xff garbage\n" + lines[2][: len(lines[2]) // 2])

    reading = read_decisions(tmp_path)

    assert [record["decision"]["decision_id"] for record in reading.records] == ["d-1"]
    assert (reading.damaged, reading.lost) == (2, 2)


@pytest.mark.parametrize("change", [{"schema": 1}, {"schema": 99}, {"sequence": "1"}, {"at": None}])
def test_a_line_of_another_schema_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    log = writer(tmp_path)
    log.append([entry()])
    log.close()
    (segment,) = tmp_path.glob("*.jsonl")
    segment.write_text(json.dumps(json.loads(segment.read_text()) | change) + "\n")

    assert read_decisions(tmp_path).damaged == 1


def test_segments_rotate_and_removing_old_ones_is_no_loss(tmp_path: Path) -> None:
    log = writer(tmp_path, segment_bytes=1)
    for number in range(4):
        log.append([entry(number)])
        log.flush()
    log.close()
    segments = sorted(tmp_path.glob("*.jsonl"))

    whole = read_decisions(tmp_path)
    segments[0].unlink()
    without_first = read_decisions(tmp_path)
    segments[2].unlink()
    without_middle = read_decisions(tmp_path)

    assert len(segments) == 4
    assert (len(whole.records), whole.lost) == (4, 0)
    assert (len(without_first.records), without_first.lost) == (3, 0)
    assert (len(without_middle.records), without_middle.lost) == (2, 1)


def test_a_full_disk_keeps_the_decisions_and_writes_them_once_when_there_is_room(tmp_path: Path) -> None:
    full = True

    def write(descriptor: int, data: bytes) -> int:
        if full and len(data) < 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data[:1000] if full else data)

    log = writer(tmp_path, write=write)
    log.append([entry(1), entry(2)])
    log.flush()
    broken = log.status()
    full = False
    log.append([entry(3)])
    log.flush()

    reading = read_decisions(tmp_path)
    assert broken.failure is not None
    assert "No space" in broken.failure
    assert log.status().failure is None
    assert [record["sequence"] for record in reading.records] == [1, 2, 3]
    assert (reading.damaged, reading.lost) == (0, 0)
    log.close()


def test_what_no_longer_fits_in_memory_is_dropped_oldest_first_and_counted(tmp_path: Path) -> None:
    full = True

    def write(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data)

    room_for_two = 2 * (len(entry().encode()) + 100)
    log = writer(tmp_path, write=write, pending_bytes=room_for_two)
    for number in range(1, 6):
        log.append([entry(number)])
        log.flush()
    dropped = log.status().dropped
    full = False
    log.close()

    reading = read_decisions(tmp_path)
    assert dropped == 3
    assert [record["decision"]["decision_id"] for record in reading.records] == ["d-4", "d-5"]
    assert log.status().written == 2


@pytest.mark.parametrize("ending", ["it goes on", "it fails"])
def test_a_disk_that_hangs_costs_no_more_memory_than_the_limit_and_is_told(tmp_path: Path, ending: str) -> None:
    begun, go_on = threading.Event(), threading.Event()
    now = 0.0

    def write(descriptor: int, data: bytes) -> int:
        begun.set()
        hung = not go_on.is_set()
        assert go_on.wait(30)
        if hung and ending == "it fails":
            raise OSError(errno.EIO, "Input/output error")
        return os.write(descriptor, data)

    room_for_two = 2 * (len(entry().encode()) + 100)
    log = LogWriter(tmp_path, flush_seconds=100, write=write, pending_bytes=room_for_two, clock=lambda: now)
    log.append([entry(1)])
    flush = threading.Thread(target=log.flush)
    flush.start()
    assert begun.wait(30)
    for number in range(2, 7):
        log.append([entry(number)])
    soon = log.status()
    now = 100.0 * LATE + 1
    later = log.status()
    go_on.set()
    flush.join(30)
    log.close()

    reading = read_decisions(tmp_path)
    kept = [record["sequence"] for record in reading.records]
    assert soon == LogStatus(issued=6, written=0, dropped=3, failure=None)
    assert later.failure is not None
    assert kept == ([1, 5, 6] if ending == "it goes on" else [5, 6])
    assert log.status() == LogStatus(issued=6, written=len(kept), dropped=6 - len(kept), failure=None)
    assert reading.damaged == 0
    if ending == "it goes on":
        assert reading.lost == 3


def test_a_folder_that_cannot_be_made_stops_the_log_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = writer(tmp_path / "file" / "decisions")

    log.append([entry()])
    log.flush()

    assert log.status().failure is not None
    log.close()


def test_a_segment_deleted_under_the_writer_is_replaced(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append([entry(1)])
    log.flush()
    for segment in tmp_path.glob("*.jsonl"):
        segment.unlink()

    log.append([entry(2)])
    log.flush()

    assert [record["sequence"] for record in read_decisions(tmp_path).records] == [2]
    log.close()


def test_the_reader_leaves_out_what_is_older(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append([entry(1, at=NOON - dt.timedelta(hours=2)), entry(2)])
    log.close()

    recent = read_decisions(tmp_path, since=NOON - dt.timedelta(hours=1))
    all_of_them = read_decisions(tmp_path)

    assert [record["sequence"] for record in recent.records] == [2]
    assert len(all_of_them.records) == 2
    assert recent.lost == all_of_them.lost == 0


def test_what_the_reader_leaves_out_takes_no_memory(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.append([entry(number) for number in range(1, 501)])
    log.close()

    def peak(**options: Any) -> int:
        tracemalloc.start()
        read_decisions(tmp_path, **options)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    whole = peak()
    part = peak(since=NOON + dt.timedelta(days=1))

    assert part < 0.2 * whole


def test_reading_a_missing_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="PRICING_HOME/decisions"):
        read_decisions(tmp_path / "nowhere")
