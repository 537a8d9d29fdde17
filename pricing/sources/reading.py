"""Read one source of a retailer in chunks, whatever it is, with our names and kinds, and keep a record of it."""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from pricing.arrays import Bools
from pricing.config_sources import TableSource, TextFormat
from pricing.errors import SourceError
from pricing.fileio import redact_url
from pricing.sources.chunk import Chunk
from pricing.sources.columns import UPDATED, check_settings, kind_of
from pricing.sources.conversion import Cells, Marks, constant, converted
from pricing.sources.delimited import read_delimited
from pricing.sources.locations import EXCEL, PARQUET, File, Held, expand, find_files, held, is_database
from pricing.sources.raw import Raw
from pricing.sources.sql import Span, Statement, read_table
from pricing.sources.typed_files import read_excel, read_parquet

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What was read of one file, table or query.

    Attributes:
        where: The file, or the database's address, table or query, without passwords.
        rows: Rows given in chunks.
        rejected: Lines and rows that could not be used.
        size: Bytes of a file; None for a database.
        modified: When a file was changed last; None where nothing says so.
        sha256: Of a file's bytes; "" for a database.
        etag: Of a file on S3; "" elsewhere.
        statement: Of a database, with names in place of bound values; "" for a file.
        newest: Highest value of the time column among the rows, as ISO 8601; "" where there is none.
        watermark: Highest value of `TableSource.updated` among the rows, as ISO 8601; "" where there is none.
        absent: Columns of `TableSource.OPTIONAL` that are not there.
    """

    where: str
    rows: int
    rejected: int
    size: int | None = None
    modified: dt.datetime | None = None
    sha256: str = ""
    etag: str = ""
    statement: str = ""
    newest: str = ""
    watermark: str = ""
    absent: tuple[str, ...] = ()


class Reading:
    """The chunks of a source, to be iterated over once, and what is known of it.

    Nothing is opened before the first chunk is asked for. A `SourceError` while iterating means that the source was not
    read whole: what came before must not be taken for all of it.

    Attributes:
        origins: One for each file, table or query that was read to its end, in their order.
        rejected: Frames of lines and rows that could not be used (source, line, reason, text), as far as was read;
            whoever iterates may take them away meanwhile.
        complete: Whether all was read.
    """

    def __init__(self, chunks: Any) -> None:
        self.origins: list[Origin] = []
        self.rejected: list[pd.DataFrame] = []
        self.complete = False
        self._chunks = chunks

    def __iter__(self) -> Iterator[Chunk]:
        """Reads."""
        yield from self._chunks(self)
        self.complete = True


def read_chunks(
    source: TableSource,
    *,
    name: str,
    zone: ZoneInfo,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    changed: dt.datetime | None = None,
    sql_seconds: float,
    environment: Mapping[str, str],
) -> Reading:
    """Reads a source in chunks of some 150,000 rows.

    Rows whose time is empty are given, too; by a database only where neither `since` nor `until` bounds it.

    Args:
        source: Where it lies, and what its columns are called.
        name: The source's name in the configuration, for messages.
        zone: The zone of times that tell none; only `since`, `until` and `changed` are compared in it, cells stay.
        since: First time of a row, with its zone; None: all.
        until: Time before which rows lie, with its zone; None: all.
        changed: Time from which on rows were changed, with its zone, by `TableSource.updated`; None: all.
        sql_seconds: How long each statement to a database may take.
        environment: The variables that locations name, and in which the keys of S3 are looked up.

    Returns:
        What yields `Chunk`s. Their columns are those of `source` that are there, then its constants: numbers and flags
        as float64; times as datetime64 (of seconds where a column has dates alone, of microseconds otherwise; with the
        zone UTC where they tell one, without where not; this may differ from chunk to chunk); ids and texts as text
        without blanks around it; empty cells as missing. `updated` is there where the source names its column.

    Raises:
        SourceError: While iterating: it cannot be found, understood or read to its end. Says what to do.
    """
    span = Span(since, until, changed, zone)

    def chunks(reading: Reading) -> Iterator[Chunk]:
        try:
            yield from read(reading)
        except SourceError as error:
            if str(error).startswith(f"{name}: "):
                raise
            raise SourceError(f"{name}: {error}") from error

    def read(reading: Reading) -> Iterator[Chunk]:
        check_settings(source, where=name)
        location = expand(source.location, name=name, environment=environment)
        if is_database(location, name=name):
            asked = Statement()
            rows = read_table(location, source, span, seconds=sql_seconds, asked=asked)
            yield from _Origin(source, span, redact_url(location), trusted=True).chunks(rows, reading, asked=asked)
            return
        filesystem, files = find_files(location, environment=environment)
        for file in files:
            with held(filesystem, file) as copy:
                yield from _file_chunks(source, span, file, copy, reading, alone=len(files) == 1)

    return Reading(chunks)


def _file_chunks(
    source: TableSource, span: Span, file: File, copy: Held, reading: Reading, *, alone: bool
) -> Iterator[Chunk]:
    if not file.size:
        if alone:
            raise SourceError(f"{file.shown}: is empty (0 bytes)")
        _log.warning("%s: is empty (0 bytes), beside files that are not", file.shown)
        reading.origins.append(Origin(file.shown, 0, 0, size=0, modified=file.modified, sha256=copy.sha256))
        return
    low = file.path.lower()
    if low.endswith(PARQUET):
        rows = read_parquet(copy.path, source, where=file.shown, folders=file.folders)
    elif low.endswith(EXCEL):
        rows = read_excel(copy.path, source, where=file.shown)
    else:
        rows = read_delimited(copy.path, source, where=file.shown)
    yield from _Origin(source, span, file.shown, trusted=False).chunks(rows, reading, file=file, copy=copy)


class _Origin:
    """One file, table or query while it is read."""

    def __init__(self, source: TableSource, span: Span, where: str, *, trusted: bool) -> None:
        self._source = source
        self._span = span
        self._where = where
        text = TextFormat(decimal=".") if trusted else source.text  # a database writes numbers and dates in one way
        self._marks = Marks(text, where=where)
        self._dates = text.dates
        self._newest: dict[str, pd.Timestamp] = {}

    def chunks(
        self,
        rows: Iterator[Raw],
        reading: Reading,
        *,
        file: File | None = None,
        copy: Held | None = None,
        asked: Statement | None = None,
    ) -> Iterator[Chunk]:
        count = rejected = 0
        present: tuple[str, ...] = ()
        for raw in rows:
            present = tuple(raw.columns)
            chunk, bad = self._mapped(raw)
            if len(bad):
                reading.rejected.append(bad)
                rejected += len(bad)
            count += len(chunk.frame)
            if len(chunk.frame):
                yield chunk
        reading.origins.append(
            Origin(
                self._where,
                count,
                rejected,
                size=None if file is None else file.size,
                modified=None if file is None else file.modified,
                sha256="" if copy is None else copy.sha256,
                etag="" if copy is None else copy.etag,
                statement="" if asked is None else asked.text,
                newest=self._highest(self._source.TIME),
                watermark=self._highest(UPDATED),
                absent=tuple(
                    each
                    for each in self._source.OPTIONAL
                    if present and each not in present and each not in self._source.constants
                ),
            )
        )

    def _mapped(self, raw: Raw) -> tuple[Chunk, pd.DataFrame]:
        if self._marks.decimal is None:
            self._marks.learn(
                {name: column for name, column in raw.columns.items() if kind_of(name) == "number" and _is_text(column)}
            )
        cells = {
            name: converted(column, kind_of(name), marks=self._marks, dates=self._dates)
            for name, column in raw.columns.items()
        }
        wrong, bad = self._rejected(raw, cells)
        frame = pa.table({name: each.values for name, each in cells.items()}).to_pandas()
        for name, factor in self._source.factors.items():
            if name in frame:
                frame[name] = frame[name] * factor
        for name, value in self._source.constants.items():
            frame[name] = self._constant(name, value)
        keep = ~wrong & self._wanted(frame)
        lines = raw.lines
        if not keep.all():
            frame, lines = frame[keep].reset_index(drop=True), lines[keep]
        for name in {self._source.TIME, UPDATED} & set(frame.columns):
            self._note(name, frame[name].max())
        return Chunk(frame=frame, origin=self._where, lines=lines), bad

    def _constant(self, name: str, value: str) -> Any:
        try:
            return constant(value, kind_of(name))
        except ValueError as error:
            raise SourceError(f"{self._where}: constants: {name}: {value!r} is no {kind_of(name)}") from error

    def _rejected(self, raw: Raw, cells: Mapping[str, Cells]) -> tuple[Bools, pd.DataFrame]:
        """Rows with a cell that is not of its kind, each with the first reason, and the lines that are no rows."""
        wrong = np.zeros(len(raw.lines), dtype=np.bool_)
        reasons = np.full(len(raw.lines), "", dtype=object)
        for name, each in cells.items():
            for reason, mask in each.wrong.items():
                reasons[mask & ~wrong] = f"{name} {reason}"
                wrong |= mask
        lines = [row.line for row in raw.rejected]
        texts = [row.text for row in raw.rejected]
        whys = [row.reason for row in raw.rejected]
        if wrong.any():
            at = np.flatnonzero(wrong)
            table = pa.table(raw.columns).take(pa.array(at)).to_pylist()
            lines += raw.lines[at].tolist()
            whys += reasons[at].tolist()
            texts += [", ".join(f"{name}={value}" for name, value in row.items()) for row in table]
        frame = pd.DataFrame({"source": self._where, "line": lines, "reason": whys, "text": texts})
        return wrong, frame.sort_values("line", ignore_index=True) if len(frame) else frame

    def _wanted(self, frame: pd.DataFrame) -> Bools:
        """Which rows lie in the span; a time without a zone is compared as the wall clock of the zone tells it."""
        keep = np.ones(len(frame), dtype=np.bool_)
        span = self._span
        bounds = ((self._source.TIME, span.since, span.until), (UPDATED, span.changed, None))
        for name, first, end in bounds:
            if name in frame and name not in self._source.constants:
                if first is not None:  # a row without a time is for the checks of the table to tell
                    keep &= ~(frame[name] < self._moment(frame[name], first)).to_numpy()
                if end is not None:
                    keep &= ~(frame[name] >= self._moment(frame[name], end)).to_numpy()
        return keep

    def _moment(self, column: "pd.Series[Any]", moment: dt.datetime) -> pd.Timestamp:
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            return pd.Timestamp(moment)
        return pd.Timestamp(moment.astimezone(self._span.zone).replace(tzinfo=None))

    def _note(self, name: str, value: Any) -> None:
        if pd.isna(value):
            return
        former = self._newest.get(name)
        if former is None or self._comparable(former) < self._comparable(value):
            self._newest[name] = value

    def _comparable(self, value: pd.Timestamp) -> dt.datetime:
        moment: dt.datetime = value.to_pydatetime()
        return moment if moment.tzinfo else moment.replace(tzinfo=self._span.zone)

    def _highest(self, name: str) -> str:
        return self._newest[name].isoformat() if name in self._newest else ""


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))
