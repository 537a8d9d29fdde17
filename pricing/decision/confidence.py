"""How sure a price is: the chance that it earns at least as much as another, and the prices that are as good.

The chance is over what is not known of demand and cost, as the nodes of a quadrature have it, and then calibrated.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.net_price import unit_profit
from pricing.decision.limits import NEAR, PricingContext, forgone
from pricing.decision.stock import NOTHING, Sales, normal_chance
from pricing.demand.curve import DemandAt

UNIDENTIFIED = 0.5  # confidence, at most, where nothing tells the elasticity
KEPT = 0.7  # share of a node's distance from the mean that stays when the nodes are smoothed
TINY = 1e-12
RANGE_WIDTH = -NormalDist().inv_cdf(0.10)  # deviations: a price with a larger chance of earning as much is in the range
GAIN_WIDTH = -NormalDist().inv_cdf((1 - 0.80) / 2)  # the interval of the expected gain holds 80 %
LogWorth = Callable[[Floats], Floats]  # of prices (request, price): (doubt, request, price) log worth of a unit sold
# Places of the prices that a decision compares: the price that stays, the one moved to, and the regular one.
STAY, MOVE, REGULAR = range(3)


class Compared:
    """Sales at the three prices of each request, and how they compare; a `place` (request,) is one of them each."""

    def __init__(self, prices: Floats, context: PricingContext, demand_at: DemandAt, log_worth: LogWorth) -> None:
        """Asks for demand at prices (3, request)."""
        grid = demand_at(prices.T)
        self.prices = prices
        self.log_prices = np.log(prices)
        self.sales = Sales(grid, context.supply)
        self._demand = grid.until
        self.weight = grid.weight
        self._forgone = forgone(context, grid.diverted, margin=context.others_margin)
        self._context = context
        self._rows = np.arange(len(context))
        self._logs = np.log(np.maximum(self.sales.until, NOTHING))  # (request, node, place)
        self._sells = grid.until.max(axis=(1, 2)) > NOTHING
        self._worth = log_worth(prices.T)  # (doubt, request, place)
        # Of DOUBTS, those over which worth is averaged, and those between which a price must not depend on it:
        doubted = len(self._worth) > 1
        self.likely = slice(1, 3) if doubted else slice(0, 1)
        self.ends = slice(3, 5) if doubted else slice(0, 1)

    def price(self, place: Ints) -> Floats:
        """(request,) the price at a place each."""
        return self.prices[place, self._rows]

    def gain(self, place: int, *, over: int) -> Floats:
        """(doubt, request, node) log objective at one place over another's; none where nothing sells at any price."""
        more = (self._worth[:, :, place] - self._worth[:, :, over]) * self._sells
        return np.asarray(self._logs[:, :, place] - self._logs[:, :, over] + more[:, :, None])

    def least(self, gain: Floats) -> Floats:
        """(request,) the mean over the nodes of a gain (doubt, request, node), at the worse end of a doubted cost."""
        return np.asarray((gain[self.ends] * self.weight).sum(axis=2).min(axis=0))

    def chances(self, gains: Floats) -> Floats:
        """(gain, request) the chance that each gain (gain, doubt, request, node) is not negative."""
        return _mean(chance_at_least(gains[:, self.likely], weight=self.weight).swapaxes(0, 1))

    def profit_gain(self, place: Ints) -> Floats:
        """(3, request) expected profit until the next delivery over that of the price that stays, and its interval.

        It counts what the category's other products win or lose.
        """
        own = unit_profit(self.prices, self._context.unit_cost, tax_rate=self._context.tax_rate)
        profit = self.sales.until * (own - self._forgone).T[:, None, :]
        more = profit[self._rows, :, place] - profit[:, :, STAY]  # (request, node)
        more *= (self._context.stock > 0)[:, None]
        mean = (more * self.weight).sum(axis=1)
        around = more - mean[:, None]
        reach = GAIN_WIDTH * np.sqrt((around * around * self.weight).sum(axis=1))
        return np.array([mean, mean - reach, mean + reach])

    def worst_case(self, place: Ints, steepest: Floats | float) -> Floats:
        """(request,) expected profit until the next delivery over that of the regular price, if history misleads.

        From the demand expected at the price that stays, demand answers below the regular price by the context's
        `field_elasticity`, above it by `steepest`; NaN where one that counts is unknown. No more is sold than the
        supply.
        """
        context = self._context
        price = self.price(place)
        in_field = np.nan if context.field_elasticity is None else context.field_elasticity

        def answer(price: Floats) -> Floats:
            """The factor of demand at a price over that at the regular one."""
            return np.asarray((price / context.anchor) ** np.where(price < context.anchor, in_field, steepest))

        def profit(price: Floats) -> Floats:
            worth = unit_profit(price, context.unit_cost, tax_rate=context.tax_rate) - self._forgone
            return np.asarray(np.minimum(regular * answer(price), context.supply) * worth)

        regular = (self._demand[:, :, STAY] * self.weight).sum(axis=1) / answer(self.prices[STAY])
        same = np.abs(price / context.anchor - 1) <= NEAR
        return np.where(same | (context.stock <= 0), 0.0, profit(price) - profit(context.anchor))

    def as_good(self, logs: Floats, worth: Floats, *, place: Ints) -> Bools:
        """(request, candidate) whether the chance of earning as much as the price at a place is above 10 %.

        `logs` (request, node, candidate) are the candidates' log units, `worth` (doubt, request, candidate) the logs of
        what a unit is worth.
        """
        ahead = logs - self._logs[self._rows, :, place][:, :, None]
        mean = self.weight @ ahead
        spread = np.sqrt(np.maximum(self.weight @ (ahead * ahead) - mean * mean, 0.0))
        mean += _mean(worth[self.likely]) - _mean(self._worth[self.likely, self._rows, place])[:, None]
        return mean + RANGE_WIDTH * spread >= -1e-9


def chance_at_least(gain: Floats, *, weight: Floats) -> Floats:
    """The chance that a gain is not negative, from its values at a few weighted nodes: (…,) from (…, node).

    Every node becomes a normal distribution, drawn 30 % towards the mean and as wide as keeps mean and variance, so
    that chances are no handful: for a normal gain this is exact, and a skewed one keeps its skew.
    """
    mean = (gain * weight).sum(axis=-1)  # a product of BLAS rounds a batch otherwise than one request
    around = gain - mean[..., None]
    width = np.sqrt((around * around * weight).sum(axis=-1)) * (1 - KEPT * KEPT) ** 0.5
    deviation = (around * KEPT + (mean + TINY)[..., None]) / (width + 1e-3 * TINY)[..., None]
    return np.asarray(np.minimum((normal_chance(deviation) * weight).sum(axis=-1), 1.0))


def calibrated(chance: Floats, *, slope: float) -> Floats:
    """Multiply the log odds of a raw confidence by a slope (Platt 1999): 1 changes nothing, less draws to one half."""
    right = chance**slope
    wrong = (1.0 - chance) ** slope
    return np.asarray(right / (right + wrong))


def _mean(values: Floats) -> Floats:
    """(…) the mean over the first axis, which has one value or two."""
    return np.asarray(values[0] if len(values) == 1 else values.sum(axis=0) / len(values))
