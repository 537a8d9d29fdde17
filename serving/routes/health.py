"""Routes for orchestrators and Prometheus: liveness, readiness, metrics."""

import math
from http import HTTPStatus

from flask import Response
from prometheus_client.core import Metric

from serving import metrics
from serving.api import Endpoint
from serving.champion import VERSION_ERRORS, golden_requests
from serving.problems import ProblemError
from serving.routes.catalogue import state_age
from serving.schemas import Follow, Live, Ready
from serving.service import PATIENCE_SECONDS, Service


def endpoints(service: Service) -> list[Endpoint]:
    """The endpoints for health and metrics."""
    health_routes = HealthRoutes(service)
    return [
        Endpoint("GET", "/health/live", health_routes.live, "Whether the process answers at all.", Live, scope=None),
        Endpoint(
            "GET",
            "/health/ready",
            health_routes.ready,
            "Whether prices come out: the first attempt to load a champion has ended, a version is served where one is "
            "needed, and a golden request is priced.",
            Ready,
            scope=None,
            problems=(HTTPStatus.SERVICE_UNAVAILABLE,),
        ),
        Endpoint(
            "GET",
            "/metrics",
            health_routes.metrics,
            "What Prometheus reads, over all workers.",
            None,
            scope="admin",
            media="text/plain",
        ),
    ]


def _lacking(following: Follow) -> str:
    why = f"{following.state}: {following.detail}" if following.detail else following.state
    return (
        "no model version is served, and serving.needs_model (PRICING_NEEDS_MODEL) asks for one; prices come by rule "
        f"meanwhile; the follower: {why}"
    )


class HealthRoutes:
    """Handlers of the health and metrics routes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def live(self) -> Live:
        """Returns ok: the process answers."""
        return Live(status="ok")

    def ready(self) -> Ready:
        """Prices a golden request.

        Raises:
            ProblemError: 503 while the first attempt to load a champion goes on, while a model is needed and none is
                served, when pricing fails, or before a stop.
        """
        if self._service.stopping():
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the service is about to stop")
        if not self._service.first_attempt_ended():
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the first attempt to load a champion has not ended yet")
        following = self._service.follower_status(addresses=False)
        if self._service.lacks_model():
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, _lacking(following))
        served = self._service.champion.served
        try:
            requests, today = golden_requests(served)
            (decision,) = served.pricer.price(requests[:1], today=today)
        except VERSION_ERRORS as error:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"version {served.name} cannot price ({type(error).__name__})"
            ) from error
        if not (math.isfinite(decision.recommended_price) and decision.recommended_price > 0):
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"version {served.name} gives no price")
        return Ready(status="ok", model_version=served.name, following=following)

    def metrics(self) -> Response:
        """Returns the metrics of all workers; this worker's are up to date."""
        service = self._service
        service.tick(patience=PATIENCE_SECONDS)
        following = service.champion.following
        state = following.state if following else "off"
        extra = [
            metrics.gauge("pricing_follower", "1 for the state that the follower is in.", 1, state=state),
            metrics.gauge(
                "pricing_refused_versions",
                "Versions that the follower refuses.",
                len(following.refused) if following else 0,
            ),
        ]
        today = service.now().date()
        running = sum(one.runs_on(today) for one in service.experiments.content.every)
        extra.append(
            metrics.gauge("pricing_experiments", "Experiments under way.", running, state=service.experiments.state)
        )
        in_force = service.switches.content.at(service.now())
        for action in ("freeze", "override"):
            count = sum(switch.action == action for switch in in_force)
            extra.append(
                metrics.gauge("pricing_switches", "Switches of a person that are in force.", count, action=action)
            )
        age = state_age(service.champion.served, service.now().date())
        if age is not None:
            extra.append(metrics.gauge("pricing_state_age_days", "Days since the last day the model has read.", age))
        if following and following.polled_at:
            since = service.now().timestamp() - following.polled_at
            extra.append(metrics.gauge("pricing_registry_silence_seconds", "Time since the registry answered.", since))
        extra += self._upload_gauges()
        return Response(metrics.page(service.counts(), extra=extra), content_type=metrics.CONTENT_TYPE)

    def _upload_gauges(self) -> list[Metric]:
        status = self._service.upload_status()
        if status is None:
            return []
        lag = max(self._service.now().timestamp() - status.through, 0.0)
        return [
            metrics.gauge(
                "pricing_log_upload_lag_seconds",
                "Age of the oldest decision on the disk that may not be uploaded; it grows where nobody uploads.",
                lag,
            ),
            metrics.gauge(
                "pricing_log_upload_waiting_bytes", "Decision log that is not uploaded.", status.waiting_bytes
            ),
            metrics.gauge("pricing_log_upload_failures", "Uploads that failed in this run.", status.failures),
            metrics.gauge(
                "pricing_log_upload_dropped",
                "Decisions deleted in this run because too many waited for their upload.",
                status.dropped,
            ),
        ]
