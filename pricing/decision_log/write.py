"""Write the decision log: JSON lines in a segment on disk, put into the log's store every 30 s. Needs no database.

A line holds `schema`, `worker` (a run of a process), `sequence` (the worker's number of the decision, from 1), `at`
(UTC, ISO), `date` (first day of the period priced), `product_id`, `category`, `request`, `decision`, `current_price`,
`list_price`, `unit_cost`, `tax_rate`, `candidates` (`price`, ascending, `units` expected at each over the requested
period, `size` of the negative binomial that has the forecast's mean and variance at each, and `unit`, the amount that
it counts as one) and `experiment`: null, or the `name` of the experiment that asked something of this price, the
`arm`, its `odds` (0…1), and of a draw the log `deviation`, before the guardrails. A null `comp_price` in the request
says that it named no competitor.
"""

import datetime as dt
import fcntl
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from pathlib import Path

from pricing.decision.detailed import DetailedDecision
from pricing.decision.experiments import Assignment
from pricing.decision.request import Decision, PriceRequest
from pricing.errors import SourceError
from pricing.objects import open_store

SCHEMA = 3
LATE_SECONDS = 5.0  # after which a decision that is not on the disk counts as a failure
_FLUSH_SECONDS = 0.5
_SEGMENT_BYTES = 16_000_000  # a busy worker's segment is closed earlier: it is put whole
_PENDING_BYTES = 16_000_000  # of lines that wait in memory for a disk that hangs or is full

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One decision and the figures behind it.

    Attributes:
        at: When it was decided, with a time zone.
        date: First day of the period that was priced.
        tax_rate: Tax that prices include, a fraction of the net price.
        candidate_prices: A summary of the candidates, ascending.
        candidate_units: Units expected at each of them over the requested period.
        candidate_sizes: Size of the negative binomial with the mean and variance that are forecast at each of them.
        unit: The amount that these count as one, in the units of `candidate_units`.
        experiment: What an experiment asked of the price; None where none did.
        answer: The decision as JSON, where it was encoded already.
    """

    request: PriceRequest
    decision: Decision
    at: dt.datetime
    date: dt.date
    category: str | None
    current_price: float | None
    list_price: float | None
    unit_cost: float | None
    tax_rate: float = 0.0
    candidate_prices: Sequence[float] = ()
    candidate_units: Sequence[float] = ()
    candidate_sizes: Sequence[float] = ()
    unit: float = 1.0
    experiment: Assignment | None = None
    answer: bytes | None = None

    @classmethod
    def of(
        cls, asked: PriceRequest, answer: DetailedDecision, *, at: dt.datetime, body: bytes | None = None
    ) -> "LogEntry":
        """Makes the entry of an answer; `body` is its decision as JSON, where that was encoded already."""
        return cls(
            request=asked,
            decision=answer.decision,
            at=at,
            date=answer.date,
            category=answer.category,
            current_price=answer.current_price,
            list_price=answer.list_price,
            unit_cost=answer.unit_cost,
            tax_rate=answer.tax_rate,
            candidate_prices=answer.candidate_prices,
            candidate_units=answer.candidate_units,
            candidate_sizes=answer.candidate_sizes,
            unit=answer.unit,
            experiment=answer.experiment,
            answer=body,
        )

    def encode(self) -> bytes:
        """The line without its worker and sequence number, which the writer puts before it."""
        # Formatted by hand, since it is done for every price: three times as fast as encoding a dictionary.
        head = (
            f'{{"at":"{_stamp(self.at)}","date":"{self.date}",'
            f'"product_id":{_text(self.request.product_id)},"category":{_text(self.category)},'
            f'"current_price":{_number(self.current_price)},"list_price":{_number(self.list_price)},'
            f'"unit_cost":{_number(self.unit_cost)},"tax_rate":{_number(self.tax_rate)},'
            f'"candidates":{{"price":{_numbers(self.candidate_prices)},"units":{_numbers(self.candidate_units)},'
            f'"size":{_numbers(self.candidate_sizes)},"unit":{self.unit!r}}},'
            f'"experiment":{_asked(self.experiment)},"request":'
        )
        request = self.request.__pydantic_serializer__.to_json(self.request, exclude_none=True)
        if self.request.comp_price is None and not self.request.asks_newest_comp_price:
            request = b'%b,"comp_price":null}' % request[:-1]
        if self.request.next_delivery is None and not self.request.asks_planned_delivery:
            request = b'%b,"next_delivery":null}' % request[:-1]
        decision = self.answer or self.decision.__pydantic_serializer__.to_json(self.decision)
        return b'%b%b,"decision":%b}\n' % (head.encode(), request, decision)


@dataclass(frozen=True)
class LogStatus:
    """The counts of a writer, and its failure.

    Attributes:
        issued: Decisions appended since the worker began.
        written: Decisions on the disk.
        dropped: Decisions given up because the disk accepted none for too long.
        waiting: Closed segments in the folder that are not in the store yet, also those of earlier workers.
        failure: Why disk or store failed last, or that the disk takes too long; None otherwise.
    """

    issued: int
    written: int
    dropped: int
    waiting: int
    failure: str | None


class LogWriter:
    """Appends decisions to the log through two threads: one writes segments to the disk, one puts them into the store.

    Appending takes microseconds. Lines reach the disk half a second later, and wait in memory where it fails; beyond a
    limit the oldest are dropped and counted. A segment waits on the disk until the store has it. A worker that was
    killed leaves its segment: whoever writes in the same folder puts it too, once its lock is free.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str,
        segment_seconds: float = 30.0,
        pending_bytes: int = _PENDING_BYTES,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.worker = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(8)}"
        self._folder = folder
        self._store = open_store(url)
        self._segment_seconds = segment_seconds
        self._pending_limit = pending_bytes
        self._write = write
        self._lock = threading.Lock()
        self._wake, self._due = threading.Event(), threading.Event()
        self._closing = False
        self._lines: list[bytes] = []
        self._pending = 0  # their bytes
        self._unwritten_since: float | None = None
        self._issued = self._written = self._dropped = self._waiting = self._segments = 0
        self._failures: dict[str, str] = {}  # by what failed: disk or store
        self._segment: int | None = None
        self._offset, self._opened = 0, 0.0
        self._writer = threading.Thread(target=self._write_on, name="decision-log", daemon=True)
        self._sender = threading.Thread(target=self._send_on, name="decision-log-sender", daemon=True)
        self._writer.start()
        self._sender.start()

    def append(self, entries: Sequence[LogEntry]) -> None:
        """Queues decisions; never raises for a disk or a store."""
        bodies = [entry.encode() for entry in entries]
        with self._lock:
            for body in bodies:
                self._issued += 1
                head = b'{"schema":%d,"worker":"%b","sequence":%d,' % (SCHEMA, self.worker.encode(), self._issued)
                self._lines.append(head + body[1:])
                self._pending += len(self._lines[-1])
            self._drop_beyond_limit()
            if bodies and self._unwritten_since is None:
                self._unwritten_since = time.monotonic()
            busy = "disk" not in self._failures and self._pending > self._pending_limit // 4
        if busy:
            self._wake.set()

    def status(self) -> LogStatus:
        """Returns the counts since the worker began."""
        with self._lock:
            since = self._unwritten_since
            late = since is not None and time.monotonic() - since > LATE_SECONDS
            failure = self._failures.get("disk") or ("the disk has taken nothing for too long" if late else None)
            failure = failure or self._failures.get("store")
            return LogStatus(self._issued, self._written, self._dropped, self._waiting, failure)

    def close(self, *, seconds: float = 5.0) -> None:
        """Writes what is queued and sends it; what the store does not take within `seconds` stays on the disk."""
        self._closing = True
        self._wake.set()
        self._writer.join(seconds)
        self._due.set()
        self._sender.join(seconds)

    def _write_on(self) -> None:
        while not self._closing:
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
            self._flush()
            if self._segment is not None and (
                time.monotonic() - self._opened >= self._segment_seconds or self._offset >= _SEGMENT_BYTES
            ):
                self._close_segment()
        self._flush()
        self._close_segment()

    def _flush(self) -> None:
        """Writes the lines in memory to the open segment."""
        with self._lock:
            lines, self._lines, self._pending = self._lines, [], 0
        if not lines:
            return
        try:
            self._write_out(b"".join(lines))
        except OSError as error:
            self._failed("disk", f"{self._folder}: {error.strerror or error}")
            with self._lock:
                self._lines, self._pending = lines + self._lines, self._pending + sum(map(len, lines))
                self._drop_beyond_limit()
            return
        self._recovered("disk")
        with self._lock:
            self._written += len(lines)
            self._unwritten_since = time.monotonic() if self._lines else None

    def _drop_beyond_limit(self) -> None:
        """Drops the oldest lines that no longer fit in memory."""
        start = 0
        while self._pending > self._pending_limit:
            self._pending -= len(self._lines[start])
            start += 1
        del self._lines[:start]
        self._dropped += start

    def _write_out(self, block: bytes) -> None:
        segment = self._open_segment() if self._segment is None else self._segment
        try:
            done = 0
            while done < len(block):
                done += self._write(segment, block[done:])
        except OSError:
            # Else the next attempt would repeat a line, or continue half of one.
            try:
                os.ftruncate(segment, self._offset)
            except OSError:
                self._close_segment()
            raise
        self._offset += len(block)

    def _open_segment(self) -> int:
        """Opens a segment, under its name only once it is locked, so that nobody takes it for one left behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self.worker}-{self._segments:06d}.open"
        draft = path.with_name(f".{path.name}")
        segment = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        fcntl.flock(segment, fcntl.LOCK_EX)
        draft.rename(path)
        self._segments += 1
        self._segment, self._offset, self._opened = segment, 0, time.monotonic()
        return segment

    def _close_segment(self) -> None:
        if self._segment is None:
            return
        path = self._folder / f"{self.worker}-{self._segments - 1:06d}.open"
        try:
            _finish(path)
        except OSError as error:  # its lock is free once this process ends, and then it is put
            self._failed("disk", f"{path}: {error.strerror or error}")
        os.close(self._segment)
        self._segment = None
        self._due.set()

    def _send_on(self) -> None:
        while True:
            last = not self._writer.is_alive()
            self._send()
            if last:
                return
            self._due.wait(self._segment_seconds)
            self._due.clear()

    def _send(self) -> None:
        """Puts closed segments into the store, and those that killed workers left; each is deleted once it is there."""
        try:
            for left in self._folder.glob("*.open"):
                _adopt(left)
            closed = sorted(self._folder.glob("*.jsonl"))
            self._waiting = len(closed)
            for path in closed:
                day, _, name = path.name.partition("_")
                with suppress(FileNotFoundError):  # another process of this folder was faster
                    self._store.put(f"lines/{day}/{name}", path.read_bytes())
                    path.unlink()
                self._waiting -= 1
        except (SourceError, OSError) as error:
            self._failed("store", str(error))
        else:
            self._recovered("store")

    def _failed(self, what: str, why: str) -> None:
        with self._lock:
            new = what not in self._failures
            self._failures[what] = why
        if new:
            _log.error("decision log: %s; prices go on", why)

    def _recovered(self, what: str) -> None:
        with self._lock:
            gone = self._failures.pop(what, None)
        if gone:
            _log.warning("decision log: the %s takes it again", what)


def segments_folder(home: Path) -> Path:
    """The folder under PRICING_HOME in which segments wait for the log's store."""
    return home / "segments"


def _adopt(left: Path) -> None:
    """Closes a segment whose worker has ended: nobody holds its lock."""
    with suppress(FileNotFoundError, BlockingIOError), left.open("rb") as segment:
        fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _finish(left)


def _finish(path: Path) -> None:
    """Gives a segment the name of a closed one, with the present day, or deletes it where it is empty."""
    if path.stat().st_size:
        path.rename(path.with_name(f"{dt.datetime.now(dt.UTC):%Y-%m-%d}_{path.stem}.jsonl"))
    else:
        path.unlink()


@lru_cache(maxsize=8)
def _stamp(at: dt.datetime) -> str:
    """Formats a time; cached, since all lines of a batch share one."""
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def _asked(one: Assignment | None) -> str:
    if one is None:
        return "null"
    drawn = "" if one.deviation is None else f',"deviation":{_number(one.deviation)}'
    return f'{{"name":{_text(one.experiment)},"arm":{_text(one.arm.name)},"odds":{_number(one.arm.share)}{drawn}}}'


def _number(value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else f"{value:.10g}"


@lru_cache(maxsize=64)
def _format(count: int) -> str:
    return "[" + ",".join(["%.6g"] * count) + "]"


def _numbers(values: Sequence[float]) -> str:
    if math.isfinite(sum(values)):
        return _format(len(values)) % tuple(values)
    return "[" + ",".join(map(_number, values)) + "]"
