"""Expected demand of sold-out periods, of which only the stock is known: the EM algorithm for negative binomials."""

import numpy as np
from scipy import special

from pricing.arrays import Floats

STEP = 1e-3  # log units: step of the numerical derivative
FARTHEST = 50.0  # times the bound: cap where the tail has no mass in double precision


def expected_above(units: Floats, mean: Floats, size: Floats) -> Floats:
    """E[demand | demand ≥ units] of negative binomials with (event,) mean and size.

    k · p(k; size) = mean · p(k − 1; size + 1) at the same odds, so the partial mean is a survival probability, too.
    Units may be fractional.
    """
    odds = mean / (mean + size)
    above = np.where(units > 0, special.betainc(np.maximum(units, 1e-9), size, odds), 1.0)
    partial = np.where(units > 1, special.betainc(np.maximum(units - 1.0, 1e-9), size + 1.0, odds), 1.0)
    expected = mean * partial / np.maximum(above, 1e-300)
    return np.clip(expected, np.maximum(units, mean), FARTHEST * np.maximum(units, mean) + 1.0)


def complete_censored(units: Floats, mean: Floats, size: Floats, *, censored: Floats) -> tuple[Floats, Floats]:
    """Replace sold-out units by expected demand, and compute each event's information about the log mean.

    With these units the negative binomial's score is that of the censored likelihood (Dempster, Laird, Rubin 1977). All
    is (event,); where `censored` is above 0 the stock ran out. The information is minus the derivative of (units −
    mean) in log mean, at least 0.
    """
    at = np.flatnonzero(censored > 0)
    full, information = units.astype(np.float64), np.asarray(mean, np.float64).copy()
    if len(at):
        bound, middle, spread = units[at], mean[at], size[at]
        full[at] = expected_above(bound, middle, spread)
        slope = (expected_above(bound, middle * np.exp(STEP), spread) - full[at]) / STEP
        information[at] = np.clip(middle - slope, 0.0, middle)
    return full, information
