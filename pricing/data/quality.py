"""Find what is probably wrong with sales that keep the contract, by one table of checks, and set it aside.

Rows are compared with the past of their own product, shop and weekday, and with what the champion has read. `stop`: the
job ends and the champion stays; `set_aside`: rows or values count as unknown, and a person should look; `note`: it is
reported. A person accepts a finding by `data.quality.accept`. No check depends on the currency, none changes its rows.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Days, Strings
from pricing.config_models import DataConfig
from pricing.data import day_checks, feed_checks, price_checks
from pricing.data.contract import Checked, read_days, read_names
from pricing.data.findings import ROWS, Finding, Found, Level, QualityError, ordered
from pricing.data.given_rows import GivenRows, left_out
from pricing.data.grid import days_of
from pricing.data.own_prices import NO_MOVES, Moves
from pricing.data.panel import Panel
from pricing.errors import ContractError, Violation

LEAST_BAD = 2  # so many bad rows are no reason to stop, however few rows there are
LEFT_OUT = "data.quality.leave_out"


# By the name that `data.quality.accept` takes: what finds, and what to do.
CHECKS: dict[str, tuple[Callable[[GivenRows], Iterator[Found]], str]] = {
    "dates": (feed_checks.dates, "Write dates as YYYY-MM-DD, of days that are over, and look at the feed"),
    "price_unit": (price_checks.price_unit, "Deliver all prices in one unit, of one piece, tax included, as before"),
    "price_outlier": (price_checks.price_outlier, "Look at the rows that were set aside, and mend the feed"),
    "shelf_price": (
        price_checks.shelf_price,
        "Deliver what the product cost on the shelf: without discounts of single buyers, and on days without a sale "
        "what it cost then; offers of a single day are is_promo",
    ),
    "renamed_ids": (feed_checks.renamed_ids, "Deliver the former ids, or rename the history and train anew"),
    "lost_days": (feed_checks.lost_days, "Read these days again when they are complete; closed days are fine"),
    "lost_columns": (feed_checks.lost_columns, "Deliver the column as before, under the contract's name"),
    "units": (
        price_checks.units,
        "Deliver pieces of this day in their own column, and not cases, totals or another day's; if demand was that "
        "strong, accept it",
    ),
    "duplicates": (feed_checks.duplicates, "They are learnt as different ones: write each in one way"),
    "competitor": (price_checks.competitor, "Look at the feed of his prices: unit, pack, copies, old prices"),
    "new_prices": (
        day_checks.new_prices,
        "Deliver each price beside its product, tax included; if all were newly priced, accept it",
    ),
    "stock": (day_checks.stock, "Deliver the stock of the day's opening, in its own column"),
    "promo_flags": (day_checks.promo_flags, "Deliver 1 for products that are advertised, and 0 for others"),
    "coverage": (feed_checks.coverage, "Give a longer history, data.country, and only columns that are filled"),
}


@dataclass(frozen=True)
class Judged:
    """Rows after the checks."""

    findings: tuple[Finding, ...]  # what was found, the gravest first
    checked: Checked  # the rows to go on with; those set aside are among its bad rows
    # (cell,) product and day of cells of which nothing is known, whatever an absent row means:
    unknown: tuple[Strings, Days]


def judge(
    checked: Checked,
    config: DataConfig,
    *,
    names: Sequence[str],
    known: Panel | None = None,
    given: Moves = NO_MOVES,
    where: str = "the sales",
    today: dt.date | None = None,
) -> Judged:
    """Run the checks on rows that keep the contract, and set aside what they find wrong.

    `names` are all columns that the sales have, `known` is the end of the history that the champion has read,
    `given` are prices that the platform gave. Without `today` no row is in the future, and none is old.

    Raises:
        ContractError: The configuration leaves out all days, or all lie in the future.
        QualityError: A finding stops, or more is set aside than a sound feed has faults.
    """
    last = str(max(_bad_days(checked), default=""))
    findings = [replace(broken, level="set_aside", last=last) for broken in contract_findings(checked.violations)]
    if today is not None:
        ahead = days_of(checked.clean["date"]) > np.datetime64(today, "D") + 1
        checked, future = _without_days(checked, ahead, "dates", "set_aside", "lie in the future")
        findings += future
    bad_days = _bad_days(checked)
    bad = len(checked.bad_rows)
    total = len(checked.clean) + bad

    skipped = left_out(days_of(checked.clean["date"]), config)
    checked, notes = _without_days(checked, skipped, LEFT_OUT, "note", "are left out")
    if checked.clean.empty:
        none = Violation("there must be rows", 0, "all are broken, left out, or lie in the future")
        raise ContractError(where, [*checked.violations, none])

    sales = GivenRows.of(checked.clean, config, names=names, known=known, today=today, given=given)
    aside = _SetAside(checked, sales, config)
    for found in _look(sales):
        findings.append(found.finding)
        aside.add(found)

    since = sales.grid.dates[sales.since]
    newest = days_of(checked.clean["date"]) >= since
    recent = int((aside.faulty & newest).sum()) + int((bad_days >= since).sum())
    limit = config.quality.most_set_aside
    findings += _too_many(int(aside.faulty.sum()) + bad, total, "rows", limit)
    findings += _too_many(recent, int(newest.sum()), f"rows since {since}", limit)
    if known is None and config.tax_rate is None:
        notes += _costs_without_tax(aside)
    findings += notes
    if any(found.level == "stop" for found in findings):
        raise QualityError(where, findings)
    return Judged(ordered(findings), aside.checked(), aside.unknown_cells())


class _SetAside:
    """Rows, and what findings set aside of them."""

    def __init__(self, checked: Checked, sales: GivenRows, config: DataConfig) -> None:
        self._checked = checked
        self._sales = sales
        self.frame = checked.clean
        self.faulty = np.zeros(len(self.frame), dtype=np.bool_)  # (row,) True where a finding doubts the whole row
        self._by_rule: dict[str, Bools] = {}  # (row,) rows set aside

        # (product, period) cells of which nothing is known; a bad row is gone, and so none of 0 units:
        ids = read_names(checked.bad_rows["product_id"].astype(object))
        bad_ids = np.array([*ids.names, ""])[ids.values]
        bad_rows = sales.grid.marked(bad_ids, read_days(checked.bad_rows["date"]).values)
        self._unknown: Bools = left_out(sales.grid.dates, config) | bad_rows

    def add(self, found: Found) -> None:
        """Set the cells of a finding aside: its rows, or their values in a column."""
        if not found.aside or found.cells is None:
            return
        rows = np.zeros(len(self.frame), dtype=np.bool_)
        rows[self._sales.numbers[found.cells & (self._sales.numbers >= 0)]] = True
        if found.aside != ROWS:
            self.frame = self.frame.assign(**{found.aside: self.frame[found.aside].mask(rows)})
            return

        self._unknown |= found.cells
        self._by_rule[f"{found.finding.check}: {found.finding.sentence}"] = rows
        if found.finding.check != "lost_days":  # which are no fault of their rows
            self.faulty |= rows

    def checked(self) -> Checked:
        """Return the rows to go on with; each row set aside goes by the first rule that found it."""
        checked = replace(self._checked, clean=self.frame)
        left = np.arange(len(self.frame))
        for rule, rows in self._by_rule.items():
            broken = rows[left]
            if broken.any():
                checked = checked.without(broken, rule=rule)
                left = left[~broken]
        return checked

    def unknown_cells(self) -> tuple[Strings, Days]:
        """(cell,) product and day of cells of which nothing is known."""
        grid = self._sales.grid
        product, period = np.nonzero(self._unknown[:, grid.own])
        return grid.ids[product], grid.dates[grid.own][period]


def _look(sales: GivenRows) -> Iterator[Found]:
    """Run the checks on rows laid out; what a person accepts is a note, and sets nothing aside.

    After a finding that stops only such are reported, and none on cells that are held already, which stop or are set
    aside: they see the same fault from another side.
    """
    days = sales.grid.dates.astype(str)
    stopped = False
    held: dict[str, Bools] = defaultdict(lambda: np.zeros_like(sales.grid.present))  # by what is set aside, "" if none
    for check, (look, advice) in CHECKS.items():
        until = str(sales.accept.get(check, ""))
        for found in look(sales):
            finding = replace(found.finding, check=check, advice=advice)
            if until and finding.level != "note" and finding.last <= until:
                finding = replace(finding, level="note", advice=f"Accepted up to {until} (data.quality.accept)")
            if stopped and finding.level != "stop":
                continue
            known = held[""] | held[ROWS] | held[found.aside]
            if found.cells is not None and 2 * (found.cells & known).sum() > found.cells.sum():
                continue
            stopped = finding.level == "stop"
            cells = None if found.cells is None else found.cells & (days > until)
            if cells is not None and (finding.level == "stop" or found.aside):
                held[found.aside] |= cells
            yield Found(finding, found.aside, cells)


def contract_findings(violations: Sequence[Violation]) -> list[Finding]:
    """The findings that stop sales which break the contract, where nothing is set aside: one a rule."""
    advice = "Mend them; README.md lists the columns"
    return [
        Finding(
            "contract",
            "stop",
            rows=fault.count,
            example=fault.first,
            sentence=f"{fault.rule}: {fault.count:,} rows" if fault.count else fault.rule,
            advice=advice,
        )
        for fault in violations
    ]


def _bad_days(checked: Checked) -> Days:
    """(row,) days of the bad rows, those that can be read."""
    days: Days = read_days(checked.bad_rows["date"]).values
    return days[~np.isnat(days)]


def _without_days(checked: Checked, marked: Bools, check: str, level: Level, why: str) -> tuple[Checked, list[Finding]]:
    """Set the rows of marked days aside; returns the finding on them, if there are any."""
    if not marked.any():
        return checked, []
    days = days_of(checked.clean["date"])[marked]
    sentence = f"{len(np.unique(days)):,} days {why}"
    finding = Finding(
        check,
        level,
        rows=len(days),
        first=str(days.min()),
        last=str(days.max()),
        sentence=sentence,
        advice=CHECKS[check][1] if check in CHECKS else "",
    )
    without = checked.without(marked, rule=f"{check}: {sentence}")
    return replace(without, violations=checked.violations), [finding]


def _costs_without_tax(aside: _SetAside) -> list[Finding]:
    frame = aside.frame
    given = {name for name in ("unit_cost", "tax_rate") if name in frame and frame[name].notna().any()}
    if given != {"unit_cost"}:
        return []
    text = "no tax_rate is given, and prices count as without tax: if they include any, margins are overstated"
    advice = "Give data.tax_rate, 0 if prices include none, or a column tax_rate"
    return [Finding("coverage", "note", rows=len(frame), sentence=text, advice=advice)]


def _too_many(bad: int, rows: int, which: str, limit: float) -> list[Finding]:
    if bad <= max(LEAST_BAD, limit * rows):
        return []
    text = f"{bad:,} of {rows:,} {which} are bad, {bad / rows:.1%}; up to {limit:.0%} may be set aside"
    return [Finding("contract", "stop", rows=bad, sentence=text, advice="Mend the feed: the rest is no fair sample")]
