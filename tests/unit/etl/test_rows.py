"""A shop's tables become rows: nothing is lost, a night equals a full run, and the last state outlives a failure."""

import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.data.etl_output import plan_of
from pricing.data.events import read_plan
from pricing.data.load import load_panel_from
from pricing.data.source import read_etl_rows
from pricing.errors import SourceError
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import shop_tables
from tests.kit.etl_runs import NOW, etl_run
from tests.kit.shop import Shop

SQL = Path(__file__).parents[3] / "etl" / "sql"


def made() -> pd.DataFrame:
    return read_etl_rows().sort_values(["product_id", "date"], ignore_index=True)


def write(folder: Path, name: str, header: str, *lines: str) -> dict[str, Any]:
    path = folder / f"{name}.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return {"location": str(path)}


def lines_of(folder: Path, *lines: str, header: str = "time,product_id,quantity,unit_price") -> dict[str, Any]:
    return {"order_lines": write(folder, "lines", header, *lines)}


def units(frame: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(str(row.date)[:10], row.product_id): row.units_sold for row in frame.itertuples()}


@pytest.mark.parametrize("stores", [1, 2])
def test_a_night_equals_a_full_run(tmp_path: Path, stores: int) -> None:
    shop = Shop(tmp_path, products=4, seed=stores, stores=stores)
    for days in (40, 2, 30, 1):
        shop.trade(days)
        night = etl_run(shop.tables, now=shop.evening)
    nightly = made()

    full = etl_run(shop.tables, now=shop.evening, full=True)

    assert night.first
    assert not full.first
    assert night.tables["order_lines"].read < full.tables["order_lines"].read
    pd.testing.assert_frame_equal(nightly, made())


def test_a_return_of_an_older_sale_waits_for_a_full_run(tmp_path: Path) -> None:
    shop = Shop(tmp_path, products=1)
    shop.sell("P0", 5, day=shop.day, price=9.0)
    sold = shop.day
    shop.trade(60)
    etl_run(shop.tables, now=shop.evening)
    shop.sell("P0", -2, day=shop.day, price=9.0)
    shop.trade(1)

    night = etl_run(shop.tables, now=shop.evening)
    before = units(made())[str(sold), "P0"]
    full = etl_run(shop.tables, now=shop.evening, full=True)

    assert (night.left_out, full.left_out) == (2.0, 0.0)
    assert units(made())[str(sold), "P0"] == before - 2


events = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([1.0, 2.0]), st.integers(-3, 3)), max_size=14)


@settings(deadline=None, max_examples=25)
@given(events=events)
def test_a_return_is_taken_off_the_newest_earlier_sale_at_its_price(events: list[tuple[int, float, int]]) -> None:
    rows = [(day, price, float(n)) for day, price, n in events if n]
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET VARIABLE first = DATE '1970-01-01'")
    con.execute(
        "CREATE TABLE lines (seq INTEGER, moment TIMESTAMPTZ, date DATE, product_id VARCHAR, store VARCHAR, "
        "units DOUBLE, price DOUBLE, full_price DOUBLE, tax_rate DOUBLE)"
    )
    con.execute("CREATE TABLE last_prices (product_id VARCHAR, price DOUBLE)")
    for seq, (day, price, n) in enumerate(rows):
        date = dt.date(2026, 1, 1 + day)
        con.execute("INSERT INTO lines VALUES ($1, $2, $2, 'tea', '', $3, $4, $4, NULL)", [seq, date, n, price])

    for step in ("shelf_prices", "days"):
        con.execute((SQL / f"{step}.sql").read_text(encoding="utf-8"))

    sold = {}
    for price in (1.0, 2.0):
        stack: list[tuple[int, float]] = []
        for day, n in sorted(((d, n) for d, p, n in rows if p == price), key=lambda one: (one[0], one[1] < 0)):
            due = -n
            while due > 0 and stack:
                last, left = stack.pop()
                if left > due:
                    stack.append((last, left - due))
                due -= left
            if n > 0:
                stack.append((day, n))
        for day, n in stack:
            sold[day] = sold.get(day, 0.0) + n
    found = con.execute("SELECT date, units_sold FROM days WHERE units_sold > 0").fetchall()
    assert {date.day - 1: n for date, n in found} == sold
    assert {date.day - 1 for (date,) in con.execute("SELECT date FROM days").fetchall()} == {
        day for day, _, n in rows if n > 0
    }


def test_every_line_is_used_or_set_aside_with_its_reason(tmp_path: Path) -> None:
    good = [f"{number},2026-03-02T10:00:00+01:00,tea,1,5.00,sold," for number in range(100)]
    tables = lines_of(
        tmp_path,
        *good,
        "100,2026-03-02T10:00:00+01:00,tea,x,5.00,sold,",
        "101,2026-03-02T10:00:00+01:00,,1,5.00,sold,",
        "102,2026-03-02T10:00:00+01:00,tea,1,5.00,cancelled,",
        "7,2026-03-02T10:00:00+01:00,tea,1,5.00,sold,",
        "8,2026-03-02T10:00:00+01:00,tea,3,5.00,sold,",
        "103,2026-11-27T07:30:00+01:00,tea,1,5.00,sold,",
        "104,2027-01-01,tea,1,5.00,sold,",
        "105,2026-03-02,tea,1",
        "106,2026-03-02,jam,5,2.00,sold,2026-03-04",
        "106,2026-03-02,jam,3,2.00,sold,2026-03-03",
        header="line_id,time,product_id,quantity,unit_price,status,updated",
    )

    read = etl_run(tables).tables["order_lines"]

    assert read.read == 110 == read.used + sum(read.aside.values())
    assert (read.used, read.bad) == (101, 4)
    assert [read.aside[why] for why in ("repeated", "an earlier version", "cancelled")] == [1, 2, 1]
    assert "line 102, column quantity" in read.examples["quantity cannot be read"]
    assert units(made()) == {("2026-03-02", "jam"): 5, ("2026-03-02", "tea"): 102}


def test_a_day_is_the_shops_own_and_its_price_is_that_of_most_lines(tmp_path: Path) -> None:
    sold = ("2026-03-02T23:30:00Z,tea,1,4.0", "2026-03-03 10:00:00,tea,1,4.0", "2026-03-03 11:00:00,tea,2,2.0")
    tables = lines_of(tmp_path, *sold)

    etl_run(tables, zone="Europe/Berlin")

    assert made()[["units_sold", "price"]].to_numpy().tolist() == [[4.0, 4.0]]


def test_stock_is_that_of_the_opening_and_days_without_a_sale_have_rows(tmp_path: Path) -> None:
    tables = lines_of(
        tmp_path,
        "2026-03-02 09:00:00,tea,2,5.0",
        "2026-03-02 18:00:00,tea,3,5.0",
        *[f"2026-03-{day:02d} 10:00:00,jam,1,3.0" for day in (2, 3, 4)],
        *[f"2026-04-{day:02d} 10:00:00,jam,1,3.0" for day in (2, 3)],
    )
    tables["stock"] = write(
        tmp_path,
        "stock",
        "time,product_id,quantity",
        "2026-03-02 10:00:00,tea,20",
        "2026-03-02 17:00:00,tea,19",
        "2026-03-04,tea,0",
    )

    etl_run(tables)

    tea = made().query("product_id == 'tea'")
    assert tea["date"].astype(str).str[:10].tolist() == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert tea["units_sold"].tolist() == [5, 0, 0]
    assert tea["price"].tolist() == [5, 5, 5]
    assert tea["stock"].tolist() == [22, 16, 0]  # 20 counted after 2 were sold; 19 counted before 3 were


@pytest.mark.parametrize(
    ("sold_at", "counted", "openings"),
    [
        (" 10:00:00", "02 13:00:00,tea,8", {2: 10.0}),  # what came in the afternoon is in no opening of the next day
        (" 18:00:00", "02 17:00:00,tea,8", {3: 6.0}),
        (" 18:00:00", "02 17:00:00,tea,1", {}),  # more sold than was counted
        ("", "02 13:00:00,tea,8", {2: 8.0}),
        ("", "02 13:00:00,tea,3", {}),  # nobody knows how much of what sold was before the count
        ("", "02,tea,3", {2: 3.0}),
    ],
)
def test_no_opening_stock_is_given_that_a_delivery_or_sales_may_have_overtaken(
    tmp_path: Path, sold_at: str, counted: str, openings: dict[int, float]
) -> None:
    tables = lines_of(tmp_path, f"2026-03-02{sold_at},tea,2,5.0", "2026-03-03,tea,1,5.0")
    tables["stock"] = write(tmp_path, "stock", "time,product_id,quantity", f"2026-03-{counted}")

    etl_run(tables)

    known = made().reindex(columns=["date", "stock"]).dropna()
    assert dict(zip(known["date"].dt.day, known["stock"], strict=True)) == openings


def test_the_lowest_of_the_newest_offers_counts_with_its_age(tmp_path: Path) -> None:
    tables = lines_of(tmp_path, *[f"2026-03-{day:02d},tea,1,5.0" for day in (2, 4, 6)])
    tables["competitors"] = write(
        tmp_path,
        "offers",
        "seen_at,product_id,price,source,available",
        "2026-03-01,tea,4.0,a,1",
        "2026-03-03,tea,4.5,a,1",
        "2026-03-02,tea,4.2,b,1",
        "2026-03-05,tea,4.1,b,0",
    )

    etl_run(tables)

    rows = made()[lambda frame: frame["units_sold"] > 0]
    assert rows["comp_price"].tolist() == [4.0, 4.2, 4.5]
    assert rows["comp_price_age"].tolist() == [1, 2, 3]


def test_stores_are_series_of_their_product(tmp_path: Path) -> None:
    shop = Shop(tmp_path, products=2, stores=2)
    shop.trade(50)

    report = etl_run(shop.tables, now=shop.evening)

    frame = made()
    assert set(frame["product_id"]) == {"P0@S0", "P0@S1", "P1@S0", "P1@S1"}
    assert (frame["parent_id"] == frame["product_id"].str[:2]).all()
    assert {match.table: match.sales_only for match in report.matches}["products"] == 0
    config = load_config().data.model_copy(update={"promotions": "etl", "deliveries": "etl"})
    assert set(read_plan(config, "promotions").product_id) == {"P1@S0", "P1@S1"}  # type: ignore[union-attr]
    assert set(read_plan(config, "deliveries").product_id) == {"P1@S0"}  # type: ignore[union-attr]
    assert pd.read_parquet(plan_of("etl", "events"))["name"].tolist() == ["Spring fair"]
    assert load_panel_from("etl", load_config().data).lineage["etl"]


def test_what_ends_a_run_leaves_the_last_state(tmp_path: Path) -> None:
    shop = Shop(tmp_path, products=2)
    shop.trade(40)
    etl_run(shop.tables, now=shop.evening)
    before, deliveries = made(), plan_of("etl", "deliveries")
    shop.trade(2)
    blocked = tmp_path / "home" / "etl" / f"deliveries.{shop.evening:%Y%m%dT%H%M%S%f}.parquet"
    blocked.mkdir()
    (blocked / "file").touch()

    with pytest.raises(SourceError, match="cannot be kept"):
        etl_run(shop.tables, now=shop.evening)  # new rows are written already

    pd.testing.assert_frame_equal(made(), before)
    assert plan_of("etl", "deliveries") == deliveries


def test_too_many_bad_rows_stop_a_run_and_a_dry_run_keeps_nothing(tmp_path: Path) -> None:
    good = [f"2026-03-02,tea,{number},5.0" for number in range(1, 10)]
    dry = etl_run(lines_of(tmp_path, *good), dry_run=True)
    bad = lines_of(tmp_path, *good, "2026-03-02,tea,3,-1")

    with pytest.raises(SourceError, match="1 of 10 rows cannot be used"):
        etl_run(bad, dry_run=True)

    assert (dry.rows, dry.kept) == (1, False)
    with pytest.raises(SourceError, match="holds nothing yet"):
        read_etl_rows()


ZONE = "America/New_York"
TAKEN_APART = {
    "order_lines": {"time": "ordered_at", "product_id": "sku"},
    "stock_counts": {"time": "counted_at", "product_id": "sku", "quantity": "on_hand"},
    "product_master": {"product_id": "sku", "unit_cost": "cost", "price": "shelf_price"},
    "promotions": {"product_id": "sku", "first": "first_day", "last": "last_day"},
    "competitor_prices": {"product_id": "sku", "source": "competitor"},
}
OURS = {"stock_counts": "stock", "product_master": "products", "competitor_prices": "competitors"}


def test_rows_that_were_taken_apart_into_a_shops_tables_are_restored(tmp_path: Path) -> None:
    rows = simulate(MarketConfig(products=3, days=40)).frame()  # over the day of 23 hours
    expected = rows.sort_values(["product_id", "date"], ignore_index=True)
    tables = shop_tables(expected, zone=ZoneInfo(ZONE), rng=np.random.default_rng(6))
    given_tables = {}
    for name, columns in TAKEN_APART.items():
        getattr(tables, name).to_parquet(tmp_path / f"{name}.parquet")
        given_tables[OURS.get(name, name)] = {"location": str(tmp_path / f"{name}.parquet"), "columns": columns}

    report = etl_run(given_tables, zone=ZONE, now=dt.datetime(2026, 4, 1, 12, tzinfo=dt.UTC))

    found = made()
    begun, seen = expected["date"] >= tables.promotions["first_day"].min(), expected["comp_price"].notna()
    assert not sum(table.bad for table in report.tables.values())
    for name in ("date", "product_id", "units_sold", "stock", "category"):
        assert found[name].tolist() == expected[name].tolist(), name
    for name in ("price", "list_price", "unit_cost"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist()), name
    assert found["comp_price"][seen].tolist() == pytest.approx(expected["comp_price"][seen].tolist())
    assert found["is_promo"][begun].tolist() == expected["is_promo"][begun].tolist()
    assert set(found["comp_price_age"][seen]) == {0.0}


def test_an_id_that_tells_no_lines_apart_is_refused(tmp_path: Path) -> None:
    lines = [f"{number % 3},2026-03-02,tea,{number},5.0" for number in range(1, 150)]

    with pytest.raises(SourceError, match="line_id"):
        etl_run(lines_of(tmp_path, *lines, header="line_id,time,product_id,quantity,unit_price"))


def test_an_own_query_takes_the_place_of_the_columns(tmp_path: Path) -> None:
    (tmp_path / "own.sql").write_text(
        "SELECT day AS time, sku AS product_id, n::DOUBLE / 6 AS quantity, 5 AS unit_price FROM raw;"
    )
    tables = {
        "order_lines": write(tmp_path, "own", "day,sku,n", "2026-03-02,tea,12") | {"query": str(tmp_path / "own.sql")}
    }

    etl_run(tables)

    assert units(made()) == {("2026-03-02", "tea"): 2.0}


def test_a_lock_and_old_files_are_cleared(tmp_path: Path) -> None:
    for hour in range(3):
        etl_run(lines_of(tmp_path, "2026-03-02,tea,1,5.0"), now=NOW + dt.timedelta(hours=hour))

    assert len(list((tmp_path / "home" / "etl" / "sales").iterdir())) == 2


def test_a_count_of_a_closed_day_is_the_opening_of_the_next_open_one(tmp_path: Path) -> None:
    tables = lines_of(
        tmp_path,
        *[f"2026-03-{day:02d} 10:00:00,tea,2,5.0" for day in (7, 9, 14, 16)],  # Saturdays and Mondays
    )
    tables["stock"] = write(
        tmp_path, "stock", "time,product_id,quantity", "2026-03-08,tea,20", "2026-03-15,tea,30", "2026-03-16,tea,40"
    )

    etl_run(tables)

    stock = made().set_index(made()["date"].astype(str).str[:10])["stock"]
    assert stock.fillna(-1).to_dict() == {"2026-03-07": -1, "2026-03-09": 20, "2026-03-14": -1, "2026-03-16": 40}


def test_the_newest_name_of_the_master_is_that_of_every_row(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, "2026-03-01 09:00,7,1,2.5", "2026-03-02 09:00,7,1,2.5", "2026-03-02 09:00,8,1,2.5")
    header = "product_id,name,list_price,valid_from"
    master = write(tmp_path, "master", header, "7,Tea,3,", "7,Green tea,3,2026-03-02", "7,,2,2026-03-03", "8,,3,")

    etl_run(lines | {"products": master})

    assert made()["name"].fillna("").tolist() == ["Green tea", "Green tea", ""]
