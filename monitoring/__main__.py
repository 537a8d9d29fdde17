"""Compare decisions with the sales that followed, report drift and decay, then start jobs and send alerts."""

import datetime as dt
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

from monitoring import actions, evaluate, performance, tracking
from monitoring.decisions import join
from monitoring.evaluate import Evaluation
from monitoring.policy import JobHistory, PolicyOutcome, decide
from monitoring.report import Week, newest_week, page
from monitoring.store import MonitoringStore
from pricing.config import load_config
from pricing.data.etl_output import read_partitions, sample_of
from pricing.data.load import load_panel_from
from pricing.errors import DeliveryError, PricingError
from pricing.objects import open_store
from pricing.paths import PARENT_VARIABLE, SQLITE, database_url, given_database_url, log_url, pricing_home, tracking_uri
from pricing.quoting import quote_formulas
from pricing.registry.control import known_control
from pricing.registry.published_store import published_url
from pricing.runtime.alerts import alert_notifiers, deliver, run_page
from pricing.runtime.cli import CommandLine, job
from pricing.runtime.mlflow_runs import child_environment, tracked_run
from simulation.market import simulated_sales

SCORED = (
    *("product_id", "period", "age", "model_version", "source", "recommended_price", "charged", "pricing"),
    *("forecast", "units_sold", "inside", "censored", "scored"),
)


class ToldError(PricingError):
    """Pricing is live and made no decision though one was due, or the job that was due failed; an alert has said so."""

    told = True  # see pricing.runtime.alerts


@job("monitor", sales="needed", unattended=True)
@click.option("--act", type=bool, default=True, help="false: send and start nothing")
def main(*, sales: str, quarantine: Path | None, config: str | None, act: bool) -> int:
    """Compares decisions with the sales that followed, reports drift and decay, and says what to do."""
    settings, log, folder = load_config(config), log_url(), pricing_home() / "monitoring"
    watched, model, now = settings.monitoring, settings.registry.model_name, dt.datetime.now(dt.UTC)
    partitioned = read_partitions(sales) is not None
    given = {
        name: str(value) for name, value in (("sales", sales), ("config", config), ("quarantine", quarantine)) if value
    }
    with tracked_run("monitor", config=settings) as run:
        champion = tracking.find_champion(model, uri=tracking_uri())
        panel = load_panel_from(
            *(sample_of(sales) if partitioned else sales, settings.data),
            quarantine=quarantine,
            anchors=champion.anchors,
            events=(),
            simulated=simulated_sales,
        )
        last = panel.dates[-1].astype(dt.date)
        # Not in the file of switches and promotions, which must not wait while outcomes of a large shop are written.
        store = MonitoringStore(given_database_url() or f"{SQLITE}{folder.resolve() / 'monitoring.db'}", model=model)
        joined = join(
            *(log, panel),
            now=now,
            known=store.has_outcomes(),
            since=last - dt.timedelta(days=watched.days_looked_at),
            state_dates=champion.seen,
            only=panel.product_ids if partitioned else None,
        )
        launcher = actions.job_launcher(
            watched, parameters=given, folder=folder / "jobs", environment=child_environment(run)
        )
        lost = actions.lost_jobs(store, now=now, lock_hours=watched.lock_hours, gives_up=act)
        evaluation = evaluate.evaluate_decisions(
            panel,
            replace(joined, findings=lost + joined.findings),
            champion=champion,
            config=watched,
            earlier=store.errors,
            log=log,
        )
        store.write_outcomes(evaluation.joined.frame, last=last)
        runs, night = tracking.retrainings(model), tracking.last_nightly_refresh(model)

        def ask(past: JobHistory) -> PolicyOutcome:
            history = tracking.with_recorded(past, runs, refreshed=night)
            return decide(evaluation.situation, history, watched, now=now)

        outcome, job = store.claim(ask, now=now) if act and launcher else (ask(store.past(now=now)), None)
        result = actions.act(
            *(outcome, job), launcher=launcher, store=store, acting=act, within_night=PARENT_VARIABLE in os.environ
        )
        after = champion.number
        if result.ended:
            after = tracking.find_champion(model, uri=tracking_uri()).number
            result = replace(result, text=f"{result.text}; {tracking.succession(champion.number, after)}")
        todo = actions.tasks(evaluation, outcome, result, line=CommandLine(given))
        control = known_control(model, url=database_url(), store=open_store(published_url()))
        holdout, rng = control.experiments.holdout(last), np.random.default_rng(evaluate.SEED)
        week = newest_week(panel, evaluation.joined.frame, holdout=holdout, rng=rng)
        figures = evaluate.metrics(evaluation, backtest_wape=performance.backtest_error(champion.backtest))
        figures |= {"holdout_gain": week.effect.margin.value, "discount": week.now.discount, "turns": week.now.turns}
        figures = {name: value for name, value in figures.items() if np.isfinite(value)}
        tags = {"outcome": outcome.action, "reason": outcome.reason, "done": result.text, "champion": champion.number}
        tags |= {"sales_at_fault": "true"} if outcome.doubts_sales else {}
        shown = folder / "latest" / "summary.html"
        _report(shown.parent, evaluation, week, outcome=outcome, figures=figures, tags=tags, todo=todo)
        print("\n".join(_lines(evaluation, outcome=outcome, done=result.text, todo=todo, page=shown)))
        if act:
            # The report is written by now, so a failed delivery loses nothing else.
            failures = actions.send_metrics(figures, watched, model=model, now=now)
            alert = actions.compose(outcome, result, evaluation=evaluation, todo=[task.text for task in todo])
            if alert is not None and alert.severity != "info":
                number, place, pages = run.info.run_id, run.info.experiment_id, watched.endpoints.mlflow_url
                link = run_page(number, experiment=place, pages=pages, artifact=shown.name) or shown.resolve().as_uri()
                alert = replace(alert, run=number, link=link, version=after if after.isdigit() else "")
                failures += deliver(alert, alert_notifiers(watched))
            if failures:
                raise DeliveryError("; ".join([*result.failures, *failures]))
            if result.failures:
                raise ToldError("; ".join(result.failures))
            if outcome.silent:
                raise ToldError(f"{outcome.reason}; {evaluate.look_at(log)}")
    return 0


def _report(
    out: Path,
    evaluation: Evaluation,
    week: Week,
    *,
    outcome: PolicyOutcome,
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    todo: Sequence[actions.Task],
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
        "findings": [asdict(finding) for finding in evaluation.findings],
        "metrics": figures,
    }
    first, end = evaluation.newest.days
    reports = evidently.render(
        *(evaluation.drift, frame[frame["scored"].astype(bool)]),
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
        "scored_decisions.csv": quote_formulas(frame[list(SCORED)]).to_csv(index=False),
        **({} if plots is None else {"drift.html": plots}),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "drift.html").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as made:
        for name, text in texts.items():
            (Path(made) / name).write_text(text, encoding="utf-8")
        tracking.record(metrics=figures, tags=tags, folder=Path(made))
        shutil.copytree(made, out, dirs_exist_ok=True)


def _lines(
    evaluation: Evaluation, *, outcome: PolicyOutcome, done: str, todo: Sequence[actions.Task], page: Path
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
