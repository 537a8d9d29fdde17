"""Compare decisions with the sales that followed, report drift and decay, then start jobs and send alerts."""

import datetime as dt
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import pandas as pd

from monitoring import evaluate, performance, tracking
from monitoring.alert import compose, send_metrics
from monitoring.decisions import join
from monitoring.evaluate import Evaluation
from monitoring.launch import ActionResult, JobLauncher, act_on, job_launcher, lost_jobs
from monitoring.policy import JobHistory, PolicyOutcome, decide
from monitoring.report import Week, newest_week, page
from monitoring.store import MonitoringStore
from monitoring.todo import Task, tasks
from monitoring.tracking import ChampionRecord
from pricing.config import Config, load_config
from pricing.data.etl_output import read_partitions, sample_of
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.errors import DeliveryError, PricingError
from pricing.objects import open_store
from pricing.paths import PARENT_VARIABLE, SQLITE, database_url, given_database_url, log_url, pricing_home, tracking_uri
from pricing.quoting import quote_formulas
from pricing.registry.control import known_control
from pricing.registry.given_prices import given_prices
from pricing.registry.published_store import published_url
from pricing.runtime.alerts import deliver, run_page
from pricing.runtime.cli import job
from pricing.runtime.mlflow_runs import child_environment, tracked_run
from simulation.market import simulated_sales

SCORED = [
    "product_id",
    "period",
    "age",
    "model_version",
    "source",
    "recommended_price",
    "charged",
    "pricing",
    "forecast",
    "units_sold",
    "inside",
    "censored",
    "scored",
]


class ToldError(PricingError):
    """Pricing is live and made no decision though one was due, or the job that was due failed; an alert has said so."""

    told = True  # see pricing.runtime.alerts


@job("monitor", sales="needed", unattended=True)
@click.option("--act", type=bool, default=True, help="false: send and start nothing")
def main(*, sales: str, quarantine: Path | None, config: str | None, act: bool) -> int:
    """Compares decisions with the sales that followed, reports drift and decay, and says what to do."""
    settings = load_config(config)
    model = settings.registry.model_name
    folder = pricing_home() / "monitoring"
    now = dt.datetime.now(dt.UTC)
    options = {"sales": sales, "config": config, "quarantine": quarantine}
    given = {name: str(value) for name, value in options.items() if value}
    with tracked_run("monitor", config=settings) as run:
        champion = tracking.find_champion(model, uri=tracking_uri())
        # Not in the file of switches and promotions, which must not wait while outcomes of a large shop are written.
        store = MonitoringStore(given_database_url() or f"{SQLITE}{folder.resolve() / 'monitoring.db'}", model=model)
        launcher = job_launcher(
            settings.monitoring, parameters=given, folder=folder / "jobs", environment=child_environment(run)
        )
        panel, evaluation = _evaluated(
            sales, settings, quarantine=quarantine, champion=champion, store=store, acting=act, now=now
        )
        outcome, result = _acted(evaluation, settings, launcher=launcher, store=store, acting=act, now=now)
        after = champion.number
        if result.ended:
            after = tracking.find_champion(model, uri=tracking_uri()).number
            result = replace(result, text=f"{result.text}; {tracking.succession(champion.number, after)}")

        todo = tasks(evaluation, outcome, result, given=given)
        week = _newest_week(panel, evaluation, model=model)
        figures = _figures(evaluation, week, champion=champion)
        tags = {"outcome": outcome.action, "reason": outcome.reason, "done": result.text, "champion": champion.number}
        tags |= {"sales_at_fault": "true"} if outcome.doubts_sales else {}
        shown = folder / "latest" / "summary.html"
        _report(shown.parent, evaluation, week, outcome=outcome, figures=figures, tags=tags, todo=todo)
        print("\n".join(_lines(evaluation, outcome=outcome, done=result.text, todo=todo, page=shown)))
        if not act:
            return 0

        # The report is written by now, so a failed delivery loses nothing else.
        failures = send_metrics(figures, settings.monitoring, model=model, now=now)
        alert = compose(outcome, result, evaluation=evaluation, todo=[task.text for task in todo])
        if alert is not None and alert.severity != "info":
            pages = settings.monitoring.endpoints.mlflow_url
            link = run_page(run.info.run_id, experiment=run.info.experiment_id, pages=pages, artifact=shown.name)
            alert = replace(
                alert,
                run=run.info.run_id,
                link=link or shown.resolve().as_uri(),
                version=after if after.isdigit() else "",
            )
            failures += deliver(alert, settings.monitoring)
        _fail_where_due(outcome, result, failures=failures)
    return 0


def _evaluated(
    sales: str,
    config: Config,
    *,
    quarantine: Path | None,
    champion: ChampionRecord,
    store: MonitoringStore,
    acting: bool,
    now: dt.datetime,
) -> tuple[Panel, Evaluation]:
    """Reads the sales, joins decisions with them, evaluates these, and remembers what came of them."""
    watched = config.monitoring
    panel = load_panel_from(
        sample_of(sales),
        config.data,
        quarantine=quarantine,
        given=partial(given_prices, config),
        anchors=champion.anchors,
        events=(),
        simulated=simulated_sales,
    )
    last = panel.dates[-1].astype(dt.date)
    joined = join(
        log_url(),
        panel,
        now=now,
        known=store.has_outcomes(),
        since=last - dt.timedelta(days=watched.days_looked_at),
        state_dates=champion.seen,
        only=None if read_partitions(sales) is None else panel.product_ids,
    )
    lost = lost_jobs(store, now=now, lock_hours=watched.lock_hours, gives_up=acting)
    joined = replace(joined, findings=lost + joined.findings)
    evaluation = evaluate.evaluate_decisions(
        panel, joined, champion=champion, config=watched, earlier=store.errors, log=log_url()
    )
    store.write_outcomes(evaluation.joined.frame, last=last)
    return panel, evaluation


def _acted(
    evaluation: Evaluation,
    config: Config,
    *,
    launcher: JobLauncher | None,
    store: MonitoringStore,
    acting: bool,
    now: dt.datetime,
) -> tuple[PolicyOutcome, ActionResult]:
    """Decides by the rules what to do, and does it where this run acts."""
    runs = tracking.retrainings(config.registry.model_name)
    refreshed = tracking.last_nightly_refresh(config.registry.model_name)

    def ask(past: JobHistory) -> PolicyOutcome:
        history = tracking.with_recorded(past, runs, refreshed=refreshed)
        return decide(evaluation.situation, history, config.monitoring, now=now)

    outcome, job = store.claim(ask, now=now) if acting and launcher else (ask(store.past(now=now)), None)
    within_night = PARENT_VARIABLE in os.environ
    return outcome, act_on(outcome, job, launcher=launcher, store=store, acting=acting, within_night=within_night)


def _newest_week(panel: Panel, evaluation: Evaluation, *, model: str) -> Week:
    control = known_control(model, url=database_url(), store=open_store(published_url()))
    holdout = control.experiments.holdout(panel.dates[-1].astype(dt.date))
    return newest_week(panel, evaluation.joined.frame, holdout=holdout, rng=np.random.default_rng(evaluate.SEED))


def _figures(evaluation: Evaluation, week: Week, *, champion: ChampionRecord) -> dict[str, float]:
    """Returns the metrics that are known, those of business among them."""
    figures = evaluate.metrics(evaluation, backtest_wape=performance.backtest_error(champion.backtest))
    figures |= {"holdout_gain": week.effect.margin.value, "discount": week.now.discount, "turns": week.now.turns}
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def _fail_where_due(outcome: PolicyOutcome, result: ActionResult, *, failures: Sequence[str]) -> None:
    """Raises the error with which the run ends, if any."""
    if failures:
        raise DeliveryError("; ".join([*result.failures, *failures]))
    if result.failures:
        raise ToldError("; ".join(result.failures))
    if outcome.silent:
        raise ToldError(f"{outcome.reason}; {evaluate.look_at(log_url())}")


def _report(
    out: Path,
    evaluation: Evaluation,
    week: Week,
    *,
    outcome: PolicyOutcome,
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    todo: Sequence[Task],
) -> None:
    """Writes the page, what programs and a spreadsheet read, and Evidently's plots, to the run and to a folder."""
    from monitoring import evidently_reports as evidently  # noqa: PLC0415 - takes seconds

    frame = evaluation.joined.frame
    document = {
        "outcome": asdict(outcome),
        "todo": [asdict(task) for task in todo],
        "explanation": evaluation.explanation,
        "windows": [verdict.text for verdict in evaluation.verdicts],
        "drift": [column.text for column in evaluation.drift.columns],
        "findings": [
            {
                "code": finding.check,
                "level": finding.level,
                "text": finding.sentence,
                "count": finding.rows,
                "about": finding.about,
            }
            for finding in evaluation.findings
        ],
        "metrics": figures,
    }
    first, end = evaluation.newest.days
    reports = evidently.render(
        evaluation.drift,
        frame[frame["scored"].astype(bool)],
        metrics=figures,
        since=pd.Timestamp(first),
        end=end,
        tags={"span": evaluation.drift.samples.span, "version": tags["champion"], "outcome": tags["outcome"]},
    )
    plots = evidently.html(reports)
    evidently.add_to_workspace(reports, pricing_home() / "monitoring" / "evidently", end=end)
    texts = {
        "summary.html": page(evaluation, week, outcome=outcome, done=tags["done"], tasks=todo),
        "outcome.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
        "scored_decisions.csv": quote_formulas(frame[SCORED]).to_csv(index=False),
    }
    if plots is not None:
        texts["drift.html"] = plots
    out.mkdir(parents=True, exist_ok=True)
    (out / "drift.html").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as made:
        for name, text in texts.items():
            (Path(made) / name).write_text(text, encoding="utf-8")
        tracking.record(metrics=figures, tags=tags, folder=Path(made))
        shutil.copytree(made, out, dirs_exist_ok=True)


def _lines(
    evaluation: Evaluation, *, outcome: PolicyOutcome, done: str, todo: Sequence[Task], page: Path
) -> Iterator[str]:
    """Yields what the run found and did, and what a person has to do."""
    score = evaluation.newest
    yield f"{evaluation.joined.decisions:,} decisions, {score.decisions:,} of them with sales in {score.name}"
    yield from (f"  {verdict.text}" for verdict in evaluation.verdicts)
    yield from (f"  {column.text}" for column in evaluation.drift.columns)
    yield from (f"  {finding.level}: {finding.sentence}" for finding in evaluation.findings)
    yield evaluation.explanation
    yield f"outcome: {outcome.action}: {outcome.reason}"
    yield f"summary: {page}"
    yield f"done: {done}"
    if not todo:
        yield "to do: nothing"
    for number, task in enumerate(todo, start=1):
        yield f"to do {number}: {task.what} ({task.why})"
        yield from (f"  $ {command}" for command in task.commands)


if __name__ == "__main__":
    sys.exit(main())
