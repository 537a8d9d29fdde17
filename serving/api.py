"""The table of endpoints: each row gives a route, its validation, its scope and its part of the OpenAPI document."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Flask, Response, request
from pydantic import BaseModel, ValidationError

from serving.problems import ProblemError, from_validation

JSON = "application/json"
Model = TypeVar("Model", bound=BaseModel)
View = Callable[..., BaseModel | bytes | Response]


@dataclass(frozen=True)
class Endpoint:
    """One route.

    Attributes:
        method: GET or POST.
        path: As OpenAPI writes it, such as /products/{product_id}/elasticity.
        view: Answers with a model, with JSON already encoded, or with a whole response.
        summary: What it does, one sentence.
        gives: The answer's model; None when it is no JSON.
        takes: The body's model.
        query: Name → (JSON schema, description) of each query parameter.
        scope: What a key must open; None for everyone.
        problems: The statuses it may answer with besides 200, beyond those of every route.
        media: The answer's media type.
        example: A body that works.
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
    """Routes every endpoint; its scope is kept under its name for whoever checks keys."""
    for endpoint in endpoints:
        name = endpoint_name(endpoint)
        rule = re.sub(r"\{(\w+)\}", r"<path:\1>", endpoint.path)
        app.add_url_rule(rule, name, _respond(endpoint), methods=[endpoint.method])


def endpoint_name(endpoint: Endpoint) -> str:
    """The name of a route in metrics, logs and the OpenAPI document."""
    return re.sub(r"\W+", "_", endpoint.path.replace("{", "").replace("}", "")).strip("_")


def body_of(model: type[Model]) -> Model:
    """The body of Flask's current request, validated; as `parse`."""
    return parse(model, request.get_data(cache=False))


def parse(model: type[Model], body: bytes) -> Model:
    """A body, validated by its JSON types as they stand: true is no 1, "150" no 150; whole numbers are numbers.

    Raises:
        ProblemError: 400 when it is no JSON, 422 with every fault when it does not fit the model.
    """
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise from_validation(error, model=model) from error


def encode(model: BaseModel) -> bytes:
    """The model as JSON; numbers that are not finite become null."""
    return model.__pydantic_serializer__.to_json(model)


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
        answer = view(**arguments)
        if isinstance(answer, Response):
            return answer
        return Response(answer if isinstance(answer, bytes) else encode(answer), mimetype=JSON)

    return respond
