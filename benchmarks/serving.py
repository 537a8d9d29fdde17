"""What a price over HTTP costs: `python -m benchmarks.serving`, beside bare Flask, FastAPI and `mlflow models serve`.

All servers run in turn, on this machine, under the same load, with 2 processes (gunicorn ones: 2 gthread × 4). Requests
vary over products, stock and competitor's prices. Ours answers them in full: validation, decision, decision log. The
model's weights are random: what a price costs depends on the shapes of its arrays only. Results stand in serving.md.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from benchmarks.load import Load, measure
from pricing.registry.aliases import Registry
from tests.servers import free_port
from tests.versions import make_panel, make_version

ROOT = Path(__file__).parent.parent
MODEL = "pricing"
BATCH = 1000
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
GUNICORN = ("-m", "gunicorn", "--workers", "2", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "75")


@dataclass(frozen=True)
class Contender:
    """A server to measure.

    Attributes:
        name: Its line in the table.
        command: How it is started; {port} stands for its port.
        path: Where prices are asked.
        body: Turns requests into a body.
        environment: Variables it needs.
    """

    name: str
    command: Sequence[str]
    path: str
    body: Callable[[dict[str, Any]], Any]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds, memory in MB."""

    name: str
    one: Load
    many: Load
    memory: float
    first_answer: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", default=None, help="names of contenders, such as bare ours")
    parser.add_argument("--soak", type=int, default=0, help="requests after which memory is compared, such as 200000")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        requests = prepare(folder, products=options.products)
        contenders = line_up(folder)
        chosen = {key: one for key, one in contenders.items() if options.only is None or key in options.only}
        rows = {key: run(one, requests, seconds=options.seconds) for key, one in chosen.items()}
        extra = more_of_ours(contenders["ours"], requests, seconds=options.seconds, soak=options.soak)
    print(report(rows, extra, products=options.products))
    return 0


def prepare(folder: Path, *, products: int) -> list[dict[str, Any]]:
    """Registers a champion of so many products in `folder`, and draws requests for it."""
    version = make_version(folder / "version", panel=make_panel(products=products, days=120), units=32)
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run():
        number = Registry(MODEL, uri=uri).log_version(folder / "version")
    Registry(MODEL, uri=uri).point("champion", number)
    draw = random.Random(1)
    ids, prices = version.facts.product_ids, version.facts.list_price
    rows = [draw.randrange(len(ids)) for _ in range(500)]
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
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (folder / "bare.py").write_text(BARE_FLASK)
    (folder / "fast.py").write_text(FASTAPI)
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
        ),
        "bare": Contender(
            "bare Flask, two fields, no pricing",
            (sys.executable, *GUNICORN, "--bind", "127.0.0.1:{port}", "bare:app"),
            "/get_price",
            dict,
            environment,
        ),
        "fastapi": Contender(
            "FastAPI around the pyfunc",
            (
                sys.executable,
                "-m",
                "uvicorn",
                "--workers",
                "2",
                "--log-level",
                "warning",
                "--port",
                "{port}",
                "fast:app",
            ),
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


def run(contender: Contender, requests: list[dict[str, Any]], *, seconds: float) -> Row:
    """Starts a server, measures it under 1 and 16 connections, and stops it."""
    bodies = [json.dumps(contender.body(request)).encode() for request in requests]
    with started(contender, bodies[0]) as (port, pid, first_answer):
        url = f"http://127.0.0.1:{port}{contender.path}"
        measure(url, bodies, connections=16, seconds=1.0)
        one = measure(url, bodies, connections=1, seconds=seconds)
        many = measure(url, bodies, connections=16, seconds=seconds)
        return Row(contender.name, one, many, worker_memory(pid), first_answer)


def more_of_ours(ours: Contender, requests: list[dict[str, Any]], *, seconds: float, soak: int) -> dict[str, float]:
    """Batches, and memory after many requests."""
    batches = [json.dumps({"requests": requests + requests}).encode()]
    bodies = [json.dumps(request).encode() for request in requests]
    with started(ours, bodies[0]) as (port, pid, _):
        url = f"http://127.0.0.1:{port}/get_prices"
        measure(url, batches, connections=2, seconds=1.0)
        load = measure(url, batches, connections=2, seconds=seconds)
        found = {"prices a second in batches of 1,000, 2 connections": load.per_second * BATCH}
        if soak:
            found["worker memory before the soak, MB"] = worker_memory(pid)
            answered = 0
            while answered < soak:
                answered += measure(url.removesuffix("s"), bodies, connections=16, seconds=20.0).answers
            found[f"worker memory after {answered:,} requests, MB"] = worker_memory(pid)
    return found


@contextlib.contextmanager
def started(contender: Contender, body: bytes) -> Iterator[tuple[int, int, float]]:
    """Runs a server; yields its port, its process id and the milliseconds until its first answer."""
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
                    answer.read()
                break
            except urllib.error.HTTPError as error:
                raise SystemExit(f"{contender.name} answers {error.code}: {error.read()[:500]!r}") from error
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{contender.name} ended: {Path('server.log').read_text()[-2000:]}") from None
                time.sleep(0.01)
        first_answer = (time.perf_counter() - begun) * 1000
        if contender.path == "/get_price" and "serving" in command:
            _await_champion(port)
        yield port, process.pid, first_answer
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def worker_memory(pid: int) -> float:
    """The largest resident memory among a server's answering processes, MB."""
    sizes = [0.0]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if "follower" not in (path / "cmdline").read_text() and (int(path.name) == pid or _inside(path, pid)):
                pages = int((path / "statm").read_text().split()[1])
                sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return max(sizes)


def _inside(path: Path, pid: int) -> bool:
    """Whether the process at `path` descends from `pid`."""
    parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return parent == pid or (parent > 1 and _inside(path.parent / str(parent), pid))


def _await_champion(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready") as answer:
            if json.loads(answer.read())["model_version"] != "none":
                time.sleep(1)  # the other worker looks a moment later
                return
        time.sleep(0.1)
    raise SystemExit("no champion is served")


def report(rows: Mapping[str, Row], extra: Mapping[str, float], *, products: int) -> str:
    """The results in Markdown."""
    tool = "wrk" if shutil.which("wrk") else "a small asyncio client"
    lines = [
        f"{platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end, "
        f"{products:,} products, load by {tool} on the same machine.",
        "",
        "| server | 1 connection, req/s | 16 connections, req/s | p50 ms | p99 ms | worker MB | first answer, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        lines.append(
            f"| {row.name} | {row.one.per_second:,.0f} | {row.many.per_second:,.0f} | {row.many.p50_ms:.1f} | "
            f"{row.many.p99_ms:.1f} | {row.memory:.0f} | {row.first_answer / 1000:.2f} |"
        )
    lines.append("")
    if "ours" in rows:
        for key, row in rows.items():
            if key != "ours":
                ratio = rows["ours"].many.per_second / max(row.many.per_second, 1e-9)
                lines.append(f"- ours answers {ratio:.2f} × as many as {row.name} (16 connections)")
    lines += [f"- {name}: {value:,.0f}" for name, value in extra.items()]
    failed = {row.name: row.one.failed + row.many.failed for row in rows.values()}
    lines.append(f"- answers other than 200: {sum(failed.values())} {failed if any(failed.values()) else ''}".rstrip())
    return "\n".join(lines)


BARE_FLASK = """
from flask import Flask, jsonify, request
app = Flask(__name__)
@app.post("/get_price")
def get_price():
    asked = request.get_json()
    return jsonify(recommended_price=asked["comp_price"], confidence=0.5)
"""

FASTAPI = """
import mlflow, pandas as pd
from fastapi import FastAPI, Request
app = FastAPI()
model = mlflow.pyfunc.load_model("models:/pricing@champion")
@app.post("/get_price")
def get_price(asked: dict):
    asked["current_stock"] = float(asked["current_stock"])  # a signature does not widen integers
    return model.predict(pd.DataFrame([asked])).to_dict(orient="records")[0]
"""


if __name__ == "__main__":
    sys.exit(main())
