"""The images and docker-compose.yml, with the hardened file over it, built and run by a real Docker engine."""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import pytest
import requests

from pricing.registry.mlflow_registry import Registry
from tests.kit import servers
from tests.kit.servers import free_port
from tests.kit.serving import publish
from tests.kit.versions import make_version, shared_version

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SCRIPT = ROOT / "tests" / "integration" / "docker.sh"
NO_ENGINE = 77
TASKS = ("serving-1", "serving-2")
# Which containers know which passwords.
PASSWORDS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "mlflow": {"MLFLOW_PASSWORD", "MLFLOW_ADMIN_PASSWORD"},
    "publish": {"PRICING_PASSWORD", "MLFLOW_ADMIN_PASSWORD"},
    "console": {"PRICING_PASSWORD"},
}
MANAGER = secrets.token_hex(16)  # a key of the console
REQUEST = {"product_id": "P00001", "current_stock": 150, "day_of_week": "Friday", "current_price": 10, "list_price": 10}

wait_for = partial(servers.wait_for, seconds=240)


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
    build = f"build --quiet --build-context champion={home} --file Dockerfile.serve --tag {name} ."
    run_docker(docker, *build.split())
    yield name
    run_docker(docker, "rmi", "--force", name)


def test_the_image_is_not_root_and_carries_no_training_library(docker: dict[str, str], image: str) -> None:
    look = (
        "import importlib.util as u, os; unwanted = 'tensorflow keras pandas scipy sklearn evidently pip'.split(); "
        "print(os.getuid(), [name for name in unwanted if u.find_spec(name)], sorted(os.listdir('/app')))"
    )

    answer = run_docker(docker, "run", "--rm", image, "python", "-c", look)

    assert answer == "10001 [] ['config', 'haproxy.cfg', 'pricing', 'serving']"


def test_the_image_prices_by_its_baked_champion_without_any_network(docker: dict[str, str], image: str) -> None:
    options = ["--network=none", "--read-only", "--env=PRICING_KEYS=none"]
    container = run_docker(docker, "run", "--detach", *options, image)
    try:
        state = ("inspect", "--format", "{{.State.Health.Status}}", container)
        wait_for(lambda: run_docker(docker, *state) == "healthy", "the container is not healthy")
        ask = (
            "import sys, urllib.request as u; headers = {'Content-Type': 'application/json'}; "
            "call = u.Request('http://127.0.0.1:8080/get_price', sys.argv[1].encode(), headers); "
            "print(u.urlopen(call).read().decode())"
        )

        answer = json.loads(run_docker(docker, "exec", container, "python", "-c", ask, json.dumps(REQUEST)))
    finally:
        run_docker(docker, "rm", "--force", "--volumes", container)

    assert answer["model_version"] == "1"
    assert answer["recommended_price"] > 0


@dataclass(frozen=True)
class Platform:
    """docker-compose.yml with docker-compose.hardened.yml over it, with ports, keys and passwords of its own."""

    environment: dict[str, str]
    key: str

    def compose(self, *words: str) -> str:
        return run_docker(self.environment, "compose", *words)

    def at(self, port: str) -> str:
        return f"http://127.0.0.1:{self.environment[port]}"

    @property
    def tracking(self) -> str:
        return self.at("MLFLOW_PORT")

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


@contextmanager
def started(docker: dict[str, str], *, key: str = "", **given: str) -> Iterator[Platform]:
    """What `docker compose up` starts, under a name and on ports of its own; all of it goes with the block."""
    done = subprocess.run([SCRIPT, "images"], env=docker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ports = {name: str(free_port()) for name in ("PORT", "CONSOLE_PORT", "MLFLOW_PORT", "PROMETHEUS_PORT")}
    name = {"COMPOSE_PROJECT_NAME": f"pricing-test-{secrets.token_hex(4)}"}
    platform = Platform({**docker, **ports, **name, **given}, key)
    try:
        platform.compose("up", "--build", "--detach", "--wait", "--quiet-pull")
        yield platform
    finally:
        sys.stdout.write(platform.compose("--profile", "*", "logs", "--no-color", "--tail", "40"))
        platform.compose("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "1")


@pytest.fixture(scope="module")
def platform(docker: dict[str, str]) -> Iterator[Platform]:
    passwords = [f"{name}_PASSWORD" for name in ("POSTGRES", "MLFLOW", "PRICING", "MLFLOW_ADMIN", "GRAFANA")]
    given = {name: secrets.token_hex(16) for name in (*passwords, "METRICS_KEY")}
    files, key = "docker-compose.yml:docker-compose.hardened.yml", secrets.token_hex(16)
    keys = f"shop {key} price,explain;ann {MANAGER} decide"
    with started(docker, key=key, COMPOSE_FILE=files, PRICING_API_KEYS=keys, **given) as platform:
        platform.compose("up", "--detach", "--no-deps", "prometheus")
        yield platform


@pytest.mark.weekly
@pytest.mark.timeout(3600)
def test_the_demo_trains_and_promotes_and_its_model_prices_behind_the_proxy(docker: dict[str, str]) -> None:
    with started(docker, COMPOSE_FILE="docker-compose.yml") as platform:
        before = price(platform)
        platform.compose("--profile", "demo", "up", "--detach")
        platform.compose("wait", "demo")  # fails where it does

        for task, other in zip(TASKS, reversed(TASKS), strict=True):
            platform.wait_ready(task, by=other)
        after = price(platform)

    assert (before["source"], before["model_version"]) == ("rule", "none")
    assert (after["source"], after["model_version"]) == ("model", "1")
    assert after["price_range"][0] <= after["recommended_price"] <= after["price_range"][1]


@pytest.mark.weekly
def test_no_container_is_root_writes_to_its_root_gains_rights_or_knows_others_passwords(platform: Platform) -> None:
    look = "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/1/status; grep ' / ' /proc/mounts; printenv"
    for service in platform.compose("ps", "--services").split():
        told = platform.compose("exec", "-T", service, "sh", "-c", look)
        status = dict(line.split(":\t") for line in told.splitlines() if ":\t" in line)

        assert status["Uid"].split()[0] != "0", service
        assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1"), service
        assert "overlay / overlay ro," in told or service == "prometheus", service
        held = {name for name, value in platform.environment.items() if name.endswith("_PASSWORD") and value in told}
        assert held <= PASSWORDS.get(service, set()), service


@pytest.mark.weekly
def test_a_caller_without_a_key_gets_no_price(platform: Platform) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        price(Platform(platform.environment, "another"))


@pytest.mark.weekly
def test_the_console_behind_the_proxy_is_opened_by_a_key_that_may_decide_alone(platform: Platform) -> None:
    with requests.Session() as browser:

        def see(path: str = "/", **form: str) -> requests.Response:
            url = platform.at("CONSOLE_PORT") + path
            return browser.post(url, data=form, timeout=30) if form else browser.get(url, timeout=30)

        wait_for(lambda: see("/health/live").text == "ok", "the console does not answer")
        login = see()
        form = {"csrf": re.findall(r'name="csrf" value="([^"]+)"', login.text)[0], "next": "/"}
        refused = [see("/login", key=key, **form).status_code for key in ("another", platform.key)]
        opened = see("/login", key=MANAGER, **form)

    assert login.url.partition("?")[0].endswith("/login")
    assert refused == [401, 401]
    assert (opened.status_code, opened.url) == (503, platform.at("CONSOLE_PORT") + "/")  # no price table yet
    assert ">ann<" in opened.text
    assert 'action="/logout"' in opened.text


@pytest.mark.weekly
def test_compose_serves_what_the_mlflow_server_names_champion(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = price(platform)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", platform.environment["MLFLOW_ADMIN_PASSWORD"])

    register(platform.tracking, tmp_path / "version")
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        platform.wait_ready(task, by=other)
    after = price(platform)

    assert before["source"] == "rule"
    assert after["model_version"] == "1"
    with pytest.raises(urllib.error.HTTPError, match="401"):  # without an account
        urllib.request.urlopen(f"{platform.tracking}/api/2.0/mlflow/experiments/search?max_results=1", timeout=30)


@pytest.mark.weekly
def test_no_answer_and_no_decision_is_lost_while_each_service_is_restarted(platform: Platform) -> None:
    callers = Callers(platform)
    with callers.calling():
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


@pytest.mark.weekly
def test_every_query_of_the_dashboard_and_of_the_alarms_is_answered_by_prometheus(platform: Platform) -> None:
    base = f"{platform.at('PROMETHEUS_PORT')}/api/v1"
    panels = json.loads((COMPOSE / "dashboards" / "pricing.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    price(platform)

    def silent() -> list[str]:
        return [query for query in queries if not ask_prometheus(f"{base}/query?query={quote(query)}")["result"]]

    def alarms() -> list[dict[str, Any]]:
        return [rule for group in ask_prometheus(f"{base}/rules").get("groups", []) for rule in group["rules"]]

    wait_for(lambda: silent() == [], "a line for all queries")
    wait_for(lambda: {rule["health"] for rule in alarms()} == {"ok"}, "alarms are not evaluated")


@dataclass
class Callers:
    """Two callers that ask for prices through the proxy, one after another, until the block ends."""

    platform: Platform
    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def calling(self) -> Iterator[None]:
        stop = threading.Event()

        def call_on() -> None:
            while not stop.wait(0.1):
                try:
                    self.answers.append(price(self.platform))
                except OSError as error:
                    if getattr(error, "code", 0) != HTTPStatus.TOO_MANY_REQUESTS:  # on a busy machine
                        self.failures.append(f"{time.strftime('%X')} {error!r}")

        with ThreadPoolExecutor() as pool:
            for _ in range(2):
                pool.submit(call_on)
            try:
                yield
            finally:
                stop.set()


def register(uri: str, folder: Path) -> str:
    """Registers a model version, names it champion and returns its number."""
    registry = Registry("pricing", uri=uri)
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(experiment_id=mlflow.create_experiment("pricing")):
            number = registry.log_version(make_version(folder).folder)
    finally:
        mlflow.set_tracking_uri(None)
    registry.set_alias("champion", number)
    return number


def price(platform: Platform) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "X-API-Key": platform.key}
    call = urllib.request.Request(f"{platform.at('PORT')}/get_price", json.dumps(REQUEST).encode(), headers)
    with urllib.request.urlopen(call, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def ask_prometheus(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as response:
        data: dict[str, Any] = json.load(response)["data"]
    return data


def run_docker(environment: dict[str, str], *arguments: str) -> str:
    """Runs one docker command at the project's root and returns what it printed."""
    done = subprocess.run(
        ["docker", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout.strip()
