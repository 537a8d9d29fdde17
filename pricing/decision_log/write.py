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
from functools import lru_cache, partial
from json.encoder import encode_basestring
from pathlib import Path

from pricing.decision.detailed import DetailedDecision
from pricing.decision.experiments import Assignment
from pricing.decision.request import PriceRequest
from pricing.errors import SourceError
from pricing.objects import open_store

SCHEMA = 3
_FLUSH_SECONDS = 0.5  # from one write to the disk to the next
_HANGS = 10.0  # seconds after which a disk that has not taken what is written is taken to hang
_KEPT = 10_000  # lines that wait in memory for a disk that takes none, about 16 MB

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One decision with the figures behind it."""

    request: PriceRequest
    answer: DetailedDecision
    at: dt.datetime  # when it was decided, with a time zone
    body: bytes | None = None  # the decision as JSON, where it was encoded already

    def encode(self) -> bytes:
        """The line without its worker and sequence number, which the writer puts before it."""
        # Formatted by hand, since it is done for every price: three times as fast as encoding a dictionary.
        asked, one = self.request, self.answer
        head = (
            f'{{"at":"{_stamp(self.at)}","date":"{one.date}",'
            f'"product_id":{_text(asked.product_id)},"category":{_text(one.category)},'
            f'"current_price":{_number(one.current_price)},"list_price":{_number(one.list_price)},'
            f'"unit_cost":{_number(one.unit_cost)},"tax_rate":{_number(one.tax_rate)},'
            f'"candidates":{{"price":{_numbers(one.candidate_prices)},"units":{_numbers(one.candidate_units)},'
            f'"size":{_numbers(one.candidate_sizes)},"unit":{one.unit!r}}},'
            f'"experiment":{_asked(one.experiment)},"request":'
        )
        request = asked.__pydantic_serializer__.to_json(asked, exclude_none=True)
        if asked.comp_price is None and not asked.asks_newest_comp_price:
            request = b'%b,"comp_price":null}' % request[:-1]
        if asked.next_delivery is None and not asked.asks_planned_delivery:
            request = b'%b,"next_delivery":null}' % request[:-1]
        decision = self.body or one.decision.__pydantic_serializer__.to_json(one.decision)
        return b'%b%b,"decision":%b}\n' % (head.encode(), request, decision)


@dataclass(frozen=True)
class LogStatus:
    """The counts of a writer since it began, and its failure."""

    issued: int  # decisions appended
    written: int  # of them on the disk
    dropped: int  # of them given up because the disk accepted none for too long
    waiting: int  # closed segments in the folder that are not in the store yet, also those of earlier workers
    failure: str | None  # why the disk failed last; None once it takes them again


class LogWriter:
    """Appends decisions to a segment on the disk, which a thread closes and puts into the store every 30 s.

    Lines wait in memory where the disk takes none; of too many the oldest are dropped and counted. A segment waits on
    the disk until the store has it. A worker that was killed leaves its segment: whoever writes in the same folder puts
    it too, once its lock is free.
    """

    def __init__(self, folder: Path, *, url: str, segment_seconds: float = 30.0) -> None:
        self.worker = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(8)}"
        self._folder, self._store, self._segment_seconds = folder, open_store(url), segment_seconds
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._lines: list[bytes] = []  # not on the disk yet
        self._writing_since = 0.0
        self._disk = threading.Lock()  # held while the segment is written
        self._issued = self._writing = self._dropped = self._waiting = self._segments = 0
        self._failures: dict[str, str | None] = {}  # by what failed: disk or store
        self._segment: int | None = None
        self._size = 0
        self._closed = threading.Event()  # set where a segment was closed
        self._sender = threading.Thread(target=self._send_on, name="decision-log-store", daemon=True)
        self._sender.start()
        threading.Thread(target=self._write_on, name="decision-log", daemon=True).start()

    def append(self, entries: Sequence[LogEntry]) -> None:
        """Takes decisions, on the disk half a second later; never raises for a disk or a store."""
        bodies = [entry.encode() for entry in entries]
        with self._lock:
            for body in bodies:
                self._issued += 1
                head = b'{"schema":%d,"worker":"%b","sequence":%d,' % (SCHEMA, self.worker.encode(), self._issued)
                self._lines.append(head + body[1:])
            if self._writing and time.monotonic() - self._writing_since > _HANGS:
                self._drop_beyond_limit()

    def status(self) -> LogStatus:
        """Returns the counts since the worker began."""
        with self._lock:
            written = self._issued - self._dropped - len(self._lines) - self._writing
            return LogStatus(self._issued, written, self._dropped, self._waiting, self._failures.get("disk"))

    def close(self, *, seconds: float = 5.0) -> None:
        """Closes the segment and sends it; what the store does not take within `seconds` stays on the disk."""
        if self._disk.acquire(timeout=seconds):  # not while the disk hangs
            try:
                self._close_segment()
            finally:
                self._disk.release()
        self._closing.set()  # only now: what the sender does next is its last
        self._closed.set()
        self._sender.join(seconds)

    def _flush(self) -> None:
        """Writes the lines in memory to the open segment; the caller holds the disk."""
        with self._lock:
            lines, self._lines = self._lines, []
            self._writing, self._writing_since = len(lines), time.monotonic()
        if not lines:
            return
        try:
            self._write_out(b"".join(lines))
        except OSError as error:
            self._note("disk", f"{self._folder}: {error.strerror or error}")
            with self._lock:
                self._lines, self._writing = lines + self._lines, 0
                self._drop_beyond_limit()
        else:
            self._note("disk", None)
            self._writing = 0

    def _drop_beyond_limit(self) -> None:
        excess = max(len(self._lines) - _KEPT, 0)
        del self._lines[:excess]
        self._dropped += excess

    def _write_out(self, block: bytes) -> None:
        segment = self._open_segment() if self._segment is None else self._segment
        try:
            done = 0
            while done < len(block):
                done += os.write(segment, block[done:])
        except OSError:
            os.ftruncate(segment, self._size)  # else the next attempt would repeat a line, or continue half of one
            raise
        self._size += len(block)

    def _open_segment(self) -> int:
        """Opens a segment, under its name only once it is locked, so that nobody takes it for one left behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._segments += 1
        draft = self._path.with_name(f".{self._path.name}")
        segment = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            fcntl.flock(segment, fcntl.LOCK_EX)
            draft.rename(self._path)
        except OSError:
            os.close(segment)
            draft.unlink(missing_ok=True)
            raise
        self._segment, self._size = segment, 0
        return segment

    @property
    def _path(self) -> Path:
        """The open segment."""
        return self._folder / f"{self.worker}-{self._segments - 1:06d}.open"

    def _close_segment(self) -> None:
        self._flush()
        if self._segment is None:
            return
        segment, self._segment = self._segment, None
        try:
            try:
                _finish(self._path)
            finally:
                os.close(segment)
        except OSError as error:  # its lock is free from now on, so that it is put with the next
            self._note("disk", f"{self._path}: {error.strerror or error}")

    def _write_on(self) -> None:
        closed_at = time.monotonic()
        while not self._closing.wait(min(_FLUSH_SECONDS, self._segment_seconds)):
            with self._disk:
                if time.monotonic() - closed_at < self._segment_seconds:
                    self._flush()
                    continue
                self._close_segment()
            closed_at = time.monotonic()
            self._closed.set()

    def _send_on(self) -> None:
        last = False
        while not last:
            self._closed.wait()
            self._closed.clear()
            last = self._closing.is_set()
            self._send()

    def _send(self) -> None:
        """Puts closed segments into the store, and those that killed workers left; each is deleted once it is there."""
        failure = None
        for left in self._folder.glob("[!.]*.open"):
            failure = _tried(partial(_adopt, left)) or failure
        closed = sorted(self._folder.glob("*.jsonl"))
        self._waiting = len(closed)
        for path in closed:
            failed = _tried(partial(self._put, path))
            failure = failed or failure
            self._waiting -= failed is None
        self._note("store", failure)

    def _put(self, path: Path) -> None:
        day, _, name = path.name.partition("_")
        with suppress(FileNotFoundError):  # another process of this folder was faster
            self._store.put(f"lines/{day}/{name}", path.read_bytes())
            path.unlink()

    def _note(self, what: str, why: str | None) -> None:
        """Notes a failure, or that there is none any more, and logs the change."""
        before, self._failures[what] = self._failures.get(what), why
        if why and not before:
            _log.error("decision log: %s; prices go on", why)
        elif before and not why:
            _log.warning("decision log: the %s takes it again", what)


def _tried(action: Callable[[], None]) -> str | None:
    """Does something to one segment, so that a bad one keeps no other back; returns why it failed."""
    try:
        action()
    except (SourceError, OSError) as error:
        return str(error)
    return None


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
