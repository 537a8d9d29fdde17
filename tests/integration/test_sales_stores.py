"""Sales are read from real stores, databases and S3: tables, queries, files, and clear words when they cannot be."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pytest
import sqlalchemy as sa
from moto.server import ThreadedMotoServer

from pricing.data.contract import COLUMNS, check
from pricing.data.source import open_database, read_sales
from pricing.errors import SourceError
from pricing.registry.database import append_only, create_tables, open_engine

TABLE = """
CREATE TABLE sales (
    date DATE, product_id CHAR(8), units_sold NUMERIC(10, 2), price NUMERIC(10, 2), is_promo BOOLEAN, comment TEXT
)
"""
ROWS = [
    ("2024-01-01", "00123", 2, 3.50, True, "x"),
    ("2024-01-02", "00123", 0, 3.25, False, None),
    ("2024-01-02", "B", 4, 1.00, None, None),
]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    sqlite3.connect(tmp_path / "sales.db").close()
    lite = f"sqlite:///{tmp_path / 'sales.db'}"
    url = lite if request.param == "sqlite" else request.getfixturevalue("postgres")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(TABLE))
        connection.execute(
            sa.text("INSERT INTO sales VALUES (:date, :product, :units, :price, :promo, :comment)"),
            [dict(zip(("date", "product", "units", "price", "promo", "comment"), row, strict=True)) for row in ROWS],
        )
        connection.execute(sa.text("CREATE VIEW cheap AS SELECT * FROM sales WHERE price < 2"))
        connection.execute(sa.text("CREATE TABLE empty (date DATE, product_id TEXT, units_sold INT, price INT)"))
    yield url
    with engine.begin() as connection:
        for statement in ("DROP VIEW cheap", "DROP TABLE sales", "DROP TABLE empty"):
            connection.execute(sa.text(statement))
    engine.dispose()


def test_a_table_is_read_as_the_contract_wants_it(database: str) -> None:
    checked = check(read_sales(database, columns=tuple(COLUMNS)), where="the table")

    assert not checked.violations
    assert checked.clean["product_id"].tolist() == ["00123", "00123", "B"]
    assert checked.clean["price"].tolist() == [3.5, 3.25, 1.0]
    assert checked.clean["is_promo"].fillna(-1).tolist() == [1, 0, -1]
    assert any("comment" in note for note in checked.notes)


@pytest.mark.parametrize(
    ("what", "expected"),
    [("#cheap", 1), ("#SELECT date, product_id, units_sold, price FROM sales WHERE product_id = '00123'", 2)],
)
def test_a_table_a_view_and_a_query_are_read(database: str, what: str, expected: int) -> None:
    assert len(read_sales(database + what)) == expected


def test_a_table_that_is_not_there_is_named_with_those_that_are(database: str) -> None:
    with pytest.raises(SourceError, match=r"has no table 'sale' \(found cheap, empty, sales\)"):
        read_sales(f"{database}#sale")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "db..shop"])
def test_a_server_that_does_not_answer_is_named_without_the_password(host: str) -> None:
    with pytest.raises(SourceError, match=rf"postgresql://\*\*\*@{re.escape(host)}/shop: cannot be read") as caught:
        read_sales(f"postgresql://me:secret@{host}/shop")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "WITH gone AS (DELETE FROM sales RETURNING *) SELECT * FROM gone",
        "SELECT 1; COMMIT; DELETE FROM sales; SELECT 1",
        "SELECT * INTO copied FROM sales",
        "SELECT 1) AS x; COMMIT; DELETE FROM sales; --",
    ],
)
def test_no_query_can_write(database: str, query: str) -> None:
    with pytest.raises(SourceError):
        read_sales(f"{database}#{query}")

    assert len(read_sales(database)) == len(ROWS)


def test_neither_a_function_nor_what_ends_its_transaction_can_write(postgres: str) -> None:
    engine = sa.create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE safe AS SELECT 1 AS n"))
        body = "BEGIN INSERT INTO safe VALUES (1); RETURN 1; END"
        connection.execute(sa.text(f"CREATE FUNCTION writes() RETURNS INT LANGUAGE plpgsql AS $$ {body} $$"))
    engine.dispose()

    def delete() -> None:
        with open_database(postgres, seconds=9) as found:
            found.connection.commit()
            found.connection.execute(sa.text("DELETE FROM safe"))

    for write in (delete, lambda: read_sales(f"{postgres}#SELECT writes()")):
        with pytest.raises(SourceError, match="read-only transaction"):
            write()
    assert len(read_sales(f"{postgres}#safe")) == 1


def test_of_a_database_without_an_encoding_texts_are_read_and_written_too(postgres: str) -> None:
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE plain ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"))
    engine.dispose()
    plain = sa.make_url(postgres).set(database="plain").render_as_string(hide_password=False)

    frame = read_sales(f"{plain}#SELECT 'Käse' AS product_id")
    create_tables(open_engine(plain), append_only("notes", "model").metadata)

    assert frame["product_id"].tolist() == ["Käse"]
    assert read_sales(f"{plain}#notes").empty


def test_a_query_without_end_is_ended(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pricing.data.source.SQL_SECONDS", 0.2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    with pytest.raises(SourceError, match=r"took longer than 0\.2 s; narrow it"):
        read_sales(f"{database}#{endless}")


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the file .*typo\.db does not exist"):
        read_sales(f"sqlite:///{tmp_path / 'typo.db'}")

    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    frame = pd.DataFrame(
        {"date": ["2024-01-01", "2024-01-02"], "product_id": ["A", "B"], "units_sold": [1, 2], "price": [2.0, 3.0]}
    )
    frame.to_csv(tmp_path / "sales.csv", index=False)
    frame.to_parquet(tmp_path / "sales.parquet")
    client = boto3.client("s3")
    client.create_bucket(Bucket="shop")
    for name, key in (("sales.csv", "in/sales.csv"), ("sales.parquet", "in/sales.parquet")):
        client.upload_file(str(tmp_path / name), "shop", key)
    for part in (1, 2):
        client.upload_file(str(tmp_path / "sales.parquet"), "shop", f"parts/year=2024/{part}.parquet")
    client.close()
    return "s3://shop"


@pytest.mark.parametrize("name", ["in/sales.csv", "in/sales.parquet", "parts/"])
def test_files_and_folders_on_s3_are_read(bucket: str, name: str) -> None:
    assert set(read_sales(f"{bucket}/{name}")["product_id"]) == {"A", "B"}


def test_what_is_not_on_s3_is_named(bucket: str) -> None:
    for where in (f"{bucket}/in/nowhere.csv", "s3://nobody/sales.csv"):
        with pytest.raises(SourceError, match=f"{where}: "):
            read_sales(where)
