"""Raw sales from wherever they lie: CSV, Parquet, SQL, S3. Judges the container, never the rows.

A frame that comes from here says in its `attrs` what was not read: `left_out`, the names of columns that were not asked
for, and `damaged`, (line number, text) of CSV lines whose number of fields is not the header's.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import sqlalchemy as sa

from pricing.csv_text import unquote_formulas
from pricing.data.databases import SQL_SECONDS, column_names, open_database, select
from pricing.data.etl_output import read_etl_rows
from pricing.data.files import foreign_content, open_filesystem
from pricing.errors import ETL, SourceError, first_line

DEFAULT_TABLE = "sales"
_SQL_ROWS = 100_000  # rows fetched at once
_TEXTS = ("product_id", "category", "parent_id")  # never numbers, whatever they look like: 00123 is not 123


def read_sales(where: str, *, columns: Sequence[str] | None = None, sql_seconds: float = SQL_SECONDS) -> pd.DataFrame:
    """Read raw rows.

    Args:
        where: A `.csv`, `.csv.gz` or `.parquet` file, or a folder of Parquet (partitioned or not), local or `s3://`;
            `etl`, what it last made of a shop's tables; or an SQLAlchemy URL, to which `#table`, `#schema.table` or
            `#SELECT …` may be added (without it, the table `sales`). No query may write.
        columns: The columns wanted; others are left unread, and wanted ones that are absent stay absent.
        sql_seconds: How long each statement may take.

    Raises:
        SourceError: There is nothing there, it is not what its name says, or it cannot be read.
    """
    if "://" in where and not where.startswith("s3://"):
        return _read_sql(where, columns, seconds=sql_seconds)
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


def _read_csv(store: Any, path: str, *, where: str, columns: Sequence[str] | None) -> pd.DataFrame:
    if (holds := foreign_content(store, path)) is not None:
        raise SourceError(f"{where}: is called CSV but holds {holds}")
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
                convert_options=pa.csv.ConvertOptions(column_types={name: pa.string() for name in _TEXTS}),
            )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise SourceError(f"{where}: is not UTF-8 text; save it as UTF-8") from error
        raise
    names = table.column_names
    if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
        raise SourceError(
            f"{where}: its columns are not separated by commas: write them so, or name the file as etl.tables.sales "
            f"and read it by --sales {ETL} (docs/data.md)"
        )
    wanted, left_out = _wanted(names, columns)
    table = table.select([place for place, name in enumerate(names) if name in wanted])  # a name may be there twice
    if binary := [field.name for field in table.schema if pa.types.is_binary(field.type)]:
        raise SourceError(f"{where}: is not UTF-8 text (column {binary[0]}); save it as UTF-8")
    return unquote_formulas(_to_frame(table, left_out=left_out, damaged=damaged))


def _read_sql(where: str, columns: Sequence[str] | None, *, seconds: float) -> pd.DataFrame:
    address, _, what = where.partition("#")
    with open_database(address, seconds=seconds) as database:
        rows = select(database, what.strip() or DEFAULT_TABLE)
        names = column_names(database, rows)
        wanted, left_out = _wanted(names, columns)
        if not wanted:  # which the contract says
            wanted, left_out = names, []
        chosen: list[Any] = [sa.column(name) for name in dict.fromkeys(wanted)]
        result = database.connection.execute(sa.select(*chosen).select_from(rows))
        names = list(result.keys())
        parts = [
            pd.DataFrame.from_records(part, columns=names, coerce_float=True) for part in result.partitions(_SQL_ROWS)
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
