"""Look back: each product's latest known value, up to a period or before it. NumPy only."""

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats


def latest_period(known: Bools) -> NDArray[np.int32]:
    """(product, period) last period up to each one where `known`, -1 before the first."""
    columns = np.where(known, np.arange(known.shape[1], dtype=np.int32), np.int32(-1))
    return np.maximum.accumulate(columns, axis=1)


def carry(series: Floats, latest: NDArray[np.int32]) -> Floats:
    """(product, period) the values at `latest`; NaN where that is -1."""
    values: Floats = np.take_along_axis(series, np.maximum(latest, 0), axis=1)
    values[latest < 0] = np.nan
    return values


def period_before(known: Bools) -> NDArray[np.int32]:
    """(product, period) last period before each one where `known`, -1 where there is none."""
    return np.pad(latest_period(known)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)


def value_before(series: Floats, known: Bools) -> Floats:
    """(product, period) the last known value before each period; NaN where there is none."""
    return carry(series, period_before(known))
