"""Days: holidays that recur, periods between dates, and which day a request means. No clock: `today` is passed."""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from pricing.data.panel import STEP_DAYS, Bools, Days, Period
from pricing.errors import ConfigError


def holidays_for(dates: Days, *, recurring: Sequence[str] | None, country: str, period: Period = "day") -> Bools:
    """(period,) which of the periods that begin on `dates` hold a holiday.

    Args:
        dates: First days of periods, datetime64[D], in any order.
        recurring: Rules learnt from a history by `recurring_holidays`; None takes the country's calendar.
        country: ISO code of a country, such as US.
        period: The grain of `dates`.

    Raises:
        ConfigError: The country has no calendar.
    """
    span = np.arange(STEP_DAYS[period]).astype("timedelta64[D]")
    days = dates.astype("datetime64[D]")[:, None] + span  # (period, day)
    years = range(days.min().astype(dt.date).year, days.max().astype(dt.date).year + 1) if days.size else range(0)
    return np.asarray(np.isin(days, _calendar(country, years)).any(axis=1))


def _calendar(country: str, years: range) -> Days:
    import holidays  # noqa: PLC0415 - a large library that few processes need

    try:
        table = holidays.country_holidays(country, years=years)
    except NotImplementedError as error:
        raise ConfigError(f"data.country: there is no holiday calendar for {country!r}; give an ISO code") from error
    return np.array(sorted(table), dtype="datetime64[D]")
