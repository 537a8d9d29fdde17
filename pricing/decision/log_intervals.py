"""The intervals of a decision log's forecasts: read off the mean and size that each line carries, not written there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

LEVELS = {"q10": 0.1, "q90": 0.9}


def add_intervals(records: Sequence[dict[str, Any]]) -> None:
    """Adds `q10` and `q90`, whole multiples of what counts as one, to candidates that have a size for every price.

    SciPy does the arithmetic; where it is not installed, as in the serving image, records stay as they are.
    """
    counted = [record["candidates"] for record in records if _whole(record["candidates"])]
    if not counted:
        return
    try:
        from scipy.stats import nbinom  # noqa: PLC0415 - it must not be loaded by the processes that write the log
    except ImportError:
        return
    lengths = [len(candidates["units"]) for candidates in counted]
    unit = np.repeat([float(candidates.get("unit", 1.0)) for candidates in counted], lengths)
    mean = np.maximum(np.concatenate([candidates["units"] for candidates in counted]) / unit, 1e-9)
    size = np.maximum(np.concatenate([candidates["size"] for candidates in counted]), 1e-9)
    for name, level in LEVELS.items():
        ends = np.split(unit * nbinom.ppf(level, size, size / (size + mean)), np.cumsum(lengths)[:-1])
        for candidates, end in zip(counted, ends, strict=True):
            candidates[name] = end.tolist()


def _whole(candidates: Any) -> bool:
    """Whether there is a size for every price, and all are numbers; older lines have none, and count in ones."""
    if not isinstance(candidates, dict) or "q10" in candidates:
        return False
    units, size = candidates.get("units"), candidates.get("size")
    if not isinstance(units, list) or not isinstance(size, list) or not units or len(units) != len(size):
        return False
    unit = candidates.get("unit", 1.0)
    return all(isinstance(value, int | float) for value in (*units, *size, unit)) and unit > 0
