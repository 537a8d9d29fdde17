"""The product master as of each day, without looking ahead."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config_sources import ProductSource
from pricing.sources.identifiers import Identifiers
from pricing.sources.product_master import MasterCounts, ProductMaster, read_products
from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk, sources

DATED = "product_id unit_cost valid_from valid_until"


def read(columns: str, *rows: tuple[Any, ...], **config: Any) -> tuple[ProductMaster, MasterCounts, SetAside]:
    aside = SetAside()
    table, counts = read_products(
        [chunk(columns, *rows)],
        ProductSource(location="p.csv"),
        config=sources(**config),
        ids=Identifiers(),
        set_aside=aside,
    )
    return ProductMaster(table), counts, aside


def on(master: ProductMaster, name: str, product: str, *days: str) -> list[float]:
    places = np.repeat(master.places(pd.Index([product])), len(days))
    values = master.on(name, places, np.array(days, "datetime64[D]").astype(np.int64))
    return np.where(np.isnan(values), -1, values).tolist()


def test_a_cost_holds_from_its_first_day_on_and_never_before() -> None:
    master, _, _ = read(DATED, ("tea", 2.0, "2026-01-10", None), ("tea", 3.0, "2026-02-01", None))

    costs = on(master, "unit_cost", "tea", "2026-01-09", "2026-01-10", "2026-01-31", "2026-02-01", "2027-01-01")

    assert costs == [-1, 2, 2, 3, 3]


def test_a_cost_that_has_ended_is_unknown_and_the_gap_is_counted() -> None:
    master, counts, _ = read(DATED, ("tea", 2.0, "2026-01-10", "2026-01-20"), ("tea", 3.0, "2026-02-01", None))

    assert on(master, "unit_cost", "tea", "2026-01-20", "2026-01-21") == [2, -1]
    assert (counts.gaps, counts.overlaps) == (1, 0)


def test_where_times_overlap_the_newer_row_holds_and_it_is_counted() -> None:
    master, counts, _ = read(DATED, ("tea", 2.0, "2026-01-10", "2026-03-01"), ("tea", 3.0, "2026-02-01", None))

    assert on(master, "unit_cost", "tea", "2026-02-01") == [3]
    assert counts.overlaps == 1


def test_of_several_rows_of_a_day_the_last_one_holds() -> None:
    rows = [("tea", 2.0, "2026-01-10", None), ("tea", 2.5, "2026-01-10", None), ("tea", 2.5, "2026-01-10", None)]

    master, counts, _ = read(DATED, *rows)

    assert on(master, "unit_cost", "tea", "2026-01-10") == [2.5]
    assert (counts.rows, counts.repeated, counts.replaced) == (3, 1, 1)


def test_a_row_without_dates_holds_on_all_days_and_is_counted() -> None:
    master, counts, _ = read("product_id list_price", ("tea", "4,99"), ("jam", "3.99"))

    assert on(master, "list_price", "jam", "1990-01-01", "2030-01-01") == [3.99, 3.99]
    assert counts.undated == 2


def test_a_cell_that_cannot_be_used_is_missing_and_the_row_stays() -> None:
    master, _, aside = read(
        "product_id category list_price unit_cost tax_rate", ("tea", "food", "4,99", -1, 20), (None, "food", 1, 1, 0)
    )

    assert [on(master, name, "tea", "2026-01-01") for name in ("list_price", "unit_cost", "tax_rate")] == [[-1]] * 3
    assert {count.reason: count.dropped for count in aside.counts} == {
        "product_id must not be missing": True,
        "list_price must be a number; taken as missing": False,
        "unit_cost must be above 0 and at most 1,000,000,000; taken as missing": False,
        "tax_rate must be at least 0 and below 1 (20 % is 0.2); taken as missing": False,
    }
    assert aside.rows_of("products") == 1


def test_the_tax_rate_is_that_of_the_class_and_an_unknown_class_is_counted() -> None:
    master, _, aside = read(
        "product_id tax_class",
        ("tea", "food"),
        ("pen", "standard"),
        ("yacht", "luxury"),
        tax_rates={"food": 0.05, "standard": 0.2},
    )

    assert [on(master, "tax_rate", name, "2026-01-01")[0] for name in ("tea", "pen", "yacht")] == [0.05, 0.2, -1]
    assert aside.counts[0].reason == "tax_class must be one of sources.tax_rates; taken as missing"


def test_the_first_tax_rate_and_the_newest_category_hold_for_days_before() -> None:
    columns = "product_id category tax_rate valid_from"
    master, _, _ = read(columns, ("tea", "drinks", 0.05, "2026-02-01"), ("tea", "hot drinks", 0.2, "2026-03-01"))

    assert on(master, "tax_rate", "tea", "2026-01-01", "2026-02-28", "2026-03-01") == [0.05, 0.05, 0.2]
    assert master.last("category", master.places(pd.Index(["tea", "pen"]))).tolist() == ["hot drinks", ""]


def test_a_product_that_is_not_there_is_unknown() -> None:
    master, _, _ = read(DATED, ("tea", 2.0, None, None))

    assert on(master, "unit_cost", "pen", "2026-01-01") == [-1]
    assert on(ProductMaster.empty(), "unit_cost", "pen", "2026-01-01") == [-1]


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.none() | st.integers(0, 10), st.integers(1, 9)),
    max_size=15,
)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, product=st.sampled_from("abcd"), day=st.integers(0, 35))
def test_the_row_of_a_day_is_the_newest_that_has_begun(rows: list[tuple[Any, ...]], product: str, day: int) -> None:
    first = np.datetime64("2026-01-01")
    told = [(p, c, str(first + b), None if n is None else str(first + b + n)) for p, b, n, c in rows]

    master, _, _ = read(DATED, *told) if told else (ProductMaster.empty(), None, None)

    best = max(
        (r for r in enumerate(told) if r[1][0] == product and r[1][2] <= str(first + day)),
        key=lambda r: (r[1][2], r[0]),
        default=None,
    )
    ended = best is not None and best[1][3] is not None and best[1][3] < str(first + day)
    expected = -1 if best is None or ended else best[1][1]
    assert on(master, "unit_cost", product, str(first + day)) == [expected]


@pytest.mark.parametrize("row", [("tea", 2.0, "soon", None), ("tea", 2.0, "2026-02-01", "2026-01-01")])
def test_a_row_whose_time_cannot_be_read_is_set_aside(row: tuple[Any, ...]) -> None:
    master, _, aside = read(DATED, row)

    assert (len(master.table), aside.rows_of("products")) == (0, 1)
