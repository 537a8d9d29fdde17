"""Sales are read from real databases: tables, views, queries, and clear words when they cannot be."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pricing.data.contract import COLUMNS, check
from pricing.data.source import open_database, read_sales
from pricing.errors import SourceError
from pricing.fileio import POSTGRESQL

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


@pytest.fixture(scope="module")
def postgresql(postgres: str) -> str:
    """The address as people write it, without a driver."""
    return postgres.replace("+psycopg2", "")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    sqlite3.connect(tmp_path / "sales.db").close()
    lite = f"sqlite:///{tmp_path / 'sales.db'}"
    url = lite if request.param == "sqlite" else request.getfixturevalue("postgresql")
    engine = sa.create_engine(url.replace("postgresql:", f"{POSTGRESQL}:"))
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


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with pytest.raises(SourceError, match=r"postgresql://\*\*\*@127\.0\.0\.1:9/shop: cannot be read") as caught:
        read_sales("postgresql://me:secret@127.0.0.1:9/shop")

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


def test_neither_a_function_nor_what_ends_its_transaction_can_write(postgresql: str) -> None:
    engine = sa.create_engine(sa.make_url(postgresql).set(drivername=POSTGRESQL))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE safe AS SELECT 1 AS n"))
        body = "BEGIN INSERT INTO safe VALUES (1); RETURN 1; END"
        connection.execute(sa.text(f"CREATE FUNCTION writes() RETURNS INT LANGUAGE plpgsql AS $$ {body} $$"))
    engine.dispose()

    def delete() -> None:
        with open_database(postgresql, seconds=9) as found:
            found.connection.commit()
            found.connection.execute(sa.text("DELETE FROM safe"), execution_options={"stream_results": False})

    for write in (delete, lambda: read_sales(f"{postgresql}#SELECT writes()")):
        with pytest.raises(SourceError, match="read-only transaction"):
            write()
    assert len(read_sales(f"{postgresql}#safe")) == 1


def test_a_query_without_end_is_ended(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pricing.data.source.SQL_SECONDS", 0.2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    with pytest.raises(SourceError, match=r"took longer than 0\.2 s; narrow it"):
        read_sales(f"{database}#{endless}")


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the file .*typo\.db does not exist"):
        read_sales(f"sqlite:///{tmp_path / 'typo.db'}")

    assert not list(tmp_path.iterdir())
