"""The decision itself: demand in, an allowed price out. No request, no clock; docs/develop/demand.md has the equations.

Profit of a price p, net of tax, with S units at hand is p · sold + kept_value · cost · (S − sold), less what S cost:
linear in `sold`. Under margin and clearance `kept_value` is configured; revenue counts no cost. Match follows a price.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DecisionConfig
from pricing.data.net_price import margin_of, net_price, unit_profit
from pricing.decision.allowed_prices import AllowedPrices
from pricing.decision.confidence import MOVE, REGULAR, STAY, UNIDENTIFIED, Compared, LogWorth, calibrated
from pricing.decision.limits import EDGE, Limits, PricingContext, flagged, forgone
from pricing.decision.reasons import BIT
from pricing.decision.stock import NOTHING, Sales
from pricing.demand.curve import DemandAt, DemandGrid
from pricing.demand.grades import CATEGORY, PRIOR_ONLY, TESTED

# Standard deviations by which an assumed cost is lower than it is taken for: none; those over which the worth of a unit
# is averaged; and those between which a price must not depend on it.
DOUBTS = np.array([[0.0], [1.0], [-1.0], [2.0], [-2.0]])
LOSS = 1e3  # log units a loss of a whole price counts for: more than units sold can make up for
DEEPEST = 5.0  # log units below its best from which on the objective's slope is taken for none: at cost it has no end
TARGET_WEIGHT = 2.0  # how strongly a target margin draws
_CHOSEN = (
    BIT["field_test"] | BIT["low_confidence"] | BIT["held"] | BIT["elasticity_unidentified"]
)  # how a price was chosen


class Policy:
    """A decision configuration made ready: its strategies and its allowed prices. Made once for a version."""

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None, frozen: bool = False) -> None:
        """Prepares `config`; `largest_jump` and `frozen` are those of `AllowedPrices`."""
        strategies = config.strategies.values()
        self.config = config
        self.names = tuple(config.strategies)
        self.number = {name: place for place, name in enumerate(self.names)}
        self.days = tuple(strategy.days for strategy in strategies)
        self.allowed = AllowedPrices(config, largest_jump=largest_jump, frozen=frozen)
        self.change_costs = float(np.log1p(config.menu_cost))
        # Target ratio to the competitor's price; NaN where a strategy maximises worth.
        self.ratio = np.array([getattr(strategy, "ratio", np.nan) for strategy in strategies])
        # By how much the worth of a unit sold falls per unit of its cost: revenue counts none, a followed price all.
        self._kept = np.array([getattr(each, "kept_value", float(each.kind == "match")) for each in strategies])
        self._is = {
            kind: np.array([strategy.kind == kind for strategy in strategies])
            for kind in ("margin", "revenue", "clearance", "match")
        }

    def is_kind(self, kind: str, context: PricingContext) -> Bools:
        """(request,) whether its strategy is of a kind: margin, revenue, clearance or match."""
        return self._is[kind].take(context.strategy)

    def log_worth(self, context: PricingContext, diverted: Floats | float) -> LogWorth:
        """Prepares the log of what a unit sold is worth: of prices (request, price), (doubt, request, price).

        A unit sold forgoes what the category's other products earn by one that is not: of the share `diverted`
        (request,) of its regular price their margin, or all where revenue is maximised. The worth of a loss is below
        the log of every profit. Of DOUBTS only the first counts where no cost is assumed.
        """
        doubts = DOUBTS if context.cost_sd.any() else DOUBTS[:1]
        cost = (context.unit_cost - doubts * context.cost_sd)[:, :, None]
        kept = self._kept.take(context.strategy)[:, None] * cost
        margin = np.where(self.is_kind("revenue", context), 1.0, context.others_margin)
        lost = forgone(context, diverted, margin=margin)[:, None]
        tax_rate = context.tax_rate[:, None]
        target: Floats | None = None
        if context.target_margin is not None:
            target = np.where(self.is_kind("margin", context), context.target_margin, np.nan)[:, None]

        def at(prices: Floats) -> Floats:
            worth = unit_profit(prices, kept, tax_rate=tax_rate) - lost
            if target is not None:
                # A gap g between the margin and its category's target costs TARGET_WEIGHT · g² of revenue.
                gap = margin_of(prices, cost, tax_rate=tax_rate) - target
                penalty = TARGET_WEIGHT * gap * gap * net_price(prices, tax_rate)
                worth = worth - np.where(np.isnan(gap), 0.0, penalty)
            return np.asarray(np.log(np.maximum(worth, NOTHING)) + LOSS * np.minimum(worth, 0.0) / prices)

        return at


class Choices(NamedTuple):
    """The choices for a batch; (request,) each where no other shape is given. Money in currency units.

    Confidence is the chance that a new price earns at least as much as the current one, or that the current one, where
    it is kept, does as the move that was not made; as the regular price where none was wanted.
    """

    price: Floats
    confidence: Floats
    low: Floats  # lowest price not distinguishably worse
    high: Floats  # highest such price
    units: Floats  # expected sales of the requested period, no more than stock
    margin: Floats  # expected profit on them
    gain: Floats  # (3, request) profit until the next delivery over the current price's, and the ends of its interval
    worst: Floats  # profit until the next delivery over the regular price's, if history misleads; NaN where unknown
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

    A factor that an experiment drew multiplies the price that is chosen from the one before the experiment. The largest
    move holds for that price alone, all other guardrails for the product as well: where one leaves no room for the
    largest factor to either side, nothing is drawn, so that what was drawn does not depend on where prices are. Nor is
    it where the price before the draw waits for approval.
    """
    if context.test_base is None or context.test_draw is None or context.test_size is None:
        return _decide(context, demand_at, policy)
    drawn = np.isfinite(context.test_draw)
    before = replace(context, current_price=np.where(drawn, context.test_base, context.current_price))
    plain = _decide(before, demand_at, policy)
    limit = policy.allowed.without_moves(context)
    moved = plain.price * np.exp(np.where(drawn, context.test_draw, 0.0))
    factor = np.exp(np.where(drawn, context.test_size, 0.0))
    beyond = np.inf if policy.config.approve_beyond is None else policy.config.approve_beyond
    approved = np.abs(plain.price / before.current_price - 1) <= beyond + EDGE  # else people approve it without a draw
    whole = drawn & approved & policy.allowed.has_room(context, plain.price, factor=factor)
    asked = np.where(whole, policy.allowed.towards(moved, plain.price, limit), plain.price)
    asking = replace(
        context,
        current_price=np.where(whole, context.current_price, before.current_price),
        current_known=context.current_known & ~whole,
    )
    tested = _decide(asking, demand_at, policy, asked=np.where(drawn, asked, np.nan))
    return tested._replace(
        target=plain.target,
        wanted=plain.wanted,
        settled=plain.price,
        worst=np.where(drawn & ~whole, plain.worst, tested.worst),
        kept=np.where(drawn, plain.kept, tested.kept),
        reasons=tested.reasons | whole * BIT["price_test"] | drawn * (plain.reasons & _CHOSEN),
    )


def _decide(
    context: PricingContext, demand_at: DemandAt, policy: Policy, *, asked: Floats | float = math.nan
) -> Choices:
    """Decides without draws; `asked` is the price to charge where the guardrails allow it, NaN for the best."""
    prices = policy.allowed.candidates(context)
    grid = demand_at(prices)
    log_worth = policy.log_worth(context, grid.diverted)
    worth = log_worth(prices)
    followed = np.asarray(context.comp_price * policy.ratio.take(context.strategy))
    follows = np.isfinite(followed)
    given = np.isfinite(asked)

    with np.errstate(invalid="ignore"):
        wish = _wish(context, prices, grid, policy, worth=worth, followed=followed)
        limits = policy.allowed.limits(context)
        aims = np.array([context.current_price, np.where(given, asked, wish.wanted), context.anchor])
        sold = Compared(policy.allowed.nearest(aims, limits), context, demand_at, log_worth)
        moves = sold.prices[MOVE] != sold.prices[STAY]

        gain = sold.gain(MOVE, over=STAY)
        gains = np.array([gain, np.where(moves[:, None], -gain, sold.gain(STAY, over=REGULAR))])
        chance_of_move, chance_of_stay = sold.chances(gains)
        right = calibrated(np.where(follows, 1.0, chance_of_move), slope=policy.config.confidence_slope)

        surely = given | follows | wish.blind
        tilted = wish.tilt * (sold.log_prices[MOVE] - sold.log_prices[STAY])
        held = moves & ~surely & (sold.least(gains[0]) + tilted <= policy.change_costs)
        distance = np.abs(sold.log_prices - np.log(context.anchor))
        away = distance[MOVE] > distance[STAY]
        unsure = right < policy.config.confidence_threshold
        doubtful = moves & away & ~held & ~surely & unsure
        keep = context.keep > 0
        rests = ~(follows | given | policy.is_kind("clearance", context) | (grid.grade == TESTED))  # on history
        at_worst = [sold.worst_case(np.full(len(context), place), grid.steepest) for place in (STAY, MOVE)]
        loses = moves & away & rests & (at_worst[MOVE] < 0) & (at_worst[MOVE] <= at_worst[STAY])
        losing = loses & (policy.config.field_test == "hold")
        final = np.where(held | doubtful | losing | keep, STAY, MOVE)
        told = rests & (policy.config.field_test != "off")
        worst = np.where(told, np.where(final == MOVE, at_worst[MOVE], at_worst[STAY]), np.nan)

        right_to_stay = calibrated(chance_of_stay, slope=policy.config.confidence_slope)
        confidence = np.where(moves & (final == MOVE), right, right_to_stay)
        price = sold.price(final)
        units = np.minimum(sold.sales.first(final), context.stock)
        as_good = sold.as_good(wish.logs, worth, place=final) & limits.holds(prices.T).T
        low, high = _range(prices, as_good, price, allowed=policy.allowed, limits=limits)

    unseen = (price < context.seen_low * (1 - EDGE)) | (price > context.seen_high * (1 + EDGE))
    stays = price == policy.allowed.grid.nearest(context.current_price)
    unidentified = wish.blind & ~given
    reasons = flagged(
        low_confidence=doubtful & ~keep,
        field_test=told & loses & (losing | (final == MOVE)) & ~keep,
        held=stays & ~(doubtful | losing | keep | given),
        elasticity_unidentified=unidentified & ~keep,
        elasticity_from_category=grid.grade == CATEGORY,
        outside_seen_prices=unseen,
        stock_short=sold.sales.runs_out(final),
        no_stock=context.stock <= 0,
        no_comp_price=policy.is_kind("match", context) & ~follows,
    )
    return Choices(
        price=price,
        confidence=np.where(wish.blind, np.minimum(confidence, UNIDENTIFIED), confidence),
        low=low,
        high=high,
        units=units,
        margin=units * unit_profit(price, context.unit_cost, tax_rate=context.tax_rate),
        gain=sold.profit_gain(final),
        worst=worst,
        kept=doubtful | losing | unidentified | keep,
        reasons=context.keep | limits.reasons(price, stays=wish.blind & stays) | reasons,
        source=grid.source,
        best=wish.best,
        target=wish.target,
        wanted=wish.wanted,
        settled=price,
        against=sold.price(np.where(moves, 1 - final, REGULAR)),
        prices=prices,
        grid=grid,
    )


class _Wish(NamedTuple):
    """The price asked for before the guardrails, (request,) each; `logs` are (request, node, candidate) log units."""

    best: Floats
    target: Floats
    wanted: Floats
    tilt: Floats
    logs: Floats
    blind: Bools  # whether too little is known of its elasticity to move it by that


def _wish(
    context: PricingContext, prices: Floats, grid: DemandGrid, policy: Policy, *, worth: Floats, followed: Floats
) -> _Wish:
    """The target, a move as far as its elasticity is known; and the price wanted with the stock that there is.

    With s = `decision.step` × min(1, 2 × share of the prior variance that data removed), the target lies the part s of
    the way from the regular price to the best one, in logs. The objective is tilted by a power of the price so that
    with ample stock it peaks at the target, but not for what keeps the best price from lying lower; stock counts whole.
    """
    follows = np.isfinite(followed)
    rests = ~(follows | policy.is_kind("clearance", context))  # on the elasticity: clearance always cuts
    blind = (grid.grade == PRIOR_ONLY) & rests
    ample = np.log(np.maximum(grid.until, NOTHING))
    values = grid.weight @ ample
    best = np.where(follows, followed, _best(values, context, prices, worth))

    # A smooth step, measured from the regular price: measured from the last one, a nightly step is none. # decision 173
    log_best = np.log(best)
    log_anchor = np.log(context.anchor)
    step = np.where(rests, policy.config.step * np.minimum(1.0, 2.0 * grid.known), 1.0)
    target = np.exp(log_anchor + step * (log_best - log_anchor))
    target = np.where(blind, np.minimum(context.current_price, context.anchor), target)

    log_price = np.log(prices)
    log_target = np.log(target)
    objective = values + worth[0]
    objective = np.maximum(objective, objective.max(axis=1, keepdims=True) - DEEPEST)
    at_best, at_target = _slope(objective, log_price, at=np.array([log_best, log_target]))
    tilt = np.where(follows | (target <= prices[:, 0]), 0.0, np.minimum(at_best, 0.0) - at_target)
    wish = _Wish(best=best, target=target, wanted=target, tilt=tilt, logs=ample, blind=blind)
    sales = Sales(grid, context.supply)
    if sales.until is grid.until:
        return wish

    logs = np.log(np.maximum(sales.until, NOTHING))
    peak = _peak(grid.weight @ logs + worth[0] + tilt[:, None] * log_price, prices)
    short = sales.runs_out(np.abs(log_price - log_target[:, None]).argmin(axis=1)) & ~follows
    return wish._replace(wanted=np.where(short, np.maximum(peak, target), target), logs=logs)


def _best(units: Floats, context: PricingContext, prices: Floats, worth: Floats) -> Floats:
    """(request,) the price with the largest mean log objective, from mean log units (request, candidate).

    In logs doubt about the elasticity raises no price: expected profit itself is convex in the elasticity. An assumed
    cost is never learnt, and so no lottery: of the best prices at both ends of where it may lie, on one side of the
    regular price, the nearer one counts; on different sides, the regular price (Gilboa and Schmeidler 1989,
    doi:10.1016/0304-4068(89)90018-9).
    """
    ends = _peak(units + worth[-2:], prices)
    best: Floats = np.minimum(np.maximum(context.anchor, ends.min(axis=0)), ends.max(axis=0))
    return np.where(context.cost_assumed, np.fmax(best, context.seen_low), best)


def _slope(values: Floats, log_price: Floats, *, at: Floats) -> Floats:
    """(…, request) derivative of (request, candidate) values in log price, interpolated at log prices (…, request)."""
    step = log_price[:, 1] - log_price[:, 0]
    last = values.shape[1] - 3
    place = np.fmin(np.fmax((at - log_price[:, 0]) / step - 0.5, 0.0), last + 1.0)  # a place, even of NaN
    left = np.minimum(place.astype(np.intp), last)
    rows = np.arange(len(values))
    before, middle, after = (values[rows, left + ahead] for ahead in range(3))
    slope = (middle - before) / step
    return np.asarray(slope + (place - left) * ((after - middle) / step - slope))


def _peak(values: Floats, prices: Floats) -> Floats:
    """(…, request) the top of the parabola through the largest of (…, request, candidate) values and its neighbours."""
    count, width = prices.shape
    at = values.argmax(axis=-1)
    inner = np.minimum(np.maximum(at, 1), width - 2)
    place = inner + np.arange(0, values.size, width).reshape(at.shape)
    left, middle, right = (values.take(place + beside) for beside in (-1, 0, 1))
    bend = left - 2 * middle + right
    aside = np.where((at == inner) & (bend < 0), 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    aside = np.minimum(np.maximum(aside, -0.5), 0.5)
    return np.asarray(prices[np.arange(count), at] * (prices[:, 1] / prices[:, 0]) ** aside)


def _range(
    prices: Floats, as_good: Bools, price: Floats, *, allowed: AllowedPrices, limits: Limits
) -> tuple[Floats, Floats]:
    """(request,) the allowed prices nearest to the lowest and highest candidate that is as good as the price given.

    They reach to that price, and are it where no candidate is as good.
    """
    rows = np.arange(len(prices))
    last = prices.shape[1] - 1
    ends = prices[rows, [as_good.argmax(axis=1), last - as_good[:, ::-1].argmax(axis=1)]]
    low, high = np.where(as_good.any(axis=1), allowed.nearest(ends, limits), price)
    return np.minimum(low, price), np.maximum(high, price)
