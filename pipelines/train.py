"""Trains a model: sales become a panel, walk-forward scores, a fitted model, and a registered challenger."""

import argparse
import datetime as dt
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient

from pipelines.calendar import holiday_calendar
from pipelines.cli import job_options, run_main
from pipelines.evaluation import log_backtest, score_lines
from pipelines.model_card import model_card
from pipelines.plots import draw_all
from pipelines.record import describe_data, log_data
from pipelines.tracking import tracked_run, tracking_uri, write_note
from pricing.config import Config, load_config
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.decision.facts import ProductFacts
from pricing.demand.backtest import Backtest, backtest
from pricing.demand.training import train
from pricing.errors import HistoryError
from pricing.registry import CHALLENGER
from pricing.registry.aliases import Registry
from pricing.registry.version import LoadedVersion, Origin, pack


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_train, argv)


def _train(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    started = time.monotonic()
    with tracked_run("train", config=config, reason=options.reason) as run:
        _say(started, "reading sales")
        panel = load_panel_from(options.sales, config.data, quarantine=options.quarantine)
        if options.until is not None:
            panel = _until(panel, options.until)
        sales = options.source or options.sales
        fingerprint = log_data(panel, sales=sales)
        _say(started, f"{len(panel.product_ids)} products × {len(panel.dates)} {panel.period}s")
        for note in panel.notes:
            _say(started, f"note: {note}")
        calendar = holiday_calendar(panel, config.data)
        evaluated = backtest(panel, config.demand, calendar=calendar, progress=lambda words: _say(started, words))
        log_backtest(evaluated.frame, evaluated.figures)
        _say(started, "walk-forward scores are in; fitting on everything")
        demand = train(
            panel,
            config.demand,
            calendar=calendar,
            level_error=evaluated.level_error,
            progress=lambda words: _say(started, words),
        )
        origin = Origin(kind="train", data=describe_data(panel, sales=sales, fingerprint=fingerprint))
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            version = pack(
                Path(scratch) / "version",
                demand=demand,
                facts=ProductFacts.from_panel(panel),
                config=config,
                backtest={**evaluated.figures, "data": dict(origin.data)},
                origin=origin,
            )
            number = _register(version, evaluated, config=config)
        scores = "\n".join(score_lines(evaluated.figures))
        write_note(f"Version {number} of {config.registry.model_name}.\n\n```\n{scores}\n```")
        minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"\n{scores}\n")
    print(f"registered {config.registry.model_name} version {number} as {CHALLENGER}, in {minutes} min {seconds} s")
    print(f"run {run.info.run_id} on {tracking_uri()}")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("train", "Trains a model on sales and registers it as the challenger.")
    options.add_argument("--until", type=dt.date.fromisoformat, metavar="DATE", help="leave out sales after this day")
    options.add_argument("--source", metavar="WHERE", help="recorded as where the sales came from; absent: --sales")
    options.add_argument("--reason", metavar="WORDS", help="why it is trained, for the record")
    return options.parse(argv)


def _until(panel: Panel, until: dt.date) -> Panel:
    day = np.datetime64(until, "D")
    if day < panel.dates[0]:
        raise HistoryError(f"--until {until}: the sales begin on {panel.dates[0]}; give a later day")
    panel = panel.through(day)
    return panel.select(np.flatnonzero(panel.present.any(axis=1)))


def _register(version: LoadedVersion, evaluated: Backtest, *, config: Config) -> str:
    for name, figure in draw_all(evaluated.frame, version.demand, version.facts):
        mlflow.log_figure(figure, f"plots/{name}.png")
    card = model_card(version, model=config.registry.model_name)
    mlflow.log_text(card, "model_card.md")
    registry = Registry(config.registry.model_name, uri=tracking_uri())
    number = registry.log_version(version.folder)
    MlflowClient().update_model_version(config.registry.model_name, number, description=card)
    mlflow.set_tag("version", number)
    registry.point(CHALLENGER, number)
    return number


def _say(started: float, words: str) -> None:
    print(f"[{time.monotonic() - started:6.1f} s] {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
