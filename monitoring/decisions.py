"""Read the decision log into a table: one row per valid decision, and findings on the others."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monitoring.policy import Finding, counted
from pricing.decision_log.archive import archive_days, default_archive
from pricing.decision_log.format import ArchiveNumbers, LogReading, Uploads, decode_line, read_decisions
from pricing.paths import ARCHIVE_VARIABLE

COLUMNS = (
    *("decision_id", "at", "date", "product_id", "category", "worker", "sequence"),
    *("recommended_price", "confidence", "expected_units", "expected_margin", "source", "reasons", "strategy"),
    *("model_version", "current_price", "list_price", "unit_cost", "stock", "comp_price"),
    *("comp_price_used", "comp_price_age"),
    *("candidate_price", "candidate_units", "candidate_size", "unit", "experiment"),
)
NUMBERS = [
    *("recommended_price", "confidence", "expected_units", "expected_margin"),
    *("current_price", "list_price", "unit_cost", "stock", "comp_price"),
    *("comp_price_used", "comp_price_age", "unit"),
]
TEXTS = (
    *("decision_id", "product_id", "category", "worker", "source", "reasons", "strategy", "model_version"),
    "experiment",
)
# Their names in the archive, where the arm stands apart.
ARCHIVED = (*("current_stock" if name == "stock" else name for name in COLUMNS), "arm")
CLOCK_SECONDS = 60
FEW = 50_000  # decisions that are read in seconds, however old they are: small shops are judged on longer windows
FEW_BYTES = 2_000 * FEW  # the same in the log, whose lines are shorter
NO_DECISIONS = LogReading([], 0, 0, 0)


@dataclass
class _Archived:
    """What was read from the archive: per day the decisions in force, and counts of the others."""

    numbers: dict[str, set[int]] = field(default_factory=dict)
    parts: list[pd.DataFrame] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    broken: int = 0
    superseded: int = 0
    back: int = 0
    replayed: int = 0

    @property
    def rows(self) -> int:
        return sum(map(len, self.parts)) + len(self.records)


def load_decisions(
    folder: Path,
    *,
    now: dt.datetime,
    archive: str | None = None,
    uploads: str | None = None,
    days: int = 1,
    known: bool = False,
    since: dt.date | None = None,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Reads the decision log in `folder`, and of its archive and of what serving tasks uploaded the newest days.

    Of several archived decisions of one day for one product and date only the one in force is returned; the others are
    counted. So a shop that asks for a price with every page takes no more memory than one decision a product and day.

    Args:
        folder: The log folder of serving and batch pricing.
        now: Current time, with a time zone; later decisions come from a wrong clock.
        archive: Where `serving.compact` moves older segments; beside `folder` by default.
        uploads: Where serving tasks upload their logs; `folder` may be missing then.
        days: Days of a period of the sales.
        known: As for `tabulate`.
        since: Days of archive and uploads before it are left out, but those of the archive that hold the newest FEW
            decisions. None: none is.

    Raises:
        SourceError: There is no such folder, or a file in it cannot be opened.
    """
    attempts: list[_Archived] = []  # the last one counts: compaction may overtake the first

    def read(uploaded: Uploads | None) -> ArchiveNumbers:
        attempts.append(found := _Archived())
        cut = _read_archive(found, archive or default_archive(folder), now=now, days=days, since=since)
        damaged = 0 if uploaded is None else _read_uploads(found, uploaded, now=now, days=days)
        return ArchiveNumbers(found.numbers, since if cut else None, damaged)

    start = None if since is None else dt.datetime.combine(since, dt.time(), dt.UTC)
    reading = read_decisions(
        folder,
        archived=read,
        uploads=uploads,
        since=start if folder_bytes(folder) > FEW_BYTES else None,
        uploads_since=since,
    )
    found = attempts[-1]
    found.records += reading.records
    frame, broken = _frame(found.records)
    frame = _finished(frame, now=now, days=days)
    found.back += _clock_back(frame)
    late = int(_late(frame, days=days).sum()) + found.replayed
    whole = pd.concat([*found.parts, frame], ignore_index=True) if found.parts else frame
    repeated = whole["decision_id"].duplicated()
    whole = whole[~repeated].sort_values(["at", "sequence"], kind="stable", ignore_index=True)
    findings = [
        *_log_findings(reading, broken=broken + found.broken, repeated=int(repeated.sum())),
        *_clock_findings(ahead=int(_ahead(whole, now=now).sum()), back=found.back, late=late),
        *counted(
            "superseded_archived",
            "note",
            "{count} archived or uploaded decision(s) were replaced by a later one for the same product and day",
            found.superseded,
        ),
    ]
    if whole.empty:
        findings.append(_empty(reading=reading, broken=broken + found.broken, known=known))
    return whole, findings


def _read_archive(found: _Archived, archive: str | Path, *, now: dt.datetime, days: int, since: dt.date | None) -> bool:
    """Reads the newest days of an archive, each reduced to the decisions in force before the next is read.

    Returns:
        Whether days before `since` were left out.
    """
    for day, files in archive_days(archive):
        if since is not None and day < since.isoformat() and found.rows >= FEW:
            return True
        tables = []
        for table in files.read(ARCHIVED):
            for worker, numbers in table.groupby("worker")["sequence"]:
                found.numbers.setdefault(str(worker), set()).update(numbers.tolist())
            tables.append(table)
        if not tables:
            continue
        frame = pd.concat(tables, ignore_index=True).rename(columns={"current_stock": "stock"})
        frame["reasons"] = frame["reasons"].fillna("")
        frame["experiment"] = frame["experiment"] + "/" + frame["arm"]
        sound = (frame["candidate_price"].list.len() == frame["candidate_units"].list.len()).fillna(value=False)
        found.broken += int((~sound).sum())
        frame = _finished(frame.loc[sound, list(COLUMNS)].drop_duplicates(["worker", "sequence"]), now=now, days=days)
        _keep_in_force(found, frame, days=days)
    return False


def _read_uploads(found: _Archived, uploaded: Uploads, *, now: dt.datetime, days: int) -> int:
    """Reads what serving tasks uploaded, some at a time, each time reduced to the decisions in force.

    Returns:
        How many lines are no whole record.
    """
    damaged = 0
    part = _Archived(numbers=found.numbers)
    for number, line in enumerate(uploaded.lines(), start=1):
        damaged += not _take_line(part, line)
        if number % FEW == 0:
            _reduce(found, part, now=now, days=days)
            part = _Archived(numbers=found.numbers)
    _reduce(found, part, now=now, days=days)
    return damaged


def _reduce(found: _Archived, part: _Archived, *, now: dt.datetime, days: int) -> None:
    """Adds a part's decisions that are in force to what was found, and its counts."""
    frame, broken = _frame(part.records)
    _keep_in_force(found, _finished(frame, now=now, days=days), days=days)
    found.broken += broken


def _keep_in_force(found: _Archived, frame: pd.DataFrame, *, days: int) -> None:
    found.back += _clock_back(frame)
    found.replayed += int(_late(frame, days=days).sum())
    valid = in_force(frame, days=days, by=("product_id", "date", "live"))
    found.superseded += int((~valid).sum())
    found.parts.append(frame[valid])


def _take_line(found: _Archived, line: bytes) -> bool:
    """Takes the decision of a line, unless it was taken before; returns whether it is one."""
    record = decode_line(line)
    if record is None:
        return False
    if record["sequence"] not in found.numbers.setdefault(record["worker"], set()):
        found.numbers[record["worker"]].add(record["sequence"])
        found.records.append(record)
    return True


def folder_bytes(folder: Path) -> int:
    """The size of the segments in a folder; 0 where it is none."""
    return sum(path.stat().st_size for path in folder.glob("decisions-*.jsonl"))


def tabulate(
    reading: LogReading, *, now: dt.datetime, days: int = 1, known: bool = False
) -> tuple[pd.DataFrame, list[Finding]]:
    """Builds the table of decisions, with the columns COLUMNS, in log order, and findings.

    `date` is a timestamp, `at` is in UTC, `reasons` are joined by spaces, candidates are arrays. A decision logged
    twice, as when a segment was copied, appears once.
    `live` marks decisions made before the end of the period they price, by a clock that is not ahead of `now`.

    Args:
        reading: What the log holds.
        now: Current time, with a time zone.
        days: Days of a period of the sales.
        known: Whether decisions were seen before, so that a log without any has lost them.
    """
    frame, broken = _frame(reading.records)
    repeated = frame["decision_id"].duplicated()
    frame = _finished(frame[~repeated].reset_index(drop=True), now=now, days=days)
    findings = [
        *_log_findings(reading, broken=broken, repeated=int(repeated.sum())),
        *_clock_findings(
            ahead=int(_ahead(frame, now=now).sum()),
            back=_clock_back(frame),
            late=int(_late(frame, days=days).sum()),
        ),
    ]
    if frame.empty:
        findings.append(_empty(reading=reading, broken=broken, known=known))
    return frame, findings


def _frame(records: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, int]:
    """The table of the log's records, and how many of them hold no decision."""
    rows = []
    broken = 0
    for record in records:
        try:
            rows.append(_row(record))
        except (KeyError, TypeError, ValueError, AttributeError):
            broken += 1
    return pd.DataFrame(rows, columns=list(COLUMNS)), broken


def _finished(frame: pd.DataFrame, *, now: dt.datetime, days: int) -> pd.DataFrame:
    """The table with its columns' types, and with `live`."""
    frame = frame.assign(
        at=pd.to_datetime(frame["at"], utc=True).astype("datetime64[ms, UTC]"),
        date=pd.to_datetime(frame["date"]).astype("datetime64[ns]"),
        sequence=frame["sequence"].astype("int64"),
        **{name: frame[name].astype("float64") for name in NUMBERS},
        **{name: frame[name].astype("object").where(frame[name].notna(), None) for name in TEXTS},
    )
    return frame.assign(live=~_late(frame, days=days) & ~_ahead(frame, now=now))


def _log_findings(reading: LogReading, *, broken: int, repeated: int) -> list[Finding]:
    damaged = reading.damaged + broken
    missing = max(0, reading.lost - reading.damaged)
    return [
        *counted(
            "log_damaged", "warning", "{count} line(s) of the decision log are cut, or of another format", damaged
        ),
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
            "log_repeated",
            "note",
            "{count} decision(s) stand in the log twice; each counts once",
            repeated + reading.repeated,
        ),
    ]


def _empty(*, reading: LogReading, broken: int, known: bool) -> Finding:
    """The finding on a log without decisions that were given to a shop: a fault only where there were some before."""
    if known or reading.damaged or broken or reading.lost > reading.damaged or reading.elsewhere:
        return Finding("log_empty", "breach", "the decision log has lost its decisions: nothing can be scored")
    text = "no price has been decided yet, so there is nothing to compare with sales; pricing price logs with --applied"
    return Finding("no_decisions", "warning", text)


def _row(record: dict[str, Any]) -> tuple[Any, ...]:
    request, decision, candidates = record["request"], record["decision"], record["candidates"]
    prices = np.asarray(candidates["price"], dtype=float)
    units = np.asarray(candidates["units"], dtype=float)
    sizes = np.asarray(candidates["size"], dtype=float)
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
        _number(request.get("current_stock")),
        _number(request.get("comp_price")),
        _number(decision["comp_price_used"]),
        _number(decision["comp_price_age"]),
        prices,
        units,
        sizes,
        float(candidates["unit"]),
        record["experiment"] and f"{record['experiment']['name']}/{record['experiment']['arm']}",
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _clock_back(frame: pd.DataFrame) -> int:
    """How many times a worker's clock was set back."""
    ordered = frame.sort_values(["worker", "sequence"])
    return int((ordered.groupby("worker")["at"].diff() < -pd.Timedelta(seconds=CLOCK_SECONDS)).sum())


def _clock_findings(*, ahead: int, back: int, late: int) -> list[Finding]:
    return [
        *counted(
            "clock_ahead",
            "warning",
            "{count} decision(s) claim to come from the future: a clock is wrong, and they tell nothing about today",
            ahead,
        ),
        *counted("clock_back", "warning", "{count} time(s) a worker's clock was set back", back),
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
