"""The decision itself: demand at the candidates in, the best allowed price out. Pure columns, no request, no clock."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.decision.candidates import Candidates, Lattice
from pricing.decision.circumstances import Circumstances
from pricing.decision.confidence import CERTAIN, calibrated, chance_at_least, deviation_at, relative_gain
from pricing.decision.reasons import AT, BIT
from pricing.decision.stock import Shelf
from pricing.decision.strategies import Strategy, Worth, make_strategies
from pricing.demand.curve import CATEGORY, DemandGrid
from pricing.sections import DecisionConfig

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Ask = Callable[[Floats], DemandGrid]
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

    def worth(self, these: Circumstances, prices: Floats) -> Worth:
        """What each candidate is worth under each request's own strategy."""
        weight = self.config.target_weight
        first = self._kinds[int(these.strategy[0])]
        if len(these) == 1 or (these.strategy == these.strategy[0]).all():
            return first.worth(these, prices, target_weight=weight)
        per_unit, fixed = np.empty_like(prices), np.empty_like(prices)
        reasons = np.empty(len(prices), dtype=np.int64)
        for number in np.unique(these.strategy):
            rows = np.flatnonzero(these.strategy == number)
            part = self._kinds[number].worth(these.take(rows), prices[rows], target_weight=weight)
            per_unit[rows], fixed[rows], reasons[rows] = part.per_unit, part.fixed, part.reasons
        return Worth(per_unit, fixed, reasons)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen for a batch. Money in currency units, units over the requested period.

    Attributes:
        price: (request,) the price to charge.
        confidence: (request,) chance that it earns at least as much as keeping the current price, or for a held price
            as moving one step either way.
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

    Args:
        these: What each request is priced under.
        ask: Demand at prices (request, candidate), each row ascending; called once.
        policy: Strategies, guardrails and thresholds.
    """
    field = policy.lattice.candidates(these, anchor=policy.anchor(these))
    grid = ask(field.prices)
    shelf = Shelf(grid, np.where(these.stock > 0, these.stock, np.inf))
    worth = policy.worth(these, field.prices)
    line = _Line(shelf.until, worth, np.arange(len(these)))

    best = _best(line, field, weight=grid.weight, min_gain=policy.config.min_gain)
    young = grid.source == CATEGORY
    if policy.config.category_list_trust and young.any():
        best = np.where(young, _towards_list(best, these, field, trust=policy.config.category_list_trust), best)
    if these.keep is not None:
        best = np.where(these.keep, field.nearest, best)
    held = best == field.current
    confidence = _confidence(line, best, field=field, held=held, policy=policy, weight=grid.weight)
    doubtful = confidence < policy.config.confidence_threshold
    kept = np.where(doubtful, BIT["low_confidence"], held * BIT["held"])
    if these.keep is not None:
        doubtful, kept = doubtful | these.keep, np.where(these.keep, BIT["holdout"], kept)
    final = np.where(doubtful, field.nearest, best)
    price = field.prices[line.rows, final]
    low, high = _range(line, best, final, field=field, weight=grid.weight, deviation=policy.range_deviation)

    units = np.minimum(shelf.first(line.rows, final) @ grid.weight, these.stock)
    sold, wanted = shelf.until[line.rows, :, final] @ grid.weight, grid.until[line.rows, :, final] @ grid.weight
    limit = field.limits
    reasons = (
        worth.reasons
        | limit.gave_way
        | kept
        | (sold < SHORT * wanted) * BIT["stock_short"]
        | (these.stock <= 0) * BIT["no_stock"]
        | (price <= limit.low) * AT[limit.low_by]
        | (price >= limit.high) * AT[limit.high_by]
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


class _Line:
    """The objective, a line in units sold, looked up by node and candidate."""

    def __init__(self, sold: Floats, worth: Worth, rows: Ints) -> None:
        self.sold, self.worth, self.rows = sold, worth, rows

    def at(self, column: Ints) -> Floats:
        """(…, request, node) the objective at the columns (…, request)."""
        value: Floats = self.sold[self.rows, :, column] * self.worth.per_unit[self.rows, column][..., None]
        if isinstance(self.worth.fixed, float):
            return value
        return value + self.worth.fixed[self.rows, column][..., None]

    def everywhere(self) -> Floats:
        """(request, node, candidate) the objective."""
        value: Floats = self.sold * self.worth.per_unit[:, None, :]
        if not isinstance(self.worth.fixed, float):
            value += self.worth.fixed[:, None, :]
        return value


def _best(line: _Line, field: Candidates, *, weight: Floats, min_gain: float) -> Ints:
    """(request,) the allowed candidate of the highest expected objective; the nearest one where it gains too little."""
    worth, rows = line.worth, line.rows
    objective = (weight @ line.sold) * worth.per_unit + worth.fixed  # (request, candidate)
    if not field.all_allowed:
        here = objective[rows, field.current]
        objective[rows, field.current] = np.where(field.allowed, here, -np.inf)
    best = objective.argmax(axis=1)
    most = objective[rows, best]
    hold = most - objective[rows, field.nearest] <= min_gain * np.abs(most)
    return np.where(hold, field.nearest, best)


def _towards_list(best: Ints, these: Circumstances, field: Candidates, *, trust: float) -> Ints:
    """(request,) the allowed candidate nearest to the best one drawn towards list price; a price that is kept stays."""
    rows = np.arange(len(best))
    away = np.log(field.prices / these.list_price[:, None])
    distance = np.abs(away - (1 - trust) * away[rows, best][:, None])
    here = distance[rows, field.current]
    distance[rows, field.current] = np.where(field.allowed, here, np.inf)
    return np.where(best == field.nearest, best, distance.argmin(axis=1))


def _confidence(line: _Line, best: Ints, *, field: Candidates, held: Bools, policy: Policy, weight: Floats) -> Floats:
    """(request,) as Choices.confidence says."""
    calibration, prices, rows = policy.config.calibration, field.prices, line.rows
    against = field.current[None]
    if held.any():
        here = prices[rows, field.current]
        step = 1 + policy.config.hold_step
        above = (prices < (here * step)[:, None]).sum(axis=1)
        below = (prices <= (here / step)[:, None]).sum(axis=1) - 1
        against = np.array([field.current, np.minimum(above, prices.shape[1] - 1), np.maximum(below, 0)])
    chance = chance_at_least(relative_gain(line.at(best), line.at(against)), weight=weight)  # (against, request)
    moves = calibrated(chance[0], calibration.moves)
    if len(against) == 1:
        return moves
    beside = np.where(prices[rows, against[1:]] == here, 1.0, chance[1:])  # where a guardrail leaves no neighbour
    raw = np.maximum(beside.sum(axis=0) - 1.0, 0.0)
    holds = np.where(raw > CERTAIN, 1.0, calibrated(raw, calibration.holds))
    return np.where(held, holds, moves)


def _range(
    line: _Line, best: Ints, final: Ints, *, field: Candidates, weight: Floats, deviation: float
) -> tuple[Floats, Floats]:
    """(request,) lowest and highest candidate whose chance of earning as much as the best exceeds the range level."""
    value, rows = line.everywhere(), line.rows
    reference = value[rows, :, best]  # (request, node)
    value -= reference[:, :, None]
    scale = 1 / (np.abs(reference) + 1e-12)
    mean = ((weight * scale)[:, None, :] @ value)[:, 0]  # (request, candidate)
    value *= value
    square = ((weight * scale * scale)[:, None, :] @ value)[:, 0]
    spread = np.sqrt(np.maximum(square - mean * mean, 0.0))
    inside = mean + deviation * spread >= -1e-9
    if not field.all_allowed:
        inside[rows, field.current] &= field.allowed
    inside[rows, final] = True
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return field.prices[rows, inside.argmax(axis=1)], field.prices[rows, last]
