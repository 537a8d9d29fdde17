"""Planned promotions, as data that a version carries. NumPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.data.panel import Days, Strings


@dataclass(frozen=True)
class Promotions:
    """Planned promotions, one entry each.

    Attributes:
        product_id: Whose.
        first: First day of each.
        last: Last day of each.
    """

    product_id: Strings
    first: Days
    last: Days

    @classmethod
    def none(cls) -> "Promotions":
        """No plan."""
        return cls(np.zeros(0, np.str_), np.zeros(0, "datetime64[D]"), np.zeros(0, "datetime64[D]"))

    def after(self, date: np.datetime64) -> "Promotions":
        """Those that end after a day."""
        coming: NDArray[np.bool_] = self.last > date
        return Promotions(self.product_id[coming], self.first[coming], self.last[coming])

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """First and last day of each promotion, in days since 1970, by product."""
        found: dict[str, list[tuple[int, int]]] = {}
        days = (column.astype("datetime64[D]").astype(np.int64).tolist() for column in (self.first, self.last))
        for product_id, first, last in zip(self.product_id.tolist(), *days, strict=True):
            found.setdefault(product_id, []).append((first, last))
        return found
