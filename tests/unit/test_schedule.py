"""When the container `nightly` starts a night: once for each day that is due, whatever restarts it."""

import datetime as dt
import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipelines.schedule import ATTEMPTS, last_due, main, pass_time
from pricing.runtime.cli import EXIT_KNOWN_ERROR

BERLIN = ZoneInfo("Europe/Berlin")
AT = dt.time(2, 30)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


class Clock:
    """A scheduler's home, and what it started."""

    def __init__(self, home: Path) -> None:
        self.file = home / "schedule.json"
        self.started: list[str] = []

    def look(self, at: str, *, code: int = 0, dies: bool = False) -> int | None:
        def start() -> int:
            self.started.append(at)
            if dies:
                raise KeyboardInterrupt
            return code

        return pass_time(self.file, at=AT, zone=BERLIN, start=start, now=lambda: utc(at))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    clock = Clock(tmp_path)
    clock.look("2026-03-01T12:00")
    return clock


def test_the_first_look_starts_nothing_and_the_next_night_is_started_once(clock: Clock) -> None:
    for moment in ("2026-03-02T01:29", "2026-03-02T01:31", "2026-03-02T01:32", "2026-03-02T23:00"):
        clock.look(moment)

    assert clock.started == ["2026-03-02T01:31"]


def test_a_night_that_was_due_while_the_container_stood_still_is_started_late_and_once_for_several(
    clock: Clock,
) -> None:
    clock.look("2026-03-05T11:00")
    clock.look("2026-03-05T11:01")

    assert clock.started == ["2026-03-05T11:00"]


def test_a_night_that_failed_is_not_started_again(clock: Clock) -> None:
    code = clock.look("2026-03-02T02:00", code=2)
    clock.look("2026-03-02T02:01")

    assert code == 2
    assert len(clock.started) == 1


def test_a_night_that_something_cut_off_is_started_again_and_then_given_up(clock: Clock) -> None:
    for minute in range(ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            clock.look(f"2026-03-02T02:0{minute}", dies=True)
    clock.look("2026-03-02T02:09")
    clock.look("2026-03-03T02:09")

    assert clock.started == ["2026-03-02T02:00", "2026-03-02T02:01", "2026-03-03T02:09"]


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-03-28T12:00", "2026-03-28T01:30"),
        ("2026-03-29T12:00", "2026-03-29T01:30"),  # 02:30 does not exist in Berlin on that day
        ("2026-03-30T12:00", "2026-03-30T00:30"),
        ("2026-10-25T12:00", "2026-10-25T00:30"),  # there 02:30 comes twice, and the first counts
        ("2026-10-26T01:00", "2026-10-25T00:30"),
    ],
)
def test_a_night_is_due_at_one_local_time_though_clocks_are_changed(now: str, due: str) -> None:
    assert last_due(utc(now), at=AT, zone=BERLIN) == utc(due)


def test_an_earlier_time_of_day_does_not_start_the_same_night_again(clock: Clock) -> None:
    clock.look("2026-03-02T02:00")

    pass_time(clock.file, at=dt.time(1, 0), zone=BERLIN, start=lambda: 1 // 0, now=lambda: utc("2026-03-02T03:00"))

    assert json.loads(clock.file.read_text())["code"] == 0


def test_a_damaged_memory_counts_as_none(clock: Clock) -> None:
    clock.file.write_text("{")

    assert clock.look("2026-03-02T02:00") is None
    assert clock.look("2026-03-03T02:00") == 0


@pytest.mark.parametrize(
    "words", [["--at", "25:00"], ["--at", "half past two"], ["--zone", "Berlin"], ["--zone", "../x"]]
)
def test_a_time_or_zone_that_is_none_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))

    assert main(words) == EXIT_KNOWN_ERROR
    assert repr(words[1]) in capsys.readouterr().err


def test_sales_that_nobody_named_are_refused_at_the_start_and_not_every_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))

    assert main(["--", "--sales", ""]) == EXIT_KNOWN_ERROR
    assert "--sales: is empty" in capsys.readouterr().err
