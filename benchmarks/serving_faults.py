"""Break what surrounds the service, one part after another, under load: how many prices are wrong or missing.

python -m benchmarks.serving_faults                         a minute for each fault

Two serving tasks stand behind HAProxy as it is shipped, on an S3 server. MLflow and the database are away throughout:
no task talks to either. A price is wrong where it is not the one that the version named in the answer gives, missing
where an answer is neither 200 nor 429. Prints the table of serving_faults.md.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import Load, opened
from benchmarks.serving import MODEL, environment, members, prepare, proxied, publish, started
from benchmarks.table import markdown, measured
from pricing.decision.request import PriceRequest
from pricing.objects import open_store
from pricing.registry.published_store import pointer_key, versions_prefix
from pricing.registry.version import load
from tests.kit.servers import free_port, object_store
from tests.kit.versions import make_panel, make_version

RATE = 60.0  # requests a second: what two tasks, the proxy and this program do beside each other on two cores
BUCKET = "pricing"
SLOW_SENDERS = 200


class World:
    """Two tasks behind the proxy on one S3 server; `first` holds the milliseconds to each start's first price."""

    def __init__(self, folder: Path, stack: ExitStack, *, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        os.environ |= stack.enter_context(object_store(folder / "s3", bucket=BUCKET))
        self.store = open_store(f"s3://{BUCKET}/published")
        _, self.asked = prepare(folder, products=500)
        self.folders = {"1": folder / "version", "2": folder / "second"}
        make_version(self.folders["2"], panel=make_panel(products=500, days=120), units=32, seed=2)
        self.pricers = {number: load(path).pricer(version=number) for number, path in self.folders.items()}
        self.sequence, self.first = 0, list[float]()
        self.promote("1")
        self.ports, self.tasks, self.pids = (free_port(), free_port()), (ExitStack(), ExitStack()), [0, 0]
        for task in (0, 1):
            stack.callback(self.tasks[task].close)
            self.start(task)
        self.front = stack.enter_context(proxied(*self.ports))

    def promote(self, number: str, *, sequence: int | None = None) -> None:
        """Publishes a version, as jobs do; under the next sequence unless one is given."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        publish(self.store, self.folders[number], number=number, sequence=sequence)

    def start(self, task: int) -> None:
        """Starts a task with an empty disk."""
        variables = environment(
            self.folder,
            home=f"home-{time.time_ns()}",
            PRICING_PUBLISHED=f"s3://{BUCKET}/published",
            PRICING_DECISIONS_URL=f"s3://{BUCKET}/decisions",
            MLFLOW_TRACKING_URI="http://127.0.0.1:1",
        )
        ask = ("/get_price", json.dumps(self.asked[0]).encode())
        running = started("-m serving", ask, variables=variables, port=self.ports[task])
        _, process, first = self.tasks[task].enter_context(running)
        self.pids[task] = process.pid
        self.first.append(first)

    def replace(self, task: int, *, kill: bool = False) -> None:
        """Stops a task, or kills it and lets none of its processes say a word, and starts another in its place."""
        for pid in members(self.pids[task]) if kill else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.tasks[task].close()
        self.start(task)

    def roll(self) -> None:
        """Replaces both tasks, one after the other."""
        for task in (0, 1):
            self.replace(task)
            time.sleep(2)  # the proxy asks whether it is ready

    def stop_s3(self) -> None:
        """Lets the S3 server accept connections and answer none for a third of the time."""
        port = f"-s3.port={os.environ['AWS_ENDPOINT_URL'].rpartition(':')[2]}".encode()
        found = [path for path in Path("/proc").glob("[0-9]*") if port in _words(path)]
        for path in found:
            os.kill(int(path.name), signal.SIGSTOP)
        time.sleep(self.seconds / 3)
        for path in found:
            os.kill(int(path.name), signal.SIGCONT)

    def damage(self) -> None:
        """Promotes a version one of whose files is damaged in the store."""
        self.promote("2")
        key = next(one for one in self.store.keys(f"{versions_prefix(MODEL)}2-") if one.endswith(".npy"))
        self.store.put(key, (self.store.get(key) or b"")[:-1] + b"\x7f")

    def fill_disks(self) -> None:
        """Lets no process of the tasks write to a file for a third of the time, as on a full disk."""
        pids = [pid for task in self.pids for pid in members(task)]
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        time.sleep(self.seconds / 3)
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def send_slowly(self) -> None:
        """Opens connections that send half a head, or half a body, and no more."""
        held, head = list[socket.socket](), b"POST /get_price HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        for number in range(SLOW_SENDERS):
            one = socket.create_connection(("127.0.0.1", self.front))
            one.sendall(head + (b'Content-Length: 400\r\n\r\n{"product' if number % 2 else b""))
            held.append(one)
        time.sleep(self.seconds / 3)
        for one in held:
            one.close()

    def under(self, fault: Callable[[], object]) -> Load:
        """Loads the service for a while, and does something to it after a third."""
        acting = threading.Timer(self.seconds / 3, fault)
        acting.start()
        bodies = [json.dumps(asked).encode() for asked in self.asked]
        found = opened(f"http://127.0.0.1:{self.front}/get_price", bodies, rate=RATE, seconds=self.seconds, keep=True)
        acting.join()
        return found

    def wrong(self, found: Load) -> int:
        """Counts the answers that are not what the version that they name gives, or that name none."""
        answers, count = defaultdict[str, list[tuple[PriceRequest, dict[str, Any]]]](list), 0
        for place, body in found.bodies:
            answer = json.loads(body)
            answers[answer["model_version"]].append((PriceRequest.model_validate(self.asked[place]), answer))
        for number, pairs in answers.items():
            if number not in self.pricers:
                count += len(pairs)
                continue
            today = np.datetime64("today").item()
            right = self.pricers[number].price([asked for asked, _ in pairs], today=today)
            given = [answer["recommended_price"] for _, answer in pairs]
            count += int((~np.isclose(given, [one.recommended_price for one in right], atol=0.005)).sum())
        return count


def _words(path: Path) -> list[bytes]:
    with contextlib.suppress(OSError):
        return (path / "cmdline").read_bytes().split(b"\0")
    return []


def faults(world: World) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each fault: what it is, and what brings it about."""
    yield "none", lambda: None
    yield "a version is promoted", lambda: world.promote("2")
    yield "and rolled back", lambda: world.promote("1")
    yield "a pointer of a lower sequence names the other version", lambda: world.promote("2", sequence=1)
    yield "the pointer is garbage", lambda: world.store.put(pointer_key(MODEL), b'{"model": "../../etc"')
    yield "a promoted version is damaged in the store", world.damage
    yield "S3 answers nobody for a third of the time", world.stop_s3
    yield "a task is killed; one with an empty disk takes its place", lambda: world.replace(0, kill=True)
    yield "both tasks are replaced, one after the other", world.roll
    yield "no task can write to its disk for a third of the time", world.fill_disks
    yield f"{SLOW_SENDERS} senders of half heads and half bodies", world.send_slowly


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--fault_seconds", type=float, default=60.0, help="length of each fault's measurement")
    options = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), ExitStack() as stack:
        world = World(Path(name), stack, seconds=options.fault_seconds)
        for fault, bring_about in faults(world):
            found = world.under(bring_about)
            total, refused = found.statuses.total(), found.statuses[429]
            figures = (total, world.wrong(found), found.failed - refused, refused)
            times = (found.quantile(0.99), max(found.times, default=float("nan")))
            rows.append([fault, *(f"{figure:,}" for figure in figures), *(f"{figure:,.0f}" for figure in times)])
            print(rows[-1], file=sys.stderr, flush=True)
            world.promote("1")
        print(measured())
        print(markdown(["fault", "requests", "wrong", "missing", "429", "p99 ms", "longest ms"], rows))
        print(f"\nFirst price of a new task: {min(world.first):,.0f} to {max(world.first):,.0f} ms after its start.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
