"""What prices are chosen under: a batch of requests as arrays of one length."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import with_tax


@dataclass(frozen=True, slots=True)
class PricingContext:
    """A batch of requests as columns of one length. Prices and costs in currency units, costs without tax."""

    current_price: Floats  # charged now, above 0; the list price where there is none
    current_known: Bools
    list_price: Floats  # regular price, above 0
    unit_cost: Floats  # cost of a unit, above 0
    tax_rate: Floats  # tax that prices include, a fraction of the net price
    cost_sd: Floats  # standard deviation of the doubt about the cost; 0 where it is known
    cost_assumed: Bools  # the configured margin stands in for a cost that nobody gave
    comp_price: Floats  # the competitor's price; NaN where unknown or too old
    stock: Floats  # units on hand; infinite where unknown, so that they set no limit
    supply: Floats  # the same where it is known when the next delivery comes; infinite elsewhere
    last_price: Floats  # charged last, says the sales history (`last_price.last_prices`); NaN where unknown
    anchor_price: Floats  # regular price that a person last set; NaN where unknown
    anchor: Floats  # the same moved by what costs have done since, else list price: steps start from it
    seen_low: Floats  # lowest price that a person has ever charged; NaN where unknown
    seen_high: Floats  # highest such price
    is_promo: Bools  # where the offer is advertised
    days_since_change: Floats  # days from the last change of price to the day priced; infinite where unknown
    target_margin: Floats | None  # fraction of price that the category should earn; NaN where it is free
    strategy: Ints  # number of the strategy in the policy's list
    keep: Ints  # bits of the reasons for which the current price is kept, whatever it costs; 0: it is not
    test_base: Floats | None = None  # price from which an experiment's draw has the price chosen; NaN without a draw
    test_draw: Floats | None = None  # log of the factor that it drew for the chosen price

    def __len__(self) -> int:
        return len(self.current_price)

    @property
    def cost_floor(self) -> Floats:
        """(request,) the lowest price that covers the cost once tax is paid."""
        return np.asarray(with_tax(self.unit_cost, self.tax_rate))

    def take(self, rows: NDArray[np.integer]) -> "PricingContext":
        """The requests of some rows, in that order."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})
