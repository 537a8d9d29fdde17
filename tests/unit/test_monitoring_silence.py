"""A live shop that decides nothing: which days count, and what becomes of the run that finds them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from monitoring.evaluate import count_undecided
from pricing.data.panel import Panel
from tests.kit.monitoring_world import World, build

MONDAY = np.datetime64("2024-01-01")  # the first day of the world, a Monday
CLOSED_SUNDAYS, MONDAYS_ONLY = (0, 1, 2, 3, 4, 5), (0,)


def sold(*, days: int, closed: tuple[int, ...] = ()) -> Panel:
    """A panel from that Monday, without any sale on some of its days."""
    panel, _ = build(World(products=2, days=days))
    units = np.full_like(panel.units_sold, 3.0)
    units[:, list(closed)] = 0.0
    return Panel(**{**panel.__dict__, "units_sold": units})


def decided(*days: int, ahead: int = 0, live: bool = True) -> pd.DataFrame:
    """Decisions for some days, counted from that Monday, each made so many days ahead."""
    dates = pd.to_datetime([MONDAY + np.timedelta64(day, "D") for day in days])
    at = (dates - pd.Timedelta(days=ahead) + pd.Timedelta(hours=20)).tz_localize("UTC")
    return pd.DataFrame({"at": at, "date": dates, "live": live})


@pytest.mark.parametrize(
    ("days", "last", "missed"),
    [
        (range(28), 28, 0),
        (range(27), 28, 1),
        (range(25), 28, 3),
        ([day for day in range(28) if day % 7 in CLOSED_SUNDAYS], 28, 0),  # never decides on a Sunday, though it sells
        ([day for day in range(21) if day % 7 in MONDAYS_ONLY], 21, 0),
        ([day for day in range(21) if day % 7 in MONDAYS_ONLY], 22, 1),  # and the fourth Monday is missing
        (range(2), 4, 0),  # of the first week nobody knows yet on which weekdays it decides
        (range(3), 10, 3),
    ],
)
def test_a_day_counts_on_whose_weekday_the_shop_usually_decides(days: Any, last: int, missed: int) -> None:
    assert count_undecided(decided(*days), sold(days=last)) == missed


@pytest.mark.parametrize(
    ("made", "closed", "missed"),
    [
        (decided(*range(26)), (26, 27), 0),  # sold nothing
        (decided(*range(26)), (27,), 1),
        (decided(*range(28), ahead=1), (), 0),  # the evening before
        (pd.concat([decided(*range(20)), decided(60, ahead=40)]), (), 7),  # a price for next month hides no outage
        (decided(), (), 0),  # not live yet
        (decided(3, live=False), (), 0),  # a replay
    ],
)
def test_only_a_day_on_which_it_sold_and_a_live_decision_was_due_is_silent(
    made: pd.DataFrame, closed: tuple[int, ...], missed: int
) -> None:
    assert count_undecided(made, sold(days=28, closed=closed)) == missed


def test_a_week_without_a_decision_counts_in_a_weekly_panel() -> None:
    panel, _ = build(World(products=2, days=6))
    weekly = Panel(**{**panel.__dict__, "period": "week", "dates": MONDAY + 7 * np.arange(6)})

    assert count_undecided(decided(30, 37), weekly) == 0  # a Wednesday and the next one
    assert count_undecided(decided(30), weekly) == 7
    assert count_undecided(decided(35, ahead=1), weekly) == 0  # made on the Sunday before
