"""What the end of a serving task costs of its decision log, and how fast jobs read it.

`python -m benchmarks.log_upload`, in about 8 minutes on 2 cores, against a real S3 server (SeaweedFS) on this machine.
First two services answer 100 requests a second each, for a minute at most, and upload every 30 s; one is killed just
before its next upload (SIGKILL to all of its processes at once, as when a machine is lost), the other is stopped
(SIGTERM). Then jobs read a day of ten tasks. Prints the tables of benchmarks/log_upload.md and writes them.
"""

import argparse
import datetime as dt
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.log_scale import entry
from benchmarks.provenance import stamp, take
from monitoring.decisions import load_decisions
from pricing.decision_log.format import read_decisions
from pricing.decision_log.objects import open_store
from pricing.decision_log.uploads import lines_key, list_uploads
from serving.compact import compact_uploads
from tests.kit.servers import free_port, object_store
from tests.kit.serving import REQUEST, point_at, settings_in
from tests.kit.versions import shared_version

HERE = Path(__file__).parent
PAGE = "log_upload.md"
URL = "s3://logs/shop"
EVERY = 30.0  # seconds between uploads, as by default
PER_SECOND = 100  # requests of each service
TASKS = 10
OBJECTS = 2880  # of a task and day: one worker, every 30 s
LINES = 10  # decisions in an object
DAY = dt.date(2026, 6, 30)


@dataclass
class Task:
    """A service with its load.

    Attributes:
        name: Its task's name.
        process: Its supervisor.
        port: Where it answers.
        answered: Decision's id → when the answer had come, seconds since 1970.
        lags: The lag as its metrics said it, once a second.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    answered: dict[str, float] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def get(self, path: str) -> str:
        """Returns the body of a page; empty where the service does not answer it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == http.client.OK else ""
        except OSError:
            return ""
        finally:
            connection.close()

    def lag(self) -> float | None:
        """The upload's lag as its metrics say it."""
        for line in self.get("/metrics").splitlines():
            if line.startswith("pricing_log_upload_lag_seconds "):
                return float(line.split()[1])
        return None

    def follower(self) -> psutil.Process:
        """The process that uploads."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "serving.follower" in child.cmdline())

    def ask(self) -> None:
        """Sends PER_SECOND requests a second until nobody answers or `stop` is set."""
        body = json.dumps(REQUEST).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        due = time.monotonic()
        while not self.stop.is_set():
            due += 1 / PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                connection.request("POST", "/get_price", body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                self.answered[answer["decision_id"]] = time.time()
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                if self.process.poll() is not None:
                    return
                connection.close()

    def watch(self) -> None:
        """Takes down the lag once a second."""
        while not self.stop.wait(1):
            lag = self.lag()
            if lag is not None:
                self.lags.append(lag)


@contextmanager
def service(folder: Path, name: str, *, environment: dict[str, str], uploads: bool) -> Iterator[Task]:
    """A running service with a model."""
    home, port = folder / name, free_port()
    values = {
        "PRICING_HOME": str(home),
        "PRICING_TASK": name,
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/none.db",
        "PORT": str(port),
        **({"PRICING_DECISIONS_URL": URL} if uploads else {}),
    }
    point_at(settings_in(home, MLFLOW_TRACKING_URI=values["MLFLOW_TRACKING_URI"]), shared_version(), version="7")
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"], env={**os.environ, **environment, **values}, stderr=log
        )
        task = Task(name, process, port)
        try:
            while not task.get("/health/ready"):
                time.sleep(0.2)
            yield task
        finally:
            task.stop.set()
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def kill(task: Task) -> None:
    """Kills all processes of a service at once."""
    supervisor = psutil.Process(task.process.pid)
    for process in [supervisor, *supervisor.children(recursive=True)]:
        process.kill()
    task.process.wait()


def end_tasks(folder: Path, environment: dict[str, str]) -> list[dict[str, float | str]]:
    """Measures what the end of a service costs; returns a row for each."""
    with ExitStack() as stack:
        start = [("killed", True), ("stopped", True), ("without", False)]
        tasks = [
            stack.enter_context(service(folder, name, environment=environment, uploads=uploads))
            for name, uploads in start
        ]
        killed, stopped, _ = tasks
        threads = [threading.Thread(target=work) for task in tasks for work in (task.ask, task.watch)]
        followers = [task.follower() for task in tasks]
        before, began = [sum(each.cpu_times()[:2]) for each in followers], time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(EVERY)  # so that every worker has uploaded
        while (lag := killed.lag()) is None or not EVERY - 1.0 < lag < EVERY:
            time.sleep(0.05)
        cpu = [(sum(each.cpu_times()[:2]) - old) for each, old in zip(followers, before, strict=True)]
        seconds = time.monotonic() - began
        kill(killed)
        killed_at = time.time()
        stopped.process.send_signal(signal.SIGTERM)
        asked_at = time.monotonic()
        stopped.process.wait(120)
        stop_seconds = time.monotonic() - asked_at
        for task in tasks:
            task.stop.set()
        for thread in threads:
            thread.join()
    reading = read_decisions(folder / "none", uploads=URL)
    there = {record["decision"]["decision_id"] for record in reading.records}
    rows: list[dict[str, float | str]] = []
    for task, used in zip((killed, stopped), cpu[:2], strict=True):
        lost = [at for name, at in task.answered.items() if name not in there]
        rows.append(
            {
                "end": task.name,
                "answers": len(task.answered),
                "lost": len(lost),
                "lost_seconds": killed_at - min(lost) if lost else 0.0,
                "lag": max(task.lags),
                "cpu": 100 * used / seconds,
                "cpu_without": 100 * cpu[2] / seconds,
                "stop_seconds": stop_seconds if task is stopped else 0.0,
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def fill(objects: int) -> None:
    """Uploads a day of ten tasks, as their followers would have."""
    store, url = open_store(f"{URL}-day"), f"{URL}-day"

    def put(task: int, number: int) -> None:
        worker, first = f"20260630T000000-12-{task:016x}", number * LINES + 1
        at = dt.datetime.combine(DAY, dt.time(), dt.UTC) + dt.timedelta(seconds=86_400 / objects * number)
        body = b"".join(
            b'{"schema":2,"worker":"%b","sequence":%d,%b'
            % (worker.encode(), first + line, _line(task * 1000 + (first + line) % 1000, at))
            for line in range(LINES)
        )
        key = lines_key(day=str(DAY), task=f"task-{task}", worker=worker, first=first, last=first + LINES - 1)
        store.put(key, body)

    with ThreadPoolExecutor(16) as pool:
        for task in range(TASKS):
            list(pool.map(lambda number, task=task: put(task, number), range(objects)))  # type: ignore[misc]
    print(f"{url} is filled", file=sys.stderr, flush=True)


def _line(product: int, at: dt.datetime) -> bytes:
    made = entry(product, DAY)
    stamp_at = at.isoformat(timespec="milliseconds").encode()
    line = made.encode().replace(b"2026-06-30T03:00:00.000+00:00", stamp_at, 1)
    return line.replace(made.decision.decision_id.encode(), b"%024d%08d" % (int(at.timestamp()), product), 1)[1:]


def read(what: str, archive: str) -> dict[str, float]:
    """Reads the day once, in a process of its own; returns seconds, decisions and its largest memory, MB."""
    url, none = f"{URL}-day", Path("/nonexistent")
    now = dt.datetime.combine(DAY, dt.time(23, 59, 59), dt.UTC)
    start, used = time.perf_counter(), time.process_time()
    if what == "list":
        rows = len(list_uploads(open_store(url)).lines)
    elif what == "log":
        rows = len(read_decisions(none, uploads=url, archive=archive).records)
    elif what == "compact":
        rows = compact_uploads(url, to=archive, before=DAY + dt.timedelta(days=1))[1]
    else:
        frame, findings = load_decisions(none, now=now, uploads=url, archive=archive, since=DAY)
        rows = len(frame) + sum(finding.count or 0 for finding in findings if finding.code == "superseded_archived")
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - used,
        "rows": rows,
        "mb": _largest_mb(),
    }


def _largest_mb() -> float:
    """The largest memory of this process; getrusage would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def read_day(environment: dict[str, str], folder: Path, *, objects: int) -> list[dict[str, float | str]]:
    """Measures how fast a day is read, compacted, and read again; returns a row for each."""
    os.environ.update(environment)
    fill(objects)
    rows: list[dict[str, float | str]] = []
    for what in ("list", "log", "monitor", "compact", "monitor"):
        command = [sys.executable, "-m", "benchmarks.log_upload", "--read", what, "--archive", str(folder / "archive")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"what": what, **json.loads(done.stdout)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _tables(ends: Sequence[dict[str, float | str]], reads: Sequence[dict[str, float | str]], objects: int) -> str:
    lines = [
        "| end | answers | lost | seconds before the kill that the lost ones go back | largest lag, s "
        "| follower's CPU, % of a core (without uploads) | SIGTERM to end, s |",
        "|" + "---|" * 7,
    ]
    for row in ends:
        stopped = f"{row['stop_seconds']:.1f}" if row["end"] == "stopped" else "–"
        lines.append(
            f"| {row['end']} | {row['answers']:,} | {row['lost']:,} | {row['lost_seconds']:.1f} | {row['lag']:.1f} "
            f"| {row['cpu']:.1f} ({row['cpu_without']:.1f}) | {stopped} |"
        )
    names = {
        "list": f"the list of {TASKS * objects:,} objects",
        "log": "every decision (`read_decisions`)",
        "monitor": "as monitoring reads it (`load_decisions`)",
        "compact": "`pricing compact` of the day",
    }
    lines += ["", "| what | seconds | CPU seconds | decisions | objects a second | MB |", "|" + "---|" * 6]
    done = False
    for row in reads:
        what = names[str(row["what"])] + (", from the archive" if done else "")
        done = done or row["what"] == "compact"
        decisions = "–" if row["what"] == "list" else f"{row['rows']:,}"
        rate = f"{TASKS * objects / float(row['seconds']):,.0f}" if "archive" not in what else "–"
        lines.append(f"| {what} | {row['seconds']:.1f} | {row['cpu']:.1f} | {decisions} | {rate} | {row['mb']:,.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", choices=("list", "log", "monitor", "compact"))
    parser.add_argument("--archive", default="")
    parser.add_argument("--objects", type=int, default=OBJECTS, help="objects of a task and day")
    options = parser.parse_args(argv)
    if options.read:
        print(json.dumps(read(options.read, options.archive)))
        return 0
    taken = take(PAGE)
    with tempfile.TemporaryDirectory(prefix="pricing-upload-") as scratch:
        folder = Path(scratch)
        with object_store(folder / "s3", bucket="logs") as environment:
            os.environ.update(environment)
            ends = end_tasks(folder, environment)
            reads = read_day(environment, folder, objects=options.objects)
    page = HERE / PAGE
    text = page.read_text(encoding="utf-8")
    begin, end = text.index("<!-- tables -->\n"), text.index("<!-- end -->")
    tables = _tables(ends, reads, options.objects)
    page.write_text(text[:begin] + "<!-- tables -->\n" + tables + "\n" + text[end:], encoding="utf-8")
    stamp(page, taken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
