"""Where a retailer's own tables lie, what their columns are called, and how they become rows of the contract."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pricing.config_models import Section
from pricing.errors import nearest

ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")  # ${NAME} in a location
_PASSWORD = re.compile(r"^[a-z0-9+]+://[^/@#\s]*:([^/@#]+)@", re.IGNORECASE)
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Factor = Annotated[float, Field(gt=0, le=1e9)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class TextFormat(Section):
    """How a text file is written; null is found out from its first 64 KB, and an ambiguous file is refused."""

    encoding: str | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[".", ",", "'", " "] | None = None
    dates: str | None = Field(default=None, description="strptime format of dates; null: ISO 8601 only.")


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
    constants: dict[str, str] = Field(default={}, description="Columns that are not there: name: value.")
    factors: dict[str, Factor] = Field(default={}, description="Column: what it is multiplied by.")
    text: TextFormat = TextFormat()
    sheet: str | None = Field(default=None, description="Of an Excel file; null: its only one.")
    late_days: Annotated[int, Field(ge=0, le=366)] = Field(
        default=7, description="Days before the newest row that are read again for late and corrected rows."
    )
    updated: str | None = Field(default=None, description="Their column of the time a row changed last.")
    due: dt.time | None = Field(default=None, description="Time of day, in the shop's zone, when yesterday must be in.")

    @field_validator("location")
    @classmethod
    def _has_no_password(cls, value: str) -> str:
        found = _PASSWORD.match(value)
        if found and not ENVIRONMENT.fullmatch(found[1]):
            raise ValueError(
                "holds a password, which would be logged with the configuration: put it in an environment variable "
                "and write its name, such as postgresql://shop:${SHOP_PASSWORD}@db/shop#orders"
            )
        return value

    @model_validator(mode="after")
    def _knows_its_columns(self) -> "TableSource":
        known = (*self.NEEDED, *self.OPTIONAL)
        for key in ("columns", "constants", "factors"):
            for name in getattr(self, key):
                if name not in known:
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

    kind: Literal["order_lines"]
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
    zone: str | None = Field(default=None, description="Zone of times without one; null: the shop's.")
    zero_days: Literal["stock", "none"] = Field(
        default="stock", description="Days without a sale that get a row of 0 units: those with stock, or none."
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str | None) -> str | None:
        return value if value is None else _known_zone(value)

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

    kind: Literal["rows"]


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

    kind: Literal["snapshots", "movements"]
    taken: Literal["opening", "closing"] = Field(
        default="opening", description="Whether a snapshot without a time of day is that of its morning or evening."
    )
    pieces: bool = Field(default=False, description="Whether pieces are counted, to be divided by the pack size.")
    zone: str | None = Field(default=None, description="Zone of times without one; null: the shop's.")

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str | None) -> str | None:
        return value if value is None else _known_zone(value)


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
    sales: AnySales
    stock: StockSource | None = None
    deliveries: DeliverySource | None = None
    products: ProductSource | None = None
    promotions: PromotionSource | None = None
    events: EventSource | None = None
    aliases: AliasSource | None = None
    keep_raw_days: Annotated[int, Field(ge=0, le=3660)] = Field(
        default=35, description="Days that answers are kept as they came; 0: for good."
    )
    shards: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=8, description="Parts by product of each month's rows."
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        return _known_zone(value)


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is no time zone; give one such as Europe/Berlin or America/New_York") from error
    return value
