"""When the container `nightly` starts a night: once for each day that is due, whatever restarts it."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipelines.schedule import is_due, last_due, main, remember

BERLIN = ZoneInfo("Europe/Berlin")
AT = dt.time(2, 30)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def due(file: Path, at: str) -> bool:
    return is_due(file, now=utc(at), at=AT, zone=BERLIN)


def test_the_first_look_starts_nothing_and_each_night_is_started_once(tmp_path: Path) -> None:
    file = tmp_path / "schedule"

    assert [due(file, f"2026-03-0{moment}") for moment in ("1T12:00", "2T01:29", "2T01:31")] == [False, False, True]
    remember(file, utc("2026-03-02T01:31"))
    assert [due(file, f"2026-03-0{moment}") for moment in ("2T01:32", "2T23:00", "3T01:30")] == [False, False, True]


def test_a_night_that_was_due_meanwhile_or_was_cut_off_is_started_at_once_and_once_for_several(tmp_path: Path) -> None:
    file = tmp_path / "schedule"
    remember(file, utc("2026-03-01T12:00"))

    assert due(file, "2026-03-05T11:00")
    assert due(file, "2026-03-05T11:01"), "it did not come to its end"
    remember(file, utc("2026-03-05T11:01"))
    assert not due(file, "2026-03-05T12:00")


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


@pytest.mark.parametrize(
    "words",
    [["--at", "25:00"], ["--at", "half past two"], ["--zone", "Berlin"], ["--zone", "../x"], ["--", "--sales", ""]],
)
def test_what_would_fail_every_night_is_refused_at_the_start(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))

    assert main(words) == 2
