"""Run trials of a tuning study, each as a child run in MLflow; `tune` starts this as processes, since each fit leaks.

The study lies in a database. Optuna's heartbeat there finds trials whose process is gone, and queues them again.
"""

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import optuna
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipelines.calendar import holiday_calendar
from pipelines.quiet import import_tensorflow
from pricing.config import Config, load_config
from pricing.config_models import ChoicesConfig, DemandConfig, TuningConfig
from pricing.data.panel import Panel, load_panel
from pricing.errors import PricingError, RegistryError, first_line
from pricing.fileio import redact_url
from pricing.paths import SQLITE, tracking_uri
from pricing.runtime.cli import FILE, job
from pricing.runtime.mlflow_runs import connect, describe, record_failure

if TYPE_CHECKING:
    from pricing.demand.backtest import Backtest

STORAGE_VARIABLE = "PRICING_TUNING_STORAGE"
DEFAULT = "default"  # attribute of the trial of the settings as they are
_RETRIES = 2  # settings whose trial was lost three times are not tried again
_BEATS = 4  # heartbeats within the time after which a trial counts as lost


class StudyError(PricingError):
    """A tuning study that cannot be opened, belongs to other data, or has no scored trial."""


def open_study(storage: str, *, name: str, tuning: TuningConfig) -> optuna.Study:
    """Opens or creates a study: minimised, TPE sampler, median pruner over the folds so far.

    Args:
        storage: A database URL.
        name: The study's name.
        tuning: Supplies the number of start-up trials of sampler and pruner, and the heartbeat's timeout.

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


@job("trial", config=False)
@click.option("--study", "name", required=True, metavar="NAME", help="the study's name")
@click.option("--folder", required=True, type=FILE, metavar="DIR", help="its panel and config.yaml")
@click.option("--parent", required=True, metavar="RUN", help="the tuning run")
@click.option("--count", default=1, help="trials to run")
@click.option("--deadline", default=math.inf, help="begin none after this time (epoch seconds)")
def main(*, name: str, folder: Path, parent: str, count: int, deadline: float) -> int:
    """Runs trials of a study; started by tune."""
    config = load_config(str(folder / "config.yaml"))
    connect()
    study = open_study(os.environ[STORAGE_VARIABLE], name=name, tuning=config.tuning)
    panel = load_panel(folder / "panel")
    import_tensorflow()
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - tune does without

    run_trials(study, panel, config, parent=parent, count=count, seconds=deadline - time.time(), score=backtest)
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
    """Runs trials; settings that cannot be trained fail alone.

    Args:
        study: The Optuna study.
        panel: Sales to score on, walk-forward.
        config: Settings that each trial modifies.
        parent: The tuning run, parent of each trial's.
        count: Number of trials.
        score: The walk-forward backtest.
        seconds: Time after which none begins.

    Raises:
        RegistryError: The tracking store refuses a child run.
    """
    client, calendar = MlflowClient(), holiday_calendar(panel, config.data)

    def objective(trial: optuna.Trial) -> float:
        values = {} if trial.user_attrs.get(DEFAULT) else suggest(trial, config.tuning)
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

    try:
        experiment = client.get_run(parent).info.experiment_id  # fails before a trial starts that could have no run
        if seconds > 0:
            timeout = seconds if math.isfinite(seconds) else None
            study.optimize(objective, n_trials=count, timeout=timeout, catch=(PricingError,))
    except MlflowException as error:
        raise RegistryError(f"{redact_url(tracking_uri())}: {first_line(error)}") from error


def suggest(trial: optuna.Trial, tuning: TuningConfig) -> dict[str, Any]:
    """Suggests a value for every key of the search space; an integer where the setting is one."""
    values: dict[str, Any] = {}
    for key, space in tuning.space.items():
        if space is None:
            continue
        if isinstance(space, ChoicesConfig):
            values[key] = trial.suggest_categorical(key, list(space.choices))
        elif DemandConfig.model_fields[key].annotation is int:
            step = int(space.step or 1)
            values[key] = trial.suggest_int(key, int(space.low), int(space.high), step=step, log=space.log)
        else:
            values[key] = trial.suggest_float(key, space.low, space.high, step=space.step, log=space.log)
    return values


def _end(run_id: str, status: str, *, words: str) -> None:
    print(words, flush=True)
    if status == "FAILED":
        record_failure(run_id, words)
    else:
        MlflowClient().set_tag(run_id, "verdict", words)
    MlflowClient().set_terminated(run_id, status)


if __name__ == "__main__":
    sys.exit(main())
