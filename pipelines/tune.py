"""Tune the demand model's settings with Optuna, and train the best on all data as challenger.

A study lies in a database, so that a rerun resumes it. Each trial is a child run in MLflow.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import numpy as np
import optuna
import yaml
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipelines.steps.commands import only_one, run_job
from pipelines.steps.production import in_force
from pipelines.steps.sales import holiday_calendar, read_checked
from pipelines.steps.verdict import conclude
from pricing.config import Config, merge, read_config_file
from pricing.config_models import DemandConfig, TuningConfig
from pricing.data.etl_output import sample_of
from pricing.data.panel import Panel
from pricing.demand.folds import fitting
from pricing.errors import HistoryError, PricingError, first_line
from pricing.fileio import redact_url
from pricing.paths import SQLITE, pricing_home
from pricing.registry import files
from pricing.registry.given_prices import given_prices
from pricing.runtime.cli import job, option_words
from pricing.runtime.mlflow_runs import (
    connect,
    describe,
    log_data,
    name_run,
    record_failure,
    tracked_run,
)
from pricing.runtime.workers import map_partitions

if TYPE_CHECKING:
    from pricing.demand.backtest import Backtest

STORAGE_VARIABLE = "PRICING_TUNING_STORAGE"
DEFAULT = "default"  # attribute of the trial of the settings as they are
# What a trial may change is what a forecast's error can judge. What identifies elasticities is not among it: a better
# forecast did not mean a less biased elasticity.
AROUND = {"units": (1 / 2, 3, 1 / 2), "steps": (2 / 3, 4, 1 / 3), "context": (1 / 2, 2, 1 / 4)}  # least, most, step
LEARNING_RATES = (0.001, 0.02)


@dataclass(frozen=True)
class Search:
    """A search on sales: trials of a study in a storage, each a child of the run of the search."""

    panel: Panel
    config: Config
    study: str
    storage: str
    parent: str

    def run(self, study: optuna.Study, *, budget: int) -> None:
        """Runs what is left of a budget of trials: here, or one at a time on each worker that the scheduler names."""
        begun = ended(study)
        print(f"study {self.study}: {begun} of {budget} trials; a rerun of this command resumes it", flush=True)
        if begun >= budget:
            return
        scale = self.config.scale
        if scale.scheduler == "none":
            self.run_trials(study, count=budget - begun)
        else:
            map_partitions(_trial, self, range(budget - begun), scale=scale)
        ended(study)

    def run_trials(self, study: optuna.Study, *, count: int, score: Callable[..., "Backtest"] | None = None) -> None:
        """Runs `count` trials in this process; settings that cannot be trained fail alone.

        A trial modifies the configuration and is scored on the panel by `score`, the walk-forward backtest.
        """
        score = score or _backtest()
        client = MlflowClient()
        experiment = client.get_run(self.parent).info.experiment_id
        calendar = holiday_calendar(self.panel, self.config.data)

        def objective(trial: optuna.Trial) -> float:
            values = {} if trial.user_attrs.get(DEFAULT) else suggest(trial, self.config.demand)
            demand = DemandConfig.model_validate({**self.config.demand.model_dump(), **values})
            # By the client: a fluent nested run would end FAILED when the trial is pruned.
            tags = {MLFLOW_PARENT_RUN_ID: self.parent, "job": "trial", "trial": str(trial.number)}
            run_id = client.create_run(experiment, run_name=f"trial {trial.number}", tags=tags).info.run_id
            trial.set_user_attr("run_id", run_id)
            for name, value in (values or {"settings": DEFAULT}).items():
                client.log_param(run_id, name, value)
            on_fold = _fold_watch(trial, run_id, folds=demand.folds, prunes=bool(values))
            with _ended(run_id):
                wape = float(score(self.panel, demand, calendar=calendar, on_fold=on_fold).figures["wape"])
                if not math.isfinite(wape):
                    raise StudyError(f"its score is {wape}: nothing was sold on the scored days")
            client.log_metric(run_id, "wape", wape)
            _end(run_id, "FINISHED", words=f"WAPE {wape:.4f}")
            return wape

        study.optimize(objective, n_trials=count, catch=(PricingError,))


def _trial(search: Search, _number: int) -> None:
    """Runs one on a worker; where that dies another one is tried in its place."""
    connect()
    search.run_trials(open_study(search.storage, name=search.study, tuning=search.config.tuning), count=1)


class StudyError(PricingError):
    """A tuning study that cannot be opened, or that has no scored trial."""


@job("tune", sales="needed", unattended=True)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="of the study in all; absent: tuning.trials")
@click.option("--reason", metavar="WORDS", help="why, for the record")
def main(*, sales: str, quarantine: Path | None, config: str | None, trials: int | None, reason: str | None) -> int:
    """Searches for better settings and proposes the best as challenger."""
    file = read_config_file(config)
    settings = file.config
    with tracked_run("tune", config=settings, reason=reason) as run:
        known = in_force(settings)
        panel = read_checked(
            sample_of(sales),
            settings.data,
            quarantine=quarantine,
            known=known.past,
            given=partial(given_prices, settings),
            anchors=known.anchors,
        ).panel
        # Only trials with equal settings can be compared.
        question = files.digest([settings.demand.model_dump(mode="json"), settings.data.model_dump(mode="json")])
        name = f"tune-{log_data(panel, sales=sales)[:8]}-{question[:8]}"
        mlflow.set_tag("study", name)
        folder = pricing_home().resolve() / "tuning" / name
        folder.mkdir(parents=True, exist_ok=True)
        storage = os.environ.get(STORAGE_VARIABLE) or f"{SQLITE}{folder / 'study.db'}"
        study = open_study(storage, name=name, tuning=settings.tuning)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial({}, user_attrs={DEFAULT: True})
        if "://" in settings.scale.scheduler and STORAGE_VARIABLE not in os.environ:
            raise StudyError(f"workers elsewhere need a database of trials: set {STORAGE_VARIABLE}")
        search = Search(without_newest_fold(panel, settings.demand), settings, name, storage, run.info.run_id)
        with only_one(f"tune-{name}", home=pricing_home(), model=settings.registry.model_name):
            search.run(study, budget=trials or settings.tuning.trials)
            winner, verdict = _winner(study, panel, settings)
            conclude(verdict)
            best = folder / "best.yaml"
            _keep(winner, best, given=file.given)
            words = option_words(
                config=best, reason=f"best settings of study {name}", sales=sales, quarantine=quarantine
            )
            run_job("train", words, run=run)
    return 0


def _keep(demand: DemandConfig, place: Path, *, given: Mapping[str, Any]) -> None:
    """Writes the best settings as an artifact, and laid over what the configuration file gave to a place."""
    found = {"demand": demand.model_dump(mode="json")}
    mlflow.log_dict(found, "best.yaml")
    place.touch(mode=0o600)  # what a shop's file gives beside may be secret
    place.write_text(yaml.safe_dump(merge(given, found), sort_keys=False), encoding="utf-8")


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
    wait = {"timeout": 60} if storage.startswith(SQLITE) else {}  # for a lock of another process
    try:
        return optuna.create_study(
            study_name=name,
            storage=RDBStorage(storage, engine_kwargs={"connect_args": wait}),
            direction="minimize",
            # Unseeded: a rerun that resumes a study would draw its first trials again.
            sampler=optuna.samplers.TPESampler(n_startup_trials=tuning.startup),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=tuning.startup),
            load_if_exists=True,
        )
    except (OSError, ValueError, ImportError, SQLAlchemyError, RuntimeError) as error:
        raise StudyError(f"tuning storage {redact_url(storage)} cannot be opened: {first_line(error)}") from error


def ended(study: optuna.Study) -> int:
    """Ends the trials of a process that was killed, and returns how many have ended; no other process may search."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if "run_id" in trial.user_attrs:
            _end(trial.user_attrs["run_id"], "FAILED", words=f"trial {trial.number} was cut off")
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)))


def _fold_watch(
    trial: optuna.Trial, run_id: str, *, folds: int, prunes: bool
) -> Callable[[int, Mapping[str, Any]], None]:
    """Returns the function that reports each fold's error to a trial and its run, and may prune the trial."""
    scores: list[float] = []

    def on_fold(_number: int, fold: Mapping[str, Any]) -> None:
        scores.append(float(fold["wape"]))
        so_far = sum(scores) / len(scores)
        MlflowClient().log_metric(run_id, "fold/wape", scores[-1], step=len(scores))
        trial.report(so_far, len(scores))
        if prunes and len(scores) < folds and trial.should_prune():
            raise optuna.TrialPruned(f"WAPE {so_far:.3f} after fold {len(scores)} of {folds}")

    return on_fold


@contextmanager
def _ended(run_id: str) -> Iterator[None]:
    """Ends a trial's run where it is pruned or fails."""
    try:
        yield
    except optuna.TrialPruned as pruned:
        _end(run_id, "KILLED", words=f"pruned: {pruned}")
        raise
    except BaseException as error:
        _end(run_id, "FAILED", words=describe(error))
        raise


def suggest(trial: optuna.Trial, demand: DemandConfig) -> dict[str, Any]:
    """Suggests values around the settings as they are, within the limits of each."""
    values: dict[str, Any] = {"learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATES, log=True)}
    for key, (least, most, step) in AROUND.items():
        now = getattr(demand, key)
        limits = DemandConfig.model_fields[key].metadata
        low = max(round(least * now), *(limit.ge for limit in limits if hasattr(limit, "ge")))
        high = min(round(most * now), *(limit.le for limit in limits if hasattr(limit, "le")))
        values[key] = trial.suggest_int(key, low, high, step=max(round(step * now), 1))
    return values


def _end(run_id: str, status: str, *, words: str) -> None:
    print(words, flush=True)
    if status == "FAILED":
        record_failure(run_id, words)
    else:
        MlflowClient().set_tag(run_id, "verdict", words)
    MlflowClient().set_terminated(run_id, status)


def _winner(study: optuna.Study, panel: Panel, config: Config) -> tuple[DemandConfig, str]:
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
    ours = _newest_wape(tuned, panel, config)
    default = _newest_wape(config.demand, panel, config)
    mlflow.log_metrics({"unseen/best_wape": ours, "unseen/default_wape": default})
    better = ours < default
    verdict = (
        f"the best settings {'beat' if better else 'did not beat'} the default ones: WAPE {ours:.4f} against "
        f"{default:.4f} on the newest fold, which no trial saw"
    )
    return tuned if better else config.demand, verdict


def _newest_wape(demand: DemandConfig, panel: Panel, config: Config) -> float:
    newest = demand.model_copy(update={"folds": 1})
    return float(_backtest()(panel, newest, calendar=holiday_calendar(panel, config.data)).figures["wape"])


def _backtest() -> Callable[..., "Backtest"]:
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - imports TensorFlow

    return backtest
