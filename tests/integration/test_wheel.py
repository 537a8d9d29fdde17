"""The wheel, built from the tree and installed beside the packages of this environment, works from any folder."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import pricing
from tests.kit.mlflow_jobs import ROOT, JobFolder, copy_tree

PACKAGES = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation")
pytestmark = [pytest.mark.slow, pytest.mark.weekly]


@dataclass(frozen=True)
class Installed:
    """A wheel, and the folder that it is installed in."""

    wheel: Path
    site: Path

    def run(self, *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Runs `pricing` in a folder to its end, for a user who has set nothing."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PRICING_"))}
        command = [sys.executable, str(self.site / "bin" / "pricing"), *words]
        given = {**kept, "PYTHONPATH": str(self.site)}
        return subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    tree = copy_tree(folder / "tree")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    dist, site = folder / "dist", folder / "site"
    subprocess.run([*pip, "wheel", "-q", *offline, "--no-build-isolation", "-w", str(dist), str(tree)], check=True)
    (wheel,) = dist.iterdir()
    subprocess.run([*pip, "install", "-q", *offline, "--target", str(site), str(wheel)], check=True)
    return Installed(wheel, site)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of a user, with modules that bear the names of ours and must not be taken for them."""
    for name in PACKAGES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the shop was imported')\n")
    return tmp_path


def test_the_wheel_holds_every_module_and_the_settings_and_nothing_else(installed: Installed) -> None:
    modules = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    settings = {f"pricing/defaults/{path.name}" for path in (ROOT / "config").iterdir()}

    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    kinds = (
        "etl/sql/*.sql",
        "pipelines/reports/*.html",
        "pipelines/reports/*.jinja",
        "*ing/*.html",
        "console/templates/*",
        "console/static/*",
    )
    beside = {path.relative_to(ROOT).as_posix() for kind in kinds for path in ROOT.glob(kind)}
    assert names == modules | settings | beside | {"pricing/py.typed", "pricing/page.css", "pricing/shipped.zip"}
    assert f"-{pricing.__version__}-" in installed.wheel.name


def test_a_job_keeps_what_it_makes_in_the_folder_where_it_was_issued(installed: Installed, shop: Path) -> None:
    done = installed.run("etl", "--sales", "simulated", "--config", "small", cwd=shop)

    assert done.returncode == 0, done.stderr
    assert (shop / ".pricing" / "panel").is_dir()
    assert (shop / "mlflow.db").is_file()
    (run,) = JobFolder(shop).runs(job="etl")
    assert run.data.params["demand.folds"] == "2"
    assert run.data.tags["code_version"] == pricing.__version__
    assert not (installed.site / "mlflow.db").exists()
