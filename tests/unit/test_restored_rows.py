"""A shop's tables give back the rows of the contract that they were made from."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from pricing.data.etl_output import read_etl_rows
from simulation.shop_tables import ShopTables, shop_tables
from tests.kit.etl_runs import etl_run

ZONE = "America/New_York"
TABLES = {
    "order_lines": {"columns": {"time": "ordered_at", "product_id": "sku"}},
    "stock": {"columns": {"time": "counted_at", "product_id": "sku", "quantity": "on_hand"}},
    "products": {"columns": {"product_id": "sku", "unit_cost": "cost", "price": "shelf_price"}},
    "promotions": {"columns": {"product_id": "sku", "first": "first_day", "last": "last_day"}},
    "competitors": {"columns": {"product_id": "sku", "source": "competitor"}},
}


def market(rng: np.random.Generator) -> pd.DataFrame:
    """Some weeks of three products, over the day of 23 hours."""
    days = pd.date_range("2026-02-20", "2026-03-25").astype("datetime64[s]")
    product = np.repeat(["jam", "tea", "pen"], len(days))
    count = len(product)
    promoted = rng.random(count) < 0.2
    list_price = np.repeat([3.0, 5.0, 1.5], len(days))
    return pd.DataFrame(
        {
            "date": np.tile(days, 3),
            "product_id": product,
            "units_sold": rng.poisson(4, count) * 1.0,
            "price": np.round(list_price * np.where(promoted, 0.8, 1.0), 2),
            "category": np.repeat(["food", "food", "office"], len(days)),
            "list_price": list_price,
            "unit_cost": np.round(list_price / 2 + rng.integers(0, 2, count) / 10, 2),
            "stock": rng.integers(20, 90, count) * 1.0,
            "comp_price": np.round(list_price * rng.uniform(0.8, 1.2, count), 2),
            "is_promo": promoted * 1.0,
        }
    )


def restored(tables: ShopTables, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    frames = {
        "order_lines": tables.order_lines,
        "stock": tables.stock_counts,
        "products": tables.product_master,
        "promotions": tables.promotions,
        "competitors": tables.competitor_prices,
    }
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    given = {name: {"location": str(folder / f"{name}.parquet"), **more} for name, more in TABLES.items()}
    monkeypatch.setenv("PRICING_HOME", str(folder / "home"))
    report = etl_run(given, zone=ZONE, now=dt.datetime(2026, 4, 1, 12, tzinfo=dt.UTC))
    assert not sum(table.bad for table in report.tables.values())
    return read_etl_rows().sort_values(["product_id", "date"], ignore_index=True)


def test_rows_that_were_taken_apart_into_a_shops_tables_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = market(np.random.default_rng(5))
    tables = shop_tables(rows, zone=ZoneInfo(ZONE), rng=np.random.default_rng(6))

    found = restored(tables, tmp_path, monkeypatch)

    expected = rows.sort_values(["product_id", "date"], ignore_index=True)
    begun = expected["date"] >= tables.promotions["first_day"].min()
    assert len(found) == len(expected)
    for name in ("date", "product_id", "units_sold", "stock", "category"):
        assert found[name].tolist() == expected[name].tolist(), name
    for name in ("price", "list_price", "unit_cost", "comp_price"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist()), name
    assert found["is_promo"][begun].tolist() == expected["is_promo"][begun].tolist()
    assert set(found["comp_price_age"]) == {0.0}
