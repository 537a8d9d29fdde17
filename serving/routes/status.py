"""Routes that say how the service is: liveness, readiness, what answers, metrics."""

import datetime as dt
import math
from collections import Counter
from http import HTTPStatus
from typing import Any, Literal

from flask import Response, request
from pydantic import BaseModel, Field

from pricing.registry.knowledge import shares_by_grade
from pricing.registry.version import LoadedVersion
from serving.api import Endpoint, Service, response
from serving.follower import VERSION_ERRORS, FollowerState, Following
from serving.metrics import CONTENT_TYPE
from serving.problems import ProblemError


class Follow(BaseModel):
    """How following what is published goes."""

    state: FollowerState
    champion: str | None = Field(description="The version that is published, as far as it is known.")
    detail: str | None = Field(description="What went wrong last: in /model, to keys of scope admin; else null.")
    refused: dict[str, str] = Field(description="Versions that are not served, and why; as detail.")

    @classmethod
    def of(cls, following: Following, *, addresses: bool) -> "Follow":
        """Converts the state; with `addresses` for a caller that may read addresses and paths."""
        refused = following.refused if addresses else dict.fromkeys(following.refused, "the service's log says why")
        detail = following.detail if addresses else None
        return cls(state=following.state, champion=following.champion, detail=detail, refused=dict(refused))


class ModelInfo(BaseModel):
    """The version that answers now; what is told of it is null without one."""

    model_version: str = Field(description='"none" while rules answer because there is no version.')
    products: int = 0
    state_date: dt.date | None = Field(default=None, description="The last day that the model has read.")
    state_age_days: int | None = None
    period: str | None = None
    horizon: int | None = None
    kind: str | None = Field(default=None, description="train, or refresh when it carries an older version's weights.")
    weights: str | None = Field(default=None, description="Hash of the weights.")
    grades: dict[str, float] | None = Field(default=None, description="Share of recent units per grade, 0 to 1.")
    holds_only: bool | None = Field(default=None, description="Whether no price moves by elasticities, too few known.")
    backtest: dict[str, Any] | None = Field(default=None, description="Figures of the walk-forward backtest behind it.")
    data: dict[str, Any] | None = Field(default=None, description="The rows read; where they lay only to scope admin.")
    following: Follow
    switches: dict[str, Any] = Field(description="`freezes` and `overrides` in force, and what counts for everything.")
    configuration: dict[str, Any] = Field(description="The settings in force, and which of file and version won.")
    keys: dict[str, bool | int] = Field(description="Whether API keys are `needed`, and how many are `known`.")


class Ready(BaseModel):
    """Readiness: prices come out, and by what."""

    status: Literal["ok"]
    model_version: str
    challenger: str | None = Field(description="The version that an experiment tries beside it.")
    following: Follow


def live(_: Service) -> bytes:
    """Says that the process answers."""
    return b'{"status":"ok"}'


def ready(service: Service) -> Ready:
    """Says that a version is served and prices a golden request; 503 while none does."""
    served = service.follower.current.champion
    try:
        price = 0.0 if served.version is None else served.price_golden()
    except VERSION_ERRORS as error:
        text = f"version {served.name} cannot price ({type(error).__name__})"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, text) from error
    if not 0 < price < math.inf:
        following = service.follower.following
        why = "nothing is published" if following.state == "none" else following.state
        text = f"no published version gives a price ({why}); rules answer meanwhile"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, text)
    tried = service.follower.current.challenger
    return Ready(
        status="ok",
        model_version=served.name,
        challenger=tried.name if tried else None,
        following=Follow.of(service.follower.following, addresses=False),
    )


def model(service: Service) -> ModelInfo:
    """Describes what answers now, and how following goes."""
    current = service.follower.current
    served = current.champion
    settings = service.settings
    now = service.now()
    admin = service.authenticator.may(request.environ, "admin")
    switches = current.control.switches.at(now)
    count = Counter(switch.action for switch in switches)
    return ModelInfo(
        model_version=served.name,
        **(_described(served.version, today=now.date(), addresses=admin) if served.version else {}),
        following=Follow.of(service.follower.following, addresses=admin),
        switches={
            "freezes": count["freeze"],
            "overrides": count["override"],
            "everything": next((switch.action for switch in switches if switch.scope == "all"), None),
        },
        configuration={
            "file": settings.file.path.name if settings.file.path else None,
            "replaced": dict(served.settings.replaced),
            "ignored": dict(served.settings.ignored),
            "time_zone": settings.config.zone.key if settings.config.zone else None,
            "strategy": served.settings.config.decision.strategy,
            "guardrails": served.settings.config.decision.guardrails.model_dump(mode="json"),
        },
        keys={"needed": settings.keys_needed, "known": len(settings.keys)},
    )


def _described(version: LoadedVersion, *, today: dt.date, addresses: bool) -> dict[str, Any]:
    """The fields of ModelInfo that a version knows; where its rows lay only with `addresses`."""
    demand = version.demand
    return {
        "products": len(demand.product_ids),
        "state_date": demand.state_date,
        "state_age_days": (today - demand.state_date).days,
        "period": demand.period,
        "horizon": demand.horizon,
        "kind": version.meta["kind"],
        "weights": version.weights_hash,
        "grades": {grade: round(share, 4) for grade, share in shares_by_grade(demand, version.facts).items()},
        "holds_only": version.holds_only,
        "backtest": {name: figure for name, figure in version.backtest.items() if name != "data"},
        "data": {name: value for name, value in version.meta["data"].items() if addresses or name != "source"},
    }


def metrics(service: Service) -> Response:
    """Gives what Prometheus reads."""
    return response(service.metrics.page(), CONTENT_TYPE)


ENDPOINTS = (
    Endpoint("GET", "/health/live", live, scope=None),
    Endpoint("GET", "/health/ready", ready, gives=Ready, scope=None),
    Endpoint("GET", "/model", model, gives=ModelInfo),
    Endpoint("GET", "/metrics", metrics, scope="admin", media="text/plain"),
)
