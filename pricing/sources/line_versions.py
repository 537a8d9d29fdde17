"""Keep order lines in temporary files, and find those that came more than once by line_id; in bounded memory."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pricing.errors import SourceError

LINE = np.dtype(
    [
        ("id", "u8"),
        ("updated", "i8"),
        ("line", "i8"),
        ("units", "f8"),
        ("price", "f8"),
        ("rate", "f8"),
        ("day", "i4"),
        ("back", "i4"),
        ("product", "i4"),
        ("store", "i4"),
        ("origin", "i4"),
        ("kind", "i1"),
    ]
)
"""One usable order line.

id: hash of line_id; updated: when it changed last; line, origin: where it was read; units: above 0; price: paid for
one, NaN where unknown; rate: of tax, NaN where unknown; day: of `time`; back: of `returned_time`, -1 without one; kind:
SALE, RETURN or CANCELLED.
"""
SALE, RETURN, CANCELLED = 0, 1, 2
NEVER = -1
"""`back` of a line that says no day on which its goods came back."""
_SAME = ("units", "price", "rate", "day", "back", "product", "store", "kind")  # what makes two versions equal
BUCKETS = 16
MOST_CONFLICTS = 0.2  # share of lines whose id came with other content before; above it the id is none of a line
_LEAST_CONFLICTS = 100


@dataclass(frozen=True)
class VersionCounts:
    """How often order lines came again.

    Attributes:
        repeated: Lines dropped that say the same as one that is kept.
        corrected: Lines dropped that a newer one of their line_id says otherwise.
        units_dropped: Units on the lines dropped, returns below 0 and cancelled ones not counted.
        revenue_dropped: What was paid for those.
    """

    repeated: int = 0
    corrected: int = 0
    units_dropped: float = 0.0
    revenue_dropped: float = 0.0


class LineFiles:
    """Lines in temporary files, by a number that each has; a file is read whole.

    Use it in a `with` statement: the files are removed at its end.
    """

    def __init__(self, count: int, *, folder: Path | None = None) -> None:
        """Opens the files.

        Args:
            count: How many.
            folder: Where they lie; None: the system's folder for temporary files.
        """
        self._stack = ExitStack()
        self._files: list[IO[bytes]] = []
        for _ in range(count):
            file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the stack
            self._files.append(self._stack.enter_context(file))

    def __enter__(self) -> "LineFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, lines: NDArray[Any], numbers: NDArray[Any]) -> None:
        """Writes lines to the files that their numbers, modulo the count of files, say."""
        count = len(self._files)
        place = (numbers % count).astype(np.int16)
        order = np.argsort(place, kind="stable")
        ends = np.cumsum(np.bincount(place, minlength=count))
        arranged = lines[order]
        for index, file in enumerate(self._files):
            begin = ends[index - 1] if index else 0
            if ends[index] > begin:
                file.write(arranged[begin : ends[index]].tobytes())

    def read(self) -> Iterator[NDArray[Any]]:
        """Yields the lines of each file that has some, in the order in which they were written."""
        for file in self._files:
            file.seek(0)
            lines = np.frombuffer(file.read(), dtype=LINE)
            if len(lines):
                yield lines


class LineVersions:
    """Gives the newest version of each line.

    A sale and a return may bear one line_id: the newest of each is kept. Newest is the latest `updated`, then the one
    that was read last.

    Attributes:
        counts: Complete once all lines were given back.
    """

    def __init__(self, *, folder: Path | None = None) -> None:
        """Opens temporary files in `folder`; None: the system's."""
        self._files = LineFiles(BUCKETS, folder=folder)
        self._lines = 0
        self.counts = VersionCounts()

    def __enter__(self) -> "LineVersions":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.__exit__()

    def add(self, lines: NDArray[Any]) -> None:
        """Writes lines (`LINE`) that have an id."""
        self._files.add(lines, lines["id"])
        self._lines += len(lines)

    def newest(self) -> Iterator[NDArray[Any]]:
        """Yields the kept lines, in parts.

        Raises:
            SourceError: So many lines have an id that others had before that it can be no line's.
        """
        for lines in self._files.read():
            yield self._kept(lines)
        if self.counts.corrected > max(_LEAST_CONFLICTS, MOST_CONFLICTS * self._lines):
            raise SourceError(
                f"sources.sales: expected line_id to tell order lines apart, found {self.counts.corrected:,} of "
                f"{self._lines:,} lines with the id of another line and other content; is it the number of a line "
                "within its order? Map a column that is unique, join order and line number in a query, or leave "
                "line_id out"
            )

    def _kept(self, lines: NDArray[Any]) -> NDArray[Any]:
        back = lines["kind"] == RETURN
        order = np.lexsort((lines["updated"], back, lines["id"]))  # stable: equal ones stay in the order read
        ids, returns = lines["id"][order], back[order]
        last = np.ones(len(order), dtype=np.bool_)
        last[:-1] = (ids[1:] != ids[:-1]) | (returns[1:] != returns[:-1])
        if last.all():
            return lines
        ends = np.flatnonzero(last)
        dropped = np.flatnonzero(~last)
        keeper = order[ends[np.searchsorted(ends, dropped)]]
        gone = order[dropped]
        same = np.ones(len(gone), dtype=np.bool_)
        for name in _SAME:
            ours, theirs = lines[name][gone], lines[name][keeper]
            same &= (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        sign = np.array([1.0, -1.0, 0.0])[lines["kind"][gone]]
        units = lines["units"][gone] * sign
        self.counts = VersionCounts(
            self.counts.repeated + int(same.sum()),
            self.counts.corrected + int((~same).sum()),
            self.counts.units_dropped + float(units.sum()),
            self.counts.revenue_dropped + float(np.nansum(units * lines["price"][gone])),
        )
        return lines[np.sort(order[ends])]


def hashed(column: "pd.Series[Any]") -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """(line,) hash of each line_id, and whether there is one.

    17, "17", " 17 " and 17.0 are the same id: a column may turn to text half-way.
    """
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan)
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53)
        if (whole | np.isnan(values)).all():
            column = pd.Series(values).astype("Int64")
    try:
        texts = pc.utf8_trim_whitespace(pc.cast(pa.array(column, from_pandas=True), pa.string()))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # cells of several types
        texts = pc.utf8_trim_whitespace(pa.array([_written(value) for value in column], pa.string()))
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    empty = pc.fill_null(pc.equal(texts, ""), True).to_numpy(zero_copy_only=False)
    cells = pc.fill_null(texts, "").to_numpy(zero_copy_only=False)
    return pd.util.hash_array(cells, categorize=False), ~empty


def _written(value: Any) -> str | None:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
