"""Render drift, data quality and forecasts with Evidently. The only module that imports Evidently, which takes seconds.

A run adds one report of each kind to the workspace, dated by its window: a second run on the same window replaces them.
"""

import datetime as dt
import math
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from monitoring.drift import Drift
from monitoring.samples import MONITORED_COLUMNS, Role

with warnings.catch_warnings(action="ignore"):  # of NumPy, pandas and litestar, about Evidently's own code
    from evidently import DataDefinition, Dataset, Regression, Report
    from evidently.metrics import MeanValue, ValueDrift
    from evidently.presets import DataSummaryPreset, RegressionPreset
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import line_plot_panel
    from evidently.ui.workspace import Workspace

PROJECT = "pricing"
# Figures of monitoring (`evaluate.metrics`) that the dashboard shows: panel → column → legend.
PANELS = {
    "Columns that drifted, score windows in breach": {"columns_drifted": "columns", "windows_in_breach": "windows"},
    "Forecast error, share of units sold": {"wape": "ours", "wape_naive": "same weekday before"},
    "Bias, share of units sold": {"bias": "forecast less actual"},
    "Decisions, share of the newest": {"share_followed": "charged", "share_rule": "by rule", "share_scored": "scored"},
}
# Distances as multiples of their thresholds: panel → roles of columns.
DISTANCES: dict[str, tuple[Role, ...]] = {
    "Inputs: distance as a multiple of its threshold, above 1 drifted": ("input",),
    "Demand and forecast errors: the same": ("target", "error"),
    "Our own prices: the same, which alarms nobody": ("price",),
}
SHOWN_ROWS = 20_000  # of scored decisions in a report of forecasts, at most
# Evidently puts values unescaped into a script of its page, where "</script>" would end it.
_BRACKETS = str.maketrans("<>", "‹›")
Reports = Mapping[str, Any]  # kind → Evidently's snapshot; a kind is absent where there is nothing to show


def render(
    drift: Drift,
    scored: pd.DataFrame,
    *,
    metrics: Mapping[str, float],
    since: pd.Timestamp,
    end: dt.date,
    tags: Mapping[str, str],
) -> Reports:
    """Runs Evidently on what drift compared ("inputs"), on scored decisions ("forecasts"), and on "figures"."""
    with warnings.catch_warnings(action="ignore"):
        return {
            kind: report.run(
                *samples,
                timestamp=dt.datetime.combine(end, dt.time()),
                metadata=dict(tags),
                tags=[kind, *(f"{name} {value}" for name, value in tags.items())],
                name=f"{kind}, {end}",
            )
            for kind, report, *samples in (*_inputs(drift), *_forecasts(scored, since=since), *_figures(drift, metrics))
        }


def html(reports: Reports) -> str | None:
    """Renders the report on inputs as one self-contained page; None where nothing could be compared."""
    with warnings.catch_warnings(action="ignore"):
        return str(reports["inputs"].get_html_str(as_iframe=False)) if "inputs" in reports else None


def add_to_workspace(reports: Reports, folder: Path, *, end: dt.date) -> None:
    """Adds the reports to the Evidently workspace in `folder`, made when absent, and renews its dashboard."""
    with warnings.catch_warnings(action="ignore"):
        workspace = Workspace.create(str(folder))
        found = workspace.search_project(PROJECT)
        project = found[0] if found else workspace.create_project(PROJECT, description="A point for each window.")
        for kind, snapshot in reports.items():
            # The workspace's own add_run gives each a new ID, so that a repeated run would double its points.
            identity = uuid.uuid5(uuid.UUID(str(project.id)), f"{kind} {end}")
            workspace.state.write_snapshot(project.id, identity, snapshot.to_snapshot_model())
        workspace.save_dashboard(project.id, _dashboard())


def _inputs(drift: Drift) -> Iterator[tuple[Any, ...]]:
    """Drift of each watched column by its own threshold, and the quality of its data."""
    watched = [column.watched for column in drift.watched]
    if not watched:
        return
    drifts = [
        ValueDrift(column=column.watched.column, method=column.watched.method, threshold=column.threshold.value)
        for column in drift.watched
    ]
    definition = DataDefinition(
        numerical_columns=[column.column for column in watched if column.kind == "numerical"],
        categorical_columns=[column.column for column in watched if column.kind == "categorical"],
    )
    report = Report([*drifts, DataSummaryPreset(columns=[column.column for column in watched])], include_tests=True)
    frames = [  # each column is empty on rows that it is not looked at on
        pd.DataFrame({column.column: column.values(frame).map(_shown) for column in watched}, index=frame.index)
        for frame in (drift.samples.current, drift.samples.reference)
    ]
    yield "inputs", report, *(Dataset.from_pandas(frame, data_definition=definition) for frame in frames)


def _forecasts(scored: pd.DataFrame, *, since: pd.Timestamp) -> Iterator[tuple[Any, ...]]:
    """Forecasts against what was sold, in the newest window and before."""
    shown = scored[["units_sold", "forecast", "category"]].assign(category=scored["category"].map(_shown))
    samples = [shown[rows].tail(SHOWN_ROWS) for rows in (scored["period"] >= since, scored["period"] < since)]
    if len(samples[0]) < 2:
        return
    definition = DataDefinition(
        regression=[Regression(target="units_sold", prediction="forecast")],
        numerical_columns=["units_sold", "forecast"],
        categorical_columns=["category"],
    )
    known = [Dataset.from_pandas(rows, data_definition=definition) for rows in samples if len(rows) > 1]
    yield "forecasts", Report([RegressionPreset()], include_tests=False), *known


def _figures(drift: Drift, metrics: Mapping[str, float]) -> Iterator[tuple[Any, ...]]:
    """The figures of the dashboard, as a report on one row.

    Evidently draws one line for each setting of a metric, and the thresholds of drift change with each window: their
    reports would be a line of one point each.
    """
    names = [name for legends in PANELS.values() for name in legends]
    found = {name: metrics[name] for name in names if math.isfinite(metrics.get(name, math.nan))}
    found |= {f"drift_{column.watched.column}": column.value / column.threshold.value for column in drift.columns}
    if found:
        row = pd.DataFrame([found], dtype=float)
        definition = DataDefinition(numerical_columns=list(found))
        report = Report([MeanValue(column=name) for name in found], include_tests=False)
        yield "figures", report, Dataset.from_pandas(row, data_definition=definition)


def _dashboard() -> Any:
    """The panels of the workspace, each of the figures of `_figures`."""
    distances = {
        title: {f"drift_{column.column}": column.plain for column in MONITORED_COLUMNS if column.role in roles}
        for title, roles in DISTANCES.items()
    }

    def line(name: str, legend: str) -> PanelMetric:
        return PanelMetric(legend=legend, metric="MeanValue", metric_labels={"column": name})

    panels = [
        line_plot_panel(title, [line(name, legend) for name, legend in legends.items()])
        for title, legends in {**PANELS, **distances}.items()
    ]
    tab = DashboardTabModel(title="Monitoring", panels=[panel.id for panel in panels])
    return DashboardModel(tabs=[tab], panels=panels)


def _shown(value: object) -> object:
    return value.translate(_BRACKETS) if isinstance(value, str) else value
