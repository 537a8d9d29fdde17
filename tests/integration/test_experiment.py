"""Whoever starts a job, its run and its artifacts lie where those of the others do."""

from pathlib import Path

import pytest

from pricing.runtime import mlflow_runs
from tests.kit.mlflow_jobs import FOREIGN, place


def test_a_name_counts_for_more_than_a_number_and_artifacts_of_a_new_experiment_lie_beside_the_database(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, cwd = place(tmp_path / "store", template=empty_store), tmp_path / "clone"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here.uri)

    def option(**more: str) -> str:
        with monkeypatch.context() as given:
            for name, value in more.items():
                given.setenv(name, value)
            assert mlflow_runs.main([]) == 0
        return capsys.readouterr().out

    def number(name: str) -> str:
        return str(here.client.get_experiment_by_name(name).experiment_id)

    first, again = option(), option()
    autumn = option(MLFLOW_EXPERIMENT_NAME="autumn", MLFLOW_EXPERIMENT_ID="7")

    assert first == again == f"--experiment-id={number('pricing')}\n"
    assert autumn == f"--experiment-id={number('autumn')}\n"
    assert option(MLFLOW_EXPERIMENT_NAME="", MLFLOW_EXPERIMENT_ID="7") == "--experiment-id=7\n"
    beside = here.client.get_experiment_by_name("pricing").artifact_location
    assert beside == (here.folder / "mlartifacts" / "pricing").as_uri()
    assert list(cwd.iterdir()) == []
