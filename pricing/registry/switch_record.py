"""The record of switches in the platform's database: who froze or gave which prices, when and why; append-only.

What is in force is the last entry of each scope and name, unless that ended it or its time is over.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table, func, select
from sqlalchemy.exc import SQLAlchemyError

from pricing.decision.switches import Scope, Switch, Switches
from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url
from pricing.registry.database import create_tables, make_folder, open_engine, reading

Action = Literal["freeze", "override", "unfreeze"]

_WAIT_SECONDS = 5  # for a connection and for a statement: what is in force is read every few seconds
LOCK_SECONDS = 30.0  # that a person's command waits for the lock of SQLite, which a promotion may hold that long
_METADATA = MetaData()
_RECORD = Table(
    "pricing_switches",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", String(300), nullable=False),
    Column("at", String(40), nullable=False),
    Column("who", String(300), nullable=False),
    Column("action", String(20), nullable=False),
    Column("scope", String(20), nullable=False),
    Column("name", String(200), nullable=False),
    Column("price", Float),
    Column("until", String(40)),
    Column("why", String, nullable=False),
    Column("below_cost", Boolean, nullable=False),
)


@dataclass(frozen=True)
class SwitchEntry:
    """One line of the record.

    Attributes:
        at: When, UTC.
        who: The person or job that acted.
        action: What was done.
        scope: What it was done to.
        name: The category or product; empty for all.
        why: The reason, in words.
        price: The price of an override.
        until: When it ends, UTC; None where only a person ends it.
        below_cost: Whether the price of an override counts below cost, too.
    """

    at: dt.datetime
    who: str
    action: Action
    scope: Scope
    name: str
    why: str
    price: float | None = None
    until: dt.datetime | None = None
    below_cost: bool = False

    @classmethod
    def of(cls, switch: Switch) -> "SwitchEntry":
        """The entry that sets a switch."""
        return cls(
            at=switch.at,
            who=switch.by,
            action=switch.action,
            scope=switch.scope,
            name=switch.name,
            why=switch.reason,
            price=switch.price,
            until=switch.until,
            below_cost=switch.below_cost,
        )


def in_force(entries: Sequence[SwitchEntry], *, at: dt.datetime) -> Switches:
    """The switches that a record leaves in force at a moment; entries are in the order in which they were written."""
    last = {(entry.scope, entry.name): entry for entry in entries}
    return Switches(
        Switch(
            action=entry.action,
            scope=entry.scope,
            name=entry.name,
            price=entry.price,
            until=entry.until,
            reason=entry.why,
            by=entry.who,
            at=entry.at,
            below_cost=entry.below_cost,
        )
        for entry in last.values()
        if entry.action != "unfreeze"
    ).at(at)


class SwitchRecord:
    """The record of one registered model's switches.

    Every method raises RegistryError, in one line, within seconds when the database does not answer or refuses.
    """

    def __init__(self, url: str, *, model: str, lock_seconds: float = _WAIT_SECONDS) -> None:
        """Opens the database, PostgreSQL or SQLite; makes nothing in it.

        Args:
            url: An SQLAlchemy URL.
            model: The registered model's name: shops that share a database share no switch.
            lock_seconds: How long each statement waits for another process that has an SQLite database locked.
        """
        self._lock_seconds = lock_seconds
        self._model, self._name = model, redact_url(url)
        with self._translated_errors():
            self._engine = open_engine(url, lock_seconds=lock_seconds, statement_seconds=_WAIT_SECONDS)

    def entries(self) -> list[SwitchEntry]:
        """Every entry, oldest first; none where the table was never made."""
        with self._translated_errors(), reading(self._engine, _RECORD) as connection:
            if connection is None:
                return []
            columns = [column for column in _RECORD.columns if column.name not in ("id", "model")]
            query = select(*columns).where(_RECORD.c.model == self._model).order_by(_RECORD.c.id)
            return [_entry(dict(row)) for row in connection.execute(query).mappings()]

    def extent(self) -> tuple[int, int, str]:
        """How many entries there are, the highest number and the latest time: a look that costs less than reading all.

        Of two that are written at the same time, the one with the lower number may appear after the other. A database
        that was restored from a copy gives the same number twice, at another time.
        """
        with self._translated_errors(), reading(self._engine, _RECORD) as connection:
            if connection is None:
                return 0, 0, ""
            found = select(func.count(), func.max(_RECORD.c.id), func.max(_RECORD.c.at))
            count, newest, latest = connection.execute(found.where(_RECORD.c.model == self._model)).one()
            return int(count), int(newest or 0), str(latest or "")

    def append(self, entry: SwitchEntry) -> None:
        """Writes an entry, and makes the table where there is none."""
        values = {**vars(entry), "at": _utc(entry.at), "until": None if entry.until is None else _utc(entry.until)}
        with self._translated_errors():
            make_folder(self._engine)
            create_tables(self._engine, _METADATA)
            with self._engine.begin() as connection:
                connection.execute(_RECORD.insert().values(**values, model=self._model))

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError, OSError) as error:
            line = first_line(error)
            if "database is locked" in line:
                line = (
                    f"another process has held the database's lock for {self._lock_seconds:g} s, such as a promotion; "
                    "nothing was written: run it again"
                )
            raise RegistryError(f"record of switches {self._name} (PRICING_DATABASE_URL): {line}") from error


def _entry(row: dict[str, Any]) -> SwitchEntry:
    until = row["until"]
    times = {
        "at": dt.datetime.fromisoformat(row["at"]),
        "until": None if until is None else dt.datetime.fromisoformat(until),
    }
    return SwitchEntry(**cast("dict[str, Any]", {**row, **times}))


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
