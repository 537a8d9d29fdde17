"""Create the Flask application of a serving process: its parts, its routes, its errors."""

import ctypes
import datetime as dt
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from multiprocessing.util import Finalize

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from pricing.decision_log.write import LogWriter
from serving import openapi
from serving.api import Service, Together, problem_response, register, request_id, response
from serving.auth import Authenticator
from serving.follower import Follower
from serving.metrics import Metrics, State
from serving.problems import ProblemError
from serving.routes import catalogue, explain, pricing, status
from serving.settings import Settings, read_settings

BODY_LIMIT = 512_000  # bytes of a request's body: a full batch fits, and HAProxy refuses more, too
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
LOG_SECONDS = 10.0  # for the log's last segments, within what `serving.__main__` lets a stop take
_log = logging.getLogger(__name__)


def create_app(settings: Settings, *, now: Callable[[], dt.datetime] | None = None) -> Flask:
    """Creates the application, which serves what it served last; raises ConfigError where an address is none."""
    serving = settings.config.serving
    service = Service(
        settings=settings,
        follower=Follower(settings),
        authenticator=Authenticator(settings.keys, needed=settings.keys_needed, local=serving.keys == "local"),
        log=LogWriter(settings.home / "segments", url=settings.decisions_url),
        metrics=Metrics(),
        now=now or settings.config.now,
    )
    service.together = Together(partial(pricing.answers, service, dry=False))
    service.metrics.registry.register(State(service.follower, service.log, now=service.now))
    app = Flask("serving", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.extensions["pricing"] = service
    endpoints = [each for module in (pricing, explain, catalogue, status, openapi) for each in module.ENDPOINTS]
    service.document = json.dumps(openapi.describe(endpoints), ensure_ascii=False).encode()
    register(app, service, endpoints)
    _handle_errors(app, service, paths=sorted({endpoint.path for endpoint in endpoints}))

    @app.get("/")
    def root() -> Response:
        return response(b"", "text/html", status=HTTPStatus.FOUND, headers={"Location": "docs"})

    return app


def application() -> Flask:
    """Makes the application of the environment's settings, follows what is published, and ends with its process."""
    # Ctrl-C reaches the process that started this one alone, which then stops it: of two signals at once granian hangs.
    os.setpgid(0, 0)
    if sys.platform == "linux":  # nor does it outlive that process, however that dies
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    app = create_app(read_settings(os.environ))
    service: Service = app.extensions["pricing"]
    service.follower.start()
    Finalize(None, close_app, args=(app,), exitpriority=10)
    gc.collect()
    gc.freeze()  # what lives as long as the process is spared: looking through it halts every thread
    return app


def close_app(app: Flask) -> None:
    """Ends following and sends the rest of the decision log."""
    service: Service = app.extensions["pricing"]
    service.together.close()
    service.log.close(seconds=LOG_SECONDS)
    service.follower.close()


def _handle_errors(app: Flask, service: Service, *, paths: list[str]) -> None:
    def counted(problem: ProblemError) -> Response:
        service.metrics.requests.labels(request.endpoint or "unknown", str(problem.status.value)).inc()
        return problem_response(problem)

    @app.errorhandler(HTTPException)
    def translate(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return counted(ProblemError(status, f"the body is larger than {BODY_LIMIT} bytes"))
        if status == HTTPStatus.NOT_FOUND:
            return counted(ProblemError(status, f"there is no {request.path[:100]!r}; there are {', '.join(paths)}"))
        allowed = sorted(getattr(error, "valid_methods", None) or ())
        headers = {"Allow": ", ".join(allowed)} if allowed else {}
        return counted(ProblemError(status, error.description or status.phrase, headers=headers))

    @app.errorhandler(Exception)
    def handle_unexpected(error: Exception) -> Response:
        _log.error("unforeseen, in %s", request.endpoint, exc_info=error, extra={"request_id": request_id()})
        text = "something unforeseen went wrong; it is in the log"
        return counted(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, text))
