"""Read sales, check every row, build the panel and save it, beside a page of what was read and what to do about it."""

import datetime as dt
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from mlflow.entities import Run

from pipelines.reports import render
from pipelines.steps.commands import run_job
from pipelines.steps.production import InForce, in_force
from pipelines.steps.sales import PLANS, read_checked
from pricing import __version__
from pricing.config import Config, load_config
from pricing.data.events import read_plan
from pricing.data.findings import Finding, QualityError, quality_file
from pricing.data.load import LoadedSales
from pricing.data.panel import Panel, save_panel
from pricing.data.quality import contract_findings
from pricing.demand.fixed_effects import estimate_ladder
from pricing.demand.grades import GRADES, gather_evidence, grade_products, why_held
from pricing.errors import ETL, ContractError, LockError, PricingError, SourceError
from pricing.fileio import redact_url, replace_text
from pricing.paths import pricing_home
from pricing.registry.given_prices import given_prices
from pricing.runtime.cli import FILE, flag, job, option_words
from pricing.runtime.invocation import notice
from pricing.runtime.mlflow_runs import log_data, set_run_description, tracked_run

PAGE = "etl_report.html"
_MOST_PRODUCTS = 2000  # in the page's table, those that sell most; the page stays below a megabyte


@job("etl", sales="needed", unattended=True)
@click.option("--output", type=FILE, metavar="DIR", help="where the panel is saved; absent: in PRICING_HOME")
@flag("--full", help=f"--sales {ETL}: read all tables again, and not only the last days")
@flag("--dry_run", help=f"--sales {ETL}: read, and say what would be kept, without keeping it")
def main(
    *, sales: str, quarantine: Path | None, config: str | None, output: Path | None, full: bool, dry_run: bool
) -> int:
    """Reads and checks sales, builds the panel and saves it."""
    if (full or dry_run) and sales != ETL:
        raise click.UsageError(f"--full and --dry_run are for --sales {ETL}, and the sales are {redact_url(sales)}")
    settings = load_config(config)
    output = output or pricing_home() / "panel"
    started = time.monotonic()
    with tracked_run("etl", config=settings) as run:
        read_file(output).unlink(missing_ok=True)
        # The program starts at the project's root.
        file = str(Path(config).absolute()) if config and Path(config).exists() else config
        words = option_words(config=file, full=full, dry_run=dry_run)
        if dry_run:
            _make_rows(words, output, run)
            return 0
        page = partial(write_page, output, sales=redact_url(sales))
        try:
            if sales == ETL:
                _make_rows(words, output, run)
            known = in_force(settings)
            loaded = _loaded(sales, settings, known=known, quarantine=quarantine, output=output)
        except LockError:
            raise  # the run that holds the lock writes the page
        except PricingError as error:
            page(findings=_findings(error), panel=None, known=InForce(), error=str(error))
            raise
        page(findings=loaded.findings, panel=loaded.panel, known=known, error="")
        lines = [*report(loaded.panel), *(f"finding: {finding}" for finding in loaded.findings)]
        print("\n".join(lines))
        set_run_description("\n".join(f"- {line}" for line in lines))
    print(f"saved in {output} after {time.monotonic() - started:.1f} s; give it to any job as --sales")
    return 0


def _loaded(sales: str, config: Config, *, known: InForce, quarantine: Path | None, output: Path) -> LoadedSales:
    """Reads and checks the sales and saves their panel."""
    for name in PLANS:
        read_plan(config.data, name)  # an invalid plan fails here, not in a later job
    loaded = read_checked(
        sales,
        config.data,
        quarantine=quarantine,
        known=known.past,
        given=partial(given_prices, config),
        anchors=known.anchors,
        beside=quality_file(output),
    )
    panel = replace(loaded.panel, lineage={"source": redact_url(sales), **loaded.panel.lineage})
    log_data(panel, sales=sales)
    save_panel(panel, output)
    return replace(loaded, panel=panel)


def _make_rows(words: Sequence[str], output: Path, run: Run) -> None:
    """Starts the program etl, which reads the configured tables, and has alerts name competitors without prices.

    Raises:
        JobError: It stopped; it has printed why.
    """
    document = read_file(output)
    try:
        run_job("rows", [*words, "--report", str(document.absolute())], run=run)
    finally:
        if document.is_file():
            read: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
            mlflow.log_dict(read, "etl.json")
            for name, why in read["faults"].items():
                notice(Finding("competitor_feed", "warning", sentence=f"{name}: {why}"))


def _findings(error: PricingError) -> Sequence[Finding]:
    if isinstance(error, ContractError):
        return contract_findings(error.violations)
    return error.findings if isinstance(error, QualityError) else ()


def report(panel: Panel) -> list[str]:
    """Summarises a panel, one fact per line: size, density, and every note."""
    rows = int(panel.present.sum())
    cells = panel.present.size
    launched = np.logical_or.accumulate(panel.present, axis=1)
    gaps = int((launched & ~panel.present).sum())
    quiet = int((panel.units_sold == 0).sum())
    censored = int(panel.censored.sum())
    return [
        f"{len(panel.product_ids):,} products in {len(np.unique(panel.categories)):,} categories",
        f"{len(panel.dates):,} {panel.period}s from {panel.dates[0]} to {panel.dates[-1]}",
        f"{rows:,} rows, {rows / cells:.1%} of products × {panel.period}s; {gaps:,} gaps after a product's first row",
        f"{quiet:,} rows without a sale, {censored:,} with sales that met the stock",
        *(f"note: {note}" for note in panel.notes),
    ]


def page_file(panel: Path) -> Path:
    """Returns the page beside a saved panel's folder."""
    return panel.with_name(f"{panel.name}.{PAGE}")


def read_file(panel: Path) -> Path:
    """Returns the JSON beside a saved panel's folder with what the program etl read."""
    return panel.with_name(f"{panel.name}.etl.json")


def write_page(
    place: Path, *, sales: str, findings: Sequence[Finding], panel: Panel | None, known: InForce, error: str
) -> None:
    """Writes the page beside the panel's folder `place`, logs it to the active run, and prints where it lies.

    Where the job stopped, `error` says why, and there may be no panel; `known` is what is in force.

    Raises:
        SourceError: It cannot be written.
    """
    beside = read_file(place)
    read: Mapping[str, Any] = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    error = (error and read.get("error")) or error
    notes = [finding for finding in findings if finding.level == "note"]
    tasks = [finding for finding in findings if finding.level != "note"]
    faults = [f"{name}: {why}" for name, why in read.get("faults", {}).items()]
    advice = read.get("advice", [])
    todo = len(tasks) + len(faults) + len(advice)
    headline = f"Sales are in, {todo} to look at" if todo else f"Sales are in, nothing to do, {len(notes)} noted"
    if error:
        headline = "The sales stop the job"
    text = render(
        "etl_page.html.jinja",
        title=headline,
        error=error,
        tasks=tasks,
        faults=faults,
        advice=advice,
        notes=notes,
        sales=sales,
        read=read,
        taught=None if panel is None else _taught(panel, known),
        made=f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )
    path = page_file(place)
    try:
        replace_text(path, text)
    except OSError as failed:
        raise SourceError(f"{path}: the page cannot be written ({failed.strerror})") from failed
    mlflow.log_text(text, PAGE)
    print(f"{headline}: {path}")


def _taught(panel: Panel, known: InForce) -> dict[str, Any]:
    """Returns the best that training can learn from each product, those that sell most first; products by grade.

    Since the last training every price counts as the platform's own: the decision log, which tells, is not read here.
    """
    own = None
    if known.anchors is not None:
        own = known.own_prices.marks(panel, since=known.anchors.since)
    evidence = gather_evidence(panel, own=own)
    grade = grade_products(evidence, panel)
    units = np.where(panel.present, np.nan_to_num(panel.units_sold), 0.0).sum(axis=1, dtype=np.float64)
    products = []
    for row in np.argsort(-units, kind="stable")[:_MOST_PRODUCTS].tolist():
        moves = int(evidence.moves[row])
        fortnights = int(evidence.fortnights[row])
        products.append(
            {
                "product_id": str(panel.product_ids[row]),
                "category": str(panel.categories[row]),
                "rows": int(panel.present[row].sum()),
                "units": float(units[row]),
                "moves": moves,
                "fortnights": fortnights,
                "prices": int(evidence.prices[row]),
                "grade": GRADES[grade[row]],
                "why": why_held(int(grade[row]), moves=moves, fortnights=fortnights),
            }
        )
    counts = {GRADES[number]: int((grade == number).sum()) for number in np.unique(grade).tolist()[::-1]}
    return {
        "products": products,
        "counts": counts,
        "count": len(units),
        "ladder": estimate_ladder(panel, own=own).sentence(),
    }
