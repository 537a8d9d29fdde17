"""Whoever starts a job, its run and its artifacts lie where those of the others do."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pricing.runtime.experiment import chosen_experiment, missing
from tests.kit.mlflow_jobs import ROOT, JobFolder, place


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


def test_only_a_local_database_can_lack_the_experiment(tmp_path: Path, empty_store: Path) -> None:
    here = place(tmp_path, template=empty_store)
    blank = tmp_path / "blank.db"
    blank.touch()

    assert missing("pricing", uri=here.uri)
    assert not missing("Default", uri=here.uri)
    assert missing("pricing", uri=f"sqlite:///{blank}")
    assert missing("pricing", uri=f"sqlite:///{tmp_path / 'none.db'}")
    assert not missing("pricing", uri="http://127.0.0.1:1")
    assert not (tmp_path / "none.db").exists()


def option(here: JobFolder, cwd: Path, **more: str) -> str:
    command = [sys.executable, "-m", "pricing.runtime.experiment"]
    environment = here.environment(PYTHONPATH=str(ROOT), **more)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_artifacts_of_a_new_experiment_lie_beside_the_database(tmp_path: Path) -> None:
    here, cwd = JobFolder(tmp_path / "store"), tmp_path / "clone"
    here.folder.mkdir()
    cwd.mkdir()

    assert option(here, cwd) == "--experiment-name=pricing\n"

    experiment = here.client.get_experiment_by_name("pricing")
    assert experiment is not None
    assert experiment.artifact_location == (here.folder / "mlartifacts" / "pricing").as_uri()
    assert list(cwd.iterdir()) == []


def test_an_experiment_that_is_there_is_found_without_mlflow(tmp_path: Path, empty_store: Path) -> None:
    here = place(tmp_path, template=empty_store)
    MlflowClient(tracking_uri=here.uri).create_experiment("autumn")
    with closing(sqlite3.connect(here.folder / "mlflow.db")) as store:
        before = store.execute("select count(*) from experiments").fetchone()

    code = (
        "import sys\nfrom pricing.runtime.experiment import main\n"
        "sys.exit(main([]) or 'mlflow' in sys.modules and 'mlflow was imported')"
    )
    environment = here.environment(MLFLOW_EXPERIMENT_NAME="autumn")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "--experiment-name=autumn\n"), done.stderr
    with closing(sqlite3.connect(here.folder / "mlflow.db")) as store:
        assert store.execute("select count(*) from experiments").fetchone() == before
