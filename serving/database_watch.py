"""Look at the platform's database on and on: the switches, and the experiments that tasks share.

It stands beside the registry, not behind it: a thread of the follower's process, which no call of MLflow holds up.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pricing.errors import RegistryError
from pricing.runtime.shared_state import actor
from serving.absence import Absence
from serving.settings import Settings

if TYPE_CHECKING:
    from pricing.runtime.shared_file import SharedFile
    from serving.switch_watch import SwitchWatch

# Between two looks; with a worker's own fifth of a second far below the ten seconds that are promised from a person's
# switch to the last price without it.
LOOK_SECONDS = 2.0
FIRST_LOOK_SECONDS = 10.0  # that a version which was fetched waits for the first look, at most
LEAVE_SECONDS = 5.0
# Two threads that import SQLAlchemy at once, whose modules import each other, could each see half of it.
IMPORTING = threading.Lock()
_log = logging.getLogger(__name__)
Opened = TypeVar("Opened")


class DatabaseWatch:
    """The thread. It imports what it needs and connects by itself, so that no champion waits for that."""

    def __init__(self, settings: Settings, *, stop: threading.Event) -> None:
        """Starts to look.

        Args:
            settings: The service's.
            stop: Ends it once set.
        """
        self._settings, self._stop = settings, stop
        self._looked = threading.Event()  # set after the first look, whatever came of it
        self._thread = threading.Thread(target=self._run, name="database", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits, not for long, for the first look: a version is served only once what is in force is known."""
        self._looked.wait(FIRST_LOOK_SECONDS)

    @property
    def lives(self) -> bool:
        """Whether the thread goes on; one that met an error that nobody foresaw has ended."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Waits, not for long, for the end of its last look."""
        self._thread.join(LEAVE_SECONDS)

    def _run(self) -> None:
        looks: list[Callable[[], None]] = []
        try:
            switches = self._opened(self._switch_watch)
            experiments = self._opened(self._experiment_watch) if self._settings.shared_url else None
            looks += [each.look for each in (switches, experiments) if each is not None]
            for look in looks:
                look()
        finally:
            self._looked.set()
        while not self._stop.wait(LOOK_SECONDS):
            for look in looks:
                look()

    def _opened(self, make: Callable[[], Opened]) -> Opened | None:
        try:
            with IMPORTING:
                return make()
        except RegistryError as error:  # an address that cannot be used
            _log.error("%s; what was last known stays in force", error)
            return None

    def _switch_watch(self) -> "SwitchWatch":
        from pricing.registry.switch_record import SwitchRecord  # noqa: PLC0415 - SQLAlchemy takes long to import
        from serving.switch_watch import SwitchWatch  # noqa: PLC0415

        record = SwitchRecord(self._settings.database_url, model=self._settings.config.registry.model_name)
        return SwitchWatch(record, path=self._settings.switch_file)

    def _experiment_watch(self) -> "ExperimentWatch":
        from pricing.registry.documents import SharedDocuments  # noqa: PLC0415 - as above
        from pricing.runtime.shared_file import SharedFile  # noqa: PLC0415

        settings = self._settings
        documents = SharedDocuments(settings.shared_url or "", model=settings.config.registry.model_name)
        return ExperimentWatch(SharedFile(settings.experiments_file, documents, who=actor()))


class ExperimentWatch:
    """Keeps the file of experiments up to date; while the database is away it stays as it is."""

    def __init__(self, file: "SharedFile", *, now: Callable[[], float] = time.time) -> None:
        """Reads nothing yet.

        Args:
            file: Mirrors the document.
            now: The clock: seconds since 1970.
        """
        self._file = file
        self._absence = Absence(back="the database of experiments answers again", now=now)

    def look(self) -> None:
        """Writes the file where its document has changed."""
        try:
            written = self._file.mirror()
        except (RegistryError, OSError) as error:
            self._absence.begins(error, stays="the experiments last known stay in force")
            return
        self._absence.ends()
        if written:
            _log.warning("the experiments are what all tasks share now")
