"""What reaches a thread, and when: bodies, deadlines and room, with granian's side played by fakes."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import pytest

from pricing.config import load_config
from pricing.config_models import ServingConfig
from serving.gateway import GONE, LIVE, NEVER_REFUSED, SMALL, Gateway, to_environ
from serving.hot_path import ARRIVED, arrived
from serving.metrics import Metrics
from serving.problems import ProblemError

SERVING = load_config().serving


class ClosedError(Exception):
    """What granian raises once the caller went away."""


class Headers(dict[str, str]):
    """Granian's headers have lower-case names."""


@dataclass
class Asked:
    """What granian tells of a request."""

    path: str = "/get_price"
    method: str = "POST"
    headers: Headers = field(default_factory=Headers)
    client: str = "10.1.2.3:5000"
    server: str = "127.0.0.1:8080"
    scheme: str = "http"
    query_string: str = ""
    http_version: str = "1.1"
    authority: str | None = None


class Wire:
    """A body that arrives in pieces, or stays away, and the answer."""

    def __init__(self, pieces: Sequence[bytes] = (), *, stuck: bool = False, gone: bool = False) -> None:
        self.pieces, self.stuck, self.gone, self.read, self.read_before = pieces, stuck, gone, 0, 0
        self.status, self.headers, self.body = 0, dict[str, str](), b""
        self.answered = asyncio.Event()

    async def __call__(self) -> bytes:
        return b"".join([piece async for piece in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.read += len(piece)
            yield piece
        if self.gone:
            raise ClosedError
        if self.stuck:
            await asyncio.Event().wait()

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body, self.read_before = status, dict(headers), body, self.read
        self.answered.set()


class Echo:
    """A WSGI application that keeps what it is given, and perhaps waits."""

    def __init__(self, until: threading.Event | None = None) -> None:
        self.until, self.bodies, self.environs = until, list[bytes](), list[dict[str, Any]]()
        self.entered = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.entered.set()
        if self.until is not None and environ["PATH_INFO"] != LIVE:
            self.until.wait(10)
        self.environs.append(environ)
        self.bodies.append(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"o", b"k"]


def by_address(environ: dict[str, Any]) -> str:
    return str(environ["REMOTE_ADDR"])


def keyless(environ: dict[str, Any]) -> str:
    raise ProblemError(HTTPStatus.UNAUTHORIZED, "a key is needed")


def gateway(app: Any, *, stopping: bool = False, admit: Any = by_address, **changes: Any) -> Gateway:
    serving = ServingConfig.model_validate({**SERVING.model_dump(), "body_seconds": 0.05, **changes})
    return Gateway(app, serving=serving, metrics=Metrics(), stopping=lambda: stopping, admit=admit, gone=(ClosedError,))


def sized(length: int) -> Headers:
    return Headers({"content-length": str(length), "content-type": "application/json"})


CHUNKED = Headers({"transfer-encoding": "chunked"})


def test_a_body_arrives_whole_whether_its_length_is_told_or_not() -> None:
    app = Echo()

    async def ask() -> list[int]:
        front, wires = gateway(app), [Wire([b"ab", b"c"]), Wire([b"ab", b"c"]), Wire()]
        await front.__rsgi__(Asked(headers=sized(3)), wires[0])
        await front.__rsgi__(Asked(headers=CHUNKED), wires[1])
        await front.__rsgi__(Asked(method="GET"), wires[2])
        return [wire.status for wire in wires]

    assert asyncio.run(ask()) == [200, 200, 200]
    assert app.bodies == [b"abc", b"abc", b""]
    assert [environ["CONTENT_LENGTH"] for environ in app.environs] == ["3", "3", "0"]


@pytest.mark.parametrize("headers", [sized(3), sized(SMALL + 1), CHUNKED])
def test_half_a_body_is_answered_408_and_takes_no_thread(headers: Headers) -> None:
    app, wire = Echo(), Wire([b"a"], stuck=True)

    asyncio.run(gateway(app).__rsgi__(Asked(headers=headers), wire))

    assert (wire.status, app.bodies) == (408, [])
    assert wire.headers["Connection"] == "close"
    assert "has not arrived within 0.05 s" in json.loads(wire.body)["detail"]


@pytest.mark.parametrize("headers", [sized(2_000), CHUNKED])
def test_a_body_above_the_limit_is_never_passed_on_in_part(headers: Headers) -> None:
    app, wire = Echo(), Wire([b"a" * 500] * 4)
    front = gateway(app, body_limit=1_000)
    headers = Headers(headers | ({"content-length": str(2 * SMALL)} if "content-length" in headers else {}))

    asyncio.run(front.__rsgi__(Asked(headers=headers), wire))

    assert (wire.status, app.bodies) == (413, [])


def test_liveness_is_answered_while_every_thread_is_stuck() -> None:
    release = threading.Event()
    app = Echo(until=release)

    async def ask() -> tuple[int, int]:
        front = gateway(app, threads=1)
        stuck = [asyncio.create_task(front.__rsgi__(Asked(method="GET"), Wire())) for _ in range(3)]
        await asyncio.sleep(0)
        live = Wire()
        await asyncio.wait_for(front.__rsgi__(Asked(LIVE, "GET"), live), timeout=5)
        still = sum(not task.done() for task in stuck)
        release.set()
        await asyncio.gather(*stuck)
        return live.status, still

    assert asyncio.run(ask()) == (200, 3)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def overload(app: Echo, metrics: Metrics, *, asked: Sequence[Asked], seconds: float) -> list[Wire]:
    """One thread is stuck with a request and another one waits for `seconds`; then those `asked` come.

    Returns the wires of the three kinds in this order, once the thread is free again.
    """
    assert app.until is not None
    clock, serving = Clock(), SERVING.model_copy(update={"threads": 1, "queue_seconds": 0.5})
    front = Gateway(
        app, serving=serving, metrics=metrics, stopping=lambda: False, admit=by_address, gone=(), clock=clock
    )
    wires = [Wire() for _ in range(2 + len(asked))]
    stuck = asyncio.create_task(front.__rsgi__(Asked(method="GET"), wires[0]))
    while not app.entered.is_set():
        await asyncio.sleep(0)
    tasks = [stuck, asyncio.create_task(front.__rsgi__(Asked(method="GET"), wires[1]))]
    await asyncio.sleep(0)
    clock.now += seconds
    for request, wire in zip(asked, wires[2:], strict=True):
        tasks.append(asyncio.create_task(front.__rsgi__(request, wire)))
    await asyncio.sleep(0)
    app.until.set()
    await asyncio.wait_for(asyncio.gather(*tasks), timeout=5)
    return wires


def test_a_request_that_would_wait_too_long_is_refused_at_once_and_counted() -> None:
    app, metrics = Echo(until=threading.Event()), Metrics()

    wires = asyncio.run(overload(app, metrics, asked=[Asked(method="GET")], seconds=0.51))

    refused = wires[2]
    assert (wires[0].status, refused.status, refused.headers["Retry-After"]) == (200, 429, "1")
    assert json.loads(refused.body)["title"] == "Too Many Requests"
    assert ("pricing_requests", ("unread", "429"), 2) in metrics.state()


def test_a_request_that_did_wait_too_long_is_refused_unpriced() -> None:
    app = Echo(until=threading.Event())

    wires = asyncio.run(overload(app, Metrics(), asked=[], seconds=0.51))

    assert [wire.status for wire in wires] == [200, 429]
    assert len(app.bodies) == 1


def test_requests_wait_for_a_thread_as_long_as_they_may() -> None:
    wires = asyncio.run(overload(Echo(until=threading.Event()), Metrics(), asked=[Asked(method="GET")], seconds=0.5))

    assert [wire.status for wire in wires] == [200] * 3


def test_who_watches_a_service_under_load_is_never_refused() -> None:
    asked = [Asked(path, "GET") for path in NEVER_REFUSED]

    wires = asyncio.run(overload(Echo(until=threading.Event()), Metrics(), asked=asked, seconds=60))

    assert [wire.status for wire in wires[2:]] == [200] * 3


def test_a_thread_is_told_when_its_request_had_come() -> None:
    app = Echo()

    asyncio.run(gateway(app).__rsgi__(Asked(headers=sized(3)), Wire([b"abc"])))

    assert app.environs[0][ARRIVED] <= arrived({})


def test_large_bodies_share_a_room_and_small_ones_need_none() -> None:
    app, large = Echo(), SMALL + 1

    async def ask() -> tuple[int, int, int]:
        front = gateway(app, bodies_mb=1.5 * large / 1e6, body_seconds=5)
        first = asyncio.create_task(front.__rsgi__(Asked(headers=sized(large)), Wire([b"a" * large], stuck=True)))
        await asyncio.sleep(0)
        second, small = Wire([b"a" * large]), Wire([b"abc"])
        await front.__rsgi__(Asked(headers=sized(large)), second)
        await front.__rsgi__(Asked(headers=sized(3)), small)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        third = Wire([b"a" * large])
        await front.__rsgi__(Asked(headers=sized(large)), third)
        return second.status, small.status, third.status

    assert asyncio.run(ask()) == (503, 200, 200)


def test_large_bodies_are_answered_one_at_a_time() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.01)
        with lock:
            inside -= 1
        start_response("200 OK", [])
        return []

    async def ask() -> list[int]:
        front, wires = gateway(app, body_seconds=5), [Wire([b"a" * (SMALL + 1)]) for _ in range(4)]
        await asyncio.gather(*(front.__rsgi__(Asked(headers=sized(SMALL + 1)), wire) for wire in wires))
        return [wire.status for wire in wires]

    assert asyncio.run(ask()) == [200] * 4
    assert most == 1


def test_a_large_body_that_waits_too_long_for_others_is_told_so() -> None:
    release = threading.Event()

    async def ask() -> int:
        front = gateway(Echo(until=release))
        first = asyncio.create_task(front.__rsgi__(Asked(headers=CHUNKED), Wire([b"a" * (SMALL + 1)])))
        await asyncio.sleep(0)
        late = Wire([b"a" * (SMALL + 1)])
        await front.__rsgi__(Asked(headers=CHUNKED), late)
        release.set()
        await first
        assert late.headers["Retry-After"] == "1"
        return late.status

    assert asyncio.run(ask()) == 503


@pytest.mark.parametrize(("headers", "status"), [(sized(9_999_999_999), 413), (sized(SMALL + 1), 401), (CHUNKED, 401)])
def test_a_large_body_that_is_refused_by_its_head_is_answered_before_it_is_read(headers: Headers, status: int) -> None:
    app, wire = Echo(), Wire([b"a" * 100] * 3, stuck=True)

    async def ask() -> None:
        asked = asyncio.create_task(gateway(app, admit=keyless, body_seconds=5).__rsgi__(Asked(headers=headers), wire))
        await asyncio.wait_for(wire.answered.wait(), timeout=1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(ask())

    assert (wire.status, wire.headers["Connection"], wire.read_before, app.bodies) == (status, "close", 0, [])
    assert wire.read == 300  # then it is read away, so that the caller sees the answer


def test_a_refused_body_is_read_away_no_longer_than_a_body_may_take() -> None:
    wire = Wire(stuck=True)

    asyncio.run(asyncio.wait_for(gateway(Echo(), admit=keyless).__rsgi__(Asked(headers=CHUNKED), wire), timeout=1))

    assert wire.status == 401


def test_a_small_body_is_read_without_a_look_at_its_caller() -> None:
    app, wire = Echo(), Wire([b"abc"])

    asyncio.run(gateway(app, admit=keyless).__rsgi__(Asked(headers=sized(3)), wire))

    assert (wire.status, app.bodies) == (200, [b"abc"])


def test_one_caller_takes_no_more_than_its_share_of_the_room() -> None:
    large = SMALL + 1
    room: dict[str, Any] = {"bodies_mb": 4.5 * large / 1e6, "bodies_share": 0.5, "body_limit": large, "body_seconds": 5}

    async def ask() -> list[int]:
        front = gateway(Echo(), **room)
        stalled = [
            asyncio.create_task(front.__rsgi__(Asked(headers=sized(large)), Wire([b"a" * large], stuck=True)))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        wires = [Wire([b"a" * large]) for _ in range(3)]
        await front.__rsgi__(Asked(headers=sized(large)), wires[0])
        await front.__rsgi__(Asked(headers=sized(large), client="10.1.2.4:5000"), wires[1])
        for one in stalled:
            one.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        await front.__rsgi__(Asked(headers=sized(large)), wires[2])
        assert b"of this caller" in wires[0].body
        return [wire.status for wire in wires]

    assert asyncio.run(ask()) == [503, 200, 200]


def test_one_body_always_fits_into_a_share() -> None:
    wire = Wire([b"a" * 2 * SMALL])
    front = gateway(Echo(), bodies_mb=1, bodies_share=0.01, body_limit=2 * SMALL, body_seconds=5)

    asyncio.run(front.__rsgi__(Asked(headers=sized(2 * SMALL)), wire))

    assert wire.status == 200


@pytest.mark.parametrize(
    ("headers", "told"), [(sized(3), True), (sized(SMALL + 1), True), (sized(SMALL + 1), False), (CHUNKED, True)]
)
def test_a_caller_who_goes_away_is_counted_and_is_no_error(
    headers: Headers, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app, wire, metrics = Echo(), Wire([b"a"], gone=told), Metrics()
    front = Gateway(
        app, serving=SERVING, metrics=metrics, stopping=lambda: False, admit=by_address, gone=(ClosedError,)
    )

    asyncio.run(front.__rsgi__(Asked(headers=headers), wire))

    assert (wire.status, app.bodies) == (0, [])
    assert ("pricing_requests", ("unread", str(GONE)), 1) in metrics.state()
    assert [record.levelname for record in caplog.records if record.name == "serving.gateway"] == ["DEBUG"]


@pytest.mark.parametrize("stopping", [True, False])
def test_an_answer_closes_its_connection_before_a_stop(stopping: bool) -> None:
    wire = Wire()

    asyncio.run(gateway(Echo(), stopping=stopping).__rsgi__(Asked(method="GET"), wire))

    assert (wire.headers.get("Connection") == "close") is stopping


@pytest.mark.parametrize("path", ["/get_price", LIVE])
def test_an_application_that_raises_answers_500_and_keeps_its_thread(path: str) -> None:
    def fails(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise ZeroDivisionError("secret")

    async def ask() -> list[Wire]:
        front, wires = gateway(fails, threads=1), [Wire(), Wire()]
        for wire in wires:
            await asyncio.wait_for(front.__rsgi__(Asked(path, "GET"), wire), timeout=5)
        return wires

    wires = asyncio.run(ask())

    assert [wire.status for wire in wires] == [500, 500]
    assert b"secret" not in wires[0].body


def test_no_header_moves_the_routes_or_poses_as_another() -> None:
    headers = {"script_name": "/x", "script-name": "/x", "x_api_key": "stolen", "x-api-key": "own", "host": "here"}

    environ = to_environ(Asked("/models/é", headers=Headers(headers)))

    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/models/é"
    assert (environ["HTTP_X_API_KEY"], environ["HTTP_HOST"], environ["REMOTE_ADDR"]) == ("own", "here", "10.1.2.3")
