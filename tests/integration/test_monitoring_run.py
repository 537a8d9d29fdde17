import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from benchmarks.monitoring_world import World, backtest_figures, build, entries, without
from monitoring.__main__ import main
from monitoring.cli import run_main
from monitoring.memory import Memory
from pricing.data.panel import Panel
from pricing.data.store import save_panel
from pricing.decision.log_writer import LogWriter
from pricing.registry import files

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    MlflowClient().create_experiment("pricing", (tmp_path / "artifacts").as_uri())
    yield tmp_path
    while mlflow.active_run():
        mlflow.end_run()


def prepare(home: Path, world: World, *, days=range(300, 392), noise=0.1) -> Panel:
    panel, truth = build(world)
    writer = LogWriter(home / "decisions")
    writer.append(entries(panel, truth, days=days, noise=noise))
    writer.close()
    save_panel(panel, home / "panel")
    return panel


def crown(home: Path, world: World, *, state_date: str) -> None:
    """Registers a champion with the backtest of a model that knows the world before its change."""
    panel, truth = build(World(**{**world.__dict__, "change_day": None, "days": 300}))
    files.write(
        home / "version", header={"format": 1}, documents={"backtest": backtest_figures(panel, truth)}, arrays={}
    )
    client = MlflowClient()
    run = client.create_run(client.get_experiment_by_name("pricing").experiment_id)
    client.log_artifacts(run.info.run_id, str(home / "version"), "model/artifacts/version")
    client.create_registered_model("pricing")
    source, tags = f"{run.info.artifact_uri}/model", {"state_date": state_date, "weights": "w"}
    version = client.create_model_version("pricing", source, run.info.run_id, tags=tags)
    client.set_registered_model_alias("pricing", "champion", version.version)


def monitor(home: Path, *more: str) -> int:
    return run_main(main, ["--sales", str(home / "panel"), *more])


def report(home: Path) -> dict:
    return json.loads((home / "monitoring" / "latest" / "outcome.json").read_text())


def last_run():
    client = MlflowClient()
    experiment = client.get_experiment_by_name("pricing")
    return client.search_runs([experiment.experiment_id], filter_string="tags.job = 'monitor'")[0]


def codes(document: dict) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


def test_an_unchanged_world_is_reported_and_nothing_is_done(home):
    world = World(days=392)
    prepare(home, world)
    crown(home, world, state_date="2024-10-01")

    assert monitor(home, "--exit_code", "true") in (0, 10)

    run = last_run()
    assert run.info.status == "FINISHED"
    assert 0.2 < run.data.metrics["wape"] < 0.6
    assert run.data.metrics["windows_in_breach"] == 0
    assert run.data.tags["champion"] == "1"
    names = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert {"drift.html", "outcome.json", "scored_decisions.csv"} <= names
    assert "has not decayed" in report(home)["explanation"]
    assert list((home / "monitoring" / "evidently").glob("*/snapshots/*.json"))
