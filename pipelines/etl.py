"""Read sales, check every row, build the panel and save it for other jobs."""

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from mlflow.entities import Run

from pipelines.calendar import PLANS, read_plan
from pipelines.commands import run_job
from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked
from pipelines.reports.etl_page import read_file, write_page
from pricing.config import load_config
from pricing.data.findings import Finding, QualityError, quality_file
from pricing.data.panel import Panel, save_panel
from pricing.data.quality import contract_findings
from pricing.errors import ETL, ContractError, LockError, PricingError
from pricing.paths import pricing_home
from pricing.runtime.alerts import AlertFinding
from pricing.runtime.cli import FILE, flag, job, notice, option_words
from pricing.runtime.mlflow_runs import log_data, set_run_description, tracked_run


@job("etl", sales="needed", unattended=True)
@click.option("--output", type=FILE, metavar="DIR", help="where the panel is saved; absent: in PRICING_HOME")
@flag("--full", help=f"--sales {ETL}: read all tables again, and not only the last days")
@flag("--dry_run", help=f"--sales {ETL}: read, and say what would be kept, without keeping it")
def main(
    *, sales: str, quarantine: Path | None, config: str | None, output: Path | None, full: bool, dry_run: bool
) -> int:
    """Reads and checks sales, builds the panel and saves it."""
    if (full or dry_run) and sales != ETL:
        raise click.UsageError(f"--full and --dry_run are for --sales {ETL}, and the sales are {sales}")
    settings, output = load_config(config), output or pricing_home() / "panel"
    started = time.monotonic()
    with tracked_run("etl", config=settings) as run:
        read_file(output).unlink(missing_ok=True)
        # The program starts at the project's root.
        file = str(Path(config).absolute()) if config and Path(config).exists() else config
        words = option_words(config=file, full=full, dry_run=dry_run)
        if dry_run:
            _make_rows(words, output, run)
            return 0
        page = partial(write_page, output, sales=sales)
        try:
            if sales == ETL:
                _make_rows(words, output, run)
            anchors = sales_anchors(settings)
            for name in PLANS:
                read_plan(settings.data, name)  # an invalid plan fails here, not in a later job
            loaded = read_checked(
                *(sales, settings.data),
                quarantine=quarantine,
                known=accepted_past(settings),
                anchors=anchors,
                beside=quality_file(output),
            )
            log_data(loaded.panel, sales=sales)
            save_panel(loaded.panel, output)
        except LockError:
            raise  # the run that holds the lock writes the page
        except PricingError as error:
            page(findings=_findings(error), panel=None, anchors=None, error=str(error))
            raise
        page(findings=loaded.findings, panel=loaded.panel, anchors=anchors, error="")
        lines = [*report(loaded.panel), *(f"finding: {one}" for one in loaded.findings)]
        mlflow.log_text("\n".join(lines) + "\n", "panel.txt")
        print("\n".join(lines))
        set_run_description("\n".join(f"- {line}" for line in lines))
    print(f"saved in {output} after {time.monotonic() - started:.1f} s; give it to any job as --sales")
    return 0


def _make_rows(words: Sequence[str], output: Path, run: Run) -> None:
    """Starts the program etl, which reads the configured tables, and lets alerts tell of competitors without prices.

    Raises:
        JobError: It stopped; it has said why.
    """
    document = read_file(output)
    try:
        run_job("rows", [*words, "--report", str(document.absolute())], run=run)
    finally:
        if document.is_file():
            read: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
            mlflow.log_dict(read, "etl.json")
            notice(*(AlertFinding("competitor_feed", "warning", f"{k}: {why}") for k, why in read["faults"].items()))


def _findings(error: PricingError) -> Sequence[Finding]:
    if isinstance(error, ContractError):
        return contract_findings(error.violations)
    return error.findings if isinstance(error, QualityError) else ()


def report(panel: Panel) -> list[str]:
    """Summarises a panel, one fact per line: size, density, and every note."""
    rows, cells = int(panel.present.sum()), panel.present.size
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
