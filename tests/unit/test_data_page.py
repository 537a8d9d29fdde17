"""docs/data.md: its tables name the columns that are read, and its examples read what they say, end to end."""

import datetime as dt
import io
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator

from pricing.config import load_config, schema_for_editors
from pricing.config_sources import (
    AliasSource,
    CompetitorItems,
    CompetitorTable,
    DeliverySource,
    EventSource,
    FinishedRows,
    OrderLines,
    ProductSource,
    PromotionSource,
    SourcesConfig,
    StockSource,
    TableSource,
)
from pricing.data.manifest import read_rows
from pricing.paths import plan_in_force
from pricing.sources.collect import collect
from tests.kit.data_page import PAGE, block_of, blocks, in_folder, whole

TABLES: dict[str, type[TableSource]] = {
    "Sales: order lines": OrderLines,
    "Sales: finished rows": FinishedRows,
    "Stock: counts": StockSource,
    "Deliveries": DeliverySource,
    "Products": ProductSource,
    "Promotions": PromotionSource,
    "Events": EventSource,
    "Renamed products": AliasSource,
    "Competitors' prices in a table": CompetitorTable,
    "Items of competitors": CompetitorItems,
}
ELSEWHERE = {"Competitors' prices by API": "tests/integration/test_data_page_api.py"}
ORDERS = """line_id,time,product_id,quantity,unit_price
1,2026-03-02T10:00:00,tea,2,5
2,2026-03-03T10:00:00,tea,1,5
3,2026-03-03T10:30:00,jam,4,3
"""
AS_SOLD = """date,product_id,units_sold,price
2026-03-03,jam,4,3
2026-03-02,tea,2,5
2026-03-03,tea,1,5
"""


@dataclass(frozen=True)
class Example:
    """What a made-up shop's tables hold, and what the block makes of them.

    Attributes:
        files: Path: text of a table; an ending .parquet or .xlsx, or a path database/TABLE, says how it is written.
        rows: The rows, as CSV; an empty cell is missing.
        plans: Plan: its rows, as CSV.
        encoding: Of text files.
    """

    files: dict[str, str]
    rows: str
    plans: dict[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"


EXAMPLES = {
    "A short start": Example(
        files={
            "database/order_lines": """line_id,ordered_at,sku,quantity,paid
1,2026-03-02T10:00:00,tea,2,5
2,2026-03-03T10:00:00,tea,1,5
3,2026-03-03T10:30:00,jam,4,3
""",
            "database/stock_counts": """counted_at,sku,on_hand
2026-03-02T06:00:00,tea,10
2026-03-03T06:00:00,tea,8
2026-03-03T06:00:00,jam,9
""",
            "database/products": """sku,category,list_price,cost,tax_class
tea,drinks,6,2,standard
jam,food,3,1,reduced
""",
            "database/promotions": "sku,begins,ends\ntea,2026-03-03,2026-03-04\n",
        },
        rows="""date,product_id,units_sold,price,category,list_price,unit_cost,stock,is_promo,tax_rate
2026-03-03,jam,4,3,food,3,1,9,0,0.07
2026-03-02,tea,2,5,drinks,6,2,10,,0.19
2026-03-03,tea,1,5,drinks,6,2,8,1,0.19
""",
        plans={"promotions": "product_id,first,last\ntea,2026-03-03,2026-03-04\n"},
    ),
    "Order lines in PostgreSQL": Example(
        files={
            "database/lines": """id,order_id,sku,quantity,total
1,1,tea,2,10
2,2,tea,1,5
3,3,tea,7,35
""",
            "database/orders": """id,placed,state
1,2026-03-02T10:00:00,paid
2,2026-03-03T10:00:00,paid
3,2026-03-03T11:00:00,declined
""",
        },
        rows="date,product_id,units_sold,price\n2026-03-02,tea,2,5\n2026-03-03,tea,1,5\n",
    ),
    "Order lines in MySQL or MariaDB": Example(
        files={
            "database/order_lines": """created,article,qty,net_price,changed
2026-03-02T10:00:00,tea,2,5,2026-03-02T11:00:00
"""
        },
        rows="date,product_id,units_sold,price,tax_rate\n2026-03-02,tea,2,6,0.2\n",
    ),
    "Order lines in CSV files": Example(
        files={
            "exports/2026-03/02.csv": "Belegnr;Datum;Artikel;Menge;Preis\n1;02.03.2026;Tee grün;2;1.234,50\n",
            "exports/2026-03/03.csv": "Belegnr;Datum;Artikel;Menge;Preis\n2;03.03.2026;Tee grün;-1;1.234,50\n",
            "exports/2025-12/31.csv": "Belegnr;Datum;Artikel;Menge;Preis\n9;31.12.2025;Tee grün;5;9,00\n",
        },
        rows="date,product_id,units_sold,price\n2026-03-02,Tee grün,1,1234.5\n",
        encoding="cp1252",
    ),
    "Order lines in Parquet on S3": Example(
        files={
            "shop-exports/orders/2026/03/a.parquet": "ordered_at,sku,units,total\n2026-03-02T23:30:00Z,tea,2,10\n",
            "shop-exports/orders/b.parquet": "ordered_at,sku,units,total\n2026-03-04T10:00:00Z,tea,1,6\n",
        },
        rows="date,product_id,units_sold,price\n2026-03-03,tea,2,5\n2026-03-04,tea,1,6\n",
    ),
    "A price list in Excel": Example(
        files={"prices.xlsx": "SKU,Retail price,Purchase price,Group\ntea,6,2,drinks\njam,3.5,1,food\n"},
        rows="""date,product_id,units_sold,price,category,list_price,unit_cost
2026-03-03,jam,4,3,food,3.5,1
2026-03-02,tea,2,5,drinks,6,2
2026-03-03,tea,1,5,drinks,6,2
""",
    ),
    "Sales: order lines": Example(
        files={"orders.csv": ORDERS + "4,2026-03-04T18:00:00,tea,-2,5\n"},
        rows=AS_SOLD.replace("03-02,tea,2", "03-02,tea,1").replace("03-03,tea,1", "03-03,tea,0"),
    ),
    "Sales: finished rows": Example(
        files={"daily.csv": "date,product_id,units,price,branch\n2026-03-02,tea,2,5,north\n2026-03-02,tea,1,4,south\n"},
        rows="""date,product_id,units_sold,price,parent_id
2026-03-02,tea@north,2,5,tea
2026-03-02,tea@south,1,4,tea
""",
    ),
    "Stock: counts": Example(
        files={"stock.csv": "day,product_id,on_hand\n2026-03-01,tea,9\n2026-03-02,tea,7\n"},
        rows="""date,product_id,units_sold,price,stock
2026-03-03,jam,4,3,
2026-03-02,tea,2,5,9
2026-03-03,tea,1,5,7
""",
    ),
    "Stock: movements": Example(
        files={
            "movements.csv": """booked,product_id,change
2026-02-27,tea,12
2026-03-02T10:00:00,tea,-2
2026-03-03T10:00:00,tea,-1
"""
        },
        rows="""date,product_id,units_sold,price,stock
2026-03-03,jam,4,3,
2026-03-02,tea,2,5,12
2026-03-03,tea,1,5,10
""",
    ),
    "Deliveries": Example(
        files={"deliveries.csv": "product_id,eta,ordered\ntea,2026-05-04,20\n"},
        rows=AS_SOLD,
        plans={"deliveries": "product_id,date\ntea,2026-05-04\n"},
    ),
    "Products": Example(
        files={
            "master.csv": """product_id,category,list_price,cost,vat,valid_from,valid_until
tea,drinks,6,2,standard,2026-01-01,2026-03-02
tea,drinks,6.5,2.2,standard,2026-03-03,
jam,food,3,1,books,2026-03-03,
"""
        },
        rows="""date,product_id,units_sold,price,category,list_price,unit_cost,tax_rate
2026-03-03,jam,4,3,food,3,1,0
2026-03-02,tea,2,5,drinks,6,2,0.2
2026-03-03,tea,1,5,drinks,6.5,2.2,0.2
""",
    ),
    "Promotions": Example(
        files={"promotions.csv": "product_id,starts,ends\ntea,2026-03-02,2026-03-02\njam,2026-03-03,2026-03-05\n"},
        rows="""date,product_id,units_sold,price,is_promo
2026-03-03,jam,4,3,1
2026-03-02,tea,2,5,1
2026-03-03,tea,1,5,0
""",
        plans={"promotions": "product_id,first,last\njam,2026-03-03,2026-03-05\ntea,2026-03-02,2026-03-02\n"},
    ),
    "Events": Example(
        files={"events.csv": "on,what\n2026-05-14,Village fair\n"},
        rows=AS_SOLD,
        plans={"events": "date,name\n2026-05-14,Village fair\n"},
    ),
    "Renamed products": Example(
        files={"renamed.csv": "former_id,product_id\njam,marmalade\n"},
        rows=AS_SOLD.replace("jam", "marmalade"),
    ),
    "Competitors' prices in a table": Example(
        files={
            "rivals.csv": """shop,their_id,asked,seen
Rival,r-77,4.5,2026-03-02T06:00:00+01:00
Other,o-1,4.2,2026-03-03T06:00:00+01:00
""",
            "items.csv": "item_id,product_id\nr-77,tea\no-1,tea\n",
        },
        rows="""date,product_id,units_sold,price,comp_price,comp_price_age
2026-03-03,jam,4,3,,
2026-03-02,tea,2,5,4.5,0
2026-03-03,tea,1,5,4.2,0
""",
    ),
}


def write(folder: Path, example: Example) -> None:
    for name, text in {"orders.csv": ORDERS, **example.files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "database":
            with closing(sqlite3.connect(folder / "shop.db")) as connection:
                pd.read_csv(io.StringIO(text)).to_sql(path.name, connection, index=False)
        elif path.suffix == ".parquet":
            pd.read_csv(io.StringIO(text)).to_parquet(path)
        elif path.suffix == ".xlsx":
            with pd.ExcelWriter(path) as book:
                pd.DataFrame({"as of": ["2026-03-01"]}).to_excel(book, sheet_name="About", index=False)
                pd.read_csv(io.StringIO(text)).to_excel(book, sheet_name="Prices", index=False)
        else:
            path.write_text(text, encoding=example.encoding)


def table(text: str) -> pd.DataFrame:
    days = {name for name in text.partition("\n")[0].split(",") if name in ("date", "first", "last")}
    return pd.read_csv(io.StringIO(text), parse_dates=sorted(days), dtype={"product_id": str})


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_makes_the_rows_that_it_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str
) -> None:
    example = EXAMPLES[heading]
    write(tmp_path, example)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(in_folder(whole(block_of(heading)), folder=tmp_path), allow_unicode=True))

    found = collect(
        load_config(path),
        folder=tmp_path / "store",
        run_id="run",
        now=dt.datetime(2026, 5, 1, tzinfo=dt.UTC),
        environment={},
    )

    rows = read_rows(tmp_path / "store").sort_values(["product_id", "date"], ignore_index=True)
    pd.testing.assert_frame_equal(rows, table(example.rows), check_dtype=False)
    for name, text in example.plans.items():
        plan = pd.read_parquet(plan_in_force(str(tmp_path / "store" / "plans" / f"{name}.parquet")))
        wanted = table(text)
        pd.testing.assert_frame_equal(plan[list(wanted)], wanted, check_dtype=False)
    assert [count for count in found.set_aside.counts if count.dropped] == []


def test_every_block_of_the_page_has_an_example() -> None:
    assert {block.heading for block in blocks()} == EXAMPLES.keys() | ELSEWHERE.keys()
    assert len(blocks()) == len(EXAMPLES) + len(ELSEWHERE)


@pytest.mark.parametrize("number", range(len(blocks())))
def test_every_block_is_a_valid_configuration_as_it_stands(tmp_path: Path, number: int) -> None:
    values = blocks()[number].values
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(whole(values), allow_unicode=True))

    marked = list(Draft202012Validator(schema_for_editors()).iter_errors(values))

    assert marked == []
    assert load_config(path).sources is not None


def test_every_source_has_an_example() -> None:
    shown = {name for block in blocks() for name in block.values["sources"]}
    tables = {name for name, part in SourcesConfig.model_fields.items() if "Source" in str(part.annotation)}

    assert {*tables, "sales", "competitors", "competitor_prices", "competitor_items"} - shown == set()


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_lists_the_columns_that_are_read(heading: str) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].partition("\n##")[0]
    listed = [row.split("|") for row in section.splitlines() if row.startswith("| `")]

    needed = [name for row in listed if row[2].strip() == "yes" for name in re.findall(r"`(\w+)`", row[1])]
    others = [name for row in listed if row[2].strip() == "no" for name in re.findall(r"`(\w+)`", row[1])]

    assert needed == list(TABLES[heading].NEEDED)
    assert sorted(others) == sorted(TABLES[heading].OPTIONAL)


def test_the_columns_of_every_kind_of_table_are_listed() -> None:
    assert set(TABLES.values()) == set(TableSource.__subclasses__())
