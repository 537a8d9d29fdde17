"""What a serving task uploads of its decision log, and what stays on its disk, with a folder as the store."""

import datetime as dt
import errno
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pricing.decision_log.format import LogReading, last_issued, read_decisions, segments_of
from pricing.objects import FolderStore, ObjectStore, open_store
from pricing.decision_log.uploads import list_uploads
from pricing.decision_log.writer import LogWriter
from pricing.errors import ConfigError, SourceError
from pricing.runtime.shared_state import task_name
from serving import log_upload
from serving.log_upload import LogUpload, Uploading, read_upload_status
from tests.kit.serving import NOW, open_app, settings_in
from tests.unit.test_decision_log import NOON, entry, writer

LONG_AFTER = NOON.timestamp() + 1e9  # by which every file on this machine's disk is old


def upload_of(home: Path, *, task: str = "one", waiting_bytes: int = 10**9, now: float = LONG_AFTER) -> LogUpload:
    return LogUpload(
        home / "decisions", store=lambda: FolderStore(home / "store"), task=task, status=home / "upload.json",
        waiting_bytes=waiting_bytes, now=lambda: now,
    )  # fmt: skip


def look_once(home: Path, *, task: str = "one", now: float = LONG_AFTER) -> None:
    upload = upload_of(home, task=task, now=now)
    upload.look()
    upload.close()


def uploaded(home: Path) -> LogReading:
    """What another machine reads."""
    return read_decisions(home / "elsewhere", uploads=str(home / "store"))


def names(reading: LogReading) -> list[str]:
    return [record["decision"]["decision_id"] for record in reading.records]


def keys(home: Path) -> list[str]:
    return [stored.key for stored in FolderStore(home / "store").listed("")]


def written(log: LogWriter, *numbers: int, at: dt.datetime = NOON) -> None:
    log.append([entry(number, at=at) for number in numbers])
    log.flush()


def test_what_is_new_is_uploaded_once_and_read_as_on_the_disk(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1, 2)
    upload.look()
    upload.look()
    written(log, 3)
    upload.look()
    here = read_decisions(tmp_path / "decisions")

    reading = uploaded(tmp_path)

    day = f"day=2026-03-06/task=one/decisions-{log.worker}"
    assert keys(tmp_path) == [f"{day}-000000000001-000000000002.jsonl", f"{day}-000000000003-000000000003.jsonl"]
    assert reading == here
    assert (reading.lost, reading.damaged, reading.repeated) == (0, 0, 0)
    log.close()


def test_a_decision_counts_once_wherever_it_is_read(tmp_path: Path) -> None:
    log = writer(tmp_path / "decisions")
    written(log, 1, 2)
    look_once(tmp_path)
    (tmp_path / "decisions" / "uploaded.json").unlink()  # as in a copy of the folder
    written(log, 3)
    look_once(tmp_path, task="other")

    reading = read_decisions(tmp_path / "decisions", uploads=str(tmp_path / "store"))

    assert len(keys(tmp_path)) == 2
    assert names(reading) == ["d-1", "d-2", "d-3"]
    assert (reading.lost, reading.repeated) == (0, 0)
    log.close()


def test_a_worker_that_lives_keeps_only_the_segment_that_it_writes_to(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions", segment_bytes=1), upload_of(tmp_path)
    for number in (1, 2, 3):
        written(log, number)

    upload.look()
    written(log, 4)
    upload.look()

    assert len(segments_of(tmp_path / "decisions", log.worker)) == 1
    assert names(uploaded(tmp_path)) == ["d-1", "d-2", "d-3", "d-4"]
    log.close()


def test_of_a_worker_that_ended_nothing_stays_but_its_count(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1, 2, 3)
    log.close()
    (counter,) = (tmp_path / "decisions").glob("*.issued")
    counter.write_bytes((5).to_bytes(8, "little"))  # two were answered and never reached the disk

    upload.look()

    assert {path.name for path in (tmp_path / "decisions").iterdir()} == {"uploaded.json", "upload.lock"}
    assert (len(uploaded(tmp_path).records), uploaded(tmp_path).lost) == (3, 2)


def test_a_worker_that_has_just_begun_is_not_taken_for_dead(tmp_path: Path) -> None:
    log = writer(tmp_path / "decisions")
    log.close()
    (counter,) = (tmp_path / "decisions").glob("*.issued")
    young = counter.stat().st_mtime + 1

    look_once(tmp_path, now=young)
    assert counter.exists()
    look_once(tmp_path)

    assert not counter.exists()


def test_a_worker_without_a_counter_keeps_its_segment_while_it_may_write(tmp_path: Path) -> None:
    log = writer(tmp_path / "decisions")
    written(log, 1)
    (counter,) = (tmp_path / "decisions").glob("*.issued")
    counter.unlink()
    (segment,) = segments_of(tmp_path / "decisions", log.worker)

    look_once(tmp_path, now=segment.stat().st_mtime + 60)
    assert segment.exists()
    look_once(tmp_path)

    assert not segment.exists()
    assert names(uploaded(tmp_path)) == ["d-1"]
    log.close()


def test_a_line_is_uploaded_when_it_is_whole(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1, 2)
    (segment,) = segments_of(tmp_path / "decisions", log.worker)
    content = segment.read_bytes()
    segment.write_bytes(content[:-20])

    upload.look()
    half = uploaded(tmp_path)
    segment.write_bytes(content)
    upload.look()

    assert (names(half), half.damaged) == (["d-1"], 0)
    assert names(uploaded(tmp_path)) == ["d-1", "d-2"]
    log.close()


def test_the_torn_last_line_of_a_killed_worker_is_a_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1, 2)
    log.close()
    (segment,) = segments_of(tmp_path / "decisions", log.worker)
    segment.write_bytes(segment.read_bytes()[:-20])

    upload.look()

    reading = uploaded(tmp_path)
    assert (names(reading), reading.lost, reading.damaged) == (["d-1"], 1, 0)
    assert not segment.exists()
    assert "a line that was never finished" in caplog.text


def test_a_damaged_line_is_left_out_and_counted(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1, 2, 3)
    (segment,) = segments_of(tmp_path / "decisions", log.worker)
    first, second, third = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first + b"\0" * (len(second) - 1) + b"\n" + third)

    upload.look()
    upload.look()

    reading = uploaded(tmp_path)
    assert (names(reading), reading.lost) == (["d-1", "d-3"], 1)
    assert upload.status.damaged == 1
    log.close()


def test_a_segment_that_its_writer_cut_and_wrote_on_misses_nothing(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1, 2, 3)
    upload.look()
    (segment,) = segments_of(tmp_path / "decisions", log.worker)
    before = segment.read_bytes().splitlines(keepends=True)
    written(log, 4, 5, 6, 7)
    after = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(before[0] + b"".join(after[3:]))  # a full disk took 1 to 3, kept 1, and then 4 and later ones

    upload.look()

    assert names(uploaded(tmp_path)) == [f"d-{number}" for number in range(1, 8)]
    log.close()


def test_lines_are_filed_by_their_day_and_only_days_asked_for_are_looked_at(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    later = NOON + dt.timedelta(days=1)
    log.append([entry(1), entry(2), entry(3, at=later), entry(4, at=later)])
    log.flush()
    upload.look()
    FolderStore(tmp_path / "store").put(keys(tmp_path)[0], b"no log line\n")  # read, it would be counted as damaged

    reading = read_decisions(tmp_path / "elsewhere", uploads=str(tmp_path / "store"), since=later)

    assert [key[:14] for key in keys(tmp_path)] == ["day=2026-03-06", "day=2026-03-07"]
    assert (names(reading), reading.damaged, reading.lost) == (["d-3", "d-4"], 0, 0)
    log.close()


def test_a_large_segment_becomes_several_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, *range(1, 21))
    monkeypatch.setattr(log_upload, "OBJECT_BYTES", 2_000)

    upload.look()

    assert len(keys(tmp_path)) > 5
    assert len(uploaded(tmp_path).records) == 20
    assert uploaded(tmp_path).lost == 0
    log.close()


def test_tasks_are_listed_apart(tmp_path: Path) -> None:
    logs = [writer(tmp_path / name / "decisions") for name in ("one", "two")]
    store = FolderStore(tmp_path / "store")
    for log, name in zip(logs, ("one", "two"), strict=True):
        written(log, 1)
        folder = tmp_path / name
        LogUpload(folder / "decisions", store=lambda: store, task=name, status=folder / "s", waiting_bytes=10**9).look()

    listing = list_uploads(store, tasks=["two"])

    assert [one.worker for one in listing.lines] == [logs[1].worker]
    assert len(list_uploads(store).lines) == 2
    for log in logs:
        log.close()


def away(home: Path) -> None:
    (home / "store").write_text("a file where the store's folder was")


def test_while_the_store_is_away_segments_wait_and_the_status_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [NOON.timestamp()]
    upload = LogUpload(
        tmp_path / "decisions", store=lambda: FolderStore(tmp_path / "store"), task="one",
        status=tmp_path / "upload.json", waiting_bytes=10**9, now=lambda: clock[0],
    )  # fmt: skip
    log = writer(tmp_path / "decisions")
    written(log, 1)
    away(tmp_path)
    for _ in range(2):
        clock[0] += 100
        upload.look()
    status = read_upload_status(tmp_path / "upload.json")

    (tmp_path / "store").unlink()
    upload.look()

    assert status is not None
    assert (status.through, status.failures) == (NOON.timestamp(), 2)
    assert status.waiting_bytes > 0
    assert "store" in str(status.failure)
    assert caplog.text.count("cannot be uploaded") == 1
    assert "uploaded again" in caplog.text
    assert (upload.status.through, upload.status.waiting_bytes, upload.status.failure) == (clock[0], 0, None)
    assert names(uploaded(tmp_path)) == ["d-1"]
    log.close()


def test_beyond_the_limit_the_oldest_segments_go_and_count_as_lost(tmp_path: Path) -> None:
    log = writer(tmp_path / "decisions", segment_bytes=1)
    for number in (1, 2, 3, 4):
        written(log, number, at=dt.datetime.now(dt.UTC))  # on the day on which the worker starts, as it should be
    size = segments_of(tmp_path / "decisions", log.worker)[0].stat().st_size
    upload = upload_of(tmp_path, waiting_bytes=2 * size + 10)
    away(tmp_path)
    upload.look()
    (tmp_path / "store").unlink()
    upload.look()

    reading = uploaded(tmp_path)

    assert upload.status.dropped == 2
    assert (names(reading), reading.lost) == (["d-3", "d-4"], 2)
    log.close()


def test_a_segment_that_a_worker_writes_to_is_never_dropped(tmp_path: Path) -> None:
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path, waiting_bytes=1)
    written(log, 1, 2)
    away(tmp_path)

    upload.look()

    assert len(read_decisions(tmp_path / "decisions").records) == 2
    log.close()


def test_one_service_alone_uploads_a_folder(tmp_path: Path) -> None:
    log = writer(tmp_path / "decisions")
    written(log, 1)
    first, second = upload_of(tmp_path, task="first"), upload_of(tmp_path, task="second")
    first.look()
    written(log, 2)

    second.look()

    assert names(uploaded(tmp_path)) == ["d-1"]
    log.close()


@pytest.mark.parametrize("reachable", [True, False], ids=["store there", "store away"])
def test_the_last_upload_says_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture, reachable: bool) -> None:
    caplog.set_level(logging.INFO)
    log, upload = writer(tmp_path / "decisions"), upload_of(tmp_path)
    written(log, 1)
    log.close()
    if not reachable:
        away(tmp_path)

    upload.finish(seconds=0.01)

    expected = "uploaded to its end" if reachable else "from 2026-03-06T12:00:00+00:00 on, are not uploaded"
    assert expected in caplog.text


class HungStore(FolderStore):
    """A store that takes nothing until it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.let = threading.Event(), threading.Event()

    def put(self, key: str, body: bytes) -> None:
        self.asked.set()
        self.let.wait(60)
        super().put(key, body)


def test_a_store_that_hangs_holds_up_no_end_of_the_service(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, store, stop = writer(tmp_path / "decisions"), HungStore(tmp_path / "store"), threading.Event()
    written(log, 1)
    log.close()
    upload = LogUpload(
        tmp_path / "decisions", store=lambda: store, task="one", status=tmp_path / "status", waiting_bytes=10**9
    )
    uploading = Uploading(upload, stop=stop, every=3600, stop_seconds=0.05)
    store.asked.wait(60)

    stop.set()
    uploading.join()

    assert "are not uploaded (time is up)" in caplog.text
    store.let.set()
    uploading.join()


def test_the_last_upload_follows_the_signal_at_once(tmp_path: Path) -> None:
    log, stop = writer(tmp_path / "decisions"), threading.Event()
    uploading = Uploading(upload_of(tmp_path), stop=stop, every=3600, stop_seconds=60)
    written(log, 1)
    log.close()

    stop.set()
    uploading.join()

    assert names(uploaded(tmp_path)) == ["d-1"]


def test_a_segment_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    (folder / "decisions-00000000T000000-1-aa-000000000001.jsonl").mkdir(parents=True)
    log, upload = writer(folder), upload_of(tmp_path)
    written(log, 1)

    status = upload.look()

    assert status.failure is not None
    assert names(uploaded(tmp_path)) == ["d-1"]
    log.close()


def test_a_damaged_note_of_progress_costs_a_repeated_upload_alone(tmp_path: Path) -> None:
    log = writer(tmp_path / "decisions")
    written(log, 1)
    (tmp_path / "decisions" / "uploaded.json").write_text('{"a": 7}')

    upload_of(tmp_path).look()

    assert names(uploaded(tmp_path)) == ["d-1"]
    log.close()


def test_worker_names_of_two_tasks_are_never_equal(tmp_path: Path) -> None:
    logs = [writer(tmp_path / str(number)) for number in range(2)]  # the same second and process id, as in containers

    assert len({log.worker.rpartition("-")[2] for log in logs}) == 2
    assert all(len(log.worker.rpartition("-")[2]) == 16 for log in logs)
    assert last_issued(tmp_path / "0", logs[0].worker) == (0, True)
    for log in logs:
        log.close()


def test_the_lag_is_a_metric(tmp_path: Path) -> None:
    with open_app(tmp_path, environment={"PRICING_DECISIONS_URL": str(tmp_path / "store")}) as shop:
        before = shop.client.get("/metrics").text
        shop.settings.upload_file.parent.mkdir(parents=True, exist_ok=True)
        status = {"through": NOW.timestamp() - 75, "waiting_bytes": 12, "failures": 3, "failure": "away"}
        shop.settings.upload_file.write_text(json.dumps(status))

        page = shop.client.get("/metrics").text
        gauges = shop.service._upload_gauges()

    assert "pricing_log_upload" not in before
    assert "pricing_log_upload_lag_seconds 75.0" in page
    assert "pricing_log_upload_failures 3.0" in page
    assert gauges == {"UploadLagSeconds": 75.0, "UploadFailing": 1.0, "UploadDropped": 0.0}


def test_a_task_s_name_may_stand_in_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PRICING_TASK"):
        settings_in(tmp_path, PRICING_TASK="a/b")

    assert settings_in(tmp_path, PRICING_TASK="ip-10-0-1-7.ec2").task == "ip-10-0-1-7.ec2"
    assert "/" not in settings_in(tmp_path).task


@pytest.mark.parametrize("where", ["gs://bucket/x", "s3://", "https://bucket"])
def test_an_address_of_another_kind_is_refused(where: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        open_store(where)


@pytest.mark.parametrize(
    "act",
    [lambda store: store.folders(), lambda store: list(store.read(["a/b"])), lambda store: store.delete(["a/b"])],
    ids=["folders", "read", "delete"],
)
def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(
    tmp_path: Path, act: Callable[[ObjectStore], object]
) -> None:
    (tmp_path / "store").write_text("")

    with pytest.raises(SourceError, match="store"):
        act(FolderStore(tmp_path / "store"))


def test_a_disk_that_fails_is_a_failure_that_is_told_and_ends_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = upload_of(tmp_path)

    def stale(upload: LogUpload) -> list[tuple[Path, int]]:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(LogUpload, "_waiting", stale)
    found = one.look()
    monkeypatch.undo()
    again = one.look()

    assert "Stale file handle" in (found.failure or "")
    assert (found.failures, again.failure) == (1, None)


def test_a_task_s_name_is_that_of_its_host_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "ip-10/0 é")

    assert task_name({}) == "ip-10-0--"
    assert task_name({"PRICING_TASK": "a.b_c-1"}) == "a.b_c-1"
    for bad in ("a/b", "a b", "é", "x" * 101):
        with pytest.raises(ConfigError, match="PRICING_TASK: expected up to 100 of letters"):
            task_name({"PRICING_TASK": bad})
