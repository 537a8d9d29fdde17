"""Render drift, data quality, forecasts and our own prices with Evidently. The only module that imports Evidently.

A run adds one report of each kind to the workspace, dated by its window: a second run on the same window replaces them.
"""

import datetime as dt
import json
import math
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monitoring.drift import ColumnDrift, Drift
from monitoring.samples import MONITORED_COLUMNS, MonitoredColumn

PROJECT = "pricing"
ABOUT = (
    "Decisions against the sales that followed. Each point is a window of monitoring, dated by its last day; Reports "
    "holds the whole of each."
)
# Figures of monitoring (`evaluate.metrics`) that the dashboard shows.
SHOWN = (
    *("columns_drifted", "windows_in_breach", "wape", "wape_naive", "bias"),
    *("share_followed", "share_rule", "share_scored"),
)
SHOWN_ROWS = 20_000  # of scored decisions in a report of forecasts, at most
# Evidently puts values unescaped into a script of its page, where "</script>" would end it.
_BRACKETS = str.maketrans("<>", "‹›")


@dataclass(frozen=True)
class Window:
    """What the reports are about.

    Attributes:
        end: The window's last day.
        span: The dates compared, as text.
        champion: Number of the serving version.
        outcome: What monitoring says is to be done.
    """

    end: dt.date
    span: str
    champion: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Reports:
    """Evidently's snapshots of one run by kind; a kind is absent where there is nothing to show.

    Attributes:
        window: What they are about.
        snapshots: "figures", "inputs", "our prices" and "forecasts" → snapshot.
    """

    window: Window
    snapshots: Mapping[str, Any]


def render(
    drift: Drift, scored: pd.DataFrame, *, metrics: Mapping[str, float], window: Window, since: pd.Timestamp
) -> Reports:
    """Runs Evidently on what drift compared, and on scored decisions.

    Args:
        drift: With the samples kept.
        scored: Scored decisions with `period`, `category`, `forecast` and `units_sold`; neither they nor samples are
            modified.
        metrics: From `evaluate.metrics`.
        window: What the reports are about.
        since: First day of the newest window; earlier decisions are the reference.
    """
    with _quiet():
        made = {
            "figures": _figures(drift, metrics, window),
            "inputs": _inputs(drift, drift.watched, window),
            "our prices": _prices(drift, [one for one in drift.columns if one.watched.role == "price"], window),
            "forecasts": _forecasts(scored, window, since=since),
        }
    return Reports(window, {kind: snapshot for kind, snapshot in made.items() if snapshot is not None})


def html(reports: Reports, *, head: str) -> str:
    """Renders the report on inputs as one self-contained HTML page with `head` above it; there must be one.

    Args:
        reports: From `render`.
        head: HTML fragment that summarises the plots below it.
    """
    with _quiet():
        page: str = reports.snapshots["inputs"].get_html_str(as_iframe=False)
    body = page.index(">", page.index("<body")) + 1
    return page[:body] + head + page[body:]


def distances(reports: Reports, kind: str = "inputs") -> dict[str, float]:
    """The distance of each column as Evidently found it."""
    with _quiet():
        found = json.loads(reports.snapshots[kind].json())["metrics"]
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in found
        if metric["config"].get("type", "").endswith(":ValueDrift")
    }


def add_to_workspace(reports: Reports, folder: Path) -> None:
    """Adds the reports to the Evidently workspace in `folder`, made when absent, and renews its dashboard."""
    with _quiet():
        from evidently.ui.workspace import Workspace  # noqa: PLC0415 - takes seconds, and only runs that report need it

        workspace = Workspace.create(str(folder))
        found = workspace.search_project(PROJECT)
        project = found[0] if found else workspace.create_project(PROJECT, description=ABOUT)
        for kind, snapshot in reports.snapshots.items():
            # The workspace's own add_run gives each a new ID, so that a repeated run would double its points.
            identity = uuid.uuid5(uuid.UUID(str(project.id)), f"{kind} {reports.window.end}")
            workspace.state.write_snapshot(project.id, identity, snapshot.to_snapshot_model())
        workspace.save_dashboard(project.id, _dashboard())


def _inputs(drift: Drift, columns: Sequence[ColumnDrift], window: Window) -> Any:
    """Drift of each watched column by its own threshold, and the quality of its data."""
    if not columns or drift.samples is None:
        return None
    from evidently import Report  # noqa: PLC0415 - takes seconds, and a run may not need it
    from evidently.metrics import DriftedColumnsCount, RowCount, ValueDrift  # noqa: PLC0415
    from evidently.presets import DataSummaryPreset  # noqa: PLC0415

    drifts = [
        ValueDrift(column=one.watched.column, method=one.threshold.method, threshold=one.threshold.value)
        for one in columns
    ]
    count = DriftedColumnsCount(**_per_column(columns))
    report = Report([RowCount(), count, *drifts, DataSummaryPreset(columns=_names(columns))], include_tests=True)
    return _run(report, *_datasets(drift, columns), name="inputs and data quality", window=window)


def _prices(drift: Drift, columns: Sequence[ColumnDrift], window: Window) -> Any:
    """How far our own prices have moved: information, no test."""
    if not columns or drift.samples is None:
        return None
    from evidently import Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    report = Report([DataDriftPreset(**_per_column(columns))], include_tests=False)
    return _run(report, *_datasets(drift, columns), name="our prices", window=window)


def _forecasts(scored: pd.DataFrame, window: Window, *, since: pd.Timestamp) -> Any:
    """Forecasts against what was sold, in the newest window and before."""
    columns = ["units_sold", "forecast", "category"]
    now, before = (
        rows[columns].tail(SHOWN_ROWS).assign(category=rows["category"].map(_without_brackets))
        for rows in (scored[scored["period"] >= since], scored[scored["period"] < since])
    )
    if len(now) < 2:
        return None
    from evidently import DataDefinition, Dataset, Regression, Report  # noqa: PLC0415
    from evidently.presets import RegressionPreset  # noqa: PLC0415

    definition = DataDefinition(
        regression=[Regression(target="units_sold", prediction="forecast")],
        numerical_columns=["units_sold", "forecast"],
        categorical_columns=["category"],
    )
    current, reference = (Dataset.from_pandas(rows, data_definition=definition) for rows in (now, before))
    report = Report([RegressionPreset()], include_tests=False)
    return _run(report, current, reference if len(before) > 1 else None, name="forecasts", window=window)


def _per_column(columns: Sequence[ColumnDrift]) -> dict[str, Any]:
    return {
        "columns": _names(columns),
        "per_column_method": {one.watched.column: one.threshold.method for one in columns},
        "per_column_threshold": {one.watched.column: one.threshold.value for one in columns},
    }


def _names(columns: Sequence[ColumnDrift]) -> list[str]:
    return [one.watched.column for one in columns]


def _run(report: Any, current: Any, reference: Any, *, name: str, window: Window) -> Any:
    facts = {"span": window.span, "champion": window.champion, "outcome": window.outcome}
    tags = [
        name,
        *([f"version {window.champion}"] if window.champion else []),
        *([f"outcome: {window.outcome}"] * bool(window.outcome)),
    ]
    return report.run(
        current,
        reference,
        timestamp=dt.datetime.combine(window.end, dt.time()),
        metadata={key: value for key, value in facts.items() if value},
        tags=tags,
        name=f"{name}, {window.end}",
    )


def _datasets(drift: Drift, columns: Sequence[ColumnDrift]) -> tuple[Any, Any]:
    from evidently import DataDefinition, Dataset  # noqa: PLC0415

    if drift.samples is None:
        raise ValueError("the samples of this drift were not kept")
    watched = [one.watched for one in columns]
    definition = DataDefinition(
        numerical_columns=[one.column for one in watched if one.kind == "numerical"],
        categorical_columns=[one.column for one in watched if one.kind == "categorical"],
    )
    return tuple(
        Dataset.from_pandas(_shown(frame, watched), data_definition=definition)
        for frame in (drift.samples.current, drift.samples.reference)
    )


def _shown(frame: pd.DataFrame, watched: Sequence[MonitoredColumn]) -> pd.DataFrame:
    """The columns, each empty on rows that it is not looked at on."""
    shown = {one.column: one.values(frame).reindex(frame.index) for one in watched}
    for one in watched:
        if one.kind == "categorical":
            shown[one.column] = shown[one.column].map(_without_brackets)
    return pd.DataFrame(shown, index=frame.index)


def _figures(drift: Drift, metrics: Mapping[str, float], window: Window) -> Any:
    """The figures of the dashboard, as a report on one row.

    Evidently draws one line for each setting of a metric, and the thresholds of drift change with each window: their
    reports would be a line of one point each.
    """
    found = {name: metrics[name] for name in SHOWN if math.isfinite(metrics.get(name, math.nan))}
    for one in drift.columns:
        found[f"drift_{one.watched.column}"] = one.value / one.threshold.value
    if drift.samples is not None:
        found["rows"] = float(len(drift.samples.current))
        for watched in MONITORED_COLUMNS:
            values = watched.values(drift.samples.current)
            if watched.role == "input" and len(values):
                found[f"missing_{watched.column}"] = float(values.isna().mean())
    if not found:
        return None
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.metrics import MeanValue  # noqa: PLC0415

    row = Dataset.from_pandas(
        pd.DataFrame([found], dtype=float), data_definition=DataDefinition(numerical_columns=list(found))
    )
    report = Report([MeanValue(column=name) for name in found], include_tests=False)
    return _run(report, row, None, name="figures", window=window)


def _dashboard() -> Any:
    """The panels of the workspace, each of the figures of `_figures`; its pages show no tabs, so headings part them."""
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric  # noqa: PLC0415
    from evidently.sdk.panels import line_plot_panel, text_panel  # noqa: PLC0415

    def lines(**legends: str) -> list[Any]:
        return [
            PanelMetric(legend=legend, metric="MeanValue", metric_labels={"column": name})
            for name, legend in legends.items()
        ]

    def columns(what: str, *roles: str) -> list[Any]:
        return lines(**{f"{what}_{one.column}": one.plain for one in MONITORED_COLUMNS if one.role in roles})

    panels = [
        # Not as counters, which say "no value" where the value is 0.
        line_plot_panel("Columns that drifted", lines(columns_drifted="columns"), "in each window", size="half"),
        line_plot_panel("Score windows in breach", lines(windows_in_breach="windows"), "of those judged", size="half"),
        text_panel("Inputs and sales", "Do they look as in the year before? What shop and market decide."),
        line_plot_panel(
            "Inputs", columns("drift", "input"), "distance as a multiple of its threshold: above 1 drifted"
        ),
        line_plot_panel(
            "Demand and forecast errors", columns("drift", "target", "error"), "distance as a multiple of its threshold"
        ),
        text_panel("Data quality", "Each report holds more: distributions, extremes, most common values."),
        line_plot_panel("Values missing", columns("missing", "input"), "share of rows, or of requests", size="half"),
        line_plot_panel("Rows", lines(rows="products and days"), "of the newest window", size="half"),
        text_panel("Forecasts and decisions", "Decisions against what was sold."),
        line_plot_panel(
            "Forecast error", lines(wape="ours", wape_naive="same weekday before"), "share of units sold", size="half"
        ),
        line_plot_panel("Bias", lines(bias="forecast less actual"), "share of units sold", size="half"),
        line_plot_panel(
            "Decisions",
            lines(share_followed="charged", share_rule="by rule", share_scored="scored by sales"),
            "share of the newest decisions",
        ),
        text_panel("Our own prices", "What follows from our decisions is to move: this informs, and alarms nobody."),
        line_plot_panel("Our prices", columns("drift", "price"), "distance as a multiple of its threshold"),
    ]
    tab = DashboardTabModel(title="Monitoring", panels=[panel.id for panel in panels])
    return DashboardModel(tabs=[tab], panels=panels)


def _without_brackets(value: object) -> object:
    return value.translate(_BRACKETS) if isinstance(value, str) else value


def _quiet() -> warnings.catch_warnings:
    """Suppresses deprecation warnings about NumPy, pandas and litestar from Evidently's own code."""
    return warnings.catch_warnings(action="ignore")
