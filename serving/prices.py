"""The routes that price: one request, or a batch answered by one version. A price always comes."""

import datetime as dt
import json
import logging
from http import HTTPStatus

from flask import request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from pricing.decision.log import Entry
from pricing.decision.pricer import Detailed
from pricing.decision.request import Decision, PriceRequest
from pricing.errors import RequestError
from serving.api import Endpoint, encode, parse
from serving.champion import Served
from serving.problems import ProblemError, from_request_error, from_validation, refused
from serving.schemas import Decisions, PriceRequests
from serving.service import Service
from serving.together import Together

EXAMPLE = {
    "product_id": "SKU12345",
    "current_stock": 150,
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

_log = logging.getLogger(__name__)


def endpoints(desk: "Desk") -> list[Endpoint]:
    """The routes that price."""
    return [
        Endpoint(
            "POST",
            "/get_price",
            desk.get_price,
            "Prices one product.",
            Decision,
            PriceRequest,
            DRY_RUN,
            example=EXAMPLE,
        ),
        Endpoint(
            "POST",
            "/get_prices",
            desk.get_prices,
            "Prices a batch by one model version; a bad item becomes an error in its place.",
            Decisions,
            PriceRequests,
            DRY_RUN,
            example={"requests": [EXAMPLE, {**EXAMPLE, "product_id": "SKU67890", "strategy": "clearance"}]},
        ),
    ]


class Desk:
    """Answers requests for prices."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._together = Together(self.price)

    def get_price(self) -> bytes:
        """Flask's view of `one`."""
        dry = dry_run()
        return self.one(request.get_data(cache=False), dry=dry)

    def get_prices(self) -> bytes:
        """Flask's view of `many`."""
        dry = dry_run()
        return self.many(request.get_data(cache=False), dry=dry)

    def one(self, body: bytes, *, dry: bool = False) -> bytes:
        """Prices the request in a body.

        Raises:
            ProblemError: The body is no such request.
        """
        asked = parse(PriceRequest, body)
        served = self._service.champion.served
        try:
            answer = self._together.price(served, asked)
        except RequestError as error:
            raise from_request_error(error) from error
        if not dry:
            self.record(served, [asked], [answer])
        return encode(answer.decision)

    def many(self, body: bytes, *, dry: bool = False) -> bytes:
        """Prices every request in a body, in order, by one version; a bad item becomes an error in its place.

        Raises:
            ProblemError: The body is no batch, or too large a one.
        """
        asked = self._batch(body)
        served = self._service.champion.served
        good = [item for item in asked if isinstance(item, PriceRequest)]
        try:
            answers: list[Detailed | ProblemError] = list(self.price(served, good)) if good else []
        except RequestError:
            answers = [self._alone(served, item) for item in good]
        priced = [(item, answer) for item, answer in zip(good, answers, strict=True) if isinstance(answer, Detailed)]
        if not dry:
            self.record(served, [item for item, _ in priced], [answer for _, answer in priced])
        rest = iter(answers)
        parts = [_encoded(next(rest) if isinstance(item, PriceRequest) else item) for item in asked]
        if len(priced) < len(asked):
            self._service.metrics.count("pricing_bad_items", by=len(asked) - len(priced))
        return b'{"decisions":[%b]}' % b",".join(parts)

    def price(self, served: Served, asked: list[PriceRequest]) -> list[Detailed]:
        """Decides by `served`, or by rule where that fails for a reason that no caller can mend.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        today = self._service.now().date()
        if served.arms:
            asked = [self._dealt(served, item) for item in asked]
        try:
            return served.pricer.price_detailed(asked, today=today)
        except RequestError:
            raise
        except Exception:  # noqa: BLE001 - the one broad except: whatever ails a version, a shop gets its price
            _log.exception("version %s could not price %d request(s); rules answer", served.name, len(asked))
            self._service.metrics.count("pricing_edge_fallbacks", by=len(asked))
            return self._service.champion.rules.pricer.price_detailed(asked, today=today)

    def record(self, served: Served, asked: list[PriceRequest], detailed: list[Detailed]) -> None:
        """Logs and counts what was decided."""
        at = self._service.now()
        trials = [self._trial(served, item) for item in asked]
        lines = zip(asked, detailed, trials, strict=True)
        self._service.log.append([entry(item, answer, at=at, trial=trial) for item, answer, trial in lines])
        self._service.metrics.decisions(
            (answer.decision, trial or "") for answer, trial in zip(detailed, trials, strict=True)
        )

    def _trial(self, served: Served, asked: PriceRequest) -> str | None:
        """The trial and arm that answered a request; None when it named a strategy itself or its product is outside."""
        arm = served.arms.get(asked.product_id) if asked.strategy is None else None
        trial = self._service.settings.config.serving.trial
        return f"{trial.name}/{arm}" if trial and arm else None

    def _dealt(self, served: Served, asked: PriceRequest) -> PriceRequest:
        """The request under the strategy that a trial dealt its product."""
        arm = served.arms.get(asked.product_id) if asked.strategy is None else None
        return asked.model_copy(update={"strategy": arm}) if arm else asked

    def _alone(self, served: Served, asked: PriceRequest) -> Detailed | ProblemError:
        try:
            return self.price(served, [asked])[0]
        except RequestError as error:
            return from_request_error(error)

    def _batch(self, body: bytes) -> list[PriceRequest | ProblemError]:
        """The body's requests; an item that cannot be read is the problem that its place will show."""
        limit = self._service.settings.config.serving.batch_limit
        try:
            items: list[PriceRequest | ProblemError] = [*PriceRequests.model_validate_json(body, strict=True).requests]
        except ValidationError as error:
            items = _salvage(body, error)
        if len(items) > limit:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{len(items)} requests in one batch, and {limit} is the most"
            )
        return items


def dry_run() -> bool:
    """Whether the query asks for a price that is not logged.

    Raises:
        ProblemError: The parameter is neither true nor false.
    """
    word = request.args.get("dry_run", "false") if request.query_string else "false"
    if word.lower() not in ("true", "false"):
        raise refused("dry_run", "must be true or false", found=word)
    return word.lower() == "true"


def entry(asked: PriceRequest, answer: Detailed, *, at: dt.datetime, trial: str | None = None) -> Entry:
    """The line of the decision log for an answer."""
    return Entry(
        request=asked,
        decision=answer.decision,
        at=at,
        date=answer.date,
        category=answer.category,
        current_price=answer.current_price,
        list_price=answer.list_price,
        unit_cost=answer.unit_cost,
        candidate_prices=answer.candidate_prices,
        candidate_units=answer.candidate_units,
        trial=trial,
    )


def _salvage(body: bytes, error: ValidationError) -> list[PriceRequest | ProblemError]:
    """Reads the items of a batch one by one, when some are bad.

    Raises:
        ProblemError: The body as a whole is no batch.
    """
    whole = [
        fault for fault in error.errors(include_url=False) if fault["loc"][:1] != ("requests",) or len(fault["loc"]) < 2
    ]
    if whole:
        raise from_validation(error, model=PriceRequests) from error
    items: list[PriceRequest | ProblemError] = []
    for item in from_json(body)["requests"]:
        try:
            items.append(PriceRequest.model_validate_json(to_json(item, inf_nan_mode="constants"), strict=True))
        except ValidationError as fault:
            items.append(from_validation(fault, model=PriceRequest))
    return items


def _encoded(answer: Detailed | ProblemError) -> bytes:
    if isinstance(answer, ProblemError):
        return json.dumps({"error": answer.body()}).encode()
    decision: BaseModel = answer.decision
    return encode(decision)
