"""The decision itself: demand at the candidates in, the best allowed price out. No request, no clock."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import unit_profit
from pricing.decision.confidence import CERTAIN, NO_STEP, calibrated, chance_at_least, relative_gain
from pricing.decision.context import PricingContext
from pricing.decision.guardrails import EDGE
from pricing.decision.price_grid import CandidatePrices
from pricing.decision.reasons import BIT
from pricing.decision.stock import NOTHING, Sales
from pricing.decision.strategies import Objective, Policy
from pricing.demand.curve import DemandGrid
from pricing.demand.grades import CATEGORY as FROM_CATEGORY
from pricing.demand.grades import PRIOR_ONLY

DemandAt = Callable[[Floats], DemandGrid]
_CHOSEN = BIT["low_confidence"] | BIT["held"] | BIT["elasticity_unidentified"]  # how a price was chosen
UNIDENTIFIED = 0.5  # confidence, at most, where nothing tells the elasticity
COST_WIDTH = 2.0  # standard deviations to either side of an assumed cost that a price must stand


class Choices(NamedTuple):
    """What was chosen for a batch. Money in currency units, units over the requested period.

    Attributes:
        price: (request,) the price to charge.
        confidence: (request,) chance that it earns at least as much as keeping the current price, or where it is the
            current price, as moving one step either way, as far as the guardrails allow one.
        low: (request,) lowest price not distinguishably worse.
        high: (request,) highest price not distinguishably worse.
        units: (request,) expected sales, no more than stock.
        margin: (request,) expected profit on them.
        doubtful: (request,) whether the current price was kept: the confidence of the best one fell below the
            threshold, or `PricingContext.keep` says so.
        reasons: (request,) reason bits.
        source: (request,) index into the demand's SOURCES.
        candidates: The candidate prices.
        grid: Demand at them.
    """

    price: Floats
    confidence: Floats
    low: Floats
    high: Floats
    units: Floats
    margin: Floats
    doubtful: Bools
    reasons: Ints
    source: Ints
    candidates: CandidatePrices
    grid: DemandGrid

    def finite(self) -> Bools:
        """(request,) whether every figure is a number."""
        answer = self.price + self.confidence + self.low + self.high + self.units + self.margin
        return np.isfinite(answer) & np.isfinite(self.grid.first).all(axis=(-2, -1))


def choose(context: PricingContext, demand_at: DemandAt, policy: Policy) -> Choices:
    """Chooses a price for every request of a batch.

    Where a price test drew a factor, the price is chosen as if the test's base price were the current one, so that
    draws do not add up; then it is multiplied by the factor, and the guardrails hold for the product.

    Args:
        context: What each request is priced under.
        demand_at: Demand at prices (request, candidate), each row ascending; called once, with price tests twice.
        policy: Strategies, guardrails and thresholds.
    """
    if context.test_base is None or context.test_draw is None:
        return _choose(context, demand_at, policy)
    drawn = np.isfinite(context.test_draw)
    current = np.where(drawn, context.test_base, context.current_price)
    untested = replace(context, current_price=current, current_known=context.current_known | drawn)
    plain = _choose(untested, demand_at, policy)
    factor = np.exp(np.where(drawn, context.test_draw, 0.0))
    wanted = policy.candidate_grid.towards(plain.price * factor, plain.price, limit=plain.candidates.limits)
    tested = _choose(context, demand_at, policy, wanted=np.where(drawn, wanted, np.nan))
    return tested._replace(
        doubtful=np.where(drawn, plain.doubtful, tested.doubtful),
        reasons=tested.reasons | drawn * (BIT["price_test"] | plain.reasons & _CHOSEN),
    )


def _choose(context: PricingContext, demand_at: DemandAt, policy: Policy, *, wanted: Floats | None = None) -> Choices:
    """As `choose`, without draws; `wanted` is the price to charge where the guardrails allow it, NaN for the best."""
    wanted = np.full(len(context), np.nan) if wanted is None else wanted
    kept = np.zeros(len(context), np.int64) if context.keep is None else context.keep
    anchor = np.where(np.isnan(wanted), policy.followed(context), wanted)
    candidates = policy.candidate_grid.candidates(context, anchor=anchor)
    grid = demand_at(candidates.prices)
    sales = Sales(grid, context.stock)
    objective = policy.objective(context, candidates.prices)
    with np.errstate(invalid="ignore"):
        gains = _gains(sales, objective, context, candidates.prices)
        best = _best(gains, candidates, policy)
        unknown = (grid.grade == PRIOR_ONLY) & objective.rests_on_elasticity
        if unknown.any():
            best = np.where(unknown, _unidentified(best, context, candidates, sales), best)
        best = np.where(kept > 0, candidates.nearest, best)
        asked = np.isfinite(wanted)
        if asked.any():
            best = np.where(asked, _nearest_to(np.where(asked, wanted, 1.0), candidates), best)
        unknown &= ~asked
        held = best == candidates.current
        confidence = _confidence(gains, best, candidates, policy)
        doubtful = (confidence < policy.config.confidence_threshold) & ~unknown & ~asked
        reasons = np.where(doubtful, BIT["low_confidence"], held * BIT["held"] * ~asked)
        reasons |= unknown * BIT["elasticity_unidentified"]
        final = np.where(doubtful | (kept > 0), candidates.nearest, best)
        reasons = np.where(kept > 0, kept, reasons)
        if (final != best).any():  # then it must speak of the price that is charged
            confidence = _confidence(gains, final, candidates, policy)
        low, high = _range(gains, best, final, candidates, deviation=policy.range_deviation)
        price = candidates.at(final)
        units = np.minimum(sales.first(final), sales.stock)
    unseen = (price < context.seen_low * (1 - EDGE)) | (price > context.seen_high * (1 + EDGE))
    return Choices(
        price=price,
        confidence=np.where(unknown, np.minimum(confidence, UNIDENTIFIED), confidence),
        low=low,
        high=high,
        units=units,
        margin=units * unit_profit(price, context.unit_cost, tax_rate=context.tax_rate),
        doubtful=doubtful | unknown | (kept > 0),
        reasons=objective.reasons
        | reasons
        | (grid.grade == FROM_CATEGORY) * BIT["elasticity_from_category"]
        | unseen * BIT["outside_seen_prices"]
        | sales.runs_out(final) * BIT["stock_short"]
        | (sales.stock <= 0) * BIT["no_stock"]
        | candidates.limits.reasons(price, stays=unknown & (final == candidates.current)),
        source=grid.source,
        candidates=candidates,
        grid=grid,
    )


class _Gains(NamedTuple):
    """Half the log of each candidate's objective over that of the price nearest list, in two parts that add up.

    In logs, since a node's level then counts for nothing and doubt about the elasticity raises no price: expected
    profit itself is convex in the elasticity, so that it grows with what is not known.

    Attributes:
        nodes: (request, node, candidate) what depends on demand.
        mean: (request, candidate) its mean.
        worst: One or two of (request, candidate), the part of a unit's worth: where the cost is assumed, at the ends of
            where it may lie. Nothing where nothing sells at any price, or the price itself is worth something.
        likely: The same, a standard deviation to either side.
        weight: (node,) probabilities.
    """

    nodes: Floats
    mean: Floats
    worst: tuple[Floats, ...]
    likely: tuple[Floats, ...]
    weight: Floats


def _at(values: Floats, column: Ints) -> Floats:
    """(request,) the entry of (request, candidate) values in a column each."""
    return np.asarray(values[np.arange(len(column)), column])


def _nodes_at(nodes: Floats, column: Ints) -> Floats:
    """(request, node) the entries of (request, node, candidate) values in a column each."""
    return np.asarray(nodes[np.arange(len(column)), :, column])


def _gains(sales: Sales, objective: Objective, context: PricingContext, prices: Floats) -> _Gains:
    home = np.abs(np.log(prices / context.list_price[:, None])).argmin(axis=1)
    nodes = np.log(np.maximum(sales.until, NOTHING))
    nodes *= 0.5
    other = objective.fixed.any(axis=1)
    if other.any():  # gains in worth where the price itself is worth something, of which there may be no log
        value = (sales.until * objective.per_unit[:, None, :] + objective.fixed[:, None, :])[other]
        best = (sales.weight @ value).argmax(axis=1)
        nodes[other] = relative_gain(value, _nodes_at(value, best)[..., None])
    nodes -= _nodes_at(nodes, home)[:, :, None]
    still = other | (sales.until.max(axis=(1, 2)) <= NOTHING)  # where nothing sells no price gains anything

    def of_worth(doubt: Floats | float) -> Floats:
        half = np.log(np.maximum(objective.per_unit - doubt, NOTHING))
        return np.asarray((half - _at(half, home)[:, None]) * 0.5 * ~still[:, None])

    doubt = (objective.kept * context.cost_sd)[:, None]
    widths = (COST_WIDTH, 1.0)
    if context.cost_sd.any():
        worst, likely = (tuple(of_worth(side * width * doubt) for side in (1.0, -1.0)) for width in widths)
    else:
        worst = likely = (of_worth(0.0),)
    return _Gains(nodes, sales.weight @ nodes, worst, likely, sales.weight)


def _best(gains: _Gains, candidates: CandidatePrices, policy: Policy) -> Ints:
    """(request,) the allowed candidate that gains most; the nearest one where that is less than a change costs.

    A price counts by the conditional value at risk of its gain over list price, taken as normal (Rockafellar and
    Uryasev 2000, doi:10.21314/JOR.2000.038): the mean of the worse part of what it may gain, so that a move is the
    smaller the less is known. An assumed cost is never learnt and so no lottery: of the two ends of where it may lie
    the worse counts (Gilboa and Schmeidler 1989, doi:10.1016/0304-4068(89)90018-9).
    """
    score = gains.weight @ (gains.nodes * gains.nodes)  # (request, candidate)
    score -= gains.mean * gains.mean
    score = gains.mean - policy.caution * np.sqrt(np.maximum(score, 0.0))
    score += gains.worst[0] if len(gains.worst) == 1 else np.minimum(*gains.worst)
    candidates.put_forbidden(score, -np.inf)
    best, nearest = score.argmax(axis=1), candidates.nearest
    by_cost = [_at(costs, best) - _at(costs, nearest) for costs in gains.worst]
    gain = _at(gains.mean, best) - _at(gains.mean, nearest) + np.min(by_cost, axis=0)
    return np.where(2 * gain <= policy.change_costs, nearest, best)


def _unidentified(best: Ints, context: PricingContext, candidates: CandidatePrices, sales: Sales) -> Ints:
    """(request,) what is charged where nothing tells the elasticity: the price stays, but rises where stock runs out.

    What stays is the current price, or list price where the current one lies above it, as after a shortage.
    """
    stay = _nearest_to(np.minimum(context.current_price, context.list_price), candidates)
    return np.where(sales.runs_out(stay), np.maximum(best, stay), stay)


def _nearest_to(price: Floats, candidates: CandidatePrices) -> Ints:
    """(request,) the allowed candidate nearest to a price."""
    distance = np.abs(np.log(candidates.prices / price[:, None]))
    candidates.put_forbidden(distance, np.inf)
    return np.asarray(distance.argmin(axis=1))


def _confidence(gains: _Gains, best: Ints, candidates: CandidatePrices, policy: Policy) -> Floats:
    """(request,) as Choices.confidence says, of the candidate `best`."""
    calibration, prices = policy.config.calibration, candidates.prices
    held = best == candidates.current
    moves = calibrated(_chance(gains, best, candidates.current), calibration.moves)
    if not held.any():
        return moves
    here, step = candidates.at(candidates.current), 1 + policy.config.hold_step
    above = np.minimum((prices < (here * step)[:, None]).sum(axis=1), prices.shape[1] - 1)
    below = np.maximum((prices <= (here / step)[:, None]).sum(axis=1) - 1, 0)
    beside = np.full(len(here), -1.0)
    for neighbour in (above, below):
        no_step = np.abs(candidates.at(neighbour) / here - 1.0) < NO_STEP  # where a guardrail leaves no neighbour
        beside += np.where(no_step, 1.0, _chance(gains, best, neighbour))
    raw = np.maximum(beside, 0.0)
    return np.where(held, np.where(raw > CERTAIN, 1.0, calibrated(raw, calibration.holds)), moves)


def _chance(gains: _Gains, one: Ints, other: Ints) -> Floats:
    """(request,) the chance that one candidate earns at least as much as another."""
    ahead = _nodes_at(gains.nodes, one) - _nodes_at(gains.nodes, other)  # (request, node)
    chances = [
        chance_at_least(ahead + (_at(costs, one) - _at(costs, other))[:, None], weight=gains.weight)
        for costs in gains.likely
    ]
    return np.asarray(sum(chances) / len(chances))


def _range(
    gains: _Gains, best: Ints, final: Ints, candidates: CandidatePrices, *, deviation: float
) -> tuple[Floats, Floats]:
    """(request,) lowest and highest candidate whose chance of earning as much as the best exceeds the range level."""
    ahead = gains.nodes - _nodes_at(gains.nodes, best)[:, :, None]
    mean = gains.mean - _at(gains.mean, best)[:, None]  # (request, candidate)
    spread = np.maximum(gains.weight @ (ahead * ahead) - mean * mean, 0.0)
    one, *other = (costs - _at(costs, best)[:, None] for costs in gains.likely)
    if other:
        spread += (0.5 * (one - other[0])) ** 2
        one = 0.5 * (one + other[0])
    inside = mean + one + deviation * np.sqrt(spread) >= -1e-9
    candidates.put_forbidden(inside, False)
    inside[np.arange(len(final)), final] = True
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return candidates.at(inside.argmax(axis=1)), candidates.at(last)
