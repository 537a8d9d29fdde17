"""Estimate the time to the next delivery, and the stock until then, from counts of stock. Reads no request."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.data.missing_rows import COUNTED, left_over
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand.curve import DELIVERIES

LONGEST = 63  # longest gap between two deliveries, periods; longer ones count as this
LEAST_GAPS = 2  # with fewer gaps, a product has its category's
LOOK_BACK = 365  # periods of history in which deliveries count
AHEAD = 28  # periods after the state's date for which the next delivery is computed; later ones are as the last
UNKNOWN = 0  # where no delivery was seen
# Longest time between two counts that tell a delivery, periods; a version keeps more rows (demand.checkpoint):
BRIDGED: dict[Period, int] = {"day": 28, "week": 7}
MISSED = 0.1  # largest share of the spans between counts that a rhythm may have wrong
ODDS = 20.0  # of one rhythm to another that has one span more wrong: a delivery in twenty comes on another day
LIKELY = 0.25  # chance of a delivery since the count above which one counts as come, where no rhythm agrees
USUAL = 0.02  # share of the rhythms, weighted by these odds, from which a gap or a day of delivery is usual
ALIKE = 1.5  # ratio of the longest to the shortest gap above which the rhythms that agree tell no next delivery
NEGLIGIBLE = 1e-6  # units, that sums of goods sold by weight may be off


@dataclass(frozen=True)
class Rhythms:
    """How often deliveries come to products whose counts lie apart: all regular rhythms that agree with the counts."""

    # (product,) at most every other period was counted, and a delivery was seen; or too new to tell, as most others:
    sparse: Bools
    # (product, LONGEST) `delivery_gaps`, or those of the rhythms; NaN where these differ much:
    gaps: NDArray[np.float32]
    # (product, LONGEST) chance that the next delivery opens 1, 2, … periods after the one to come; NaN if unknown:
    ahead: Floats
    due: Bools  # (product, longest bridge + 1) a delivery is usual in the last periods, and in the one to come


def stock_counts(panel: Panel) -> Bools:
    """(product, LOOK_BACK) last periods of a history whose opening stock was counted."""
    return _look_back(np.isfinite(panel.stock))


def stock_jumps(panel: Panel) -> Bools:
    """(product, LOOK_BACK) last periods of a history in which a delivery shows.

    Either the period opens with more stock than the count before it, less the units sold since, had left; or it is the
    first one up to which more sold than was counted. Of one delivery that is the first of both. Between two counts lie
    at most BRIDGED periods.
    """
    bridged = BRIDGED[panel.period]
    first = max(0, len(panel.dates) - LOOK_BACK - bridged)
    stock = panel.stock[:, first:].astype(np.float64)
    units = panel.units_sold[:, first:].astype(np.float64)
    open_ = left_over(stock, units, limit=bridged + 1)
    left = np.maximum(open_, 0.0)
    with np.errstate(invalid="ignore"):
        risen = stock > left + NEGLIGIBLE + 0.02 * left
        passed = np.isnan(stock) & (open_ - np.nan_to_num(units) < -NEGLIGIBLE)
    known = np.pad(passed[:, :-1], ((0, 0), (1, 0)))
    return _look_back((risen | passed) & ~known)


def _look_back(found: Bools) -> Bools:
    marked = np.zeros((len(found), LOOK_BACK), dtype=np.bool_)
    marked[:, max(LOOK_BACK - found.shape[1], 0) :] = found[:, -LOOK_BACK:]
    marked[:, 0] = False  # the first period looked at has none before it
    return marked


def carry_jumps(before: Bools, rows: Bools, *, panel: Panel, periods: int, since: np.datetime64) -> Bools:
    """Carries `stock_jumps` or `stock_counts` forward over new rows; the result is as from the whole history.

    `rows` is what those of the same products in `panel` tell, which begin at `since` or earlier. Up to there, and
    BRIDGED periods on, `before` (product, LOOK_BACK) holds, which ends `periods` before they do.
    """
    marked = np.zeros_like(before)
    if periods < LOOK_BACK:
        marked[:, : LOOK_BACK - periods] = before[:, periods:]
    new = min(max(int((panel.dates > since).sum()) - BRIDGED[panel.period], periods), LOOK_BACK - 1)
    marked[:, LOOK_BACK - new :] = rows[:, LOOK_BACK - new :]
    marked[:, 0] = False  # the first period looked at has none before it
    return marked


def rhythms(jumps: Bools, counts: Bools, *, gaps: NDArray[np.float32], period: Period) -> Rhythms:
    """Compares each regular rhythm of at most LONGEST periods with the spans between counts.

    A rhythm agrees if it delivers in the spans over which a delivery shows and in no other, but for MISSED of them. For
    each of these it weighs ODDS times less. Where none agrees, a delivery is usual once it is LIKELY, and `gaps`, from
    `delivery_gaps`, stay.
    """
    bridged = BRIDGED[period]
    times = counts.sum(axis=1)
    sparse = (2 * times <= LOOK_BACK - np.argmax(counts, axis=1)) & jumps.any(axis=1)
    new = times <= LEAST_GAPS
    sparse |= new & (2 * sparse[~new].sum() > (~new).sum())
    due = np.zeros((len(jumps), bridged + 1))
    shares = np.zeros((len(jumps), LONGEST))
    ahead = np.zeros((len(jumps), LONGEST))
    for gap, weight in _weights(jumps[sparse], counts[sparse], bridged=bridged):
        due[sparse] += weight[:, np.arange(LOOK_BACK - bridged, LOOK_BACK + 1) % gap]
        ahead[sparse, :gap] += weight[:, (LOOK_BACK + 1 + np.arange(gap)) % gap]
        shares[sparse, gap - 1] = weight.sum(axis=1)

    total = shares.sum(axis=1, keepdims=True)
    some: Bools = np.asarray(total > 0)
    usual = shares > USUAL * total
    longest = LONGEST - np.argmax(usual[:, ::-1], axis=1, keepdims=True)
    alike = longest <= ALIKE * (np.argmax(usual, axis=1, keepdims=True) + 1)
    known = np.where(some & alike, total, np.nan)
    likely = np.ones_like(due)
    likely[sparse] = _chances_since(jumps[sparse], counts[sparse], gaps=gaps[sparse], bridged=bridged)
    return Rhythms(
        sparse=sparse,
        gaps=np.where(some, shares / known, gaps).astype(np.float32),
        ahead=ahead / known,
        due=np.where(some, due > USUAL * total, ~(likely <= LIKELY)),
    )


def _weights(jumps: Bools, counts: Bools, *, bridged: int) -> Iterator[tuple[int, Floats]]:
    """Yields each gap with the weights (product, phase) of its rhythms; phase 0 delivers in the first period."""
    marks = jumps | counts
    places = np.arange(LOOK_BACK)
    end = np.minimum.accumulate(np.where(marks, places, LOOK_BACK)[:, ::-1], axis=1)[:, ::-1]
    begin = np.maximum.accumulate(np.where(marks, places, -1), axis=1)
    begin = np.pad(begin[:, :-1], ((0, 0), (1, 0)), constant_values=-1)  # of the span that the period ends or lies in
    length = end - begin
    told = np.take_along_axis(counts, np.maximum(begin, 0), axis=1) & (begin >= 0)
    told &= (end < LOOK_BACK) & (length <= bridged + 1)

    rise = told & np.take_along_axis(jumps, np.minimum(end, LOOK_BACK - 1), axis=1)
    allowed = MISSED * (told & marks).sum(axis=1, keepdims=True)
    for gap in range(1, LONGEST + 1):
        short = length < gap  # else it delivers in the span, whatever its phase
        wrong = (marks & np.where(short, rise, told & ~rise)).sum(axis=1, keepdims=True)
        rounds = -(-LOOK_BACK // gap)
        worth = np.zeros((len(marks), rounds * gap))
        worth[:, :LOOK_BACK] = np.where(rise, -1, 1) * (told & short)
        wrong = wrong + worth.reshape(len(marks), rounds, gap).sum(axis=1)
        weight = ODDS**-wrong / gap
        yield gap, np.where(wrong <= allowed, weight, 0.0)


def _chances_since(jumps: Bools, counts: Bools, *, gaps: Floats, bridged: int) -> Floats:
    """(product, bridged + 1) chance that a delivery came between the last count and each of the last periods.

    Gaps between counts at which a delivery shows are independent; it came in any period since the count before.
    """
    counted = LOOK_BACK - 1 - np.argmax(counts[:, ::-1], axis=1)
    span = np.maximum((counted - np.argmax(counts, axis=1)) / np.maximum(counts.sum(axis=1) - 1, 1), 1.0)
    age = np.maximum(counted - LOOK_BACK + 1 + np.argmax(jumps[:, ::-1], axis=1), 0)
    reached = np.cumsum(np.pad(gaps, ((0, 0), (1, 0))), axis=1)

    def reached_by(periods: Ints) -> Floats:
        return np.asarray(reached[np.arange(len(gaps)), np.minimum(periods, LONGEST)])

    after = reached_by(age + np.round(span).astype(np.int64))
    shows = 1 - (1 - after) / np.maximum(1 - reached_by(age), 1e-6)
    since = LOOK_BACK - bridged + np.arange(bridged + 1) - counted[:, None]
    return np.asarray((shows / span)[:, None] * since)


def stock_left(panel: Panel, counts: Bools, *, rhythm: Rhythms) -> Floats:
    """(product,) what the last count, less the units sold since, leaves for the period to come; NaN where unknown.

    It is unknown once more sold than was counted, and COUNTED periods after the count. Where counts lie apart, it is
    unknown from the first period after the count in which a delivery is usual, which may be the one to come.
    """
    bridged = BRIDGED[panel.period]
    stock = panel.stock[:, -bridged:].astype(np.float64)
    units = panel.units_sold[:, -bridged:].astype(np.float64)
    opening = np.where(np.isfinite(stock), stock, left_over(stock, units, limit=bridged))[:, -1]
    left = opening - np.nan_to_num(units[:, -1])
    age = np.argmax(counts[:, ::-1], axis=1)
    since = np.arange(bridged, -1, -1) <= age[:, None]
    overdue = np.where(rhythm.sparse, (rhythm.due & since).any(axis=1), age >= COUNTED)
    with np.errstate(invalid="ignore"):
        return np.where(overdue | (left < -NEGLIGIBLE), np.nan, np.maximum(left, 0.0))


def delivery_gaps(jumps: Bools, *, categories: NDArray[np.str_]) -> NDArray[np.float32]:
    """(product, LONGEST) distribution of the gap between consecutive `stock_jumps`: shares of 1, 2, … periods.

    A product with fewer than two gaps has those of its category, and NaN where that has none.
    """
    rows, places = np.nonzero(jumps)
    same = rows[1:] == rows[:-1]
    gaps = np.minimum(np.diff(places)[same], LONGEST)
    counts = np.zeros((len(jumps), LONGEST))
    np.add.at(counts, (rows[1:][same], gaps - 1), 1.0)
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


def next_deliveries(gaps: Floats, since: Floats, *, ahead: Floats | None = None) -> NDArray[np.uint8]:
    """Computes the distribution of the time to the next delivery, for each of the AHEAD periods after the state's date.

    Gaps (`delivery_gaps`) are independent, conditional on no delivery since the last one, `since` (product,) periods
    before the state's date. A delivery that is overdue, or whose predecessor is unknown (NaN), has the forward
    recurrence time from a random period. Where a rhythm is known, `ahead` (`Rhythms`) has the time to the first one.

    Returns (product, AHEAD, DELIVERIES) equally likely numbers, ascending, of periods from the one priced (included) to
    the next delivery (excluded); UNKNOWN where no gap was seen.
    """
    unknown: Bools = np.asarray(np.isnan(gaps).any(axis=1))
    chance = np.where(unknown[:, None], 1.0 / LONGEST, gaps).astype(np.float64)
    remaining = _remaining(chance, since)
    if ahead is not None:
        remaining = np.where(np.isnan(ahead), remaining, ahead)
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
