"""Named events: the country's holidays, moving feasts, a user's own calendar, school holidays, pay days. No clock."""

import calendar
import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
from dateutil.easter import easter

from pricing.config_models import DataConfig, Feast
from pricing.data.calendar import nth_weekday
from pricing.data.calendar_tables import read_plan
from pricing.data.etl_output import plan_of
from pricing.data.panel import STEP_DAYS, Event, Period
from pricing.errors import ConfigError

AHEAD = 430  # periods after the history that the calendar reaches; a model's states are carried on with a newer one
LONG = 7  # days beyond which an event is a time of the year: other events go on in it
PAY_DAYS_AFTER = 2  # days after a pay day on which its money is spent
PAY_DAY, SCHOOL = "Pay day", "School holidays"
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
        In order of precedence: the user's own, the country's, feasts, school holidays, pay days; each by date.

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
    country = _country_events(config.country, years) if config.named_holidays else ()
    named += [(name, span, "") for name, span in country]
    named += [(name, span, "") for name, span in _feasts(config, years)]
    named += [(SCHOOL, span, "") for span in _school_holidays(config)]
    long = {name for name, (start, finish), _ in named if (finish - start).days >= LONG} | {SCHOOL}
    events = [
        _event(name, span, category, around=(0, 0) if name in long else around, overlay=name in long or category != "")
        for name, span, category in named
    ]
    after = PAY_DAYS_AFTER if period == "day" else 0
    events += [_event(PAY_DAY, (d, d), "", around=(0, after), overlay=True) for d in _pay_days(config.pay_days, years)]
    low, high = np.datetime64(begin), np.datetime64(until)
    return tuple(event for event in events if event.last >= low and event.first <= high)


def event_files(config: DataConfig) -> tuple[str, ...]:
    """The files that `named_events` reads."""
    named = {"events": config.events, "school_holidays": config.school_holidays}
    return tuple(plan_of(where, name) for name, where in named.items() if isinstance(where, str))


def _event(name: str, span: Span, category: str, *, around: tuple[int, int], overlay: bool) -> Event:
    return Event(name, np.datetime64(span[0]), np.datetime64(span[1]), category, *around, overlay)


def _own_events(where: str) -> Iterator[tuple[str, Span, str]]:
    frame = read_plan(where, key="data.events", needed=("date", "name"), optional=("last_date", "category"))
    frame = frame.sort_values("date", kind="stable")
    yield from zip(frame["name"], _days(frame, "date", "last_date"), frame["category"], strict=True)


def _school_holidays(config: DataConfig) -> list[Span]:
    if not isinstance(config.school_holidays, str):
        return sorted(config.school_holidays)
    frame = read_plan(config.school_holidays, key="data.school_holidays", needed=("first", "last"))
    return sorted(_days(frame, "first", "last"))


def _days(frame: pd.DataFrame, first: str, last: str) -> list[Span]:
    columns = (frame[name].to_numpy().astype("datetime64[D]").tolist() for name in (first, last))
    return list(zip(*columns, strict=True))


def _pay_days(days: list[int], years: range) -> Iterator[dt.date]:
    """Each month's pay days; a day that a month lacks is its last one."""
    for year in years:
        for month in range(1, 13):
            length = calendar.monthrange(year, month)[1]
            for day in sorted({min(day, length) if day > 0 else length + 1 + day for day in days}):
                yield dt.date(year, month, day)


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


def _feasts(config: DataConfig, years: range) -> Iterator[tuple[str, Span]]:
    """The feasts that the country's calendar does not have already, by that name or on the same day in every year."""
    country = _country_events(config.country, years) if config.named_holidays else ()
    names, listed = {name for name, _ in country}, {span[0] for _, span in country}
    chosen = config.feasts if config.feasts is not None else list(_usual_feasts(config, years))
    for feast in chosen:
        name, spans_of = FEASTS[feast]
        spans = sorted({span for year in years for span in spans_of(year)})
        if name not in names and not all(first in listed for first, _ in spans):
            yield from ((name, span) for span in spans)


def _usual_feasts(config: DataConfig, years: range) -> Iterator[Feast]:
    """What goes with the country's own holidays.

    Easter and the sales before Christmas where Christmas is one; Ramadan and both Eids where Eid al-Fitr is one.
    """
    if not config.named_holidays:
        return
    days = {day for _, (first, last) in _country_events(config.country, years) for day in (first, last)}
    if any((day.month, day.day) == (12, 25) for day in days):
        yield from ("easter", "black_friday", "cyber_monday")
    # The moon is seen a day later in some countries; now and then Eid falls on another holiday.
    eids = [first for year in years for first, _ in FEASTS["eid_al_fitr"][1](year)]
    found = [not days.isdisjoint({first, first + dt.timedelta(days=1)}) for first in eids]
    if 2 * sum(found) > len(found):
        yield from ("ramadan", "eid_al_fitr", "eid_al_adha")


def _day(day: dt.date, *, away: int = 0) -> list[Span]:
    day += dt.timedelta(days=away)
    return [(day, day)]


def _lunar(kind: str, year: int) -> list[dt.date]:
    """Feasts of other calendars by the tables of the `holidays` library, which hold what was proclaimed where known."""
    from holidays.calendars.chinese import _ChineseLunisolar  # noqa: PLC0415 - a large library
    from holidays.calendars.hindu import _HinduLunisolar  # noqa: PLC0415
    from holidays.calendars.islamic import _IslamicLunar  # noqa: PLC0415

    if kind == "lunar_new_year":
        found = [_ChineseLunisolar().lunar_new_year_date(year)]
    elif kind == "diwali":
        found = [_HinduLunisolar().diwali_india_date(year)]
    else:
        found = list(getattr(_IslamicLunar(), f"{kind}_dates")(year))
    return sorted(day for day, _ in found if day is not None and day.year == year)


def _ramadan(year: int) -> list[Span]:
    ends = [day for each in (year, year + 1) for day in _lunar("eid_al_fitr", each)]
    begins = _lunar("ramadan_beginning", year)
    return [(first, min(end for end in ends if end > first) - dt.timedelta(days=1)) for first in begins]


def _by(kind: str) -> Callable[[int], list[Span]]:
    return lambda year: [(day, day) for day in _lunar(kind, year)]


# Key of the configuration: name, and the spans that begin in a year.
FEASTS: dict[Feast, tuple[str, Callable[[int], list[Span]]]] = {
    "easter": ("Easter Sunday", lambda year: _day(easter(year))),
    "thanksgiving": ("Thanksgiving Day", lambda year: _day(nth_weekday(year, 11, 4, 3))),
    "black_friday": ("Black Friday", lambda year: _day(nth_weekday(year, 11, 4, 3), away=1)),
    "cyber_monday": ("Cyber Monday", lambda year: _day(nth_weekday(year, 11, 4, 3), away=4)),
    "lunar_new_year": ("Lunar New Year", _by("lunar_new_year")),
    "ramadan": ("Ramadan", _ramadan),
    "eid_al_fitr": ("Eid al-Fitr", _by("eid_al_fitr")),
    "eid_al_adha": ("Eid al-Adha", _by("eid_al_adha")),
    "diwali": ("Diwali", _by("diwali")),
    "valentines_day": ("Valentine's Day", lambda year: _day(dt.date(year, 2, 14))),
    "mothers_day": ("Mother's Day", lambda year: _day(nth_weekday(year, 5, 2, 6))),
    "fathers_day": ("Father's Day", lambda year: _day(nth_weekday(year, 6, 3, 6))),
    "halloween": ("Halloween", lambda year: _day(dt.date(year, 10, 31))),
}
