"""True demand of the default market: its parameters, drawn once per market, and the demand equation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pricing.arrays import Bools, Days, Floats, Ints
from simulation.config import HOLIDAYS

LOG_RANGE = 0.7  # log price distance from the anchor beyond which the elasticity is constant
FULL_CUT = 0.10  # cut below list from which an advertisement has its full effect
EXACT_BELOW = 30.0  # Poisson quantiles are exact for means below this


@dataclass(frozen=True)
class Truth:
    """True demand, hidden from all policies but the oracle.

    Attributes:
        dates: (day,) history and future.
        category: (product,) row among the categories.
        launch: (product,) first day on sale.
        anchor: (product,) reference price of `level`.
        slope: (regime, product) size of the weekday elasticity at the anchor, before and after a regime change.
        weekend: (product,) relative change of the elasticity on weekends.
        curvature: (product,) growth of the elasticity per log unit of price.
        cross: (product,) elasticity of demand in the competitor's price.
        lift: (product,) log lift of an advertised cut.
        level: (day, product) log expected units with own and competitor's price at the anchor, shocks included.
        shock: (day, product) hidden, transitory part of `level`: the product's and its category's shock.
        list_price: (day, product) regular price; independent of the policy.
        is_promo: (day, product) advertising plan; independent of the policy.
        uniform: (day, product) uniform random number for demand, common to all prices.
        day_factor: (day, product) over-dispersion factor of the day, mean 1.
        size: Size of the negative binomial; inf for Poisson.
        regime_day: First day of the new regime.
        history: Days of history; later days are the future.
    """

    dates: Days
    category: Ints
    launch: Ints
    anchor: Floats
    slope: Floats
    weekend: Floats
    curvature: Floats
    cross: Floats
    lift: Floats
    level: Floats
    shock: Floats
    list_price: Floats
    is_promo: Bools
    uniform: Floats
    day_factor: Floats
    size: float
    regime_day: int
    history: int

    @property
    def elasticity(self) -> Floats:
        """(product,) own-price elasticity on the history's last day: below 0, at list price, averaged over a week."""
        return self.elasticity_on(self.history - 1)

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity at that day's list price, averaged over a week without promotion."""
        slope = self.slope[int(day >= self.regime_day)] * (1 + self.weekend * 2 / 7)
        distance = np.clip(np.log(self.list_price[day] / self.anchor), -LOG_RANGE, LOG_RANGE)
        elasticity: Floats = -slope * (1 + self.curvature * distance)
        return elasticity

    def expected_demand(self, product: ArrayLike, day: ArrayLike, price: ArrayLike, *, comp_price: ArrayLike) -> Floats:
        """Expected demand in units, not limited by stock.

        The arguments broadcast against each other; prices and competitor prices are in currency units.
        """
        product, day = np.asarray(product), np.asarray(day)
        price = np.asarray(price, dtype=np.float64)
        is_weekend = is_weekend_day(self.dates)[day]
        slope = self.slope[(day >= self.regime_day).astype(np.int64), product] * (
            1 + self.weekend[product] * is_weekend
        )
        distance = np.log(price / self.anchor[product])
        near = np.clip(distance, -LOG_RANGE, LOG_RANGE)
        bend = self.curvature[product]
        answer = near + bend * near**2 / 2 + (distance - near) * (1 + bend * near)
        cut = np.clip((1 - price / self.list_price[day, product]) / FULL_CUT, 0, 1)
        log_units = (
            self.level[day, product]
            - slope * answer
            + self.cross[product] * np.log(np.asarray(comp_price) / self.anchor[product])
            + self.lift[product] * self.is_promo[day, product] * cut
        )
        units: Floats = np.where(day >= self.launch[product], np.exp(log_units), 0.0)
        return units

    def demand_units(self, day: int, expected: Floats) -> Ints:
        """(product,) demand of a day in units, given expected units; nondecreasing in `expected`."""
        return poisson_quantile(expected * self.day_factor[day], self.uniform[day])


def is_weekend_day(dates: Days) -> Bools:
    """(date,) whether it is a Saturday or a Sunday."""
    return weekday(dates) >= 5


def weekday(dates: Days) -> Ints:
    """(date,) 0 for Monday to 6 for Sunday."""
    return (dates.astype("datetime64[D]").astype(np.int64) + 3) % 7


def holidays_among(dates: Days) -> Bools:
    """(date,) whether it is one of the market's holidays, which are on the same day every year."""
    month_day = np.array([str(date)[5:] for date in dates.astype("datetime64[D]")])
    return np.isin(month_day, HOLIDAYS)


def poisson_quantile(mean: Floats, uniform: NDArray[np.floating]) -> Ints:
    """Poisson quantile at `uniform`: exact below a mean of 30, Cornish–Fisher above; nondecreasing in the mean."""
    mean, chance = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(uniform, dtype=np.float64))
    count = _count_up(np.minimum(mean, EXACT_BELOW), chance)
    large = np.flatnonzero(mean > EXACT_BELOW)
    middle, z = mean[large], special.ndtri(chance[large])
    far = np.floor(middle + z * np.sqrt(middle) + (z**2 - 1) / 6 + 0.5).astype(np.int64)
    count[large] = np.maximum(count[large], far)
    return count


def _count_up(mean: Floats, chance: Floats) -> Ints:
    count = np.zeros(len(mean), dtype=np.int64)
    rows = np.arange(len(mean))
    weight = np.exp(-mean)
    below = weight.copy()
    for step in range(1, 120):
        keep = chance[rows] > below
        rows, weight, below = rows[keep], weight[keep], below[keep]
        if not len(rows):
            break
        count[rows] = step
        weight = weight * mean[rows] / step
        below = below + weight
    return count
