"""The images and docker-compose.yml, with the hardened file over it, built and run by a real Docker engine."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import pytest

from pricing.registry.mlflow_registry import Registry
from tests.kit.serving import publish
from tests.kit.versions import make_panel, make_version, shared_version

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SCRIPT = ROOT / "tests" / "integration" / "docker.sh"
NO_ENGINE = 77
TASKS = ("serving-1", "serving-2")
PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def docker() -> Iterator[dict[str, str]]:
    """The environment in which the docker command reaches an engine; skips where none can run."""
    started = subprocess.run([SCRIPT, "start"], capture_output=True, text=True, check=False)
    if started.returncode == NO_ENGINE:
        pytest.skip(started.stderr.strip().splitlines()[-1])
    assert started.returncode == 0, started.stderr
    host = started.stdout.strip()
    yield {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    subprocess.run([SCRIPT, "stop"], check=True)


@pytest.fixture(scope="module")
def image(docker: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The serving image with a champion baked in."""
    home = tmp_path_factory.mktemp("image")
    publish(str(home / "baked"), shared_version(), version="1")
    name = f"pricing-test-{secrets.token_hex(4)}"
    build = [
        "build",
        "--quiet",
        "--build-context",
        f"champion={home}",
        "--file",
        "Dockerfile.serve",
        "--tag",
        name,
        ".",
    ]
    run_docker(docker, *build)
    yield name
    run_docker(docker, "rmi", "--force", name)


def test_the_image_is_not_root_and_carries_no_training_library(docker: dict[str, str], image: str) -> None:
    look = (
        "import importlib.util as u, os; unwanted = 'tensorflow keras pandas scipy sklearn evidently pip'.split(); "
        "print(os.getuid(), [name for name in unwanted if u.find_spec(name)], sorted(os.listdir('/app')))"
    )

    answer = run_docker(docker, "run", "--rm", image, "python", "-c", look)

    assert answer == "10001 [] ['config', 'haproxy.cfg', 'pricing', 'serving']"


def test_the_image_has_compiled_whatever_its_programs_import(docker: dict[str, str], image: str) -> None:
    look = (
        "import importlib, os, sys, urllib.request\n"
        "for name in 'serving.__main__ serving.app boto3.session'.split():\n"
        "    importlib.import_module(name)\n"
        "modules = sorted(sys.modules.items())\n"
        "print([n for n, m in modules if getattr(m, '__cached__', None) and not os.path.exists(m.__cached__)])"
    )

    assert run_docker(docker, "run", "--rm", image, "python", "-c", look) == "[]"


def test_the_image_prices_by_its_baked_champion_without_any_network(docker: dict[str, str], image: str) -> None:
    product = str(make_panel().product_ids[0])
    options = [
        "--network=none",
        "--read-only",
        "--env=PRICING_KEYS=none",
    ]
    container = run_docker(docker, "run", "--detach", *options, image)
    try:
        wait_healthy(docker, container)
        ask = (
            "import sys, urllib.request as u; headers = {'Content-Type': 'application/json'}; "
            "call = u.Request('http://127.0.0.1:8080/get_price', sys.argv[1].encode(), headers); "
            "print(u.urlopen(call).read().decode())"
        )

        answer = json.loads(run_docker(docker, "exec", container, "python", "-c", ask, json.dumps(request(product))))
    finally:
        run_docker(docker, "rm", "--force", container)

    assert answer["model_version"] == "1"
    assert answer["source"] in ("model", "rule")
    assert answer["recommended_price"] > 0


@dataclass(frozen=True)
class Platform:
    """docker-compose.yml with docker-compose.hardened.yml over it, with ports, keys and passwords of its own."""

    environment: dict[str, str]
    key: str

    def compose(self, *words: str) -> str:
        return run_docker(self.environment, "compose", *words)

    @property
    def tracking(self) -> str:
        return f"http://127.0.0.1:{self.environment['MLFLOW_PORT']}"

    def ask_inside(self, service: str, url: str) -> str:
        """What a URL answers to a container of the network; empty where it does not answer 200."""
        code = (
            "import sys, urllib.request as u\n"
            "try: print(u.urlopen(sys.argv[1], timeout=5).read().decode())\n"
            "except OSError: pass"
        )
        return self.compose("exec", "-T", service, "python", "-c", code, url)

    def wait_ready(self, task: str, *, by: str) -> None:
        """Waits until the proxy sends requests to a task; `by` is a container that can ask the proxy."""
        up = f'haproxy_server_status{{proxy="tasks",server="{task}",state="UP"}} 1'
        wait_for(lambda: up in self.ask_inside(by, "http://proxy:8405/metrics"), f"{task} is not ready")

    def written(self) -> set[str]:
        """The ids of the decisions that lie in the volume of the log."""
        code = (
            "import json, pathlib\n"
            "for path in pathlib.Path('/var/lib/pricing/decisions').rglob('*.jsonl'):\n"
            "    for line in path.read_text().splitlines():\n"
            "        print(json.loads(line)['decision']['decision_id'])"
        )
        return set(self.compose("exec", "-T", "publish", "python", "-c", code).split())


@pytest.fixture(scope="module")
def platform(docker: dict[str, str]) -> Iterator[Platform]:
    done = subprocess.run([SCRIPT, "images"], env=docker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ports = {name: str(free_port()) for name in ("PORT", "MLFLOW_PORT", "PROMETHEUS_PORT")}
    passwords = [f"{name}_PASSWORD" for name in ("POSTGRES", "MLFLOW", "PRICING", "MLFLOW_ADMIN", "GRAFANA")]
    given = {name: secrets.token_hex(16) for name in (*passwords, "METRICS_KEY")}
    key = secrets.token_hex(16)
    names = {
        "COMPOSE_PROJECT_NAME": f"pricing-test-{secrets.token_hex(4)}",
        "COMPOSE_FILE": "docker-compose.yml:docker-compose.hardened.yml",
        "PRICING_API_KEYS": f"shop {key} price,explain",
    }
    platform = Platform({**docker, **ports, **given, **names}, key)
    try:
        platform.compose("up", "--build", "--detach", "--wait", "--quiet-pull")
        platform.compose("up", "--detach", "--no-deps", "prometheus")
        yield platform
    finally:
        sys.stdout.write(platform.compose("logs", "--no-color", "--tail", "40"))
        platform.compose("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "1")


def test_compose_serves_what_the_mlflow_server_names_champion(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    product = str(make_panel().product_ids[0])
    before = price(platform, product)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", platform.environment["MLFLOW_ADMIN_PASSWORD"])

    register(platform.tracking, tmp_path / "version")
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        platform.wait_ready(task, by=other)
    after = price(platform, product)

    assert before["source"] == "rule"
    assert after["model_version"] == "1"


def test_mlflow_lets_nobody_in_without_an_account(platform: Platform) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{platform.tracking}/api/2.0/mlflow/experiments/search?max_results=1", timeout=30)


def test_a_serving_task_cannot_write_what_is_published(platform: Platform) -> None:
    code = "open('/var/lib/pricing/decisions/tried', 'w'); open('/var/lib/pricing/published/tried', 'w')"

    with pytest.raises(AssertionError, match="Read-only file system: '/var/lib/pricing/published/tried'"):
        platform.compose("exec", "-T", "serving-1", "python", "-c", code)


def test_no_answer_and_no_decision_is_lost_while_each_service_is_restarted(platform: Platform) -> None:
    product = str(make_panel().product_ids[0])
    with Callers(platform, product) as callers:
        for task, other in zip(TASKS, reversed(TASKS), strict=True):
            platform.compose("restart", task)
            platform.wait_ready(task, by=other)
        for service in ("mlflow", "postgres", "publish"):
            before = len(callers.answers)
            platform.compose("restart", service)
            wait_for(lambda: len(callers.answers) > before + 20, "callers get no answers")  # noqa: B023  (called here)
    answered = {answer["decision_id"] for answer in callers.answers}

    wait_for(lambda: answered <= platform.written(), "decisions are missing")

    assert callers.failures == []
    assert {answer["model_version"] for answer in callers.answers} == {"1"}


def test_every_query_of_the_dashboard_and_of_the_alarms_is_answered_by_prometheus(platform: Platform) -> None:
    base = f"http://127.0.0.1:{platform.environment['PROMETHEUS_PORT']}/api/v1"
    panels = json.loads((COMPOSE / "dashboards" / "pricing.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    price(platform, str(make_panel().product_ids[0]))

    def silent() -> list[str]:
        return [query for query in queries if not ask_prometheus(f"{base}/query?query={quote(query)}")["result"]]

    def alarms() -> list[dict[str, Any]]:
        return [rule for group in ask_prometheus(f"{base}/rules").get("groups", []) for rule in group["rules"]]

    wait_for(lambda: silent() == [], "no line for some queries", told=silent)
    wait_for(lambda: {rule["health"] for rule in alarms()} == {"ok"}, "alarms are not evaluated", told=alarms)


class Callers:
    """Two callers that ask for prices through the proxy, one after another, until the block ends."""

    def __init__(self, platform: Platform, product: str) -> None:
        self._platform, self._product = platform, product
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(2)]
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self.answers.append(price(self._platform, self._product))
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.TOO_MANY_REQUESTS:  # on a busy machine: asked to come again, it does
                    self._stop.wait(float(error.headers["Retry-After"]))
                else:
                    self.failures.append(f"{time.strftime('%X')} {error!r}")
            except OSError as error:
                self.failures.append(f"{time.strftime('%X')} {error!r}")


def register(uri: str, folder: Path, *, experiment: str = "pricing") -> str:
    """Registers a model version, names it champion and returns its number."""
    registry = Registry("pricing", uri=uri)
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(experiment_id=mlflow.create_experiment(experiment)):
            number = registry.log_version(make_version(folder).folder)
    finally:
        mlflow.set_tracking_uri(None)
    registry.set_alias("champion", number)
    return number


def request(product: str) -> dict[str, Any]:
    return {"product_id": product, "current_stock": 150, "day_of_week": "Friday", "comp_price": None, "is_promo": False}


def price(platform: Platform, product: str) -> dict[str, Any]:
    body = json.dumps({**request(product), "current_price": 10.0, "list_price": 10.0}).encode()
    headers = {"Content-Type": "application/json", "X-API-Key": platform.key}
    call = urllib.request.Request(f"http://127.0.0.1:{platform.environment['PORT']}/get_price", body, headers)
    with urllib.request.urlopen(call, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def ask_prometheus(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            data: dict[str, Any] = json.load(response)["data"]
    except ConnectionError:  # it has only just been started
        return {"result": []}
    return data


def wait_for(holds: Callable[[], bool], what: str, *, told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} after {PATIENCE_SECONDS} s {told()}")
        time.sleep(0.5)


def wait_healthy(docker: dict[str, str], container: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if run_docker(docker, "inspect", "--format", "{{.State.Health.Status}}", container) == "healthy":
            return
        time.sleep(0.5)
    raise AssertionError(run_docker(docker, "logs", container))


def run_docker(environment: dict[str, str], *arguments: str) -> str:
    """Runs one docker command at the project's root and returns what it printed."""
    done = subprocess.run(
        ["docker", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
