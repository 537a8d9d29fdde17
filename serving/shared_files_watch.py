"""Read the documents that tasks share every few seconds, and write their files for the workers."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pricing.errors import RegistryError
from pricing.runtime.shared_files import SharedFiles
from serving.absence import Absence

_log = logging.getLogger(__name__)


class SharedFilesWatch:
    """Keeps the files that tasks share up to date; while the database is away they stay as they are."""

    def __init__(self, files: SharedFiles, paths: Sequence[Path], *, now: Callable[[], float] = time.time) -> None:
        """Reads nothing yet.

        Args:
            files: Mirrors them.
            paths: Those that this service reads.
            now: The clock: seconds since 1970.
        """
        self._files, self._paths = files, paths
        self._absence = Absence(back="the database of shared documents answers again", now=now)

    def look(self) -> None:
        """Writes the files whose documents have changed."""
        try:
            written = self._files.mirror(*self._paths)
        except (RegistryError, OSError) as error:
            self._absence.begins(error, stays="the files stay as they are")
            return
        self._absence.ends()
        for path in written:
            _log.warning("%s is what all tasks share now", path)
