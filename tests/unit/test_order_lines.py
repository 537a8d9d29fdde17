"""Order lines become days of sales by stated rules, and every line is accounted for."""

import sqlite3
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config_sources import OrderLines, ProductSource
from pricing.errors import SourceError
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.order_lines import OrderLineSums, usual_prices
from pricing.sources.product_master import ProductMaster, read_products
from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk, order_lines, sources
from tests.kit.order_line_days import OrderDays, order_line_days

COLUMNS = "time product_id quantity unit_price"


def summed(*chunks: Chunk, source: OrderLines | None = None, **settings: Any) -> tuple[OrderDays, SetAside]:
    source = source or order_lines()
    aside = SetAside()
    more = {name: settings.pop(name, None) for name in ("master", "usual", "latest")}
    config = sources(source, **settings)
    return order_line_days(chunks, source, config=config, ids=Identifiers(config.ids), set_aside=aside, **more), aside


def only(days: OrderDays) -> pd.Series:
    assert len(days.table) == 1
    return days.table.iloc[0]


def reasons(aside: SetAside) -> dict[str, int]:
    return {count.reason: count.rows for count in aside.counts}


def test_lines_of_a_day_are_summed_and_their_price_is_what_was_paid_per_unit() -> None:
    lines = chunk(COLUMNS, ("2026-03-02 09:00", "tea", 1, 5.0), ("2026-03-02 20:00", "tea", 3, 4.0))

    days, _ = summed(lines)

    day = only(days)
    assert (day["units_gross"], day["revenue"], day["lines"]) == (4, 17.0, 2)
    assert (day["price_low"], day["price_high"]) == (4.0, 5.0)
    assert days.counts.several_prices == 1.0


def test_cells_may_be_texts_of_numbers_in_one_chunk_and_numbers_in_the_next() -> None:
    first = chunk(COLUMNS, ("2026-03-02", "17", "2", "4.50"))
    second = chunk(COLUMNS, ("2026-03-02", 17, 1, 4.5), first=2)

    days, _ = summed(first, second)

    assert (only(days)["product_id"], only(days)["units_gross"], only(days)["revenue"]) == ("17", 3, 13.5)


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("2026-03-02 23:59:59", "2026-03-02"),
        ("2026-03-03 00:00:00", "2026-03-03"),
        ("2026-03-03T04:59:59Z", "2026-03-02"),  # 23:59:59 in New York
        ("2026-03-03T05:00:00Z", "2026-03-03"),
        ("2026-03-09T03:59:59Z", "2026-03-08"),  # summer time since the morning: midnight is 04:00 UTC
        ("2026-03-09T04:00:00Z", "2026-03-09"),
        ("2026-11-02T04:59:59Z", "2026-11-01"),  # winter time since the morning: a day of 25 hours
        ("2026-11-02T05:00:00Z", "2026-11-02"),
        ("2026-03-02 22:00:00-08:00", "2026-03-03"),
        ("2026-03-08 02:30", "2026-03-08"),  # skipped by the clocks
        ("2026-11-01 01:30", "2026-11-01"),  # twice
    ],
)
def test_a_line_counts_on_the_day_that_the_shops_clocks_show(time: str, day: str) -> None:
    days, _ = summed(chunk(COLUMNS, (time, "tea", 1, 5.0)))

    assert str(only(days)["date"].date()) == day


def test_times_without_a_zone_are_read_by_the_clocks_of_the_sources_zone() -> None:
    lines = chunk(COLUMNS, ("2026-03-03 05:30", "tea", 1, 5.0), ("2026-03-03 06:30", "tea", 2, 5.0))

    days, _ = summed(lines, source=order_lines(zone="Europe/Berlin"))

    assert days.table["date"].dt.strftime("%m-%d").tolist() == ["03-02", "03-03"]


def test_a_day_without_a_time_is_the_shops_day_whatever_the_sources_zone() -> None:
    days, _ = summed(chunk(COLUMNS, ("2026-03-03", "tea", 1, 5.0)), source=order_lines(zone="Asia/Tokyo"))

    assert str(only(days)["date"].date()) == "2026-03-03"


def test_a_column_of_dates_has_the_shops_days_whatever_the_sources_zone() -> None:
    frame = chunk(COLUMNS, ("2026-03-03", "tea", 1, 5.0)).frame.astype({"time": "datetime64[s]"})

    days, _ = summed(Chunk(frame, "lines.parquet", np.array([1])), source=order_lines(zone="Asia/Tokyo"))

    assert str(only(days)["date"].date()) == "2026-03-03"


def test_cancelled_lines_are_dropped_and_counted() -> None:
    lines = chunk(COLUMNS + " status", ("2026-03-02", "tea", 1, 5.0, "paid"), ("2026-03-02", "tea", 9, 5.0, " VOID "))

    days, _ = summed(lines)

    assert (only(days)["units_gross"], days.counts.cancelled) == (1, 1)


def test_a_line_that_comes_again_is_counted_once_whatever_type_its_id_has() -> None:
    first = chunk(COLUMNS + " line_id", ("2026-03-02", "tea", 2, 5.0, 17))
    again = chunk(COLUMNS + " line_id", ("2026-03-02", "tea", 2, 5.0, " 17 "), origin="again.csv")

    days, _ = summed(first, again)

    assert (only(days)["units_gross"], days.counts.versions.repeated, days.counts.versions.units_dropped) == (2, 1, 2)


def test_of_two_versions_of_a_line_the_later_one_counts() -> None:
    first = chunk(COLUMNS + " line_id", ("2026-03-02", "tea", 2, 5.0, 17), ("2026-03-02", "jam", 1, 3.0, 18))
    corrected = chunk(COLUMNS + " line_id", ("2026-03-04", "tea", 1, 5.0, 17), origin="late.csv")

    days, _ = summed(first, corrected)

    assert days.table["product_id"].tolist() == ["jam", "tea"]
    assert days.table["units_gross"].tolist() == [1, 1]
    assert days.counts.versions.corrected == 1


def test_of_two_versions_the_one_that_changed_last_counts_even_if_it_was_read_first() -> None:
    columns = COLUMNS + " line_id updated"
    newer = chunk(columns, ("2026-03-02", "tea", 1, 5.0, 17, "2026-03-05 10:00"))
    older = chunk(columns, ("2026-03-02", "tea", 2, 5.0, 17, "2026-03-02 10:00"))

    days, _ = summed(newer, older)

    assert only(days)["units_gross"] == 1


def test_a_sale_that_is_cancelled_later_under_its_id_is_no_sale() -> None:
    columns = COLUMNS + " line_id status"
    lines = chunk(columns, ("2026-03-02", "tea", 2, 5.0, 17, "paid"), ("2026-03-02", "tea", 2, 5.0, 17, "cancelled"))

    days, _ = summed(lines)

    assert days.table.empty
    assert (days.counts.cancelled, days.counts.versions.corrected) == (1, 1)


def test_a_return_may_bear_the_id_of_its_sale() -> None:
    columns = COLUMNS + " line_id status"
    lines = chunk(columns, ("2026-03-02", "tea", 2, 5.0, 17, "paid"), ("2026-03-05", "tea", 2, 5.0, 17, "returned"))

    days, _ = summed(lines)

    assert days.table["units_gross"].tolist() == [2, 0]
    assert days.table["units_returned"].tolist() == [0, 2]


def test_an_id_that_is_the_number_of_a_line_in_its_order_is_refused() -> None:
    lines = chunk(COLUMNS + " line_id", *(("2026-03-02", "tea", n, 5.0, n % 3) for n in range(1, 300)))

    with pytest.raises(SourceError, match="number of a line within its order"):
        summed(lines)


@pytest.mark.parametrize(
    ("quantity", "price", "reason"),
    [
        (1, 0, "the price is 0"),
        (1, -3, "the price must be above 0"),
        (1, 2e9, "the price must be at most"),
        (1, None, "must not be missing"),
        (1, "cheap", "the price must be a number"),
        (0, 5, "quantity must not be 0"),
        ("many", 5, "quantity must be a number"),
        (3e9, 5, "quantity must be at most"),
    ],
)
def test_a_line_that_cannot_be_a_sale_is_set_aside_with_its_line_and_cells(
    quantity: object, price: object, reason: str
) -> None:
    good, bad = ("2026-03-02", "tea", 1, 5.0), ("2026-03-02", "tea", quantity, price)

    days, aside = summed(chunk(COLUMNS, good, bad))

    (found,) = reasons(aside)
    row = aside.frame("sales").iloc[0]
    assert reason in found
    assert (row["source"], row["line"], row["product_id"]) == ("lines.csv", 2, "tea")
    assert (only(days)["units_gross"], days.counts.set_aside) == (1, 1)


@pytest.mark.parametrize("price", [9_999_999, 0.01])
def test_a_price_a_hundredfold_off_the_products_usual_one_is_set_aside_with_its_line(price: float) -> None:
    usual = [("2026-03-02", "tea", 1, 5.0 + n / 10) for n in range(25)]

    days, aside = summed(chunk(COLUMNS, *usual, ("2026-03-02", "tea", 2, price)))

    assert only(days)["units_gross"] == 25
    assert (days.counts.set_aside, days.counts.sales) == (1, 25)
    assert aside.frame("sales")["line"].tolist() == [26]
    assert (aside.counts[0].units, aside.counts[0].revenue) == (2, pytest.approx(2 * price))


def test_a_dear_product_is_not_set_aside_for_being_dear() -> None:
    days, aside = summed(chunk(COLUMNS, ("2026-03-02", "yacht", 1, 9_999_999), ("2026-03-03", "yacht", 1, 8_500_000)))

    assert (len(days.table), aside.counts) == (2, ())


@pytest.mark.parametrize("lines", [1, 3, 19])
def test_few_lines_are_judged_by_the_prices_of_the_products_former_days(lines: int) -> None:
    usual = pd.Series({"jam": 9_000_000.0, "tea": 5.0})
    wrong = [("2026-03-02", "tea", 1, 9_999_999)] * lines

    days, aside = summed(chunk(COLUMNS, *wrong, ("2026-03-02", "jam", 1, 8_000_000)), usual=usual)

    assert only(days)["product_id"] == "jam"
    assert reasons(aside) == {"the price is more than 100 times the product's usual one": lines}


def test_former_prices_come_before_the_product_masters() -> None:
    ids, aside = Identifiers(), SetAside()
    products = chunk("product_id price", ("tea", 9_999_999))
    table, _ = read_products([products], ProductSource(location="p.csv"), config=sources(), ids=ids, set_aside=aside)

    days, _ = summed(
        chunk(COLUMNS, ("2026-03-02", "tea", 1, 5.0)), master=ProductMaster(table), usual=pd.Series({"tea": 5.0})
    )

    assert only(days)["revenue"] == 5.0


def test_many_lines_are_judged_by_their_own_prices() -> None:
    lines = chunk(COLUMNS, *[("2026-03-02", "tea", 1, 900.0)] * 20)

    days, _ = summed(lines, usual=pd.Series({"tea": 5.0}))

    assert only(days)["lines"] == 20


def test_the_usual_price_is_the_median_of_days_with_sales_and_needs_several() -> None:
    days = pd.DataFrame(
        [("tea", 2, 10.0), ("tea", 1, 9_999_999.0), ("tea", 1, 6.0), ("tea", 0, 0.0), ("jam", 1, 9_999_999.0)],
        columns=["product_id", "units_gross", "revenue"],
    )

    usual = usual_prices(days)

    assert usual.to_dict() == {"tea": 6.0}


def test_a_line_of_a_day_to_come_is_set_aside_with_its_line() -> None:
    late = ("2026-03-03T04:59:59Z", "tea", 1, 5.0)  # 23:59:59 of the 2nd in New York
    lines = chunk(COLUMNS, late, ("2026-03-03T05:00:00Z", "tea", 2, 5.0), ("2159-01-01", "tea", 3, 5.0))

    days, aside = summed(lines, latest=np.datetime64("2026-03-02"))

    assert (only(days)["units_gross"], days.counts.set_aside) == (1, 2)
    assert reasons(aside) == {"the day lies in the future": 2}
    assert aside.frame("sales")[["source", "line"]].to_numpy().tolist() == [["lines.csv", 2], ["lines.csv", 3]]
    assert (aside.counts[0].units, aside.counts[0].revenue) == (5, 25.0)


@pytest.mark.parametrize("rule", ["sale_day", "return_day"])
def test_goods_that_come_back_on_a_day_to_come_set_their_line_aside(rule: str) -> None:
    lines = chunk(COLUMNS + " returned_time", ("2026-03-02", "tea", 2, 5.0, "2159-01-01"))

    days, aside = summed(lines, source=order_lines(returns=rule), latest=np.datetime64("2026-03-02"))

    assert days.table.empty
    assert reasons(aside) == {"returned_time lies in the future": 1}


@pytest.mark.parametrize(
    ("columns", "settings", "said"),
    [
        (" returned_time", {"late_days": 9}, True),
        ("", {}, False),
        (" returned_time", {"updated": "changed"}, False),
        (" returned_time", {"returns": "ignore"}, False),
    ],
)
def test_returns_that_a_night_cannot_see_are_told(columns: str, settings: dict[str, Any], said: bool) -> None:
    row = ("2026-03-02", "tea", 2, 5.0, None)[: 4 + bool(columns)]

    days, _ = summed(chunk(COLUMNS + columns, row), source=order_lines(**settings))

    told = (
        "sales: returned_time is set later, and without sources.sales.updated a night reads 9 days back only: returns "
        "of older lines are not seen."
    )
    assert days.counts.notes == ((told,) if said else ())


def test_the_amount_of_a_line_counts_before_its_unit_price() -> None:
    lines = chunk(COLUMNS + " amount", ("2026-03-02", "tea", 4, 5.0, 18.0))

    days, _ = summed(lines)

    assert only(days)["revenue"] == 18.0


@pytest.mark.parametrize("amount", [10.0, -10.0])
def test_what_was_refunded_may_be_written_with_either_sign(amount: float) -> None:
    days, _ = summed(chunk("time product_id quantity amount", ("2026-03-02", "tea", -2, amount)))

    assert (only(days)["units_returned"], only(days)["refunded"]) == (2, 10.0)


def test_prices_without_tax_get_that_of_their_line_or_of_the_products_tax_class() -> None:
    source = order_lines(includes_tax=False)
    columns = COLUMNS + " tax_rate"
    lines = chunk(columns, ("2026-03-02", "tea", 1, 10.0, 0.2), ("2026-03-02", "jam", 1, 10.0, None))
    lines_2 = chunk(columns, ("2026-03-02", "new", 1, 10.0, None), first=3)
    ids, aside = Identifiers(), SetAside()
    config = sources(source, tax_rates={"food": 0.05})
    products = chunk("product_id tax_class", ("jam", "food"))
    table, _ = read_products([products], ProductSource(location="p.csv"), config=config, ids=ids, set_aside=aside)

    days = order_line_days(
        [lines, lines_2], source, config=config, ids=ids, set_aside=aside, master=ProductMaster(table)
    )

    assert days.table[["product_id", "revenue"]].to_numpy().tolist() == [["jam", 10.5], ["tea", 12.0]]
    assert days.table["net_revenue"].tolist() == pytest.approx([10.0, 10.0])
    assert reasons(aside) == {"the price is without tax and no tax rate is known": 1}


def test_a_tax_rate_in_percent_is_refused_and_says_how_it_is_written() -> None:
    _, aside = summed(chunk(COLUMNS + " tax_rate", ("2026-03-02", "tea", 1, 10.0, 20)))

    assert list(reasons(aside)) == ["tax_rate must be at least 0 and below 1 (20 % is 0.2)"]


def test_other_currencies_are_converted_and_unknown_ones_set_aside() -> None:
    columns = COLUMNS + " currency"
    lines = chunk(
        columns,
        ("2026-03-02", "tea", 1, 10.0, "USD"),
        ("2026-03-02", "tea", 1, 10.0, "eur"),
        ("2026-03-02", "tea", 1, 10.0, "XAU"),
        ("2026-03-02", "tea", 1, 10.0, None),
    )

    days, aside = summed(lines, currency="USD", rates={"EUR": 1.1})

    assert only(days)["revenue"] == pytest.approx(31.0)
    assert reasons(aside) == {"the currency XAU is not in sources.rates": 1}


def test_several_currencies_without_a_setting_are_refused() -> None:
    columns = COLUMNS + " currency"

    with pytest.raises(SourceError, match=r"found USD and EUR: set sources\.currency"):
        summed(chunk(columns, ("2026-03-02", "a", 1, 1, "USD")), chunk(columns, ("2026-03-02", "a", 1, 1, "EUR")))


def test_a_column_that_is_not_there_is_named_with_the_one_that_is_like_it() -> None:
    with pytest.raises(SourceError, match=r"expected a column product_id, found .*'productid'"):
        summed(chunk("time productid quantity unit_price", ("2026-03-02", "tea", 1, 5.0)))


def test_goods_of_a_sale_that_came_back_are_known_by_the_sales_day() -> None:
    lines = chunk(COLUMNS + " returned_time", ("2026-03-02", "tea", 2, 5.0, "2026-04-05"))

    by_sale, _ = summed(lines)
    by_return, _ = summed(lines, source=order_lines(returns="return_day"))

    assert only(by_sale)[["units_gross", "units_came_back", "units_returned"]].tolist() == [2, 2, 0]
    assert by_return.table["units_returned"].tolist() == [0, 2]
    assert by_return.table["date"].dt.strftime("%m-%d").tolist() == ["03-02", "04-05"]


def test_the_order_of_lines_changes_no_figure() -> None:
    rng = np.random.default_rng(3)
    rows = [
        ("2026-03-02", "tea", int(q), float(p)) for q, p in zip(rng.integers(1, 9, 60), rng.random(60) + 1, strict=True)
    ]

    forwards, _ = summed(chunk(COLUMNS, *rows))
    backwards, _ = summed(chunk(COLUMNS, *rows[40:]), chunk(COLUMNS, *rows[:40][::-1]))

    pd.testing.assert_frame_equal(forwards.table, backwards.table, check_exact=True)


def test_months_can_be_taken_one_at_a_time() -> None:
    source = order_lines()
    with OrderLineSums(source, config=sources(source), ids=Identifiers(), set_aside=SetAside()) as sums:
        sums.add(chunk(COLUMNS, ("2026-03-31", "tea", 1, 5.0), ("2026-04-01", "tea", 1, 5.0)))

        months = {month: len(table) for month, table in sums.months()}

    assert months == {"2026-03": 1, "2026-04": 1}


LINES = st.lists(
    st.tuples(
        st.integers(1, 25),  # line_id
        st.integers(0, 40),  # day
        st.sampled_from(["a", "b", " b"]),
        st.sampled_from([1, 2, 3, 0, -1, -2]),
        st.sampled_from([4.5, 5.0, 0.0, 9e9]),
        st.sampled_from(["paid", "returned", "cancelled"]),
        st.sampled_from(["", "north"]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(rows=LINES, cut=st.integers(1, 59), identified=st.booleans())
def test_sums_are_those_of_sqlite_and_every_line_is_accounted_for(
    rows: list[tuple[Any, ...]], cut: int, identified: bool
) -> None:
    columns = "line_id time product_id quantity unit_price status store"
    told = [
        (i, str(np.datetime64("2026-03-01") + day) + " 12:00", product, quantity, price, status, store)
        for i, day, product, quantity, price, status, store in rows
    ]
    parts = [chunk(columns, *part, first=at) for at, part in ((1, told[:cut]), (cut + 1, told[cut:])) if part]
    if not identified:
        parts = [Chunk(part.frame.drop(columns="line_id"), part.origin, part.lines) for part in parts]

    days, _ = summed(*parts)

    assert _as_tuples(days.table) == _by_sqlite(told, identified=identified)
    counts = days.counts
    dropped = counts.versions.repeated + counts.versions.corrected
    assert counts.read == counts.set_aside + dropped + counts.cancelled + counts.sales + counts.returns == len(rows)
    units_in = sum(q if s == "paid" and q > 0 else 0 for _, _, _, q, p, s, _ in told)
    assert counts.units_sold <= units_in


def _as_tuples(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    names = ["date", "product_id", "store", "units_gross", "revenue", "units_returned", "lines"]
    rows = table[names].assign(date=table["date"].dt.strftime("%Y-%m-%d")).to_numpy(object).tolist()
    return [tuple(row) for row in rows]


def _by_sqlite(rows: list[tuple[Any, ...]], *, identified: bool) -> list[tuple[Any, ...]]:
    """The same rules in SQL."""
    base = sqlite3.connect(":memory:")
    base.execute("create table lines (line_id, time, product_id, quantity real, price real, status, store)")
    base.executemany("insert into lines values (?, ?, ?, ?, ?, ?, ?)", rows)
    key = "line_id, kind = 'return'" if identified else "number"
    return base.execute(
        f"""
        with kinds as (
            select rowid as number, *, case when status = 'cancelled' then 'cancelled'
                when status = 'returned' or quantity < 0 then 'return' else 'sale' end as kind from lines
        ), usable as (
            select * from kinds where quantity <> 0 and (kind <> 'sale' or (price > 0 and price <= 1e9))
        ), newest as (
            select *, row_number() over (partition by {key} order by number desc) as age from usable
        )
        select substr(time, 1, 10), trim(product_id), store,
            sum(case when kind = 'sale' then quantity else 0.0 end),
            sum(case when kind = 'sale' then quantity * price else 0.0 end),
            sum(case when kind = 'return' then abs(quantity) else 0.0 end),
            sum(case when kind = 'sale' then 1.0 else 0.0 end)
        from newest where age = 1 and kind <> 'cancelled' group by 1, 2, 3 order by 1, 2, 3
        """
    ).fetchall()
