"""Measure what a price over HTTP costs, beside bare Flask and `mlflow models serve`: `python -m benchmarks.serving`.

All servers run in turn, on this machine, under the same load, with 2 processes (gunicorn ones: 2 gthread × 4). Requests
vary over products, stock and competitor's prices. Ours answers them in full: validation, decision, decision log. The
models' weights are random: what a price costs depends on the shapes of their arrays only. Prints serving.md's table.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Load, measure
from benchmarks.serving_lineup import Contender, line_up, prepare, processor_seconds, started, worker_memory
from benchmarks.table import markdown, measured

BATCH = 1000


@dataclass(frozen=True)
class Row:
    """One line of the table: under 1 and 16 connections; memory in MB, times in milliseconds.

    `processor` is the processor time that one answer took under 16 connections.
    """

    name: str
    one: Load
    many: Load
    processor: float
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


def run(contender: Contender, requests: list[dict[str, Any]], *, seconds: float) -> Row:
    """Starts a server, measures it under 1 and 16 connections, and stops it."""
    bodies = [json.dumps(contender.body(request)).encode() for request in requests]
    with started(contender, bodies[0]) as (port, pid, first_answer):
        url = f"http://127.0.0.1:{port}{contender.path}"
        measure(url, bodies, connections=16, seconds=1.0)
        one = measure(url, bodies, connections=1, seconds=seconds)
        before = processor_seconds(pid)
        many = measure(url, bodies, connections=16, seconds=seconds)
        processor = 1000 * (processor_seconds(pid) - before) / max(many.answers, 1)
        return Row(contender.name, one, many, processor, worker_memory(pid), first_answer)


def more_of_ours(ours: Contender, requests: list[dict[str, Any]], *, seconds: float, soak: int) -> dict[str, float]:
    """Batches, and memory after many requests."""
    batches = [json.dumps({"requests": requests[at : at + BATCH]}).encode() for at in range(0, len(requests), BATCH)]
    bodies = [json.dumps(request).encode() for request in requests]
    with started(ours, bodies[0]) as (port, pid, _):
        url = f"http://127.0.0.1:{port}/get_prices"
        measure(url, batches, connections=4, seconds=1.0)
        before = processor_seconds(pid)
        load = measure(url, batches, connections=4, seconds=seconds)
        processor = 1e6 * (processor_seconds(pid) - before) / max(load.answers * BATCH, 1)
        found = {
            "prices a second in batches of 1,000, 4 connections": load.per_second * BATCH,
            "processor time of one price in a batch, µs": processor,
            "answers other than 200, batches": load.failed,
        }
        if soak:
            found["worker memory before the soak, MB"] = worker_memory(pid)
            answered = failed = 0
            while answered < soak:
                load = measure(url.removesuffix("s"), bodies, connections=16, seconds=20.0)
                if not load.answers:
                    raise SystemExit(f"{ours.name} answers no more after {answered:,} requests")
                answered, failed = answered + load.answers, failed + load.failed
            found[f"worker memory after {answered:,} requests, MB"] = worker_memory(pid)
            found["answers other than 200, soak"] = failed
    return found


def report(rows: Mapping[str, Row], extra: Mapping[str, float], *, products: int) -> str:
    """The results in Markdown."""
    tool = "wrk" if shutil.which("wrk") else "a small asyncio client"
    head = ["server", "1 connection, req/s", "16 connections, req/s", "p50 ms", "p99 ms", "processor ms", "worker MB"]
    table = markdown(
        [*head, "first answer, s"],
        (
            [
                *(row.name, f"{row.one.per_second:,.0f}", f"{row.many.per_second:,.0f}", f"{row.many.p50_ms:.1f}"),
                *(f"{row.many.p99_ms:.1f}", f"{row.processor:.2f}", f"{row.memory:.0f}"),
                f"{row.first_answer / 1000:.2f}",
            ]
            for row in rows.values()
        ),
    )
    lines = [
        measured(),
        f"{platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end, "
        f"{products:,} products, load by {tool} on the same machine.",
        "",
        table,
    ]
    if "ours" in rows:
        for key, row in rows.items():
            if key != "ours":
                many, one, work = (
                    ours / max(theirs, 1e-9)
                    for ours, theirs in (
                        (rows["ours"].many.per_second, row.many.per_second),
                        (rows["ours"].one.per_second, row.one.per_second),
                        (rows["ours"].processor, row.processor),
                    )
                )
                lines.append(
                    f"- ours takes {work:.2f} × the processor time of {row.name}, and answers {many:.2f} × as many "
                    f"over 16 connections, {one:.2f} × over one"
                )
    lines += [f"- {name}: {value:,.0f}" for name, value in extra.items()]
    failed = {row.name: row.one.failed + row.many.failed for row in rows.values()}
    lines.append(f"- answers other than 200: {sum(failed.values())} {failed if any(failed.values()) else ''}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
