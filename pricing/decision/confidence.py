"""How sure a decision is: the chance that one price earns at least as much as another, over the model's nodes."""

from statistics import NormalDist

import numpy as np

from pricing.arrays import Floats

KEPT = 0.7  # share of a node's distance from the mean that stays when the nodes are smoothed
TINY = 1e-12
_ODD = (1.59543566, 7.35965074e-02, -6.31612787e-04)  # of z, z³ and z⁵ in `normal_chance`


def chance_at_least(gain: Floats, *, weight: Floats) -> Floats:
    """The chance that a gain is not negative, from its values at a few weighted nodes.

    A handful of nodes would give a handful of chances. So every node becomes a normal distribution, drawn 30 % towards
    the mean and as wide as keeps mean and variance: for a normal gain this is exact, and a skewed one keeps its skew.

    Args:
        gain: (…, node) gain at each node.
        weight: (node,) probabilities that sum to 1.

    Returns:
        (…,) chances; 1 where every node gains exactly nothing.
    """
    mean = (gain * weight).sum(axis=-1)  # a product of BLAS rounds a batch otherwise than one request
    around = gain - mean[..., None]
    width = np.sqrt((around * around * weight).sum(axis=-1)) * (1 - KEPT * KEPT) ** 0.5
    deviation = (around * KEPT + (mean + TINY)[..., None]) / (width + 1e-3 * TINY)[..., None]
    return np.asarray(np.minimum((normal_chance(deviation) * weight).sum(axis=-1), 1.0))


def normal_chance(deviation: Floats) -> Floats:
    """P(Z ≤ z) to 2e-5: a logistic function of an odd polynomial, fitted to the normal between −4 and 4."""
    z = np.minimum(np.maximum(deviation, -8.0), 8.0)
    square = z * z
    odd = ((square * _ODD[2] + _ODD[1]) * square + _ODD[0]) * z
    return np.asarray(1 / (np.exp(-odd) + 1))


def deviation_at(level: float) -> float:
    """The standard normal's deviation that is passed with chance `level`."""
    return -NormalDist().inv_cdf(level)


def calibrated(chance: Floats, pairs: list[tuple[float, float]]) -> Floats:
    """Maps raw confidence through a rising piecewise linear table of [raw, calibrated]; none changes nothing."""
    if not pairs:
        return chance
    raw, true = zip(*pairs, strict=True)
    return np.asarray(np.interp(chance, raw, true))
