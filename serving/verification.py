"""Remember which version is being verified, so that one at which the follower itself ended is not tried for ever."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pricing.errors import VersionError
from pricing.fileio import replace_json

# Ends of the follower at one version, after which that is refused: the first may be a machine that was switched off.
MOST_ENDS = 2


class VerificationGuard:
    """A note on disk of the versions being verified. No exception tells of a process that was killed for memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def admit(self, name: str) -> None:
        """Forgets what is noted of the version `name`, and refuses it where the follower ended at it.

        Raises:
            VersionError: It ended MOST_ENDS times while it verified this very version.
        """
        noted = self._read()
        if noted.get(name, 0) >= MOST_ENDS:
            ends = noted.pop(name)
            self._write(noted)
            raise VersionError(f"the follower ended {ends} times while it verified it, perhaps for want of memory")

    @contextmanager
    def verifying(self, name: str) -> Iterator[None]:
        """Notes that the version `name` is being verified, and at the end that it is not any more."""
        noted = self._read()
        self._write({**noted, name: noted.get(name, 0) + 1})
        try:
            yield
        finally:
            noted.pop(name, None)
            self._write(noted)

    def _read(self) -> dict[str, int]:
        try:
            return {str(name): int(begun) for name, begun in json.loads(self._path.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}

    def _write(self, noted: dict[str, int]) -> None:
        with suppress(OSError):  # on a full disk there is no such note, and all else goes on
            if noted:
                replace_json(self._path, noted)
            else:
                self._path.unlink(missing_ok=True)
