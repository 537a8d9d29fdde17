"""A real HTTP server of competitors' offers in the reference format, which misbehaves when told to."""

import datetime as dt
import gzip
import hashlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pricing.config_competitors import CompetitorsConfig
from pricing.sources.competitor_http import Clock

NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
KEY = "a-key-nobody-else-has"
SECRET = "a-secret-nobody-else-has"
ENVIRONMENT = {"RIVAL_KEY": KEY, "RIVAL_ID": "shop", "RIVAL_SECRET": SECRET}


def offer(product: str = "P1", price: float = 10.0, **others: Any) -> dict[str, Any]:
    plain = {"competitor": "Rival", "product_id": product, "price": price, "currency": "EUR"}
    return {**plain, "observed_at": "2026-03-10T06:00:00Z", **others}


@dataclass
class FakeClock:
    """Time that passes only while somebody sleeps; what was slept is kept."""

    time: dt.datetime = NOON
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        self.time += dt.timedelta(seconds=seconds)

    def now(self) -> dt.datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def as_clock(self) -> Clock:
        return Clock(now=self.now, monotonic=self.monotonic, sleep=self.sleep)


@dataclass(frozen=True)
class Seen:
    """A request as the server saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


Fault = Callable[["Handler"], None]


class PriceServer:
    """What it offers, and what it does to the next requests.

    Attributes:
        offers: All offers, which pages are cut from.
        faults: One for each of the next requests, None for one that is answered well; then all are.
        seen: Requests so far.
        key: Needed in X-Api-Key; none where empty.
        tokens: Access tokens that count; None where none is needed.
        etags: Whether answers have one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.offers: list[dict[str, Any]] = [offer()]
        self.faults: deque[Fault | None] = deque()
        self.seen: list[Seen] = []
        self.key = ""
        self.tokens: list[str] | None = None
        self.token_seconds = 3600
        self.etags = False
        self.closing = threading.Event()

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the reference format."""
        start, size = int(query.get("cursor", "0")), int(query.get("limit", "1000"))
        following = start + size
        more = {"next_cursor": str(following)} if following < len(self.offers) else {}
        return {"offers": self.offers[start:following], **more}

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.seen]

    @property
    def cursors(self) -> list[str]:
        return [each.query.get("cursor", "") for each in self.seen if each.method == "GET"]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    service: PriceServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._note("")
        fault = self.service.faults.popleft() if self.service.faults else None
        if fault is not None:
            fault(self)
            return
        if self.service.key and self.headers.get("X-Api-Key") != self.service.key:
            self.answer(401, {"error": "unknown key"})
            return
        tokens = self.service.tokens
        if tokens is not None and self.headers.get("Authorization", "").removeprefix("Bearer ") not in tokens:
            self.answer(401, {"error": "token ended"})
            return
        numbers = [self.query.get("cursor", "0"), self.query.get("limit", "1000")]
        if not all(number.isascii() and number.isdecimal() and len(number) < 9 for number in numbers):
            self.answer(400, {"error": "no such page"})
            return
        body = json.dumps(self.service.page(self.query)).encode()
        mark = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.service.etags and self.headers.get("If-None-Match") == mark:
            self.answer_bytes(304, b"", {"ETag": mark})
            return
        self.answer_bytes(200, body, {"ETag": mark} if self.service.etags else {})

    def do_POST(self) -> None:
        self._note(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        fault = self.service.faults.popleft() if self.service.faults else None
        if fault is not None:
            fault(self)
            return
        token = f"access-token-{sum(each.method == 'POST' for each in self.service.seen)}"
        self.service.tokens = [token]
        life = {"access_token": token, "token_type": "Bearer", "expires_in": self.service.token_seconds}
        self.answer(200, life)

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def answer(self, status: int, payload: Any, headers: Mapping[str, str] | None = None) -> None:
        self.answer_bytes(status, json.dumps(payload).encode(), headers)

    def answer_bytes(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        values = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in values.items():
            self.send_header(name, value)
        self.end_headers()
        if status != 304:
            self.wfile.write(body)

    def _note(self, body: str) -> None:
        path = urlsplit(self.path).path
        self.service.seen.append(Seen(self.command, path, self.query, dict(self.headers.items()), body))


@contextmanager
def price_server() -> Iterator[PriceServer]:
    """Starts the server on a free port."""
    handler = type("_Handler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service = handler.service = PriceServer(f"http://127.0.0.1:{server.server_address[1]}/v1/offers")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, **headers: str) -> Fault:
    """Answers with a status; headers are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(code, {"error": "for the test"}, named)


def body(content: bytes, **headers: str) -> Fault:
    """Answers 200 with these bytes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer_bytes(200, content, named)


def payload(content: Any) -> Fault:
    """Answers 200 with this JSON."""
    return body(json.dumps(content).encode())


def cut_off(handler: Handler) -> None:
    """Promises a body and ends the connection in its middle."""
    whole = json.dumps(handler.service.page(handler.query)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])
    handler.close_connection = True


def cut_off_gzip(handler: Handler) -> None:
    """A gzip body whose length is right and whose content ends in its middle."""
    whole = gzip.compress(json.dumps(handler.service.page(handler.query)).encode())
    handler.answer_bytes(200, whole[: len(whole) // 2], {"Content-Encoding": "gzip"})


def reset(handler: Handler) -> None:
    """Resets the connection without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def _drip(handler: Handler, byte: bytes) -> None:
    handler.close_connection = True
    while not handler.service.closing.is_set():
        try:
            handler.wfile.write(byte)
        except OSError:
            return
        time.sleep(0.01)


def drip(handler: Handler) -> None:
    """Sends a byte now and then, for as long as the server lives or somebody listens: never silent, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    _drip(handler, b" ")


def drip_headers(handler: Handler) -> None:
    """The same in the middle of the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(handler, b"x")


def silent(handler: Handler) -> None:
    """Says nothing until the server ends."""
    handler.close_connection = True
    handler.service.closing.wait(timeout=30)


def endless(handler: Handler) -> None:
    """A body without a length and without an end."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.service.closing.is_set():
        try:
            handler.wfile.write(b" " * 65_536)
        except OSError:
            return


def bomb(megabytes: int) -> Fault:
    """A small gzip body that unpacks to many megabytes."""
    return body(gzip.compress(b" " * (megabytes * 1_000_000)), Content_Encoding="gzip")


def competitors(url: str, **api: Any) -> CompetitorsConfig:
    """A configuration with this one API; `calls` and `paging` are laid over quick ones."""
    calls = {"rate": 1000, "first_wait": 1, "attempts": 3, "read_seconds": 5, **api.pop("calls", {})}
    others = api.pop("others", {})
    return CompetitorsConfig.model_validate(
        {"currency": "EUR", "apis": {"rival": {"url": url, "calls": calls, **api}}, **others}
    )
