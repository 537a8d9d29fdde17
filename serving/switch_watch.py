"""Read the switches from the platform's database every few seconds, and write those in force for the workers.

It stands beside the registry, not behind it: a thread of the follower's process, which no call of MLflow holds up.
"""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pricing.decision.switches import Switches, read_switches, write_switches
from pricing.errors import RegistryError, SourceError
from pricing.registry.switch_record import SwitchEntry, in_force

REMIND_SECONDS = 600.0  # between two words on a database that does not answer
_log = logging.getLogger(__name__)


class Record(Protocol):
    """What is read of the record; each may raise RegistryError."""

    def extent(self) -> tuple[int, int]:
        """How many entries there are, and the number of the newest."""
        ...

    def entries(self) -> list[SwitchEntry]:
        """Every entry, oldest first."""
        ...


class SwitchWatch:
    """Keeps the file of the switches in force up to date; while the database is away it stays as it is."""

    def __init__(self, record: Record, *, path: Path, now: Callable[[], dt.datetime] | None = None) -> None:
        """Takes up the switches last known.

        Args:
            record: The record in the database.
            path: The file.
            now: The clock.
        """
        self._record, self._path = record, path
        self._now = now or (lambda: dt.datetime.now(dt.UTC))
        self._extent: tuple[int, int] | None = None
        self._entries: Sequence[SwitchEntry] = ()
        self._written: Switches | None = None
        self._absence = Absence("the record of switches", stays="the switches last known stay in force", now=self._now)

    def look(self) -> None:
        """Reads the record where it has grown, and writes what is in force where that has changed."""
        try:
            extent = self._record.extent()
            if extent != self._extent:
                self._entries, self._extent = self._record.entries(), extent
            found = in_force(self._entries, at=self._now())
        except (RegistryError, ValueError) as error:  # ValueError: a row that no command of ours wrote
            self._absence.begins(error)
            return
        self._absence.ends()
        self._write(found)

    def _write(self, found: Switches) -> None:
        if self._written is None:
            self._written = self._on_disk()
        there = self._path.exists()
        if there and self._written is not None and list(found) == list(self._written):
            return
        if not there and not found:  # most platforms never have one
            return
        try:
            write_switches(self._path, found)
        except OSError as error:
            _log.error("%s cannot be written: %s; the workers go on with the switches that it holds", self._path, error)
            return
        self._written = found
        words = "; ".join(f"{one.action} of {one.whose} by {one.by}: {one.reason}" for one in found)
        _log.warning("switches in force: %s", words or "none")

    def _on_disk(self) -> Switches | None:
        try:
            return read_switches(self._path)
        except SourceError as error:
            _log.error("%s", error)
            return None


class Absence:
    """Says that a database is away, again after a while, and that it is back."""

    def __init__(self, name: str, *, stays: str, now: Callable[[], dt.datetime]) -> None:
        self._name, self._stays, self._now = name, stays, now
        self._since: dt.datetime | None = None
        self._said_at: dt.datetime | None = None

    def begins(self, error: Exception) -> None:
        """Takes note of a look that failed."""
        now = self._now()
        self._since = self._since or now
        if self._said_at is None or (now - self._said_at).total_seconds() >= REMIND_SECONDS:
            self._said_at = now
            _log.error("%s; %s", error, self._stays)

    def ends(self) -> None:
        """Takes note of a look that went well."""
        if self._since is not None:
            _log.warning("%s answers again; it was away since %s", self._name, self._since)
            self._since = self._said_at = None
