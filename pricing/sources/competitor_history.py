"""The history of competitors' offers as they were seen: Parquet files that are only ever added."""

import datetime as dt
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from pricing.errors import SourceError, first_line
from pricing.fileio import replace_atomically
from pricing.sources.competitor_offers import COLUMNS, TIME, empty_offers

# What makes an offer another one: all that was said, and not when or by which run it came.
_SAID = [name for name in COLUMNS if name not in ("seen_at", "run_id", "item")]
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ARROW = {"string": pa.string(), "float64": pa.float64(), "boolean": pa.bool_(), TIME: pa.timestamp("us", "UTC")}
_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in COLUMNS.items()])


@dataclass(frozen=True)
class Appended:
    """What an append did.

    Attributes:
        new: Offers that were not in the history.
        known: Offers that were, and are not written again.
        path: The file written; None where nothing was new.
    """

    new: int
    known: int
    path: Path | None


def append_offers(folder: Path, offers: pd.DataFrame, *, run_id: str, backfill: Collection[str] = ()) -> Appended:
    """Adds the offers that the history does not have yet, as one new file; no file is ever changed.

    The same offers once more, by this or another run, change nothing: what a second answer says again keeps the time
    at which it was first seen.

    Args:
        folder: Of the history.
        offers: As `pricing.sources.competitor_offers` makes them; not modified.
        run_id: Of the job, part of the file's name.
        backfill: Sources whose first load is an archive: its offers count as seen when they were observed. Once the
            history has offers of such a source, later ones count as seen when they came, like any other's.

    Raises:
        SourceError: The run's id cannot be part of a file's name, or the history cannot be read.
    """
    if not _RUN.fullmatch(run_id):
        raise SourceError(
            f"run id {run_id!r} cannot name a file of the competitors' history: use letters, digits, . _ -"
        )
    if offers.empty:
        return Appended(0, 0, None)
    known = read_history(folder, since=offers["observed_at"].min(), sources=set(offers["source"]))
    both = pd.concat([known[_SAID], offers[_SAID]], ignore_index=True) if len(known) else offers[_SAID]
    fresh = offers[~both.duplicated().to_numpy()[len(known) :]].copy()
    if fresh.empty:
        return Appended(0, len(offers), None)
    archives = set(backfill) - _sources(folder)
    first = fresh["source"].isin(archives)
    fresh["seen_at"] = fresh["seen_at"].mask(first, fresh["observed_at"])
    day = offers["seen_at"].max().date()
    path = _write(folder / f"seen={day}", fresh, run_id)
    return Appended(len(fresh), len(offers) - len(fresh), path)


def read_history(
    folder: Path, *, since: dt.datetime | None = None, sources: Collection[str] | None = None
) -> pd.DataFrame:
    """Reads the offers seen so far, in the order in which they were seen.

    Args:
        folder: Of the history; one that does not exist holds nothing.
        since: Leaves out what was observed earlier.
        sources: Leaves out those of others.

    Raises:
        SourceError: A file cannot be read.
    """
    conditions = [
        *([pyarrow.dataset.field("observed_at") >= pa.scalar(since, pa.timestamp("us", "UTC"))] if since else []),
        *([pyarrow.dataset.field("source").isin(sorted(sources))] if sources is not None else []),
    ]
    condition = None
    for each in conditions:
        condition = each if condition is None else condition & each
    frame = _read(folder, columns=list(COLUMNS), condition=condition)
    if frame is None or frame.empty:
        return empty_offers()
    typed = frame.astype(dict(COLUMNS))
    return typed.sort_values(["seen_at", "observed_at"], kind="stable", ignore_index=True)


def _sources(folder: Path) -> set[str]:
    """The sources that the history has offers of."""
    frame = _read(folder, columns=["source"], condition=None)
    return set() if frame is None else set(frame["source"].unique())


def _read(folder: Path, *, columns: list[str], condition: pyarrow.dataset.Expression | None) -> pd.DataFrame | None:
    files = sorted(path for path in folder.glob("seen=*/*.parquet") if not path.name.startswith("."))
    if not files:
        return None
    try:
        found = pyarrow.dataset.dataset([str(path) for path in files], schema=_SCHEMA, format="parquet")
        return found.to_table(columns=columns, filter=condition).to_pandas()  # type: ignore[no-any-return]
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"the competitors' history in {folder} cannot be read ({first_line(error)}); bring the file back from a "
            "backup, or move it away: what it alone held is then lost"
        ) from error


def _write(folder: Path, offers: pd.DataFrame, run_id: str) -> Path:
    table = pa.Table.from_pandas(offers[list(COLUMNS)], schema=_SCHEMA, preserve_index=False)
    content = hashlib.sha256(pd.util.hash_pandas_object(offers[list(COLUMNS)], index=False).to_numpy().tobytes())
    path = folder / f"{run_id}-{content.hexdigest()[:12]}.parquet"  # another content has another name
    with replace_atomically(path) as draft:
        pyarrow.parquet.write_table(table, draft, compression="zstd")
    return path
