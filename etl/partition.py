"""Write a table of sales in partitions, streamed: whole series by the hash of their parent, and a sample of them."""

import tempfile
import uuid
from datetime import date
from typing import Any

import click
import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs

from etl.extract import literal, use_s3
from pricing.config import load_config
from pricing.config_models import ScaleConfig
from pricing.data.etl_output import MANIFEST, SAMPLE, Partitions
from pricing.data.source import open_filesystem, read_sales
from pricing.errors import SourceError, first_line
from pricing.objects import open_store
from pricing.runtime.cli import job

LEAST = 20  # series of a category in the sample, as far as it has them
_FLUSH = 50_000  # rows that a partition collects before they are written
# A series goes with its newest parent; the hash tells the partition by its lower half, the order of the sample by its
# upper one, so that the same series are drawn every night.
_SERIES = """
    CREATE TABLE series AS
    SELECT id, md5_number_lower(parent) % $count AS part, stratum, count(*) OVER (PARTITION BY stratum) AS every,
        count(*) OVER (PARTITION BY stratum ORDER BY md5_number_upper(parent), parent)
            - count(*) OVER (PARTITION BY stratum, parent) AS before,
    FROM (SELECT {id} AS id, {parent} AS parent, {stratum} AS stratum FROM sales GROUP BY 1)
"""
_ID = "trim(CAST(product_id AS VARCHAR))"
_WHOLE = f"SELECT sales.*, part FROM sales JOIN series ON {_ID} = id"
_SAMPLE = f"""
    SELECT sales.* FROM sales JOIN series ON {_ID} = id WHERE before < greatest($least, ceil(every * $share))
"""


@job("partition")
@click.option("--sales", required=True, metavar="WHERE", help="a folder of Parquet, which is streamed, or other sales")
@click.option("--output", required=True, metavar="DIR", help="a new folder, or s3:// prefix, for the partitions")
@click.option(
    "--count", type=click.IntRange(1, 99_999), metavar="N", help="partitions; absent: as many as scale.series asks for"
)
def main(*, sales: str, config: str | None, output: str, count: int | None) -> int:
    """Writes sales in partitions, so that jobs need not hold all of them at once."""
    made = partition(sales, output.rstrip("/"), scale=load_config(config).scale, count=count)
    click.echo(f"{made.series:,} series, {made.rows:,} rows up to {made.last}, in {made.count} partitions in {output}")
    return 0


def partition(sales: str, output: str, *, scale: ScaleConfig, count: int | None = None) -> Partitions:
    """Writes sales in partitions; a folder of Parquet is streamed, another table must fit into memory.

    Args:
        sales: As for `read_sales`.
        output: A folder that does not exist yet, or an `s3://` prefix without objects.
        scale: Series a partition, and in the sample.
        count: The partitions; must be that of the version that is to be refreshed.

    Raises:
        SourceError: Something lies there already, or the sales cannot be read or written.
    """
    store, path = open_filesystem(output)
    if store.get_file_info(path).type != pa.fs.FileType.NotFound:
        raise SourceError(f"{output}: exists already; give a new folder for every writing, such as one a night")
    if not output.startswith("s3://"):
        store.create_dir(path.rpartition("/")[0])
    with duckdb.connect(config={"autoinstall_known_extensions": False, "preserve_insertion_order": False}) as con:
        use_s3(con, output)
        con.execute(f"SET temp_directory = '{tempfile.gettempdir()}'; SET partitioned_write_flush_threshold = {_FLUSH}")
        try:
            con.register("sales", _opened(sales))
            names = {row[0] for row in con.execute("DESCRIBE sales").fetchall()}
            if missing := {"product_id", "date"} - names:
                raise SourceError(f"{sales}: has no column {sorted(missing)[0]}")
            return _written(con, names, output, scale=scale, count=count)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise SourceError(f"{sales}: cannot be partitioned: {first_line(error)}") from error


def _opened(sales: str) -> Any:
    """A folder of Parquet as a dataset that DuckDB streams; anything else as a frame."""
    if "://" not in sales or sales.startswith("s3://"):
        store, path = open_filesystem(sales)
        if store.get_file_info(path).type == pa.fs.FileType.Directory:
            return pa.dataset.dataset(path, filesystem=store, format="parquet", partitioning="hive")
    return read_sales(sales)


def _written(
    con: duckdb.DuckDBPyConnection, names: set[str], output: str, *, scale: ScaleConfig, count: int | None
) -> Partitions:
    ((series,),) = con.execute(f"SELECT count(DISTINCT {_ID}) FROM sales").fetchall()
    count = count or -(-series // scale.series)
    parent = _newest("parent_id", names, otherwise="id")
    stratum = _newest("category", names, otherwise="''")
    con.execute(_SERIES.format(id=_ID, parent=parent, stratum=stratum), {"count": count})
    ((used,),) = con.execute("SELECT count(DISTINCT part) FROM series").fetchall()
    if used < count:
        raise SourceError(f"{series} series leave {count - used} of {count} partitions empty; give a lower --count")
    con.execute(f"COPY ({_WHOLE}) TO {literal(output)} (FORMAT parquet, PARTITION_BY (part))")
    con.execute(
        f"COPY ({_SAMPLE}) TO {literal(f'{output}/{SAMPLE}')} (FORMAT parquet, PER_THREAD_OUTPUT true)",
        {"least": LEAST, "share": min(scale.sample / max(series, 1), 1.0)},
    )
    ((rows, last),) = con.execute("SELECT count(*), max(CAST(date AS DATE)) FROM sales").fetchall()
    made = Partitions(made=uuid.uuid4().hex, count=count, series=series, rows=rows, last=date.fromisoformat(str(last)))
    open_store(output).put(MANIFEST, made.model_dump_json(indent=1).encode())
    return made


def _newest(name: str, names: set[str], *, otherwise: str) -> str:
    """SQL for the newest text of a column, or something else where a series has none."""
    return f"coalesce(trim(CAST(arg_max({name}, date) AS VARCHAR)), {otherwise})" if name in names else otherwise
