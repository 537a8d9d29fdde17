"""The decision log's archive: closed segments as partitioned Parquet, one file for each segment and day.

Its columns are for monitoring, for people and for `pandas.read_parquet`; `line` is the log's own line, whole, for the
log's reader. pandas is loaded only when there is something to archive or to read, never by the serving workers.
"""

import datetime as dt
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricing.objects import open_store
from pricing.errors import SourceError
from pricing.fileio import replace_atomically, replace_text

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow.fs import FileSystem

_TEXT = (
    "worker",
    "product_id",
    "category",
    "experiment",
    "arm",
    "strategy",
    "source",
    "reasons",
    "model_version",
    "decision_id",
)
_NUMBERS = (
    *("current_price", "list_price", "unit_cost", "tax_rate", "current_stock", "comp_price"),
    *("comp_price_used", "comp_price_age"),
    *("recommended_price", "confidence", "expected_units", "expected_margin", "unit", "deviation"),
)
_CANDIDATES = {"candidate_price": "price", "candidate_units": "units", "candidate_size": "size"}
COLUMNS = ("at", "date", "sequence", *_TEXT, *_NUMBERS, *_CANDIDATES)
_DELETED = "archive-kept-since"  # a file beside the notes
_DAY = re.compile(r"day=(?P<day>\d{4}-\d{2}-\d{2})")
_NOTED = re.compile(r"(\d+) (\d+) (\d+) (\d{4}-\d{2}-\d{2})")  # a line of a note
_FILE = re.compile(r"decisions-[\w.-]+-\d{12}\.parquet")  # what `serving.compact` writes


@dataclass(frozen=True)
class Moved:
    """Consecutive decisions of a worker that were archived.

    Attributes:
        first: Number of the first.
        last: Number of the last.
        segment: First number of the segment that they were in.
        day: The day on which they were made, YYYY-MM-DD.
    """

    first: int
    last: int
    segment: int
    day: str


def default_archive(folder: Path) -> Path:
    """The default archive folder of the log in `folder`."""
    return folder.with_name(f"{folder.name}-parquet")


def write_archive(records: Sequence[dict[str, Any]], *, to: str, name: str) -> int:
    """Writes records as one file per day of decision; the same records give the same files again.

    Args:
        records: As the log's reader decodes them.
        to: A folder, or an s3:// address.
        name: The segment's name without suffix.

    Returns:
        How many files were written.

    Raises:
        SourceError: pandas or what it needs is missing, or `to` cannot be written.
    """
    days: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        days.setdefault(record["at"][:10], []).append(record)
    try:
        for day, rows in days.items():
            _write(_table(rows), f"{to.rstrip('/')}/day={day}", f"{name}.parquet")
    except (OSError, ImportError) as error:
        raise SourceError(f"{to}: cannot be written ({error})") from error
    return len(days)


def note_archived(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Notes in `folder` that a segment's records are archived, so that the reader does not count them as lost.

    One line per run of consecutive numbers of one day, so that gaps still count as lost: first, last, the segment's
    first number, the day.

    Raises:
        SourceError: The note cannot be written.
    """
    if not records:
        return
    days: dict[str, list[int]] = {}
    for record in records:
        days.setdefault(record["at"][:10], []).append(record["sequence"])
    first_number = min(record["sequence"] for record in records)
    runs = sorted((*run, day) for day, numbers in days.items() for run in runs_of(numbers))
    note = _note(folder, records[0]["worker"])
    try:
        with note.open("a") as lines:
            lines.write("".join(f"{first} {last} {first_number} {day}\n" for first, last, day in runs))
            lines.flush()
            os.fsync(lines.fileno())
    except OSError as error:
        raise SourceError(f"{note}: cannot be written ({error.strerror})") from error


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The first and last number of each run of consecutive numbers, ascending."""
    ordered = sorted(set(numbers))
    starts = [place for place, number in enumerate(ordered) if not place or number > ordered[place - 1] + 1]
    return [(ordered[at], ordered[end - 1]) for at, end in zip(starts, [*starts[1:], len(ordered)], strict=True)]


def read_note(folder: Path, worker: str) -> set[Moved]:
    """Reads which records of a worker were archived; their segment is deleted or about to be."""
    try:
        lines = _note(folder, worker).read_text().splitlines()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise SourceError(f"{_note(folder, worker)}: cannot be read ({error.strerror})") from error
    return {moved for moved in map(_moved, lines) if moved is not None}


def _moved(line: str) -> Moved | None:
    """One line of a note; None where it was torn."""
    found = _NOTED.fullmatch(line)
    return found and Moved(int(found[1]), int(found[2]), int(found[3]), found[4])


def _note(folder: Path, worker: str) -> Path:
    return folder / f"decisions-{worker}.archived"


def read_archive(where: str | Path, *, since: dt.date | None = None) -> Iterator[bytes]:
    """Reads the log lines in an archive, a file at a time; none where there is no Parquet yet.

    Args:
        where: A folder, or an s3:// address.
        since: Leaves out the days of decision before it.

    Raises:
        SourceError: A file there does not belong to an archive, or pandas is missing.
    """
    for _, files in archive_days(where, since=since):
        for frame in files.read(("line",)):
            yield from (str(line).encode() for line in frame["line"])


def first_drawn_day(where: str | Path) -> dt.date | None:
    """The first day of an archive on which an experiment drew a price; None where there is none.

    Raises:
        SourceError: As `read_archive`.
    """
    for day, files in reversed(archive_days(where)):
        for frame in files.read(("deviation",)):
            if frame["deviation"].notna().any():
                return dt.date.fromisoformat(day)
    return None


@dataclass(frozen=True)
class DayOfArchive:
    """The files of one day of an archive."""

    store: "FileSystem"
    paths: tuple[str, ...]

    def read(self, columns: Sequence[str]) -> Iterator["pd.DataFrame"]:
        """Yields the columns of each file's decisions.

        Raises:
            SourceError: A file does not belong to an archive, or lacks a column, or what reads it is missing.
        """
        for path in self.paths:
            try:
                import pandas as pd  # noqa: PLC0415 - see the module
                import pyarrow as pa  # noqa: PLC0415
                from pyarrow import parquet  # noqa: PLC0415

                with self.store.open_input_file(path) as opened:
                    file = parquet.ParquetFile(opened)
                    absent = sorted({"line", *columns} - set(file.schema_arrow.names))
                    if absent:
                        raise SourceError(
                            f"{path}: is no file of an archive of decisions of this format (no column "
                            f"{', '.join(absent)}); start a new archive"
                        )
                    table = file.read(list(columns))
                yield table.to_pandas(types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_list(kind) else None)
            except (OSError, ImportError, ValueError, KeyError) as error:
                raise SourceError(f"{path}: cannot be read as an archive of decisions ({error})") from error


def archive_days(where: str | Path, *, since: dt.date | None = None) -> list[tuple[str, DayOfArchive]]:
    """Lists the days of an archive, newest first, with their files; other days are not looked at.

    Raises:
        SourceError: `where` cannot be listed, or what opens it is missing.
    """
    if "://" not in str(where) and not Path(where).is_dir():
        return []
    try:
        from pyarrow import fs  # noqa: PLC0415 - see the module

        far = "://" in str(where)
        store, root = fs.FileSystem.from_uri(str(where)) if far else (fs.LocalFileSystem(), str(where))
        found = []
        for folder in store.get_file_info(fs.FileSelector(root)):
            match = _DAY.fullmatch(folder.base_name)
            if match and (since is None or match["day"] >= since.isoformat()):
                files = store.get_file_info(fs.FileSelector(folder.path))
                paths = sorted(file.path for file in files if _is_parquet(file.base_name))
                found.append((match["day"], DayOfArchive(store, tuple(paths))))
    except FileNotFoundError:  # nothing lies under that address of an S3 store yet
        return []
    except (OSError, ImportError, ValueError) as error:
        raise SourceError(f"{where}: cannot be read as an archive of decisions ({error})") from error
    return sorted(found, key=lambda one: one[0], reverse=True)


def delete_days(where: str | Path, *, before: dt.date, log: Path) -> int:
    """Deletes the days of an archive before a day, only files of compaction's own naming; returns how many days.

    Args:
        where: The archive: a folder, or an s3:// address.
        before: The first day that stays.
        log: The folder of the log, in which it is noted first that earlier days are deleted, and not lost.

    Raises:
        SourceError: `where` cannot be listed, or a file cannot be deleted.
    """
    deleted = 0
    for day, files in archive_days(where):
        ours = [path for path in files.paths if _FILE.fullmatch(path.rsplit("/", 1)[-1])]
        if day >= before.isoformat() or not ours:
            continue
        try:
            replace_text(log / _DELETED, before.isoformat())
            for path in ours:
                files.store.delete_file(path)
            if "://" not in str(where) and len(ours) == len(files.paths):
                _remove_empty(Path(where) / f"day={day}")
        except OSError as error:
            raise SourceError(f"{where}: day {day} cannot be deleted ({error})") from error
        deleted += 1
    return deleted


def kept_since(log: Path) -> dt.date | None:
    """The first day of the log's archive that was not deleted on purpose; None where nothing was.

    Raises:
        SourceError: The note in the log's folder cannot be read.
    """
    try:
        return dt.date.fromisoformat((log / _DELETED).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SourceError(f"{log / _DELETED}: is no day such as 2026-03-31 ({error}); remove it") from error


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _is_parquet(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith(".")


def _asked(experiment: dict[str, Any]) -> dict[str, Any]:
    names = {"experiment": "name", "arm": "arm", "deviation": "deviation"}
    return {column: experiment.get(key) for column, key in names.items()}


def _table(records: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415 - see the module

    rows = [
        {
            **record["request"],
            **record["decision"],
            **{name: value for name, value in record.items() if name not in ("request", "decision", "candidates")},
            **{name: record["candidates"].get(key) for name, key in _CANDIDATES.items()},
            "unit": record["candidates"].get("unit"),
            "reasons": " ".join(record["decision"]["reasons"]),
            **_asked(record["experiment"] or {}),
            "line": json.dumps(record, ensure_ascii=False),
        }
        for record in records
    ]
    frame = pd.DataFrame(rows).reindex(columns=[*COLUMNS, "line"])
    # Fixed types: a day without any category must not differ in schema from the others.
    frame = frame.astype(
        {
            **dict.fromkeys((*_TEXT, "line"), "string"),
            **dict.fromkeys(_NUMBERS, "float64"),
            "sequence": "int64",
        }
    )
    return frame.assign(
        at=pd.to_datetime(frame["at"], utc=True).astype("datetime64[ms, UTC]"),
        date=pd.to_datetime(frame["date"]).astype("datetime64[ms]"),
    )


def _write(frame: "pd.DataFrame", folder: str, name: str) -> None:
    import pyarrow as pa  # noqa: PLC0415 - see the module

    schema = pa.Schema.from_pandas(frame, preserve_index=False)
    for column in _CANDIDATES:  # a file whose lists are all empty would have another type
        schema = schema.set(schema.get_field_index(column), pa.field(column, pa.list_(pa.float64())))
    if folder.startswith("s3://"):  # whole, in one request: not every store takes pyarrow's uploads in parts
        open_store(folder).put(name, frame.to_parquet(index=False, compression="zstd", schema=schema))
        return
    if "://" in folder:
        frame.to_parquet(f"{folder}/{name}", index=False, compression="zstd", schema=schema)
        return
    with replace_atomically(Path(folder) / name) as draft:  # a reader skips names that begin with a dot
        frame.to_parquet(draft, index=False, compression="zstd", schema=schema)
