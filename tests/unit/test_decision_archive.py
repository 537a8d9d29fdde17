"""Closed segments become Parquet, once and whole, and are still read as the log."""

import datetime as dt
import fcntl
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from monitoring import decisions
from monitoring.decisions import load_decisions
from pricing.decision.experiments import Arm, Assignment
from pricing.decision_log import archive, format
from pricing.decision_log.archive import default_archive
from pricing.decision_log.format import read_decisions
from pricing.errors import LockError, SourceError
from serving.compact import compact, main
from tests.unit.test_decision_log import NOON, entry, writer


def filled(folder: Path, *, days: int = 2) -> None:
    """One worker's life: three decisions a day."""
    log = writer(folder)
    for day in range(days):
        log.append([entry(3 * day + one, at=NOON + dt.timedelta(days=day)) for one in (1, 2, 3)])
    log.close()


def test_closed_segments_become_parquet_by_day_and_are_read_as_before(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    before = read_decisions(folder)

    assert compact(folder, to=str(default_archive(folder))) == (1, 6)

    after = read_decisions(folder)
    frame = pd.read_parquet(default_archive(folder))
    assert after == before
    assert not list(folder.glob("*.jsonl"))
    assert len(read_decisions(folder).records) == 6
    assert sorted(frame["day"].astype(str).unique()) == ["2026-03-06", "2026-03-07"]
    assert frame["recommended_price"].tolist() == [23.75] * 6
    assert frame["decision_id"].nunique() == 6
    assert frame["at"].dt.tz is not None


def test_what_a_living_worker_still_writes_to_stays(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    log = writer(folder, segment_bytes=1)
    for number in (1, 2):
        log.append([entry(number)])
        log.flush()

    compacted = compact(folder, to=str(default_archive(folder)))
    log.append([entry(3)])
    log.close()

    reading = read_decisions(folder)
    assert compacted == (1, 1)
    assert [record["decision"]["decision_id"] for record in reading.records] == ["d-1", "d-2", "d-3"]
    assert (reading.lost, reading.damaged) == (0, 0)


def test_compacting_twice_or_keeping_segments_doubles_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)

    for _ in range(2):
        compact(folder, to=str(default_archive(folder)), keep=True)

    reading = read_decisions(folder)
    assert (len(reading.records), reading.lost) == (6, 0)
    assert len(pd.read_parquet(default_archive(folder))) == 6


def test_a_damaged_segment_stays_and_its_loss_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=1)
    (segment,) = folder.glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2])

    compact(folder, to=str(default_archive(folder)))

    reading = read_decisions(folder)
    assert segment.exists()
    assert (len(reading.records), reading.damaged, reading.lost) == (2, 1, 1)


@pytest.mark.parametrize("name", ["worker", "at"])
def test_no_line_of_a_segment_says_where_its_archive_is_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "home" / "decisions"
    filled(folder, days=1)
    (segment,) = folder.glob("*.jsonl")
    record = json.loads(segment.read_bytes().splitlines()[0])
    segment.write_text(json.dumps({**record, name: "/../../../x"}) + "\n")

    compact(folder, to=str(default_archive(folder)))

    assert segment.exists()
    assert {path.name for path in tmp_path.rglob("*")} == {"home", "decisions", "compact.lock", *named(folder)}


def named(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("decisions-*") if path.suffix in (".jsonl", ".issued")}


def test_an_archive_that_cannot_be_written_leaves_the_segments(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    (tmp_path / "file").write_text("")

    with pytest.raises(SourceError, match="cannot be written"):
        compact(folder, to=str(tmp_path / "file"))

    assert len(list(folder.glob("*.jsonl"))) == 1


def test_the_command_says_what_it_did_or_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.delenv("PRICING_CONFIG", raising=False)

    missing = main([])
    filled(tmp_path / "decisions")
    done = main([])

    said = capsys.readouterr()
    assert (missing, done) == (2, 0)
    assert "no folder of decision logs" in said.err
    assert "6 decisions of 1 segments" in said.out


def test_compaction_under_a_reader_loses_it_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    workers = format._workers

    def overtaken(where: Path) -> Any:
        found = workers(where)
        monkeypatch.setattr(format, "_workers", workers)
        compact(folder, to=str(default_archive(folder)))
        return found

    monkeypatch.setattr(format, "_workers", overtaken)

    reading = read_decisions(folder)

    assert (len(reading.records), reading.lost) == (6, 0)


def test_an_archive_without_any_file_yet_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    (default_archive(folder) / "day=2026-03-06").mkdir(parents=True)
    (default_archive(folder) / "day=2026-03-06" / ".one.parquet.draft").write_text("")

    assert len(read_decisions(folder).records) == 6


def test_one_compaction_goes_on_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)

    with (folder / "compact.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LockError, match="is being compacted"):
            compact(folder, to=str(default_archive(folder)))

    assert compact(folder, to=str(default_archive(folder))) == (1, 6)


def test_a_segment_is_deleted_only_once_the_disk_holds_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    synced: list[bool] = []
    sync = os.fsync

    def watched(file: int) -> None:
        synced.append(any(folder.glob("*.jsonl")))
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)

    compact(folder, to=str(default_archive(folder)))

    assert synced == [True] * 5  # a file and its folder, for each of two days, and the note of it


def test_compaction_and_monitoring_keep_to_the_archive_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    filled(tmp_path / "decisions")
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("PRICING_DECISIONS_ARCHIVE", str(elsewhere))
    monkeypatch.delenv("PRICING_CONFIG", raising=False)

    assert main([]) == 0

    frame, findings = load_decisions(tmp_path / "decisions", now=NOON + dt.timedelta(days=9), archive=str(elsewhere))
    assert frame["decision_id"].tolist() == ["d-3", "d-6"]  # the last ones of each day
    assert {finding.code: finding.count for finding in findings} | {"superseded_archived": 4} == {
        finding.code: finding.count for finding in findings
    }
    assert "log_lost" not in [finding.code for finding in findings]
    assert not default_archive(tmp_path / "decisions").exists()


def test_decisions_in_an_archive_that_the_reader_is_not_told_of_are_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)

    compact(folder, to=str(tmp_path / "far"))

    untold, told = (read_decisions(folder, archive=where) for where in (None, tmp_path / "far"))
    assert (len(untold.records), untold.lost, untold.elsewhere) == (0, 0, 6)
    assert (len(told.records), told.lost, told.elsewhere) == (6, 0, 0)


def test_a_day_deleted_from_the_archive_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    compact(folder, to=str(default_archive(folder)))

    shutil.rmtree(default_archive(folder) / "day=2026-03-06")

    reading = read_decisions(folder)
    assert (len(reading.records), reading.lost, reading.elsewhere) == (3, 0, 3)


def test_a_segment_that_was_noted_and_not_deleted_yet_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    (segment,) = folder.glob("*.jsonl")
    content = segment.read_bytes()
    compact(folder, to=str(tmp_path / "far"))
    segment.write_bytes(content)

    reading = read_decisions(folder)

    assert (len(reading.records), reading.lost, reading.elsewhere) == (6, 0, 0)


def test_what_was_lost_before_an_archive_was_made_stays_lost(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    (issued,) = folder.glob("*.issued")
    issued.write_bytes((8).to_bytes(8, "little"))

    compact(folder, to=str(tmp_path / "far"))

    reading = read_decisions(folder)
    assert (reading.lost, reading.elsewhere) == (2, 6)


def test_a_segment_whose_move_cannot_be_noted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    monkeypatch.setattr(archive, "_note", lambda folder, _: folder / "no such folder" / "note")

    with pytest.raises(SourceError, match="cannot be written"):
        compact(folder, to=str(default_archive(folder)))

    assert len(list(folder.glob("*.jsonl"))) == 1
    monkeypatch.undo()
    assert len(read_decisions(folder).records) == 6


def test_a_torn_line_of_the_note_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    compact(folder, to=str(tmp_path / "far"))
    (note,) = folder.glob("*.archived")
    note.write_text(note.read_text() + "7")

    assert read_decisions(folder).elsewhere == 6


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "about to be deleted"])
def test_a_gap_inside_a_moved_segment_stays_a_loss(tmp_path: Path, deleted: bool) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    (segment,) = folder.glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    content = b"".join(lines[:2] + lines[4:])
    segment.write_bytes(content)

    compact(folder, to=str(tmp_path / "far"))

    if not deleted:
        segment.write_bytes(content)
    untold, told = (read_decisions(folder, archive=where) for where in (None, tmp_path / "far"))
    assert (len(untold.records), untold.lost, untold.elsewhere) == ((0, 2, 4) if deleted else (4, 2, 0))
    assert (len(told.records), told.lost, told.elsewhere) == (4, 2, 0)


LATER = NOON + dt.timedelta(days=60)


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The days of the archive whose files are opened from now on."""
    days: list[str] = []
    read = archive.DayOfArchive.read

    def watched(self: archive.DayOfArchive, columns: Any, **optional: Any) -> Any:
        days.extend(path.split("day=")[1][:10] for path in self.paths)
        return read(self, columns, **optional)

    monkeypatch.setattr(archive.DayOfArchive, "read", watched)
    return days


def test_days_before_the_first_wanted_are_not_opened_and_not_taken_for_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=4)
    compact(folder, to=str(default_archive(folder)))
    days = opened(monkeypatch)

    reading = read_decisions(folder, since=NOON + dt.timedelta(days=2))

    assert sorted(days) == ["2026-03-08", "2026-03-09"]
    assert (len(reading.records), reading.lost, reading.elsewhere) == (6, 0, 0)


def test_a_wanted_day_that_is_gone_from_the_archive_is_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=4)
    compact(folder, to=str(default_archive(folder)))
    shutil.rmtree(default_archive(folder) / "day=2026-03-09")
    shutil.rmtree(default_archive(folder) / "day=2026-03-06")

    assert read_decisions(folder, since=NOON + dt.timedelta(days=2)).elsewhere == 3


def test_monitoring_reads_the_same_decisions_from_the_archive_as_from_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    log = writer(folder)
    for day in (dt.timedelta(days=number) for number in range(3)):
        made = entry(day.days, at=NOON + day)
        stock = made.request.current_stock if day else None
        asked = made.request.model_copy(update={"current_stock": stock})
        log.append([replace(made, request=asked, date=NOON.date() + day)])
    log.close()
    before, _ = load_decisions(folder, now=LATER)

    compact(folder, to=str(default_archive(folder)))

    after, findings = load_decisions(folder, now=LATER)
    assert not [finding for finding in findings if finding.level != "note"]
    assert after["candidate_price"].map(list).tolist() == before["candidate_price"].map(list).tolist()
    lists = ["candidate_price", "candidate_units", "candidate_size"]
    pd.testing.assert_frame_equal(after.drop(columns=lists), before.drop(columns=lists))


def test_monitoring_opens_the_wanted_days_alone_once_the_log_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=4)
    compact(folder, to=str(default_archive(folder)))
    days = opened(monkeypatch)
    since = NOON.date() + dt.timedelta(days=2)

    small, _ = load_decisions(folder, now=LATER, since=since)
    seen, days[:] = sorted(days), []
    monkeypatch.setattr(decisions, "FEW", 1)
    large, findings = load_decisions(folder, now=LATER, since=since)

    assert (len(small), seen) == (4, ["2026-03-06", "2026-03-07", "2026-03-08", "2026-03-09"])
    assert (len(large), sorted(days)) == (2, ["2026-03-08", "2026-03-09"])
    assert not {"log_lost", "log_elsewhere"} & {finding.code for finding in findings}


def test_a_file_that_lacks_a_column_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=1)
    compact(folder, to=str(default_archive(folder)))
    (file,) = default_archive(folder).rglob("*.parquet")
    pd.read_parquet(file, partitioning=None).drop(columns=["unit", "deviation"]).to_parquet(file)

    with pytest.raises(SourceError, match=r"no column unit.*; start a new archive"):
        load_decisions(folder, now=LATER)
    with pytest.raises(SourceError, match=r"no column deviation.*; start a new archive"):
        read_decisions(folder, drawn=True)


def test_training_opens_no_day_before_the_first_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "decisions"
    log = writer(folder)
    draw = Assignment("spring", Arm("draw", share=0.5, size=0.02), deviation=0.02, base=24.0)
    for day in range(4):
        log.append([replace(entry(day, at=NOON + dt.timedelta(days=day)), experiment=draw if day == 2 else None)])
    log.close()
    compact(folder, to=str(default_archive(folder)))

    reading = read_decisions(folder, drawn=True)
    (archived,) = load_decisions(folder, now=LATER)[0]["experiment"].dropna()

    assert [record["decision"]["decision_id"] for record in reading.records] == ["d-2", "d-3"]
    assert (reading.lost, reading.elsewhere) == (0, 0)
    assert archived == "spring/draw"


def test_days_beyond_what_is_kept_are_deleted_by_listing_and_only_compactions_own_files(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=3)
    where = default_archive(folder)
    compact(folder, to=str(where))
    (where / "day=2026-03-07" / "mine.parquet").write_text("kept")
    (where / "day=..").mkdir()
    (where / "notes").mkdir()

    assert archive.delete_days(where, before=dt.date(2026, 3, 8), log=folder) == 2

    assert sorted(path.name for path in where.iterdir()) == ["day=..", "day=2026-03-07", "day=2026-03-08", "notes"]
    assert [path.name for path in (where / "day=2026-03-07").iterdir()] == ["mine.parquet"]


def test_days_that_were_deleted_on_purpose_are_neither_lost_nor_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=4)
    where = default_archive(folder)
    compact(folder, to=str(where))
    archive.delete_days(where, before=dt.date(2026, 3, 8), log=folder)

    kept, findings = load_decisions(folder, now=LATER)
    shutil.rmtree(where / "day=2026-03-08")
    gone = read_decisions(folder)

    assert kept["decision_id"].tolist() == ["d-9", "d-12"]
    assert not {"log_lost", "log_elsewhere"} & {finding.code for finding in findings}
    assert (gone.lost, gone.elsewhere) == (0, 3)


def test_a_note_of_deleted_days_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    filled(folder)
    (folder / "archive-kept-since").write_text("soon")

    with pytest.raises(SourceError, match="archive-kept-since: is no day such as 2026-03-31"):
        read_decisions(folder)


def test_compaction_under_monitoring_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "decisions"
    filled(folder, days=1)
    compact(folder, to=str(default_archive(folder)))
    log = writer(folder)
    log.append([entry(9, at=NOON + dt.timedelta(days=1))])
    log.close()
    lines = format._lines

    def overtaken(path: Path) -> Any:
        monkeypatch.setattr(format, "_lines", lines)
        compact(folder, to=str(default_archive(folder)))
        return lines(path)

    monkeypatch.setattr(format, "_lines", overtaken)

    found, findings = load_decisions(folder, now=LATER)

    assert found["decision_id"].tolist() == ["d-3", "d-9"]
    assert {finding.code: finding.count for finding in findings} == {
        "superseded_archived": 2,
        "decided_late": 1,
    }


def test_the_command_deletes_days_that_are_older_than_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.yaml").write_text("serving: {log_days: 140}\n")
    monkeypatch.delenv("PRICING_CONFIG", raising=False)
    folder = tmp_path / "home" / "decisions"
    log = writer(folder)
    now = dt.datetime.now(dt.UTC)
    log.append([entry(1, at=now - dt.timedelta(days=142)), entry(2, at=now - dt.timedelta(days=139))])
    log.close()

    assert main(["--config", str(tmp_path / "mine.yaml")]) == 0

    assert [record["decision"]["decision_id"] for record in read_decisions(folder).records] == ["d-2"]
    assert "1 day(s) older than 140 days are deleted" in capsys.readouterr().out
