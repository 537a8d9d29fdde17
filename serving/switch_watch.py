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
from serving.absence import Absence

_log = logging.getLogger(__name__)


class Record(Protocol):
    """What is read of the record; each may raise RegistryError."""

    def extent(self) -> tuple[int, int, str]:
        """How many entries there are, the highest number and the latest time."""
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
        self._extent: tuple[int, int, str] | None = None
        self._entries: Sequence[SwitchEntry] = ()
        self._written: Switches | None = None
        self._absence = Absence(back="the record of switches answers again", now=lambda: self._now().timestamp())

    def look(self) -> None:
        """Reads the record where it has changed, and writes what is in force where that has changed."""
        try:
            extent = self._record.extent()
            if extent != self._extent:
                self._entries, self._extent = self._record.entries(), extent
            found = in_force(self._entries, at=self._now())
        except (RegistryError, ValueError) as error:  # ValueError: a row that no command of ours wrote
            self._extent = None  # what comes back may be a copy from before
            self._absence.begins(error, stays="the switches last known stay in force")
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
