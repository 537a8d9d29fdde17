import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Run

from pipelines import nightly
from pricing.errors import EXIT_REFUSED
from tests.kit.mlflow_jobs import JobFolder, moved, place, write_config, write_sales


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sales(tmp_path_factory.mktemp("sales") / "all.csv", products=4, days=122, moves=False)


@pytest.fixture
def here(tmp_path: Path, empty_store: Path) -> JobFolder:
    return place(tmp_path, template=empty_store)


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, sales: Path) -> JobFolder:
    """A shop after its first night: version 1, trained on 110 days, is the champion."""
    there = place(tmp_path_factory.mktemp("shop"), template=empty_store)
    settings = str(write_config(there.folder / "tiny.yaml", auto_promote=True))
    old = _until(sales, there.folder / "old.csv", days=110)
    done = there.run("nightly", "--sales", old, "--config", settings)
    assert done.code == 0, done.err
    assert "there is no champion yet" in done.out
    return there


def _until(sales: Path, where: Path, *, days: int) -> str:
    frame = pd.read_csv(sales)
    frame[frame["date"] <= sorted(frame["date"].unique())[days - 1]].to_csv(where, index=False)
    return str(where)


def _status(here: JobFolder, job: str) -> list[str]:
    runs = sorted(here.runs(job=job), key=lambda run: run.info.start_time)
    return [run.info.status for run in runs]


@pytest.mark.parametrize(
    ("auto", "refused_by", "code", "ends", "verdict"),
    [
        (True, "", 0, 0, "promoted"),
        (True, "fresh", EXIT_REFUSED, 0, "kept the champion: a gate"),
        (True, "not_rejected", EXIT_REFUSED, EXIT_REFUSED, "kept the champion: refused by not_rejected"),
        (False, "", 0, 0, "left to a person"),
    ],
)
def test_a_retraining_ends_as_its_promotion(
    here: JobFolder, monkeypatch: pytest.MonkeyPatch, auto: bool, refused_by: str, code: int, ends: int, verdict: str
) -> None:
    for name, value in here.environment().items():
        monkeypatch.setenv(name, value)

    def job(module: str, options: Sequence[str], *, run: Run, **_: Any) -> int:
        told = {"train": {"version": "3"}, "promote": {"refused_by": refused_by}}.get(module, {})
        tags = {"mlflow.parentRunId": run.info.run_id, "job": module}
        here.client.create_run(run.info.experiment_id, tags=tags | told)
        return code if module == "promote" else 0

    settings = str(write_config(here.folder / "tiny.yaml", auto_promote=auto))
    arguments = ["--sales", "sales.csv", "--config", settings]
    assert nightly.retrain(arguments, start=job) == ends

    (run,) = here.runs(job="retrain")
    assert run.data.tags["verdict"].startswith(verdict)


@pytest.mark.slow
def test_nights_retrain_first_then_carry_states_forward_and_may_be_repeated(
    first_night: JobFolder, sales: Path, tmp_path: Path
) -> None:
    here = moved(first_night.folder, tmp_path / "here")
    settings, first = str(here.folder / "tiny.yaml"), str(here.folder / "old.csv")
    later = _until(sales, here.folder / "later.csv", days=116)
    assert here.aliases()["champion"] == "1"

    again = here.run("nightly", "--sales", first, "--config", settings)
    assert again.code == 0, again.err
    assert here.aliases()["champion"] == "1"
    assert "nothing to do" in again.out

    for stage in ("refresh", "promote"):
        process = here.start("nightly", "--sales", later, "--config", settings)
        assert process.stdout is not None
        while f"--- {stage}" not in process.stdout.readline():
            pass
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait(60)
        assert here.aliases()["champion"] == "1"
    assert here.aliases()["challenger"] == "2", "the second of these nights had carried states forward"

    # Some nights were missed meanwhile; the next one catches up.
    two = here.run("nightly", "--sales", later, "--config", settings)

    assert two.code == 0, two.err
    assert here.aliases()["champion"] == "2", "what that night had registered was not registered again"
    version = here.client.get_model_version("pricing", "2")
    assert (version.tags["kind"], version.tags["state_date"]) == ("refresh", str(_last_day(later)))
    assert _status(here, "nightly") == ["FINISHED", "FINISHED", "RUNNING", "RUNNING", "FINISHED"], (
        "as kill -9 left them"
    )
    assert len(here.runs(job="train")) == 1


def _last_day(sales: str) -> object:
    return pd.read_csv(sales)["date"].max()
