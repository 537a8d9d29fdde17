import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pricing.config import load_config
from pricing.errors import HistoryError, RegistryError
from pricing.paths import ROOT
from pricing.runtime.inputs import code_tags, flatten
from pricing.runtime.mlflow_runs import child_environment, connect, tracked_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


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
    assert kept.data.params == dict(flatten(config.model_dump(mode="json")))
    assert kept.data.tags["job"] == "train"
    assert kept.data.tags["reason"] == "a test"
    assert len(kept.data.tags["mlflow.source.git.commit"]) == 40
    paths = {entry.path for entry in MlflowClient().list_artifacts(run.info.run_id, "environment")}
    assert paths == {"environment/machine.json", "environment/packages.txt"}


@pytest.mark.parametrize(
    ("error", "said"),
    [(HistoryError("90 days of history"), "90 days of history"), (KeyboardInterrupt(), "interrupted (SIGINT)")],
)
def test_a_failed_job_ends_its_run_failed_and_says_why(error: BaseException, said: str) -> None:
    with pytest.raises(type(error)), tracked_run("train") as run:
        raise error

    kept = _read(run)
    assert (kept.info.status, kept.data.tags["failure"]) == ("FAILED", said)
    assert said in kept.data.tags["mlflow.note.content"]


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


def test_a_run_that_the_store_does_not_hold_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)

    with pytest.raises(RegistryError, match="0000"), tracked_run("train"):
        pass


def test_a_job_that_another_started_becomes_the_child_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with tracked_run("retrain") as parent:
        started = child_environment(parent)
    for name in ("PRICING_PARENT_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, started[name])

    with tracked_run("train") as child:
        pass

    assert "MLFLOW_RUN_ID" not in started
    assert _read(child).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.experiment_id == parent.info.experiment_id


def test_the_experiment_that_a_person_names_is_used_and_a_deleted_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "autumn")
    with tracked_run("train") as run:
        pass

    experiment = MlflowClient().get_experiment(run.info.experiment_id)
    MlflowClient().delete_experiment(experiment.experiment_id)

    assert experiment.name == "autumn"
    with pytest.raises(RegistryError, match="autumn"), tracked_run("train"):
        pass


def test_a_server_that_does_not_answer_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    with pytest.raises(RegistryError, match=r"http://127\.0\.0\.1:9: the tracking server does not answer"):
        connect()


def _start_job(body: str) -> "subprocess.Popen[str]":
    code = textwrap.dedent(
        f"""
        import sys, time
        from pricing.runtime.cli import job
        from pricing.runtime.mlflow_runs import tracked_run

        @job("train", config=False)
        def main():
            with tracked_run("train") as run:
                print(run.info.run_id, flush=True)
                {body}
            return 0

        sys.exit(main([]))
        """
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_sigterm_ends_the_run_failed_and_says_so() -> None:
    process = _start_job("time.sleep(60)")
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()

    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 143
    process.stdout.close()
    connect()
    run = MlflowClient().get_run(run_id)
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "stopped by SIGTERM")


def test_a_run_whose_process_was_killed_is_closed_by_the_next_one_and_one_that_lives_is_not() -> None:
    gone, alive = _start_job("time.sleep(60)"), _start_job("time.sleep(60)")
    runs = [process.stdout.readline().strip() for process in (gone, alive) if process.stdout is not None]
    gone.kill()
    gone.communicate()

    with tracked_run("train"):
        pass

    ended, living = (MlflowClient().get_run(run) for run in runs)
    assert (ended.info.status, living.info.status) == ("FAILED", "RUNNING")
    assert "killed" in ended.data.tags["failure"]
    alive.terminate()
    alive.communicate()


def test_a_project_run_whose_environment_was_never_built_is_closed_after_an_hour() -> None:
    with tracked_run("train") as run:
        client = MlflowClient()
        hours_ago = int((time.time() - 2 * 3600) * 1000)
        tags = {"mlflow.source.type": "PROJECT"}
        old, new, stranded, others = (
            client.create_run(experiment, start_time=begun, tags={**tags, "mlflow.source.name": source})
            for experiment, begun, source in (
                (run.info.experiment_id, hours_ago, "git"),
                (run.info.experiment_id, None, "git"),
                ("0", hours_ago, ROOT.as_uri()),
                ("0", hours_ago, "file:///of/another/project"),
            )
        )

    with tracked_run("train"):
        pass

    status = [_read(one).info.status for one in (old, new, stranded, others)]
    assert status == ["FAILED", "RUNNING", "FAILED", "RUNNING"]
    assert "environment" in _read(old).data.tags["failure"]


def test_no_commit_of_the_repository_around_an_installed_library_is_recorded(tmp_path: Path) -> None:
    commit = ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "shop"]
    for words in (["init", "-q"], commit):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)

    assert "mlflow.source.git.commit" in code_tags(ROOT)
    assert "mlflow.source.git.commit" not in code_tags(tmp_path)


def test_processor_and_memory_are_measured_with_a_run_that_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")

    with tracked_run("train", measures_system=True) as run:
        until = time.monotonic() + 30
        while not _read(run).data.metrics and time.monotonic() < until:
            time.sleep(0.1)

    assert "system/cpu_utilization_percentage" in _read(run).data.metrics


def test_without_psutil_a_run_goes_on_unmeasured_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)

    with (
        caplog.at_level("INFO", logger="pricing.runtime.mlflow_runs"),
        tracked_run("train", measures_system=True) as run,
    ):
        pass

    assert _read(run).info.status == "FINISHED"
    assert "are not logged with this run: pip install psutil" in caplog.text
