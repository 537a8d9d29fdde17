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
        return f"experiment {entry.name}"
    if isinstance(entry, Review):
        return _of_review(entry)
    if isinstance(entry, Switch):
        return _of_switch(entry)
    return f"unfreeze of {entry.whose}: {entry.reason}"


def _of_review(review: Review) -> str:
    named = [f"{product} at {_money(price)}" for product, price in list(review.prices.items())[:SHOWN]]
    more = f" and {len(review.prices) - SHOWN:,} more" if len(review.prices) > SHOWN else ""
    return f"{review.verdict} of {', '.join(named)}{more}: {review.reason}"


def _of_switch(switch: Switch) -> str:
    price = f" at {_money(switch.price)}" if switch.price is not None else ""
    below = ", below cost too" if switch.below_cost else ""
    until = f" until {local_time(switch.until)}" if switch.until else ""
    return f"{switch.action} of {switch.whose}{price}{below}{until}: {switch.reason}"


def _money(price: float) -> str:
    return f"{price:.12g}"  # without what floating point adds


def local_time(moment: dt.datetime) -> str:
    """Formats a moment in this machine's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
