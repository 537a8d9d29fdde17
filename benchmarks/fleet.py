"""How far serving tasks differ after a promotion, and how soon a cold one answers: `python -m benchmarks.fleet`.

Tasks of the service, each with a PRICING_HOME of its own, follow one MLflow server and one PostgreSQL database; a
client asks each for a price on and on. A move is the alias's: what `pricing promote` and `pricing rollback` do at their
end. The versions have the configured network's shapes with random weights. Results stand in fleet.md.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow

from benchmarks.provenance import reminder
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.registry.mlflow_registry import Registry
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.servers import free_port, postgres, python, running
from tests.kit.versions import make_version

EVERY = 0.01  # seconds between two requests to one task
LIMIT = 120.0  # seconds after which a measurement is given up
BODY = json.dumps({"product_id": "P00001", "current_stock": 150, "day_of_week": "Friday"}).encode()


@dataclass(frozen=True)
class Platform:
    """What the tasks stand on.

    Attributes:
        registry: The model registry.
        database: URL of the database.
        folder: For whatever the tasks keep.
    """

    registry: Registry
    database: str
    folder: Path

    def environment(self, name: str, *, home: Path, port: int) -> dict[str, str]:
        """The variables of a serving task."""
        return {
            **os.environ,
            "MLFLOW_TRACKING_URI": self.registry.uri,
            "PRICING_DATABASE_URL": self.database,
            "PRICING_HOME": str(home),
            "PRICING_TASK": name,
            "PRICING_NEEDS_MODEL": "true",
            "PRICING_CONFIG": str(self.folder / "one.yaml"),
            "PORT": str(port),
        }


@dataclass(frozen=True)
class Move:
    """What one move of the alias did.

    Attributes:
        what: promote, where the version had to be fetched, or rollback, where it was on disk.
        first: Seconds until the first task answered by the new version.
        last: Seconds until the last one did.
        meanwhile: Answers between the first and the last, by the version after the move and by the one before.
        agreed: Seconds until every task knew of every other that it serves the new version.
        failed: Requests that were not answered.
    """

    what: str
    first: float
    last: float
    meanwhile: tuple[int, int]
    agreed: float
    failed: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints two tables in Markdown."""
    parser = argparse.ArgumentParser("python -m benchmarks.fleet", description=__doc__, allow_abbrev=False)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--moves", type=int, default=3, help="promotions, each followed by a rollback")
    parser.add_argument("--products", type=int, default=100)
    parser.add_argument("--cold", type=int, default=3, help="cold starts that are measured")
    parser.add_argument("--checkout", type=Path, help="another checkout whose cold start is measured in turn with ours")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that cold starts run by")
    options = parser.parse_args(argv)
    with platform(products=options.products, versions=options.moves + 1) as stand:
        checkouts = {"this one": Path.cwd()} | ({"--checkout": options.checkout} if options.checkout else {})
        colds = [
            (name, cold_start(stand, checkout, interpreter=options.python))
            for _ in range(options.cold)
            for name, checkout in checkouts.items()
        ]
        moves = moved(stand, tasks=options.tasks, moves=options.moves) if options.moves else []
    print(f"{options.tasks} tasks, {options.products} products, load average {os.getloadavg()[0]:.1f} at the end\n")
    if moves:
        print(report_of_moves(moves))
    if colds:
        print(report_of_cold_starts(colds))
    print(reminder("fleet.md"), file=sys.stderr)
    return 0


@contextmanager
def platform(*, products: int, versions: int) -> Iterator[Platform]:
    """Runs PostgreSQL and an MLflow server that hands out artefacts, with versions 1, 2, … of which 1 is champion."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pricing-")))
        database, port = stack.enter_context(postgres()), free_port()
        uri = f"http://127.0.0.1:{port}"
        command = python("mlflow", "server", "--backend-store-uri", database, "--host", "127.0.0.1", "--workers", "1")
        command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port)]
        log, quiet = folder / "mlflow.log", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        stack.enter_context(running(command, ready=f"{uri}/health", log=log, environment=quiet))
        (folder / "one.yaml").write_text("serving: {workers: 1}\n")
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("pricing")
        config = load_config()
        registry = Registry(config.registry.model_name, uri=uri)
        panel = build_panel(simulate(MarketConfig(products=products, days=150, seed=3)).frame(), config.data)
        for seed in range(1, versions + 1):
            make_version(folder / f"v{seed}" / "version", panel=panel, seed=seed)
            with mlflow.start_run():
                registry.log_version(folder / f"v{seed}" / "version")
        registry.set_alias("champion", "1")
        yield Platform(registry, database, folder)


@contextmanager
def task(stand: Platform, name: str) -> Iterator[str]:
    """Runs one serving task, ready; yields its address."""
    home, port = stand.folder / name, free_port()
    environment = stand.environment(name, home=home, port=port)
    log = stand.folder / f"{name}.log"
    with running(python("serving"), ready=f"http://127.0.0.1:{port}/health/live", log=log, environment=environment):
        yield f"http://127.0.0.1:{port}"


class Client:
    """Asks one task for a price on and on, and notes when which version answered."""

    def __init__(self, address: str) -> None:
        self.answers: list[tuple[float, str]] = []  # time.monotonic, version; "" where none came
        self._address, self._stop = address, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Asks no more."""
        self._stop.set()
        self._thread.join()

    def since(self, moment: float) -> list[tuple[float, str]]:
        """The answers since a moment."""
        return [one for one in list(self.answers) if one[0] >= moment]

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            version = price(self._address)
            self.answers.append((time.monotonic(), version))


def moved(stand: Platform, *, tasks: int, moves: int) -> list[Move]:
    """Moves the alias there and back, while clients ask every task."""
    with ExitStack() as stack:
        addresses = [stack.enter_context(task(stand, f"serving-{n}")) for n in range(1, tasks + 1)]
        clients = [Client(address) for address in addresses]
        for client in clients:
            stack.callback(client.close)
        _until(lambda: all(client.answers[-1:] and client.answers[-1][1] == "1" for client in clients))
        found = []
        for number in range(2, moves + 2):
            found.append(_move(stand, clients, addresses, what="promote", to=str(number)))
            found.append(_move(stand, clients, addresses, what="rollback", to="1"))
        return found


def _move(stand: Platform, clients: list[Client], addresses: list[str], *, what: str, to: str) -> Move:
    time.sleep(1.0 + (time.monotonic() % 1.0))  # at any moment between two looks
    began = time.monotonic()
    stand.registry.set_alias("champion", to)
    _until(lambda: all(client.answers[-1][1] == to for client in clients))
    _until(lambda: all(_agrees(address, to, tasks=len(addresses)) for address in addresses))
    agreed = time.monotonic() - began
    answers = [client.since(began) for client in clients]
    switched = [min(at for at, version in each if version == to) for each in answers]
    first, last = min(switched), max(switched)
    between = Counter(version for each in answers for at, version in each if first <= at <= last)
    failed = sum(not version for each in answers for _, version in each)
    others = sum(count for version, count in between.items() if version not in (to, ""))
    return Move(what, first - began, last - began, (between[to], others), agreed, failed)


def _agrees(address: str, version: str, *, tasks: int) -> bool:
    with urllib.request.urlopen(f"{address}/model", timeout=10) as answer:
        return bool(json.load(answer)["fleet"]["versions"] == {version: tasks})


def cold_start(stand: Platform, checkout: Path, *, interpreter: str) -> dict[str, float]:
    """Starts a task on an empty disk; returns seconds until its first answer by the champion, and processor seconds.

    The latter are of all its processes, until they have ended again.
    """
    home, port = Path(tempfile.mkdtemp(dir=stand.folder)), free_port()
    before, began = _processor(), time.monotonic()
    process = subprocess.Popen(
        [interpreter, "-m", "serving"],
        cwd=checkout,
        env=stand.environment("cold", home=home, port=port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address, found = f"http://127.0.0.1:{port}", {}
    try:
        _until(lambda: bool(price(address)), every=0.02)
        found["any"] = time.monotonic() - began
        _until(lambda: price(address) not in ("", "none"), every=0.02)
        found["champion"] = time.monotonic() - began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    return {**found, "processor": _processor() - before}


def price(address: str) -> str:
    """The version that prices a request; empty where none is answered."""
    request = urllib.request.Request(f"{address}/get_price", BODY, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["model_version"])
    except OSError:
        return ""


def report_of_moves(moves: list[Move]) -> str:
    """A table in Markdown: one line a move."""
    lines = [
        "| move | first task, s | last task, s | answers between: by the new / by the old | all know it, s | failed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.what} | {one.first:.2f} | {one.last:.2f} | {one.meanwhile[0]:,} / {one.meanwhile[1]:,} "
        f"| {one.agreed:.2f} | {one.failed} |"
        for one in moves
    ]
    return "\n".join(lines) + "\n"


def report_of_cold_starts(found: list[tuple[str, dict[str, float]]]) -> str:
    """A table in Markdown: medians of each checkout."""
    lines = ["| checkout | any answer, s | by the champion, s | processor, s |", "|---|---|---|---|"]
    for name in dict.fromkeys(name for name, _ in found):
        own = [one for other, one in found if other == name]
        values = [statistics.median(one[key] for one in own) for key in ("any", "champion", "processor")]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines) + "\n"


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _until(holds: Callable[[], bool], *, every: float = 0.05) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"nothing came of it within {LIMIT:g} s")
        time.sleep(every)


if __name__ == "__main__":
    sys.exit(main())
