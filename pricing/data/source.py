"""Raw sales from wherever they lie: CSV, Parquet, SQL, S3. Judges the container, never the rows.

A database is opened for reading only: one snapshot, one statement, a time limit, and errors without passwords. A frame
that comes from here says in its `attrs` what was not read: `left_out`, the names of columns that were not asked for,
and `damaged`, (line number, text) of CSV lines whose number of fields is not the header's; and its `lineage`.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import sqlalchemy as sa

from pricing.data.etl_output import output_in_force
from pricing.errors import ETL, SourceError, first_line
from pricing.fileio import redact_text, redact_url, with_driver
from pricing.paths import etl_folder
from pricing.quoting import unquote_formulas

_log = logging.getLogger(__name__)

DEFAULT_TABLE = "sales"
SQL_SECONDS = 600.0  # that a statement may take
_TOO_SLOW = ("statement timeout", "interrupted", "during query (timed out")
_SQL_ROWS = 100_000  # rows fetched at once
_TEXTS = ("product_id", "category", "parent_id", "name")  # never numbers, whatever they look like: 00123 is not 123


def read_sales(where: str, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read raw rows.

    Args:
        where: A `.csv`, `.csv.gz` or `.parquet` file, or a folder of Parquet (partitioned or not), local or `s3://`;
            `etl`, what it last made of a shop's tables; or an SQLAlchemy URL, to which `#table`, `#schema.table` or
            `#SELECT …` may be added (without it, the table `sales`). No query may write.
        columns: The columns wanted; others are left unread, and wanted ones that are absent stay absent.

    Raises:
        SourceError: There is nothing there, it is not what its name says, or it cannot be read.
    """
    if "://" in where and not where.startswith("s3://"):
        return _read_sql(where, columns)
    if where == ETL:
        return read_etl_rows(columns)
    store, path = open_filesystem(where)
    try:
        info = store.get_file_info(path)
        if info.type == pa.fs.FileType.NotFound:
            raise SourceError(f"{where}: does not exist")
        if info.type == pa.fs.FileType.Unknown:  # to read a pipe would wait for a writer, for ever
            raise SourceError(f"{where}: is a pipe, socket or device; expected a file or a folder")
        folder = info.type == pa.fs.FileType.Directory
        if not folder and info.size == 0:
            raise SourceError(f"{where}: is empty (0 bytes)")
        if not folder and path.endswith((".csv", ".csv.gz")):
            return _read_csv(store, path, where=where, columns=columns)
        if not folder and not path.endswith(".parquet"):
            raise SourceError(f"{where}: expected a .csv, .csv.gz or .parquet file, a folder of Parquet, or a URL")
        parts = pa.dataset.dataset(path, filesystem=store, format="parquet", partitioning="hive" if folder else None)
        wanted, left_out = _wanted(parts.schema.names, columns)
        return _to_frame(parts.to_table(columns=wanted), left_out=left_out)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: cannot be read: {first_line(error)}") from error


def _read_csv(
    store: Any, path: str, *, where: str, columns: Sequence[str] | None, texts: Sequence[str] = _TEXTS
) -> pd.DataFrame:
    damaged: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        damaged.append((row.number, row.text))
        return "skip"

    try:
        with store.open_input_stream(path, compression="gzip" if path.endswith(".gz") else None) as stream:
            table = pa.csv.read_csv(
                stream,
                read_options=pa.csv.ReadOptions(use_threads=False),  # only one thread can number its lines
                parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
                convert_options=pa.csv.ConvertOptions(column_types={name: pa.string() for name in texts}),
            )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise SourceError(f"{where}: is not UTF-8 text; save it as UTF-8") from error
        raise
    names = table.column_names
    moments = [field.name for field in table.schema if pa.types.is_timestamp(field.type) and field.type.tz]
    if moments:  # of 2026-10-01T00:00+02:00 Arrow keeps the moment in UTC, whose day is another one
        return _read_csv(store, path, where=where, columns=columns, texts=(*texts, *moments))
    if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
        raise SourceError(
            f"{where}: its columns are not separated by commas: write them so, or name the file as etl.tables.sales "
            f"and read it by --sales {ETL} (docs/shop/data.md)"
        )
    wanted, left_out = _wanted(names, columns)
    table = table.select([place for place, name in enumerate(names) if name in wanted])  # a name may be there twice
    if binary := [field.name for field in table.schema if pa.types.is_binary(field.type)]:
        raise SourceError(f"{where}: is not UTF-8 text (column {binary[0]}); save it as UTF-8")
    return unquote_formulas(_to_frame(table, left_out=left_out, damaged=damaged))


def _read_sql(where: str, columns: Sequence[str] | None) -> pd.DataFrame:
    address, _, what = where.partition("#")
    with open_database(address, seconds=SQL_SECONDS) as database:
        rows = select(database, what.strip() or DEFAULT_TABLE)
        names = column_names(database, rows)
        wanted, left_out = _wanted(names, columns)
        if not wanted:  # which the contract says
            wanted, left_out = names, []
        chosen: list[Any] = [sa.column(name) for name in dict.fromkeys(wanted)]
        found = database.connection.execute(sa.select(*chosen).select_from(rows).execution_options(stream_results=True))
        names = list(found.keys())
        parts = [
            pd.DataFrame.from_records(part, columns=names, coerce_float=True) for part in found.partitions(_SQL_ROWS)
        ]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    frame.attrs = {"left_out": left_out}
    return frame


def _wanted(names: Sequence[str], columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The names to read, and those left out; a name that near-misses a wanted one is for the contract to see."""
    wanted = [name for name in names if columns is None or name in columns]
    return wanted, [name for name in names if name not in wanted]


def _to_frame(table: Any, *, left_out: Sequence[str], damaged: Sequence[tuple[int, str]] = ()) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, split_blocks=True, self_destruct=True)
    frame.attrs = {"left_out": left_out, "damaged": damaged}
    return frame


def read_etl_rows(columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the rows of sales that the last run of `etl` left; `attrs` has their lineage.

    Raises SourceError where there are none yet, or a file is missing or damaged.
    """
    found = output_in_force()
    wanted = [name for name in found.columns if columns is None or name in columns]
    store, path = open_filesystem(etl_folder())
    try:
        parts = [pa.dataset.dataset(f"{path}/{name}", filesystem=store, format="parquet") for name in found.sales]
        schema = pa.unify_schemas([part.schema for part in parts], promote_options="permissive")
        whole = pa.dataset.dataset([part.replace_schema(schema) for part in parts])
        frame: pd.DataFrame = whole.to_table(columns=wanted).to_pandas(date_as_object=False)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            f"{etl_folder()}: a file of the last etl cannot be read: {first_line(error)}; bring it back from a backup, "
            f"or run etl with --sales {ETL} --full"
        ) from error
    frame.attrs = {"left_out": [], "lineage": {"etl": found.made, "etl_run_id": found.run_id}}
    return frame


def open_filesystem(where: str) -> tuple[Any, str]:
    """The file system that a path or an s3:// address lies in, and the path there; S3's settings are the AWS_ ones.

    Raises SourceError where the store cannot be reached.
    """
    if not where.startswith("s3://"):
        return pa.fs.LocalFileSystem(), str(Path(where).expanduser().absolute())
    path = where.removeprefix("s3://").rstrip("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    scheme, _, host = endpoint.rpartition("://")
    try:
        if not region:
            region = "us-east-1" if host else pa.fs.resolve_s3_region(path.split("/")[0])
        store = pa.fs.S3FileSystem(endpoint_override=host or None, scheme=scheme or "https", region=region)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: cannot be reached: {first_line(error)}") from error
    return store, path


@dataclass(frozen=True)
class Database:
    """A connection that may only read."""

    # In a transaction that sees one state of the tables in PostgreSQL; on SQLite that holds for each statement:
    connection: sa.Connection
    shown: str  # the address without its password


@contextmanager
def open_database(address: str, *, seconds: float) -> Iterator[Database]:
    """Connect by an SQLAlchemy URL, let the database refuse whatever writes, and tell errors inside the block in words.

    Each statement may take `seconds`. Raises SourceError where the address is unusable, the server does not answer, or
    a statement fails.
    """
    try:
        url = sa.make_url(with_driver(address))
        shown = redact_url(address)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise SourceError(f"{shown}: the file {url.database or ''} does not exist")
        engine = _engine(url, shown, seconds=seconds)
        raised = engine.dialect.loaded_dbapi.Error
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as error:
        # The text of a bare ValueError quotes what may be a part of the password.
        why = "user, password, host or port cannot be told apart" if type(error) is ValueError else first_line(error)
        raise SourceError(
            f"{address.split('://', maxsplit=1)[0]}://…: is no usable database URL: {why}; "
            "expected for example postgresql://user:password@host/database#table"
        ) from error
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA query_only = ON")
                end = time.monotonic() + seconds
                raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
            yield Database(connection, shown)
    except (sa.exc.SQLAlchemyError, UnicodeError, sqlite3.Error, raised) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
        if any(word in str(cause) for word in _TOO_SLOW):
            raise SourceError(f"{shown}: the query took longer than {seconds:g} s; narrow it") from error
        raise SourceError(f"{shown}: cannot be read: {redact_text(first_line(cause))}") from error
    finally:
        engine.dispose()


def _engine(url: sa.URL, shown: str, *, seconds: float) -> sa.Engine:
    """Prepare connections whose every transaction may only read; of an unknown database the account decides that."""
    name, given, snapshot = url.get_backend_name(), dict[str, Any](), {"isolation_level": "REPEATABLE READ"}
    if name == "postgresql":
        limits = f"-c default_transaction_read_only=on -c statement_timeout={max(1, int(1000 * seconds))}"
        given = {"options": f"{url.query.get('options', '')} {limits}".strip()}
        given["client_encoding"] = url.query.get("client_encoding", "utf8")  # of SQL_ASCII psycopg would make bytes
    elif name in ("mysql", "mariadb"):
        given = {"init_command": "SET SESSION TRANSACTION READ ONLY", "connect_timeout": 30, "charset": "utf8mb4"}
        given["read_timeout"] = max(1, int(seconds))
    else:
        snapshot = {}
        if name != "sqlite":
            _log.warning("%s: no read-only transaction of %s is known; give an account that may only read", shown, name)
    return sa.create_engine(url, connect_args=given, **snapshot)


def select(database: Database, what: str) -> sa.FromClause | sa.TextClause:
    """Find what stands behind # of an address: `table`, `schema.table`, or one statement, SELECT or WITH.

    Raises:
        SourceError: There is no such table, or the query may be several statements.
    """
    if what.split(maxsplit=1)[0].lower() in ("select", "with"):
        query = what.rstrip("; \t\r\n")
        if ";" in query:
            raise SourceError(
                f"{database.shown}: expected one SELECT without ';' behind #, since that may part several"
            )
        # A colon would begin a parameter of SQLAlchemy's; a line end keeps a comment from hiding the bracket.
        return sa.text("(" + query.replace(":", "\\:") + "\n) AS queried")
    schema, _, name = what.rpartition(".")
    inspector = sa.inspect(database.connection)
    if not inspector.has_table(name, schema or None):
        there = sorted([*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)])
        raise SourceError(
            f"{database.shown}: has no table {what!r} (found {', '.join(there) or 'none'}); "
            "add #table or #SELECT … to the URL"
        )
    return sa.table(name, schema=schema or None)


def column_names(database: Database, rows: sa.FromClause | sa.TextClause) -> list[str]:
    """The columns of what `select` found."""
    return list(database.connection.execute(sa.select(sa.text("*")).select_from(rows).limit(0)).keys())
