"""Named events of a history and of the time after it: which they are, on which days, and what a user may add."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.calendar import known_events
from pricing.config import load_config
from pricing.config_models import DataConfig
from pricing.data.calendar_tables import read_promotions
from pricing.data.events import named_events
from pricing.data.panel import Event, Period, load_panel, save_panel
from pricing.errors import ConfigError, PlanError
from tests.kit.events import CALENDAR, event, make_panel

DATA = load_config().data


def events(first: str, last: str, *, period: Period = "day", **settings: Any) -> list[Event]:
    """Events of a history; those of the time after it are left out."""
    config = DataConfig.model_validate({**DATA.model_dump(), **settings})
    days = np.datetime64(first), np.datetime64(last)
    return [event for event in named_events(config, *days, period=period) if days[0] <= event.first <= days[1]]


def days(found: list[Event], name: str) -> list[str]:
    return [str(event.first) for event in found if event.name == name]


def test_the_days_that_stand_in_for_a_holiday_are_no_event_of_their_own() -> None:
    found = events("2021-01-01", "2022-12-31")

    assert days(found, "Christmas Day") == ["2021-12-25", "2022-12-25"]  # a Saturday and a Sunday
    assert not [event.name for event in found if "(" in event.name]


def test_days_in_a_row_of_one_name_are_one_event() -> None:
    found = events("2024-01-01", "2024-12-31", country="CN")

    (spring,) = [event for event in found if event.name == "Chinese New Year"]
    assert (str(spring.first), str(spring.last)) == ("2024-02-10", "2024-02-12")


@pytest.mark.parametrize(
    ("country", "there", "absent"),
    [
        ("US", ("Easter Sunday", "Black Friday"), ("Lunar New Year",)),
        ("GB", ("Easter Sunday", "Boxing Day"), ("Thanksgiving Day",)),
        ("DE", ("Good Friday", "Cyber Monday"), ()),
        ("AE", ("Eid al-Fitr",), ("Easter Sunday", "Black Friday")),
        ("CN", ("Chinese New Year",), ("Easter Sunday",)),
    ],
)
def test_easter_and_the_sales_before_christmas_go_with_the_holidays_of_the_country(
    country: str, there: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    names = {event.name for event in events("2024-01-01", "2024-12-31", country=country)}

    assert names >= {*there}
    assert not names & {*absent}


def test_the_calendar_reaches_beyond_the_horizon_of_holidays() -> None:
    found = named_events(DATA, np.datetime64("2023-01-01"), np.datetime64("2024-06-30"), period="day")

    assert "2025-07-04" in [str(event.first) for event in found]


def test_a_country_without_a_calendar_is_refused() -> None:
    with pytest.raises(ConfigError, match="no holiday calendar for 'Atlantis'"):
        events("2024-01-01", "2024-12-31", country="Atlantis")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_user_brings_events_of_his_own(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {
            "date": ["2024-03-05", "2024-05-02"],
            "name": ["Village fair", "Garden week"],
            "last_date": [None, "2024-05-06"],
            "category": ["", "plants"],
        }
    )
    path = tmp_path / f"events{ending}"
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)

    fair, garden = events("2024-01-01", "2024-12-31", named_holidays=False, events=str(path))

    day = np.datetime64
    assert fair == Event("Village fair", day("2024-03-05"), day("2024-03-05"), "", 3, 1, overlay=False)
    assert garden == Event("Garden week", day("2024-05-02"), day("2024-05-06"), "plants", 3, 1, overlay=True)


def test_on_weekly_sales_a_window_is_a_week_before_and_a_week_after() -> None:
    found = events("2024-01-01", "2024-12-30", period="week")

    assert {(event.before, event.after) for event in found if event.name == "Christmas Day"} == {(1, 1)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("day,name\n2024-01-01,Fair\n", r"column date must be there: found day, name"),
        ("date,names\n2024-01-01,Fair\n", r"column name must be there: found date, names; rename 'names'"),
        ("date,name\n2024-01-01,Fair\nsoon,Fair\n", r"date must be an ISO day.*: 1 row.*row 2 \(date 'soon'\)"),
        ("date,name\n2024-01-01,\n", r"name must not be missing: 1 row"),
        ("date,name,last_date\n2024-01-05,Fair,2024-01-01\n", r"last_date must not come before date: 1 row"),
    ],
)
def test_an_event_calendar_that_is_none_is_refused_with_what_is_wrong(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "events.csv"
    path.write_text(content)

    with pytest.raises(PlanError, match=message) as caught:
        events("2024-01-01", "2024-12-31", events=str(path))

    assert "data.events" in str(caught.value)


def test_planned_promotions_are_read_and_those_that_are_over_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text("product_id,first,last\n007,2024-03-01,2024-03-07\nB,2024-01-01,2024-01-07\n")

    plan = read_promotions(str(path)).after(np.datetime64("2024-02-01"))

    assert plan.product_id.tolist() == ["007"]
    assert plan.spans() == {"007": [(19783, 19789)]}


def test_a_plan_of_promotions_names_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text("product_id,first,last\nA,2024-03-07,2024-03-01\n,2024-03-07,2024-03-08\n")

    with pytest.raises(PlanError, match=r"data\.promotions") as caught:
        read_promotions(str(path))

    assert "product_id must not be missing" in str(caught.value)
    assert "last must not come before first" in str(caught.value)


def test_events_whose_file_is_gone_go_on_as_the_version_knows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.csv"
    path.write_text("date,name\n2024-01-01,Fair\n")
    known = (Event("Fair", np.datetime64("2024-01-01"), np.datetime64("2024-01-01")),)
    version: Any = SimpleNamespace(
        config=SimpleNamespace(data=DATA.model_copy(update={"events": str(path)})),
        demand=SimpleNamespace(lifts=SimpleNamespace(events=lambda: known)),
    )

    there = known_events(version)
    path.unlink()
    gone = known_events(version)

    assert there is None, "they are read anew"
    assert gone == known
    assert "events.csv: does not exist" in capsys.readouterr().out


def test_a_saved_panel_keeps_its_events(tmp_path: Path) -> None:
    panel = replace(
        make_panel(products=2, periods=60), events=(*CALENDAR, event("Fair", 3, category="b", overlay=True))
    )

    save_panel(panel, tmp_path / "panel")

    assert load_panel(tmp_path / "panel").events == panel.events


def test_a_misspelt_optional_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("date,name,catgory\n2024-03-01,Fair,dairy\n")

    with pytest.raises(PlanError, match="column catgory is none that is read: rename it 'category'"):
        events("2024-01-01", "2024-12-31", events=str(path))
