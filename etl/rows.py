"""Make rows of the data contract of the tables that lie in DuckDB, by the statements in `sql/`."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import duckdb

from etl.report import Match
from etl.settings import COLUMNS, NEEDED
from pricing.errors import SourceError

ROW_COLUMNS = (
    *("date", "product_id", "units_sold", "price", "category", "list_price", "unit_cost", "stock", "comp_price"),
    *("comp_price_age", "is_promo", "is_holiday", "tax_rate", "parent_id"),
)
REACH = 28
"""Days after a product's last sale or stock on which days without a sale still get a row of 0 units."""
EVER = date(1970, 1, 1)
JUDGED = {
    **{"sales": "finished", "order_lines": "judged", "stock": "counted", "products": "mastered"},
    **{"promotions": "promoted", "deliveries": "delivered", "events": "evented", "competitors": "offered"},
}
"""Table: the one with the reason of each of its rows, NULL where it is used."""
_CONFLICTS, _LEAST_CONFLICTS = 0.2, 100  # share and number of lines with another's id from which the id is none
_SQL = Path(__file__).parent / "sql"
_EXAMPLES = 3


def make_rows(
    con: duckdb.DuckDBPyConnection, tables: Iterable[str], *, first: date | None, today: date, max_age: int
) -> None:
    """Fills the tables `made`, `plan`, `delivery_plan` and `event_plan`.

    Args:
        con: Holds the extracted tables, and of a night `former_rows` and `last_prices`.
        tables: Those that were extracted; the others count as empty.
        first: The first day of rows; None: that of the first sale.
        today: The shop's day, which is not over yet.
        max_age: Days after which a competitor's price is unknown.

    Raises:
        SourceError: `line_id` tells no lines apart, or nothing usable was sold.
    """
    given = set(tables)
    for name, columns in COLUMNS.items():
        if name not in given:
            cells = ", ".join(f"{column} {_TYPES[kind]}" for column, kind in columns.items())
            con.execute(f"CREATE TABLE IF NOT EXISTS {name} ({cells}, fault VARCHAR)")
    con.execute("CREATE TABLE IF NOT EXISTS former_rows (date DATE, product_id VARCHAR, units_sold DOUBLE, stock DOUBLE)")
    con.execute("CREATE TABLE IF NOT EXISTS last_prices (product_id VARCHAR, parent_id VARCHAR, price DOUBLE)")
    for variable, value in {"first": first or EVER, "today": today, "reach": REACH, "max_age": max_age}.items():
        shown = f"DATE '{value}'" if isinstance(value, date) else str(value)
        con.execute(f"SET VARIABLE {variable} = {shown}")
    steps = ["order_lines", "days", "products", "plans"]
    steps += ["sales"] if "sales" in given else ["stock", "competitors", "rows"]
    for step in steps:
        con.execute((_SQL / f"{step}.sql").read_text(encoding="utf-8"))
        if step == "order_lines":
            _refuse_shared_ids(con)
    if not _number(con, "SELECT count(*) FROM made"):
        raise SourceError("etl: no row of sales could be made: no line that was read can be used")


_TYPES = {"time": "TIMESTAMPTZ", "day": "DATE", "number": "DOUBLE", "text": "VARCHAR"}


def set_aside(con: duckdb.DuckDBPyConnection, table: str) -> tuple[dict[str, int], dict[str, str]]:
    """Rows of a table by the reason why they are not used, and the first of each."""
    needed = ("product_id", "moment", "units") if table == "order_lines" else NEEDED[table]
    example = " || ', ' || ".join(f"'{name} ' || coalesce(CAST({name} AS VARCHAR), '-')" for name in needed)
    found = con.execute(
        f"SELECT reason, count(*), arg_min({example}, rowid) FROM {JUDGED[table]} WHERE reason IS NOT NULL GROUP BY reason"
    ).fetchall()
    return {row[0]: row[1] for row in found}, {row[0]: str(row[2])[:160] for row in found}


def matches(con: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> list[Match]:
    """How the sales met each table that is joined to them."""
    of = {
        "stock": ("stock IS NOT NULL", "openings"),
        "products": ("in_master", "master"),
        "promotions": ("is_promo > 0", "plan"),
        "competitors": ("comp_price IS NOT NULL", "rivals"),
    }
    found = []
    for name in tables:
        if name not in of:
            continue
        met, theirs = of[name]
        ours = "product_id" if name == "promotions" else "product"
        rows, matched = con.execute(f"SELECT count(*), count(*) FILTER ({met}) FROM made").fetchall()[0]
        lonely = f"SELECT {ours} AS id FROM made GROUP BY ALL HAVING NOT bool_or(coalesce({met}, false))"
        unused = f"SELECT DISTINCT product_id AS id FROM {theirs} WHERE product_id NOT IN (SELECT {ours} FROM made)"
        counts, examples = {}, []
        for side, query in (("sales", lonely), (name, unused)):
            counts[side] = _number(con, f"SELECT count(*) FROM ({query})")
            some = con.execute(f"SELECT id FROM ({query}) ORDER BY id LIMIT {_EXAMPLES}").fetchall()
            examples += [f"{side} only: {row[0]}" for row in some]
        found.append(
            Match(
                table=name,
                rows=rows,
                matched=matched,
                sales_only=counts["sales"],
                table_only=counts[name],
                examples=examples,
            )
        )
    return found


def returned_units(con: duckdb.DuckDBPyConnection, *, after: date) -> tuple[float, float]:
    """Units that came back after a day, and those of them without an earlier sale at their price.

    What came back before was taken off by the run that read it first.
    """
    query = "SELECT coalesce(-sum(units), 0), coalesce(sum(beyond), 0) FROM stacked WHERE units < 0 AND date > $1"
    came, beyond = con.execute(query, [after]).fetchall()[0]
    return round(float(came), 9), round(float(beyond), 9)


def _refuse_shared_ids(con: duckdb.DuckDBPyConnection) -> None:
    lines = _number(con, "SELECT count(*) FROM judged WHERE line_id IS NOT NULL")
    shared = _number(con, "SELECT count(*) FROM judged WHERE reason = 'an earlier version'")
    if shared > max(_LEAST_CONFLICTS, _CONFLICTS * lines):
        raise SourceError(
            f"etl.tables.order_lines: expected line_id to tell order lines apart, found {shared:,} of {lines:,} lines "
            "with the id of another line and other content; is it the number of a line within its order? Join both in "
            "a query, or leave line_id out"
        )


def _number(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(con.execute(query).fetchall()[0][0])
