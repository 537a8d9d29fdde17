"""A real HTTP server, of competitors' prices or for alerts, which gives any answer that a test prepares."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str

    @property
    def form(self) -> Mapping[str, str]:
        return dict(parse_qsl(self.body))


Fault = Callable[["Handler"], None]
Prepared = Any  # a JSON document, bytes, or a fault


@dataclass
class PriceApi:
    """What the server answers in turn, the last answer for ever, and what it was asked."""

    url: str
    answers: deque[Prepared] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The JSON that it was sent."""
        return [json.loads(one.body) for one in self.asked]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    api: PriceApi

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        headers = dict(self.headers.items())
        self.api.asked.append(Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body))
        answer = self.api.answers.popleft() if len(self.api.answers) > 1 else self.api.answers[0]
        if callable(answer):
            answer(self)
        else:
            self.send(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815

    def send(self, code: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def price_api(*answers: Prepared) -> Iterator[PriceApi]:
    """Starts the server on a free port."""
    handler = type("_Handler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api = handler.api = PriceApi(f"http://127.0.0.1:{server.server_port}/offers", deque(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, *, body: bytes = b"{}", **headers: str) -> Fault:
    """Answers with a status; headers are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(code, body, named)


def cut_off(handler: Handler) -> None:
    """Promises a body and ends the connection in its middle."""
    handler.send(200, b'[{"sku"', {"Content-Length": "1000"})
    handler.close_connection = True


def drip_body(handler: Handler) -> None:
    """The same in the body."""
    handler.send(200, b"", {"Content-Length": "1000000"})
    _drip(handler, b" ", every=0.01)


def endless(handler: Handler) -> None:
    """A body without a length and without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    _drip(handler, b" " * 65_536, every=0.0)


def silent(handler: Handler) -> None:
    """Says nothing until the server ends."""
    handler.close_connection = True
    handler.api.closing.wait(timeout=30)


def _drip(handler: Handler, part: bytes, *, every: float) -> None:
    handler.close_connection = True
    while not handler.api.closing.is_set():
        try:
            handler.wfile.write(part)
        except OSError:
            return
        time.sleep(every)
