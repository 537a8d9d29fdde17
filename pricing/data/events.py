"""Named events, and the user's own tables: of events, planned promotions and deliveries. No clock."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from dateutil.easter import easter

from pricing.config_models import DataConfig
from pricing.data.calendar import Plan, country_holidays, nth_weekday
from pricing.data.contract import Column, Faults, unusable
from pricing.data.etl_output import plan_of
from pricing.data.panel import STEP_DAYS, Event, Period
from pricing.data.source import read_sales
from pricing.errors import PlanError, SourceError, Violation, nearest
from pricing.fileio import redact_url

AHEAD = 430  # periods after the history that the calendar reaches; a model's states are carried on with a newer one
AROUND: dict[Period, tuple[int, int]] = {"day": (3, 1), "week": (1, 1)}  # periods before and after that it may change
LONG = 7  # days beyond which an event is a time of the year: other events go on in it
# What calendars call a day off that stands for a holiday on a weekend, or that was moved.
_STAND_IN = re.compile(r"observed|substitut|in lieu|day off", re.IGNORECASE)
_DAY_OFF = re.compile(r"^(day off|substitute holiday)\b", re.IGNORECASE)  # a stand-in that does not say for what
_REMARK = re.compile(r"\s*\([^()]*\)\s*$")
_DAY, _NAME = Column("day", needed=True), Column("name", needed=True)
_COLUMNS = {
    "events": {"date": _DAY, "name": _NAME, "last_date": Column("day"), "category": Column("name")},
    "promotions": {"product_id": _NAME, "first": _DAY, "last": _DAY},
    "deliveries": {"product_id": _NAME, "date": _DAY},
}

Span = tuple[dt.date, dt.date]


def named_events(config: DataConfig, first: np.datetime64, last: np.datetime64, *, period: Period) -> tuple[Event, ...]:
    """The events around a history, whose last period begins on `last`, and of the time after it.

    In order of precedence: the user's own, the country's, Easter and the sales before Christmas; each by date.

    Raises:
        ConfigError: The country has no calendar.
        SourceError, PlanError: The user's calendar cannot be read, or is none.
    """
    end = last + np.timedelta64(AHEAD * STEP_DAYS[period], "D")
    begin: dt.date = first.astype("datetime64[D]").astype(dt.date) - dt.timedelta(days=31)
    until: dt.date = end.astype("datetime64[D]").astype(dt.date)
    years = range(begin.year, until.year + 1)

    named: list[tuple[str, Span, str]] = []
    if config.events is not None:
        own = _read(config.events, "events").sort_values("first", kind="stable")
        days = own[["first", "last"]].to_numpy("M8[D]").tolist()
        named += zip(own["name"], map(tuple, days), own["category"], strict=True)
    country = _country_events(config.country, years)
    named += [(name, span, "") for name, span in (*country, *_beside(country, years))]

    long = {name for name, (start, finish), _ in named if (finish - start).days >= LONG}
    found = []
    for name, (start, finish), category in named:
        if finish < begin or start > until:
            continue
        before, after = (0, 0) if name in long else AROUND[period]
        event = Event(
            name,
            np.datetime64(start),
            np.datetime64(finish),
            category,
            before,
            after,
            overlay=name in long or category != "",
        )
        found.append(event)
    return tuple(found)


def _country_events(country: str, years: range) -> list[tuple[str, Span]]:
    """The public holidays by name; days in a row of one name are one event.

    A day off that stands in for a holiday counts only where that itself is not in the calendar.
    """
    themselves: dict[str, set[dt.date]] = {}
    stand_ins: dict[str, set[dt.date]] = {}
    for day, names in country_holidays(country, years).items():
        for name, remark in map(plain_name, names):
            if name:
                (stand_ins if _STAND_IN.search(remark) else themselves).setdefault(name, set()).add(day)
    found: list[tuple[str, Span]] = []
    for name in themselves.keys() | stand_ins.keys():
        days = themselves.get(name, set())
        near = {day + dt.timedelta(days=away) for day in days for away in range(-LONG, LONG + 1)}
        found += [(name, span) for span in _spans(days | (stand_ins.get(name, set()) - near))]
    return sorted(found, key=lambda event: (event[1], event[0]))


def plain_name(given: str) -> tuple[str, str]:
    """A holiday's name without the remarks in brackets behind it, and the remarks; no name for an unnamed day off."""
    name = given.strip()
    remarks = ""
    while found := _REMARK.search(name):
        remarks = found.group() + remarks
        name = name[: found.start()]
    return ("", given) if _DAY_OFF.match(name) else (name, remarks)


def _spans(days: set[dt.date]) -> list[Span]:
    """First and last day of each run of days."""
    step = dt.timedelta(days=1)
    firsts = sorted(day for day in days if day - step not in days)
    lasts = sorted(day for day in days if day + step not in days)
    return list(zip(firsts, lasts, strict=True))


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


def read_plan(config: DataConfig, name: str) -> Plan | None:
    """Read the plan that a configuration names, "promotions" or "deliveries"; None where it names none.

    Raises:
        SourceError, PlanError: See `_read`.
    """
    where = getattr(config, name)
    if not where:
        return None
    plan = _read(where, name).drop_duplicates()
    return Plan(plan["product_id"].to_numpy(np.str_), plan["first"].to_numpy("M8[D]"), plan["last"].to_numpy("M8[D]"))


def _read(where: str, name: str) -> pd.DataFrame:
    """Read what `data.<name>` names, be it `etl`: texts, empty where none is given, and the days `first` and `last`.

    Raises:
        SourceError: The table cannot be read.
        PlanError: A column is missing or rows are invalid; violations are counted by rule.
    """
    key = f"data.{name}"
    columns = _COLUMNS[name]
    try:
        raw = read_sales(plan_of(where, name))
    except SourceError as error:
        raise SourceError(f"{key}: {error}") from error
    violations = unusable(raw, columns) + _misnamed(raw, columns)
    table = pd.DataFrame()
    if not violations:
        faults = Faults(raw)
        table = _entries(raw, faults, columns)
        violations = list(faults.violations())
    if violations:
        raise PlanError(redact_url(where), key=key, violations=violations)
    return table


def _misnamed(raw: pd.DataFrame, columns: Mapping[str, Column]) -> list[Violation]:
    """List the columns that seem to be optional ones under other names."""
    names = [str(name) for name in raw.columns]
    others = [name for name in names if name not in columns]
    found = []
    for wanted, column in columns.items():
        near = None if column.needed or wanted in names else nearest(wanted, others, cutoff=0.8)
        if near:
            found.append(Violation(f"column {near} is none that is read", 0, f"rename it {wanted!r} if that is it"))
    return found


def _entries(raw: pd.DataFrame, faults: Faults, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Read the entries' days `first` and `last` and their texts; what is wrong is added to `faults`."""
    cells = faults.read(columns)
    days = [name for name, column in columns.items() if column.kind == "day"]
    first = cells[days[0]]
    last = cells.get(days[-1], first)
    last = np.where(np.isnat(last), first, last)
    faults.add(f"{days[-1]} must not come before {days[0]}", last < first, days[-1])
    table = {"first": first, "last": last}
    for name, column in columns.items():
        if column.kind == "name":
            given = cells.get(name, pd.Categorical([None] * len(raw)))
            table[name] = np.array([*given.categories, ""])[given.codes]
    return pd.DataFrame(table)
