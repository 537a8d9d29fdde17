"""Routes for orchestrators and Prometheus: liveness, readiness, metrics."""

import math
from http import HTTPStatus

from flask import Response

from serving.api import Endpoint, Service, response
from serving.follower import VERSION_ERRORS
from serving.metrics import CONTENT_TYPE
from serving.problems import ProblemError
from serving.schemas import Follow, Ready


def live(_: Service) -> bytes:
    """Says that the process answers."""
    return b'{"status":"ok"}'


def ready(service: Service) -> Ready:
    """Says that a version is served and prices a golden request.

    Raises:
        ProblemError: 503 while no version is served, or when pricing fails.
    """
    served, following = service.follower.current.champion, service.follower.following
    if served.version is None:
        text = f"no model version is served (following: {following.state}); prices come by rule meanwhile"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, text)
    try:
        price = served.price_golden()
    except VERSION_ERRORS as error:
        text = f"version {served.name} cannot price ({type(error).__name__})"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, text) from error
    if not 0 < price < math.inf:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"version {served.name} gives no price")
    return Ready(status="ok", model_version=served.name, following=Follow.of(following, addresses=False))


def metrics(service: Service) -> Response:
    """Gives what Prometheus reads."""
    return response(service.metrics.page(), CONTENT_TYPE)


ENDPOINTS = (
    Endpoint("GET", "/health/live", live, None, scope=None),
    Endpoint("GET", "/health/ready", ready, Ready, scope=None, problems=(HTTPStatus.SERVICE_UNAVAILABLE,)),
    Endpoint("GET", "/metrics", metrics, None, scope="admin", media="text/plain"),
)
