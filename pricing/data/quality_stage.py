"""Judge checked rows against the past of their products, and say which rows and values are set aside."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Days, Strings
from pricing.config_models import DataConfig, QualityConfig
from pricing.data import coerce, feed, own_past
from pricing.data.contract import COLUMNS, Checked
from pricing.data.own_past import Verdict
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.quality import MEANINGS, Finding, Level, Quality, advice, ordered
from pricing.data.sales_history import SalesHistory, lay_out
from pricing.errors import ContractError, Violation

LEAST_BAD = 2  # so many bad rows are no reason to stop, however few rows there are
REPEATED = "(product_id, date) must be unique"
LEFT_OUT = "days_left_out"
NOT_BAD = (LEFT_OUT, "day_incomplete")  # reasons for which rows are set aside that are no fault of theirs


@dataclass(frozen=True)
class Judged:
    """Result of the stage.

    Attributes:
        quality: What was found.
        checked: The rows to go on with; those set aside are among its bad rows.
        unknown: (cell,) product and day of cells of which nothing is known, whatever an absent row means.
    """

    quality: Quality
    checked: Checked
    unknown: tuple[Strings, Days]


def judge(
    checked: Checked,
    config: DataConfig,
    *,
    given: Sequence[str],
    others: Sequence[str] = (),
    known: Panel | None = None,
) -> Judged:
    """Compares rows with the past of their products and with what the champion has read.

    Args:
        checked: Result of the contract's check; not modified.
        config: `quality` holds the limits; where `plausibility.refuse` is off, all is said and nothing set aside.
        given: Columns of the contract that the sales have.
        others: Their other columns.
        known: The end of the history that the champion has read; ignored where it has none of the products, since it
            is then of another shop.

    Raises:
        ContractError: The configuration leaves out all days.
    """
    limits, total = config.quality, len(checked.clean) + len(checked.bad_rows)
    names = np.asarray(checked.clean["product_id"].unique(), dtype=np.str_)
    if known is not None and (known.period != config.period or not np.isin(known.product_ids, names).any()):
        known = None
    checked, skipped = _without_days(checked, config)
    if checked.clean.empty:
        raise ContractError("the sales", checked.violations)
    swapped = list(feed.date_findings(checked.clean, checked.bad_rows, step=STEP_DAYS[config.period]))
    broken = [one for one in checked.violations if not swapped or one.rule != REPEATED]
    newest = _newest_bad(checked)
    set_aside = [replace(one, last_day=newest) for one in contract_findings(broken, level="quarantine")]
    verdict = Verdict([*skipped, *set_aside])
    verdict.findings += [*feed.column_findings(given, others, known, rows=total), *swapped]
    history = lay_out(checked.clean, period=config.period, country=config.country, window=limits.window, known=known)
    apart = _in_spans(history.dates, limits.leave_out, step=STEP_DAYS[config.period])
    history = replace(history, holiday=history.holiday | apart)
    if not swapped:  # otherwise every day is out of place
        _look(history, known, limits, verdict)
    if config.plausibility.refuse:
        checked, unknown = _apply(checked, history, verdict, limits)
    else:
        unknown = np.zeros(history.rows.shape, dtype=np.bool_)
    found = [*verdict.findings, *_too_many(checked, history, total, limits)]
    if not config.plausibility.refuse:
        found = [replace(one, level="note") for one in found]
    quality = Quality(
        findings=ordered(_accepted(one, limits) for one in found),
        until=history.day(-1),
        rows=total,
        set_aside=len(checked.bad_rows),
    )
    unknown |= apart
    unknown[:, : history.own] = False
    product, period = np.nonzero(unknown | _broken(checked, history))
    return Judged(quality, checked, (history.product_ids[product], history.dates[period]))


def _without_days(checked: Checked, config: DataConfig) -> tuple[Checked, list[Finding]]:
    """Sets aside the rows of the days that the configuration leaves out."""
    step, spans = STEP_DAYS[config.period], config.quality.leave_out
    days = checked.clean["date"].to_numpy().astype("datetime64[D]")
    marked = _in_spans(days, spans, step=step)
    if not marked.any():
        return checked, []
    text = f"{len(np.unique(days[marked])):,} {config.period}s are left out, {int(marked.sum()):,} rows"
    note = Finding(
        LEFT_OUT,
        "note",
        f"{text} (data.quality.leave_out)",
        advice(LEFT_OUT),
        first_day=str(days[marked].min()),
        rows=int(marked.sum()),
    )
    left = checked.without(marked, rule=f"{LEFT_OUT}: {MEANINGS[LEFT_OUT][0]}")
    return replace(left, violations=checked.violations), [note]


def _newest_bad(checked: Checked) -> str:
    """The newest day of a row that breaks the contract; empty where there is none, or the day of one is unreadable."""
    bad = checked.bad_rows
    if bad.empty or "date" not in bad:
        return ""
    days = coerce.days(bad.loc[~bad["reasons"].astype(str).str.startswith(NOT_BAD), "date"]).values
    return "" if not len(days) or np.isnat(days).any() else str(days.max().astype("datetime64[D]"))


def _in_spans(days: Days, spans: Sequence[tuple[dt.date, dt.date]], *, step: int) -> Bools:
    """(day,) whether the period that begins on each day holds a day of a span."""
    marked = np.zeros(len(days), dtype=np.bool_)
    for first, last in spans:
        marked |= (days + (step - 1) >= np.datetime64(first)) & (days <= np.datetime64(last))
    return marked


def _look(history: SalesHistory, known: Panel | None, limits: QualityConfig, verdict: Verdict) -> None:
    looks: tuple[Callable[[SalesHistory, QualityConfig, Verdict], None], ...] = (
        own_past.price_findings,
        own_past.units_findings,
        feed.row_findings,
        feed.null_findings,
        feed.still_findings,
    )
    for look in looks:
        look(history, limits, verdict)
    feed.id_findings(history, known, limits, verdict)
    if known is not None:
        own_past.changed_past(history, known, limits, verdict)


def contract_findings(violations: Sequence[Violation], *, level: Level = "stop") -> list[Finding]:
    """One finding per rule of the contract that is broken, by rows or by the table as a whole."""
    found = []
    for violation in violations:
        name = "rows_doubled" if violation.rule == REPEATED else "contract"
        if violation.rule.startswith("column ") and violation.rule.endswith(" must be there"):
            name = "column_renamed" if "; rename " in violation.first else "column_gone"
        text = f"{violation.rule}: {violation.count:,} rows" if violation.count else violation.rule
        found.append(
            Finding(
                name,
                level,
                text,
                advice(name),
                column=next((one for one in COLUMNS if violation.rule.removeprefix("column ").startswith(one)), ""),
                rows=violation.count,
                examples=(violation.first,),
            )
        )
    return found


def _apply(checked: Checked, history: SalesHistory, verdict: Verdict, limits: QualityConfig) -> tuple[Checked, Bools]:
    """Sets rows aside and blanks values, but for what the configuration accepts; returns the unknown cells, too."""
    unknown = np.zeros(history.rows.shape, dtype=np.bool_)
    for cells in verdict.unknown:
        unknown |= cells
    frame = checked.clean
    for column, cells in verdict.blank.items():
        rows = history.rows[cells & (history.rows >= 0)]
        values = frame[column].to_numpy(copy=True)
        values[rows] = np.nan
        frame = frame.assign(**{column: values})
    checked = replace(checked, clean=frame)
    marked = np.zeros(len(frame), dtype=np.bool_)
    for name, found in verdict.aside.items():
        cells = found & (history.rows >= 0) & ~_taken(name, history, limits)
        unknown |= cells
        broken = np.zeros(len(frame), dtype=np.bool_)
        broken[history.rows[cells]] = True
        broken = broken[~marked] if marked.any() else broken
        if broken.any():
            checked = checked.without(broken, rule=f"{name}: {MEANINGS[name][0]}")
        marked[history.rows[cells]] = True
    return checked, unknown


def _broken(checked: Checked, history: SalesHistory) -> Bools:
    """(product, period) cells whose row is set aside, and so no row of 0 units either."""
    cells = np.zeros(history.rows.shape, dtype=np.bool_)
    bad = checked.bad_rows
    if bad.empty or not {"date", "product_id"} <= set(bad.columns):
        return cells
    days, names = coerce.days(bad["date"]).values, coerce.names(bad["product_id"].astype(object))
    ids = np.array([*names.names, ""], dtype=np.str_)[names.values]
    row = np.minimum(np.searchsorted(history.product_ids, ids), len(history.product_ids) - 1)
    column = np.minimum(np.searchsorted(history.dates, days), len(history.dates) - 1)
    inside = (history.product_ids[row] == ids) & (history.dates[column] == days)
    cells[row[inside], column[inside]] = True
    return cells


def _taken(name: str, history: SalesHistory, limits: QualityConfig) -> Bools:
    """(period,) the days on which a finding of this name is accepted."""
    until = limits.accept.get(name)
    if until is None:
        return np.zeros(len(history.dates), dtype=np.bool_)
    return np.asarray(history.dates <= np.datetime64(until))


def _accepted(finding: Finding, limits: QualityConfig) -> Finding:
    until = limits.accept.get(finding.name)
    if until is None or finding.level == "note" or finding.first_day > str(until):
        return finding
    return replace(finding, level="note", advice=f"Accepted up to {until} (data.quality.accept)")


def _too_many(checked: Checked, history: SalesHistory, total: int, limits: QualityConfig) -> list[Finding]:
    """Whether more is set aside than a sound feed has faults; days left out by a person do not count."""
    bad = checked.bad_rows
    if bad.empty:
        return []
    bad = bad[~bad["reasons"].astype(str).str.startswith(NOT_BAD)]
    since = history.dates[history.since]
    newest = int((coerce.days(bad["date"]).values >= since).sum()) if "date" in bad else 0
    recent = newest + int((checked.clean["date"].to_numpy().astype("datetime64[D]") >= since).sum())
    for count, rows, which in ((newest, recent, f"rows since {since}"), (len(bad), total, "rows")):
        if count > max(LEAST_BAD, limits.most_set_aside * rows):
            return [
                Finding(
                    "too_many_bad_rows",
                    "stop",
                    f"{count:,} of {rows:,} {which} are bad, {count / rows:.1%}; up to {limits.most_set_aside:.0%} may "
                    "be set aside",
                    advice("too_many_bad_rows"),
                    rows=count,
                    share=count / rows,
                )
            ]
    return []
