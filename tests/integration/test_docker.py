"""The images and docker-compose.yml, built and run by a real Docker engine."""

import json
import os
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

from deploy.compose_files import write_secrets
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

    assert answer == "10001 [] ['config', 'pricing', 'serving']"


def test_the_image_prices_by_its_baked_champion_without_any_network(docker: dict[str, str], image: str) -> None:
    options = ["--network=none", "--read-only", "--tmpfs=/tmp", "--env=PRICING_KEYS=none"]
    options += [f"--tmpfs=/var/lib/pricing/{folder}" for folder in ("serving", "segments")]
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
        run_docker(docker, "rm", "--force", container)

    assert answer["model_version"] == "1"
    assert answer["recommended_price"] > 0


@dataclass(frozen=True)
class Platform:
    """docker-compose.yml, running, with ports and secrets of its own."""

    environment: dict[str, str]
    secrets: Path

    def compose(self, *words: str) -> str:
        return run_docker(self.environment, "compose", *words)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

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

    def uploaded(self) -> set[str]:
        """The ids of the decisions that both tasks have sent."""
        code = (
            "import boto3, botocore.exceptions as e, json; store = boto3.client('s3')\n"
            "try:\n"
            "  for page in store.get_paginator('list_objects_v2').paginate(Bucket='pricing', Prefix='decisions/'):\n"
            "    for one in page.get('Contents', []):\n"
            "      for line in store.get_object(Bucket='pricing', Key=one['Key'])['Body'].read().splitlines():\n"
            "        print(json.loads(line)['decision']['decision_id'])\n"
            "except (e.BotoCoreError, e.ClientError): pass  # it was restarted just now\n"
        )
        return set(self.compose("exec", "-T", "mlflow", "python", "-c", code).split())


@pytest.fixture(scope="module")
def platform(docker: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    done = subprocess.run([SCRIPT, "images"], env=docker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path_factory.mktemp("compose")
    write_secrets(folder)
    ports = {name: str(free_port()) for name in ("PORT", "MLFLOW_PORT", "PROMETHEUS_PORT")}
    name = f"pricing-test-{secrets.token_hex(4)}"
    names = {"COMPOSE_PROJECT_NAME": name, "PRICING_COMPOSE": str(folder)}
    platform = Platform({**docker, **ports, **names}, folder / "secrets")
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
    before = price(platform)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", platform.secret("mlflow-admin"))

    register(platform.tracking, tmp_path / "version")
    for task, other in zip(TASKS, reversed(TASKS), strict=True):
        platform.wait_ready(task, by=other)
    after = price(platform)

    assert before["source"] == "rule"
    assert after["model_version"] == "1"
    with pytest.raises(urllib.error.HTTPError, match="401"):  # without an account
        urllib.request.urlopen(f"{platform.tracking}/api/2.0/mlflow/experiments/search?max_results=1", timeout=30)


def test_a_serving_task_reads_what_is_published_and_writes_decisions_and_no_more(platform: Platform) -> None:
    code = (
        "import boto3, botocore.exceptions as e\n"
        "store = boto3.client('s3')\n"
        "def ask(name, bucket, key, **more):\n"
        "    try: getattr(store, name)(Bucket=bucket, Key=key, **more)\n"
        "    except e.ClientError as error: return error.response['Error']['Code']\n"
        "print(ask('put_object', 'pricing', 'decisions/tried', Body=b''),\n"
        "      ask('get_object', 'pricing', 'published/pricing/champion.json'),\n"
        "      ask('put_object', 'pricing', 'published/pricing/champion.json', Body=b''),\n"
        "      ask('put_object', 'mlflow', 'x', Body=b''),\n"
        "      *(ask('get_object', bucket, '.made') for bucket in ('pricing', 'mlflow')))"
    )

    answers = platform.compose("exec", "-T", "serving-1", "python", "-c", code).split()

    assert answers == ["None", "None", *["AccessDenied"] * 4]


def test_no_answer_and_no_decision_is_lost_while_each_service_is_restarted(platform: Platform) -> None:
    callers = Callers(platform)
    with callers.calling():
        for task, other in zip(TASKS, reversed(TASKS), strict=True):
            platform.compose("restart", task)
            platform.wait_ready(task, by=other)
        for service in ("mlflow", "postgres", "publish", "objects"):
            before = len(callers.answers)
            platform.compose("restart", service)
            wait_for(lambda: len(callers.answers) > before + 20, "callers get no answers")  # noqa: B023  (called here)
    answered = {answer["decision_id"] for answer in callers.answers}

    wait_for(lambda: answered <= platform.uploaded(), "decisions are missing")

    assert callers.failures == []
    assert {answer["model_version"] for answer in callers.answers} == {"1"}


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


def test_every_secret_can_be_replaced(platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in list(platform.secrets.iterdir()):
        if path.name not in ("postgres", "grafana"):  # which count at the first start of their servers alone
            path.unlink()

    write_secrets(platform.secrets.parent)
    platform.compose("--profile", "*", "down", "--timeout", "1")
    platform.compose("up", "--detach", "--wait")

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", platform.secret("mlflow-admin"))
    assert register(platform.tracking, tmp_path / "version", experiment="second") == "2"
    wait_for(lambda: price(platform)["model_version"] == "2", "the second version is not served")
    decision = price(platform)["decision_id"]
    wait_for(lambda: decision in platform.uploaded(), "the decision is not uploaded")


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


def price(platform: Platform) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "X-API-Key": platform.secret("key-shop")}
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
