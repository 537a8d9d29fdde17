"""The running service: a real web server, real follower, real registry, real faults."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pricing.config import load_config
from pricing.decision_log.read import read_decisions
from pricing.registry.mlflow_registry import Registry
from serving.champion import CHECK_SECONDS
from tests.kit.servers import free_port, python, running
from tests.kit.serving import point_at, settings_in
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[2]
MODEL = "pricing"
REQUEST = {
    "product_id": "P00004", "current_stock": 500, "day_of_week": "Friday", "comp_price": 5, "date": "2023-08-04",
}  # fmt: skip
BY_RULE = {**REQUEST, "list_price": 5.0}  # known without any version
DAMAGED = "3"
SERVED_WITHIN = 10.0
PATIENCE = 60.0  # seconds a loaded machine may take for what is not being measured


@dataclass
class Service:
    home: Path
    uri: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Service":
        self.port = free_port()
        environment = {
            **os.environ, "PRICING_HOME": str(self.home), "MLFLOW_TRACKING_URI": self.uri, "PORT": str(self.port),
            "PYTHONPATH": str(ROOT), **self.environment,
        }  # fmt: skip
        self.log = (self.folder / "serving.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving"], env=environment, cwd=self.folder, stderr=self.log
        )
        return self

    def stop(self, number: int = signal.SIGINT) -> int:  # SIGTERM would wait for a load balancer first
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.log.close()
        return code

    def call(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def ready(self) -> "Service":
        wait_for(lambda: self.call("/health/ready")[0] == 200)
        return self

    def version(self) -> str:
        return str(self.call("/get_price", BY_RULE)[1]["model_version"])

    def following(self) -> dict[str, Any]:
        return dict(self.call("/model")[1]["following"])


def wait_for(condition: Callable[[], bool], *, patience: float = PATIENCE) -> float:
    start = time.monotonic()
    while time.monotonic() - start < patience:
        with contextlib.suppress(OSError, ValueError):
            if condition():
                return time.monotonic() - start
        time.sleep(0.05)
    raise AssertionError(f"nothing within {patience} s")


def register(uri: str, folder: Path) -> str:
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run():
        return Registry(MODEL, uri=uri).log_version(folder)


def promote(uri: str, number: str) -> None:
    Registry(MODEL, uri=uri).set_alias("champion", number)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions, a damaged third, and no champion."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    damaged = folder / "damaged"
    shutil.copytree(shared_version(2), damaged)
    array = sorted(damaged.rglob("*.npy"))[0]
    array.write_bytes(array.read_bytes()[:-1] + b"\x7f")
    with contextlib.chdir(folder):
        registered = [register(uri, one) for one in (shared_version(1), shared_version(2), damaged)]
    assert registered == ["1", "2", DAMAGED]
    return folder


@pytest.fixture
def uri(prepared: Path, tmp_path: Path) -> str:
    shutil.copy(prepared / "mlflow.db", tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def service(uri: str, tmp_path: Path) -> Iterator[Service]:
    one = Service(tmp_path / "home", uri, tmp_path)
    try:
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.stop()
        log = tmp_path / "serving.log"
        sys.stderr.write(log.read_text()[-6000:] if log.exists() else "")


def test_the_service_answers_without_any_registry(service: Service, tmp_path: Path) -> None:
    service.uri = f"sqlite:///{tmp_path}/nowhere.db"

    service.start().ready()

    assert service.version() == "none"
    assert service.following()["state"] == "no_champion"
    assert not (tmp_path / "nowhere.db").exists()


def test_a_service_that_needs_a_model_is_live_and_answers_by_rule_and_is_ready_once_it_has_one(
    service: Service, uri: str
) -> None:
    service.environment["PRICING_NEEDS_MODEL"] = "true"
    service.start()
    wait_for(lambda: service.call("/health/live")[0] == 200)
    wait_for(lambda: "no_champion" in service.call("/health/ready")[1]["detail"])

    assert service.call("/health/ready")[0] == 503
    assert service.version() == "none"
    promote(uri, "1")
    service.ready()
    assert service.version() == "1"


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts connections and never answers; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield int(server.getsockname()[1])
        for one in taken:
            one.close()


def test_a_registry_that_never_answers_delays_no_restart(service: Service, tmp_path: Path) -> None:
    """Before, the service was ready after two minutes: MLflow waits for a database without end."""
    with silent_server() as port:
        service.uri = f"postgresql+psycopg2://shop@127.0.0.1:{port}/registry"
        settings = settings_in(service.home, MLFLOW_TRACKING_URI=service.uri)
        point_at(settings, shared_version(1), version="7")

        service.start().ready()  # within PATIENCE seconds

        assert service.version() == "7"
        wait_for(lambda: service.following()["state"] == "unreachable")
        assert "127.0.0.1" not in json.dumps(service.call("/health/ready"))


def test_the_service_is_not_ready_before_the_champion_is_there(service: Service, uri: str) -> None:
    promote(uri, "1")

    service.start().ready()

    assert service.version() == "1"


def test_a_promotion_is_served_within_ten_seconds(service: Service, uri: str) -> None:
    promote(uri, "1")
    service.start().ready()

    promote(uri, "2")

    # What the ten seconds consist of: the wait for the next look, the download, and a worker's own look.
    assert load_config().serving.poll_seconds + CHECK_SECONDS < SERVED_WITHIN / 2
    wait_for(lambda: service.version() == "2")


def test_the_last_good_version_survives_registry_alias_and_restart(service: Service, uri: str, tmp_path: Path) -> None:
    promote(uri, "1")
    service.start().ready()
    Registry(MODEL, uri=uri).remove_alias("champion")
    wait_for(lambda: service.following()["state"] == "no_champion")
    assert service.version() == "1"

    (tmp_path / "mlflow.db").write_text("this is no database")
    wait_for(lambda: service.following()["state"] == "unreachable")
    assert service.version() == "1"
    service.stop()

    service.start().ready()
    assert service.version() == "1"


def test_a_killed_follower_is_replaced(service: Service, uri: str) -> None:
    promote(uri, "1")
    service.start().ready()
    assert service.process is not None
    (follower,) = [pid for pid, command in children(service.process.pid) if "serving.follower" in command]

    os.kill(follower, signal.SIGKILL)
    promote(uri, "2")

    wait_for(lambda: service.version() == "2")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MB, where this process may mount one, else a folder of the disk there is."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path, service: Service) -> Iterator[None]:
    """Leaves no room on the disk, or where it is everyone's disk, lets no file of the workers grow."""
    if not disk.is_mount():
        workers = [pid for web in web_servers(service) for pid, _ in children(web)]
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        yield
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(65536))
            file.flush()
    yield
    filler.unlink()


@dataclass
class Load:
    """Four callers that ask on and on, and what they got."""

    service: Service
    expected: dict[str, float]
    counts: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def _ask(self) -> None:
        try:
            one, single = self.service.call("/get_price", REQUEST)
            many, batch = self.service.call("/get_prices", {"requests": [REQUEST] * 5})
        except (OSError, ValueError) as error:
            self.faults.append(f"missing: {error!r}")
            return
        if (one, many) != (200, 200):
            self.faults.append(f"refused: {one} {single}, {many} {batch}")
            return
        answers = [single, *batch["decisions"]]
        wrong = [answer for answer in answers if answer["recommended_price"] != self.expected[answer["model_version"]]]
        if wrong or len({answer["model_version"] for answer in batch["decisions"]}) > 1:
            self.faults.append(f"wrong: {wrong or batch}")
        self.ids.update(answer["decision_id"] for answer in answers)
        self.counts[single["model_version"]] += 1

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        stop = threading.Event()

        def ask_on() -> None:
            while not stop.wait(0.05):
                self._ask()

        threads = [threading.Thread(target=ask_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_no_fault_makes_an_answer_wrong_or_missing(service: Service, uri: str, disk: Path, tmp_path: Path) -> None:
    """Swaps, a damaged version, a lost alias, a full disk and a dead registry, one after the other under load."""

    def following(state: str) -> None:
        wait_for(lambda: service.following()["state"] == state)

    def failing(workers: str) -> None:
        wait_for(lambda: f"pricing_log_failing {workers}" in service.text("/metrics"))

    promote(uri, "1")
    port = free_port()
    service.uri, service.home = f"http://127.0.0.1:{port}", disk / "home"
    server = python("mlflow", "server", "--backend-store-uri", uri, "--port", str(port), "--workers", "1")
    with contextlib.ExitStack() as registry:
        registry.enter_context(
            running(server, ready=f"{service.uri}/health", log=tmp_path / "mlflow.log", folder=tmp_path)
        )
        service.start().ready()
        expected = {}
        for number in ("2", "1"):
            promote(uri, number)
            wait_for(lambda number=number: service.version() == number)  # type: ignore[misc]
            time.sleep(1)  # the other worker follows within a moment
            expected[number] = service.call("/get_price", REQUEST)[1]["recommended_price"]
        load = Load(service, expected)

        with load.going_on():
            promote(uri, "2")
            wait_for(lambda: service.version() == "2")
            promote(uri, DAMAGED)
            following("refused")
            refused = service.following()["refused"]
            promote(uri, "1")
            wait_for(lambda: service.version() == "1")
            Registry(MODEL, uri=uri).remove_alias("champion")
            following("no_champion")
            with full(disk, service):
                failing("2.0")
            failing("0.0")
            registry.close()
            following("unreachable")
            ready = service.call("/health/ready")[0]

    service.stop()
    reading = read_decisions(str(service.home / "decisions"))
    assert expected["1"] != expected["2"]
    assert load.faults == []
    assert set(load.counts) == {"1", "2"}
    assert "damaged" in refused[DAMAGED]
    assert ready == 200
    assert reading.damaged == 0
    assert {record["decision"]["decision_id"] for record in reading.records} >= load.ids


def test_stopping_writes_every_decision_out(service: Service, uri: str) -> None:
    service.start().ready()
    ids = {service.call("/get_price", BY_RULE)[1]["decision_id"] for _ in range(50)}

    code = service.stop()

    reading = read_decisions(str(service.home / "decisions"))
    assert code == 0
    assert {record["decision"]["decision_id"] for record in reading.records} == ids
    assert reading.damaged == 0


def test_no_process_outlives_the_service_even_when_it_is_killed(service: Service) -> None:
    service.start().ready()
    assert service.process is not None
    family = [pid for pid, _ in children(service.process.pid)]

    service.stop(signal.SIGKILL)

    assert len(family) == 2
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def test_no_worker_outlives_the_web_server(service: Service) -> None:
    service.start().ready()
    (web,) = web_servers(service)
    workers = [pid for pid, _ in children(web)]

    os.kill(web, signal.SIGKILL)

    assert len(workers) >= 2
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    service.stop()


def test_workers_that_die_again_and_again_are_replaced(service: Service) -> None:
    service.start().ready()
    time.sleep(10)  # after which a web server counts as one that had started
    for _ in range(3):
        wait_for(lambda: any("spawn_main" in command for web in web_servers(service) for _, command in children(web)))
        for web in web_servers(service):
            for pid, command in children(web):
                if "spawn_main" in command:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        time.sleep(1)

    wait_for(lambda: service.call("/get_price", BY_RULE)[0] == 200)
    assert service.stop() == 0


def test_a_client_that_sends_nothing_keeps_nobody_waiting(service: Service) -> None:
    service.start().ready()
    head = b"POST /get_price HTTP/1.1\r\nHost: shop\r\nContent-Ty"

    with contextlib.ExitStack() as open_connections:
        for sent in (b"", head) * 40:
            connection = open_connections.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            connection.sendall(sent)

        assert service.call("/health/live")[0] == 200
        assert service.call("/get_price", BY_RULE)[0] == 200


def test_a_service_that_others_can_reach_needs_keys(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PRICING_HOME": str(tmp_path), "HOST": "0.0.0.0"}

    ended = subprocess.run(
        [sys.executable, "-m", "serving"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 2
    assert "PRICING_API_KEYS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_named(service: Service) -> None:
    service.start().ready()

    ended = subprocess.run(
        [sys.executable, "-m", "serving"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PORT": str(service.port)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode == 2
    assert str(service.port) in ended.stderr


def web_servers(service: Service) -> list[int]:
    assert service.process is not None
    return [pid for pid, command in children(service.process.pid) if "serving.web_server" in command]


def children(pid: int) -> list[tuple[int, str]]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append((int(path.name), (path / "cmdline").read_text().replace("\0", " ")))
    return found
