"""Read the decision log, and archive it by day: DuckDB over `lines/DAY/*.jsonl` and `parquet/date=DAY/*.parquet`.

A line or row is one decision; one that stands in both counts once. A line that is no JSON, or whose fields have other
types than the log's, is damaged: it is kept, counted and named, and costs only itself.
"""

import datetime as dt
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pricing.decision_log.write import SCHEMA
from pricing.errors import SourceError, first_line
from pricing.objects import ObjectStore, open_store
from pricing.paths import LOG_VARIABLE, pricing_home

if TYPE_CHECKING:
    import duckdb

_OF_CANDIDATES = {f"candidate_{name}": (f"candidates.{name}", "numbers") for name in ("price", "units", "size")}
_FIELDS = {  # column of the table: where a line has it, and of what kind
    **{"worker": ("worker", "text"), "sequence": ("sequence", "whole"), "at": ("at", "time"), "date": ("date", "day")},
    **{"product_id": ("product_id", "text"), "category": ("category", "text or null")},
    **{name: (name, "number or null") for name in ("current_price", "list_price", "unit_cost")},
    "tax_rate": ("tax_rate", "number"),
    **{name: (f"request.{name}", "number or absent") for name in ("current_stock", "comp_price")},
    **{name: (f"decision.{name}", "text") for name in ("decision_id", "source", "strategy", "model_version")},
    "recommended_price": ("decision.recommended_price", "number"),
    **{name: (f"decision.{name}", "number or null") for name in ("confidence", "expected_units", "expected_margin")},
    **{name: (f"decision.{name}", "number or null") for name in ("comp_price_used", "comp_price_age")},
    **{"reasons": ("decision.reasons", "texts"), **_OF_CANDIDATES, "unit": ("candidates.unit", "number")},
    **{"experiment": ("experiment.name", "text or absent"), "arm": ("experiment.arm", "text or absent")},
    "deviation": ("experiment.deviation", "number or absent"),
}
_TYPES = {"text": "VARCHAR", "number": "DOUBLE", "whole": "BIGINT", "time": "TIMESTAMPTZ", "day": "DATE"}
_TYPES |= {"texts": "VARCHAR[]", "numbers": "DOUBLE[]"}
COLUMNS = {name: _TYPES[kind.partition(" ")[0]] for name, (_, kind) in _FIELDS.items()}  # the table's, with their types
_JSON = dict.fromkeys(("text", "time", "day", "texts"), "'VARCHAR'") | {"whole": "'UBIGINT'"}  # JSON's types
_JSON |= {"number": "'UBIGINT', 'BIGINT', 'DOUBLE'", "numbers": "'UBIGINT', 'BIGINT', 'DOUBLE', 'NULL'"}
_ABSENT = {"": "false", "null": "t[{0}] = 'NULL'", "absent": "coalesce(t[{0}], 'NULL') = 'NULL'"}
_FORMS = {"day": r"\d{4}-\d{2}-\d{2}", "time": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})"}
_LINE = {"segment": "VARCHAR", "number": "BIGINT", "line": "VARCHAR"}  # where a line comes from, and itself
_DRAWN = "product_id IN (SELECT product_id FROM {} WHERE deviation IS NOT NULL)"
_DAY = re.compile(r"(?:lines/|parquet/date=)(\d{4}-\d{2}-\d{2})/[^/]+\.(?:jsonl|parquet)")
_AT_ONCE = 64  # objects that are fetched at once
_THREADS = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogReading:
    """The decisions of a log, in the order of time, and the number of lines that are none."""

    records: list[dict[str, Any]]
    damaged: int


def log_url(environment: Mapping[str, str] = os.environ) -> str:
    """The address of the decision log: PRICING_DECISIONS_URL, a folder or s3://…, else PRICING_HOME/decisions."""
    return environment.get(LOG_VARIABLE) or str(pricing_home(environment) / "decisions")


def holds_decisions(url: str) -> bool:
    """Whether anything was ever logged there."""
    store = open_store(url)
    return bool(store.keys("lines/") or store.keys("parquet/"))


def read_decisions(url: str, *, drawn: bool = False) -> LogReading:
    """Reads the lines of the log at `url`; with `drawn` only those of products of which an experiment drew a price.

    Raises:
        SourceError: The log cannot be read.
    """
    which = _DRAWN.format("decisions") if drawn else "true"
    with open_log(url, lines=True, drawn=drawn) as (con, damaged):
        rows = con.execute(f'SELECT line FROM decisions WHERE {which} ORDER BY "at", worker, sequence').fetchall()
    records = []
    for (line,) in rows:
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):  # Python refuses what nests too deep
            damaged += 1
    return LogReading(records, damaged)


@contextmanager
def open_log(
    url: str, *, since: dt.date | None = None, few: int = 0, lines: bool = False, drawn: bool = False
) -> Iterator[tuple["duckdb.DuckDBPyConnection", int]]:
    """Yields a connection whose table `decisions` has the COLUMNS of each decision once, and how many are damaged.

    Days before `since` are left out, but those archived that are needed to have a `few` decisions. With `lines` the
    table also has each `line`, whole; `drawn` leaves out archived products of which no experiment drew a price so far.

    Raises:
        SourceError: The log cannot be read.
    """
    store, first = open_store(url), since.isoformat() if since else ""
    with _connection() as (con, scratch):
        _read_lines(con, store, [key for day, key in _keys(store, "lines/") if day >= first], lines=lines)
        # Archived is what was deleted before: listed after the lines were read, no decision is missed.
        for day, key in sorted(_keys(store, "parquet/"), reverse=not drawn):
            if day >= first or _count(con, "worker IS NOT NULL") < few:
                _read_parquet(con, store, key, scratch=scratch, lines=lines, drawn=drawn)
            else:
                break
        damaged = _count(con, "worker IS NULL")
        if damaged:
            where = "SELECT segment, number FROM found WHERE worker IS NULL ORDER BY ALL LIMIT 1"
            ((segment, number),) = con.execute(where).fetchall()
            _log.warning("%s: %d damaged line(s), the first is line %d of %s", url, damaged, number, segment)
        con.execute(f"CREATE TABLE decisions AS {_once('worker IS NOT NULL')}; DROP TABLE found")
        yield con, damaged


def archive(url: str, *, before: dt.date, kept_since: dt.date | None = None) -> int:
    """Copies past days' lines into one Parquet file a day, then deletes them; a repeated run finds nothing to do.

    A line that came late joins its day's file. Damaged lines are kept in it.

    `before` is the first day that stays as lines, `kept_since` the first that is kept at all (None: all are). Returns
    how many lines went into the archive.

    Raises:
        SourceError: The log cannot be read or written.
    """
    store, archived = open_store(url), 0
    if kept_since is not None:
        kept = [*_keys(store, "lines/"), *_keys(store, "parquet/")]
        store.delete([key for day, key in kept if day < kept_since.isoformat()])
    past: dict[str, list[str]] = {}
    for day, key in _keys(store, "lines/"):
        if day < before.isoformat():
            past.setdefault(day, []).append(key)
    for day, keys in past.items():
        with _connection() as (con, scratch):
            _read_lines(con, store, keys, lines=True)
            archived += _count(con, "true")
            for _, key in _keys(store, f"parquet/date={day}/"):
                _read_parquet(con, store, key, scratch=scratch, lines=True)
            file = scratch / "day.parquet"
            con.execute(f"COPY ({_once('true')} ORDER BY \"at\") TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
            store.put(f"parquet/date={day}/decisions.parquet", file.read_bytes())
        store.delete(keys)
    return archived


@contextmanager
def _connection() -> Iterator[tuple["duckdb.DuckDBPyConnection", Path]]:
    """A database whose table `found` has lines and archived rows, some twice, and a folder; damaged: no worker."""
    import duckdb  # noqa: PLC0415 - serving, which writes the log, has none

    offline: dict[str, str | bool | int | float | list[str]] = {
        **{"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    }
    with TemporaryDirectory(prefix="pricing-log-") as scratch, duckdb.connect(config=offline) as con:
        con.execute(f"SET TimeZone = 'UTC'; SET temp_directory = '{scratch}/spill'")
        columns = ", ".join(f'"{name}" {kind}' for name, kind in (_LINE | COLUMNS).items())
        con.execute(f"CREATE TABLE found ({columns})")
        try:
            yield con, Path(scratch)
        except duckdb.Error as error:
            raise SourceError(f"the decision log cannot be read: {first_line(error)}") from error


def _once(which: str) -> str:
    apart = "worker, sequence, if(worker IS NULL, segment, NULL), if(worker IS NULL, number, NULL)"
    return f"(SELECT * FROM found WHERE {which} QUALIFY row_number() OVER (PARTITION BY {apart}) = 1)"


def _count(con: "duckdb.DuckDBPyConnection", which: str) -> int:
    ((count,),) = con.execute(f"SELECT count(*) FROM {_once(which)}").fetchall()
    return int(count)


def _keys(store: ObjectStore, prefix: str) -> list[tuple[str, str]]:
    """Day and key of each object of a log, in order."""
    return [(day[1], key) for key in store.keys(prefix) if (day := _DAY.fullmatch(key))]


def _read_lines(con: "duckdb.DuckDBPyConnection", store: ObjectStore, keys: Sequence[str], *, lines: bool) -> None:
    import pyarrow as pa  # noqa: PLC0415 - as DuckDB

    query, types = _parsed(lines=lines), pa.schema({"segment": pa.string(), "number": pa.int64(), "line": pa.string()})
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            rows = [
                {"segment": key, "number": number, "line": line.decode(errors="replace")}
                for key, body in zip(part, pool.map(store.get, part), strict=True)  # none: archived since it was listed
                for number, line in enumerate((body or b"").split(b"\n"), start=1)
                if line.strip()
            ]
            con.register("batch", pa.Table.from_pylist(rows, schema=types))
            con.execute(f"INSERT INTO found BY NAME {query}")
            con.unregister("batch")


def _read_parquet(
    con: "duckdb.DuckDBPyConnection", store: ObjectStore, key: str, *, scratch: Path, lines: bool, drawn: bool = False
) -> None:
    body = store.get(key)
    if body is None:  # its day is no longer kept
        return
    file = scratch / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    kept = "line" if lines else "if(worker IS NULL, line, NULL) AS line"
    table = "read_parquet($1, hive_partitioning = false)"  # else the day of the folder would replace `date`
    which = f"worker IS NULL OR {_DRAWN.format('found')} OR {_DRAWN.format(table)}" if drawn else "true"
    quoted = ", ".join(f'"{name}"' for name in COLUMNS)  # some are words of SQL
    columns = f"{kept}, segment, number, {quoted}"
    con.execute(f"INSERT INTO found BY NAME SELECT {columns} FROM {table} WHERE {which}", [str(file)])
    file.unlink()


def _parsed(*, lines: bool) -> str:
    """The query that takes the columns out of the table `batch` of lines; in a damaged line each of them is NULL."""
    paths = [*(path for path, _ in _FIELDS.values()), "schema", "request", "experiment"]
    at = {path: number for number, path in enumerate(paths, start=1)}
    sound = [
        f"r[{at['schema']}] = '{SCHEMA}' AND t[{at['request']}] = 'OBJECT'",
        f"CASE t[{at['experiment']}] WHEN 'NULL' THEN true WHEN 'OBJECT' THEN experiment || arm IS NOT NULL END",
        "len(candidate_price) = len(candidate_units) AND len(candidate_size) IN (0, len(candidate_price))",
    ]
    values = []
    for name, (path, kind) in _FIELDS.items():
        place, (base, _, lacking) = at[path], kind.partition(" or ")
        text = f"r[{place}] ->> '$'"
        if base in ("texts", "numbers"):
            values.append(f'TRY_CAST(r[{place}] AS {_TYPES[base]}) AS "{name}"')
            kinds = f"json_type(parsed, '$.{path}[*]')"
            right = f"t[{place}] = 'ARRAY' AND len(list_filter({kinds}, lambda x: x NOT IN ({_JSON[base]}))) = 0"
        else:
            values.append((text if base == "text" else f"TRY_CAST({text} AS {_TYPES[base]})") + f' AS "{name}"')
            right = f't[{place}] IN ({_JSON[base]}) AND "{name}" IS NOT NULL'
        if base in ("number", "numbers"):
            right += f" AND isfinite({name if base == 'number' else f'coalesce(list_sum({name}), 0)'})"
        if base in _FORMS:
            right += (
                f" AND regexp_full_match({text}, '{_FORMS[base]}') AND \"{name}\" BETWEEN '2000-01-01' AND '2199-12-31'"
            )
        sound.append(f"({right} OR {_ABSENT[lacking].format(place)})")
    listed = ", ".join(f"'$.{path}'" for path in paths)
    columns = ", ".join(f'if(sound, "{name}", NULL) AS "{name}"' for name in COLUMNS)
    return f"""
        SELECT segment, number, if(sound AND {not lines}, NULL, line) AS line, {columns}
        FROM (SELECT *, {" AND ".join(sound)} AS sound
        FROM (SELECT *, {", ".join(values)}
        FROM (SELECT *, json_extract(parsed, [{listed}]) AS r, json_type(parsed, [{listed}]) AS t
        FROM (SELECT *, if(json_valid(line), line, NULL) AS parsed FROM batch))))"""
