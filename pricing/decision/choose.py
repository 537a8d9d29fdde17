"""The decision itself: demand at the candidates in, the best allowed price out. Pure columns, no request, no clock."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DecisionConfig
from pricing.decision.candidates import EDGE, Candidates, Lattice
from pricing.decision.confidence import (
    CERTAIN,
    NO_STEP,
    calibrated,
    chance_at_least,
    deviation_at,
    relative_gain,
    shortfall,
)
from pricing.decision.context import Circumstances
from pricing.decision.reasons import AT, BIT
from pricing.decision.stock import Shelf
from pricing.decision.strategies import Strategy, Worth, make_strategies
from pricing.demand.curve import DemandGrid
from pricing.demand.grades import CATEGORY as FROM_CATEGORY
from pricing.demand.grades import PRIOR_ONLY

Ask = Callable[[Floats], DemandGrid]
NOTHING = 1e-30  # an objective of which there is no log
_CHOSEN = BIT["low_confidence"] | BIT["held"] | BIT["elasticity_unidentified"]  # how a price was chosen
COST_WIDTH = 2.0  # standard deviations to either side of an assumed cost that a price must stand
UNIDENTIFIED = 0.5  # confidence, at most, where nothing tells the elasticity
SHORT = 0.98  # expected sales below this fraction of expected demand mean that stock is short


class Policy:
    """A decision configuration made ready: strategies built, candidate lattice laid out. Made once, used for ever."""

    def __init__(self, config: DecisionConfig) -> None:
        """Prepares `config`.

        Raises:
            ConfigError: A strategy's kind or parameter is unknown.
        """
        self.config = config
        self.strategies = make_strategies(config.strategies)
        self.names = tuple(self.strategies)
        self.number = {name: place for place, name in enumerate(self.names)}
        self.lattice = Lattice(config)
        self.range_deviation = deviation_at(config.range_level)
        self.caution = shortfall(config.cvar_level)
        self.change_costs = float(np.log1p(config.menu_cost))
        self.days = tuple(strategy.days for strategy in self.strategies.values())
        self._kinds: tuple[Strategy, ...] = tuple(self.strategies.values())
        self._anchored = [n for n, kind in enumerate(self._kinds) if type(kind).anchor is not Strategy.anchor]

    def anchor(self, these: Circumstances) -> Floats | None:
        """(request,) the price that a strategy wants to see among the candidates; None where no one wants any."""
        anchors: Floats | None = None
        for number in self._anchored:
            if number in these.strategy:
                rest = np.nan if anchors is None else anchors
                anchors = np.where(these.strategy == number, self._kinds[number].anchor(these), rest)
        return anchors

    def rests_on_elasticity(self, these: Circumstances) -> Bools:
        """(request,) whether the direction of a move depends on how demand answers to price."""
        rests = np.empty(len(these), dtype=np.bool_)
        for number in np.unique(these.strategy):
            rows = these.strategy == number
            rests[rows] = self._kinds[number].rests_on_elasticity(these.take(np.flatnonzero(rows)))
        return rests

    def worth(self, these: Circumstances, prices: Floats) -> Worth:
        """What each candidate is worth under each request's own strategy."""
        weight = self.config.target_weight
        first = self._kinds[int(these.strategy[0])]
        if len(these) == 1 or (these.strategy == these.strategy[0]).all():
            return first.worth(these, prices, target_weight=weight)
        per_unit, fixed = np.empty_like(prices), np.empty_like(prices)
        kept = np.empty(len(prices))
        reasons = np.empty(len(prices), dtype=np.int64)
        for number in np.unique(these.strategy):
            rows = np.flatnonzero(these.strategy == number)
            part = self._kinds[number].worth(these.take(rows), prices[rows], target_weight=weight)
            per_unit[rows], fixed[rows], reasons[rows] = part.per_unit, part.fixed, part.reasons
            kept[rows] = part.kept
        return Worth(per_unit, fixed, reasons, kept)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for a batch. Money in currency units, units over the requested period.

    Attributes:
        price: (request,) the price to charge.
        confidence: (request,) chance that it earns at least as much as keeping the current price, or for a held price
            as moving one step either way, as far as the guardrails allow one.
        low: (request,) lowest price not distinguishably worse.
        high: (request,) highest price not distinguishably worse.
        units: (request,) expected sales, no more than stock.
        margin: (request,) expected profit on them.
        doubtful: (request,) whether the current price was kept: the confidence fell below the threshold, or the product
            is held out.
        held: (request,) whether the best price is the current one.
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
    held: Bools
    reasons: Ints
    source: NDArray[np.integer]
    candidates: Candidates
    grid: DemandGrid

    def finite(self) -> Bools:
        """(request,) whether every figure is a number."""
        answer = self.price + self.confidence + self.low + self.high + self.units + self.margin
        return np.isfinite(answer) & np.isfinite(self.grid.first).all(axis=(1, 2))


def choose(these: Circumstances, ask: Ask, policy: Policy) -> Choices:
    """Chooses a price for every request of a batch.

    Where a price test drew a factor, the price is chosen as if the test's base price were the current one, so that
    draws do not add up; then it is multiplied by the factor, and the guardrails hold for the product.

    Args:
        these: What each request is priced under.
        ask: Demand at prices (request, candidate), each row ascending; called once, with price tests twice.
        policy: Strategies, guardrails and thresholds.
    """
    if these.test_base is None or these.test_draw is None:
        return _choose(these, ask, policy)
    drawn = np.isfinite(these.test_draw)
    current = np.where(drawn, these.test_base, these.current_price)
    plain = _choose(replace(these, current_price=current, current_known=these.current_known | drawn), ask, policy)
    wanted = policy.lattice.towards(plain.price * np.exp(np.where(drawn, these.test_draw, 0.0)), plain.price)
    tested = _choose(these, ask, policy, wanted=np.where(drawn, wanted, np.nan))
    return replace(
        tested,
        doubtful=np.where(drawn, plain.doubtful, tested.doubtful),
        reasons=tested.reasons | drawn * (BIT["price_test"] | plain.reasons & _CHOSEN),
    )


def _choose(these: Circumstances, ask: Ask, policy: Policy, *, wanted: Floats | None = None) -> Choices:
    """As `choose`, without draws; `wanted` is the price to charge where the guardrails allow it, NaN for the best."""
    anchor = policy.anchor(these)
    if wanted is not None:
        anchor = wanted if anchor is None else np.where(np.isfinite(wanted), wanted, anchor)
    field = policy.lattice.candidates(these, anchor=anchor)
    grid = ask(field.prices)
    shelf = Shelf(grid, np.where(these.stock > 0, these.stock, np.inf))
    worth = policy.worth(these, field.prices)
    gains = _gains(shelf.until, worth, these, field, weight=grid.weight)

    best = _best(gains, field, weight=grid.weight, policy=policy)
    unknown = (grid.grade == PRIOR_ONLY) & policy.rests_on_elasticity(these)
    if unknown.any():
        best = np.where(unknown, _unidentified(best, these, field, shelf=shelf, grid=grid), best)
    if these.keep is not None:
        best = np.where(these.keep, field.nearest, best)
    if wanted is not None:
        best, unknown = _wanted(wanted, best, field), unknown & np.isnan(wanted)
    held = best == field.current
    confidence = _confidence(gains, best, field=field, held=held, policy=policy, weight=grid.weight)
    doubtful = (confidence < policy.config.confidence_threshold) & ~unknown
    kept = np.where(doubtful, BIT["low_confidence"], held * BIT["held"])
    final = np.where(doubtful, field.nearest, best)
    if wanted is not None:
        asked = np.isfinite(wanted)
        final, kept, doubtful = np.where(asked, best, final), np.where(asked, 0, kept), doubtful & ~asked
    kept, doubtful = kept | unknown * BIT["elasticity_unidentified"], doubtful | unknown
    if these.keep is not None:
        final = np.where(these.keep, field.nearest, final)
        doubtful, kept = doubtful | these.keep, np.where(these.keep, BIT["holdout"], kept)
    confidence = np.where(unknown, np.minimum(confidence, UNIDENTIFIED), confidence)
    stays = unknown & (final == field.current)  # by no limit
    rows = np.arange(len(these))
    price = field.prices[rows, final]
    low, high = _range(gains, best, final, field=field, weight=grid.weight, deviation=policy.range_deviation)

    units = np.minimum(shelf.first(rows, final) @ grid.weight, these.stock)
    sold, wanted = shelf.until[rows, :, final] @ grid.weight, grid.until[rows, :, final] @ grid.weight
    limit = field.limits
    with np.errstate(invalid="ignore"):
        unseen = (price < these.seen_low * (1 - EDGE)) | (price > these.seen_high * (1 + EDGE))
    reasons = (
        worth.reasons
        | limit.gave_way
        | kept
        | (grid.grade == FROM_CATEGORY) * BIT["elasticity_from_category"]
        | unseen * BIT["outside_seen_prices"]
        | (sold < SHORT * wanted) * BIT["stock_short"]
        | (these.stock <= 0) * BIT["no_stock"]
        | ((price <= limit.low) & ~stays) * AT[limit.low_by]
        | ((price >= limit.high) & ~stays) * AT[limit.high_by]
    )
    return Choices(
        price=price,
        confidence=confidence,
        low=low,
        high=high,
        units=units,
        margin=units * (price - these.unit_cost),
        doubtful=doubtful,
        held=held,
        reasons=reasons,
        source=grid.source,
        candidates=field,
        grid=grid,
    )


@dataclass(frozen=True, slots=True)
class _Gains:
    """Half the log of each candidate's objective over that of the price nearest list, in two parts that add up.

    In logs, since a node's level then counts for nothing and doubt about the elasticity raises no price: expected
    profit itself is convex in the elasticity, so that it grows with what is not known.

    Attributes:
        nodes: (request, node, candidate) what depends on demand.
        worst: (1 or 2, request, candidate) what depends on the cost, at the ends of where an assumed one may lie.
        likely: (1 or 2, request, candidate) the same, a standard deviation to either side.
    """

    nodes: Floats
    worst: Floats
    likely: Floats


def _gains(sold: Floats, worth: Worth, these: Circumstances, field: Candidates, *, weight: Floats) -> _Gains:
    rows = np.arange(len(sold))
    nodes: Floats = 0.5 * np.log(np.maximum(sold, NOTHING))
    steps = np.array([1.0, -1.0])[:, None] * (worth.kept * these.cost_sd) if these.cost_sd.any() else np.zeros((1, 1))
    by_cost = [
        0.5 * np.log(np.maximum(worth.per_unit - width * steps[:, :, None], NOTHING)) for width in (COST_WIDTH, 1.0)
    ]
    dead = sold.max(axis=(1, 2)) <= NOTHING  # where nothing sells no price gains anything
    if not isinstance(worth.fixed, float):
        other = worth.fixed.any(axis=1)  # the price itself is worth something, of which there may be no log
        value = (sold * worth.per_unit[:, None, :] + worth.fixed[:, None, :])[other]
        best = (weight @ value).argmax(axis=1)
        nodes[other] = relative_gain(value, value[rows[: len(best)], :, best][..., None])
        dead = dead | other
    home = np.abs(np.log(field.prices / these.list_price[:, None])).argmin(axis=1)
    nodes -= nodes[rows, :, home][..., None]
    worst, likely = ((part - part[:, rows, home][..., None]) * ~dead[:, None] for part in by_cost)
    return _Gains(nodes, worst, likely)


def _best(gains: _Gains, field: Candidates, *, weight: Floats, policy: Policy) -> Ints:
    """(request,) the allowed candidate that gains most; the nearest one where that is less than a change costs.

    A price counts by the conditional value at risk of its gain over list price, taken as normal (Rockafellar and
    Uryasev 2000, doi:10.21314/JOR.2000.038): the mean of the worse part of what it may gain, so that a move is the
    smaller the less is known. An assumed cost is never learnt and so no lottery: of the two ends of where it may lie
    the worse counts (Gilboa and Schmeidler 1989, doi:10.1016/0304-4068(89)90018-9).
    """
    rows = np.arange(len(gains.nodes))
    mean = weight @ gains.nodes  # (request, candidate)
    spread = np.sqrt(np.maximum(weight @ (gains.nodes * gains.nodes) - mean * mean, 0.0))
    score = mean - policy.caution * spread + gains.worst.min(axis=0)
    if not field.all_allowed:
        here = score[rows, field.current]
        score[rows, field.current] = np.where(field.allowed, here, -np.inf)
    best: Ints = score.argmax(axis=1)
    moved = gains.worst[:, rows, best] - gains.worst[:, rows, field.nearest]
    gain = mean[rows, best] - mean[rows, field.nearest] + moved.min(axis=0)
    return np.where(2 * gain <= policy.change_costs, field.nearest, best)


def _unidentified(best: Ints, these: Circumstances, field: Candidates, *, shelf: Shelf, grid: DemandGrid) -> Ints:
    """(request,) what is charged where nothing tells the elasticity: the price stays, but rises where stock runs out.

    What stays is the current price, or list price where the current one lies above it, as after a shortage.
    """
    rows = np.arange(len(best))
    stays = np.minimum(these.current_price, these.list_price)
    distance = np.abs(np.log(field.prices / stays[:, None]))
    here = distance[rows, field.current]
    distance[rows, field.current] = np.where(field.allowed, here, np.inf)
    stay: Ints = distance.argmin(axis=1)
    sold, wanted = shelf.until[rows, :, stay] @ grid.weight, grid.until[rows, :, stay] @ grid.weight
    return np.asarray(np.where(sold < SHORT * wanted, np.maximum(best, stay), stay))


def _wanted(wanted: Floats, best: Ints, field: Candidates) -> Ints:
    """(request,) the allowed candidate nearest to a price that is asked for; `best` where none is."""
    rows = np.arange(len(best))
    distance = np.abs(np.log(field.prices / np.where(np.isfinite(wanted), wanted, 1.0)[:, None]))
    here = distance[rows, field.current]
    distance[rows, field.current] = np.where(field.allowed, here, np.inf)
    return np.where(np.isfinite(wanted), distance.argmin(axis=1), best)


def _confidence(gains: _Gains, best: Ints, *, field: Candidates, held: Bools, policy: Policy, weight: Floats) -> Floats:
    """(request,) as Choices.confidence says."""
    calibration, prices, rows = policy.config.calibration, field.prices, np.arange(len(best))
    against = field.current[None]
    if held.any():
        here = prices[rows, field.current]
        step = 1 + policy.config.hold_step
        above = (prices < (here * step)[:, None]).sum(axis=1)
        below = (prices <= (here / step)[:, None]).sum(axis=1) - 1
        against = np.array([field.current, np.minimum(above, prices.shape[1] - 1), np.maximum(below, 0)])
    ahead = gains.nodes[rows, :, best] - gains.nodes[rows, :, against]  # (against, request, node)
    cheaper = gains.likely[:, rows, best][:, None] - gains.likely[:, rows, against]  # (cost, against, request)
    chance = chance_at_least(ahead + cheaper[..., None], weight=weight).mean(axis=0)  # (against, request)
    moves = calibrated(chance[0], calibration.moves)
    if len(against) == 1:
        return moves
    no_step = np.abs(prices[rows, against[1:]] / here - 1.0) < NO_STEP  # where a guardrail leaves no neighbour
    beside = np.where(no_step, 1.0, chance[1:])
    raw = np.maximum(beside.sum(axis=0) - 1.0, 0.0)
    holds = np.where(raw > CERTAIN, 1.0, calibrated(raw, calibration.holds))
    return np.where(held, holds, moves)


def _range(
    gains: _Gains, best: Ints, final: Ints, *, field: Candidates, weight: Floats, deviation: float
) -> tuple[Floats, Floats]:
    """(request,) lowest and highest candidate whose chance of earning as much as the best exceeds the range level."""
    rows = np.arange(len(best))
    ahead = gains.nodes - gains.nodes[rows, :, best][..., None]
    cheaper = gains.likely - gains.likely[:, rows, best][..., None]
    mean = weight @ ahead  # (request, candidate)
    ahead *= ahead
    variance = np.maximum(weight @ ahead - mean * mean, 0.0) + cheaper.var(axis=0)
    inside = mean + cheaper.mean(axis=0) + deviation * np.sqrt(variance) >= -1e-9
    if not field.all_allowed:
        inside[rows, field.current] &= field.allowed
    inside[rows, final] = True
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return field.prices[rows, inside.argmax(axis=1)], field.prices[rows, last]
