"""Tune the demand model's settings with Optuna, and train the best on all data as challenger."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import yaml
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from pipelines.calendar import holiday_calendar
from pipelines.commands import child_tags, run_job, start_job, stop
from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked
from pipelines.quiet import import_tensorflow
from pipelines.study import (
    DEFAULT,
    STORAGE_VARIABLE,
    StudyError,
    begun,
    conclusion,
    open_study,
    others,
    retry_lost_trials,
)
from pricing.config import Config, load_config
from pricing.config_models import DemandConfig
from pricing.data.panel import Panel, save_panel
from pricing.demand.folds import fitting
from pricing.errors import HistoryError
from pricing.paths import pricing_home
from pricing.runtime.cli import at_least, job_options, not_negative, run_main
from pricing.runtime.inputs import log_data
from pricing.runtime.mlflow_runs import name_run, set_run_description, tracked_run

_POLL_SECONDS = 0.5
_PLOTS = ("optimization_history", "intermediate_values", "param_importances", "parallel_coordinate", "slice")


@dataclass(frozen=True)
class Search:
    """Location and budget of a tuning study.

    Attributes:
        name: The study's name.
        storage: A database URL, or the path of a journal file.
        folder: Folder for the panel, the configuration and the best settings of this study.
        trials: Total number of trials of the study.
        minutes: Minutes after which this command starts no more trials; 0 for no limit.
        workers: Number of parallel processes.
    """

    name: str
    storage: str
    folder: Path
    trials: int
    minutes: float
    workers: int


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_tune, argv, unattended=True)


def _tune(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    with tracked_run("tune", config=config, reason=options.reason) as run:
        anchors = sales_anchors(config)
        loaded = read_checked(
            options.sales, config.data, quarantine=options.quarantine, known=accepted_past(config), anchors=anchors
        )
        panel = loaded.panel
        digest = log_data(panel, sales=options.sales)
        search = _search(options, config, digest=digest)
        mlflow.set_tags({"study": search.name})
        study = open_study(search.storage, name=search.name, tuning=config.tuning)
        _same_question(study, config, digest=digest)
        retry_lost_trials(study)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial({}, user_attrs={DEFAULT: True})
        search.folder.mkdir(parents=True, exist_ok=True)
        save_panel(without_newest_fold(panel, config.demand), search.folder / "panel")
        _write(search.folder / "config.yaml", config)
        print(f"study {search.name}: {begun(study)} of {search.trials} trials; a rerun of this command resumes it")
        _work(study, search, config, run=run)
        claimed = conclusion(study, run_id=run.info.run_id, tuning=config.tuning, storage=search.storage)
        with claimed as claim:
            if not claim.mine:
                return _left(f"study {search.name}: {claim.who}")
            winner, verdict = _conclude(study, panel, config)
            best = search.folder / "best.yaml"
            _write(best, config.model_copy(update={"demand": winner}))
            mlflow.log_artifact(str(best))
            _log_plots(study)
            words = ["--config", str(best), "--reason", f"best settings of study {search.name}"]
            for name, value in (("--sales", options.sales), ("--quarantine", options.quarantine)):
                words += [name, str(value)] if value is not None else []
            run_job("pipelines.train", words, run=run)
            claim.outcome = f"{verdict}; version {child_tags(run, 'train').get('version', 'unknown')}"
    return 0


def _left(words: str) -> int:
    mlflow.set_tag("verdict", words)
    set_run_description(words)
    print(words)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("tune", "Searches for better settings and proposes the best as challenger.")
    options.add_argument(
        "--trials", type=at_least(1), metavar="N", help="trials of the study in all; absent: tuning.trials"
    )
    options.add_argument(
        "--minutes", type=not_negative, metavar="M", help="begin none after so many; absent: tuning.minutes"
    )
    options.add_argument("--workers", type=at_least(1), metavar="N", help="processes at once; absent: tuning.workers")
    options.add_argument("--study", metavar="NAME", help="resume or begin it; absent: named by data and settings")
    options.add_argument(
        "--storage",
        metavar="URL",
        help=f"database that several machines share; absent: {STORAGE_VARIABLE}, or a file under PRICING_HOME",
    )
    options.add_argument("--reason", metavar="WORDS", help="why, for the record")
    return options.parse(argv)


def _search(options: argparse.Namespace, config: Config, *, digest: str) -> Search:
    name = options.study or f"tune-{digest[:8]}-{_question(config)[:8]}"
    folder = pricing_home().resolve() / "tuning" / name
    tuning = config.tuning
    return Search(
        name=name,
        storage=options.storage or os.environ.get(STORAGE_VARIABLE) or str(folder / "journal.log"),
        folder=folder,
        trials=tuning.trials if options.trials is None else options.trials,
        minutes=tuning.minutes if options.minutes is None else options.minutes,
        workers=tuning.workers if options.workers is None else options.workers,
    )


def _question(config: Config) -> str:
    """Hashes the settings and search space: only trials with equal hashes can be compared."""
    asked = {"demand": config.demand.model_dump(mode="json"), "data": config.data.model_dump(mode="json")}
    space = {key: space.model_dump(mode="json") for key, space in config.tuning.space.items() if space}
    return hashlib.sha256(json.dumps({**asked, "space": space}, sort_keys=True).encode()).hexdigest()


def _same_question(study: optuna.Study, config: Config, *, digest: str) -> None:
    asked = {"data": digest, "question": _question(config)}
    for name, value in asked.items():
        kept = study.user_attrs.get(name)
        if kept is None:
            study.set_user_attr(name, value)
        elif kept != value:
            what = "other sales" if name == "data" else "other settings or another search space"
            raise StudyError(f"study {study.study_name} was begun on {what}; give another --study, or none")


def without_newest_fold(panel: Panel, config: DemandConfig) -> Panel:
    """Returns the panel without its newest fold, which is held out for the final comparison.

    Raises:
        HistoryError: The rest is too short for one fold.
    """
    held = config.horizon + config.gap
    if len(panel.dates) <= held:
        raise HistoryError(
            f"the sales span {len(panel.dates)} {panel.period}s; tuning holds the last demand.horizon + demand.gap = "
            f"{held} of them back: give more history, or lower these"
        )
    past = panel.through(panel.dates[-1 - held])
    try:
        fitting(config, len(past.dates), period=panel.period)
    except HistoryError as error:
        raise HistoryError(f"tuning holds the last {held} {panel.period}s back, and on the others {error}") from error
    return past.select(np.flatnonzero(past.present.any(axis=1)))


def _work(study: optuna.Study, search: Search, config: Config, *, run: Run) -> None:
    """Runs worker processes until the budget is spent; a new process per batch, since every fit leaks memory.

    Then waits for trials on other machines, and repeats those of machines that were lost.
    """
    deadline = time.time() + search.minutes * 60 if search.minutes else float("inf")
    common = [
        *("--study", search.name, "--panel", str(search.folder / "panel")),
        *("--config", str(search.folder / "config.yaml"), "--parent", run.info.run_id),
        *("--count", str(config.tuning.batch), "--budget", str(search.trials), "--deadline", str(deadline)),
    ]
    working: list[subprocess.Popen[bytes]] = []
    failed_workers, told = 0, False
    try:
        while True:
            retry_lost_trials(study)
            left = search.trials - begun(study)
            wanted = min(search.workers, -(-left // config.tuning.batch)) if time.time() < deadline else 0
            while len(working) < wanted:
                working.append(start_job("pipelines.trial", common, run=run, extra={STORAGE_VARIABLE: search.storage}))
            elsewhere = [] if working else others(study)
            if not working and not elsewhere:
                return
            if elsewhere and not told:
                told = True
                hosts = ", ".join(sorted({trial.user_attrs.get("host", "somebody") for trial in elsewhere}))
                print(f"waiting for {len(elsewhere)} trial(s) that {hosts} still runs", flush=True)
            time.sleep(_POLL_SECONDS)
            done = [process for process in working if process.poll() is not None]
            working = [process for process in working if process.poll() is None]
            failed_workers += sum(process.returncode != 0 for process in done)
            if failed_workers > search.workers:
                raise StudyError(
                    f"study {search.name}: {failed_workers} worker processes failed; their messages are above"
                )
    finally:
        stop(working)


def _conclude(study: optuna.Study, panel: Panel, config: Config) -> tuple[DemandConfig, str]:
    """Compares the best trial with the default settings on the held-out newest fold.

    Returns:
        The better settings, and the verdict in a sentence.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    counts = {state: len(study.get_trials(deepcopy=False, states=(state,))) for state in TrialState}
    mlflow.log_metrics({f"trials/{state.name.lower()}": float(count) for state, count in counts.items()})
    mlflow.log_text(study.trials_dataframe().to_csv(index=False), "trials.csv")
    if not done:
        raise StudyError(f"study {study.study_name}: not one of {sum(counts.values())} trials was scored")
    best = min(done, key=_value)
    default = next((trial for trial in done if trial.user_attrs.get(DEFAULT)), None)
    mlflow.log_metric("search/best_wape", _value(best))
    name_run(f"tune: {sum(counts.values())} trials")
    if default is not None:
        mlflow.log_metric("search/default_wape", _value(default))
    print(f"best of {len(done)} scored trials: trial {best.number}, WAPE {_value(best):.4f}; {_settings(best)}")
    if best.user_attrs.get(DEFAULT):
        return _say_verdict(config.demand, "no trial beat the default settings")
    tuned = DemandConfig.model_validate({**config.demand.model_dump(), **best.params})
    unseen = {name: _unseen(panel, demand, config) for name, demand in (("best", tuned), ("default", config.demand))}
    mlflow.log_metrics({f"unseen/{name}_wape": value for name, value in unseen.items()})
    figures = f"WAPE {unseen['best']:.4f} against {unseen['default']:.4f} on the newest fold, which no trial saw"
    if unseen["best"] < unseen["default"]:
        return _say_verdict(tuned, f"the best settings beat the default ones: {figures}")
    return _say_verdict(config.demand, f"the best settings did not beat the default ones: {figures}")


def _say_verdict(demand: DemandConfig, verdict: str) -> tuple[DemandConfig, str]:
    mlflow.set_tag("verdict", verdict)
    set_run_description(verdict)
    print(f"{verdict}; training on everything", flush=True)
    return demand, verdict


def _unseen(panel: Panel, demand: DemandConfig, config: Config) -> float:
    import_tensorflow()
    from pricing.demand.backtest import backtest  # noqa: PLC0415

    last = demand.model_copy(update={"folds": 1})
    return float(backtest(panel, last, calendar=holiday_calendar(panel, config.data)).figures["wape"])


def _value(trial: FrozenTrial) -> float:
    return float(trial.value) if trial.value is not None else float("inf")


def _settings(trial: FrozenTrial) -> str:
    if trial.user_attrs.get(DEFAULT):
        return "the default settings"
    params: dict[str, Any] = trial.params
    return ", ".join(f"{key} {round(value, 5) if isinstance(value, float) else value}" for key, value in params.items())


def _write(path: Path, config: Config) -> None:
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _log_plots(study: optuna.Study) -> None:
    """Logs Optuna's plots as one self-contained HTML page."""
    pages = []
    for name in _PLOTS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # importances from few trials are uncertain
                figure = getattr(optuna.visualization, f"plot_{name}")(study)
        except (ValueError, RuntimeError) as error:  # too few trials for this one
            pages.append(f"<p>{name}: {error}</p>")
            continue
        pages.append(figure.to_html(full_html=False, include_plotlyjs=not any("<script" in page for page in pages)))
    mlflow.log_text(f"<html><meta charset='utf-8'><body>{''.join(pages)}</body></html>", "plots/study.html")


if __name__ == "__main__":
    sys.exit(main())
