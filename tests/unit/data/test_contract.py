"""What the contract refuses, what it takes, and how it says so."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.data.contract import Checked, check
from pricing.data.panel import Period
from pricing.errors import ContractError


def sales(**columns: object) -> pd.DataFrame:
    length = max((len(value) for value in columns.values() if isinstance(value, list)), default=3)
    rows = {
        "date": [dt.date(2024, 1, 1) + dt.timedelta(days=day) for day in range(length)],
        "product_id": ["A"] * length,
        "units_sold": [3] * length,
        "price": [2.5] * length,
    }
    return pd.DataFrame(rows | columns)


def look(**columns: object) -> Checked:
    return check(sales(**columns), where="sales.csv")


BREACHES = [
    ("units_sold", -2, "units_sold must be at least 0"),
    ("units_sold", True, "units_sold must be a number"),
    ("units_sold", float("inf"), "units_sold must be finite and at most 1,000,000,000"),
    ("price", 0, "price must be above 0"),
    ("price", "", "price must not be missing"),
    ("stock", -1, "stock must be at least 0"),
    ("available", 50, "available must be finite and at most 1: 50 looks like per cent: write 0.50"),
    ("comp_price_age", 45_000, "comp_price_age must be finite and at most 3,660"),
    ("tax_rate", 20, "tax_rate must be finite and at most 1: 20 looks like per cent: write 0.20"),
    ("is_promo", "yes", "is_promo must be 0 or 1"),
    ("date", "05/01/2024", "date must be an ISO day such as 2024-01-31"),
    ("date", "1900-01-01", "date must lie within 3 years of the bulk of the dates"),
    ("product_id", "x" * 201, "product_id must have at most 200 characters"),
]


@pytest.mark.parametrize(("column", "value", "rule"), BREACHES)
def test_a_breach_names_its_rule_its_count_and_its_first_offender(column: str, value: object, rule: str) -> None:
    good = {"is_promo": 0, "tax_rate": 0.2, "available": 0.5, "product_id": "A"}.get(column, 5)
    cells: list[Any] = [f"2024-01-0{day}" for day in (1, 2, 3, 4)] if column == "date" else [good] * 4
    cells[1] = value

    checked = look(**{"units_sold": [1] * 4, "price": [2.5] * 4, column: pd.Series(cells, dtype=object)})

    assert [(fault.rule, fault.count) for fault in checked.violations] == [(rule, 1)]
    assert checked.violations[0].first.startswith("row 2 (product_id ")
    assert len(checked.clean) == 3
    assert checked.bad_rows[["row", "reasons"]].to_numpy().tolist() == [[2, rule]]


def test_an_identical_row_is_set_aside_once_and_differing_ones_altogether() -> None:
    days = ["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03", "2024-01-03"]

    frame = sales(date=days, units_sold=[1, 1, 2, 3, 4, -1]).set_index(pd.Index([7] * 6))

    checked = check(frame, where="sales.csv")  # a bad row makes no duplicate of its good twin

    assert [fault.count for fault in checked.violations] == [1, 3]
    assert checked.violations[1].rule == "(product_id, date) must be unique"
    assert checked.bad_rows["row"].tolist() == [2, 3, 4, 6]
    assert checked.bad_rows["reasons"].notna().all()
    assert checked.clean["units_sold"].tolist() == [1, 4]


WEEKS = [f"2024-01-{day:02}" for day in (1, 8, 15, 22, 29)]


@pytest.mark.parametrize(
    ("dates", "period"), [(WEEKS, "day"), ([f"2024-01-{day:02}" for day in range(1, 15)], "week"), ([], "day")]
)
def test_sales_of_another_period_and_tables_without_rows_are_refused(dates: list[str], period: Period) -> None:
    with pytest.raises(ContractError):
        check(sales(date=dates).iloc[: len(dates)], where="sales.csv", period=period)


def test_a_weekly_date_off_the_first_day_of_the_week_is_set_aside() -> None:
    checked = check(sales(date=[*WEEKS, "2024-02-06"]), where="sales.csv", period="week")

    assert checked.bad_rows["row"].tolist() == [6]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1.0, 2.0, 3.5], ["1", "2", "3.5"]),
        (["00123", "2 ", "x"], ["00123", "2", "x"]),
        (["1.0", "2.0", "3.0"], ["1", "2", "3"]),
        (["1.0", "2.0", "x"], ["1.0", "2.0", "x"]),
    ],
)
def test_a_product_id_is_a_text_however_it_came(ids: object, expected: list[str]) -> None:
    checked = check(sales().assign(product_id=ids), where="sales.csv")

    assert checked.clean["product_id"].astype(str).tolist() == expected


@pytest.mark.parametrize(
    ("days", "dropped"),
    [
        (["2024-01-01", "2024-01-02"], False),
        ([20240101.0, 20240102.0], False),
        (["2024-01-01T23:30:00+01:00", "2024-01-02T01:00:00Z"], True),
        (pd.to_datetime(["2024-01-01 23:00", "2024-01-02 00:00"]).tz_localize("America/New_York"), True),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("Europe/Berlin"), True),
        (pd.Series([dt.date(2024, 1, 1), pd.Timestamp("2024-01-02")], dtype=object), False),
    ],
)
def test_a_day_is_read_as_it_is_written_whatever_its_type_or_zone(days: object, dropped: bool) -> None:
    frame = sales(price=[1.0, 1.0]).assign(date=days)

    checked = check(frame, where="sales.csv")

    assert not checked.violations
    assert checked.clean["date"].astype(str).tolist() == ["2024-01-01", "2024-01-02"]
    assert len(checked.notes) == dropped


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2025-10-01T00:00:00+01:00", "2025-10-01"),
        ("2025-09-30T23:00:00Z", "2025-10-01"),
        ("2025-12-01T00:00:00+01:00", "2025-11-30"),  # of a shop in London
        ("2025-10-01T23:30:00", "2025-10-01"),
    ],
)
def test_a_moment_with_a_zone_is_of_the_day_in_the_shops(moment: str, day: str) -> None:
    checked = check(sales().assign(date=moment), where="sales.csv", zone=ZoneInfo("Europe/London"))

    assert set(checked.clean["date"].astype(str)) == {day}


def test_damaged_lines_are_counted_and_rows_keep_their_number_in_the_file() -> None:
    frame = sales(units_sold=[1, -1, 2])
    frame.attrs["damaged"] = [(3, "2024-01-01,A,1")]

    checked = check(frame, where="sales.csv")

    assert checked.violations[0].first == "row 2 ('2024-01-01,A,1')"
    assert checked.violations[1].first.startswith("row 3 ")
    assert checked.bad_rows["row"].tolist() == [3, 2]


_CELL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=4),
    st.dates(),
    st.just([1]),
    st.binary(max_size=2),
)


@given(st.lists(st.tuples(_CELL, _CELL, _CELL, _CELL, _CELL), min_size=1, max_size=8))
def test_whatever_the_cells_hold_every_row_is_either_clean_or_set_aside_with_a_reason(
    rows: list[tuple[object]],
) -> None:
    frame = pd.DataFrame(rows, columns=["date", "product_id", "units_sold", "price", "is_promo"], dtype=object)

    try:
        checked = check(frame, where="sales.csv")
    except ContractError:  # all dates fall on one weekday
        return

    assert len(checked.clean) + len(checked.bad_rows) == len(frame)
    assert (checked.bad_rows["reasons"].str.len() > 0).all()
    assert checked.clean[["date", "product_id", "units_sold", "price"]].notna().all(axis=None)
    assert not checked.clean.duplicated(["product_id", "date"]).any()
    if len(checked.clean):
        assert not check(checked.clean, where="again").violations
