"""Error responses: `application/problem+json` (RFC 9457) that lists every fault of a request at once."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from pricing.decision.request import PriceRequest
from pricing.errors import RequestError, UnknownProductError, nearest

CONTENT_TYPE = "application/problem+json"
LISTED = 100  # faults of one request that are listed
_LONGEST = 100  # characters of a found value that are shown
_UNTOLD = 10_000  # of more faults none is listed: describing them would take seconds
_CONSEQUENCE = "default_factory_not_called"  # of a value that another field would have given, had it been right


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where, as a path such as requests.3.comp_price; empty for the whole body.")
    problem: str = Field(description="What is wrong, and what is expected.")
    found: str | None = Field(default=None, description="The value found, shortened.")


class ProblemBody(BaseModel):
    """The body of an error: everything that is wrong, at once."""

    type: str = Field(description="Always about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, in one sentence.")
    errors: list[Fault] = Field(description="Every fault, as far as the request could be read; of many, the first.")
    request_id: str | None = Field(default=None, description="Names the request in the service's logs.")


class ProblemError(Exception):
    """An error response, raised anywhere below a route."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors), dict(headers or {})

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The body, ready for JSON."""
        return ProblemBody(
            type="about:blank",
            title=self.status.phrase,
            status=self.status.value,
            detail=self.detail,
            errors=self.errors,
            request_id=request_id,
        ).model_dump(mode="json", exclude_none=True)


def from_validation(error: ValidationError, *, model: type[BaseModel], listed: int = LISTED) -> ProblemError:
    """Converts a validation error to a response: 400 when the body is not JSON, else 422 with its faults.

    Args:
        error: Pydantic's error.
        model: The model that refused the body.
        listed: How many faults are listed; further ones are only counted.
    """
    number = error.error_count()
    if number > _UNTOLD:
        fault = Fault(field="", problem=f"has {number:,} faults, too many to list")
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"the request {fault.problem}", errors=[fault])
    faults = error.errors(include_url=False, include_input=number <= LISTED)
    if faults[0]["type"] == "json_invalid":
        reason = faults[0]["ctx"]["error"]
        fault = Fault(field="", problem=f"is not valid JSON: {reason}")
        return ProblemError(HTTPStatus.BAD_REQUEST, f"the body {fault.problem}", errors=[fault])
    told = [fault for fault in faults if fault["type"] != _CONSEQUENCE]
    number -= len(faults) - len(told)
    errors = [_fault(dict(fault), known=model.model_fields) for fault in told[:listed]]
    count = f"{number:,} problem{'s' if number > 1 else ''}"
    detail = f"the request has {count}: {_summary(errors, of=number)}"
    if number > len(errors):
        errors.append(Fault(field="", problem=f"and {number - len(errors):,} more"))
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def refused(field: str, problem: str, *, found: object = None) -> ProblemError:
    """Makes a 422 about one field."""
    fault = Fault(field=field, problem=problem, found=None if found is None else show(found))
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field} {problem}".strip(), errors=[fault])


def from_request_error(error: RequestError) -> ProblemError:
    """Converts a refusal by the pricer, whose message begins with the field's name, to a response: 404 or 422."""
    text = str(error)
    if isinstance(error, UnknownProductError):
        fault = Fault(field="product_id", problem=text.removeprefix("product_id: "))
        return ProblemError(HTTPStatus.NOT_FOUND, text, errors=[fault])
    name = re.split(r"\W", text, maxsplit=1)[0]
    rest = text.removeprefix(name)
    if name not in PriceRequest.model_fields and not rest.startswith(":"):
        return refused("", text)
    return refused(name, rest.removeprefix(":").strip())


def show(value: object) -> str:
    """Formats a value that was found as short text that is always valid in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggests the known name most similar to `name`, as the end of a sentence; empty when there is none."""
    near = nearest(name[:_LONGEST], known)
    return f"; did you mean {near}?" if near else ""


def _fault(fault: dict[str, Any], *, known: Iterable[str]) -> Fault:
    location = ".".join(_plain(str(part)) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        near = did_you_mean(str(fault["loc"][-1]), known)
        return Fault(field=location, problem=f"is no field of this request{near}")
    if fault["type"] == "missing":
        return Fault(field=location, problem="is required and missing")
    if fault["loc"][-1:] == ("day_of_week",) and fault.get("input", "") is None:
        return Fault(field=location, problem="is required and missing: give a weekday, or a date, which tells it")
    message = str(fault["msg"]).removeprefix("Value error, ")
    found = show(fault["input"]) if "input" in fault else None
    return Fault(field=location, problem=message[0].lower() + message[1:], found=found)


def _summary(errors: list[Fault], *, of: int) -> str:
    named = [f"{fault.field} {fault.problem}".strip() for fault in errors[:3]]
    return "; ".join(named) + ("; …" if of > len(named) else "")


def _plain(text: str) -> str:
    """Shortens text from a caller and replaces lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()[:_LONGEST]
