"""Open databases for reading only: one snapshot, one statement, a time limit, and errors without passwords."""

import logging
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pricing.errors import SourceError, first_line
from pricing.fileio import redact_text, redact_url, with_driver

_log = logging.getLogger(__name__)

_END = "; \t\r\n"
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\r\n]*|/\*(?:(?!/\*).)*?\*/""", re.DOTALL)
_READ_DIFFERENTLY = ("\\", "$", "`", "[", "#")  # escapes, dollar quotes, names in `` or [], comments behind #
_PARTS = (";", "'", '"', "/*", "*/")  # what is left of a quote or a comment has no end, or lies in another
_TOO_SLOW = ("statement timeout", "interrupted", "max_statement_time exceeded", "maximum statement execution time")
_WRITES = ("read-only transaction", "readonly database", "not authorized", "data-modifying", "read only transaction")


@dataclass(frozen=True)
class Database:
    """A connection that may only read.

    Attributes:
        connection: In a transaction of its own, which sees one state of the tables throughout where it is PostgreSQL,
            MySQL or MariaDB; on SQLite that holds for each statement.
        shown: The address without its password.
    """

    connection: sa.Connection
    shown: str

    @property
    def dialect(self) -> str:
        """The kind of database, such as "postgresql"; "mysql" for MariaDB, too."""
        name = self.connection.dialect.name
        return "mysql" if name == "mariadb" else name


@contextmanager
def open_database(address: str, *, seconds: float) -> Iterator[Database]:
    """Connects, lets the database refuse whatever writes, and tells errors inside the block in words.

    Args:
        address: An SQLAlchemy URL.
        seconds: How long each statement may take.

    Raises:
        SourceError: The address is unusable, the server does not answer, or a statement fails inside the block.
    """
    try:
        url = sa.make_url(with_driver(address))
        shown = redact_url(address)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise SourceError(f"{shown}: the file {url.database or ''} does not exist")
        engine = sa.create_engine(url, connect_args=_for_reading(url, seconds=seconds))
        raised = engine.dialect.loaded_dbapi.Error
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as error:
        # The text of a bare ValueError quotes what may be a part of the password.
        why = (
            "its user, password, host or port cannot be told apart" if type(error) is ValueError else first_line(error)
        )
        raise SourceError(
            f"{address.split('://', maxsplit=1)[0]}://…: is no usable database URL: {why}; "
            "expected for example postgresql://user:password@host/database#table"
        ) from error
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            _only_read(connection, shown, seconds=seconds)
            yield Database(connection, shown)
    except (sa.exc.SQLAlchemyError, UnicodeDecodeError, sqlite3.Error, raised) as error:
        raise _in_words(error, shown, seconds=seconds) from error
    finally:
        engine.dispose()


def select(database: Database, what: str) -> sa.FromClause | sa.TextClause:
    """The table, or the query in brackets, that stands behind # of an address, to select from.

    Args:
        database: The database.
        what: `table`, `schema.table`, or one statement that begins with SELECT or WITH.

    Raises:
        SourceError: There is no such table, or the query may be several statements.
    """
    if is_query(what):
        # A colon would begin a parameter of SQLAlchemy's; a line end keeps a comment from hiding the bracket.
        query = one_statement(what, shown=database.shown).rstrip(_END).replace(":", "\\:")
        return sa.text(f"({query}\n) AS queried")
    table, _ = find_table(database, what)
    return table


def is_query(what: str) -> bool:
    """Whether a text behind # is a query; otherwise it is the name of a table."""
    return what.split(maxsplit=1)[0].lower() in ("select", "with")


def one_statement(query: str, *, shown: str) -> str:
    """The query as it is.

    Raises:
        SourceError: It may be several statements.
    """
    if _may_be_several(query):
        raise SourceError(
            f"{shown}: expected one statement behind #, found a ';' that may part several; give one SELECT without "
            "';' (one in a text or comment passes, unless the query also has a backslash, $, `, [ or #)"
        )
    return query


def find_table(database: Database, what: str) -> tuple[sa.TableClause, list[str]]:
    """A table or view by its name, which the database has, and the names of its columns.

    Raises:
        SourceError: There is no such table; names those that are there.
    """
    schema, _, name = what.rpartition(".")
    inspector = sa.inspect(database.connection)
    if not inspector.has_table(name, schema or None):
        there = ", ".join(
            sorted([*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)])
        )
        raise SourceError(
            f"{database.shown}: has no table {what!r} (found {there or 'none'}); add #table or #SELECT … to the URL"
        )
    names = [column["name"] for column in inspector.get_columns(name, schema or None)]
    return sa.table(name, *(sa.column(column) for column in names), schema=schema or None), names


def _in_words(error: Exception, shown: str, *, seconds: float) -> SourceError:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    if any(word in str(cause) for word in _TOO_SLOW):
        return SourceError(f"{shown}: the query took longer than {seconds:g} s; narrow it, or raise data.sql_seconds")
    if any(word in str(cause).lower() for word in _WRITES):
        return SourceError(
            f"{shown}: sales are read in a read-only transaction, and the query would write: {first_line(cause)}"
        )
    return SourceError(f"{shown}: cannot be read: {redact_text(first_line(cause))}")


def _only_read(connection: sa.Connection, shown: str, *, seconds: float) -> None:
    """Lets the database refuse whatever writes, and end what takes too long.

    PostgreSQL, MySQL, MariaDB and SQLite are asked to; of another database the account alone decides what it may do.
    """
    name = connection.dialect.name
    if name == "postgresql":
        with closing(connection.connection.cursor()) as cursor:  # not one on the server, which takes only queries
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {_milliseconds(seconds)}")
    elif name in ("mysql", "mariadb"):
        limit = (
            f"max_statement_time = {max(0.001, seconds):.3f}"
            if getattr(connection.dialect, "is_mariadb", False)
            else f"max_execution_time = {_milliseconds(seconds)}"
        )
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(f"SET SESSION {limit}, SESSION time_zone = '+00:00'")  # a TIMESTAMP comes without its zone
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    elif name == "sqlite":
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA query_only = ON")
        end = time.monotonic() + seconds
        raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    else:
        _log.warning("%s: no read-only transaction is known for %s; give an account that may only read", shown, name)


def _may_be_several(query: str) -> bool:
    """Whether a query is not surely one statement: it has a semicolon that may part two.

    Where databases differ in what they take for a quote or a comment, a semicolon counts, whatever it stands in.
    """
    if ";" not in query.rstrip(_END):
        return False
    rest = _QUOTED.sub(" ", query).rstrip(_END)
    return any(sign in query for sign in _READ_DIFFERENTLY) or any(sign in rest for sign in _PARTS)


def _for_reading(url: sa.URL, *, seconds: float) -> dict[str, Any]:
    """What PostgreSQL is told on connecting: that it holds for every transaction, not for the first alone."""
    if url.get_backend_name() in ("mysql", "mariadb"):
        return {"connect_timeout": 30, "charset": "utf8mb4"}
    if url.get_backend_name() != "postgresql":
        return {}
    own = url.query.get("options", "")
    own = own if isinstance(own, str) else " ".join(own)
    ours = f"-c default_transaction_read_only=on -c statement_timeout={_milliseconds(seconds)}"
    return {"options": f"{own} {ours}".strip()}


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))
