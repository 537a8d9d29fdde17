"""The OpenAPI 3.1 document of the endpoints, from pydantic's own schemas, and the HTML page that shows it."""

import base64
import hashlib
import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import pricing
from pricing.decision.reasons import GUARDRAILS, REASONS
from pricing.paths import page_css
from serving.api import JSON, Endpoint, response
from serving.problems import CONTENT_TYPE, ProblemBody

_PROBLEMS = (
    *(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    *(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY),
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def endpoints(table: list[Endpoint]) -> list[Endpoint]:
    """The routes /openapi.json and /docs, which describe `table` and themselves."""
    page, policy = _page()
    document: list[bytes] = []

    def openapi(_: object) -> bytes:
        """Gives this description."""
        return document[0]

    def docs(_: object) -> Response:
        """Shows this description to people."""
        return response(page, "text/html", Content_Security_Policy=policy)

    own = [
        Endpoint("GET", "/openapi.json", openapi, None, scope=None),
        Endpoint("GET", "/docs", docs, None, scope=None, media="text/html"),
    ]
    document.append(json.dumps(describe([*table, *own]), ensure_ascii=False).encode())
    return own


def describe(table: list[Endpoint]) -> dict[str, Any]:
    """Builds the OpenAPI document of a table of endpoints."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemBody, "serialization")]
    wanted += [(endpoint.takes, "validation") for endpoint in table if endpoint.takes]
    wanted += [(endpoint.gives, "serialization") for endpoint in table if endpoint.gives]
    references, definitions = models_json_schema(
        list(dict.fromkeys(wanted)), ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        operation: dict[str, Any] = {
            "operationId": endpoint.name,
            "summary": endpoint.summary,
            "responses": _responses(endpoint, references),
            "parameters": _parameters(endpoint),
        }
        if endpoint.takes:
            content = {"schema": references[endpoint.takes, "validation"], "example": endpoint.example}
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
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "x-reasons": REASONS,
            "x-guardrails": GUARDRAILS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _responses(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    schema = {"type": "object" if endpoint.media == JSON else "string"}
    if endpoint.gives:
        schema = references[endpoint.gives, "serialization"]
    answers = {"200": {"description": "The answer.", "content": {endpoint.media: {"schema": schema}}}}
    problem = {CONTENT_TYPE: {"schema": references[ProblemBody, "serialization"]}}
    for status in _PROBLEMS:
        answers[str(status.value)] = {"description": status.phrase, "content": problem}
    return answers


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    inside, text = re.findall(r"{(\w+)}", endpoint.path), {"type": "string", "minLength": 1}
    asked = [{"name": name, "in": "path", "required": True, "schema": text} for name in inside]
    return asked + [
        {"name": name, "in": "query", "schema": schema, "description": told}
        for name, (schema, told) in endpoint.query.items()
    ]


def _page() -> tuple[str, str]:
    """The page, and the security policy that lets its own style and script run, and nothing else."""
    text = Path(__file__).with_name("docs.html").read_text(encoding="utf-8").replace("{page_css}", page_css())
    inside = (text.split(f"<{tag}>")[1].split(f"</{tag}>")[0] for tag in ("style", "script"))
    style, script = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in inside)
    policy = (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return text, policy
