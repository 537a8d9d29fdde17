"""What is believed of demand where no model answers: one elasticity for all, a level from the facts, and doubt."""

import numpy as np
from numpy.typing import NDArray

from pricing.demand.curve import SOURCES, DemandGrid

Floats = NDArray[np.floating]

RULE = SOURCES.index("rule")
LEAST_ELASTICITY = 1.2  # below about 1 no price would be high enough
SIZE = 2.0  # of the negative binomial of one period: the level is little more than a guess
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
WEIGHT = _WEIGHTS / _WEIGHTS.sum()


def believed_demand(
    prices: Floats, *, list_price: Floats, level: Floats, periods: NDArray[np.integer], elasticity: Floats
) -> DemandGrid:
    """Demand of constant elasticity around the list price, over a normal belief about that elasticity.

    Maximised, it gives the classic rules: a mark-up on cost (Lerner's) where stock is ample, and a higher price where
    the usual sales would empty the shelf before the next delivery.

    Args:
        prices: (request, candidate) in currency units.
        list_price: (request,) the price at which `level` is sold.
        level: (request,) units a period; 1 where unknown.
        periods: (request,) periods until the next delivery.
        elasticity: (2, request) mean and standard deviation of the elasticity's size.
    """
    mean, sd = elasticity
    sizes = np.maximum(mean[:, None] + sd[:, None] * _NODES, LEAST_ELASTICITY)  # (request, node)
    ratio = np.log(prices / list_price[:, None])[:, None, :]  # (request, 1, candidate)
    first = np.exp(ratio * -sizes[:, :, None]) * level[:, None, None]
    doubt = np.full(len(prices), SIZE)
    return DemandGrid(
        first=first,
        until=first * periods[:, None, None],
        first_size=doubt,
        until_size=doubt * np.sqrt(periods),
        weight=WEIGHT,
        source=np.full(len(prices), RULE),
    )


def believed_elasticity(
    *, unit_cost: Floats, list_price: Floats, cost_assumed: NDArray[np.bool_], usual: tuple[float, float]
) -> Floats:
    """(2, request) mean and standard deviation of the elasticity's size where no model answers.

    Where the cost is only assumed from a margin, the list price is all that is known, and no belief may argue with it:
    the elasticity is then the one at which the list price is best, 1 / margin.

    Args:
        unit_cost: (request,) cost of a unit, in currency units.
        list_price: (request,) regular price, in currency units.
        cost_assumed: (request,) whether the cost was assumed from the list price.
        usual: Mean and standard deviation of what is believed otherwise.
    """
    mean, sd = usual
    implied = list_price / np.maximum(list_price - unit_cost, 0.1 * list_price)
    size = np.where(cost_assumed, np.maximum(implied, LEAST_ELASTICITY), mean)
    return np.array([size, np.where(cost_assumed, sd * size / mean, sd)])
