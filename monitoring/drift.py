"""The door to Evidently: compares two samples column by column, and writes the report. Nothing else imports it."""

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monitoring.calibration import Threshold, calibrate
from monitoring.findings import Finding, Level
from monitoring.samples import WATCHED, Role, Samples, Watched

_log = logging.getLogger(__name__)

PROJECT = "pricing"
MISSING_RISE = 0.1


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes:
        watched: The column and what it measures.
        threshold: The method and where drift begins.
        value: The distance between reference and current sample.
    """

    watched: Watched
    threshold: Threshold
    value: float

    @property
    def drifted(self) -> bool:
        """True when the distance passes the threshold."""
        return self.value > self.threshold.value

    @property
    def text(self) -> str:
        """One line for people: what moved, by which method, how far beyond which threshold."""
        moved = "drifted" if self.drifted else "did not drift"
        return (
            f"{self.watched.column} ({self.watched.says}) {moved}: {self.threshold.method} distance {self.value:.3f}, "
            f"threshold {self.threshold.value:.3f}, usually {self.threshold.typical:.3f}"
        )


@dataclass(frozen=True)
class Drift:
    """The outcome of one comparison.

    Attributes:
        columns: What was compared.
        findings: What was not, and why.
        snapshot: Evidently's own result; None when nothing could be compared.
    """

    columns: list[ColumnDrift]
    findings: list[Finding]
    snapshot: Any

    def drifted(self, role: Role) -> list[str] | None:
        """Names of the columns of a role that drifted; None when none of them could be compared."""
        compared = [column for column in self.columns if column.watched.role == role]
        return [column.watched.column for column in compared if column.drifted] if compared else None


def compare(samples: Samples, *, window: int, step_days: int, false_alarm: float, min_rows: int) -> Drift:
    """Compares the samples with Evidently, each column by its named method at its calibrated threshold.

    A column without values, with too few of them, or without a reference long enough is a finding and is left out of
    the report: Evidently cannot be asked about it, and silence would look like a pass.

    Args:
        samples: From `samples.take`.
        window: Periods of the current sample.
        step_days: Days in a period.
        false_alarm: Chance aimed at that any column alarms on one window without drift; shared out evenly.
        min_rows: Values below which a column is not judged.
    """
    findings: list[Finding] = []
    thresholds: dict[str, Threshold] = {}
    judged = []
    for watched in WATCHED:
        reason = _unfit(samples, watched, min_rows=min_rows)
        if reason is not None:
            findings.append(reason)
            continue
        findings += _emptier(samples, watched)
        threshold = calibrate(
            samples.reference, watched, window=window, step_days=step_days, false_alarm=false_alarm / len(WATCHED)
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
    """Evidently's report as one page that needs no network, with `head` above it; there must be a snapshot.

    Args:
        drift: What was compared.
        head: HTML that says in words and one table what the plots below show.
    """
    with _quiet():
        page: str = drift.snapshot.get_html_str(as_iframe=False)
    body = page.index(">", page.index("<body")) + 1
    return page[:body] + head + page[body:]


def add_to_workspace(drift: Drift, folder: Path) -> None:
    """Adds the result to the Evidently workspace in `folder`, which is made when absent."""
    with _quiet():
        from evidently.ui.workspace import Workspace  # noqa: PLC0415 - takes seconds, and only runs that report need it

        workspace = Workspace.create(str(folder))
        found = workspace.search_project(PROJECT)
        project = found[0] if found else workspace.create_project(PROJECT)
        workspace.add_run(project.id, drift.snapshot)


def _unfit(samples: Samples, watched: Watched, *, min_rows: int) -> Finding | None:
    """Why a column cannot be compared; None when it can."""
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


def _because(watched: Watched) -> str:
    if watched.role == "error":
        return "no decision in these periods can be scored"
    return "the sales hold nothing that it could be computed from"


def _emptier(samples: Samples, watched: Watched) -> list[Finding]:
    before = samples.reference[watched.column].isna().mean()
    now = samples.current[watched.column].isna().mean()
    if now <= before + MISSING_RISE or watched.role == "error":
        return []
    text = f"{watched.column} is missing in {now:.0%} of the newest rows, {before:.0%} of the reference"
    return [Finding("column_emptier", "warning", text, int(samples.current[watched.column].isna().sum()))]


def _run(samples: Samples, judged: Sequence[Watched], thresholds: dict[str, Threshold]) -> tuple[Any, dict[str, float]]:
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

    return Dataset.from_pandas(frame[names], data_definition=definition)


def _quiet() -> warnings.catch_warnings:
    """Evidently's own imports and calls warn of NumPy's, pandas' and litestar's changes; none concerns our data."""
    return warnings.catch_warnings(action="ignore")
