"""Define endpoints, and surround each view with what all need: key, body, headers, request id, errors and counts."""

import datetime as dt
import json
import re
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from flask import Flask, Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from pricing.decision.request import PriceRequest
from pricing.decision_log.write import LogWriter
from serving.auth import Authenticator
from serving.follower import Follower
from serving.metrics import Metrics
from serving.problems import CONTENT_TYPE, LISTED, ProblemError, from_validation, near_ids, plain, refused
from serving.settings import Settings

JSON = "application/json"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HARMLESS = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_REQUEST_ID = "pricing.request_id"  # the name in a WSGI environment
_NONE: Mapping[str, Any] = MappingProxyType({})
View = Callable[..., BaseModel | bytes | Response]  # its first argument is the service, its docstring the summary
Model = TypeVar("Model", bound=BaseModel)
Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    """Collects the requests of many threads for a function that answers several in order: 16 cost it as much as two."""

    def __init__(self, answers: Callable[[Sequence[Question]], Sequence[Answer]]) -> None:
        self._answers = answers
        self.waiting: deque[tuple[Question, Future[Answer]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="together")

    def answer(self, asked: Question) -> Answer:
        """Waits for the answer to one request; raises what the function raises."""
        future: Future[Answer] = Future()
        self.waiting.append((asked, future))
        self._thread.submit(self._pass)
        return future.result()

    def close(self) -> None:
        """Ends the thread behind what waits; no request may follow."""
        self._thread.shutdown()

    def _pass(self) -> None:
        taken = [self.waiting.popleft() for _ in range(len(self.waiting))]  # none, where an earlier pass took it
        if not taken:
            return
        try:
            found = self._answers([asked for asked, _ in taken])
        except Exception as error:  # noqa: BLE001 - raised again in the threads that wait
            for _, future in taken:
                future.set_exception(error)
        else:
            for (_, future), answer in zip(taken, found, strict=True):
                future.set_result(answer)


class Asked(NamedTuple):
    """A price request, and the id of the HTTP request that brought it."""

    price: PriceRequest
    request_id: str


@dataclass(kw_only=True)
class Service:
    """Everything that the routes share; `now` is the present moment with a time zone."""

    settings: Settings
    follower: Follower
    authenticator: Authenticator
    log: LogWriter
    metrics: Metrics
    now: Callable[[], dt.datetime]
    together: Together[Asked, bytes | ProblemError] = field(init=False)  # single requests, priced and logged
    document: bytes = field(init=False)  # the OpenAPI document, as JSON


@dataclass(frozen=True)
class Endpoint:
    """One route."""

    method: str
    path: str  # as OpenAPI writes it, such as /products/{product_id}/elasticity
    view: View  # returns a model, JSON already encoded, or a whole response
    _: KW_ONLY
    gives: type[BaseModel] | None = None  # the response's model
    takes: type[BaseModel] | None = None  # the body's model
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # parameter → schema, description (OpenAPI)
    scope: str | None = "price"  # that an API key must have; None needs no key
    media: str = JSON
    example: Mapping[str, Any] | None = None

    @property
    def summary(self) -> str:
        """The first sentence of the view's docstring."""
        return str(self.view.__doc__).partition("\n")[0]

    @property
    def name(self) -> str:
        """Its name in metrics, logs and the OpenAPI document."""
        return re.sub(r"\W+", "_", self.path.replace("{", "").replace("}", "")).strip("_")


def register(app: Flask, service: Service, endpoints: Sequence[Endpoint]) -> None:
    """Adds a URL rule for every endpoint to the application."""
    for endpoint in endpoints:
        rule = re.sub(r"\{(\w+)\}", r"<path:\1>", endpoint.path)
        app.add_url_rule(rule, endpoint.name, _surrounded(endpoint, service), methods=[endpoint.method])


def _surrounded(endpoint: Endpoint, service: Service) -> Callable[..., Response]:
    """The view with everything around it; what can be looked up once is, since this is done for every price."""
    name = endpoint.name
    authorise = service.authenticator.authorise
    requests = service.metrics.requests
    succeeded = requests.labels(name, "200")
    seconds = service.metrics.seconds.labels(name)

    def respond(**arguments: str) -> Response:
        started = time.perf_counter()
        environ = request.environ
        try:
            authorise(environ, endpoint.scope)
            if environ.get("QUERY_STRING"):
                _refuse_strays(endpoint)
            if endpoint.takes is not None:
                _require_json(environ.get("CONTENT_TYPE"))
            found = endpoint.view(service, **arguments)
            if isinstance(found, BaseModel):
                found = encode(found)
            answer = response(found, JSON) if isinstance(found, bytes) else found
            succeeded.inc()
        except ProblemError as problem:
            point_out(service, [problem])
            requests.labels(name, str(problem.status.value)).inc()
            answer = problem_response(problem)
        seconds.observe(time.perf_counter() - started)
        return answer

    return respond


def point_out(service: Service, problems: Sequence[ProblemError]) -> None:
    """Names ids like those of unknown products, of the first LISTED, to callers that may read products."""
    unknown = [problem for problem in problems if problem.unknown]
    version = service.follower.current.champion.version
    if unknown and version and service.authenticator.may(request.environ, "price"):
        for problem in unknown[:LISTED]:
            problem.near = near_ids(version.facts.product_ids, problem.unknown)


def response(
    body: bytes | str, media: str, *, status: int = HTTPStatus.OK, headers: Mapping[str, str] = _NONE
) -> Response:
    """A response with the headers that every one has, and some of its own."""
    return Response(body, status, {"X-Request-ID": request_id(), **HEADERS, **headers}, media)


def request_id() -> str:
    """The id that names the present request in answers and logs: the one that was sent, if harmless, else a new one."""
    environ = request.environ
    known: str | None = environ.get(_REQUEST_ID)
    if known is None:
        sent = environ.get("HTTP_X_REQUEST_ID")
        known = sent if sent and _HARMLESS.fullmatch(sent) else secrets.token_hex(8)
        environ[_REQUEST_ID] = known
    return known


def problem_response(problem: ProblemError) -> Response:
    """The response of an error."""
    answer = response(b"", CONTENT_TYPE, status=problem.status, headers=problem.headers)
    answer.set_data(json.dumps(problem.body(answer.headers["X-Request-ID"]), ensure_ascii=False))
    return answer


def encode(model: BaseModel) -> bytes:
    """JSON; numbers that are not finite become null."""
    return model.__pydantic_serializer__.to_json(model)


def sent_body() -> bytes:
    """The request's body; raises RequestEntityTooLarge, of a stream of no declared length where the limit ends it."""
    body = request.get_data(cache=False)
    if len(body) >= (request.max_content_length or sys.maxsize) and request.content_length is None:
        raise RequestEntityTooLarge
    return body


def body_of(model: type[Model]) -> Model:
    """Validates the request's body strictly by JSON type: true is not 1 and "150" is not 150.

    Raises ProblemError: 400 when it is not JSON or has a name twice, 422 with its faults when it does not fit the
    model.
    """
    body = sent_body()
    try:
        found = model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise from_validation(error, model=model) from error
    if body.count(b":") > len(found.model_fields_set):  # behind every name stands a colon: none more, none twice
        refuse_twice(body)
    return found


def refuse_twice(body: bytes) -> None:
    """Refuses JSON with a name twice in one object, of which JSON readers would silently keep the last."""

    def checked(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise refused(plain(name), "is given twice in one object; send it once", status=HTTPStatus.BAD_REQUEST)
            seen.add(name)

    # Numbers are left as text, since none is used, and Python refuses to read very long ones.
    json.loads(body, object_pairs_hook=checked, parse_int=str, parse_float=str)


def _refuse_strays(endpoint: Endpoint) -> None:
    """Refuses the first query parameter that the endpoint does not know."""
    strays = sorted(set(request.args) - set(endpoint.query))
    if strays:
        known = ", ".join(endpoint.query) or "none"
        raise refused(plain(strays[0]), f"is no query parameter of {endpoint.path}; there are: {known}")


def _require_json(kind: str | None) -> None:
    """Refuses a body that is not sent as JSON: any web page may have its reader's browser send the other types."""
    if kind != JSON and (kind or "").split(";")[0].strip().lower() != JSON:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type is {kind!r}; send application/json")
