"""Reads requests in the event loop, within deadlines and limits, before a thread is taken to answer them.

A client that sends slowly, or nothing, costs a connection and what it has sent so far, but never one of the threads.
Where more requests come than are answered, those that would wait too long for a thread are refused at once (429).
Liveness is answered by the loop itself, so that it holds while every thread is busy or stuck.
"""

import asyncio
import io
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from pricing.config_models import ServingConfig
from serving.hot_path import ARRIVED, HEADERS, count, problem_bytes, request_id
from serving.metrics import Metrics
from serving.problems import CONTENT_TYPE, UNFORESEEN, ProblemError
from serving.waiting_queue import WaitingQueue

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    _Waiting = tuple["asyncio.Future[Answer]", WSGIEnvironment]

SMALL = 65_536  # bytes of a body that is neither counted nor kept waiting: the connections bound these
LIVE = "/health/live"
NEVER_REFUSED = frozenset({LIVE, "/health/ready", "/metrics"})  # however many wait: by these it is watched
GONE = 499  # as nginx counts callers who went away before their answer
_BUSY = {"Retry-After": "1"}


class Scope(Protocol):
    """What granian tells of a request (RSGI)."""

    client: str
    server: str
    scheme: str
    method: str
    path: str
    query_string: str
    http_version: str
    headers: Any
    authority: str | None


class Transport(Protocol):
    """How granian hands over a body and takes an answer (RSGI)."""

    async def __call__(self) -> bytes:
        """Reads the whole body."""

    def __aiter__(self) -> Any:
        """Reads the body in pieces."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answers."""


@dataclass
class Answer:
    """A whole response."""

    status: int = 500
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class Gateway:
    """The application that granian calls, around a WSGI application that threads run."""

    def __init__(
        self,
        app: "WSGIApplication",
        *,
        serving: ServingConfig,
        metrics: Metrics,
        stopping: Callable[[], bool],
        admit: Callable[["WSGIEnvironment"], str],
        gone: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Wraps `app`.

        Args:
            app: Answers requests whose bodies have arrived.
            serving: Threads, deadlines and limits.
            metrics: Counts the requests that are refused here.
            stopping: Whether the service is about to stop: connections are then closed after each answer.
            admit: Names, from the headers alone, the caller whose large body is to be read; raises ProblemError for one
                who would be refused anyway.
            gone: What a transport raises once its caller went away.
            clock: Seconds by which waits are measured.
        """
        self._app = app
        self._serving = serving
        self._metrics = metrics
        self._stopping = stopping
        self._admit = admit
        self._gone: tuple[type[Exception], ...] = (*gone, _GoneError)
        self._ended: tuple[type[Exception], ...] = (*gone, TimeoutError)
        self._small_ones: WaitingQueue[_Waiting] = WaitingQueue(
            seconds=serving.queue_seconds, threads=serving.threads, clock=clock
        )
        self._large_ones: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        # One thread for large bodies: memory that JSON took is kept by the thread's arena, and used by the next body.
        for work, name in ((self._work_large, "large"), *[(self._work, "answer")] * serving.threads):
            threading.Thread(target=work, name=name, daemon=True).start()
        self._large = asyncio.Semaphore(1)
        self._room = int(serving.bodies_mb * 1_000_000)
        self._share = max(int(serving.bodies_share * self._room), serving.body_limit)  # one body always fits
        self._holding: dict[str, int] = {}  # caller → bytes of the room that its bodies take

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None:
        """Answers one request."""
        started = time.perf_counter()
        environ = to_environ(scope)
        held = _Held()
        try:
            body = await self._body(environ, transport, held)
            environ[ARRIVED] = time.perf_counter()
            environ["CONTENT_LENGTH"] = str(len(body))
            environ["wsgi.input"] = io.BytesIO(body)
            answer = await self._answer(environ, large=len(body) > SMALL)
        except ProblemError as problem:
            answer = self._refuse(problem, environ, started=started)
        except self._gone as error:
            _log.debug("a caller went away: %s", error, extra={"route": environ["PATH_INFO"]})
            count(self._metrics, route="unread", status=GONE, started=started)
            return
        finally:
            self._release(held)
        if self._stopping():
            answer.headers.append(("Connection", "close"))
        transport.response_bytes(answer.status, answer.headers, answer.body)
        if held.unread:
            await self._read_away(transport)

    async def _read_away(self, transport: Transport) -> None:
        """Reads what an answered caller still sends: one that is cut off while it sends would not see the answer."""
        size = 0
        try:
            async with asyncio.timeout(self._serving.body_seconds):
                async for piece in transport:
                    size += len(piece)
                    if size > _READ_AWAY:
                        break
        except self._ended as error:
            _log.debug("a refused body was not read to its end: %r", error)

    async def _answer(self, environ: "WSGIEnvironment", *, large: bool) -> Answer:
        if environ["PATH_INFO"] == LIVE:
            return self._run(environ)
        if not large:
            if self._small_ones.is_too_long() and environ["PATH_INFO"] not in NEVER_REFUSED:
                raise self._too_busy()
            return await self._in_thread(environ, self._small_ones.put)
        # One at a time: JSON takes up to thirty times its size in memory, and threads gain nothing in reading it.
        try:
            async with asyncio.timeout(self._serving.body_seconds):
                await self._large.acquire()
        except TimeoutError:
            raise _busy("large bodies are read one at a time, and too many wait") from None
        try:
            return await self._in_thread(environ, self._large_ones.put)
        finally:
            self._large.release()

    async def _in_thread(self, environ: "WSGIEnvironment", put: Callable[["_Waiting"], None]) -> Answer:
        # Half the price of loop.run_in_executor, which makes two futures and three locks for each call.
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        put((future, environ))
        return await future

    def _work(self) -> None:
        while True:
            (future, environ), late = self._small_ones.take()
            if late and environ["PATH_INFO"] not in NEVER_REFUSED:
                future.get_loop().call_soon_threadsafe(future.set_exception, self._too_busy())
            else:
                future.get_loop().call_soon_threadsafe(future.set_result, self._run(environ))

    def _work_large(self) -> None:
        while True:
            future, environ = self._large_ones.get()
            future.get_loop().call_soon_threadsafe(future.set_result, self._run(environ))

    def _run(self, environ: "WSGIEnvironment") -> Answer:
        started = time.perf_counter()
        try:
            return run(self._app, environ)
        except Exception as error:  # noqa: BLE001 - it would end the thread, and the caller would wait for ever
            _log.error("unforeseen", exc_info=error, extra={"route": environ["PATH_INFO"]})
            problem = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, UNFORESEEN)
            return self._refuse(problem, environ, started=started)

    async def _body(self, environ: "WSGIEnvironment", transport: Transport, held: "_Held") -> bytes:
        """Reads the body; a large one only of a caller who is admitted.

        Raises:
            ProblemError: 408 when it does not arrive in time, 413 when it is too large, 503 without room for it, and
                what `admit` raises.
            _GoneError: The caller went away; or one of `gone`.
        """
        length = environ.get("CONTENT_LENGTH") or ""
        if not length and "HTTP_TRANSFER_ENCODING" not in environ:
            return b""
        small = length.isdigit() and int(length) <= SMALL
        if not small:
            held.unread = True
            if length.isdigit() and int(length) > self._serving.body_limit:
                raise self._too_large()
            try:
                held.caller = self._admit(environ)
            except ProblemError as problem:
                problem.headers.update(_CLOSE)
                raise
            held.unread = False
        seconds = self._serving.body_seconds
        try:
            async with asyncio.timeout(seconds):
                if small:
                    return await transport()
                body = await self._pieces(transport, held)
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT, f"the body has not arrived within {seconds:g} s", headers=_CLOSE
            ) from None
        if length.isdigit() and len(body) < int(length):  # granian ends the pieces where the caller goes away
            raise _GoneError(f"after {len(body)} of {length} bytes")
        return body

    async def _pieces(self, transport: Transport, held: "_Held") -> bytes:
        limit = self._serving.body_limit
        refusal: ProblemError | None = None
        body = bytearray()
        size = 0
        async for piece in transport:
            size += len(piece)
            if refusal is None and size > limit:
                refusal = self._too_large()
            elif refusal is None and size > SMALL:
                refusal = self._hold(size, held)
            if refusal is None:
                body += piece
            else:  # what is left is read away: a client that still sends would not see the answer
                body.clear()
                self._release(held)
                if size > _READ_AWAY:
                    break
        if refusal is not None:
            raise refusal
        return bytes(body)

    def _hold(self, size: int, held: "_Held") -> ProblemError | None:
        """Takes room for a body of `size` bytes so far, or returns what refuses it."""
        more = size - held.size
        if more > self._room:
            return _busy("too many large bodies are being read")
        holding = self._holding.get(held.caller, 0) + more
        if holding > self._share:
            return _busy("too many large bodies of this caller are being read")
        self._room, held.size, self._holding[held.caller] = self._room - more, size, holding
        return None

    def _release(self, held: "_Held") -> None:
        if held.size:
            self._room += held.size
            left = self._holding.pop(held.caller) - held.size
            if left:
                self._holding[held.caller] = left
            held.size = 0

    def _too_busy(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"more requests come than can be answered within {self._serving.queue_seconds:g} s; try again in a second",
            headers=_BUSY,
        )

    def _too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {self._serving.body_limit} bytes",
            headers=_CLOSE,
        )

    def _refuse(self, problem: ProblemError, environ: "WSGIEnvironment", *, started: float) -> Answer:
        name = request_id(environ.get("HTTP_X_REQUEST_ID"))
        count(self._metrics, route="unread", status=problem.status.value, started=started)
        headers = [("Content-Type", CONTENT_TYPE), ("X-Request-ID", name), *HEADERS.items(), *problem.headers.items()]
        return Answer(problem.status.value, headers, problem_bytes(problem, name))


_log = logging.getLogger(__name__)
_CLOSE = {"Connection": "close"}
_READ_AWAY = 64_000_000  # bytes of a refused body, at most


class _GoneError(Exception):
    """A caller went away before its body had come."""


@dataclass
class _Held:
    """What one request takes of the room for bodies, its bytes and whose they are, and whether its body was left."""

    size: int = 0
    caller: str = ""
    unread: bool = False


def _busy(what: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"{what}; try again in a second", headers=_BUSY)


def run(app: "WSGIApplication", environ: "WSGIEnvironment") -> Answer:
    """Has a WSGI application answer a request."""
    answer = Answer()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        answer.status, answer.headers = int(status[:3]), list(headers)
        return lambda data: None

    parts: Iterable[bytes] = app(environ, start_response)
    try:
        answer.body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return answer


def to_environ(scope: Scope) -> "WSGIEnvironment":
    """Translates granian's description of a request to a WSGI environment.

    A header whose name has an underscore is left out: WSGI cannot tell `X_API_KEY` from `X-API-Key`.
    """
    host, _, port = scope.server.rpartition(":")
    environ: WSGIEnvironment = {
        **_FIXED,
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme,
    }
    for name, value in scope.headers.items():
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


_FIXED: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}
