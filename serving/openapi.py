"""Generate the OpenAPI 3.1 document from the endpoints and their pydantic models, and an HTML page that shows it."""

import base64
import hashlib
import json
import re
from html import escape
from http import HTTPStatus
from typing import Any

from flask import Response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import pricing
from pricing.decision.reasons import REASONS
from serving.api import JSON, Endpoint, endpoint_name
from serving.problems import CONTENT_TYPE, ProblemBody

_EVERYWHERE = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
_WITH_BODY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def endpoints(table: list[Endpoint]) -> list[Endpoint]:
    """The routes /openapi.json and /docs, which describe `table` and themselves."""
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


def to_docs() -> Response:
    """Sends whoever asks for the bare address to /docs; relative, since a proxy may have put a path before it."""
    return Response(status=HTTPStatus.FOUND, headers={"Location": "docs"})


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
    """Rewrites tuples of one type as arrays: more tools understand `items` than `prefixItems`."""
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


_STYLE = """
:root{--ink:#1d2433;--soft:#5b6577;--line:#dfe4ec;--back:#f6f8fb;--card:#fff;--get:#1f7a4d;--post:#2456b8;--code:#f0f3f8}
@media (prefers-color-scheme:dark){:root{--ink:#e7ebf3;--soft:#a3adbf;--line:#323b4d;--back:#151a23;--card:#1d2430;
--get:#5cc493;--post:#7ea6f5;--code:#161c27}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 5rem}h1{margin:0 0 .25rem;font-size:1.9rem}
h2{margin:2.5rem 0 .75rem;font-size:1.2rem}p{margin:.4rem 0}.soft{color:var(--soft)}a{color:var(--post)}
details{background:var(--card);border:1px solid var(--line);border-radius:.6rem;margin:.55rem 0}
summary{display:flex;gap:.8rem;align-items:baseline;padding:.65rem .9rem;cursor:pointer;flex-wrap:wrap}
summary::-webkit-details-marker{display:none}.verb{font:600 .8rem/1 ui-monospace,monospace;width:3rem;color:var(--get)}
.verb.post{color:var(--post)}.path{font:600 .95rem/1.4 ui-monospace,monospace}summary .soft{flex:1 1 18rem}
.body{padding:.25rem 1rem 1rem;border-top:1px solid var(--line)}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;margin:.5rem 0}
th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}code,textarea,pre{font:.88rem/1.5 ui-monospace,monospace}
textarea{width:100%;min-height:11rem;padding:.6rem;border:1px solid var(--line);border-radius:.4rem;
background:var(--code);color:var(--ink)}pre{background:var(--code);padding:.7rem;border-radius:.4rem;overflow-x:auto;
white-space:pre-wrap}button{font:inherit;padding:.4rem 1.1rem;border:0;border-radius:.4rem;background:var(--post);
color:var(--card);cursor:pointer;margin:.5rem 0}
input{font:inherit;padding:.3rem .5rem;border:1px solid var(--line);border-radius:.4rem;background:var(--code);
color:var(--ink)}label{display:block;margin-top:.6rem;font-weight:600}
:focus-visible{outline:2px solid var(--post);outline-offset:2px}
"""
_SCRIPT = """
const open = () => { const part = document.getElementById(location.hash.slice(1)); if (part) part.open = true; };
addEventListener("hashchange", open); open();
for (const form of document.querySelectorAll("form")) form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const out = form.querySelector("pre"), body = form.querySelector("textarea");
  const key = document.getElementById("key").value;
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("input"))
    path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
  const headers = {...(body ? {"Content-Type": "application/json"} : {}), ...(key ? {"X-API-Key": key} : {})};
  out.hidden = false;
  try {
    const answer = await fetch(path, {method: form.dataset.method, headers, body: body ? body.value : undefined});
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* no JSON: shown as it is */ }
    out.textContent = `${answer.status} ${answer.statusText}\\n${shown.slice(0, 20000)}`;
  } catch (error) { out.textContent = String(error); }
});
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


CSP = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def render(document: dict[str, Any]) -> str:
    """Renders an OpenAPI document as an HTML page."""
    schemas = document["components"]["schemas"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    models = [_model(name, schema) for name, schema in sorted(schemas.items())]
    reasons = "".join(
        f"<tr><td><code>{escape(code)}</code></td><td>{escape(meaning)}</td></tr>"
        for code, meaning in document["components"]["x-reasons"].items()
    )
    info = document["info"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(info["title"])} {escape(info["version"])}</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(info["title"])} <span class="soft">{escape(info["version"])}</span></h1>
<p>{escape(info["description"])}</p>
<p class="soft">The same as a file: <a href="/openapi.json">openapi.json</a> (OpenAPI {escape(document["openapi"])}).
Errors are <code>application/problem+json</code> and list every problem.</p>
<label for="key">API key, where one is needed</label><input id="key" type="password" autocomplete="off">
<h2>Routes</h2>{"".join(operations)}
<h2>Bodies</h2>{"".join(models)}
<h2>Reasons</h2><div class="wide"><table>{reasons}</table></div>
</main><script>{_SCRIPT}</script></body></html>
"""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = operation.get("parameters", [])
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = content.get("schema")
    rows = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{escape(parameter.get('description', ''))}</td></tr>"
        for parameter in parameters
    )
    statuses = "".join(
        f"<tr><td><code>{status}</code></td><td>{escape(answer['description'])}</td><td>{_link(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    inputs = "".join(
        f'<label>{escape(parameter["name"])} <input name="{escape(parameter["name"])}" required></label>'
        for parameter in parameters
        if parameter["in"] == "path"
    )
    example = json.dumps(content.get("example", {}), indent=2, ensure_ascii=False)
    area = f"<label>Body<textarea>{escape(example)}</textarea></label>" if body else ""
    taken = f"<p>Takes {_reference(body)}.</p>" if body else ""
    parameter_table = f'<div class="wide"><table>{rows}</table></div>' if rows else ""
    return f"""<details><summary><span class="verb {method}">{method.upper()}</span>
<span class="path">{escape(path)}</span><span class="soft">{escape(operation["summary"])}</span></summary>
<div class="body"><p class="soft">{_text(operation.get("description", ""))}</p>{taken}{parameter_table}
<div class="wide"><table><tr><th>Status</th><th>Meaning</th><th>Body</th></tr>{statuses}</table></div>
<form data-method="{method.upper()}" data-path="{escape(path)}">{inputs}{area}
<button>Send</button><pre hidden></pre></form></div></details>"""


def _model(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_type(value)}</td><td>{'yes' if field in needed else ''}</td>"
        f"<td>{escape(value.get('description', ''))}</td></tr>"
        for field, value in schema.get("properties", {}).items()
    )
    about = escape(schema.get("description", "").split("\n")[0])
    return f"""<details id="{escape(name)}"><summary><span class="path">{escape(name)}</span>
<span class="soft">{about}</span></summary><div class="body wide">
<table><tr><th>Field</th><th>Type</th><th>Needed</th><th></th></tr>{rows}</table></div></details>"""


def _text(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _reference(schema)
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = {
        "minimum": "≥",
        "exclusiveMinimum": "&gt;",
        "maximum": "≤",
        "minLength": "length ≥",
        "maxLength": "length ≤",
    }
    stated = ", ".join(f"{sign} {schema[key]:g}" for key, sign in limits.items() if key in schema)
    kind = escape(str(schema.get("format", schema.get("type", "any"))))
    return f"{kind} {stated}".strip()


def _link(answer: dict[str, Any]) -> str:
    content: dict[str, Any] = answer.get("content", {})
    return "".join(_reference(part["schema"]) for part in content.values() if "$ref" in part["schema"])


def _reference(schema: dict[str, Any]) -> str:
    name = escape(schema.get("$ref", "").rsplit("/", 1)[-1])
    return f'<a href="#{name}">{name}</a>'
