"""Estimate the distribution of the time to the next delivery from jumps of the stock. Reads no request, no price."""

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats
from pricing.data.missing_rows import COUNTED, left_over
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand.curve import DELIVERIES

LONGEST = 63  # longest gap between two deliveries, periods; longer ones count as this
LEAST_GAPS = 2  # with fewer gaps, a product has its category's
LOOK_BACK = 365  # periods of history in which deliveries count
AHEAD = 28  # periods after the state's date for which the next delivery is computed; later ones are as the last
UNKNOWN = 0  # where no delivery was seen


def stock_jumps(panel: Panel) -> Bools:
    """(product, LOOK_BACK) last periods of a history that open with more stock than the one before left: deliveries.

    Up to COUNTED periods after a stock count, that less the units sold since was left, and the delivery is dated to
    where it first shows.
    """
    first = max(0, len(panel.dates) - LOOK_BACK - COUNTED)
    stock, units = (values[:, first:].astype(np.float64) for values in (panel.stock, panel.units_sold))
    left = np.maximum(left_over(stock, units, limit=COUNTED + 1), 0.0)
    with np.errstate(invalid="ignore"):
        found = (stock > left + 1e-6 + 0.02 * left)[:, -LOOK_BACK:]
    jumps = np.zeros((len(panel.product_ids), LOOK_BACK), dtype=np.bool_)
    jumps[:, LOOK_BACK - found.shape[1] :] = found
    jumps[:, 0] = False  # the first period looked at has none before it
    return jumps


def carry_jumps(before: Bools, rows: Panel, *, periods: int, since: np.datetime64) -> Bools:
    """Carries `stock_jumps` forward over new rows of the same products; the result is as from the whole history.

    The rows begin at `since` or earlier. Up to there, and COUNTED periods on, `before` (product, LOOK_BACK) holds,
    which ends `periods` before they do.
    """
    jumps = np.zeros_like(before)
    if periods < LOOK_BACK:
        jumps[:, : LOOK_BACK - periods] = before[:, periods:]
    new = min(max(int((rows.dates > since).sum()) - COUNTED, periods), LOOK_BACK - 1)
    jumps[:, LOOK_BACK - new :] = stock_jumps(rows)[:, LOOK_BACK - new :]
    jumps[:, 0] = False  # the first period looked at has none before it
    return jumps


def delivery_gaps(jumps: Bools, *, categories: NDArray[np.str_]) -> NDArray[np.float32]:
    """(product, LONGEST) distribution of the gap between consecutive `stock_jumps`: shares of 1, 2, … periods.

    A product with fewer than two gaps has those of its category, and NaN where that has none.
    """
    rows, places = np.nonzero(jumps)
    same = rows[1:] == rows[:-1]
    gaps, owner = np.minimum(np.diff(places)[same], LONGEST), rows[1:][same]
    counts = np.zeros((len(jumps), LONGEST))
    np.add.at(counts, (owner, gaps - 1), 1.0)
    few = counts.sum(axis=1) < LEAST_GAPS
    for category in np.unique(categories[few]):
        members = categories == category
        counts[members & few] = counts[members].sum(axis=0)
    total = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float32] = np.where(total > 0, counts / np.maximum(total, 1.0), np.nan).astype(np.float32)
    return shares


def last_deliveries(jumps: Bools, *, state_date: np.datetime64, period: Period) -> Days:
    """(product,) first day of the period that opened with the last delivery; NaT where none was seen."""
    ago = np.argmax(jumps[:, ::-1], axis=1)
    dates: Days = state_date - ago * np.timedelta64(STEP_DAYS[period], "D")
    return np.where(jumps.any(axis=1), dates, np.datetime64("NaT", "D"))


def next_deliveries(gaps: Floats, since: Floats) -> NDArray[np.uint8]:
    """Computes the distribution of the time to the next delivery, for each of the AHEAD periods after the state's date.

    Gaps (`delivery_gaps`) are independent, conditional on no delivery since the last one, `since` (product,) periods
    before the state's date. A delivery that is overdue, or whose predecessor is unknown (NaN), has the forward
    recurrence time from a random period. Returns (product, AHEAD, DELIVERIES) equally likely numbers, ascending, of
    periods from the one priced (included) to the next delivery (excluded); UNKNOWN where no gap was seen.
    """
    unknown: Bools = np.asarray(np.isnan(gaps).any(axis=1))
    chance = np.where(unknown[:, None], 1.0 / LONGEST, gaps).astype(np.float64)
    remaining = _remaining(chance, since)
    table = np.empty((len(chance), AHEAD, DELIVERIES), dtype=np.uint8)
    levels = (np.arange(DELIVERIES) + 0.5) / DELIVERIES
    for day in range(AHEAD):
        reached = np.cumsum(remaining, axis=1)
        table[:, day] = (reached[:, None, :] < levels[:, None] - 1e-9).sum(axis=2) + 1
        remaining = _shift_one_period(remaining, chance)
    table[unknown] = UNKNOWN
    return table


def _remaining(chance: Floats, since: Floats) -> Floats:
    """(product, LONGEST) probability that the next delivery opens the 2nd, 3rd, … period after the state's date.

    A gap of g that began `since` periods before that date ends g − since periods after it.
    """
    longest = chance.shape[1]
    ends = np.nan_to_num(since, nan=longest).astype(np.int64)[:, None] + np.arange(1, longest + 1)
    left = np.where(ends <= longest, np.take_along_axis(chance, np.minimum(ends, longest) - 1, axis=1), 0.0)
    total = left.sum(axis=1, keepdims=True)
    survival = np.cumsum(chance[:, ::-1], axis=1)[:, ::-1]
    anywhere = survival / np.maximum(survival.sum(axis=1, keepdims=True), 1e-12)
    left = np.where(total > 1e-12, left / np.maximum(total, 1e-12), anywhere)
    return _shift_one_period(left, chance)


def _shift_one_period(remaining: Floats, chance: Floats) -> Floats:
    """Shifts the distribution by a period: a delivery due in the first one has come and starts a new gap."""
    later = np.zeros_like(remaining)
    later[:, :-1] = remaining[:, 1:]
    later += remaining[:, :1] * chance
    return later
