"""What gunicorn is told: who takes a connection, and what is said of a request."""

import logging
import time
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from serving import hooks


def test_the_busier_worker_hesitates_longer_but_never_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    taken: list[Any] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(ThreadWorker, "accept", lambda _, listener: taken.append(listener))
    worker = hooks.Worker.__new__(hooks.Worker)

    for open_connections in (0, 4, 8, 10_000):
        worker.nr_conns = open_connections
        worker.accept("listener")

    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[1] < waits[2]
    assert waits[-1] == hooks.LONGEST_SECONDS
    assert len(taken) == 4


def test_gunicorn_takes_the_worker_and_the_log_from_the_configuration() -> None:
    settings = Config()
    settings.set("worker_class", hooks.worker_class)
    settings.set("logger_class", hooks.logger_class)

    assert settings.worker_class is hooks.Worker
    assert settings.logger_class is hooks.Log


def test_nothing_is_gathered_for_the_access_log(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log = hooks.Log(Config())
    monkeypatch.setattr(log, "atoms", lambda *_: pytest.fail("gathered"))

    log.access(None, None, {}, None)

    root.handlers[:] = handlers
    root.setLevel(level)
