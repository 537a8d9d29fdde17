"""Upload what is new in the decision log, every few seconds, to the store that all machines share.

It stands beside the registry, not behind it: a thread of the follower's process, which no call of MLflow holds up.
`pricing.decision_log.uploads` describes the objects. They hold whole lines, are named by their numbers and never
change, so that one that is written twice, as after a crash, does no harm.
"""

import datetime as dt
import fcntl
import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pricing.decision_log.format import counter_file, decode_line, last_issued, segments_of, workers_in
from pricing.objects import ObjectStore
from pricing.decision_log.uploads import count_key, lines_key
from pricing.errors import ConfigError, SourceError
from pricing.fileio import redact_text, replace_json
from serving.absence import Absence

OBJECT_BYTES = 8_000_000  # of one object at most, unless a single line is larger
YOUNG_SECONDS = 60.0  # a counter that is younger may not be locked yet by its worker
IDLE_SECONDS = 3600.0  # a worker without a counter may still write until its segment is this old
_LINE = re.compile(rb'\{"schema":\d+,"worker":"([\w.-]+)","sequence":(\d+),"at":"(\d{4}-\d\d-\d\dT[^"]+)"')
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UploadStatus:
    """How far the decision log is uploaded.

    Attributes:
        through: What was on the disk by then is in the store, seconds since 1970.
        waiting_bytes: Bytes of the log that are not.
        failures: Uploads that failed since the service began.
        dropped: Decisions deleted since then because too many waited.
        damaged: Lines since then that were none.
        failure: Why the last upload failed; None where it did not.
    """

    through: float
    waiting_bytes: int = 0
    failures: int = 0
    dropped: int = 0
    damaged: int = 0
    failure: str | None = None


def read_upload_status(path: Path) -> UploadStatus | None:
    """Reads the status; None where there is none."""
    try:
        return UploadStatus(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Progress:
    """How far a segment is uploaded.

    Attributes:
        offset: Bytes.
        last: Number of the last line in them.
    """

    offset: int = 0
    last: int = 0


@dataclass(frozen=True)
class Part:
    """Lines of one day that make one object; `body` is empty where only damaged ones were found.

    Attributes:
        day: The day, YYYY-MM-DD.
        first: The first line's number.
        body: The lines.
        damaged: Lines before or between them that are none.
        done: How far the segment is uploaded with it.
    """

    day: str
    first: int
    body: bytes
    damaged: int
    done: Progress


def new_parts(path: Path, *, worker: str, done: Progress) -> Iterator[Part]:
    """Reads the complete lines of a segment that are not uploaded yet.

    Where the segment does not go on with the next number it is read from its start: a writer whose disk was full has
    cut it and written on, or numbers are missing.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as segment:
        start = done.offset if _goes_on(segment, worker, done) else 0
        known = done.offset
        while True:
            segment.seek(start)
            block = segment.read(OBJECT_BYTES)
            whole = block.rfind(b"\n") + 1
            if not whole and len(block) < OBJECT_BYTES:
                return
            lines = io.BytesIO(block[:whole] if whole else block + segment.readline()).readlines()
            for part in _parts(lines, worker=worker, done=Progress(start, done.last), known=known):
                done = part.done
                yield part
            start += sum(map(len, lines))


def _parts(lines: list[bytes], *, worker: str, done: Progress, known: int) -> Iterator[Part]:
    """Groups lines by day; damage before the offset `known` was counted earlier."""
    offset, last, day, first, damaged = done.offset, done.last, "", 0, 0
    body: list[bytes] = []
    for line in lines:
        found = _decision(line, worker)
        if found is not None and body and found[1][:10] != day:
            yield Part(day, first, b"".join(body), damaged, Progress(offset, last))
            body, damaged = [], 0
        damaged += found is None and offset >= known
        offset += len(line)
        if found is not None and found[0] > last:
            first, day = (first, day) if body else (found[0], found[1][:10])
            last = found[0]
            body.append(line)
    yield Part(day, first, b"".join(body), damaged, Progress(offset, last))


def _goes_on(segment: BinaryIO, worker: str, done: Progress) -> bool:
    if not done.offset:
        return True
    segment.seek(done.offset - 1)
    end, line = segment.read(1), segment.readline()
    if end != b"\n":
        return False
    found = _decision(line, worker) if line.endswith(b"\n") else None
    return not line.endswith(b"\n") or (found is not None and found[0] == done.last + 1)


def _decision(line: bytes, worker: str) -> tuple[int, str] | None:
    """The number of a line, and when it was decided; None where it is no line of this worker."""
    found = _LINE.match(line)
    if found is not None and line.endswith(b"}\n"):
        return (int(found[2]), found[3].decode()) if found[1].decode() == worker else None
    record = decode_line(line)
    if record is None or record["worker"] != worker or not re.match(r"\d{4}-\d\d-\d\dT", record["at"]):
        return None
    return record["sequence"], record["at"]


class LogUpload:
    """Uploads the segments of one folder, and deletes those that are uploaded and that nobody writes to any more."""

    def __init__(
        self,
        folder: Path,
        *,
        store: Callable[[], ObjectStore],
        task: str,
        status: Path,
        waiting_bytes: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Takes up where an earlier run stopped; asks nothing of the store.

        Args:
            folder: Where the workers write.
            store: Opens the store, on first use.
            task: The name of this task.
            status: The file that tells the workers how far it is.
            waiting_bytes: Of the log that may wait on the disk while the store is away.
            now: The clock: seconds since 1970.
        """
        self._folder, self._open, self._task = folder, store, task
        self._path, self._limit, self._now = status, waiting_bytes, now
        self._store: ObjectStore | None = None
        self._held: int | None = None
        self._absence = Absence(back="the decision log is uploaded again", now=now)
        self._noted = folder / "uploaded.json"
        self._done = self._read_progress()
        self._kept: dict[str, Progress] = {}
        before = read_upload_status(status)
        self.status = before or UploadStatus(through=self._oldest_waiting() or now())
        self._publish(self.status)

    def look(self) -> UploadStatus:
        """Uploads what is new once; never raises for a fault of store or disk."""
        try:
            return self._look()
        except OSError as error:  # of this machine's own disk
            failure = f"{self._folder}: {error}"
            self._say(failure)
            return self._publish(replace(self.status, failures=self.status.failures + 1, failure=failure))

    def _look(self) -> UploadStatus:
        started = self._now()
        if not self._holds_folder():  # another service with the same folder uploads it, and tells how far it is
            return self._publish(replace(self.status, through=started, waiting_bytes=0, failure=None))
        failure = self._upload_all()
        if failure is not None:
            self._drop_beyond_limit()
        self._say(failure)
        oldest = None if failure is None else self._oldest_waiting()
        return self._publish(
            replace(
                self.status,
                through=started if oldest is None else oldest,
                waiting_bytes=sum(waiting for _, waiting in self._waiting()),
                failures=self.status.failures + (failure is not None),
                failure=failure,
            )
        )

    def finish(self, *, seconds: float) -> None:
        """Uploads the last once the workers have ended; tries again for so long where that fails."""
        end = time.monotonic() + seconds
        while self.look().failure is not None and time.monotonic() < end:
            time.sleep(0.2)
        self.say_what_is_left()

    def close(self) -> None:
        """Leaves the folder to another service's upload."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def say_what_is_left(self) -> None:
        """Writes into the log how much is not uploaded."""
        waiting = list(self._waiting())
        size = sum(left for _, left in waiting)
        if not size:
            _log.info("the decision log is uploaded to its end")
            return
        oldest = dt.datetime.fromtimestamp(self._oldest_waiting() or self._now(), dt.UTC)
        _log.error(
            "%d bytes of the decision log, in %d segment(s), from %s on, are not uploaded (%s); the next run of the "
            "service in this folder uploads them, and without it they are lost",
            size,
            len(waiting),
            oldest.isoformat(timespec="seconds"),
            self.status.failure or "time is up",
        )

    def _upload_all(self) -> str | None:
        """Uploads every worker's segments; returns why that failed. A segment that cannot be read holds up no other."""
        failure = None
        try:
            self._store = self._store or self._open()
            for worker in workers_in(self._folder):
                try:
                    self._upload(worker, self._store)
                except OSError as error:
                    failure = str(error)
        except (SourceError, ConfigError, OSError) as error:
            failure = redact_text(str(error))
        self._keep_progress()
        return failure

    def _upload(self, worker: str, store: ObjectStore) -> None:
        issued, alive = last_issued(self._folder, worker)  # first: what it wrote before it ended is then seen below
        counter = counter_file(self._folder, worker)
        segments = segments_of(self._folder, worker)
        if not alive:
            alive = self._may_live(counter, issued=issued, newest=segments[-1] if segments else None)
        for path in segments:
            with suppress(FileNotFoundError):  # compaction has archived it
                self._upload_segment(path, worker, store)
                if not alive or path != segments[-1]:
                    self._warn_of_rest(path)
                    path.unlink()
        if not alive and counter.exists():
            if issued:
                ended = dt.datetime.fromtimestamp(counter.stat().st_mtime, dt.UTC).date().isoformat()
                store.put(count_key(day=ended, task=self._task, worker=worker, issued=issued), b"")
            counter.unlink(missing_ok=True)

    def _may_live(self, counter: Path, *, issued: int, newest: Path | None) -> bool:
        """Whether a worker whose counter is not locked may still write: it has just begun, or could make no counter."""
        with suppress(FileNotFoundError):
            if counter.exists():
                return not issued and self._now() - counter.stat().st_mtime < YOUNG_SECONDS
            return newest is not None and self._now() - newest.stat().st_mtime < IDLE_SECONDS
        return False

    def _upload_segment(self, path: Path, worker: str, store: ObjectStore) -> None:
        for part in new_parts(path, worker=worker, done=self._done.get(path.name, Progress())):
            if part.body:
                key = lines_key(day=part.day, task=self._task, worker=worker, first=part.first, last=part.done.last)
                store.put(key, part.body)
            if part.damaged:
                _log.error("%s: %d damaged line(s) are not uploaded", path, part.damaged)
                self.status = replace(self.status, damaged=self.status.damaged + part.damaged)
            self._done[path.name] = part.done
            self._keep_progress()

    def _warn_of_rest(self, path: Path) -> None:
        rest = path.stat().st_size - self._done.get(path.name, Progress()).offset
        if rest:
            _log.warning("%s ends with %d bytes of a line that was never finished; its decision is lost", path, rest)

    def _waiting(self) -> Iterator[tuple[Path, int]]:
        """The segments that are not uploaded to their end, and how many bytes wait in each; oldest first."""
        for worker in workers_in(self._folder):
            for path in segments_of(self._folder, worker):
                with suppress(FileNotFoundError):
                    left = path.stat().st_size - self._done.get(path.name, Progress()).offset
                    if left > 0:
                        yield path, left

    def _oldest_waiting(self) -> float | None:
        """When the oldest decision that waits was made, seconds since 1970; None where none waits."""
        found = []
        for path, _ in self._waiting():
            with suppress(OSError, ValueError), path.open("rb") as segment:
                segment.seek(self._done.get(path.name, Progress()).offset)
                line = _LINE.match(segment.readline())
                found.append(dt.datetime.fromisoformat(line[3].decode()).timestamp() if line else path.stat().st_mtime)
        return min(found, default=None)

    def _drop_beyond_limit(self) -> None:
        """Deletes the oldest segments that wait, but none that a worker still writes to, until the rest may wait."""
        waiting = list(self._waiting())
        size = sum(left for _, left in waiting)
        for path, left in waiting:
            worker = path.name.removeprefix("decisions-").rpartition("-")[0]
            newest = segments_of(self._folder, worker)[-1:] == [path]
            if size <= self._limit:
                return
            if newest and last_issued(self._folder, worker)[1]:
                continue
            with suppress(OSError):
                with path.open("rb") as segment:
                    segment.seek(self._done.get(path.name, Progress()).offset)
                    dropped = sum(1 for _ in segment)
                path.unlink()
                size -= left
                self.status = replace(self.status, dropped=self.status.dropped + dropped)
                _log.error(
                    "%s is deleted with %d decisions that were not uploaded: more than serving.upload_waiting_mb wait",
                    path.name,
                    dropped,
                )

    def _holds_folder(self) -> bool:
        if self._held is None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                held = os.open(self._folder / "upload.lock", os.O_RDWR | os.O_CREAT, 0o640)
            except OSError as error:
                self._say(f"{self._folder}: {error.strerror}")
                return True  # nothing can be uploaded, which is then found out and told
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(held)
                return False
            self._held = held
            self._done = self._read_progress()
        return True

    def _read_progress(self) -> dict[str, Progress]:
        """How far an earlier run was; where nobody knows all is uploaded again, which does no harm."""
        try:
            found = json.loads(self._noted.read_bytes())
            return {str(name): Progress(int(offset), int(last)) for name, (offset, last) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _keep_progress(self) -> None:
        self._done = {name: done for name, done in self._done.items() if (self._folder / name).exists()}
        if self._done == self._kept:
            return
        try:
            replace_json(self._noted, {name: (it.offset, it.last) for name, it in self._done.items()}, durable=False)
            self._kept = dict(self._done)
        except OSError as error:
            _log.warning("%s cannot be written: %s; after a restart lines are uploaded again", self._noted, error)

    def _publish(self, status: UploadStatus) -> UploadStatus:
        self.status = status
        try:
            replace_json(self._path, asdict(status), durable=False)
        except OSError as error:
            _log.error("%s cannot be written: %s", self._path, error)
        return status

    def _say(self, failure: str | None) -> None:
        if failure is None:
            self._absence.ends()
        else:
            self._absence.begins(
                failure, stays="the decision log cannot be uploaded, and waits on the disk; prices go on"
            )


class Uploading:
    """A thread that uploads until `stop` is set, and then once more."""

    def __init__(self, upload: LogUpload, *, stop: threading.Event, every: float, stop_seconds: float) -> None:
        self._upload, self._stop, self._every, self._stop_seconds = upload, stop, every, stop_seconds
        self._stopped_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="log-upload", daemon=True)
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Whether the thread goes on; one that met an error that nobody foresaw has ended."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Waits for the last upload, no longer than it may take."""
        since = time.monotonic() if self._stopped_at is None else self._stopped_at
        self._thread.join(max(0.0, since + self._stop_seconds - time.monotonic()))
        if self._thread.is_alive():
            self._upload.say_what_is_left()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + self._every
            self._upload.look()
        self._stopped_at = time.monotonic()
        self._upload.finish(seconds=self._stop_seconds)
        self._upload.close()
