"""A retailer's tables are read from real databases: bounded in time, in one snapshot, whole or not at all."""

import datetime as dt
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import sqlalchemy as sa

from pricing.config_sources import OrderLines
from pricing.errors import SourceError
from pricing.sources import sql
from pricing.sources.reading import Reading, read_chunks
from tests.kit.servers import mariadb, mariadb_program, postgres

BERLIN = ZoneInfo("Europe/Berlin")
TIMES = [dt.datetime(2024, 3, 30, 23, 30), dt.datetime(2024, 3, 31, 0, 30), dt.datetime(2024, 4, 1, 12)]  # UTC
KINDS = ("instant", "local", "day", "iso")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def mysql() -> Iterator[str]:
    if mariadb_program() is None:
        pytest.skip("mariadbd is not installed (apt-get install mariadb-server)")
    with mariadb() as url:
        yield url


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        url = f"sqlite:///{tmp_path / 'shop.db'}"
    else:
        url = request.getfixturevalue(request.param)
    fill(url)
    yield url
    execute(url, "DROP TABLE order_lines")


def execute(url: str, *statements: str, rows: Any = None) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement), rows)
    engine.dispose()


def fill(url: str) -> None:
    """Three lines, whose times are told in each of the four ways that databases have."""
    instant = {"sqlite": "TEXT", "mysql": "TIMESTAMP(6) NULL"}.get(
        url.split(":", maxsplit=1)[0].split("+", maxsplit=1)[0], "TIMESTAMPTZ"
    )
    local = "DATETIME(6)" if url.startswith("mysql") else "TIMESTAMP"
    execute(
        url,
        f"CREATE TABLE order_lines (line INT, instant {instant}, local {local}, day DATE, iso VARCHAR(40), "
        f"sku VARCHAR(20), qty INT, paid NUMERIC(12, 2), note TEXT, changed {local})",
    )
    zone = "" if url.startswith("mysql") else "+00:00"
    rows = []
    for number, moment in enumerate(TIMES, start=1):
        here = moment.replace(tzinfo=dt.UTC).astimezone(BERLIN)
        rows.append(
            {
                "line": number,
                "instant": f"{moment}{zone}",
                "local": f"{here.replace(tzinfo=None)}",
                "day": f"{here.date()}",
                "iso": here.isoformat(),
                "sku": f" 00{number}\u00a0",
                "qty": number,
                "paid": "12.50" if number < 3 else None,
                "note": 'a,"b"\n%s :x',
                "changed": f"2024-05-0{number} 00:00:00",
            }
        )
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if url.startswith("mysql"):
            connection.execute(sa.text("SET time_zone = '+00:00'"))
        names = ", ".join(f":{name}" for name in rows[0])
        connection.execute(sa.text(f"INSERT INTO order_lines VALUES ({names})"), rows)
    engine.dispose()


PASSWORD = "p@ss/w:rd"  # of the kit's MariaDB
COLUMNS = {"time": "instant", "product_id": "sku", "quantity": "qty", "unit_price": "paid", "line_id": "line"}


def reading_of(url: str, *, columns: dict[str, str] | None = None, **asked: Any) -> Reading:
    location = url if "#" in url else f"{url}#order_lines"
    source = OrderLines.model_validate(
        {
            "kind": "order_lines",
            "location": location.replace(quote(PASSWORD, safe=""), "${SHOP_PASSWORD}"),
            "columns": COLUMNS | (columns or {}),
            "updated": asked.pop("updated", None),
        }
    )
    seconds = asked.pop("seconds", 60.0)
    environment = {"SHOP_PASSWORD": PASSWORD}
    return read_chunks(source, name="sales", zone=BERLIN, sql_seconds=seconds, environment=environment, **asked)


def read(url: str, *, columns: dict[str, str] | None = None, **asked: Any) -> tuple[pd.DataFrame, Reading]:
    reading = reading_of(url, columns=columns, **asked)
    frames = [chunk.frame for chunk in reading]
    return (pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()), reading


def test_a_table_is_read_with_our_names_and_kinds(database: str) -> None:
    frame, reading = read(database, columns={"status": "note"})

    assert frame["product_id"].tolist() == ["001", "002", "003"]
    assert frame["line_id"].tolist() == ["1", "2", "3"]
    assert frame["quantity"].tolist() == [1.0, 2.0, 3.0]
    assert frame["unit_price"].tolist()[:2] == [12.5, 12.5]
    assert frame["unit_price"].isna().tolist() == [False, False, True]
    assert frame["status"].tolist() == ['a,"b"\n%s :x'] * 3
    assert [time.tz_convert("UTC").tz_localize(None) for time in frame["time"]] == TIMES
    assert reading.complete
    assert reading.origins[0].rows == 3
    assert "p%40ss" not in reading.origins[0].where


@pytest.mark.parametrize("kind", KINDS)
def test_a_span_of_time_is_exact_whatever_the_type_of_the_column(database: str, kind: str) -> None:
    """Midnight of the shop is 22:00 or 23:00 UTC, and clocks go forward that night."""
    for since, until, expected in (
        (dt.datetime(2024, 3, 31, tzinfo=BERLIN), None, ["1", "2", "3"]),
        (dt.datetime(2024, 3, 31, tzinfo=BERLIN), dt.datetime(2024, 4, 1, tzinfo=BERLIN), ["1", "2"]),
        (dt.datetime(2024, 4, 1, tzinfo=BERLIN), None, ["3"]),
        (None, dt.datetime(2024, 3, 31, tzinfo=BERLIN), []),
    ):
        frame, reading = read(database, columns={"time": kind}, since=since, until=until)

        assert (frame["line_id"].tolist() if len(frame) else []) == expected
        assert kind in reading.origins[0].statement.partition("WHERE")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_is_bounded_as_a_table_is(database: str, kind: str) -> None:
    query = "WITH chosen AS (SELECT * FROM order_lines WHERE note LIKE 'a%' AND ':x' <> 'y') SELECT * FROM chosen -- ;"

    frame, _ = read(f"{database}#{query}", columns={"time": kind}, since=dt.datetime(2024, 4, 1, tzinfo=BERLIN))

    assert frame["line_id"].tolist() == ["3"]


def test_rows_that_were_changed_are_asked_for_and_the_newest_change_is_kept(database: str) -> None:
    frame, reading = read(database, updated="changed", changed=dt.datetime(2024, 5, 2, tzinfo=BERLIN))

    assert frame["line_id"].tolist() == ["2", "3"]
    assert reading.origins[0].watermark.startswith("2024-05-03T00:00:00")
    assert "changed >= " in reading.origins[0].statement


def test_the_index_on_the_time_serves(postgresql: str) -> None:
    execute(
        postgresql,
        "CREATE TABLE indexed AS SELECT timestamptz '2024-01-01' + i * interval '1 minute' AS instant, 'A' AS sku, "
        "1 AS qty, 1.5 AS paid, i AS line FROM generate_series(1, 50000) AS i",
        "CREATE INDEX ON indexed (instant)",
        "ANALYZE indexed",
    )
    since = dt.datetime(2024, 2, 4, tzinfo=BERLIN)

    _, reading = read(f"{postgresql}#indexed", since=since)

    engine = sa.create_engine(postgresql)
    with engine.connect() as connection:
        asked = reading.origins[0].statement
        plan = connection.exec_driver_sql(f"EXPLAIN {asked}", {"instant_1": since}).scalars().all()
    engine.dispose()
    assert any("Index" in line for line in plan), plan


HOSTILE_NAMES = (
    'qty" FROM order_lines; DROP TABLE order_lines; --',
    "qty` FROM order_lines; DROP TABLE order_lines; --",
    "qty, (SELECT 1)",
    "*",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_of_a_column_is_taken_for_sql(database: str, name: str) -> None:
    with pytest.raises(SourceError, match="has no column"):
        read(database, columns={"quantity": name})

    assert len(read(database)[0]) == 3


def test_a_column_may_have_a_name_full_of_quotes(postgresql: str) -> None:
    execute(
        postgresql, 'CREATE TABLE odd (instant DATE, sku TEXT, line INT, paid INT, "q""; DROP TABLE odd -- %s" INT)'
    )
    execute(postgresql, "INSERT INTO odd VALUES ('2024-01-01', 'A', 1, 2, 3)")

    frame, _ = read(f"{postgresql}#odd", columns={"quantity": 'q"; DROP TABLE odd -- %s'})

    assert frame["quantity"].tolist() == [3.0]


@pytest.mark.parametrize(
    "what",
    [
        "order_lines; DROP TABLE order_lines",
        "order_lines WHERE 1=1",
        "DELETE FROM order_lines",
        "DROP TABLE order_lines",
        "SELECT 1; DROP TABLE order_lines",
        "SELECT * FROM order_lines) AS x; DROP TABLE order_lines; --",
        "SELECT 1 /* ' */; DELETE FROM order_lines; --'",
        "WITH gone AS (DELETE FROM order_lines RETURNING *) SELECT * FROM gone",
        "",
    ],
)
def test_nothing_behind_the_number_sign_can_write(database: str, what: str) -> None:
    with pytest.raises(SourceError):
        read(f"{database}#{what}")

    assert len(read(database)[0]) == 3


def test_a_function_that_writes_is_refused_by_the_database(postgresql: str) -> None:
    body = "BEGIN INSERT INTO kept VALUES (1); RETURN 1; END"
    execute(
        postgresql,
        "CREATE TABLE kept (n INT)",
        f"CREATE FUNCTION writes() RETURNS INT LANGUAGE plpgsql AS $$ {body} $$",
    )
    query = "SELECT now() AS instant, 'A' AS sku, writes() AS qty, 1 AS paid, 1 AS line"

    with pytest.raises(SourceError, match="read-only transaction"):
        read(f"{postgresql}#{query}")


def test_mysql_refuses_a_function_that_writes(mysql: str) -> None:
    execute(
        mysql,
        "CREATE TABLE kept (n INT)",
        "CREATE FUNCTION writes() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO kept VALUES (1); RETURN 1; END",
    )

    with pytest.raises(SourceError, match="READ ONLY transaction"):
        read(f"{mysql}#SELECT NOW() AS instant, 'A' AS sku, writes() AS qty, 1 AS paid, 1 AS line")


@pytest.mark.parametrize(
    ("server", "query"),
    [
        ("postgresql", "SELECT now() AS instant, 'A' AS sku, 1 AS qty, 1 AS paid, 1 AS line FROM pg_sleep(30)"),
        ("mysql", "SELECT NOW() AS instant, 'A' AS sku, SLEEP(30) AS qty, 1 AS paid, 1 AS line"),
    ],
)
def test_a_statement_that_takes_too_long_is_ended(request: pytest.FixtureRequest, server: str, query: str) -> None:
    with pytest.raises(SourceError, match=r"took longer than 0\.3 s"):
        read(f"{request.getfixturevalue(server)}#{query}", seconds=0.3)


def test_a_connection_that_postgresql_drops_gives_no_rows_at_all(postgresql: str) -> None:
    execute(
        postgresql,
        "CREATE TABLE many AS SELECT DATE '2024-01-01' AS instant, repeat('A', 200) AS sku, 1 AS qty, "
        "1 AS paid, i AS line FROM generate_series(1, 50000) AS i",
    )
    given: list[int] = []

    def kill(sink: Any, data: bytes) -> int:
        if not given:
            given.append(len(data))
            execute(postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
        return len(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql._Sink, "write", kill)
        with pytest.raises(SourceError, match="cannot be read"):
            read(f"{postgresql}#many")

    assert given
    assert read(f"{postgresql}#many")[1].origins[0].rows == 50_000


def test_a_connection_that_mysql_drops_gives_no_rows_at_all(mysql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(
        mysql,
        "CREATE TABLE many AS SELECT DATE '2024-01-01' AS instant, REPEAT('A', 100) AS sku, 1 AS qty, 1 AS paid, "
        "seq AS line FROM seq_1_to_200000",
    )
    monkeypatch.setattr(sql, "CHUNK_ROWS", 1000)
    convert = sql._array
    given: list[str] = []

    def kill(values: Any, *, utc: bool) -> Any:
        if not given:
            given.append("killed")
            engine = sa.create_engine(mysql)
            with engine.connect() as connection:
                running = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT instant%'"
                for number in connection.execute(sa.text(running)).scalars().all():
                    connection.execute(sa.text(f"KILL {number}"))
            engine.dispose()
        return convert(values, utc=utc)

    with monkeypatch.context() as patch:
        patch.setattr(sql, "_array", kill)
        reading = reading_of(f"{mysql}#many")
        with pytest.raises(SourceError, match="cannot be read"):
            next(iter(reading))

    assert given
    assert not reading.complete
    assert not reading.origins
    assert read(f"{mysql}#many")[1].origins[0].rows == 200_000


def test_rows_come_from_one_snapshot(postgresql: str) -> None:
    execute(
        postgresql,
        "CREATE TABLE moving AS SELECT DATE '2024-01-01' AS instant, repeat('A', 100) AS sku, 1 AS qty, "
        "1 AS paid, i AS line FROM generate_series(1, 200000) AS i",
    )
    began = threading.Event()
    write = sql._Sink.write

    def meanwhile(sink: Any, data: bytes) -> int:
        if not began.is_set():
            began.set()
            execute(postgresql, "INSERT INTO moving SELECT * FROM moving", "DELETE FROM moving WHERE line > 199990")
        return write(sink, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql._Sink, "write", meanwhile)
        frame, _ = read(f"{postgresql}#moving")

    assert began.is_set()
    assert len(frame) == frame["line_id"].nunique() == 200_000


def test_what_postgresql_writes_and_no_date_or_number_is_set_aside(postgresql: str) -> None:
    execute(
        postgresql,
        "CREATE TABLE strange (instant TIMESTAMPTZ, sku TEXT, qty NUMERIC, paid FLOAT8, line INT)",
        "INSERT INTO strange VALUES ('infinity', 'A', 1, 1, 1), ('2024-01-01', 'B', 'NaN', 1, 2), "
        "('2024-01-01 BC', 'C', 1, 1, 3), ('2024-01-01', 'D', 1, '-infinity', 4), ('2024-01-01', 'E', 1, 1, 5)",
    )

    frame, reading = read(f"{postgresql}#strange")

    assert frame["product_id"].tolist() == ["E"]
    rejected = pd.concat(reading.rejected)
    assert rejected["line"].tolist() == [1, 2, 3, 4]
    assert [reason.split()[0] for reason in rejected["reason"]] == ["time", "quantity", "time", "unit_price"]


def test_a_column_of_sqlite_that_turns_to_text_is_set_aside_from_there_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    sqlite3.connect(tmp_path / "shop.db").close()
    execute(
        url,
        "CREATE TABLE order_lines (instant, sku, qty, paid, line)",
        "INSERT INTO order_lines VALUES ('2024-01-01', '01', 1, 2.5, 1), ('2024-01-01', '02', 'many', 2.5, 2)",
    )

    frame, reading = read(url)

    assert frame["product_id"].tolist() == ["01"]
    assert reading.rejected[0]["reason"].tolist() == ["quantity is no number"]


def test_a_table_without_rows_gives_none(database: str) -> None:
    execute(database, "DELETE FROM order_lines")

    frame, reading = read(database, since=dt.datetime(2024, 1, 1, tzinfo=BERLIN))

    assert frame.empty
    assert reading.origins[0].rows == 0
    assert reading.complete


def test_a_password_with_signs_comes_from_the_environment_and_is_never_shown(mysql: str) -> None:
    fill(mysql)
    reading = reading_of(mysql)
    rows = sum(len(chunk.frame) for chunk in reading)
    execute(mysql, "DROP TABLE order_lines")

    assert rows == 3
    assert "p@ss" not in str(reading.origins)
    assert "p%40ss" not in str(reading.origins)
