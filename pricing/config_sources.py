"""Where a retailer's own tables lie, what their columns are called, and how they become rows of the contract."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, field_validator, model_validator

from pricing.config_competitors import CompetitorsConfig
from pricing.config_models import Section
from pricing.errors import nearest

ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")  # ${NAME} in a location
# What follows the first colon of an address is a password unless it is a port; so, too, where it holds / or #.
_PASSWORD = re.compile(r"^[a-z0-9+]+://(?!\[)[^/@#?\s:]*:(?!@|\d*(?:[/?#]|$)|\$\{\w+\}(?:[@/?#]|$))", re.IGNORECASE)
_PASSWORD_PARAMETER = re.compile(r"^[^#]*[?&](?:ssl)?(?:password|passwd|pwd)=(?!\$\{\w+\}(?:[&#]|$))", re.IGNORECASE)
_HOUR = 3600
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["EUR"])]
Factor = Annotated[float, Field(gt=0, le=1e9)]
Rate = Annotated[float, Field(ge=0, lt=1)]


def _as_text(value: Any) -> Any:
    """A number, truth value or day of YAML as the text that a cell would hold."""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, int | float | dt.date) else value


_Text = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "number", "minimum": -1e12, "maximum": 1e12}, {"type": "boolean"}]}
    ),
]


class TextFormat(Section):
    """How a text file is written; null is found out from what it holds, and an ambiguous file is refused."""

    encoding: str | None = Field(
        default=None, description="Such as cp1252; null: UTF-8, or what a byte order mark says."
    )
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None, description="The sign between two cells; null: the one with which the header fits."
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="The decimal mark; null: told by numbers that can be read in one way only."
    )
    thousands: Literal[".", ",", "'", " "] | None = Field(
        default=None, description="The thousands mark; null: any that the decimal mark leaves."
    )
    dates: str | None = Field(default=None, description="strptime format of dates, such as %d.%m.%Y; null: ISO 8601.")


class TableSource(Section):
    """One table: a file, a folder, files by a pattern, or a table or query of a database.

    Attributes:
        NEEDED: Columns that must be there.
        OPTIONAL: Columns that are read where they are there.
        TIME: The column that newer rows are asked for by; "" where the whole table is read each time.
    """

    NEEDED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    TIME: ClassVar[str] = ""

    location: Annotated[
        str, Field(min_length=1, description="Path, pattern, s3:// or database URL; ${NAME} is a variable.")
    ]
    columns: dict[str, str] = Field(default={}, description="Name here: name there, of columns called otherwise there.")
    constants: dict[str, _Text] = Field(default={}, description="Columns that are not there: name: value.")
    factors: dict[str, Factor] = Field(default={}, description="Column: what it is multiplied by.")
    text: TextFormat = Field(default=TextFormat(), description="How text files are written; most of it is found out.")
    sheet: str | None = Field(default=None, description="Of an Excel file; null: its only one.")
    late_days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7, description="Days before the newest row that are read again for late and corrected rows."
    )
    updated: str | None = Field(default=None, description="Their column of the time a row changed last.")
    due: dt.time | None = Field(default=None, description="Time of day, in the shop's zone, when yesterday must be in.")

    @field_validator("location")
    @classmethod
    def _has_no_password(cls, value: str) -> str:
        if _PASSWORD.match(value) or _PASSWORD_PARAMETER.match(value):
            raise ValueError(
                "holds a password, which would be logged with the configuration: put it in an environment variable "
                "and write its name, such as postgresql://shop:${SHOP_PASSWORD}@db/shop#orders"
            )
        return value

    @field_validator("due", mode="before")
    @classmethod
    def _is_a_time_of_day(cls, value: Any) -> Any:
        """YAML reads 16:30 without quotes as the whole number 990, and 16:30:00 as 59,400."""
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        hours, rest = divmod(value, _HOUR if value >= _HOUR else 60)
        return f"{hours:02d}:{rest:02d}" if value < _HOUR else f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"

    @model_validator(mode="after")
    def _knows_its_columns(self) -> "TableSource":
        known = (*self.NEEDED, *self.OPTIONAL)
        for key in ("columns", "constants", "factors"):
            for name in getattr(self, key):
                if name not in known:
                    if key == "columns" and self.columns[name] in known:
                        raise ValueError(
                            f"columns: our name stands first: write {self.columns[name]}: {name}, not "
                            f"{name}: {self.columns[name]}"
                        )
                    near = nearest(name, known)
                    hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
                    raise ValueError(f"{key}: {name!r} is no column that is read here; {hint}")
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            raise ValueError(f"{both[0]} is in both columns and constants; give one of them")
        return self


class OrderLines(TableSource):
    """Order lines, summed by product and period.

    `quantity` counts units, below 0 for a return; `unit_price` or `amount` (of the line) says what was paid.
    """

    NEEDED = ("time", "product_id", "quantity")
    OPTIONAL = (
        "line_id",
        "unit_price",
        "amount",
        "status",
        "currency",
        "tax_rate",
        "store",
        "category",
        "returned_time",
    )
    TIME = "time"

    kind: Literal["order_lines"] = Field(description="order_lines: one row for each line of an order or receipt.")
    includes_tax: bool = Field(default=True, description="Whether prices here hold the tax; false: it is added.")
    returned: list[str] = Field(
        default=["return", "returned", "refund", "refunded"], description="Statuses of returns."
    )
    cancelled: list[str] = Field(
        default=["cancelled", "canceled", "void", "voided"], description="Statuses of lines that never were sales."
    )
    returns: Literal["sale_day", "return_day", "ignore"] = Field(
        default="sale_day",
        description="Where a return is taken off: the newest earlier sale of the product, its own day, or nowhere.",
    )
    return_days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=60, description="Days before its own within which a return may be taken off, by sale_day."
    )
    zone: str | None = Field(default=None, description="Zone of times without one; null: the shop's.")
    zero_days: Literal["stock", "none"] = Field(
        default="stock", description="Days without a sale that get a row of 0 units: those with stock, or none."
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str | None) -> str | None:
        return value if value is None else known_zone(value)

    @model_validator(mode="after")
    def _statuses_differ(self) -> "OrderLines":
        both = {word.lower() for word in self.returned} & {word.lower() for word in self.cancelled}
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is in both returned and cancelled; give it in one of them")
        return self


class FinishedRows(TableSource):
    """Rows that are the contract's already, but for the names of columns; several stores or channels allowed."""

    NEEDED = ("date", "product_id", "units_sold", "price")
    OPTIONAL = (
        *("category", "list_price", "unit_cost", "stock", "comp_price", "comp_price_age", "is_promo", "is_holiday"),
        *("tax_rate", "store"),
    )
    TIME = "date"

    kind: Literal["rows"] = Field(description="rows: one row by product, day and store, with the README's columns.")


def _kind_of(value: Any) -> Any:
    return value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)


AnySales = Annotated[
    Annotated[OrderLines, Tag("order_lines")] | Annotated[FinishedRows, Tag("rows")], Discriminator(_kind_of)
]


class StockSource(TableSource):
    """Stock: counts at a time, or movements from which they are summed."""

    NEEDED = ("time", "product_id", "quantity")
    OPTIONAL = ("store",)
    TIME = "time"

    kind: Literal["snapshots", "movements"] = Field(
        description="snapshots: what was counted; movements: what came in (above 0) and went out (below 0)."
    )
    taken: Literal["opening", "closing"] = Field(
        default="opening", description="Whether a snapshot without a time of day is that of its morning or evening."
    )
    pieces: bool = Field(default=False, description="Whether pieces are counted, to be divided by the pack size.")
    zone: str | None = Field(default=None, description="Zone of times without one; null: the shop's.")

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str | None) -> str | None:
        return value if value is None else known_zone(value)


class DeliverySource(TableSource):
    """Deliveries that are planned: what a request that names no next_delivery is answered with."""

    NEEDED = ("product_id", "date")
    OPTIONAL = ("quantity", "store")


class ProductSource(TableSource):
    """The product master; several rows of one product hold from `valid_from` on."""

    NEEDED = ("product_id",)
    OPTIONAL = (
        *("category", "substitutes", "list_price", "unit_cost", "price", "pack_size", "tax_class", "tax_rate", "ean"),
        *("valid_from", "valid_until"),
    )


class PromotionSource(TableSource):
    """Promotions, past and planned, of a product, of a category, or of all products where both are empty."""

    NEEDED = ("first", "last")
    OPTIONAL = ("product_id", "category", "store")


class EventSource(TableSource):
    """The shop's own event calendar."""

    NEEDED = ("date", "name")
    OPTIONAL = ("last_date", "category")


class AliasSource(TableSource):
    """Products that were renamed: rows of `former_id` count as `product_id`'s."""

    NEEDED = ("former_id", "product_id")


class CompetitorTable(TableSource):
    """Competitors' offers in a table; what its columns mean is in docs/competitor_prices.md."""

    NEEDED = ("price", "observed_at")
    OPTIONAL = (
        *("competitor", "product_id", "ean", "item_id", "currency", "in_stock", "delivery_cost", "tax_included"),
        "tax_rate",
    )
    TIME = "observed_at"


class CompetitorItems(TableSource):
    """Which of a competitor's items is which product."""

    NEEDED = ("item_id", "product_id")
    OPTIONAL = ("competitor",)


class SourcesConfig(Section):
    """A retailer's own tables."""

    zone: str = Field(description="The shop's time zone, such as America/New_York: it says when a day begins.")
    currency: Currency | None = Field(default=None, description="The shop's currency; null: whatever is there.")
    rates: dict[Currency, Factor] = Field(
        default={}, description="Other currencies: worth in the shop's. A currency that is not here is set aside."
    )
    stores: Literal["sum", "separate"] = Field(
        default="sum", description="Whether stores are summed, or kept as product@store with a shared elasticity."
    )
    week_starts: Literal["monday", "sunday", "saturday"] = Field(default="monday", description="Of weekly panels.")
    history_from: dt.date | None = Field(default=None, description="Nothing before this day is read.")
    ids: Literal["as_written", "upper", "digits"] = Field(
        default="as_written",
        description="How ids of all sources are made alike: upper: in capitals; digits: leading zeros are dropped too.",
    )
    tax_rates: dict[str, Rate] = Field(default={}, description="Tax class: rate, such as {standard: 0.20}.")
    sales: AnySales = Field(description="What was sold, as order lines or as finished rows.")
    stock: StockSource | None = Field(default=None, description="What was on hand.")
    deliveries: DeliverySource | None = Field(default=None, description="Deliveries that are planned.")
    products: ProductSource | None = Field(default=None, description="Categories, list prices, costs, tax classes.")
    promotions: PromotionSource | None = Field(default=None, description="Promotions, past and planned.")
    events: EventSource | None = Field(default=None, description="The shop's own event calendar.")
    aliases: AliasSource | None = Field(default=None, description="Former ids of renamed products.")
    competitors: CompetitorsConfig | None = Field(
        default=None, description="Competitors' prices: where they are asked for, and how they become one."
    )
    competitor_prices: CompetitorTable | None = Field(default=None, description="Competitors' prices in a table.")
    competitor_items: CompetitorItems | None = Field(
        default=None, description="Which of a competitor's items is which product."
    )
    keep_raw_days: Annotated[int, Field(ge=0, le=3660)] = Field(
        default=35, description="Days that answers are kept as they came; 0: for good."
    )
    shards: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=4, description="Parts by product of each month's rows."
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        return known_zone(value)

    @model_validator(mode="before")
    @classmethod
    def _one_currency(cls, values: Any) -> Any:
        """Lets competitors be compared in the shop's currency, where theirs is not said."""
        if not isinstance(values, Mapping) or not values.get("currency"):
            return values
        theirs = values.get("competitors")
        if not isinstance(theirs, Mapping):
            return values
        shared = {"currency": values["currency"], "rates": values.get("rates") or {}}
        return {**values, "competitors": {**shared, **theirs}}

    @model_validator(mode="after")
    def _competitors_are_configured(self) -> "SourcesConfig":
        for name in ("competitor_prices", "competitor_items"):
            if getattr(self, name) is not None and self.competitors is None:
                raise ValueError(f"{name} needs the section competitors: it says how their prices become one")
        if self.competitors is not None and self.currency not in (None, self.competitors.currency):
            raise ValueError(
                f"competitors.currency {self.competitors.currency} is not the shop's currency {self.currency}: leave "
                "it out, or give the same"
            )
        return self


def known_zone(value: str) -> str:
    """A time zone's name, as it was given.

    Raises:
        ValueError: The time zone database does not know it.
    """
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is no time zone; give one such as Europe/Berlin or America/New_York") from error
    return value
