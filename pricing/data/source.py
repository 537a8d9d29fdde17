"""Raw sales from wherever they lie: CSV, Parquet, SQL, S3. Judges the container, never the rows.

A frame that comes from here names in its `attrs` what was not read: `left_out`, the columns that were not asked for,
and `damaged`, (line number, text) of CSV lines whose number of fields is not the header's; and its `lineage`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import sqlalchemy as sa

from pricing.data.database import SQL_SECONDS, column_names, open_database, select
from pricing.data.etl_output import output_in_force
from pricing.errors import ETL, SourceError, first_line
from pricing.fileio import redact_url
from pricing.paths import etl_folder
from pricing.quoting import unquote_formulas

DEFAULT_TABLE = "sales"
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
        folder = info.type == pa.fs.FileType.Directory
        fault = None if folder else _fault_of(info)
        if fault is not None:
            raise SourceError(f"{redact_url(where)}: {fault}")
        if not folder and path.endswith((".csv", ".csv.gz")):
            return _read_csv(store, path, where=where, columns=columns)
        parts = pa.dataset.dataset(path, filesystem=store, format="parquet", partitioning="hive" if folder else None)
        wanted, left_out = _wanted(parts.schema.names, columns)
        return _to_frame(parts.to_table(columns=wanted), left_out=left_out)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: cannot be read: {first_line(error)}") from error


def _fault_of(file: Any) -> str | None:
    """Name what keeps a file, as its store describes it, from being read; None where nothing does."""
    if file.type == pa.fs.FileType.NotFound:
        return "does not exist"
    if file.type == pa.fs.FileType.Unknown:  # to read a pipe would wait for a writer, for ever
        return "is a pipe, socket or device; expected a file or a folder"
    if file.size == 0:
        return "is empty (0 bytes)"
    if not file.path.endswith((".csv", ".csv.gz", ".parquet")):
        return "expected a .csv, .csv.gz or .parquet file, a folder of Parquet, or a URL"
    return None


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
    binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if binary:
        raise SourceError(f"{where}: is not UTF-8 text (column {binary[0]}); save it as UTF-8")
    return unquote_formulas(_to_frame(table, left_out=left_out, damaged=damaged))


def _read_sql(where: str, columns: Sequence[str] | None) -> pd.DataFrame:
    address, _, what = where.partition("#")
    with open_database(address, seconds=SQL_SECONDS) as database:
        rows = select(database, what.strip() or DEFAULT_TABLE)
        names = column_names(database, rows)
        wanted, left_out = _wanted(names, columns)
        if not wanted:  # which the contract refuses by what is there
            wanted = names
            left_out = []
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
