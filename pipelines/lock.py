"""One job at a time: a lock file that its holder's end releases, whatever the end was."""

import contextlib
import datetime as dt
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pricing.errors import LockError


@contextmanager
def only_one(job: str, *, home: Path) -> Iterator[int]:
    """Holds the lock HOME/locks/JOB meanwhile and yields its file descriptor.

    The kernel releases it when the process ends, even by kill -9; a job started with the descriptor holds it too, so
    that what an earlier holder left running is waited for.

    Raises:
        LockError: Another process holds it; names its process and since when.
    """
    path = home / "locks" / job
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise LockError(
                f"{job} is running already: {holder}, or a job that it started, holds {path}; wait for it to end"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} since {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC\n")
        file.flush()
        try:
            yield file.fileno()
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)
