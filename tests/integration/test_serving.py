"""The running service: a real web server on a real socket, a published folder, real faults."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pricing.registry.published_store import versions_prefix
from tests.kit.servers import ask, free_port, object_store, wait_for
from tests.kit.serving import MODEL, publish, sent
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[2]
REQUEST = {
    "product_id": "P00004", "current_stock": 500, "day_of_week": "Friday", "comp_price": 5, "date": "2023-08-04",
    "list_price": 5.0,
}  # fmt: skip


@dataclass
class Service:
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def published(self) -> str:
        return self.environment.get("PRICING_PUBLISHED", str(self.home / "published"))

    def start(self) -> "Service":
        self.port = free_port()
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PRICING_HOME": str(self.home), "PORT": str(self.port),
            **self.environment,
        }  # fmt: skip
        self.home.mkdir(exist_ok=True)
        with (self.home.parent / "serving.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving"], env=environment, cwd=self.home, stderr=log, start_new_session=True
            )
        return self

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(40)

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        return ask(f"http://127.0.0.1:{self.port}{path}", body)

    def ready(self) -> "Service":
        wait_for(lambda: self.call("/health/ready")[0] == 200)
        return self

    def version(self) -> str:
        return str(self.call("/get_price", REQUEST)[1]["model_version"])

    def state(self) -> str:
        return str(self.call("/model")[1]["following"]["state"])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    one = Service(tmp_path / "home")
    try:
        yield one
    finally:
        if one.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        log = tmp_path / "serving.log"
        sys.stderr.write(log.read_text()[-6000:] if log.exists() else "")


def test_what_lies_in_an_object_store_is_served_and_decisions_go_there_and_its_silence_delays_no_restart(
    service: Service, tmp_path: Path
) -> None:
    service.environment |= {"PRICING_PUBLISHED": "s3://shop/published", "PRICING_DECISIONS_URL": "s3://shop/log"}
    with object_store(tmp_path / "store", bucket="shop") as reach, pytest.MonkeyPatch.context() as patch:
        service.environment |= reach
        for name, value in reach.items():
            patch.setenv(name, value)
        publish(service.published, shared_version(), version="1")
        service.start().ready()
        ids = [service.call("/get_price", REQUEST)[1]["decision_id"] for _ in range(3)]
        code = service.stop()
        logged = [one["decision"]["decision_id"] for one in sent("s3://shop/log")]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        service.start().ready()
        version = service.version()

    assert (code, logged) == (0, ids)
    assert version == "1"


@contextlib.contextmanager
def callers(ask: Callable[[], None]) -> Iterator[None]:
    """Four callers ask on and on; raises what one of them met."""
    stop = threading.Event()

    def ask_on() -> None:
        while not stop.wait(0.02):
            ask()

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        try:
            yield
        finally:
            stop.set()
    for one in asking:
        one.result()


def test_no_fault_makes_an_answer_wrong_or_missing(service: Service) -> None:
    """Swaps, a damaged version, a lost pointer and a lost store, one after the other under load."""
    versions, expected, store = {"1": shared_version(1), "2": shared_version(2)}, {}, Path(service.published)
    told = dict[str, str]()  # decision → version

    def switched(number: str) -> None:
        publish(service.published, versions[number], version=number)
        wait_for(lambda: service.version() == number)

    def call() -> None:
        single = service.call("/get_price", REQUEST)[1]
        batch = service.call("/get_prices", {"requests": [REQUEST] * 5})[1]["decisions"]
        told.update({one["decision_id"]: one["model_version"] for one in (single, *batch)})
        assert all(one["recommended_price"] == expected[one["model_version"]] for one in (single, *batch))
        assert len({one["model_version"] for one in batch}) == 1

    publish(service.published, versions["1"], version="1")
    service.start().ready()
    for number in ("2", "1"):
        switched(number)
        expected[number] = service.call("/get_price", REQUEST)[1]["recommended_price"]
    with callers(call):
        switched("2")
        publish(service.published, versions["1"], version="3")
        array = next(store.joinpath(versions_prefix(MODEL)).glob("3-*/products/list_price.npy"))
        array.write_bytes(array.read_bytes()[:-1] + b"\x7f")
        wait_for(lambda: service.state() == "refused")
        switched("1")
        (store / MODEL / "champion.json").unlink()
        wait_for(lambda: service.state() == "none")
        store.rename(store.with_name("away"))
        store.write_text("no store")
        wait_for(lambda: service.state() == "unreachable")
        ready = service.call("/health/ready")[0]

    service.stop()
    assert expected["1"] != expected["2"]
    assert set(told.values()) == {"1", "2"}
    assert ready == 200
    assert {record["decision"]["decision_id"] for record in sent(str(service.home / "decisions"))} >= told.keys()


def test_a_stop_under_load_answers_what_is_open_and_loses_no_decision(service: Service) -> None:
    publish(service.published, shared_version(), version="1")
    service.start().ready()
    ids = set[str]()

    def call() -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):  # it listens no more
            ids.add(service.call("/get_price", REQUEST)[1]["decision_id"])

    with callers(call):
        wait_for(lambda: len(ids) > 20)
        code = service.stop()

    assert code == 0
    assert {one["decision"]["decision_id"] for one in sent(str(service.home / "decisions"))} >= ids


def test_a_service_that_others_can_reach_without_keys_or_whose_port_is_taken_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        usual = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PRICING_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "serving"]
        found = [
            subprocess.run(command, env={**usual, **one}, capture_output=True, text=True, timeout=60, check=False)
            for one in ({"HOST": "0.0.0.0"}, {"PORT": port})
        ]

    assert [one.returncode for one in found] == [2, 2]
    assert [name in one.stderr for name, one in zip(("PRICING_API_KEYS", port), found, strict=True)] == [True, True]
