"""Run a batch of trials of a tuning study, each as a child run in MLflow; started by tune, one process per batch."""

import argparse
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from pipelines.calendar import holiday_calendar
from pipelines.quiet import import_tensorflow
from pipelines.study import DEFAULT, STORAGE_VARIABLE, StudyError, begun, open_study, running_trial
from pricing.config import Config, load_config
from pricing.config_models import ChoicesConfig, DemandConfig, TuningConfig
from pricing.data.panel import Panel, load_panel
from pricing.errors import PricingError, RegistryError, first_line
from pricing.fileio import redact_url
from pricing.paths import tracking_uri
from pricing.runtime.cli import Options, run_main
from pricing.runtime.mlflow_runs import connect, describe, record_failure

if TYPE_CHECKING:
    from pricing.demand.backtest import Backtest

BacktestFunction = Callable[..., "Backtest"]


@dataclass(frozen=True)
class TrialBatch:
    """Work of one process.

    Attributes:
        parent: The tuning run, parent of each trial's run.
        count: Number of trials to run.
        budget: Total number of trials of the study.
        deadline: No trial starts after this time, seconds since 1970.
    """

    parent: str
    count: int
    budget: int
    deadline: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_trial, argv)


def _trial(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    connect()
    study = open_study(os.environ[STORAGE_VARIABLE], name=options.study, tuning=config.tuning)
    batch = TrialBatch(options.parent, options.count, options.budget, options.deadline)
    panel = load_panel(options.panel)
    import_tensorflow()
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - tune does without

    run_batch(study, panel, config, batch=batch, score=backtest)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = Options("python -m pipelines.trial", "Runs a batch of trials of a study; started by tune.")
    options.add_argument("--study", required=True, metavar="NAME", help="the study's name")
    options.add_argument("--panel", required=True, type=Path, metavar="DIR", help="the panel to score on")
    options.add_argument("--config", required=True, metavar="FILE", help="the configuration that trials depart from")
    options.add_argument("--parent", required=True, metavar="RUN", help="the tuning run")
    options.add_argument("--count", type=int, default=1, help="trials to run")
    options.add_argument("--budget", type=int, default=sys.maxsize, help="trials that the study may have")
    options.add_argument("--deadline", type=float, default=math.inf, help="begin none after this time (epoch seconds)")
    return options.parse(argv)


def run_batch(study: optuna.Study, panel: Panel, config: Config, *, batch: TrialBatch, score: BacktestFunction) -> None:
    """Runs trials until the batch, the study's budget or the time is used up.

    Args:
        study: The Optuna study.
        panel: Sales to score on, walk-forward.
        config: Settings that each trial modifies.
        batch: Number of trials and limits.
        score: The walk-forward backtest.

    Raises:
        RegistryError: The tracking store refuses a child run.
    """
    try:
        MlflowClient().get_run(batch.parent)  # fails before a trial starts that could have no run
        for _ in range(batch.count):
            if time.time() >= batch.deadline or begun(study) >= batch.budget:
                return
            _run(study, panel, config, parent=batch.parent, score=score)
    except MlflowException as error:
        raise RegistryError(f"{redact_url(tracking_uri())}: {first_line(error)}") from error


def _run(study: optuna.Study, panel: Panel, config: Config, *, parent: str, score: BacktestFunction) -> None:
    with running_trial(study) as trial:
        values: dict[str, Any] = {} if trial.user_attrs.get(DEFAULT) else suggest(trial, config.tuning)
        demand = DemandConfig.model_validate({**config.demand.model_dump(), **values})
        child = _Child(parent, number=trial.number, values=values or {"settings": DEFAULT})
        trial.set_user_attr("run_id", child.run_id)
        _tried(study, trial, panel=panel, config=config.model_copy(update={"demand": demand}), child=child, score=score)


def _tried(
    study: optuna.Study, trial: optuna.Trial, *, panel: Panel, config: Config, child: "_Child", score: BacktestFunction
) -> None:
    """Scores one trial's settings and reports the result to the study and to the trial's MLflow run."""
    scores: list[float] = []

    def on_fold(_number: int, fold: Mapping[str, Any]) -> None:
        scores.append(float(fold["wape"]))
        so_far = sum(scores) / len(scores)
        child.log("fold/wape", scores[-1], step=len(scores))
        trial.report(so_far, len(scores))
        if not trial.user_attrs.get(DEFAULT) and len(scores) < config.demand.folds and trial.should_prune():
            raise optuna.TrialPruned(f"WAPE {so_far:.3f} after fold {len(scores)} of {config.demand.folds}")

    started = time.monotonic()
    calendar = holiday_calendar(panel, config.data)
    try:
        wape = float(score(panel, config.demand, calendar=calendar, on_fold=on_fold).figures["wape"])
        if not math.isfinite(wape):
            raise StudyError(f"its score is {wape}: nothing was sold on the scored days")
        child.log("wape", wape)
        study.tell(trial, wape)
        child.end("FINISHED", words=f"WAPE {wape:.4f} in {time.monotonic() - started:.0f} s")
    except optuna.TrialPruned as pruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        child.end("KILLED", words=f"pruned: {pruned}")
    except PricingError as error:  # these settings cannot be trained; others may
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        child.end("FAILED", words=str(error))
    except BaseException as error:
        # Another process failed this trial after a heartbeat timeout and runs its settings now.
        lost = isinstance(error, UpdateFinishedTrialError | ValueError) and _ended(study, trial)
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        child.end("FAILED", words="taken for lost, and tried again elsewhere" if lost else describe(error))
        if not lost:
            raise


def _ended(study: optuna.Study, trial: optuna.Trial) -> bool:
    found = study.get_trials(deepcopy=False)[trial.number]
    return found.state.is_finished()


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


class _Child:
    """A trial's MLflow run. Uses the client API: a fluent nested run would end FAILED when the trial is pruned."""

    def __init__(self, parent: str, *, number: int, values: Mapping[str, Any]) -> None:
        self._client = MlflowClient()
        self._label = f"trial {number}"
        experiment = self._client.get_run(parent).info.experiment_id
        tags = {
            MLFLOW_PARENT_RUN_ID: parent,
            MLFLOW_RUN_NAME: self._label,
            "job": "trial",
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
        }
        self.run_id = str(self._client.create_run(experiment, run_name=self._label, tags=tags).info.run_id)
        params = [Param(name, str(value)) for name, value in values.items()]
        self._client.log_batch(self.run_id, params=params, tags=[RunTag("trial", str(number))])

    def log(self, name: str, value: float, *, step: int = 0) -> None:
        self._client.log_batch(self.run_id, metrics=[Metric(name, value, int(time.time() * 1000), step)])

    def end(self, status: str, *, words: str) -> None:
        print(f"{self._label}: {words}", flush=True)
        try:
            if status == "FAILED":
                record_failure(self.run_id, words)
            else:
                self._client.set_tag(self.run_id, "verdict", words)
                self._client.set_tag(self.run_id, MLFLOW_RUN_NOTE, words)
            self._client.set_terminated(self.run_id, status)
        except MlflowException as error:
            print(f"{self._label}: its run could not be ended: {first_line(error)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
