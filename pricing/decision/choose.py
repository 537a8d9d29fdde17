"""The decision itself: demand at the candidates in, the best allowed price out. No request, no clock.

It is written once, for a batch and for a single request; see `context.Operations`. Shapes are those of a batch; for a
single request they lack the axis of requests.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from pricing.arrays import Bools, Floats
from pricing.data.net_price import unit_profit
from pricing.decision.confidence import (
    CERTAIN,
    NO_STEP,
    calibrated,
    chance_at_least,
    relative_gain,
)
from pricing.decision.context import Context, Flag, Number, Operations, PricingContext, Whole
from pricing.decision.guardrails import EDGE
from pricing.decision.price_grid import CandidatePrices
from pricing.decision.reasons import BIT
from pricing.decision.stock import NOTHING, BatchSales, Sales
from pricing.decision.strategies import Objective, Policy, objective_of
from pricing.demand.curve import Curve, DemandGrid
from pricing.demand.grades import CATEGORY as FROM_CATEGORY
from pricing.demand.grades import PRIOR_ONLY

DemandAt = Callable[[Floats], DemandGrid]
DemandT = TypeVar("DemandT", bound=DemandGrid | Curve)
_CHOSEN = BIT["low_confidence"] | BIT["held"] | BIT["elasticity_unidentified"]  # how a price was chosen
UNIDENTIFIED = 0.5  # confidence, at most, where nothing tells the elasticity


class Decided(NamedTuple):
    """Which candidate was chosen.

    Attributes:
        column: (request,) of the price to charge.
        confidence: As in `Choices`, and likewise `low`, `high`, `doubtful` and `held`.
        stays: (request,) whether it is the current price since nothing tells the elasticity, rather than by a limit.
        reasons: (request,) reason bits of how it was chosen.
    """

    column: Whole
    confidence: Number
    low: Number
    high: Number
    doubtful: Flag
    held: Flag
    stays: Flag
    reasons: Whole


class Choices(NamedTuple, Generic[DemandT]):
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
        held: (request,) whether the best price is the current one.
        reasons: (request,) reason bits.
        source: (request,) index into the demand's SOURCES.
        candidates: The candidate prices.
        grid: Demand at them.
    """

    price: Number
    confidence: Number
    low: Number
    high: Number
    units: Number
    margin: Number
    doubtful: Flag
    held: Flag
    reasons: Whole
    source: Whole
    candidates: CandidatePrices
    grid: DemandT

    def finite(self) -> Flag:
        """(request,) whether every figure is a number."""
        answer = self.price + self.confidence + self.low + self.high + self.units + self.margin
        return np.isfinite(answer) & np.isfinite(self.grid.first).all(axis=(-2, -1))


def choose(context: PricingContext, demand_at: DemandAt, policy: Policy) -> Choices[DemandGrid]:
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


def _choose(
    context: PricingContext, demand_at: DemandAt, policy: Policy, *, wanted: Floats | None = None
) -> Choices[DemandGrid]:
    """As `choose`, without draws; `wanted` is the price to charge where the guardrails allow it, NaN for the best."""
    anchor = policy.anchor(context)
    if wanted is not None:
        anchor = wanted if anchor is None else np.where(np.isfinite(wanted), wanted, anchor)
    candidates = policy.candidate_grid.candidates(context, anchor=anchor)
    grid = demand_at(candidates.prices)
    sales = BatchSales(grid, context.stock)
    worth, rests = policy.worth(context, candidates.prices), policy.rests_on_elasticity(context)
    objective = objective_of(context, candidates, worth, rests_on_elasticity=rests)
    with np.errstate(invalid="ignore"):
        decided = decide(context, candidates, objective, grid, sales, policy, keep=context.keep, wanted=wanted)
        return figures(context, candidates, grid, sales, decided)


def decide(
    context: Context,
    candidates: CandidatePrices,
    objective: Objective,
    demand: DemandT,
    sales: Sales,
    policy: Policy,
    *,
    keep: Whole | None = None,
    wanted: Floats | None = None,
) -> Decided:
    """Chooses among the candidates of a batch, or of a single request.

    Args:
        context: What each request is priced under.
        candidates: Its candidates.
        objective: What they are judged by.
        demand: At the candidates.
        sales: What is expected of it with the stock there is.
        policy: Strategies, guardrails and thresholds.
        keep: (request,) as in `PricingContext`.
        wanted: (request,) a price to charge where the guardrails allow it, NaN for the best; of a batch only.
    """
    operations = context.operations
    where, current, kept = operations.where, candidates.current, None if keep is None else keep > 0
    gains = _gains(sales, objective, operations)
    best = _best(gains, candidates, policy, operations)
    unknown = (demand.grade == PRIOR_ONLY) & objective.rests_on_elasticity
    if operations.any(unknown):
        best = where(unknown, _unidentified(best, context, candidates, sales), best)
    if kept is not None:
        best = where(kept, candidates.nearest, best)
    if wanted is not None:
        best, unknown = _wanted(wanted, best, candidates, operations), unknown & np.isnan(wanted)
    held = best == current
    confidence = _confidence(gains, best, held, candidates, policy, operations)
    doubtful = (confidence < policy.config.confidence_threshold) & operations.negate(unknown)
    reasons = where(doubtful, BIT["low_confidence"], held * BIT["held"])
    final = where(doubtful, candidates.nearest, best)
    if wanted is not None:
        asked = np.isfinite(wanted)
        final, reasons, doubtful = np.where(asked, best, final), np.where(asked, 0, reasons), doubtful & ~asked
    reasons, doubtful = reasons | unknown * BIT["elasticity_unidentified"], doubtful | unknown
    if kept is not None:
        final = where(kept, candidates.nearest, final)
        doubtful, reasons = doubtful | kept, where(kept, keep, reasons)
    if operations.any(final != best):  # then it must speak of the price that is charged
        confidence = _confidence(gains, final, final == current, candidates, policy, operations)
    low, high = _range(gains, best, final, candidates, operations, deviation=policy.range_deviation)
    return Decided(
        column=final,
        confidence=where(unknown, operations.minimum(confidence, UNIDENTIFIED), confidence),
        low=low,
        high=high,
        doubtful=doubtful,
        held=held,
        stays=unknown & (final == current),
        reasons=objective.reasons | reasons,
    )


def figures(
    context: Context, candidates: CandidatePrices, demand: DemandT, sales: Sales, decided: Decided
) -> Choices[DemandT]:
    """The figures and reasons of what `decide` chose.

    Args:
        context: What each request is priced under.
        candidates: Its candidates.
        demand: At the candidates.
        sales: What is expected of it with the stock there is.
        decided: What was chosen among them.
    """
    operations, column = context.operations, decided.column
    price = operations.at(candidates.prices, column)
    units = operations.minimum(sales.first(column), sales.stock)
    unseen = (price < context.seen_low * (1 - EDGE)) | (price > context.seen_high * (1 + EDGE))
    return Choices(
        price=price,
        confidence=decided.confidence,
        low=decided.low,
        high=decided.high,
        units=units,
        margin=units * unit_profit(price, context.unit_cost, tax_rate=context.tax_rate),
        doubtful=decided.doubtful,
        held=decided.held,
        reasons=decided.reasons
        | (demand.grade == FROM_CATEGORY) * BIT["elasticity_from_category"]
        | unseen * BIT["outside_seen_prices"]
        | sales.runs_out(column) * BIT["stock_short"]
        | (sales.stock <= 0) * BIT["no_stock"]
        | candidates.limits.reasons(price, stays=decided.stays, operations=operations),
        source=demand.source,
        candidates=candidates,
        grid=demand,
    )


class _Gains(NamedTuple):
    """Half the log of each candidate's objective over that of the price nearest list, in two parts that add up.

    In logs, since a node's level then counts for nothing and doubt about the elasticity raises no price: expected
    profit itself is convex in the elasticity, so that it grows with what is not known.

    Attributes:
        nodes: (request, node, candidate) what depends on demand.
        mean: (request, candidate) its mean.
        worst: As `Objective`; nothing where nothing sells at any price.
        likely: Likewise.
        weight: (node,) probabilities.
    """

    nodes: Floats
    mean: Floats
    worst: tuple[Floats, ...]
    likely: tuple[Floats, ...]
    weight: Floats


def _gains(sales: Sales, objective: Objective, operations: Operations) -> _Gains:
    worst, likely, weight = objective.worst, objective.likely, sales.weight
    nodes = sales.logs()
    nodes *= 0.5
    if isinstance(sales, BatchSales):
        dead = np.asarray(sales.until.max(axis=(1, 2)) <= NOTHING)  # where nothing sells no price gains anything
        if objective.fixed is not None:
            dead |= _count_fixed_worth(nodes, sales, *objective.fixed)
        if dead.any():
            worst, likely = (tuple(part * ~dead[:, None] for part in parts) for parts in (worst, likely))
    nodes -= operations.nodes_at(nodes, objective.home)[..., None]
    return _Gains(nodes, weight @ nodes, worst, likely, weight)


def _count_fixed_worth(nodes: Floats, sales: BatchSales, fixed: Floats, per_unit: Floats) -> Bools:
    """Makes `nodes` gains in worth where the price itself is worth something, of which there may be no log.

    Returns:
        (request,) where that is so.
    """
    other = np.asarray(fixed.any(axis=1))
    value = (sales.until * per_unit[:, None, :] + fixed[:, None, :])[other]
    best = (sales.weight @ value).argmax(axis=1)
    nodes[other] = relative_gain(value, value[np.arange(len(best)), :, best][..., None])
    return other


def _best(gains: _Gains, candidates: CandidatePrices, policy: Policy, operations: Operations) -> Whole:
    """(request,) the allowed candidate that gains most; the nearest one where that is less than a change costs.

    A price counts by the conditional value at risk of its gain over list price, taken as normal (Rockafellar and
    Uryasev 2000, doi:10.21314/JOR.2000.038): the mean of the worse part of what it may gain, so that a move is the
    smaller the less is known. An assumed cost is never learnt and so no lottery: of the two ends of where it may lie
    the worse counts (Gilboa and Schmeidler 1989, doi:10.1016/0304-4068(89)90018-9).
    """
    score = gains.weight @ (gains.nodes * gains.nodes)  # (request, candidate)
    score -= gains.mean * gains.mean
    np.maximum(score, 0.0, out=score)
    np.sqrt(score, out=score)
    score *= -policy.caution
    score += gains.mean
    score += gains.worst[0] if len(gains.worst) == 1 else np.minimum(*gains.worst)
    if not candidates.all_allowed:
        operations.put(score, candidates.current, operations.negate(candidates.allowed), -np.inf)
    at, nearest = operations.at, candidates.nearest
    best = operations.argmax(score)
    by_cost = [at(costs, best) - at(costs, nearest) for costs in gains.worst]
    gain = at(gains.mean, best) - at(gains.mean, nearest)
    gain = gain + (by_cost[0] if len(by_cost) == 1 else operations.minimum(*by_cost))
    return operations.where(2 * gain <= policy.change_costs, nearest, best)


def _unidentified(best: Whole, context: Context, candidates: CandidatePrices, sales: Sales) -> Whole:
    """(request,) what is charged where nothing tells the elasticity: the price stays, but rises where stock runs out.

    What stays is the current price, or list price where the current one lies above it, as after a shortage.
    """
    operations = context.operations
    stay = _nearest_to(operations.minimum(context.current_price, context.list_price), candidates, operations)
    return operations.where(sales.runs_out(stay), operations.maximum(best, stay), stay)


def _wanted(wanted: Floats, best: Whole, candidates: CandidatePrices, operations: Operations) -> Whole:
    """(request,) the allowed candidate nearest to a price that is asked for; `best` where none is."""
    asked = np.isfinite(wanted)
    return np.where(asked, _nearest_to(np.where(asked, wanted, 1.0), candidates, operations), best)


def _nearest_to(price: Number, candidates: CandidatePrices, operations: Operations) -> Whole:
    """(request,) the allowed candidate nearest to a price."""
    distance = np.abs(np.log(candidates.prices / operations.column(price)))
    operations.put(distance, candidates.current, operations.negate(candidates.allowed), np.inf)
    return operations.argmin(distance)


def _confidence(
    gains: _Gains, best: Whole, held: Flag, candidates: CandidatePrices, policy: Policy, operations: Operations
) -> Number:
    """(request,) as Choices.confidence says, of the candidate `best`; `held` where that is the current price."""
    calibration, prices, at = policy.config.calibration, candidates.prices, operations.at
    moves: Number = 0.0
    if not operations.all(held):
        moves = calibrated(_chance(gains, best, candidates.current, operations), calibration.moves)
    if not operations.any(held):
        return moves
    here, step = at(prices, candidates.current), 1 + policy.config.hold_step
    above = operations.minimum(operations.rank(prices, here * step, "left"), prices.shape[-1] - 1)
    below = operations.maximum(operations.rank(prices, here / step, "right") - 1, 0)
    beside = -1.0
    for neighbour in (above, below):
        no_step = abs(at(prices, neighbour) / here - 1.0) < NO_STEP  # where a guardrail leaves no neighbour
        beside = beside + operations.where(no_step, 1.0, _chance(gains, best, neighbour, operations))
    raw = operations.maximum(beside, 0.0)
    holds = operations.where(raw > CERTAIN, 1.0, calibrated(raw, calibration.holds))
    return operations.where(held, holds, moves)


def _chance(gains: _Gains, one: Whole, other: Whole, operations: Operations) -> Number:
    """(request,) the chance that one candidate earns at least as much as another."""
    at, nodes_at = operations.at, operations.nodes_at
    ahead = nodes_at(gains.nodes, one) - nodes_at(gains.nodes, other)  # (request, node)
    chances = [
        chance_at_least(ahead + operations.column(at(costs, one) - at(costs, other)), weight=gains.weight)
        for costs in gains.likely
    ]
    return sum(chances) / len(chances)


def _range(
    gains: _Gains,
    best: Whole,
    final: Whole,
    candidates: CandidatePrices,
    operations: Operations,
    *,
    deviation: float,
) -> tuple[Number, Number]:
    """(request,) lowest and highest candidate whose chance of earning as much as the best exceeds the range level."""
    column, at, put = operations.column, operations.at, operations.put
    ahead = gains.nodes - operations.nodes_at(gains.nodes, best)[..., None]
    ahead *= ahead
    mean = gains.mean - column(at(gains.mean, best))  # (request, candidate)
    upper = gains.weight @ ahead
    upper -= mean * mean
    np.maximum(upper, 0.0, out=upper)
    by_cost = [costs - column(at(costs, best)) for costs in gains.likely]
    if len(by_cost) > 1:
        upper += (0.5 * (by_cost[0] - by_cost[1])) ** 2
        by_cost = [0.5 * (by_cost[0] + by_cost[1])]
    np.sqrt(upper, out=upper)
    upper *= deviation
    upper += mean
    upper += by_cost[0]
    inside = upper >= -1e-9
    if not candidates.all_allowed:
        put(inside, candidates.current, operations.negate(candidates.allowed), False)
    put(inside, final, final >= 0, True)
    last = inside.shape[-1] - 1 - operations.argmax(inside[..., ::-1])
    return at(candidates.prices, operations.argmax(inside)), at(candidates.prices, last)
