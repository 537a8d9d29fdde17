"""Select the product-periods that identify elasticities: after and near price changes, after cuts, in price tests."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.demand.batches import FeatureTable

SAME_PRICE = 0.002  # log units; a smaller difference is rounding, not a price change
LEAST_ROWS_BEFORE = 14  # rows of a product before its first usable price change: until then its level is uncertain
SCORED_PERIODS = 3  # periods scored from a price change on, as long as the new price holds
SCORED_PERIODS_FEW = 14  # the same for a product with few price changes: each must yield more data
FEW = 10  # a product with fewer price changes than this has few
CUT = 0.03  # least depth of a temporary cut, log units below the price before
BACK = 0.01  # log units around that price within which the cut is over
LATER = 4  # periods after a price change from which forecasts include its effect
AFTER = 7  # periods scored after a cut


@dataclass(frozen=True)
class ScoredPeriods:
    """Scored periods: (event,) product, cutoff before the price change, and step from cutoff to scored period."""

    product: Ints
    cutoff: Ints
    step: Ints

    @property
    def at(self) -> Ints:
        """(event,) the scored period."""
        return self.cutoff + self.step

    def __len__(self) -> int:
        return len(self.product)

    def select(self, rows: Bools) -> "ScoredPeriods":
        """Select events."""
        return ScoredPeriods(self.product[rows], self.cutoff[rows], self.step[rows])


def find_price_changes(table: FeatureTable, *, own: Bools | None = None) -> Bools:
    """(product, period) True where the price changed from the period before.

    Both periods must have a row, and at least YOUNG rows of the product come before.

    Args:
        table: The panel's table.
        own: (product, period) prices set by the platform; left out, since they depend on its own forecasts.
    """
    moved = price_changes(table.log_price, table.seen > 0)
    return moved if own is None else moved & ~own


def price_changes(log_price: Floats, seen: Bools, *, least_before: int = LEAST_ROWS_BEFORE) -> Bools:
    """(product, period) True where the price changed from the period before; both have a row, as have enough before.

    Args:
        log_price: (product, period) log of the price, in any unit.
        seen: (product, period) True where there is a row.
        least_before: Rows of the product, that of the period before included, that must come before.
    """
    moved = np.zeros(log_price.shape, bool)
    with np.errstate(invalid="ignore"):
        moved[:, 1:] = (np.abs(np.diff(log_price, axis=1)) > SAME_PRICE) & seen[:, 1:] & seen[:, :-1]
    moved[:, 1:] &= np.cumsum(seen, axis=1)[:, :-1] >= least_before
    return moved


def distinct_prices(log_price: Floats, seen: Bools) -> Ints:
    """(product,) number of prices that differ by more than rounding."""
    price = np.sort(np.where(seen, log_price, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        steps = np.isfinite(price[:, 1:]) & (np.diff(price, axis=1) > SAME_PRICE)
    count: Ints = (steps.sum(axis=1) + np.isfinite(price[:, 0])).astype(np.int32)
    return count


def after_price_changes(table: FeatureTable, moved: Bools) -> ScoredPeriods:
    """Periods of price changes and up to SPELL − 1 more at the new price; PATIENT − 1 where changes are few."""
    few = moved.sum(axis=1) < FEW
    price, seen = table.log_price, table.seen > 0
    products, periods = seen.shape
    found: list[ScoredPeriods] = []
    unchanged = np.ones((products, periods), bool)  # (product, cutoff)
    for step in range(1, min(SCORED_PERIODS_FEW, periods - 1) + 1):
        last = periods - step
        stands = np.zeros((products, periods), bool)
        unchanged[:, last:] = False
        unchanged[:, :last] &= np.abs(price[:, step:] - price[:, 1 : last + 1]) <= SAME_PRICE
        stands[:, :last] = moved[:, 1 : last + 1] & seen[:, step:] & unchanged[:, :last]
        if step > SCORED_PERIODS:
            stands &= few[:, None]
        rows, cutoffs = np.nonzero(stands)
        found.append(ScoredPeriods(rows, cutoffs, np.full(len(rows), step)))
    return join(found)


def around_price_changes(table: FeatureTable, moved: Bools, *, first: int) -> tuple[ScoredPeriods, Ints]:
    """Windows of SPELL periods that begin `first` periods after (or before) a price change; the cutoff is just before.

    The price must be constant from the price change, or for windows before it from the cutoff, to the window's end.

    Returns:
        The events, and (event,) the period of the price change.
    """
    price, seen = table.log_price, table.seen > 0
    rows, at = np.nonzero(moved)
    inside = (at + first > 0) & (at + first + SCORED_PERIODS <= price.shape[1])
    rows, at = rows[inside], at[inside]
    ends = sorted((0 if first > 0 else -1, first - 1, first + SCORED_PERIODS - 1))
    stood = np.ones(len(rows), bool)
    for offset in range(ends[0], ends[-1] + 1):
        stood &= seen[rows, at + offset] & (np.abs(price[rows, at + offset] - price[rows, at + ends[0]]) <= SAME_PRICE)
    rows, at = rows[stood], at[stood]
    parts = [ScoredPeriods(rows, at + first - 1, np.full(len(rows), step)) for step in range(1, SCORED_PERIODS + 1)]
    return join(parts), np.tile(at, SCORED_PERIODS)


def after_cuts(table: FeatureTable, moved: Bools) -> tuple[ScoredPeriods, Floats, Floats]:
    """Up to AFTER periods after the end of a temporary cut, forecast from the day before it began.

    Returns:
        The events, (event,) depth of the cut in log units, below 0, and (event,) its length in periods.
    """
    price, seen = table.log_price, table.seen > 0
    rows, at = np.nonzero(moved)
    begin, end = at[:-1], at[1:]
    same = (rows[:-1] == rows[1:]) & (end - begin <= SCORED_PERIODS_FEW - AFTER)
    row, begin, end = rows[:-1][same], begin[same], end[same]
    before = price[row, begin - 1]
    depth = price[row, begin] - before
    cut = (depth < -CUT) & (np.abs(price[row, end] - before) <= BACK)
    row, begin, end, depth, before = (values[cut] for values in (row, begin, end, depth, before))
    found, kept = [], []
    unchanged = np.ones(len(row), bool)
    for later in range(AFTER):
        inside = end + later < seen.shape[1]
        now = np.minimum(end + later, seen.shape[1] - 1)
        unchanged &= inside & (np.abs(price[row, now] - before) <= BACK)
        use = np.flatnonzero(unchanged & seen[row, now])
        found.append(ScoredPeriods(row[use], begin[use] - 1, (now - begin + 1)[use]))
        kept.append(use)
    which = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return join(found), depth[which], (end - begin)[which].astype(np.float64)


def during_tests(table: FeatureTable, tested: Floats) -> ScoredPeriods:
    """Periods at randomised prices, forecast from the day before the draw, at most PATIENT periods earlier.

    Args:
        table: The panel's table.
        tested: (product, period) log of the price over that without the draw; NaN outside price tests.
    """
    drawn = np.isfinite(tested)
    filled = np.where(drawn, tested, np.inf)
    began = np.ones(tested.shape, bool)
    with np.errstate(invalid="ignore"):
        began[:, 1:] = ~(np.abs(filled[:, 1:] - filled[:, :-1]) <= 1e-9)  # inf − inf is NaN: outside tests all begin
    period = np.arange(tested.shape[1])
    start = np.maximum.accumulate(np.where(began, period, 0), axis=1)
    rows, at = np.nonzero(drawn & (table.seen > 0) & (np.cumsum(table.seen > 0, axis=1) > LEAST_ROWS_BEFORE))
    step = at - start[rows, at] + 1
    events = ScoredPeriods(rows, at - step, step)
    return events.select((events.cutoff >= 0) & (step <= SCORED_PERIODS_FEW))


def join(parts: list[ScoredPeriods]) -> ScoredPeriods:
    """Concatenate events."""
    return ScoredPeriods(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("product", "cutoff", "step"))
    )
