"""The MLflow run of a monitoring run. The only module here that imports mlflow."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from monitoring.cli import ROOT
from pricing.errors import RegistryError

_log = logging.getLogger(__name__)

EXPERIMENT = "pricing"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db at the root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


@contextmanager
def monitoring_run() -> Iterator[str]:
    """Opens the run that `mlflow run` made, or a new one, yields its id, and ends it FINISHED, or FAILED and says why.

    Raises:
        RegistryError: The tracking store does not answer, or refuses.
    """
    mlflow.set_tracking_uri(tracking_uri())
    try:
        given = os.environ.pop("MLFLOW_RUN_ID", None)
        tags = {"job": "monitor"}
        parent = os.environ.get("PRICING_PARENT_RUN_ID")
        if given:
            run = mlflow.start_run(run_id=given, tags={**tags, MLFLOW_RUN_NAME: "monitor"})
        else:
            tags |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
            run = mlflow.start_run(experiment_id=_experiment(), run_name="monitor", tags=tags)
        try:
            yield run.info.run_id
        except BaseException as error:
            mlflow.set_tag("failure", f"{type(error).__name__}: {error}"[:4000])
            mlflow.end_run("FAILED")
            raise
        mlflow.end_run("FINISHED")
    except MlflowException as error:
        raise RegistryError(f"{tracking_uri()}: {str(error).strip().splitlines()[0]}") from error


def record(*, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path) -> None:
    """Writes figures, tags and every file of `folder` to the active run; figures that are not finite are left out."""
    mlflow.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)})
    mlflow.set_tags(dict(tags))
    mlflow.log_artifacts(str(folder))


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
