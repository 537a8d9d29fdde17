"""Routes that price: /get_price one request, /get_prices a batch. Every valid request gets a price."""

import json
import threading
from collections.abc import Sequence
from http import HTTPStatus

from flask import request
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from pricing.decision.detailed import DetailedDecision
from pricing.decision.experiments import Experiments
from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log.format import LogEntry
from pricing.errors import RequestError
from serving.api import Endpoint
from serving.authentication import Authenticator, Charge
from serving.champion import Served
from serving.fallback_chain import FallbackChain, version_for
from serving.hot_path import encode, items_with_names_given_twice, parse
from serving.problems import LISTED, ProblemError, from_request_error, from_validation, refused
from serving.schemas import Decisions, PriceRequests
from serving.service import Service

EXAMPLE = {
    "product_id": "SKU12345",
    "current_stock": 150,
    "current_price": 22.9,
    "day_of_week": "Friday",
    "comp_price": 21.5,
    "is_promo": True,
}
DRY_RUN = {
    "dry_run": (
        {"type": "boolean", "default": False},
        "Prices without writing the decision log: for trying strategies out.",
    )
}

_FAULTS = 1000  # listed for a whole batch, besides the first of each item


def endpoints(pricing_routes: "PricingRoutes") -> list[Endpoint]:
    """The endpoints /get_price and /get_prices."""
    return [
        Endpoint(
            "POST",
            "/get_price",
            pricing_routes.get_price,
            "Prices one product.",
            Decision,
            PriceRequest,
            DRY_RUN,
            problems=(HTTPStatus.NOT_FOUND,),
            example=EXAMPLE,
        ),
        Endpoint(
            "POST",
            "/get_prices",
            pricing_routes.get_prices,
            "Prices a batch by one model version; a bad item becomes an error in its place.",
            Decisions,
            PriceRequests,
            DRY_RUN,
            example={"requests": [EXAMPLE, {**EXAMPLE, "product_id": "SKU67890", "strategy": "clearance"}]},
        ),
    ]


class PricingRoutes:
    """Handlers of the pricing routes."""

    def __init__(self, service: Service, authenticator: Authenticator) -> None:
        self._service = service
        self._authenticator = authenticator
        self._answers = FallbackChain(service)
        self._pricing_lock = threading.Lock()

    def get_price(self) -> bytes:
        """Flask's view of `one`."""
        dry = dry_run()
        return self.one(request.get_data(cache=False), self._charge, dry=dry)

    def get_prices(self) -> bytes:
        """Flask's view of `many`."""
        dry = dry_run()
        return self.many(request.get_data(cache=False), self._charge, dry=dry)

    def _charge(self, more: int) -> None:
        self._authenticator.charge(request.environ, more)

    def one(self, sent: bytes, _: Charge, *, dry: bool = False) -> bytes:
        """Prices the request in a body.

        Raises:
            ProblemError: The body is no valid request.
        """
        asked = parse(PriceRequest, sent)
        experiments = self._service.experiments.content
        assigned, champion = experiments.of(asked.product_id, self._service.now().date()), self._service.champion
        served = version_for(assigned, champion=champion.served, challenger=champion.challenger)
        try:
            with self._pricing_lock:  # NumPy releases the GIL often, and threads would lose time in switching
                (answer,) = self._answers.price(served, [asked], experiments=experiments)
        except RequestError as error:
            raise from_request_error(error) from error
        body = encode(answer.decision)
        if not dry:
            self.record([asked], [answer], bodies=[body])
        return body

    def many(self, body: bytes, charge: Charge, *, dry: bool = False) -> bytes:
        """Prices every request in a body, in order; a bad item becomes an error in its place.

        All are priced by one version, but for those on whose products an experiment tries the challenger.

        Raises:
            ProblemError: The body is no batch, or too large a one.
        """
        asked = self._batch(body)
        charge(len(asked) - 1)
        good = [item for item in asked if isinstance(item, PriceRequest)]
        answers: list[bytes | ProblemError] = [b""] * len(good)
        experiments = self._service.experiments.content
        champion, challenger = self._service.champion.served, self._service.champion.challenger
        assigned = [experiments.of(item.product_id, self._service.now().date()) for item in good]
        versions = [version_for(one, champion=champion, challenger=challenger) for one in assigned]
        for version in {served.name: served for served in versions}.values():
            places = [place for place, served in enumerate(versions) if served.name == version.name]
            items = [good[place] for place in places]
            for place, answer in zip(places, self._each(version, items, experiments, dry=dry), strict=True):
                answers[place] = answer
        rest = iter(answers)
        every = [next(rest) if isinstance(item, PriceRequest) else item for item in asked]
        bad = sum(isinstance(answer, ProblemError) for answer in every)
        if bad:
            self._service.metrics.count("pricing_bad_items", by=bad)
        parts = [answer if isinstance(answer, bytes) else _as_item(answer) for answer in every]
        return b'{"decisions":[%b]}' % b",".join(parts)

    def _each(
        self, served: Served, asked: list[PriceRequest], experiments: Experiments, *, dry: bool
    ) -> list[bytes | ProblemError]:
        """Prices, encodes and records requests of a batch by one version; what cannot be priced becomes a problem."""
        try:
            answers = self._answers.price(served, asked, experiments=experiments)
        except RequestError as error:
            if len(asked) == 1:
                return [from_request_error(error)]
            middle = len(asked) // 2  # so that a few bad items leave the others priced in few passes
            return [
                answer
                for half in (asked[:middle], asked[middle:])
                for answer in self._each(served, half, experiments, dry=dry)
            ]
        bodies = [encode(answer.decision) for answer in answers]
        if not dry:
            self.record(asked, answers, bodies=bodies)
        return list(bodies)

    def record(self, asked: list[PriceRequest], detailed: list[DetailedDecision], *, bodies: list[bytes]) -> None:
        """Logs and counts decisions; `bodies` are the responses."""
        at, lines = self._service.now(), zip(asked, detailed, bodies, strict=True)
        self._service.log.append([LogEntry.of(item, answer, at=at, body=body) for item, answer, body in lines])
        self._service.metrics.decisions(
            (answer.decision, answer.experiment.label if answer.experiment else "") for answer in detailed
        )

    def _batch(self, body: bytes) -> list[PriceRequest | ProblemError]:
        """Reads the body's requests; an invalid item becomes the error to return in its place."""
        limit = self._service.settings.config.serving.batch_limit
        items = read_items(body)
        if len(items) > limit:  # before items are validated one by one
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{len(items)} requests in one batch, and {limit} is the most"
            )
        return one_by_one(items)


def dry_run() -> bool:
    """Whether the query asks for a price that is not logged.

    Raises:
        ProblemError: The parameter is neither true nor false.
    """
    word = request.args.get("dry_run", "false") if request.query_string else "false"
    if word.lower() not in ("true", "false"):
        raise refused("dry_run", "must be true or false", found=word)
    return word.lower() == "true"


def _as_item(problem: ProblemError) -> bytes:
    return json.dumps({"error": problem.body()}).encode()


def read_items(body: bytes) -> Sequence[object]:
    """Reads the items of a batch: requests, or where any is invalid, all as plain JSON values.

    In the place of an item that has a name twice stands what refuses it.

    Raises:
        ProblemError: The body as a whole is no batch.
    """
    try:
        requests = PriceRequests.model_validate_json(body, strict=True).requests
    except ValidationError as error:
        items, names = _as_sent(body, error), 0
    else:
        items, names = list[object](requests), 1 + sum(len(item.model_fields_set) for item in requests)
    for place, problem in items_with_names_given_twice(body, names=names).items():
        items[place] = problem
    return items


def one_by_one(sent: Sequence[object]) -> list[PriceRequest | ProblemError]:
    """Validates the items of a batch one by one, where they were not read together."""
    room = _FAULTS
    items: list[PriceRequest | ProblemError] = []
    for item in sent:
        if isinstance(item, PriceRequest | ProblemError):
            items.append(item)
            continue
        try:
            items.append(PriceRequest.model_validate_json(to_json(item, inf_nan_mode="constants"), strict=True))
        except ValidationError as fault:
            problem = from_validation(fault, model=PriceRequest, listed=max(min(room, LISTED), 1))
            room -= len(problem.errors)
            items.append(problem)
    return items


def _as_sent(body: bytes, error: ValidationError) -> list[object]:
    """Reads the items of a batch with invalid ones, as plain JSON values.

    Raises:
        ProblemError: The body as a whole is no batch.
    """
    try:
        whole = from_json(body)
    except ValueError:
        whole = None
    items = whole.get("requests") if isinstance(whole, dict) and whole.keys() == {"requests"} else None
    if not isinstance(items, list) or not items:
        raise from_validation(error, model=PriceRequests) from error
    return items
