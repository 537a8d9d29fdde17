"""When deliveries come: their rhythm, read from the stock jumps of a history. No request and no price."""

import numpy as np
from numpy.typing import NDArray

from pricing.data.panel import Panel

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Days = NDArray[np.datetime64]

LONGEST = 35  # periods between two deliveries that are still looked for
LEAST_JUMPS = 3
IN_STEP = 0.85  # share of a product's deliveries that must fall on the rhythm's own periods
LOOK_BACK = 365  # periods of history in which deliveries count


def delivery_rhythm(panel: Panel) -> tuple[Floats, Days]:
    """Finds, for every product, how often it is delivered and when that last happened.

    A delivery is a period that opens with more stock than the one before left. Buyers who order on fixed days skip
    some, so the rhythm is the longest interval on whose multiples at least 85 % of the deliveries fall; where
    nothing is that regular, it is the median gap.

    Returns:
        (product,) periods between two deliveries, NaN where fewer than 3 were seen; and (product,) the first day of a
        period on the rhythm that opened with a delivery, NaT where none was seen.
    """
    first = max(0, len(panel.dates) - LOOK_BACK)
    stock, units = panel.stock[:, first:].astype(np.float64), panel.units_sold[:, first:].astype(np.float64)
    left = np.maximum(stock[:, :-1] - units[:, :-1], 0.0)
    jumps = np.zeros(stock.shape, dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        jumps[:, 1:] = stock[:, 1:] > left + 1e-6 + 0.02 * np.abs(left)
    count = jumps.sum(axis=1)
    enough = count >= LEAST_JUMPS

    interval, residue = _best_interval(jumps, count)
    periods = np.arange(stock.shape[1])
    gap = _median_gap(jumps)
    irregular = interval < 2
    on_rhythm = jumps & (irregular[:, None] | (periods % interval[:, None] == residue[:, None]))
    last = stock.shape[1] - 1 - np.argmax(on_rhythm[:, ::-1], axis=1)
    dates: Days = panel.dates[first:][last].astype("datetime64[D]")
    return (
        np.where(enough, np.where(irregular, gap, interval), np.nan),
        np.where(on_rhythm.any(axis=1), dates, np.datetime64("NaT", "D")),
    )


def _best_interval(jumps: NDArray[np.bool_], count: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(product,) the longest interval in step with the deliveries, 1 where there is none; and its remainder."""
    products, length = jumps.shape
    periods = np.arange(length)
    interval, residue = np.ones(products, dtype=np.int64), np.zeros(products, dtype=np.int64)
    for candidate in range(2, min(LONGEST, max(length // LEAST_JUMPS, 1)) + 1):
        hits = np.stack([jumps[:, periods % candidate == place].sum(axis=1) for place in range(candidate)], axis=1)
        top = hits.argmax(axis=1)
        most = hits[np.arange(products), top]
        slots = (length - top + candidate - 1) // candidate
        fits = (most >= IN_STEP * count) & (count >= LEAST_JUMPS) & (2 * most >= np.minimum(slots, count))
        interval, residue = np.where(fits, candidate, interval), np.where(fits, top, residue)
    return interval, residue


def _median_gap(jumps: NDArray[np.bool_]) -> Floats:
    """(product,) median periods between deliveries in a row; NaN where there are fewer than two."""
    gaps = np.full(len(jumps), np.nan)
    rows, places = np.nonzero(jumps)
    same = rows[1:] == rows[:-1]
    distance, owner = np.diff(places)[same], rows[1:][same]
    order = np.lexsort((distance, owner))
    distance, owner = distance[order], owner[order]
    owners, first, number = np.unique(owner, return_index=True, return_counts=True)
    gaps[owners] = distance[first + number // 2]
    return gaps
