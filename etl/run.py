"""Read a shop's tables, make rows and plans of them, and put them in the place of the last ones at once."""

import argparse
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.fs

from etl.competitors import collect
from etl.extract import Extract, extract, use_s3
from etl.report import Report, TableRead
from etl.rows import EVER, REACH, ROW_COLUMNS, make_rows, matches, returned_units, set_aside
from etl.settings import EtlSettings, read_settings, stamp_of
from pricing.config import Config, load_config
from pricing.data.etl_output import POINTER, EtlOutput, read_output
from pricing.data.files import open_filesystem
from pricing.errors import ConfigError, LockError, PricingError, SourceError, first_line
from pricing.fileio import replace_atomically, replace_text
from pricing.paths import PARENT_VARIABLE, etl_folder, pricing_home
from pricing.runtime.cli import Options, run_main

NIGHT = 35
"""Days that a night reads again and replaces; a return of an older sale waits for `--full`."""
MOST_BAD = 0.05
"""Share of a table's rows above which bad ones stop the run: a day of a month is 0.03, and a lost column all of them."""
_MEMORY = "1GB"  # beyond it DuckDB goes on in files
_PLANS = {"promotions": "plan", "deliveries": "delivery_plan", "events": "event_plan"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit code."""
    return run_main(_etl, argv)


def _etl(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    with _only_one():
        report, error = _reported(config, full=options.full, dry_run=options.dry_run)
    print("\n".join(report.lines()), flush=True)
    if options.report is not None:
        replace_text(options.report, report.model_dump_json() + "\n")
    if error is not None:
        raise error
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = Options("python -m etl", "Makes sales rows of the tables that the configuration's section etl names.")
    options.add_config()
    options.add_flag("--full", help="read everything again, and not only the last 35 days")
    options.add_flag("--dry_run", help="read, and say what would be kept, without keeping it")
    options.add_argument("--report", type=Path, metavar="FILE", help="JSON of what was read, for the page of the job etl")
    return options.parse(argv)


def _reported(config: Config, *, full: bool, dry_run: bool) -> tuple[Report, PricingError | None]:
    told = Told()
    try:
        run(
            config,
            read_settings(config.etl),
            told=told,
            now=datetime.now(UTC),
            environ=os.environ,
            full=full,
            dry_run=dry_run,
        )
    except (ConfigError, SourceError) as error:
        return told.report.model_copy(update={"error": str(error)}), error
    return told.report, None


class Told:
    """Holds what a run has to report so far."""

    def __init__(self) -> None:
        self.report = Report()

    def add(self, **values: Any) -> None:
        """Replaces fields of the report."""
        self.report = self.report.model_copy(update=values)


def run(
    config: Config,
    settings: EtlSettings,
    *,
    told: Told,
    now: datetime,
    environ: Mapping[str, str],
    full: bool,
    dry_run: bool,
) -> None:
    """Reads the tables and replaces the rows; what is read before an error is told, too.

    Args:
        config: Its `time_zone` is the shop's.
        settings: Its section `etl`.
        told: Takes the report.
        now: With its zone.
        environ: Fills `${NAME}` in locations, and holds the APIs' secrets.
        full: Whether everything is read, and not the last days alone.
        dry_run: Whether nothing is kept.

    Raises:
        ConfigError: The configuration cannot be used.
        SourceError: A table cannot be read, too many of its rows are bad, or the rows cannot be kept.
    """
    if config.time_zone is None:
        raise ConfigError("etl: give time_zone, such as Europe/Berlin: it says when a day begins")
    if config.data.period != "day":
        raise ConfigError("etl makes rows of days; for data.period week give one finished weekly table as sales")
    folder, zone = etl_folder(), ZoneInfo(config.time_zone)
    former = read_output(folder)
    print_ = _fingerprint(config, settings)
    night = former is not None and not full and former.settings == print_ and settings.tables.order_lines is not None
    first = former.last - timedelta(days=NIGHT - 1) if night and former is not None else None
    told.add(first=str(first or ""))
    with tempfile.TemporaryDirectory(prefix="etl-") as scratch, closing(_connect(Path(scratch), zone)) as con:
        if folder.startswith("s3://"):
            use_s3(con, folder)
        extracts = _read_tables(con, config, settings, told=told, environ=environ, since=first)
        _competitors(con, settings, Path(scratch), told=told, now=now, environ=environ, dry_run=dry_run)
        if former is not None and first is not None:
            _load_former(con, folder, former, first=first)
        today = now.astimezone(zone).date()
        given = [*extracts, *(["competitors"] if settings.apis else [])]
        try:
            make_rows(con, given, first=first, today=today, max_age=int(config.data.comp_price_max_age))
            _tell(con, told, extracts, given=given, after=former.last if former is not None and first else EVER)
        except duckdb.Error as error:
            raise SourceError(f"etl: rows cannot be made: {first_line(error)}") from error
        _refuse_bad(told.report)
        if not dry_run:
            _keep(con, folder, former if first else None, settings=print_, now=now, first=first, tables=list(extracts))
            told.add(kept=True)


def _connect(scratch: Path, zone: ZoneInfo) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(
        str(scratch / "work.duckdb"),
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "memory_limit": _MEMORY},
    )
    con.execute(f"SET TimeZone = '{zone.key}'")
    con.execute(f"SET temp_directory = '{scratch / 'spill'}'")
    return con




def _read_tables(
    con: duckdb.DuckDBPyConnection,
    config: Config,
    settings: EtlSettings,
    *,
    told: Told,
    environ: Mapping[str, str],
    since: date | None,
) -> dict[str, Extract]:
    found: dict[str, Extract] = {}
    for name, table in settings.tables.given().items():
        # The evening's count of the day before is the first opening.
        recent = since - timedelta(days=1) if since and name in ("order_lines", "stock") else None
        one = extract(
            con, name, table, environ=environ, since=recent, sql_seconds=config.data.sql_seconds
        )
        found[name] = one
        read = TableRead(
            location=one.shown,
            read=one.read,
            used=one.read - sum(one.aside.values()),
            aside=one.aside,
            examples=one.examples,
            told=one.told,
        )
        told.add(tables={**told.report.tables, name: read})
    return found


def _competitors(
    con: duckdb.DuckDBPyConnection,
    settings: EtlSettings,
    scratch: Path,
    *,
    told: Told,
    now: datetime,
    environ: Mapping[str, str],
    dry_run: bool,
) -> None:
    """Asks the APIs, and adds all that they ever offered to the table of competitors' prices."""
    if not settings.apis:
        return
    folder = etl_folder()
    local = not folder.startswith("s3://")
    place = Path(folder) / "competitors" if local else scratch / "competitors"
    seen = collect(settings.apis, folder=place, now=now, environ=environ, dry_run=dry_run)
    if not local:
        for path in place.rglob("*.parquet"):
            _write(folder, f"competitors/{path.relative_to(place)}", path.read_bytes())
    for name, counts in seen.counts.items():
        read = TableRead(
            location=f"API {name}", read=counts.read, used=counts.kept, aside=counts.set_aside, examples=counts.examples
        )
        told.add(tables={**told.report.tables, f"apis.{name}": read})
    told.add(faults=dict(seen.faults))
    con.execute(
        "CREATE TABLE IF NOT EXISTS competitors (seen_at TIMESTAMPTZ, product_id VARCHAR, price DOUBLE, source VARCHAR, "
        "offer_id VARCHAR, available DOUBLE, fault VARCHAR)"
    )
    adding = "INSERT INTO competitors BY NAME SELECT * REPLACE (CAST(available AS DOUBLE) AS available) FROM"
    pattern = f"{folder}/competitors/*/*.parquet"
    if con.execute("SELECT count(*) FROM glob($1)", [pattern]).fetchall()[0][0]:
        con.execute(f"{adding} read_parquet('{pattern}', union_by_name=true)")
    if dry_run:
        con.register("offers", seen.offers)
        con.execute(f"{adding} offers")


def _load_former(con: duckdb.DuckDBPyConnection, folder: str, former: EtlOutput, *, first: date) -> None:
    """What rows before `first` tell of those after it."""
    files = ", ".join(f"'{folder}/{name}'" for name in former.sales)
    con.execute(f"CREATE VIEW former AS SELECT * FROM read_parquet([{files}], union_by_name=true) WHERE date < '{first}'")
    there = [row[0] for row in con.execute("DESCRIBE former").fetchall()]
    stock = "stock" if "stock" in there else "NULL::DOUBLE AS stock"
    parent = "any_value(parent_id)" if "parent_id" in there else "NULL::VARCHAR"
    con.execute(
        f"CREATE TABLE former_rows AS SELECT date, product_id, units_sold, {stock} FROM former "
        f"WHERE date >= DATE '{first}' - {REACH}"
    )
    con.execute(
        f"CREATE TABLE last_prices AS SELECT product_id, {parent} AS parent_id, arg_max(price, date) AS price "
        "FROM former GROUP BY product_id"
    )


def _tell(con: duckdb.DuckDBPyConnection, told: Told, extracts: Mapping[str, Extract], *, given: list[str], after: date
) -> None:
    tables = dict(told.report.tables)
    for name in extracts:
        aside, examples = set_aside(con, name)
        before = tables[name]
        tables[name] = before.model_copy(
            update={
                "used": before.used - sum(aside.values()),
                "aside": {**before.aside, **aside},
                "examples": {**before.examples, **examples},
            }
        )
    rows, products, begins, ends = con.execute(
        "SELECT count(*), count(DISTINCT product_id), min(date), max(date) FROM made"
    ).fetchall()[0]
    returned, left_out = returned_units(con, after=after)
    told.add(
        tables=tables,
        matches=matches(con, given),
        rows=rows,
        products=products,
        begins=str(begins),
        ends=str(ends),
        returned=returned,
        left_out=left_out,
    )


def _refuse_bad(report: Report) -> None:
    """Stops a run that would lose more than a few rows.

    Raises:
        SourceError: A table has too many bad ones.
    """
    for name, table in report.tables.items():
        if table.bad > MOST_BAD * max(table.read, 1) and not name.startswith("apis."):
            worst = max(table.aside, key=lambda reason: table.aside[reason])
            raise SourceError(
                f"etl.tables.{name}: {table.bad:,} of {table.read:,} rows cannot be used, and {MOST_BAD:.0%} is the "
                f"limit: {worst}, first: {table.examples.get(worst, '-')}; the rows of before stay in force"
            )


def _keep(
    con: duckdb.DuckDBPyConnection,
    folder: str,
    former: EtlOutput | None,
    *,
    settings: str,
    now: datetime,
    first: date | None,
    tables: list[str],
) -> None:
    """Writes new files beside the old ones, then lets the pointer name them, then removes those of the run before last."""
    made = stamp_of(now)
    filled = con.execute(f"SELECT {', '.join(f'count({name})' for name in _made_columns(con))} FROM made").fetchall()[0]
    there = [name for name, count in zip(_made_columns(con), filled, strict=True) if count]
    columns = [name for name in ROW_COLUMNS if name in there or (former is not None and name in former.columns)]
    chosen = "SELECT * FROM (SELECT * EXCLUDE (in_master, product) FROM made WHERE date >= getvariable('first'))"
    if former is not None:
        chosen += " UNION ALL BY NAME SELECT * FROM former"
    con.execute(f"CREATE VIEW whole AS {chosen}")
    begin = f"{first:%Y-%m}" if first else ""
    kept = [name for name in former.sales if _month(name) < begin] if former is not None else []
    months = con.execute(
        "SELECT DISTINCT strftime(date, '%Y-%m') AS month FROM whole WHERE strftime(date, '%Y-%m') >= $1 ORDER BY month",
        [begin],
    ).fetchall()
    try:
        if not folder.startswith("s3://"):
            (Path(folder) / "sales").mkdir(parents=True, exist_ok=True)
        for (month,) in months:
            name = f"sales/{month}.{made}.parquet"
            _copy(
                con,
                f"SELECT {', '.join(columns)} FROM whole WHERE date >= DATE '{month}-01' "
                f"AND date < DATE '{month}-01' + INTERVAL 1 MONTH ORDER BY product_id, date",
                f"{folder}/{name}",
            )
            kept.append(name)
        plans = {}
        for name in tables:
            if name in _PLANS:
                plans[name] = f"{name}.{made}.parquet"
                _copy(con, f"SELECT * FROM {_PLANS[name]}", f"{folder}/{plans[name]}")
        last = con.execute("SELECT max(date) FROM whole").fetchall()[0][0]
        output = EtlOutput(
            made=made,
            run_id=os.environ.get(PARENT_VARIABLE, ""),
            settings=settings,
            last=last,
            columns=columns,
            sales=kept,
            plans=plans,
        )
        before = read_output(folder)
        _write(folder, POINTER, (output.model_dump_json(indent=1) + "\n").encode())
        _remove_old(folder, *(one for one in (output, before) if one is not None))
    except (OSError, duckdb.Error) as error:
        raise SourceError(f"{folder}: the rows cannot be kept: {first_line(error)}") from error


def _made_columns(con: duckdb.DuckDBPyConnection) -> list[str]:
    there = {row[0] for row in con.execute("DESCRIBE made").fetchall()}
    return [name for name in ROW_COLUMNS if name in there]


def _month(name: str) -> str:
    return name.removeprefix("sales/").partition(".")[0]


def _copy(con: duckdb.DuckDBPyConnection, query: str, where: str) -> None:
    con.execute(f"COPY ({query}) TO '{where}' (FORMAT parquet, COMPRESSION zstd)")


def _write(folder: str, name: str, content: bytes) -> None:
    """Writes a small file at once: a reader finds the old one or the new one."""
    if folder.startswith("s3://"):
        store, path = open_filesystem(f"{folder}/{name}")
        with store.open_output_stream(path) as stream:
            stream.write(content)
        return
    with replace_atomically(Path(folder) / name) as draft:
        draft.write_bytes(content)


def _remove_old(folder: str, *outputs: EtlOutput) -> None:
    """Removes files of runs before the last two: whoever began to read keeps what the pointer named then."""
    named = {name for one in outputs for name in (*one.sales, *one.plans.values())}
    store, path = open_filesystem(folder)
    for place in (path, f"{path}/sales"):
        for info in store.get_file_info(pyarrow.fs.FileSelector(place, allow_not_found=True)):
            name = info.path.removeprefix(f"{path}/")
            made = re.search(r"\.\d{8}T\d{12}\.parquet$", name)
            if info.type == pyarrow.fs.FileType.File and made and name not in named:
                store.delete_file(info.path)


def _fingerprint(config: Config, settings: EtlSettings) -> str:
    """Of all that shapes rows: another one makes the next run a full one."""
    queries = [
        one.query.read_text(encoding="utf-8") for one in settings.tables.given().values() if one.query is not None
    ]
    shape = [settings.tables.model_dump(mode="json"), config.time_zone, config.data.comp_price_max_age, queries]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _only_one() -> Iterator[None]:
    """Holds the lock of this program in this PRICING_HOME.

    Raises:
        LockError: Another process holds it.
    """
    path = pricing_home() / "locks" / "etl_tables"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockError(f"etl is running already: another process holds {path}; wait for it to end") from error
        yield
