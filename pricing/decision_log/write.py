"""Write the decision log: JSON lines in a segment on disk, put into the log's store within 30 s.

A line holds `schema`, `worker` (a run of a process), `sequence` (the worker's number of the decision, from 1), `at`
(UTC, ISO), `date` (first day of the period priced), `product_id`, `category`, `current_price`, `list_price`,
`unit_cost`, `tax_rate`, `candidates` (`price`, ascending, `units` expected at each over the requested period, `size` of
the negative binomial that has the forecast's mean and variance at each, and `unit`, the amount that it counts as one),
`experiment` (null, or the `name` of the one that asked something of this price, the `arm`, its `odds`, 0…1, and of a
draw the log `deviation`, before the guardrails), `request_id` (the answer's X-Request-ID; null where a job decided),
`request` (the fields that were sent) and `decision`.
"""

import datetime as dt
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import to_json

from pricing.decision.request import DetailedDecision, PriceRequest
from pricing.errors import SourceError
from pricing.objects import open_store

SCHEMA = 3
_FLUSH_SECONDS = 0.5  # from one write to the disk to the next
_SEGMENT_SECONDS = 25.0  # that a segment is open
_SEND_SECONDS = 5.0  # from one look for closed segments to the next
_LEFT_SECONDS = 60.0  # without a write, after which another worker's segment is taken to be left behind
_KEPT = 50_000  # lines that wait in memory for a disk that takes none, 80 MB: more than come between two writes
_AT_ONCE = 10_000  # lines an object of those that are put at once

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One decision with the figures behind it."""

    request: PriceRequest
    answer: DetailedDecision
    at: dt.datetime  # when it was decided, with a time zone
    body: bytes | None = None  # the decision as JSON, where it was encoded already
    request_id: str | None = None  # of the HTTP request that asked

    def encode(self, worker: str, sequence: int) -> bytes:
        """The line of the worker's decision of this number."""
        answer = self.answer
        asked = answer.experiment
        experiment: dict[str, str | float] | None = None
        if asked is not None:
            experiment = {"name": asked.experiment, "arm": asked.arm.name, "odds": asked.arm.share}
            if asked.deviation is not None:
                experiment["deviation"] = asked.deviation
        head = {
            "schema": SCHEMA,
            "worker": worker,
            "sequence": sequence,
            "at": self.at.astimezone(dt.UTC),
            "product_id": self.request.product_id,
            "date": answer.date,
            "category": answer.category,
            "current_price": answer.current_price,
            "list_price": answer.list_price,
            "unit_cost": answer.unit_cost,
            "tax_rate": answer.tax_rate,
            "candidates": {
                "price": answer.candidate_prices,
                "units": answer.candidate_units,
                "size": answer.candidate_sizes,
                "unit": answer.unit,
            },
            "experiment": experiment,
            "request_id": self.request_id,
        }
        request = self.request.__pydantic_serializer__.to_json(self.request, exclude_unset=True)
        decision = self.body or answer.decision.__pydantic_serializer__.to_json(answer.decision)
        return b'%b,"request":%b,"decision":%b}\n' % (to_json(head, inf_nan_mode="null")[:-1], request, decision)


def put_decisions(url: str, entries: Sequence[LogEntry]) -> None:
    """Puts decisions of a job into the log's store, before it goes on; raises SourceError where it takes none."""
    store = open_store(url)
    worker = _new_worker()
    for number, start in enumerate(range(0, len(entries), _AT_ONCE)):
        part = enumerate(entries[start : start + _AT_ONCE], start + 1)
        lines = b"".join(entry.encode(worker, sequence) for sequence, entry in part)
        store.put(f"lines/{dt.datetime.now(dt.UTC):%Y-%m-%d}/{worker}-{number:06d}.jsonl", lines)


def _new_worker() -> str:
    """A name that no other run of a process has."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(8)}"


@dataclass(frozen=True)
class LogStatus:
    """The counts of a writer since it began, and its failure."""

    issued: int  # decisions appended
    written: int  # of them on the disk
    dropped: int  # of them given up, since the disk took none for too long
    waiting: int  # closed segments in the folder that the store did not take yet, also those of earlier workers
    failure: str | None  # why the disk failed last; None once it takes them again


class LogWriter:
    """Appends decisions to a segment on the disk; one thread closes it every 25 s, another puts it into the store.

    Lines wait in memory where the disk takes none; of too many the oldest are dropped and counted. A segment waits on
    the disk until the store has it. Whoever writes in the same folder also puts what ended workers left.
    """

    def __init__(self, folder: Path, *, url: str) -> None:
        self.worker = _new_worker()
        self._folder = folder
        self._store = open_store(url)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._lines: list[bytes] = []  # not on the disk yet
        self._issued = self._written = self._dropped = self._waiting = self._segments = 0
        self._failures: dict[str, str | None] = {}  # by what failed: disk or store
        self._path = self._next_path()
        self._writer = threading.Thread(target=self._write_on, name="decision-log", daemon=True)
        self._sender = threading.Thread(target=self._send_on, name="decision-log-store", daemon=True)
        self._writer.start()
        self._sender.start()

    def append(self, entries: Sequence[LogEntry]) -> None:
        """Takes decisions, on the disk half a second later; never raises for a disk or a store."""
        with self._lock:
            first = self._issued + 1
            self._issued += len(entries)
        lines = [entry.encode(self.worker, sequence) for sequence, entry in enumerate(entries, first)]
        with self._lock:
            self._lines += lines
            excess = max(len(self._lines) - _KEPT, 0)
            del self._lines[:excess]
            self._dropped += excess

    def status(self) -> LogStatus:
        """Returns the counts since the worker began."""
        return LogStatus(self._issued, self._written, self._dropped, self._waiting, self._failures.get("disk"))

    def close(self, *, seconds: float = 5.0) -> None:
        """Closes the segment and sends it; what the store does not take within `seconds` stays on the disk."""
        self._closing.set()
        self._writer.join(seconds)
        self._sender.join(seconds)

    def _write_on(self) -> None:
        last = False
        opened_at = time.monotonic()
        while not last:
            last = self._closing.wait(_FLUSH_SECONDS)
            self._flush()
            if last or time.monotonic() - opened_at > _SEGMENT_SECONDS:
                self._path = self._next_path()
                opened_at = time.monotonic()

    def _next_path(self) -> Path:
        self._segments += 1
        return self._folder / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}_{self.worker}-{self._segments:06d}.jsonl"

    def _flush(self) -> None:
        """Writes the lines in memory to the open segment."""
        with self._lock:
            lines = self._lines
            self._lines = []
        if not lines:
            return
        try:
            self._write(b"".join(lines))
        except OSError as error:
            with self._lock:
                self._lines[:0] = lines
            self._note("disk", f"{self._folder}: {error.strerror or error}")
        else:
            self._written += len(lines)
            self._note("disk", None)

    def _write(self, block: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        segment = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            size = os.fstat(segment).st_size
            done = 0
            try:
                while done < len(block):
                    done += os.write(segment, block[done:])
            except OSError:
                os.ftruncate(segment, size)  # else the next attempt would repeat a line, or continue half of one
                raise
        finally:
            os.close(segment)

    def _send_on(self) -> None:
        last = False
        while not last:
            self._writer.join(_SEND_SECONDS)
            last = not self._writer.is_alive()
            self._send()

    def _send(self) -> None:
        """Puts closed segments into the store, and those that other workers left; each is deleted once it is there."""
        failure = None
        waiting = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            day, _, name = path.name.partition("_")
            others = self.worker not in name
            try:
                if path == self._path or (others and time.time() - path.stat().st_mtime < _LEFT_SECONDS):
                    continue  # somebody may go on writing to it
                if body := path.read_bytes():
                    self._store.put(f"lines/{day}/{name}", body)
                path.unlink()
            except FileNotFoundError:  # another process of this folder was faster
                continue
            except (SourceError, OSError) as error:  # a bad segment keeps no other back
                failure = str(error)
                waiting += 1
        self._waiting = waiting
        self._note("store", failure)

    def _note(self, what: str, why: str | None) -> None:
        """Notes a failure, or that there is none any more, and logs the change."""
        before = self._failures.get(what)
        self._failures[what] = why
        if why and not before:
            _log.error("decision log: %s; prices go on", why)
        elif before and not why:
            _log.warning("decision log: the %s takes it again", what)
