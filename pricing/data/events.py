"""Named events: the country's holidays, the sales before Christmas, and a user's own calendar. No clock."""

import datetime as dt
import re
from collections.abc import Iterator, Sequence

import numpy as np
from dateutil.easter import easter

from pricing.config_models import DataConfig
from pricing.data.calendar import country_holidays, nth_weekday
from pricing.data.calendar_tables import read_plan
from pricing.data.etl_output import plan_of
from pricing.data.panel import STEP_DAYS, Event, Period

AHEAD = 430  # periods after the history that the calendar reaches; a model's states are carried on with a newer one
LONG = 7  # days beyond which an event is a time of the year: other events go on in it
# What calendars call a day off that stands for a holiday on a weekend, or that was moved.
_STAND_IN = re.compile(r"observed|substitut|in lieu|day off", re.IGNORECASE)
_DAY_OFF = re.compile(r"^(day off|substitute holiday)\b", re.IGNORECASE)  # a stand-in that does not say for what
_REMARK = re.compile(r"\s*\([^()]*\)\s*$")

Span = tuple[dt.date, dt.date]


def named_events(config: DataConfig, first: np.datetime64, last: np.datetime64, *, period: Period) -> tuple[Event, ...]:
    """The events around a history, whose last period begins on `last`, and of the time after it.

    In order of precedence: the user's own, the country's, Easter and the sales before Christmas; each by date.

    Raises:
        ConfigError: The country has no calendar.
        SourceError, PlanError: A file that the configuration names cannot be read, or is no calendar of events.
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
    found = []
    for name, (start, finish), category in named:
        if finish >= begin and start <= until:
            before, after = (0, 0) if name in long else around
            days = np.datetime64(start), np.datetime64(finish)
            found.append(Event(name, *days, category, before, after, overlay=name in long or category != ""))
    return tuple(found)


def event_files(config: DataConfig) -> tuple[str, ...]:
    """The files that `named_events` reads."""
    return () if config.events is None else (plan_of(config.events, "events"),)


def _own_events(where: str) -> Iterator[tuple[str, Span, str]]:
    frame = read_plan(where, key="data.events", needed=("date", "name"), optional=("last_date", "category"))
    frame = frame.sort_values("date", kind="stable")
    first, last = (frame[name].to_numpy("M8[D]").tolist() for name in ("date", "last_date"))
    yield from zip(frame["name"], zip(first, last, strict=True), frame["category"], strict=True)


def _country_events(country: str, years: range) -> list[tuple[str, Span]]:
    """The public holidays by name; days in a row of one name are one event.

    A day off that stands in for a holiday counts only where that itself is not in the calendar.
    """
    themselves: dict[str, set[dt.date]] = {}
    stand_ins: dict[str, set[dt.date]] = {}
    for day, names in country_holidays(country, years).items():
        for said in names:
            name, remark = plain_name(said)
            if name:
                (stand_ins if _STAND_IN.search(remark) else themselves).setdefault(name, set()).add(day)
    found: list[tuple[str, Span]] = []
    for name in themselves.keys() | stand_ins.keys():
        days = themselves.get(name, set())
        near = {day + dt.timedelta(days=away) for day in days for away in range(-LONG, LONG + 1)}
        found += [(name, span) for span in _spans(days | (stand_ins.get(name, set()) - near))]
    return sorted(found, key=lambda event: (event[1], event[0]))


def plain_name(said: str) -> tuple[str, str]:
    """A holiday's name without the remarks in brackets behind it, and the remarks; no name for an unnamed day off."""
    name, remarks = said.strip(), ""
    while found := _REMARK.search(name):
        name, remarks = name[: found.start()], found.group() + remarks
    return ("", said) if _DAY_OFF.match(name) else (name, remarks)


def _spans(days: set[dt.date]) -> list[Span]:
    """First and last day of each run of days."""
    ordered, day = sorted(days), dt.timedelta(days=1)
    firsts = [one for one in ordered if one - day not in days]
    return list(zip(firsts, [one for one in ordered if one + day not in days], strict=True))


def _beside(country: Sequence[tuple[str, Span]], years: range) -> Iterator[tuple[str, Span]]:
    """Easter Sunday and the sales before Christmas, where Christmas is a holiday and the calendar has none so named."""
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
