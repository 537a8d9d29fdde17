"""What gunicorn is told: who takes a connection, and what is said of a request."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from serving import gunicorn_config
from serving.__main__ import web_command
from tests.kit.serving import settings_in


def test_the_busier_worker_hesitates_longer_but_never_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    taken: list[Any] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(ThreadWorker, "accept", lambda _, listener: taken.append(listener))
    worker = gunicorn_config.Worker.__new__(gunicorn_config.Worker)

    for open_connections in (0, 4, 8, 10_000):
        worker.nr_conns = open_connections
        worker.accept("listener")

    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[1] < waits[2]
    assert waits[-1] == gunicorn_config.LONGEST_SECONDS
    assert len(taken) == 4


def test_gunicorn_takes_the_worker_and_the_log_from_the_configuration() -> None:
    settings = Config()
    settings.set("worker_class", gunicorn_config.worker_class)
    settings.set("logger_class", gunicorn_config.logger_class)

    assert settings.worker_class is gunicorn_config.Worker
    assert settings.logger_class is gunicorn_config.Log


def test_nothing_is_gathered_for_the_access_log(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log = gunicorn_config.Log(Config())
    monkeypatch.setattr(log, "atoms", lambda *_: pytest.fail("gathered"))

    log.access(None, None, {}, None)

    root.handlers[:] = handlers
    root.setLevel(level)


def test_docker_waits_longer_than_open_connections_have_time_to_end(tmp_path: Path) -> None:
    command = web_command(settings_in(tmp_path))
    graceful = int(command[command.index("--graceful-timeout") + 1])
    service = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]["serving"]

    assert int(service["stop_grace_period"].removesuffix("s")) > graceful + 5
