"""Load calendars of future days for jobs: holidays, named events, planned promotions."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from pricing.arrays import Bools, Days
from pricing.config_models import DataConfig
from pricing.data.calendar import holidays_for, recurring_holidays
from pricing.data.calendar_tables import read_promotions
from pricing.data.events import event_files
from pricing.data.panel import Event, Panel
from pricing.data.promotions import Promotions
from pricing.data.source import read_sales
from pricing.decision.product_facts import ProductFacts
from pricing.errors import SourceError
from pricing.registry.version import LoadedVersion

_NAMED = 3  # most products listed in a note
# Settings that may change after training: calendars, and how far sales may lie from their past.
_CHANGEABLE = ("events", "school_holidays", "pay_days", "promotions", "quality")


def holiday_calendar(panel: Panel, config: DataConfig) -> Callable[[Days], Bools]:
    """Returns the function from dates to holiday flags that training and backtests take."""
    recurring = recurring_holidays(panel)

    def calendar(dates: Days) -> Bools:
        return holidays_for(dates, recurring=recurring, country=config.country, period=panel.period)

    return calendar


def known_events(version: LoadedVersion) -> tuple[Event, ...] | None:
    """Returns the version's own events when an event file cannot be read; None where all can be read again."""
    for where in event_files(version.config.data):
        try:
            read_sales(where)
        except SourceError as error:
            print(f"note: {error}; the events that the version knows go on, no newer ones are learnt of")
            return version.demand.norms.lifts.events() if version.demand.norms.lifts else ()
    return None


def with_calendars(version: LoadedVersion, config: DataConfig) -> LoadedVersion:
    """Returns the version with the calendars, promotion plan and limits of quality that a configuration sets."""
    named = {key: value for key in _CHANGEABLE if (value := getattr(config, key))}
    changed = version.config.model_copy(update={"data": version.config.data.model_copy(update=named)})
    return version if changed == version.config else replace(version, config=changed)


def with_plan(facts: ProductFacts, config: DataConfig) -> ProductFacts:
    """Returns the facts with the configured promotion plan; unchanged where the plan cannot be found.

    Raises:
        PlanError: The plan exists and is invalid.
    """
    if config.promotions is None:
        return facts
    try:
        return with_promotions(facts, read_promotions(config.promotions))
    except SourceError as error:
        print(f"note: {error}; the promotions that the version knows stay planned")
        return facts


def with_promotions(facts: ProductFacts, promotions: Promotions | None) -> ProductFacts:
    """Returns the facts with a promotion plan (None: unchanged); prints the plan's unknown products."""
    if promotions is None:
        return facts
    unknown_products = sorted(set(promotions.spans()) - set(facts.product_ids.tolist()))
    if unknown_products:
        named = ", ".join(repr(name) for name in unknown_products[:_NAMED])
        print(f"note: data.promotions names {len(unknown_products)} products that the sales do not have, first {named}")
    return facts.planned(promotions)


def calendar_digest(panel: Panel, facts: ProductFacts) -> str:
    """Hashes the events and the promotion plan."""
    known = [tuple(map(str, vars(event).values())) for event in panel.events]
    return hashlib.sha256(repr((known, sorted(facts.promotions.spans().items()))).encode()).hexdigest()[:16]
