"""Planned promotions and deliveries as arrays, stored in a model version. NumPy only."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Days, Strings
from pricing.data.panel import STEP_DAYS, Period


@dataclass(frozen=True)
class Promotions:
    """Planned promotions, one entry each."""

    product_id: Strings  # (promotion,) product
    first: Days  # (promotion,) first day
    last: Days  # (promotion,) last day

    def after(self, date: np.datetime64) -> "Promotions":
        """Return the promotions that end after a day."""
        coming: NDArray[np.bool_] = self.last > date
        return Promotions(self.product_id[coming], self.first[coming], self.last[coming])

    def on(self, product_ids: Strings, dates: Days, *, period: Period) -> NDArray[np.bool_]:
        """(product, period) whether a promotion runs on any day of a period; ids and first days are sorted."""
        running = np.zeros((len(product_ids), len(dates)), np.bool_)
        row = np.searchsorted(product_ids, self.product_id)
        known = (row < len(product_ids)) & (product_ids[np.minimum(row, len(product_ids) - 1)] == self.product_id)
        days = dates.astype("datetime64[D]")
        last_day = days + np.timedelta64(STEP_DAYS[period] - 1, "D")
        begin, end = np.searchsorted(last_day, self.first), np.searchsorted(days, self.last, side="right")
        for place, start, stop in zip(row[known], begin[known], end[known], strict=True):
            running[place, start:stop] = True
        return running

    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """First and last day of each promotion, in days since 1970, by product."""
        found: dict[str, list[tuple[int, int]]] = {}
        days = (column.astype("datetime64[D]").astype(np.int64).tolist() for column in (self.first, self.last))
        for product_id, first, last in zip(self.product_id.tolist(), *days, strict=True):
            found.setdefault(product_id, []).append((first, last))
        return found


@dataclass(frozen=True)
class Deliveries:
    """Planned deliveries, one entry each."""

    product_id: Strings  # (delivery,) product
    date: Days  # (delivery,) the day on whose opening stock it counts

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


_NO_DAYS = np.zeros(0, "datetime64[D]")
NO_PROMOTIONS = Promotions(np.zeros(0, np.str_), _NO_DAYS, _NO_DAYS)
NO_DELIVERIES = Deliveries(np.zeros(0, np.str_), _NO_DAYS)
