"""Sales in partitions: whole series by the hash of their parent, as folders of Parquet, and a sample beside them.

`pricing partition` writes them (`etl.partition`); below the folder lie `part=0/`, `part=1/`, …, a stratified sample of
the series in `_sample/`, and `_partitions.json`, written last. As one table, without the sample, it is a folder of
Parquet like any other.
"""

from datetime import date
from typing import Literal

import pyarrow.fs
from pydantic import BaseModel, ConfigDict, ValidationError

from pricing.data.files import open_filesystem
from pricing.errors import ETL, SIMULATED, SourceError, first_line

MANIFEST = "_partitions.json"
SAMPLE = "_sample"


class Partitions(BaseModel):
    """What was written: the number and size of the partitions, and a name that no other writing has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["1"] = "1"
    made: str
    count: int
    series: int
    rows: int
    last: date


def read_partitions(where: str) -> Partitions | None:
    """Tells how sales are partitioned; None where they are not.

    Raises:
        SourceError: The writing was cut off, the manifest is damaged, or the store cannot be reached.
    """
    if where in ("", ETL, SIMULATED) or ("://" in where and not where.startswith("s3://")):
        return None
    store, path = open_filesystem(where)
    place = f"{path}/{MANIFEST}"
    try:
        manifest, first = store.get_file_info([place, f"{path}/part=0"])
        if manifest.type == first.type == pyarrow.fs.FileType.NotFound:
            return None
        with store.open_input_stream(place) as stream:
            return Partitions.model_validate_json(stream.read())
    except (OSError, ValidationError) as error:
        raise SourceError(f"{where}/{MANIFEST}: cannot be read ({first_line(error)}); partition anew") from error


def part_of(where: str, number: int) -> str:
    """The address of a partition's sales."""
    return f"{where.rstrip('/')}/part={number}"


def sample_of(where: str) -> str:
    """The address of the sample."""
    return f"{where.rstrip('/')}/{SAMPLE}"
