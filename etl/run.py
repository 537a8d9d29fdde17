"""Read a shop's tables, make rows and plans of them, and put them in the place of the last ones at once."""

import asyncio
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import duckdb
import pyarrow.parquet as pq

from etl.competitors import CompetitorSettings, Reading
from etl.extract import OFFLINE, extract, literal, use_s3
from etl.report import Report
from etl.rows import CLOSED, EVER, REACH, ROW_COLUMNS, create_empty, discounts_found, make_rows, tell
from etl.settings import CLOCKS, EtlSettings, read_settings
from pricing.config import Config, load_config
from pricing.data.database import SQL_SECONDS
from pricing.data.etl_output import POINTER, EtlOutput, read_output
from pricing.errors import ConfigError, PricingError, SourceError, first_line
from pricing.fileio import replace_text
from pricing.objects import open_store
from pricing.paths import PARENT_VARIABLE, etl_folder, pricing_home
from pricing.runtime.cli import FILE, flag, job
from pricing.runtime.locks import file_lock

NIGHT = 35
"""Days that a night reads again and replaces; a return of an older sale waits for `--full`."""
MOST_BAD = 0.05
"""Share of a table's rows above which bad ones stop the run: a day of a month is 0.03, a lost column all of them."""
_OURS = re.compile(r"(sales/\d{4}-\d{2}|[a-z]+)\.\d{8}T\d{12}\.parquet")
_STAMP = "%Y%m%dT%H%M%S%f"  # of a run, in the names of its files
_MEMORY = "1GB"  # beyond it DuckDB goes on in files
_PLANS = {"promotions": "plan", "deliveries": "delivery_plan", "events": "event_plan"}


@job("rows")
@flag("--full", help="read everything again, and not only the last 35 days")
@flag("--dry_run", help="read, and say what would be kept, without keeping it")
@click.option("--report", "page", type=FILE, metavar="FILE", help="JSON of what was read, for the page of the job")
def main(*, config: str | None, full: bool, dry_run: bool, page: Path | None) -> int:
    """Makes sales rows of the tables that the configuration's section etl names."""
    settings, report = load_config(config), Report()
    try:
        tables = read_settings(settings.etl)
        with file_lock(pricing_home() / "locks" / "etl_tables", job="etl"):
            run(settings, tables, report=report, now=datetime.now(UTC), full=full, dry_run=dry_run)
    except PricingError as error:
        report.error = str(error)
        raise
    finally:
        for line in report.lines():
            print(line, flush=True)
        if page is not None:
            replace_text(page, report.model_dump_json() + "\n")
    return 0


def run(
    config: Config,
    settings: EtlSettings,
    *,
    report: Report,
    now: datetime,
    full: bool = False,
    dry_run: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Reads the tables and replaces the rows.

    Args:
        config: Its `time_zone` is the shop's.
        settings: Its section `etl`.
        report: Is filled in, also before an error.
        now: With its zone.
        full: Whether everything is read, and not the last days alone.
        dry_run: Whether nothing is kept.
        environ: Fills `${NAME}` in locations, and holds the APIs' secrets.

    Raises:
        ConfigError: The configuration cannot be used.
        SourceError: A table cannot be read, too many of its rows are bad, or the rows cannot be kept.
    """
    if config.time_zone is None:
        raise ConfigError("etl: give time_zone, such as Europe/Berlin: it says when a day begins")
    if config.data.period != "day":
        raise ConfigError("etl makes rows of days; for data.period week give one finished weekly table as sales")
    folder = etl_folder()
    zone = ZoneInfo(config.time_zone)
    given = settings.tables.given()
    shape = _fingerprint(config, settings)
    former = read_output(folder)
    if former is not None and (full or former.settings != shape or "sales" in given):
        former = None
    first = None if former is None else former.last - timedelta(days=NIGHT - 1)
    report.first = str(first or "")
    max_age = int(config.data.comp_price_max_age)

    with tempfile.TemporaryDirectory(prefix="etl-") as scratch, closing(_connect(Path(scratch), zone)) as con:
        use_s3(con, folder)
        # The evening's count of the day before is the first opening, or one of closed days before that.
        earlier = {"competitors": max_age, "stock": CLOSED}
        for name, table in given.items():
            since = first - timedelta(days=1 + earlier.get(name, 0)) if first and name in CLOCKS else None
            read = extract(con, name, table, environ=environ, since=since, seconds=SQL_SECONDS)
            report.tables[name] = read
        try:
            create_empty(con)
            since = EVER if first is None else first - timedelta(days=1 + max_age)
            _add_offers(con, settings.apis, since=since, report=report, now=now, environ=environ, dry_run=dry_run)
            if former is not None and first is not None:
                _load_former(con, folder, former, first=first)
            make_rows(
                con,
                finished="sales" in given,
                first=first,
                today=now.astimezone(zone).date(),
                max_age=max_age,
                discounts={} if former is None else former.discounts,
            )
            tell(con, report, after=EVER if former is None else former.last)
        except duckdb.Error as error:
            raise SourceError(f"etl: rows cannot be made: {first_line(error)}") from error

        _refuse_bad(report)
        if not dry_run:
            plans = [name for name in _PLANS if name in given]
            _keep(con, folder, former, first=first, settings=shape, made=f"{now:{_STAMP}}", plans=plans)
            report.kept = True


def _connect(scratch: Path, zone: ZoneInfo) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(str(scratch / "work.duckdb"), config={**OFFLINE, "memory_limit": _MEMORY})
    con.execute(f"SET TimeZone = '{zone.key}'; SET temp_directory = {literal(str(scratch / 'spill'))}")
    return con


def _add_offers(
    con: duckdb.DuckDBPyConnection,
    apis: Mapping[str, CompetitorSettings],
    *,
    since: date,
    report: Report,
    now: datetime,
    environ: Mapping[str, str],
    dry_run: bool,
) -> None:
    """Adds what the APIs offered from `since` on to the table of competitors' prices, and keeps what they offer now."""
    folder = etl_folder()
    adding = "INSERT INTO competitors BY NAME SELECT * REPLACE (CAST(available AS DOUBLE) AS available) FROM"
    kept = con.execute(
        "SELECT file FROM glob($1) WHERE parse_filename(file) >= $2",
        [f"{folder}/competitors/*/*.parquet", f"{since:%Y%m%d}"],
    ).fetchall()
    if kept:
        con.execute(f"{adding} read_parquet($1)", [[file for (file,) in kept]])
    for name, api in apis.items():
        reading = Reading(name, api, now=now)
        asyncio.run(reading.read(environ))
        report.tables[f"apis.{name}"] = reading.counts()
        if reading.fault:
            report.faults[name] = reading.fault
        con.register("offers", reading.offers)
        con.execute(f"{adding} offers")
        if reading.offers.num_rows and not dry_run:
            content = BytesIO()
            pq.write_table(reading.offers, content)
            open_store(folder).put(f"competitors/{name}/{now.astimezone(UTC):{_STAMP}}.parquet", content.getvalue())


def _load_former(con: duckdb.DuckDBPyConnection, folder: str, former: EtlOutput, *, first: date) -> None:
    """Rows before `first`, as a view, and what they tell of those after it."""
    files = ", ".join(literal(f"{folder}/{name}") for name in former.sales)
    con.execute(f"CREATE VIEW former AS FROM read_parquet([{files}], union_by_name=true) WHERE date < DATE '{first}'")
    stock = "stock" if "stock" in former.columns else "NULL"
    parent = "any_value(parent_id)" if "parent_id" in former.columns else "NULL"
    con.execute(
        f"INSERT INTO former_rows SELECT date, product_id, units_sold, {stock} FROM former "
        f"WHERE date >= DATE '{first}' - {REACH}"
    )
    con.execute(
        f"INSERT INTO last_prices SELECT product_id, {parent}, arg_max(price, date) FROM former GROUP BY product_id"
    )


def _refuse_bad(report: Report) -> None:
    for name, table in report.tables.items():
        if table.bad > MOST_BAD * table.read and not name.startswith("apis."):
            worst = max(table.aside, key=lambda reason: table.aside[reason])
            hint = "; is another decimal mark or date_format to be named?" if worst.endswith("cannot be read") else ""
            raise SourceError(
                f"etl.tables.{name}: {table.bad:,} of {table.read:,} rows cannot be used, and {MOST_BAD:.0%} is the "
                f"limit: {worst}, first: {table.examples.get(worst, '-')}{hint}; the rows of before stay in force"
            )


def _keep(
    con: duckdb.DuckDBPyConnection,
    folder: str,
    former: EtlOutput | None,
    *,
    first: date | None,
    settings: str,
    made: str,
    plans: list[str],
) -> None:
    """Writes files beside those in force, lets the pointer name them, and removes those of the run before last.

    Raises:
        SourceError: They cannot be written; the pointer still names the former ones.
    """
    known = [] if former is None else former.columns
    (filled,) = con.execute(f"SELECT {', '.join(f'count({name}) > 0' for name in ROW_COLUMNS)} FROM made").fetchall()
    columns = [name for name, full in zip(ROW_COLUMNS, filled, strict=True) if full or name in known]
    kept = [] if former is None else [name for name in former.sales if name < f"sales/{first:%Y-%m}"]
    con.execute(f"CREATE VIEW whole AS FROM made{'' if former is None else ' UNION ALL BY NAME FROM former'}")
    begin = EVER if first is None else first.replace(day=1)
    months = con.execute(
        "SELECT DISTINCT date_trunc('month', date)::DATE FROM whole WHERE date >= $1 ORDER BY ALL", [begin]
    ).fetchall()
    ((last,),) = con.execute("SELECT max(date) FROM whole").fetchall()
    output = EtlOutput(
        made=made,
        run_id=os.environ.get(PARENT_VARIABLE, ""),
        settings=settings,
        last=last,
        columns=columns,
        sales=[*kept, *(f"sales/{month:%Y-%m}.{made}.parquet" for (month,) in months)],
        plans={name: f"{name}.{made}.parquet" for name in plans},
        discounts=discounts_found(con),
    )

    try:
        if not folder.startswith("s3://"):
            (Path(folder) / "sales").mkdir(parents=True, exist_ok=True)
        for (month,), file in zip(months, output.sales[len(kept) :], strict=True):
            of_month = f"date >= DATE '{month}' AND date < DATE '{month}' + INTERVAL 1 MONTH"
            rows = con.sql(f"SELECT {', '.join(columns)} FROM whole WHERE {of_month} ORDER BY product_id, date")
            rows.write_parquet(f"{folder}/{file}")
        for name, file in output.plans.items():
            con.table(_PLANS[name]).write_parquet(f"{folder}/{file}")

        before = read_output(folder) or output
        store = open_store(folder)
        store.put(POINTER, (output.model_dump_json(indent=1) + "\n").encode())
        named = {*output.files, *before.files}  # whoever began to read keeps what the pointer named then
        store.delete([name for name in store.keys("") if _OURS.fullmatch(name) and name not in named])
    except (OSError, duckdb.Error) as error:
        raise SourceError(f"{folder}: the rows cannot be kept: {first_line(error)}") from error


def _fingerprint(config: Config, settings: EtlSettings) -> str:
    """Hashes all that shapes rows: another one makes the next run a full one."""
    paths = [table.query for table in settings.tables.given().values() if table.query is not None]
    queries = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in paths]
    shape = [settings.tables.model_dump(mode="json"), config.time_zone, config.data.comp_price_max_age, queries]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]
