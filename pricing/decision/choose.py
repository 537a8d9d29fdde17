"""The decision itself: demand at the candidates in, the best allowed price out. Pure columns, no request, no clock."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.config import DecisionConfig
from pricing.decision.candidates import NEAR, Candidates, Lattice
from pricing.decision.circumstances import Circumstances
from pricing.decision.confidence import calibrated, chance_at_least, deviation_at, relative_gain
from pricing.decision.reasons import AT, BIT
from pricing.decision.stock import expected_sales, sales_over_nodes
from pricing.decision.strategies import Strategy, Worth, make_strategies
from pricing.demand.curve import DemandGrid

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

    def worth(self, these: Circumstances, prices: Floats) -> Worth:
        """What each candidate is worth under each request's own strategy."""
        weight = self.config.target_weight
        first = int(these.strategy[0])
        if (these.strategy == first).all():
            return self._kinds[first].worth(these, prices, target_weight=weight)
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
        doubtful: (request,) whether the confidence fell below the threshold, so that the current price was kept.
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


def choose(these: Circumstances, ask: Ask, policy: Policy) -> Choices:
    """Chooses a price for every request of a batch.

    Args:
        these: What each request is priced under.
        ask: Demand at prices (request, candidate), each row ascending; called once.
        policy: Strategies, guardrails and thresholds.
    """
    config = policy.config
    field = policy.lattice.candidates(these)
    prices = field.prices
    grid = ask(prices)
    stock = np.where(these.stock > 0, these.stock, np.nan)
    sold = sales_over_nodes(grid.until, size=grid.until_size, stock=stock)
    worth = policy.worth(these, prices)
    rows = np.arange(len(prices))

    objective = (grid.weight @ sold) * worth.per_unit + worth.fixed  # (request, candidate)
    current_worth = objective[rows, field.current]
    if not field.allowed.all():
        objective[rows, field.current] = np.where(field.allowed, current_worth, -np.inf)
    best = objective.argmax(axis=1)
    best_worth = objective[rows, best]
    nearest_worth = objective[rows, field.nearest]
    hold = best_worth - nearest_worth <= config.min_gain * np.abs(best_worth)
    best = np.where(hold, field.nearest, best)

    line = _Line(sold, worth, rows)
    recommended = line.at(best)
    held = best == field.current
    confidence = _confidence(line, recommended, held=held, field=field, policy=policy, weight=grid.weight)
    doubtful = confidence < config.confidence_threshold
    final = np.where(doubtful, field.nearest, best)
    price = prices[rows, final]
    low, high = _range(line, best, final, field=field, weight=grid.weight, deviation=policy.range_deviation)

    first = grid.first[rows, :, final]  # (request, node)
    first_sold = expected_sales(first, size=grid.first_size[:, None], stock=these.stock[:, None])
    units = np.where(these.stock > 0, 1.0, np.where(np.isnan(these.stock), 1.0, 0.0)) * (first_sold @ grid.weight)
    short = sold[rows, :, final] @ grid.weight < SHORT * (grid.until[rows, :, final] @ grid.weight)
    at_low, at_high = price <= field.limits.low * (1 + NEAR), price >= field.limits.high * (1 - NEAR)
    reasons = (
        worth.reasons
        | field.limits.gave_way
        | doubtful * BIT["low_confidence"]
        | (held & ~doubtful) * BIT["held"]
        | short * BIT["stock_short"]
        | (these.stock <= 0) * BIT["no_stock"]
        | at_low * AT[field.limits.low_by]
        | at_high * AT[field.limits.high_by]
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
    """The objective at a node, looked up by candidate."""

    def __init__(self, sold: Floats, worth: Worth, rows: Ints) -> None:
        self.sold, self.worth, self.rows = sold, worth, rows

    def at(self, column: Ints) -> Floats:
        """(request, node) the objective of one candidate a request."""
        value = self.sold[self.rows, :, column] * self.worth.per_unit[self.rows, column][:, None]
        if isinstance(self.worth.fixed, float):
            return value
        return value + self.worth.fixed[self.rows, column][:, None]


def _confidence(
    line: _Line, recommended: Floats, *, held: Bools, field: Candidates, policy: Policy, weight: Floats
) -> Floats:
    """(request,) as Choices.confidence says."""
    calibration = policy.config.calibration
    against_current = chance_at_least(relative_gain(recommended, line.at(field.current)), weight=weight)
    moved = calibrated(against_current, calibration.moves)
    if not held.any():
        return moved
    rows, last = line.rows, field.prices.shape[1] - 1
    here = field.prices[rows, field.current]
    step = 1 + policy.config.hold_step
    above = np.minimum((field.prices < (here * step)[:, None]).sum(axis=1), last)
    below = np.maximum((field.prices <= (here / step)[:, None]).sum(axis=1) - 1, 0)
    stays = np.full(len(rows), -1.0)
    for column in (above, below):
        chance = chance_at_least(relative_gain(recommended, line.at(column)), weight=weight)
        stays += np.where(field.prices[rows, column] == here, 1.0, chance)
    return np.where(held, calibrated(np.maximum(stays, 0.0), calibration.holds), moved)


def _range(
    line: _Line, best: Ints, final: Ints, *, field: Candidates, weight: Floats, deviation: float
) -> tuple[Floats, Floats]:
    """(request,) lowest and highest candidate whose chance of earning as much as the best exceeds the range level."""
    value = line.sold * line.worth.per_unit[:, None, :]
    if not isinstance(line.worth.fixed, float):
        value += line.worth.fixed[:, None, :]
    reference = value[line.rows, :, best]  # (request, node)
    scale = weight / (np.abs(reference) + 1e-12)
    value -= reference[:, :, None]
    mean = np.einsum("rn,rnc->rc", scale, value)
    value *= value
    square = np.einsum("rn,rnc->rc", scale * scale / weight, value)
    spread = np.sqrt(np.maximum(square - mean * mean, 0.0))
    inside = mean >= -deviation * spread - 1e-9
    inside[line.rows, field.current] &= field.allowed
    inside[line.rows, final] = True
    first = inside.argmax(axis=1)
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return field.prices[line.rows, first], field.prices[line.rows, last]
