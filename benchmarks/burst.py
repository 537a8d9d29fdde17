"""What a burst and what failures around it do to the service, in containers of half a processor and 1 GB.

python -m benchmarks.burst                   writes burst.json and burst.md beside this; six minutes, needs Docker
python -m benchmarks.burst --output build/burst --step 2 --baseline 3 --ramp 2 --hold 4 --cut 14     a look, faster

Saturation: the highest rate at which one task answers 99 of 100 requests within 100 ms and refuses none. Burst: a fifth
of that, then ten times as much, on one task and on two that get requests in turn. Failures, under light load on two
tasks: a version whose files were altered, a rollback, MLflow, PostgreSQL and S3 cut off in turn, a task killed amid a
promotion. The load is open (`benchmarks.open_load`). Versions have random weights: what a price costs depends on the
shapes of their arrays only.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import mlflow

from benchmarks.burst_page import report
from benchmarks.burst_stack import BUCKET, PROCESSORS, Pins, Stack, StackError, build, engine, stack, sweep
from benchmarks.open_load import LOST, Answer, Load, Segment, arrivals, post, quantile
from benchmarks.provenance import stamp, take
from pricing.registry.mlflow_registry import Registry
from tests.kit.versions import make_panel, make_version

HERE = Path(__file__).parent
MODEL, PRODUCTS, DAYS, UNITS = "pricing", 500, 120, 32
LIMIT_MS = 100.0
VERSIONS = ("1", "2", "3", "4", "5")
DAMAGED, FETCHED_LATE, NEWEST = "4", "3", "5"
DIFFERENT = 2000  # requests, sent in turn
PROBE = 1500.0  # requests a second, above what a task answers
BISECTIONS = 6
LATE_MS = 20.0  # a step whose generator was later is measured again, once
LIGHT = 100.0  # requests a second during failures
PATIENCE = 60.0  # seconds in which tasks are to follow
JOB_SECONDS = 300.0  # that a job may take: a busy machine is slow, and that is not what is measured


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes results and page; returns the exit code."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that containers are removed
    made = take("burst.md")
    try:
        engine()
        sweep()
        say("building both images")
        build()
        results = measure(options)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "burst.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
    page = options.output / "burst.md"
    page.write_text(report(results), encoding="utf-8")
    stamp(page, made)
    print(page.read_text(encoding="utf-8"))
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs every part in turn."""
    begun = time.monotonic()
    processors = sorted(os.sched_getaffinity(0))
    pins = Pins.of(processors)
    results: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "processors": len(processors), "pins": vars(pins)},
        "load_average": {"begin": round(os.getloadavg()[0], 1)},
        "products": PRODUCTS,
        "limit_ms": LIMIT_MS,
    }
    with tempfile.TemporaryDirectory(prefix="pricing-burst-") as name, stack(Path(name), pins=pins) as running:
        os.sched_setaffinity(0, set(map(int, pins.others.split(","))))
        results["machine"]["reserved"] = running.reserved
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)  # a late generator shows as latency; jobs are started with +5
        try:
            registry, requests, altered = prepare(running, Path(name))
            say(f"{len(VERSIONS)} versions registered; starting a task")
            running.start_task("task-1")
            running.wait_ready("task-1")
            results["saturation"] = saturation(running, requests, seconds=options.step)
            rate = results["saturation"]["rate"]
            results["bursts"] = [burst(running, requests, ("task-1",), rate, options)]
            running.start_task("task-2")
            running.wait_ready("task-2")
            results["bursts"].append(burst(running, requests, ("task-1", "task-2"), rate, options))
            results["failures"] = Failures(running, registry, altered, cut=options.cut).measure(requests)
        finally:
            os.sched_setaffinity(0, processors)
    results["load_average"]["end"] = round(os.getloadavg()[0], 1)
    results["seconds"] = round(time.monotonic() - begun)
    return results


def prepare(running: Stack, folder: Path) -> tuple[Registry, list[bytes], list[str]]:
    """Registers versions, promotes the first; returns registry, requests and the keys in S3 of the one to damage."""
    uri = running.environment["MLFLOW_TRACKING_URI"]
    registry, panel = Registry(MODEL, uri=uri), make_panel(products=PRODUCTS, days=DAYS)
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment(MODEL)
    keys: dict[str, set[str]] = {"0": set()}
    for number in VERSIONS:
        version = make_version(folder / number, panel=panel, seed=int(number), units=UNITS)
        with mlflow.start_run(experiment_id=experiment):
            registry.log_version(folder / number)
        keys[number] = set(objects(running))
    done = running.job("pipelines.promote", "--version", "1", "--force", "--reason", "the first")
    if done.returncode:
        raise StackError(f"the first version is not promoted: {done.stderr[-2000:]}")
    draw, ids, prices = random.Random(1), version.facts.product_ids, version.facts.list_price
    requests = []
    for _ in range(DIFFERENT):
        row = draw.randrange(len(ids))
        asked = {
            "product_id": str(ids[row]),
            "current_stock": draw.choice((5, 40, 300, 5000)),
            "day_of_week": draw.choice(("Monday", "Wednesday", "Friday", "Sunday")),
            "comp_price": round(float(prices[row]) * draw.uniform(0.9, 1.1), 2),
            "is_promo": draw.random() < 0.2,
        }
        requests.append(post("/get_price", json.dumps(asked).encode(), key=running.key))
    return registry, requests, sorted(keys[DAMAGED] - keys[str(int(DAMAGED) - 1)])


def saturation(running: Stack, requests: list[bytes], *, seconds: float) -> dict[str, Any]:
    """Finds the highest rate that one task takes, by bisection below what it answers when it is overloaded."""
    step(running, requests, rate=100.0, seconds=min(seconds, 3.0))  # the first requests of a worker are its slowest
    probe = step(running, requests, rate=PROBE, seconds=min(seconds, 4.0))
    say(f"overloaded with {PROBE:.0f} a second it answers {probe['answered']:.0f} a second")
    low, high, steps = 0.0, 2.0 * probe["answered"], []
    for _ in range(BISECTIONS):
        time.sleep(0.5)
        one = step(running, requests, rate=(low + high) / 2, seconds=seconds)
        if not one["kept"] and one["late_ms"] > LATE_MS:
            one = step(running, requests, rate=one["rate"], seconds=seconds)
        steps.append(one)
        low, high = (one["rate"], high) if one["kept"] else (low, one["rate"])
        say(f"{one['rate']:.0f} a second: p99 {one['p99_ms']:.0f} ms, {one['refused']} refused")
    if not low:
        raise StackError(f"a task takes not even {high:.0f} requests a second within {LIMIT_MS:g} ms")
    return {"rate": round(low), "seconds": seconds, "overloaded": probe, "steps": steps}


def step(running: Stack, requests: list[bytes], *, rate: float, seconds: float) -> dict[str, Any]:
    """One rate, held for a while, on the first task."""
    task = running.tasks["task-1"]
    load, before = Load([running.target("task-1")]), task.processor_seconds()
    load.run(arrivals([Segment(seconds, rate, rate)]), requests)
    used = task.processor_seconds() - before
    priced = [answer for answer in load.answers if answer.status == 200]
    found = {
        "rate": round(rate, 1),
        "answered": round(len(priced) / seconds, 1),
        "p50_ms": ms(priced, 0.5),
        "p99_ms": ms(priced, 0.99),
        "refused": sum(answer.status == 429 for answer in load.answers),
        "processor": round(used / seconds / PROCESSORS, 2),
        "late_ms": round(load.late_ms, 1),
        "generator": round(load.busy, 2),
    }
    return {**found, "kept": len(priced) == len(load.answers) and quantile(priced, 0.99) < LIMIT_MS}


def burst(
    running: Stack, requests: list[bytes], names: Sequence[str], saturated: float, options: argparse.Namespace
) -> dict[str, Any]:
    """A fifth of one task's saturation, ten times as much, and back."""
    low, high = 0.2 * saturated, 2.0 * saturated
    parts = {
        "before": Segment(options.baseline, low, low),
        "rise": Segment(options.ramp, low, high),
        "held": Segment(options.hold, high, high),
        "after": Segment(options.baseline / 2, low, low),
    }
    load = Load([running.target(name) for name in names])
    used: list[float] = []

    async def look() -> None:
        end = 0.0
        for part in (None, *parts.values()):
            end += part.seconds if part else 0.0
            await asyncio.sleep(max(end - load.now, 0.0))
            used.append(sum(running.tasks[name].processor_seconds() for name in names))

    load.run(arrivals(parts.values()), requests, script=look)
    phases, begin = [], 0.0
    for place, (name, part) in enumerate(parts.items()):
        got = (used[place + 1] - used[place]) / part.seconds / PROCESSORS / len(names)
        phases.append({"phase": name, **summary(load, begin, begin + part.seconds), "processor": round(got, 2)})
        begin += part.seconds
    say(
        f"burst on {len(names)}: " + ", ".join(f"{p['phase']} {p['priced']:.0f}/s p99 {p['p99_ms']} ms" for p in phases)
    )
    return {
        "tasks": len(names),
        "phases": phases,
        "seconds": [second(load, at) for at in range(math.ceil(begin))],
        "first_refused": min((round(answer.due, 1) for answer in load.answers if answer.status == 429), default=None),
        "late_ms": round(load.late_ms, 1),
        "generator": round(load.busy, 2),
    }


def summary(load: Load, begin: float, end: float) -> dict[str, Any]:
    """What became of the requests that were due in a span of time, rates per second."""
    answers, length = load.between(begin, end), end - begin
    priced = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    return {
        "begin": round(begin, 1),
        "end": round(end, 1),
        "requests": len(answers),
        "refusals": len(refused),
        "offered": round(len(answers) / length, 1),
        "priced": round(len(priced) / length, 1),
        **{f"p{share:g}_ms": ms(priced, share / 100) for share in (50, 95, 99, 100)},
        "refused": round(len(refused) / length, 1),
        **{f"refused_p{share:g}_ms": ms(refused, share / 100) for share in (50, 99, 100)},
        "errors": sum(answer.status >= 500 for answer in answers),
        "others": sum(answer.status not in (200, 429, LOST) and answer.status < 500 for answer in answers),
        "lost": sum(answer.status == LOST for answer in answers),
        "by_version": dict(sorted(Counter(answer.version for answer in priced).items())),
        "by_source": dict(sorted(Counter(answer.source for answer in priced).items())),
    }


def second(load: Load, at: int) -> list[float | None]:
    """One second: offered, priced, their median and 99th percentile in ms, refused, their 99th percentile in ms."""
    answers = load.between(at, at + 1)
    priced = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    return [len(answers), len(priced), ms(priced, 0.5), ms(priced, 0.99), len(refused), ms(refused, 0.99)]


def ms(answers: Iterable[Answer], share: float) -> float | None:
    """A quantile of the times, rounded; None without any, which JSON knows."""
    found = quantile(answers, share)
    return None if math.isnan(found) else round(found, 1)


class Failures:
    """What fails, one thing after another, under one light load on two tasks."""

    def __init__(self, running: Stack, registry: Registry, altered: list[str], *, cut: float) -> None:
        self._running, self._registry, self._altered, self._cut = running, registry, altered, cut
        self._load = Load([running.target(name) for name in running.tasks])
        self._found: dict[str, Any] = {"rate": LIGHT, "cut_seconds": cut}

    def measure(self, requests: list[bytes]) -> dict[str, Any]:
        """Runs all of them; returns what was found of each."""
        hours = 3600.0
        self._load.run(arrivals([Segment(hours, LIGHT, LIGHT)]), requests, script=self._script)
        return self._found

    async def _script(self) -> None:
        await asyncio.sleep(1.0)
        for name, happens in (
            ("promotion", self._promotion("2")),
            ("rollback", self._rollback()),
            ("damaged", self._damaged()),
            ("mlflow", self._outage("mlflow")),
            ("postgres", self._outage("postgres")),
            ("s3", self._outage("s3", wanted=FETCHED_LATE)),
            ("killed", self._killed()),
        ):
            begin = self._load.now
            found = await happens
            await asyncio.sleep(1.0)
            self._found[name] = {**summary(self._load, begin, self._load.now - 0.5), **found}
            say(f"{name}: {found}")

    async def _promotion(self, number: str) -> dict[str, Any]:
        return await self._moved("1", number, "pipelines.promote", "--version", number)

    async def _rollback(self) -> dict[str, Any]:
        return await self._moved("2", "1", "pipelines.rollback")

    async def _moved(self, old: str, new: str, module: str, *more: str) -> dict[str, Any]:
        begin = self._load.now
        words = (*more, "--force", "--reason", "measured")
        job = asyncio.create_task(asyncio.to_thread(self._running.job, module, *words))
        await self._until(lambda: job.done() or self._champion() == new, seconds=JOB_SECONDS)
        moved = self._load.now
        done = await job
        ended = self._load.now
        if done.returncode:
            raise StackError(f"{module}: {done.stderr[-1000:]}")
        await self._until(lambda: self._serve(new))
        await asyncio.sleep(1.0)
        last = max((answer.came for answer in self._load.answers if answer.version == old), default=moved)
        return {
            "job_seconds": round(ended - begin, 1),
            "moved_seconds": round(moved - begin, 1),
            "followed_seconds": round(last - moved, 1),
        }

    async def _damaged(self) -> dict[str, Any]:
        before = next(iter(self._states().values()))["served"]
        await asyncio.to_thread(damage, self._running, self._altered)
        words = ("--version", DAMAGED, "--force", "--reason", "measured")
        done = await asyncio.to_thread(self._running.job, "pipelines.promote", *words)
        await asyncio.to_thread(self._registry.set_alias, "champion", DAMAGED)  # as by hand, past every gate
        begin = self._load.now
        await self._until(lambda: all(state.get("state") == "refused" for state in self._states().values()))
        refused = self._load.now - begin
        state = self._states()
        ready = [await asyncio.to_thread(self._running.ask, name, "/health/ready") for name in self._running.tasks]
        await asyncio.sleep(2.0)
        await asyncio.to_thread(self._registry.set_alias, "champion", before)
        back = await self._until(self._all_follow)
        return {
            "job_exit_code": done.returncode,
            "job_says": done.stderr.strip().split(": ")[-1][:200],
            "refused_seconds": round(refused, 1),
            "told": next(iter(state.values()))["refused"].get(DAMAGED, "").split(": ")[-1][:200],
            "ready": [status for status, _ in ready],
            "prices_from_it": sum(answer.version == DAMAGED for answer in self._load.answers),
            "back_seconds": round(back, 1),
        }

    async def _outage(self, name: str, *, wanted: str | None = None) -> dict[str, Any]:
        """Cuts something off; `wanted` is a version that becomes champion meanwhile, and is not on the tasks' disks."""
        seen: Counter[str] = Counter()
        await asyncio.to_thread(self._running.pause, name)
        begin = self._load.now
        try:
            if wanted is not None:
                await asyncio.to_thread(self._registry.set_alias, "champion", wanted)
            while self._load.now < begin + self._cut:
                states = await asyncio.to_thread(self._states)
                seen.update({str(state.get("state")) for state in states.values()})
                await asyncio.sleep(0.5)
        finally:
            await asyncio.to_thread(self._running.resume, name)
        end = self._load.now
        during = summary(self._load, begin, end)
        served = wanted or next(iter(self._states().values()))["served"]
        await self._until(lambda: self._serve(served) and self._all_follow())
        return {"during": during, "states": sorted(seen), "recovered_seconds": round(self._load.now - end, 1)}

    async def _killed(self) -> dict[str, Any]:
        old = next(iter(self._states().values()))["served"]
        words = ("--version", NEWEST, "--force", "--reason", "measured")
        job = asyncio.create_task(asyncio.to_thread(self._running.job, "pipelines.promote", *words))
        await self._until(lambda: job.done() or self._champion() == NEWEST, every=0.05, seconds=JOB_SECONDS)
        victim = next(iter(self._running.tasks))
        await asyncio.to_thread(self._running.kill, victim)
        killed = self._load.now
        await asyncio.to_thread(self._running.remove, victim)
        await asyncio.to_thread(self._running.start_task, "task-3")
        await asyncio.sleep(max(killed + 5.0 - self._load.now, 0.0))  # when a balancer's health check would have failed
        self._load.targets = [self._running.target(name) for name in self._running.tasks if name != "task-3"]
        await self._until(lambda: self._running.ask("task-3", "/health/ready")[0] == 200)
        self._load.targets = [self._running.target(name) for name in self._running.tasks]
        await self._until(lambda: any(answer.target == "task-3" for answer in self._load.answers[-50:]))
        if (done := await job).returncode:
            raise StackError(f"pipelines.promote: {done.stderr[-1000:]}")
        await self._until(lambda: self._serve(NEWEST))
        await asyncio.sleep(2.0)
        since = [answer for answer in self._load.answers if answer.due >= killed - 1]
        first = min(answer.came for answer in since if answer.target == "task-3" and answer.version == NEWEST)
        last_old = max((answer.came for answer in since if answer.version == old), default=killed)
        return {
            "lost_in_flight": sum(answer.status == LOST and answer.due <= killed for answer in since),
            "lost_later": sum(answer.status == LOST and answer.due > killed for answer in since),
            "sent_on": sum(answer.refused > 0 for answer in since),
            "replaced_seconds": round(first - killed, 1),
            "last_old_seconds": round(last_old - killed, 1),
            "by_task": {
                name: dict(Counter(answer.version for answer in since if answer.target == name and answer.version))
                for name in (victim, *self._running.tasks)
            },
        }

    def _states(self) -> dict[str, dict[str, Any]]:
        return {name: self._running.following(name) for name in self._running.tasks}

    def _all_follow(self) -> bool:
        return all(state.get("state") == "following" for state in self._states().values())

    def _serve(self, number: str) -> bool:
        """Whether every task says, several times, so that both of its workers were asked, that it serves a version."""
        return all(state.get("served") == number for _ in range(4) for state in self._states().values())

    def _champion(self) -> str:
        url = f"{self._running.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/alias"
        with suppress(OSError), urllib.request.urlopen(f"{url}?name={MODEL}&alias=champion", timeout=5) as answer:
            return str(json.load(answer)["model_version"]["version"])
        return ""

    async def _until(self, so: Callable[[], bool], *, every: float = 0.2, seconds: float = PATIENCE) -> float:
        """Waits until something is so; returns the seconds.

        Raises:
            StackError: It is not so in time.
        """
        begin = self._load.now
        while not await asyncio.to_thread(so):
            if self._load.now - begin > seconds:
                raise StackError(f"not so after {seconds:g} s; the tasks say {self._states()}")
            await asyncio.sleep(every)
        return self._load.now - begin


def objects(running: Stack) -> list[str]:
    """The keys of everything in the bucket."""
    client = _s3(running)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def damage(running: Stack, keys: Iterable[str]) -> None:
    """Alters a version's arrays where they are kept: one bit of the last byte of each."""
    client = _s3(running)
    for key in (key for key in keys if key.endswith(".npy")):
        body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        client.put_object(Bucket=BUCKET, Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]))


def _s3(running: Stack) -> Any:
    environment = running.environment
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


def say(what: str) -> None:
    """Tells how far the benchmark is."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.burst", description=__doc__, allow_abbrev=False)
    parser.add_argument("--step", type=float, default=5.0, help="seconds of one rate in the search for saturation")
    parser.add_argument("--baseline", type=float, default=20.0, help="seconds before a burst; half of it after")
    parser.add_argument("--ramp", type=float, default=10.0, help="seconds in which the load becomes tenfold")
    parser.add_argument("--hold", type=float, default=20.0, help="seconds that the burst is held")
    parser.add_argument("--cut", type=float, default=20.0, help="seconds that MLflow, PostgreSQL and S3 are cut off")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
