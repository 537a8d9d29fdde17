import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pricing import __version__
from pricing.config import leaves, load_config
from pricing.errors import HistoryError, RegistryError
from pricing.paths import ROOT
from pricing.runtime import mlflow_runs
from pricing.runtime.mlflow_runs import code_version, connect, end_dead_runs, tracked_run
from tests.kit.mlflow_jobs import place
from tests.kit.price_api import Handler, price_api


@pytest.fixture(autouse=True)
def _here(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "PRICING_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(Path(store.removeprefix("sqlite:///")).parent)
    yield
    mlflow.set_tracking_uri(None)


def _read(run: Run) -> Run:
    return MlflowClient().get_run(run.info.run_id)


def test_a_run_carries_the_whole_configuration_the_code_and_the_environment(store: str) -> None:
    config = load_config()

    with tracked_run("train", config=config, reason="a test") as run:
        pass

    kept = _read(run)
    assert (Path(store.removeprefix("sqlite:///")).parent / "mlartifacts" / "pricing").is_dir()
    assert "mlartifacts/pricing" in run.info.artifact_uri
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {name: str(value) for name, value in leaves(config.model_dump(mode="json")).items()}
    assert kept.data.tags["job"] == "train"
    assert kept.data.tags["reason"] == "a test"
    assert kept.data.tags["code_version"] == code_version(ROOT)
    paths = {entry.path for entry in MlflowClient().list_artifacts(run.info.run_id, "environment")}
    assert paths == {"environment/machine.json", "environment/packages.txt"}


def test_a_failed_job_ends_its_run_failed_and_says_why_without_passwords() -> None:
    with pytest.raises(HistoryError), tracked_run("train") as run:
        raise HistoryError("postgresql://ann:hush@db/shop: 90 days")

    kept = _read(run)
    assert (kept.info.status, kept.data.tags["failure"]) == ("FAILED", "postgresql://***@db/shop: 90 days")


def test_a_job_that_mlflow_run_started_writes_into_the_run_that_was_made_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect()
    client = MlflowClient()
    experiment = client.create_experiment("other")
    made = client.create_run(experiment, tags={"mlflow.source.type": "PROJECT"})
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)

    with tracked_run("train") as run:
        pass

    assert run.info.run_id == made.info.run_id
    assert (_read(made).info.experiment_id, _read(made).info.status) == (experiment, "FINISHED")
    assert "MLFLOW_RUN_ID" not in os.environ


JOB = """
import sys, time
from pricing.runtime.cli import job
from pricing.runtime.mlflow_runs import tracked_run

@job("train", config=False)
def main():
    with tracked_run("train") as run:
        print(run.info.run_id, flush=True)
        time.sleep(60)

sys.exit(main([]))
"""


def test_a_stopped_job_ends_its_run_failed() -> None:
    job = subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert job.stdout is not None
    run = job.stdout.readline().strip()

    job.terminate()
    job.communicate()

    kept = MlflowClient().get_run(run)
    assert (job.returncode, kept.info.status, kept.data.tags["failure"]) == (143, "FAILED", "stopped by SIGTERM")


KILLED = """
import os, signal, sys
from pricing.runtime.mlflow_runs import tracked_run

with tracked_run("train") as run:
    print(run.info.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_of_killed_processes_are_ended_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    killed = done.stdout.split()[-1]
    before = MlflowClient().get_run(killed).info.status

    with tracked_run("nightly") as living:
        first = end_dead_runs()
        again = end_dead_runs()
        during = _read(living).info.status

    after = MlflowClient().get_run(killed)
    assert (before, after.info.status, "failure" in after.data.tags) == ("RUNNING", "KILLED", True)
    assert (first, again) == ([killed], [])
    assert (during, _read(living).info.status) == ("RUNNING", "FINISHED")
    assert not list((tmp_path / "home" / "locks" / "runs").iterdir())


def test_runs_of_other_machines_are_ended_once_no_job_lasts_so_long(store: str) -> None:
    connect()
    client = MlflowClient()
    hours_ago = {20: "RUNNING", 22: "KILLED"}
    place = mlflow_runs.experiment_id()
    began = {hours: int((time.time() - hours * 3600) * 1000) for hours in hours_ago}
    runs = {hours: client.create_run(place, start_time=start).info.run_id for hours, start in began.items()}

    ended = end_dead_runs()

    assert ended == [runs[22]]
    assert {hours: client.get_run(run_id).info.status for hours, run_id in runs.items()} == hours_ago


def test_no_commit_of_the_repository_around_an_installed_library_is_recorded(tmp_path: Path) -> None:
    commit = ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "shop"]
    for words in (["init", "-q"], commit):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)

    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", code_version(ROOT))
    assert code_version(tmp_path) == __version__


@pytest.mark.parametrize("scheme", ["postgresql", "http"])
def test_a_database_or_server_that_does_not_answer_is_named_without_its_password(scheme: str) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9") as caught:
        mlflow_runs.check_reachable(f"{scheme}://me:secret@127.0.0.1:9/x")

    assert "secret" not in str(caught.value)


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize("what", ["failure", "end"])
def test_a_server_that_is_gone_holds_up_a_failed_job_for_three_attempts(
    what: str, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    connect()
    run_id = mlflow.start_run().info.run_id
    with price_api(hang_up) as api:
        uri = api.url.removesuffix("/offers")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        try:
            if what == "failure":
                mlflow_runs.record_failure(run_id, "it broke")
            else:
                mlflow_runs._end(run_id, "FAILED")
        finally:
            mlflow.set_tracking_uri(store)
            mlflow.end_run()

    assert len(api.asked) == 3


def test_a_name_counts_for_more_than_a_number_and_artifacts_of_a_new_experiment_lie_beside_the_database(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, cwd = place(tmp_path / "store", template=empty_store), tmp_path / "clone"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
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
