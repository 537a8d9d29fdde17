import datetime as dt
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import yaml

from pricing.data.net_price import net_price
from pricing.runtime.command import main as pricing
from tests.kit.mlflow_jobs import ROOT, JobFolder, place, write_config, write_sales

Ran = subprocess.CompletedProcess[str]
TAX = 0.20
MLFLOW = str(Path(sys.executable).parent / "mlflow")
PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "MLproject").read_text())
PLOTS = (
    "forecast_fans",
    "calibration",
    "shap_summary_price",
    "shap_summary_demand",
)
SENSITIVITY = ("sensitivity.html", "summary.parquet", "products.parquet")


@pytest.fixture
def here(tmp_path: Path, empty_store: Path) -> JobFolder:
    return place(tmp_path, template=empty_store)


def _mlflow_run(here: JobFolder, uri: str, *words: str, **more: str) -> Ran:
    """As from a plain shell: neither the virtual environment nor its python is on PATH."""
    bare = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != Path(sys.executable).parent
    )
    environment = {**here.environment(PATH=bare, **more)}
    environment.pop("VIRTUAL_ENV", None)
    manager = () if "--env-manager" in words else ("--env-manager", "local")
    command = [MLFLOW, "run", uri, *manager, *words]
    return subprocess.run(command, cwd=here.folder, env=environment, capture_output=True, text=True, check=False)


def _given(**parameters: object) -> list[str]:
    return [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]


@pytest.mark.parametrize("entry", PROJECT["entry_points"])
def test_every_parameter_of_an_entry_point_is_an_option_of_its_job(entry: str) -> None:
    parts = PROJECT["entry_points"][entry]
    (name, *actions), taken = parts["command"].split("python.sh ")[1].split(" --")[0].split(), set[str]()
    job = pricing.get_command(click.Context(pricing), name)
    for command in job.commands.values() if isinstance(job, click.Group) else (job,):
        taken |= {option.removeprefix("--") for parameter in command.params for option in parameter.opts}

    assert parts["parameters"].keys() - {"action"} <= taken
    assert (actions == ["{action}"]) is isinstance(job, click.Group)
    for parameter, declared in parts["parameters"].items():
        assert f"{{{parameter}}}" in parts["command"]
        assert declared["default"] == ""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[JobFolder, Ran]:
    """A shop that pays 20 % tax after a training by MLflow.

    What is left of a price after tax is 0.83 of it, so that its products were sold at a loss.
    """
    here = place(tmp_path_factory.mktemp("trained"), template=empty_store)
    sales, settings = write_sales(here.folder / "sales.csv"), write_config(here.folder / "tiny.yaml", plots=True)
    frame = pd.read_csv(sales)
    listed = frame["list_price"]
    frame.assign(tax_rate=TAX, unit_cost=0.9 * listed, comp_price=0.8 * listed).to_csv(sales, index=False)
    return here, _mlflow_run(here, str(ROOT), *_given(sales=sales, config=settings, reason="a trial"))


@pytest.mark.slow
def test_mlflow_run_trains_on_a_csv_and_registers_a_challenger(trained: tuple[JobFolder, Ran]) -> None:
    here, done = trained

    assert done.returncode == 0, done.stderr
    assert "all folds" in done.stdout
    assert "registered pricing version 1 as challenger" in done.stdout
    (run,) = here.runs(job="train")
    assert (run.info.status, run.data.tags["reason"]) == ("FINISHED", "a trial")
    assert run.data.params["demand.units"] == "4"
    named = {
        "wape",
        "backtest/wape_naive",
        "backtest/wape_baseline",
        "crps",
        "skill",
        "by_volume/low/wape",
        "elasticity/mean",
    }
    assert named <= run.data.metrics.keys()
    assert [set_alias.step for set_alias in here.client.get_metric_history(run.info.run_id, "fold/wape")] == [1, 2]
    losses = here.client.get_metric_history(run.info.run_id, "training/loss")
    assert [loss.step for loss in losses] == [1, 2, 3, 4]  # demand.steps; no step of another network
    assert len({loss.value for loss in losses}) == 4
    measured = {name for name in run.data.metrics if name.startswith("system/")}
    assert not measured or "system/cpu_utilization_percentage" in measured  # a short run may end before a sample
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.digest == run.data.tags["data_fingerprint"]
    plots = {entry.path for entry in here.client.list_artifacts(run.info.run_id, "plots")}
    assert {f"plots/{name}.png" for name in PLOTS} == plots
    tables = {entry.path for entry in here.client.list_artifacts(run.info.run_id, "sensitivity")}
    assert {f"sensitivity/{name}" for name in SENSITIVITY} == tables
    kept = {entry.path for entry in here.client.list_artifacts(run.info.run_id, "evaluation")}
    assert kept == {"evaluation/frame.parquet", "evaluation/figures.json"}
    assert here.aliases() == {"challenger": "1"}
    assert "How good the forecast is" in here.client.get_model_version("pricing", "1").description


@pytest.mark.slow
def test_no_price_sells_below_net_cost_from_sales_to_prices(trained: tuple[JobFolder, Ran]) -> None:
    shop, frame = trained[0], pd.read_csv(trained[0].folder / "sales.csv")
    today = (dt.date.fromisoformat(frame["date"].max()) + dt.timedelta(days=1)).isoformat()
    output, config = shop.folder / "prices.csv", str(shop.folder / "tiny.yaml")

    options = ["--version", "challenger", "--config", config, "--output", str(output), "--today", today]
    priced = shop.run("price", *options)

    assert priced.returncode == 0, priced.stderr
    prices = pd.read_csv(output)
    net = net_price(prices["recommended_price"], TAX)
    assert len(prices) == frame["product_id"].nunique()
    assert (prices["tax_rate"] == TAX).all()
    assert (net >= prices["unit_cost"] * (1 - 1e-6)).all()
    assert (prices["binds"] == "cost").any()
    assert np.allclose(prices["expected_margin"], prices["expected_units"] * (net - prices["unit_cost"]), atol=1e-6)
    assert prices["comp_price_used"].notna().all()
    assert (prices["comp_price_age"] == 1).all()


@pytest.mark.weekly
@pytest.mark.slow
def test_mlflow_run_tunes_and_compares_policies_on_a_market(here: JobFolder) -> None:
    sales, settings = write_sales(here.folder / "sales.csv", moves=False), write_config(here.folder / "tiny.yaml")

    tuned = _mlflow_run(here, str(ROOT), "-e", "tune", *_given(sales=sales, config=settings, trials=1))
    small = _given(products=4, days=60, ahead=5, output=here.folder / "market")
    played = _mlflow_run(here, str(ROOT), "-e", "market", *small)

    assert (tuned.returncode, played.returncode) == (0, 0), tuned.stderr + played.stderr
    assert [run.info.status for run in here.runs(job="tune") + here.runs(job="trial")] == ["FINISHED"] * 2
    (market,) = here.runs(**{"mlflow.project.entryPoint": "market"})
    assert market.info.status == "FINISHED"
    assert (here.folder / "market" / "market.json").is_file()
    assert here.aliases() == {"challenger": "1"}


@pytest.mark.slow
def test_bad_sales_fail_the_run_say_why_and_register_nothing(here: JobFolder) -> None:
    sales = here.folder / "sales.csv"
    sales.write_text("date,product_id,price\n2024-01-01,A,2.5\n")

    done = _mlflow_run(here, str(ROOT), *_given(sales=sales), "--experiment-name", "autumn")

    assert done.returncode != 0
    assert "units_sold" in done.stderr
    (run,) = here.runs(job="train")
    assert run.info.status == "FAILED"
    assert "units_sold" in run.data.tags["failure"]
    assert here.client.get_experiment(run.info.experiment_id).name == "autumn"
    assert here.aliases() == {}


@pytest.mark.weekly
@pytest.mark.slow
def test_mlflow_run_builds_its_environment_with_uv(here: JobFolder, tmp_path_factory: pytest.TempPathFactory) -> None:
    sales = write_sales(here.folder / "sales.csv", products=3, days=40)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    kept = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    environments = tmp_path_factory.mktemp("home")
    path = f"{Path(uv).parent}{os.pathsep}{os.environ['PATH']}"
    manager = ("--env-manager", "uv")
    command = [MLFLOW, "run", str(ROOT), *manager, "-e", "etl", *_given(sales=sales)]
    environment = here.environment(UV_CACHE_DIR=kept, PATH=path, MLFLOW_ENV_ROOT=str(environments))

    done = subprocess.run(command, cwd=here.folder, env=environment, capture_output=True, text=True, check=False)

    if "Failed to fetch" in done.stderr or "failed to lookup address" in done.stderr:
        pytest.skip("the package index cannot be reached, so no environment can be built")
    assert done.returncode == 0, done.stderr
    (run,) = here.runs(job="etl")
    assert run.info.status == "FINISHED"
    shutil.rmtree(environments)
