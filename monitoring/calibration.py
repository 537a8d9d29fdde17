"""How far two samples of one and the same world lie apart: drift thresholds for a window of a given size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import t as student
from scipy.stats import wasserstein_distance

from monitoring.samples import Watched
from pricing.arrays import Bools, Floats

METHODS = {"numerical": "wasserstein", "categorical": "jensenshannon"}
MOST_BLOCKS = 48
# Below this distance nobody needs to care, however still the reference was (Evidently's own default is 0.1).
LEAST_DISTANCE = 0.05
LEAST_BLOCKS = 4


@dataclass(frozen=True)
class Threshold:
    """Where drift of one column begins.

    Attributes:
        column: The column.
        method: Evidently's name of the distance.
        value: Distances above this are drift.
        blocks: Blocks of the reference it was calibrated on.
        typical: The median distance between such a block and the rest.
    """

    column: str
    method: str
    value: float
    blocks: int
    typical: float


def calibrate(
    reference: pd.DataFrame, watched: Watched, *, window: int, step_days: int, false_alarm: float
) -> Threshold | None:
    """Finds the distance that a window without drift passes with probability `false_alarm`.

    Blocks of `window` consecutive periods are taken out of the reference, each is compared with what is left, and the
    upper prediction limit of these distances is the threshold: Student's t with half as many degrees of freedom as
    there are blocks that do not overlap, since distances are skewed and neighbouring blocks alike. Consecutive periods
    keep what samples of single rows would lose: that neighbouring days, and a product's own, resemble each other.
    benchmarks/monitoring.md shows the false alarms and the power that come of it.

    Args:
        reference: From `samples.take`; rows without a value in the column are left out.
        watched: Which column.
        window: Periods of the window that will be judged.
        step_days: Days in a period.
        false_alarm: For this column alone.

    Returns:
        None when the reference holds fewer than four windows.
    """
    known = reference[["period", watched.column]].dropna()
    number = ((known["period"] - known["period"].min()).dt.days // step_days).to_numpy(dtype=np.int64)
    periods = int(number.max()) + 1 if len(number) else 0
    if periods < LEAST_BLOCKS * window:
        return None
    starts = np.unique(np.linspace(0, periods - window, MOST_BLOCKS).astype(int))
    inside = [(number >= start) & (number < start + window) for start in starts]
    if watched.kind == "numerical":
        distances = _wasserstein(known[watched.column].to_numpy(dtype=float), inside)
    else:
        distances = _jensen_shannon(pd.factorize(known[watched.column])[0], inside)
    apart = periods // window
    spread = float(distances.std(ddof=1)) * np.sqrt(1 + 1 / apart)
    limit = float(distances.mean() + student.ppf(1 - false_alarm, max(2.0, apart / 2)) * spread)
    value = max(limit, LEAST_DISTANCE)
    return Threshold(watched.column, METHODS[watched.kind], value, len(distances), float(np.median(distances)))


def distance(reference: "pd.Series[float]", current: "pd.Series[float]", *, kind: str) -> float:
    """The distance as Evidently defines it.

    Numerical: Wasserstein distance in standard deviations of the reference. Categorical: Jensen-Shannon distance,
    base e.
    """
    if kind == "numerical":
        scale = max(float(np.std(reference.to_numpy(dtype=float))), 0.001)
        return float(wasserstein_distance(reference, current)) / scale
    values = sorted({*reference, *current}, key=str)
    left = reference.value_counts(normalize=True).reindex(values, fill_value=0.0)
    right = current.value_counts(normalize=True).reindex(values, fill_value=0.0)
    return float(jensenshannon(left, right))


def _wasserstein(values: Floats, inside: Sequence[Bools]) -> Floats:
    """`distance` of each block from the rest, with one sort for all of them."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    steps = np.diff(ascending)
    distances = []
    for block in inside:
        chosen = block[order]
        taken, left = int(chosen.sum()), int((~chosen).sum())
        if not taken or not left:
            continue
        gap = np.cumsum(chosen)[:-1] / taken - np.cumsum(~chosen)[:-1] / left
        distances.append(float((np.abs(gap) * steps).sum()) / max(float(np.std(values[~block])), 0.001))
    return np.array(distances)


def _jensen_shannon(codes: NDArray[np.integer], inside: Sequence[Bools]) -> Floats:
    """`distance` of each block from the rest, over codes from 0."""
    size = int(codes.max()) + 1
    distances = []
    for block in inside:
        if block.any() and not block.all():
            left, right = np.bincount(codes[~block], minlength=size), np.bincount(codes[block], minlength=size)
            distances.append(float(np.nan_to_num(jensenshannon(left, right))))
    return np.array(distances)
