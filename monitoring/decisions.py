"""Read the decision log into a table: one row per valid decision, and findings on the others."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monitoring.policy import Finding, counted
from pricing.config_models import QualityConfig
from pricing.data.panel import Period
from pricing.data.request_quality import request_findings
from pricing.decision_log.format import LogReading, read_decisions
from pricing.paths import ARCHIVE_VARIABLE

COLUMNS = (
    *("decision_id", "at", "date", "product_id", "category", "worker", "sequence"),
    *("recommended_price", "confidence", "expected_units", "expected_margin", "source", "reasons", "strategy"),
    *("model_version", "current_price", "list_price", "unit_cost", "stock", "comp_price"),
    *("candidate_price", "candidate_units", "candidate_size", "unit", "strategy_test"),
)
NUMBERS = [
    *("recommended_price", "confidence", "expected_units", "expected_margin"),
    *("current_price", "list_price", "unit_cost", "stock", "comp_price"),
]
CLOCK_SECONDS = 60
NO_DECISIONS = LogReading([], 0, 0, 0)


def load_decisions(
    folder: Path, *, now: dt.datetime, archive: str | None = None, days: int = 1, known: bool = False
) -> tuple[pd.DataFrame, list[Finding]]:
    """Reads the decision log in `folder`.

    Args:
        folder: The log folder of serving and batch pricing.
        now: Current time, with a time zone; later decisions come from a wrong clock.
        archive: Where `serving.compact` moves older segments; beside `folder` by default.
        days: Days of a period of the sales.
        known: As for `tabulate`.

    Raises:
        SourceError: There is no such folder, or a file in it cannot be opened.
    """
    return tabulate(read_decisions(folder, archive=archive), now=now, days=days, known=known)


def tabulate(
    reading: LogReading, *, now: dt.datetime, days: int = 1, known: bool = False
) -> tuple[pd.DataFrame, list[Finding]]:
    """Builds the table of decisions, with the columns COLUMNS, in log order, and findings.

    `date` is a timestamp, `at` is in UTC, `reasons` are joined by spaces, candidates are arrays; the negative binomial
    sizes are empty in logs of earlier releases. A decision logged twice, as when a segment was copied, appears once.
    `live` marks decisions made before the end of the period they price, by a clock that is not ahead of `now`.

    Args:
        reading: What the log holds.
        now: Current time, with a time zone.
        days: Days of a period of the sales.
        known: Whether decisions were seen before, so that a log without any has lost them.
    """
    rows = []
    broken = 0
    for record in reading.records:
        try:
            rows.append(_row(record))
        except (KeyError, TypeError, ValueError, AttributeError):
            broken += 1
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    frame["date"] = pd.to_datetime(frame["date"])
    frame[NUMBERS] = frame[NUMBERS].astype("float64")
    repeated = frame["decision_id"].duplicated()
    frame = frame[~repeated].reset_index(drop=True)
    frame["live"] = ~_late(frame, days=days) & ~_ahead(frame, now=now)
    damaged = reading.damaged + broken
    missing = max(0, reading.lost - reading.damaged)
    findings = [
        *counted("log_damaged", "warning", "{count} line(s) of the decision log are cut or unreadable", damaged),
        *counted("log_lost", "warning", "{count} decision(s) were numbered but never reached the log", missing),
        *counted(
            "log_elsewhere",
            "warning",
            "{count} decision(s) are in an archive that monitoring was not told of, or are gone from it, and are not "
            f"looked at: {ARCHIVE_VARIABLE} names it",
            reading.elsewhere,
        ),
        *counted("log_pending", "note", "{count} decision(s) of running workers are not on disk yet", reading.pending),
        *counted(
            "log_repeated", "note", "{count} decision(s) stand in the log twice; each counts once", repeated.sum()
        ),
        *counted(
            "not_applied",
            "note",
            "{count} decision(s) were only tried out (by a batch that was not applied, or a challenger beside the "
            "champion) and are left out",
            reading.shadowed,
        ),
        *_clocks(frame, now=now, days=days),
    ]
    if frame.empty:
        findings.append(_empty(known=known or bool(damaged or missing or reading.elsewhere), tried=reading.shadowed))
    return frame, findings


def request_faults(decisions: pd.DataFrame, config: QualityConfig, *, period: Period) -> list[Finding]:
    """Findings on what requests lack, and on prices that nobody charges, against the days before; replays left out.

    Args:
        decisions: From `tabulate`.
        config: The limits.
        period: The grain of the sales.
    """
    found = request_findings(decisions[decisions["live"]], config, period=period)
    return [
        Finding(one.name, "note" if one.level == "note" else "breach", f"{one.text}: {one.advice}", one.rows)
        for one in found
    ]


def _empty(*, known: bool, tried: int) -> Finding:
    """The finding on a log without decisions that were given to a shop: a fault only where there were some before."""
    if known:
        return Finding("log_empty", "breach", "the decision log has lost its decisions: nothing can be scored")
    if tried:
        text = f"all {tried:,} decision(s) were only tried out; with --applied true they count as charged"
        return Finding("no_decisions", "warning", text, tried)
    return Finding(
        "no_decisions", "warning", "no price has been decided yet, so there is nothing to compare with sales"
    )


def _row(record: dict[str, Any]) -> tuple[Any, ...]:
    request, decision, candidates = record["request"], record["decision"], record["candidates"]
    prices = np.asarray(candidates["price"], dtype=float)
    units = np.asarray(candidates["units"], dtype=float)
    sizes = np.asarray(candidates.get("size") or [], dtype=float)
    if prices.shape != units.shape or prices.ndim != 1 or len(sizes) not in (0, len(prices)):
        raise ValueError("candidates of unequal length")
    return (
        str(decision["decision_id"]),
        dt.datetime.fromisoformat(record["at"]),
        dt.date.fromisoformat(record["date"]),
        str(record["product_id"]),
        record["category"],
        str(record["worker"]),
        int(record["sequence"]),
        float(decision["recommended_price"]),
        _number(decision["confidence"]),
        _number(decision["expected_units"]),
        _number(decision["expected_margin"]),
        str(decision["source"]),
        " ".join(decision["reasons"]),
        str(decision["strategy"]),
        str(decision["model_version"]),
        _number(record["current_price"]),
        _number(record["list_price"]),
        _number(record["unit_cost"]),
        _number(request["current_stock"]),
        _number(request.get("comp_price")),
        prices,
        units,
        sizes,
        float(candidates.get("unit", 1.0)),
        record["strategy_test"],
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _clocks(frame: pd.DataFrame, *, now: dt.datetime, days: int) -> list[Finding]:
    """Finds clock problems: ahead of this machine, set back, or later than the period priced."""
    ahead = int(_ahead(frame, now=now).sum())
    ordered = frame.sort_values(["worker", "sequence"])
    back = ordered.groupby("worker")["at"].diff() < -pd.Timedelta(seconds=CLOCK_SECONDS)
    late = int(_late(frame, days=days).sum())
    return [
        *counted(
            "clock_ahead",
            "warning",
            "{count} decision(s) claim to come from the future: a clock is wrong, and they tell nothing about today",
            ahead,
        ),
        *counted("clock_back", "warning", "{count} time(s) a worker's clock was set back", int(back.sum())),
        *counted("decided_late", "note", "{count} decision(s) were made after the days they price: a replay", late),
    ]


def _late(frame: pd.DataFrame, *, days: int) -> "pd.Series[bool]":
    late: pd.Series[bool] = frame["at"].dt.tz_localize(None) >= frame["date"] + pd.Timedelta(days=days)
    return late


def _ahead(frame: pd.DataFrame, *, now: dt.datetime) -> "pd.Series[bool]":
    ahead: pd.Series[bool] = frame["at"] > pd.Timestamp(now) + pd.Timedelta(seconds=CLOCK_SECONDS)
    return ahead


def period_start(dates: "pd.Series[pd.Timestamp]", *, first: np.datetime64, days: int) -> "pd.Series[pd.Timestamp]":
    """Returns the first day of each date's period, on the grid that starts at `first` with steps of `days`."""
    origin = pd.Timestamp(first)
    return origin + pd.to_timedelta((dates - origin).dt.days // days * days, unit="D")


def in_force(frame: pd.DataFrame, *, days: int = 1, by: Sequence[str] = ("product_id", "period")) -> "pd.Series[bool]":
    """Marks the decision in force among several for one product and period, whoever made them.

    It is the last one made before the priced period, of so many `days`, ended; where all were made later, the last of
    them.
    """
    order = frame.assign(_late=_late(frame, days=days)).sort_values(
        ["_late", "at", "worker", "sequence"], ascending=[False, True, True, True]
    )
    newest = ~order.duplicated(list(by), keep="last")
    return newest.reindex(frame.index)
