"""The decision log's archive: closed segments as partitioned Parquet, one file for each segment and day.

Its columns are for people and `pandas.read_parquet`; `line` is the log's own line, whole, for the log's reader. pandas
is loaded only when there is something to archive or to read, never by the serving workers.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricing.errors import SourceError
from pricing.fileio import replace_atomically

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (
    "worker",
    "product_id",
    "category",
    "strategy_test",
    "strategy",
    "source",
    "reasons",
    "model_version",
    "decision_id",
)
_NUMBERS = (
    *("current_price", "list_price", "unit_cost", "current_stock", "comp_price"),
    *("recommended_price", "confidence", "expected_units", "expected_margin"),
)


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

    One line per run of consecutive numbers, so that gaps still count as lost: first, last, the segment's first number.

    Raises:
        SourceError: The note cannot be written.
    """
    if not records:
        return
    numbers = sorted({record["sequence"] for record in records})
    starts = [place for place, number in enumerate(numbers) if not place or number > numbers[place - 1] + 1]
    runs = [(numbers[at], numbers[end - 1]) for at, end in zip(starts, [*starts[1:], len(numbers)], strict=True)]
    note = _note(folder, records[0]["worker"])
    try:
        with note.open("a") as lines:
            lines.write("".join(f"{first} {last} {numbers[0]}\n" for first, last in runs))
            lines.flush()
            os.fsync(lines.fileno())
    except OSError as error:
        raise SourceError(f"{note}: cannot be written ({error.strerror})") from error


def read_note(folder: Path, worker: str) -> set[tuple[int, int, int]]:
    """Reads which records of a worker were archived; their segment is deleted or about to be.

    Returns:
        First and last number of each run, and the first number of the segment that it was in.
    """
    try:
        lines = _note(folder, worker).read_text().splitlines()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise SourceError(f"{_note(folder, worker)}: cannot be read ({error.strerror})") from error
    parts = (line.split() for line in lines)
    sound = [[int(word) for word in part] for part in parts if len(part) in (2, 3) and all(map(str.isdigit, part))]
    return {(part[0], part[1], part[2] if len(part) == 3 else part[0]) for part in sound}  # older lines have two


def _note(folder: Path, worker: str) -> Path:
    return folder / f"decisions-{worker}.archived"


def read_archive(where: str | Path) -> Iterator[bytes]:
    """Reads the log lines in an archive; none where there is no Parquet yet.

    Raises:
        SourceError: A file there does not belong to an archive, or pandas is missing.
    """
    if "://" not in str(where) and next(Path(where).rglob("[!.]*.parquet"), None) is None:
        return iter(())
    try:
        import pandas as pd  # noqa: PLC0415 - see the module

        lines = pd.read_parquet(where, columns=["line"])["line"]
    except FileNotFoundError:  # nothing lies under that address of an S3 store yet
        return iter(())
    except (OSError, ImportError, ValueError, KeyError) as error:
        raise SourceError(f"{where}: cannot be read as an archive of decisions ({error})") from error
    return (str(line).encode() for line in lines)


def _table(records: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415 - see the module

    rows = [
        {
            **record["request"],
            **record["decision"],
            **{name: value for name, value in record.items() if name not in ("request", "decision", "candidates")},
            "reasons": " ".join(record["decision"]["reasons"]),
            "line": json.dumps(record, ensure_ascii=False),
        }
        for record in records
    ]
    frame = pd.DataFrame(rows).reindex(columns=["at", "date", "sequence", "shadow", *_TEXT, *_NUMBERS, "line"])
    # Fixed types: a day without any category must not differ in schema from the others.
    frame = frame.astype(
        {**dict.fromkeys((*_TEXT, "line"), "string"), **dict.fromkeys(_NUMBERS, "float64"), "sequence": "int64"}
    )
    return frame.assign(
        at=pd.to_datetime(frame["at"], utc=True).astype("datetime64[ms, UTC]"),
        date=pd.to_datetime(frame["date"]).astype("datetime64[ms]"),
        shadow=frame["shadow"].astype(bool),
    )


def _write(frame: "pd.DataFrame", folder: str, name: str) -> None:
    if "://" in folder:
        frame.to_parquet(f"{folder}/{name}", index=False, compression="zstd")
        return
    with replace_atomically(Path(folder) / name) as draft:  # a reader skips names that begin with a dot
        frame.to_parquet(draft, index=False, compression="zstd")
