"""Read the documents that tasks share every few seconds, and write their files for the workers."""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pricing.errors import RegistryError
from pricing.runtime.shared_files import SharedFiles
from serving.switch_watch import Absence

_log = logging.getLogger(__name__)


class SharedFilesWatch:
    """Keeps the files that tasks share up to date; while the database is away they stay as they are."""

    def __init__(
        self, files: SharedFiles, paths: Sequence[Path], *, now: Callable[[], dt.datetime] | None = None
    ) -> None:
        """Reads nothing yet.

        Args:
            files: Mirrors them.
            paths: Those that this service reads.
            now: The clock.
        """
        self._files, self._paths = files, paths
        now = now or (lambda: dt.datetime.now(dt.UTC))
        self._absence = Absence("the database of shared documents", stays="the files stay as they are", now=now)

    def look(self) -> None:
        """Writes the files whose documents have changed."""
        try:
            written = self._files.mirror(*self._paths)
        except (RegistryError, OSError) as error:
            self._absence.begins(error)
            return
        self._absence.ends()
        for path in written:
            _log.warning("%s is what all tasks share now", path)
