"""The platform's database, PostgreSQL or SQLite: how it is opened, its tables made, and locks held across machines."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    DDL,
    Connection,
    Engine,
    MetaData,
    NullPool,
    Table,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pricing.errors import LockError, RegistryError, first_line
from pricing.fileio import redact_url, with_driver

CONNECT_SECONDS = 5
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
_HOLDER = text(
    "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
    "AND ((l.classid::bigint << 32) | l.objid::bigint) = :key"
)


def open_engine(
    url: str, *, lock_seconds: float, statement_seconds: int | None = None, immediate: bool = False, pooled: bool = True
) -> Engine:
    """Makes the engine of a database; connects to nothing yet.

    Args:
        url: An SQLAlchemy URL, PostgreSQL or SQLite.
        lock_seconds: How long a statement waits for another process that has an SQLite database locked.
        statement_seconds: Longest time of a statement in PostgreSQL, which then also gives up a dead connection.
        immediate: Whether a transaction of SQLite takes the write lock at its begin, so that what it reads still holds
            when it writes.
        pooled: Whether connections are kept for the next transaction.

    Raises:
        ArgumentError: The URL cannot be understood.
    """
    try:
        parsed = make_url(with_driver(url))
    except ValueError as error:  # its text quotes what may be a part of the password
        raise ArgumentError("its user, password, host or port cannot be told apart") from error
    more: dict[str, Any] = {} if pooled else {"poolclass": NullPool}
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        waits: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
        if statement_seconds is not None:
            waits["options"] = f"-c statement_timeout={statement_seconds}s"
            waits["tcp_user_timeout"] = statement_seconds * 1000
        return create_engine(parsed, connect_args=waits, pool_pre_ping=True, **more)
    if kind != "sqlite":
        return create_engine(parsed, **more)
    engine = create_engine(parsed, connect_args={"timeout": lock_seconds}, **more)
    if immediate:
        _begin_immediately(engine)
    return engine


def append_only(table: Table) -> Table:
    """Has a table refuse every change of what it holds, from its making on; returns it."""
    for dialect, statements in _GUARDS.items():
        for statement in statements:
            guard = DDL(statement.format(table.name)).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", guard)
    return table


def _begin_immediately(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _take_the_write_lock(connection: Connection) -> None:
        # The driver's own BEGIN lets two processes read the same before either writes.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine, table: Table) -> Iterator[Connection | None]:
    """A connection to read a table by; None, and nothing is made, where nobody has made it or the file of SQLite."""
    file = _sqlite_file(engine)
    if file is not None and not file.exists():
        yield None
        return
    with engine.connect() as connection:
        yield connection if inspect(connection).has_table(table.name) else None


def make_folder(engine: Engine) -> None:
    """Makes the folder of an SQLite database where it is missing.

    Raises:
        OSError: It cannot be made.
    """
    file = _sqlite_file(engine)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)


def _sqlite_file(engine: Engine) -> Path | None:
    url = engine.url
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def create_tables(engine: Engine, metadata: MetaData) -> bool:
    """Makes the tables that are missing, and returns whether there were any; several processes may do so at once."""
    if not _missing(engine, metadata):
        return False
    try:
        metadata.create_all(engine)
    except SQLAlchemyError:  # another process may have made them meanwhile; anything else is an error
        if _missing(engine, metadata):
            raise
    return True


def _missing(engine: Engine, metadata: MetaData) -> bool:
    return not set(metadata.tables) <= set(inspect(engine).get_table_names())


def lock_transaction(connection: Connection, name: str, *, seconds: int) -> None:
    """Makes a transaction of PostgreSQL wait until no other one has this lock; it goes with the transaction.

    A transaction of SQLite needs none: see `immediate` of `open_engine`.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
        connection.execute(select(func.pg_advisory_xact_lock(_key(name))))


@contextmanager
def session_lock(url: str, name: str, *, holder: str) -> Iterator[tuple[int, ...]]:
    """Holds a lock in PostgreSQL for as long as a job runs, and yields the file descriptors that hold it.

    The lock belongs to a connection, and goes with it: when the process ends, however it ends, and at the latest two
    minutes after its machine has gone. A child that inherits the descriptor keeps the connection open, so that the lock
    is not free while an orphaned child runs. SQLite serves one machine, whose files have locks of their own: there
    nothing is locked and nothing yielded.

    Args:
        url: The database's.
        name: What is locked.
        holder: Who holds it, for whoever finds it locked.

    Raises:
        LockError: Another process holds it; says which, and since when.
        RegistryError: The database does not answer.
    """
    try:
        engine = open_engine(url, lock_seconds=CONNECT_SECONDS, pooled=False)
    except (SQLAlchemyError, ImportError) as error:
        raise _lock_error(name, url, error) from error
    if engine.dialect.name != "postgresql":
        yield ()
        return
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except SQLAlchemyError as error:
        raise _lock_error(name, url, error) from error
    try:
        try:
            _take(connection, name, holder=holder)
        except SQLAlchemyError as error:
            raise _lock_error(name, url, error) from error
        driver = connection.connection.driver_connection
        yield (driver.fileno(),) if driver is not None else ()
    finally:
        connection.invalidate()  # closes it, also where the server has gone meanwhile
        connection.close()


def _take(connection: Connection, name: str, *, holder: str) -> None:
    for setting, value in _KEEPALIVES.items():
        connection.exec_driver_sql(f"SET {setting} = {value}")
    connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": holder[:63]})
    if connection.execute(select(func.pg_try_advisory_lock(_key(name)))).scalar():
        return
    found = connection.execute(_HOLDER, {"key": _key(name)}).first()
    who = f"{found[0]} since {found[1]:%Y-%m-%d %H:%M} UTC" if found else "another process"
    raise LockError(f"{name} is running already: {who} holds its lock in PRICING_DATABASE_URL; wait for it to end")


def _lock_error(name: str, url: str, error: Exception) -> RegistryError:
    return RegistryError(f"lock of {name} in {redact_url(url)} (PRICING_DATABASE_URL): {first_line(error)}")


def _key(name: str) -> int:
    """A name as PostgreSQL numbers its locks: a signed number of 64 bits."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
