"""A price request and the decision that answers it: one schema for serving, batch pricing, the pyfunc and the log."""

import datetime as dt
import operator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pricing.data.calendar import WEEKDAYS

Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
Source = Literal["model", "category", "rule", "override"]
Text = Annotated[str, Field(max_length=200)]
Money = Annotated[float, Field(ge=1e-4, le=1e9, allow_inf_nan=False)]


def _written_out(value: object) -> object:
    """Refuses numbers, which would be read as seconds since 1970; parses ISO dates, as strict JSON validation does."""
    if isinstance(value, int | float) or (isinstance(value, str) and "-" not in value[1:]):
        raise ValueError("should be a date such as 2026-03-06")
    if isinstance(value, str) and len(value) == 10 and value[4] == value[7] == "-":
        return dt.date.fromisoformat(value)
    return value


def _weekday_of(given: dict[str, Any]) -> str | None:
    """The weekday of the date that a request gives beside no weekday; None, which is refused, without a date."""
    return WEEKDAYS[given["date"].weekday()] if given["date"] else None


def _contract_first(schema: dict[str, Any]) -> None:
    """Shows the date behind the five fields of the contract; in the model it must stand before the weekday."""
    schema["properties"]["date"] = schema["properties"].pop("date")


Day = Annotated[dt.date, BeforeValidator(_written_out)]


class PriceRequest(BaseModel):
    """What a shop system asks: product, stock and day, promotion and competitor; the rest is optional.

    Prices and costs are per unit, in the currency of the sales history; stock is in units. `day_of_week` may be left
    out where `date` is given. `strict` is written out only where it is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_contract_first)

    product_id: Annotated[str, Field(min_length=1, max_length=200)]
    current_stock: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
    date: Day | None = None  # stands before the weekday, which is taken from it
    day_of_week: Weekday = Field(
        default_factory=_weekday_of, validate_default=True, description="May be left out where date is given."
    )
    comp_price: Money | None = None
    is_promo: bool = False

    strategy: Text | None = None
    current_price: Money | None = None
    category: Text | None = None
    unit_cost: Money | None = None
    list_price: Money | None = None
    is_holiday: bool | None = None
    next_delivery: Day | None = None
    strict: bool = Field(
        default=False,
        exclude_if=operator.not_,
        description="Refuses a product that the model does not know (404) instead of pricing it.",
    )


def _is_none(value: object) -> bool:
    return value is None


class Decision(BaseModel):
    """The price given, what it rests on, and what had to give way.

    `nearest_product_id` is written out only where the product is unknown and another id is near.
    """

    model_config = ConfigDict(frozen=True)

    recommended_price: float
    confidence: float
    price_range: tuple[float, float]
    expected_units: float
    expected_margin: float
    source: Source
    reasons: list[str]
    strategy: str
    model_version: str
    decision_id: str
    nearest_product_id: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Of an unknown product: the known id that was probably meant. Absent where none is near.",
    )
