"""Read sales, check every row, build the panel and save it for other jobs."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Run

from pipelines.calendar import read_plans
from pipelines.commands import run_job
from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked
from pipelines.reports.etl_page import read_file, write_page
from pricing.config import Config, load_config
from pricing.data.anchors import Anchors
from pricing.data.findings import Finding, QualityError, quality_file
from pricing.data.panel import Panel, save_panel
from pricing.data.quality import contract_findings
from pricing.errors import ETL, ContractError, LockError, PricingError
from pricing.paths import pricing_home
from pricing.runtime.alerts import AlertFinding
from pricing.runtime.cli import UsageError, job_options, notice, run_main
from pricing.runtime.inputs import log_data
from pricing.runtime.mlflow_runs import set_run_description, tracked_run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_etl, argv, unattended=True)


def _etl(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    started = time.monotonic()
    with tracked_run("etl", config=config) as run:
        read_file(options.output).unlink(missing_ok=True)
        if options.dry_run:
            _make_rows(options, run)
            return 0
        with _told(options) as night:
            if options.sales == ETL:
                _make_rows(options, run)
            lines = _build(options, config, night)
        set_run_description("\n".join(f"- {line}" for line in lines))
    print(f"saved in {options.output} after {time.monotonic() - started:.1f} s; give it to any job as --sales")
    return 0


def _make_rows(options: argparse.Namespace, run: Run) -> None:
    """Starts the program etl, which reads the configured tables, and lets alerts tell of competitors without prices.

    Raises:
        JobError: It stopped; it has said why.
    """
    document = read_file(options.output)
    words = [word for name in ("full", "dry_run") if getattr(options, name) for word in (f"--{name}", "true")]
    if options.config:  # the program starts at the project's root
        file = Path(options.config)
        words += ["--config", str(file.absolute() if file.exists() else file)]
    try:
        run_job("etl", [*words, "--report", str(document.absolute())], run=run)
    finally:
        if document.is_file():
            read: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
            mlflow.log_dict(read, "etl.json")
            notice(*(AlertFinding("competitor_feed", "warning", f"{k}: {why}") for k, why in read["faults"].items()))


@dataclass
class _Night:
    """The facts that the page tells of a job, as far as it came."""

    findings: Sequence[Finding] = ()
    panel: Panel | None = None
    anchors: Anchors | None = None
    error: str = ""


@contextmanager
def _told(options: argparse.Namespace) -> Iterator[_Night]:
    """Leaves the page when a job ends, also where an error that people can mend ends it."""
    night = _Night()
    try:
        yield night
    except LockError:
        raise  # the run that holds the lock writes the page
    except PricingError as error:
        night.error = str(error)
        if isinstance(error, QualityError):
            night.findings = error.findings
        elif isinstance(error, ContractError):
            night.findings = contract_findings(error.violations)
        raise
    finally:
        if night.error or night.panel is not None:
            write_page(
                options.output,
                sales=options.sales,
                findings=night.findings,
                panel=night.panel,
                anchors=night.anchors,
                error=night.error,
            )


def _build(options: argparse.Namespace, config: Config, night: _Night) -> list[str]:
    """Reads sales, builds the panel and saves it; returns what there is to say of it, printed already."""
    read_plans(config.data)  # an invalid plan fails here, not in a later job
    night.anchors = anchors = sales_anchors(config)
    loaded = read_checked(
        options.sales,
        config.data,
        quarantine=options.quarantine,
        known=accepted_past(config),
        anchors=anchors,
        beside=quality_file(options.output),
    )
    night.findings, panel = loaded.findings, loaded.panel
    log_data(panel, sales=options.sales)
    save_panel(panel, options.output)
    night.panel = panel
    lines = [*report(panel), *(f"finding: {one}" for one in loaded.findings)]
    mlflow.log_text("\n".join(lines) + "\n", "panel.txt")
    print("\n".join(lines))
    return lines


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


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("etl", "Reads and checks sales, builds the panel and saves it.")
    options.add_argument(
        "--output", type=Path, default=pricing_home() / "panel", metavar="DIR", help="folder that the panel is saved in"
    )
    options.add_flag("--full", help=f"--sales {ETL}: read all tables again, and not only the last days")
    options.add_flag("--dry_run", help=f"--sales {ETL}: read, and say what would be kept, without keeping it")
    found = options.parse(argv)
    given = [name for name in ("full", "dry_run") if getattr(found, name)]
    if given and found.sales != ETL:
        raise UsageError(f"--{given[0]} is for --sales {ETL}, and the sales are {found.sales}")
    return found


if __name__ == "__main__":
    sys.exit(main())
