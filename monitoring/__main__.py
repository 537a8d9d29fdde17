"""Compare decisions with the sales that followed, report drift and decay, then start jobs and send alerts."""

import argparse
import datetime as dt
import json
import logging
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from monitoring import actions, evaluate, launchers, performance
from monitoring.business import effect, line, weeks
from monitoring.decisions import load_decisions
from monitoring.evaluate import SEED, Evaluation
from monitoring.evidently_reports import Reports, Window, add_to_workspace, html, render
from monitoring.performance import DecisionScores
from monitoring.policy import Action, JobHistory, PolicyOutcome, decide
from monitoring.report import WeeklySummary, drift_head, page, weekly_page
from monitoring.store import MonitoringStore
from monitoring.todo import Task, tasks
from monitoring.tracking import (
    OpenRun,
    champion_number,
    find_champion,
    inside_nightly_job,
    last_nightly_refresh,
    record,
    retrainings,
    run_status,
    with_recorded,
)
from pricing.config import Config, load_config
from pricing.config_models import DataConfig, MonitoringConfig
from pricing.csv_text import quote_formulas
from pricing.data.anchors import Anchors
from pricing.data.load import load_panel_from
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.experiments import Experiment
from pricing.errors import HistoryError, PricingError
from pricing.objects import open_store
from pricing.paths import CHECKOUT, log_url, pricing_home, tracking_uri
from pricing.registry.control import known_control
from pricing.registry.published import published_url
from pricing.runtime.alerts import DeliveryError, alert_memory, alert_notifiers, run_page
from pricing.runtime.cli import CommandLine, Options, run_main
from pricing.runtime.mlflow_runs import tracked_run
from pricing.runtime.shared_state import database_url, given_database_url
from simulation.market import simulated_sales

_log = logging.getLogger("monitoring")

IDLE = "nothing was started or sent (--act false)"
EXIT_CODES: dict[Action, int] = {"none": 0, "refresh": 10, "retrain": 11, "page": 12}


class SilentError(PricingError):
    """Pricing is live, and made no decision though one was due, or its decisions have gone; an alert has said so."""

    told = True  # see pricing.runtime.failures


def main(argv: Sequence[str] | None = None) -> int:
    """Runs monitoring once; returns the exit code."""
    return run_main(_monitor, argv, unattended=True)


def _monitor(argv: Sequence[str] | None) -> int:
    options = job_options().parse(argv)
    now = dt.datetime.now(dt.UTC)
    config = load_config(options.config)
    home = pricing_home()
    given = {name: str(vars(options)[name]) for name in ("sales", "config", "quarantine") if vars(options)[name]}
    with tracked_run("monitor", config=config) as run:
        champion = find_champion(config.registry.model_name, uri=tracking_uri())
        panel = _panel(options, config.data, anchors=champion.anchors)
        store = MonitoringStore(
            home / "monitoring" / "monitoring.db", url=given_database_url(), model=config.registry.model_name
        )
        decisions, log_findings = load_decisions(
            options.decisions or log_url(),
            now=now,
            days=STEP_DAYS[panel.period],
            known=store.has_outcomes(),
            since=panel.dates[-1].astype(dt.date) - dt.timedelta(days=config.monitoring.days_looked_at),
        )
        launcher = launchers.job_launcher(
            config.monitoring,
            parameters=given,
            folder=home / "monitoring" / "jobs",
            experiment=run.info.experiment_id,
            run_status=run_status,
        )
        acting = options.act == "true"
        log_findings += actions.reconcile_jobs(
            store, launcher, now=now, lock_hours=config.monitoring.lock_hours, gives_up=acting
        )
        evaluation = evaluate.evaluate_decisions(
            panel,
            decisions,
            log_findings,
            champion=champion,
            config=config.monitoring,
            earlier=None if options.decisions else store.errors,
            log=options.decisions or log_url(),
        )
        figures = evaluate.metrics(evaluation, backtest_wape=performance.backtest_error(champion.backtest))
        figures |= _remember(store, evaluation, config.monitoring, last=panel.dates[-1].astype(dt.date), now=now)
        outcome, job = _decide(evaluation, store, config, now=now, claims=acting and launcher is not None)
        out = options.out or home / "monitoring" / "latest"
        result = actions.ActionResult(IDLE, by_hand=True)
        if acting and launcher is None and inside_nightly_job() and outcome.action in ("refresh", "retrain"):
            result = actions.left_to_nightly_job(outcome)
        elif acting:
            result = actions.start(outcome, launcher=launcher, store=store, now=now, job=job)
        after = champion_number(config.registry.model_name, uri=tracking_uri())
        result = actions.with_champion(result, before=champion.number, after=after)
        todo = tasks(evaluation, outcome, result, line=CommandLine(given, checkout=CHECKOUT))
        with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as folder:
            held = _holdout(config.registry.model_name, day=panel.dates[-1].astype(dt.date))
            week = weekly_figures(panel, evaluation, holdout=held, factor=config.monitoring.plausible_factor)
            figures |= {
                "holdout_gain": week.effect.margin.value,
                "discount": week.now.discount,
                "turns": week.now.turns,
            }
            reports = _reports(evaluation, outcome, metrics=figures, champion=champion.number)
            _write(Path(folder), evaluation, outcome=outcome, figures=figures, todo=todo, reports=reports)
            weekly = weekly_page(evaluation, week, outcome=outcome, done=result.text, tasks=todo)
            (Path(folder) / "summary.html").write_text(weekly, encoding="utf-8")
            quote_formulas(store.daily()).to_csv(Path(folder) / "daily_scores.csv", index=False)
            if reports.snapshots:
                add_to_workspace(reports, home / "monitoring" / "evidently")
            tags = _tags(outcome, done=result.text, champion=champion.number)
            record(metrics=figures, tags=tags, folder=Path(folder))
            _replace(out, Path(folder))
        _say(evaluation, outcome=outcome, out=out, run=run.info.run_id)
        print(f"done: {result.text}")
        print("\n".join(_todo_lines(todo)))
        if acting:
            # The report is written by now, so a failed delivery loses nothing else.
            repeat = _repeat(config, evaluation, run=run, summary=out / "summary.html", version=after)
            failures = [*result.failures, *_publish(figures, config)]
            failures += _tell(outcome, result, evaluation=evaluation, config=config, repeat=repeat, todo=todo)
            _fail(outcome, failures, log=options.decisions or log_url())
    return EXIT_CODES[outcome.action] if options.exit_code == "true" else 0


def job_options() -> Options:
    """Builds the parser of `pricing monitor`."""
    parser = Options(
        "pricing monitor",
        "Compares decisions with the sales that followed, reports drift and decay, and says what to do.",
    )
    parser.add_sales()
    parser.add_argument("--decisions", metavar="URL", help="decision log, a folder or s3://…; absent: the service's")
    parser.add_config()
    parser.add_argument("--quarantine", type=Path, metavar="DIR", help="write bad rows of the sales here and go on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="pages go here; absent: PRICING_HOME/monitoring/latest")
    parser.add_argument("--until", metavar="DATE", help="look at the sales up to this day only, YYYY-MM-DD")
    parser.add_argument("--act", default="true", choices=("true", "false"), help="false: send and start nothing")
    parser.add_argument(
        "--exit_code", default="false", choices=("true", "false"),
        help="true: exit 10 when a refresh is due, 11 for a retraining, 12 when a person is needed",
    )  # fmt: skip
    return parser


def _panel(options: argparse.Namespace, config: DataConfig, *, anchors: Anchors | None) -> Panel:
    panel = load_panel_from(
        options.sales, config, quarantine=options.quarantine, anchors=anchors, events=(), simulated=simulated_sales
    )
    if options.until:
        panel = panel.through(_day(options.until))
    if not len(panel.dates):
        raise HistoryError(f"there are no sales up to {options.until}; nothing can be compared")
    return panel


def _remember(
    store: MonitoringStore, evaluation: Evaluation, config: MonitoringConfig, *, last: dt.date, now: dt.datetime
) -> dict[str, float]:
    """Stores the outcomes, deletes those that are too old, and returns how many, by the metrics' names."""
    written = store.write_outcomes(evaluation.joined.frame, maturities=config.maturities, now=now)
    oldest = last - dt.timedelta(days=config.outcome_days)
    return {
        "outcomes_new": written.new,
        "outcomes_corrected": written.corrected,
        "truth_moved": written.moved,
        "outcomes_deleted": store.prune(before=oldest) if config.outcome_days else 0,
    }


def _decide(
    evaluation: Evaluation, store: MonitoringStore, config: Config, *, now: dt.datetime, claims: bool
) -> tuple[PolicyOutcome, int | None]:
    """Returns the outcome and, if a job is due, its number in the store, claimed for this run alone."""
    model = config.registry.model_name
    runs, night = retrainings(model), last_nightly_refresh(model)
    situation = evaluate.situation(evaluation, now=now, config=config.monitoring)
    rules = evaluate.rules(config.monitoring)

    def ask(past: JobHistory) -> PolicyOutcome:
        return decide(situation, with_recorded(past, runs, refreshed=night), rules)

    return store.claim(ask, now=now) if claims else (ask(store.past(now=now)), None)


def _holdout(model: str, *, day: dt.date) -> Experiment | None:
    """The experiment that keeps products' prices on a day."""
    control = known_control(model, url=database_url(), store=open_store(published_url()))
    return control.experiments.holdout(day)


def _tags(outcome: PolicyOutcome, *, done: str, champion: str) -> dict[str, str]:
    tags = {"outcome": outcome.action, "reason": outcome.reason, "done": done, "champion": champion}
    return tags | ({"sales_at_fault": "true"} if outcome.doubts_sales else {})


def _fail(outcome: PolicyOutcome, failures: Sequence[str], *, log: str) -> None:
    """Ends a run with an error that cannot count as done.

    Raises:
        DeliveryError: Something could not be started or sent.
        SilentError: Pricing is live and does not decide.
    """
    if failures:
        raise DeliveryError("; ".join(failures))
    if outcome.silent:
        raise SilentError(f"{outcome.reason}; {evaluate.look_at(log)}")


def _publish(figures: dict[str, float], config: Config) -> list[str]:
    known = {name: value for name, value in figures.items() if np.isfinite(value)}
    try:
        launchers.send_metrics(known, config.monitoring, model=config.registry.model_name, now=dt.datetime.now(dt.UTC))
    except DeliveryError as error:
        return [str(error)]
    return []


def _tell(
    outcome: PolicyOutcome,
    result: actions.ActionResult,
    *,
    evaluation: Evaluation,
    config: Config,
    repeat: actions.Repeat,
    todo: Sequence[Task],
) -> list[str]:
    return actions.notify(
        outcome,
        result,
        evaluation=evaluation,
        notifiers=alert_notifiers(config.monitoring),
        memory=alert_memory(),
        repeat=repeat,
        todo=[task.text for task in todo],
    )


def _repeat(config: Config, evaluation: Evaluation, *, run: OpenRun, summary: Path, version: str) -> actions.Repeat:
    """What an alert of this run names: the page in MLflow, or the file where MLflow has none that others can open."""
    experiment, identity = run.info.experiment_id, run.info.run_id
    pages = config.monitoring.endpoints.mlflow_url
    shown = run_page(identity, experiment=experiment, pages=pages, artifact=summary.name)
    first, last = (dt.date.fromisoformat(day) for day in evaluation.newest.name.split(" to "))
    return actions.Repeat(
        now=dt.datetime.now(dt.UTC),
        hours=config.monitoring.repeat_hours,
        link=shown or summary.resolve().as_uri(),
        run=identity,
        version=version if version.isdigit() else "",
        drift_hours=24.0 * ((last - first).days + 1),
        critical_off=config.monitoring.critical_off,
    )


def _reports(evaluation: Evaluation, outcome: PolicyOutcome, *, metrics: dict[str, float], champion: str) -> Reports:
    """Evidently's reports on the newest drift window."""
    since, end = (pd.Timestamp(day) for day in evaluation.newest.name.split(" to "))
    frame = evaluation.joined.frame
    number = champion if champion.isdigit() else ""
    window = Window(end.date(), evaluation.span, champion=number, outcome=outcome.action)
    scored = frame[frame["scored"].astype(bool)]
    return render(evaluation.drift, scored, metrics=metrics, window=window, since=since)


def _replace(out: Path, folder: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for made in folder.iterdir():
        shutil.copy2(made, out / made.name)


def _write(
    folder: Path,
    evaluation: Evaluation,
    *,
    outcome: PolicyOutcome,
    figures: dict[str, float],
    todo: Sequence[Task],
    reports: Reports,
) -> None:
    head = drift_head(evaluation, outcome=outcome, tasks=todo)
    found = "inputs" in reports.snapshots
    drift = html(reports, head=head) if found else page("Drift could not be judged", head)
    (folder / "drift.html").write_text(drift, encoding="utf-8")
    known = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    document = {
        "outcome": asdict(outcome),
        "todo": [asdict(task) for task in todo],
        "explanation": evaluation.explanation,
        "windows": [verdict.text for verdict in evaluation.verdicts],
        "drift": [column.text for column in evaluation.drift.columns],
        "findings": [asdict(finding) for finding in evaluation.findings],
        "metrics": known,
    }
    (folder / "outcome.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    columns = ["product_id", "period", "age", "model_version", "source", "recommended_price", "charged", "pricing"]
    columns += ["forecast", "units_sold", "inside", "censored", "scored"]
    quote_formulas(evaluation.joined.frame[columns]).to_csv(folder / "scored_decisions.csv", index=False)


def _say(evaluation: Evaluation, *, outcome: PolicyOutcome, out: Path, run: str) -> None:
    score = evaluation.newest
    print(f"{evaluation.joined.decisions:,} decisions, {score.decisions:,} of them with sales in {score.name}")
    if score.rows:
        print("; ".join(figure_words(score)))
    for verdict in evaluation.verdicts:
        print(f"  {verdict.text}")
    for column in evaluation.drift.columns:
        print(f"  {column.text}")
    for finding in evaluation.findings:
        print(f"  {finding.level}: {finding.text}")
    print(evaluation.explanation)
    print(f"outcome: {outcome.action}: {outcome.reason}")
    print(f"summary: {out / 'summary.html'}")
    print(f"drift report: {out / 'drift.html'}  (MLflow run {run})")


def figure_words(score: DecisionScores) -> Iterator[str]:
    """Yields the newest window's figures in words; what cannot be known is said so, or left out."""
    if not np.isfinite(score.wape.value):
        yield "nothing was sold, so there is no error to tell"
        return
    known = np.isfinite(score.wape.low)
    yield f"WAPE {score.wape.value:.3f}" + (f" [{score.wape.low:.3f}, {score.wape.high:.3f}]" if known else "")
    if np.isfinite(score.earlier_weeks):
        yield f"same weekday before {score.earlier_weeks:.3f}"
    yield f"bias {score.bias.value:+.1%}"
    if np.isfinite(score.profit.value):
        yield f"profit {score.profit.value:.0%} of expected"
    else:
        yield "profit not compared, no recommended price was charged"
    held = f"held {score.coverage.value:.0%}" if np.isfinite(score.coverage.value) else "not judged, not in the log"
    yield f"80 % intervals {held}"


def _todo_lines(todo: Sequence[Task]) -> Iterator[str]:
    """Yields what a person has to do, line by line."""
    if not todo:
        yield "to do: nothing"
    for number, task in enumerate(todo, start=1):
        yield f"to do {number}: {task.what} ({task.why})"
        yield from (f"  $ {command}" for command in task.commands)


def _day(text: str) -> np.datetime64:
    try:
        return np.datetime64(dt.date.fromisoformat(text), "D")
    except ValueError as error:
        raise PricingError(f"--until {text}: expected a day such as 2024-06-30") from error


WINDOW_DAYS = 28
MOST_CATEGORIES = 15


def weekly_figures(
    panel: Panel, evaluation: Evaluation, *, holdout: Experiment | None, factor: float = math.inf
) -> WeeklySummary:
    """Computes business figures of the newest week, the week before and each category, and the gain over 28 days."""
    everything = np.ones(len(panel.product_ids), dtype=bool)
    spans = weeks(panel)
    name, newest = spans[-1]
    before = line(panel, name="all", rows=everything, periods=spans[-2][1]) if len(spans) > 1 else None
    categories = [
        line(panel, name=str(category), rows=panel.categories == category, periods=newest)
        for category in np.unique(panel.categories)
    ]
    window = max(1, WINDOW_DAYS // STEP_DAYS[panel.period])
    rng = np.random.default_rng(SEED)
    return WeeklySummary(
        name=name,
        now=line(panel, name="all", rows=everything, periods=newest),
        before=before,
        categories=sorted(categories, key=lambda one: -one.margin)[:MOST_CATEGORIES],
        effect=effect(panel, evaluation.joined.frame, holdout, window=window, rng=rng),
        plausible_factor=factor,
    )


if __name__ == "__main__":
    sys.exit(main())
