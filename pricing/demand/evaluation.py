"""Where outcomes lie in their forecasts' distributions: one implementation for backtests and for monitoring."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LARGEST_SIZE = 1e6  # of a negative binomial; beyond, it is a Poisson distribution to all digits that matter
LEAST_MEAN = 1e-6  # units a period
_SPREAD = 1e-12  # a narrower transform is a point


def probability_transform(
    units: NDArray[np.floating], *, mean: NDArray[np.floating], size: NDArray[np.floating]
) -> tuple[Floats, Floats]:
    """The probability of selling less than what was sold, and of selling at most that.

    The two differ by the outcome's own probability. Units of goods by weight lie between two counts: they have none,
    and both ends are the probability of the count below.

    Args:
        units: (row,) sold.
        mean: (row,) forecast.
        size: (row,) of its negative binomial.

    Returns:
        (row,) the lower and the upper end; NaN where the forecast is unknown.
    """
    known = np.isfinite(mean) & (size > 0)
    centre = np.where(known, np.maximum(mean, LEAST_MEAN), 1.0)
    r = np.where(known, np.minimum(size, LARGEST_SIZE), 1.0)
    truth = stats.nbinom(r, r / (r + centre))
    below, at = truth.cdf(np.ceil(units) - 1), truth.cdf(np.floor(units))
    return np.where(known, below, np.nan), np.where(known, at, np.nan)


def share_inside(below: NDArray[np.floating], at: NDArray[np.floating], *, level: float) -> Floats:
    """How much of each outcome lies inside the central interval of `level`, 0…1.

    Counts are lumpy: a tenth of the probability rarely ends between two of them, and intervals whose ends count as
    inside would seem to hold far more than they promise. So the probability transform is spread evenly over each
    count's own probability (Czado, Gneiting, Held 2009, doi:10.1111/j.1541-0420.2009.01191.x), in expectation rather
    than by drawing, so that the figure does not depend on a seed. Where nothing is spread, as at the units of goods
    by weight, the transform itself is inside or not.

    Args:
        below: (row,) lower end of the transform, from `probability_transform`.
        at: (row,) its upper end.
        level: Probability that the interval promises, 0…1.

    Returns:
        (row,) shares; NaN where the transform is.
    """
    low, high = (1.0 - level) / 2.0, (1.0 + level) / 2.0
    width = np.asarray(at, np.float64) - below
    spread = width > _SPREAD
    part = np.clip(np.minimum(at, high) - np.maximum(below, low), 0.0, None) / np.where(spread, width, 1.0)
    whole = np.where((at >= low) & (at <= high), 1.0, 0.0)
    return np.where(np.isnan(width), np.nan, np.where(spread, part, whole))
