"""Fixtures for tests of MLflow jobs: small sales, settings that train in seconds, a folder of their own."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from simulation.config import MarketConfig
from simulation.market import simulate

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "demand": {
        "folds": 2,
        "horizon": 14,
        "step": 14,
        "min_history": 84,
        "context": 40,
        "units": 4,
        "steps": 4,
        "demand_steps": 2,
        "price_steps": 1,
        "rounds": 1,
    },
    "registry": {
        "gates": {
            "naive_ratio": 9.0,
            "champion_ratio": 9.0,
            "bias": 9.0,
            "elasticity_sane": 0.0,
            "coverage_80": [0.0, 1.0],
            "coverage_95": [0.0, 1.0],
            "golden_latency_ms": 5000,
        }
    },
    "tuning": {"startup": 1},
}
FOREIGN = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "PRICING_PARENT_RUN_ID",
    "PRICING_DATABASE_URL",
)


def write_sales(path: Path, *, products: int = 6, days: int = 130, moves: bool = True) -> Path:
    """Writes sales of a simulated market; without `moves` of prices there are no elasticities to learn.

    That halves a training, for tests of how jobs interact, where elasticities do not matter.
    """
    frame = simulate(MarketConfig(products=products, days=days, seed=3)).frame()
    if not moves:
        frame["price"] = frame["list_price"] = frame.groupby("product_id")["price"].transform("median")
    frame.to_csv(path, index=False)
    return path


def copy_tree(folder: Path) -> Path:
    """A copy of the working tree without what git ignores."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def write_config(path: Path, *, auto_promote: bool = False, auto_refresh: bool = True, plots: bool = False) -> Path:
    registry = {**TINY["registry"], "auto_promote": auto_promote, "auto_refresh": auto_refresh, "plots": plots}
    path.write_text(yaml.safe_dump({**TINY, "registry": registry}))
    return path


@dataclass(frozen=True)
class JobFolder:
    """A folder that holds everything a job writes: the tracking database, artifacts and PRICING_HOME."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return {**kept, "MLFLOW_TRACKING_URI": self.uri, "PRICING_HOME": str(self.home), **more}

    def run(self, job: str, *options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pricing.runtime.command", job, *options]
        return subprocess.run(command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=False)

    def start(self, job: str, *options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-u", "-m", "pricing.runtime.command", job, *options]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=ROOT, env=self.environment(), text=True, start_new_session=True, **output)

    def runs(self, **tags: str) -> list[Run]:
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        chosen = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs(experiments, filter_string=chosen))

    def aliases(self) -> dict[str, str]:
        models = self.client.search_registered_models()
        return {str(name): str(number) for model in models for name, number in dict(model.aliases).items()}


def cut_off_before(alias: str, *, folder: Path) -> dict[str, str]:
    """Environment of a job that is killed, with its process group, just before it sets an alias.

    It must be started in a session of its own. Python itself runs `sitecustomize` at each start, in the jobs that a job
    starts, too.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from pricing.registry.mlflow_registry import Registry\n"
        "set_alias = Registry.set_alias\n"
        "def cut_off(self, alias, number):\n"
        f"    if alias == {alias!r}:\n"
        "        os.killpg(0, signal.SIGKILL)\n"
        "    set_alias(self, alias, number)\n"
        "Registry.set_alias = cut_off\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def place(folder: Path, *, template: Path) -> JobFolder:
    """A place whose database is a copy of an empty one, since making its tables takes seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        # mlflow made the default experiment for the folder in which the template was made
        store.execute("update experiments set artifact_location = ?", [(folder / "mlruns" / "0").as_uri()])
    return JobFolder(folder)


def enter(folder: Path, patch: pytest.MonkeyPatch, *, template: Path) -> JobFolder:
    """Makes a place and brings this process there: its tracking database, its PRICING_HOME, its working directory."""
    here = place(folder, template=template)
    for name in FOREIGN:
        patch.delenv(name, raising=False)
    patch.setenv("MLFLOW_TRACKING_URI", here.uri)
    patch.setenv("PRICING_HOME", str(here.home))
    patch.chdir(folder)
    mlflow.set_tracking_uri(here.uri)
    return here
