"""Stock at opening from counts and movements: what is not known is never carried."""

import sqlite3
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config_sources import DeliverySource, ProductSource, StockSource
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.inventory import (
    StockCounts,
    openings,
    planned_deliveries,
    stock_counts,
    stock_movements,
)
from pricing.sources.product_master import ProductMaster, read_products
from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk, sources, stock_source

COLUMNS = "time product_id quantity"


def counted(*chunks: Chunk, source: StockSource | None = None) -> tuple[dict[str, float], StockCounts, SetAside]:
    aside = SetAside()
    frame, counts = stock_counts(chunks, source or stock_source(), config=sources(), ids=Identifiers(), set_aside=aside)
    return dict(zip(frame["date"].dt.strftime("%m-%d"), frame["stock"], strict=True)), counts, aside


@pytest.mark.parametrize(
    ("time", "taken", "opening"),
    [
        ("2026-03-02", "opening", "03-02"),
        ("2026-03-02", "closing", "03-03"),
        ("2026-03-02 05:30", "closing", "03-02"),
        ("2026-03-02 11:59", "opening", "03-02"),
        ("2026-03-02 12:00", "opening", "03-03"),
        ("2026-03-02 23:10", "opening", "03-03"),
        ("2026-03-03T03:00:00Z", "opening", "03-03"),  # 22:00 of the 2nd in New York
    ],
)
def test_a_count_belongs_to_the_nearest_opening(time: str, taken: Any, opening: str) -> None:
    stock, _, _ = counted(chunk(COLUMNS, (time, "tea", 7)), source=stock_source(taken=taken))

    assert stock == {opening: 7}


def test_of_several_counts_for_one_opening_the_nearest_holds() -> None:
    stock, counts, _ = counted(
        chunk(COLUMNS, ("2026-03-02 22:00", "tea", 9), ("2026-03-03 01:00", "tea", 8), ("2026-03-03 09:00", "tea", 5))
    )

    assert stock == {"03-03": 8}
    assert (counts.replaced, counts.by_day) == (2, 1)


def test_a_day_without_a_count_is_unknown() -> None:
    stock, _, _ = counted(chunk(COLUMNS, ("2026-03-02", "tea", 9), ("2026-03-05", "tea", 8)))

    assert sorted(stock) == ["03-02", "03-05"]


def test_a_count_below_0_is_set_aside() -> None:
    stock, _, aside = counted(chunk(COLUMNS, ("2026-03-02", "tea", -4), ("2026-03-03", "tea", 0)))

    assert stock == {"03-03": 0}
    assert [(count.reason, count.rows) for count in aside.counts] == [("a count must not be below 0", 1)]


def test_pieces_are_whole_packs_and_unknown_without_a_pack_size() -> None:
    ids, aside = Identifiers(), SetAside()
    products = chunk("product_id pack_size", ("tea", 6), ("jam", None))
    table, _ = read_products([products], ProductSource(location="p.csv"), config=sources(), ids=ids, set_aside=aside)

    frame, _ = stock_counts(
        [chunk(COLUMNS, ("2026-03-02", "tea", 20), ("2026-03-02", "jam", 20))],
        stock_source(pieces=True),
        config=sources(),
        ids=ids,
        set_aside=aside,
        master=ProductMaster(table),
    )

    assert frame[["product_id", "stock"]].to_numpy().tolist() == [["tea", 3]]
    assert aside.counts[-1].reason == "pieces are counted, and the product master has no pack_size"


@pytest.mark.parametrize(
    ("time", "taken", "known"),
    [
        ("2026-03-02", "closing", True),
        ("2026-03-02 23:10", "opening", True),
        ("2026-03-03", "opening", True),
        ("2026-03-03 11:59", "opening", True),
        ("2026-03-03", "closing", False),
        ("2026-03-03 12:00", "opening", False),
        ("2159-01-01", "opening", False),
    ],
)
def test_the_last_opening_that_can_be_known_is_tomorrows(time: str, taken: Any, known: bool) -> None:
    aside = SetAside()

    frame, _ = stock_counts(
        [chunk(COLUMNS, (time, "tea", 7), first=5)],
        stock_source(taken=taken),
        config=sources(),
        ids=Identifiers(),
        set_aside=aside,
        latest=np.datetime64("2026-03-02"),
    )

    assert len(frame) == known
    told = [(count.reason, count.first) for count in aside.counts]
    assert told == ([] if known else [("the day lies in the future", "lines.csv, line 5")])


def test_a_movement_of_a_day_to_come_is_set_aside_with_its_line() -> None:
    aside = SetAside()

    moved, _ = stock_movements(
        [chunk(COLUMNS, ("2026-03-02 23:59", "tea", 7), ("2026-03-03 00:00", "tea", 7))],
        stock_source("movements"),
        config=sources(),
        ids=Identifiers(),
        set_aside=aside,
        latest=np.datetime64("2026-03-02"),
    )

    assert moved["received"].tolist() == [7]
    assert [(count.reason, count.rows) for count in aside.counts] == [("the day lies in the future", 1)]
    assert aside.frame("stock")["line"].tolist() == [2]


MOVES = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from("ab"), st.sampled_from(["", "n"]), st.integers(-5, 9)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(moves=MOVES)
def test_openings_are_the_sums_of_all_earlier_movements_by_sqlite(moves: list[tuple[Any, ...]]) -> None:
    rows = [(str(np.datetime64("2026-03-01") + day), *rest) for day, *rest in moves]
    columns = "time product_id store quantity"
    ids, aside = Identifiers(), SetAside()

    moved, _ = stock_movements(
        [chunk(columns, *rows)], stock_source("movements"), config=sources(), ids=ids, set_aside=aside
    )
    frame, counts = openings(moved)

    expected = _by_sqlite(rows)
    bad = {(product, store) for _, product, store, stock, share in expected if share > 0.05}
    good = [row[:4] for row in expected if row[3] >= 0 and (row[1], row[2]) not in bad]
    found = frame.assign(date=frame["date"].dt.strftime("%Y-%m-%d")).to_numpy(object).tolist()
    assert [tuple(row) for row in found] == good
    assert counts.negative_days == sum(row[3] < 0 for row in expected)
    assert set(counts.incomplete) == {f"{product}@{store}" if store else product for product, store in bad}


def _by_sqlite(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    base = sqlite3.connect(":memory:")
    base.execute("create table moves (day, product, store, quantity real)")
    base.executemany("insert into moves values (?, ?, ?, ?)", rows)
    return base.execute(
        """
        with recursive days(day) as (
            select min(day) from moves union all
            select date(day, '+1 day') from days where day <= (select max(day) from moves)
        ), series as (
            select product, store, min(day) as first from moves group by 1, 2
        ), stock as (
            select days.day, product, store, (
                select sum(quantity) from moves
                where moves.product = series.product and moves.store = series.store and moves.day < days.day
            ) as left from days join series on days.day > first
        )
        select day, product, store, left, avg(left < 0) over (partition by product, store) from stock
        order by 1, 2, 3
        """
    ).fetchall()


def test_movements_of_a_product_that_begins_in_the_middle_are_found_incomplete() -> None:
    moves = chunk(COLUMNS, ("2026-03-01", "tea", -5), ("2026-03-02", "tea", -3), ("2026-03-03", "tea", 20))
    moved, _ = stock_movements(
        [moves], stock_source("movements"), config=sources(), ids=Identifiers(), set_aside=SetAside()
    )

    frame, counts = openings(moved, until=np.datetime64("2026-03-10"))

    assert (len(frame), counts.incomplete) == (0, ("tea",))


def test_planned_deliveries_of_one_day_are_added() -> None:
    rows = [("tea", "2026-12-01", 5), ("tea ", "2026-12-01", 7), ("jam", "2026-12-02", None), ("jam", "soon", 4)]
    aside = SetAside()

    plan = planned_deliveries(
        [chunk("product_id date quantity", *rows)],
        DeliverySource(location="d.csv"),
        ids=Identifiers(),
        set_aside=aside,
    )

    assert plan["product_id"].tolist() == ["jam", "tea"]
    assert np.array_equal(plan["quantity"].to_numpy(), [np.nan, 12.0], equal_nan=True)
    assert [count.reason for count in aside.counts] == ["date must be a day such as 2026-11-27"]
