"""What the optimiser sees of demand: prices in, a demand distribution out. No network in sight."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pricing.arrays import Days, Floats, Ints, Strings
from pricing.data.lifts import Lift

SOURCES = ("model", "category", "rule", "override")
DELIVERIES = 4  # equally likely times of the next delivery


@dataclass(frozen=True)
class Offers:
    """What demand is asked for by a batch of requests, as columns of one length.

    Attributes:
        product: (request,) row among the demand's products; -1 when the product is unknown.
        category: (request,) row among the demand's categories; -1 when the category is unknown.
        date: (request,) first day of the period to price, datetime64[D].
        list_price: (request,) regular price in currency units; the anchor of a product without a history.
        comp_price: (request,) the competitor's price; NaN when it is not known.
        is_promo: (request,) 1.0 when the offer is advertised, else 0.0.
        is_holiday: (request,) 1.0 on a holiday, else 0.0.
        periods: (request,) periods from `date` (counted) until the next delivery (not counted), at least 1; where that
            is uncertain, the median.
        deliveries: (request, DELIVERIES) equally likely values of `periods`, ascending; None where all are certain.
    """

    product: Ints
    category: Ints
    date: Days
    list_price: Floats
    comp_price: Floats
    is_promo: Floats
    is_holiday: Floats
    periods: Ints
    deliveries: Ints | None = None

    def __len__(self) -> int:
        return len(self.product)

    def take(self, rows: Ints) -> "Offers":
        """The requests of some rows, in that order."""
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        taken: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
        return Offers(**taken)


@dataclass(frozen=True)
class DemandGrid:
    """Demand at each candidate price, over the model's own uncertainty.

    The model's uncertainty is a quadrature: `node` numbers possible truths (an elasticity, a level),
    `weight` their probabilities. Given a node, demand counted in the product's own `unit` is negative
    binomial: with the mean below, its variance is mean × unit + mean² / size.

    Attributes:
        first: (request, node, candidate) expected units in the requested period.
        until: (request, node, candidate) expected units from that period until the next delivery.
        first_size: (request,) size of the negative binomial of `first`.
        until_size: (request,) size of the negative binomial of `until`.
        weight: (node,) probabilities that sum to 1.
        source: (request,) index into SOURCES: whether the product's own model or its category answered.
        grade: (request,) index into `grades.GRADES`: how well the elasticity is identified.
        unit: (request,) what counts as one, in the units of demand and stock; one number for all.
    """

    first: Floats
    until: Floats
    first_size: Floats
    until_size: Floats
    weight: Floats
    source: Ints
    grade: Ints
    unit: Floats | float = 1.0


class Offer(Protocol):
    """What demand is asked for by one request, in Python numbers; see `Offers`."""

    @property
    def product(self) -> int:
        """Row among the demand's products."""
        ...

    @property
    def day(self) -> int:
        """First day of the period to price, in days since 1970."""
        ...

    @property
    def periods(self) -> int:
        """Periods until the next delivery, at least 1."""
        ...

    @property
    def deliveries(self) -> tuple[int, ...]:
        """Equally likely values of `periods`, DELIVERIES of them, ascending; empty where it is certain."""
        ...

    @property
    def list_price(self) -> float:
        """Regular price in currency units."""
        ...

    @property
    def comp_price(self) -> float:
        """The competitor's price; NaN when it is not known."""
        ...

    @property
    def is_promo(self) -> bool:
        """Whether the offer is advertised."""
        ...

    @property
    def is_holiday(self) -> bool:
        """Whether the period is a holiday."""
        ...


class Curve(NamedTuple):
    """Demand of one request at its candidates: as `DemandGrid`, but its logs.

    Attributes:
        until: (node, candidate) log of the units expected until the next delivery.
        first: (node, candidate) log of the units expected in the requested period.
        until_size: Size of the negative binomial of `until`.
        first_size: Size of the negative binomial of `first`.
        source: Index into SOURCES.
        grade: Index into `grades.GRADES`.
        unit: What counts as one, in the units of demand and stock.
    """

    until: Floats
    first: Floats
    until_size: float
    first_size: float
    source: int
    grade: int
    unit: float = 1.0


class Single(Protocol):
    """Demand of one known product at a time, where that is faster than a batch of one."""

    @property
    def weight(self) -> Floats:
        """(node,) probabilities that sum to 1."""
        ...

    def curve(self, offer: Offer, prices: Floats) -> Curve | None:
        """Demand at `prices` (candidate,), ascending, in currency units; None where only `Demand.grid` can say."""
        ...


class Demand(Protocol):
    """Anything that says how much would sell at which price."""

    @property
    def product_ids(self) -> Strings:
        """(product,) the products it knows, sorted."""
        ...

    @property
    def categories(self) -> Strings:
        """(category,) the categories it knows, sorted."""
        ...

    def grid(self, offers: Offers, prices: Floats) -> DemandGrid:
        """Demand at `prices`, shape (request, candidate), each row ascending, in currency units."""
        ...

    def events_on(self, date: dt.date, *, category: int) -> Sequence[Lift]:
        """The named events that lift demand of a category (a row, −1 when unknown) in the period that begins on `date`.

        The largest lift comes first.
        """
        ...

    def single(self, *, candidates: int) -> Single | None:
        """The same demand for single requests, at so many prices each; None where there is no shorter way."""
        ...
