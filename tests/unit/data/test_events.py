"""Named events of a history and of the time after it: which they are, on which days, and what a user may add."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricing.config import load_config
from pricing.config_models import DataConfig
from pricing.data.events import named_events, read_plan
from pricing.data.panel import Event
from pricing.errors import PlanError

DATA = load_config().data


def events(first: str, last: str, **settings: Any) -> list[Event]:
    """Events of a history; those of the time after it are left out."""
    config = DataConfig.model_validate({**DATA.model_dump(), **settings})
    days = np.datetime64(first), np.datetime64(last)
    return [event for event in named_events(config, *days, period="day") if days[0] <= event.first <= days[1]]


def days(found: list[Event], name: str) -> list[str]:
    return [str(event.first) for event in found if event.name == name]


def test_days_that_stand_in_for_a_holiday_are_no_event_and_days_in_a_row_are_one() -> None:
    assert days(events("2021-01-01", "2022-12-31"), "Christmas Day") == ["2021-12-25", "2022-12-25"]  # on a weekend
    assert days(events("2024-01-01", "2024-12-31", country="CN"), "Chinese New Year") == ["2024-02-10"]


@pytest.mark.parametrize(
    ("country", "there", "absent"),
    [
        ("US", {"Easter Sunday", "Black Friday"}, {"Lunar New Year"}),
        ("DE", {"Good Friday", "Cyber Monday"}, {"Thanksgiving Day"}),
        ("AE", {"Eid al-Fitr"}, {"Easter Sunday", "Black Friday"}),
    ],
)
def test_easter_and_the_sales_before_christmas_go_with_the_holidays_of_the_country(
    country: str, there: set[str], absent: set[str]
) -> None:
    names = {event.name for event in events("2024-01-01", "2024-12-31", country=country)}

    assert names >= there
    assert not names & absent


def test_a_user_brings_events_of_his_own(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "date,name,last_date,category\n2024-03-05,Village fair,,\n2024-05-02,Garden week,2024-05-06,plants\n"
    )

    fair, garden, *_ = events("2024-01-01", "2024-12-31", events=str(path))

    day = np.datetime64
    assert fair == Event("Village fair", day("2024-03-05"), day("2024-03-05"), "", 3, 1, overlay=False)
    assert garden == Event("Garden week", day("2024-05-02"), day("2024-05-06"), "plants", 3, 1, overlay=True)


@pytest.mark.parametrize(
    "content",
    [
        "day,name\n2024-01-01,Fair\n",
        "date,name\n2024-01-01,Fair\nsoon,Fair\n",
        "date,name\n2024-01-01,\n",
        "date,name,last_date\n2024-01-05,Fair,2024-01-01\n",
        "date,name,catgory\n2024-03-01,Fair,dairy\n",
        "date,name\n2024-01-01,Fair\n2024-02-01,Fair,dairy\n",
    ],
)
def test_an_event_calendar_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "events.csv").write_text(content)

    with pytest.raises(PlanError, match=r"data\.events"):
        events("2024-01-01", "2024-12-31", events=str(tmp_path / "events.csv"))


def test_planned_promotions_are_read_and_those_that_are_over_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text("product_id,first,last\n007,2024-03-01,2024-03-07\nB,2024-01-01,2024-01-07\n")

    found = read_plan(load_config().data.model_copy(update={"promotions": str(path)}), "promotions")
    assert found is not None
    plan = found.after(np.datetime64("2024-02-01"))

    assert plan.product_id.tolist() == ["007"]
    assert plan.spans() == {"007": [(19783, 19789)]}
