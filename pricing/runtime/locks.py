"""Lock a job by a file, so that no second one starts while it, or a job that it has started, still runs."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pricing.errors import LockError


@contextmanager
def file_lock(path: Path, *, job: str) -> Iterator[int]:
    """Holds the lock of a job in a file, and yields the file descriptor that holds it.

    The kernel releases it when the last process that has the descriptor ends, even by kill -9: a child that inherits
    it holds the lock too. That is why this is no lock of the library `filelock`, whose descriptor is private.

    Raises:
        LockError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockError(
                f"{job} is running already: it, or a job that it started, holds {path}; wait for it to end"
            ) from error
        yield file.fileno()
