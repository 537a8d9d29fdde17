"""Lay rows out over products × periods as they were given: nothing is derived or filled."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.data.latest import latest_period
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.errors import ContractError, Violation


@dataclass(frozen=True)
class Grid:
    """Rows laid out over products × periods, and notes on the values derived from them."""

    frame: pd.DataFrame  # the rows
    ids: Strings  # (product,) sorted
    dates: Days  # (period,) without gaps
    cells: Ints  # (row,) flat index of each row's product and period
    present: Bools  # (product, period) True where there is a row
    latest: NDArray[np.int32]  # (product, period) last period with a row up to each one, -1 before the first
    own: slice  # the periods from the start on; earlier ones are only looked back to and give no notes
    notes: list[str] = field(default_factory=list)  # sentences

    @classmethod
    def of(cls, frame: pd.DataFrame, *, period: Period, start: np.datetime64) -> "Grid":
        """Lay rows that satisfy the contract out, in any order; the own periods begin at `start`.

        Raises ContractError at a repeated (product, date), or a date off the week's first day.
        """
        codes, values = pd.factorize(frame["product_id"])
        ids, rank = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
        days = days_of(frame["date"])
        step = STEP_DAYS[period]
        offsets = (days - days.min()).astype(np.int64)
        off = offsets % step != 0
        if off.any():
            first = f"{days[off][0]} is not a whole number of weeks after {days.min()}"
            rule = "weekly dates must fall on one weekday"
            raise ContractError("the sales", [Violation(rule, int(off.sum()), first)])

        dates = np.arange(days.min(), days.max() + np.timedelta64(step, "D"), np.timedelta64(step, "D"))
        cells = rank[codes] * len(dates) + offsets // step
        present = np.zeros((len(ids), len(dates)), dtype=np.bool_)
        present.flat[cells] = True
        extra = len(frame) - int(present.sum())
        if extra > 0:
            raise ContractError("the sales", [Violation("(product_id, date) must be unique", extra, "a repeated pair")])

        own = slice(int((dates < start).sum()), None)
        return cls(frame, ids, dates, cells, present, latest_period(present), own)

    def spread(self, name: str) -> Floats:
        """(product, period) values of a numeric column; NaN where there is no row or no value."""
        series = np.full(self.present.shape, np.nan, dtype=np.float32)
        if name in self.frame:
            series.flat[self.cells] = self.frame[name].to_numpy(dtype=np.float32, na_value=np.nan)
        return series

    def codes(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.int32], Strings]:
        """(product, period) values of a text column and the latest ones, as rows of the names; -1 for none."""
        series = np.full(self.present.shape, -1, dtype=np.int32)
        codes, values = pd.factorize(self.frame[name]) if name in self.frame else (-1, np.zeros(0, np.str_))
        series.flat[self.cells] = codes
        latest = np.take_along_axis(series, np.maximum(latest_period(series >= 0), 0), axis=1)
        return series, latest, np.asarray(values.astype(str), dtype=np.str_)

    def marked(self, products: Strings, days: Days) -> Bools:
        """(product, period) True for the cells named; those outside the grid are passed over."""
        marked = np.zeros(self.present.shape, dtype=np.bool_)
        row = np.minimum(np.searchsorted(self.ids, products), len(self.ids) - 1)
        column = np.minimum(np.searchsorted(self.dates, days), len(self.dates) - 1)
        inside = (self.ids[row] == products) & (self.dates[column] == days)
        marked[row[inside], column[inside]] = True
        return marked

    def note(self, marked: Bools, sentence: str) -> None:
        """Add a note with the number of marked entries in the own periods in place of {}, unless it is 0."""
        count = int(marked[..., self.own].sum())
        if count:
            self.notes.append(sentence.format(f"{count:,}"))


def days_of(column: "pd.Series[pd.Timestamp]") -> Days:
    """(row,) days of a column of dates."""
    return pd.to_datetime(column, cache=False).to_numpy().astype("datetime64[D]")


def as_rows(panel: Panel, cells: Bools, columns: Iterable[str]) -> pd.DataFrame:
    """Marked cells, (product, period), of a panel as rows with these columns; costs that were assumed are left out."""
    row, at = np.nonzero(cells)
    texts = {"product_id": panel.product_ids, "category": panel.categories, "parent_id": panel.parent_ids}
    rows = pd.DataFrame({"date": panel.dates[at].astype("datetime64[s]")})
    for name in columns:
        of_product = texts.get(name)
        rows[name] = getattr(panel, name)[row, at] if of_product is None else of_product[row]
    if "unit_cost" in rows:
        rows["unit_cost"] = rows["unit_cost"].mask(panel.cost_assumed[row])
    return rows
