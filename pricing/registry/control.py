"""The record of what people have switched and tried: a table in the platform's database, mirrored in the store.

The table decides and is the audit; `MODEL/control.json` is its mirror, which serving reads. A table that has fewer
entries than its mirror is taken to be away, never to be empty: a moved or emptied database ends no freeze.
"""

import datetime as dt
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Column, String

from pricing.decision.experiments import Experiment, Experiments
from pricing.decision.switches import NO_CONTROL, Control, Review, Switch, Switches, Unfreeze, control_of, parse_control
from pricing.errors import ConfigError, ConflictError, RegistryError, SourceError
from pricing.fileio import utc_stamp
from pricing.objects import ObjectStore
from pricing.registry.database import Ledger, LedgerEntry, Turn, append_only
from pricing.registry.published_store import control_key

Kind = Literal["switch", "unfreeze", "verdict", "experiment"]
Word = Switch | Unfreeze | Review  # of a person on prices

_TABLE = append_only(
    "pricing_control", "model", Column("kind", String(20), nullable=False), Column("body", String, nullable=False)
)
_KINDS: dict[type, Kind] = {Switch: "switch", Unfreeze: "unfreeze", Review: "verdict", Experiment: "experiment"}
_BODIES: dict[str, TypeAdapter[Any]] = {kind: TypeAdapter(model) for model, kind in _KINDS.items()}
TRIES = 3  # to put a freeze while others write, too
_NAMED = 5  # switches in a message
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ControlEntry(LedgerEntry):
    """One line of the record: a body as JSON, of the type that `kind` names."""

    kind: Kind
    body: str

    def read(self) -> Word | Experiment:
        """The body; raises ConfigError where it cannot be understood."""
        try:
            found: Word | Experiment = _BODIES[self.kind].validate_json(self.body)
        except (KeyError, ValidationError) as error:
            raise ConfigError(f"{self.kind} {self.body[:100]!r}: {' '.join(str(error).split())[:200]}") from error
        return found


class ControlRecord:
    """The record of one registered model; its methods raise RegistryError when the database does not answer.

    All but `entries` also do where the mirror has more entries than the table.
    """

    def __init__(self, url: str, *, model: str, store: ObjectStore) -> None:
        """Opens the database, PostgreSQL or SQLite by an SQLAlchemy URL, and makes nothing in it."""
        self._ledger = Ledger(url, _TABLE, ControlEntry)
        self._model = model
        self._store = store

    def entries(self, *, after: int = 0) -> list[ControlEntry]:
        """Every entry behind that of sequence `after`, oldest first; none where the table was never made."""
        return self._ledger.entries(self._model, after=after)

    def control(self, *, at: dt.datetime | None = None) -> Control:
        """Reads what the table leaves in force, without switches that have ended by `at`."""
        entries = self.entries()
        published = self._compare(entries)
        return _in_force(entries, published.unrecorded, at=at)

    def append(self, *words: Word, seen: int | None = None) -> None:
        """Writes what a person decided, all of it or nothing.

        Raises ConflictError where an entry on one of these products has come since `seen`, the last entry that the
        person knew; it names each such product, who and what.
        """
        with self._turn() as turn:
            if seen is not None:
                refuse_unseen(turn.entries(after=seen), {product for word in words for product in products_of(word)})
            _append(turn, *words)

    def append_experiment(
        self, name: str, change: Callable[[Experiments], Experiments], *, who: str, at: dt.datetime
    ) -> Experiment:
        """Changes the experiment of a name inside a transaction, as `change` allows; writes and returns it."""
        with self._turn() as turn:
            changed = change(_in_force(turn.entries()).experiments).find(name)
            body = _BODIES["experiment"].dump_json(changed).decode()
            turn.append(ControlEntry(at=utc_stamp(at), who=who, kind="experiment", body=body))
        return changed

    def mirror(self, *, now: dt.datetime, again: bool = False) -> Control:
        """Puts what is in force into the store, where it is not there yet, and returns it; raises SourceError.

        `again` gives the document a higher sequence also where it is there.
        """
        key = control_key(self._model)
        content = self._store.get(key)
        entries = self.entries()
        published = self._compare(entries)
        control = _mirrored(entries, now=now)
        there = content == replace(control, sequence=published.sequence).to_json() and not again
        if there or (content is None and not entries):
            return control  # and nobody waits for a lock
        with self._turn() as turn:  # so that what is put last is the newest
            entries = turn.entries()
            published = self._compare(entries)
            control = _mirrored(entries, published.unrecorded, now=now)
            self._put(control, after=published, now=now)
        return _with_warnings(control)

    def freeze_unrecorded(self, freeze: Switch, *, now: dt.datetime) -> Control:
        """Puts a freeze into the store alone, while the database is away, and returns what is in force there.

        The next that writes to the table, such as `mirror`, records it first. Raises SourceError where the store does
        not answer, its document cannot be understood to its end, or others replace it each time.
        """
        published = self._published() or NO_CONTROL
        for _ in range(TRIES):
            if published.unread:
                raise SourceError(f"control.json: cannot be understood to its end ({published.unread[0]})")
            control = replace(
                published,
                switches=Switches([*published.switches, freeze], published.switches.approved),
                unrecorded=(*published.unrecorded, freeze),
            )
            self._put(control, after=published, now=now)
            published = self._published() or NO_CONTROL
            if freeze in published.unrecorded:  # nothing locks it: another may have put its own meanwhile
                return published
        raise SourceError("control.json: others write it at the same time; try again")

    def _put(self, control: Control, *, after: Control, now: dt.datetime) -> None:
        """Puts the document into the store, its sequence the seconds since 1970 or more: see `publish`."""
        sequence = max(int(now.timestamp()), after.sequence + 1)
        self._store.put(control_key(self._model), replace(control, sequence=sequence).to_json())

    @contextmanager
    def _turn(self) -> Iterator[Turn[ControlEntry]]:
        """Locks the table, which has recorded by then what was put into the store alone."""
        unrecorded = self._compare(self.entries()).unrecorded  # before a table is made where there was one
        if unrecorded:
            with self._ledger.turn(self._model) as turn:  # of its own: what follows may fail
                _append(turn, *_not_among(turn.entries(), unrecorded))
        with self._ledger.turn(self._model) as turn:
            yield turn

    def _published(self) -> Control | None:
        """The mirror; None where there is none. Raises SourceError."""
        content = self._store.get(control_key(self._model))
        return None if content is None else parse_control(content)

    def _compare(self, entries: Sequence[ControlEntry]) -> Control:
        """Returns the mirror without what is recorded by now; one that is damaged is written anew.

        Raises RegistryError where the table has fewer entries than it.
        """
        key = control_key(self._model)
        published = NO_CONTROL
        try:
            published = self._published() or NO_CONTROL
        except SourceError as error:
            _log.warning("%s: %s is not compared with it", error, self._ledger.where)
        if len(entries) < published.entries:
            kept = {_body(switch) for switch in _in_force(entries).switches}
            lost = [switch for switch in published.switches if _body(switch) not in kept]
            named = ", ".join(repr(f"{one.action} {one.scope} {one.name}".rstrip()) for one in lost[:_NAMED])
            raise RegistryError(
                f"{self._ledger.where} has {len(entries)} entries of {self._model}, and {published.entries} are in "
                "force: the database was moved, emptied or restored. Bring it back; or, to begin anew with what it "
                f"has, delete {key} in PRICING_PUBLISHED, and switch again at once what ends thereby: "
                f"{len(lost)} switches{f', such as {named}' if lost else ''}"
            )
        return replace(published, unrecorded=_not_among(entries, published.unrecorded))


def known_control(model: str, *, url: str, store: ObjectStore, at: dt.datetime | None = None) -> Control:
    """What is in force for a job: by the table, or, while that is away, by its mirror.

    Raises RegistryError where both are away, SourceError where the mirror cannot be read.
    """
    try:
        control = ControlRecord(url, model=model, store=store).control(at=at)
    except RegistryError as error:
        content = store.get(control_key(model))
        if content is None:
            raise
        _log.warning("%s; what was published last is taken to be in force", error)
        control = parse_control(content)
        if at is not None:
            control = replace(control, switches=control.switches.at(at))
    return _with_warnings(control)


def _append(turn: Turn[ControlEntry], *words: Word) -> None:
    for word in words:
        turn.append(ControlEntry(at=utc_stamp(word.at), who=word.by, kind=_KINDS[type(word)], body=_body(word)))


def _body(word: Word) -> str:
    return word.model_dump_json(exclude_defaults=True)


def _not_among(entries: Sequence[ControlEntry], switches: Sequence[Switch]) -> tuple[Switch, ...]:
    recorded = {entry.body for entry in entries}
    return tuple(switch for switch in switches if _body(switch) not in recorded)


def _with_warnings(control: Control) -> Control:
    for line in control.unread:
        _log.warning("%s", line)
    return control


@dataclass
class Heard:
    """What entries of the record leave in force; it reads on where it left off."""

    sequence: int = 0  # of the last entry
    words: dict[str, Word] = field(default_factory=dict)  # product → the last one on it
    experiments: dict[str, Experiment] = field(default_factory=dict)  # name → the last of it
    approved: dict[str, float] = field(default_factory=dict)  # product → the price approved last
    unread: list[str] = field(default_factory=list)  # what could not be understood and is passed over, a line each
    _switches: dict[tuple[str, str], Switch | Unfreeze] = field(default_factory=dict)  # the last of a scope and name

    def hear(self, entries: Sequence[ControlEntry]) -> None:
        """Takes in further entries, oldest first."""
        for entry in entries:
            self.sequence = entry.sequence
            try:
                self.take(entry.read())
            except ConfigError as error:
                self.unread.append(f"entry {entry.sequence} of pricing_control is passed over: {error}")

    def take(self, body: Word | Experiment) -> None:
        """Takes in the body of an entry."""
        if isinstance(body, Experiment):
            self.experiments[body.name] = body
        elif isinstance(body, Review):
            self.words |= dict.fromkeys(body.prices, body)
            self.approved |= body.prices if body.verdict == "approve" else {}
        else:
            self._switches[body.scope, body.name] = body
            if body.scope == "product":
                self.words[body.name] = body
                self.approved.pop(body.name, None)  # a later word on the product itself ends it

    def switches(self, *, at: dt.datetime | None = None) -> Switches:
        """The switches that have not ended by a moment, and the prices approved last."""
        switches = Switches((last for last in self._switches.values() if isinstance(last, Switch)), self.approved)
        return switches if at is None else switches.at(at)

    def control(self, *, at: dt.datetime | None = None) -> Control:
        """What is in force at a moment, as one document."""
        experiments = list(self.experiments.values())
        found = control_of(list(self.switches(at=at)), experiments, self.approved, entries=self.sequence)
        return replace(found, unread=(*self.unread, *found.unread))


def _in_force(
    entries: Sequence[ControlEntry], unrecorded: Sequence[Switch] = (), *, at: dt.datetime | None = None
) -> Control:
    heard = Heard()
    heard.hear(entries)
    for switch in unrecorded:
        heard.take(switch)
    return replace(heard.control(at=at), unrecorded=tuple(unrecorded))


def _mirrored(entries: Sequence[ControlEntry], unrecorded: Sequence[Switch] = (), *, now: dt.datetime) -> Control:
    """The part that serving needs: without experiments that are over, each of which names all its products."""
    control = _in_force(entries, unrecorded, at=now)
    # By UTC's day, which may be one ahead of the shop's, by which whoever prices looks once more.
    under_way = tuple(experiment for experiment in control.experiments.every if now.date() <= experiment.end)
    return replace(control, experiments=Experiments(under_way))


def products_of(body: Word | Experiment) -> Collection[str]:
    """The products that the body of an entry names one by one."""
    if isinstance(body, Review):
        return body.prices.keys()
    return {body.name} if isinstance(body, Switch | Unfreeze) and body.scope == "product" else ()


def refuse_unseen(entries: Sequence[ControlEntry], products: set[str]) -> None:
    """Raises ConflictError where one of these entries is on one of these products."""
    found: dict[str, str] = {}
    for entry in entries:
        try:
            body = entry.read()
        except ConfigError:  # what nobody can read decides nothing
            continue
        action = body.verdict if isinstance(body, Review) else getattr(body, "action", entry.kind)
        named = products.intersection(products_of(body))
        found |= dict.fromkeys(named, f"{action} by {entry.who} at {entry.at}")
    if found:
        raise ConflictError(found)
