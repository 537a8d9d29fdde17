"""The commands of the README, one after the other, on a fresh clone: they do what it says, and answer what it shows.

The clone is of HEAD: what is not committed is not looked at.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.kit.mlflow_jobs import ROOT
from tests.kit.servers import free_port

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(make|curl|mkdir|pricing|\.venv/bin/\w+) ")  # the other blocks are drawings
LONG = ("make demo", "make test")  # only looked at: continuous integration runs them
TOLERANCES = {"confidence": 0.1, "expected_units": 0.15, "expected_margin": 0.15}  # what another processor may change
SECONDS = 900

pytestmark = pytest.mark.slow


def commands(block: str) -> Iterator[str]:
    """Each command of a block; one goes on over lines while a quote is open."""
    command = ""
    for line in block.splitlines():
        command += line + "\n"
        if command.partition("#")[0].count("'") % 2 == 0:
            yield command.strip()
            command = ""


def blocks() -> Iterator[tuple[list[str], dict[str, Any] | None]]:
    """The commands of each block, and the answer that is shown of the last one, if any."""
    found = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    for place, (language, text) in enumerate(found):
        following = found[place + 1] if place + 1 < len(found) else ("", "")
        if not language and COMMAND.match(text):
            yield list(commands(text)), json.loads(following[1]) if following[0] == "json" else None


@dataclass
class Shell:
    """A terminal in a fresh clone, from which neither a virtual environment nor its commands are on PATH."""

    clone: Path
    port: int
    cwd: Path = field(init=False)
    server: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.cwd = self.clone

    def environment(self) -> dict[str, str]:
        ours = ("MLFLOW_", "PRICING_", "MAKE", "MFLAGS", "SALES", "CONFIG", "ARGS", "PYTHONPATH", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        beside = str(Path(sys.executable).parent)
        path = [part for part in os.environ["PATH"].split(os.pathsep) if part != beside]
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.clone / "installed" / "command"), *path]),
            "PORT": str(self.port),
        }

    def run(self, command: str) -> str:
        """Runs a command where the last `cd` led; returns what it printed."""
        here = self.clone.parent / "here"
        script = f"set -e\n{self._local(command)}\npwd > {here}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        self.cwd = Path(here.read_text().strip())
        return done.stdout

    def serve(self, command: str) -> None:
        """Starts a service in place of the one before, and waits until it answers by a model."""
        self.stop()
        self.server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.cwd, env=self.environment(), start_new_session=True
        )
        for _ in range(240):
            assert self.server.poll() is None, f"{command} ended with {self.server.returncode}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/model", timeout=10) as answer:
                    if json.load(answer)["model_version"] != "none":
                        return
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"{command}: no model is served")

    def stop(self) -> None:
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(60)
            self.server = None

    def _local(self, command: str) -> str:
        return command.replace(":8080", f":{self.port}")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if not (Path(sys.prefix) / "locked.json").is_file():
        pytest.skip("this Python is not of a .venv that make built")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    (clone / ".venv").symlink_to(sys.prefix)
    _install(tmp_path, site=clone / "installed")
    terminal = Shell(clone, free_port())
    try:
        yield terminal
    finally:
        terminal.stop()
        shutil.rmtree(clone, ignore_errors=True)


def _install(scratch: Path, *, site: Path) -> None:
    """Installs HEAD as `pip install .` in a checkout would, beside the packages that are there."""
    tree, dist = scratch / "tree", scratch / "dist"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tree)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", "-q", *offline, "--no-build-isolation", "-w", str(dist), str(tree)], check=True)
    (wheel,) = dist.iterdir()
    subprocess.run([*pip, "install", "-q", *offline, "--target", str(site), str(wheel)], check=True)
    started = site / "command" / "pricing"
    started.parent.mkdir()
    started.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} {site}/bin/pricing "$@"\n')
    started.chmod(0o755)


def test_a_command_goes_on_while_a_quote_is_open() -> None:
    assert list(commands("make serve   # ours\ncurl -d '{\n  \"a\": 1}'\npwd\n")) == [
        "make serve   # ours",
        "curl -d '{\n  \"a\": 1}'",
        "pwd",
    ]


def test_every_command_does_what_the_readme_says(shell: Shell) -> None:
    shown = 0
    for lines, answer in blocks():
        shell.cwd = shell.clone
        printed = ""
        for line in lines:
            command = line.partition("#")[0].strip() if "\n" not in line else line
            if command.endswith(" serve"):
                shell.serve(command)
            elif command.startswith(LONG):
                shell.run(f"make --dry-run {command.removeprefix('make ')}")
            else:
                printed = shell.run(command)
        if answer is not None:
            shown += 1
            compare(json.loads(printed), answer)

    assert shown > 0
    shell.stop()
    check_runs(shell.clone)


def compare(found: dict[str, Any], shown: dict[str, Any]) -> None:
    """The price and why are those shown; what another processor may change is near it."""
    assert found.keys() == shown.keys()
    for name, value in shown.items():
        if name in TOLERANCES:
            assert found[name] == pytest.approx(value, rel=TOLERANCES[name]), name
        elif name == "price_range":
            assert found[name] == pytest.approx(value, rel=0.05)
        elif name != "decision_id":
            assert found[name] == value, name


def check_runs(clone: Path) -> None:
    """Whoever started them, runs lie in one experiment, have ended, and keep their artifacts beside the database."""
    for folder in (clone, clone / "shop"):
        client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        experiments = {one.experiment_id: one.name for one in client.search_experiments()}
        runs = client.search_runs(list(experiments))
        assert {experiments[run.info.experiment_id] for run in runs} == {"pricing"}
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert not (folder / "mlruns").exists()
