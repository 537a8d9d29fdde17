"""Demand as believed where no model answers: constant elasticity around the list price."""

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.decision.request import Source
from pricing.demand.curve import DemandGrid
from pricing.demand.grades import PRIOR_ONLY

RULE_ELASTICITY = (2.5, 0.8)  # where no model answers: mean and sd of the elasticity's size
LEAST_ELASTICITY = 1.2  # at 1 and below, profit grows with every price
STEEPEST = 6.0
LUMP = 0.1  # share of a period's sales that counts as one unit, since sales may be in any unit
SIZE = 2.0  # of the negative binomial of one period: the level is little more than a guess
FURTHEST = 5.0  # largest |log(price / list price)|; beyond it powers would overflow
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
WEIGHT = _WEIGHTS / _WEIGHTS.sum()
RULE = get_args(Source).index("rule")


def prior_demand(
    prices: Floats, *, list_price: Floats, level: Floats, periods: NDArray[np.integer], elasticity: Floats
) -> DemandGrid:
    """Prior demand of constant elasticity around the list price, at which `level` units a period are sold.

    Maximised, it gives the classic rules: a mark-up on cost (Lerner's) where stock is ample, and a higher price where
    the usual sales would empty the shelf in the `periods` (request,) until the next delivery.
    """
    mean, sd = elasticity
    sizes = np.maximum(mean[:, None] + sd[:, None] * _NODES, LEAST_ELASTICITY)  # (request, node)
    away = np.clip(np.log(prices / list_price[:, None]), -FURTHEST, FURTHEST)
    first = np.exp(away[:, None, :] * -sizes[:, :, None]) * level[:, None, None]
    doubt = np.full(len(prices), SIZE)
    return DemandGrid(
        first=first,
        until=first * periods[:, None, None],
        first_size=doubt,
        until_size=doubt * np.sqrt(periods),
        weight=WEIGHT,
        source=np.full(len(prices), RULE),
        grade=np.full(len(prices), PRIOR_ONLY),
        known=np.zeros(len(prices)),
        unit=LUMP * np.where(level > 0, level, 1.0),
    )


def prior_elasticity(margin: Floats) -> Floats:
    """(2, request) mean and sd of the elasticity's size where no model answers.

    A usual margin m, a fraction of the net list price, is optimal at an elasticity of 1 / m (Lerner).
    """
    mean, sd = RULE_ELASTICITY
    size = np.where(np.isnan(margin), mean, 1 / np.clip(margin, 1 / STEEPEST, 1 / LEAST_ELASTICITY))
    return np.array([size, sd * size / mean])
