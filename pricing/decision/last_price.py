"""The last price charged, to which answers are bound: neither one night's fault in the sales nor a typo moves it.

A price further from the last one than the largest jump counts only once it was charged for some periods in a row, or
once a person moved the product's anchor there. One near the price that counted before counts at once: after a promotion
the regular price is back. A new product has none until its rows agree for so long.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.data.anchors import Anchors

EDGE = 1e-6  # relative; prices come in single precision
Moves = Mapping[int, tuple[Ints, Floats]]  # period → (rows, prices) that people set before it


def last_prices(
    price: Floats,  # (product, period), currency units
    charged: Bools,  # (product, period) where the price was charged; elsewhere it is only carried forward
    *,
    largest_jump: float | None,  # at which a price counts at once, a fraction of the last one; None: all do
    confirmed: int,  # periods in a row for which a price further away, or a first one, must have been charged to count
    moves: Moves | None = None,  # prices that people set; at a period beyond the last one, since then
    before: Floats | None = None,  # (2, product) as returned, known after the first `seen` periods; NaN for none
    seen: int = 0,  # periods that `before` has counted: they only tell for how long a price further away is charged
) -> NDArray[np.float64]:
    """(2, product) the last price charged, and that before it which lay further away; NaN where none counts yet."""
    products, periods = price.shape
    moved = moves or {}
    last, former = np.full((2, products), np.nan) if before is None else before.astype(np.float64)
    other = last.copy()  # a price further away
    run = np.zeros(products, np.int64)  # periods in a row for which it was charged
    for period in range(periods):
        if period in moved:
            rows, set_to = moved[period]
            run[rows] = 0
            if period >= seen:
                last[rows] = set_to
                former[rows] = np.nan
        now = price[:, period].astype(np.float64)
        here = charged[:, period] & np.isfinite(now)
        near = _within(now, last, largest_jump)
        again = (run > 0) & _within(now, other, largest_jump)
        run = np.where(here, np.where(near, 0, np.where(again, run + 1, 1)), run)
        other = np.where(here, now, other)
        if period < seen:
            continue
        counts = here & (near | (run >= confirmed) | _within(now, former, largest_jump))
        former = np.where(counts & ~near, last, former)
        last = np.where(counts, now, last)
        run = np.where(counts, 0, run)
    for period in sorted(place for place in moved if place >= periods):
        rows, set_to = moved[period]
        last[rows] = set_to
        former[rows] = np.nan
    return as_written(np.stack([last, former]))


def as_written(values: Floats) -> NDArray[np.float64]:
    """The shortest decimals that single precision holds as `values`: 0.94 stays 0.94, not 0.93999999762."""
    return values.astype(np.float32).astype(np.str_).astype(np.float64)


def anchor_moves(anchors: Anchors | None, product_ids: Strings, dates: Days) -> dict[int, tuple[Ints, Floats]]:
    """The anchors that people moved, by the first of these periods for which each holds; ids and periods are sorted.

    A product's first anchor is no move, nor is one from before the first period.
    """
    if anchors is None or not len(product_ids):
        return {}
    later = np.flatnonzero(anchors.product_ids[1:] == anchors.product_ids[:-1]) + 1
    later = later[(anchors.dates[later] >= dates[0]) & np.isin(anchors.product_ids[later], product_ids)]
    rows = np.searchsorted(product_ids, anchors.product_ids[later])
    periods = np.searchsorted(dates, anchors.dates[later])
    prices = anchors.list_price[later].astype(np.float64)
    return {int(period): (rows[periods == period], prices[periods == period]) for period in np.unique(periods).tolist()}


def _within(price: Floats, last: Floats, largest_jump: float | None) -> Bools:
    if largest_jump is None:
        return np.ones(len(price), np.bool_)
    return np.abs(price - last) <= last * (largest_jump + EDGE)
