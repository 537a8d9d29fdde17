"""Whoever starts a job, its run and its artifacts lie where those of the others do."""

import subprocess
import sys
from pathlib import Path

from tests.kit.mlflow_jobs import ROOT, JobFolder


def option(here: JobFolder, cwd: Path, **more: str) -> str:
    command = [sys.executable, "-m", "pricing.runtime.mlflow_runs"]
    environment = here.environment(PYTHONPATH=str(ROOT), **more)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_name_counts_for_more_than_a_number_and_artifacts_of_a_new_experiment_lie_beside_the_database(
    tmp_path: Path,
) -> None:
    here, cwd = JobFolder(tmp_path / "store"), tmp_path / "clone"
    here.folder.mkdir()
    cwd.mkdir()

    printed = option(here, cwd)

    experiment = here.client.get_experiment_by_name("pricing")
    assert experiment is not None
    assert printed == option(here, cwd) == f"--experiment-id={experiment.experiment_id}\n"
    assert experiment.artifact_location == (here.folder / "mlartifacts" / "pricing").as_uri()
    assert list(cwd.iterdir()) == []
    autumn = option(here, cwd, MLFLOW_EXPERIMENT_NAME="autumn", MLFLOW_EXPERIMENT_ID="7")
    found = here.client.get_experiment_by_name("autumn")
    assert found is not None
    assert autumn == f"--experiment-id={found.experiment_id}\n"
    assert option(here, cwd, MLFLOW_EXPERIMENT_NAME="", MLFLOW_EXPERIMENT_ID="7") == "--experiment-id=7\n"
