"""Write the decision log in a background thread, so that no response waits for the disk."""

import contextlib
import datetime as dt
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pricing.decision_log.format import SCHEMA, LogEntry

LATE = 10  # flush intervals after which a decision that is not on the disk counts as a failure

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogStatus:
    """The counts of a writer, and its failure.

    Attributes:
        issued: Decisions appended since the worker began.
        written: Decisions on the disk.
        dropped: Decisions given up because the disk accepted none for too long.
        failure: Why the last write failed, or that one takes too long; None otherwise.
    """

    issued: int
    written: int
    dropped: int
    failure: str | None


class LogWriter:
    """Appends decisions to the log through a background thread.

    Appending takes microseconds. Decisions reach the disk at most `flush_seconds` later. When the disk fails or hangs,
    they wait in memory, up to `pending_bytes`; then the oldest are dropped and counted. With `sync` appending waits for
    the disk instead, so that a decision that was answered outlives a crash.
    """

    def __init__(
        self,
        folder: Path,
        *,
        flush_seconds: float = 0.5,
        segment_bytes: int = 64_000_000,
        pending_bytes: int = 16_000_000,
        sync: bool = False,
        write: Callable[[int, bytes], int] = os.write,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(8)}"
        self._folder = folder
        self._flush_seconds = flush_seconds
        self._segment_bytes = segment_bytes
        self._pending_limit = pending_bytes
        self._sync = sync
        self._write = write
        self._clock = clock
        self._oldest: float | None = None  # since when the oldest line waits in memory
        self._oldest_in_write: float | None = None  # the same for lines that are being written
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._lines: list[bytes] = []
        self._pending = 0
        self._first_pending = 1
        self._issued = self._written = self._dropped = 0
        self._failure: str | None = None
        self._segment: int | None = None
        self._offset = 0
        self._counter: int | None = None
        self._open_counter()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[LogEntry]) -> None:
        """Queues decisions; never raises for a disk error."""
        self.append_encoded([entry.encode() for entry in entries])

    def append_encoded(self, bodies: Sequence[bytes]) -> None:
        """As `append`, for lines that `LogEntry.encode` made earlier."""
        if not bodies:
            return
        with self._lock:
            number = self._issued
            for body in bodies:
                number += 1
                line = b'{"schema":%d,"worker":"%b","sequence":%d,%b' % (SCHEMA, self.worker.encode(), number, body[1:])
                self._lines.append(line)
                self._pending += len(line)
            self._issued = number
            self._oldest = self._clock() if self._oldest is None else self._oldest
            self._drop_beyond_limit()
            self._note_issued()
            busy = self._failure is None and self._pending > self._pending_limit // 4
        if self._sync:
            self.flush()
        elif busy:
            self._wake.set()

    def status(self) -> LogStatus:
        """Returns the counts since the worker began."""
        with self._lock:
            since = self._oldest if self._oldest_in_write is None else self._oldest_in_write
            late = since is not None and self._clock() - since > LATE * self._flush_seconds
            hung = "the disk has taken nothing for too long" if late else None
            return LogStatus(self._issued, self._written, self._dropped, self._failure or hung)

    def flush(self) -> None:
        """Writes out what is queued."""
        with self._flushing:
            with self._lock:
                lines, self._lines, self._pending = self._lines, [], 0
                first, self._first_pending = self._first_pending, self._issued + 1
                self._oldest_in_write, self._oldest = self._oldest if lines else None, None
            if lines:
                self._store(lines, first)

    def close(self) -> None:
        """Writes out what is queued and ends the thread; later decisions are not written."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=10)
        self.flush()
        with self._flushing:
            for descriptor in (self._segment, self._counter):
                if descriptor is not None:
                    os.close(descriptor)
            self._segment = self._counter = None

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            self.flush()

    def _store(self, lines: list[bytes], first: int) -> None:
        try:
            self._write_out(b"".join(lines), first)
        except OSError as error:
            with self._lock:
                if self._failure is None:
                    _log.error("decision log in %s cannot be written: %s; prices go on", self._folder, error)
                self._failure = str(error)
                # Where newer lines had to be dropped meanwhile, these are dropped too: the queue must have no gap.
                retained = self._trim(lines) if self._first_pending == first + len(lines) else []
                self._dropped += len(lines) - len(retained)
                self._first_pending -= len(retained)
                if retained:
                    self._oldest = self._oldest_in_write
                self._oldest_in_write = None
                self._pending += sum(map(len, retained))
                self._lines = retained + self._lines
            return
        with self._lock:
            if self._failure is not None:
                _log.warning("decision log in %s is written again", self._folder)
            self._failure = self._oldest_in_write = None
            self._written += len(lines)

    def _trim(self, lines: list[bytes]) -> list[bytes]:
        """The newest lines that still fit in memory."""
        room = self._pending_limit - self._pending
        start = len(lines)
        while start and room >= len(lines[start - 1]):
            start -= 1
            room -= len(lines[start])
        return lines[start:]

    def _drop_beyond_limit(self) -> None:
        """Drops the oldest lines that no longer fit in memory while the disk is busy."""
        start = 0
        while self._pending > self._pending_limit:
            self._pending -= len(self._lines[start])
            start += 1
        if start:
            del self._lines[:start]
            self._dropped += start
            self._first_pending += start

    def _write_out(self, block: bytes, first: int) -> None:
        if self._segment is not None and (self._offset >= self._segment_bytes or not os.fstat(self._segment).st_nlink):
            self._leave_segment()
        if self._segment is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"decisions-{self.worker}-{first:012d}.jsonl"
            self._segment = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            self._offset = 0
        try:
            done = 0
            while done < len(block):
                done += self._write(self._segment, block[done:] if done else block)
            os.fdatasync(self._segment)
        except OSError:
            # Partial output is truncated, so that the next attempt neither repeats a line nor leaves half of one.
            try:
                os.ftruncate(self._segment, self._offset)
            except OSError:
                self._leave_segment()
            raise
        self._offset += len(block)

    def _leave_segment(self) -> None:
        if self._segment is not None:
            os.close(self._segment)
        self._segment = None

    def _open_counter(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"decisions-{self.worker}.issued"
            self._counter = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
            fcntl.flock(
                self._counter, fcntl.LOCK_EX
            )  # a reader that looks whether it is locked holds it for microseconds
            os.pwrite(self._counter, bytes(8), 0)
        except OSError as error:
            self._failure = str(error)
            _log.error("decision log in %s cannot be written: %s; prices go on", self._folder, error)

    def _note_issued(self) -> None:
        # pwrite survives a killed worker and a full disk; a memory map on a full disk would kill the worker.
        if self._counter is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._counter, self._issued.to_bytes(8, "little"), 0)
