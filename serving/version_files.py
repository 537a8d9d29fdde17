"""Watch the files of a version on disk: whether they still are what they were when the version was verified."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from pricing.errors import VersionError
from pricing.registry import files

# Seconds between two comparisons of all checksums, which find what changes neither size nor time of a file, such as a
# failing disk: 21 MB, a version of 10,000 products, take some 20 ms.
CHECKSUM_SECONDS = 600.0
_Stamps = tuple[tuple[str, int, int, int], ...]


class VersionFiles:
    """The files of one version. To look at them costs a fraction of a millisecond, but for every ten minutes."""

    def __init__(
        self,
        folder: Path,
        *,
        check: Callable[[Path], object] = files.read,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remembers sizes and times; to be called before the version is verified.

        Args:
            folder: The version's.
            check: Compares all checksums; raises VersionError where one differs.
            clock: Seconds.
        """
        self._folder, self._check, self._clock = folder, check, clock
        self._stamps = _stamps(folder)
        self._due = clock() + CHECKSUM_SECONDS

    def fault(self) -> str | None:
        """What is wrong with them; None where nothing is.

        Raises:
            OSError: A file cannot be read; the next look may tell more.
        """
        stamps = _stamps(self._folder)
        if stamps == self._stamps and self._clock() < self._due:
            return None
        self._due = self._clock() + CHECKSUM_SECONDS
        try:
            self._check(self._folder)
        except VersionError as error:
            return str(error)
        self._stamps = stamps  # written anew, with what they held
        return None


def _stamps(folder: Path) -> _Stamps:
    """Path, size, time of change and inode of every file below a folder; empty where that is gone."""
    found, pending = [], [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        found.append((entry.path, status.st_size, status.st_mtime_ns, status.st_ino))
        except FileNotFoundError:
            continue
    return tuple(sorted(found))
