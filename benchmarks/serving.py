"""Measure what a price over HTTP costs beside bare Flask, FastAPI and `mlflow models serve`, and what overload does.

python -m benchmarks.serving                      every server in turn, under the same load
python -m benchmarks.serving --steps 0.2 1 2      and ours behind HAProxy at these shares of its capacity, a minute each

Each server is one process on this machine (granian and gunicorn with four threads, ours with `serving.threads`).
Requests vary over products, stock and competitor's prices. Ours answers in full: validation, decision, decision log.
The model's weights are random: the cost of a price depends on the shapes of its arrays only. Prints the tables of
serving.md.
"""

import argparse
import contextlib
import json
import os
import platform
import random
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

from benchmarks.load import Load, closed, opened
from benchmarks.table import markdown, measured
from pricing.objects import FolderStore, ObjectStore
from pricing.registry.mlflow_registry import Registry
from pricing.registry.published_store import Pointer, PublishedVersion, pointer_key, put_version
from pricing.registry.version import LoadedVersion
from tests.kit.servers import free_port
from tests.kit.versions import make_panel, make_version

ROOT = Path(__file__).parent.parent
MODEL = "pricing"
REQUESTS = 5000  # different ones; servers get them in turn
BATCH = 1000
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
GUNICORN = "-m gunicorn --threads 4 --worker-class gthread --keep-alive 75 --bind 127.0.0.1:{port} bare:app"
GRANIAN = "-m granian --interface wsgi --http 1 --no-ws --blocking-threads 4 --host 127.0.0.1 --port {port} bare:app"
FASTAPI = "-m uvicorn --log-level warning --host 127.0.0.1 --port {port} fast:app"
MLFLOW = f"-m mlflow models serve --env-manager local --workers 1 --model-uri models:/{MODEL}@champion --port {{port}}"
PROGRAMS = {
    "bare.py": """
from flask import Flask, request
app = Flask(__name__)

@app.post("/get_price")
def get_price():
    asked = request.get_json()
    return {"recommended_price": 1.0, "product_id": asked["product_id"]}
""",
    "fast.py": f"""
import mlflow, pandas
from fastapi import Body, FastAPI
app = FastAPI()
model = mlflow.pyfunc.load_model("models:/{MODEL}@champion")

@app.post("/get_price")
def get_price(asked: dict = Body()):
    return model.predict(pandas.DataFrame([asked])).iloc[0].to_dict()
""",
}


@dataclass(frozen=True)
class Contender:
    """A server to measure: its name, its words after `python`, where it prices, and the body that it takes."""

    name: str
    words: str
    path: str = "/get_price"
    body: Callable[[dict[str, Any]], Any] = dict


def line_up() -> dict[str, Contender]:
    """The servers, ours first."""

    def as_records(asked: dict[str, Any]) -> dict[str, Any]:
        return {"dataframe_records": [as_floats(asked)]}

    def as_floats(asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "current_stock": float(asked["current_stock"])}

    return {
        "ours": Contender("ours: `python -m serving`", "-m serving"),
        "granian": Contender("bare Flask, two fields, no pricing, under granian as ours is", GRANIAN),
        "gunicorn": Contender("bare Flask, two fields, no pricing, under gunicorn", GUNICORN),
        "fastapi": Contender("FastAPI around the same pyfunc, under uvicorn", FASTAPI, body=as_floats),
        "mlflow": Contender("`mlflow models serve` of the same pyfunc", MLFLOW, "/invocations", as_records),
    }


def prepare(folder: Path, *, products: int) -> tuple[LoadedVersion, list[dict[str, Any]]]:
    """Publishes a champion of so many products in `folder`, registers it there, and draws requests."""
    version = make_version(folder / "version", panel=make_panel(products=products, days=120), units=32)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    with mlflow.start_run():
        number = Registry(MODEL, uri=mlflow.get_tracking_uri()).log_version(folder / "version")
    Registry(MODEL, uri=mlflow.get_tracking_uri()).set_alias("champion", number)
    publish(FolderStore(folder / "published"), folder / "version", number=number, sequence=1)
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    draw = random.Random(1)
    ids, prices = version.facts.product_ids, version.facts.list_price
    rows = [draw.randrange(len(ids)) for _ in range(REQUESTS)]
    return version, [
        {
            "product_id": str(ids[row]),
            "current_stock": draw.choice((5, 40, 300, 5000)),
            "day_of_week": draw.choice(WEEKDAYS),
            "comp_price": round(float(prices[row]) * draw.uniform(0.9, 1.1), 2),
            "is_promo": draw.random() < 0.2,
        }
        for row in rows
    ]


def publish(store: ObjectStore, version: Path, *, number: str, sequence: int) -> None:
    """Publishes a version in a store, as jobs do."""
    named = PublishedVersion(number, json.loads((version / "version.json").read_bytes())["checksum"])
    put_version(store, named, model=MODEL, folder=version)
    store.put(pointer_key(MODEL), Pointer(MODEL, sequence, named).to_json())


def environment(folder: Path, *, home: str = "home", **more: str) -> dict[str, str]:
    """The variables of a server of which `folder` holds all that it reads."""
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PRICING_HOME": str(folder / home),
        "PRICING_KEYS": "none",  # or what comes through the proxy is refused
        "PRICING_PUBLISHED": str(folder / "published"),
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # modules compiled once are kept, as they are unless someone forbids it
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    }


@contextlib.contextmanager
def started(
    words: str, ask: tuple[str, bytes], *, variables: Mapping[str, str], port: int | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """Runs a server; yields its port, its process and the milliseconds until its first answer by the model."""
    port = port or free_port()
    begun = time.perf_counter()
    with Path(f"server-{port}.log").open("wb") as log:
        command = [sys.executable, *words.format(port=port).split()]
        process = subprocess.Popen(
            command, env={**variables, "PORT": str(port)}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{ask[0]}", ask[1], {"Content-Type": "application/json"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    if b'"model_version":"none"' not in answer.read():
                        break
            except urllib.error.HTTPError as error:
                if error.code != 404:  # no product is known until there is a model
                    raise
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{words} ended: {Path(f'server-{port}.log').read_text()[-2000:]}") from None
            time.sleep(0.01)
        yield port, process, (time.perf_counter() - begun) * 1000
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def proxied(*servers: int) -> Iterator[int]:
    """HAProxy as it is shipped, before servers on these ports; yields its own port."""
    port, figures = free_port(), free_port()
    named = {f"SERVING_{place}": f"127.0.0.1:{server}" for place, server in enumerate(servers, start=1)}
    ports = {"PORT": str(port), "FIGURES_PORT": str(figures)}
    variables = {**os.environ, **named, **ports, "REQUESTS_PER_ADDRESS": "1000000"}  # all load is one address's
    with Path("haproxy.log").open("wb") as log:
        command = ["haproxy", "-W", "-db", "-f", str(ROOT / "deploy" / "compose" / "haproxy.cfg")]
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        time.sleep(3)  # until it has asked each server whether it is ready
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def members(pid: int) -> list[int]:
    """The processes of a server's session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(path.name)) == pid:
                found.append(int(path.name))
    return found


def memory(pid: int) -> float:
    """The resident memory of a server's processes, MB."""
    pages = 0
    for member in members(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Row:
    """One line of the table; memory in MB, times in milliseconds."""

    name: str
    one: Load
    many: Load
    memory: float
    first_answer: float


def measure(contender: Contender, folder: Path, asked: Sequence[dict[str, Any]], *, seconds: float) -> Row:
    """Starts a server, measures it under 1 and 16 connections, and stops it."""
    bodies = [json.dumps(contender.body(request)).encode() for request in asked]
    variables = environment(folder)
    with started(contender.words, (contender.path, bodies[0]), variables=variables) as (port, process, first_answer):
        url = f"http://127.0.0.1:{port}{contender.path}"
        closed(url, bodies, connections=16, seconds=1.0)
        one = closed(url, bodies, connections=1, seconds=seconds)
        many = closed(url, bodies, connections=16, seconds=seconds)
        return Row(contender.name, one, many, memory(process.pid), first_answer)


def more_of_ours(folder: Path, asked: Sequence[dict[str, Any]], *, seconds: float, capacity: float) -> list[str]:
    """Batches, and a steady load at half of what it answers."""
    bodies = [json.dumps(request).encode() for request in asked]
    batches = [json.dumps({"requests": asked[at : at + BATCH]}).encode() for at in range(0, len(asked), BATCH)]
    with started("-m serving", ("/get_price", bodies[0]), variables=environment(folder)) as (port, *_):
        url = f"http://127.0.0.1:{port}/get_prices"
        closed(url, batches, connections=4, seconds=1.0)
        whole = closed(url, batches, connections=4, seconds=seconds)
        time.sleep(2)  # until the last batches are answered
        half = opened(url.removesuffix("s"), bodies, rate=capacity / 2, seconds=max(seconds, 10.0))
    return [
        f"- {whole.per_second * BATCH:,.0f} prices a second in batches of 1,000 over 4 connections",
        f"- at half of its capacity ({capacity / 2:,.0f} requests a second, sent when due): p50 "
        f"{half.quantile(0.5):.1f} ms, p99 {half.quantile(0.99):.1f} ms",
        f"- answers other than 200: {whole.failed + half.failed}",
    ]


def overload(
    folder: Path, asked: Sequence[dict[str, Any]], *, steps: Sequence[float], seconds: float, capacity: float
) -> str:
    """Loads ours behind HAProxy at shares of its capacity; returns a table."""
    bodies, rows = [json.dumps(request).encode() for request in asked], []
    with (
        started("-m serving", ("/get_price", bodies[0]), variables=environment(folder)) as (port, *_),
        proxied(port) as front,
    ):
        for share in steps:
            rate = share * capacity
            found = opened(f"http://127.0.0.1:{front}/get_price", bodies, rate=rate, seconds=seconds)
            other = {status: count for status, count in found.statuses.items() if status not in (200, 429)}
            rates = (rate, found.per_second, found.statuses[429] / seconds)
            times = (f"{found.quantile(level):.1f}" for level in (0.5, 0.99))
            rows.append([f"{share:.0%}", *(f"{each:,.0f}" for each in rates), str(other or "none"), *times])
    head = ["of capacity", "asked a second", "priced a second", "429 a second", "other answers", "p50 ms", "p99 ms"]
    return markdown(head, rows)


def report(rows: Mapping[str, Row], *, products: int) -> list[str]:
    """The results in Markdown."""
    head = ["server, one process", "1 connection, req/s", "16 connections, req/s", "p50 ms", "p99 ms"]
    table = markdown(
        [*head, "MB", "first answer, s"],
        (
            [
                row.name,
                f"{row.one.per_second:,.0f}",
                f"{row.many.per_second:,.0f}",
                f"{row.many.quantile(0.5):.1f}",
                f"{row.many.quantile(0.99):.1f}",
                f"{row.memory:.0f}",
                f"{row.first_answer / 1000:.2f}",
            ]
            for row in rows.values()
        ),
    )
    about = f"{platform.python_version()}, {os.cpu_count()} cores, {products:,} products, load by wrk beside it"
    lines = [measured(), f"{about}, load average {os.getloadavg()[0]:.1f} at the end.", "", table, ""]
    ours = rows["ours"].many.per_second if "ours" in rows else float("nan")
    shares = (f"{ours / row.many.per_second:.2f} of {row.name}" for key, row in rows.items() if key != "ours")
    lines.append(f"- over 16 connections ours answers {', '.join(shares)}")
    failed = {row.name: row.one.failed + row.many.failed for row in rows.values()}
    return [
        *lines,
        f"- answers other than 200: {sum(failed.values())} {failed if any(failed.values()) else ''}".rstrip(),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", default=None, help="names of contenders, such as granian ours")
    parser.add_argument("--steps", nargs="*", type=float, default=[], help="shares of the capacity, such as 0.2 1 2")
    parser.add_argument("--step_seconds", type=float, default=60.0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        _, asked = prepare(folder, products=options.products)
        chosen = {key: one for key, one in line_up().items() if options.only is None or key in options.only}
        rows = {key: measure(one, folder, asked, seconds=options.seconds) for key, one in chosen.items()}
        lines = report(rows, products=options.products)
        if "ours" in rows:
            capacity = rows["ours"].many.per_second
            lines += more_of_ours(folder, asked, seconds=options.seconds, capacity=capacity)
            if options.steps:
                seconds = options.step_seconds
                lines += ["", overload(folder, asked, steps=options.steps, seconds=seconds, capacity=capacity)]
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
