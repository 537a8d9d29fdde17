"""The platform's database, PostgreSQL or SQLite: how it is opened, records that only grow, locks across machines."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from pricing.errors import LockError, RegistryError, first_line
from pricing.fileio import redact_url, with_driver

LOCK_SECONDS = 30  # that a statement waits for another process, such as a promotion
_CONNECT: dict[str, dict[str, Any]] = {
    "postgresql": {
        "connect_timeout": 5,
        "tcp_user_timeout": LOCK_SECONDS * 1000,
        "client_encoding": "utf8",  # of SQL_ASCII psycopg would make bytes
    },
    "sqlite": {"timeout": LOCK_SECONDS},
}
_GUARDS = {  # statements that let a table only grow
    "sqlite": (
        "CREATE TRIGGER IF NOT EXISTS {0}_no_update BEFORE UPDATE ON {0} "
        "BEGIN SELECT RAISE(ABORT, '{0} is append-only'); END",
        "CREATE TRIGGER IF NOT EXISTS {0}_no_delete BEFORE DELETE ON {0} "
        "BEGIN SELECT RAISE(ABORT, '{0} is append-only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION {0}_frozen() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '{0} is append-only'; END $$",
        "CREATE TRIGGER {0}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {0} "
        "FOR EACH STATEMENT EXECUTE FUNCTION {0}_frozen()",
    ),
}
# Of a session that holds a lock for hours: within two minutes the server notices that its machine is gone.
_KEEPALIVES = {"tcp_keepalives_idle": 60, "tcp_keepalives_interval": 15, "tcp_keepalives_count": 4}


def open_engine(url: str) -> sa.Engine:
    """Makes the engine of a database and connects to nothing yet; raises ArgumentError where the URL is none."""
    try:
        parsed = sa.make_url(with_driver(url))
    except ValueError as error:  # its text quotes what may be a part of the password
        raise sa.exc.ArgumentError("its parts cannot be told apart: write @ : / in them as %40 %3A %2F") from error
    return sa.create_engine(parsed, connect_args=_CONNECT.get(parsed.get_backend_name(), {}), poolclass=sa.NullPool)


def append_only(name: str, key: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table that refuses every change of what it holds: entries in `sequence` from 1, for each value of `key`."""
    own: list[sa.Column[Any]] = [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(key, sa.String(300), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("who", sa.String(300), nullable=False),
    ]
    # Two concurrent entries cannot take the same place, whatever the database's own locks do.
    in_order = sa.UniqueConstraint(key, "sequence", name=f"{name}_in_order")
    table = sa.Table(name, sa.MetaData(), *own, in_order, *columns)
    for dialect, statements in _GUARDS.items():
        for statement in statements:
            guard = sa.DDL(statement.format(name)).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            sa.event.listen(table, "after_create", guard)
    return table


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One line of a record: its fields are columns of the table. `at` is UTC, `who` the person or job that acts."""

    sequence: int = 0
    at: str
    who: str


Entry = TypeVar("Entry", bound=LedgerEntry)


class Turn(Generic[Entry]):
    """The record of one key while this process alone may write to it."""

    def __init__(self, connection: sa.Connection, table: sa.Table, kind: type[Entry], key: str) -> None:
        self._connection = connection
        self._table = table
        self._kind = kind
        self._key = key
        self._key_column = table.columns[1]  # as `append_only` orders them

    def entries(self, *, after: int = 0) -> list[Entry]:
        """Every entry behind that of sequence `after`, oldest first."""
        sequence = self._table.c.sequence
        own = [self._table.c[field.name] for field in fields(self._kind)]
        query = sa.select(*own).where(self._key_column == self._key, sequence > after).order_by(sequence)
        return [self._kind(**row) for row in self._connection.execute(query).mappings()]

    def append(self, entry: Entry) -> Entry:
        """Writes an entry in the next place; it is committed when the turn ends without an error."""
        query = sa.select(sa.func.max(self._table.c.sequence)).where(self._key_column == self._key)
        last = self._connection.execute(query).scalar() or 0
        placed = replace(entry, sequence=last + 1)
        self._connection.execute(self._table.insert().values({**asdict(placed), self._key_column.name: self._key}))
        return placed


class Ledger(Generic[Entry]):
    """Entries of an append-only table. Every method raises RegistryError, in one line, when the database refuses."""

    def __init__(self, url: str, table: sa.Table, kind: type[Entry]) -> None:
        """Opens the database, PostgreSQL or SQLite by an SQLAlchemy URL, and makes nothing in it."""
        self._table = table
        self._kind = kind
        self.where = f"{table.name} in {redact_url(url)} (PRICING_DATABASE_URL)"
        with database_errors(self.where):
            self._engine = open_engine(url)

    def entries(self, key: str, *, after: int = 0) -> list[Entry]:
        """Every entry of a key behind that of sequence `after`, oldest first; none where the table was never made."""
        file = _sqlite_file(self._engine)
        if file is not None and not file.exists():
            return []
        with database_errors(self.where), self._engine.connect() as connection:
            made = sa.inspect(connection).has_table(self._table.name)
            return Turn(connection, self._table, self._kind, key).entries(after=after) if made else []

    @contextmanager
    def turn(self, key: str) -> Iterator[Turn[Entry]]:
        """Locks the record of a key, waiting if need be: a transaction, rolled back by any error."""
        with database_errors(self.where):
            create_tables(self._engine, self._table.metadata)
            with self._engine.begin() as connection:
                lock_transaction(connection, f"{self._table.name}/{key}")
                yield Turn(connection, self._table, self._kind, key)


@contextmanager
def database_errors(where: str) -> Iterator[None]:
    """Raises what goes wrong with a database as RegistryError, in one line that begins with `where`."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, ImportError, OSError, UnicodeError) as error:
        raise RegistryError(f"{where}: {first_line(error)}") from error


def create_tables(engine: sa.Engine, metadata: sa.MetaData) -> None:
    """Makes the tables that are missing, and the folder of an SQLite file; several processes may do so at once."""
    file = _sqlite_file(engine)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        metadata.create_all(engine)
    except sa.exc.SQLAlchemyError:  # another process may have made them meanwhile; anything else is an error
        if not set(metadata.tables) <= set(sa.inspect(engine).get_table_names()):
            raise


def lock_transaction(connection: sa.Connection, name: str, *, seconds: int = LOCK_SECONDS) -> None:
    """Waits until no other transaction has this lock, before it has read anything; SQLite locks its whole file."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_key(name))))


@contextmanager
def session_lock(url: str, name: str) -> Iterator[tuple[int, ...]]:
    """Holds a lock in PostgreSQL for as long as a job runs, and yields the file descriptors that hold it.

    The lock goes with its connection: when the process and every child that inherits the descriptor have ended, and at
    the latest two minutes after its machine has gone. SQLite serves one machine, whose files have locks of their own:
    there nothing is locked. Raises LockError where another process holds it.
    """
    if not url.startswith("postgres"):
        yield ()
        return
    where = f"lock of {name} in {redact_url(url)} (PRICING_DATABASE_URL)"
    with database_errors(where):
        connection = open_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with database_errors(where):
            for setting, value in _KEEPALIVES.items():
                connection.exec_driver_sql(f"SET {setting} = {value}")
            taken = connection.execute(sa.select(sa.func.pg_try_advisory_lock(_key(name)))).scalar()
        if not taken:
            raise LockError(f"{name} is running already, and holds its lock in PRICING_DATABASE_URL; wait for its end")
        driver = connection.connection.driver_connection
        yield (driver.fileno(),) if driver is not None else ()
    finally:
        connection.invalidate()  # closes it, also where the server has gone meanwhile
        connection.close()


def _sqlite_file(engine: sa.Engine) -> Path | None:
    url = engine.url
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _key(name: str) -> int:
    """A name as PostgreSQL numbers its locks: a signed number of 64 bits."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
