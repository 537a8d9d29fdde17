"""One request alone: the decision that `choose` makes of a batch, by a third of the array operations.

What a batch costs is the size of its arrays; what one request costs is their number. So its numbers are Python's own,
and arrays are left to what is really an array: candidates, and the nodes of the model's uncertainty.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.decision.alone_limits import Field, lay
from pricing.decision.candidates import EDGE
from pricing.decision.choose import COST_WIDTH, NOTHING, SHORT, UNIDENTIFIED, Policy
from pricing.decision.confidence import CERTAIN, NO_STEP, chance_alone
from pricing.decision.reasons import BIT
from pricing.decision.resolve import Row
from pricing.decision.stock import AMPLE, LARGEST_SIZE, TABLE, expected_sales
from pricing.demand.curve import Curve, Single
from pricing.demand.grades import CATEGORY as FROM_CATEGORY
from pricing.demand.grades import PRIOR_ONLY

_POINTS = np.arange(TABLE)
_NOTHING = math.log(1e-12)
LEAST_LOG = math.log(NOTHING) + 1


class Choice(NamedTuple):
    """What was chosen: as `choose.Choices`, of one request, with the candidates that the decision log keeps."""

    price: float
    confidence: float
    low: float
    high: float
    units: float
    margin: float
    doubtful: bool
    reasons: int
    source: int
    candidate_prices: list[float]
    candidate_units: list[float]
    candidate_sizes: list[float]
    unit: float


class Alone:
    """Decides requests about products that the model knows, one at a time."""

    def __init__(self, demand: Single, policy: Policy, *, summary: NDArray[np.intp]) -> None:
        """Makes ready.

        Args:
            demand: What sells at which price.
            policy: Strategies, guardrails and thresholds.
            summary: Columns of the candidates that the decision log keeps.
        """
        self._demand = demand
        self._weight = demand.weight
        self._weights: list[float] = demand.weight.tolist()
        self._policy = policy
        calibration = policy.config.calibration
        self._moves, self._holds = (np.array(pairs).T for pairs in (calibration.moves, calibration.holds))
        self._kept = tuple(strategy.kept for strategy in policy.strategies.values())
        self._rests = tuple(strategy.needs_elasticity for strategy in policy.strategies.values())
        self._summary = summary

    def choose(self, row: Row, *, keep: bool = False) -> Choice | None:
        """Decides one request; `keep` holds its price inside the guardrails.

        Returns:
            None for a request that only `choose.choose` can decide: a product that the model does not know or that
            sells nothing; a strategy with more to it than a margin, a target margin,
            a ladder of prices, a day beyond the calendar, or a figure that is no number or beyond what numbers reach.
        """
        try:
            return self._choose(row, keep=keep)
        except (ArithmeticError, ValueError):  # Python's own numbers raise where arrays turn infinite
            return None

    def _choose(self, row: Row, *, keep: bool) -> Choice | None:
        kept = self._kept[row.strategy]
        if row.product < 0 or kept is None or row.target_margin == row.target_margin or not self._policy.lattice.plain:
            return None
        with np.errstate(all="ignore"):  # such answers are not used
            field = lay(row, self._policy.lattice, self._policy.config.guardrails)
            curve = self._demand.curve(row, field.prices)
            if curve is None or curve.until.max() < LEAST_LOG:
                return None
            choice = self._chosen(row, field, curve, kept=kept, keep=keep)
        total = choice.confidence + choice.units + choice.margin + sum(choice.candidate_units)
        return choice if math.isfinite(total) else None

    def _chosen(self, row: Row, field: Field, curve: Curve, *, kept: float, keep: bool) -> Choice:
        config, prices = self._policy.config, field.prices
        shelf = _Shelf(curve, row.stock if row.stock > 0 else math.inf)
        gains = _gains(shelf.logs(), row, prices, kept=kept)
        mean = self._weight @ gains.nodes
        best = self._best(gains, mean, field)
        unknown = curve.grade == PRIOR_ONLY and self._rests[row.strategy]
        if unknown:
            best = self._unidentified(best, row, field, shelf, curve)
        if keep:
            best = field.nearest
        held = best == field.current
        confidence = self._confidence(gains, best, field=field, held=held)
        doubtful = not unknown and confidence < config.confidence_threshold
        final = field.nearest if doubtful or keep else best
        if unknown:
            confidence = min(confidence, UNIDENTIFIED)
        reasons = BIT["low_confidence"] if doubtful else BIT["held"] if held else 0
        if unknown:
            doubtful, reasons = True, reasons | BIT["elasticity_unidentified"]
        if keep:
            doubtful, reasons = True, BIT["holdout"]
        price = prices.item(final)
        low, high = self._range(gains, mean, best, final, field=field)
        units = min(float(shelf.first(final) @ self._weight), row.stock)
        if shelf.runs_out(curve, final, weight=self._weight):
            reasons |= BIT["stock_short"]
        if row.stock <= 0:
            reasons |= BIT["no_stock"]
        if curve.grade == FROM_CATEGORY:
            reasons |= BIT["elasticity_from_category"]
        if price < row.seen_low * (1 - EDGE) or price > row.seen_high * (1 + EDGE):
            reasons |= BIT["outside_seen_prices"]
        listed, expected, sizes = self._summarised(field, curve)
        return Choice(
            price,
            confidence,
            low,
            high,
            units,
            units * (price - row.unit_cost),
            doubtful,
            reasons | field.binding(price, stays=unknown and final == field.current),
            curve.source,
            listed,
            expected,
            sizes,
            curve.unit,
        )

    def _best(self, gains: "_Gains", mean: Floats, field: Field) -> int:
        """See `choose._best`."""
        spread = self._weight @ (gains.nodes * gains.nodes)
        spread -= mean * mean
        np.maximum(spread, 0.0, out=spread)
        np.sqrt(spread, out=spread)
        spread *= -self._policy.caution
        spread += mean
        score = spread + (gains.worst[0] if len(gains.worst) == 1 else np.minimum(*gains.worst))
        if not field.allowed:
            score[field.current] = -np.inf
        best, nearest = int(score.argmax()), field.nearest
        gain = mean.item(best) - mean.item(nearest)
        gain += min(costs.item(best) - costs.item(nearest) for costs in gains.worst)
        return nearest if 2 * gain <= self._policy.change_costs else best

    def _unidentified(self, best: int, row: Row, field: Field, shelf: "_Shelf", curve: Curve) -> int:
        """See `choose._unidentified`."""
        distance = np.abs(np.log(field.prices / min(row.current_price, row.list_price)))
        if not field.allowed:
            distance[field.current] = np.inf
        stay = int(distance.argmin())
        return max(best, stay) if shelf.runs_out(curve, stay, weight=self._weight) else stay

    def _confidence(self, gains: "_Gains", best: int, *, field: Field, held: bool) -> float:
        """See `choose.Choices.confidence`."""
        prices = field.prices
        if not held:
            chance = gains.chance(best, field.current, weight=self._weights)
            return float(np.interp(chance, *self._moves)) if len(self._moves) else chance
        here, step = prices.item(field.current), 1 + self._policy.config.hold_step
        above = min(int(prices.searchsorted(here * step)), len(prices) - 1)
        below = max(int(prices.searchsorted(here / step, side="right")) - 1, 0)
        beside = sum(
            1.0
            if abs(prices.item(column) / here - 1.0) < NO_STEP  # where a guardrail leaves no neighbour
            else gains.chance(best, column, weight=self._weights)
            for column in (above, below)
        )
        chance = max(beside - 1.0, 0.0)
        if chance > CERTAIN:
            return 1.0
        return float(np.interp(chance, *self._holds)) if len(self._holds) else chance

    def _range(self, gains: "_Gains", mean: Floats, best: int, final: int, *, field: Field) -> tuple[float, float]:
        """Lowest and highest candidate not distinguishably worse."""
        ahead = gains.nodes - gains.nodes[:, best : best + 1]
        ahead *= ahead
        mean = mean - mean.item(best)
        spread = self._weight @ ahead
        spread -= mean * mean
        costs = [part - part.item(best) for part in gains.likely]
        if len(costs) > 1:
            spread += (0.5 * (costs[0] - costs[1])) ** 2
            costs = [0.5 * (costs[0] + costs[1])]
        np.maximum(spread, 0.0, out=spread)
        np.sqrt(spread, out=spread)
        spread *= self._policy.range_deviation
        spread += mean
        spread += costs[0]
        inside = spread >= -1e-9
        if not field.allowed:
            inside[field.current] = False
        inside[final] = True
        last = len(inside) - 1 - int(inside[::-1].argmax())
        return field.prices.item(int(inside.argmax())), field.prices.item(last)

    def _summarised(self, field: Field, curve: Curve) -> tuple[list[float], list[float], list[float]]:
        """Prices, units and sizes of the candidates that the decision log keeps; see `detailed.details`."""
        first = np.exp(curve.first[:, self._summary]).astype(np.float64)
        units = self._weight @ first
        first *= first
        beyond = self._weight @ first
        beyond /= units * units
        sizes = 1 / (beyond - 1 + beyond / curve.first_size)
        return field.prices[self._summary].tolist(), units.tolist(), sizes.tolist()


class _Gains(NamedTuple):
    """Half the log of each candidate's objective over that of the price nearest list: as `choose._gains`, in two parts.

    Attributes:
        nodes: (node, candidate) what depends on demand.
        worst: (candidate,) each, what depends on the cost: one, or two where it is assumed.
        likely: The same, a standard deviation to either side.
    """

    nodes: Floats
    worst: list[Floats]
    likely: list[Floats]

    def chance(self, one: int, other: int, *, weight: list[float]) -> float:
        """The chance that one candidate earns at least as much as another."""
        ahead = (self.nodes[:, one] - self.nodes[:, other]).tolist()
        chances = []
        for costs in self.likely:
            more = costs.item(one) - costs.item(other)
            chances.append(chance_alone([gain + more for gain in ahead], weight=weight))
        return sum(chances) / len(chances)


def _gains(sold: Floats, row: Row, prices: Floats, *, kept: float) -> _Gains:
    """See `choose._gains`; `sold` is (node, candidate) log sales until the delivery, and is changed."""
    place = min(int(prices.searchsorted(row.list_price)), len(prices) - 1)
    below = max(place - 1, 0)
    near_below = row.list_price / prices.item(below) <= prices.item(place) / row.list_price
    home = below if prices.item(below) < row.list_price and near_below else place
    if prices.item(home) < row.list_price:  # of equal prices the first
        home = int(prices.searchsorted(prices.item(home)))
    sold -= sold[:, home : home + 1].copy()
    sold *= 0.5
    if not row.cost_sd:
        alone = [_by_cost(prices - kept * row.unit_cost, home)]
        return _Gains(sold, alone, alone)
    worst, likely = (
        [_by_cost(prices - kept * (row.unit_cost + sign * width * row.cost_sd), home) for sign in (1.0, -1.0)]
        for width in (COST_WIDTH, 1.0)
    )
    return _Gains(sold, worst, likely)


def _by_cost(worth: Floats, home: int) -> Floats:
    """(candidate,) half the log of the worth of a unit over that at list price; changes `worth`."""
    np.maximum(worth, NOTHING, out=worth)
    np.log(worth, out=worth)
    worth -= worth.item(home)
    worth *= 0.5
    return worth


class _Shelf:
    """Expected sales when stock may run out: as `stock.Shelf`, of one request."""

    def __init__(self, curve: Curve, stock: float) -> None:
        self._first, self._until = curve.first, curve.until
        shift = math.log(curve.unit)  # chance counts in what counts as one
        stock /= curve.unit
        top = max(curve.until[:, 0].tolist()) - shift
        most = math.exp(top)
        self.short = stock < most + AMPLE * math.sqrt(most + most * most / curve.until_size)
        if not self.short:
            return
        self.until: Floats = np.exp(curve.until).astype(np.float64)
        until = _scale(top, min(curve.until[:, -1].tolist()) - shift, curve.until_size)
        first = _scale(
            max(curve.first[:, 0].tolist()) - shift, min(curve.first[:, -1].tolist()) - shift, curve.first_size
        )
        bottoms, steps, sizes = np.array([until, first]).T[:, :, None]  # (2, 1) each
        self._logs = bottoms + steps * _POINTS
        means = np.exp(self._logs)
        self._shares = expected_sales(means, size=sizes, stock=np.array([[stock], [stock]]))
        self._shares /= means
        self._logs += shift
        self.until *= np.interp(curve.until, self._logs[0], self._shares[0])

    def logs(self) -> Floats:
        """(node, candidate) log of the expected sales until the delivery."""
        if not self.short:
            return self._until.astype(np.float64)
        return np.asarray(np.log(np.maximum(self.until, NOTHING)))

    def runs_out(self, curve: Curve, column: int, *, weight: Floats) -> bool:
        """Whether stock is expected to cut sales short at one candidate."""
        return self.short and bool(
            self.until[:, column] @ weight < SHORT * (np.exp(curve.until[:, column]).astype(np.float64) @ weight)
        )

    def first(self, column: int) -> Floats:
        """(node,) expected sales in the requested period at one candidate."""
        logs = self._first[:, column]
        demand = np.exp(logs).astype(np.float64)
        if self.short:
            demand *= np.interp(logs, self._logs[1], self._shares[1])
        return demand


def _scale(top: float, bottom: float, size: float) -> tuple[float, float, float]:
    """Lowest point and step of a table between two log means, and the size it is worked out for; see `stock.Shelf`."""
    top = max(top, _NOTHING)
    bottom = min(max(bottom, _NOTHING, top - 9.0), top - 0.01)
    return bottom, (top - bottom) / (TABLE - 1), min(size, LARGEST_SIZE)
