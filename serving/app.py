"""Create the Flask application of one worker: its parts, its routes, and the handlers around every route."""

import datetime as dt
import logging
import os
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from pricing.decision_log.writer import LogWriter
from pricing.runtime.shop_time import shop_now
from serving.api import Endpoint, endpoint_name, register
from serving.authentication import Authenticator
from serving.champion import Champion, PeriodicTasks
from serving.embedded import Embedded
from serving.hot_path import HEADERS, HotPath, arrived, count, problem_bytes, request_id
from serving.metrics import Exchange, Metrics
from serving.openapi import endpoints as document_endpoints
from serving.openapi import to_docs
from serving.problems import CONTENT_TYPE, UNFORESEEN, ProblemError
from serving.routes import catalogue, explain, health, pricing
from serving.routes.pricing import PricingRoutes
from serving.service import PATIENCE_SECONDS, Service
from serving.settings import Settings, read_settings
from serving.state_files import ExperimentFile, SwitchFile

ROOT = "root"  # name of the bare address, which is no part of the API

_log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None, *, now: Callable[[], dt.datetime] | None = None) -> Flask:
    """Creates one worker's application: maps the champion, opens a decision log, starts the background threads.

    Args:
        settings: Read from the environment when None.
        now: The clock; the shop's own by default.

    Raises:
        ConfigError: The environment or the configuration cannot be used.
    """
    settings = settings or read_settings(os.environ)
    now = now or partial(shop_now, settings.config.zone)
    serving = settings.config.serving
    log = LogWriter(
        settings.decisions_folder,
        flush_seconds=serving.log_flush_seconds,
        segment_bytes=int(serving.log_segment_mb * 1_000_000),
        sync=serving.log_sync,
    )
    metrics = Metrics()
    exchange = Exchange(metrics, folder=settings.run_folder, worker=log.worker)
    embedded = Embedded(
        settings.run_folder, namespace=serving.embedded_metrics, every=serving.embedded_seconds, task=settings.task
    )
    experiments = ExperimentFile(settings.experiments_file)
    switches = SwitchFile(settings.switch_file)
    champion = Champion(settings)
    service = Service(
        settings=settings,
        champion=champion,
        log=log,
        metrics=metrics,
        exchange=exchange,
        now=now,
        experiments=experiments,
        switches=switches,
        embedded=embedded,
    )
    app = Flask("serving", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = serving.body_limit
    app.extensions["pricing"] = service
    app.extensions["pricing_watch"] = PeriodicTasks([service.tick])
    authenticator = Authenticator(settings)
    pricing_routes = PricingRoutes(service, authenticator)
    app.extensions["pricing_authenticator"] = authenticator
    table = [
        *pricing.endpoints(pricing_routes),
        *explain.endpoints(service),
        *catalogue.endpoints(service, may=authenticator.may),
        *health.endpoints(service),
    ]
    table += document_endpoints(table)
    register(app, table)
    app.add_url_rule("/", ROOT, to_docs)
    _surround(app, service, table, authenticator=authenticator)
    answers = {"/get_price": pricing_routes.one, "/get_prices": pricing_routes.many}
    app.wsgi_app = HotPath(  # type: ignore[method-assign]
        app.wsgi_app, answers, authenticator=authenticator, metrics=metrics, limit=serving.body_limit
    )
    return app


def close_app(app: Flask) -> None:
    """Stops an application's threads and flushes its decision log."""
    app.extensions["pricing_watch"].close()
    service: Service = app.extensions["pricing"]
    service.log.close()
    service.tick(patience=PATIENCE_SECONDS)


def _surround(app: Flask, service: Service, table: list[Endpoint], *, authenticator: Authenticator) -> None:
    scopes = {ROOT: None} | {endpoint_name(endpoint): endpoint.scope for endpoint in table}

    @app.before_request
    def arrive() -> None:
        g.started = arrived(request.environ)
        g.request_id = request_id(request.headers.get("X-Request-ID"))
        if request.endpoint is not None:
            authenticator.authorise(request.environ, scopes[request.endpoint])

    @app.after_request
    def leave(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-ID"] = g.request_id
        route = request.endpoint or "unknown"
        count(service.metrics, route=route, status=response.status_code, started=g.started)
        return response

    @app.errorhandler(ProblemError)
    def explain(problem: ProblemError) -> Response:
        return _problem(problem)

    @app.errorhandler(HTTPException)
    def translate(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            limit = service.settings.config.serving.body_limit
            return _problem(ProblemError(status, f"the body is larger than {limit} bytes"))
        if status == HTTPStatus.NOT_FOUND:
            paths = sorted({endpoint.path for endpoint in table})
            return _problem(ProblemError(status, f"there is no {request.path[:100]!r}; there are {', '.join(paths)}"))
        response = _problem(ProblemError(status, error.description or status.phrase))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return response

    @app.errorhandler(Exception)
    def handle_unexpected(error: Exception) -> Response:
        _log.error("unforeseen", exc_info=error, extra={"request_id": g.request_id, "route": request.endpoint})
        return _problem(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, UNFORESEEN))


def _problem(problem: ProblemError) -> Response:
    body = problem_bytes(problem, g.request_id)
    return Response(body, status=problem.status.value, headers=problem.headers, mimetype=CONTENT_TYPE)
