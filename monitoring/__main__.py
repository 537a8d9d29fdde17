"""The entry point `monitor`: reads, looks, writes pages and an MLflow run, then does what the rules say."""

import argparse
import datetime as dt
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from monitoring import act, cli, doors, watch
from monitoring.alerts import DeliveryError
from monitoring.champion import find_champion
from monitoring.decisions import load_decisions
from monitoring.drift import add_to_workspace, save_html
from monitoring.memory import Memory
from monitoring.rules import Action, Outcome, decide
from monitoring.summary import unjudged_page
from monitoring.tracking import monitoring_run, record, tracking_uri
from monitoring.watch import Watch
from pricing.config import DataConfig, load_config
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.errors import HistoryError, PricingError

_log = logging.getLogger("monitoring")

EXIT_CODES: dict[Action, int] = {"none": 0, "refresh": 10, "retrain": 11, "page": 12}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one monitoring run and returns its exit code."""
    options = cli.options().parse(argv)
    now = dt.datetime.now(dt.UTC)
    config = load_config(options.config)
    home = cli.home()
    acting = options.act == "true"
    given = {"sales": options.sales, "config": options.config}
    with monitoring_run() as run:
        panel = _panel(options, config.data)
        decisions, log_findings = load_decisions(options.decisions or home / "decisions", now=now)
        champion = find_champion(config.registry.model_name, uri=tracking_uri())
        seen = watch.look(panel, decisions, log_findings, champion=champion, config=config.monitoring)
        figures = watch.metrics(seen, backtest_wape=float(champion.backtest.get("wape") or float("nan")))
        memory = Memory(home / "monitoring" / "monitoring.db")
        written = memory.write_outcomes(seen.joined.frame, maturities=config.monitoring.maturities, now=now)
        figures |= {"outcomes_new": written.new, "outcomes_corrected": written.corrected, "truth_moved": written.moved}
        door = doors.job_door(
            config.monitoring,
            parameters={name: str(value) for name, value in given.items() if value},
            folder=home / "monitoring" / "jobs",
        )
        act.settle(memory, door, now=now)
        outcome = decide(
            watch.situation(seen, now=now, config=config.monitoring),
            memory.past(now=now),
            watch.rules(config.monitoring),
        )
        out = options.out or home / "monitoring" / "latest"
        with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as folder:
            _write(Path(folder), seen, outcome=outcome, figures=figures)
            if seen.drift.snapshot is not None:
                add_to_workspace(seen.drift, home / "monitoring" / "evidently")
            tags = {"outcome": outcome.action, "reason": outcome.reason, "champion": champion.number}
            record(metrics=figures, tags=tags, folder=Path(folder))
            _replace(out, Path(folder))
        _say(seen, outcome=outcome, out=out, run=run)
        if acting:
            known = {name: value for name, value in figures.items() if np.isfinite(value)}
            doors.send_metrics(known, config.monitoring, model=config.registry.model_name, now=now)
            deed = act.start(outcome, door=door, memory=memory, now=now)
            repeat = act.Repeat(now, config.monitoring.repeat_hours, str(out / "drift.html"))
            failures = act.tell(
                outcome, deed, watch=seen, doors=doors.alert_doors(config.monitoring), memory=memory, repeat=repeat
            )
            print(f"done: {deed.text}")
            if deed.failures or failures:
                raise DeliveryError("; ".join([*deed.failures, *failures]))
    return EXIT_CODES[outcome.action] if options.exit_code == "true" else 0


def _panel(options: argparse.Namespace, config: DataConfig) -> Panel:
    panel = load_panel_from(options.sales, config, quarantine=options.quarantine)
    if options.until:
        panel = panel.through(_day(options.until))
    if not len(panel.dates):
        raise HistoryError(f"there are no sales up to {options.until}; nothing can be compared")
    return panel


def _replace(out: Path, folder: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for page in folder.iterdir():
        shutil.copy2(page, out / page.name)


def _write(folder: Path, seen: Watch, *, outcome: Outcome, figures: dict[str, float]) -> None:
    if seen.drift.snapshot is None:
        (folder / "drift.html").write_text(unjudged_page(seen), encoding="utf-8")
    else:
        save_html(seen.drift, folder / "drift.html")
    known = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    document = {
        "outcome": asdict(outcome),
        "explanation": seen.explanation,
        "windows": [verdict.text for verdict in seen.verdicts],
        "drift": [column.text for column in seen.drift.columns],
        "findings": [asdict(finding) for finding in seen.findings],
        "metrics": known,
    }
    (folder / "outcome.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    columns = ["product_id", "period", "age", "model_version", "source", "recommended_price", "charged", "pricing"]
    columns += ["forecast", "units_sold", "censored", "scored"]
    seen.joined.frame[columns].to_csv(folder / "scored_decisions.csv", index=False)


def _say(seen: Watch, *, outcome: Outcome, out: Path, run: str) -> None:
    score = seen.newest
    print(f"{seen.joined.decisions:,} decisions, {score.decisions:,} of them with sales in {score.name}")
    if score.rows:
        print(
            f"WAPE {score.wape.value:.3f} [{score.wape.low:.3f}, {score.wape.high:.3f}], same weekday before "
            f"{score.naive:.3f}; bias {score.bias.value:+.1%}; profit {score.profit.value:.0%} of expected"
        )
    for verdict in seen.verdicts:
        print(f"  {verdict.text}")
    for column in seen.drift.columns:
        print(f"  {column.text}")
    for finding in seen.findings:
        print(f"  {finding.level}: {finding.text}")
    print(seen.explanation)
    print(f"outcome: {outcome.action}: {outcome.reason}")
    print(f"drift report: {out / 'drift.html'}  (MLflow run {run})")


def _day(text: str) -> np.datetime64:
    try:
        return np.datetime64(dt.date.fromisoformat(text), "D")
    except ValueError as error:
        raise PricingError(f"--until {text}: expected a day such as 2024-06-30") from error


if __name__ == "__main__":
    sys.exit(cli.run_main(main))
