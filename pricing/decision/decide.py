"""The decision itself: demand in, an allowed price out. No request, no clock; docs/demand.md has the equations."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import unit_profit
from pricing.decision.confidence import calibrated, chance_at_least, deviation_at
from pricing.decision.context import PricingContext
from pricing.decision.guardrails import EDGE, Limits
from pricing.decision.reasons import BIT
from pricing.decision.stock import NOTHING, Sales
from pricing.decision.strategies import Policy
from pricing.demand.curve import DemandGrid
from pricing.demand.grades import CATEGORY, PRIOR_ONLY

DemandAt = Callable[[Floats], DemandGrid]
UNIDENTIFIED = 0.5  # confidence, at most, where nothing tells the elasticity
COST_WIDTH = 2.0  # standard deviations to either side of an assumed cost between which a price must not depend on it
RANGE_LEVEL = 0.10  # a price whose chance of earning at least as much as the one given is above this is in its range
LEVEL = 0.80  # of the interval of the expected gain
_CHOSEN = BIT["low_confidence"] | BIT["held"] | BIT["elasticity_unidentified"]  # how a price was chosen


class Choices(NamedTuple):
    """What was chosen for a batch; (request,) each where nothing else is said. Money in currency units.

    Confidence is the chance that a new price earns at least as much as the current one, or that the current one, where
    it is kept, earns at least as much as the move that was not made; as the regular price where none was wanted.
    """

    price: Floats
    confidence: Floats
    low: Floats  # lowest price not distinguishably worse
    high: Floats  # highest such price
    units: Floats  # expected sales of the requested period, no more than stock
    margin: Floats  # expected profit on them
    gain: Floats  # (3, request) profit until the next delivery over the current price's, and the ends of its interval
    kept: Bools  # whether the current price stands in for another, or no model may move it
    reasons: Ints  # bits
    source: Ints  # index into the demand's SOURCES
    best: Floats  # what cost and elasticity ask for with ample stock
    target: Floats  # the same as far as the step goes; where no elasticity is known, the regular price at most
    wanted: Floats  # the target with the stock that there is
    settled: Floats  # the price without a draw
    against: Floats  # the price that confidence compares it with
    prices: Floats  # (request, candidate) at which the objective was computed, ascending
    grid: DemandGrid  # at them

    def finite(self) -> Bools:
        """(request,) whether every figure is a number."""
        answer = self.price + self.confidence + self.low + self.high + self.units + self.margin + self.gain.sum(axis=0)
        return np.asarray(np.isfinite(answer) & np.isfinite(self.grid.first).all(axis=(-2, -1)))


def decide(context: PricingContext, demand_at: DemandAt, policy: Policy) -> Choices:
    """Chooses a price for every request of a batch.

    Where an experiment drew a factor, the price is chosen as if the one before the experiment were the current one;
    then it is multiplied by the factor, and the guardrails hold for the product.

    Args:
        context: What each request is priced under.
        demand_at: Demand at prices (request, candidate), each row ascending.
        policy: Strategies, guardrails and thresholds.
    """
    if context.test_base is None or context.test_draw is None:
        return _decide(context, demand_at, policy, asked=np.full(len(context), np.nan))
    drawn = np.isfinite(context.test_draw)
    before = replace(context, current_price=np.where(drawn, context.test_base, context.current_price))
    plain = _decide(before, demand_at, policy, asked=np.full(len(context), np.nan))
    factor = np.exp(np.where(drawn, context.test_draw, 0.0))
    asked = policy.allowed.towards(plain.price * factor, plain.price, policy.allowed.limits(before))
    tested = _decide(context, demand_at, policy, asked=np.where(drawn, asked, np.nan))
    return tested._replace(
        target=plain.target,
        wanted=plain.wanted,
        settled=plain.price,
        kept=np.where(drawn, plain.kept, tested.kept),
        reasons=tested.reasons | drawn * (BIT["price_test"] | plain.reasons & _CHOSEN),
    )


def _decide(context: PricingContext, demand_at: DemandAt, policy: Policy, *, asked: Floats) -> Choices:
    """As `decide`, without draws; `asked` is the price to charge where the guardrails allow it, NaN for the best."""
    prices = policy.allowed.candidates(context)
    grid = demand_at(prices)
    follows, rests = policy.follows(context), policy.rests_on_elasticity(context)
    blind = (grid.grade == PRIOR_ONLY) & rests
    with np.errstate(invalid="ignore"):
        wish = _wish(context, prices, grid, policy, blind=blind, rests=rests)
        given, limits = np.isfinite(asked), policy.allowed.limits(context)
        aims = context.current_price, np.where(given, asked, wish.wanted), context.anchor
        stay, moved, regular = (policy.allowed.nearest(aim, limits) for aim in aims)
        sold = _Sold(np.stack([stay, moved, regular], axis=1), context, demand_at, policy)
        moves, surely = moved != stay, given | follows | blind
        held = moves & ~surely & (sold.gain() + wish.tilt * np.log(moved / stay) <= policy.change_costs)
        away = np.abs(np.log(moved / context.anchor)) > np.abs(np.log(stay / context.anchor))
        right = calibrated(np.where(follows, 1.0, sold.chance(1, 0)), policy.config.calibration.get("moves", []))
        doubtful = moves & away & ~held & ~surely & (right < policy.config.confidence_threshold)
        keep = context.keep
        final = np.where(held | doubtful | (keep > 0), 0, 1)
        kept = calibrated(sold.chance(0, np.where(moves, 1, 2)), policy.config.calibration.get("kept", []))
        confidence = np.where(moves & (final == 1), right, kept)
        low, high = _range(wish.logs, sold, final, context=context, prices=prices, limits=limits, policy=policy)
        price, units = sold.price(final), sold.first(final)
    unseen = (price < context.seen_low * (1 - EDGE)) | (price > context.seen_high * (1 + EDGE))
    stays = price == policy.allowed.grid.nearest(context.current_price)
    chosen = np.where(doubtful, BIT["low_confidence"], stays * BIT["held"] * ~given)
    chosen = np.where(keep > 0, keep, chosen | (blind & ~given) * BIT["elasticity_unidentified"])
    return Choices(
        price=price,
        confidence=np.where(blind, np.minimum(confidence, UNIDENTIFIED), confidence),
        low=low,
        high=high,
        units=units,
        margin=units * unit_profit(price, context.unit_cost, tax_rate=context.tax_rate),
        gain=sold.profit_gain(final),
        kept=doubtful | (blind & ~given) | (keep > 0),
        reasons=policy.reasons(context)
        | chosen
        | (grid.grade == CATEGORY) * BIT["elasticity_from_category"]
        | unseen * BIT["outside_seen_prices"]
        | sold.runs_out(final) * BIT["stock_short"]
        | (context.stock <= 0) * BIT["no_stock"]
        | limits.reasons(price, stays=blind & stays),
        source=grid.source,
        best=wish.best,
        target=wish.target,
        wanted=wish.wanted,
        settled=price,
        against=sold.price(np.where(moves, 1 - final, 2)),
        prices=prices,
        grid=grid,
    )


class _Wish(NamedTuple):
    """What is asked for before the guardrails, (request,) each; `logs` are (request, node, candidate) log units."""

    best: Floats
    target: Floats
    wanted: Floats
    tilt: Floats
    logs: Floats


def _wish(
    context: PricingContext, prices: Floats, grid: DemandGrid, policy: Policy, *, blind: Bools, rests: Bools
) -> _Wish:
    """The target, a move as far as its elasticity is known; and the price wanted with the stock that there is.

    With s = `decision.step` × min(1, 2 × share of the prior variance that data removed), the target lies the part s of
    the way from the regular price to the best one, in logs. The objective is tilted by a power of the price so that
    with ample stock it peaks at the target, but not for what keeps the best price from lying lower; stock counts whole:
    the price wanted is where it peaks with the stock that there is.
    """
    log_price, anchor = np.log(prices), np.log(context.anchor)
    ample, sales = np.log(np.maximum(grid.until, NOTHING)), Sales(grid, context.supply)
    logs = np.log(np.maximum(sales.until, NOTHING)) if sales.until is not grid.until else ample
    follows, worth = policy.follows(context), policy.log_worth(context, prices, doubt=0.0)
    values = grid.weight @ ample
    step = np.where(rests, policy.config.step * np.minimum(1.0, 2.0 * grid.known), 1.0)
    best = np.where(follows, policy.followed(context), _best(values, context, prices, policy))
    target = np.exp(anchor + step * (np.log(best) - anchor))
    target = np.where(blind, np.minimum(context.current_price, context.anchor), target)
    at_best, at_target = (_slope(values + worth, log_price, at=np.log(price)) for price in (best, target))
    tilt = np.where(follows, 0.0, np.minimum(at_best, 0.0) - at_target)
    if logs is ample:
        return _Wish(best, target, target, tilt, logs)
    wanted = np.maximum(_peak(grid.weight @ logs + worth + tilt[:, None] * log_price, prices), target)
    short = sales.runs_out(np.abs(log_price - np.log(target)[:, None]).argmin(axis=1)) & ~follows
    return _Wish(best, target, np.where(short, wanted, target), tilt, logs)


def _best(units: Floats, context: PricingContext, prices: Floats, policy: Policy) -> Floats:
    """(request,) the price with the largest mean log objective, from mean log units (request, candidate).

    In logs, since a node's level then counts for nothing and doubt about the elasticity raises no price: expected
    profit itself is convex in the elasticity. An assumed cost is never learnt, and so no lottery: of the best prices at
    both ends of where it may lie, on one side of the regular price, the nearer one counts; on different sides, the
    regular price (Gilboa and Schmeidler 1989, doi:10.1016/0304-4068(89)90018-9).
    """
    ends = [_peak(units + worth, prices) for worth in _worths(context, prices, policy, width=COST_WIDTH)]
    best = np.clip(context.anchor, np.min(ends, axis=0), np.max(ends, axis=0))
    return np.where(context.cost_assumed & np.isfinite(context.seen_low), np.maximum(best, context.seen_low), best)


def _worths(context: PricingContext, prices: Floats, policy: Policy, *, width: float) -> list[Floats]:
    """(request, candidate) log worth of a unit, two of them `width` deviations to either side of an assumed cost."""
    doubts = (width, -width) if context.cost_sd.any() else (0.0,)
    return [policy.log_worth(context, prices, doubt=doubt) for doubt in doubts]


def _slope(values: Floats, log_price: Floats, *, at: Floats) -> Floats:
    """(request,) derivative of (request, candidate) values in log price, interpolated between the candidates."""
    step = log_price[:, 1] - log_price[:, 0]
    place = np.fmin(np.fmax((at - log_price[:, 0]) / step - 0.5, 0.0), values.shape[1] - 2.0)  # a place, even of NaN
    left = np.minimum(place.astype(np.intp), values.shape[1] - 3)
    rows = np.arange(len(values))
    slopes = np.diff(values, axis=1) / step[:, None]  # at the middle of each pair
    return np.asarray(slopes[rows, left] + (place - left) * (slopes[rows, left + 1] - slopes[rows, left]))


def _peak(values: Floats, prices: Floats) -> Floats:
    """(request,) where the parabola through the largest of (request, candidate) values and its neighbours peaks."""
    rows, last = np.arange(len(values)), values.shape[1] - 1
    at = values.argmax(axis=1)
    left, middle, right = (values[rows, np.clip(at + beside, 0, last)] for beside in (-1, 0, 1))
    bend = left - 2 * middle + right
    aside = np.where((at > 0) & (at < last) & (bend < 0), 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    return np.asarray(prices[rows, at] * (prices[:, 1] / prices[:, 0]) ** np.clip(aside, -0.5, 0.5))


class _Sold:
    """What sells at three prices a request, and how they compare; a column (request,) is a place among them."""

    def __init__(self, prices: Floats, context: PricingContext, demand_at: DemandAt, policy: Policy) -> None:
        """Asks for demand at prices (request, 3), in any order."""
        order = prices.argsort(axis=1)
        self._rows, self._place, self._context = np.arange(len(prices)), order.argsort(axis=1), context
        self._prices = np.take_along_axis(prices, order, axis=1)
        grid = demand_at(self._prices)
        self._sales, self.weight = Sales(grid, context.supply), grid.weight
        self._logs = np.log(np.maximum(self._sales.until, NOTHING))  # (request, node, place)
        self._sells = (grid.until > NOTHING).any(axis=(1, 2))
        self._likely, self._ends = (_worths(context, self._prices, policy, width=each) for each in (1.0, COST_WIDTH))

    def price(self, column: Ints) -> Floats:
        """(request,) the price in a column each."""
        return np.asarray(self._prices[self._rows, self._at(column)])

    def first(self, column: Ints) -> Floats:
        """(request,) expected sales of the requested period."""
        return np.minimum(self._sales.first(self._at(column)), self._context.stock)

    def runs_out(self, column: Ints) -> Bools:
        """(request,) whether stock is expected to cut sales short."""
        return self._sales.runs_out(self._at(column))

    def nodes(self, column: Ints | int) -> Floats:
        """(request, node) log units until the next delivery."""
        return np.asarray(self._logs[self._rows, :, self._at(column)])

    def worth(self, column: Ints) -> Floats:
        """(request,) log worth of a unit; where the cost is assumed, the mean of both sides of it."""
        return np.asarray(np.mean([worth[self._rows, self._at(column)] for worth in self._likely], axis=0))

    def gain(self) -> Floats:
        """(request,) mean log objective of the second column over the first; the worse where the cost is assumed."""
        gains = self._gains(1, 0, self._ends)
        return np.asarray(np.min([(gain * self.weight).sum(axis=1) for gain in gains], axis=0))

    def chance(self, one: Ints | int, other: Ints | int) -> Floats:
        """(request,) chance that one column earns at least as much as another."""
        gains = self._gains(one, other, self._likely)
        return np.asarray(np.mean([chance_at_least(gain, weight=self.weight) for gain in gains], axis=0))

    def _gains(self, one: Ints | int, other: Ints | int, worths: list[Floats]) -> list[Floats]:
        """(request, node) log objective of one column over another; none where nothing sells at any price."""
        rows, here, there = self._rows, self._at(one), self._at(other)
        ahead = self.nodes(one) - self.nodes(other)
        return [ahead + ((worth[rows, here] - worth[rows, there]) * self._sells)[:, None] for worth in worths]

    def profit_gain(self, column: Ints) -> Floats:
        """(3, request) as `Choices.gain` says."""
        cost, tax_rate = self._context.unit_cost[:, None], self._context.tax_rate[:, None]
        profit = self._sales.until * unit_profit(self._prices, cost, tax_rate=tax_rate)[:, None, :]
        more = profit[self._rows, :, self._at(column)] - profit[self._rows, :, self._at(0)]  # (request, node)
        more *= (self._context.stock > 0)[:, None]
        mean = (more * self.weight).sum(axis=1)
        reach = deviation_at((1 - LEVEL) / 2) * np.sqrt((((more - mean[:, None]) ** 2) * self.weight).sum(axis=1))
        return np.stack([mean, mean - reach, mean + reach])

    def _at(self, column: Ints | int) -> Ints:
        return np.asarray(self._place[self._rows, column])


def _range(
    logs: Floats, sold: _Sold, final: Ints, *, context: PricingContext, prices: Floats, limits: Limits, policy: Policy
) -> tuple[Floats, Floats]:
    """(request,) lowest and highest candidate whose chance of earning as much as the price given passes RANGE_LEVEL."""
    ahead = logs - sold.nodes(final)[:, :, None]
    mean = sold.weight @ ahead
    spread = np.sqrt(np.maximum(sold.weight @ (ahead * ahead) - mean * mean, 0.0))
    mean += np.mean(_worths(context, prices, policy, width=1.0), axis=0) - sold.worth(final)[:, None]
    inside = mean + deviation_at(RANGE_LEVEL) * spread >= -1e-9
    inside &= limits.holds(prices.T).T
    rows, given, last = np.arange(len(prices)), sold.price(final), prices.shape[1] - 1
    ends = prices[rows, inside.argmax(axis=1)], prices[rows, last - inside[:, ::-1].argmax(axis=1)]
    low, high = (np.where(inside.any(axis=1), policy.allowed.nearest(end, limits), given) for end in ends)
    return np.minimum(low, given), np.maximum(high, given)
