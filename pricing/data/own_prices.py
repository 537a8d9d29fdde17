"""Mark the product-periods whose price the platform itself set, by the moves in its decision log. NumPy only.

Such prices answer to the platform's own forecasts and teach no elasticity; overrides, freezes and every other price
change that the log did not give are people's, and teach. The marks outlive the log, whose days expire.
"""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.data.panel import STEP_DAYS, Panel

SAME_PRICE = 0.002  # log units; a smaller difference is rounding, not a price change
_CHARGED = 0.005  # log units; where sales show a price further from the one given, that was not charged
_DELAY = 28  # days from a decision to the first charge of its price, at most: labels and approvals take days


@dataclass(frozen=True)
class Moves:
    """Prices that a decision log moved to. Arrays are (move,), in any order."""

    product_ids: Strings
    dates: Days  # day that each was decided for
    price: Floats  # currency units
    days: Days  # (day,) every day that the log has a decision for, sorted


@dataclass(frozen=True)
class OwnSpans:
    """Spans of days with prices of the platform's own; all other prices on the days that they cover are people's."""

    product_ids: Strings  # (span,) product of each
    first: Days  # (span,) first day of its first period
    last: Days  # (span,) first day of its last period
    days: Days  # (day,) first days of the periods that they cover, sorted

    def extended(self, panel: Panel, moves: Moves, *, since: np.datetime64) -> "OwnSpans":
        """Return the spans of a panel on all days that a decision log, or else these spans, cover.

        A price is the platform's from a change to a price of the log's last 28 days on, until it changes to another.
        These spans count where the log no longer has a day, or the 28 before it; `since` is as for `marks`.
        """
        step = np.timedelta64(STEP_DAYS[panel.period], "D")
        place = np.searchsorted(panel.dates, moves.days, side="right") - 1
        logged = np.zeros(len(panel.dates), np.bool_)
        logged[place[(place >= 0) & (moves.days < panel.dates[-1] + step)]] = True
        settled = np.zeros_like(logged) if not len(moves.days) else panel.dates >= moves.days[0] + _DELAY
        kept = np.isin(panel.dates, self.days) & ~(logged & settled)
        logged &= ~kept
        log_price = np.log(panel.price)
        changed = ~(np.abs(np.diff(log_price, axis=1, prepend=np.nan)) <= SAME_PRICE)  # also from none to the first
        charged = given_lately(
            changed & logged, moves, product_ids=panel.product_ids, dates=panel.dates, price=panel.price
        )
        given = np.where(logged, charged, self.marks(panel, since=since))

        period = np.arange(len(panel.dates), dtype=np.int32)
        judged = np.maximum.accumulate(np.where(changed, period, 0), axis=1)
        return _spans(panel, np.take_along_axis(given, judged, axis=1), known=logged | kept)

    def marks(self, panel: Panel, *, since: np.datetime64) -> Bools:
        """(product, period) True where the platform set the price; from `since` on also on days that are not covered.

        That is the first day with prices that may be its own.
        """
        row = _rows_of(panel.product_ids, self.product_ids)
        begin = np.searchsorted(panel.dates, self.first)
        end = np.searchsorted(panel.dates, self.last, side="right")
        edges = np.zeros((len(panel.product_ids), len(panel.dates) + 1), np.int32)
        known = row >= 0
        np.add.at(edges, (row[known], begin[known]), 1)
        np.add.at(edges, (row[known], end[known]), -1)
        later = ~np.isin(panel.dates, self.days) & (panel.dates >= since)
        return np.asarray((np.cumsum(edges, axis=1)[:, :-1] > 0) | later)

    def joined(self, *others: "OwnSpans") -> "OwnSpans":
        """Return these spans and those of other products."""
        every = {name: np.concatenate([getattr(each, name) for each in (self, *others)]) for name in vars(self)}
        return OwnSpans(**{**every, "days": np.unique(every["days"])})


_NAMES = np.zeros(0, np.str_)
_NO_DAYS = np.zeros(0, "datetime64[D]")
NO_MOVES = Moves(_NAMES, _NO_DAYS, np.zeros(0), days=_NO_DAYS)
NO_SPANS = OwnSpans(_NAMES, _NO_DAYS, _NO_DAYS, _NO_DAYS)


def was_charged(price: Floats, given: Floats) -> Bools:
    """True where sales show the price that was given; NaN or no price was not charged."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(np.log(price / given)) <= _CHARGED)


def given_lately(changed: Bools, moves: Moves, *, product_ids: Strings, dates: Days, price: Floats) -> Bools:
    """(product, period) True where a price changed to one that was moved to in that period or shortly before.

    Products are sorted by id, periods evenly spaced by date.
    """
    step = int((dates[-1] - dates[0]).astype(np.int64)) // max(1, len(dates) - 1) or 1
    delay = _DELAY // step
    width = len(dates) + delay  # moves before the first period count, too
    row = _rows_of(product_ids, moves.product_ids)
    place = (moves.dates - dates[0]).astype(np.int64) // step + delay
    inside = np.flatnonzero((row >= 0) & (place >= 0) & (place < width))
    key = row[inside] * width + place[inside]
    order = np.argsort(key, kind="stable")
    key = key[order]
    given_price = moves.price[inside][order]

    product, at = np.nonzero(changed)
    now = product * width + at + delay
    begin = np.searchsorted(key, now - delay)
    end = np.searchsorted(key, now, side="right")
    found = np.zeros(len(product), np.bool_)
    for number in range(int((end - begin).max(initial=0))):
        move = np.minimum(begin + number, len(key) - 1)
        found |= (begin + number < end) & was_charged(price[product, at], given_price[move])
    given = np.zeros(changed.shape, np.bool_)
    given[product, at] = found
    return given


def _spans(panel: Panel, own: Bools, *, known: Bools) -> OwnSpans:
    """Return the runs of marks in the (period,) `known` ones."""
    edges = np.diff(np.pad(own & known, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges > 0)
    after = np.nonzero(edges < 0)[1]
    return OwnSpans(panel.product_ids[row], panel.dates[first], panel.dates[after - 1], panel.dates[known])


def _rows_of(known: Strings, product_ids: Strings) -> Ints:
    """(id,) row of each product among the known ones, which are sorted; −1 of one that is not."""
    row = np.minimum(np.searchsorted(known, product_ids), len(known) - 1)
    return np.where(known[row] == product_ids, row, -1)
