"""Share an Optuna study between machines: retry lost trials, and let exactly one process conclude it."""

import copy
import datetime as dt
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pricing.config_models import TuningConfig
from pricing.errors import PricingError, first_line
from pricing.fileio import redact_url
from pricing.paths import process_alive
from pricing.runtime.mlflow_runs import record_failure

STORAGE_VARIABLE = "PRICING_TUNING_STORAGE"
DEFAULT = "default"
RETRIES = 2  # settings whose trial was lost three times are not tried again
UNSIGNED = dt.timedelta(minutes=5)  # a running trial without host and pid is lost after this time
_BEATS = 4  # heartbeats within the time after which a machine counts as lost
_CLAIM = "claim"


class StudyError(PricingError):
    """A tuning study that cannot be opened, belongs to other data, or has no scored trial."""


def open_study(storage: str, *, name: str, tuning: TuningConfig) -> optuna.Study:
    """Opens or creates a study: minimised, TPE sampler, median pruner over the folds so far.

    Args:
        storage: A database URL, or the path of a journal file on this machine.
        name: The study's name.
        tuning: Supplies the number of start-up trials of sampler and pruner, and the heartbeat timeout.

    Raises:
        StudyError: The storage is unreachable or invalid.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _unexperimental():
            return optuna.create_study(
                study_name=name,
                storage=_open_storage(storage, tuning),
                direction="minimize",
                # Unseeded: with equal seeds, parallel processes would draw equal trials.
                sampler=optuna.samplers.TPESampler(n_startup_trials=tuning.startup),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=tuning.startup),
                load_if_exists=True,
            )
    except (OSError, ValueError, ImportError, SQLAlchemyError, RuntimeError) as error:
        raise StudyError(f"tuning storage {redact_url(storage)} cannot be opened: {first_line(error)}") from error


def _open_storage(storage: str, tuning: TuningConfig) -> optuna.storages.BaseStorage:
    if "://" not in storage:
        Path(storage).parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(storage))
    silent = tuning.silent_seconds
    return RDBStorage(
        storage,
        heartbeat_interval=max(silent // _BEATS, 1),
        grace_period=silent,
        heartbeat_stale_trial_callback=_try_again,
    )


def begun(study: optuna.Study) -> int:
    """Counts the started trials on all machines, without those that were retried."""
    trials = study.get_trials(deepcopy=False)
    with _unexperimental():
        again = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
    return sum(trial.state is not TrialState.WAITING and trial.number not in again for trial in trials)


def retry_lost_trials(study: optuna.Study) -> None:
    """Fails lost trials and enqueues their settings again.

    A trial is lost when its process on this machine is gone, or its heartbeat in a shared database has timed out.
    """
    with _unexperimental():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _dead(trial):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # another process has failed it already
            _try_again(study, trial)


def _dead(trial: FrozenTrial) -> bool:
    if "host" not in trial.user_attrs:  # its process ended, or has not yet set host and pid
        started = trial.datetime_start
        return started is not None and dt.datetime.now() - started > UNSIGNED
    here = trial.user_attrs["host"] == socket.gethostname()
    return here and not process_alive(int(trial.user_attrs.get("pid", 0)))


def _try_again(study: optuna.Study, trial: FrozenTrial) -> None:
    if _CLAIM in trial.user_attrs:
        return
    again = copy.deepcopy(trial)
    again.user_attrs = {name: value for name, value in trial.user_attrs.items() if name == DEFAULT}
    with _unexperimental():
        tries = len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) + 1
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, again)
    host = trial.user_attrs.get("host", "its machine")
    then = "its settings are tried again" if tries <= RETRIES else f"after {tries} tries its settings are left alone"
    words = f"cut off, and nothing more was heard of it from {host}; {then}"
    print(f"trial {trial.number}: {words}", flush=True)
    run_id = trial.user_attrs.get("run_id")
    if run_id is not None:
        record_failure(run_id, words)
        try:
            MlflowClient().set_terminated(run_id, "FAILED")
        except MlflowException as error:
            print(f"trial {trial.number}: its run could not be ended: {first_line(error)}", flush=True)


def others(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the running trials: all of a database with heartbeats, those of this machine for a journal file."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    here, watched = socket.gethostname(), _interval(study) is not None
    return [trial for trial in running if watched or trial.user_attrs.get("host") == here]


def _interval(study: optuna.Study) -> int | None:
    """Returns the heartbeat interval in seconds; None where the storage has no heartbeat (a journal file)."""
    storage: Any = study._storage
    return storage.get_heartbeat_interval() if hasattr(storage, "get_heartbeat_interval") else None


@contextmanager
def running_trial(study: optuna.Study) -> Iterator[optuna.Trial]:
    """Asks the study for a trial, stores this host and pid in it, and sends heartbeats while the block runs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # sent below
        trial = study.ask()
    storage: Any = study._storage
    number, interval, done = trial._trial_id, _interval(study), threading.Event()

    def beat() -> None:
        while not done.wait(interval):
            try:
                storage.record_heartbeat(number)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:  # the next one may succeed
                print(f"trial {trial.number}: no sign of life could be given: {first_line(error)}", flush=True)

    if interval is not None:
        storage.record_heartbeat(number)
    trial.set_user_attr("pid", os.getpid())
    trial.set_user_attr("host", socket.gethostname())  # last: readers that find it expect the pid
    if interval is None:
        yield trial
        return
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield trial
    finally:
        done.set()
        thread.join()


@dataclass
class Claim:
    """A claim to conclude a study.

    Attributes:
        mine: True when this process may conclude it.
        who: Description of the process that concludes or has concluded it; empty when it is this process.
        outcome: Result in a sentence, set by the process that concludes.
    """

    mine: bool
    who: str = ""
    outcome: str = ""


@contextmanager
def conclusion(study: optuna.Study, *, run_id: str, tuning: TuningConfig, storage: str) -> Iterator[Claim]:
    """Claims the right to conclude a study; exactly one of several concurrent processes gets it.

    Claims are trials of a second study, whose storage numbers them in order: the lowest one that neither failed nor
    was lost wins. A claim whose block raises is marked as failed, so that a rerun can conclude.

    Args:
        study: The study, all of whose trials have ended.
        run_id: The claimant's tuning run, shown to the others.
        tuning: As for `open_study`.
        storage: The study's storage.
    """
    claims = open_study(storage, name=f"{study.study_name}: concluded after {begun(study)}", tuning=tuning)
    with running_trial(claims) as trial:
        trial.set_user_attr(_CLAIM, run_id)
        retry_lost_trials(claims)
        before = [one for one in claims.get_trials(deepcopy=False) if one.number < trial.number]
        holder = next((one for one in before if one.state in (TrialState.COMPLETE, TrialState.RUNNING)), None)
        if holder is not None:
            claims.tell(trial, state=TrialState.FAIL)
            yield Claim(False, _said(holder))
            return
        claim = Claim(True)
        try:
            yield claim
        except BaseException:
            claims.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise
        trial.set_user_attr("outcome", claim.outcome)
        claims.tell(trial, 0.0, skip_if_finished=True)


def _said(holder: FrozenTrial) -> str:
    attrs = holder.user_attrs
    who = f"{attrs.get('host', 'another machine')} (run {attrs.get(_CLAIM, 'unknown')})"
    if holder.state is TrialState.RUNNING:
        since = holder.datetime_start or dt.datetime.now()
        return f"{who} is concluding it since {since:%Y-%m-%d %H:%M}"
    return f"concluded by {who}: {attrs.get('outcome', 'no outcome was recorded')}"


@contextmanager
def _unexperimental() -> Iterator[None]:
    """Suppresses Optuna's warning that its heartbeat is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
