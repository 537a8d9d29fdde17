"""Detect drift column by column with Evidently and render its report. The only module that imports Evidently."""

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import t as student
from scipy.stats import wasserstein_distance

from monitoring.policy import Finding, Level
from monitoring.samples import MONITORED_COLUMNS, MonitoredColumn, Role, Samples
from pricing.arrays import Bools, Floats

METHODS = {"numerical": "wasserstein", "categorical": "jensenshannon"}
MOST_BLOCKS = 48
# Smaller distances are ignored, however stable the reference (Evidently's default threshold is 0.1).
LEAST_DISTANCE = 0.05
LEAST_BLOCKS = 4
_log = logging.getLogger(__name__)
PROJECT = "pricing"
_BRACKETS = str.maketrans("<>", "‹›")
MISSING_RISE = 0.1


@dataclass(frozen=True)
class Threshold:
    """Drift threshold of one column.

    Attributes:
        column: The column.
        method: Evidently's name of the distance.
        value: Distances above this count as drift.
        blocks: Number of reference blocks that it was estimated from.
        typical: Median distance between such a block and the rest.
    """

    column: str
    method: str
    value: float
    blocks: int
    typical: float


def estimate_threshold(
    reference: pd.DataFrame, watched: MonitoredColumn, *, window: int, step_days: int, false_alarm: float
) -> Threshold | None:
    """Estimates the distance that a window without drift exceeds with probability `false_alarm`.

    Blocks of `window` consecutive periods are taken out of the reference and each is compared with the rest. The
    threshold is the upper prediction limit of these distances: Student's t with half as many degrees of freedom as
    there are non-overlapping blocks, since distances are skewed and neighbouring blocks correlated. Blocks of
    consecutive periods preserve the autocorrelation that sampling single rows would lose. False alarm rates and power
    are measured in benchmarks/monitoring.md.

    Args:
        reference: From `samples.take`; rows without a value in the column are left out.
        watched: The column.
        window: Periods of the window to be judged.
        step_days: Days per period.
        false_alarm: False alarm probability of this column alone.

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
    """Computes the distance between two samples as Evidently defines it.

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
    """Returns the `distance` of each block from the rest, sorting only once."""
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
    """Returns the `distance` of each block from the rest, for category codes from 0."""
    size = int(codes.max()) + 1
    distances = []
    for block in inside:
        if block.any() and not block.all():
            left, right = np.bincount(codes[~block], minlength=size), np.bincount(codes[block], minlength=size)
            distances.append(float(np.nan_to_num(jensenshannon(left, right))))
    return np.array(distances)


@dataclass(frozen=True)
class ColumnDrift:
    """Drift result of one column.

    Attributes:
        watched: The column and its definition.
        threshold: Method and threshold.
        value: Distance between reference and current sample.
    """

    watched: MonitoredColumn
    threshold: Threshold
    value: float

    @property
    def drifted(self) -> bool:
        """True when the distance exceeds the threshold."""
        return self.value > self.threshold.value

    @property
    def text(self) -> str:
        """Result in one line: column, method, distance and threshold."""
        moved = "drifted" if self.drifted else "did not drift"
        return (
            f"{self.watched.column} ({self.watched.says}) {moved}: {self.threshold.method} distance {self.value:.3f}, "
            f"threshold {self.threshold.value:.3f}, usually {self.threshold.typical:.3f}"
        )


@dataclass(frozen=True)
class Drift:
    """Result of a drift comparison.

    Attributes:
        columns: Columns that were compared.
        findings: Columns that were not, and why.
        snapshot: Evidently's result; None when nothing could be compared.
    """

    columns: list[ColumnDrift]
    findings: list[Finding]
    snapshot: Any

    def drifted(self, role: Role) -> list[str] | None:
        """Returns the drifted columns of a role; None when none of that role could be compared."""
        compared = [column for column in self.columns if column.watched.role == role]
        return [column.watched.column for column in compared if column.drifted] if compared else None


def compare(samples: Samples, *, window: int, step_days: int, false_alarm: float, min_rows: int) -> Drift:
    """Compares the samples with Evidently, each column by its own method and estimated threshold.

    A column with no or too few values, or with too short a reference, is left out of the report and becomes a finding,
    since its absence would look like a pass.

    Args:
        samples: From `samples.take`.
        window: Periods of the current sample.
        step_days: Days per period.
        false_alarm: Target probability of any false alarm in one window; split evenly over the columns.
        min_rows: Values below which a column is not judged.
    """
    findings: list[Finding] = []
    thresholds: dict[str, Threshold] = {}
    judged = []
    for watched in MONITORED_COLUMNS:
        reason = _unfit(samples, watched, min_rows=min_rows)
        if reason is not None:
            findings.append(reason)
            continue
        findings += _emptier(samples, watched)
        threshold = estimate_threshold(
            samples.reference,
            watched,
            window=window,
            step_days=step_days,
            false_alarm=false_alarm / len(MONITORED_COLUMNS),
        )
        if threshold is None:
            text = f"drift of {watched.column} is not judged: its reference is shorter than four windows"
            level: Level = "note" if watched.role == "error" else "warning"  # errors begin with the first decisions
            findings.append(Finding("reference_short", level, text, len(samples.reference)))
            continue
        thresholds[watched.column] = threshold
        judged.append(watched)
    if not judged:
        findings.append(
            Finding("drift_unjudged", "warning", "no column could be compared: drift is unknown, not absent")
        )
        return Drift([], findings, None)
    snapshot, values = _run(samples, judged, thresholds)
    columns = [ColumnDrift(watched, thresholds[watched.column], values[watched.column]) for watched in judged]
    return Drift(columns, findings, snapshot)


def html(drift: Drift, *, head: str) -> str:
    """Renders Evidently's report as one self-contained HTML page with `head` above it; needs a snapshot.

    Args:
        drift: Result with a snapshot.
        head: HTML fragment that summarises the plots below it.
    """
    with _quiet():
        page: str = drift.snapshot.get_html_str(as_iframe=False)
    body = page.index(">", page.index("<body")) + 1
    return page[:body] + head + page[body:]


def add_to_workspace(drift: Drift, folder: Path) -> None:
    """Adds the result to the Evidently workspace in `folder`, which is created when absent."""
    with _quiet():
        from evidently.ui.workspace import Workspace  # noqa: PLC0415 - takes seconds, and only runs that report need it

        workspace = Workspace.create(str(folder))
        found = workspace.search_project(PROJECT)
        project = found[0] if found else workspace.create_project(PROJECT)
        workspace.add_run(project.id, drift.snapshot)


def _unfit(samples: Samples, watched: MonitoredColumn, *, min_rows: int) -> Finding | None:
    """Returns the finding that says why a column cannot be compared; None when it can."""
    name = watched.column
    before, now = int(samples.reference[name].notna().sum()), int(samples.current[name].notna().sum())
    if before == 0 and now == 0:
        return Finding("column_absent", "note", f"{name} is not watched: {_because(watched)}")
    if now == 0:
        text = f"{name} has no values in the newest window, {before:,} in the reference: its source has stopped"
        return Finding("column_empty", "breach", text, len(samples.current), watched.column)
    if before == 0:
        return Finding("column_new", "note", f"{name} has no values in the reference, so nothing to compare with", now)
    if min(before, now) < min_rows:
        text = f"{name} has {before:,} values in the reference, {now:,} in the window; under {min_rows} none is judged"
        return Finding("rows_few", "warning", text, now)
    return None


def _because(watched: MonitoredColumn) -> str:
    if watched.role == "error":
        return "no decision in these periods can be scored"
    return "the sales hold nothing that it could be computed from"


def _emptier(samples: Samples, watched: MonitoredColumn) -> list[Finding]:
    before = samples.reference[watched.column].isna().mean()
    now = samples.current[watched.column].isna().mean()
    if now <= before + MISSING_RISE or watched.role == "error":
        return []
    text = f"{watched.column} is missing in {now:.0%} of the newest rows, {before:.0%} of the reference"
    return [Finding("column_emptier", "warning", text, int(samples.current[watched.column].isna().sum()))]


def _run(
    samples: Samples, judged: Sequence[MonitoredColumn], thresholds: dict[str, Threshold]
) -> tuple[Any, dict[str, float]]:
    with _quiet():
        from evidently import DataDefinition, Report  # noqa: PLC0415 - takes seconds, and a run may not need it
        from evidently.metrics import ValueDrift  # noqa: PLC0415
        from evidently.presets import DataSummaryPreset  # noqa: PLC0415

        names = [watched.column for watched in judged]
        definition = DataDefinition(
            numerical_columns=[watched.column for watched in judged if watched.kind == "numerical"],
            categorical_columns=[watched.column for watched in judged if watched.kind == "categorical"],
        )
        drifts = [
            ValueDrift(column=name, method=thresholds[name].method, threshold=thresholds[name].value) for name in names
        ]
        report = Report(
            [*drifts, DataSummaryPreset(columns=names)], include_tests=True, metadata={"span": samples.span}
        )
        snapshot = report.run(
            _dataset(samples.current, names, definition), _dataset(samples.reference, names, definition)
        )
        found = json.loads(snapshot.json())["metrics"]
    values = {}
    for metric in found:
        if metric["config"].get("type", "").endswith(":ValueDrift"):
            values[metric["config"]["column"]] = float(metric["value"])
    return snapshot, values


def _dataset(frame: pd.DataFrame, names: list[str], definition: Any) -> Any:
    from evidently import Dataset  # noqa: PLC0415

    shown = frame[names].copy()
    for watched in MONITORED_COLUMNS:
        if watched.kind == "categorical" and watched.column in names:
            # Evidently puts values unescaped into a script of its page, where "</script>" would end it.
            shown[watched.column] = shown[watched.column].map(_without_brackets)
    return Dataset.from_pandas(shown, data_definition=definition)


def _without_brackets(value: object) -> object:
    return value.translate(_BRACKETS) if isinstance(value, str) else value


def _quiet() -> warnings.catch_warnings:
    """Suppresses deprecation warnings about NumPy, pandas and litestar from Evidently's own code."""
    return warnings.catch_warnings(action="ignore")
