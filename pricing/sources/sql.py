"""Read a table or query of a database in chunks, asking only for the rows of a span of time."""

import datetime as dt
import decimal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import sqlalchemy as sa

from pricing.config_sources import TableSource
from pricing.data.databases import Database, find_table, is_query, open_database, select
from pricing.errors import SourceError
from pricing.sources.columns import UPDATED, resolve, theirs
from pricing.sources.delimited import Layout, parse
from pricing.sources.raw import CHUNK_ROWS, Raw

_Clock = Literal["date", "local", "instant", "text"]
# What a driver says of a column's type: psycopg2's numbers of types, PyMySQL's.
_CLOCKS: dict[str, dict[int, _Clock]] = {
    "postgresql": {1082: "date", 1114: "local", 1184: "instant", 25: "text", 1043: "text", 1042: "text"},
    "mysql": {10: "date", 12: "local", 7: "instant", 253: "text", 254: "text", 252: "text"},
}
_MYSQL_TIMESTAMP = 7
_Rows = sa.Select[*tuple[Any, ...]]


@dataclass(frozen=True)
class Span:
    """The rows that are asked for; None where nothing bounds them.

    Attributes:
        since: First time of a row.
        until: Time before which rows lie.
        changed: Time after which rows were changed.
        zone: Zone of times that tell none.
    """

    since: dt.datetime | None
    until: dt.datetime | None
    changed: dt.datetime | None
    zone: ZoneInfo


class Statement:
    """What is asked of a database, for the record; known as soon as reading has begun."""

    text: str = ""


def read_table(location: str, source: TableSource, span: Span, *, seconds: float, asked: Statement) -> Iterator[Raw]:
    """Reads a table or query; rows outside the span may come, too, where the database cannot tell exactly.

    The rows are first copied to a compressed temporary file, so that the database's snapshot is held no longer than the
    copying takes, and a connection that breaks gives no rows at all.

    Args:
        location: The database's URL, with `#table`, `#schema.table` or `#SELECT …`.
        source: What is configured.
        span: The rows that are wanted.
        seconds: How long each statement may take.
        asked: Is told the statement.

    Raises:
        SourceError: The table or a column is missing, the statement fails or would write, or the connection breaks.
    """
    address, _, what = location.partition("#")
    if not what.strip():
        raise SourceError(
            f"{address.split('://', maxsplit=1)[0]}://…: names no table; add #table or #SELECT … to the URL"
        )
    with open_database(address, seconds=seconds) as database:
        where = f"{database.shown}#{what.strip()}"
        rows = select(database, what.strip())
        names, codes = _header(database, rows, what.strip())
        found = resolve(source, [name.strip() for name in names], where=where)
        columns = {name: names[at] for name, at in found.items()}
        statement: _Rows = sa.select(*(sa.column(column) for column in dict.fromkeys(columns.values()))).select_from(
            rows
        )
        statement = statement.where(*_conditions(database, rows, source, span, codes))
        asked.text = str(statement.compile(dialect=database.connection.dialect)).replace("%%", "%")
        if database.dialect == "postgresql":
            yield from _copied(database, statement, source, columns, where=where)
        else:
            yield from _fetched(database, statement, columns, codes)


def _header(database: Database, rows: sa.FromClause | sa.TextClause, what: str) -> tuple[list[str], dict[str, Any]]:
    """Names of the columns in their order, and what the driver says of their types."""
    query = sa.select(sa.text("*")).select_from(rows).limit(0)
    result = database.connection.execute(query, execution_options={"stream_results": False})
    described = {column[0]: column[1] for column in result.cursor.description}
    names = list(result.keys())
    result.close()
    return (names if is_query(what) else find_table(database, what)[1]), described


def _conditions(
    database: Database, rows: sa.FromClause | sa.TextClause, source: TableSource, span: Span, codes: dict[str, Any]
) -> Iterator[sa.ColumnElement[bool]]:
    """Comparisons of bare columns with bound values, so that an index on the column serves."""
    if source.TIME and (span.since or span.until) and source.TIME not in source.constants:
        column: sa.ColumnClause[Any] = sa.column(theirs(source, source.TIME))
        clock = _clock(database, rows, column, codes)
        if clock and span.since:
            yield column >= _bound(span.since, clock, span.zone, database, late=False)
        if clock and span.until:
            yield column < _bound(span.until, clock, span.zone, database, late=True)
    if source.updated and span.changed:
        column = sa.column(theirs(source, UPDATED))
        clock = _clock(database, rows, column, codes)
        if clock:
            yield column >= _bound(span.changed, clock, span.zone, database, late=False)


def _clock(
    database: Database, rows: sa.FromClause | sa.TextClause, column: sa.ColumnClause[Any], codes: dict[str, Any]
) -> _Clock | None:
    """What a column's times are; None where the table is empty."""
    known = _CLOCKS.get(database.dialect, {}).get(codes.get(column.name, -1))
    if known:
        return known
    value = database.connection.execute(
        sa.select(column).select_from(rows).where(column.is_not(None)).limit(1),
        execution_options={"stream_results": False},
    ).scalar()
    if value is None:
        return None
    if isinstance(value, str):
        return "text"
    if isinstance(value, dt.datetime):
        return "instant" if value.tzinfo else "local"
    if isinstance(value, dt.date):
        return "date"
    raise SourceError(
        f"{database.shown}: {column.name} holds {value!r}, which is no time; "
        "write a query behind # that makes it one, such as SELECT to_timestamp(…) AS time"
    )


def _bound(moment: dt.datetime, clock: _Clock, zone: ZoneInfo, database: Database, *, late: bool) -> Any:
    """A moment as the column writes it; never narrower than asked, since `pricing.sources.reading` bounds it again."""
    if clock == "instant":
        utc = moment.astimezone(dt.UTC)
        return utc.replace(tzinfo=None) if database.dialect == "mysql" else utc  # the session's zone is UTC there
    local = moment.astimezone(zone).replace(tzinfo=None)
    if clock == "local":
        return local + dt.timedelta(hours=2 if late else -2)  # clocks that are set back tell an hour twice
    day = local.date()
    if clock == "date":
        return day + dt.timedelta(days=1) if late and local.time() != dt.time() else day
    # Texts of ISO 8601 sort as their days do, but for zones, of which the farthest are 26 hours apart.
    return (day + dt.timedelta(days=3 if late else -2)).isoformat()


def _copied(
    database: Database, statement: _Rows, source: TableSource, columns: dict[str, str], *, where: str
) -> Iterator[Raw]:
    """PostgreSQL's COPY, four times as fast as fetching rows; its parameters are bound by the driver."""
    compiled = statement.compile(dialect=database.connection.dialect)
    with tempfile.TemporaryDirectory(prefix="source-") as folder:
        path = Path(folder) / "rows"
        with closing(database.connection.connection.cursor()) as cursor:
            cursor.execute("SET LOCAL datestyle = 'ISO'")
            text = str(compiled)
            query = cursor.mogrify(text, compiled.params).decode() if compiled.params else text.replace("%%", "%")
            with pa.CompressedOutputStream(str(path), "lz4") as packed:
                cursor.copy_expert(
                    f"COPY ({query}) TO STDOUT WITH (FORMAT csv, HEADER, ENCODING 'UTF8')", _Sink(packed), 1 << 16
                )
            told = cursor.rowcount
        database.connection.rollback()  # ends the snapshot, before rows are worked on
        layout = Layout("utf-8", ",", tuple(name.strip() for name in dict.fromkeys(columns.values())), 0, True)
        count = 0
        with pa.CompressedInputStream(str(path), "lz4") as stream:
            for raw in parse(stream, layout, source, where=where):
                count += len(raw.lines) + len(raw.rejected)
                yield raw
        if count != told:
            raise SourceError(f"{where}: sent {told} rows, of which {count} arrived; try again")


class _Sink:
    """What the driver writes to."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        return len(data)


def _fetched(database: Database, statement: _Rows, columns: dict[str, str], codes: dict[str, Any]) -> Iterator[Raw]:
    with tempfile.TemporaryDirectory(prefix="source-") as folder:
        paths = []
        with database.connection.execute(statement) as result:
            keys = list(result.keys())
            unread = getattr(result.cursor, "_result", None)
            for number, rows in enumerate(_partitions(result, unread)):
                cells = dict(zip(keys, zip(*rows, strict=True), strict=True))
                utc = {name for name in keys if database.dialect == "mysql" and codes.get(name) == _MYSQL_TIMESTAMP}
                table = pa.table({name: _array(cells[its], utc=its in utc) for name, its in columns.items()})
                paths.append(Path(folder) / str(number))
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                with pa.ipc.new_file(str(paths[-1]), table.schema, options=options) as writer:
                    writer.write_table(table)
        database.connection.rollback()
        line = 0
        for path in paths:
            with pa.ipc.open_file(str(path)) as reader:
                table = reader.read_all()
            path.unlink()
            yield Raw(
                {name: table[name].combine_chunks() for name in table.column_names},
                np.arange(line + 1, line + 1 + len(table), dtype=np.int64),
            )
            line += len(table)


def _partitions(result: sa.CursorResult[Any], unread: Any) -> Iterator[Sequence[Sequence[Any]]]:
    try:
        yield from result.partitions(CHUNK_ROWS)
    finally:
        if hasattr(unread, "unbuffered_active"):  # PyMySQL would read on from a connection that broke
            unread.unbuffered_active = False


def _array(values: Sequence[Any], *, utc: bool) -> Any:
    """Cells of one column: of one type where they are of one, otherwise as texts, which SQLite allows."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int, float, decimal.Decimal}:
        if kinds == {int}:
            try:
                return pa.array(values, pa.int64())
            except (OverflowError, pa.ArrowInvalid):
                return pa.array([None if value is None else str(value) for value in values], pa.string())
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {dt.datetime}:
        return pa.array(values, pa.timestamp("us", "UTC" if utc or _zoned(values) else None))
    if kinds == {dt.date}:
        return pa.array(values, pa.date32())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _zoned(values: Sequence[Any]) -> bool:
    return next(value for value in values if value is not None).tzinfo is not None


def _text(value: Any) -> str:
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
