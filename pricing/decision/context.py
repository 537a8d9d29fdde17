"""What a price is chosen under: one batch of requests as columns, filled in from requests and facts."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Circumstances:
    """A batch of requests as columns of one length. Prices and costs in currency units.

    Attributes:
        current_price: Price charged now, above 0; the list price where `current_known` is False.
        current_known: Whether there is a current price at all.
        list_price: Regular price, above 0.
        unit_cost: Cost of a unit, above 0.
        cost_sd: Standard deviation of the doubt about it; 0 where it is known, or assumed without doubt.
        cost_assumed: True where the configured margin stands in for a cost that nobody gave.
        comp_price: The competitor's price; NaN where unknown.
        stock: Units on hand; infinite where they set no limit.
        anchor_price: Regular price that a person last set; NaN where unknown.
        seen_low: Lowest price that a person has ever charged; NaN where unknown.
        seen_high: Highest price that a person has ever charged; NaN where unknown.
        is_promo: True where the offer is advertised.
        days_since_change: Days from the last change of price to the day priced; infinite where unknown.
        target_margin: Fraction of price the category should earn, NaN where it is free; None where every category is.
        strategy: Number of the strategy in the policy's list.
        keep: True where the current price is to be kept whatever it costs; None where none is.
        test_base: Price from which a price test has the price chosen; NaN outside tests, None where there is none.
        test_draw: Log of the factor that it drew for the chosen price; NaN and None likewise.
    """

    current_price: Floats
    current_known: Bools
    list_price: Floats
    unit_cost: Floats
    cost_sd: Floats
    cost_assumed: Bools
    comp_price: Floats
    stock: Floats
    anchor_price: Floats
    seen_low: Floats
    seen_high: Floats
    is_promo: Bools
    days_since_change: Floats
    target_margin: Floats | None
    strategy: Ints
    keep: Bools | None = None
    test_base: Floats | None = None
    test_draw: Floats | None = None

    def __len__(self) -> int:
        return len(self.current_price)

    def take(self, rows: NDArray[np.integer]) -> "Circumstances":
        """The requests of some rows, in that order."""
        columns: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            columns[field.name] = None if column is None else column[rows]
        return Circumstances(**columns)
