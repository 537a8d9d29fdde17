"""What a price is chosen under, for a single request as Python numbers or for a batch as arrays of one length.

The rules of a decision are written once, over either kind. What Python numbers and arrays do differently is in the
`Operations` that each kind names: so a rule that is added holds for both, and a single request makes no array of its
numbers.
"""

import datetime as dt
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import with_tax

# Of a single request a Python number, of a batch an array (request,). A type checker could only follow them with every
# rule written twice.
Number = Any  # float or Floats
Whole = Any  # int or Ints
Flag = Any  # bool or Bools


@dataclass(frozen=True)
class Operations:
    """What the rules do with numbers, flags and arrays of candidates.

    Attributes:
        where: The second argument where the first is True, else the third.
        minimum: The smaller of two.
        maximum: The larger of two.
        isfinite: Whether it is a number, and not infinite.
        ceil: Rounds up to a whole number.
        floor: Rounds down to a whole number.
        negate: Whether a flag is False.
        any: Whether any flag is True.
        all: Whether every flag is True.
        pick: The entry of a table at an index.
        column: Puts numbers beside the candidates, so that both broadcast.
        at: From (…, request, candidate), the candidate at a column.
        nodes_at: From (request, node, candidate), all nodes of the candidate at a column.
        rank: The number of candidates, ascending in (request, candidate), that are below a number ("left"), or below or
            equal to it ("right").
        argmax: The column of the first largest candidate.
        argmin: The column of the first smallest candidate.
        put: Puts a value into (request, candidate) at a column, where a flag is True; modifies its first argument.
    """

    where: Callable[[Flag, Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    maximum: Callable[[Any, Any], Any]
    isfinite: Callable[[Number], Flag]
    ceil: Callable[[Number], Number]
    floor: Callable[[Number], Number]
    negate: Callable[[Flag], Flag]
    any: Callable[[Any], bool]
    all: Callable[[Any], bool]
    pick: Callable[[Sequence[int], Whole], Whole]
    column: Callable[[Number], Any]
    at: Callable[[NDArray[Any], Whole], Any]
    nodes_at: Callable[[Floats, Whole], Floats]
    rank: Callable[[Floats, Number, Literal["left", "right"]], Whole]
    argmax: Callable[[NDArray[Any]], Whole]
    argmin: Callable[[Floats], Whole]
    put: Callable[[NDArray[Any], Whole, Flag, Any], None]


def _put_one(values: NDArray[Any], column: int, flag: bool, value: Any) -> None:
    if flag:
        values[column] = value


def _put_many(values: NDArray[Any], column: Ints, flag: Bools, value: Any) -> None:
    rows = np.arange(len(values))
    values[rows, column] = np.where(flag, value, values[rows, column])


SINGLE = Operations(
    where=lambda flag, one, other: one if flag else other,
    minimum=min,
    maximum=max,
    isfinite=math.isfinite,
    ceil=math.ceil,
    floor=math.floor,
    negate=operator.not_,
    any=bool,
    all=bool,
    pick=operator.getitem,
    column=operator.pos,  # as it is
    at=np.ndarray.item,
    nodes_at=lambda values, column: values[:, column],
    rank=lambda prices, price, side: int(prices.searchsorted(price, side)),
    argmax=lambda values: int(values.argmax()),
    argmin=lambda values: int(values.argmin()),
    put=_put_one,
)
BATCH = Operations(
    where=np.where,
    minimum=np.minimum,
    maximum=np.maximum,
    isfinite=np.isfinite,
    ceil=np.ceil,
    floor=np.floor,
    negate=np.logical_not,
    any=lambda flags: bool(flags.any()),
    all=lambda flags: bool(flags.all()),
    pick=lambda table, index: np.array(table)[index],
    column=lambda numbers: numbers[:, None],
    at=lambda values, column: values[..., np.arange(values.shape[-2]), column],
    nodes_at=lambda values, column: values[np.arange(len(values)), :, column],
    rank=lambda prices, price, side: (np.less if side == "left" else np.less_equal)(prices, price[:, None]).sum(axis=1),
    argmax=lambda values: values.argmax(axis=1),
    argmin=lambda values: values.argmin(axis=1),
    put=_put_many,
)


class ResolvedRequest(NamedTuple):
    """A single request, complete: what its price is chosen under, and what demand is asked for.

    Attributes are those of `PricingContext` and `demand.curve.Offers`, and besides:
        product: Row among the demand's products; -1 where it does not know the product.
        category: Row among the demand's categories; -1 where it does not know the category.
        category_name: Empty where unknown.
        date: First day of the period priced.
        day: The same, in days since 1970.
        deliveries: Equally likely values of `periods`, ascending; empty where it is certain.
        reasons: Reason bits of what had to be assumed.
        level: Usual units a period at list price; NaN where nothing says.
        margin: As `ResolvedBatch.margin`.
        comp_price_age: As `ResolvedBatch.comp_price_age`.
    """

    current_price: float
    current_known: bool
    list_price: float
    unit_cost: float
    tax_rate: float
    cost_sd: float
    cost_assumed: bool
    comp_price: float
    comp_price_age: float
    stock: float
    last_price: float
    anchor_price: float
    seen_low: float
    seen_high: float
    is_promo: bool
    days_since_change: float
    target_margin: float | None
    strategy: int
    product: int
    category: int
    category_name: str
    date: dt.date
    day: int
    is_holiday: bool
    periods: int
    deliveries: tuple[int, ...]
    reasons: int
    level: float
    margin: float

    @property
    def operations(self) -> Operations:
        """How its numbers are reckoned with."""
        return SINGLE

    @property
    def cost_floor(self) -> float:
        """The lowest price that covers the cost once tax is paid."""
        return float(with_tax(self.unit_cost, self.tax_rate))


@dataclass(frozen=True, slots=True)
class PricingContext:
    """A batch of requests as columns of one length. Prices and costs in currency units, costs without tax.

    Attributes:
        current_price: Price charged now, above 0; the list price where `current_known` is False.
        current_known: Whether there is a current price at all.
        list_price: Regular price, above 0.
        unit_cost: Cost of a unit, above 0.
        tax_rate: Tax that prices include, a fraction of the net price.
        cost_sd: Standard deviation of the doubt about the cost; 0 where it is known, or assumed without doubt.
        cost_assumed: True where the configured margin stands in for a cost that nobody gave.
        comp_price: The competitor's price; NaN where unknown or too old.
        stock: Units on hand; infinite where unknown, so that they set no limit.
        last_price: Price that the sales history says was charged last (`last_price.last_prices`); NaN where unknown.
        anchor_price: Regular price that a person last set; NaN where unknown.
        seen_low: Lowest price that a person has ever charged; NaN where unknown.
        seen_high: Highest price that a person has ever charged; NaN where unknown.
        is_promo: True where the offer is advertised.
        days_since_change: Days from the last change of price to the day priced; infinite where unknown.
        target_margin: Fraction of price the category should earn, NaN where it is free; None where every category is.
        strategy: Number of the strategy in the policy's list.
        keep: Bits of the reasons for which the current price is to be kept, inside the guardrails, whatever it costs; 0
            where it is not, None where none is.
        test_base: Price from which a price test has the price chosen; NaN outside tests, None where there is none.
        test_draw: Log of the factor that it drew for the chosen price; NaN and None likewise.
    """

    current_price: Floats
    current_known: Bools
    list_price: Floats
    unit_cost: Floats
    tax_rate: Floats
    cost_sd: Floats
    cost_assumed: Bools
    comp_price: Floats
    stock: Floats
    last_price: Floats
    anchor_price: Floats
    seen_low: Floats
    seen_high: Floats
    is_promo: Bools
    days_since_change: Floats
    target_margin: Floats | None
    strategy: Ints
    keep: Ints | None = None
    test_base: Floats | None = None
    test_draw: Floats | None = None

    def __len__(self) -> int:
        return len(self.current_price)

    @property
    def operations(self) -> Operations:
        """How its columns are reckoned with."""
        return BATCH

    @property
    def cost_floor(self) -> Floats:
        """(request,) the lowest price that covers the cost once tax is paid."""
        return np.asarray(with_tax(self.unit_cost, self.tax_rate))

    def take(self, rows: NDArray[np.integer]) -> "PricingContext":
        """The requests of some rows, in that order."""
        columns: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            columns[field.name] = None if column is None else column[rows]
        return PricingContext(**columns)


Context = ResolvedRequest | PricingContext
