"""Bring a shop's tables into DuckDB: files by its own readers, databases as Arrow; bad lines keep their reasons."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import duckdb
import pyarrow as pa
import sqlalchemy as sa
from fsspec.implementations.arrow import ArrowFSWrapper
from sqlalchemy.dialects import postgresql

from etl.report import TableRead
from etl.settings import CLOCKS, COLUMNS, NEEDED, TYPES, Kind, TableSettings, expanded, hidden
from pricing.data.database import Database, column_names, open_database, read_only_options, select
from pricing.data.source import open_filesystem
from pricing.errors import ConfigError, PricingError, SourceError, first_line
from pricing.fileio import redact_text

_WANTED = {"time": "an ISO time such as 2026-11-27 09:30", "day": "an ISO day such as 2026-11-27", "number": "a number"}
OFFLINE = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}  # configuration of DuckDB
_CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")
_PARQUET = (".parquet",)
_SAMPLED_LINES = 2000
_ZONED = "TIMESTAMP WITH TIME ZONE"
_MOMENTS = ("time", "day")  # kinds that may be written with a zone
_ROWS_AT_ONCE = 50_000


class _S3(ArrowFSWrapper):  # type: ignore[misc]
    protocol = "s3"


def use_s3(con: duckdb.DuckDBPyConnection, where: str) -> None:
    """Lets DuckDB read and write `s3://`; endpoint, region and keys from the usual AWS_ variables."""
    if where.startswith("s3://") and "s3" not in con.list_filesystems():
        con.register_filesystem(_S3(open_filesystem(where)[0]))


def extract(
    con: duckdb.DuckDBPyConnection,
    table: str,
    settings: TableSettings,
    *,
    environ: Mapping[str, str],
    since: date | None,
    seconds: float,
) -> TableRead:
    """Reads a table into the DuckDB table of its name, whose column `fault` is NULL in rows that could be read.

    Args:
        con: Its time zone is the shop's: times without a zone are of it.
        table: A key of `COLUMNS`.
        settings: Where it lies.
        environ: Fills `${NAME}`.
        since: The first day that is read, of a table of `CLOCKS`; None: all.
        seconds: How long a statement of a database may take.

    Raises:
        ConfigError: A variable is not set, or a column is not there.
        SourceError: It cannot be read.
    """
    where = f"etl.tables.{table}"
    location = expanded(settings.location, environ, where=where)
    try:
        told = ""
        if "://" in location and not location.startswith("s3://"):
            relation = _from_database(con, table, settings, location, since=since, seconds=seconds)
        else:
            relation, told = _from_files(con, table, settings, location)
        con.execute(f"CREATE TABLE {table} AS {_selected(con, table, settings, relation, since=since)}")
        aside, examples = _rejected(con) if told else ({}, {})
        ((kept,),) = con.execute(f"SELECT count(*) FROM {table}").fetchall()
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        why = hidden(redact_text(first_line(error)), settings.location, environ)
        raise SourceError(f"{where}: {settings.location}: cannot be read: {why}") from None
    except PricingError as error:
        raise type(error)(hidden(str(error), settings.location, environ)) from None
    read = kept + sum(aside.values())
    return TableRead(location=settings.location, read=read, used=kept, aside=aside, examples=examples, told=told)


def _selected(
    con: duckdb.DuckDBPyConnection, table: str, settings: TableSettings, relation: str, *, since: date | None
) -> str:
    """The query that gives our columns of a relation, and what is wrong with each row."""
    if settings.query is not None:
        relation = _queried(con, settings.query, relation)
    types = {str(row[0]): str(row[1]) for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    named = settings.named(table, list(types))
    if settings.query is not None and "store" in types and "store" in COLUMNS[table]:
        named.setdefault("store", "store")

    cells = {}
    faults = []
    for name, kind in COLUMNS[table].items():
        theirs = quoted(named[name]) if name in named else "NULL"
        their_type = types[named[name]] if name in named else ""
        cells[name] = _cast(theirs, their_type, kind)
        if their_type == "VARCHAR" and kind != "text":
            faults.append(f"WHEN trim({theirs}) <> '' AND {cells[name]} IS NULL THEN '{name} must be {_WANTED[kind]}'")
    faults += [f"WHEN {cells[name]} IS NULL THEN '{name} must not be missing'" for name in NEEDED[table]]

    recent = ""
    if since is not None:  # compared as it is there, so that whole blocks of a file are passed over
        theirs = named[CLOCKS[table]]
        time = quoted(theirs) if types[theirs].startswith(("DATE", "TIMESTAMP")) else cells[CLOCKS[table]]
        recent = f"WHERE {time} >= TIMESTAMP '{since}' OR {time} IS NULL"
    columns = ", ".join(f"{cell} AS {name}" for name, cell in cells.items())
    return f"SELECT {columns}, CASE {' '.join(faults)} END AS fault FROM {relation} {recent}"


def _queried(con: duckdb.DuckDBPyConnection, query: Path, relation: str) -> str:
    """Makes a table of what a shop's query returns of `raw`, and returns its name.

    It runs in a database of its own, in which `raw` is a table and from which no file or address can be reached.

    Raises:
        ConfigError: The query cannot be read, or is not one SELECT.
    """
    try:
        statements = con.extract_statements(query.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, duckdb.Error) as error:
        raise ConfigError(f"{query}: the query cannot be read ({first_line(error)})") from error
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise ConfigError(f"{query}: expected exactly one SELECT, found {len(statements)} statement(s)")

    ((zone, memory),) = con.execute("SELECT current_setting('TimeZone'), current_setting('memory_limit')").fetchall()
    with TemporaryDirectory(prefix="etl-query-") as scratch:
        limits: dict[str, Any] = {**OFFLINE, "memory_limit": memory, "python_enable_replacements": False}
        with duckdb.connect(f"{scratch}/query.duckdb", config=limits) as own:
            own.execute(f"SET TimeZone = {literal(zone)}; SET temp_directory = {literal(f'{scratch}/spill')}")
            own.register("batches", con.sql(f"SELECT * FROM {relation}").to_arrow_reader(_ROWS_AT_ONCE))
            own.execute("CREATE TABLE raw AS FROM batches")
            own.unregister("batches")
            own.execute("SET enable_external_access = false; SET lock_configuration = true")
            con.register("batches", own.sql(statements[0].query).to_arrow_reader(_ROWS_AT_ONCE))
            con.execute("CREATE OR REPLACE TABLE queried AS FROM batches")
            con.unregister("batches")
    return "queried"


def _cast(theirs: str, their_type: str, kind: Kind) -> str:
    if kind in _MOMENTS and their_type == "VARCHAR":  # which may have a zone: what a shop's clock said then
        return f"TRY_CAST(TRY_CAST({theirs} AS TIMESTAMPTZ) AS {TYPES[kind]})"
    if kind != "text":
        return f"TRY_CAST({theirs} AS {TYPES[kind]})"
    if their_type in ("DOUBLE", "FLOAT"):  # an id of a column that has gaps: 17.0 is 17
        whole = f"{theirs} = floor({theirs}) AND abs({theirs}) < 1e15"
        theirs = f"CASE WHEN {whole} THEN CAST(CAST({theirs} AS BIGINT) AS VARCHAR) ELSE CAST({theirs} AS VARCHAR) END"
    return f"nullif(trim(CAST({theirs} AS VARCHAR)), '')"


def quoted(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


def _rejected(con: duckdb.DuckDBPyConnection) -> tuple[dict[str, int], dict[str, str]]:
    """Lines of CSV files that could not be read, by reason, and the first of each; a line counts once."""
    rows = con.execute(
        """WITH lines AS (
            SELECT file_path, line, arg_min({'name': column_name, 'kind': error_type}, column_idx) AS bad,
                any_value(csv_line)[:80] AS text
            FROM reject_errors JOIN reject_scans USING (scan_id, file_id) GROUP BY ALL
        )
        SELECT CASE bad.kind WHEN 'CAST' THEN bad.name || ' cannot be read' ELSE lower(bad.kind::VARCHAR) END,
            count(*), arg_min(parse_filename(file_path) || ', line ' || line || ', column ' || coalesce(bad.name, '-')
            || ': ' || text, (file_path, line))
        FROM lines GROUP BY 1"""
    ).fetchall()
    con.execute("DROP TABLE reject_errors; DROP TABLE reject_scans")  # another table may lie in the same file
    return {reason: lines for reason, lines, _ in rows}, {reason: first for reason, _, first in rows}


def _from_files(con: duckdb.DuckDBPyConnection, table: str, settings: TableSettings, location: str) -> tuple[str, str]:
    """Tells what a SELECT can read of files, and of CSV how they are written."""
    use_s3(con, location)
    patterns = [location]
    if not any(sign in location for sign in "*?[") and not location.endswith((*_CSV, *_PARQUET)):
        patterns = [f"{location.rstrip('/')}/**/*{end}" for end in (*_PARQUET, *_CSV)]
    files: list[str] = []
    for pattern in patterns:
        files += [str(row[0]) for row in con.execute("SELECT file FROM glob($1) ORDER BY file", [pattern]).fetchall()]
    wrong = [file for file in files if not file.endswith((*_CSV, *_PARQUET))]
    if wrong or not files:
        found = wrong[0] if wrong else "none"
        raise SourceError(f"etl.tables.{table}: {settings.location}: expected .csv or .parquet files, found {found}")
    if files[0].endswith(_PARQUET):
        return f"read_parquet([{', '.join(map(literal, files))}], union_by_name=true)", ""
    return _from_csv(con, table, settings, files)


def _from_csv(con: duckdb.DuckDBPyConnection, table: str, settings: TableSettings, files: list[str]) -> tuple[str, str]:
    dialects = {file: _dialect(con, file, settings) for file in files}
    kinds: dict[str, Kind] = {}
    if settings.query is None:
        named = settings.named(table, list(dialects[files[0]].names))
        kinds = {theirs: COLUMNS[table][ours] for ours, theirs in named.items()}

    form = settings.date_format
    options = f"decimal_separator={literal(settings.decimal)}, store_rejects=true"
    if settings.decimal == ",":  # 1,234 where the mark is a point may be either
        options += ", thousands='.'"
    if form:
        options += f", dateformat={literal(form)}, timestampformat={literal(form)}"

    parts = []
    for dialect in dict.fromkeys(dialects.values()):
        # A time or day in a format of its own has no zone; only an ISO one may.
        types = {name: TYPES[kinds.get(name, "text")] for name in dialect.names}
        types |= {name: _ZONED for name in dialect.names if not form and kinds.get(name) in _MOMENTS}
        columns = ", ".join(f"{literal(name)}: '{kind}'" for name, kind in types.items())
        alike = ", ".join(literal(file) for file, its in dialects.items() if its == dialect)
        parts.append(f"FROM read_csv([{alike}], {dialect.options}, {options}, columns={{{columns}}})")

    signs = sorted({literal(dialect.delimiter) for dialect in dialects.values()})
    told = f"{', '.join(signs)} between cells, decimal mark {settings.decimal}, dates {form or 'ISO 8601'}"
    return f"({' UNION ALL BY NAME '.join(parts)})", told


class _Dialect(NamedTuple):
    """How a CSV file is written."""

    delimiter: str
    options: str  # of `read_csv`
    names: tuple[str, ...]  # in its header


def _dialect(con: duckdb.DuckDBPyConnection, file: str, settings: TableSettings) -> _Dialect:
    given = f"header=true, ignore_errors=true, all_varchar=true, sample_size={_SAMPLED_LINES}"
    if settings.delimiter:
        given += f", delim={literal(settings.delimiter)}"
    ((found, mark, escape, columns),) = con.execute(
        f"SELECT Delimiter, Quote, Escape, Columns FROM sniff_csv({literal(file)}, {given})"
    ).fetchall()
    delimiter = settings.delimiter or found
    mark = '"' if mark in ("", "(empty)") else mark
    escape = mark if escape in ("", "(empty)") else escape
    options = f"delim={literal(delimiter)}, quote={literal(mark)}, escape={literal(escape)}"
    names = tuple(str(column["name"]) for column in columns)
    return _Dialect(delimiter, f"{options}, auto_detect=false, header=true", names)


def _from_database(
    con: duckdb.DuckDBPyConnection,
    table: str,
    settings: TableSettings,
    location: str,
    *,
    since: date | None,
    seconds: float,
) -> str:
    address, _, what = location.partition("#")
    if not what.strip():
        raise ConfigError(f"etl.tables.{table}: add #table or #SELECT … to the database's address")
    with open_database(address, seconds=seconds) as database:
        rows = select(database, what)
        there = column_names(database, rows)
        named = settings.named(table, there) if settings.query is None else {}
        chosen: list[Any] = [sa.column(name) for name in dict.fromkeys(named.values()) or there]
        query = sa.select(*chosen).select_from(rows).execution_options(stream_results=True)
        if since is not None and named:
            # A day more, since zones differ; without a type, so that each database reads the text as its column's.
            early: sa.ColumnElement[Any] = sa.literal_column(f"'{since - timedelta(days=1)}'")
            time: sa.ColumnElement[Any] = sa.column(named[CLOCKS[table]])
            query = query.where(sa.or_(time >= early, time.is_(None)))
        by_adbc = database.connection.dialect.name == "postgresql"
        with _by_adbc(address, query, seconds=seconds) if by_adbc else _by_rows(database, query) as batches:
            con.register("batches", batches)
            con.execute("CREATE OR REPLACE TABLE raw_rows AS SELECT * FROM batches")
            con.unregister("batches")
    return "raw_rows"


@contextmanager
def _by_adbc(address: str, query: sa.Select[Any], *, seconds: float) -> Iterator[pa.RecordBatchReader]:
    """A PostgreSQL query's rows, as they come."""
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - a compiled driver that only PostgreSQL needs

    url = sa.make_url(address).set(drivername="postgresql")
    given = {**url.query, "options": read_only_options(url, seconds)}
    plain = url.set(query={}).render_as_string(hide_password=False)
    # Compiled without doubled percent signs, which only drivers with parameters undo; a blank is %20 here, and no plus.
    text = str(query.compile(dialect=postgresql.dialect(paramstyle="named")))  # type: ignore[no-untyped-call]
    uri = f"{plain}?{urlencode(given, doseq=True, quote_via=quote)}"
    try:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            yield cursor.fetch_record_batch()
    except dbapi.Error as error:
        raise OSError(first_line(error)) from None


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
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
