"""Planned deliveries as arrays, stored in a model version. NumPy only."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Days, Strings


@dataclass(frozen=True)
class Deliveries:
    """Planned deliveries, one entry each.

    Attributes:
        product_id: (delivery,) product.
        date: (delivery,) the day on whose opening stock it counts.
    """

    product_id: Strings
    date: Days

    @classmethod
    def none(cls) -> "Deliveries":
        """Return an empty plan."""
        return cls(np.zeros(0, np.str_), np.zeros(0, "datetime64[D]"))

    def after(self, date: np.datetime64) -> "Deliveries":
        """Return the deliveries that come after a day."""
        coming: NDArray[np.bool_] = self.date > date
        return Deliveries(self.product_id[coming], self.date[coming])

    def days(self) -> dict[str, list[dt.date]]:
        """Days of each product's deliveries, each once, ascending."""
        found: dict[str, set[dt.date]] = {}
        for product_id, day in zip(self.product_id.tolist(), self.date.astype("datetime64[D]").tolist(), strict=True):
            found.setdefault(product_id, set()).add(day)
        return {product_id: sorted(days) for product_id, days in found.items()}
