"""The wheel, built from the tree and installed beside the packages of this environment, works from any folder."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pricing
from pricing.runtime.command import JOBS
from tests.kit.mlflow_jobs import ROOT, JobFolder, copy_tree
from tests.kit.servers import free_port

PACKAGES = ("pricing", "etl", "pipelines", "serving", "monitoring", "simulation")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """A wheel, and the folder that it is installed in."""

    wheel: Path
    site: Path

    def command(self, *words: str) -> list[str]:
        """The command line of `pricing`."""
        return [sys.executable, str(self.site / "bin" / "pricing"), *words]

    def environment(self, **more: str) -> dict[str, str]:
        """That of a user who has set nothing but what is given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PRICING_"))}
        return {**kept, "PYTHONPATH": str(self.site), **more}

    def run(self, *words: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        """Runs `pricing` in a folder to its end."""
        return subprocess.run(
            self.command(*words), cwd=cwd, env=self.environment(**more), capture_output=True, text=True, check=False
        )


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

    beside = {
        path.relative_to(ROOT).as_posix()
        for kind in (
            "etl/sql/*.sql",
            "pipelines/reports/*.html",
            "pipelines/reports/*.jinja",
            "monitoring/*.html",
            "serving/*.html",
        )
        for path in ROOT.glob(kind)
    }
    assert names == modules | settings | beside | {"pricing/py.typed"}
    assert f"-{pricing.__version__}-" in installed.wheel.name


def test_the_command_lists_every_job(installed: Installed, shop: Path) -> None:
    done = installed.run("--help", cwd=shop)

    assert done.returncode == 0, done.stderr
    assert JOBS.keys() <= {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert installed.run("--version", cwd=shop).stdout == f"pricing {pricing.__version__}\n"


def test_a_job_keeps_what_it_makes_in_the_folder_where_it_was_issued(installed: Installed, shop: Path) -> None:
    done = installed.run("etl", "--sales", "simulated", "--config", "small", cwd=shop)

    assert done.returncode == 0, done.stderr
    assert (shop / ".pricing" / "panel").is_dir()
    assert (shop / "mlflow.db").is_file()
    (run,) = JobFolder(shop).runs(job="etl")
    assert run.data.params["demand.folds"] == "2"
    assert run.data.tags["code_version"] == pricing.__version__
    assert not (installed.site / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["price", "serve", "monitor"])
def test_a_job_shows_its_own_help(installed: Installed, shop: Path, name: str) -> None:
    done = installed.run(name, "--help", cwd=shop)

    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


def test_the_exit_code_of_a_job_is_that_of_the_command(installed: Installed, shop: Path) -> None:
    done = installed.run("train", cwd=shop)

    assert done.returncode == 2
    assert "no sales are named" in done.stderr


def test_the_demo_says_that_it_needs_a_checkout(installed: Installed, shop: Path) -> None:
    command = [sys.executable, "-P", "-m", "pipelines.demo"]

    done = subprocess.run(command, cwd=shop, env=installed.environment(), capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "it needs a checkout" in done.stderr


def test_the_doctor_finds_all_that_is_needed(installed: Installed, shop: Path) -> None:
    done = installed.run("doctor", cwd=shop)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ok       pricing {pricing.__version__} in {installed.site}" in done.stdout
    assert f"ok       configuration {installed.site / 'pricing' / 'defaults' / 'default.yaml'}" in done.stdout


def test_the_doctor_ends_with_2_and_shows_no_password(installed: Installed, shop: Path) -> None:
    addresses = {
        "MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9",
        "PRICING_DATABASE_URL": "postgresql+psycopg2://me:secret@127.0.0.1:9/shop",
    }

    done = installed.run("doctor", cwd=shop, **addresses)

    assert done.returncode == 2
    assert "problem  tracking store http://***@127.0.0.1:9" in done.stdout
    assert "problem  PRICING_DATABASE_URL postgresql+psycopg2://***@127.0.0.1:9/shop" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_the_service_answers_by_rule_where_nothing_was_trained(installed: Installed, shop: Path) -> None:
    port = free_port()
    request = {"product_id": "A", "current_price": 9.5, "current_stock": 3, "day_of_week": "Friday"}
    command = installed.command("serve", "--port", str(port))

    with (shop / "serving.log").open("w") as log:
        service = subprocess.Popen(command, cwd=shop, env=installed.environment(), stdout=log, stderr=log)
        try:
            answer = ask(f"http://127.0.0.1:{port}/get_price", request, service)
        finally:
            service.terminate()
            code = service.wait(60)

    assert (answer["source"], answer["recommended_price"]) == ("rule", 9.5)
    assert code == 0
    assert list((shop / ".pricing" / "decisions").iterdir())
    assert "of the shop was imported" not in (shop / "serving.log").read_text()


def ask(url: str, body: dict[str, Any], service: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Asks a service that is starting until it answers, or ends."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    while service.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                pytest.fail(error.read().decode())
            time.sleep(0.1)
    pytest.fail(f"the service ended with {service.returncode}")
