"""Start the nightly job every day at one time, in a container that stays: what cron is elsewhere.

It remembers in PRICING_HOME/schedule.json which night is done, so that a restart neither skips a night nor runs it
twice: one that was due meanwhile, or that a restart cut off, is run at once.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipelines.commands import only_one, stop
from pricing.errors import ConfigError
from pricing.fileio import replace_json
from pricing.paths import ROOT, pricing_home
from pricing.runtime.cli import Options, run_main

ATTEMPTS = 2  # of one night that something cuts off, such as a restart or the lack of memory
LOOK_SECONDS = 20.0  # between two looks at the clock, which may be set, or stand still while a machine sleeps


@dataclass(frozen=True)
class Night:
    """The memory of the last night.

    Attributes:
        due: When it was due, ISO 8601 in UTC.
        attempts: How often it was started.
        code: Its exit code; None where it has not ended.
    """

    due: str
    attempts: int = 0
    code: int | None = None

    @property
    def done(self) -> bool:
        """Tells whether it is not started again."""
        return self.code is not None or self.attempts >= ATTEMPTS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until a signal; returns the exit code."""
    return run_main(_schedule, argv)


def last_due(now: dt.datetime, *, at: dt.time, zone: ZoneInfo) -> dt.datetime:
    """The last moment, in UTC, at which a night was due, no later than `now`.

    A time that a day of the zone does not have, since clocks are put forward, is taken as if they had not been.
    """
    today = now.astimezone(zone).date()
    moments = [
        dt.datetime.combine(today + dt.timedelta(days=days), at, tzinfo=zone).astimezone(dt.UTC) for days in (-1, 0)
    ]
    return max(moment for moment in moments if moment <= now)


def next_night(file: Path, *, now: dt.datetime, at: dt.time, zone: ZoneInfo) -> Night | None:
    """The night to start now; None while none is due.

    At the very first look the last night counts as done: nobody asked for it.

    Args:
        file: What is remembered; written at the first look.
        now: With its zone.
        at: Local time at which a night is due.
        zone: Of that time.
    """
    due = last_due(now, at=at, zone=zone).isoformat()
    before = _remembered(file)
    if before is None:
        _remember(file, Night(due, code=0))
        return None
    if before.due >= due:  # also where `at` was moved to later in the day
        return None if before.done else before
    return Night(due)


def _schedule(argv: Sequence[str] | None) -> int:
    options, at, zone = _options(argv)
    home = pricing_home().resolve()
    file = home / "schedule.json"
    command = [sys.executable, "-m", "pipelines.nightly", *options.words]
    with only_one("schedule", home=home):
        print(f"every day at {at:%H:%M} {zone.key}: {' '.join(command[2:])}", flush=True)
        while True:
            pass_time(file, at=at, zone=zone, start=partial(_run, command), now=lambda: dt.datetime.now(dt.UTC))
            time.sleep(LOOK_SECONDS)


def pass_time(
    file: Path, *, at: dt.time, zone: ZoneInfo, start: Callable[[], int], now: Callable[[], dt.datetime]
) -> int | None:
    """Looks at the clock once and runs the night that is due; returns its exit code, None where none is due."""
    night = next_night(file, now=now(), at=at, zone=zone)
    if night is None:
        return None
    begun = Night(night.due, night.attempts + 1)
    _remember(file, begun)
    code = start()
    _remember(file, Night(begun.due, begun.attempts, code))
    print(f"the night due at {begun.due} ended with exit code {code}", flush=True)
    return code


def _run(command: Sequence[str]) -> int:
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait()
    finally:
        stop([process])


def _options(argv: Sequence[str] | None) -> tuple[argparse.Namespace, dt.time, ZoneInfo]:
    options = Options("schedule", "Starts the nightly job every day at one time, and stays.")
    options.add_argument("--at", default="02:30", metavar="HH:MM", help="local time at which a night is due")
    options.add_argument("--zone", default="UTC", metavar="NAME", help="time zone, such as Europe/Berlin")
    options.add_argument("words", nargs="*", metavar="WORD", help="after --: the options of `pricing nightly`")
    found = options.parse(argv)
    try:
        at = dt.time.fromisoformat(found.at)
    except ValueError as error:
        raise ConfigError(f"--at: expected a time such as 02:30, found {found.at!r}") from error
    try:
        zone = ZoneInfo(found.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"--zone: expected a time zone such as Europe/Berlin, found {found.zone!r}") from error
    for option, value in pairwise(found.words):
        if not value:
            raise ConfigError(f"{option}: is empty, and every night would fail; docker-compose.yml takes it from SALES")
    return found, at, zone


def _remembered(file: Path) -> Night | None:
    """Tells what the file says; a damaged one counts as none, and so as a first look."""
    try:
        return Night(**json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _remember(file: Path, night: Night) -> None:
    replace_json(file, asdict(night))


if __name__ == "__main__":
    sys.exit(main())
