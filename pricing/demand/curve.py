"""The interface between demand and pricing: candidate prices in, demand distributions out. No network code."""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pricing.arrays import Days, Floats, Ints, Strings
from pricing.data.event_windows import Lift

SOURCES = ("model", "category", "rule", "override")
DELIVERIES = 4  # equally likely values of the time to the next delivery


@dataclass(frozen=True)
class Offers:
    """Demand covariates of a batch of requests, as columns of one length."""

    product: Ints  # (request,) row among the demand's products; -1 when the product is unknown
    category: Ints  # (request,) row among the demand's categories; -1 when the category is unknown
    date: Days  # (request,) first day of the period to price
    list_price: Floats  # (request,) regular price, currency units; reference price of a product without a history
    comp_price: Floats  # (request,) the competitor's price; NaN when it is not known
    is_promo: Floats  # (request,) 1.0 when the offer is advertised, else 0.0
    periods: Ints  # (request,) from `date` (counted) to the next delivery (not counted), at least 1; or their median
    deliveries: Ints | None = None  # (request, DELIVERIES) equally likely `periods`, ascending; None if all are certain

    def __len__(self) -> int:
        return len(self.product)


@dataclass(frozen=True)
class DemandGrid:
    """Demand at each candidate price, given each node of a quadrature over the model's uncertainty.

    A node is a possible truth (an elasticity, a level); `weight` has the nodes' probabilities. Given a node, demand
    counted in the product's own `unit` is negative binomial: with the mean below, its variance is
    mean × unit + mean² / size.

    """

    first: Floats  # (request, node, candidate) expected units in the requested period
    until: Floats  # (request, node, candidate) expected units from that period until the next delivery
    first_size: Floats  # (request,) size of the negative binomial of `first`
    until_size: Floats  # (request,) size of the negative binomial of `until`
    weight: Floats  # (node,) probabilities that sum to 1
    source: Ints  # (request,) index into SOURCES: whether the product's own model or its category was used
    grade: Ints  # (request,) index into `grades.GRADES`: how well the elasticity is identified
    known: Floats  # (request,) share of the prior variance of the elasticity's log that data removed
    unit: Floats | float = 1.0  # (request,) counting unit, in the units of demand and stock; or one number for all
    diverted: Floats | float = 0.0  # (request,) share of what it loses, in money, that other products win; or for all
    steepest: Floats | float = math.nan  # (request,) elasticity that a rise may meet at worst; NaN without a model


DemandAt = Callable[[Floats], DemandGrid]  # at prices (request, candidate) in currency units, in any order


class Demand(Protocol):
    """A demand model: how much would sell at which price."""

    @property
    def product_ids(self) -> Strings:
        """(product,) its products, sorted."""
        ...

    @property
    def categories(self) -> Strings:
        """(category,) its categories, sorted."""
        ...

    def curves(self, offers: Offers) -> DemandAt:
        """Demand of a batch at any prices: what they do not change may be worked out once."""
        ...

    def events_on(self, date: dt.date, *, category: int) -> Sequence[Lift]:
        """Named events that lift demand of a category (a row, −1 when unknown) in the period that begins on `date`.

        The largest lift comes first.
        """
        ...
