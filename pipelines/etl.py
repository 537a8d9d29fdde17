"""Read sales, check every row, build the panel and save it for other jobs."""

import argparse
import datetime as dt
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np

from pipelines.calendar import read_plans
from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked
from pipelines.reports.etl_files import Night, reported
from pipelines.sources import SourcesRead, read_sources
from pricing.config import Config, load_config, with_source_plans
from pricing.data.findings import Finding, ordered, quality_file
from pricing.data.panel import Panel, save_panel
from pricing.errors import SOURCES
from pricing.paths import pricing_home
from pricing.runtime.cli import UsageError, job_options, run_main
from pricing.runtime.inputs import log_data
from pricing.runtime.mlflow_runs import set_run_description, tracked_run
from pricing.sources.source_reader import Window


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_etl, argv, unattended=True)


def _etl(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    started = time.monotonic()
    with tracked_run("etl", config=config) as run:
        run_id = run.info.run_id
        if options.dry_run:
            lines = _read_sources(options, config, run_id=run_id).lines
        else:
            with reported(options.output, sales=options.sales, config=config) as night:
                lines = _build(options, config, run_id=run_id, night=night)
        set_run_description("\n".join(f"- {line}" for line in lines))
    if not options.dry_run:
        print(f"saved in {options.output} after {time.monotonic() - started:.1f} s; give it to any job as --sales")
    return 0


def _read_sources(options: argparse.Namespace, config: Config, *, run_id: str) -> SourcesRead:
    window = _window(options)
    read = read_sources(config, run_id=run_id, window=window, dry_run=options.dry_run, quarantine=options.quarantine)
    print("\n".join(read.lines), flush=True)
    return read


def _build(options: argparse.Namespace, config: Config, *, run_id: str, night: Night) -> list[str]:
    """Reads sales, builds the panel and saves it; returns what there is to say of it, printed already."""
    told: list[str] = []
    of_sources: tuple[Finding, ...] = ()
    if options.sales == SOURCES:
        read = _read_sources(options, config, run_id=run_id)
        told, of_sources, night.manifest = read.lines, read.findings, read.manifest
    config = with_source_plans(config)  # the tables just read may have given the first ones
    read_plans(config.data)  # an invalid plan fails here, not in a later job
    night.anchors = anchors = sales_anchors(config)
    beside = quality_file(options.output)
    loaded = read_checked(
        options.sales,
        config.data,
        quarantine=options.quarantine,
        known=accepted_past(config),
        anchors=anchors,
        beside=beside,
    )
    night.loaded = loaded = replace(loaded, findings=tuple(ordered([*of_sources, *loaded.findings])))
    panel = loaded.panel
    log_data(panel, sales=options.sales)
    save_panel(panel, options.output)
    lines = [*report(panel), *(f"finding: {one}" for one in loaded.findings)]
    mlflow.log_text("\n".join([*told, *lines]) + "\n", "panel.txt")
    print("\n".join(lines))
    return [*told, *lines]


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
    options.add_argument("--since", type=_day, metavar="DAY", help="sources: read again from this day on")
    options.add_argument(
        "--until", type=_day, metavar="DAY", help="sources: last day of that range; absent: the newest"
    )
    options.add_flag("--full", help="sources: read everything again, and not only what is new")
    options.add_flag("--dry_run", help="sources: read, and say what would change, without changing it")
    found = options.parse(argv)
    given = [name for name in ("since", "until", "full", "dry_run") if getattr(found, name)]
    if given and found.sales != SOURCES:
        raise UsageError(f"--{given[0]} is for --sales {SOURCES}, and the sales are {found.sales}")
    if found.until is not None and (found.since is None or found.until < found.since):
        raise UsageError("--until needs --since, a day that does not come after it")
    if found.full and found.since is not None:
        raise UsageError("--full reads everything, --since from a day on: give one of them")
    return found


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a day such as 2026-03-31, found {text!r}") from error


def _window(options: argparse.Namespace) -> Window | None:
    if options.full:
        return Window(full=True)
    return None if options.since is None else Window(first=options.since, last=options.until)


if __name__ == "__main__":
    sys.exit(main())
