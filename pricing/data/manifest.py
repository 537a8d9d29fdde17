"""The manifest of a folder of sales rows: which files hold them, what they were made of, and what changed last."""

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pricing.errors import SourceError, first_line

MANIFEST = "manifest.json"
FORMER = "manifests"  # folder of former manifests, named such that they sort by time
_ID_CHARACTERS = 16
_log = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableFile(_Part):
    """One immutable Parquet file of a table.

    Attributes:
        file: Its path within the folder.
        rows: Rows in it.
        fingerprint: Of the rows' values and order.
    """

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_=-]+(/[A-Za-z0-9_=-]+)*\.[0-9a-f]+\.parquet$")]
    rows: Annotated[int, Field(ge=0)]
    fingerprint: str


class SourceRead(_Part):
    """What the manifest's run, or the last one that found something new, read of one source.

    Attributes:
        location: Where, without passwords.
        rows: Rows read.
        rejected: Rows of them that could not be used.
        reasons: Reason: number of such rows.
        read_from: First day that was asked for; None where all was read.
        newest: Newest day with a row; None where the source has no days.
        watermark: Highest time of change seen; None where the source tells none.
        origins: Files, with size and SHA-256, or the statement.
    """

    location: str
    rows: int
    rejected: int = 0
    reasons: dict[str, int] = {}
    read_from: dt.date | None = None
    newest: dt.date | None = None
    watermark: str | None = None
    origins: list[dict[str, str | int]] = []


class JoinCount(_Part):
    """How many rows of a table found their partner in another.

    Attributes:
        table: The table that was joined to the sales.
        sales_rows: Rows of sales.
        matched: Rows of sales with a partner.
        unmatched_sales: Products of sales without any partner.
        unmatched_table: Products of the table that no sales have.
        examples: Some of those products, such as "sales only: P7".
    """

    table: str
    sales_rows: int
    matched: int
    unmatched_sales: int = 0
    unmatched_table: int = 0
    examples: list[str] = []


class Change(_Part):
    """Rows that differ from the former manifest.

    Attributes:
        kind: new: of days after its last one; late: of days it held without them; corrected: other values than it
            held; withdrawn: held by it alone.
        rows: Rows.
        first_day: The earliest.
        last_day: The latest.
        products: Products concerned.
    """

    kind: Literal["new", "late", "corrected", "withdrawn"]
    rows: int
    first_day: dt.date
    last_day: dt.date
    products: int


class Manifest(_Part):
    """What a folder of sales rows holds; a run replaces it atomically, and files that it names never change.

    Attributes:
        run_id: Run that made it.
        made_at: When, UTC.
        period: The grain of its rows.
        settings: Fingerprint of the configuration that shaped them.
        sources: What was read, by the source's name.
        tables: Table: partition: its file.
        rows: Partition, such as 2026-03/4 (month and shard): the file with its rows of the contract.
        joins: How the tables matched.
        changes: What differs from the manifest before.
        through: Last day that was over when the rows were made; None where that was not kept.
        notes: What was derived, netted or left out on the way, one sentence each.
        offer_runs: Runs whose competitors' offers its rows include: those of a run that failed are still to come.
        plans: Promotions, events and deliveries that are planned, by the name of their data setting.
    """

    format: Literal[1] = 1
    run_id: str
    made_at: dt.datetime
    period: Literal["day", "week"]
    settings: str
    sources: dict[str, SourceRead]
    tables: dict[str, dict[str, TableFile]]
    rows: dict[str, TableFile]
    joins: list[JoinCount] = []
    changes: list[Change] = []
    through: dt.date | None = None
    notes: list[str] = []
    offer_runs: list[str] = []
    plans: dict[str, TableFile] = {}

    @property
    def id(self) -> str:
        """Fingerprint of the rows and of the settings: the same data, the same id, whichever run made it."""
        content = {"settings": self.settings, "rows": {name: part.fingerprint for name, part in self.rows.items()}}
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARACTERS]

    def lineage(self) -> Mapping[str, str]:
        """What a job that reads these rows keeps of them: the manifest's id and the run that made it."""
        return {"manifest": self.id, "etl_run_id": self.run_id}


def lineage_of(values: Mapping[str, Any]) -> Mapping[str, str]:
    """The lineage among what is known of data, such as a version's; empty where it names no manifest."""
    found = {name: str(values[name]) for name in ("manifest", "etl_run_id") if name in values}
    return found if "manifest" in found else {}


def has_manifest(folder: str | Path) -> bool:
    """Whether a local folder holds a manifest."""
    return "://" not in str(folder) and (Path(folder) / MANIFEST).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """Reads the manifest of a folder.

    Raises:
        SourceError: There is none, or it is damaged or of another format.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise SourceError(f"{folder}: holds no {MANIFEST}; run etl with --sales sources to make one")
    advice = (
        f"put one of {path.parent / FORMER} in its place, or move the folder away: etl then reads all sources again"
    )
    return read_manifest_file(path, advice=advice)


def read_manifest_file(path: Path, *, advice: str) -> Manifest:
    """Reads one manifest, of now or a former one.

    Raises:
        SourceError: It cannot be read, or is damaged or of another format; ends with the advice.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"{path}: is damaged or of another format ({place}: {first['msg']}); {advice}") from error


def corrected_since(folder: str | Path, *, known: Mapping[str, str], now: Mapping[str, str]) -> dt.date | None:
    """The earliest day whose rows came late, were corrected or withdrawn between two manifests of a folder.

    Only manifests that are still kept can tell; one that cannot be read is warned about and passed over. Where the
    known one is no longer kept, all those that are kept count.

    Args:
        folder: Holds the manifests.
        known: Lineage of the earlier one; without a manifest nothing can have changed since.
        now: Lineage of the later one.
    """
    if not known.get("manifest") or not now.get("manifest") or known["manifest"] == now["manifest"]:
        return None
    manifests = []
    for path in (*sorted((Path(folder) / FORMER).glob("*.json")), Path(folder) / MANIFEST):
        try:
            manifests.append(read_manifest_file(path, advice="what it changed is not known"))
        except SourceError as error:
            _log.warning("%s", error)
    lineages = [manifest.lineage() for manifest in manifests]
    if now not in lineages:
        return None  # of another folder
    end = len(lineages) - lineages[::-1].index(now)
    begin = lineages.index(known) + 1 if known in lineages[:end] else 0
    days = [
        change.first_day for manifest in manifests[begin:end] for change in manifest.changes if change.kind != "new"
    ]
    return min(days, default=None)


def read_files(folder: Path, files: Iterable[TableFile], *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads files that a manifest names, one after another; of `columns`, those that they have.

    Raises:
        SourceError: A file is missing, damaged, or does not hold as many rows as the manifest says.
    """
    tables = []
    for part in files:
        path = folder / part.file
        try:
            file = pa.parquet.ParquetFile(path)
            names = file.schema_arrow.names
            table = file.read(columns=names if columns is None else [name for name in names if name in columns])
        except FileNotFoundError as error:
            raise SourceError(f"{path}: is missing, though {folder / MANIFEST} names it; {_REPAIR}") from error
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path}: is damaged: {first_line(error)}; {_REPAIR}") from error
        if table.num_rows != part.rows:
            raise SourceError(f"{path}: holds {table.num_rows} rows, {part.rows} were written; {_REPAIR}")
        tables.append(table)
    if not tables:
        return pd.DataFrame()
    frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas(date_as_object=False)
    return frame


def read_rows(folder: str | Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Reads the rows of the contract that a folder's manifest names; `attrs` has its lineage.

    Raises:
        SourceError: The manifest or a file is missing or damaged, or it names no rows.
    """
    manifest = read_manifest(folder)
    if not manifest.rows:
        raise SourceError(f"{folder}: its manifest names no rows of sales")
    frame = read_files(Path(folder), [manifest.rows[name] for name in sorted(manifest.rows)], columns=columns)
    frame.attrs = {"left_out": [], "lineage": dict(manifest.lineage())}
    return frame


_REPAIR = "bring it back from a backup, or move the folder away: etl then reads all sources again"
