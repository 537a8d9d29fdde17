"""Describe the endpoints: the OpenAPI 3.1 document, from pydantic's own schemas, and the page that shows it."""

import base64
import hashlib
import re
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import pricing
from pricing.decision.reasons import GUARDRAILS, REASONS
from pricing.paths import page_css
from serving.api import JSON, Endpoint, Service, response
from serving.problems import CONTENT_TYPE, ProblemBody

_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_REFERENCE = "#/components/schemas/{model}"


def openapi(service: Service) -> bytes:
    """Gives this description."""
    return service.document


def docs(_: Service) -> Response:
    """Shows this description to people."""
    page = Path(__file__).with_name("docs.html").read_text(encoding="utf-8").replace("{page_css}", page_css())
    # The page's own style and script run, and nothing else.
    policy = (
        f"default-src 'none'; style-src {_hash_of(page, 'style')}; script-src {_hash_of(page, 'script')}; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return response(page, "text/html", headers={"Content-Security-Policy": policy})


def _hash_of(page: str, tag: str) -> str:
    """The hash, as a security policy has it, of what stands inside a tag."""
    inside = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Builds the OpenAPI document of the endpoints."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemBody, "serialization")]
    wanted += [(endpoint.takes, "validation") for endpoint in endpoints if endpoint.takes]
    wanted += [(endpoint.gives, "serialization") for endpoint in endpoints if endpoint.gives]
    schemas, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pricing",
            "version": pricing.__version__,
            "description": "A price for each product and day, with its confidence, under the retailer's guardrails.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "x-reasons": REASONS,
            "x-guardrails": GUARDRAILS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    """The description of one endpoint; `schemas` has a reference for each (model, mode)."""
    names = re.findall(r"{(\w+)}", endpoint.path)
    text = {"type": "string", "minLength": 1}
    inside = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
    behind = [{"name": name, "in": "query", **parameter} for name, parameter in endpoint.query.items()]
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": inside + behind,
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.takes:
        content = {"schema": schemas[endpoint.takes, "validation"], "example": endpoint.example}
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
    if endpoint.scope:
        operation["security"] = [{}, {"key": []}, {"bearer": []}]
        operation["description"] = f"Where keys are needed, the key must open the scope `{endpoint.scope}`."
    return operation


def _responses(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    """The answer of an endpoint, and the problems that any may have, by status."""
    if endpoint.gives:
        schema = schemas[endpoint.gives, "serialization"]
    else:
        schema = {"type": "object" if endpoint.media == JSON else "string"}
    problem = {CONTENT_TYPE: {"schema": schemas[ProblemBody, "serialization"]}}
    answer = {"description": "The answer.", "content": {endpoint.media: {"schema": schema}}}
    return {"200": answer} | {
        str(status.value): {"description": status.phrase, "content": problem} for status in _PROBLEMS
    }


ENDPOINTS = (
    Endpoint("GET", "/openapi.json", openapi, scope=None),
    Endpoint("GET", "/docs", docs, scope=None, media="text/html"),
)
