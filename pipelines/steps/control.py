"""The control table for jobs: read what people have switched and tried, publish it, and put an entry into words."""

import datetime as dt
import sys

from pricing.config import Config
from pricing.decision.experiments import Experiment
from pricing.decision.switches import Control, Review, Scoped, Switch
from pricing.errors import EXIT_NOT_PUBLISHED, PricingError
from pricing.objects import open_store
from pricing.paths import database_url
from pricing.registry.control import ControlRecord, known_control
from pricing.registry.published_store import published_url
from pricing.runtime.cli import typed

SHOWN = 3  # products of a decision that are named
_MONEY = ".12g"  # without what floating point adds


def control_record(config: Config) -> ControlRecord:
    """Opens the record of what people have switched and tried."""
    return ControlRecord(database_url(), model=config.registry.model_name, store=open_store(published_url()))


def control_in_force(config: Config, *, at: dt.datetime | None = None) -> Control:
    """Reads what people have switched and tried; see `known_control`."""
    return known_control(config.registry.model_name, url=database_url(), store=open_store(published_url()), at=at)


def publish_control(record: ControlRecord, *, now: dt.datetime) -> int:
    """Publishes what a command has just written to the control table, and returns its exit code."""
    try:
        record.mirror(now=now)
    except PricingError as error:
        print(f"error: written, and not published, so serving does not know it yet: {error}", file=sys.stderr)
        print(f"`{typed('publish')}` mends it, as its loop beside the service does", file=sys.stderr)
        return EXIT_NOT_PUBLISHED
    return 0


def sentence(entry: Scoped | Review | Experiment) -> str:
    """Puts an entry of the control table into one line."""
    if isinstance(entry, Experiment):
        until = f" until {entry.stopped}" if entry.stopped else ""
        return f"experiment {entry.name}, {len(entry.products):,} products, from {entry.since}{until}"
    if isinstance(entry, Review):
        named = [f"{product} at {price:{_MONEY}}" for product, price in list(entry.prices.items())[:SHOWN]]
        more = f" and {len(entry.prices) - SHOWN:,} more" if len(entry.prices) > SHOWN else ""
        return f"{entry.verdict} of {', '.join(named)}{more}: {entry.reason}"
    if isinstance(entry, Switch):
        price = f" at {entry.price:{_MONEY}}" if entry.price is not None else ""
        below = ", below cost too" if entry.below_cost else ""
        until = f" until {local_time(entry.until)}" if entry.until else ""
        return f"{entry.action} of {entry.whose}{price}{below}{until}: {entry.reason}"
    return f"unfreeze of {entry.whose}: {entry.reason}"


def local_time(moment: dt.datetime) -> str:
    """Formats a moment in this machine's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
