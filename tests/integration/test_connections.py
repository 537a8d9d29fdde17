"""Connections that stall, stop or are stopped: a real web server, sockets, and callers who count their answers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.servers import free_port
from tests.kit.serving import REQUEST, point_at, settings_in
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[2]
CALLERS = 8
BODY = json.dumps(REQUEST).encode()
KEY = "shop-0123456789abcdef"


def head(path: str, *, length: int | None = None) -> bytes:
    """The head of a request; with a length, of a POST."""
    lines = [f"{'GET' if length is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


PRICE = head("/get_price", length=len(BODY)) + BODY


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return str(answer.read().decode())

    def ask(self, sent: bytes) -> tuple[int, bytes]:
        with self.connect() as connection:
            return talk(connection, sent)


def talk(connection: socket.socket, sent: bytes) -> tuple[int, bytes]:
    """Sends a request and returns the answer's status and head; the connection may be used again.

    Raises:
        ConnectionError: It was closed, or broke, before the answer had come.
    """
    connection.sendall(sent)
    return receive(connection)


def receive(connection: socket.socket) -> tuple[int, bytes]:
    data, length = b"", None
    while length is None or len(data) < length:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"closed after {len(data)} bytes")
        data += piece
        end = data.find(b"\r\n\r\n")
        if length is None and end >= 0:
            told = re.search(rb"content-length: (\d+)", data[:end], re.IGNORECASE)
            assert told is not None
            length = end + 4 + int(told.group(1))
    found = data.partition(b"\r\n\r\n")[0]
    return int(found.split()[1]), found.lower()


@contextmanager
def serving(folder: Path, **changes: Any) -> Iterator[Server]:
    """The whole service with a version and no registry behind it."""
    home, port = folder / "home", free_port()
    environment = {"PRICING_HOME": str(home), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/none.db"}
    point_at(settings_in(home, **environment), shared_version(), version="7")
    config = folder / "config.yaml"
    # On a machine that is busy with other tests a request may wait; that is then no reason to refuse it.
    config.write_text(json.dumps({"serving": {"queue_seconds": 60, **changes}}))
    values = {**os.environ, **environment, "PORT": str(port), "PYTHONPATH": str(ROOT), "PRICING_CONFIG": str(config)}
    with (folder / "serving.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "serving"], env=values, cwd=folder, stderr=log)
        server = Server(process, port)
        try:
            wait(server)
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(60)


def wait(server: Server) -> None:
    for _ in range(300):
        try:
            if server.ask(head("/health/live"))[0] == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the service did not answer within 30 s")


def test_callers_who_send_half_a_body_keep_nobody_waiting(tmp_path: Path) -> None:
    with serving(tmp_path, body_seconds=2, threads=2) as server:
        halves = [server.connect() for _ in range(40)]
        for half in halves:
            half.sendall(head("/get_price", length=len(BODY)) + BODY[:20])
        live, priced = server.ask(head("/health/live"))[0], server.ask(PRICE)[0]
        cut_off = [receive(half)[0] for half in halves]
        for half in halves:
            half.close()

    assert (live, priced) == (200, 200)
    assert cut_off == [408] * 40


def test_a_body_in_pieces_above_the_limit_is_refused_whole(tmp_path: Path) -> None:
    chunked = head("/get_price").replace(b"GET", b"POST").removesuffix(b"\r\n")
    chunked += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    padded = BODY + b" " * 5_000
    with serving(tmp_path, body_limit=4_000) as server:
        statuses = [server.ask(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))[0] for body in (BODY, padded)]

    assert statuses == [200, 413]


def test_who_has_no_key_fills_no_room_for_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_API_KEYS", f"shop {KEY} price")
    batch = json.dumps({"requests": [REQUEST] * 500}).encode()
    keyed = b"\r\n".join(
        (head("/get_prices", length=len(batch)).removesuffix(b"\r\n\r\n"), b"X-API-Key: " + KEY.encode())
    )
    large = b" " * 3_900_000
    with serving(tmp_path, body_seconds=5, bodies_mb=8, keys="required", workers=1) as server:
        strangers = [server.connect() for _ in range(20)]
        start = time.monotonic()
        refused = [talk(one, head("/get_prices", length=len(large) + 1) + large)[0] for one in strangers]
        priced = server.ask(keyed + b"\r\n\r\n" + batch)[0]
        endless = server.ask(head("/get_prices", length=9_999_999_999))[0]
        took = time.monotonic() - start
        for one in strangers:
            one.close()

    assert refused == [401] * 20
    assert (priced, endless) == (200, 413)
    assert took < 4


def test_callers_who_go_away_leave_no_error_in_the_log(tmp_path: Path) -> None:
    gone = 'pricing_requests_total{route="unread",status="499"} 2.0'
    with serving(tmp_path, workers=1) as server:
        for length in (len(BODY), 1_000_000):
            with server.connect() as leaver:
                leaver.sendall(head("/get_price", length=length) + BODY[:20])
                time.sleep(0.2)
        for _ in range(100):
            page = server.text("/metrics")
            if gone in page:
                break
            time.sleep(0.1)

    log = (tmp_path / "serving.log").read_text()
    assert gone in page, re.findall(r"^pricing_requests.*", page, re.MULTILINE)
    assert '"level": "error"' not in log, log


def test_sigterm_cuts_no_request(tmp_path: Path) -> None:
    """Callers keep their connections, and reconnect when told to close, until a new connection is refused."""
    counts: Counter[str] = Counter()
    batch = json.dumps({"requests": [REQUEST] * 200}).encode()
    sent = [PRICE, head("/get_prices", length=len(batch)) + batch]

    def call(place: int) -> None:
        connection: socket.socket | None = None
        while True:
            try:
                connection = connection or server.connect()
            except ConnectionRefusedError:
                return
            try:
                status, found = talk(connection, sent[place % 2])
            except OSError as error:
                counts[f"cut: {error}"] += 1
                return
            counts[f"answered {status}"] += 1
            if b"connection: close" in found:
                counts["told to close"] += 1
                connection.close()
                connection = None

    with serving(tmp_path, lame_duck_seconds=1) as server:
        callers = [threading.Thread(target=call, args=(place,)) for place in range(CALLERS)]
        for caller in callers:
            caller.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        ready = server.ask(head("/health/ready"))[0]
        for caller in callers:
            caller.join(60)
        code = server.process.wait(60)

    assert (code, ready) == (0, 503)
    assert set(counts) == {"answered 200", "told to close"}, counts
    assert counts["told to close"] >= CALLERS
