"""Archive closed segments of the decision log, and past days of uploads, as Parquet by day, in a folder or in S3."""

import datetime as dt
import fcntl
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pricing.decision_log.archive import delete_days, note_archived, write_archive
from pricing.decision_log.format import closed_segments, decode_line, read_segment
from pricing.objects import ObjectStore, open_store
from pricing.decision_log.places import log_places
from pricing.decision_log.uploads import UploadedLines, VanishedError, list_uploads, note_compacted
from pricing.errors import LockError
from pricing.paths import ARCHIVE_VARIABLE, UPLOADS_VARIABLE
from pricing.runtime.cli import Options, run_main
from serving.logs import configure_logging
from serving.settings import read_settings

LOCK = "compact.lock"
BATCH_BYTES = 64_000_000  # of log lines that become one file of the archive
_log = logging.getLogger(__name__)


def compact(folder: Path, *, to: str, keep: bool = False) -> tuple[int, int]:
    """Archives every segment in `folder` that no worker writes to any more.

    A segment is deleted only once all of it is in the archive; one that holds a damaged line stays, for the reader to
    count. A run that was interrupted can simply be repeated.

    Args:
        folder: Where the workers write.
        to: A folder, or an s3:// address.
        keep: Leaves the segments where they are.

    Returns:
        Segments archived, decisions in them.

    Raises:
        SourceError: A segment cannot be read, or the archive cannot be written.
        LockError: Another compaction of the same folder is running.
    """
    closed_segments(folder)  # raises where it is no folder
    with _locked(folder):
        return _archive(closed_segments(folder), to=to, keep=keep)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockError(
                f"{folder}: is being compacted by another process; try again when that has ended"
            ) from error
        yield


def _archive(closed: Sequence[Path], *, to: str, keep: bool) -> tuple[int, int]:
    segments = decisions = 0
    for path in closed:
        try:
            records, damaged = read_segment(path)
        except VanishedError:  # a serving task has uploaded and deleted it
            continue
        write_archive(records, to=to, name=path.stem)
        segments, decisions = segments + 1, decisions + len(records)
        if damaged:
            _log.warning("%s stays: %d damaged line(s)", path, damaged)
        elif not keep:
            note_archived(path.parent, records)
            path.unlink(missing_ok=True)
    return segments, decisions


def compact_uploads(where: str, *, to: str, before: dt.date, keep: bool = False) -> tuple[int, int]:
    """Archives what serving tasks uploaded of past days.

    An object is deleted only once all of it is in the archive and that is noted; one that holds a damaged line stays,
    for the reader to count. A run that was interrupted can simply be repeated: files of the archive are named by the
    numbers in them, so that even two runs at a time would lose nothing.

    Args:
        where: A folder, or an s3:// address.
        to: The archive, the same.
        before: The first day that stays.
        keep: Leaves the objects where they are.

    Returns:
        Objects archived, decisions in them.

    Raises:
        ConfigError: `where` is no address.
        SourceError: An object cannot be read, or the archive cannot be written.
        LockError: Another compaction of the same uploads is running, on whatever machine.
    """
    store = open_store(where)
    objects = decisions = 0
    with store.locked(LOCK) as renew:
        for batch in _batches(list_uploads(store, before=before).lines):
            renew()
            objects += len(batch)
            decisions += _archive_batch(store, batch, to=to, keep=keep)
    return objects, decisions


def _archive_batch(store: ObjectStore, batch: Sequence[UploadedLines], *, to: str, keep: bool) -> int:
    day, worker = batch[0].day, batch[0].worker
    records: dict[int, dict[str, Any]] = {}
    whole = []
    for one, content in zip(batch, store.read([each.key for each in batch]), strict=True):
        lines = [decode_line(line) for line in io.BytesIO(content or b"")]
        sound = [record for record in lines if record and record["worker"] == worker and record["at"][:10] == day]
        records |= {record["sequence"]: record for record in sound}
        if len(sound) == len(lines):
            whole.append(one.key)
        else:
            _log.warning("%s stays: %d damaged line(s)", one.key, len(lines) - len(sound))
    if records:
        name = f"decisions-{worker}-{min(records):012d}-{max(records):012d}"
        write_archive([records[number] for number in sorted(records)], to=to, name=name)
        if not keep:
            note_compacted(store, day=day, numbers={worker: records})
    if not keep:
        store.delete(whole)
    return len(records)


def _batches(objects: Sequence[UploadedLines]) -> Iterator[list[UploadedLines]]:
    """Groups objects of one day and worker into files of the archive, each as large as can be held in memory."""
    batch: list[UploadedLines] = []
    size = 0
    for one in objects:
        if batch and ((one.day, one.worker) != (batch[0].day, batch[0].worker) or size + one.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def delete_uploads(where: str, *, before: dt.date) -> None:
    """Deletes what is left of uploads of the days before a day: counts, notes, and objects with damaged lines.

    Raises:
        SourceError: The store cannot be listed, or an object cannot be deleted.
    """
    store = open_store(where)
    listing = list_uploads(store, before=before)
    store.delete([*(one.key for one in listing.lines), *listing.counts, *listing.notes])


def main(argv: Sequence[str] | None = None) -> int:
    """Compacts once and returns the exit code."""
    return run_main(_compact, argv, unattended=True)


def _compact(argv: Sequence[str] | None) -> int:
    parser = Options("pricing compact", __doc__)
    parser.add_argument(
        "--to",
        metavar="WHERE",
        help=f"folder or s3:// address; {ARCHIVE_VARIABLE}, or parquet/ in {UPLOADS_VARIABLE}, or "
        "PRICING_HOME/decisions-parquet by default",
    )
    parser.add_config()
    parser.add_argument("--keep", action="store_true", help="leave the segments where they are")
    options = parser.parse(argv)
    given = {"PRICING_CONFIG": str(options.config)} if options.config else {}
    settings = read_settings({**os.environ, **given})
    log = log_places()
    to, today = options.to or log.archive, dt.datetime.now(dt.UTC).date()
    if log.uploads is None or log.folder.is_dir():
        segments, decisions = compact(log.folder, to=to, keep=options.keep)
        print(f"{decisions:,} decisions of {segments} segments are in {to}")  # noqa: T201
    if log.uploads is not None:
        objects, decisions = compact_uploads(log.uploads, to=to, before=today, keep=options.keep)
        print(f"{decisions:,} decisions of {objects:,} objects in {log.uploads} are in {to}")  # noqa: T201
    days = settings.config.serving.log_days
    oldest = today - dt.timedelta(days=days)
    deleted = delete_days(to, before=oldest, log=log.folder) if days else 0
    if days and log.uploads is not None:
        delete_uploads(log.uploads, before=oldest)
    if deleted:
        print(f"{deleted:,} day(s) older than {days} days are deleted there (serving.log_days)")  # noqa: T201
    return 0


if __name__ == "__main__":
    configure_logging()
    sys.exit(main())
