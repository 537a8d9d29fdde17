"""The servers that the serving benchmark measures: how each is prepared, started and stopped."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from pricing.registry.mlflow_registry import Registry
from tests.kit.servers import free_port
from tests.kit.versions import make_panel, make_version

ROOT = Path(__file__).parent.parent
MODEL = "pricing"
REQUESTS = 5000  # different ones; servers get them in turn
UNITS, CONTEXT = 32, 120
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
GUNICORN = ("-m", "gunicorn", "--workers", "2", "--threads", "4", "--keep-alive", "75", "--bind", "127.0.0.1:{port}")
GRANIAN = (
    *("-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws", "--workers", "2", "--blocking-threads", "4"),
    *("--host", "127.0.0.1", "--port", "{port}"),
)


@dataclass(frozen=True)
class Contender:
    """A server to measure.

    Attributes:
        name: Its line in the table.
        command: How it is started; {port} stands for its port.
        path: Where prices are asked.
        body: Turns requests into a body.
        environment: Variables it needs.
        follows: Whether it follows the registry, and answers by rule before it has the champion.
    """

    name: str
    command: Sequence[str]
    path: str
    body: Callable[[dict[str, Any]], Any]
    environment: Mapping[str, str]
    follows: bool = False


def prepare(folder: Path, *, products: int) -> list[dict[str, Any]]:
    """Registers a champion of so many products in `folder`, and draws requests."""
    version = make_version(folder / "version", panel=make_panel(products=products, days=CONTEXT), units=UNITS)
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run():
        number = Registry(MODEL, uri=uri).log_version(folder / "version")
    Registry(MODEL, uri=uri).set_alias("champion", number)
    draw = random.Random(1)
    ids, prices = version.facts.product_ids, version.facts.list_price
    rows = [draw.randrange(len(ids)) for _ in range(REQUESTS)]
    return [
        {
            "product_id": str(ids[row]),
            "current_stock": draw.choice((5, 40, 300, 5000)),
            "day_of_week": draw.choice(WEEKDAYS),
            "comp_price": round(float(prices[row]) * draw.uniform(0.9, 1.1), 2),
            "is_promo": draw.random() < 0.2,
        }
        for row in rows
    ]


def line_up(folder: Path) -> dict[str, Contender]:
    """The servers, ours first."""
    uri = f"sqlite:///{folder}/mlflow.db"
    environment = {
        "MLFLOW_TRACKING_URI": uri,
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # modules compiled once are kept, as they are unless someone forbids it
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (folder / "bare.py").write_text(BARE_FLASK)
    serve = (sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "2")

    def records(request: dict[str, Any]) -> dict[str, Any]:
        return {"dataframe_records": [{**request, "current_stock": float(request["current_stock"])}]}

    return {
        "ours": Contender(
            "ours: `python -m serving`",
            (sys.executable, "-m", "serving", "--port", "{port}"),
            "/get_price",
            dict,
            {**environment, "PRICING_HOME": str(folder / "home")},
            follows=True,
        ),
        "bare": Contender(
            "bare Flask, two fields, no pricing, under gunicorn",
            (sys.executable, *GUNICORN, "--worker-class", "gthread", "bare:app"),
            "/get_price",
            dict,
            environment,
        ),
        "alike": Contender(
            "bare Flask, two fields, no pricing, under granian as ours is",
            (sys.executable, *GRANIAN, "bare:app"),
            "/get_price",
            dict,
            environment,
        ),
        "mlflow": Contender(
            "`mlflow models serve` of the pyfunc",
            (*serve, "--model-uri", f"models:/{MODEL}@champion", "--port", "{port}"),
            "/invocations",
            records,
            environment,
        ),
    }


@contextlib.contextmanager
def started(contender: Contender, body: bytes) -> Iterator[tuple[int, int, float]]:
    """Runs a server; yields its port, its process id and the milliseconds until its first answer by the model.

    One that follows the registry has the champion on its disk by then, as after any start but the first.
    """
    if contender.follows and not (Path(contender.environment["PRICING_HOME"]) / "versions").is_dir():
        with _running(contender, body):
            pass
    with _running(contender, body) as found:
        yield found


@contextlib.contextmanager
def _running(contender: Contender, body: bytes) -> Iterator[tuple[int, int, float]]:
    port = free_port()
    command = [word.format(port=port) for word in contender.command]
    begun = time.perf_counter()
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **contender.environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{contender.path}", body, {"Content-Type": "application/json"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    if b'"model_version":"none"' not in answer.read():
                        break
            except urllib.error.HTTPError as error:
                raise SystemExit(f"{contender.name} answers {error.code}: {error.read()[:500]!r}") from error
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{contender.name} ended: {Path('server.log').read_text()[-2000:]}") from None
                time.sleep(0.01)
        first_answer = (time.perf_counter() - begun) * 1000
        if contender.follows:
            time.sleep(1)  # the other worker looks a moment later
        yield port, process.pid, first_answer
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def members(pid: int) -> Iterator[Path]:
    """The processes under /proc that answer for a server: itself and its descendants, the follower left out."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if "follower" not in (path / "cmdline").read_text() and (int(path.name) == pid or _inside(path, pid)):
                yield path


def worker_memory(pid: int) -> float:
    """The largest resident memory among a server's answering processes, MB."""
    sizes = [0.0]
    for path in members(pid):
        with contextlib.suppress(OSError):
            sizes.append(int((path / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return max(sizes)


def processor_seconds(pid: int) -> float:
    """Processor time that a server's answering processes have taken: what other work on the machine disturbs least."""
    ticks = 0
    for path in members(pid):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, (path / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _inside(path: Path, pid: int) -> bool:
    """Whether the process at `path` descends from `pid`."""
    parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return parent == pid or (parent > 1 and _inside(path.parent / str(parent), pid))


BARE_FLASK = """
from flask import Flask, jsonify, request
app = Flask(__name__)
@app.post("/get_price")
def get_price():
    asked = request.get_json()
    return jsonify(recommended_price=asked["comp_price"], confidence=0.5)
"""
