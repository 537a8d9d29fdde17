"""Train a model: read sales, run the walk-forward backtest, fit on all data, and register the challenger."""

import datetime as dt
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from numpy.typing import NDArray

from pipelines.reports import dispensable
from pipelines.steps.evaluation import SPAN, log_backtest, model_card, score_lines, weekly
from pipelines.steps.parts import Work, forget, kept_sample, prefix_of, spread
from pipelines.steps.production import in_force
from pipelines.steps.sales import PLANS, holiday_calendar, read_checked, with_plan
from pricing.config import Config, load_config
from pricing.data.anchors import Anchors, version_anchors
from pricing.data.etl_output import Partitions, read_partitions, sample_of
from pricing.data.events import read_plan
from pricing.data.own_prices import NO_MOVES, Moves, OwnSpans
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.experiment_results import find_draws
from pricing.decision.product_facts import ProductFacts
from pricing.decision_log.read import read_drawn, read_moves
from pricing.demand.baselines import sales_rows
from pricing.errors import HistoryError
from pricing.paths import log_url, tracking_uri
from pricing.registry import CHALLENGER
from pricing.registry.given_prices import given_prices
from pricing.registry.knowledge import HOLDS_ONLY_MEANING, identified_share
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import LoadedVersion, Origin, pack
from pricing.runtime.cli import DAY, job, next_lines
from pricing.runtime.mlflow_runs import (
    artifact_place,
    describe_data,
    log_data,
    name_run,
    set_run_description,
    tracked_run,
)

_BATCH = 1000  # metrics that MLflow takes at once


@job("train", sales="needed", unattended=True)
@click.option("--until", type=DAY, metavar="DATE", help="leave out sales after this day")
@click.option("--reason", metavar="WORDS", help="why it is trained, for the record")
def main(
    *,
    sales: str,
    quarantine: Path | None,
    config: str | None,
    until: dt.datetime | None,
    reason: str | None,
    learn: Callable[..., tuple[str, str]] | None = None,
) -> int:
    """Trains a model on sales and registers it as the challenger."""
    settings = load_config(config)
    started = time.monotonic()

    def say(words: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {words}", flush=True)

    with tracked_run("train", config=settings, reason=reason) as run:
        for name in PLANS:
            read_plan(settings.data, name)  # an invalid plan fails before training
        say("reading sales")
        partitions = read_partitions(sales)
        if until is not None and partitions is not None:
            raise HistoryError("--until: partitions are read whole; partition the sales up to that day")
        known = in_force(settings)
        loaded = read_checked(
            sample_of(sales),
            settings.data,
            quarantine=quarantine,
            known=known.past,
            given=partial(given_prices, settings),
            anchors=known.anchors,
        )
        panel = loaded.panel
        if partitions is not None and known.past is not None and panel.dates[0] > known.past.dates[0]:
            raise HistoryError(
                f"the partitions begin on {panel.dates[0]}, after what the champion remembers: a training "
                "needs the whole history; partition that"
            )
        if until is not None:
            panel = _through(panel, until)
        fingerprint = log_data(panel, sales=sales)
        for words in (f"{len(panel.product_ids)} products × {len(panel.dates)} {panel.period}s", *panel.notes):
            say(words)
        number, scores = (learn or _learn)(
            panel,
            settings,
            anchors=version_anchors(known.anchors, panel),
            data=describe_data(panel, sales=sales, fingerprint=fingerprint),
            tested=_tested(panel, say=say),
            own_prices=known.own_prices,
            moves=_moves(panel, settings),
            run=run,
            say=say,
            spread_over=None if partitions is None else (partitions, sales, quarantine),
        )
        name_run(f"train v{number}")
        set_run_description(f"Version {number} of {settings.registry.model_name}.\n\n```\n{scores}\n```")
    print(f"\n{scores}\n")
    minutes = (time.monotonic() - started) / 60
    print(f"registered {settings.registry.model_name} version {number} as {CHALLENGER}, in {minutes:.0f} min")
    print(next_lines("promote", config=config, page=artifact_place(run, "model_card.md")))
    return 0


def _through(panel: Panel, until: dt.datetime) -> Panel:
    """Returns the panel up to a day, without products that begin later.

    Raises:
        HistoryError: It begins later.
    """
    if np.datetime64(until, "D") < panel.dates[0]:
        raise HistoryError(f"--until {until:%Y-%m-%d}: the sales begin on {panel.dates[0]}; give a later day")
    panel = panel.through(np.datetime64(until, "D"))
    return panel.select(np.flatnonzero(panel.present.any(axis=1)))


def _learn(
    panel: Panel,
    config: Config,
    *,
    spread_over: tuple[Partitions, str, Path | None] | None,
    anchors: Anchors,
    own_prices: OwnSpans,
    moves: Moves,
    data: Mapping[str, object],
    **others: Any,
) -> tuple[str, str]:
    """Trains and registers, of partitioned sales all after the sample; returns the version's number and its scores."""
    spans = own_prices.extended(panel, moves, since=anchors.since)
    others |= {"anchors": anchors, "origin": Origin("train", data, own_prices=spans)}
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        folder = Path(scratch) / "version"
        if spread_over is None:
            version, scores = _trained(folder, panel, config, **others)
            return _register(version, config=config), scores

        partitions, sales, quarantine = spread_over
        settings = config.model_dump(mode="json", exclude={"scale", "monitoring", "console", "tuning"})
        drawn = read_drawn(log_url())
        known = (anchors.digest(), [*map(repr, panel.events)], drawn, vars(moves), vars(own_prices))
        prefix = prefix_of(config, partitions, settings, *known)
        work = Work(
            sales=sales,
            config=config,
            prefix=prefix,
            quarantine=quarantine,
            anchors=anchors,
            events=panel.events,
            drawn=drawn,
            moves=moves,
            given=given_prices(config),
            own_prices=own_prices,
        )
        sample = kept_sample(work, folder=Path(scratch) / "sample")
        scores = "as of the run that was cut off"
        if sample is None:
            sample, scores = _trained(Path(scratch) / "sample", panel, config, **others)
        number = _register(spread(sample, work, partitions, folder=folder), config=config)
        forget(work)
    return number, scores


def _trained(
    folder: Path,
    panel: Panel,
    config: Config,
    *,
    anchors: Anchors,
    origin: Origin,
    tested: NDArray[np.floating] | None,
    run: Run,
    say: Callable[[str], None],
) -> tuple[LoadedVersion, str]:
    """Backtests, fits and packs; returns the version and its scores as text."""
    # After the sales are checked: importing TensorFlow takes longer than the check.
    from pricing.demand.backtest import backtest, elasticity_figures  # noqa: PLC0415
    from pricing.demand.training import train  # noqa: PLC0415

    since = anchors.since
    own = origin.own_prices.marks(panel, since=since)
    later = panel.present & (panel.dates >= since)
    if later.any():
        ours = int((own & later).sum())
        say(
            f"product-periods since {since}: the platform set {ours:,} prices, of which only drawn ones teach "
            f"elasticities, and people {int(later.sum()) - ours:,}"
        )
    common: dict[str, Any] = {"calendar": holiday_calendar(panel, config.data), "own": own, "progress": say}
    evaluated = backtest(panel, config.demand, **common)
    weeks = weekly(sales_rows(evaluated.frame), span=max(1, SPAN // STEP_DAYS[panel.period]))
    figures = {**evaluated.figures, "weeks": weeks}  # which monitoring's tolerances come from
    log_backtest(evaluated.frame, figures)
    say("walk-forward scores are in; fitting on everything")
    with _logged_losses(run):
        demand = train(panel, config.demand, out_of_fold=evaluated.out_of_fold, tested=tested, **common)

    serving = config.serving
    facts = ProductFacts.from_panel(
        panel, anchors=anchors, largest_jump=serving.largest_jump, confirmed=serving.jump_confirmed
    )
    facts = with_plan(facts, config.data)
    version = pack(
        folder,
        demand=demand,
        facts=facts,
        config=config,
        # The gates check the elasticities that will price, not the last fold's.
        backtest={**figures, "elasticity": elasticity_figures(demand), "data": origin.data},
        origin=origin,
        anchors=anchors,
        holds_only=identified_share(demand.table(), facts) < config.registry.gates.identified,
    )
    if version.holds_only:
        say(HOLDS_ONLY_MEANING)
    if config.registry.plots:
        from pipelines.reports.plots import log_artifacts  # noqa: PLC0415 - importing shap and matplotlib takes seconds

        log_artifacts(evaluated.frame, version)
    return version, "\n".join(score_lines(figures))


@contextmanager
def _logged_losses(run: Run) -> Iterator[None]:
    """Logs the loss at each step of the final network as the metric `training/loss`, also where it fails.

    At once: a transaction for each step would take longer than the steps.
    """
    from pricing.demand.network import watch_losses  # noqa: PLC0415 - imports TensorFlow

    found: list[Metric] = []

    def keep(step: int, loss: float) -> None:
        found.append(Metric("training/loss", loss, int(time.time() * 1000), step))

    try:
        with watch_losses(keep):
            yield
    finally:
        for first in range(0, len(found), _BATCH):
            MlflowClient().log_batch(run.info.run_id, metrics=found[first : first + _BATCH])


def _moves(panel: Panel, config: Config) -> Moves:
    """The log's moves up to the last day of the panel's last period; none where large moves wait for approval.

    The log has what was charged meanwhile, and not what is approved: all prices since the first champion count as the
    platform's there.

    Raises:
        SourceError: The log cannot be read.
    """
    if config.decision.approve_beyond is not None:
        return NO_MOVES
    return read_moves(log_url(), until=panel.dates[-1] + STEP_DAYS[panel.period] - 1)


def _tested(panel: Panel, *, say: Callable[[str], None]) -> NDArray[np.floating] | None:
    """(product, period) logs of the factors that experiments drew for prices; None without any. Logs their number.

    Raises:
        SourceError: The log cannot be read.
    """
    draws = find_draws(panel, read_drawn(log_url()))
    if not draws.logged:
        return None
    missed = draws.logged - draws.used
    mlflow.log_metrics({"experiment/draws_used": float(draws.used), "experiment/draws_left_out": float(missed)})
    say(f"experiments: draws of {draws.used:,} product-periods used, {missed:,} left out whose price was not charged")
    return draws.deviation if draws.used else None


def _register(version: LoadedVersion, *, config: Config) -> str:
    card = ""
    with dispensable("model_card.md"):
        card = model_card(version, model=config.registry.model_name)
        mlflow.log_text(card, "model_card.md")
    registry = Registry(config.registry.model_name, uri=tracking_uri())
    number = registry.log_version(version.folder, description=card)
    mlflow.set_tag("version", number)
    registry.set_alias(CHALLENGER, number)
    return number
