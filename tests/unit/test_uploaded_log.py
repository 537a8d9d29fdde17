"""What serving tasks uploaded: read by monitoring as a log on disk is, and compacted into the archive."""

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from monitoring.decisions import load_decisions
from pricing.decision_log.format import LogReading, read_decisions
from pricing.objects import FolderStore
from pricing.decision_log.places import log_places
from pricing.decision_log.uploads import count_key, list_uploads, note_compacted
from pricing.errors import LockError, SourceError
from serving import compact as compaction
from serving.compact import LOCK, compact_uploads, main
from serving.log_upload import LogUpload
from tests.unit.test_decision_log import NOON, entry, writer

TODAY = NOON.date() + dt.timedelta(days=2)
NOW = NOON + dt.timedelta(days=2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two tasks with a worker each: three decisions a day on three days, in two uploads a day."""
    for number, task in enumerate(("one", "two")):
        folder = tmp_path / task
        upload = LogUpload(
            folder / "decisions", store=lambda: FolderStore(tmp_path / "store"), task=task, status=folder / "status",
            waiting_bytes=10**9,
        )  # fmt: skip
        log = writer(folder / "decisions")
        for day in range(3):
            at, name = NOON + dt.timedelta(days=day), 100 * number + 10 * day
            log.append([entry(name + one, at=at, product_id=f"{task} {day} a") for one in (1, 2)])
            log.flush()
            upload.look()
            log.append([entry(name + 3, at=at, product_id=f"{task} {day} b")])
            log.flush()
            upload.look()
        log.close()
        upload.look()
    return tmp_path


def read(home: Path, *, archive: str | None = None, since: dt.datetime | None = None) -> LogReading:
    where = archive or str(home / "archive")
    return read_decisions(home / "none", uploads=str(home / "store"), archive=where, since=since)


def compacted(home: Path, **options: bool) -> tuple[int, int]:
    return compact_uploads(str(home / "store"), to=str(home / "archive"), before=TODAY, **options)


def days_of_lines(home: Path) -> list[str]:
    return sorted({one.day for one in list_uploads(FolderStore(home / "store")).lines})


def test_past_days_go_into_the_archive_and_are_read_as_before(home: Path) -> None:
    before = read(home)

    assert compacted(home) == (8, 12)

    assert read(home) == before
    assert len(before.records) == 18
    assert (before.lost, before.damaged, before.elsewhere) == (0, 0, 0)
    assert days_of_lines(home) == ["2026-03-08"]
    assert len(list((home / "archive").rglob("*.parquet"))) == 4
    assert compacted(home) == (0, 0)


def test_monitoring_reads_uploads_as_it_reads_a_log(home: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for one in list_uploads(FolderStore(home / "store")).lines:
        content = (home / "store" / one.key).read_bytes()
        with (tmp_path / "log" / f"decisions-{one.worker}-000000000001.jsonl").open("ab") as segment:
            segment.write(content)
    on_disk, _ = load_decisions(tmp_path / "log", now=NOW)

    for _ in ("uploaded", "compacted"):
        uploaded, findings = load_decisions(
            home / "none", now=NOW, uploads=str(home / "store"), archive=str(home / "archive")
        )
        assert set(uploaded["product_id"]) == set(on_disk["product_id"])
        assert "log_lost" not in [finding.code for finding in findings]
        compacted(home)


def test_monitoring_lists_the_days_of_its_windows_alone(home: Path) -> None:
    store = FolderStore(home / "store")
    old = [one.key for one in list_uploads(store, before=NOON.date() + dt.timedelta(days=1)).lines]
    for key in old:
        store.put(key, b"not looked at\n")

    frame, findings = load_decisions(
        home / "none", now=NOW, uploads=str(home / "store"), archive=str(home / "archive"), since=TODAY
    )

    assert set(frame["product_id"]) == {"one 2 a", "one 2 b", "two 2 a", "two 2 b"}
    assert "log_damaged" not in [finding.code for finding in findings]


def test_damaged_lines_of_uploads_are_told_and_not_counted_twice(home: Path) -> None:
    store = FolderStore(home / "store")
    key = list_uploads(store).lines[0].key
    (content,) = store.read([key])
    store.put(key, (content or b"").replace(b'"sequence"', b'"sequels"', 1))

    _, findings = load_decisions(home / "none", now=NOW, uploads=str(home / "store"), archive=str(home / "archive"))

    codes = {finding.code: finding.count for finding in findings}
    assert codes["log_damaged"] == 1
    assert "log_lost" not in codes


def test_decisions_between_those_that_came_are_lost_and_a_worker_of_which_none_came_is_unknown(home: Path) -> None:
    store = FolderStore(home / "store")
    lines = list_uploads(store).lines
    first = lines[0].worker
    middle = [one for one in lines if one.worker == first][2]
    store.delete([middle.key, *(one.key for one in lines if one.worker != first)])
    for count in list_uploads(store).counts:
        store.delete([count])

    reading = read(home)

    assert (len(reading.records), reading.lost) == (
        9 - (middle.last - middle.first + 1),
        middle.last - middle.first + 1,
    )


def test_the_count_of_a_worker_that_ended_tells_its_lost_tail_also_once_its_lines_are_archived(home: Path) -> None:
    store = FolderStore(home / "store")
    (worker, *_) = sorted({one.worker for one in list_uploads(store).lines})
    store.put(count_key(day="2026-03-07", task="one", worker=worker, issued=11), b"")
    before = read(home).lost

    compact_uploads(str(home / "store"), to=str(home / "archive"), before=TODAY + dt.timedelta(days=1))

    assert (before, read(home).lost) == (2, 2)


def test_decisions_of_an_archive_that_the_reader_is_not_told_of_are_elsewhere(home: Path) -> None:
    compacted(home)

    reading = read(home, archive=str(home / "wrong"))

    assert (len(reading.records), reading.lost, reading.elsewhere) == (6, 0, 12)
    assert read(home, archive=str(home / "wrong"), since=NOW).elsewhere == 0


@pytest.mark.parametrize("step", ["write_archive", "note_compacted", "delete"])
def test_a_compaction_that_was_interrupted_loses_nothing_and_is_simply_repeated(
    home: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(home)
    target = FolderStore if step == "delete" else compaction
    real: Callable[..., object] = getattr(target, step)
    calls: list[object] = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(target, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        compacted(home)
    monkeypatch.undo()

    assert read(home) == before
    assert read(home, archive=str(home / "wrong")).lost == 0
    compacted(home)
    assert read(home) == before
    assert days_of_lines(home) == ["2026-03-08"]


def test_one_compaction_runs_at_a_time(home: Path) -> None:
    with FolderStore(home / "store").locked(LOCK), pytest.raises(LockError, match="another process"):
        compacted(home)

    assert compacted(home) == (8, 12)


def test_an_object_with_a_damaged_line_stays_and_its_other_lines_are_archived(home: Path) -> None:
    store = FolderStore(home / "store")
    key = list_uploads(store).lines[4].key
    (content,) = store.read([key])
    store.put(key, (content or b"").replace(b'"sequence"', b'"sequels"', 1))
    before = read(home)

    compacted(home)
    compacted(home)

    assert [one.key for one in list_uploads(store, before=TODAY).lines] == [key]
    assert read(home) == before
    assert (before.damaged, before.lost, len(before.records)) == (1, 1, 17)


def test_late_uploads_of_a_compacted_day_are_compacted_the_next_time(home: Path) -> None:
    store = FolderStore(home / "store")
    late = list_uploads(store).lines[1]
    (content,) = store.read([late.key])
    store.delete([late.key])
    compacted(home)
    missed = read(home).lost

    store.put(late.key, content or b"")
    compacted(home)

    assert missed == late.last - late.first + 1
    assert (read(home).lost, len(read(home).records)) == (0, 18)
    assert read(home, archive=str(home / "wrong")).elsewhere == 12


def test_an_object_that_is_archived_while_it_is_read_is_read_from_the_archive(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(home)
    real = FolderStore.read

    def overtaken(self: FolderStore, keys: Sequence[str]) -> object:
        wanted = list(keys)
        if len(wanted) > 4:
            monkeypatch.undo()
            compacted(home)
        return real(self, wanted)

    monkeypatch.setattr(FolderStore, "read", overtaken)

    assert read(home) == before
    assert days_of_lines(home) == ["2026-03-08"]


def test_the_job_compacts_uploads_and_deletes_days_that_are_too_old(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(home / "job"))
    monkeypatch.setenv("PRICING_DECISIONS_URL", str(home / "store"))
    monkeypatch.delenv("PRICING_DECISIONS_ARCHIVE", raising=False)
    monkeypatch.delenv("PRICING_CONFIG", raising=False)
    settings = home / "settings.yaml"
    settings.write_text("serving: {log_days: 365}")
    store = FolderStore(home / "store")
    store.put("day=2020-01-01/task=one/decisions-w-000000000001-000000000001.jsonl", b"damaged\n")
    note_compacted(store, day="2020-01-01", numbers={"w": [2, 3]})

    assert main(["--config", str(settings)]) == 0

    log = log_places()
    reading = read_decisions(log.folder, uploads=log.uploads, archive=log.archive)
    assert "18 decisions of 13 objects" in capsys.readouterr().out
    assert "day=2020-01-01" not in store.folders()
    assert (len(reading.records), reading.damaged, reading.elsewhere) == (18, 0, 0)


def test_a_note_that_is_none_is_named(home: Path) -> None:
    compacted(home)
    (home / "store" / "day=2026-03-06" / "compacted.json").write_text("[]")

    with pytest.raises(SourceError, match=r"day=2026-03-06/compacted\.json"):
        read(home)


@pytest.mark.parametrize(
    ("environment", "uploads", "archive"),
    [
        ({}, None, "/home/decisions-parquet"),
        ({"PRICING_DECISIONS_URL": "s3://logs/shop/"}, "s3://logs/shop/", "s3://logs/shop/parquet"),
        ({"PRICING_DECISIONS_URL": "s3://l", "PRICING_DECISIONS_ARCHIVE": "s3://a/b"}, "s3://l", "s3://a/b"),
    ],
)
def test_the_archive_of_uploads_lies_where_every_machine_finds_it(
    environment: dict[str, str], uploads: str | None, archive: str
) -> None:
    places = log_places(environment={"PRICING_HOME": "/home", **environment})

    assert (places.uploads, places.archive) == (uploads, archive)
