"""Where a demo runs: a folder, a registry and a port of its own; whatever it starts there ends with it."""

import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from pricing.errors import PricingError
from pricing.paths import ROOT, SQLITE

READY_SECONDS = 120
EXPERIMENT = "demo"
FINISHED = "finished"
PORT = 8080
_GRACE_SECONDS = 25
# Lines that say nothing to a newcomer: MLflow's and TensorFlow's own logs, and the training steps (they are logged).
_NOISE = re.compile(
    r"^\d{4}[/-]\d\d[/-]\d\d .* (INFO|WARNING) (mlflow|alembic)|^\[[ \d.]+ s\] step \d+/|^[IWE]\d{4} |^WARNING: All log"
)


class StageError(PricingError):
    """A stage of the demo that failed; what it printed stands above, all of it in the log that is named."""


@dataclass(frozen=True)
class World:
    """The demo's own folder, and nothing outside it is touched: no registry, champion or log of the person's.

    Attributes:
        folder: Everything the demo makes.
        config: The configuration file that all its commands are given.
        port: Where its service answers.
        started: When the demo began, seconds of the monotonic clock.
    """

    folder: Path
    config: Path
    port: int = field(default_factory=lambda: free_port(PORT))
    started: float = field(default_factory=time.monotonic)

    @property
    def tracking_uri(self) -> str:
        """The demo's own tracking store and registry."""
        return f"{SQLITE}{self.folder / 'mlflow.db'}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that put a command into this world."""
        return {
            "PRICING_HOME": str(self.folder),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "PRICING_CONFIG": str(self.config),
            "PORT": str(self.port),
        }

    def begin(self) -> None:
        """Makes the folder, and the experiment whose artifacts lie in it rather than in the project."""
        (self.folder / "logs").mkdir(parents=True)
        for name in ("mlflow", "alembic"):  # every migration of a new database is a line
            logging.getLogger(name).setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri=self.tracking_uri)
        client.create_experiment(EXPERIMENT, (self.folder / "mlartifacts").as_uri())

    def finish(self) -> None:
        """Marks the demo as whole: the next one leaves it, and whoever serves from it, alone."""
        (self.folder / FINISHED).touch()

    def stage(self, words: str) -> None:
        """Announces a stage with the time since the demo began."""
        print(f"\n== {words}  ({time.monotonic() - self.started:.0f} s)", flush=True)

    def mlflow_run(self, entry: str, parameters: Mapping[str, str]) -> list[str]:
        """Runs one entry point of MLproject, as a person would; what it printed, line by line.

        Raises:
            StageError: The run failed.
        """
        words = [f"{name}={value}" for name, value in {**parameters, "config": str(self.config)}.items() if value]
        options = [part for word in words for part in ("-P", word)]
        command = ["mlflow", "run", ".", "-e", entry, "--env-manager", "local", "--experiment-name", EXPERIMENT]
        return self.run(entry, [*command, *options])

    def run(self, name: str, command: Sequence[str]) -> list[str]:
        """Runs a command to its end, shows what it prints and returns it; logs/NAME.log keeps the noise too.

        Args:
            name: Of the stage.
            command: Its first word is a program beside this Python, or a path.

        Raises:
            StageError: It ended with an error.
        """
        print(f"   $ {shlex.join(command)}", flush=True)
        log = self.folder / "logs" / f"{name}.log"
        shown: list[str] = []
        with log.open("w", encoding="utf-8") as file, self._started(command, stdout=subprocess.PIPE) as process:
            for line in process.stdout or ():
                file.write(line)
                if line.strip() and not _NOISE.search(line):
                    shown.append(line.rstrip())
                    print(f"   | {shown[-1]}", flush=True)
            code = process.wait()
        if code:
            raise StageError(f"the stage {name} failed with exit code {code}, above; its whole log: {log}")
        return shown

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Runs the service meanwhile and yields its address, once it prices.

        Raises:
            StageError: It ends at once, or is not ready in time.
        """
        address = f"http://127.0.0.1:{self.port}"
        log = self.folder / "logs" / "serving.log"
        command = ["python", "-m", "serving", "--config", str(self.config)]
        print(f"   $ {shlex.join(command)}", flush=True)
        with log.open("w", encoding="utf-8") as file, self._started(command, stdout=file) as process:
            deadline = time.monotonic() + READY_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    call(f"{address}/health/ready")
                except StageError:
                    time.sleep(0.2)
                else:
                    break
            else:
                raise StageError(f"the service is not ready:\n{log.read_text(encoding='utf-8')[-2000:]}")
            yield address

    @contextmanager
    def _started(self, command: Sequence[str], *, stdout: Any) -> Iterator["subprocess.Popen[str]"]:
        beside = Path(sys.executable).parent
        program = str(beside / command[0]) if (beside / command[0]).exists() else command[0]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {
            "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            **self.settings,
        }
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us alone; we end the whole group, `mlflow run`'s children too
        )
        try:
            yield process
        finally:
            _end(process)


def next_folder(home: Path) -> Path:
    """The folder of the next demo below `home`; of the earlier ones only the last that was finished is kept.

    So an interrupted demo costs nothing that an earlier one made, and a service that runs from there goes on.
    """
    made = sorted((folder for folder in home.glob("*") if folder.name.isdigit()), key=lambda folder: int(folder.name))
    whole = [folder for folder in made if (folder / FINISHED).exists()]
    for folder in made:
        if folder not in whole[-1:]:
            shutil.rmtree(folder, ignore_errors=True)
    return home / str(int(made[-1].name) + 1 if made else 1)


def call(url: str, body: object = None) -> Any:
    """Sends one request and returns the JSON that answers it: a GET, or a POST where there is a body.

    Raises:
        StageError: Nothing answers, or not with 2xx; shows what came.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise StageError(f"{url} answered {error.code}: {error.read().decode(errors='replace')[:2000]}") from error
    except (OSError, ValueError) as error:
        raise StageError(f"{url} does not answer: {error}") from error


def free_port(wanted: int) -> int:
    """The port that is wanted, or any other where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise StageError("no port is free on 127.0.0.1")


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends a process and its group: politely, then not."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
