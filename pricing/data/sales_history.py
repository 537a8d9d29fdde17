"""Checked rows laid out over products × periods as they were given, for checks that compare days with days before."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.data.calendar import holidays_for
from pricing.data.panel import STEP_DAYS, Panel, Period

SERIES = ("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price", "comp_price_age", "is_promo")
LOOKBACK = 8  # earlier periods of the same weekday that a period is compared with
LEAST_SEEN = 4  # of them that are needed


@dataclass(frozen=True)
class SalesHistory:
    """Rows as given: nothing is derived, carried or filled.

    Attributes:
        period: The grain.
        product_ids: (product,) sorted.
        categories: (product,) latest category, "" where none is given.
        dates: (period,) without gaps.
        rows: (product, period) number of the row, counted from 0; −1 where there is none, −2 where the row is one that
            the champion has read and these sales do not hold.
        columns: (product, period) values of each numeric column that the sales have; NaN where missing.
        categorised: (product, period) whether the row names a category; all False without the column.
        holiday: (period,) whether the country's calendar, or most rows, call it a holiday.
        own: First period that these sales hold.
        since: First period that is judged; those before are only compared with.
    """

    period: Period
    product_ids: Strings
    categories: Strings
    dates: Days
    rows: Ints
    columns: dict[str, Floats]
    categorised: Bools
    holiday: Bools
    own: int
    since: int

    @property
    def phases(self) -> int:
        """Periods after which the same weekday comes again."""
        return 7 if self.period == "day" else 1

    @cached_property
    def present(self) -> Bools:
        """(product, period) True where there is a row."""
        return np.asarray(self.rows != -1)

    @cached_property
    def counts(self) -> Ints:
        """(period,) number of rows."""
        return np.asarray(self.present.sum(axis=0), dtype=np.int64)

    @cached_property
    def groups(self) -> list[tuple[str, Ints]]:
        """Each category with the rows of its products, and the whole shop under the empty name, last."""
        names, codes = np.unique(self.categories, return_inverse=True)
        parts = [(str(name), np.flatnonzero(codes == code)) for code, name in enumerate(names) if name]
        return [*(parts if len(parts) > 1 else []), ("", np.arange(len(self.product_ids)))]

    def day(self, period: int) -> str:
        """The date of a period, as text."""
        return str(self.dates[period])

    def cell(self, product: int, period: int) -> str:
        """A product and a date in words."""
        return f"{str(self.product_ids[product])!r} on {self.dates[period]}"


def lay_out(
    frame: pd.DataFrame, *, period: Period, country: str, window: int, known: Panel | None = None
) -> SalesHistory:
    """Lays rows out, with the rows that the champion has read of the time before them.

    Args:
        frame: Rows that satisfy the contract, one per product and period.
        period: The grain.
        country: Whose calendar tells holidays where the rows do not.
        window: Newest periods to judge; more where the champion has not read them.
        known: The end of the history that the champion has read.
    """
    days = frame["date"].to_numpy().astype("datetime64[D]")
    step = np.timedelta64(STEP_DAYS[period], "D")
    start = begin = days.min()
    if known is not None and known.dates[0] < start:
        begin = known.dates[0]
    if (start - begin) % step:
        known, begin = None, start
    dates = np.arange(begin, days.max() + step, step)
    own = int((start - begin) // step)
    codes, distinct = pd.factorize(frame["product_id"])
    names = np.asarray(distinct, dtype=np.str_)
    ids = np.unique(names)
    if own and known is not None:
        ids = np.union1d(ids, known.product_ids)
    product, place = np.searchsorted(ids, names)[codes], ((days - begin) // step).astype(np.int64)
    rows = np.full((len(ids), len(dates)), -1, dtype=np.int64)
    rows[product, place] = np.arange(len(frame))
    columns = {}
    for name in SERIES:
        if name in frame:
            columns[name] = np.full(rows.shape, np.nan, dtype=np.float32)
            columns[name][product, place] = frame[name].to_numpy(dtype=np.float32, na_value=np.nan)
    categories = np.full(len(ids), "", dtype=object)
    categorised = np.zeros(rows.shape, dtype=np.bool_)
    if "category" in frame:
        code, given = pd.factorize(frame["category"])
        there = code >= 0
        categorised[product[there], place[there]] = True
        order = np.argsort(days[there], kind="stable")
        categories[product[there][order]] = np.asarray(given.astype(str), dtype=object)[code[there][order]]
    holiday = holidays_for(dates, recurring=None, country=country, period=period)
    if "is_holiday" in frame:
        flagged = np.bincount(place, weights=frame["is_holiday"].fillna(0).to_numpy(dtype=float), minlength=len(dates))
        holiday = holiday | (2 * flagged > np.bincount(place, minlength=len(dates)))
    since = max(0, len(dates) - window)
    if known is not None:
        since = min(since, max(0, int((known.dates[-1] - begin) // step) + 1))
        if own:
            _add_known(known, ids, rows=rows, columns=columns, categories=categories, own=own)
    return SalesHistory(
        period=period,
        product_ids=ids,
        categories=np.asarray(categories, dtype=np.str_),
        dates=dates,
        rows=rows,
        columns=columns,
        categorised=categorised,
        holiday=np.asarray(holiday, dtype=np.bool_),
        own=own,
        since=max(since, own),
    )


def _add_known(
    known: Panel,
    ids: Strings,
    *,
    rows: Ints,
    columns: dict[str, Floats],
    categories: "np.ndarray[tuple[int, ...], np.dtype[np.object_]]",
    own: int,
) -> None:
    """Enters the rows of the time before `own` that the champion has read."""
    at, until = np.searchsorted(ids, known.product_ids), min(own, len(known.dates))
    there = known.present[:, :until]
    rows[at, :until] = np.where(there, -2, rows[at, :until])
    for name, values in columns.items():
        old = getattr(known, name)[:, :until]
        if name == "unit_cost":
            old = np.where(known.cost_assumed[:, None], np.nan, old)
        values[at, :until] = np.where(there, old, np.nan)
    blank = categories[at] == ""
    categories[at[blank]] = known.categories[blank]


def less_than_usual(
    values: Floats, *, usable: Bools, since: int, phases: int, share: float, lookback: int = LOOKBACK
) -> Bools:
    """(period,) True where a value is below `share` of the lowest of such weekdays before; only from `since` on.

    Values found so are not compared with later, so that a fault that lasts stays found.

    Args:
        values: (period,) at least 0.
        usable: (period,) periods to judge and to compare with, such as those without a holiday.
        since: First period judged.
        phases: Periods after which the same weekday comes again.
        share: Fraction.
        lookback: Such weekdays compared with.
    """
    low = np.zeros(len(values), dtype=np.bool_)
    for now in range(since, len(values)):
        before = np.arange(now - phases, max(-1, now - 2 * lookback * phases - 1), -phases)
        before = before[(usable & ~low)[before]][:lookback]
        if usable[now] and len(before) >= LEAST_SEEN:
            low[now] = values[now] < share * values[before].min()
    return low


def still_for(moved: Bools, *, seen: Bools, past: int, least: int) -> int:
    """The newest periods without a move, where they are twice as many as ever before; otherwise 0.

    Args:
        moved: (period,) whether anything moved.
        seen: (period,) whether a move could be seen; others are passed over.
        past: Periods before them that are compared with.
        least: Fewer are never told of.
    """
    places = np.flatnonzero(seen)
    moves = np.flatnonzero(moved[places])
    if not len(moves):
        return 0
    still = len(places) - 1 - int(moves[-1])
    before = moves[places[moves] >= len(moved) - past - still]
    if len(before) < LEAST_SEEN:
        return 0
    longest = int(np.diff(before).max(initial=1)) - 1
    return still if still >= max(least, 2 * (longest + 1)) else 0
