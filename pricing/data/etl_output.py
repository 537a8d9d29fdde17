"""What `etl` left, by the JSON that it wrote last: rows of sales and plans of a shop's tables, and partitions of sales.

`pricing partition` writes whole series by the hash of their parent (`etl.partition`) into `part=0/`, `part=1/`, …, and
a stratified sample of them into `_sample/`. As one table, without the sample, it is a folder of Parquet like any other.
"""

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pricing.errors import ETL, SIMULATED, SourceError, first_line
from pricing.objects import open_store
from pricing.paths import etl_folder

POINTER = "current.json"
MANIFEST = "_partitions.json"
SAMPLE = "_sample"


class EtlOutput(BaseModel):
    """The output of one run of `etl`; a later one replaces it at once, and files that it names never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["1"] = "1"
    made: str  # when, UTC, as part of its files' names
    run_id: str  # MLflow run of the job that started it; empty where none did
    settings: str  # fingerprint of the settings that shaped the rows
    last: date  # the newest day with a row
    columns: list[str]  # of the rows
    sales: list[str]  # files of rows, within the folder, in the order of their months
    plans: dict[str, str]  # file of each plan, by the name of its `data` setting
    # What the last full run found of discounts on order lines: `discounted`, `deepest`, `named` of shelf_prices.sql:
    discounts: dict[str, float] = {}

    @property
    def files(self) -> list[str]:
        """All files that it names."""
        return [*self.sales, *self.plans.values()]


def read_output(folder: str) -> EtlOutput | None:
    """Read a folder's pointer; None where there is none. Raises SourceError where it is damaged."""
    content = open_store(folder).get(POINTER)
    try:
        return None if content is None else EtlOutput.model_validate_json(content)
    except ValidationError as error:
        advice = f"move it away, and run etl with --sales {ETL} --full"
        raise SourceError(
            f"{folder}/{POINTER}: is damaged or of another format ({first_line(error)}); {advice}"
        ) from error


def output_in_force() -> EtlOutput:
    """Read the pointer of what is in force; raises SourceError where nothing is."""
    found = read_output(etl_folder())
    if found is None:
        raise SourceError(f"{etl_folder()}: holds nothing yet; run etl with --sales {ETL} first")
    return found


def plan_of(where: str, name: str) -> str:
    """The address of a plan; `etl` stands for what its last run left. Raises SourceError where it left no such plan."""
    if where != ETL:
        return where
    file = output_in_force().plans.get(name)
    if file is None:
        raise SourceError(f"{etl_folder()}: the last etl left no {name}; does etl.tables name them?")
    return f"{etl_folder()}/{file}"


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
    if "://" not in where and not (place := Path(where).expanduser()).is_dir():
        return None
    store = open_store(where if "://" in where else str(place))
    content = store.get(MANIFEST)
    if content is None and store.keys("part=0/"):
        raise SourceError(f"{where}: its partitions were not written to their end; partition anew, into a new folder")
    try:
        return None if content is None else Partitions.model_validate_json(content)
    except ValidationError as error:
        raise SourceError(f"{where}/{MANIFEST}: cannot be read ({first_line(error)}); partition anew") from error


def part_of(where: str, number: int) -> str:
    """The address of a partition's sales."""
    return f"{where.rstrip('/')}/part={number}"


def sample_of(where: str) -> str:
    """Returns the address of the sample of partitioned sales; that of the sales where they are not partitioned."""
    return where if read_partitions(where) is None else f"{where.rstrip('/')}/{SAMPLE}"
