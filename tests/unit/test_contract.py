"""What the contract refuses, what it takes, and how it says so."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.data.contract import Checked, check
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
    ("units_sold", None, "units_sold must not be missing"),
    ("units_sold", "many", "units_sold must be a number"),
    ("units_sold", True, "units_sold must be a number"),
    ("units_sold", float("inf"), "units_sold must be finite and at most 1,000,000,000"),
    ("price", 0, "price must be above 0"),
    ("price", -1.0, "price must be above 0"),
    ("price", 1e-60, "price must be above 0"),
    ("price", float("inf"), "price must be finite and at most 1,000,000,000"),
    ("price", "", "price must not be missing"),
    ("price", "1,50", "price must be a number"),
    ("price", "1_0", "price must be a number"),
    ("list_price", 0, "list_price must be above 0"),
    ("unit_cost", 0, "unit_cost must be above 0"),
    ("stock", -1, "stock must be at least 0"),
    ("comp_price", 0, "comp_price must be above 0"),
    ("comp_price", [1], "comp_price must be a number"),
    ("comp_price_age", -1, "comp_price_age must be at least 0"),
    ("comp_price_age", 45_000, "comp_price_age must be finite and at most 3,660"),
    ("tax_rate", -0.2, "tax_rate must be at least 0"),
    ("tax_rate", 20, "tax_rate must be finite and at most 1, a fraction of the net price: 0.20 is 20 %"),
    ("is_promo", 2, "is_promo must be 0 or 1"),
    ("is_promo", "yes", "is_promo must be 0 or 1"),
    ("is_holiday", 0.5, "is_holiday must be 0 or 1"),
    ("date", "05/01/2024", "date must be an ISO day such as 2024-01-31"),
    ("date", "2024-02-30", "date must be an ISO day such as 2024-01-31"),
    ("date", 17532, "date must be an ISO day such as 2024-01-31"),
    ("date", None, "date must not be missing"),
    ("date", "1900-01-01", "date must lie within 3 years of the bulk of the dates"),
    ("date", "2204-01-01", "date must lie within 3 years of the bulk of the dates"),
    ("product_id", None, "product_id must not be missing"),
    ("product_id", "  ", "product_id must not be missing"),
    ("product_id", "x" * 201, "product_id must have at most 200 characters"),
]


@pytest.mark.parametrize(("column", "value", "rule"), BREACHES)
def test_a_breach_names_its_rule_its_count_and_its_first_offender(column: str, value: object, rule: str) -> None:
    good = {"is_promo": 0, "is_holiday": 0, "tax_rate": 0.2, "product_id": "A", "date": "2024-01-01"}.get(column, 5)
    days = [f"2024-01-0{day}" for day in (1, 2, 3, 4)] if column == "date" else [good] * 4
    days[1] = value  # type: ignore[call-overload]

    checked = (
        look(**{column: pd.Series(days, dtype=object)}, price=[2.5] * 4)
        if column != "price"
        else look(price=pd.Series(days, dtype=object), units_sold=[1] * 4)
    )

    assert [(fault.rule, fault.count) for fault in checked.violations] == [(rule, 1)]
    assert checked.violations[0].first.startswith("row 2 (product_id ")
    assert len(checked.clean) == 3
    assert checked.bad_rows[["row", "reasons"]].to_numpy().tolist() == [[2, rule]]


def test_every_reason_of_a_row_is_written_beside_it() -> None:
    checked = look(units_sold=[1, -1, 2], price=[0.0, 0.0, 1.0])

    assert [(fault.rule, fault.count) for fault in checked.violations] == [
        ("units_sold must be at least 0", 1),
        ("price must be above 0", 2),
    ]
    assert checked.bad_rows["reasons"].tolist() == [
        "price must be above 0",
        "units_sold must be at least 0; price must be above 0",
    ]


def test_an_identical_row_is_set_aside_once_and_differing_ones_altogether() -> None:
    days = ["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"]

    checked = look(date=days, units_sold=[1, 1, 2, 3, 4])

    assert [(fault.rule, fault.count) for fault in checked.violations] == [("(product_id, date) must be unique", 3)]
    assert checked.bad_rows["row"].tolist() == [2, 3, 4]
    assert checked.clean["units_sold"].tolist() == [1, 4]


def test_a_bad_row_does_not_make_its_good_twin_a_duplicate() -> None:
    checked = look(date=["2024-01-01", "2024-01-01", "2024-01-02"], units_sold=[1, -1, 2])

    assert [fault.rule for fault in checked.violations] == ["units_sold must be at least 0"]
    assert len(checked.clean) == 2


def test_absent_columns_are_all_named_with_the_likely_other_name() -> None:
    frame = sales().rename(columns={"units_sold": "units", "price": "Price"})

    with pytest.raises(ContractError) as caught:
        check(frame, where="sales.csv")

    message = str(caught.value)
    assert "sales.csv breaks the data contract in 2 way(s)" in message
    assert "column units_sold must be there: found date, product_id, units, Price; rename 'units'" in message
    assert "column price must be there" in message
    assert "rename 'Price'" in message


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(ContractError, match="there must be rows"):
        check(sales().iloc[:0], where="sales.csv")


def test_a_column_that_occurs_twice_is_refused() -> None:
    frame = sales().assign(other=1.0).rename(columns={"other": "price"})

    with pytest.raises(ContractError, match="column price must occur once: it occurs 2 times"):
        check(frame, where="sales.csv")


def test_weekly_sales_are_refused_where_daily_ones_are_expected() -> None:
    weeks = [f"2024-01-{day:02}" for day in (1, 8, 15, 22, 29)]

    with pytest.raises(ContractError, match="for weekly sales set data"):
        look(date=weeks)

    assert not check(sales(date=weeks), where="sales.csv", period="week").violations


def test_daily_sales_are_refused_where_weekly_ones_are_expected() -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 15)]

    with pytest.raises(ContractError, match=r"fall on 7 weekdays; for daily sales leave data\.period at day"):
        check(sales(date=days), where="sales.csv", period="week")


def test_a_weekly_date_off_the_first_day_of_the_week_is_set_aside() -> None:
    weeks = ["2024-01-01", "2024-01-08", "2024-01-16", "2024-01-22"]

    checked = check(sales(date=weeks), where="sales.csv", period="week")

    assert [fault.rule for fault in checked.violations] == [
        "a weekly date must be the first day of its week (here Monday)"
    ]
    assert checked.bad_rows["row"].tolist() == [3]


def test_unknown_columns_are_noted_and_dropped() -> None:
    checked = look(colour=["red"] * 3)

    assert checked.notes == ("columns that the contract does not know are ignored: colour.",)
    assert "colour" not in checked.clean


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3], ["1", "2", "3"]),
        ([1.0, 2.0, 3.5], ["1", "2", "3.5"]),
        (["00123", "2 ", "x"], ["00123", "2", "x"]),
        (["1.0", "2.0", "3.0"], ["1", "2", "3"]),
        (["1.0", "2.0", "x"], ["1.0", "2.0", "x"]),
        (pd.Categorical(["a", "b", "c"]), ["a", "b", "c"]),
    ],
)
def test_a_product_id_is_a_text_however_it_came(ids: object, expected: list[str]) -> None:
    checked = check(sales().assign(product_id=ids), where="sales.csv")

    assert checked.clean["product_id"].astype(str).tolist() == expected


@pytest.mark.parametrize(
    "days",
    [
        ["2024-01-01", "2024-01-02"],
        [20240101, 20240102],
        [20240101.0, 20240102.0],
        [dt.datetime(2024, 1, 1, 12), dt.datetime(2024, 1, 2)],
        ["2024-01-01T23:30:00+01:00", "2024-01-02T01:00:00Z"],
        pd.to_datetime(["2024-01-01 23:00", "2024-01-02 00:00"]).tz_localize("America/New_York"),
        pd.Series([dt.date(2024, 1, 1), pd.Timestamp("2024-01-02")], dtype=object),
    ],
)
def test_a_day_is_read_as_it_is_written_whatever_its_type_or_zone(days: object) -> None:
    frame = sales(price=[1.0, 1.0]).assign(date=days)

    checked = check(frame, where="sales.csv")

    assert not checked.violations
    assert checked.clean["date"].astype(str).tolist() == ["2024-01-01", "2024-01-02"]


def test_what_a_date_loses_is_noted() -> None:
    checked = look(date=["2024-01-01T23:30:00+01:00", "2024-01-02T00:00:00Z", "2024-01-03"])

    assert checked.notes == (
        "date: a time of day dropped on 1 rows.",
        "date: a time zone dropped, the day as written counts on 2 rows.",
    )


def test_numbers_may_come_as_decimals_texts_and_integers() -> None:
    checked = look(price=pd.Series([Decimal("2.50"), "3", 4], dtype=object))

    assert not checked.violations
    assert checked.clean["price"].tolist() == [2.5, 3.0, 4.0]


def test_flags_may_come_as_bools_words_and_numbers_and_may_be_missing() -> None:
    checked = look(is_promo=[True, "FALSE", "1", 0.0, None])

    assert not checked.violations
    np.testing.assert_array_equal(checked.clean["is_promo"], [1, 0, 1, 0, np.nan])


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
