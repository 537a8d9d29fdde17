"""Tune the demand model's settings with Optuna, and train the best on all data as challenger.

A study lies in a database, so that a rerun resumes it. Each trial is a child run in MLflow; `tuning.workers` processes
run them. Optuna's heartbeat finds trials whose process is gone, and queues them again.
"""

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import numpy as np
import optuna
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipelines.calendar import holiday_calendar
from pipelines.commands import import_tensorflow, only_one, run_job, start_job, stop
from pipelines.production import accepted_past, sales_anchors
from pipelines.quality import read_checked
from pricing.config import Config, load_config
from pricing.config_models import DemandConfig, TuningConfig
from pricing.data.panel import STEP_DAYS, Panel, Period, load_panel, save_panel
from pricing.data.partitions import read_partitions, sample_of
from pricing.demand.folds import fitting
from pricing.errors import HistoryError, PricingError, first_line
from pricing.fileio import redact_url
from pricing.paths import SQLITE, pricing_home
from pricing.runtime.cli import FILE, job, option_words
from pricing.runtime.inputs import log_data
from pricing.runtime.mlflow_runs import connect, describe, name_run, record_failure, set_run_description, tracked_run
from pricing.runtime.workers import client_of

if TYPE_CHECKING:
    from pricing.demand.backtest import Backtest

STORAGE_VARIABLE = "PRICING_TUNING_STORAGE"
DEFAULT = "default"  # attribute of the trial of the settings as they are
# What a trial may change is what a forecast's error can judge. What identifies elasticities is not among it: a better
# forecast did not mean a less biased elasticity.
AROUND = {"units": (1 / 2, 3, 1 / 2), "steps": (2 / 3, 4, 1 / 3), "context": (1 / 2, 2, 1 / 4)}  # least, most, step
LEARNING_RATES = (0.001, 0.02)
HALF_LIVES = (182, 364, 728)  # days, of recency; or none
_RETRIES = 2  # settings whose trial was lost three times are not tried again
_POLL_SECONDS = 0.5
_BEATS = 4  # heartbeats within the time after which a trial counts as lost


class StudyError(PricingError):
    """A tuning study that cannot be opened, whose processes fail, or that has no scored trial."""


@job("tune", sales="needed", unattended=True)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="of the study in all; absent: tuning.trials")
@click.option("--minutes", type=click.FloatRange(0), metavar="M", help="begin none after; absent: tuning.minutes")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="processes at once; absent: tuning.workers")
@click.option("--reason", metavar="WORDS", help="why, for the record")
def main(*, sales: str, quarantine: Path | None, config: str | None, reason: str | None, **asked: float | None) -> int:
    """Searches for better settings and proposes the best as challenger."""
    settings, given = load_config(config), {name: value for name, value in asked.items() if value is not None}
    settings = settings.model_copy(update={"tuning": settings.tuning.model_copy(update=given)})
    with tracked_run("tune", config=settings, reason=reason) as run:
        known, anchors = accepted_past(settings), sales_anchors(settings)
        where = sample_of(sales) if read_partitions(sales) else sales
        panel = read_checked(where, settings.data, quarantine=quarantine, known=known, anchors=anchors).panel
        name = f"tune-{log_data(panel, sales=sales)[:8]}-{_question(settings)[:8]}"
        mlflow.set_tag("study", name)
        folder = pricing_home().resolve() / "tuning" / name
        folder.mkdir(parents=True, exist_ok=True)
        if "://" in settings.scale.scheduler and STORAGE_VARIABLE not in os.environ:
            raise StudyError(f"workers elsewhere need a database of trials: set {STORAGE_VARIABLE}")
        storage = os.environ.get(STORAGE_VARIABLE) or f"{SQLITE}{folder / 'study.db'}"
        study = open_study(storage, name=name, tuning=settings.tuning)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial({}, user_attrs={DEFAULT: True})
        save_panel(without_newest_fold(panel, settings.demand), folder / "panel")
        _write(folder / "config.yaml", settings)
        print(f"study {name}: {begun(study)} of {settings.tuning.trials} trials; a rerun of this command resumes it")
        with only_one(f"tune-{name}", home=pricing_home(), model=settings.registry.model_name):
            _search(study, settings, folder, run=run, storage=storage)
            winner, verdict = _conclude(study, panel, settings)
            mlflow.set_tag("verdict", verdict)
            set_run_description(verdict)
            print(verdict, flush=True)
            best, why = folder / "best.yaml", f"best settings of study {name}"
            _write(best, settings.model_copy(update={"demand": winner}))
            mlflow.log_artifact(str(best))
            run_job("train", option_words(config=best, reason=why, sales=sales, quarantine=quarantine), run=run)
    return 0


def _question(config: Config) -> str:
    """Hashes the settings: only trials with equal hashes can be compared."""
    asked = {"demand": config.demand.model_dump(mode="json"), "data": config.data.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _write(path: Path, config: Config) -> None:
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def without_newest_fold(panel: Panel, config: DemandConfig) -> Panel:
    """Returns the panel without its newest fold, which is held out for the final comparison.

    Raises:
        HistoryError: The rest is too short for one fold.
    """
    dates = panel.dates[: max(len(panel.dates) - config.horizon, 0)]
    try:
        fitting(config, len(dates), period=panel.period)
    except HistoryError as error:
        held = f"{config.horizon} {panel.period}s"
        raise HistoryError(f"tuning holds the last {held} back, and on the others {error}") from error
    past = panel.through(dates[-1])
    return past.select(np.flatnonzero(past.present.any(axis=1)))


def open_study(storage: str, *, name: str, tuning: TuningConfig) -> optuna.Study:
    """Opens or creates a study in a database: minimised, TPE sampler, median pruner over the folds so far.

    Raises:
        StudyError: The storage is unreachable or no database.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # its heartbeat
    try:
        return optuna.create_study(
            study_name=name,
            storage=RDBStorage(
                storage,
                engine_kwargs={"connect_args": {"timeout": 60} if storage.startswith(SQLITE) else {}},
                heartbeat_interval=max(tuning.silent_seconds // _BEATS, 1),
                grace_period=tuning.silent_seconds,
                heartbeat_stale_trial_callback=_lost,
            ),
            direction="minimize",
            # Unseeded: with equal seeds, parallel processes would draw equal trials.
            sampler=optuna.samplers.TPESampler(n_startup_trials=tuning.startup),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=tuning.startup),
            load_if_exists=True,
        )
    except (OSError, ValueError, ImportError, SQLAlchemyError, RuntimeError) as error:
        raise StudyError(f"tuning storage {redact_url(storage)} cannot be opened: {first_line(error)}") from error


def begun(study: optuna.Study) -> int:
    """Counts the started trials, without lost ones that are tried again, once their lost processes are found."""
    fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    again = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
    return sum(trial.state is not TrialState.WAITING and trial.number not in again for trial in trials)


def _lost(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a lost trial's settings again, and ends its MLflow run."""
    RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES)(study, trial)
    if "run_id" in trial.user_attrs:
        _end(trial.user_attrs["run_id"], "FAILED", words=f"trial {trial.number} was cut off: no sign of life came")


def _search(study: optuna.Study, config: Config, folder: Path, *, run: Run, storage: str) -> None:
    """Runs trials in processes, or on the workers of the configured Dask scheduler, until the budget is spent.

    A process that is killed costs its trial only: once its heartbeat is missed, a later round tries it again.

    Raises:
        StudyError: All processes of a round fail.
    """
    tuning = config.tuning
    deadline = time.time() + tuning.minutes * 60 if tuning.minutes else math.inf
    words = option_words(study=study.study_name, folder=folder, parent=run.info.run_id, deadline=deadline)
    while True:
        have = begun(study)
        left = tuning.trials - have if time.time() < deadline else 0
        if left <= 0 and not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            return
        shares = [len(range(first, left, tuning.workers)) for first in range(min(tuning.workers, left))]
        if config.scale.scheduler not in ("none", "local"):
            given = {"name": study.study_name, "storage": storage, "parent": run.info.run_id, "deadline": deadline}
            codes = _by_dask(config, folder, shares, given)
        else:
            own = {STORAGE_VARIABLE: storage}
            working = [start_job("trial", [*words, "--count", str(share)], run=run, extra=own) for share in shares]
            try:
                codes = [process.wait() for process in working]
            finally:
                stop(working)
        if codes and all(codes) and begun(study) == have:
            raise StudyError(f"study {study.study_name}: {len(codes)} worker process(es) failed; see above")
        time.sleep(0 if codes else _POLL_SECONDS)  # until the heartbeat of a trial whose process was killed is missed


def _by_dask(config: Config, folder: Path, shares: list[int], of_trials: Mapping[str, Any]) -> list[int]:
    """Runs shares of the trials at once on Dask's workers; returns 0 or 1 for each. They need no shared folder."""
    with client_of(config.scale) as client:
        panel = client.scatter(load_panel(folder / "panel"), broadcast=True, hash=False)
        asked = [client.submit(_work, panel, config, count=share, **of_trials, pure=False) for share in shares]
        failed = [future.exception() for future in asked]
        print("".join(f"a worker's trials failed: {error}\n" for error in failed if error is not None), end="")
        return [int(error is not None) for error in failed]


def _work(panel: Panel, config: Config, *, count: int, name: str, storage: str, parent: str, deadline: float) -> None:
    """Runs `count` trials of a study in a database."""
    connect()
    study = open_study(storage, name=name, tuning=config.tuning)
    import_tensorflow()
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - tune does without

    run_trials(study, panel, config, parent=parent, count=count, seconds=deadline - time.time(), score=backtest)


@job("trial", config=False)
@click.option("--study", "name", required=True, metavar="NAME", help="the study's name")
@click.option("--folder", required=True, type=FILE, metavar="DIR", help="its panel and config.yaml")
@click.option("--parent", required=True, metavar="RUN", help="the tuning run")
@click.option("--count", default=1, help="trials to run")
@click.option("--deadline", default=math.inf, help="begin none after this time (epoch seconds)")
def trial(*, name: str, folder: Path, parent: str, count: int, deadline: float) -> int:
    """Runs trials of a study; started by tune."""
    config, panel = load_config(str(folder / "config.yaml")), load_panel(folder / "panel")
    storage = os.environ[STORAGE_VARIABLE]
    _work(panel, config, count=count, name=name, storage=storage, parent=parent, deadline=deadline)
    return 0


def run_trials(
    study: optuna.Study,
    panel: Panel,
    config: Config,
    *,
    parent: str,
    count: int,
    score: Callable[..., "Backtest"],
    seconds: float = math.inf,
) -> None:
    """Runs `count` trials, none after so many seconds; settings that cannot be trained fail alone.

    A trial modifies `config` and is scored on the panel by `score`, the walk-forward backtest; `parent` is the run of
    the search.
    """
    client, calendar = MlflowClient(), holiday_calendar(panel, config.data)
    experiment = client.get_run(parent).info.experiment_id

    def objective(trial: optuna.Trial) -> float:
        values = {} if trial.user_attrs.get(DEFAULT) else suggest(trial, config.demand, period=panel.period)
        demand = DemandConfig.model_validate({**config.demand.model_dump(), **values})
        # By the client: a fluent nested run would end FAILED when the trial is pruned.
        tags = {MLFLOW_PARENT_RUN_ID: parent, "job": "trial", "trial": str(trial.number)}
        run_id = client.create_run(experiment, run_name=f"trial {trial.number}", tags=tags).info.run_id
        trial.set_user_attr("run_id", run_id)
        for name, value in (values or {"settings": DEFAULT}).items():
            client.log_param(run_id, name, value)
        scores: list[float] = []

        def on_fold(_number: int, fold: Mapping[str, Any]) -> None:
            scores.append(float(fold["wape"]))
            so_far = sum(scores) / len(scores)
            client.log_metric(run_id, "fold/wape", scores[-1], step=len(scores))
            trial.report(so_far, len(scores))
            if values and len(scores) < demand.folds and trial.should_prune():
                raise optuna.TrialPruned(f"WAPE {so_far:.3f} after fold {len(scores)} of {demand.folds}")

        try:
            wape = float(score(panel, demand, calendar=calendar, on_fold=on_fold).figures["wape"])
            if not math.isfinite(wape):
                raise StudyError(f"its score is {wape}: nothing was sold on the scored days")
        except optuna.TrialPruned as pruned:
            _end(run_id, "KILLED", words=f"pruned: {pruned}")
            raise
        except BaseException as error:
            _end(run_id, "FAILED", words=describe(error))
            raise
        client.log_metric(run_id, "wape", wape)
        _end(run_id, "FINISHED", words=f"WAPE {wape:.4f}")
        return wape

    if seconds > 0:
        timeout = seconds if math.isfinite(seconds) else None
        study.optimize(objective, n_trials=count, timeout=timeout, catch=(PricingError,))


def suggest(trial: optuna.Trial, demand: DemandConfig, *, period: Period) -> dict[str, Any]:
    """Suggests values around the settings as they are, within the limits of each."""
    values: dict[str, Any] = {"learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATES, log=True)}
    for key, (least, most, step) in AROUND.items():
        now, limits = getattr(demand, key), DemandConfig.model_fields[key].metadata
        low = max(round(least * now), *(one.ge for one in limits if hasattr(one, "ge")))
        high = min(round(most * now), *(one.le for one in limits if hasattr(one, "le")))
        values[key] = trial.suggest_int(key, low, high, step=max(round(step * now), 1))
    half_lives = [None, *(days // STEP_DAYS[period] for days in HALF_LIVES)]
    return values | {"recency_half_life": trial.suggest_categorical("recency_half_life", half_lives)}


def _end(run_id: str, status: str, *, words: str) -> None:
    print(words, flush=True)
    if status == "FAILED":
        record_failure(run_id, words)
    else:
        MlflowClient().set_tag(run_id, "verdict", words)
    MlflowClient().set_terminated(run_id, status)


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
    import_tensorflow()
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - importing TensorFlow takes seconds

    unseen, calendar = {}, holiday_calendar(panel, config.data)
    for name, demand in (("best", tuned), ("default", config.demand)):
        newest = demand.model_copy(update={"folds": 1})
        unseen[name] = float(backtest(panel, newest, calendar=calendar).figures["wape"])
    mlflow.log_metrics({f"unseen/{name}_wape": value for name, value in unseen.items()})
    better = unseen["best"] < unseen["default"]
    return tuned if better else config.demand, (
        f"the best settings {'beat' if better else 'did not beat'} the default ones: WAPE {unseen['best']:.4f} against "
        f"{unseen['default']:.4f} on the newest fold, which no trial saw"
    )
