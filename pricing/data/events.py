"""Named events: the country's holidays, the sales before Christmas, and a user's own calendar. No clock."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from dateutil.easter import easter

from pricing.config_models import DataConfig
from pricing.data.calendar import nth_weekday
from pricing.data.calendar_tables import read_plan
from pricing.data.etl_output import plan_of
from pricing.data.panel import STEP_DAYS, Event, Period
from pricing.errors import ConfigError

AHEAD = 430  # periods after the history that the calendar reaches; a model's states are carried on with a newer one
LONG = 7  # days beyond which an event is a time of the year: other events go on in it
# What calendars call a day off that stands for a holiday on a weekend, or that was moved.
_STAND_IN = re.compile(r"observed|substitut|in lieu|day off", re.IGNORECASE)
_DAY_OFF = re.compile(r"^(day off|substitute holiday)\b", re.IGNORECASE)  # a stand-in that does not say for what
_REMARK = re.compile(r"\s*\([^()]*\)\s*$")

Span = tuple[dt.date, dt.date]


def named_events(config: DataConfig, first: np.datetime64, last: np.datetime64, *, period: Period) -> tuple[Event, ...]:
    """The events around a history, and of the time after it.

    Args:
        config: Which ones.
        first: First day of the history.
        last: First day of its last period.
        period: The grain.

    Returns:
        In order of precedence: the user's own, the country's, Easter and the sales before Christmas; each by date.

    Raises:
        ConfigError: The country has no calendar.
        SourceError: A file that the configuration names cannot be read.
        PlanError: It holds something else than a calendar of events.
    """
    end = last + np.timedelta64(AHEAD * STEP_DAYS[period], "D")
    begin: dt.date = first.astype("datetime64[D]").astype(dt.date) - dt.timedelta(days=31)
    until: dt.date = end.astype("datetime64[D]").astype(dt.date)
    years = range(begin.year, until.year + 1)
    around = config.event_window if period == "day" else (1, 1)
    named: list[tuple[str, Span, str]] = []
    if config.events is not None:
        named += _own_events(config.events)
    if config.named_holidays:
        country = _country_events(config.country, years)
        named += [(name, span, "") for name, span in (*country, *_beside(country, years))]
    long = {name for name, (start, finish), _ in named if (finish - start).days >= LONG}
    events = [
        _event(name, span, category, around=(0, 0) if name in long else around, overlay=name in long or category != "")
        for name, span, category in named
    ]
    low, high = np.datetime64(begin), np.datetime64(until)
    return tuple(event for event in events if event.last >= low and event.first <= high)


def event_files(config: DataConfig) -> tuple[str, ...]:
    """The files that `named_events` reads."""
    return () if config.events is None else (plan_of(config.events, "events"),)


def _event(name: str, span: Span, category: str, *, around: tuple[int, int], overlay: bool) -> Event:
    return Event(name, np.datetime64(span[0]), np.datetime64(span[1]), category, *around, overlay)


def _own_events(where: str) -> Iterator[tuple[str, Span, str]]:
    frame = read_plan(where, key="data.events", needed=("date", "name"), optional=("last_date", "category"))
    frame = frame.sort_values("date", kind="stable")
    first, last = (frame[name].to_numpy("M8[D]").tolist() for name in ("date", "last_date"))
    yield from zip(frame["name"], zip(first, last, strict=True), frame["category"], strict=True)


@lru_cache(maxsize=32)
def _country_events(country: str, years: range) -> tuple[tuple[str, Span], ...]:
    """The public holidays by name; days in a row of one name are one event.

    A day off that stands in for a holiday has its name, and counts only where the day itself is not in the calendar.
    """
    import holidays  # noqa: PLC0415 - a large library that few processes need

    try:
        table = holidays.country_holidays(country, years=years)
        if "en_US" in table.supported_languages:
            table = holidays.country_holidays(country, years=years, language="en_US")
    except NotImplementedError as error:
        raise ConfigError(f"data.country: there is no holiday calendar for {country!r}; give an ISO code") from error
    themselves: dict[str, set[dt.date]] = {}
    stand_ins: dict[str, set[dt.date]] = {}
    for day in table:
        for said in table.get_list(day):
            name, remark = plain_name(said)
            if name:
                (stand_ins if _STAND_IN.search(remark) else themselves).setdefault(name, set()).add(day)
    found: list[tuple[str, Span]] = []
    for name in themselves.keys() | stand_ins.keys():
        days = themselves.get(name, set())
        near = {day + dt.timedelta(days=away) for day in days for away in range(-LONG, LONG + 1)}
        found += [(name, span) for span in _spans(days | (stand_ins.get(name, set()) - near))]
    return tuple(sorted(found, key=lambda event: (event[1], event[0])))


def plain_name(said: str) -> tuple[str, str]:
    """A holiday's name without the remarks in brackets behind it, and the remarks; no name for an unnamed day off."""
    name, remarks = said.strip(), ""
    while found := _REMARK.search(name):
        name, remarks = name[: found.start()], found.group() + remarks
    return ("", said) if _DAY_OFF.match(name) else (name, remarks)


def _spans(days: Iterable[dt.date]) -> Iterator[Span]:
    first = last = None
    for day in sorted(days):
        if first is None or last is None or (day - last).days > 1:
            if first is not None and last is not None:
                yield first, last
            first = day
        last = day
    if first is not None and last is not None:
        yield first, last


def _beside(country: Iterable[tuple[str, Span]], years: range) -> Iterator[tuple[str, Span]]:
    """Easter Sunday and the sales before Christmas, where Christmas is a holiday and the calendar has none so named."""
    country = list(country)
    names = {name for name, _ in country}
    if not any((first.month, first.day) == (12, 25) for _, (first, _) in country):
        return
    for year in years:
        thanksgiving = nth_weekday(year, 11, 4, 3)
        for name, day in (
            ("Easter Sunday", easter(year)),
            ("Black Friday", thanksgiving + dt.timedelta(days=1)),
            ("Cyber Monday", thanksgiving + dt.timedelta(days=4)),
        ):
            if name not in names:
                yield name, (day, day)
