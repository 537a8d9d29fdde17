"""Find and read what `etl` last made of a shop's tables: rows of sales, and plans. A pointer names the files."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
from pydantic import BaseModel, ConfigDict, ValidationError

from pricing.data.files import open_filesystem
from pricing.errors import ETL, SourceError, first_line
from pricing.objects import open_store
from pricing.paths import etl_folder

POINTER = "current.json"


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


def _output_in_force() -> EtlOutput:
    found = read_output(etl_folder())
    if found is None:
        raise SourceError(f"{etl_folder()}: holds nothing yet; run etl with --sales {ETL} first")
    return found


def read_etl_rows(columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the rows of sales that the last run of `etl` left; `attrs` has their lineage.

    Raises SourceError where there are none yet, or a file is missing or damaged.
    """
    found = _output_in_force()
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


def plan_of(where: str, name: str) -> str:
    """The address of a plan; `etl` stands for what its last run left. Raises SourceError where it left no such plan."""
    if where != ETL:
        return where
    file = _output_in_force().plans.get(name)
    if file is None:
        raise SourceError(f"{etl_folder()}: the last etl left no {name}; does etl.tables name them?")
    return f"{etl_folder()}/{file}"
