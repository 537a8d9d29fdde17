"""Open a shop's database for reading only: one snapshot, one statement, a time limit, errors without passwords."""

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pricing.errors import SourceError, first_line
from pricing.fileio import redact_text, redact_url, with_driver

_log = logging.getLogger(__name__)

SQL_SECONDS = 600.0  # that a statement may take
_TOO_SLOW = ("statement timeout", "interrupted", "during query (timed out")


@dataclass(frozen=True)
class Database:
    """A connection that may only read."""

    # In a transaction that sees one state of the tables in PostgreSQL; on SQLite that holds for each statement:
    connection: sa.Connection
    shown: str  # the address without its password


@contextmanager
def open_database(address: str, *, seconds: float) -> Iterator[Database]:
    """Connect by an SQLAlchemy URL, let the database refuse whatever writes, and turn errors inside the block to words.

    Each statement may take `seconds`. Raises SourceError where the address is unusable, the server does not answer, or
    a statement fails.
    """
    try:
        url = sa.make_url(with_driver(address))
        shown = redact_url(address)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise SourceError(f"{shown}: the file {url.database or ''} does not exist")
        engine = _engine(url, shown, seconds=seconds)
        raised = engine.dialect.loaded_dbapi.Error
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as error:
        # The text of a bare ValueError quotes what may be a part of the password.
        why = "user, password, host or port cannot be told apart" if type(error) is ValueError else first_line(error)
        raise SourceError(
            f"{address.split('://', maxsplit=1)[0]}://…: is no usable database URL: {why}; "
            "expected for example postgresql://user:password@host/database#table"
        ) from error
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA query_only = ON")
                end = time.monotonic() + seconds
                raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
            yield Database(connection, shown)
    except (sa.exc.SQLAlchemyError, UnicodeError, sqlite3.Error, raised) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
        if any(word in str(cause) for word in _TOO_SLOW):
            raise SourceError(f"{shown}: the query took longer than {seconds:g} s; narrow it") from error
        raise SourceError(f"{shown}: cannot be read: {redact_text(first_line(cause))}") from error
    finally:
        engine.dispose()


def _engine(url: sa.URL, shown: str, *, seconds: float) -> sa.Engine:
    """Prepare connections whose every transaction may only read; of an unknown database the account decides that."""
    name = url.get_backend_name()
    given: dict[str, Any]
    if name == "postgresql":
        # Of SQL_ASCII psycopg would make bytes.
        encoding = url.query.get("client_encoding", "utf8")
        given = {"options": read_only_options(url, seconds), "client_encoding": encoding}
        return sa.create_engine(url, connect_args=given, isolation_level="REPEATABLE READ")
    if name in ("mysql", "mariadb"):
        limits = {"connect_timeout": 30, "read_timeout": max(1, int(seconds))}
        given = {"init_command": "SET SESSION TRANSACTION READ ONLY", "charset": "utf8mb4", **limits}
        return sa.create_engine(url, connect_args=given, isolation_level="REPEATABLE READ")
    if name != "sqlite":
        _log.warning("%s: no read-only transaction of %s is known; give an account that may only read", shown, name)
    return sa.create_engine(url)


def read_only_options(url: sa.URL, seconds: float) -> str:
    """PostgreSQL's options of a session that may only read, `seconds` a statement, after those of the address."""
    limits = f"-c default_transaction_read_only=on -c statement_timeout={max(1, int(1000 * seconds))}"
    return f"{url.query.get('options', '')} {limits}".strip()


def select(database: Database, what: str) -> sa.FromClause | sa.TextClause:
    """Find what stands behind # of an address: `table`, `schema.table`, or one statement, SELECT or WITH.

    Raises:
        SourceError: There is no such table, or the query may be several statements.
    """
    if what.split(maxsplit=1)[0].lower() in ("select", "with"):
        query = what.rstrip("; \t\r\n")
        if ";" in query:
            raise SourceError(
                f"{database.shown}: expected one SELECT without ';' behind #, since that may part several"
            )
        # A colon would begin a parameter of SQLAlchemy's; a line end keeps a comment from hiding the bracket.
        return sa.text("(" + query.replace(":", "\\:") + "\n) AS queried")
    schema, _, name = what.rpartition(".")
    inspector = sa.inspect(database.connection)
    if not inspector.has_table(name, schema or None):
        there = sorted([*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)])
        raise SourceError(
            f"{database.shown}: has no table {what!r} (found {', '.join(there) or 'none'}); "
            "add #table or #SELECT … to the URL"
        )
    return sa.table(name, schema=schema or None)


def column_names(database: Database, rows: sa.FromClause | sa.TextClause) -> list[str]:
    """The columns of what `select` found."""
    return list(database.connection.execute(sa.select(sa.text("*")).select_from(rows).limit(0)).keys())
