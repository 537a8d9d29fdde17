"""Read a small file of another program, such as that of the experiments, again whenever it changes."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pricing.decision.experiments import NO_EXPERIMENTS, Experiments, read_experiments
from pricing.decision.switches import NO_SWITCHES, Switches, read_switches
from pricing.errors import SourceError

FileState = Literal["none", "read", "unreadable"]
Content = TypeVar("Content")

_log = logging.getLogger(__name__)


class WatchedFile(Generic[Content]):
    """The content of a file. Any thread may read `content`; a request reads it once.

    A missing file, and one that cannot be read, count as empty, or where `keeps` says so as what was read last; the
    latter is logged and counted in the metrics.
    """

    def __init__(
        self,
        path: Path,
        *,
        read: Callable[[Path], Content],
        empty: Content,
        what: str,
        keeps: bool = False,
    ) -> None:
        """Reads the file for the first time.

        Args:
            path: The file.
            read: Reads it; raises SourceError, OSError, ValueError, KeyError or TypeError where it cannot.
            empty: The content of a missing or unreadable file.
            what: What the file is, for the log.
            keeps: Whether the last content stays while the file is missing or unreadable.
        """
        self._keeps = keeps
        self._path, self._read, self._empty, self._what = path, read, empty, what
        self._seen: tuple[int, int] | None = None
        self.content = empty
        self.state: FileState = "none"
        self.faults = 0
        self.reload()

    def reload(self) -> None:
        """Reads the file again if it has changed."""
        try:
            status = self._path.stat()
        except OSError:
            if self._seen is not None:
                after = "what it said stays in force" if self._keeps else f"there is no {self._what} any more"
                _log.warning("%s is gone: %s", self._path, after)
            self._seen, self.content, self.state = None, self._last(), "none"
            return
        mark = status.st_mtime_ns, status.st_ino
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self.content, self.state = self._read(self._path), "read"
            _log.info("%s was read: %s", self._path, self._what)
        except (OSError, ValueError, KeyError, TypeError, SourceError) as error:
            self.content, self.state = self._last(), "unreadable"
            self.faults += 1
            after = "what was read last stays in force" if self._keeps else "it counts as empty"
            _log.error("%s is no %s (%s); %s", self._path, self._what, error, after)

    def _last(self) -> Content:
        return self.content if self._keeps else self._empty


class ExperimentFile(WatchedFile[Experiments]):
    """The experiments. Where the file is missing or cannot be read, every product is priced as usual."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, read=read_experiments, empty=NO_EXPERIMENTS, what="file of experiments")


class SwitchFile(WatchedFile[Switches]):
    """The switches of a person that are in force, as the follower last read them from the database.

    Those last known stay in force whatever becomes of the file: only the database ends one, or its own time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, read=read_switches, empty=NO_SWITCHES, what="list of switches", keeps=True)
