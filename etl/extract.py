"""Bring one of a shop's tables into DuckDB: files by its own readers, databases as Arrow; bad lines keep their reasons."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import duckdb
import pyarrow as pa
import sqlalchemy as sa
from fsspec.implementations.arrow import ArrowFSWrapper
from sqlalchemy.dialects import postgresql

from etl.settings import COLUMNS, NEEDED, Kind, TableSettings, expanded
from pricing.data.databases import Database, find_table, is_query, open_database, select
from pricing.data.files import HEAD, open_filesystem, what_is
from pricing.errors import ConfigError, SourceError, first_line
from pricing.fileio import redact_text

TYPES: dict[Kind, str] = {"time": "TIMESTAMPTZ", "day": "DATE", "number": "DOUBLE", "text": "VARCHAR"}
_WANTED: dict[Kind, str] = {
    "time": "an ISO time such as 2026-11-27 09:30",
    "day": "an ISO day such as 2026-11-27",
    "number": "a number",
    "text": "a text",
}
_CSV, _PARQUET = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt"), (".parquet",)
_SAMPLED_FILES, _SAMPLED_LINES = 20, 2000
_ROWS_AT_ONCE = 50_000
_DAY = re.compile(r"(\d{1,2})([./-])(\d{1,2})[./-](\d{4})(?:[ T](\d{1,2}:\d{2}(:\d{2})?))?")
_COMMA, _POINT = re.compile(r"-?(\d+|\d{1,3}(\.\d{3})+),\d+"), re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)\.\d+")
_EITHER = re.compile(r"-?[1-9]\d{0,2}([.,]\d{3})+")  # 1,234 is a thousand, or a little more than one


@dataclass(frozen=True)
class Extract:
    """What came of reading a table into the DuckDB table of its name, whose column `fault` is NULL in usable rows.

    Attributes:
        shown: Where it lies, as it was given: passwords are variables.
        read: Rows read, those that are set aside included.
        aside: Reason: rows that are not in the DuckDB table.
        examples: Reason: the first such row.
        told: How files are written, as it was declared or found.
        columns: Our columns that it has.
    """

    shown: str
    read: int
    aside: Mapping[str, int]
    examples: Mapping[str, str]
    told: str
    columns: tuple[str, ...]


@dataclass
class _Raw:
    """Where rows come from: SELECTs for DuckDB, and the names of their columns; `typed` where the reader casts."""

    parts: list[tuple[str, dict[str, str]]]
    told: str = ""
    typed: bool = False
    rejects: list[str] = field(default_factory=list)


class _S3(ArrowFSWrapper):  # type: ignore[misc]
    protocol = "s3"


def use_s3(con: duckdb.DuckDBPyConnection, where: str) -> None:
    """Lets DuckDB read and write `s3://`; endpoint, region and keys from the usual AWS_ variables."""
    if "s3" not in con.list_filesystems():
        con.register_filesystem(_S3(open_filesystem(where)[0]))


def extract(
    con: duckdb.DuckDBPyConnection,
    table: str,
    settings: TableSettings,
    *,
    environ: Mapping[str, str],
    since: date | None,
    sql_seconds: float,
) -> Extract:
    """Reads a table.

    Args:
        con: Its time zone is the shop's: times without a zone are of it.
        table: A key of `COLUMNS`.
        settings: Where it lies.
        environ: Fills `${NAME}`.
        since: The first day that is read, of a table with times; None: all.
        sql_seconds: How long a statement of a database may take.

    Raises:
        ConfigError: A variable is not set, or a column is not there.
        SourceError: It cannot be read, or its dates or numbers can be read in two ways.
    """
    where = f"etl.tables.{table}"
    location = expanded(settings.location, environ, where=where)
    time = next((name for name, kind in COLUMNS[table].items() if kind == "time"), None) if since else None
    try:
        if "://" in location and not location.startswith("s3://"):
            raw = _from_database(con, table, settings, location, since=since if time else None, seconds=sql_seconds)
        else:
            raw = _from_files(con, table, settings, location)
        names = _load(con, table, settings, raw, since=since if time else None)
        aside, examples = _rejected(con, raw)
        kept = con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise SourceError(f"{where}: {settings.location}: cannot be read: {redact_text(first_line(error))}") from None
    return Extract(settings.location, kept + sum(aside.values()), aside, examples, raw.told, tuple(names))


def _load(
    con: duckdb.DuckDBPyConnection, table: str, settings: TableSettings, raw: _Raw, *, since: date | None
) -> list[str]:
    """Fills the table; returns our columns that are there."""
    found: list[str] = []
    for number, (relation, types) in enumerate(raw.parts):
        if settings.query is not None:
            con.execute(f"CREATE OR REPLACE TEMP VIEW raw AS SELECT * FROM {relation}")
            relation = f"({_own_query(settings.query)})"
            rows = con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
            types = {str(row[0]): str(row[1]) for row in rows}
            named = TableSettings(location=settings.location).named(table, list(types))
            named |= {"store": "store"} if "store" in types and "store" in COLUMNS[table] else {}
        else:
            named = settings.named(table, list(types))
        cells, faults = [], []
        for name, kind in COLUMNS[table].items():
            theirs, their_type = quoted(named.get(name, "")), types.get(named.get(name, ""), "")
            cells.append(f"{_cast(theirs, their_type, kind) if name in named else f'NULL::{TYPES[kind]}'} AS {name}")
            if name in named and their_type == "VARCHAR" and kind != "text":
                bad = f"trim({theirs}) <> '' AND TRY_CAST({theirs} AS {TYPES[kind]}) IS NULL"
                faults.append(f"WHEN {bad} THEN '{name} must be {_WANTED[kind]}'")
        faults += [f"WHEN {name} IS NULL THEN '{name} must not be missing'" for name in NEEDED[table]]
        of = next(name for name, kind in COLUMNS[table].items() if kind in ("time", "day") or name == NEEDED[table][0])
        recent = f"WHERE {of} >= DATE '{since}'::TIMESTAMPTZ OR {of} IS NULL" if since else ""
        what = f"SELECT {', '.join(cells)}, CASE {' '.join(faults)} END AS fault FROM {relation} {recent}"
        con.execute(f"CREATE TABLE {table} AS {what}" if not number else f"INSERT INTO {table} {what}")
        found += [name for name in named if name not in found]
    return found


def _cast(theirs: str, their_type: str, kind: Kind) -> str:
    if kind != "text":
        return f"TRY_CAST({theirs} AS {TYPES[kind]})"
    if their_type in ("DOUBLE", "FLOAT"):  # an id of a column that has gaps: 17.0 is 17
        whole = f"{theirs} = floor({theirs}) AND abs({theirs}) < 1e15"
        theirs = f"CASE WHEN {whole} THEN CAST(CAST({theirs} AS BIGINT) AS VARCHAR) ELSE CAST({theirs} AS VARCHAR) END"
    return f"nullif(trim(CAST({theirs} AS VARCHAR)), '')"


def quoted(name: str) -> str:
    """A column's or table's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _own_query(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip().rstrip(";")
    except OSError as error:
        raise ConfigError(f"{path}: the query cannot be read ({error.strerror})") from error


def _rejected(con: duckdb.DuckDBPyConnection, raw: _Raw) -> tuple[dict[str, int], dict[str, str]]:
    """Lines of CSV files that could not be read, by reason; each counts once."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for path in raw.rejects:
        rows = con.execute(
            """SELECT line, first(column_name ORDER BY column_idx), first(error_type ORDER BY column_idx),
            first(csv_line) FROM reject_errors JOIN reject_scans USING (scan_id, file_id)
            WHERE file_path = $1 GROUP BY line ORDER BY line""",
            [path],
        ).fetchall()
        for line, column, kind, text in rows:
            reason = f"{column} cannot be read" if kind == "CAST" else str(kind).lower().replace("_", " ")
            counts[reason] += 1
            examples.setdefault(reason, f"{Path(path).name}, line {line}, column {column or '-'}: {str(text)[:80]}")
    return dict(counts), examples


def _from_files(
    con: duckdb.DuckDBPyConnection,
    table: str,
    settings: TableSettings,
    location: str,
) -> _Raw:
    where = f"etl.tables.{table}"
    if location.startswith("s3://"):
        use_s3(con, location)
    files = _found(con, location)
    wrong = [one for one in files if not one.endswith((*_CSV, *_PARQUET))]
    if wrong or not files:
        raise SourceError(f"{where}: {settings.location}: expected .csv or .parquet files, found {wrong[0] if wrong else 'none'}")
    if files[0].endswith(_PARQUET):
        relation = f"read_parquet([{', '.join(map(_text, files))}], union_by_name=true)"
        rows = con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        return _Raw([(relation, {str(row[0]): str(row[1]) for row in rows})])
    return _from_csv(con, table, settings, files)


def _found(con: duckdb.DuckDBPyConnection, location: str) -> list[str]:
    patterns = [location]
    if not any(sign in location for sign in "*?[") and not location.endswith((*_CSV, *_PARQUET)):
        patterns = [f"{location.rstrip('/')}/**/*{end}" for end in (".parquet", ".csv", ".csv.gz")]
    for pattern in patterns:
        found = con.execute("SELECT file FROM glob($1) ORDER BY file", [pattern]).fetchall()
        if found:
            return [str(row[0]) for row in found]
    return []


def _from_csv(
    con: duckdb.DuckDBPyConnection,
    table: str,
    settings: TableSettings,
    files: list[str],
) -> _Raw:
    where = f"etl.tables.{table}"
    dialects = {one: _dialect(con, one, settings, where=where) for one in files}
    kinds = {theirs: COLUMNS[table][ours] for ours, theirs in settings.named(table, dialects[files[0]][1]).items()} if (
        settings.query is None
    ) else {}
    samples = _samples(con, files, dialects, kinds)
    decimal = settings.decimal or _decimal(samples["number"], where=where)
    format = settings.date_format or _date_format(samples["time"] + samples["day"], where=where)
    options = [f"decimal_separator={_text(decimal)}"]
    options += ["thousands='.'"] if decimal == "," else []
    options += [f"dateformat={_text(format)}, timestampformat={_text(format)}"] if format else []
    raw = _Raw([], typed=True, rejects=files)
    for one, (dialect, names) in dialects.items():
        # A time in a format of its own has no zone; only an ISO one may.
        types = {
            name: "TIMESTAMP" if format and kinds.get(name) == "time" else TYPES[kinds.get(name, "text")]
            for name in names
        }
        columns = ", ".join(f"{_text(name)}: '{kind}'" for name, kind in types.items())
        read = f"read_csv({_text(one)}, {dialect}, {', '.join(options)}, columns={{{columns}}}, store_rejects=true)"
        raw.parts.append((read, types))
    signs = sorted({dialect.partition(",")[0].partition("=")[2] for dialect, _ in dialects.values()})
    raw.told = f"{', '.join(signs)} between cells, decimal mark {decimal!r}, dates {format or 'ISO 8601'}"
    return raw


def _dialect(
    con: duckdb.DuckDBPyConnection,
    file: str,
    settings: TableSettings,
    *,
    where: str,
) -> tuple[str, list[str]]:
    """How a CSV file is written, as options of `read_csv`, and the names in its header."""
    store, path = open_filesystem(file)
    with store.open_input_stream(path, compression="gzip" if file.endswith(".gz") else None) as stream:
        holds = what_is(stream.read(HEAD))
    if holds is not None:
        raise SourceError(f"{where}: {file}: is called CSV but holds {holds}; save it as CSV in UTF-8, or as Parquet")
    given = f", delim={_text(settings.delimiter)}" if settings.delimiter else ""
    sniffed = con.execute(
        f"SELECT Delimiter, Quote, Escape, Columns FROM sniff_csv({_text(file)}, header=true, ignore_errors=true{given})"
    ).fetchall()
    delimiter, mark, escape, columns = sniffed[0]
    mark = '"' if mark in ("", "(empty)") else mark
    escape = mark if escape in ("", "(empty)") else escape
    options = f"delim={_text(settings.delimiter or delimiter)}, auto_detect=false, header=true, "
    return f"{options}quote={_text(mark)}, escape={_text(escape)}", [str(column["name"]) for column in columns]


def _samples(
    con: duckdb.DuckDBPyConnection,
    files: list[str],
    dialects: Mapping[str, tuple[str, list[str]]],
    kinds: Mapping[str, Kind],
) -> dict[Kind, list[str]]:
    """Some cells of each kind, as they are written."""
    found: dict[Kind, list[str]] = {"time": [], "day": [], "number": [], "text": []}
    for one in files[:: max(1, len(files) // _SAMPLED_FILES)]:
        dialect, names = dialects[one]
        columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
        chosen = [name for name in names if kinds.get(name, "text") != "text"]
        if not chosen:
            continue
        rows = con.execute(
            f"SELECT {', '.join(map(quoted, chosen))} FROM read_csv({_text(one)}, {dialect}, columns={{{columns}}}, "
            f"ignore_errors=true) LIMIT {_SAMPLED_LINES}"
        ).fetchall()
        for row in rows:
            for name, cell in zip(chosen, row, strict=True):
                if cell is not None and cell.strip():
                    found[kinds[name]].append(cell.strip())
    return found


def _decimal(cells: list[str], *, where: str) -> str:
    """The decimal mark.

    Raises:
        SourceError: It can be the one or the other.
    """
    marked = [cell for cell in cells if "," in cell or "." in cell]
    comma, point = (
        next((cell for cell in marked if form.fullmatch(cell) and not _EITHER.fullmatch(cell)), None)
        for form in (_COMMA, _POINT)
    )
    if marked and (comma is None) == (point is None):
        shown = marked[0] if comma is None else f"{comma} and {point}"
        raise SourceError(f"{where}: numbers such as {shown} can be read in two ways: give decimal")
    return "." if comma is None else ","


def _date_format(cells: list[str], *, where: str) -> str | None:
    """The format of dates and times that are not ISO 8601; None where they are.

    Raises:
        SourceError: Day and month cannot be told apart.
    """
    matches = [match for cell in cells if (match := _DAY.fullmatch(cell))]
    if not matches or len(matches) < len(cells) / 2:
        return None
    first, second = (any(int(match[group]) > 12 for match in matches) for group in (1, 3))
    if first == second:
        raise SourceError(
            f"{where}: in dates such as {matches[0][0]!r} day and month cannot be told apart: give date_format, such "
            "as %d/%m/%Y or %m/%d/%Y"
        )
    sign = matches[0][2]
    days = sign.join(("%d", "%m", "%Y") if first else ("%m", "%d", "%Y"))
    times = Counter("" if match[5] is None else " %H:%M:%S" if match[6] else " %H:%M" for match in matches)
    return days + times.most_common(1)[0][0]


def _from_database(
    con: duckdb.DuckDBPyConnection,
    table: str,
    settings: TableSettings,
    location: str,
    *,
    since: date | None,
    seconds: float,
) -> _Raw:
    address, _, what = location.partition("#")
    if not what.strip():
        raise ConfigError(f"etl.tables.{table}: add #table or #SELECT … to the database's address")
    with open_database(address, seconds=seconds) as database:
        there = _columns(database, what)
        named = settings.named(table, there) if settings.query is None else {}
        query = sa.select(*(sa.column(name) for name in dict.fromkeys(named.values()) or there))
        query = query.select_from(select(database, what))
        if since is not None and settings.query is None:
            time = sa.column(named[next(name for name, kind in COLUMNS[table].items() if kind == "time")])
            # A day more, since zones differ; without a type, so that each database reads the text as its column's.
            early = sa.literal_column(f"'{since - timedelta(days=1)}'")
            query = query.where(sa.or_(time >= early, time.is_(None)))
        with (
            _by_adbc(address, query, seconds=seconds)
            if database.dialect == "postgresql"
            else _by_rows(database, query)
        ) as batches:
            con.register("batches", batches)
            con.execute("CREATE OR REPLACE TABLE raw_rows AS SELECT * FROM batches")
            con.unregister("batches")
    rows = con.execute("DESCRIBE SELECT * FROM raw_rows").fetchall()
    return _Raw([("raw_rows", {str(row[0]): str(row[1]) for row in rows})])


def _columns(database: Database, what: str) -> list[str]:
    if not is_query(what):
        return find_table(database, what)[1]
    result = database.connection.execute(sa.select(sa.text("*")).select_from(select(database, what)).limit(0))
    return list(result.keys())


@contextmanager
def _by_adbc(address: str, query: sa.Select[Any], *, seconds: float) -> Iterator[pa.RecordBatchReader]:
    """A PostgreSQL query's rows, as they come."""
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - a compiled driver that only PostgreSQL needs

    url = sa.make_url(address).set(drivername="postgresql")
    own = url.query.get("options", "")
    limits = f"-c default_transaction_read_only=on -c statement_timeout={max(1, int(1000 * seconds))}"
    url = url.update_query_dict({"options": f"{own} {limits}".strip()})
    # The names are compiled without doubled percent signs, which only drivers with parameters undo.
    text = str(query.compile(dialect=postgresql.dialect(paramstyle="named")))  # type: ignore[no-untyped-call]
    plain = url.set(query={}).render_as_string(hide_password=False)
    given = [(name, one) for name, value in url.query.items() for one in ([value] if isinstance(value, str) else value)]
    # PostgreSQL's own library reads a blank as %20, and no plus.
    with dbapi.connect(f"{plain}?{urlencode(given, quote_via=quote)}") as connection, connection.cursor() as cursor:
        cursor.execute(text)
        yield cursor.fetch_record_batch()


@contextmanager
def _by_rows(database: Database, query: sa.Select[Any]) -> Iterator[pa.RecordBatchReader]:
    """A query's rows as texts, which are read as those of files are."""
    result = database.connection.execute(query)
    schema = pa.schema([(name, pa.string()) for name in result.keys()])  # noqa: SIM118 - rows, not a mapping

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in result.partitions(_ROWS_AT_ONCE):
            columns = [pa.array(map(_written, column), pa.string()) for column in zip(*rows, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    yield pa.RecordBatchReader.from_batches(schema, batches())


def _written(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
