"""Compare decisions with the sales that followed, report drift and decay, then start jobs and send alerts."""

import datetime as dt
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pandas as pd

from monitoring import actions, evaluate, launchers, performance, tracking
from monitoring.business import newest_week
from monitoring.decisions import join
from monitoring.evaluate import SEED, Evaluation
from monitoring.evidently_reports import add_to_workspace, html, render
from monitoring.policy import Action, JobHistory, PolicyOutcome, decide
from monitoring.report import page
from monitoring.store import MonitoringStore
from monitoring.todo import Task, tasks
from pricing.config import Config, load_config
from pricing.csv_text import quote_formulas
from pricing.data.load import load_panel_from
from pricing.decision.experiments import Experiment
from pricing.errors import PricingError
from pricing.objects import open_store
from pricing.paths import log_url, pricing_home, tracking_uri
from pricing.registry.control import known_control
from pricing.registry.published import published_url
from pricing.runtime.alerts import DeliveryError, alert_memory, alert_notifiers, deliver, run_page
from pricing.runtime.cli import FILE, CommandLine, flag, job
from pricing.runtime.mlflow_runs import tracked_run
from pricing.runtime.shared_state import database_url, given_database_url
from simulation.market import simulated_sales

IDLE = "nothing was started or sent (--act false)"
EXIT_CODES: dict[Action, int] = {"none": 0, "refresh": 10, "retrain": 11, "page": 12}
SCORED = (
    *("product_id", "period", "age", "model_version", "source", "recommended_price", "charged", "pricing"),
    *("forecast", "units_sold", "inside", "censored", "scored"),
)


class SilentError(PricingError):
    """Pricing is live, and made no decision though one was due, or its decisions have gone; an alert has said so."""

    told = True  # see pricing.runtime.failures


@job("monitor", sales="needed", unattended=True)
@click.option("--decisions", metavar="URL", help="decision log, a folder or s3://…; absent: the service's")
@click.option("--out", type=FILE, metavar="DIR", help="pages go here; absent: PRICING_HOME/monitoring/latest")
@click.option("--act", type=bool, default=True, help="false: send and start nothing")
@flag("--exit_code", help="exit 10 when a refresh is due, 11 for a retraining, 12 when a person is needed")
def main(**options: Any) -> int:
    """Compares decisions with the sales that followed, reports drift and decay, and says what to do."""
    return _monitor(SimpleNamespace(**options))


def _monitor(chosen: SimpleNamespace) -> int:
    now, acting = dt.datetime.now(dt.UTC), chosen.act
    config = load_config(chosen.config)
    watched, model, folder = config.monitoring, config.registry.model_name, pricing_home() / "monitoring"
    given = {name: str(vars(chosen)[name]) for name in ("sales", "config", "quarantine") if vars(chosen)[name]}
    log = chosen.decisions or log_url()
    with tracked_run("monitor", config=config) as run:
        champion = tracking.find_champion(model, uri=tracking_uri())
        panel = load_panel_from(
            *(chosen.sales, config.data),
            quarantine=chosen.quarantine,
            anchors=champion.anchors,
            events=(),
            simulated=simulated_sales,
        )
        last = panel.dates[-1].astype(dt.date)
        store = MonitoringStore(folder / "monitoring.db", url=given_database_url(), model=model)
        joined = join(
            *(log, panel),
            now=now,
            known=store.has_outcomes(),
            since=last - dt.timedelta(days=watched.days_looked_at),
            state_dates=champion.seen,
        )
        launcher = launchers.job_launcher(
            watched, parameters=given, folder=folder / "jobs", experiment=run.info.experiment_id
        )
        lost = actions.reconcile_jobs(store, launcher, now=now, lock_hours=watched.lock_hours, gives_up=acting)
        evaluation = evaluate.evaluate_decisions(
            panel,
            replace(joined, findings=lost + joined.findings),
            champion=champion,
            config=watched,
            earlier=None if chosen.decisions else store.errors,
            log=log,
        )
        store.write_outcomes(evaluation.joined.frame)
        if watched.outcome_days:
            store.prune(before=last - dt.timedelta(days=watched.outcome_days))
        outcome, job = _decide(evaluation, store, config, now=now, claims=acting and launcher is not None)
        if not acting:
            result = actions.ActionResult(IDLE, by_hand=True)
        elif launcher is None and tracking.inside_nightly_job() and outcome.action in ("refresh", "retrain"):
            result = actions.ActionResult(
                f"a {outcome.action} is due, and the nightly job that this run belongs to does it next"
            )
        else:
            result = actions.start(outcome, job, launcher=launcher, store=store)
        after = tracking.champion_number(model, uri=tracking_uri())
        result = actions.with_champion(result, before=champion.number, after=after)
        todo = tasks(evaluation, outcome, result, line=CommandLine(given))
        week = newest_week(
            *(panel, evaluation.joined.frame), holdout=_holdout(model, day=last), rng=np.random.default_rng(SEED)
        )
        figures = evaluate.metrics(evaluation, backtest_wape=performance.backtest_error(champion.backtest)) | {
            **{"holdout_gain": week.effect.margin.value, "discount": week.now.discount, "turns": week.now.turns}
        }
        tags = {"outcome": outcome.action, "reason": outcome.reason, "done": result.text, "champion": champion.number}
        tags |= {"sales_at_fault": "true"} if outcome.doubts_sales else {}
        out = chosen.out or folder / "latest"
        with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as made:
            text = page(evaluation, week, outcome=outcome, done=result.text, tasks=todo)
            (Path(made) / "summary.html").write_text(text, encoding="utf-8")
            _write(Path(made), evaluation, outcome=outcome, figures=figures, todo=todo)
            _plot(Path(made), evaluation, figures=figures, tags=tags, workspace=folder / "evidently")
            tracking.record(metrics=figures, tags=tags, folder=Path(made))
            out.mkdir(parents=True, exist_ok=True)
            (out / "drift.html").unlink(missing_ok=True)
            for file in Path(made).iterdir():
                shutil.copy2(file, out / file.name)
        print("\n".join(_lines(evaluation, outcome=outcome, done=result.text, todo=todo, page=out / "summary.html")))
        if acting:
            # The report is written by now, so a failed delivery loses nothing else.
            failures = [*result.failures, *_publish(figures, config, now=now)]
            failures += _tell(
                outcome, result, evaluation, config, run=run, page=out / "summary.html", version=after, todo=todo
            )
            if failures:
                raise DeliveryError("; ".join(failures))
            if outcome.silent:
                raise SilentError(f"{outcome.reason}; {evaluate.look_at(log)}")
    return EXIT_CODES[outcome.action] if chosen.exit_code else 0


def _decide(
    evaluation: Evaluation, store: MonitoringStore, config: Config, *, now: dt.datetime, claims: bool
) -> tuple[PolicyOutcome, int | None]:
    """Returns the outcome and, if a job is due, its number in the store, claimed for this run alone."""
    model = config.registry.model_name
    runs, night = tracking.retrainings(model), tracking.last_nightly_refresh(model)
    situation = evaluate.situation(evaluation, now=now)

    def ask(past: JobHistory) -> PolicyOutcome:
        return decide(situation, tracking.with_recorded(past, runs, refreshed=night), config.monitoring)

    return store.claim(ask, now=now) if claims else (ask(store.past(now=now)), None)


def _holdout(model: str, *, day: dt.date) -> Experiment | None:
    """The experiment that keeps products' prices on a day."""
    control = known_control(model, url=database_url(), store=open_store(published_url()))
    return control.experiments.holdout(day)


def _tell(
    outcome: PolicyOutcome,
    result: actions.ActionResult,
    evaluation: Evaluation,
    config: Config,
    *,
    run: tracking.OpenRun,
    page: Path,
    version: str,
    todo: Sequence[Task],
) -> Sequence[str]:
    """Sends the alert that is due, if any; returns the errors of channels that failed."""
    watched, words = config.monitoring, [task.text for task in todo]
    alert = actions.compose(outcome, result, evaluation=evaluation, critical_off=watched.critical_off, todo=words)
    if alert is None:
        return ()
    shown = run_page(
        run.info.run_id, experiment=run.info.experiment_id, pages=watched.endpoints.mlflow_url, artifact=page.name
    )
    first, end = evaluation.newest.days
    return deliver(
        replace(
            alert,
            link=shown or page.resolve().as_uri(),
            run=run.info.run_id,
            version=version if version.isdigit() else "",
        ),
        alert_notifiers(watched),
        memory=alert_memory(),
        every_hours=actions.hours_between(outcome, result, watched, window_days=(end - first).days + 1),
        now=dt.datetime.now(dt.UTC),
    ).failures


def _publish(figures: Mapping[str, float], config: Config, *, now: dt.datetime) -> list[str]:
    known = {name: value for name, value in figures.items() if np.isfinite(value)}
    try:
        launchers.send_metrics(known, config.monitoring, model=config.registry.model_name, now=now)
    except DeliveryError as error:
        return [str(error)]
    return []


def _plot(
    folder: Path, evaluation: Evaluation, *, figures: Mapping[str, float], tags: Mapping[str, str], workspace: Path
) -> None:
    """Writes Evidently's page on the newest drift window, and adds its reports to the workspace."""
    first, end = evaluation.newest.days
    frame = evaluation.joined.frame
    about = {"span": evaluation.span, "version": tags["champion"], "outcome": tags["outcome"]}
    reports = render(
        *(evaluation.drift, frame[frame["scored"].astype(bool)]),
        metrics=figures,
        since=pd.Timestamp(first),
        end=end,
        tags=about,
    )
    plots = html(reports)
    if plots is not None:
        (folder / "drift.html").write_text(plots, encoding="utf-8")
    if reports:
        add_to_workspace(reports, workspace, end=end)


def _write(
    folder: Path,
    evaluation: Evaluation,
    *,
    outcome: PolicyOutcome,
    figures: Mapping[str, float],
    todo: Sequence[Task],
) -> None:
    document: dict[str, Any] = {
        "outcome": asdict(outcome),
        "todo": [asdict(task) for task in todo],
        "explanation": evaluation.explanation,
        "windows": [verdict.text for verdict in evaluation.verdicts],
        "drift": [column.text for column in evaluation.drift.columns],
        "findings": [asdict(finding) for finding in evaluation.findings],
        "metrics": {name: value if np.isfinite(value) else None for name, value in figures.items()},
    }
    (folder / "outcome.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    quote_formulas(evaluation.joined.frame[list(SCORED)]).to_csv(folder / "scored_decisions.csv", index=False)


def _lines(
    evaluation: Evaluation, *, outcome: PolicyOutcome, done: str, todo: Sequence[Task], page: Path
) -> Iterator[str]:
    """Yields what the run found and did, and what a person has to do."""
    score = evaluation.newest
    yield f"{evaluation.joined.decisions:,} decisions, {score.decisions:,} of them with sales in {score.name}"
    yield from (f"  {verdict.text}" for verdict in evaluation.verdicts)
    yield from (f"  {column.text}" for column in evaluation.drift.columns)
    yield from (f"  {finding.level}: {finding.text}" for finding in evaluation.findings)
    yield evaluation.explanation
    yield f"outcome: {outcome.action}: {outcome.reason}"
    yield f"summary: {page}"
    yield f"done: {done}"
    yield from () if todo else ["to do: nothing"]
    for number, task in enumerate(todo, start=1):
        yield f"to do {number}: {task.what} ({task.why})"
        yield from (f"  $ {command}" for command in task.commands)


if __name__ == "__main__":
    sys.exit(main())
