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
    prices: Floats, *, list_price: Floats, level: Floats, periods: NDArray[np.integer], elasticity: tuple[float, float]
) -> DemandGrid:
    """Demand of constant elasticity around the list price, over a normal belief about that elasticity.

    Maximised, it gives the classic rules: a mark-up on cost (Lerner's) where stock is ample, and a higher price where
    the usual sales would empty the shelf before the next delivery.

    Args:
        prices: (request, candidate) in currency units.
        list_price: (request,) the price at which `level` is sold.
        level: (request,) units a period; 1 where unknown.
        periods: (request,) periods until the next delivery.
        elasticity: Mean and standard deviation of the elasticity's size.
    """
    mean, sd = elasticity
    sizes = np.maximum(mean + sd * _NODES, LEAST_ELASTICITY)  # (node,)
    ratio = np.log(prices / list_price[:, None])[:, None, :]  # (request, 1, candidate)
    first = np.exp(ratio * -sizes[:, None]) * level[:, None, None]
    doubt = np.full(len(prices), SIZE)
    return DemandGrid(
        first=first,
        until=first * periods[:, None, None],
        first_size=doubt,
        until_size=doubt * np.sqrt(periods),
        weight=WEIGHT,
        source=np.full(len(prices), RULE),
    )
