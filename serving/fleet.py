"""The serving tasks that are alive and the version of each: told by heartbeats in the platform's database."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pricing.errors import RegistryError
from pricing.fileio import redact_text, replace_json
from serving.absence import Absence

if TYPE_CHECKING:  # workers read the file, and need no SQLAlchemy for that
    from pricing.registry.task_record import TaskEntry

ALIVE_SECONDS = 30.0  # a task that has not told of itself for so long counts as gone
STALE_SECONDS = 30.0  # what is known of the others is stale after so long without the database
_log = logging.getLogger(__name__)

FleetState = Literal["off", "starting", "known", "stale"]


@dataclass(frozen=True)
class FleetTask:
    """One task.

    Attributes:
        task: Its name.
        version: The version that it serves; "none" where rules answer.
        seen_at: When it last told of itself, seconds since 1970 by this machine's clock.
        own: Whether it is the task that reads this.
    """

    task: str
    version: str
    seen_at: float
    own: bool = False


@dataclass(frozen=True)
class Fleet:
    """The tasks that were alive when the database was last read.

    Attributes:
        tasks: The tasks, this one among them; empty where none is known.
        read_at: When that was, seconds since 1970; None: never.
        detail: Why the database was not read since then; None where it was.
    """

    tasks: tuple[FleetTask, ...] = ()
    read_at: float | None = None
    detail: str | None = None

    @property
    def size(self) -> int:
        """How many tasks share the traffic: 1 where none is known."""
        return max(len(self.tasks), 1)

    @property
    def versions(self) -> dict[str, int]:
        """Version → how many tasks serve it."""
        return dict(Counter(one.version for one in self.tasks))

    def others(self, version: str) -> int:
        """How many of the other tasks serve another version than `version`."""
        return sum(one.version != version for one in self.tasks if not one.own)

    def state(self, now: float, *, expected: bool) -> FleetState:
        """How far it is to be trusted at a moment.

        Args:
            now: Seconds since 1970.
            expected: Whether heartbeats are written at all.
        """
        if not expected:
            return "off"
        if self.read_at is None:
            return "starting"
        return "known" if now - self.read_at <= STALE_SECONDS else "stale"


ALONE = Fleet()


def read_fleet(path: Path) -> Fleet:
    """Reads the file that `Heartbeat` writes.

    Raises:
        OSError, ValueError, KeyError, TypeError: It cannot be read.
    """
    values = json.loads(path.read_bytes())
    return Fleet(tuple(FleetTask(**one) for one in values["tasks"]), values["read_at"], values["detail"])


class Record(Protocol):
    """The database's record of tasks; each method may raise RegistryError."""

    def beat(self, *, run: str, task: str, version: str) -> "Sequence[TaskEntry]":
        """Renews this task's row and returns those of all tasks."""
        ...

    def leave(self, *, run: str) -> None:
        """Deletes this task's row."""
        ...


class Heartbeat:
    """Tells the database of this task, and this machine's workers of all tasks, through a file."""

    def __init__(
        self,
        record: Record,
        *,
        path: Path,
        run: str,
        task: str,
        version: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Tells nothing yet.

        Args:
            record: The database's record of tasks.
            path: The workers' file.
            run: Names this run of the service.
            task: This task's name.
            version: What it serves now; "none" where rules answer.
            clock: Seconds since 1970.
        """
        self._record, self._path, self._clock = record, path, clock
        self._run, self._task, self._version = run, task, version
        self._fleet = ALONE
        self._absence = Absence(back="the record of serving tasks answers again", now=clock)

    def beat(self) -> None:
        """Tells of this task and reads of the others; while the database is away those last known stay."""
        now = self._clock()
        try:
            entries = self._record.beat(run=self._run, task=self._task, version=self._version())
        except RegistryError as error:
            self._absence.begins(error, stays=f"the {self._fleet.size} serving tasks last known count on")
            self._write(Fleet(self._fleet.tasks, self._fleet.read_at, redact_text(str(error))))
            return
        self._absence.ends()
        alive = [one for one in entries if one.age_seconds <= ALIVE_SECONDS]
        tasks = tuple(
            FleetTask(one.task, one.version, round(now - one.age_seconds, 1), own=one.run == self._run) for one in alive
        )
        if Counter(one.task for one in tasks) != Counter(one.task for one in self._fleet.tasks):
            _log.info("serving tasks alive: %s", ", ".join(f"{one.task} ({one.version})" for one in tasks))
        self._write(Fleet(tasks, now))

    def leave(self) -> None:
        """Tells the database that this task is about to stop, so that the others need not wait until it is silent."""
        try:
            self._record.leave(run=self._run)
        except RegistryError as error:
            why = redact_text(str(error))
            _log.warning("%s; the other tasks count this one for %g s more", why, ALIVE_SECONDS)

    def _write(self, fleet: Fleet) -> None:
        self._fleet = fleet
        try:
            replace_json(self._path, asdict(fleet), durable=False)
        except OSError as error:
            _log.error("%s cannot be written: %s; the workers go on with the tasks that it names", self._path, error)
