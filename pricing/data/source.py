"""Raw sales from wherever they lie: CSV, Parquet, SQL, S3. Judges the container, never the rows.

A frame that comes from here says in its `attrs` what was not read: `left_out`, the names of columns that were not asked
for, and `damaged`, (line number, text) of CSV lines whose number of fields is not the header's.
"""

import csv
import logging
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import sqlalchemy as sa

from pricing.config_models import SQL_SECONDS
from pricing.csv_text import unquote_formulas
from pricing.data.manifest import has_manifest, read_rows
from pricing.errors import SourceError, first_line
from pricing.fileio import redact_url, with_driver

_log = logging.getLogger(__name__)

DEFAULT_TABLE = "sales"
_HEAD = 1 << 16  # bytes that tell what a file is
_SQL_ROWS = 100_000  # rows fetched at once
_TEXTS = ("product_id", "category")  # never numbers, whatever they look like: 00123 is not 123
_MAGIC = (
    (b"PAR1", "Parquet"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP or Excel"),
    (b"\xd0\xcf\x11\xe0", "old Excel"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF", "PDF"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"<", "HTML or XML"),
)


def read_sales(
    where: str, *, columns: Sequence[str] | None = None, texts: Sequence[str] = (), sql_seconds: float = SQL_SECONDS
) -> pd.DataFrame:
    """Reads raw rows.

    Args:
        where: A `.csv`, `.csv.gz` or `.parquet` file, or a folder of Parquet (partitioned or not), local or `s3://`,
            or one that `etl --sales sources` keeps
            (endpoint, region and keys from the usual AWS_ variables); or an SQLAlchemy URL, to which `#table`,
            `#schema.table` or `#SELECT …` may be added (without it, the table `sales`). PostgreSQL and SQLite are asked
            to let the query read only.
        columns: The columns wanted; others are left unread, and wanted ones that are absent stay absent.
        texts: Further columns of a CSV file that are read as they are written, whatever they look like.
        sql_seconds: How long each statement may take on PostgreSQL and SQLite.

    Raises:
        SourceError: There is nothing there, it is not what its name says, or it cannot be read.
    """
    if "://" in where and not where.startswith("s3://"):
        return _read_sql(where, columns, seconds=sql_seconds)
    if has_manifest(where):
        return read_rows(where, columns=columns)
    filesystem, path = _open(where)
    try:
        info = filesystem.get_file_info(path)
        if info.type == pa.fs.FileType.NotFound:
            raise SourceError(f"{where}: does not exist")
        if info.type == pa.fs.FileType.Unknown:  # to read a pipe would wait for a writer, for ever
            raise SourceError(f"{where}: is a pipe, socket or device; expected a file or a folder")
        if info.type == pa.fs.FileType.Directory:
            table = _read_parquet_folder(filesystem, path, columns)
        elif info.size == 0:
            raise SourceError(f"{where}: is empty (0 bytes)")
        elif path.endswith((".csv", ".csv.gz")):
            return _read_csv(filesystem, path, where=where, columns=columns, texts=(*_TEXTS, *texts))
        elif path.endswith(".parquet"):
            table = _read_parquet(filesystem, path, where=where, columns=columns)
        else:
            raise SourceError(f"{where}: expected a .csv, .csv.gz or .parquet file, a folder of Parquet, or a URL")
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: cannot be read: {first_line(error)}") from error
    return table


def _open(where: str) -> tuple[Any, str]:
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


def _read_csv(
    filesystem: Any, path: str, *, where: str, columns: Sequence[str] | None, texts: Sequence[str]
) -> pd.DataFrame:
    compression = "gzip" if path.endswith(".gz") else None
    with filesystem.open_input_stream(path, compression=compression) as stream:
        head = stream.read(_HEAD)
    header = _csv_header(head, where)
    wanted, left_out = _wanted(header, columns)
    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in texts},
        include_columns=wanted if left_out and len(set(header)) == len(header) else None,
    )
    damaged: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        damaged.append((row.number, row.text))
        return "skip"

    def parse(*, tolerant: bool) -> Any:
        with filesystem.open_input_stream(path, compression=compression) as stream:
            return pa.csv.read_csv(
                stream,
                read_options=pa.csv.ReadOptions(use_threads=not tolerant),  # only one thread can number its lines
                parse_options=pa.csv.ParseOptions(
                    newlines_in_values=True, invalid_row_handler=note if tolerant else None
                ),
                convert_options=convert,
            )

    try:
        try:
            table = parse(tolerant=False)
        except pa.ArrowInvalid as error:
            if "columns, got" not in str(error):
                raise
            table = parse(tolerant=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise SourceError(f"{where}: is not UTF-8 text; save it as UTF-8") from error
        raise
    binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if binary:
        raise SourceError(f"{where}: is not UTF-8 text (column {binary[0]}); save it as UTF-8")
    frame = _to_frame(table)
    frame.attrs = {"left_out": left_out, "damaged": damaged}
    return unquote_formulas(frame)


def _csv_header(head: bytes, where: str) -> list[str]:
    found = _what(head)
    if found is not None:
        raise SourceError(f"{where}: is called CSV but holds {found}")
    try:
        line = head.decode("utf-8-sig", errors="ignore").lstrip("\r\n").splitlines()[0]
        names = next(csv.reader([line]))
    except (IndexError, csv.Error) as error:
        raise SourceError(f"{where}: has no header line with the names of its columns") from error
    for character, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and character in line:
            raise SourceError(f"{where}: its columns are separated by {word}; write them with commas")
    return names


def _what(head: bytes) -> str | None:
    """What a file holds that should be CSV; None when nothing speaks against it."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in _MAGIC:
        if head.startswith(magic) or start.startswith(magic):
            return name
    return "binary data" if b"\x00" in head else None


def _read_parquet(filesystem: Any, path: str, *, where: str, columns: Sequence[str] | None) -> pd.DataFrame:
    with filesystem.open_input_stream(path) as stream:
        head = stream.read(_HEAD)
    if not head.startswith(b"PAR1"):
        text = "text, perhaps CSV" if b"\x00" not in head else "binary data"
        raise SourceError(f"{where}: is called Parquet but holds {_what(head) or text}")
    return _scan(pa.dataset.dataset(path, filesystem=filesystem, format="parquet"), columns)


def _read_parquet_folder(filesystem: Any, path: str, columns: Sequence[str] | None) -> pd.DataFrame:
    files = [
        info.path
        for info in filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
        if info.type == pa.fs.FileType.File and not Path(info.path).name.startswith((".", "_"))
    ]
    other = [file for file in files if not file.endswith(".parquet")]
    if other or not files:
        raise SourceError(f"{path}: expected a folder of .parquet files, found {other[0] if other else 'none'}")
    return _scan(
        pa.dataset.dataset(
            files, filesystem=filesystem, format="parquet", partitioning="hive", partition_base_dir=path
        ),
        columns,
    )


def _scan(dataset: Any, columns: Sequence[str] | None) -> pd.DataFrame:
    wanted, left_out = _wanted(dataset.schema.names, columns)
    frame = _to_frame(dataset.to_table(columns=wanted))
    frame.attrs = {"left_out": left_out}
    return frame


def _read_sql(where: str, columns: Sequence[str] | None, *, seconds: float) -> pd.DataFrame:
    address, _, what = where.partition("#")
    try:
        url = sa.make_url(with_driver(address))
        shown = redact_url(address)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise SourceError(f"{shown}: the file {url.database or ''} does not exist")
        engine = sa.create_engine(url, connect_args=_for_reading(url, seconds=seconds))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as error:
        # The text of a bare ValueError quotes what may be a part of the password.
        why = (
            "its user, password, host or port cannot be told apart" if type(error) is ValueError else first_line(error)
        )
        raise SourceError(
            f"{address.split('://')[0]}://…: is no usable database URL: {why}; "
            "expected for example postgresql://user:password@host/database#table"
        ) from error
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            _only_read(connection, shown, seconds=seconds)
            query, left_out = _query(connection, what.strip() or DEFAULT_TABLE, shown=shown, columns=columns)
            result = connection.execute(query)
            names = list(result.keys())
            parts = [
                pd.DataFrame.from_records(rows, columns=names, coerce_float=True)
                for rows in result.partitions(_SQL_ROWS)
            ]
    except (sa.exc.SQLAlchemyError, UnicodeDecodeError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
        if any(word in str(cause) for word in _TOO_SLOW):
            raise SourceError(
                f"{shown}: the query took longer than {seconds:g} s; narrow it, or raise data.sql_seconds"
            ) from error
        if any(word in str(cause).lower() for word in _WRITES):
            raise SourceError(
                f"{shown}: sales are read in a read-only transaction, and the query would write: {first_line(cause)}"
            ) from error
        raise SourceError(f"{shown}: cannot be read: {first_line(cause)}") from error
    finally:
        engine.dispose()
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    wanted, more = _wanted([str(name) for name in frame.columns], columns)
    frame = frame[list(dict.fromkeys(wanted))] if more else frame
    frame.attrs = {"left_out": left_out + more}
    return frame


def _only_read(connection: sa.Connection, shown: str, *, seconds: float) -> None:
    """Lets the database refuse whatever writes, and end what takes too long.

    PostgreSQL and SQLite are asked to; of another database the account alone decides what it may do.
    """
    name = connection.engine.dialect.name
    if name == "postgresql":
        with closing(connection.connection.cursor()) as cursor:  # not one on the server, which takes only queries
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {_milliseconds(seconds)}")
    elif name == "sqlite":
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA query_only = ON")
        end = time.monotonic() + seconds
        raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    else:
        _log.warning("%s: no read-only transaction is known for %s; give an account that may only read", shown, name)


def _may_be_several(query: str) -> bool:
    """Whether a query is not surely one statement: it has a semicolon that may part two.

    Where databases differ in what they take for a quote or a comment, a semicolon counts, whatever it stands in.
    """
    if ";" not in query.rstrip(_END):
        return False
    rest = _QUOTED.sub(" ", query).rstrip(_END)
    return any(sign in query for sign in _READ_DIFFERENTLY) or any(sign in rest for sign in _PARTS)


def _for_reading(url: sa.URL, *, seconds: float) -> dict[str, Any]:
    """What PostgreSQL is told on connecting: that it holds for every transaction, not for the first alone."""
    if url.get_backend_name() != "postgresql":
        return {}
    own = url.query.get("options", "")
    own = own if isinstance(own, str) else " ".join(own)
    ours = f"-c default_transaction_read_only=on -c statement_timeout={_milliseconds(seconds)}"
    return {"options": f"{own} {ours}".strip()}


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))


_END = "; \t\r\n"
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\r\n]*|/\*(?:(?!/\*).)*?\*/""", re.DOTALL)
_READ_DIFFERENTLY = ("\\", "$", "`", "[", "#")  # escapes, dollar quotes, names in `` or [], comments behind #
_PARTS = (";", "'", '"', "/*", "*/")  # what is left of a quote or a comment has no end, or lies in another
_TOO_SLOW = ("statement timeout", "interrupted")
_WRITES = ("read-only transaction", "readonly database", "not authorized", "data-modifying")


def _query(
    connection: sa.Connection, what: str, *, shown: str, columns: Sequence[str] | None
) -> tuple[sa.TextClause | sa.Select[Any], list[str]]:
    if what.split(maxsplit=1)[0].lower() in ("select", "with"):
        if _may_be_several(what):
            raise SourceError(
                f"{shown}: expected one statement behind #, found a ';' that may part several; give one SELECT without "
                "';' (one in a text or comment passes, unless the query also has a backslash, $, `, [ or #)"
            )
        return sa.text(what), []
    schema, _, name = what.rpartition(".")
    inspector = sa.inspect(connection)
    if not inspector.has_table(name, schema or None):
        there = ", ".join(
            sorted([*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)])
        )
        raise SourceError(
            f"{shown}: has no table {what!r} (found {there or 'none'}); add #table or #SELECT … to the URL"
        )
    names = [column["name"] for column in inspector.get_columns(name, schema or None)]
    wanted, left_out = _wanted(names, columns)
    table = sa.table(name, *(sa.column(column) for column in wanted or names), schema=schema or None)
    return sa.select(table), left_out if wanted else []


def _wanted(names: Sequence[str], columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The names to read, and those left out; a name that near-misses a wanted one is for the contract to see."""
    wanted = [name for name in names if columns is None or name in columns]
    return wanted, [name for name in names if name not in wanted]


def _to_frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, split_blocks=True, self_destruct=True)
    return frame
