"""Endpoint definitions: each gives a route, its validation, its scope and its part of the OpenAPI document."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from pydantic import BaseModel

from serving.hot_path import Model, encode, parse, require_json
from serving.problems import ProblemError

JSON = "application/json"
View = Callable[..., BaseModel | bytes | Response]


@dataclass(frozen=True)
class Endpoint:
    """One route.

    Attributes:
        method: GET or POST.
        path: As OpenAPI writes it, such as /products/{product_id}/elasticity.
        view: Returns a model, JSON already encoded, or a whole response.
        summary: What it does, one sentence.
        gives: The response's model; None when the response is not JSON.
        takes: The request body's model.
        query: Name → (JSON schema, description) of each query parameter.
        scope: The scope that an API key must have; None needs no key.
        problems: Error statuses of this route, besides those of every route.
        media: The response's media type.
        example: A valid request body.
    """

    method: str
    path: str
    view: View
    summary: str
    gives: type[BaseModel] | None
    takes: type[BaseModel] | None = None
    query: Mapping[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    scope: str | None = "price"
    problems: tuple[HTTPStatus, ...] = ()
    media: str = JSON
    example: Mapping[str, Any] | None = None


def register(app: Flask, endpoints: list[Endpoint]) -> None:
    """Adds a URL rule for every endpoint to the application."""
    for endpoint in endpoints:
        name = endpoint_name(endpoint)
        rule = re.sub(r"\{(\w+)\}", r"<path:\1>", endpoint.path)
        app.add_url_rule(rule, name, _respond(endpoint), methods=[endpoint.method])


def endpoint_name(endpoint: Endpoint) -> str:
    """The name of a route in metrics, logs and the OpenAPI document."""
    return re.sub(r"\W+", "_", endpoint.path.replace("{", "").replace("}", "")).strip("_")


def body_of(model: type[Model]) -> Model:
    """Validates the body of Flask's current request; see `parse`."""
    return parse(model, request.get_data(cache=False))


def _respond(endpoint: Endpoint) -> Callable[..., Response]:
    view, known = endpoint.view, frozenset(endpoint.query)

    def respond(**arguments: str) -> Response:
        if request.query_string and not known >= set(request.args):
            stray = sorted(set(request.args) - known)[0]
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"{stray!r} is no query parameter of {endpoint.path}; "
                + (f"it takes {', '.join(sorted(known))}" if known else "it takes none"),
            )
        if endpoint.takes is not None:
            require_json(request.content_type)
        answer = view(**arguments)
        if isinstance(answer, Response):
            return answer
        return Response(answer if isinstance(answer, bytes) else encode(answer), mimetype=JSON)

    return respond
