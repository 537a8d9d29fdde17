"""Which day a request means, and which days to come are holidays."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.calendar import WEEKDAYS, holidays_for, recurring_holidays, resolve_date
from pricing.data.panel import Panel
from pricing.errors import RequestError

MONDAY = dt.date(2024, 1, 1)


def resolve(
    day_of_week: str, date: dt.date | None = None, *, today: dt.date, state: dt.date | None, weekly: bool = False
) -> tuple[dt.date, bool]:
    return resolve_date(
        day_of_week, date, today=today, state_date=state, horizon=28, period="week" if weekly else "day"
    )


def days_after(days: int) -> dt.date:
    return MONDAY + dt.timedelta(days=days)


@pytest.mark.parametrize(
    ("weekday", "date", "today", "weekly", "expected"),
    [
        ("Monday", None, 28, False, (35, False)),
        ("Monday", None, 29, False, (7, True)),  # the state ended more than the horizon ago
        ("Monday", 28, 365, False, (28, False)),  # a date that is given stands, and is stale only beyond the horizon
        ("Monday", 35, 365, False, (35, True)),
        ("Monday", 35, 1, False, (35, False)),
        ("Thursday", 10, 0, True, (7, False)),  # the day selects its week
        ("Thursday", None, 8, True, (7, False)),
        ("Sunday", None, 7 + 28 * 7, True, (7, True)),
    ],
)
def test_a_state_is_stale_once_it_ended_more_than_the_horizon_ago(
    weekday: str, date: int | None, today: int, weekly: bool, expected: tuple[int, bool]
) -> None:
    given_date = None if date is None else days_after(date)

    found = resolve(weekday, given_date, today=days_after(today), state=MONDAY, weekly=weekly)

    assert found == (days_after(expected[0]), expected[1])


@pytest.mark.parametrize(("weekday", "date"), [("Monday", days_after(1)), ("monday", None)])
def test_a_date_that_contradicts_the_weekday_and_a_day_that_is_none_are_refused(
    weekday: str, date: dt.date | None
) -> None:
    with pytest.raises(RequestError):
        resolve(weekday, date, today=MONDAY, state=MONDAY)


@pytest.mark.parametrize(("state", "today"), [(0, 100), (100, 0), (None, 100)])
def test_a_date_more_than_two_years_ahead_is_refused(state: int | None, today: int) -> None:
    last = days_after(max(state or 0, today) + 731)
    beyond = last + dt.timedelta(days=1)
    begin = None if state is None else days_after(state)

    assert resolve(WEEKDAYS[last.weekday()], last, today=days_after(today), state=begin)[0] == last
    for date in (beyond, dt.date(9999, 12, 31)):
        with pytest.raises(RequestError):
            resolve(WEEKDAYS[date.weekday()], date, today=days_after(today), state=begin)


@given(
    weekday=st.sampled_from(WEEKDAYS),
    today=st.dates(dt.date(1971, 1, 1), dt.date(2099, 12, 31)),
    age=st.integers(-400, 800),
    weekly=st.booleans(),
)
def test_a_day_without_a_date_is_always_such_a_weekday_after_the_state(
    weekday: str, today: dt.date, age: int, weekly: bool
) -> None:
    state = today - dt.timedelta(days=age)

    day, _ = resolve(weekday, today=today, state=state, weekly=weekly)

    assert day > state
    if weekly:
        assert (day - state).days % 7 == 0
    else:
        assert WEEKDAYS[day.weekday()] == weekday


def test_the_calendar_of_the_country_says_which_days_and_weeks_hold_a_holiday() -> None:
    days = np.array(["2024-07-03", "2024-07-04", "2024-12-25"], dtype="datetime64[D]")
    weeks = np.array(["2024-07-01", "2024-07-08"], dtype="datetime64[D]")

    assert holidays_for(days, recurring=None, country="US").tolist() == [False, True, True]
    assert holidays_for(days, recurring=None, country="DE").tolist() == [False, False, True]
    assert holidays_for(weeks, recurring=None, country="US", period="week").tolist() == [True, False]
    assert holidays_for(days[:0], recurring=None, country="US").tolist() == []


def history(days: pd.DatetimeIndex, is_holiday: object) -> Panel:
    frame = pd.DataFrame({"date": days, "product_id": "A", "units_sold": 1.0, "price": 1.0, "is_holiday": is_holiday})
    return build_panel(frame, load_config().data)


def flagged(year: int, panel: Panel) -> list[str]:
    days = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    found = holidays_for(days, recurring=recurring_holidays(panel), country="US")
    return days[found].astype(str).tolist()


def test_days_that_recur_every_year_are_learnt_whatever_moves_them() -> None:
    days = pd.date_range("2021-01-01", "2023-12-31")
    own = ["12-24", "03-14"]  # fixed days
    moving = ["2021-11-25", "2022-11-24", "2023-11-23"]  # Thanksgiving
    moving += ["2021-04-02", "2022-04-15", "2023-04-07"]  # Good Friday
    moving += ["2021-05-31", "2022-05-30", "2023-05-29"]  # the last Monday of May
    once = ["2022-09-19"]

    panel = history(days, days.strftime("%m-%d").isin(own) | days.strftime("%Y-%m-%d").isin(moving + once))

    assert flagged(2024, panel) == ["2024-03-14", "2024-03-29", "2024-05-27", "2024-11-28", "2024-12-24"]


def test_two_years_are_needed_and_the_history_must_say_so_itself() -> None:
    short = pd.date_range("2023-01-01", periods=700)
    long = pd.date_range("2022-01-01", periods=730)

    assert recurring_holidays(history(short, 0)) is None
    assert recurring_holidays(history(long, np.nan)) is None
    assert recurring_holidays(history(long, 0)) == ()
