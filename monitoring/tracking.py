"""The MLflow run of a monitoring run. The only module here that imports mlflow."""

import datetime as dt
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from sqlalchemy.exc import SQLAlchemyError

from monitoring.rules import Past
from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url
from pricing.places import PARENT_VARIABLE, ROOT, tracking_uri
from pricing.probe import probe

EXPERIMENT = "pricing"


@contextmanager
def monitoring_run() -> Iterator[Run]:
    """Opens the run that `mlflow run` made, or a new one, and ends it FINISHED, or FAILED with the reason as a tag.

    Raises:
        RegistryError: The tracking store does not answer, or refuses.
    """
    probe(tracking_uri())
    mlflow.set_tracking_uri(tracking_uri())
    shown = redact_url(tracking_uri())
    try:
        try:
            run = _open()
        except (SQLAlchemyError, OSError) as error:
            raise RegistryError(f"{shown}: the tracking store cannot be opened: {first_line(error)}") from error
        try:
            yield run
        except BaseException as error:
            mlflow.set_tag("failure", f"{type(error).__name__}: {error}"[:4000])
            mlflow.end_run("FAILED")
            raise
        mlflow.end_run("FINISHED")
    except MlflowException as error:
        raise RegistryError(f"{shown}: {first_line(error)}") from error


def record(*, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path) -> None:
    """Writes figures, tags and every file of `folder` to the active run; figures that are not finite are left out."""
    mlflow.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)})
    mlflow.set_tags(dict(tags))
    mlflow.log_artifacts(str(folder))


def retrainings() -> list[tuple[dt.datetime, str]]:
    """The newest retrainings that anybody started, a person or the nightly job too, newest first: start and status.

    Every one is a run beside this one.
    """
    return [(_start(run), run.info.status) for run in _newest("tags.job = 'retrain'")]


def refreshed_by_night() -> dt.datetime | None:
    """When a night last carried states forward because its monitoring run asked for it against decay; None if never.

    The nightly job acts on what the run inside it found, of which monitoring's own memory knows nothing.
    """
    asked = _newest("tags.job = 'monitor' and tags.outcome = 'refresh'")
    nights = [_start(run) for run in asked if MLFLOW_PARENT_RUN_ID in run.data.tags and run.info.status == "FINISHED"]
    return max(nights, default=None)


def _newest(which: str) -> list[Run]:
    active = mlflow.active_run()
    if active is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(MlflowClient().search_runs([active.info.experiment_id], which, order_by=order, max_results=20))


def _start(run: Run) -> dt.datetime:
    return dt.datetime.fromtimestamp(run.info.start_time / 1000, dt.UTC)


def with_recorded(past: Past, runs: Sequence[tuple[dt.datetime, str]], *, refreshed: dt.datetime | None = None) -> Past:
    """Adds what others started: retrainings, as `retrainings` gives them, and a night's refresh against decay.

    A job that monitoring started and that failed before its run was opened is known to its memory alone, one that a
    person started to MLflow alone; one that both know counts once.
    """
    well = [start for start, status in runs if status == "FINISHED"] + [past.retrained]
    latest = max((start for start in well if start is not None), default=None)
    since = [(start, status) for start, status in runs if latest is None or start > latest]
    alone = [
        begin
        for begin, end in past.failures
        if (latest is None or begin > latest) and not any(begin <= start <= end for start, _ in since)
    ]
    failed = sum(status == "FAILED" for _, status in since) + len(alone)
    carried = [start for start in (past.refreshed, refreshed) if start is not None]
    return replace(past, retrained=latest, refreshed=max(carried, default=None), failed=failed)


def within_a_night() -> bool:
    """Whether another job started this run, as the nightly one does, and acts on what it finds."""
    return PARENT_VARIABLE in os.environ


def _open() -> Run:
    given = os.environ.pop("MLFLOW_RUN_ID", None)
    # With host and pid, the next job on this machine can close the run of one that was killed.
    tags = {"job": "monitor", "host": socket.gethostname(), "pid": str(os.getpid())}
    parent = os.environ.get(PARENT_VARIABLE)
    if given:
        return mlflow.start_run(run_id=given, tags={**tags, MLFLOW_RUN_NAME: "monitor"})
    tags |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
    return mlflow.start_run(experiment_id=_experiment(), run_name="monitor", tags=tags)


def _experiment() -> str:
    given, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if given and not name:
        return given
    client = MlflowClient()
    found = client.get_experiment_by_name(name or EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    local = tracking_uri() == f"sqlite:///{ROOT / 'mlflow.db'}"
    # Without a location a local store writes artifacts below whatever folder the command was issued in.
    return client.create_experiment(name or EXPERIMENT, (ROOT / "mlartifacts" / EXPERIMENT).as_uri() if local else None)
