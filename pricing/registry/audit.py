"""The append-only promotion record: what was in production when, by whom and why. Its lock orders promotions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url
from pricing.registry.database import append_only, create_tables, lock_transaction, open_engine
from pricing.registry.files import plain

Action = Literal["promote", "rollback", "anchor", "by_hand"]
Outcome = Literal["done", "refused", "lost"]

_METADATA = MetaData()
_RECORD = append_only(
    Table(
        "pricing_promotions",
        _METADATA,
        Column("id", Integer, primary_key=True),
        Column("registry", String(300), nullable=False),
        Column("sequence", Integer, nullable=False),
        Column("at", String(40), nullable=False),
        Column("who", String(300), nullable=False),
        Column("action", String(20), nullable=False),
        Column("outcome", String(20), nullable=False),
        Column("why", String, nullable=False),
        Column("forced", Boolean, nullable=False),
        Column("from_version", String(40)),
        Column("to_version", String(40)),
        Column("weights", String(80)),
        Column("run_id", String(80)),
        Column("gates", JSON, nullable=False),
        # Two concurrent entries cannot take the same place, whatever the database's own locks do.
        UniqueConstraint("registry", "sequence", name="pricing_promotions_in_order"),
    )
)


@dataclass(frozen=True)
class AuditEntry:
    """One line of the record.

    `at` is UTC, ISO 8601; `who` the person or job that acted, or noticed a change by hand (action "by_hand"). An
    outcome "refused" is the gates', "lost" means that another promotion came first. `to_version` became champion, or
    was to (None: the alias was removed), and has these `weights`; `forced` overruled a gate. `gates` are verdicts as
    JSON, `run_id` is MLflow's, and `sequence`, from 1, is set when the entry is appended.
    """

    at: str
    who: str
    action: Action
    outcome: Outcome
    why: str
    from_version: str | None
    to_version: str | None
    weights: str | None = None
    forced: bool = False
    run_id: str | None = None
    gates: tuple[dict[str, Any], ...] = ()
    sequence: int = 0


class LockedRecord:
    """The record while this process holds its lock."""

    def __init__(self, connection: Connection, registry: str) -> None:
        self._connection = connection
        self._registry = registry

    def entries(self) -> list[AuditEntry]:
        """Every entry of this registry, oldest first."""
        return _entries(self._connection, self._registry)

    def champion(self) -> str | None:
        """The champion according to the record."""
        return champion_of(self.entries())

    def append(self, entry: AuditEntry) -> AuditEntry:
        """Writes an entry; it is committed when the turn ends without an error."""
        placed = replace(entry, sequence=max((known.sequence for known in self.entries()), default=0) + 1)
        values = {**asdict(placed), "registry": self._registry, "gates": plain(placed.gates)}
        self._connection.execute(_RECORD.insert().values(**values))
        return placed


def champion_of(entries: list[AuditEntry]) -> str | None:
    """The champion after the last entry with outcome "done"."""
    done = [entry for entry in entries if entry.outcome == "done"]
    return done[-1].to_version if done else None


class Audit:
    """The promotion record in a database.

    Every method raises RegistryError, in one line, when the database does not answer or refuses.
    """

    def __init__(self, url: str) -> None:
        """Opens the database, PostgreSQL or SQLite by an SQLAlchemy URL, and makes the table where it is missing."""
        self._name = url
        with self._translated_errors():
            self._name = redact_url(url)
            self._engine = open_engine(url)
            create_tables(self._engine, _METADATA)

    def entries(self, registry: str) -> list[AuditEntry]:
        """Every entry of a registry, oldest first."""
        with self._translated_errors(), self._engine.begin() as connection:
            return _entries(connection, registry)

    @contextmanager
    def locked(self, registry: str) -> Iterator[LockedRecord]:
        """Locks the record against other processes, waiting if need be: a transaction, rolled back by any error."""
        with self._translated_errors(), self._engine.begin() as connection:
            lock_transaction(connection, f"promotions/{registry}")
            yield LockedRecord(connection, registry)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise RegistryError(f"promotion record {self._name} (PRICING_DATABASE_URL): {first_line(error)}") from error


def _entries(connection: Connection, registry: str) -> list[AuditEntry]:
    columns = [column for column in _RECORD.columns if column.name not in ("id", "registry")]
    query = select(*columns).where(_RECORD.c.registry == registry).order_by(_RECORD.c.sequence)
    rows = connection.execute(query).mappings()
    return [AuditEntry(**{**cast("dict[str, Any]", dict(row)), "gates": tuple(row["gates"])}) for row in rows]
