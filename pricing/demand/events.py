"""Which periods of a history speak of prices: after a move, near one, after a cut, in price tests."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.demand.batches import Table

SAME_PRICE = 0.002  # log units; a smaller difference is rounding, not a move
YOUNG = 14  # rows of a product before its first move that is looked at: its level is a guess until then
SPELL = 3  # periods after a move that are scored, as long as the new price stands
PATIENT = 14  # the same of a product that hardly ever moves: each of its moves must say more
FEW = 10  # moves of a product below which it hardly ever moves
CUT = 0.03  # log units below the price before that make a cut whose end is looked at
BACK = 0.01  # log units around that price at which it is over
LATER = 4  # periods after a move from which on forecasts have seen it
AFTER = 7  # periods after a cut that are looked at


@dataclass(frozen=True)
class Events:
    """Scored periods: (event,) product, cutoff before the move, and periods from the cutoff to the one scored."""

    product: Ints
    cutoff: Ints
    step: Ints

    @property
    def at(self) -> Ints:
        """(event,) the scored period."""
        return self.cutoff + self.step

    def __len__(self) -> int:
        return len(self.product)

    def select(self, rows: Bools) -> "Events":
        """Some of the events."""
        return Events(self.product[rows], self.cutoff[rows], self.step[rows])


def find_moves(table: Table, *, own: Bools | None = None) -> Bools:
    """(product, period) where a price moved from the period before.

    Both periods have a row, and YOUNG rows of the product came before.

    Args:
        table: The panel's table.
        own: (product, period) prices set by the platform: they answer to its own forecasts and are no moves here.
    """
    price, seen = table.log_price, table.seen > 0
    age = np.cumsum(seen, axis=1)
    moved = np.zeros(price.shape, bool)
    moved[:, 1:] = (np.abs(np.diff(price, axis=1)) > SAME_PRICE) & seen[:, 1:] & seen[:, :-1]
    moved[:, 1:] &= age[:, :-1] >= YOUNG
    return moved if own is None else moved & ~own


def after_moves(table: Table, moved: Bools) -> Events:
    """Every period in which a price moved, and up to SPELL − 1 more while it stood; PATIENT − 1 where moves are few."""
    few = moved.sum(axis=1) < FEW
    price, seen = table.log_price, table.seen > 0
    products, periods = seen.shape
    found: list[Events] = []
    standing = np.ones((products, periods), bool)  # (product, cutoff)
    for step in range(1, min(PATIENT, periods - 1) + 1):
        last = periods - step
        stands = np.zeros((products, periods), bool)
        standing[:, last:] = False
        standing[:, :last] &= np.abs(price[:, step:] - price[:, 1 : last + 1]) <= SAME_PRICE
        stands[:, :last] = moved[:, 1 : last + 1] & seen[:, step:] & standing[:, :last]
        if step > SPELL:
            stands &= few[:, None]
        rows, cutoffs = np.nonzero(stands)
        found.append(Events(rows, cutoffs, np.full(len(rows), step)))
    return join(found)


def around_moves(table: Table, moved: Bools, *, first: int) -> tuple[Events, Ints]:
    """Windows of SPELL periods that begin `first` periods after a move, or before it, forecast from the day before.

    Only where the price stood from that day on: there is no move in the window, though there is one near it.

    Returns:
        The events, and (event,) the period of the move.
    """
    price, seen = table.log_price, table.seen > 0
    rows, at = np.nonzero(moved)
    inside = (at + first > 0) & (at + first + SPELL <= price.shape[1])
    rows, at = rows[inside], at[inside]
    ends = sorted((0 if first > 0 else -1, first - 1, first + SPELL - 1))
    stood = np.ones(len(rows), bool)
    for offset in range(ends[0], ends[-1] + 1):
        stood &= seen[rows, at + offset] & (np.abs(price[rows, at + offset] - price[rows, at + ends[0]]) <= SAME_PRICE)
    rows, at = rows[stood], at[stood]
    parts = [Events(rows, at + first - 1, np.full(len(rows), step)) for step in range(1, SPELL + 1)]
    return join(parts), np.tile(at, SPELL)


def after_cuts(table: Table, moved: Bools) -> tuple[Events, Floats, Floats]:
    """Up to AFTER periods after a passing cut ended, forecast from the day before it began.

    Returns:
        The events, (event,) depth of the cut in log units, below 0, and (event,) periods that it lasted.
    """
    price, seen = table.log_price, table.seen > 0
    rows, at = np.nonzero(moved)
    begin, end = at[:-1], at[1:]
    same = (rows[:-1] == rows[1:]) & (end - begin <= PATIENT - AFTER)
    row, begin, end = rows[:-1][same], begin[same], end[same]
    before = price[row, begin - 1]
    depth = price[row, begin] - before
    cut = (depth < -CUT) & (np.abs(price[row, end] - before) <= BACK)
    row, begin, end, depth, before = (values[cut] for values in (row, begin, end, depth, before))
    found, kept = [], []
    standing = np.ones(len(row), bool)
    for later in range(AFTER):
        inside = end + later < seen.shape[1]
        now = np.minimum(end + later, seen.shape[1] - 1)
        standing &= inside & (np.abs(price[row, now] - before) <= BACK)
        use = np.flatnonzero(standing & seen[row, now])
        found.append(Events(row[use], begin[use] - 1, (now - begin + 1)[use]))
        kept.append(use)
    which = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return join(found), depth[which], (end - begin)[which].astype(np.float64)


def during_tests(table: Table, tested: Floats) -> Events:
    """Periods at prices drawn at random, forecast from the day before the draw, at most PATIENT periods earlier.

    Args:
        table: The panel's table.
        tested: (product, period) log of the price over what it would have been without the draw; NaN outside tests.
    """
    drawn = np.isfinite(tested)
    filled = np.where(drawn, tested, np.inf)
    began = np.ones(tested.shape, bool)
    with np.errstate(invalid="ignore"):
        began[:, 1:] = ~(np.abs(filled[:, 1:] - filled[:, :-1]) <= 1e-9)  # inf − inf is NaN: outside tests all begin
    period = np.arange(tested.shape[1])
    start = np.maximum.accumulate(np.where(began, period, 0), axis=1)
    rows, at = np.nonzero(drawn & (table.seen > 0) & (np.cumsum(table.seen > 0, axis=1) > YOUNG))
    step = at - start[rows, at] + 1
    events = Events(rows, at - step, step)
    return events.select((events.cutoff >= 0) & (step <= PATIENT))


def join(parts: list[Events]) -> Events:
    """All events of several lists, in that order."""
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("product", "cutoff", "step")))
