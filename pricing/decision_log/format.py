"""The decision log: the schema of its lines and its reader. Serving and batch pricing write it, monitoring reads it.

JSON lines, one per decision, in append-only segments, `decisions-<worker>-<first sequence>.jsonl`. A worker is one
run of one process. It numbers its decisions from 1 and keeps the last number issued in `decisions-<worker>.issued`
(8 bytes, little endian, locked while the worker runs), so that a reader can say how many decisions never reached the
disk.

A line holds `schema`, `worker`, `sequence`, `at` (UTC, ISO), `date` (first day of the period priced), `product_id`,
`category`, `request`, `decision`, `current_price`, `list_price`, `unit_cost`, `tax_rate`, `candidates` (`price`,
ascending, `units` expected at each over the requested period, `size` of the negative binomial that has the forecast's
mean and variance at each, and `unit`, the amount that it counts as one) and `experiment`: null, or the `name` of the
experiment that asked something of this price, the `arm`, its `odds` (0…1), and of a draw the log `deviation`, before
the guardrails. A null `comp_price` in the request says that it named no competitor. There is one schema: a line of
another counts as damaged.
"""

import datetime as dt
import fcntl
import glob
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import numpy as np

from pricing.decision.detailed import DetailedDecision
from pricing.decision.experiments import Assignment
from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log.archive import Moved, default_archive, first_drawn_day, kept_since, read_archive, read_note
from pricing.objects import ObjectStore, open_store
from pricing.decision_log.uploads import (
    Listing,
    UploadedLines,
    VanishedError,
    list_uploads,
    read_lines,
    read_notes,
    started_on,
)
from pricing.errors import SourceError

SCHEMA = 3
_IDENTITY = {"schema", "worker", "sequence", "at", "date", "product_id", "category", "request", "decision"}
REQUIRED = _IDENTITY | {"current_price", "list_price", "unit_cost", "tax_rate", "candidates", "experiment"}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
SEGMENT = re.compile(r"decisions-(?P<worker>[\w.-]+)-(?P<first>\d{12})\.jsonl")


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
            f'"unit_cost":{_number(self.unit_cost)},"tax_rate":{_number(self.tax_rate)},"candidates":{{"price":{_numbers(self.candidate_prices)},'
            f'"units":{_numbers(self.candidate_units)},"size":{_numbers(self.candidate_sizes)},"unit":{self.unit!r}}},'
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
class LogReading:
    """The content of a folder of segments.

    Attributes:
        records: Decisions in the order of `at`; their `candidates` have the ends of the 80 % interval, `q10` and `q90`,
            where there are sizes and SciPy is installed.
        damaged: Lines that are no whole record of a known schema.
        lost: Decisions that were numbered and cannot be read, including damaged ones.
        pending: Decisions of running workers that have not reached the disk yet.
        elsewhere: Decisions that were archived, but are not in the archive that was read.
        repeated: Lines that say a decision again, as a file that was copied into itself does; left out.
    """

    records: list[dict[str, Any]]
    damaged: int
    lost: int
    pending: int
    elsewhere: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class ArchiveNumbers:
    """Which decisions an archive and uploads hold.

    Attributes:
        numbers: Their numbers by worker.
        first: The first day of the archive that was looked at; None where all were.
        damaged: Lines that are no whole record.
    """

    numbers: Mapping[str, set[int]]
    first: dt.date | None
    damaged: int = 0


@dataclass(frozen=True)
class Uploads:
    """What serving tasks uploaded, as it was listed.

    Attributes:
        store: The store.
        listing: What it held.
    """

    store: ObjectStore
    listing: Listing

    def lines(self, objects: Sequence[UploadedLines] | None = None) -> Iterator[bytes]:
        """Reads the lines of all objects listed, or of some; see `read_lines`."""
        return read_lines(self.store, self.listing.lines if objects is None else objects)

    def notes(self) -> dict[str, set[Moved]]:
        """Reads what went from there into the archive; see `read_notes`."""
        return read_notes(self.store, self.listing)


@dataclass
class _Worker:
    first: int
    read: int = 0
    last: int = 0
    segments: list[Path] = field(default_factory=list)

    def count_archived_elsewhere(self, moved: set[Moved], *, archived: set[int], since: str) -> int:
        """Counts as read what was archived but is not in the archive read here, and returns how many that are.

        Args:
            moved: What was archived.
            archived: Numbers found in the archive.
            since: The first day that was looked for there, YYYY-MM-DD; what was archived of earlier days is taken to
                be there. Empty: all were.
        """
        here = {int(path.stem.rsplit("-", 1)[1]) for path in self.segments}  # perhaps not deleted yet
        numbers = np.sort(np.fromiter(archived, dtype=np.int64, count=len(archived)))
        away = 0
        for run in moved:
            if run.segment not in here:
                found = np.searchsorted(numbers, run.last, side="right") - np.searchsorted(numbers, run.first)
                missing = run.last - run.first + 1 - int(found)
                self.read += missing
                away += missing if run.day >= since else 0
                self.first, self.last = min(self.first, run.first), max(self.last, run.last)
        return away


@dataclass
class _Wanted:
    """The records that a reader asks for: sorted out one by one, so that the others take no memory."""

    since: dt.datetime | None
    records: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start = self.since.astimezone(dt.UTC).isoformat(timespec="milliseconds") if self.since else ""

    def take(self, record: dict[str, Any]) -> None:
        """Keeps a record that is wanted."""
        if record["at"] >= self._start:
            self.records.append(record)


def read_decisions(
    folder: Path,
    *,
    since: dt.datetime | None = None,
    archive: str | Path | None = None,
    uploads: str | None = None,
    archived: Callable[["Uploads | None"], "ArchiveNumbers"] | None = None,
    drawn: bool = False,
    uploads_since: dt.date | None = None,
) -> LogReading:
    """Reads every segment in `folder`, what serving tasks uploaded, and the archive; counts damaged and lost lines.

    A decision that stands in several of them counts once. Of what was uploaded a loss shows where later numbers of the
    same worker are there, or where the worker has ended and its task could still say how many it gave; of a task that
    was killed the last seconds are unknown, and all of it where nothing of it ever came.

    Args:
        folder: Where the workers write; it may be missing where `uploads` is given.
        since: Leaves out earlier decisions, and days of archive and uploads; needs a time zone. Losses are counted over
            all segments, and what was noted as archived on earlier days is taken to be there.
        archive: Where `serving.compact` put older segments; beside `folder` by default.
        uploads: Where serving tasks upload theirs.
        archived: Reads archive and uploads in this function's place. It is called once segments and uploads are listed,
            so that none is missed that is archived meanwhile.
        drawn: Leaves out the days of the archive before the first on which an experiment drew a price.
        uploads_since: The first day of the uploads to look at; that of `since` by default.

    Raises:
        ConfigError: `uploads` is no address.
        SourceError: The folder does not exist, a segment cannot be opened, or the uploads cannot be read.
    """
    where = archive or default_archive(folder)
    first = since.astimezone(dt.UTC).date() if since else None
    uploads_since = uploads_since or first
    for again in (True, False):
        try:
            lines: Iterator[bytes] = iter(())
            if archived is None and not drawn:
                lines = read_archive(where, since=first)
            elif archived is None and (day := first_drawn_day(where)) is not None:
                first = max(first or day, day)
                lines = read_archive(where, since=first)
            wanted = _Wanted(since)
            listed = partial(_listed, uploads, since=uploads_since)
            return _read(folder, wanted, listed=listed, lines=lines, archived=archived, first=first)
        except VanishedError:  # compaction has archived and deleted it since the folder was listed
            if not again:
                raise
    raise AssertionError  # the second attempt has returned or raised


def _read(
    folder: Path,
    wanted: "_Wanted",
    *,
    listed: Callable[[], Uploads | None],
    lines: Iterator[bytes],
    archived: Callable[["Uploads | None"], "ArchiveNumbers"] | None,
    first: dt.date | None,
) -> LogReading:
    # Decisions move from segments to uploads to the archive: looked at in this order, none is missed on its way.
    workers = _workers(folder)
    uploaded = listed()
    if uploaded is None and not folder.is_dir():
        raise SourceError(f"{folder}: no folder of decision logs; serving writes it under PRICING_HOME/decisions")
    before = ArchiveNumbers({}, first) if archived is None else archived(uploaded)
    if uploaded is not None and archived is None:
        lines = chain(lines, uploaded.lines())
    since = max(str(day) for day in (before.first or "", kept_since(folder) or ""))
    damaged = before.damaged
    lost = pending = elsewhere = repeated = 0
    found = {worker: set(numbers) for worker, numbers in before.numbers.items()}
    damaged += _take_new(lines, found, wanted)
    for worker, numbers in found.items():
        worker_log = workers.setdefault(worker, _Worker(min(numbers)))
        worker_log.first, worker_log.last, worker_log.read = min(worker_log.first, *numbers), max(numbers), len(numbers)
    moved = uploaded.notes() if uploaded else {}
    ended = _add_uploaded(workers, uploaded.listing, moved=moved, since=since) if uploaded else {}
    for worker, worker_log in workers.items():
        issued, alive = last_issued(folder, worker)
        issued = max(issued, ended.get(worker, 0))
        seen: set[tuple[str, int]] = set()
        for path in worker_log.segments:
            for line in _lines(path):
                record = decode_line(line)
                if record is None:
                    damaged += 1
                    continue
                if record["sequence"] in found.get(worker, ()):
                    continue  # archived or uploaded and not yet deleted
                if (record["worker"], record["sequence"]) in seen:
                    repeated += 1  # counted once, or it would make up for a lost one
                    continue
                seen.add((record["worker"], record["sequence"]))
                worker_log.read += 1
                worker_log.last = max(worker_log.last, record["sequence"])
                wanted.take(record)
        archived_here = found.get(worker, set())
        elsewhere += worker_log.count_archived_elsewhere(read_note(folder, worker), archived=archived_here, since=since)
        elsewhere += worker_log.count_archived_elsewhere(
            moved.get(worker, set()),
            archived=archived_here | {number for _, number in seen},
            since=since,
        )
        lost += max(0, worker_log.last - worker_log.first + 1 - worker_log.read)
        tail = max(0, issued - max(worker_log.last, worker_log.first - 1))
        pending += tail if alive else 0
        lost += 0 if alive else tail
    kept = sorted(wanted.records, key=lambda record: (record["at"], record["sequence"]))
    add_intervals(kept)
    return LogReading(kept, damaged, lost, pending, elsewhere, repeated)


def _take_new(lines: Iterator[bytes], found: dict[str, set[int]], wanted: "_Wanted") -> int:
    """Takes decisions whose worker and number were not found before; returns how many lines are damaged."""
    damaged = 0
    for line in lines:
        record = decode_line(line)
        if record is None:
            damaged += 1
        elif record["sequence"] not in found.setdefault(record["worker"], set()):
            found[record["worker"]].add(record["sequence"])
            wanted.take(record)
    return damaged


def _listed(uploads: str | None, *, since: dt.date | None) -> Uploads | None:
    if uploads is None:
        return None
    store = open_store(uploads)
    return Uploads(store, list_uploads(store, since=since))


def _add_uploaded(
    workers: dict[str, _Worker], listing: Listing, *, moved: Mapping[str, set[Moved]], since: str
) -> Mapping[str, int]:
    """Adds workers of which no line is there any more, and returns the last numbers that workers which ended gave.

    Of a worker that started on a day that is looked at the first number is 1, whether that was uploaded or not.
    """
    days = dict(listing.days)
    for worker, runs in moved.items():
        workers.setdefault(worker, _Worker(min(run.first for run in runs)))
        days[worker] = min(days.get(worker, "9"), *(run.day for run in runs))
    for worker, day in days.items():
        started = started_on(worker)
        if started and max(listing.since, since) <= started <= day:
            workers.setdefault(worker, _Worker(1)).first = 1
    return {worker: issued for worker, issued in listing.issued.items() if worker in workers}


def closed_segments(folder: Path) -> list[Path]:
    """The segments that are complete: their worker has ended, or writes to a newer one.

    Raises:
        SourceError: The folder does not exist.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: no folder of decision logs; serving writes it under PRICING_HOME/decisions")
    closed: list[Path] = []
    for worker, worker_log in _workers(folder).items():
        _, alive = last_issued(folder, worker)
        closed += worker_log.segments[:-1] if alive else worker_log.segments
    return closed


def read_segment(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Reads the records of one segment, and how many of its lines are damaged.

    A line of another worker than the segment's, or of no day, counts as damaged: archives name files by both.

    Raises:
        SourceError: It cannot be opened.
    """
    name = SEGMENT.fullmatch(path.name)
    worker = name["worker"] if name else None
    found = [
        record if record is not None and record["worker"] == worker and _DAY.match(record["at"]) else None
        for record in map(decode_line, _lines(path))
    ]
    return [record for record in found if record is not None], sum(record is None for record in found)


def counter_file(folder: Path, worker: str) -> Path:
    """The file that keeps the last number that a worker gave."""
    return folder / f"decisions-{worker}.issued"


def workers_in(folder: Path) -> list[str]:
    """The workers of which a segment or the counter is in `folder`, in order of their names."""
    return sorted(_workers(folder))


def segments_of(folder: Path, worker: str) -> list[Path]:
    """A worker's segments, oldest first."""
    found = sorted(folder.glob(f"decisions-{glob.escape(worker)}-*.jsonl"))
    return [path for path in found if (match := SEGMENT.fullmatch(path.name)) and match["worker"] == worker]


def _workers(folder: Path) -> dict[str, _Worker]:
    workers: dict[str, _Worker] = {}
    if not folder.is_dir():  # only uploads are read
        return workers
    for path in sorted(folder.glob("decisions-*.jsonl")):
        match = SEGMENT.fullmatch(path.name)
        if match:
            workers.setdefault(match["worker"], _Worker(int(match["first"]))).segments.append(path)
    for path in folder.glob("decisions-*.issued"):
        workers.setdefault(path.name.removeprefix("decisions-").removesuffix(".issued"), _Worker(1))
    return workers


def last_issued(folder: Path, worker: str) -> tuple[int, bool]:
    """The last number that a worker gave, and whether it still runs; 0 and False where nothing says so."""
    path = counter_file(folder, worker)
    try:
        with path.open("rb") as counter:
            try:
                fcntl.flock(counter, fcntl.LOCK_SH | fcntl.LOCK_NB)
                alive = False
            except BlockingIOError:
                alive = True
            return int.from_bytes(counter.read(8), "little"), alive
    except FileNotFoundError:
        return 0, False


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as segment:
            yield from segment
    except FileNotFoundError as error:
        raise VanishedError(f"{path}: is gone since the folder was listed") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The record of one line; None where it is damaged or of another schema."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and record.keys() >= REQUIRED and record["schema"] == SCHEMA
    sound = whole and isinstance(record["sequence"], int) and isinstance(record["at"], str)
    return record if sound else None


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


LEVELS = {"q10": 0.1, "q90": 0.9}


def add_intervals(records: Sequence[dict[str, Any]]) -> None:
    """Adds the quantiles `q10` and `q90`, whole multiples of `unit`, to candidates that have a size for every price.

    Needs SciPy; where it is not installed, as in the serving image, records stay as they are.
    """
    counted = [record["candidates"] for record in records if _has_sizes(record["candidates"])]
    if not counted:
        return
    try:
        from scipy.stats import nbinom  # noqa: PLC0415 - it must not be loaded by the processes that write the log
    except ImportError:
        return
    lengths = [len(candidates["units"]) for candidates in counted]
    unit = np.repeat([float(candidates["unit"]) for candidates in counted], lengths)
    mean = np.maximum(np.concatenate([candidates["units"] for candidates in counted]) / unit, 1e-9)
    size = np.maximum(np.concatenate([candidates["size"] for candidates in counted]), 1e-9)
    for name, level in LEVELS.items():
        ends = np.split(unit * nbinom.ppf(level, size, size / (size + mean)), np.cumsum(lengths)[:-1])
        for candidates, end in zip(counted, ends, strict=True):
            candidates[name] = end.tolist()


def _has_sizes(candidates: Any) -> bool:
    """Whether there is a size for every price, and all are numbers."""
    if not isinstance(candidates, dict) or "q10" in candidates:
        return False
    units, size = candidates.get("units"), candidates.get("size")
    if not isinstance(units, list) or not isinstance(size, list) or not units or len(units) != len(size):
        return False
    unit = candidates.get("unit", 0.0)
    return all(isinstance(value, int | float) for value in (*units, *size, unit)) and unit > 0
