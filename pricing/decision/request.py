"""A price request, the decision that answers it and the what-if beside it: one schema for serving, jobs and log."""

import datetime as dt
import operator
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from pricing.data.calendar import WEEKDAYS
from pricing.data.net_price import HIGHEST_TAX
from pricing.data.panel import LONGEST_AGE
from pricing.decision.experiments import Assignment

Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
Source = Literal["model", "category", "rule", "override"]
Text = Annotated[str, Field(max_length=200)]
Money = Annotated[float, Field(ge=1e-4, le=1e9, allow_inf_nan=False)]
Stock = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Age = Annotated[float, Field(ge=0, le=LONGEST_AGE, allow_inf_nan=False)]


def _is_a_fraction(value: float) -> float:
    """Refuses percentages: 20 for 20 % would leave nothing of a price."""
    if value > HIGHEST_TAX:
        raise ValueError(f"should be a fraction of the net price, at most {HIGHEST_TAX:g}: 0.20 for 20 %")
    return value


TaxRate = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_is_a_fraction)]


_ISO_DATE = re.compile(r".{4}-.{2}-.{2}")


def _written_out(value: object) -> object:
    """Refuses numbers, which would be read as seconds since 1970; parses ISO dates, as strict JSON validation does."""
    if isinstance(value, int | float) or (isinstance(value, str) and "-" not in value[1:]):
        raise ValueError("should be a date such as 2026-03-06")
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        return dt.date.fromisoformat(value)
    return value


def _weekday_of(given: dict[str, Any]) -> str | None:
    """The weekday of the date that a request gives beside no weekday; None, which is refused, without a date."""
    return WEEKDAYS[given["date"].weekday()] if given["date"] else None


Day = Annotated[dt.date, BeforeValidator(_written_out)]


class PriceRequest(BaseModel):
    """A shop system's request: product, stock and day, promotion and competitor; the rest is optional.

    Prices and costs are per unit, in the currency of the sales history, prices with tax and costs without; stock is in
    units. `strict` is written out only where it is set. A `comp_price` that is left out is the newest one that the
    model version knows, null is no competitor; a `next_delivery` likewise the planned one, and null what history tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: Annotated[str, Field(min_length=1, max_length=200)]
    current_stock: Stock | None = Field(
        default=None, description="Units on hand; 0 is none. Null or left out: unknown, and then stock moves no price."
    )
    date: Day | None = None  # stands before the weekday, which is taken from it
    day_of_week: Weekday = Field(
        default_factory=_weekday_of, validate_default=True, description="May be left out where date is given."
    )
    comp_price: Money | None = Field(
        default=None,
        description="The competitor's price. Left out: the newest one that the model version knows. Null: none.",
    )
    is_promo: bool = Field(
        default=False, description="Advertised: draws shoppers where the price is cut, fully from 10 % below list."
    )

    strategy: Text | None = None
    current_price: Money | None = None
    category: Text | None = None
    unit_cost: Money | None = Field(default=None, description="Without tax.")
    tax_rate: TaxRate | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Tax that prices include, a fraction of the net price: 0.20 for 20 %.",
    )
    comp_price_age: Age | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Days since comp_price was seen; 0 where it is left out. Only beside a comp_price.",
    )
    list_price: Money | None = None
    next_delivery: Day | None = Field(
        default=None,
        description="Left out: the planned one that the model version knows. Null, or none planned: as history tells.",
    )
    strict: bool = Field(
        default=False,
        exclude_if=operator.not_,
        description="Refuses a product that the model does not know (404) instead of pricing it.",
    )

    @field_validator("comp_price_age")
    @classmethod
    def _is_of_a_price(cls, age: float | None, info: ValidationInfo) -> float | None:
        if age is not None and info.data.get("comp_price", age) is None:
            raise ValueError("should stand beside the comp_price that it is the age of; there is none")
        return age


def request_fields(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields of a request that stands in a row of a table, where None is an empty cell: an absent field.

    In the column `comp_price` it is a null (no competitor), since a table cannot hold both a null and nothing.
    """
    return {str(name): value for name, value in row.items() if value is not None or name == "comp_price"}


class Spread(BaseModel):
    """A mean and the interval that holds 80 % of the outcomes."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


class Decision(BaseModel):
    """The price given, what it rests on, and what had to give way."""

    model_config = ConfigDict(frozen=True)

    recommended_price: float
    confidence: float
    price_range: tuple[float, float]
    expected_units: float
    expected_margin: float
    source: Source
    reasons: list[str]
    binds: list[str] = Field(description="The guardrails at which the price stands, the strongest first.")
    gave_way: list[str] = Field(description="The guardrails that cannot hold beside a stronger one.")
    strategy: str
    model_version: str
    decision_id: str
    expected_gain: Spread | None = Field(
        default=None,
        description="Profit until the next delivery over that at the current price, with what the other products of "
        "its category win or lose by it; null where that is unknown.",
    )
    worst_case: float | None = Field(
        default=None,
        description="Profit until the next delivery over that at the regular price, if shoppers answer to a cut as "
        "little as decision.field_elasticity has it, or to a rise as strongly as history may mean; null where unknown.",
    )
    comp_price_used: float | None = Field(None, description="The competitor's price that counted; null where none did.")
    comp_price_age: float | None = Field(
        default=None,
        description="Days from when the competitor's price was seen to the day priced, also of one that was too old to "
        "be used; null without any.",
    )


class Outcome(BaseModel):
    """The expected outcome of one price until the next delivery. Money in the currency of the sales history."""

    model_config = ConfigDict(frozen=True)

    price: float
    strategy: str | None = Field(description="The strategy that chose the price; null where the price was given.")
    allowed: bool = Field(description="Whether the guardrails allow the price.")
    demand: Spread = Field(description="Units that shoppers would buy if stock were ample.")
    units: Spread = Field(description="Units sold, no more than the stock where it is known.")
    revenue: Spread = Field(description="Net of tax.")
    margin: Spread = Field(description="Profit over the cost of the units sold, net of tax.")
    stock_out: float | None = Field(
        description="Chance that the stock is gone before the next delivery; null where it is unknown."
    )


class Simulation(BaseModel):
    """A what-if: the same product, day and stock at several prices."""

    model_config = ConfigDict(frozen=True)

    product_id: str
    date: dt.date = Field(description="First day of the first period.")
    periods: int = Field(
        description="Periods until the next delivery, over which everything is counted; where that is uncertain, the "
        "median of the equally likely times over which it is."
    )
    current_price: float | None
    list_price: float
    unit_cost: float
    tax_rate: float = Field(description="Tax that prices include, a fraction of the net price.")
    comp_price_used: float | None = Field(description="The competitor's price that counted; null where none did.")
    comp_price_age: float | None = Field(description="Its age in days, also of one that was too old to be used.")
    experiment: str | None = Field(
        default=None,
        description="The experiment and arm that the product is in that day, such as holdout/keep or spring/draw: what "
        "it asks of /get_price is not tried here; null where it is in none.",
    )
    switch: Literal["freeze", "override"] | None = Field(
        default=None, description="Whether a person has frozen or given the product's price: /get_price answers that."
    )
    price_limits: tuple[float, float] = Field(description="The lowest and highest price that the guardrails allow.")
    source: Source
    model_version: str
    outcomes: list[Outcome]


class DetailedDecision(NamedTuple):
    """A decision with the figures behind it, for the decision log."""

    decision: Decision
    date: dt.date  # first day of the period priced
    category: str | None
    current_price: float | None
    list_price: float  # this and the next two: given, known or assumed
    unit_cost: float  # without tax
    tax_rate: float  # a fraction of the net price
    candidate_prices: list[float]  # nine prices that were considered, ascending
    candidate_units: list[float]  # demand expected at each over the requested period, stock apart
    candidate_sizes: list[float]  # size of the negative binomial with the mean and variance that are forecast at each
    best: float  # the price that cost and elasticity ask for with ample stock
    target: float  # the same as far as the step goes
    wanted: float  # the target with the stock that there is
    settled: float  # the price without a draw
    against: float  # the price that its confidence compares it with
    experiment: Assignment | None = None
    unit: float = 1.0  # the amount that the negative binomials count as one
    diverted: float = 0.0  # share of what it loses, in money, that its category's other products win
    proposed: Decision | None = None  # what waits for a person's approval; all figures above but the decision are of it
