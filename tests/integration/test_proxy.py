"""deploy/compose/haproxy.cfg in a real HAProxy, before two small tasks that count what they hear of."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from pricing.config import load_config
from tests.kit.cdk import lacks_for_cdk
from tests.kit.servers import free_port, running, wait_for

if shutil.which("haproxy") is None:
    pytest.skip("haproxy is not installed: apt-get install haproxy", allow_module_level=True)

CONFIG = Path(__file__).parents[2] / "deploy" / "compose" / "haproxy.cfg"
COMMAND = ["haproxy", "-db", "-f", str(CONFIG)]
RIGHT, WRONG = {"X-API-Key": "right"}, {"X-API-Key": "wrong"}
TASK = """
import sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

now, most, total, lock = 0, 0, 0, threading.Lock()

class Task(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: a task killed between head and body is beyond any proxy

    def do_GET(self):
        self.answer(int(sys.argv[2]) if self.path == "/health/ready" else 200, f"{most} {total}")

    def do_POST(self):
        global now, most, total
        with lock:
            now, total = now + 1, total + 1
            most = max(most, now)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(float(self.headers.get("X-Seconds", 0)))
        with lock:
            now -= 1
        wrong = self.headers.get("X-API-Key") == "wrong"
        self.answer(401 if wrong else 200, f"{len(body)} {self.headers['X-Forwarded-For']}")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_): pass

ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Task).serve_forever()
"""


@dataclass
class Proxy:
    """HAProxy with its tasks; each may be killed and started again."""

    port: int
    ports: list[int]
    process: "subprocess.Popen[bytes] | None" = None
    tasks: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, place: int, *, ready: int = 200) -> None:
        words = [sys.executable, "-c", TASK, str(self.ports[place]), str(ready)]
        self.tasks[place] = subprocess.Popen(words, stderr=subprocess.DEVNULL)

    def kill(self, place: int) -> None:
        process = self.tasks.pop(place)
        process.kill()
        process.wait()

    def ask(self, path: str = "/get_price", body: Any = b"{}", headers: dict[str, str] = RIGHT) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return requests.request("GET" if body is None else "POST", url, data=body, headers=headers, timeout=30)

    def heard(self, place: int = 0) -> tuple[int, int]:
        """The most requests that a task had at once, and how many in all."""
        with suppress(requests.ConnectionError):  # it only just starts
            most, total = requests.get(f"http://127.0.0.1:{self.ports[place]}", timeout=30).text.split()
            return int(most), int(total)
        return 0, 0


@contextmanager
def proxy(
    folder: Path, *, tasks: int, ready: int = 200, command: list[str] = COMMAND, **settings: str
) -> Iterator[Proxy]:
    port, figures, *ports = (free_port() for _ in range(2 + tasks))
    one = Proxy(port, ports)
    environment = {f"SERVING_{place}": f"127.0.0.1:{task}" for place, task in enumerate(ports, start=1)}
    environment |= {"PORT": str(port), "FIGURES_PORT": str(figures), **settings}
    url, log = f"http://127.0.0.1:{figures}/metrics", folder / "haproxy.log"
    try:
        for place in range(tasks):
            one.start(place, ready=ready)
        with running(command, ready=url, log=log, environment=environment) as process:
            one.process = process
            wait_for(lambda: one.ask("/health/live", None).status_code == 200)
            wait_for(lambda: one.ask("/health/ready", None).status_code == ready)
            yield one
    finally:
        for place in list(one.tasks):
            one.kill(place)


def is_problem(answer: requests.Response) -> bool:
    told: bool = answer.json()["status"] == answer.status_code
    return told and answer.headers["Content-Type"] == "application/problem+json"


def test_slow_and_large_requests_reach_no_task(tmp_path: Path) -> None:
    head = b"POST /get_price HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    with proxy(tmp_path, tasks=1) as one:
        slow = [socket.create_connection(("127.0.0.1", one.port), timeout=30) for _ in range(40)]
        for place, sender in enumerate(slow):
            sender.sendall(head if place % 2 else head + b"\r\n{")

        quick = one.ask()
        statuses = {sender.recv(1000).split()[1] for sender in slow}

        for sender in slow:
            sender.close()
        told = b"POST /get_price HTTP/1.1\r\nHost: x\r\nContent-Length: 512001\r\n\r\n"
        with socket.create_connection(("127.0.0.1", one.port), timeout=5) as sender:
            sender.sendall(told)  # and nothing of the body, which nobody waits for
            large = sender.recv(1000)
        chunked = one.ask(body=(b"x" * 50_000 for _ in range(11)))
        most = one.ask(body=b"x" * 512_000)

        assert (quick.status_code, statuses) == (200, {b"408"})
        assert large.startswith(b"HTTP/1.1 413")
        assert (chunked.status_code, is_problem(chunked)) == (413, True)
        assert (most.status_code, most.text.split()[0]) == (200, "512000")
        assert one.heard() == (1, 2)


def test_what_no_task_takes_in_time_is_told_to_come_again_and_nothing_else(tmp_path: Path) -> None:
    slots = load_config().serving.threads + 4
    with proxy(tmp_path, tasks=1) as one:
        with ThreadPoolExecutor(180) as pool:
            waiting = [pool.submit(one.ask, headers={"X-Seconds": "0.2"}) for _ in range(8 * slots)]
            health = [pool.submit(one.ask, "/health/ready", None) for _ in range(20)]
        answers = [done.result() for done in waiting]

        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(is_problem(answer) and answer.headers["retry-after"] == "1" for answer in refused)
        assert {done.result().status_code for done in health} == {200}
        # The proxy's own look at /health/ready may come on top, and both backends count where that look came late.
        assert slots <= one.heard()[0] <= 2 * slots + 1


def test_no_request_is_lost_while_one_of_two_tasks_is_killed_and_comes_back(tmp_path: Path) -> None:
    statuses: list[int] = []
    ends = threading.Event()

    def call() -> None:
        while not ends.is_set():
            statuses.append(one.ask(headers={"X-Seconds": "0.02"}).status_code)

    with proxy(tmp_path, tasks=2) as one:
        callers = [threading.Thread(target=call) for _ in range(6)]
        for caller in callers:
            caller.start()
        for place in (0, 1, 0):
            one.kill(place)
            time.sleep(0.7)
            one.start(place)
            wait_for(lambda: one.heard(place)[1] > 10)  # noqa: B023 - called here
        ends.set()
        for caller in callers:
            caller.join()

    assert Counter(statuses).keys() == {200}
    assert len(statuses) > 100


def test_wrong_keys_and_too_many_requests_are_refused_and_keys_that_were_right_go_on(tmp_path: Path) -> None:
    with proxy(tmp_path, tasks=1, REQUESTS_PER_ADDRESS="40") as one:
        before = one.ask()
        wrong = [one.ask(headers={**WRONG, "X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(15)]
        new = one.ask(headers={"X-API-Key": "new"})
        right = [one.ask().status_code for _ in range(30)]

        assert before.text.split()[1] == "127.0.0.1"
        assert wrong == [401] * 11 + [429] * 4
        assert (new.status_code, is_problem(new)) == (429, True)
        assert (right[0], right[-1]) == (200, 429)
        assert [one.ask(path, None).status_code for path in ("/metrics", "/health/ready")] == [429, 200]


def test_tasks_that_are_not_ready_answer_where_none_is_and_no_task_is_told(tmp_path: Path) -> None:
    with proxy(tmp_path, tasks=2, ready=503, TRUSTED_PROXIES="10.0.0.0/8 127.0.0.0/8") as one:
        by_rule = one.ask(headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.7"})
        one.kill(0)
        one.kill(1)
        with suppress(requests.ConnectionError):  # where its own connection broke, HAProxy has the caller ask again
            one.ask()
        gone = one.ask()

        assert by_rule.status_code == 200
        assert by_rule.text.split()[1] == "192.0.2.7"  # the caller's address, from a proxy that is trusted
        assert (gone.status_code, is_problem(gone)) == (503, True)


@pytest.mark.skipif(lacks_for_cdk() is not None, reason=str(lacks_for_cdk()))
def test_ecs_stops_a_proxy_without_cutting_off_a_request(tmp_path: Path) -> None:
    from deploy.tasks import PROXY  # noqa: PLC0415 - starts Node

    command = ["sh", "-c", PROXY.replace("/app/haproxy.cfg", str(CONFIG))]
    with proxy(tmp_path, tasks=1, command=command) as one, ThreadPoolExecutor() as pool:
        assert one.process
        asked = pool.submit(one.ask, headers={**RIGHT, "X-Seconds": "2"})
        wait_for(lambda: one.heard()[1] == 1)

        one.process.terminate()

        assert (asked.result().status_code, one.process.wait(timeout=20)) == (200, 0)
