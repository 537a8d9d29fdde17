"""Tune the demand model's settings with Optuna, and train the best on all data as challenger."""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import mlflow
import numpy as np
import optuna
import yaml
from mlflow.entities import Run
from optuna.trial import TrialState

from pipelines.calendar import holiday_calendar
from pipelines.commands import child_tags, only_one, run_job, start_job, stop
from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked
from pipelines.quiet import import_tensorflow
from pipelines.trial import DEFAULT, STORAGE_VARIABLE, StudyError, begun, open_study
from pricing.config import Config, load_config
from pricing.config_models import DemandConfig, TuningConfig
from pricing.data.panel import Panel, save_panel
from pricing.demand.folds import fitting
from pricing.errors import HistoryError, LockError
from pricing.paths import SQLITE, pricing_home
from pricing.runtime.cli import job, option_words
from pricing.runtime.inputs import log_data
from pricing.runtime.mlflow_runs import name_run, set_run_description, tracked_run

_POLL_SECONDS = 0.5
_CONCLUDED = "concluded"  # attribute of a study: after how many trials, and what came of it


@job("tune", sales="needed", unattended=True)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="of the study in all; absent: tuning.trials")
@click.option("--minutes", type=click.FloatRange(0), metavar="M", help="begin none after; absent: tuning.minutes")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="processes at once; absent: tuning.workers")
@click.option("--reason", metavar="WORDS", help="why, for the record")
def main(*, sales: str, quarantine: Path | None, config: str | None, reason: str | None, **asked: float | None) -> int:
    """Searches for better settings and proposes the best as challenger."""
    return _tune(load_config(config), sales=sales, quarantine=quarantine, reason=reason, asked=asked)


def _tune(
    config: Config, *, sales: str, quarantine: Path | None, reason: str | None, asked: Mapping[str, float | None]
) -> int:
    given = {name: value for name, value in asked.items() if value is not None}
    config = config.model_copy(update={"tuning": config.tuning.model_copy(update=given)})
    with tracked_run("tune", config=config, reason=reason) as run:
        anchors = sales_anchors(config)
        panel = read_checked(
            sales, config.data, quarantine=quarantine, known=accepted_past(config), anchors=anchors
        ).panel
        name = f"tune-{log_data(panel, sales=sales)[:8]}-{_question(config)[:8]}"
        mlflow.set_tag("study", name)
        folder = pricing_home().resolve() / "tuning" / name
        folder.mkdir(parents=True, exist_ok=True)
        storage = os.environ.get(STORAGE_VARIABLE) or f"{SQLITE}{folder / 'study.db'}"
        study = open_study(storage, name=name, tuning=config.tuning)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial({}, user_attrs={DEFAULT: True})
        save_panel(without_newest_fold(panel, config.demand), folder / "panel")
        _write(folder / "config.yaml", config)
        print(f"study {name}: {begun(study)} of {config.tuning.trials} trials; a rerun of this command resumes it")
        _search(study, config.tuning, folder, run=run, storage=storage)
        try:
            with only_one(f"tune-{name}", home=pricing_home(), model=config.registry.model_name):
                done = study.user_attrs.get(_CONCLUDED, {})
                if done.get("trials") == begun(study):
                    _say(f"study {name}: {done['said']}")
                    return 0
                winner, verdict = _conclude(study, panel, config)
                _say(verdict)
                best = folder / "best.yaml"
                _write(best, config.model_copy(update={"demand": winner}))
                mlflow.log_artifact(str(best))
                why = f"best settings of study {name}"
                run_job("train", option_words(config=best, reason=why, sales=sales, quarantine=quarantine), run=run)
                version = child_tags(run, "train").get("version", "unknown")
                said = f"concluded by {socket.gethostname()} (run {run.info.run_id}): {verdict}; version {version}"
                study.set_user_attr(_CONCLUDED, {"trials": begun(study), "said": said})
        except LockError as error:
            _say(f"study {name} is being concluded: {error}")
    return 0


def _say(verdict: str) -> None:
    mlflow.set_tag("verdict", verdict)
    set_run_description(verdict)
    print(verdict, flush=True)


def _question(config: Config) -> str:
    """Hashes the settings and search space: only trials with equal hashes can be compared."""
    asked = {"demand": config.demand.model_dump(mode="json"), "data": config.data.model_dump(mode="json")}
    space = {key: space.model_dump(mode="json") for key, space in config.tuning.space.items() if space}
    return hashlib.sha256(json.dumps({**asked, "space": space}, sort_keys=True).encode()).hexdigest()


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


def _search(study: optuna.Study, tuning: TuningConfig, folder: Path, *, run: Run, storage: str) -> None:
    """Runs trials in rounds of new processes until the budget is spent, then waits for those of other machines.

    A process that is killed costs its trial only: once its heartbeat is missed, a later round tries it again.

    Raises:
        StudyError: The processes of a round fail before they begin a trial.
    """
    deadline = time.time() + tuning.minutes * 60 if tuning.minutes else float("inf")
    words = ["--study", study.study_name, "--folder", str(folder)]
    words += ["--parent", run.info.run_id, "--deadline", str(deadline)]
    while True:
        have = begun(study)  # which also fails the trials whose heartbeat is missed
        left = tuning.trials - have if time.time() < deadline else 0
        if left <= 0:
            if not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                return
            time.sleep(_POLL_SECONDS)
            continue
        before = _tried(study)
        share = min(-(-left // tuning.workers), tuning.batch)
        counts = [str(min(share, left - first)) for first in range(0, left, share)][: tuning.workers]
        started = {STORAGE_VARIABLE: storage}
        working = [start_job("trial", [*words, "--count", one], run=run, extra=started) for one in counts]
        try:
            codes = [process.wait() for process in working]
        finally:
            stop(working)
        if all(codes) and _tried(study) == before:
            raise StudyError(f"study {study.study_name}: {len(codes)} worker process(es) failed; see above")


def _tried(study: optuna.Study) -> int:
    return sum(trial.state is not TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def _conclude(study: optuna.Study, panel: Panel, config: Config) -> tuple[DemandConfig, str]:
    """Compares the best trial with the default settings on the held-out newest fold.

    Returns:
        The better settings, and the verdict in a sentence.
    """
    trials = study.get_trials(deepcopy=False)
    mlflow.log_text(study.trials_dataframe().to_csv(index=False), "trials.csv")
    name_run(f"tune: {len(trials)} trials")
    scored = sum(trial.state is TrialState.COMPLETE for trial in trials)
    if not scored:
        raise StudyError(f"study {study.study_name}: not one of {len(trials)} trials was scored")
    best = study.best_trial
    mlflow.log_metric("search/best_wape", study.best_value)
    print(f"best of {scored} scored trials: trial {best.number}, WAPE {study.best_value:.4f}; {best.params}")
    if best.user_attrs.get(DEFAULT):
        return config.demand, "no trial beat the default settings"
    tuned = DemandConfig.model_validate({**config.demand.model_dump(), **best.params})
    unseen = {name: _unseen(panel, demand, config) for name, demand in (("best", tuned), ("default", config.demand))}
    mlflow.log_metrics({f"unseen/{name}_wape": value for name, value in unseen.items()})
    better = unseen["best"] < unseen["default"]
    return tuned if better else config.demand, (
        f"the best settings {'beat' if better else 'did not beat'} the default ones: WAPE {unseen['best']:.4f} against "
        f"{unseen['default']:.4f} on the newest fold, which no trial saw"
    )


def _unseen(panel: Panel, demand: DemandConfig, config: Config) -> float:
    import_tensorflow()
    from pricing.demand.backtest import backtest  # noqa: PLC0415

    last = demand.model_copy(update={"folds": 1})
    return float(backtest(panel, last, calendar=holiday_calendar(panel, config.data)).figures["wape"])


def _write(path: Path, config: Config) -> None:
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
