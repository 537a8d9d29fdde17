"""Routes that price: /get_price one request, /get_prices a batch. Every valid request gets a price."""

import datetime as dt
import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from flask import request
from pydantic import BaseModel, FailFast, Field, ValidationError
from pydantic_core import from_json, to_json

from pricing.decision.pricer import Pricer
from pricing.decision.request import Decision, DetailedDecision, PriceRequest
from pricing.decision_log.write import LogEntry
from pricing.errors import RequestError
from serving.api import Asked, Endpoint, Service, body_of, encode, point_out, refuse_twice, request_id, sent_body
from serving.follower import Current, Served
from serving.problems import ProblemBody, ProblemError, from_request_error, from_validation, refused

BATCH_LIMIT = 1000  # requests in one POST /get_prices
EXAMPLE: dict[str, Any] = {
    "product_id": "SKU12345",
    "current_stock": 150,
    "current_price": 22.9,
    "day_of_week": "Friday",
    "comp_price": 21.5,
    "is_promo": True,
}
_log = logging.getLogger(__name__)
_DRY_RUN = {
    "dry_run": {
        "schema": {"type": "boolean", "default": False},
        "description": "Prices without writing the decision log.",
    }
}


class PriceRequests(BaseModel, frozen=True, extra="forbid"):
    """Several requests at once, answered by one model version."""

    # Fails at the first bad item; then all are read one by one: the faults of a million items would fill the memory.
    requests: Annotated[list[PriceRequest], FailFast(), Field(min_length=1)]


class ItemError(BaseModel):
    """Stands in the place of an item that could not be priced as it was sent."""

    error: ProblemBody


class Decisions(BaseModel):
    """One decision or error for each request, in order."""

    decisions: list[Decision | ItemError]


def get_price(service: Service) -> bytes:
    """Prices one product."""
    dry = _dry_run()
    asked = Asked(body_of(PriceRequest), request_id())
    found = answers(service, [asked], dry=True)[0] if dry else service.together.answer(asked)
    if isinstance(found, ProblemError):
        raise found
    return found


def get_prices(service: Service) -> bytes:
    """Prices a batch, in order; a bad item becomes an error in its place."""
    dry = _dry_run()
    items = _batch(sent_body())
    asked = [Asked(item, request_id()) for item in items if isinstance(item, PriceRequest)]
    priced = iter(answers(service, asked, dry=dry))
    parts = [next(priced) if isinstance(item, PriceRequest) else item for item in items]
    bad = [part for part in parts if isinstance(part, ProblemError)]
    service.metrics.bad_items.inc(len(bad))
    point_out(service, bad)
    bodies = (part if isinstance(part, bytes) else json.dumps({"error": part.body()}).encode() for part in parts)
    return b'{"decisions":[%b]}' % b",".join(bodies)


def answers(service: Service, asked: Sequence[Asked], *, dry: bool) -> list[bytes | ProblemError]:
    """Prices, encodes and records requests, in order, each version's in one pass."""
    at = service.now()
    current = service.follower.current
    if current.challenger is None:
        return _each(service, current.champion, asked, current, at, dry=dry)

    versions = [version_for(item.price, at.date(), current=current) for item in asked]
    by_version: dict[Served, list[Asked]] = {}
    for served, item in zip(versions, asked, strict=True):
        by_version.setdefault(served, []).append(item)
    found = {served: iter(_each(service, served, items, current, at, dry=dry)) for served, items in by_version.items()}
    return [next(found[served]) for served in versions]


def version_for(asked: PriceRequest, today: dt.date, *, current: Current) -> Served:
    """The version that an experiment tries on the product on the day that is priced, else the champion."""
    tried = current.challenger
    if tried is None:
        return current.champion
    try:
        day = current.champion.pricer.day_priced(asked, today=today)
    except RequestError:  # the champion raises it again, for the caller
        return current.champion
    assigned = current.control.experiments.of(asked.product_id, day)
    theirs = assigned is not None and assigned.arm.kind == "challenger" and assigned.arm.of == tried.name
    return tried if theirs else current.champion


def _price(
    service: Service, served: Served, asked: Sequence[Asked], *, current: Current, at: dt.datetime
) -> list[DetailedDecision]:
    """Prices requests in one pass by `served`, or by what stands behind it where it fails; the champion behind an arm.

    Raises RequestError where one contradicts itself or names an unknown strategy; of many, one fails for any reason.
    """
    if served is not current.champion:
        try:
            answers = _attempt(served.pricer, asked, current, at)
        except RequestError:
            if len(asked) > 1:
                raise
            answers = None
        if answers is None:
            answers = _price(service, current.champion, asked, current=current, at=at)
            service.metrics.arm_failures.inc(len(asked))
        return answers

    answers = _attempt(served.pricer, asked, current, at)
    if answers is None:
        service.metrics.edge_fallbacks.inc(len(asked))
        answers = None if served.rules is None else _attempt(served.rules, asked, current, at)
    if answers is None:
        switches = current.control.switches.at(at)
        answers = service.follower.rules.pricer.price_detailed(_prices(asked), today=at.date(), switches=switches)
    return answers


def _attempt(
    pricer: Pricer, asked: Sequence[Asked], current: Current, at: dt.datetime
) -> list[DetailedDecision] | None:
    """Prices by a version or its rules; None where that fails for a reason that no caller can fix.

    Raises:
        RequestError: A request cannot be priced as sent; of many, one fails for any reason.
    """
    control = current.control
    switches = control.switches if control.switches.first_end is None else control.switches.at(at)
    try:
        return pricer.price_detailed(
            _prices(asked),
            today=at.date(),
            experiments=control.experiments,
            switches=switches,
        )
    except RequestError:
        raise
    except Exception as error:
        if len(asked) > 1:
            raise RequestError("one of several") from error  # the others are priced without it
        id_of = {"request_id": asked[0].request_id}
        _log.exception("version %s could not price a request", pricer.version, extra=id_of)
        return None


def _prices(asked: Sequence[Asked]) -> list[PriceRequest]:
    return [each.price for each in asked]


def _each(
    service: Service, served: Served, asked: Sequence[Asked], current: Current, at: dt.datetime, *, dry: bool
) -> list[bytes | ProblemError]:
    """Prices, encodes and records requests by one version; what cannot be priced becomes a problem."""
    try:
        answers = _price(service, served, asked, current=current, at=at)
    except RequestError as error:
        if len(asked) == 1:
            return [from_request_error(error)]
        middle = len(asked) // 2  # so that a few bad items leave the others priced in few passes
        halves = (asked[:middle], asked[middle:])
        return [answer for half in halves for answer in _each(service, served, half, current, at, dry=dry)]

    bodies = [encode(answer.decision) for answer in answers]
    if not dry:
        lines = zip(asked, answers, bodies, strict=True)
        service.log.append([LogEntry(item.price, answer, at, body, item.request_id) for item, answer, body in lines])
        service.metrics.decided(answers)
    return list(bodies)


def _batch(body: bytes) -> list[PriceRequest | ProblemError]:
    """Reads the body's requests; an invalid item becomes the error to return in its place.

    Raises ProblemError where the body as a whole is no batch, has too many items, or a name twice in one object.
    """
    try:
        items: Sequence[object] = PriceRequests.model_validate_json(body, strict=True).requests
    except ValidationError as error:
        items = _as_sent(body, error)
    if len(items) > BATCH_LIMIT:  # before items are validated one by one
        text = f"{len(items)} requests in one batch, and {BATCH_LIMIT} is the most"
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
    names = 1 + sum(len(item.model_fields_set) for item in items if isinstance(item, PriceRequest))
    if body.count(b":") > names:  # as in `body_of`
        refuse_twice(body)
    return [_item(item) for item in items]


def _dry_run() -> bool:
    """Tells whether the query asks for a price that is not logged; refuses what is neither true nor false."""
    word = request.args.get("dry_run", "false") if request.environ.get("QUERY_STRING") else "false"
    if word not in ("true", "false"):
        raise refused("dry_run", "must be true or false", found=word)
    return word == "true"


def _as_sent(body: bytes, error: ValidationError) -> list[object]:
    """Reads the items of a batch with invalid ones, as plain JSON values; raises ProblemError where it is no batch."""
    try:
        whole = from_json(body)
    except ValueError:
        whole = None
    items = whole.get("requests") if isinstance(whole, dict) and whole.keys() == {"requests"} else None
    if not isinstance(items, list) or not items:
        raise from_validation(error, model=PriceRequests) from error
    return items


def _item(sent: object) -> PriceRequest | ProblemError:
    """An item of a batch, validated where it was not read together with the others."""
    if isinstance(sent, PriceRequest):
        return sent
    try:
        return PriceRequest.model_validate_json(to_json(sent, inf_nan_mode="constants"), strict=True)
    except ValidationError as error:
        return from_validation(error, model=PriceRequest)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/get_price",
        get_price,
        gives=Decision,
        takes=PriceRequest,
        query=_DRY_RUN,
        example=EXAMPLE,
    ),
    Endpoint(
        "POST",
        "/get_prices",
        get_prices,
        gives=Decisions,
        takes=PriceRequests,
        query=_DRY_RUN,
        example={"requests": [EXAMPLE, {**EXAMPLE, "strategy": "clearance"}]},
    ),
)
