"""Load calendars of future days for jobs: holidays, named events, planned promotions and deliveries."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pricing.arrays import Bools, Days
from pricing.config_models import DataConfig
from pricing.data.calendar import holidays_for, recurring_holidays
from pricing.data.events import event_files, read_deliveries, read_promotions
from pricing.data.panel import Event, Panel
from pricing.data.source import read_sales
from pricing.decision.product_facts import ProductFacts
from pricing.errors import SourceError
from pricing.registry.version import LoadedVersion

_NAMED = 3  # most products listed in a note
PLANS = ("promotions", "deliveries")
CHANGEABLE = ("events", *PLANS, "quality")  # after training: calendars, and how far sales may lie from their past


def read_plan(config: DataConfig, name: str) -> Any:
    """Reads a configured plan, "promotions" or "deliveries"; None where none is configured.

    Raises:
        SourceError: It does not exist or cannot be read.
        PlanError: It is invalid.
    """
    where = getattr(config, name)
    return where and {"promotions": read_promotions, "deliveries": read_deliveries}[name](where)


def holiday_calendar(panel: Panel, config: DataConfig) -> Callable[[Days], Bools]:
    """Returns the function from dates to holiday flags that training and backtests take."""
    recurring = recurring_holidays(panel)

    def calendar(dates: Days) -> Bools:
        return holidays_for(dates, recurring=recurring, country=config.country, period=panel.period)

    return calendar


def known_events(version: LoadedVersion) -> tuple[Event, ...] | None:
    """Returns the version's own events when an event file cannot be read; None where all can be read again."""
    try:
        for where in event_files(version.config.data):
            read_sales(where)
    except SourceError as error:
        print(f"note: {error}; the events that the version knows go on, no newer ones are learnt of")
        return version.demand.lifts.events() if version.demand.lifts else ()
    return None


def with_calendars(version: LoadedVersion, config: DataConfig, *, names: Sequence[str] = CHANGEABLE) -> LoadedVersion:
    """Returns the version with those of the named settings of `data` that a configuration sets."""
    named = {key: value for key in names if (value := getattr(config, key))}
    changed = version.config.model_copy(update={"data": version.config.data.model_copy(update=named)})
    return version if changed == version.config else replace(version, config=changed)


def with_plan(facts: ProductFacts, config: DataConfig) -> ProductFacts:
    """Returns the facts with the configured plans, and prints which products of these they do not have.

    Where there is no plan, or it cannot be found, what the facts have stays planned.

    Raises:
        PlanError: A plan exists and is invalid.
    """
    plans: dict[str, Any] = {}
    for name in PLANS:
        try:
            plan = read_plan(config, name)
        except SourceError as error:
            print(f"note: {error}; the {name} that the version knows stay planned")
            continue
        unknown = sorted(set(plan.product_id.tolist()) - set(facts.product_ids.tolist())) if plan is not None else []
        if unknown:
            named = ", ".join(map(repr, unknown[:_NAMED]))
            print(f"note: data.{name} names {len(unknown)} products that the sales do not have, first {named}")
        plans[name] = plan
    return facts.planned(plans.get("promotions"), deliveries=plans.get("deliveries"))


def calendar_digest(panel: Panel, facts: ProductFacts) -> str:
    """Hashes the events and the plans."""
    known = [tuple(map(str, vars(event).values())) for event in panel.events]
    promotions = sorted(facts.promotions.spans().items())
    deliveries = sorted((name, [str(day) for day in days]) for name, days in facts.planned_deliveries.days().items())
    return hashlib.sha256(repr((known, promotions, deliveries)).encode()).hexdigest()[:16]
