"""No module of tests leaves a tracking store behind for the next one."""

import os
from collections.abc import Iterator

import mlflow
import pytest


@pytest.fixture(scope="module", autouse=True)
def tracking_store_forgotten() -> Iterator[None]:
    """Takes back what `mlflow.set_tracking_uri` did, to this process and to the environment that children inherit."""
    before = {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "PRICING_"))}
    yield
    mlflow.set_tracking_uri(None)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PRICING_"))]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def experiment_forgotten() -> None:
    """MLflow remembers the last experiment of a process by its number, whatever store comes next."""
    mlflow.tracking.fluent._active_experiment_id = None
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
