"""Whoever starts a job, its run and its artifacts lie where those of the others do."""

import subprocess
import sys
from pathlib import Path

import pytest

from pricing.runtime.experiment import chosen_experiment
from tests.kit.mlflow_jobs import ROOT, JobFolder


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, ("pricing", None)),
        ({"MLFLOW_EXPERIMENT_NAME": "", "MLFLOW_EXPERIMENT_ID": ""}, ("pricing", None)),
        ({"MLFLOW_EXPERIMENT_ID": "7"}, ("pricing", "7")),
        ({"MLFLOW_EXPERIMENT_NAME": "autumn", "MLFLOW_EXPERIMENT_ID": "7"}, ("autumn", None)),
    ],
)
def test_a_name_counts_for_more_than_a_number(environment: dict[str, str], chosen: tuple[str, str | None]) -> None:
    assert chosen_experiment(environment) == chosen


def option(here: JobFolder, cwd: Path, **more: str) -> str:
    command = [sys.executable, "-m", "pricing.runtime.experiment"]
    environment = here.environment(PYTHONPATH=str(ROOT), **more)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_artifacts_of_a_new_experiment_lie_beside_the_database(tmp_path: Path) -> None:
    here, cwd = JobFolder(tmp_path / "store"), tmp_path / "clone"
    here.folder.mkdir()
    cwd.mkdir()

    printed = option(here, cwd)

    experiment = here.client.get_experiment_by_name("pricing")
    assert experiment is not None
    assert printed == option(here, cwd) == f"--experiment-id={experiment.experiment_id}\n"
    assert experiment.artifact_location == (here.folder / "mlartifacts" / "pricing").as_uri()
    assert list(cwd.iterdir()) == []
