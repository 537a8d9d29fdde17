"""The images and docker-compose.yml, built and run by a real Docker engine."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pricing.registry.mlflow_registry import Registry
from tests.kit.versions import make_panel, make_version

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "integration" / "docker.sh"
NO_ENGINE = 77
KEY = secrets.token_hex(16)
PATIENCE_SECONDS = 120


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
def champion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking store of its own, with a champion; its address."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    register(uri, folder / "version")
    return uri


@pytest.fixture(scope="module")
def image(docker: dict[str, str], champion: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The serving image with that champion baked in, made by the commands of `make image`."""
    home = tmp_path_factory.mktemp("image")
    name = f"pricing-test-{secrets.token_hex(4)}"
    bake = [sys.executable, "-m", "serving.follower", "--bake"]
    subprocess.run(
        bake,
        cwd=ROOT,
        env={**os.environ, "PRICING_HOME": str(home / "baked"), "MLFLOW_TRACKING_URI": champion},
        check=True,
    )
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

    assert answer == "10001 [] ['config', 'pricing', 'serving']"


def test_the_image_prices_by_its_baked_champion_without_any_network(docker: dict[str, str], image: str) -> None:
    product = str(make_panel().product_ids[0])
    options = [
        "--network=none",
        "--read-only",
        "--tmpfs=/tmp",
        "--tmpfs=/var/lib/pricing/decisions",
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


def test_compose_serves_what_the_mlflow_server_names_champion(docker: dict[str, str], tmp_path: Path) -> None:
    ports = {"MLFLOW_PORT": str(free_port()), "PORT": str(free_port())}
    name = f"pricing-test-{secrets.token_hex(4)}"
    environment = {**docker, **ports, "COMPOSE_PROJECT_NAME": name, "PRICING_API_KEYS": f"shop {KEY} price"}
    product = str(make_panel().product_ids[0])
    try:
        run_docker(environment, "compose", "up", "--build", "--detach", "--wait", "--quiet-pull")
        before = price(ports["PORT"], product)
        register(f"http://127.0.0.1:{ports['MLFLOW_PORT']}", tmp_path / "version")

        after = wait_for_version(ports["PORT"], product, "1")
        run_docker(environment, "compose", "stop", "mlflow")
        alone = price(ports["PORT"], product)
    finally:
        sys.stdout.write(run_docker(environment, "compose", "logs", "--no-color", "--tail", "40"))
        run_docker(environment, "compose", "down", "--volumes", "--rmi", "local", "--timeout", "5")

    assert before["source"] == "rule"
    assert after["recommended_price"] > 0
    assert alone["model_version"] == "1"


def register(uri: str, folder: Path) -> None:
    """Registers a model version and names it champion."""
    registry = Registry("pricing", uri=uri)
    artifacts = (folder.parent / "artifacts").as_uri() if uri.startswith("sqlite") else None
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(experiment_id=mlflow.create_experiment("pricing", artifacts)):
            number = registry.log_version(make_version(folder).folder)
    finally:
        mlflow.set_tracking_uri(None)
    registry.set_alias("champion", number)


def request(product: str) -> dict[str, Any]:
    return {"product_id": product, "current_stock": 150, "day_of_week": "Friday", "comp_price": None, "is_promo": False}


def price(port: str, product: str) -> dict[str, Any]:
    body = json.dumps({**request(product), "current_price": 10.0, "list_price": 10.0}).encode()
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}
    call = urllib.request.Request(f"http://127.0.0.1:{port}/get_price", body, headers)
    with urllib.request.urlopen(call, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def wait_for_version(port: str, product: str, version: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = price(port, product)
        if answer["model_version"] == version:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"version {version} is not served after {PATIENCE_SECONDS} s; last answer: {answer}")


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
