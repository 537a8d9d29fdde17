"""Make rows of the data contract of the tables that lie in DuckDB, by the statements in `sql/`."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import duckdb

from etl.report import Match, Report
from etl.settings import COLUMNS, NEEDED, TYPES
from pricing.errors import SourceError

ROW_COLUMNS = tuple(COLUMNS["sales"])
REACH = 28
"""Days after a product's last sale or stock on which days without a sale still get a row of 0 units."""
CLOSED = 7
"""Days for which a count of stock holds while the store is closed."""
EVER = date(1970, 1, 1)
_JUDGED = {  # table: the one with the reason of each of its rows, NULL where it is used
    "sales": "finished",
    "order_lines": "judged",
    "stock": "counted",
    "products": "mastered",
    "promotions": "promoted",
    "deliveries": "delivered",
    "events": "evented",
    "competitors": "offered",
}
_JOINED = {  # table: what says that it knew something of a row, and what is left of it
    "stock": ("stock IS NOT NULL", "openings"),
    "products": ("in_master", "master"),
    "promotions": ("is_promo > 0", "(FROM promoted WHERE reason IS NULL)"),
    "competitors": ("comp_price IS NOT NULL", "rivals"),
}
OFTEN = 0.25
"""Share of discounted lines above which a shelf price that nobody names is often wrong where few buy."""
ALMOST_ALL = 0.95
"""Share of lines below the price that they name, above which nobody pays that price."""
ROUNDING = 0.01
"""Relative difference of prices that are equal but for rounding."""
_CONFLICTS = 0.2  # share of lines with another's id from which the id is none
_LEAST_CONFLICTS = 100  # number of such lines
_SQL = Path(__file__).parent / "sql"
_EXAMPLES = 3


def create_empty(con: duckdb.DuckDBPyConnection) -> None:
    """Creates the tables that nothing was extracted to, and those of former rows."""
    for name, columns in COLUMNS.items():
        cells = ", ".join(f"{column} {TYPES[kind]}" for column, kind in columns.items())
        con.execute(f"CREATE TABLE IF NOT EXISTS {name} ({cells}, fault VARCHAR)")
    con.execute("CREATE TABLE former_rows (date DATE, product_id VARCHAR, units_sold DOUBLE, stock DOUBLE)")
    con.execute("CREATE TABLE last_prices (product_id VARCHAR, parent_id VARCHAR, price DOUBLE)")


def make_rows(
    con: duckdb.DuckDBPyConnection,
    *,
    finished: bool,
    first: date | None,
    today: date,
    max_age: int,
    discounts: Mapping[str, float],
) -> None:
    """Fills the tables `made`, `plan`, `delivery_plan` and `event_plan`.

    Args:
        con: Holds all tables of `COLUMNS`, and of a night what former rows tell.
        finished: Whether rows come finished, and not from order lines.
        first: The first day of rows; None: that of the first sale.
        today: The shop's day, which is not over yet.
        max_age: Days after which a competitor's price is unknown.
        discounts: What the last full run found of them (`discounts_found`); empty of a full run.

    Raises:
        SourceError: `line_id` tells no lines apart, or nothing usable was sold.
    """
    con.execute(f"SET VARIABLE first = DATE '{first or EVER}'; SET VARIABLE today = DATE '{today}'")
    con.execute(f"SET VARIABLE reach = {REACH}; SET VARIABLE closed = {CLOSED}; SET VARIABLE max_age = {max_age}")
    for name, value in discounts.items():
        con.execute(f"SET VARIABLE known_{name} = {value!r}::DOUBLE")
    of_rows = ["sales"] if finished else ["stock", "competitors", "rows"]
    for step in ("order_lines", "shelf_prices", "days", "products", "plans", *of_rows):
        con.execute((_SQL / f"{step}.sql").read_text(encoding="utf-8"))
        if step == "order_lines":
            _refuse_shared_ids(con)
    if not _number(con, "SELECT count(*) FROM made"):
        raise SourceError("etl: no row of sales could be made: no line that was read can be used")


def discounts_found(con: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """What `make_rows` found or was given of discounts on order lines, for the nights to come."""
    variables = ("discounted", "deepest", "named")
    values = con.execute(f"SELECT {', '.join(f'getvariable({name!r})' for name in variables)}").fetchall()[0]
    return {name: value for name, value in zip(variables, values, strict=True) if value is not None}


def tell(con: duckdb.DuckDBPyConnection, report: Report, *, after: date) -> None:
    """Enters into the report what became of the rows read.

    Args:
        con: After `make_rows`.
        report: Its tables are counted on.
        after: Returns since then are told of: the run that read earlier ones first has taken them off.
    """
    for name, table in report.tables.items():
        if name not in _JUDGED:
            continue
        needed = ("product_id", "moment", "units") if name == "order_lines" else NEEDED[name]
        example = " || ', ' || ".join(f"'{column} ' || coalesce(CAST({column} AS VARCHAR), '-')" for column in needed)
        reasons = con.execute(
            f"SELECT reason, count(*), arg_min({example}, seq) FROM {_JUDGED[name]} WHERE reason IS NOT NULL "
            "GROUP BY ALL"
        ).fetchall()
        for reason, rows, shown in reasons:
            table.aside[reason] = rows
            table.examples[reason] = str(shown)[:160]
            table.used -= rows

    report.matches = [_match(con, name) for name in _JOINED if _number(con, f"SELECT count(*) FROM {name}")]
    ((report.rows, report.products, begins, ends),) = con.execute(
        "SELECT count(*), count(DISTINCT product_id), min(date), max(date) FROM made"
    ).fetchall()
    report.begins = str(begins)
    report.ends = str(ends)
    query = "SELECT coalesce(sum(back), 0), coalesce(sum(beyond), 0) FROM stacked WHERE date > $1"
    ((returned, beyond),) = con.execute(query, [after]).fetchall()
    report.returned = round(float(returned), 9)
    report.left_out = round(float(beyond), 9)
    if "order_lines" in report.tables:
        _tell_discounts(con, report)


def _tell_discounts(con: duckdb.DuckDBPyConnection, report: Report) -> None:
    ((lines, discounted, paid, taken_off),) = con.execute(
        "SELECT sum(lines), sum(discounted), sum(paid), sum(taken_off) FROM shelves"
    ).fetchall()
    report.between = _number(con, "SELECT count(*) FROM made WHERE is_between")
    report.discounted = round(discounted / lines, 4)
    report.taken_off = round(taken_off / (paid + taken_off), 4)
    report.buyers = _number(con, "SELECT getvariable('buyers')")

    ((below, spread, share),) = con.execute(
        "SELECT count(*) FILTER (price < 0.99 * full_price), quantile_cont(price / full_price, 0.95) - "
        "quantile_cont(price / full_price, 0.05), avg((price < 0.99 * full_price)::INTEGER) FROM closed"
    ).fetchall()
    ((confirmed,),) = con.execute("SELECT getvariable('confirmed')").fetchall()
    if confirmed is False:
        report.advice.append(
            "the full prices that order lines name (list_price, unit_price, discount) are not what other buyers pay, "
            "and are not used: is discount a percentage and not money off the line, or unit_price a price after it?"
        )
    elif share > ALMOST_ALL and spread < ROUNDING:
        report.advice.append(
            "amount is the same part of unit_price on every line: if it is without tax, leave it out, since prices "
            "hold the tax"
        )
    elif report.discounted > OFTEN and not below:
        report.advice.append(
            f"{report.discounted:.0%} of order lines are discounted, so that single prices stay uncertain: name the "
            "column with the full price of a unit as list_price, or with what was taken off the line as discount"
        )


def _match(con: duckdb.DuckDBPyConnection, name: str) -> Match:
    met, theirs = _JOINED[name]
    ((rows, matched),) = con.execute(f"SELECT count(*), count(*) FILTER ({met}) FROM made").fetchall()
    lonely = {
        "sales": f"SELECT product AS id FROM made GROUP BY ALL HAVING NOT bool_or(coalesce({met}, false))",
        name: f"SELECT DISTINCT product_id AS id FROM {theirs} WHERE product_id NOT IN (SELECT product FROM made)",
    }
    counts = {side: _number(con, f"SELECT count(*) FROM ({query})") for side, query in lonely.items()}
    examples = [
        f"{side} only: {row[0]}"
        for side, query in lonely.items()
        for row in con.execute(f"SELECT id FROM ({query}) ORDER BY id LIMIT {_EXAMPLES}").fetchall()
    ]
    return Match(
        table=name,
        rows=rows,
        matched=matched,
        sales_only=counts["sales"],
        table_only=counts[name],
        examples=examples,
    )


def _refuse_shared_ids(con: duckdb.DuckDBPyConnection) -> None:
    lines = _number(con, "SELECT count(*) FROM identified")
    shared = _number(con, "SELECT count(*) FROM versions WHERE NOT same")
    if shared > max(_LEAST_CONFLICTS, _CONFLICTS * lines):
        raise SourceError(
            f"etl.tables.order_lines: expected line_id to tell order lines apart, found {shared:,} of {lines:,} lines "
            "with the id of another line and other content; is it the number of a line within its order? Join both in "
            "a query, or leave line_id out"
        )


def _number(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(con.execute(query).fetchall()[0][0])
