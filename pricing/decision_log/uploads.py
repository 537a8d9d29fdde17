"""Decision logs that serving tasks have uploaded: names of their objects, and how they are listed and read.

Below the store's address, which PRICING_DECISIONS_URL gives:

- `day=DAY/task=TASK/decisions-WORKER-FIRST-LAST.jsonl`: complete lines of one worker, decided on one day (UTC), with
  the numbers FIRST to LAST. It never changes. Lines may stand in two objects; a decision is its worker and number.
- `day=DAY/task=TASK/counts-WORKER-NUMBER.issued`: empty; the worker has ended and NUMBER was the last that it gave.
- `day=DAY/compacted.json`: which decisions of the day went into the archive, so that they never count as lost.
"""

import datetime as dt
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pricing.decision_log.archive import Moved, runs_of
from pricing.objects import ObjectStore
from pricing.errors import SourceError

NOTE = "compacted.json"
_DAY = re.compile(r"day=(?P<day>\d{4}-\d{2}-\d{2})")
_LINES = re.compile(
    r"day=(?P<day>[\d-]{10})/task=(?P<task>[\w.-]+)/decisions-(?P<worker>[\w.-]+)-(?P<first>\d{12})-(?P<last>\d{12})\.jsonl"
)
_COUNT = re.compile(
    r"day=(?P<day>[\d-]{10})/task=(?P<task>[\w.-]+)/counts-(?P<worker>[\w.-]+)-(?P<issued>\d{12})\.issued"
)
_STARTED = re.compile(r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})T\d{6}-")


class VanishedError(SourceError):
    """Something that was deleted after it was listed."""


@dataclass(frozen=True)
class UploadedLines:
    """An object of lines.

    Attributes:
        key: Its key.
        size: Bytes.
        day: The day on which they were decided, YYYY-MM-DD.
        task: Who uploaded it.
        worker: Who wrote them.
        first: The first line's number.
        last: The last line's number.
    """

    key: str
    size: int
    day: str
    task: str
    worker: str
    first: int
    last: int


@dataclass(frozen=True)
class Listing:
    """What a store holds.

    Attributes:
        lines: The objects of lines, by worker and number.
        issued: Worker that has ended → the last number that it gave.
        counts: Keys of the objects that say so.
        notes: Keys of the notes on what went into the archive.
        days: Worker → the first day of which something of it is listed, YYYY-MM-DD.
        since: The first day that was listed; empty where all were.
    """

    lines: tuple[UploadedLines, ...] = ()
    issued: Mapping[str, int] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    days: Mapping[str, str] = field(default_factory=dict)
    since: str = ""


def lines_key(*, day: str, task: str, worker: str, first: int, last: int) -> str:
    """The key of an object of lines."""
    return f"day={day}/task={task}/decisions-{worker}-{first:012d}-{last:012d}.jsonl"


def count_key(*, day: str, task: str, worker: str, issued: int) -> str:
    """The key of the object that says how many numbers a worker gave; it is listed before the worker's lines."""
    return f"day={day}/task={task}/counts-{worker}-{issued:012d}.issued"


def started_on(worker: str) -> str:
    """The day on which a worker started, YYYY-MM-DD, as its name says; empty for a name of another form."""
    found = _STARTED.match(worker)
    return f"{found['year']}-{found['month']}-{found['day']}" if found else ""


def list_uploads(
    store: ObjectStore,
    *,
    since: dt.date | None = None,
    before: dt.date | None = None,
    tasks: Collection[str] | None = None,
) -> Listing:
    """Lists what was uploaded; other days, and other tasks, are not looked at.

    Newest day first, and of a task its counts before its lines: whoever sees that a worker has ended then also sees all
    that it uploaded before.

    Args:
        store: The store.
        since: The first day; None: all.
        before: The day after the last one; None: all.
        tasks: The tasks; None: all.

    Raises:
        SourceError: The store cannot be listed.
    """
    lines: list[UploadedLines] = []
    issued: dict[str, int] = {}
    days: dict[str, str] = {}
    counts, notes = [], []
    for folder in reversed(store.folders()):
        match = _DAY.fullmatch(folder)
        if match is None or (since is not None and match["day"] < since.isoformat()):
            continue
        if before is not None and match["day"] >= before.isoformat():
            continue
        prefixes = [f"{folder}/"] if tasks is None else [f"{folder}/{name}" for name in (NOTE, *_of(tasks))]
        for stored in (one for prefix in prefixes for one in store.listed(prefix)):
            if found := _LINES.fullmatch(stored.key):
                day, task, worker, first, last = found.groups()
                lines.append(UploadedLines(stored.key, stored.size, day, task, worker, int(first), int(last)))
                days[worker] = day
            elif found := _COUNT.fullmatch(stored.key):
                issued[found["worker"]] = max(issued.get(found["worker"], 0), int(found["issued"]))
                counts.append(stored.key)
                days[found["worker"]] = found["day"]
            elif stored.key == f"{folder}/{NOTE}":
                notes.append(stored.key)
    lines.sort(key=lambda one: (one.day, one.worker, one.first, one.last))
    return Listing(tuple(lines), issued, tuple(counts), tuple(notes), days, since.isoformat() if since else "")


def _of(tasks: Collection[str]) -> list[str]:
    return [f"task={task}/" for task in sorted(tasks)]


def read_lines(store: ObjectStore, objects: Iterable[UploadedLines]) -> Iterator[bytes]:
    """Reads the lines of objects, one object after the other.

    Raises:
        VanishedError: An object is gone since it was listed: compaction has archived it.
        SourceError: One cannot be read.
    """
    wanted = tuple(objects)
    for one, content in zip(wanted, store.read(each.key for each in wanted), strict=True):
        if content is None:
            raise VanishedError(f"{one.key}: is gone since it was listed")
        yield from io.BytesIO(content)


def read_notes(store: ObjectStore, listing: Listing) -> dict[str, set[Moved]]:
    """Reads which decisions of the days listed went into the archive, by worker.

    Raises:
        SourceError: A note cannot be read, or is none.
    """
    moved: dict[str, set[Moved]] = {}
    for key, content in zip(listing.notes, store.read(listing.notes), strict=True):
        for worker, runs in _runs(key, content).items():
            moved.setdefault(worker, set()).update(Moved(first, last, 0, key[4:14]) for first, last in runs)
    return moved


def note_compacted(store: ObjectStore, *, day: str, numbers: Mapping[str, Collection[int]]) -> None:
    """Notes in the store which decisions of a day went into the archive, beside those noted before.

    Args:
        store: The store.
        day: YYYY-MM-DD.
        numbers: Worker → numbers of its decisions.

    Raises:
        SourceError: The note cannot be read or written.
    """
    key = f"day={day}/{NOTE}"
    (content,) = store.read([key])
    noted = _runs(key, content)
    for worker, new in numbers.items():
        noted[worker] = _merged([*noted.get(worker, ()), *runs_of(new)])
    store.put(key, json.dumps({"workers": noted}).encode())


def _merged(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of numbers, those that touch or overlap made one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def _runs(key: str, content: bytes | None) -> dict[str, list[tuple[int, int]]]:
    if content is None:
        return {}
    try:
        found = json.loads(content)["workers"]
        return {str(worker): [(int(first), int(last)) for first, last in runs] for worker, runs in found.items()}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise SourceError(f"{key}: is no note of compaction ({error}); delete it, then compact again") from error
