"""Read sales, check every row, build the panel and save it for other jobs."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np

from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked, report_findings
from pricing.config import load_config
from pricing.data.calendar_tables import read_promotions
from pricing.data.panel import Panel, save_panel
from pricing.data.quality import quality_file
from pricing.paths import pricing_home
from pricing.runtime.cli import job_options, run_main
from pricing.runtime.inputs import log_data
from pricing.runtime.mlflow_runs import set_run_description, tracked_run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_etl, argv, unattended=True)


def _etl(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    started = time.monotonic()
    with tracked_run("etl", config=config):
        if config.data.promotions is not None:
            read_promotions(config.data.promotions)  # an invalid plan fails here, not in a later job
        anchors = sales_anchors(config)
        beside = quality_file(options.output)
        loaded = read_checked(
            options.sales,
            config.data,
            quarantine=options.quarantine,
            known=accepted_past(config),
            anchors=anchors,
            beside=beside,
        )
        panel = loaded.panel
        log_data(panel, sales=options.sales)
        found = report_findings(loaded, config.data, sales=options.sales, beside=beside)
        save_panel(panel, options.output)
        lines = [*report(panel), *(f"finding: {line}" for line in found)]
        mlflow.log_text("\n".join(lines) + "\n", "panel.txt")
        set_run_description("\n".join(f"- {line}" for line in lines))
    print("\n".join(lines))
    print(f"saved in {options.output} after {time.monotonic() - started:.1f} s; give it to any job as --sales")
    return 0


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
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
