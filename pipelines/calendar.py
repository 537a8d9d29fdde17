"""Load calendars of future days for jobs: holidays, named events, planned promotions and deliveries."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pricing.arrays import Bools, Days
from pricing.config_models import DataConfig
from pricing.data.calendar import holidays_for, recurring_holidays
from pricing.data.calendar_tables import read_deliveries, read_promotions
from pricing.data.events import event_files
from pricing.data.panel import Event, Panel
from pricing.data.plans import Deliveries, Promotions
from pricing.data.source import read_sales
from pricing.decision.product_facts import ProductFacts
from pricing.errors import SourceError
from pricing.registry.version import LoadedVersion

_NAMED = 3  # most products listed in a note
# Settings that may change after training: calendars, and how far sales may lie from their past.
_CHANGEABLE = ("events", "promotions", "deliveries", "quality")


@dataclass(frozen=True)
class Plans:
    """The plans of a shop for its products.

    Attributes:
        promotions: None where no plan is configured.
        deliveries: Likewise.
    """

    promotions: Promotions | None = None
    deliveries: Deliveries | None = None


def read_plans(config: DataConfig, *, lenient: bool = False) -> Plans:
    """Reads the configured plans.

    Args:
        config: Where they lie.
        lenient: A plan that cannot be found is said and left out, so that what a version knows stays planned.

    Raises:
        SourceError: One does not exist or cannot be read.
        PlanError: One is invalid.
    """
    found: dict[str, Any] = {}
    readers: dict[str, Callable[[str], object]] = {"promotions": read_promotions, "deliveries": read_deliveries}
    for name, read in readers.items():
        where = getattr(config, name)
        try:
            found[name] = None if where is None else read(where)
        except SourceError as error:
            if not lenient:
                raise
            print(f"note: {error}; the {name} that the version knows stay planned")
    return Plans(**found)


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


def with_calendars(version: LoadedVersion, config: DataConfig) -> LoadedVersion:
    """Returns the version with the calendars, plans and limits of quality that a configuration sets."""
    named = {key: value for key in _CHANGEABLE if (value := getattr(config, key))}
    changed = version.config.model_copy(update={"data": version.config.data.model_copy(update=named)})
    return version if changed == version.config else replace(version, config=changed)


def with_plan(facts: ProductFacts, config: DataConfig) -> ProductFacts:
    """Returns the facts with the configured plans; a plan that cannot be found leaves what they have.

    Raises:
        PlanError: A plan exists and is invalid.
    """
    return with_plans(facts, read_plans(config, lenient=True))


def with_plans(facts: ProductFacts, plans: Plans) -> ProductFacts:
    """Returns the facts with what is planned (None: unchanged); prints the plans' unknown products."""
    for key, plan in (("promotions", plans.promotions), ("deliveries", plans.deliveries)):
        unknown = sorted(set(plan.product_id.tolist()) - set(facts.product_ids.tolist())) if plan is not None else []
        if unknown:
            named = ", ".join(map(repr, unknown[:_NAMED]))
            print(f"note: data.{key} names {len(unknown)} products that the sales do not have, first {named}")
    return facts.planned(plans.promotions, deliveries=plans.deliveries)


def calendar_digest(panel: Panel, facts: ProductFacts) -> str:
    """Hashes the events and the plans."""
    known = [tuple(map(str, vars(event).values())) for event in panel.events]
    promotions = sorted(facts.promotions.spans().items())
    deliveries = sorted((name, [str(day) for day in days]) for name, days in facts.planned_deliveries.days().items())
    return hashlib.sha256(repr((known, promotions, deliveries)).encode()).hexdigest()[:16]
