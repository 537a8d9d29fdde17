"""Answer pricing requests in plain WSGI, in front of Flask, which halves the time for one price.

An ordinary POST to a pricing route is answered exactly as by Flask, with the same functions; all else goes to Flask.
What every request and response share lies here too: bodies read and written, headers, request ids, counts.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from serving.authentication import Authenticator, Charge
from serving.metrics import Metrics
from serving.problems import CONTENT_TYPE, Fault, ProblemError, from_validation

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Model = TypeVar("Model", bound=BaseModel)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HARMLESS = re.compile(r"[\w.:-]{1,100}", re.ASCII)
Answer = Callable[[bytes, Charge], bytes]
SCOPE = "price"
ARRIVED = "pricing.arrived"  # in a WSGI environment: when the whole request had come, by time.perf_counter
_FIXED = list(HEADERS.items())


def request_id(sent: str | None) -> str:
    """The X-Request-ID that the caller sent, where it is harmless, else a new one."""
    return sent if sent and _HARMLESS.fullmatch(sent) else secrets.token_hex(8)


def problem_bytes(problem: ProblemError, name: str) -> bytes:
    """Encodes the body of an error response to the request with ID `name`."""
    return json.dumps(problem.body(name), ensure_ascii=False).encode()


def count(metrics: Metrics, *, route: str, status: int, started: float) -> None:
    """Counts one answered request, which arrived at `started` by time.perf_counter."""
    metrics.count("pricing_requests", route, str(status))
    metrics.observe("pricing_request_seconds", time.perf_counter() - started, route)


def arrived(environ: Mapping[str, Any]) -> float:
    """When a request had come, by time.perf_counter, so that its wait for a thread counts; else the present moment."""
    return float(environ.get(ARRIVED) or time.perf_counter())


def parse(model: type[Model], body: bytes) -> Model:
    """Validates a body strictly by JSON type: true is not 1 and "150" is not 150, but a whole number is a float.

    Raises:
        ProblemError: 400 when it is not JSON or has a name twice, 422 with every fault when it does not fit the model.
    """
    try:
        found = model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise from_validation(error, model=model) from error
    refuse_names_given_twice(body, names=len(found.model_fields_set))
    return found


def refuse_names_given_twice(body: bytes, *, names: int = 0) -> None:
    """Refuses a body in which an object has a name twice: the last one would count, without a word.

    Args:
        body: JSON that was read already.
        names: How many different names were found in it, at least. Behind every name stands a colon, so a body that has
            no more colons has none twice, and need not be read again.

    Raises:
        ProblemError: 400, it has; names it.
    """
    if body.count(b":") > names:
        _read(body, _once)


def items_with_names_given_twice(body: bytes, *, names: int = 0) -> dict[int, ProblemError]:
    """Finds the items of a batch that have a name twice, by their places, and what refuses each.

    An object inside an item is not looked at: no request has one, so that the item is refused anyway.

    Args:
        body: JSON that was read already: an object with the list `requests`.
        names: As `refuse_names_given_twice`.

    Raises:
        ProblemError: 400, the body itself has a name twice.
    """
    if body.count(b":") <= names:
        return {}
    whole = _read(body, lambda pairs: _given_twice(pairs) or dict(pairs))
    if isinstance(whole, ProblemError):
        raise whole
    return {place: item for place, item in enumerate(whole["requests"]) if isinstance(item, ProblemError)}


def _read(body: bytes, of_object: Callable[[list[tuple[str, Any]]], object]) -> Any:
    """Reads JSON; numbers are left as text, since none is used, and Python refuses to read very long ones."""
    return json.loads(body, object_pairs_hook=of_object, parse_int=str, parse_float=str)


def _once(pairs: list[tuple[str, object]]) -> None:
    problem = _given_twice(pairs)
    if problem is not None:
        raise problem


def _given_twice(pairs: list[tuple[str, object]]) -> ProblemError | None:
    """What refuses an object that has a name twice; None where it has none."""
    seen = set()
    for name, _ in pairs:
        if name in seen:
            shown = name.encode("utf-8", "replace").decode()[:100]
            fault = Fault(field=shown, problem="is given twice in one object; send it once")
            return ProblemError(HTTPStatus.BAD_REQUEST, f"{shown!r} {fault.problem}", errors=[fault])
        seen.add(name)
    return None


def require_json(kind: str | None) -> None:
    """Refuses a body that is not sent as JSON: any web page may have its reader's browser send the other types.

    Raises:
        ProblemError: 415, it is not.
    """
    if kind != "application/json" and (kind or "").split(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type is {kind[:100]!r}; send application/json" if kind else "send Content-Type: application/json",
        )


def encode(model: BaseModel) -> bytes:
    """Encodes a model as JSON; numbers that are not finite become null."""
    return model.__pydantic_serializer__.to_json(model)


class HotPath:
    """WSGI middleware that answers the pricing routes."""

    def __init__(
        self,
        app: "WSGIApplication",
        answers: Mapping[str, Answer],
        *,
        authenticator: Authenticator,
        metrics: Metrics,
        limit: int,
    ) -> None:
        """Wraps `app`.

        Args:
            app: Answers everything else.
            answers: Path → function from request body to response body, which may raise ProblemError; it charges the
                caller for what it prices beyond one product.
            authenticator: Checks keys and rate limits.
            metrics: Counts requests.
            limit: Bytes above which a body is left to `app`, which refuses it.
        """
        self._app = app
        self._answers = answers
        self._authenticator = authenticator
        self._metrics = metrics
        self._limit = limit

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answers a request."""
        path = environ["PATH_INFO"]
        answer = self._answers.get(path)
        length = environ.get("CONTENT_LENGTH") or ""
        if (
            answer is None
            or environ["REQUEST_METHOD"] != "POST"
            or environ.get("QUERY_STRING")
            or not length.isdigit()
            or int(length) > self._limit
        ):
            return self._app(environ, start_response)
        started = arrived(environ)
        name = request_id(environ.get("HTTP_X_REQUEST_ID"))
        status, kind, extra = "200 OK", "application/json", {}
        try:
            self._authenticator.authorise(environ, SCOPE)
            require_json(environ.get("CONTENT_TYPE"))
            sent = environ["wsgi.input"].read(int(length))
            body = answer(sent, lambda more: self._authenticator.charge(environ, more))
        except ProblemError as problem:
            status = f"{problem.status.value} {problem.status.phrase}"
            kind, extra, body = CONTENT_TYPE, problem.headers, problem_bytes(problem, name)
        own = [("Content-Type", kind), ("Content-Length", str(len(body))), ("X-Request-ID", name)]
        start_response(status, [*own, *_FIXED, *extra.items()])
        count(self._metrics, route=path[1:], status=int(status[:3]), started=started)
        return [body]
