"""What a person at a terminal has: a folder, commands, a service and a way to ask it."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.kit.servers import ask, free_port

ROOT = Path(__file__).resolve().parents[2]
PRICING = ROOT / ".venv" / "bin" / "pricing"
SECONDS = 1800
OURS = ("MLFLOW_", "PRICING_", "MAKE", "MFLAGS", "SALES", "CONFIG", "ARGS", "PYTHONPATH", "VIRTUAL_ENV", "PORT")


@dataclass(frozen=True)
class Service:
    """A running service, on loopback.

    Attributes:
        port: Where it listens.
    """

    port: int

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Returns the status and the JSON of an answer: of a POST where there is a body, else of a GET."""
        return ask(f"http://127.0.0.1:{self.port}{path}", body)

    def wait_for(self, version: str | None = None) -> None:
        """Waits until a version is served, the one given or any, by every process; fails after two minutes."""
        served = None
        in_a_row = 0
        for _ in range(240):
            try:
                served = self.ask("/model")[1]["model_version"]
                in_a_row = in_a_row + 1 if served == version or (version is None and served != "none") else 0
                if in_a_row == 10:
                    return
            except OSError:
                in_a_row = 0
            time.sleep(0.2 if in_a_row else 0.5)
        raise AssertionError(f"version {version} is not served, but {served}")


@dataclass(frozen=True)
class Person:
    """A person in a shell, who has set nothing, or only what is given.

    Attributes:
        folder: Where her shell stands.
        settings: Environment variables that she has set.
        port: A free one, for her service.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def client(self) -> MlflowClient:
        """MLflow's view of what her commands left in her folder."""
        return MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")

    @property
    def home(self) -> Path:
        """What her commands keep beside MLflow's."""
        return self.folder / ".pricing"

    def champion(self, model: str = "pricing") -> str:
        """The number of the version that the alias names."""
        return str(self.client.get_model_version_by_alias(model, "champion").version)

    def runs(self, command: str) -> str:
        """Runs a command, which must end with 0; returns what it printed."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def pricing(self, *words: str) -> str:
        """Runs the command `pricing` of this checkout."""
        return self.runs(shlex.join([str(PRICING), *words]))

    @contextmanager
    def serving(self, command: str) -> Iterator[Service]:
        """Runs a command that serves as long as the block; it ends with it."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self._environment(), start_new_session=True
        )
        service = Service(self.port)
        try:
            yield service
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)

    def _environment(self) -> dict[str, str]:
        beside = str(Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        path = [part for part in os.environ["PATH"].split(os.pathsep) if part != beside]
        return {**kept, "PATH": os.pathsep.join(path), "PORT": str(self.port), **self.settings}


def in_a_folder(folder: Path) -> Person:
    """A person who keeps all that her commands make in a folder of her own."""
    kept = {"PRICING_HOME": str(folder / ".pricing"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    return Person(folder, kept)


def on_a_fresh_clone(folder: Path) -> Person:
    """A person who has just cloned HEAD, with the packages of this environment as its `.venv`."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return Person(folder)
