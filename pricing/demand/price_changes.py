"""Select the product-periods that identify elasticities: after and near price changes, after cuts, at random draws."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.features import weekends
from pricing.data.own_prices import SAME_PRICE
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.batches import FeatureTable, Targets
from pricing.demand.grades import FORTNIGHT, parents_of

LEAST_ROWS_BEFORE = 14  # rows of a product before its first usable price change: until then its level is uncertain
SCORED_PERIODS = 3  # periods scored from a price change on, as long as the new price holds
SCORED_PERIODS_FEW = 14  # the same for a product with few price changes: each must yield more data
FEW = 10  # a product with fewer price changes than this has few
CUT = 0.03  # least depth of a temporary cut, log units below the price before
BACK = 0.01  # log units around that price within which the cut is over
LATER = 4  # periods after a price change from which forecasts include its effect
AFTER = 7  # periods scored after a cut
COST_MOVE = 0.01  # log change of unit cost in the fortnight before a price change that makes it cost-driven


def find_price_changes(table: FeatureTable, *, own: Bools | None = None) -> Bools:
    """(product, period) True where the price changed from the period before; both have a row, as have enough before."""
    seen = table.seen > 0
    changed = np.abs(np.diff(table.log_price, axis=1)) > SAME_PRICE
    enough = np.cumsum(seen, axis=1)[:, :-1] >= LEAST_ROWS_BEFORE
    moved = np.pad(changed & enough & seen[:, 1:] & seen[:, :-1], ((0, 0), (1, 0)))
    return moved if own is None else moved & ~own  # the platform's own prices depend on its forecasts


def after_price_changes(table: FeatureTable, moved: Bools) -> Targets:
    """Periods of price changes and those after, while the new price stands: more where a product's changes are few."""
    few = moved.sum(axis=1) < FEW
    row, at = np.nonzero(moved)
    found = []
    for later, rows in _while_price_stands(table, row, at, table.log_price[row, at], most=SCORED_PERIODS_FEW):
        use = rows if later < SCORED_PERIODS else rows[few[row[rows]]]
        found.append(Targets(row[use], at[use] - 1, np.full(len(use), later + 1)))
    return join(found)


def _while_price_stands(
    table: FeatureTable, product: Ints, begin: Ints, price: Floats, *, most: int, within: float = SAME_PRICE
) -> Iterator[tuple[int, Ints]]:
    """Yield how much later than (case,) `begin`, and the cases with a row there whose log price still is `price`."""
    stands = np.ones(len(product), np.bool_)
    last = table.seen.shape[1] - 1
    for later in range(most):
        now = np.minimum(begin + later, last)
        stands &= (begin + later <= last) & (np.abs(table.log_price[product, now] - price) <= within)
        yield later, np.flatnonzero(stands & (table.seen[product, now] > 0))


def around_price_changes(table: FeatureTable, moved: Bools, *, first: int) -> tuple[Targets, Ints]:
    """Windows that begin `first` periods after (or before) a price change, and (event,) its period.

    The cutoff is just before the window. The price must be constant from the price change, or for windows before it
    from the cutoff, to the window's end.
    """
    price = table.log_price
    row, at = np.nonzero(moved)
    inside = (at + first > 0) & (at + first + SCORED_PERIODS <= price.shape[1])
    row = row[inside]
    at = at[inside]
    begin = 0 if first > 0 else first - 1  # from the price change on, or from the cutoff
    end = first + SCORED_PERIODS if first > 0 else 0
    stood = np.ones(len(row), np.bool_)
    for offset in range(begin, end):
        same = np.abs(price[row, at + offset] - price[row, at + begin]) <= SAME_PRICE
        stood &= (table.seen[row, at + offset] > 0) & same
    row = row[stood]
    at = at[stood]
    parts = [Targets(row, at + first - 1, np.full(len(row), step)) for step in range(1, SCORED_PERIODS + 1)]
    return join(parts), np.tile(at, SCORED_PERIODS)


def after_cuts(table: FeatureTable, moved: Bools) -> tuple[Targets, Floats, Floats]:
    """Up to AFTER periods after the end of a temporary cut, forecast from the day before it began.

    With them (event,) the cut's depth in log units, below 0, and its length in periods.
    """
    price = table.log_price
    row, at = np.nonzero(moved)
    # A cut begins with one price change of a product and ends with its next.
    same = (row[:-1] == row[1:]) & (np.diff(at) <= SCORED_PERIODS_FEW - AFTER)
    row = row[:-1][same]
    begin = at[:-1][same]
    end = at[1:][same]
    before = price[row, begin - 1]
    depth = price[row, begin] - before
    cut = (depth < -CUT) & (np.abs(price[row, end] - before) <= BACK)
    begin = begin[cut]
    end = end[cut]
    found = []
    which = []
    for later, use in _while_price_stands(table, row[cut], end, before[cut], most=AFTER, within=BACK):
        found.append(Targets(row[cut][use], begin[use] - 1, (end - begin)[use] + later + 1))
        which.append(use)
    of = np.concatenate(which)
    return join(found), depth[cut][of], (end - begin)[of].astype(np.float64)


def during_tests(table: FeatureTable, tested: Floats) -> Targets:
    """Periods at randomised prices, forecast from the day before the draw, SCORED_PERIODS_FEW periods away at most."""
    drawn = np.isfinite(tested)  # (product, period); log of the price over that without the draw, NaN outside tests
    filled = np.where(drawn, tested, np.inf)
    began = np.ones(tested.shape, bool)
    with np.errstate(invalid="ignore"):
        began[:, 1:] = ~(np.abs(filled[:, 1:] - filled[:, :-1]) <= 1e-9)  # inf − inf is NaN: outside tests all begin
    period = np.arange(tested.shape[1])
    start = np.maximum.accumulate(np.where(began, period, 0), axis=1)
    rows, at = np.nonzero(drawn & (table.seen > 0) & (np.cumsum(table.seen > 0, axis=1) > LEAST_ROWS_BEFORE))
    step = at - start[rows, at] + 1
    events = Targets(rows, at - step, step)
    return events.select((events.cutoff >= 0) & (step <= SCORED_PERIODS_FEW))


def join(parts: list[Targets]) -> Targets:
    """Concatenate events."""
    return Targets(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))


@dataclass(frozen=True)
class EstimationSample:
    """Scored periods of a panel and their price information, before any demand forecast."""

    moves: Targets  # from price changes made by people on
    before: Targets  # just before some of them
    later: Targets  # some time after some of them
    after: Targets  # after temporary cuts
    tests: Targets  # at randomised prices
    coming: Ints  # (before event,) row in `moves` of the first period of the following price change
    past: Ints  # (later event,) row in `moves` of the first period of the preceding price change
    depth: Floats  # (after event,) log depth of the cut, below 0
    lasted: Floats  # (after event,) periods of the cut
    draw: Floats  # (test event,) log of the price over that without the draw
    drawn_before: Floats  # (test event,) the same of a week before; 0 without a draw
    kinds: dict[str, Bools]  # (event of moves,) masks of kinds of price changes, by name
    residual: Floats  # (event of moves,) log price change less its out-of-fold prediction
    cluster: Ints  # (period,) fortnight
    weekend: Floats  # (period,) 1.0 on weekends
    parent: Ints  # (product,) row of the parent whose elasticity each product shares; one without a parent is its own
    first: Ints  # (parent,) row of its first product

    @property
    def parts(self) -> dict[str, Targets]:
        """The scored periods by the names that they have here."""
        return {
            "moves": self.moves,
            "before": self.before,
            "later": self.later,
            "after": self.after,
            "tests": self.tests,
        }

    @property
    def everything(self) -> Targets:
        """All scored periods, part by part."""
        return join(list(self.parts.values()))


def select_sample(panel: Panel, table: FeatureTable, *, tested: Floats | None, own: Bools | None) -> EstimationSample:
    """Select the events; see `identification.identify` for the arguments."""
    periods = len(panel.dates)
    drawn = np.full(panel.present.shape, np.nan) if tested is None else tested
    moved = find_price_changes(table, own=own)
    with_draw = np.isfinite(drawn)
    with_draw[:, 1:] |= with_draw[:, :-1]  # price changes into and out of a test are randomised, too
    moved &= ~with_draw
    moves = after_price_changes(table, moved)
    moves = moves.select(~with_draw[moves.product, moves.at])
    first = np.flatnonzero(moves.step == 1)
    row_of = np.full(panel.present.shape, -1)
    row_of[moves.product[first], moves.at[first]] = first
    before, change = around_price_changes(table, moved, first=-SCORED_PERIODS)
    coming = row_of[before.product, change]
    later, change = around_price_changes(table, moved, first=LATER)
    past = row_of[later.product, change]
    after, depth, lasted = after_cuts(table, moved)
    tests = during_tests(table, drawn)
    week = 7 // STEP_DAYS[panel.period]
    first_series, parent = np.unique(parents_of(panel), return_inverse=True)
    return EstimationSample(
        moves=moves,
        before=before.select(coming >= 0),
        later=later.select(past >= 0),
        after=after,
        tests=tests,
        coming=coming[coming >= 0],
        past=past[past >= 0],
        depth=depth,
        lasted=lasted,
        draw=drawn[tests.product, tests.at],
        drawn_before=np.nan_to_num(np.roll(drawn, week, axis=1)[tests.product, tests.at]),
        kinds=_kinds(panel, table, moves),
        residual=np.zeros(len(moves)),
        cluster=np.arange(periods) // FORTNIGHT[panel.period],
        weekend=weekends(panel.dates, period=panel.period),
        parent=parent,
        first=first_series,
    )


def _kinds(panel: Panel, table: FeatureTable, moves: Targets) -> dict[str, Bools]:
    """(event,) masks of the kinds of price changes whose elasticities are compared."""
    move = table.log_price[moves.product, moves.at] - table.log_price[moves.product, moves.cutoff]
    size = np.abs(move)
    cost = np.log(np.where(panel.unit_cost > 0, panel.unit_cost, np.nan))
    earlier = np.maximum(moves.cutoff + 1 - FORTNIGHT[panel.period], 0)
    with np.errstate(invalid="ignore"):
        driven = np.abs(cost[moves.product, moves.cutoff + 1] - cost[moves.product, earlier]) > COST_MOVE
    driven &= ~panel.cost_assumed[moves.product]
    promoted = np.maximum(table.promo[moves.product, moves.at], table.promo[moves.product, moves.cutoff]) > 0
    large = size > np.median(size) if len(size) else size > 0
    return {"rises": move > 0, "large": large, "cost-driven": driven, "promoted": promoted}
