"""Open the MLflow run around a job with all that went into it, and always end it, FINISHED or FAILED.

Also check that the tracking store is reachable (fails in seconds; MLflow itself retries for minutes). As a program it
prints the option that lets `mlflow run` write into the jobs' experiment: by itself it takes `Default`, in ./mlruns.
"""

import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import click
import httpx2
import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
)
from sqlalchemy.exc import SQLAlchemyError

from pricing import __version__
from pricing.config import Config, leaves
from pricing.data.panel import Panel
from pricing.errors import LockError, PricingError, RegistryError, Terminated, first_line
from pricing.fileio import redact_text, redact_url
from pricing.paths import (
    CHECKOUT,
    CODE,
    PARENT_VARIABLE,
    SQLITE,
    pricing_home,
    tracking_uri,
)
from pricing.registry.database import database_errors, open_engine
from pricing.runtime.cli import job
from pricing.runtime.locks import file_lock

_log = logging.getLogger(__name__)

EXPERIMENT = "pricing"  # of all jobs
_FAILURE_CHARACTERS = 4000
_PARAMETER_CHARACTERS = 6000  # of a parameter that MLflow stores
_DIGEST_CHARACTERS = 36
_SECONDS = 5
_LONGEST_HOURS = 21  # of a job on another machine: on AWS they are ended after 20
_DATABASES = ("postgresql", "mysql", "mssql")  # those that MLflow supports, besides SQLite


def connect() -> str:
    """Checks the tracking store, sets it in MLflow for this process and those it starts, and returns its URI.

    Raises:
        RegistryError: A tracking server or database is named and does not answer within 5 seconds, or cannot be one.
    """
    uri = tracking_uri()
    check_reachable(uri)
    mlflow.set_tracking_uri(uri)
    return uri


@contextmanager
def tracked_run(job: str, *, config: Config | None = None, reason: str | None = None) -> Iterator[Run]:
    """Opens the MLflow run of a job and ends it FINISHED, or FAILED with the reason in its tag `failure`.

    The run is the one that `mlflow run` made (MLFLOW_RUN_ID), else a new one in `experiment_id`; it becomes the child
    of the run of the job that started this one, if any. The whole configuration, the code's version and the environment
    are recorded.
    It is the active run meanwhile, so that mlflow.log_* write to it. That of a training has processor, memory and disk
    as metrics (`system/…`).

    Raises:
        RegistryError: The tracking store does not answer, or refuses what is written.
    """
    connect()
    try:
        try:
            run = _open(job, reason=reason)
        except (SQLAlchemyError, OSError) as error:
            shown = redact_url(tracking_uri())
            raise RegistryError(f"{shown}: the tracking store cannot be opened: {first_line(error)}") from error
        run_id = run.info.run_id
        with ExitStack() as locked:
            with suppress(OSError, LockError):  # a home that takes no file, or no lock
                locked.enter_context(_marked_alive(run_id))
            try:
                if config is not None:
                    log_config(config)
                log_environment()
                yield run
            except BaseException as error:
                record_failure(run_id, describe(error))
                _end(run_id, "FAILED")
                raise
            _end(run_id, "FINISHED")
    except MlflowException as error:
        raise RegistryError(f"{redact_url(tracking_uri())}: {first_line(error)}") from error


@contextmanager
def _marked_alive(run_id: str) -> Iterator[None]:
    """Holds a lock in the file of a run, which is free once the process, and all that it forked, has ended.

    A file that is there was locked before it got its name, so that nobody finds it free too early.
    """
    draft = _alive_file(f".{run_id}")
    with file_lock(draft, job=run_id):
        draft.rename(_alive_file(run_id))
        yield


def _alive_file(name: str) -> Path:
    return pricing_home() / "locks" / "runs" / name


def end_dead_runs() -> list[str]:
    """Ends runs that stand as RUNNING though their process was killed, as KILLED, and returns their IDs.

    They are those of this PRICING_HOME whose lock is free, see `_marked_alive`, and of other machines those older than
    any job may be.
    """
    client = MlflowClient()
    ended = []
    for file in sorted(_alive_file("").glob("[!.]*")):
        try:
            with file_lock(file, job=file.name):
                if client.get_run(file.name).info.status == "RUNNING":
                    record_failure(file.name, "its process was killed")
                    client.set_terminated(file.name, "KILLED")
                    ended.append(file.name)
                file.unlink()
        except LockError:
            continue
        except MlflowException as error:
            _log.warning("run %s, whose process was killed, is not ended: %s", file.name, first_line(error))
    return ended + _end_old_runs(client)


def _end_old_runs(client: MlflowClient) -> list[str]:
    """Ends runs of the experiment that no job lives long enough for, but for those that are alive here."""
    oldest = int((time.time() - _LONGEST_HOURS * 3600) * 1000)
    about = f"attributes.status = 'RUNNING' and attributes.start_time < {oldest}"
    old = [run.info.run_id for run in client.search_runs([experiment_id()], about)]
    ended = [run_id for run_id in old if not _alive_file(run_id).exists()]
    for run_id in ended:
        record_failure(run_id, f"its process was killed, or lasts over {_LONGEST_HOURS} hours")
        client.set_terminated(run_id, "KILLED")
    return ended


def record_failure(run_id: str, reason: str) -> None:
    """Records in a run why it failed. A store that does not answer is only logged: the first error stays visible."""
    shown = redact_text(reason)[:_FAILURE_CHARACTERS]
    try:
        mlflow.set_tracking_uri(tracking_uri())
        client = MlflowClient()
        client.set_tag(run_id, "failure", shown)
        client.set_tag(run_id, MLFLOW_RUN_NOTE, f"**Failed.** {shown}")
    except MlflowException as error:
        _log.warning("run %s: its failure could not be recorded: %s", run_id, first_line(error))


def set_tag(run_id: str, name: str, value: str) -> None:
    """Sets a tag of a run that may have ended; a store that does not answer is only logged."""
    try:
        MlflowClient().set_tag(run_id, name, value[:_FAILURE_CHARACTERS])
    except MlflowException as error:
        _log.warning("run %s: the tag %s could not be set: %s", run_id, name, first_line(error))


def last_run() -> Run | None:
    """The run that was opened last in this process, as it stands now; None where there is none to be read."""
    try:
        return mlflow.last_active_run()
    except (MlflowException, SQLAlchemyError, OSError) as error:
        _log.warning("the run of this job cannot be read: %s", first_line(error))
        return None


def set_run_description(words: str) -> None:
    """Sets the active run's description, which MLflow shows first."""
    mlflow.set_tag(MLFLOW_RUN_NOTE, words)


def name_run(words: str) -> None:
    """Names the active run after its outcome, so that a list of runs reads as a history."""
    run = mlflow.active_run()
    if run is not None:
        MlflowClient().update_run(run.info.run_id, name=words)


def artifact_place(run: Run, name: str) -> str:
    """Where a person finds an artifact of a run: its path on this machine, or the run that has it in MLflow's pages."""
    address = urlsplit(run.info.artifact_uri)
    if address.scheme in ("", "file"):
        return str(Path(url2pathname(address.path)) / name)
    return f"{name} of run {run.info.run_id} on {redact_url(tracking_uri())}"


def child_environment(run: Run) -> dict[str, str]:
    """Makes the environment for a job that is started as a subprocess: its run becomes a child of this one."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    environment["MLFLOW_TRACKING_URI"] = tracking_uri()
    environment["MLFLOW_EXPERIMENT_ID"] = run.info.experiment_id
    environment.pop("MLFLOW_EXPERIMENT_NAME", None)
    environment[PARENT_VARIABLE] = run.info.run_id
    environment["PRICING_HOME"] = str(pricing_home())
    if CHECKOUT:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CODE), environment.get("PYTHONPATH")]))
    return environment


def describe(error: BaseException) -> str:
    """Describes in one sentence why a job ended."""
    if isinstance(error, Terminated):
        return "stopped by SIGTERM"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (SIGINT)"
    if isinstance(error, (PricingError, click.ClickException)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _open(job: str, *, reason: str | None) -> Run:
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    parent = os.environ.get(PARENT_VARIABLE)
    tags = {"job": job, "host": socket.gethostname(), "code_version": code_version(CODE), MLFLOW_RUN_NAME: job}
    if reason:
        tags["reason"] = reason
    if parent and run_id is None:
        tags[MLFLOW_PARENT_RUN_ID] = parent
    experiment = experiment_id() if run_id is None else None
    return mlflow.start_run(run_id, experiment, run_name=job, tags=tags, log_system_metrics=job == "train")


def experiment_id() -> str:
    """The ID of the jobs' experiment, which is made where it is not there yet.

    It is that of MLFLOW_EXPERIMENT_NAME, else MLFLOW_EXPERIMENT_ID, else that of EXPERIMENT.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if given and not name:
        return given
    name = name or EXPERIMENT
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, _artifacts(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process made it between the two calls
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise RegistryError(f"experiment {name!r} was deleted; restore it, or set MLFLOW_EXPERIMENT_NAME to another")
    return str(found.experiment_id)


def runs_of(which: str, *, model: str, most: int = 20) -> list[Run]:
    """The newest runs about a registered model, in whichever experiment: `mlflow run` may have put some into another.

    `which` is an MLflow filter, such as "tags.job = 'retrain'".
    """
    places = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    about = f"{which} and params.`registry.model_name` = '{model}'"
    return list(MlflowClient().search_runs(places, about, order_by=["attributes.start_time DESC"], max_results=most))


def _artifacts(experiment: str) -> str | None:
    """The artifact folder beside a local database; MLflow would use ./mlruns of the working directory."""
    uri = tracking_uri()
    if not uri.startswith(SQLITE):
        return None
    database = Path(uri.removeprefix(SQLITE)).resolve()
    return (database.parent / "mlartifacts" / experiment).as_uri()


def _end(run_id: str, status: str) -> None:
    try:
        mlflow.end_run(status)
        _alive_file(run_id).unlink(missing_ok=True)
    except MlflowException as error:
        _log.warning("the run could not be ended as %s: %s", status, first_line(error))


def log_config(config: Config) -> None:
    """Records the whole configuration in the active run: each key a parameter, and all of it as config.yaml."""
    values = config.model_dump(mode="json")
    mlflow.log_params({name: str(value)[:_PARAMETER_CHARACTERS] for name, value in leaves(values).items()})
    mlflow.log_dict(values, "config.yaml")


def log_data(panel: Panel, *, sales: str) -> str:
    """Records a panel as the active run's dataset input, without passwords of its source; returns its fingerprint."""
    where = redact_url(sales)
    digest = fingerprint(panel)
    source = CodeDatasetSource({"sales": where})
    name = Path(where).name or where
    dataset = MetaDataset(source, name=name, digest=digest)  # type: ignore[abstract]  # as MLflow's own example
    mlflow.log_input(dataset, context="training")
    size = f"{len(panel.product_ids)} products × {len(panel.dates)} {panel.period}s"
    data = f"{size}, {panel.dates[0]} to {panel.dates[-1]}"
    mlflow.set_tags({"sales": where, "data_fingerprint": digest, "data": data, **panel.lineage})
    return digest


def describe_data(panel: Panel, *, sales: str, fingerprint: str) -> dict[str, object]:
    """Describes the data of a model version, with its rows' lineage, as stored in it; passwords are left out."""
    return {
        "fingerprint": fingerprint,
        "source": redact_url(sales),
        "rows": int(panel.present.sum()),
        "first_date": str(panel.dates[0]),
        "last_date": str(panel.dates[-1]),
        **panel.lineage,
    }


def fingerprint(panel: Panel) -> str:
    """Hashes every array of a panel: equal data, equal fingerprint, whatever file it came from."""
    digest = hashlib.sha256(panel.period.encode())
    for field in fields(panel):
        value = getattr(panel, field.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{field.name}{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:_DIGEST_CHARACTERS]


def code_version(root: Path) -> str:
    """Identifies the running code: its commit, with -dirty where files differ; without git, the package's version.

    Args:
        root: Folder of the packages. Where it is no checkout of this project, git would report the commit of whatever
            repository the environment lies in, so it is not asked.
    """
    if (root / "MLproject").is_file() and shutil.which("git"):
        words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return __version__


def log_environment() -> None:
    """Records the machine and every installed package's version in the active run."""
    machine = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
    }
    packages = sorted(f"{item.name}=={item.version}" for item in importlib.metadata.distributions())
    mlflow.log_dict(machine, "environment/machine.json")
    mlflow.log_text("\n".join(packages) + "\n", "environment/packages.txt")


def check_reachable(uri: str) -> None:
    """Checks that a tracking server or database is reachable; a URI of another kind is left to MLflow.

    Raises:
        RegistryError: It does not answer within 5 seconds, or cannot be one.
    """
    if uri.startswith(("http://", "https://")):
        try:
            httpx2.get(f"{uri.rstrip('/')}/health", timeout=_SECONDS)  # whether it lets us in shows at the first call
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RegistryError(
                f"{redact_url(uri)}: the tracking server does not answer ({type(error).__name__}); start it, or unset "
                "MLFLOW_TRACKING_URI to work on this machine alone"
            ) from error
    elif "://" in uri and uri.partition("://")[0].partition("+")[0] in _DATABASES:
        with database_errors(f"{redact_url(uri)}: the tracking store"):
            open_engine(uri).connect().close()


@job("experiment", config=False)
def main() -> int:
    """Prints the option that names the jobs' experiment."""
    connect()
    print(f"--experiment-id={experiment_id()}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
