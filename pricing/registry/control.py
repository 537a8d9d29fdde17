"""What persons have switched and tried: an append-only table in the platform's database, mirrored in the store.

The table decides and is the audit; `MODEL/control.json` is its mirror, which serving reads. A table that has fewer
entries than its mirror is taken to be away, never to be empty: a moved or emptied database ends no freeze.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, UniqueConstraint, select
from sqlalchemy.exc import SQLAlchemyError

from pricing.decision.control import Control, control_of, parse_control
from pricing.decision.experiments import Experiment, Experiments
from pricing.decision.switches import Scope, Switch
from pricing.errors import ConfigError, RegistryError, SourceError, first_line
from pricing.fileio import redact_url
from pricing.objects import ObjectStore
from pricing.registry.database import append_only, create_tables, lock_transaction, open_engine, reading
from pricing.registry.published import control_key

Kind = Literal["switch", "unfreeze", "experiment"]

_EXPERIMENT = TypeAdapter(Experiment)
_METADATA = MetaData()
_TABLE = append_only(
    Table(
        "pricing_control",
        _METADATA,
        Column("id", Integer, primary_key=True),
        Column("model", String(300), nullable=False),
        Column("sequence", Integer, nullable=False),
        Column("at", String(40), nullable=False),
        Column("who", String(300), nullable=False),
        Column("kind", String(20), nullable=False),
        Column("body", String, nullable=False),
        UniqueConstraint("model", "sequence", name="pricing_control_in_order"),
    )
)
_log = logging.getLogger(__name__)


class Unfreeze(BaseModel):
    """The end of a freeze or an override, set by a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Scope
    name: Annotated[str, Field(max_length=200)] = ""
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    by: Annotated[str, Field(min_length=1, max_length=300)]
    at: AwareDatetime


@dataclass(frozen=True)
class ControlEntry:
    """One line of the record: place from 1, UTC in ISO 8601, who, and a body as JSON, of the type that `kind` names."""

    sequence: int
    at: str
    who: str
    kind: Kind
    body: str

    def read(self) -> Switch | Unfreeze | Experiment:
        """The body; raises ConfigError where it cannot be understood."""
        try:
            if self.kind == "experiment":
                return _EXPERIMENT.validate_json(self.body)
            return (Unfreeze if self.kind == "unfreeze" else Switch).model_validate_json(self.body)
        except ValidationError as error:
            raise ConfigError(f"{self.kind} {self.body[:100]!r}: {' '.join(str(error).split())[:200]}") from error


class TableAwayError(RegistryError):
    """The table has fewer entries than its mirror: it was moved, emptied, or restored from an older copy."""


class ControlRecord:
    """The record of one registered model, so that shops that share a database share no entry.

    Every method raises RegistryError, in one line, when the database does not answer or refuses, and all but `entries`
    TableAwayError where the mirror has more entries than the table.
    """

    def __init__(self, url: str, *, model: str, store: ObjectStore) -> None:
        """Opens the database, PostgreSQL or SQLite by an SQLAlchemy URL, and makes nothing in it."""
        self._model, self._store, self._where = model, store, redact_url(url)
        with self._translated_errors():
            self._engine = open_engine(url)

    def entries(self) -> list[ControlEntry]:
        """Every entry, oldest first; none where the table was never made."""
        with self._translated_errors(), reading(self._engine, _TABLE) as connection:
            return [] if connection is None else self._entries(connection)

    def control(self, *, at: dt.datetime | None = None) -> Control:
        """Reads what the table leaves in force, without switches that have ended by `at`."""
        entries = self.entries()
        self._compare(entries)
        return _in_force(entries, at=at)

    def append_switch(self, switch: Switch | Unfreeze) -> None:
        """Writes a switch, or the end of one."""
        kind: Kind = "switch" if isinstance(switch, Switch) else "unfreeze"
        with self._turn() as (connection, entries):
            body = switch.model_dump_json(exclude_defaults=True)
            self._append(connection, ControlEntry(_sequence(entries) + 1, _utc(switch.at), switch.by, kind, body))

    def append_experiment(
        self, name: str, change: Callable[[Experiments], Experiments], *, who: str, at: dt.datetime
    ) -> Experiment:
        """Changes an experiment inside a transaction, writes it, and returns it.

        Args:
            name: Its name.
            change: Makes the experiments with the change of those that there are; raises ConfigError to refuse it.
            who: The person.
            at: When.
        """
        with self._turn() as (connection, entries):
            one = change(_in_force(entries).experiments).find(name)
            body = _EXPERIMENT.dump_json(one).decode()
            self._append(connection, ControlEntry(_sequence(entries) + 1, _utc(at), who, "experiment", body))
        return one

    def mirror(self, *, now: dt.datetime) -> Control:
        """Puts what is in force into the store, where it is not there yet, and returns it.

        Raises:
            SourceError: The store does not answer.
        """
        key, entries = control_key(self._model), self.entries()
        content, control = self._store.get(key), _mirrored(entries, now=now)
        if (content is None and not entries) or content == control.to_json():
            return control  # and nobody waits for a lock
        with self._turn() as (_, entries):  # so that what is put last is the newest
            content, control = self._store.get(key), _mirrored(entries, now=now)
            if control.to_json() != content:
                self._store.put(key, control.to_json())
        for line in control.unread:
            _log.warning("%s", line)
        return control

    @contextmanager
    def _turn(self) -> Iterator[tuple[Connection, list[ControlEntry]]]:
        """A transaction in which nobody else writes, and the entries that there are."""
        self._compare(self.entries())  # before a table is made where there was one
        with self._translated_errors():
            create_tables(self._engine, _METADATA)
            with self._engine.begin() as connection:
                lock_transaction(connection, f"control/{self._model}")
                yield connection, self._entries(connection)

    def _append(self, connection: Connection, entry: ControlEntry) -> None:
        connection.execute(_TABLE.insert().values(**vars(entry), model=self._model))

    def _entries(self, connection: Connection) -> list[ControlEntry]:
        columns = (_TABLE.c.sequence, _TABLE.c.at, _TABLE.c.who, _TABLE.c.kind, _TABLE.c.body)
        query = select(*columns).where(_TABLE.c.model == self._model).order_by(_TABLE.c.sequence)
        return [ControlEntry(*row) for row in connection.execute(query)]

    def _compare(self, entries: Sequence[ControlEntry]) -> None:
        """Refuses a table with fewer entries than its mirror has; one that is damaged is written anew."""
        mirrored = 0
        try:
            content = self._store.get(control_key(self._model))
            mirrored = 0 if content is None else parse_control(content).sequence
        except SourceError as error:
            _log.warning("%s: %s is not compared with it", error, self._where)
        if _sequence(entries) < mirrored:
            raise TableAwayError(
                f"pricing_control in {self._where} (PRICING_DATABASE_URL) has {_sequence(entries)} entries of "
                f"{self._model}, and {mirrored} are in force: the database was moved, emptied or restored. Bring it "
                f"back; or, to begin anew with what it has, delete {control_key(self._model)} in PRICING_PUBLISHED"
            )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise RegistryError(
                f"pricing_control in {self._where} (PRICING_DATABASE_URL): {first_line(error)}; nothing was written"
            ) from error


def known_control(model: str, *, url: str, store: ObjectStore, at: dt.datetime | None = None) -> Control:
    """What is in force for a job: by the table, or, while that is away, by its mirror.

    Raises:
        RegistryError: The table is away, and there is no mirror.
        SourceError: It is away, and the store does not answer or the mirror cannot be understood.
    """
    try:
        control = ControlRecord(url, model=model, store=store).control(at=at)
    except RegistryError as error:
        content = store.get(control_key(model))
        if content is None:
            raise
        _log.warning("%s; what was published last is taken to be in force", error)
        control = parse_control(content)
        control = control if at is None else replace(control, switches=control.switches.at(at))
    for line in control.unread:
        _log.warning("%s", line)
    return control


def _in_force(entries: Sequence[ControlEntry], *, at: dt.datetime | None = None) -> Control:
    """Returns what entries leave in force: the last of each scope and name, and of each experiment, that can be read.

    Switches that have ended by `at` are left out.
    """
    switches: dict[tuple[str, str], Switch | Unfreeze] = {}
    experiments: dict[str, Experiment] = {}
    unread = []
    for entry in entries:
        try:
            body = entry.read()
        except ConfigError as error:
            unread.append(f"entry {entry.sequence} of pricing_control is passed over: {error}")
            continue
        if isinstance(body, Experiment):
            experiments[body.name] = body
        else:
            switches[body.scope, body.name] = body
    known = [one for one in switches.values() if isinstance(one, Switch) and not (at is not None and one.ended(at))]
    found = control_of(list(known), list(experiments.values()), sequence=_sequence(entries))
    return replace(found, unread=(*unread, *found.unread))


def _mirrored(entries: Sequence[ControlEntry], *, now: dt.datetime) -> Control:
    """Returns what serving needs: without experiments that are over, each of which names all its products."""
    control = _in_force(entries, at=now)
    under_way = tuple(one for one in control.experiments.every if now.date() < one.end)
    return replace(control, experiments=Experiments(under_way))


def _sequence(entries: Sequence[ControlEntry]) -> int:
    return entries[-1].sequence if entries else 0


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
