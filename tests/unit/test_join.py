"""Sales are joined with all other sources without losing a unit, and each join says what met on both sides."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config_sources import FinishedRows, ProductSource, SourcesConfig
from pricing.data.contract import check
from pricing.sources.finished_rows import read_rows
from pricing.sources.identifiers import Identifiers
from pricing.sources.join import REACH, STORE_DAYS, Joined, contract_rows
from pricing.sources.product_master import ProductMaster, read_products
from pricing.sources.returns import net_of_returns
from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk, order_lines, sources
from tests.kit.order_line_days import order_line_days

LINES = "time product_id store quantity unit_price"


def sales(*rows: tuple[Any, ...], **source: Any) -> pd.DataFrame:
    lines = order_lines(**source)
    days = order_line_days([chunk(LINES, *rows)], lines, config=sources(lines), ids=Identifiers(), set_aside=SetAside())
    return net_of_returns(days.table, rule=lines.returns, reach=lines.return_days)[0]


def stock(*rows: tuple[Any, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["date", "product_id", "store", "stock"])
    return frame.astype({"date": "datetime64[s]", "product_id": "str", "store": "str", "stock": "float64"})


def master(columns: str, *rows: tuple[Any, ...]) -> ProductMaster:
    table, _ = read_products(
        [chunk(columns, *rows)],
        ProductSource(location="p.csv"),
        config=sources(),
        ids=Identifiers(),
        set_aside=SetAside(),
    )
    return ProductMaster(table)


def shown(joined: Joined, *names: str) -> list[list[Any]]:
    frame = joined.rows[["product_id", *names]].copy()
    frame.insert(1, "day", joined.rows["date"].dt.day)
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def test_stores_are_summed_with_the_price_that_all_of_them_took_on_average() -> None:
    joined = contract_rows(
        sales(("2026-03-02", "tea", "n", 1, 5.0), ("2026-03-02", "tea", "s", 3, 4.0)), config=sources()
    )

    assert shown(joined, "units_sold", "price") == [["tea", 2, 4.0, 4.25]]
    assert "parent_id" not in joined.rows


def test_separate_stores_are_series_of_their_product() -> None:
    joined = contract_rows(
        sales(("2026-03-02", "tea@home", "n", 1, 5.0), ("2026-03-02", "tea@home", "a@b", 3, 4.0)),
        config=sources(stores="separate"),
    )

    assert shown(joined, "parent_id", "units_sold", "price") == [
        ["tea@home@a%40b", 2, "tea@home", 3.0, 4.0],
        ["tea@home@n", 2, "tea@home", 1.0, 5.0],
    ]


def test_the_stock_of_summed_stores_is_unknown_on_days_that_one_of_them_lacks() -> None:
    sold = sales(*((f"2026-03-0{day}", "tea", "n", 1, 5.0) for day in (2, 3, 4, 5)))
    counts = stock(
        *((f"2026-03-0{day}", "tea", "n", 5) for day in (2, 3, 4, 5)),
        *((f"2026-03-0{day}", "tea", "s", 7) for day in (2, 4)),
    )

    joined = contract_rows(sold, config=sources(), stock=counts)

    assert [row[2] for row in shown(joined, "stock")] == [12, None, 12, None]
    assert joined.partial_stock == 2


def test_a_store_that_has_not_counted_for_a_week_is_no_longer_one_of_the_product() -> None:
    days = range(2, 13)
    sold = sales(*((f"2026-03-{day:02d}", "tea", "n", 1, 5.0) for day in days))
    counts = stock(*((f"2026-03-{day:02d}", "tea", "n", 5) for day in days), ("2026-03-02", "tea", "s", 7))

    joined = contract_rows(sold, config=sources(), stock=counts)

    assert [row[2] for row in shown(joined, "stock")] == [12, *[None] * STORE_DAYS, 5, 5, 5]


def test_a_day_with_stock_and_without_a_sale_gets_0_units_at_the_shelf_price_else_the_last_one() -> None:
    jam = [("2026-03-03", "jam", "", 1, 3.0), ("2026-03-04", "jam", "", 1, 3.0)]
    sold = sales(("2026-03-02", "tea", "", 1, 5.0), ("2026-03-05", "tea", "", 1, 4.0), *jam)
    counts = stock(*((f"2026-03-0{day}", "tea", "", 5) for day in (2, 3, 4, 5)), ("2026-03-02", "jam", "", 8))
    prices = master("product_id price valid_from", ("tea", 4.5, "2026-03-04"))

    joined = contract_rows(sold, config=sources(), stock=counts, master=prices)

    assert shown(joined, "units_sold", "price") == [
        ["jam", 3, 1, 3.0],
        ["jam", 4, 1, 3.0],
        ["tea", 2, 1, 5.0],
        ["tea", 3, 0, 5.0],
        ["tea", 4, 0, 4.5],
        ["tea", 5, 1, 4.0],
    ]
    zeros = joined.zeros
    assert (zeros.rows, zeros.shelf_price, zeros.last_price, zeros.no_price, zeros.closed) == (2, 1, 1, 1, 0)


def test_a_day_on_which_nothing_at_all_was_sold_gets_no_zeros() -> None:
    sold = sales(("2026-03-02", "tea", "", 1, 5.0), ("2026-03-04", "tea", "", 1, 5.0))
    counts = stock(*((f"2026-03-0{day}", "tea", "", 5) for day in (1, 2, 3, 4, 5)))

    joined = contract_rows(sold, config=sources(), stock=counts)

    assert [row[1] for row in shown(joined)] == [2, 4]
    assert joined.zeros.closed == 1


def test_a_sold_out_day_gets_0_units_only_as_long_as_the_product_counts_as_kept() -> None:
    days = [f"{day:%Y-%m-%d}" for day in pd.date_range("2026-03-02", periods=REACH + 4)]
    sold = sales(*((day, "jam", "", 1, 3.0) for day in days), (days[0], "tea", "", 4, 5.0))
    counts = stock(*((day, "tea", "", {0: 4, 2: 2}.get(number, 0)) for number, day in enumerate(days)))

    joined = contract_rows(sold, config=sources(), stock=counts)

    tea = [row[2:] for row in shown(joined, "units_sold", "stock") if row[0] == "tea"]
    assert tea == [[4, 4], [0, 0], [0, 2], *[[0, 0]] * REACH]


def test_days_to_come_change_no_row_before() -> None:
    days = [f"{day:%Y-%m-%d}" for day in pd.date_range("2026-03-02", periods=40)]
    sold = sales(
        *((day, "jam", "", 1, 3.0) for day in days), (days[0], "tea", "", 4, 5.0), (days[-1], "tea", "", 1, 5.0)
    )
    counts = stock(*((day, "tea", "", 4 if day in (days[0], days[-1]) else 0) for day in days))

    whole = contract_rows(sold, config=sources(), stock=counts).rows
    early = contract_rows(sold[sold["date"] < days[20]], config=sources(), stock=counts[counts["date"] < days[20]]).rows

    before = whole[whole["date"] < days[20]].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, early)


def test_no_zeros_are_added_where_the_configuration_says_none() -> None:
    sold = sales(("2026-03-02", "tea", "", 1, 5.0), ("2026-03-03", "jam", "", 1, 5.0))
    config = sources(order_lines(zero_days="none"))

    joined = contract_rows(sold, config=config, stock=stock(("2026-03-03", "tea", "", 5)))

    assert len(joined.rows) == 2


def test_each_join_says_what_met_on_both_sides() -> None:
    sold = sales(
        ("2026-03-02", "tea", "", 1, 5.0), ("2026-03-03", "tea", "", 1, 5.0), ("2026-03-03", "jam", "", 1, 3.0)
    )
    facts = master("product_id category unit_cost", ("tea", "drinks", 2.0), ("pen", "office", 1.0))

    joined = contract_rows(sold, config=sources(), master=facts)

    (count,) = joined.joins
    assert (count.table, count.sales_rows, count.matched) == ("products", 3, 2)
    assert (count.unmatched_sales, count.unmatched_table) == (1, 1)
    assert count.examples == ["sales only: jam", "products only: pen"]
    assert shown(joined, "unit_cost", "category")[0] == ["jam", 3, None, ""]


def test_a_promotion_calendar_tells_nothing_of_days_before_its_first_entry() -> None:
    sold = sales(*((f"2026-03-0{day}", "tea", "", 1, 5.0) for day in (2, 3, 4)))
    plan = pd.DataFrame({"product_id": ["tea"], "first": ["2026-03-03"], "last": ["2026-03-03"]})
    plan = plan.astype({"product_id": "str", "first": "datetime64[s]", "last": "datetime64[s]"})

    joined = contract_rows(sold, config=sources(), plan=plan)

    assert [row[2] for row in shown(joined, "is_promo")] == [None, 1, 0]


def test_a_competitors_price_is_that_of_the_product_in_all_its_stores() -> None:
    sold = sales(("2026-03-02", "tea", "n", 1, 5.0), ("2026-03-02", "tea", "s", 1, 5.0))
    prices = pd.DataFrame(
        {"date": pd.to_datetime(["2026-03-02"]), "product_id": ["tea"], "comp_price": [4.9], "comp_price_age": [2.0]}
    )

    joined = contract_rows(sold, config=sources(stores="separate"), competitor=prices)

    assert shown(joined, "comp_price", "comp_price_age") == [["tea@n", 2, 4.9, 2.0], ["tea@s", 2, 4.9, 2.0]]


def test_weeks_begin_on_the_configured_day_with_that_days_stock() -> None:
    sold = sales(*((f"2026-03-{day:02}", "tea", "", 1, 5.0) for day in range(2, 16)))  # two weeks from a Monday
    counts = stock(("2026-03-02", "tea", "", 50), ("2026-03-10", "tea", "", 40))

    joined = contract_rows(sold, config=sources(), period="week", stock=counts)

    assert shown(joined, "units_sold", "stock") == [["tea", 2, 7, 50], ["tea", 9, 7, None]]


def test_the_tax_rate_of_the_lines_comes_before_that_of_the_master() -> None:
    lines = order_lines()
    days = order_line_days(
        [chunk("time product_id quantity unit_price tax_rate", ("2026-03-02", "tea", 1, 5.0, 0.1))],
        lines,
        config=sources(),
        ids=Identifiers(),
        set_aside=SetAside(),
    )
    net, _ = net_of_returns(days.table, rule="sale_day", reach=60)

    joined = contract_rows(net, config=sources(), master=master("product_id tax_rate", ("tea", 0.2)))

    assert joined.rows["tax_rate"].tolist() == pytest.approx([0.1])


def finished(
    *rows: tuple[Any, ...], latest: np.datetime64 | None = None
) -> tuple[pd.DataFrame, SourcesConfig, SetAside]:
    source = FinishedRows(location="r.csv", kind="rows")
    config = SourcesConfig(zone="Europe/Berlin", sales=source)
    aside = SetAside()
    columns = "date product_id store units_sold price stock unit_cost is_promo category"
    chunks = [chunk(columns, *rows)]
    read = read_rows(chunks, source, config=config, ids=Identifiers(), set_aside=aside, latest=latest)
    return read, config, aside


def test_finished_rows_of_several_stores_are_summed() -> None:
    read, config, _ = finished(
        ("2026-03-02", "tea", "n", 1, 5.0, 10, 2.0, 0, "drinks"),
        ("2026-03-02", "tea", "s", 3, 4.0, 20, 2.4, 1, "drinks"),
        ("2026-03-03", "tea", "n", 0, 5.0, 10, 2.0, 0, "drinks"),
        ("2026-03-03", "tea", "s", 0, 4.0, None, 2.0, 0, "drinks"),
    )

    joined = contract_rows(read, config=config)

    assert shown(joined, "units_sold", "price", "stock", "unit_cost", "is_promo", "category") == [
        ["tea", 2, 4, 4.25, 30, pytest.approx(2.3), 1, "drinks"],
        ["tea", 3, 0, 4.5, None, 2.0, 0, "drinks"],
    ]


def test_finished_rows_that_break_the_contract_are_set_aside_and_the_last_of_a_day_holds() -> None:
    read, _, aside = finished(
        ("2026-03-02", "tea", "", 1, 5.0, 10, 2.0, 0, "drinks"),
        ("2026-03-02", "tea", "", 2, 5.0, 10, 2.0, 0, "drinks"),
        ("2026-03-03", "tea", "", -1, 5.0, 10, 2.0, 0, "drinks"),
        ("2026-03-04", "tea", "", 1, 0, 10, 2.0, 0, "drinks"),
    )

    assert read["units_sold"].tolist() == [2]
    assert {count.reason: (count.rows, count.units) for count in aside.counts} == {
        "units_sold must be at least 0": (1, -1),
        "price must be above 0": (1, 1),
        "a later row of this day, product and store replaces it": (1, 1),
    }


def test_finished_rows_of_days_to_come_are_set_aside_with_their_line() -> None:
    read, _, aside = finished(
        ("2026-03-02", "tea", "", 1, 5.0, 10, 2.0, 0, "drinks"),
        ("2026-03-03", "tea", "", 2, 5.0, 10, 2.0, 0, "drinks"),
        latest=np.datetime64("2026-03-02"),
    )

    assert read["units_sold"].tolist() == [1]
    assert [(count.reason, count.units, count.revenue) for count in aside.counts] == [
        ("the day lies in the future", 2, 10.0)
    ]
    assert aside.frame("sales")["line"].tolist() == [2]


SALES = st.lists(
    st.tuples(
        st.integers(0, 27),
        st.sampled_from(["a", "b", "c@x"]),
        st.sampled_from(["", "n", "s"]),
        st.sampled_from([1, 2, 5, -1, -3]),
        st.sampled_from([0, 4.0, 5.0, 6e9]),
    ),
    min_size=1,
    max_size=50,
)
STOCK = st.lists(
    st.tuples(st.integers(0, 27), st.sampled_from(["a", "b", "d"]), st.sampled_from(["", "n"]), st.integers(0, 9)),
    max_size=30,
    unique_by=lambda row: row[:3],
)


@settings(max_examples=25, deadline=None)
@given(
    rows=SALES,
    counts=STOCK,
    stores=st.sampled_from(["sum", "separate"]),
    rule=st.sampled_from(["sale_day", "return_day", "ignore"]),
    period=st.sampled_from(["day", "week"]),
)
def test_units_and_revenue_that_come_in_go_out_or_are_set_aside(
    rows: list[tuple[Any, ...]], counts: list[tuple[Any, ...]], stores: Any, rule: Any, period: Any
) -> None:
    first = np.datetime64("2026-03-02")
    lines = order_lines(returns=rule)
    config = sources(lines, stores=stores)
    aside = SetAside()
    told = [(str(first + day), *rest) for day, *rest in rows]
    days = order_line_days([chunk(LINES, *told)], lines, config=config, ids=Identifiers(), set_aside=aside)
    net, returned = net_of_returns(days.table, rule=rule, reach=60)
    openings = stock(*((str(first + day), *rest) for day, *rest in counts))

    joined = contract_rows(net, config=config, period=period, stock=openings if counts else None)

    sold = sum(units for _, _, _, units, _ in rows if units > 0)
    paid = sum(units * price for _, _, _, units, price in rows if units > 0)
    back = -sum(units for _, _, _, units, _ in rows if units < 0)
    out = joined.rows["units_sold"].sum() if len(net) else 0.0
    assert out + returned.taken_off + sum(count.units for count in aside.counts) == pytest.approx(sold)
    assert days.counts.revenue + sum(count.revenue for count in aside.counts) == pytest.approx(paid)
    assert returned.taken_off + returned.beyond + returned.ignored == back
    assert net["units_gross"].to_numpy() @ net["price"].to_numpy() == pytest.approx(days.counts.revenue)
    weekdays = joined.rows["date"].dt.weekday.nunique() if len(net) else 0
    if weekdays > 1 or (
        len(net) and period == "week"
    ):  # rows of one weekday are refused as weeks where days are expected
        assert not check(joined.rows, where="rows", period=period).violations
