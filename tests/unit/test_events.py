"""Named events of a history and of the time after it: which they are, on which days, and what a user may add."""

import datetime as dt
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
from pricing.data.events import PAY_DAY, SCHOOL, named_events, plain_name
from pricing.data.panel import Event, Period, load_panel, save_panel
from pricing.errors import ConfigError, PlanError, SourceError
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


def test_a_name_is_parted_from_its_remarks() -> None:
    assert plain_name("Christmas Day (observed)") == ("Christmas Day", " (observed)")
    assert plain_name("Eid al-Fitr (observed) (estimated)") == ("Eid al-Fitr", " (observed) (estimated)")
    assert plain_name("Day off (substituted from 02/04/2024)")[0] == ""
    assert plain_name("Chinese New Year (Spring Festival)")[0] == "Chinese New Year"


def test_days_in_a_row_of_one_name_are_one_event() -> None:
    found = events("2024-01-01", "2024-12-31", country="CN")

    (spring,) = [event for event in found if event.name == "Chinese New Year"]
    assert (str(spring.first), str(spring.last)) == ("2024-02-10", "2024-02-12")


@pytest.mark.parametrize(
    ("feast", "name", "known"),
    [
        ("easter", "Easter Sunday", ["2022-04-17", "2023-04-09", "2024-03-31", "2025-04-20"]),
        ("thanksgiving", "Thanksgiving Day", ["2022-11-24", "2023-11-23", "2024-11-28", "2025-11-27"]),
        ("black_friday", "Black Friday", ["2022-11-25", "2023-11-24", "2024-11-29", "2025-11-28"]),
        ("cyber_monday", "Cyber Monday", ["2022-11-28", "2023-11-27", "2024-12-02", "2025-12-01"]),
        ("lunar_new_year", "Lunar New Year", ["2022-02-01", "2023-01-22", "2024-02-10", "2025-01-29"]),
        ("ramadan", "Ramadan", ["2022-04-02", "2023-03-23", "2024-03-11", "2025-03-01"]),
        ("eid_al_fitr", "Eid al-Fitr", ["2022-05-02", "2023-04-21", "2024-04-10", "2025-03-30"]),
        ("eid_al_adha", "Eid al-Adha", ["2022-07-09", "2023-06-28", "2024-06-16", "2025-06-06"]),
        ("diwali", "Diwali", ["2022-10-24", "2023-11-12", "2024-10-31", "2025-10-20"]),
        ("mothers_day", "Mother's Day", ["2022-05-08", "2023-05-14", "2024-05-12", "2025-05-11"]),
        ("fathers_day", "Father's Day", ["2022-06-19", "2023-06-18", "2024-06-16", "2025-06-15"]),
        ("valentines_day", "Valentine's Day", ["2022-02-14", "2023-02-14", "2024-02-14", "2025-02-14"]),
        ("halloween", "Halloween", ["2022-10-31", "2023-10-31", "2024-10-31", "2025-10-31"]),
    ],
)
def test_moving_feasts_fall_on_their_days(feast: str, name: str, known: list[str]) -> None:
    found = events("2022-01-01", "2025-12-31", named_holidays=False, feasts=[feast])

    assert days(found, name) == known


def test_ramadan_lasts_until_the_day_before_eid() -> None:
    (found,) = events("2024-01-01", "2024-12-31", named_holidays=False, feasts=["ramadan"])

    assert (str(found.first), str(found.last)) == ("2024-03-11", "2024-04-09")
    assert found.overlay
    assert (found.before, found.after) == (0, 0)


@pytest.mark.parametrize(
    ("country", "there", "absent"),
    [
        ("US", ("Easter Sunday", "Black Friday"), ("Ramadan", "Lunar New Year")),
        ("GB", ("Easter Sunday", "Boxing Day"), ("Ramadan", "Thanksgiving Day")),
        ("DE", ("Good Friday", "Easter Sunday"), ("Ramadan",)),
        ("AE", ("Ramadan", "Eid al-Fitr"), ("Easter Sunday", "Black Friday")),
        ("ID", ("Ramadan", "Black Friday", "Lunar New Year"), ()),
        ("CN", ("Chinese New Year",), ("Easter Sunday", "Ramadan")),
    ],
)
def test_feasts_go_with_the_holidays_of_the_country(
    country: str, there: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    names = {event.name for event in events("2024-01-01", "2024-12-31", country=country)}

    assert names >= {*there}
    assert not names & {*absent}


def test_a_feast_that_the_calendar_has_under_another_name_is_not_named_twice() -> None:
    found = events("2023-01-01", "2025-12-31", country="CN", feasts=["lunar_new_year"])

    assert days(found, "Lunar New Year") == []
    assert days(found, "Chinese New Year") == ["2023-01-22", "2024-02-10", "2025-01-29"]


def test_the_calendar_reaches_beyond_the_horizon_of_holidays() -> None:
    found = named_events(DATA, np.datetime64("2023-01-01"), np.datetime64("2024-06-30"), period="day")

    assert "2025-07-04" in [str(event.first) for event in found]


def test_a_country_without_a_calendar_is_refused() -> None:
    with pytest.raises(ConfigError, match="no holiday calendar for 'Atlantis'"):
        events("2024-01-01", "2024-12-31", country="Atlantis")


def test_pay_days_are_days_of_the_month_and_the_last_one_counts_back() -> None:
    found = events("2024-02-01", "2024-04-30", named_holidays=False, pay_days=[15, -1, 31])

    expected = ["2024-02-15", "2024-02-29", "2024-03-15", "2024-03-31", "2024-04-15", "2024-04-30"]
    assert days(found, PAY_DAY) == expected
    assert all(event.overlay and event.after == 2 for event in found)


def test_school_holidays_come_from_the_configuration_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "school.csv"
    path.write_text("first,last\n2024-07-01,2024-08-15\n")
    listed = [[dt.date(2024, 7, 1), dt.date(2024, 8, 15)]]

    ours = events("2024-01-01", "2024-12-31", named_holidays=False, school_holidays=listed)
    theirs = events("2024-01-01", "2024-12-31", named_holidays=False, school_holidays=str(path))

    assert ours == theirs
    assert [(event.name, str(event.last), event.overlay) for event in ours] == [(SCHOOL, "2024-08-15", True)]


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
    found = events("2024-01-01", "2024-12-30", period="week", pay_days=[1])

    assert {(event.before, event.after) for event in found if event.name == "Christmas Day"} == {(1, 1)}
    assert {(event.before, event.after) for event in found if event.name == PAY_DAY} == {(0, 0)}


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


def test_an_event_calendar_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match=r"data\.events: nowhere\.csv: does not exist"):
        events("2024-01-01", "2024-12-31", events="nowhere.csv")


def test_settings_that_are_no_days_are_refused() -> None:
    with pytest.raises(ValueError, match="0 is no day of a month"):
        events("2024-01-01", "2024-12-31", pay_days=[0])
    with pytest.raises(ValueError, match="ends before it begins"):
        events("2024-01-01", "2024-12-31", school_holidays=[["2024-08-15", "2024-07-01"]])


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
        demand=SimpleNamespace(norms=SimpleNamespace(lifts=SimpleNamespace(events=lambda: known))),
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


@pytest.mark.parametrize(
    "day",
    ["2026-03-27", "2026-03-27T00:00:00+01:00", "2026-03-27 23:30:00-08:00", "2026-03-27T00:00:00Z", " 2026-03-27 "],
)
def test_a_day_is_the_one_that_is_written_whatever_its_zone(tmp_path: Path, day: str) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(f"product_id,first,last\na,{day},2026-03-27\n")

    plan = read_promotions(str(path))

    assert plan.first.tolist() == plan.last.tolist() == [np.datetime64("2026-03-27").astype(object)]


@pytest.mark.parametrize("day", ["2026", "2026-06", "27.03.2026", "2026-02-30", "2026-03-27x"])
def test_what_is_no_day_is_refused(tmp_path: Path, day: str) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(f"product_id,first,last\na,{day},2026-12-31\n")

    with pytest.raises(PlanError, match="first must be an ISO day"):
        read_promotions(str(path))


def test_a_misspelt_optional_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("date,name,catgory\n2024-03-01,Fair,dairy\n")

    with pytest.raises(PlanError, match="column catgory is none that is read: rename it 'category'"):
        events("2024-01-01", "2024-12-31", events=str(path))
