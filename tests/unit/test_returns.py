"""Returned goods are taken off sales by a stated rule; units are never below 0 and never lost."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.sources.returns import net_of_returns, summed_sales, week_of

SUMS = ("units_gross", "revenue", "units_returned", "units_came_back", "taxed_revenue", "net_revenue")


def days_of(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of (day of March, product, store, sold, paid, returned[, came back])."""
    frame = pd.DataFrame(
        [(f"2026-03-{day:02}", product, store, *rest, *(0,) * (4 - len(rest))) for day, product, store, *rest in rows],
        columns=["date", "product_id", "store", "units_gross", "revenue", "units_returned", "units_came_back"],
    )
    texts = {"product_id": "str", "store": "str", "date": "datetime64[s]"}
    return frame.assign(taxed_revenue=0.0, net_revenue=0.0, lines=1.0, price_low=1.0, price_high=1.0).astype(
        {**texts, **dict.fromkeys(SUMS, "float64")}
    )


def test_a_return_is_taken_off_the_newest_sale_before_it_then_off_the_one_before() -> None:
    table = days_of((2, "tea", "", 3, 15), (4, "tea", "", 2, 10), (6, "tea", "", 0, 0, 4), (7, "tea", "", 5, 25))

    net, counts = net_of_returns(table, rule="sale_day", reach=60)

    assert net["units_sold"].tolist() == [1, 0, 5]
    assert (counts.returned, counts.taken_off, counts.beyond) == (4, 4, 0)


def test_returns_beyond_what_was_sold_leave_0_units_and_are_counted_and_named() -> None:
    table = days_of((2, "tea", "", 3, 15), (4, "tea", "", 0, 0, 5), (5, "tea", "", 7, 35))

    net, counts = net_of_returns(table, rule="sale_day", reach=60)

    assert net["units_sold"].tolist() == [0, 7]
    assert (counts.taken_off, counts.beyond, counts.cells) == (3, 2, 1)
    assert counts.examples == ("'tea' on 2026-03-04: 2 units",)


def test_a_return_takes_nothing_off_another_store_or_product() -> None:
    table = days_of((2, "jam", "", 3, 9), (2, "tea", "north", 3, 15), (2, "tea", "south", 3, 15, 0))
    back = days_of((3, "tea", "south", 0, 0, 2))

    net, _ = net_of_returns(pd.concat([table, back], ignore_index=True), rule="sale_day", reach=60)

    assert net["units_sold"].tolist() == [3, 3, 1]


def test_goods_whose_sale_is_known_are_taken_off_its_day_before_others() -> None:
    table = days_of((2, "tea", "", 3, 15, 0, 2), (4, "tea", "", 2, 10), (6, "tea", "", 0, 0, 3))

    net, counts = net_of_returns(table, rule="sale_day", reach=60)

    assert net["units_sold"].tolist() == [0, 0]
    assert counts.taken_off == 5


def test_by_the_day_of_return_only_that_days_sales_are_reduced() -> None:
    table = days_of((2, "tea", "", 3, 15), (4, "tea", "", 2, 10, 5))

    net, counts = net_of_returns(table, rule="return_day", reach=60)

    assert net["units_sold"].tolist() == [3, 0]
    assert (counts.taken_off, counts.beyond) == (2, 3)


def test_ignored_returns_are_counted_as_ignored() -> None:
    net, counts = net_of_returns(days_of((2, "tea", "", 3, 15, 2)), rule="ignore", reach=60)

    assert net["units_sold"].tolist() == [3]
    assert (counts.returned, counts.ignored, counts.taken_off) == (2, 2, 0)


def test_returns_change_no_price() -> None:
    net, _ = net_of_returns(days_of((2, "tea", "", 4, 18, 4)), rule="sale_day", reach=60)

    assert net[["units_sold", "price"]].to_numpy().tolist() == [[0, 4.5]]


CELLS = st.lists(
    st.tuples(
        st.integers(1, 28), st.sampled_from("ab"), st.sampled_from(["", "n"]), st.integers(0, 4), st.integers(0, 5)
    ),
    max_size=40,
    unique_by=lambda row: row[:3],
)


@settings(max_examples=80, deadline=None)
@given(cells=CELLS, rule=st.sampled_from(["sale_day", "return_day", "ignore"]))
def test_returns_are_those_of_a_slow_loop_and_no_unit_is_lost(cells: list[tuple[Any, ...]], rule: Any) -> None:
    rows = sorted((day, product, store, sold, sold * 2, back) for day, product, store, sold, back in cells)

    net, counts = net_of_returns(days_of(*rows), rule=rule, reach=60)

    expected, beyond = _slowly(rows, rule)
    found = {(row.date.day, row.product_id, row.store): row.units_sold for row in net.itertuples()}
    assert found == {key: left for key, left in expected.items() if key in found}
    assert set(found) == {row[:3] for row in rows if row[3] > 0}
    assert counts.beyond == beyond
    assert counts.returned == counts.taken_off + counts.beyond + counts.ignored
    assert net["units_gross"].sum() == net["units_sold"].sum() + counts.taken_off
    assert (net["units_sold"] >= 0).all()


def _slowly(rows: list[tuple[Any, ...]], rule: str) -> tuple[dict[tuple[Any, ...], float], float]:
    left = {row[:3]: row[3] for row in rows}
    beyond = 0
    for day, product, store, _, _, back in rows:
        for _ in range(back if rule != "ignore" else 0):
            days = range(day, 0, -1) if rule == "sale_day" else [day]
            key = next((k for k in ((d, product, store) for d in days) if left.get(k, 0) > 0), None)
            if key is None:
                beyond += 1
            else:
                left[key] -= 1
    return left, beyond


@pytest.mark.parametrize(
    ("starts", "first"), [("monday", "2026-03-02"), ("sunday", "2026-03-08"), ("saturday", "2026-03-07")]
)
def test_a_week_begins_on_the_configured_day(starts: str, first: str) -> None:
    days = pd.Series(pd.to_datetime(["2026-03-08", "2026-03-08"]))  # a Sunday

    assert week_of(days, starts=starts).dt.strftime("%Y-%m-%d").tolist() == [first] * 2


def test_the_price_of_a_sum_is_weighted_by_units_and_its_tax_rate_by_what_was_paid() -> None:
    sales = pd.DataFrame(
        {
            "date": pd.to_datetime(["2026-03-02"] * 2),
            "product_id": "tea",
            "units_sold": [1.0, 2.0],
            "units_gross": [1.0, 3.0],
            "price": [12.0, 10.5],
            "tax_rate": [0.2, 0.05],
            "lines": 1.0,
            "price_low": [12.0, 10.0],
            "price_high": [12.0, 11.0],
        }
    )

    (row,) = summed_sales(sales, ["date", "product_id"]).to_dict("records")

    assert (row["units_sold"], row["units_gross"], row["price_low"], row["price_high"]) == (3, 4, 10.0, 12.0)
    assert row["price"] == pytest.approx((12 + 3 * 10.5) / 4)
    assert row["tax_rate"] == pytest.approx(43.5 / (12 / 1.2 + 31.5 / 1.05) - 1)
