"""Detect drift column by column, each against a threshold that is estimated from its own reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import t as student

from monitoring.samples import MONITORED_COLUMNS, WATCHED, Kind, MonitoredColumn, Role, Samples
from pricing.arrays import Bools, Floats
from pricing.data.findings import Finding, Level

MOST_BLOCKS = 48
# Smaller distances are ignored, however stable the reference (Evidently's default threshold is 0.1).
LEAST_DISTANCE = 0.05
LEAST_BLOCKS = 4
MISSING_RISE = 0.1
LEAST_EXPECTED = 10  # values that an empty window would have held, from which on its source has stopped
MONTH_DAYS = 365.25 / 12
LOOKS_APART = 0.5  # of a window: looks so far apart alarm independently of each other, on average


@dataclass(frozen=True)
class Threshold:
    """Drift threshold of one column."""

    value: float  # distances above this count as drift
    typical: float  # median distance between a block of the reference and the rest


def estimate_threshold(
    reference: pd.DataFrame, watched: MonitoredColumn, *, window: int, step_days: int, false_alarm: float
) -> Threshold | None:
    """Estimates the distance that a window without drift exceeds with probability `false_alarm`.

    Blocks of `window` consecutive periods are taken out of the reference (from `samples.take`) and each is compared
    with the rest. The threshold is the upper prediction limit of these distances: Student's t with half as many degrees
    of freedom as there are non-overlapping blocks, since distances are skewed and neighbouring blocks correlated.
    Blocks of consecutive periods preserve the autocorrelation that sampling single rows would lose.

    Returns:
        None when the reference holds fewer than four windows, of `step_days` a period.
    """
    values = watched.values(reference).dropna()
    period = reference.loc[values.index, "period"]
    number = ((period - period.min()).dt.days // step_days).to_numpy(dtype=np.int64)
    periods = int(number.max(initial=-1)) + 1
    if periods < LEAST_BLOCKS * window:
        return None
    starts = np.unique(np.linspace(0, periods - window, MOST_BLOCKS).astype(int))
    found = distances(values, [(number >= start) & (number < start + window) for start in starts], kind=watched.kind)
    apart = periods // window
    spread = float(found.std(ddof=1)) * np.sqrt(1 + 1 / apart)
    limit = float(found.mean() + student.ppf(1 - false_alarm, max(2.0, apart / 2)) * spread)
    least = watched.least / _scale(values.to_numpy(dtype=float)) if watched.least else 0.0
    return Threshold(max(limit, LEAST_DISTANCE, least), float(np.median(found)))


def distances(column: "pd.Series[Any]", blocks: Sequence[Bools], *, kind: Kind) -> Floats:
    """Computes how far the rows of each block lie from all others, as Evidently defines it.

    Numerical: Wasserstein distance in standard deviations of the others. Categorical: Jensen-Shannon distance, base e.
    A block that holds no row, or all, is left out.
    """
    blocks = [block for block in blocks if block.any() and not block.all()]
    found = []
    if kind == "categorical":
        codes = pd.factorize(column)[0]
        for block in blocks:
            inside, outside = (np.bincount(codes[rows], minlength=codes.max() + 1) for rows in (block, ~block))
            found.append(float(np.nan_to_num(jensenshannon(inside, outside))))
        return np.array(found)
    values = column.to_numpy(dtype=float)
    order = np.argsort(values, kind="stable")  # once for all blocks
    steps = np.diff(values[order])
    for block in blocks:
        chosen = block[order]
        gap = np.cumsum(chosen)[:-1] / chosen.sum() - np.cumsum(~chosen)[:-1] / (~chosen).sum()
        found.append(float((np.abs(gap) * steps).sum()) / _scale(values[~block]))
    return np.array(found)


def _scale(values: Floats) -> float:
    return max(float(np.std(values)), 0.001)


@dataclass(frozen=True)
class ColumnDrift:
    """Drift result of one column."""

    watched: MonitoredColumn
    threshold: Threshold
    value: float  # distance between reference and current sample

    @property
    def drifted(self) -> bool:
        """True when the distance exceeds the threshold."""
        return self.value > self.threshold.value

    @property
    def text(self) -> str:
        """Result in one line: column, method, distance and threshold."""
        moved = "drifted" if self.drifted else "did not drift"
        return (
            f"{self.watched.column} ({self.watched.says}) {moved}: {self.watched.method} distance {self.value:.3f}, "
            f"threshold {self.threshold.value:.3f}, usually {self.threshold.typical:.3f}"
        )


@dataclass(frozen=True)
class Drift:
    """Result of a drift comparison: columns that were compared, findings on those that were not, and the samples."""

    columns: list[ColumnDrift]
    findings: list[Finding]
    samples: Samples

    def drifted(self, role: Role) -> tuple[str, ...] | None:
        """The drifted columns of a role; None when none of that role could be compared."""
        compared = [column for column in self.columns if column.watched.role == role]
        return tuple(column.watched.column for column in compared if column.drifted) if compared else None

    @property
    def watched(self) -> list[ColumnDrift]:
        """The columns whose drift is a matter for somebody: all but our own prices."""
        return [column for column in self.columns if column.watched.role != "price"]


def compare(samples: Samples, *, window: int, step_days: int, false_alarm: float, min_rows: int) -> Drift:
    """Compares the samples, each column by its own method and estimated threshold.

    A column with no or too few values, or with too short a reference, is left out and becomes a finding, since its
    absence would look like a pass.
    """
    findings: list[Finding] = []
    columns = []
    # Looks at a window that slides day by day find about as many false alarms as two independent windows would in its
    # length (measured on simulated shops).
    chance = false_alarm * window * step_days * LOOKS_APART / MONTH_DAYS / WATCHED
    for watched in MONITORED_COLUMNS:
        before, now = (watched.values(frame) for frame in (samples.reference, samples.current))
        reason = _unfit(watched, before, now, nothing_new=samples.current.empty, min_rows=min_rows)
        if reason is not None:
            findings.append(reason)
            continue
        findings += _emptier(watched, before, now)
        threshold = estimate_threshold(
            samples.reference, watched, window=window, step_days=step_days, false_alarm=chance
        )
        if threshold is None:
            text = f"drift of {watched.column} is not judged: its reference is shorter than four windows"
            # Errors and requests begin with the first decisions.
            level: Level = "note" if watched.role == "error" or watched.among == "asked" else "warning"
            findings.append(Finding("reference_short", level, rows=len(samples.reference), sentence=text))
            continue
        both = pd.concat([before.dropna(), now.dropna()])
        (value,) = distances(both, [np.arange(len(both)) >= before.notna().sum()], kind=watched.kind)
        columns.append(ColumnDrift(watched, threshold, float(value)))
    drift = Drift(columns, findings, samples)
    if not drift.watched:
        text = "no column could be compared: drift is unknown, not absent"
        findings.append(Finding("drift_unjudged", "warning", sentence=text))
    return drift


def _unfit(
    watched: MonitoredColumn,
    reference: "pd.Series[Any]",
    current: "pd.Series[Any]",
    *,
    nothing_new: bool,
    min_rows: int,
) -> Finding | None:
    """Returns the finding that says why a column cannot be compared; None when it can."""
    name = watched.column
    before = int(reference.notna().sum())
    now = int(current.notna().sum())
    if before == 0 and now == 0:
        text = f"{name} is not watched: nothing that it is computed from is known"
        return Finding("column_absent", "note", sentence=text)
    expected = len(current) * before / max(len(reference), 1)
    if now == 0 and watched.role != "price" and (nothing_new or expected >= LEAST_EXPECTED):
        text = f"{name} has no values in the newest window, {before:,} in the reference: its source has stopped"
        return Finding("column_empty", "breach", rows=len(current), sentence=text, about=name)
    if before == 0:
        text = f"{name} has no values in the reference, so nothing to compare with"
        return Finding("column_new", "note", rows=now, sentence=text)
    if min(before, now) < min_rows:
        text = f"{name} has {before:,} values in the reference, {now:,} in the window; under {min_rows} none is judged"
        return Finding("rows_few", "note" if watched.role == "price" else "warning", rows=now, sentence=text)
    return None


def _emptier(watched: MonitoredColumn, reference: "pd.Series[Any]", current: "pd.Series[Any]") -> list[Finding]:
    before = reference.isna().mean()
    now = current.isna().mean()
    if watched.role in ("error", "price") or now <= before + MISSING_RISE:
        return []
    rows = "requests" if watched.among == "asked" else "rows"
    text = f"{watched.column} is missing in {now:.0%} of the newest {rows}, {before:.0%} of the reference"
    missing = int(current.isna().sum())
    return [Finding("column_emptier", "warning", rows=missing, sentence=text, about=watched.column)]
