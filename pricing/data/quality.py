"""Find what is probably wrong with sales that keep the contract, by one table of checks, and set it aside.

Rows are compared with the past of their own product, shop and weekday, and with what the champion has read. `stop`: the
job ends and the champion stays; `set_aside`: rows or values count as unknown, and a person should look; `note`: it is
said. A person accepts a finding by `data.quality.accept`. No check depends on the currency, none changes its rows.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Days, Strings
from pricing.config_models import DataConfig
from pricing.data.contract import COLUMNS, Checked, read_days, read_names
from pricing.data.findings import ROWS, Finding, Found, Level, QualityError, ordered
from pricing.data.given_rows import LEAST_ROWS, LEAST_TOGETHER, WINDOW_DAYS, GivenRows, left_out, newest_run
from pricing.data.grid import days_of
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.price_checks import competitor, frozen, price_outlier, price_unit, shelf_price, units
from pricing.errors import ContractError, Violation, nearest

FEWEST = 0.7  # of the fewest of the last eight such weekdays: chance is in those eight; a third less is a fault
QUIET = 7  # rows with a sale that such weekdays had at least, for a day without any to be lost and no chance
LASTING = 2  # days after which missing values are a fault: on one day a source may have failed to answer
ACTIVE, ALMOST_EVERY = 28, 0.8  # periods, and the share of them with a row, of a product that is sold every day
NEW_IDS = 0.2  # share of the products that end where as many begin: a range changes more slowly
STALE, OLD = 3, 60  # periods and days without new sales between which a feed has stopped; longer, they are a history
SHORT = 56  # days of history below which little can be learnt
LEAST_BAD = 2  # so many bad rows are no reason to stop, however few rows there are
LEFT_OUT = "data.quality.leave_out"
NULLABLE = ("list_price", "unit_cost", "stock", "comp_price", "is_promo")


def _lost_days(sales: GivenRows) -> Iterator[Found]:
    present, usable = sales.grid.present, ~sales.odd
    counts, sold = present.sum(axis=0), (sales.columns["units_sold"] > 0).sum(axis=0)
    low, usual = sales.less_than_usual(counts.astype(float), usable=usable, share=FEWEST)
    _, selling = sales.less_than_usual(sold.astype(float), usable=usable, share=FEWEST)
    periods = np.arange(len(counts))
    none_sold = (periods >= sales.grid.own.start) & (counts > 0) & (sold == 0) & (selling >= QUIET)
    for at, what in ((low & (counts == 0), "have no row at all"), (none_sold, "report 0 units for every product")):
        if at.any():
            first = str(sales.grid.dates[np.argmax(at)])
            yield sales.days(at, f"{int(at.sum()):,} {sales.period}s {what}", example=first)
    newest = newest_run(low & (counts > 0))
    if newest == 1:
        text = f"{sales.grid.dates[-1]} has {counts[-1]:,} rows, such {sales.period}s had {usual[-1]:,.0f} or more"
        yield sales.days(periods == len(counts) - 1, text)
    elif newest:
        since = len(counts) - newest
        absent = ~present & (periods >= since) & _sold_every_day(present, since)[:, None]
        text = f"{int(absent.any(axis=1).sum()):,} products that had a row almost every {sales.period} lack rows now"
        if absent.any():
            yield sales.found("set_aside", absent, text, aside=ROWS)


def _sold_every_day(present: Bools, now: int) -> Bools:
    """(product,) whether a product had a row on almost every one of the last days before a period."""
    base = present[:, max(0, now - ACTIVE) : now]
    return np.asarray(base.sum(axis=1) >= max(1.0, ALMOST_EVERY * base.any(axis=0).sum()))


def _lost_columns(sales: GivenRows) -> Iterator[Found]:
    had = set() if sales.known is None else _columns_of(sales.known)
    others, common = [name for name in sales.names if name not in COLUMNS], ("category", *NULLABLE)
    for name in (*common, *sorted(had - {*common})):
        if name in sales.names:
            continue
        near = nearest(name, others) if name in common else None
        if name in had or near is not None:
            hint = "" if near is None else f", but a column {near!r} is"
            yield sales.whole("stop" if name in had else "note", f"column {name} is not in the sales{hint}")
    present = sales.grid.present
    rows, there = np.maximum(present.sum(axis=0), 1), np.asarray(present.any(axis=0))
    filled = {name: np.isfinite(sales.columns[name]) & present for name in NULLABLE if name in sales.columns}
    if "stock" in filled:
        filled["stock is 0"] = present & ~(sales.columns["stock"] == 0)
    for name, cells in {**filled, "category": sales.categorised}.items():
        low, _ = sales.less_than_usual(cells.sum(axis=0) / rows, usable=there, share=FEWEST)
        newest, zero = newest_run(low[there]), name == "stock is 0"
        if newest or (zero and low.any()):
            text = name if zero else f"{name} is missing"
            level: Level = "set_aside" if newest >= min(LASTING, sales.phases) or zero else "note"
            at = present & ~cells & low
            yield sales.found(level, at, f"{text} on far more rows than on such days", aside="stock" if zero else "")
    if "stock" in sales.columns:
        yield from frozen(sales, "stock", np.isfinite(sales.columns["stock"]))


def _columns_of(panel: Panel) -> set[str]:
    """The optional columns that the sales behind a panel had for certain."""
    numbers = ("stock", "comp_price", "comp_price_age", "tax_rate", "is_promo")
    had = {name: (getattr(panel, name) > 0).any() for name in numbers}
    had |= {"unit_cost": not panel.cost_assumed.all(), "parent_id": panel.parent_ids is not None}
    had |= {"category": (panel.categories != panel.categories[0]).any()}
    return {name for name, there in had.items() if there}


def _renamed_ids(sales: GivenRows) -> Iterator[Found]:
    """Find a day on which many products that were sold every day end and as many others begin."""
    present, known = sales.grid.present, sales.known
    began, last = np.argmax(present, axis=1), sales.grid.latest[:, -1]
    for now in range(max(sales.since, 2 * LEAST_ROWS), present.shape[1]):
        active = _sold_every_day(present, now)
        gone, new = active & (last < now), (began == now) & present[:, now]
        if min(gone.sum(), new.sum()) > NEW_IDS * max(1, int(active.sum())):
            at = new[:, None] & (np.arange(present.shape[1]) == now)
            text = f"{int(gone.sum()):,} products end and {int(new.sum()):,} others begin on one day"
            yield sales.found("stop", at, text, example=f"{str(sales.grid.ids[gone][0])!r} gone")
            return
    if known is not None:
        sold = known.present[:, -ACTIVE:].any(axis=1)
        lost, fresh = sold & ~np.isin(known.product_ids, sales.grid.ids), ~np.isin(sales.grid.ids, known.product_ids)
        if min(lost.sum(), fresh.sum()) > NEW_IDS * sold.sum():
            text = f"{int(lost.sum()):,} products that the champion knows are in no row, {int(fresh.sum()):,} are new"
            yield sales.found("stop", present & fresh[:, None], text)


def _duplicates(sales: GivenRows) -> Iterator[Found]:
    for names, what in ((sales.grid.ids, "product ids"), (sales.categories, "categories")):
        distinct = np.unique(names)
        plain = np.array([" ".join(str(name).split()).casefold() for name in distinct])
        _, place, count = np.unique(plain, return_inverse=True, return_counts=True)
        twins = distinct[count[place] > 1]
        if len(twins):
            pair = " and ".join(repr(str(name)) for name in distinct[plain == plain[count[place] > 1][0]][:2])
            at = sales.grid.present & np.isin(names, twins)[:, None]
            yield sales.found("note", at, f"{len(twins):,} {what} differ only in case or blanks", example=pair)


def _dates(sales: GivenRows) -> Iterator[Found]:
    """Find a feed that has stopped; rows in the future are set aside before all checks."""
    if sales.today is None or sales.known is None:
        return
    newest, step, today = sales.grid.dates[-1], STEP_DAYS[sales.period], np.datetime64(sales.today, "D")
    late = int((today - newest).astype(int))
    if STALE * step < late < OLD:
        text = f"the newest sales are of {newest}, {late} days ago"
        yield Found(Finding("", "set_aside", first=str(newest + step), last=str(today), sentence=text))


def _coverage(sales: GivenRows) -> Iterator[Found]:
    present, periods = sales.grid.present, sales.grid.present.shape[1]
    days = periods * STEP_DAYS[sales.period]
    if days < SHORT and sales.known is None:
        yield sales.whole("note", f"there are only {days} days: most products will be priced by what others teach")
    sold = (sales.columns["units_sold"] > 0).any(axis=0)
    weekday = np.arange(periods) % sales.phases
    often = np.bincount(weekday, weights=sold) > np.bincount(weekday) / 2  # no closing day
    closed = ~sold & often[weekday] & ~sales.odd
    times = int((closed[1:] & ~closed[:-1]).sum())
    if times >= LEAST_TOGETHER and 2 * (sold & sales.calendar).sum() > sales.calendar.sum():
        text = f"nothing was sold on {closed.sum():,} days that are no holidays of data.country, but on most that are"
        yield sales.found("note", np.broadcast_to(closed, present.shape), text)
    for name in ("is_promo", "stock"):
        values = sales.columns.get(name, np.full((1, 1), np.nan))
        known, zero = np.isfinite(values), name == "stock"
        if days >= WINDOW_DAYS and known.any() and not np.ptp(values[known]):
            empty = zero and not values[known].any()
            text = f"{name} is {values[known][0]:g} on every row that has it, and says nothing"
            yield sales.found("set_aside" if empty else "note", known, text, aside=name if empty else "")
        elif zero and (over := known & (sales.columns["units_sold"] > values)).sum() > 0.2 * known.sum():
            yield sales.found("note", over, "many rows sell more than their stock, which is that at opening")


# By the name that `data.quality.accept` takes: what finds, and what to do.
CHECKS: dict[str, tuple[Callable[[GivenRows], Iterator[Found]], str]] = {
    "dates": (_dates, "Write dates as YYYY-MM-DD, of days that are over, and look at the feed"),
    "price_unit": (price_unit, "Deliver all prices in one unit, of one piece, tax included, as before"),
    "price_outlier": (price_outlier, "Look at the rows that were set aside, and mend the feed"),
    "shelf_price": (
        shelf_price,
        "Deliver what the product cost on the shelf: without discounts of single buyers, and on days without a sale "
        "what it cost then; offers of a single day are is_promo",
    ),
    "units": (units, "Deliver pieces and not cases or totals; if demand was that strong, accept it"),
    "lost_days": (_lost_days, "Read these days again when they are complete; closed days are fine"),
    "lost_columns": (_lost_columns, "Deliver the column as before, under the contract's name"),
    "renamed_ids": (_renamed_ids, "Deliver the former ids, or rename the history and train anew"),
    "duplicates": (_duplicates, "They are learnt as different ones: write each in one way"),
    "competitor": (competitor, "Look at the feed of his prices: unit, pack, copies, old prices"),
    "coverage": (_coverage, "Give a longer history, data.country, and only columns that are filled"),
}


def _look(sales: GivenRows, accept: Mapping[str, dt.date]) -> Iterator[Found]:
    """Run the checks on rows laid out; what a person accepts is a note, and sets nothing aside.

    After a finding that stops only such are told: the others see the same fault from another side.
    """
    stopped = False
    for check, (look, advice) in CHECKS.items():
        until = str(accept.get(check, ""))
        for found in look(sales):
            one = replace(found.finding, check=check, advice=advice)
            if until and one.level != "note" and one.last <= until:
                one = replace(one, level="note", advice=f"Accepted up to {until} (data.quality.accept)")
            if stopped and one.level != "stop":
                continue
            stopped = one.level == "stop"
            cells = None if found.cells is None else found.cells & (sales.grid.dates.astype(str) > until)
            yield Found(one, found.aside, cells)


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
    where: str = "the sales",
    today: dt.date | None = None,
) -> Judged:
    """Run the checks on rows that keep the contract, and set aside what they say.

    `names` are all columns that the sales have, `known` is the end of the history that the champion has read. Without
    `today` no row is in the future, and none is old.

    Raises:
        ContractError: The configuration leaves out all days, or all lie in the future.
        QualityError: A finding stops, or more is set aside than a sound feed has faults.
    """
    last = str(max(_bad_days(checked), default=""))
    findings = [replace(one, level="set_aside", last=last) for one in contract_findings(checked.violations)]
    if today is not None:
        ahead = days_of(checked.clean["date"]) > np.datetime64(today, "D") + 1
        checked = _without_days(checked, ahead, "dates", "set_aside", findings)
    total, broken, bad = len(checked.clean) + len(checked.bad_rows), len(checked.bad_rows), _bad_days(checked)
    notes: list[Finding] = []
    checked = _without_days(checked, left_out(days_of(checked.clean["date"]), config), LEFT_OUT, "note", notes)
    if checked.clean.empty:
        none = Violation("there must be rows", 0, "all are broken, left out, or lie in the future")
        raise ContractError(where, [*checked.violations, none])
    sales = GivenRows.of(checked.clean, config, names=names, known=known, today=today)
    ids = read_names(checked.bad_rows["product_id"].astype(object))  # whose rows are gone, and so none of 0 units
    of_bad = np.array([*ids.names, ""])[ids.values], read_days(checked.bad_rows["date"]).values
    unknown = left_out(sales.grid.dates, config) | sales.grid.marked(*of_bad)
    frame, rules = checked.clean, dict[str, Bools]()
    marked = np.zeros(len(frame), dtype=np.bool_)
    for found in _look(sales, config.quality.accept):
        findings.append(found.finding)
        if not found.aside or found.cells is None:
            continue
        rows = np.zeros(len(frame), dtype=np.bool_)
        rows[sales.numbers[found.cells & (sales.numbers >= 0)]] = True
        if found.aside == ROWS:
            unknown = unknown | found.cells
            rules[f"{found.finding.check}: {found.finding.sentence}"] = rows
            marked |= rows & (found.finding.check != "lost_days")  # which are no fault of their rows
        else:
            frame = frame.assign(**{found.aside: frame[found.aside].mask(rows)})
    since, limit = sales.grid.dates[sales.since], config.quality.most_set_aside
    given = {name for name in ("unit_cost", "tax_rate") if name in frame and frame[name].notna().any()}
    if known is None and config.tax_rate is None and given == {"unit_cost"}:
        text = "no tax_rate is given, and prices count as without tax: if they include any, margins are overstated"
        advice = "Give data.tax_rate, 0 if prices include none, or a column tax_rate"
        notes.append(Finding("coverage", "note", rows=len(frame), sentence=text, advice=advice))
    newest = days_of(frame["date"]) >= since
    recent = int((marked & newest).sum()) + int((bad >= since).sum())
    findings += _too_many(int(marked.sum()) + broken, total, "rows", limit)
    findings += _too_many(recent, int(newest.sum()), f"rows since {since}", limit)
    findings += notes
    if any(one.level == "stop" for one in findings):
        raise QualityError(where, findings)
    checked, left = replace(checked, clean=frame), np.arange(len(frame))
    for rule, rows in rules.items():
        if rows[left].any():
            checked, left = checked.without(rows[left], rule=rule), left[~rows[left]]
    unknown[:, : sales.grid.own.start] = False
    product, period = np.nonzero(unknown)
    return Judged(ordered(findings), checked, (sales.grid.ids[product], sales.grid.dates[period]))


def contract_findings(violations: Sequence[Violation]) -> list[Finding]:
    """The findings that stop sales which break the contract, where nothing is set aside: one a rule."""
    advice = "Mend them; README.md lists the columns"
    said = [f"{one.rule}: {one.count:,} rows" if one.count else one.rule for one in violations]
    return [
        Finding("contract", "stop", rows=one.count, example=one.first, sentence=text, advice=advice)
        for one, text in zip(violations, said, strict=True)
    ]


def _bad_days(checked: Checked) -> Days:
    """(row,) days of the bad rows, those that can be read."""
    days: Days = read_days(checked.bad_rows["date"]).values
    return days[~np.isnat(days)]


def _without_days(checked: Checked, marked: Bools, check: str, level: Level, findings: list[Finding]) -> Checked:
    """Set aside the rows of some days, and say so."""
    if not marked.any():
        return checked
    days = days_of(checked.clean["date"])[marked]
    text = f"{len(np.unique(days)):,} days {'lie in the future' if check == 'dates' else 'are left out'}"
    advice = CHECKS[check][1] if check in CHECKS else ""
    findings.append(Finding(check, level, 0, len(days), str(days.min()), str(days.max()), "", text, advice))
    return replace(checked.without(marked, rule=f"{check}: {text}"), violations=checked.violations)


def _too_many(bad: int, rows: int, which: str, limit: float) -> list[Finding]:
    if bad <= max(LEAST_BAD, limit * rows):
        return []
    text = f"{bad:,} of {rows:,} {which} are bad, {bad / rows:.1%}; up to {limit:.0%} may be set aside"
    return [Finding("contract", "stop", rows=bad, sentence=text, advice="Mend the feed: the rest is no fair sample")]
