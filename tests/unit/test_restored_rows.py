"""A shop's tables give back the rows of the contract that they were made from."""

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from pricing.config_sources import ProductSource, PromotionSource
from pricing.sources.calendars import promotion_plan, read_promotions
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.inventory import stock_counts
from pricing.sources.join import contract_rows
from pricing.sources.product_master import ProductMaster, read_products
from pricing.sources.returns import net_of_returns
from pricing.sources.set_aside import SetAside
from simulation.shop_tables import ShopTables, shop_tables
from tests.kit.chunks import order_lines, sources, stock_source
from tests.kit.order_line_days import order_line_days

COLUMNS = {
    "ordered_at": "time", "counted_at": "time", "sku": "product_id", "on_hand": "quantity", "cost": "unit_cost",
    "shelf_price": "price", "first_day": "first", "last_day": "last",
}  # fmt: skip


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
            "comp_price": np.nan,
            "is_promo": promoted * 1.0,
        }
    )


def parts(frame: pd.DataFrame, size: int = 97) -> list[Chunk]:
    mapped = frame.rename(columns=COLUMNS)
    lines = np.arange(1, len(frame) + 1)
    return [
        Chunk(mapped.iloc[at : at + size].reset_index(drop=True), "shop", lines[at : at + size])
        for at in range(0, len(frame), size)
    ]


def restored(tables: ShopTables) -> pd.DataFrame:
    lines = order_lines()
    config, ids, aside = sources(lines), Identifiers(), SetAside()
    facts, _ = read_products(
        parts(tables.product_master), ProductSource(location="p"), config=config, ids=ids, set_aside=aside
    )
    master = ProductMaster(facts)
    days = order_line_days(parts(tables.order_lines), lines, config=config, ids=ids, set_aside=aside, master=master)
    net, _ = net_of_returns(days.table, rule=lines.returns, reach=lines.return_days)
    stock, _ = stock_counts(parts(tables.stock_counts), stock_source(), config=config, ids=ids, set_aside=aside)
    given = read_promotions(parts(tables.promotions), PromotionSource(location="c"), ids=ids, set_aside=aside)
    products = facts[["product_id", "category"]].drop_duplicates().assign(store="")
    plan = promotion_plan(given, products, separate=False)
    assert aside.counts == ()
    return contract_rows(net, config=config, stock=stock, master=master, plan=plan).rows


def test_rows_that_were_taken_apart_into_a_shops_tables_are_restored() -> None:
    rows = market(np.random.default_rng(5))
    tables = shop_tables(rows, zone=ZoneInfo("America/New_York"), rng=np.random.default_rng(6))

    found = restored(tables)

    expected = rows.sort_values(["product_id", "date"], ignore_index=True)
    begun = expected["date"] >= tables.promotions["first_day"].min()
    assert len(found) == len(expected)
    for name in ("date", "product_id", "units_sold", "stock", "category"):
        assert found[name].tolist() == expected[name].tolist(), name
    for name in ("price", "list_price", "unit_cost"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist()), name
    assert found["is_promo"][begun].tolist() == expected["is_promo"][begun].tolist()
