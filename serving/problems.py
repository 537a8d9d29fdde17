"""Error responses: `application/problem+json` (RFC 9457) that lists every fault of a request at once."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from pricing.arrays import Strings
from pricing.decision.request import PriceRequest
from pricing.errors import RequestError, UnknownProductError, nearest

CONTENT_TYPE = "application/problem+json"
LISTED = 10  # faults of one request that are listed
NEAREST = 3  # ids that are named for an unknown one
_ALIKE = str.maketrans("oil", "011")  # letters that are read for digits
BESIDE = 25  # ids to either side of a spelling that are compared with it
_LONGEST = 100  # characters of a found value that are shown
_CONSEQUENCE = "default_factory_not_called"  # of a value that another field would have given, had it been right


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where, as a path such as requests.3.comp_price; empty for the whole body.")
    problem: str = Field(description="What is wrong, and what is expected.")
    found: str | None = Field(default=None, description="The value found, shortened.")


class ProblemBody(BaseModel):
    """The body of an error: everything that is wrong, at once."""

    type: str = Field(default="about:blank", description="The status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, in one sentence.")
    errors: list[Fault] = Field(description="Its faults, as far as it could be read; of many, the first.")
    near: list[str] | None = Field(default=None, description="Of an unknown product: ids of products that are like it.")
    request_id: str | None = Field(default=None, description="Names the request in the service's logs.")


class ProblemError(Exception):
    """An error response, raised anywhere below a route."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, errors: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.unknown = ""  # the id of a product of which nothing is known
        self.near: list[str] = []  # ids that are like it

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The body, ready for JSON."""
        return ProblemBody(
            title=self.status.phrase,
            status=self.status.value,
            detail=f"{self.detail}; did you mean {' or '.join(self.near)}?" if self.near else self.detail,
            errors=self.errors,
            near=self.near or None,
            request_id=request_id,
        ).model_dump(mode="json", exclude_none=True)


def from_validation(error: ValidationError, *, model: type[BaseModel]) -> ProblemError:
    """Converts what `model` refused to a response: 400 when the body is not JSON, else 422 with the first faults."""
    faults = [
        fault
        for fault in error.errors(include_url=False, include_input=error.error_count() <= LISTED)
        if fault["type"] != _CONSEQUENCE
    ]
    if faults[0]["type"] == "json_invalid":
        return refused("", f"the body is not valid JSON: {faults[0]['ctx']['error']}", status=HTTPStatus.BAD_REQUEST)
    errors = [_fault(fault, known=model.model_fields) for fault in faults[:LISTED]]
    if len(faults) > LISTED:
        errors.append(Fault(field="", problem=f"and {len(faults) - LISTED:,} more"))
    first = "; ".join(f"{fault.field} {fault.problem}".strip() for fault in errors[:3])
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{len(faults):,} problem(s): {first}", errors=errors)


def refused(
    field: str, problem: str, *, found: object = None, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY
) -> ProblemError:
    """Makes a response about one field, or about the whole body."""
    fault = Fault(field=field, problem=problem, found=None if found is None else show(found))
    return ProblemError(status, f"{field} {problem}".strip(), errors=[fault])


def from_request_error(error: RequestError) -> ProblemError:
    """Converts a refusal by the pricer, whose message begins with the field's name, to a response: 404 or 422."""
    text = str(error)
    name = re.split(r"\W", text, maxsplit=1)[0]
    field = name if name in PriceRequest.model_fields or text.startswith(f"{name}:") else ""
    problem = text.removeprefix(field).removeprefix(":").strip()
    if not isinstance(error, UnknownProductError):
        return refused(field, problem)
    found = refused(field, problem, status=HTTPStatus.NOT_FOUND)
    found.unknown = error.product_id
    return found


def near_ids(ids: Strings, wanted: str) -> list[str]:
    """Up to NEAREST of the sorted ids that are like the wanted one: in case, blanks, signs or zeros, begun so, or near.

    Only ids that stand beside a spelling of it are compared, so that a million cost no more than a thousand.
    """
    letters = "".join(filter(str.isalnum, wanted))
    spellings = {way(text) for text in (wanted.strip(), letters) for way in (str, str.upper, str.lower, str.title)}
    spellings.add(letters.zfill(len(ids[0])))
    places = np.searchsorted(ids, np.array([*spellings], ids.dtype)).tolist()
    beside = {other for place in places for other in ids[max(place - BESIDE, 0) : place + BESIDE].tolist()}
    known = {_key(other): other for other in sorted(beside)}

    key = _key(wanted)
    if key in known:
        return [known[key]]
    begun = sorted((other for other in known if key and other.startswith(key)), key=len)
    close = difflib.get_close_matches(key, known, n=NEAREST)
    return [known[other] for other in dict.fromkeys((*begun, *close))][:NEAREST]


def _key(product_id: str) -> str:
    """An id without what people mistype."""
    return "".join(filter(str.isalnum, product_id)).casefold().translate(_ALIKE).lstrip("0")


def show(value: object) -> str:
    """Formats a value that was found as short text that is always valid in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _fault(fault: Mapping[str, Any], *, known: Iterable[str]) -> Fault:
    """A fault that pydantic found, in our words; `known` are the names of the model's fields."""
    location = ".".join(plain(str(part)) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        near = nearest(str(fault["loc"][-1])[:_LONGEST], known)
        hint = f"; did you mean {near}?" if near else ""
        return Fault(field=location, problem=f"is no field of this request{hint}")
    if fault["type"] == "missing":
        return Fault(field=location, problem="is required and missing")
    if fault["loc"][-1:] == ("day_of_week",) and fault.get("input", "") is None:
        return Fault(field=location, problem="is required and missing: give a weekday, or a date, which tells it")
    message = str(fault["msg"]).removeprefix("Value error, ")
    found = show(fault["input"]) if "input" in fault else None
    return Fault(field=location, problem=message[0].lower() + message[1:], found=found)


def plain(text: str) -> str:
    """Shortens text from a caller and replaces lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()[:_LONGEST]
