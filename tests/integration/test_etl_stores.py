"""The program etl on real stores: PostgreSQL, from which it may only read, and S3, which it reads and keeps rows in."""

import datetime as dt
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, make_url, text

from etl.extract import extract
from etl.settings import TableSettings
from pricing.data.source import read_etl_rows, read_sales
from pricing.errors import SourceError
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import ShopTables, shop_tables
from tests.kit.etl_runs import etl_run
from tests.kit.servers import object_store, postgres

DATA_PAGE = Path(__file__).parents[2] / "docs" / "shop" / "data.md"
NOW = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Shop:
    """A shop's database: who owns it, and who may only read; and all that it will ever record."""

    owner: str
    url: str
    tables: ShopTables

    def record(self, first: np.datetime64, last: np.datetime64) -> None:
        """Records the days from `first` to `last`; what holds of products is there from the first on."""
        engine = create_engine(self.owner)
        with engine.begin() as connection:
            for name, clock in (("order_lines", "ordered_at"), ("stock_counts", "counted_at")):
                table = getattr(self.tables, name)
                days = pd.to_datetime(table[clock], utc=True).dt.tz_localize(None).to_numpy("datetime64[D]")
                table[(days >= first) & (days <= last)].to_sql(name, connection, index=False, if_exists="append")
        engine.dispose()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    rows = simulate(MarketConfig(products=5, days=60, seed=3)).frame()
    made = shop_tables(rows, zone=ZoneInfo("Europe/Berlin"), rng=np.random.default_rng(3))
    with postgres() as owner:
        engine = create_engine(owner)
        with engine.begin() as connection:
            connection.execute(text("CREATE ROLE pricing_reader LOGIN"))
            made.product_master.to_sql("product_master", connection, index=False)
            made.promotions.to_sql("promotions", connection, index=False)
            for name in ("order_lines", "stock_counts"):
                getattr(made, name).head(0).to_sql(name, connection, index=False)
            connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO pricing_reader"))
        engine.dispose()
        reader = make_url(owner).set(username="pricing_reader", password=None)
        yield Shop(owner, reader.render_as_string(hide_password=False), made)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))


def tables(url: str) -> dict[str, object]:
    return {
        "order_lines": {"location": f"{url}#order_lines", "columns": {"time": "ordered_at", "product_id": "sku"}},
        "stock": {
            "location": f"{url}#SELECT counted_at AS time, sku AS product_id, on_hand AS quantity FROM stock_counts "
            "WHERE sku LIKE '%' AND sku <> ':none'"
        },
        "products": {
            "location": f"{url}#public.product_master",
            "columns": {"product_id": "sku", "unit_cost": "cost", "price": "shelf_price"},
        },
    }


def test_a_night_reads_of_postgresql_what_is_recent_and_restores_the_days(shop: Shop) -> None:
    days = pd.to_datetime(shop.tables.order_lines["ordered_at"], utc=True).dt.tz_localize(None)
    first, last = (day.to_numpy().astype("datetime64[D]") for day in (days.min(), days.max()))
    shop.record(first, last - 5)

    before = etl_run(tables(shop.url), now=NOW)
    shop.record(last - 4, last)
    night = etl_run(tables(shop.url), now=NOW + dt.timedelta(days=1))

    found = read_etl_rows()
    assert night.tables["order_lines"].read < before.tables["order_lines"].read
    sold = found.groupby("product_id")["units_sold"].sum()
    lines = shop.tables.order_lines.drop_duplicates("line_id").query("status == 'sold'")
    assert sold.to_dict() == lines.groupby("sku")["quantity"].sum().astype(float).to_dict()
    assert found["stock"].notna().mean() > 0.9


def test_the_query_to_copy_makes_a_finished_table(shop: Shop) -> None:
    (query,) = re.findall(r"```sql\nCREATE VIEW sales AS\n(.*?)```", DATA_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    engine = create_engine(shop.owner)
    with engine.begin() as connection:
        view = "CREATE VIEW products AS SELECT DISTINCT ON (sku) *, shelf_price AS price FROM product_master"
        connection.execute(text(view))
        connection.exec_driver_sql(f"CREATE VIEW sales AS {query}; GRANT SELECT ON sales TO pricing_reader")
    engine.dispose()

    frame = read_sales(f"{shop.url}#sales")

    assert {"date", "product_id", "units_sold", "price", "category", "list_price", "unit_cost", "stock"} == {*frame}
    assert not frame.duplicated(["date", "product_id"]).any()
    assert (frame["price"] > 0).all()


@pytest.mark.parametrize(
    "what",
    [
        "SELECT 1; DROP TABLE promotions",
        "WITH x AS (DELETE FROM promotions RETURNING *) SELECT * FROM x",
    ],
)
def test_what_would_write_is_refused(shop: Shop, what: str) -> None:
    with pytest.raises(SourceError):
        etl_run({"order_lines": {"location": f"{shop.owner}#{what}"}})


def test_a_statement_that_takes_too_long_is_ended(shop: Shop) -> None:
    given = TableSettings(
        location=f"{shop.url}#SELECT now() AS time, 'tea' AS product_id, 1 AS quantity FROM pg_sleep(60)"
    )

    with duckdb.connect() as con, pytest.raises(SourceError, match="timeout"):
        extract(con, "order_lines", given, environ={}, since=None, seconds=0.5)


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder, object_store(Path(folder), bucket="shop") as found:
        yield found


def test_rows_are_made_of_files_on_s3_and_kept_there(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3  # noqa: PLC0415

    for name, value in store.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # the test's store knows no newer way
    monkeypatch.setenv("PRICING_ETL", "s3://shop/made")
    client = boto3.client("s3", endpoint_url=store["AWS_ENDPOINT_URL"])
    for day in (1, 2):
        text = f"time,product_id,quantity,unit_price\n2026-03-0{day},tea,{day},5.0\n"
        client.put_object(Bucket="shop", Key=f"in/{day}/lines.csv", Body=text.encode())
    client.close()
    given = {"order_lines": {"location": "s3://shop/in"}}

    etl_run(given, now=NOW)
    etl_run(given, now=NOW + dt.timedelta(days=1))

    assert read_etl_rows()["units_sold"].tolist() == [1.0, 2.0]
    assert not (tmp_path / "home" / "etl").exists()
