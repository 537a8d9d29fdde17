"""What prices are chosen under: a batch of requests as arrays of one length."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import with_tax


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
        supply: The same where it is known when the next delivery comes; infinite elsewhere.
        last_price: Price that the sales history says was charged last (`last_price.last_prices`); NaN where unknown.
        anchor_price: Regular price that a person last set; NaN where unknown.
        anchor: The same moved by what costs have done since, else list price: what a step is measured from.
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
    supply: Floats
    last_price: Floats
    anchor_price: Floats
    anchor: Floats
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
