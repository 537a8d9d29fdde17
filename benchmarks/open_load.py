"""Open-loop load over HTTP: each request leaves when it is due, whether or not earlier ones have been answered.

The time of an answer counts from the moment at which its request was *due*. A generator that waits for an answer before
it sends the next request slows down with the server and leaves out the very requests that would have waited longest
(coordinated omission); here a late server, or a late generator, shows as latency, and the generator's own lateness and
processor time are kept beside it.
"""

import asyncio
import gc
import itertools
import math
import re
import resource
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

CONNECT_SECONDS = 1.0  # after which a request goes to the next target
LOST = 0  # the status of a request that got no answer
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_VERSION = re.compile(rb'"model_version":"([^"]*)"')
_SOURCE = re.compile(rb'"source":"([^"]*)"')
_MOST_SENT_AT_ONCE = 32  # overdue requests sent before answers are looked at again


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; times are in seconds since the load began.

    Attributes:
        due: When it was to leave.
        left: When it left; later than `due` where the generator was late.
        came: When its answer came, or it was given up.
        status: HTTP status; `LOST` where the connection broke or nothing came in time.
        target: Name of the target that got it.
        version: The model version that answered; empty where none did.
        source: Who gave the price, as the answer says.
        refused: Connections that were refused before one was made.
    """

    due: float
    left: float
    came: float
    status: int
    target: str
    version: str = ""
    source: str = ""
    refused: int = 0

    @property
    def ms(self) -> float:
        """Milliseconds from when the request was due to its answer."""
        return 1000 * (self.came - self.due)


@dataclass(frozen=True)
class Segment:
    """A span of time in which the rate changes evenly.

    Attributes:
        seconds: Its length.
        begin: Requests a second at its begin.
        end: Requests a second at its end.
    """

    seconds: float
    begin: float
    end: float


def arrivals(segments: Iterable[Segment]) -> Iterator[float]:
    """The times at which requests are due, seconds since the begin, evenly spaced at a constant rate.

    Where the rate changes, the k-th request is due when its integral reaches k.
    """
    start, before, number = 0.0, 0.0, 0
    for segment in segments:
        slope = (segment.end - segment.begin) / segment.seconds
        after = before + segment.seconds * (segment.begin + segment.end) / 2
        while number < after:
            wanted = number - before  # = begin × t + slope × t² / 2
            root = math.sqrt(segment.begin**2 + 2 * slope * wanted)
            yield start + (2 * wanted / (segment.begin + root) if wanted else 0.0)
            number += 1
        start, before = start + segment.seconds, after


def quantile(answers: Iterable[Answer], share: float) -> float:
    """The time within which this share of the answers came, milliseconds; NaN without any."""
    times = sorted(answer.ms for answer in answers)
    return times[max(0, math.ceil(share * len(times)) - 1)] if times else math.nan


class Connection(asyncio.Protocol):
    """One kept-alive connection, with one request under way at most."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport, self.open = transport, True  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before its answer"))

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None or self._answer.done():
            return
        length = _LENGTH.search(head)
        if len(body) >= (int(length.group(1)) if length else 0):
            self.open = self.open and b"connection: close" not in head.lower()
            self._answer.set_result((int(head[9:12]), body))

    async def ask(self, request: bytes, *, patience: float) -> tuple[int, bytes]:
        """Sends a request and returns the answer's status and body.

        Raises:
            OSError: The connection broke, or no answer came within `patience` seconds; it is of no use any more.
        """
        assert self._transport is not None
        self._answer, self._received = asyncio.get_running_loop().create_future(), b""
        self._transport.write(request)
        try:
            async with asyncio.timeout(patience):
                return await self._answer
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cuts it off."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()


@dataclass
class Target:
    """Where requests go; connections are kept and used again, the last one first."""

    name: str
    host: str
    port: int
    idle: list[Connection] = field(default_factory=list)

    async def connection(self) -> Connection:
        """A connection that is free.

        Raises:
            OSError: None can be made, or not in time.
        """
        while self.idle:
            if (kept := self.idle.pop()).open:
                return kept
        async with asyncio.timeout(CONNECT_SECONDS):
            _, made = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        return made


@dataclass
class Load:
    """A load that runs or has ended.

    Attributes:
        targets: Get requests in turn; may be changed meanwhile.
        answers: What became of the requests, in the order in which they ended.
        patience: Seconds after which a request without an answer is given up.
        stop: Set to end it before its time.
        busy: Share of one processor that the generator took; NaN until it has ended.
        dues: Number of requests that became due.
    """

    targets: list[Target]
    patience: float = 10.0
    answers: list[Answer] = field(default_factory=list)
    stop: bool = False
    busy: float = math.nan
    dues: int = 0
    _began: float = field(default_factory=time.perf_counter)

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._began

    def between(self, begin: float, end: float) -> list[Answer]:
        """The requests that were due in a span of time."""
        return [answer for answer in self.answers if begin <= answer.due < end]

    @property
    def late_ms(self) -> float:
        """By how much 99 of 100 requests left late at most: what of the latency is the generator's own."""
        late = sorted(1000 * (answer.left - answer.due) for answer in self.answers)
        return late[math.ceil(0.99 * len(late)) - 1] if late else math.nan

    def run(
        self,
        dues: Iterable[float],
        requests: Sequence[bytes],
        *,
        script: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Sends requests, in turn, when they are due, and returns when every one has ended.

        Args:
            dues: When requests are due, seconds since the begin, ascending.
            requests: Whole HTTP requests.
            script: What happens meanwhile; when it ends, so does the load.
        """
        _allow_files()
        gc.collect()
        gc.disable()  # a collection among a million answers would hold requests back
        used, begun = time.process_time(), time.perf_counter()
        try:
            asyncio.run(self._run(dues, requests, script))
        finally:
            gc.enable()
            self.busy = (time.process_time() - used) / (time.perf_counter() - begun)

    async def _run(
        self, dues: Iterable[float], requests: Sequence[bytes], script: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._began = time.perf_counter()
        sending = asyncio.create_task(self._send(dues, requests))
        try:
            if script is not None:
                await script()
                self.stop = True
            await sending
        finally:
            sending.cancel()
        for target in self.targets:
            while target.idle:
                target.idle.pop().close()

    async def _send(self, dues: Iterable[float], requests: Sequence[bytes]) -> None:
        turns, bodies = itertools.count(), itertools.cycle(requests)
        at_once = 0
        async with asyncio.TaskGroup() as group:
            for due in dues:
                wait = due - self.now
                at_once = 0 if wait > 0 else at_once + 1
                if wait > 0 or at_once % _MOST_SENT_AT_ONCE == 0:
                    await asyncio.sleep(max(wait, 0.0))
                if self.stop:
                    return
                self.dues += 1
                group.create_task(self._one(due, next(bodies), turn=next(turns)))

    async def _one(self, due: float, request: bytes, *, turn: int) -> None:
        targets = deque(self.targets)
        targets.rotate(-(turn % len(targets)))
        target, left, refused = targets[0], self.now, 0
        for target in targets:
            try:
                connection = await target.connection()
            except OSError:
                refused += 1
                continue
            left = self.now
            try:
                status, body = await connection.ask(request, patience=self.patience)
            except OSError:  # a TimeoutError is one
                break
            if connection.open:
                target.idle.append(connection)
            version, source = (_named(pattern, body) for pattern in (_VERSION, _SOURCE))
            self.answers.append(Answer(due, left, self.now, status, target.name, version, source, refused))
            return
        self.answers.append(Answer(due, left, self.now, LOST, target.name, refused=refused))


def post(path: str, body: bytes, *, key: str = "", host: str = "pricing") -> bytes:
    """A whole HTTP request with a JSON body."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"X-API-Key: {key}"] if key else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _named(pattern: re.Pattern[bytes], body: bytes) -> str:
    found = pattern.search(body)
    return found.group(1).decode() if found else ""


def _allow_files() -> None:
    """Raises this process's limit of open files as far as it may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
