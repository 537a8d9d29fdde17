"""Set aside what the checks of the sales say, and stop where too much is wrong."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days, Ints, Strings
from pricing.config_models import DataConfig
from pricing.data import coerce
from pricing.data.contract import Checked
from pricing.data.findings import ROWS, Finding, Level, QualityError, ordered
from pricing.data.given_rows import GivenRows
from pricing.data.grid import days_of
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.quality import look, swapped_dates
from pricing.errors import ContractError, PricingError, Violation

LEAST_BAD = 2  # so many bad rows are no reason to stop, however few rows there are
LEFT_OUT = "data.quality.leave_out"


@dataclass(frozen=True)
class Judged:
    """Rows after the checks.

    Attributes:
        findings: What was found, the gravest first.
        checked: The rows to go on with; those set aside are among its bad rows.
        unknown: (cell,) product and day of cells of which nothing is known, whatever an absent row means.
    """

    findings: tuple[Finding, ...]
    checked: Checked
    unknown: tuple[Strings, Days]


def judge(
    checked: Checked,
    config: DataConfig,
    *,
    given: Sequence[str],
    others: Sequence[str] = (),
    known: Panel | None = None,
    where: str = "the sales",
    today: dt.date | None = None,
) -> Judged:
    """Run the checks on rows, and set aside what they say.

    Args:
        checked: Result of the contract's check; not modified.
        config: Days that a person leaves out, and what is accepted.
        given: Columns of the contract that the sales have.
        others: Their other columns.
        known: The end of the history that the champion has read.
        where: Name of the sales in messages.
        today: The day of the load.

    Raises:
        ContractError: The configuration leaves out all days.
        QualityError: A finding stops, or more is set aside than a sound feed has faults.
    """
    total, broken = len(checked.clean) + len(checked.bad_rows), len(checked.bad_rows)
    findings = contract_findings(checked)
    checked, left_out = _without_days(checked, config)
    if checked.clean.empty:
        raise ContractError(where, checked.violations)
    bad = bad_days(checked)
    sales = GivenRows.of(checked.clean, config, known=known, given=given, others=others, bad_days=bad, today=today)
    apart = _in_spans(sales.grid.dates, config)
    unknown = np.broadcast_to(apart, sales.grid.present.shape) | _cells(checked.bad_rows, sales)
    marked, frame = np.zeros(len(checked.clean), dtype=np.bool_), checked.clean
    rules: list[tuple[str, Ints]] = []
    for found in look(replace(sales, calendar=sales.calendar | apart), config.quality.accept):
        findings.append(found.finding)
        for column, cells in found.cells.items():
            rows = sales.numbers[cells & (sales.numbers >= 0)]
            if column == ROWS:
                unknown |= cells
                rules.append((f"{found.finding.check}: {found.finding.sentence}", rows))
                marked[rows] |= found.finding.check != "lost_days"  # which are no fault of their rows
            else:
                values = frame[column].to_numpy(copy=True)
                values[rows] = np.nan
                frame = frame.assign(**{column: values})
    newest = days_of(frame["date"]) >= sales.grid.dates[sales.since]
    recent = int((marked & newest).sum()) + int((bad >= sales.grid.dates[sales.since]).sum())
    findings += _too_many(int(marked.sum()) + broken, total, "rows", config)
    findings += _too_many(recent, int(newest.sum()), f"rows since {sales.grid.dates[sales.since]}", config)
    if any(one.level == "stop" for one in findings):
        raise QualityError(where, ordered([*findings, *left_out]))
    checked = _without_rows(replace(checked, clean=frame), rules)
    unknown[:, : sales.grid.own.start] = False
    product, period = np.nonzero(unknown)
    return Judged(tuple(ordered([*findings, *left_out])), checked, (sales.grid.ids[product], sales.grid.dates[period]))


def refusal(checked: Checked, config: DataConfig, *, where: str) -> PricingError:
    """The error for rows that break the contract where none is set aside; it says so where dates are swapped."""
    if not checked.clean.empty:
        days = np.unique(days_of(checked.clean["date"]))
        swapped = swapped_dates(days, bad_days(checked), step=STEP_DAYS[config.period])
        if swapped is not None:
            return QualityError(where, [swapped])
    return ContractError(where, checked.violations)


def contract_findings(checked: Checked) -> list[Finding]:
    """One finding per rule of the contract that rows break."""
    bad = bad_days(checked)
    last = "" if not len(bad) else str(bad.max())
    return [replace(_broken(one, "set_aside"), last=last) for one in checked.violations]


def stopped_by_contract(violations: Sequence[Violation]) -> list[Finding]:
    """What stops sales that break the contract, where nothing is set aside."""
    return [_broken(one, "stop") for one in violations]


def _broken(violation: Violation, level: Level) -> Finding:
    text = f"{violation.rule}: {violation.count:,} rows" if violation.count else violation.rule
    advice = "Mend them; README.md lists the columns"
    return Finding("contract", level, rows=violation.count, example=violation.first, sentence=text, advice=advice)


def bad_days(checked: Checked) -> Days:
    """(row,) days of the rows that break the contract, those that can be read."""
    if checked.bad_rows.empty or "date" not in checked.bad_rows:
        return np.zeros(0, dtype="datetime64[D]")
    days: Days = coerce.days(checked.bad_rows["date"]).values
    return days[~np.isnat(days)]


def _without_days(checked: Checked, config: DataConfig) -> tuple[Checked, list[Finding]]:
    """Set aside the rows of the days that the configuration leaves out."""
    marked = _in_spans(days_of(checked.clean["date"]), config)
    if not marked.any():
        return checked, []
    days = days_of(checked.clean["date"])[marked]
    text = f"{len(np.unique(days)):,} {config.period}s are left out"
    note = Finding(LEFT_OUT, "note", 0, len(days), str(days.min()), str(days.max()), sentence=text, advice="Nothing")
    left = checked.without(marked, rule=LEFT_OUT)
    return replace(left, violations=checked.violations), [note]


def _in_spans(days: Days, config: DataConfig) -> Bools:
    """(day,) whether the period that begins on each day holds a day that is left out."""
    marked = np.zeros(len(days), dtype=np.bool_)
    for first, last in config.quality.leave_out:
        marked |= (days + (STEP_DAYS[config.period] - 1) >= np.datetime64(first)) & (days <= np.datetime64(last))
    return marked


def _without_rows(checked: Checked, rules: Sequence[tuple[str, Ints]]) -> Checked:
    """Move rows to the bad ones, each under the first rule that names it."""
    place = np.arange(len(checked.clean))
    for rule, rows in rules:
        broken = np.isin(place, rows)
        if broken.any():
            checked, place = checked.without(broken, rule=rule), place[~broken]
    return checked


def _cells(bad: pd.DataFrame, sales: GivenRows) -> Bools:
    """(product, period) cells whose row is set aside, and so no row of 0 units either."""
    if bad.empty or not {"date", "product_id"} <= set(bad.columns):
        return np.zeros_like(sales.grid.present)
    names = coerce.names(bad["product_id"].astype(object))
    ids = np.array([*names.names, ""], dtype=np.str_)[names.values]
    return sales.grid.marked(ids, coerce.days(bad["date"]).values)


def _too_many(bad: int, rows: int, which: str, config: DataConfig) -> list[Finding]:
    limit = config.quality.most_set_aside
    if bad <= max(LEAST_BAD, limit * rows):
        return []
    text = f"{bad:,} of {rows:,} {which} are bad, {bad / rows:.1%}; up to {limit:.0%} may be set aside"
    return [Finding("contract", "stop", rows=bad, sentence=text, advice="Mend the feed: the rest is no fair sample")]
