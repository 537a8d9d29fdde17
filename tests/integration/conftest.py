"""Tracking stores: an empty one to copy, and none that a module of tests leaves behind for the next one."""

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its tables made, which takes seconds, for tests to copy."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


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
