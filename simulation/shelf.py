"""State of a market between two days."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Floats, Ints


@dataclass
class Shelf:
    """State of a market between days. Each array is (product,) except `coming`."""

    stock: Ints  # units on hand
    usual: Floats  # exponential moving average of daily sales, for ordering
    price: Floats  # last price charged; NaN before the launch
    comp_price: Floats  # Competitor's price; NaN before the launch
    household_stock: Floats  # shoppers' excess household stock, in days of use
    memory: Floats  # shoppers' reference price; NaN before the launch
    coming: Ints  # (day modulo its length, product) units ordered that arrive on a day

    @classmethod
    def empty(cls, lead: Ints) -> "Shelf":
        """Return the state before the first day, of products with these lead times in days."""
        products = len(lead)
        return cls(
            stock=np.zeros(products, dtype=np.int64),
            usual=np.zeros(products),
            price=np.full(products, np.nan),
            comp_price=np.full(products, np.nan),
            household_stock=np.zeros(products),
            memory=np.full(products, np.nan),
            coming=np.zeros((int(lead.max()) + 1, products), dtype=np.int64),
        )
