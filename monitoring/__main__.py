"""Compare decisions with the sales that followed, report drift and decay, then start jobs and send alerts."""

import argparse
import datetime as dt
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from monitoring import actions, evaluate, holdout, launchers, performance
from monitoring.alerts import DeliveryError
from monitoring.business import effect, line, weeks
from monitoring.decisions import load_decisions
from monitoring.drift import add_to_workspace, html
from monitoring.evaluate import SEED, Evaluation
from monitoring.policy import Action, JobHistory, PolicyOutcome, decide
from monitoring.report import WeeklySummary, drift_head, page, weekly_page
from monitoring.store import MonitoringStore
from monitoring.tracking import (
    champion_number,
    find_champion,
    inside_nightly_job,
    last_nightly_refresh,
    record,
    retrainings,
    with_recorded,
)
from pricing.config import Config, load_config
from pricing.config_models import DataConfig, MonitoringConfig
from pricing.data.anchors import Anchors
from pricing.data.load import load_panel_from
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.assignment import Holdout, holdout_file
from pricing.errors import HistoryError, PricingError
from pricing.paths import ARCHIVE_VARIABLE, pricing_home, tracking_uri
from pricing.runtime.cli import Options, run_main
from pricing.runtime.mlflow_runs import tracked_run
from simulation.market import simulated_sales

_log = logging.getLogger("monitoring")

IDLE = "nothing was started or sent (--act false)"
EXIT_CODES: dict[Action, int] = {"none": 0, "refresh": 10, "retrain": 11, "page": 12}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs monitoring once; returns the exit code."""
    return run_main(_monitor, argv)


def _monitor(argv: Sequence[str] | None) -> int:
    options = job_options().parse(argv)
    now = dt.datetime.now(dt.UTC)
    config = load_config(options.config)
    home = pricing_home()
    given = {"sales": options.sales, "config": options.config, "quarantine": options.quarantine}
    with tracked_run("monitor", config=config) as run:
        champion = find_champion(config.registry.model_name, uri=tracking_uri())
        panel = _panel(options, config.data, anchors=champion.anchors)
        archive = None if options.decisions else os.environ.get(ARCHIVE_VARIABLE) or None
        decisions, log_findings = load_decisions(options.decisions or home / "decisions", now=now, archive=archive)
        store = MonitoringStore(home / "monitoring" / "monitoring.db")
        launcher = launchers.job_launcher(
            config.monitoring,
            parameters={name: str(value) for name, value in given.items() if value},
            folder=home / "monitoring" / "jobs",
            experiment=run.info.experiment_id,
        )
        log_findings += actions.reconcile_jobs(store, launcher, now=now, lock_hours=config.monitoring.lock_hours)
        evaluation = evaluate.evaluate_decisions(
            panel, decisions, log_findings, champion=champion, config=config.monitoring
        )
        figures = evaluate.metrics(evaluation, backtest_wape=performance.backtest_error(champion.backtest))
        written = store.write_outcomes(evaluation.joined.frame, maturities=config.monitoring.maturities, now=now)
        figures |= {"outcomes_new": written.new, "outcomes_corrected": written.corrected, "truth_moved": written.moved}
        acting = options.act == "true"
        outcome, job = _decide(evaluation, store, config.monitoring, now=now, claims=acting and launcher is not None)
        out = options.out or home / "monitoring" / "latest"
        step, result = STEP_DAYS[panel.period], actions.ActionResult(IDLE)
        if acting and launcher is None and inside_nightly_job() and outcome.action in ("refresh", "retrain"):
            result = actions.left_to_nightly_job(outcome)
        elif acting:
            result = actions.start(outcome, launcher=launcher, store=store, now=now, step_days=step, job=job)
        after = champion_number(config.registry.model_name, uri=tracking_uri())
        result = actions.with_champion(result, before=champion.number, after=after)
        with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as folder:
            week = weekly_figures(panel, evaluation, holdout=_holdout(options, evaluation))
            figures |= {
                "holdout_gain": week.effect.margin.value,
                "discount": week.now.discount,
                "turns": week.now.turns,
            }
            _write(Path(folder), evaluation, outcome=outcome, figures=figures)
            weekly = weekly_page(evaluation, week, outcome=outcome, done=result.text)
            (Path(folder) / "summary.html").write_text(weekly, encoding="utf-8")
            if evaluation.drift.snapshot is not None:
                add_to_workspace(evaluation.drift, home / "monitoring" / "evidently")
            tags = {
                "outcome": outcome.action,
                "reason": outcome.reason,
                "done": result.text,
                "champion": champion.number,
            }
            tags |= {"sales_at_fault": "true"} if outcome.doubts_sales else {}
            half_life = actions.half_life(outcome, step_days=step)
            tags |= {} if half_life is None else {"recency_half_life": f"{half_life:g}"}
            record(metrics=figures, tags=tags, folder=Path(folder))
            _replace(out, Path(folder))
        _say(evaluation, outcome=outcome, out=out, run=run.info.run_id)
        print(f"done: {result.text}")
        if acting:
            # The report is written by now, so a failed delivery loses nothing else.
            failures = [*result.failures, *_publish(figures, config)]
            link = str(out / "summary.html")
            failures += _tell(outcome, result, evaluation=evaluation, config=config, store=store, link=link)
            if failures:
                raise DeliveryError("; ".join(failures))
    return EXIT_CODES[outcome.action] if options.exit_code == "true" else 0


def job_options() -> Options:
    """Builds the parser of `pricing monitor`."""
    parser = Options(
        "pricing monitor",
        "Compares decisions with the sales that followed, reports drift and decay, and says what to do.",
    )
    parser.add_sales()
    parser.add_argument("--decisions", type=Path, metavar="DIR", help="decision log; absent: PRICING_HOME/decisions")
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


def _decide(
    evaluation: Evaluation, store: MonitoringStore, config: MonitoringConfig, *, now: dt.datetime, claims: bool
) -> tuple[PolicyOutcome, int | None]:
    """Returns the outcome and, if a job is due, its number in the store, claimed for this run alone."""
    runs, night = retrainings(), last_nightly_refresh()
    situation = evaluate.situation(evaluation, now=now, config=config)

    def ask(past: JobHistory) -> PolicyOutcome:
        return decide(situation, with_recorded(past, runs, refreshed=night), evaluate.rules(config))

    return store.claim(ask, now=now) if claims else (ask(store.past(now=now)), None)


def _holdout(options: argparse.Namespace, evaluation: Evaluation) -> Holdout | None:
    """Returns the holdout; stores the first day of pricing only when this run acts, on the platform's own log."""
    own = options.act == "true" and options.decisions is None
    first = holdout.first_day(evaluation.joined.frame)
    return holdout.since(holdout_file(pricing_home()), first, keep=own)


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
    store: MonitoringStore,
    link: str,
) -> list[str]:
    repeat = actions.Repeat(dt.datetime.now(dt.UTC), config.monitoring.repeat_hours, link)
    notifiers = launchers.alert_notifiers(config.monitoring)
    return actions.notify(outcome, result, evaluation=evaluation, notifiers=notifiers, store=store, repeat=repeat)


def _replace(out: Path, folder: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for made in folder.iterdir():
        shutil.copy2(made, out / made.name)


def _write(folder: Path, evaluation: Evaluation, *, outcome: PolicyOutcome, figures: dict[str, float]) -> None:
    head = drift_head(evaluation, outcome=outcome, span=evaluation.span)
    found = evaluation.drift.snapshot is not None
    drift = html(evaluation.drift, head=head) if found else page("Drift could not be judged", head)
    (folder / "drift.html").write_text(drift, encoding="utf-8")
    known = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    document = {
        "outcome": asdict(outcome),
        "explanation": evaluation.explanation,
        "windows": [verdict.text for verdict in evaluation.verdicts],
        "drift": [column.text for column in evaluation.drift.columns],
        "findings": [asdict(finding) for finding in evaluation.findings],
        "metrics": known,
    }
    (folder / "outcome.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    columns = ["product_id", "period", "age", "model_version", "source", "recommended_price", "charged", "pricing"]
    columns += ["forecast", "units_sold", "inside", "censored", "scored"]
    evaluation.joined.frame[columns].to_csv(folder / "scored_decisions.csv", index=False)


def _say(evaluation: Evaluation, *, outcome: PolicyOutcome, out: Path, run: str) -> None:
    score = evaluation.newest
    print(f"{evaluation.joined.decisions:,} decisions, {score.decisions:,} of them with sales in {score.name}")
    if score.rows:
        print(
            f"WAPE {score.wape.value:.3f} [{score.wape.low:.3f}, {score.wape.high:.3f}], same weekday before "
            f"{score.earlier_weeks:.3f}; bias {score.bias.value:+.1%}; profit {score.profit.value:.0%} of expected"
        )
        held = f"held {score.coverage.value:.0%}" if np.isfinite(score.coverage.value) else "not judged, not in the log"
        print(f"80 % intervals: {held}")
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


def _day(text: str) -> np.datetime64:
    try:
        return np.datetime64(dt.date.fromisoformat(text), "D")
    except ValueError as error:
        raise PricingError(f"--until {text}: expected a day such as 2024-06-30") from error


WINDOW_DAYS = 28
MOST_CATEGORIES = 15


def weekly_figures(panel: Panel, evaluation: Evaluation, *, holdout: Holdout | None) -> WeeklySummary:
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
    )


if __name__ == "__main__":
    sys.exit(main())
