"""Read the decision log, and archive it by day: `lines/DAY/*.jsonl` and, by DuckDB, `parquet/date=DAY/*.parquet`.

A line or row is one decision; one that stands in both counts once. A damaged line, no JSON or of other types, is kept,
counted and named, and costs only itself.
"""

import datetime as dt
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, Self

import duckdb
import numpy as np
import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from pricing.data.own_prices import Moves
from pricing.decision.reasons import SWITCHED
from pricing.errors import SourceError, first_line
from pricing.objects import ObjectStore, open_store

_TABLE = """
    CREATE TABLE found (
        segment VARCHAR, number BIGINT, line VARCHAR,
        worker VARCHAR, sequence BIGINT, "at" TIMESTAMPTZ, date DATE, product_id VARCHAR, category VARCHAR,
        current_price DOUBLE, list_price DOUBLE, unit_cost DOUBLE, tax_rate DOUBLE,
        current_stock DOUBLE, comp_price DOUBLE,
        decision_id VARCHAR, source VARCHAR, strategy VARCHAR, model_version VARCHAR, reasons VARCHAR[],
        recommended_price DOUBLE, confidence DOUBLE, expected_units DOUBLE, expected_margin DOUBLE,
        comp_price_used DOUBLE, comp_price_age DOUBLE,
        candidate_price DOUBLE[], candidate_units DOUBLE[], candidate_size DOUBLE[], unit DOUBLE,
        experiment VARCHAR, arm VARCHAR, deviation DOUBLE
    );
    CREATE VIEW once AS FROM found
        QUALIFY row_number() OVER (PARTITION BY coalesce(worker, segment), coalesce(sequence, number)) = 1;
    CREATE VIEW decisions AS FROM once WHERE worker IS NOT NULL;
"""
_MOVE_COLUMNS = 'segment, number, worker, sequence, "at", date, product_id, current_price, recommended_price, reasons'
# A replay, made long after the day that it prices, was charged by nobody. What a person has set is no move.
_IN_TIME = 'FROM decisions WHERE date <= $until AND "at" < date + to_days(7)'
_MOVES = f"""
    SELECT DISTINCT product_id, date, recommended_price AS price {_IN_TIME}
        AND recommended_price IS DISTINCT FROM current_price AND NOT list_has_any(reasons, $switched)
    ORDER BY ALL
"""
_IN_FORCE = """
    SELECT line FROM decisions WHERE product_id = $product AND "at" <= $at AND date <= $day
    ORDER BY date DESC, "at" DESC, worker DESC, sequence DESC LIMIT 1
"""
_DRAWN = "product_id IN (SELECT product_id FROM {} WHERE deviation IS NOT NULL)"
_FILE = "read_parquet($1, hive_partitioning = false)"
_DAY = re.compile(r"(?:lines/|parquet/date=)(\d{4}-\d{2}-\d{2})/[^/]+\.(?:jsonl|parquet)")
_FIRST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # times between the two are believed
_LAST = dt.datetime(2199, 12, 31, tzinfo=dt.UTC)
IN_FORCE = 60  # days that are looked through for the decision in force: more than a horizon and a week
_AT_ONCE = 16  # objects that are fetched at once

_log = logging.getLogger(__name__)


class _Part(BaseModel):
    """Part of a line, its fields named as the table's columns; others are passed over."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Request(_Part):
    current_stock: float | None = None
    comp_price: float | None = None


class _Decision(_Part):
    decision_id: str
    source: str
    strategy: str
    model_version: str
    reasons: list[str]
    recommended_price: float
    confidence: float | None
    expected_units: float | None
    expected_margin: float | None
    comp_price_used: float | None
    comp_price_age: float | None


class _Candidates(_Part):
    candidate_price: list[float | None] = Field(alias="price")
    candidate_units: list[float | None] = Field(alias="units")
    candidate_size: list[float | None] = Field(alias="size")
    unit: float

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        prices = len(self.candidate_price)
        if len(self.candidate_units) != prices or len(self.candidate_size) not in (0, prices):
            raise ValueError("expected as many units and sizes as prices")
        return self


class _Experiment(_Part):
    experiment: str = Field(alias="name")
    arm: str
    deviation: float | None = None


class _Line(_Part):
    format: Literal[3] = Field(alias="schema")
    worker: str
    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    at: Annotated[AwareDatetime, Field(ge=_FIRST, le=_LAST)]
    date: Annotated[dt.date, Field(ge=_FIRST.date(), le=_LAST.date())]
    product_id: str
    category: str | None
    current_price: float | None
    list_price: float | None
    unit_cost: float | None
    tax_rate: float
    request: _Request
    decision: _Decision
    candidates: _Candidates
    experiment: _Experiment | None


def holds_decisions(url: str) -> bool:
    """True where anything was ever logged."""
    return any(open_store(url).keys(part) for part in ("lines/", "parquet/"))


def read_drawn(url: str) -> list[dict[str, Any]]:
    """Reads the lines on products of which an experiment drew a price, in the order of time; raises SourceError."""
    query = f'SELECT line FROM decisions WHERE {_DRAWN.format("found")} ORDER BY "at", worker, sequence'
    with open_log(url, drawn=True) as (con, _):
        return [from_json(line) for (line,) in con.execute(query).fetchall()]


def read_in_force(url: str, *, product_id: str, at: dt.datetime, day: dt.date) -> dict[str, Any] | None:
    """Reads the line of the decision on a product that was in force at a moment of a day; None where there is none.

    It is the last one made by then, of those for the newest period that had begun by that day. Those of IN_FORCE days
    before are looked through; raises SourceError.
    """
    since = day - dt.timedelta(days=IN_FORCE)
    with open_log(url, since=since, product_id=product_id) as (con, _):
        found = con.execute(_IN_FORCE, {"product": product_id, "at": at, "day": day}).fetchone()
    return None if found is None else from_json(found[0])


def read_moves(url: str, *, until: np.datetime64, peoples: bool = False) -> Moves:
    """Reads the prices that the log moved to for days up to `until`, and what days it covers; raises SourceError.

    With `peoples` the prices that people set by the platform are among them.
    """
    given = {"until": until.astype(dt.date)}
    with open_log(url, columns=_MOVE_COLUMNS) as (con, _):
        days = con.execute(f"SELECT DISTINCT date {_IN_TIME} ORDER BY date", given).fetchnumpy()["date"]
        found = con.execute(_MOVES, {**given, "switched": [""] if peoples else sorted(SWITCHED)}).fetchnumpy()
    return Moves(
        product_ids=np.asarray(found["product_id"], np.str_),
        dates=np.asarray(found["date"], "datetime64[D]"),
        price=np.asarray(found["price"], np.float64),
        days=np.asarray(days, "datetime64[D]"),
    )


@contextmanager
def open_log(
    url: str,
    *,
    since: dt.date | None = None,
    few: int = 0,
    drawn: bool = False,
    product_id: str | None = None,
    columns: str = "* EXCLUDE (line)",
) -> Iterator[tuple[duckdb.DuckDBPyConnection, int]]:
    """Yields a connection whose view `decisions` has each decision once, and how many lines are damaged.

    Days before `since` are left out; archived ones are read, the newest first, until there are `few` decisions. `drawn`
    leaves out archived products of which no experiment drew a price so far, and keeps each `line` of the others, whole;
    `product_id` leaves out all other archived products, and keeps each line, too.
    Other `columns` than those named are null in archived rows.
    Raises SourceError where the log cannot be read.
    """
    store = open_store(url)
    first = since.isoformat() if since else ""
    rows = "true"
    if drawn:
        columns = "*"
        rows = f"worker IS NULL OR {_DRAWN.format('found')} OR {_DRAWN.format(_FILE)}"
    with _connection() as (con, scratch):
        if product_id is not None:
            columns = "*"
            rows = "product_id = getvariable('product_id')"
            con.execute("SET VARIABLE product_id = $1", [product_id])
        _read_lines(con, store, [key for day, key in _keys(store, "lines/") if day >= first])
        # Archived is what was deleted before: listed after the lines were read, no decision is missed.
        for day, key in sorted(_keys(store, "parquet/"), reverse=not drawn):
            if day < first and len(con.view("decisions")) >= few:
                break
            file = scratch / key.replace("/", " ")
            file.write_bytes(store.get(key) or b"")
            if file.stat().st_size:  # else its day is no longer kept
                con.execute(f"INSERT INTO found BY NAME SELECT {columns} FROM {_FILE} WHERE {rows}", [str(file)])
            file.unlink()
        yield con, _damaged(con, url)


def archive(url: str, *, before: dt.date, kept_since: dt.date | None = None) -> int:
    """Copies past days' lines, damaged ones too, into a Parquet file a day, then deletes them; returns their number.

    Late lines make one more file of their day. `before` is the first day that stays as lines, `kept_since` the first
    that is kept at all (None: all are). Raises SourceError where the log cannot be read or written.
    """
    store = open_store(url)
    archived = 0
    if kept_since is not None:
        kept = [*_keys(store, "lines/"), *_keys(store, "parquet/")]
        store.delete([key for day, key in kept if day < kept_since.isoformat()])
    past: dict[str, list[str]] = {}
    for day, key in _keys(store, "lines/"):
        if day < before.isoformat():
            past.setdefault(day, []).append(key)
    for day, keys in past.items():
        with _connection() as (con, scratch):
            file = scratch / "day.parquet"
            _read_lines(con, store, keys)
            _damaged(con, url)
            con.execute(f"COPY (FROM once ORDER BY \"at\") TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
            archived += len(con.view("once"))
            name = hashlib.sha256(repr(keys).encode()).hexdigest()[:32]  # lines not deleted are archived beside it
            store.put(f"parquet/date={day}/{name}.parquet", file.read_bytes())
        store.delete(keys)
    return archived


@contextmanager
def _connection() -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A database whose table `found` has lines and archived rows, some twice, and a folder; damaged: no worker."""
    with TemporaryDirectory(prefix="pricing-log-") as scratch, duckdb.connect() as con:
        con.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        con.execute(f"SET TimeZone = 'UTC'; SET temp_directory = '{scratch}/spill'; {_TABLE}")
        try:
            yield con, Path(scratch)
        except duckdb.Error as error:
            raise SourceError(f"the decision log cannot be read: {first_line(error)}") from error


def _damaged(con: duckdb.DuckDBPyConnection, url: str) -> int:
    """Counts the damaged lines, and names the first."""
    found = con.execute("SELECT segment, number FROM once WHERE worker IS NULL ORDER BY ALL").fetchall()
    if found:
        _log.warning("%s: %d damaged line(s), the first is line %d of %s", url, len(found), *reversed(found[0]))
    return len(found)


def _keys(store: ObjectStore, prefix: str) -> list[tuple[str, str]]:
    """Day and key of each object of a log, in order."""
    days = ((_DAY.fullmatch(key), key) for key in store.keys(prefix))
    return [(day[1], key) for day, key in days if day]


def _read_lines(con: duckdb.DuckDBPyConnection, store: ObjectStore, keys: Sequence[str]) -> None:
    schema = con.table("found").limit(0).to_arrow_table().schema
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for part in (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)):
            rows = [
                {"segment": key, "number": number, "line": line.decode(errors="replace"), **_columns(line)}
                for key, body in zip(part, pool.map(store.get, part), strict=True)  # none: archived since it was listed
                for number, line in enumerate((body or b"").split(b"\n"), start=1)
                if line.strip()
            ]
            con.register("batch", pa.Table.from_pylist(rows, schema=schema))
            con.execute("INSERT INTO found FROM batch")
            con.unregister("batch")


def _columns(line: bytes) -> dict[str, Any]:
    """The columns that a line tells, with what the table has not; none of a damaged one."""
    try:
        found = _Line.model_validate_json(line)
    except ValidationError:
        return {}
    parts = (found, found.request, found.decision, found.candidates, found.experiment)
    return {name: value for part in parts if part is not None for name, value in vars(part).items()}
