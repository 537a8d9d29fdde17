"""The items of a batch, as its body has them: read together, and one by one where some are bad."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from pricing.decision.request import PriceRequest
from serving.problems import LISTED, ProblemError, from_validation
from serving.schemas import PriceRequests

_FAULTS = 1000  # of a batch that are listed, besides the first of each item


def sent_in(body: bytes) -> Sequence[object]:
    """The items of a batch: requests, or where some are bad, all as they were sent.

    Raises:
        ProblemError: The body as a whole is no batch.
    """
    try:
        return PriceRequests.model_validate_json(body, strict=True).requests
    except ValidationError as error:
        return _as_sent(body, error)


def one_by_one(sent: Sequence[object]) -> list[PriceRequest | ProblemError]:
    """Reads the items of a batch one by one, where they were not read together."""
    room = _FAULTS
    items: list[PriceRequest | ProblemError] = []
    for item in sent:
        if isinstance(item, PriceRequest):
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
    """The items of a batch of which some are bad, as they were sent.

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
