"""The holidays that a training may assume of days to come: those that recur in the history, else the country's."""

from collections.abc import Callable

from pricing.data.calendar import holidays_for, recurring_holidays
from pricing.data.panel import Bools, Days, Panel
from pricing.sections import DataConfig


def holiday_calendar(panel: Panel, config: DataConfig) -> Callable[[Days], Bools]:
    """Returns the function from dates to holiday flags that training and validation take."""
    recurring = recurring_holidays(panel)

    def calendar(dates: Days) -> Bools:
        return holidays_for(dates, recurring=recurring, country=config.country, period=panel.period)

    return calendar
