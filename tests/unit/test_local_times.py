"""Times of sources become days and seconds of the shop's clocks."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.sources.local_times import local_times

NEW_YORK = "America/New_York"


def read(*cells: Any, zone: str = NEW_YORK, own_zone: str | None = None) -> list[str]:
    times = local_times(pd.Series(list(cells), dtype=object), zone=zone, own_zone=own_zone)
    return [
        ("empty" if missing else "wrong")
        if missing or wrong
        else f"{np.datetime64(int(day), 'D')} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        for day, second, missing, wrong in zip(times.days, times.seconds, times.missing, times.wrong, strict=True)
    ]


def test_texts_dates_times_and_numbers_may_be_mixed() -> None:
    found = read(
        "2026-03-02T10:00:00-05:00",
        "2026-03-02 10:00",
        dt.datetime(2026, 3, 2, 15, tzinfo=dt.UTC),
        pd.Timestamp("2026-03-02 10:00"),
        dt.date(2026, 3, 2),
        20260302,
        "20260302",
    )

    assert found == ["2026-03-02 10:00:00"] * 4 + ["2026-03-02 00:00:00"] * 3


@pytest.mark.parametrize("cell", [None, "", " ", "null", "NaT", float("nan"), pd.NaT])
def test_an_empty_cell_is_missing(cell: Any) -> None:
    assert read("2026-03-02", cell)[1] == "empty"


@pytest.mark.parametrize(
    "cell", ["yesterday", "02/03/2026", "2026", "2026-03", "2026-13-01", "1899-12-31", "9999-12-31", 7]
)
def test_what_is_no_day_between_1970_and_2199_is_wrong(cell: Any) -> None:
    assert read("2026-03-02", cell)[1] == "wrong"


def test_columns_of_timestamps_with_and_without_zone_are_read_alike() -> None:
    stamps = pd.Series(pd.to_datetime(["2026-03-09T03:59:59", None]))

    zoned = local_times(stamps.dt.tz_localize("UTC"), zone=NEW_YORK)
    plain = local_times(stamps, zone=NEW_YORK, own_zone="UTC")

    assert zoned.days.tolist() == plain.days.tolist() == [np.datetime64("2026-03-08").astype(np.int64), 0]
    assert zoned.missing.tolist() == plain.missing.tolist() == [False, True]


def test_datetime_objects_of_a_driver_may_have_several_offsets_and_none() -> None:
    winter, summer = dt.timezone(dt.timedelta(hours=-5)), dt.timezone(dt.timedelta(hours=-4))

    found = read(
        dt.datetime(2026, 3, 2, 23, tzinfo=winter), dt.datetime(2026, 7, 2, 23, tzinfo=summer), None,
        dt.datetime(2026, 7, 2, 23), zone="UTC", own_zone=NEW_YORK,
    )  # fmt: skip

    assert found == ["2026-03-03 04:00:00", "2026-07-03 03:00:00", "empty", "2026-07-03 03:00:00"]


def test_an_hour_that_comes_twice_is_the_first_of_the_two_and_counted() -> None:
    column = pd.Series(["2026-11-01 01:30", "2026-11-01 03:30"])

    times = local_times(column, zone="UTC", own_zone=NEW_YORK)

    assert (times.seconds // 60).tolist() == [5 * 60 + 30, 8 * 60 + 30]
    assert times.notes == ((f"times that {NEW_YORK} has twice read as the first of the two", 1),)


def test_a_time_that_the_clocks_skip_is_read_by_the_clocks_before_and_counted() -> None:
    column = pd.Series(["2026-03-08 02:30", "2026-03-08 03:30"])

    times = local_times(column, zone="UTC", own_zone=NEW_YORK)

    assert (times.seconds // 60).tolist() == [7 * 60 + 30, 7 * 60 + 30]
    assert times.notes == ((f"times that {NEW_YORK} skips read by the clocks before the change", 1),)


@settings(max_examples=100, deadline=None)
@given(
    moment=st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2035, 1, 1)),
    zone=st.sampled_from([NEW_YORK, "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]),
    own=st.sampled_from(["UTC", "Europe/London", "Pacific/Auckland"]),
)
def test_days_are_those_of_the_standard_librarys_clocks(moment: dt.datetime, zone: str, own: str) -> None:
    moment = moment.replace(microsecond=0)

    (found,) = read(moment.isoformat(), zone=zone, own_zone=own)

    assert found == str(moment.replace(tzinfo=ZoneInfo(own)).astimezone(ZoneInfo(zone)).replace(tzinfo=None))
