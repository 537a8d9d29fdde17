"""The OpenAPI 3.1 document, made from the table of endpoints and the models that validate, and its page for people."""

import json
from http import HTTPStatus
from typing import Any

from flask import Response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import pricing
from pricing.decision.reasons import REASONS
from serving.api import JSON, Endpoint, endpoint_name
from serving.page import CSP, render
from serving.problems import CONTENT_TYPE, ProblemBody

_EVERYWHERE = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_WITH_BODY = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


def endpoints(table: list[Endpoint]) -> list[Endpoint]:
    """The routes of the documents themselves, which describe `table` and themselves."""
    own: list[Endpoint] = []
    page: list[bytes] = []

    def openapi() -> bytes:
        return page[0]

    def docs() -> Response:
        return Response(page[1], mimetype="text/html", headers={"Content-Security-Policy": CSP})

    own += [
        Endpoint("GET", "/openapi.json", openapi, "This description.", None, scope=None),
        Endpoint("GET", "/docs", docs, "This description, for people.", None, scope=None, media="text/html"),
    ]
    document = describe([*table, *own])
    page += [json.dumps(document, ensure_ascii=False).encode(), render(document).encode()]
    return own


def describe(table: list[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of a table."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemBody, "serialization")]
    wanted += [(endpoint.takes, "validation") for endpoint in table if endpoint.takes]
    wanted += [(endpoint.gives, "serialization") for endpoint in table if endpoint.gives]
    references, definitions = models_json_schema(
        list(dict.fromkeys(wanted)), ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        operation: dict[str, Any] = {
            "operationId": endpoint_name(endpoint),
            "summary": endpoint.summary,
            "responses": _responses(endpoint, references),
        }
        parameters = _parameters(endpoint)
        if parameters:
            operation["parameters"] = parameters
        if endpoint.takes:
            schema = references[endpoint.takes, "validation"]
            content = {"schema": schema} | ({"example": endpoint.example} if endpoint.example else {})
            operation["requestBody"] = {"required": True, "content": {JSON: content}}
        if endpoint.scope:
            operation["security"] = [{}, {"key": []}, {"bearer": []}]
            operation["description"] = f"Where keys are needed, the key must open the scope `{endpoint.scope}`."
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pricing",
            "version": pricing.__version__,
            "description": "A price for each product and day, with its confidence, under the retailer's guardrails.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _plain(definitions.get("$defs", {})),
            "x-reasons": REASONS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _plain(schema: Any) -> Any:
    """The schema with pairs of one kind written as arrays of two, which more tools understand than `prefixItems`."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(part) for name, part in schema.items()}
    kinds = found.get("prefixItems")
    if isinstance(kinds, list) and all(kind == kinds[0] for kind in kinds):
        found["items"] = found.pop("prefixItems")[0]
    return found


def _responses(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The answer."}
    schema = references[endpoint.gives, "serialization"] if endpoint.gives else {"type": "string"}
    if endpoint.media == JSON and not endpoint.gives:
        schema = {"type": "object"}
    answer["content"] = {endpoint.media: {"schema": schema}}
    statuses = {*endpoint.problems, *(_EVERYWHERE if endpoint.scope else ()), *(_WITH_BODY if endpoint.takes else ())}
    statuses.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    problem = {"schema": references[ProblemBody, "serialization"]}
    return {"200": answer} | {
        str(status.value): {"description": status.phrase, "content": {CONTENT_TYPE: problem}}
        for status in sorted(statuses)
    }


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    inside = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in inside
    ]
    for name, (schema, description) in endpoint.query.items():
        found.append({"name": name, "in": "query", "schema": schema, "description": description})
    return found
