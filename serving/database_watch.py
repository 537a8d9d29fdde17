"""Look at the platform's database on and on: the switches, the files that tasks share.

It stands beside the registry, not behind it: a thread of the follower's process, which no call of MLflow holds up.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pricing.errors import RegistryError
from pricing.runtime.shared_state import actor
from serving.settings import Settings

if TYPE_CHECKING:
    from pricing.runtime.shared_files import SharedFiles
    from serving.shared_files_watch import SharedFilesWatch
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
        self._opening = threading.Lock()
        self._shared: SharedFiles | None = None
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

    def shared(self) -> "SharedFiles | None":
        """The files that tasks share; None where no database is configured for that, or its address cannot be used."""
        if self._settings.shared_url is None:
            return None
        with self._opening:
            if self._shared is None:
                self._shared = self._opened(self._shared_files)
            return self._shared

    def _run(self) -> None:
        looks: list[Callable[[], None]] = []
        try:
            switches, shared = self._opened(self._switch_watch), self._shared_files_watch()
            looks += [each.look for each in (switches, shared) if each is not None]
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

    def _shared_files_watch(self) -> "SharedFilesWatch | None":
        files = self.shared()
        if files is None:
            return None
        from serving.shared_files_watch import SharedFilesWatch  # noqa: PLC0415 - as above

        return SharedFilesWatch(files, self._settings.shared_files)

    def _shared_files(self) -> "SharedFiles":
        from pricing.registry.documents import SharedDocuments  # noqa: PLC0415 - as above
        from pricing.runtime.shared_files import SharedFiles  # noqa: PLC0415

        settings = self._settings
        documents = SharedDocuments(settings.shared_url or "", model=settings.config.registry.model_name)
        return SharedFiles(settings.home, documents, who=actor())
