"""How far two samples of one and the same world lie apart: drift thresholds for a window of a given size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import t as student
from scipy.stats import wasserstein_distance

from monitoring.samples import Watched

METHODS = {"numerical": "wasserstein", "categorical": "jensenshannon"}
MOST_BLOCKS = 48
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
    upper prediction limit of the logs of these distances is the threshold (Student's t with as many degrees of freedom
    as there are blocks that do not overlap, less one). Blocks of consecutive periods keep what samples of single rows
    would lose: that days next to each other, and a product's own days, resemble each other.

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
    distances = np.array(
        [
            distance(left[watched.column], block[watched.column], kind=watched.kind)
            for left, block in _split(known, window, step_days)
        ]
    )
    if not len(distances):
        return None
    apart = _span(known, step_days) // window
    logs = np.log(np.maximum(distances, 1e-6))
    spread = logs.std(ddof=1) * np.sqrt(1 + 1 / apart)
    limit = logs.mean() + student.ppf(1 - false_alarm, apart - 1) * max(spread, 0.05)
    return Threshold(
        watched.column, METHODS[watched.kind], float(np.exp(limit)), len(distances), float(np.median(distances))
    )


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


def _split(known: pd.DataFrame, window: int, step_days: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    periods = _span(known, step_days)
    if periods < LEAST_BLOCKS * window:
        return
    number = ((known["period"] - known["period"].min()).dt.days // step_days).to_numpy()
    starts = np.unique(np.linspace(0, periods - window, MOST_BLOCKS).astype(int))
    for start in starts:
        inside = (number >= start) & (number < start + window)
        if inside.any() and not inside.all():
            yield known[~inside], known[inside]


def _span(known: pd.DataFrame, step_days: int) -> int:
    if known.empty:
        return 0
    return int((known["period"].max() - known["period"].min()).days) // step_days + 1
