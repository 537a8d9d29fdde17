"""Archive closed segments of the decision log as partitioned Parquet, in a folder or in S3."""

import datetime as dt
import fcntl
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pricing.decision_log.archive import default_archive, delete_days, note_archived, write_archive
from pricing.decision_log.format import closed_segments, read_segment
from pricing.errors import LockError
from pricing.paths import ARCHIVE_VARIABLE
from pricing.runtime.cli import Options, run_main
from serving.logs import configure_logging
from serving.settings import read_settings

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
    with (folder / "compact.lock").open("w") as lock:
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
        records, damaged = read_segment(path)
        write_archive(records, to=to, name=path.stem)
        segments, decisions = segments + 1, decisions + len(records)
        if damaged:
            _log.warning("%s stays: %d damaged line(s)", path, damaged)
        elif not keep:
            note_archived(path.parent, records)
            path.unlink(missing_ok=True)
    return segments, decisions


def main(argv: Sequence[str] | None = None) -> int:
    """Compacts once and returns the exit code."""
    return run_main(_compact, argv, unattended=True)


def _compact(argv: Sequence[str] | None) -> int:
    parser = Options("pricing compact", __doc__)
    parser.add_argument(
        "--to",
        metavar="WHERE",
        help=f"folder or s3:// address; {ARCHIVE_VARIABLE}, or PRICING_HOME/decisions-parquet by default",
    )
    parser.add_config()
    parser.add_argument("--keep", action="store_true", help="leave the segments where they are")
    options = parser.parse(argv)
    given = {"PRICING_CONFIG": str(options.config)} if options.config else {}
    settings = read_settings({**os.environ, **given})
    to = options.to or os.environ.get(ARCHIVE_VARIABLE) or str(default_archive(settings.decisions_folder))
    segments, decisions = compact(settings.decisions_folder, to=to, keep=options.keep)
    days = settings.config.serving.log_days
    oldest = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days)
    deleted = delete_days(to, before=oldest, log=settings.decisions_folder) if days else 0
    print(f"{decisions:,} decisions of {segments} segments are in {to}")  # noqa: T201
    if deleted:
        print(f"{deleted:,} day(s) older than {days} days are deleted there (serving.log_days)")  # noqa: T201
    return 0


if __name__ == "__main__":
    configure_logging()
    sys.exit(main())
