"""Start the nightly job every day at one time, in a container that stays: what cron is elsewhere.

The time of PRICING_HOME/schedule is when the last night began that came to its end, so that one that was due meanwhile,
or that a restart cut off, is run at once, and none twice.
"""

import datetime as dt
import os
import subprocess
import time
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from pipelines.commands import COMMAND, only_one, stop
from pricing.paths import ROOT, pricing_home
from pricing.runtime.cli import job

LOOK_SECONDS = 20.0  # between two looks at the clock, which may be set, or stand still while a machine sleeps


def last_due(now: dt.datetime, *, at: dt.time, zone: ZoneInfo) -> dt.datetime:
    """The last moment, in UTC, at which a night was due, no later than `now`.

    A time that a day of the zone does not have, since clocks are put forward, is taken as if they had not been.
    """
    today = now.astimezone(zone).date()
    days = (today - dt.timedelta(days=1), today)
    moments = [dt.datetime.combine(day, at, tzinfo=zone).astimezone(dt.UTC) for day in days]
    return max(moment for moment in moments if moment <= now)


def is_due(file: Path, *, now: dt.datetime, at: dt.time, zone: ZoneInfo) -> bool:
    """Tells whether a night is to be started: the last one due lies after the time in the file.

    At the very first look the last night counts as done: nobody asked for it.
    """
    if not file.exists():
        remember(file, now)
    return last_due(now, at=at, zone=zone).timestamp() > file.stat().st_mtime


def remember(file: Path, began: dt.datetime) -> None:
    """Notes when the night began that has just ended."""
    file.touch()
    os.utime(file, (began.timestamp(), began.timestamp()))


def _zone(_context: click.Context, _parameter: click.Parameter, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.BadParameter(f"expected a time zone such as Europe/Berlin, found {name!r}") from error


@job("schedule", config=False)
@click.option("--at", type=click.DateTime(["%H:%M"]), default="02:30", metavar="HH:MM", help="local time of a night")
@click.option("--zone", callback=_zone, default="UTC", metavar="NAME", help="time zone, such as Europe/Berlin")
@click.argument("words", nargs=-1)
def main(*, at: dt.datetime, zone: ZoneInfo, words: tuple[str, ...]) -> int:
    """Starts the nightly job every day at one time, and stays; after `--` follow the options of `pricing nightly`."""
    if "" in words:
        raise click.UsageError("an option is empty, and every night would fail; docker-compose.yml takes it from SALES")
    home = pricing_home().resolve()
    file = home / "schedule"
    with only_one("schedule", home=home):
        print(f"every day at {at:%H:%M} {zone.key}: pricing nightly {' '.join(words)}", flush=True)
        while True:
            now = dt.datetime.now(dt.UTC)
            if is_due(file, now=now, at=at.time(), zone=zone):
                print(f"the night ended with exit code {_night(words)}", flush=True)
                remember(file, now)
            time.sleep(LOOK_SECONDS)


def _night(words: tuple[str, ...]) -> int:
    process = subprocess.Popen([*COMMAND, "nightly", *words], cwd=ROOT)
    try:
        return process.wait()
    finally:
        stop([process])
