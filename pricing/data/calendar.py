"""Days: which one a request means, holidays that recur, and planned promotions and deliveries. No clock."""

import calendar
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dateutil.easter import easter
from dateutil.relativedelta import relativedelta
from dateutil.relativedelta import weekday as dateutil_weekday

from pricing.arrays import Bools, Days, Strings
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.errors import ConfigError, RequestError

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EASTER_REACH = 60  # days around Easter Sunday that a movable feast may fall on
_FURTHEST = 731  # days ahead that a price can be asked for: two years, one of them a leap year
_LEAST_HISTORY = 2 * 364  # days: a holiday recurs when it was seen twice


def resolve_date(
    day_of_week: str, date: dt.date | None, *, today: dt.date, state_date: dt.date | None, horizon: int, period: Period
) -> tuple[dt.date, bool]:
    """The first day of the period that a request means, and whether the model's state is too old for it.

    Without a date it is the first such weekday after today, or after the state's end where that lies later. When the
    state ended more than `horizon` periods before today, it is the first such weekday after the state's end, and stale.
    A date that is given stands; it is stale when the state is that old and the date lies beyond its horizon. Weeks are
    counted from `state_date`, the first day of the last period that the states have seen.

    Raises:
        RequestError: The weekday is none or not the date's, or that lies more than two years ahead.
    """
    if day_of_week not in WEEKDAYS:
        raise RequestError(f"day_of_week: expected one of {', '.join(WEEKDAYS)}, found {day_of_week!r}")
    weekday = WEEKDAYS.index(day_of_week)
    if date is not None and date.weekday() != weekday:
        raise RequestError(f"date {date} is a {WEEKDAYS[date.weekday()]}, but day_of_week is {day_of_week}")

    after = max(today, state_date or today)
    if date is not None and (date - after).days > _FURTHEST:
        raise RequestError(f"date {date} lies more than two years after {after}, beyond all that can be known")

    step = STEP_DAYS[period]
    if state_date is None:
        return date or _next(weekday, today), False
    end = state_date + dt.timedelta(days=step - 1)
    old = (today - end).days > horizon * step
    day = date or _next(weekday, end if old else max(today, end))
    stale = old and (date is None or (date - end).days > horizon * step)
    return day - dt.timedelta(days=(day - state_date).days % step), stale


def holidays_for(dates: Days, *, recurring: Sequence[str] | None, country: str, period: Period = "day") -> Bools:
    """(period,) True where the period that begins on one of `dates`, in any order, holds a holiday.

    They follow the rules of `recurring_holidays`; without rules, the calendar of `country`, an ISO code. Raises
    ConfigError where that has none.
    """
    span = np.arange(STEP_DAYS[period]).astype("timedelta64[D]")
    days = dates.astype("datetime64[D]")[:, None] + span  # (period, day)
    if not days.size:
        return np.zeros(len(dates), dtype=np.bool_)
    first, last = days.min().astype(dt.date).year, days.max().astype(dt.date).year
    if recurring is None:
        known = list(country_holidays(country, range(first, last + 1)))
    else:
        known = [day for rule in recurring for day in _occurrences(rule, first, last)]
    return np.asarray(np.isin(days, np.array(known, dtype="datetime64[D]")).any(axis=1))


def recurring_holidays(panel: Panel) -> tuple[str, ...] | None:
    """The rules by which the history's own holidays recur, for `holidays_for`; None where only a calendar can say so.

    A rule is a day of the year, the nth or last weekday of a month, or a distance from Easter; it holds when each of
    its occurrences within the history, at least two, was a holiday. One rule is taken for each holiday. On a weekly
    panel the middle of the days that fit is taken.
    """
    step = STEP_DAYS[panel.period]
    length = len(panel.dates) * step
    if not panel.holidays_given or length < _LEAST_HISTORY:
        return None
    flags = 2 * panel.is_holiday.sum(axis=0) > len(panel.is_holiday)
    start: dt.date = panel.dates[0].astype(dt.date)
    last_year = (start + dt.timedelta(days=length - 1)).year

    def periods(rule: str) -> list[int]:
        offsets = [(day - start).days for day in _occurrences(rule, start.year, last_year)]
        return [offset // step for offset in offsets if 0 <= offset < length]

    rules: list[str] = []
    explained: set[int] = set()
    for index in np.flatnonzero(flags).tolist():
        if index in explained:
            continue
        days = [start + dt.timedelta(days=index * step + day) for day in range(step)]
        for kind in zip(*map(_rules_of, days), strict=True):  # the rules of one kind, the simplest first
            holding = [rule for rule in kind if rule and _holds(flags, periods(rule))]
            if holding:
                rules.append(holding[len(holding) // 2])
                explained.update(periods(rules[-1]))
                break
    return tuple(rules)


def _holds(flags: Bools, periods: list[int]) -> bool:
    return len(periods) >= 2 and bool(flags[periods].all())


def _rules_of(day: dt.date) -> Iterator[str]:
    """The rules that a day is an instance of, the simplest kind first; empty where a kind does not apply."""
    nth = (day.day - 1) // 7 + 1
    last = (day + dt.timedelta(days=7)).month != day.month
    away = (day - easter(day.year)).days
    yield f"date:{day.month}:{day.day}"
    yield f"nth:{day.month}:{nth}:{day.isoweekday()}" if nth < 5 else ""  # a fifth one is the last one
    yield f"last:{day.month}:{day.isoweekday()}" if last else ""
    yield f"easter:{away}" if abs(away) <= _EASTER_REACH else ""


def _occurrences(rule: str, first_year: int, last_year: int) -> Iterator[dt.date]:
    kind, *rest = rule.split(":")
    values = [int(value) for value in rest]
    for year in range(first_year, last_year + 1):
        match kind, values:
            case "easter", [away]:
                yield easter(year) + dt.timedelta(days=away)
            case "date", [2, 29] if not calendar.isleap(year):
                continue
            case "date", [month, day]:
                yield dt.date(year, month, day)
            case "nth", [month, nth, isoweekday]:
                yield nth_weekday(year, month, nth, isoweekday - 1)
            case "last", [month, isoweekday]:
                yield nth_weekday(year, month, -1, isoweekday - 1)


def nth_weekday(year: int, month: int, nth: int, weekday: int) -> dt.date:
    """The nth such weekday of a month, Monday 0; its last one for -1."""
    return dt.date(year, month, 1) + relativedelta(day=31 if nth < 0 else 1, weekday=dateutil_weekday(weekday)(nth))


@lru_cache(maxsize=32)
def country_holidays(country: str, years: range) -> Mapping[dt.date, list[str]]:
    """Names of the public holidays by day, in English where it can; raises ConfigError where it has no calendar."""
    import holidays  # noqa: PLC0415 - a large library that few processes need

    try:
        table = holidays.country_holidays(country, years=years)
        if "en_US" in table.supported_languages:
            table = holidays.country_holidays(country, years=years, language="en_US")
    except NotImplementedError as error:
        raise ConfigError(f"data.country: there is no holiday calendar for {country!r}; give an ISO code") from error
    return {day: table.get_list(day) for day in table}


def _next(weekday: int, after: dt.date) -> dt.date:
    return after + dt.timedelta(days=(weekday - after.weekday() - 1) % 7 + 1)


@dataclass(frozen=True)
class Plan:
    """Planned promotions or deliveries, one entry each."""

    product_id: Strings  # (entry,) product
    first: Days  # (entry,) first day; of a delivery the one on whose opening stock it counts
    last: Days  # (entry,) last day; of a delivery its first

    def after(self, date: np.datetime64) -> "Plan":
        """Return the entries that end after a day."""
        coming: Bools = self.last > date
        return Plan(self.product_id[coming], self.first[coming], self.last[coming])

    def on(self, product_ids: Strings, dates: Days, *, period: Period) -> Bools:
        """(product, period) True where an entry has any day of a period; ids and first days are sorted."""
        running = np.zeros((len(product_ids), len(dates)), np.bool_)
        row = np.searchsorted(product_ids, self.product_id)
        known = (row < len(product_ids)) & (product_ids[np.minimum(row, len(product_ids) - 1)] == self.product_id)
        days = dates.astype("datetime64[D]")
        last_day = days + np.timedelta64(STEP_DAYS[period] - 1, "D")
        begin = np.searchsorted(last_day, self.first)
        end = np.searchsorted(days, self.last, side="right")
        for place, start, stop in zip(row[known], begin[known], end[known], strict=True):
            running[place, start:stop] = True
        return running

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """First and last day of each entry, in days since 1970, by product."""
        found: dict[str, list[tuple[int, int]]] = {}
        days = np.stack([self.first, self.last], axis=1).astype("datetime64[D]").astype(np.int64)
        for product_id, (first, last) in zip(self.product_id.tolist(), days.tolist(), strict=True):
            found.setdefault(product_id, []).append((first, last))
        return found


_NO_DAYS = np.zeros(0, "datetime64[D]")
NO_PLAN = Plan(np.zeros(0, np.str_), _NO_DAYS, _NO_DAYS)
