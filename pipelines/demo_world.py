"""Isolated environment of a demo: its own folder, registry and port; processes end with the demo."""

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
_LAST_LINES = 20  # of a stage that failed
# Output not shown on screen: MLflow's and TensorFlow's logs, and training steps (they are in the log files).
_NOISE = re.compile(
    r"^\d{4}[/-]\d\d[/-]\d\d .* (INFO|WARNING) (mlflow|alembic)|^\[[ \d.]+ s\] step \d+/|^[IWE]\d{4} |^WARNING: All log"
)


class StageError(PricingError):
    """A stage of the demo failed."""


@dataclass(frozen=True)
class DemoEnvironment:
    """A demo's environment. Writes only to its folder: the user's registry, champion and logs are untouched.

    Attributes:
        folder: Holds everything the demo creates.
        config: The configuration file of all its commands.
        verbose: Whether its commands and what they print are shown.
        port: Port of its service.
        started: Start of the demo, seconds of the monotonic clock.
        extra: Further environment variables of its commands.
    """

    folder: Path
    config: Path
    verbose: bool = False
    port: int = field(default_factory=lambda: free_port(PORT))
    started: float = field(default_factory=time.monotonic)
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def tracking_uri(self) -> str:
        """The demo's own tracking store and registry."""
        return f"{SQLITE}{self.folder / 'mlflow.db'}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that make a command use this environment."""
        return {
            "PRICING_HOME": str(self.folder),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "PRICING_CONFIG": str(self.config),
            "PORT": str(self.port),
            **self.extra,
        }

    def begin(self) -> None:
        """Creates the folder, and the MLflow experiment with its artifacts inside it."""
        (self.folder / "logs").mkdir(parents=True)
        for name in ("mlflow", "alembic"):  # each migration of a new database logs a line
            logging.getLogger(name).setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri=self.tracking_uri)
        client.create_experiment(EXPERIMENT, (self.folder / "mlartifacts").as_uri())

    def finish(self) -> None:
        """Marks the demo as finished, so that the next one keeps its folder and a service may run from it."""
        (self.folder / FINISHED).write_text(f"{self.config}\n", encoding="utf-8")

    def stage(self, words: str) -> None:
        """Prints the heading of a stage with the time since the demo began."""
        print(f"\n== {words}  ({time.monotonic() - self.started:.0f} s)", flush=True)

    def mlflow_run(self, entry: str, parameters: Mapping[str, str]) -> list[str]:
        """Runs one entry point of MLproject; returns its output lines.

        Raises:
            StageError: The run failed.
        """
        words = [f"{name}={value}" for name, value in {**parameters, "config": str(self.config)}.items() if value]
        options = [part for word in words for part in ("-P", word)]
        command = ["mlflow", "run", ".", "-e", entry, "--env-manager", "local", "--experiment-name", EXPERIMENT]
        return self.run(entry, [*command, *options])

    def run(self, name: str, command: Sequence[str]) -> list[str]:
        """Runs a command to its end and returns its output, which verbose demos print; logs/NAME.log has all of it.

        Args:
            name: The stage's name.
            command: Its first word is a program beside this Python, or a path.

        Raises:
            StageError: It ended with an error.
        """
        self._say(f"   $ {shlex.join(command)}")
        log = self.folder / "logs" / f"{name}.log"
        shown: list[str] = []
        with log.open("w", encoding="utf-8") as file, self._started(command, stdout=subprocess.PIPE) as process:
            for line in process.stdout or ():
                file.write(line)
                if line.strip() and not _NOISE.search(line):
                    shown.append(line.rstrip())
                    self._say(f"   | {shown[-1]}")
            code = process.wait()
        if code:
            last = "".join(f"\n   | {line}" for line in shown[-_LAST_LINES:])
            raise StageError(f"the stage {name} failed with exit code {code}; its whole log is {log}, and ends:{last}")
        return shown

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Runs the service and yields its address once it is ready.

        Raises:
            StageError: It ends early, or is not ready in time.
        """
        address = f"http://127.0.0.1:{self.port}"
        log = self.folder / "logs" / "serving.log"
        command = ["python", "-m", "serving", "--config", str(self.config)]
        self._say(f"   $ {shlex.join(command)}")
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

    def _say(self, words: str) -> None:
        if self.verbose:
            print(words, flush=True)

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
            start_new_session=True,  # Ctrl-C reaches only this process, which ends the whole process group
        )
        try:
            yield process
        finally:
            _end(process)
            if process.stdout is not None:
                process.stdout.close()


def next_folder(home: Path) -> Path:
    """Returns the next demo's folder below `home`, and deletes earlier ones except the last finished one.

    An interrupted demo therefore loses no earlier results, and a service running from them is not disturbed.
    """
    made, kept = _folders(home), last_finished(home)
    for folder in made:
        if folder != kept:
            shutil.rmtree(folder, ignore_errors=True)
    return home / str(int(made[-1].name) + 1 if made else 1)


def last_finished(home: Path) -> Path | None:
    """Returns the last finished demo's folder below `home`; None where there is none."""
    whole = [folder for folder in _folders(home) if (folder / FINISHED).exists()]
    return whole[-1] if whole else None


def reopen(folder: Path, *, port: int) -> DemoEnvironment:
    """The environment of a finished demo, for a service on a port."""
    config = (folder / FINISHED).read_text(encoding="utf-8").strip()
    return DemoEnvironment(folder, Path(config), port=port)


def serve_command(data: str, *, port: int, home: Path) -> str:
    """The command that serves the last finished demo, as a person types it at the root."""
    words = [] if home == ROOT / ".pricing" else [f"PRICING_HOME={shlex.quote(str(home))}"]
    words += ["make serve-demo", *{"market": ["DATA=market"], "database": ["SOURCES=database"]}.get(data, [])]
    return " ".join(words + ([] if port == PORT else [f"PORT={port}"]))


def _folders(home: Path) -> list[Path]:
    """The demos below `home`, oldest first."""
    return sorted((folder for folder in home.glob("*") if folder.name.isdigit()), key=lambda folder: int(folder.name))


def call(url: str, body: object = None) -> Any:
    """Sends a GET, or a POST where there is a body, and returns the JSON response.

    Raises:
        StageError: No response, or not 2xx; includes the response.
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
    """Returns the wanted port, or any free one when it is taken."""
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
    """Ends a process group with SIGINT, at which the service waits for no load balancer, then SIGKILL."""
    for number, patience in ((signal.SIGINT, _GRACE_SECONDS), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
