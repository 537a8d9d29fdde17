"""Find what is probably wrong with sales that keep the contract: one table of ten checks.

    check_sales(rows, config, known=None, given=(), others=(), bad_days=None, today=None) -> list[Finding]
    Finding(check, level, products, rows, first, last, example, sentence, advice)

Rows are compared with the past of their own product, shop and weekday, and with what the champion has read. `stop`: the
job ends and the champion stays; `set_aside`: rows or values count as unknown, the rest goes on and a person should
look; `note`: it is said. A person accepts a finding by `data.quality.accept` ({check: last day}), which makes a note of
it. No check depends on the currency, and none changes the rows.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days
from pricing.config_models import DataConfig
from pricing.data.findings import ROWS, Finding, Found, Level, ordered
from pricing.data.given_rows import LEAST_ROWS, LEAST_TOGETHER, WINDOW_DAYS, GivenRows, newest_run
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.price_checks import competitor, frozen, price_outlier, price_unit, units
from pricing.errors import nearest

FEWEST = 0.7  # of the fewest of the last eight such weekdays: chance is in those eight; a third less is a fault
QUIET = 7  # rows with a sale that such weekdays had at least, for a day without any to be lost and no chance
LATE = 3  # newest days that may be incomplete; older ones count as they are
LASTING = 2  # days after which missing values are a fault: on one day a source may have failed to answer
ACTIVE, ALMOST_EVERY = 28, 0.8  # periods, and the share of them with a row, of a product that is sold every day
NEW_IDS = 0.2  # share of the products that end where as many begin: a range changes more slowly
AHEAD = 7  # days without rows after which later dates are looked at for swapped day and month
OLD = 60  # days after which sales are a history to learn from, and no feed that has stopped
SHORT = 56  # days of history below which little can be learnt
NULLABLE = ("list_price", "unit_cost", "stock", "comp_price", "is_promo")


def _lost_days(sales: GivenRows) -> Iterator[Found]:
    present, usable = sales.grid.present, ~(sales.calendar | sales.flagged)
    counts = present.sum(axis=0)
    low, usual = sales.less_than_usual(counts.astype(float), usable=usable, share=FEWEST)
    with np.errstate(invalid="ignore"):
        sold = (sales.columns["units_sold"] > 0).sum(axis=0)
    _, selling = sales.less_than_usual(sold.astype(float), usable=usable, share=FEWEST)
    own = np.arange(len(counts)) >= sales.grid.own.start
    for at, what in (
        (low & (counts == 0), "have no row at all"),
        (own & (counts > 0) & (sold == 0) & (selling >= QUIET), "report 0 units for every product"),
    ):
        if at.any():
            day = str(sales.grid.dates[np.argmax(at)])
            text = f"{int(at.sum()):,} {sales.period}s {what}"
            yield sales.found("set_aside", np.broadcast_to(at, present.shape), text, aside=ROWS, example=day)
    newest = newest_run(low & (counts > 0))
    if not newest:
        return
    missing = _missing_products(sales, len(counts) - newest)
    if missing.any():
        text = f"{int(missing.any(axis=1).sum()):,} products that had a row almost every {sales.period} have none now"
        yield sales.found("set_aside", missing, text, aside=ROWS)
        return
    since = len(counts) - min(newest, max(1, LATE // STEP_DAYS[sales.period]))
    cells = np.zeros_like(present)
    cells[:, since:] = True
    text = f"{sales.grid.dates[since]} has {counts[since]:,} rows, such {sales.period}s had {usual[since]:,.0f} or more"
    yield sales.found("set_aside", cells, text, aside=ROWS)


def _missing_products(sales: GivenRows, first: int) -> Bools:
    """(product, period) cells of products sold every day that have no row since `first`, where they are too many.

    Days that are read before they are complete lack other products each; one such day alone tells nothing.
    """
    present = sales.grid.present
    base = present[:, max(0, first - ACTIVE) : first]
    active = base[:, base.any(axis=0)].sum(axis=1) >= max(1.0, ALMOST_EVERY * base.any(axis=0).sum())
    missing = active & ~present[:, first:].any(axis=1)
    each = (active[:, None] & ~present[:, first:]).sum(axis=0).min()
    many = missing.sum() > (1 - FEWEST) * active.sum() and 2 * missing.sum() > each and present.shape[1] - first > 1
    cells: Bools = (np.arange(present.shape[1]) >= first) & (missing & many)[:, None]
    return cells


def _lost_columns(sales: GivenRows) -> Iterator[Found]:
    had = set() if sales.known is None else _columns_of(sales.known)
    for name in ("category", *NULLABLE, *sorted(had - {"category", *NULLABLE})):
        if name in sales.given:
            continue
        near = nearest(name, sales.others) if name in NULLABLE or name == "category" else None
        if name in had or near is not None:
            hint = "" if near is None else f", but a column {near!r} is"
            yield sales.whole("stop" if name in had else "note", f"column {name} is not in the sales{hint}")
    present = sales.grid.present
    rows, there = np.maximum(present.sum(axis=0), 1), np.asarray(present.any(axis=0))
    filled = {name: np.isfinite(sales.columns[name]) & present for name in NULLABLE if name in sales.columns}
    if "stock" in filled:
        filled["stock is 0"] = present & ~(sales.columns["stock"] == 0)
    for name, cells in {**filled, "category": sales.categorised}.items():
        share = cells.sum(axis=0) / rows
        low, _ = sales.less_than_usual(share, usable=there, share=FEWEST)
        newest = newest_run(low[there])
        zero = name == "stock is 0"
        if newest or (zero and low.any()):
            text = name if zero else f"{name} is missing"
            level: Level = "set_aside" if newest >= min(LASTING, sales.phases) or zero else "note"
            at = present & ~cells & low
            yield sales.found(level, at, f"{text} on far more rows than on such days", aside="stock" if zero else "")
    if "stock" in sales.columns:
        yield from frozen(sales, "stock", np.isfinite(sales.columns["stock"]))


def _columns_of(panel: Panel) -> set[str]:
    """The optional columns that the sales behind a panel had for certain."""
    had = {
        "stock": bool(np.isfinite(panel.stock).any()),
        "comp_price": bool(np.isfinite(panel.comp_price).any()),
        "comp_price_age": bool((np.nan_to_num(panel.comp_price_age) > 0).any()),
        "tax_rate": bool((panel.tax_rate > 0).any()),
        "unit_cost": bool((~panel.cost_assumed).any()),
        "is_promo": bool((panel.is_promo > 0).any()),
        "category": len(np.unique(panel.categories)) > 1,
        "parent_id": panel.parent_ids is not None,
    }
    return {name for name, there in had.items() if there}


def _renamed_ids(sales: GivenRows) -> Iterator[Found]:
    """Find a day on which many products that were sold every day end and as many others begin."""
    present, known = sales.grid.present, sales.known
    began, last = np.argmax(present, axis=1), sales.grid.latest[:, -1]
    for now in range(max(sales.since, 2 * LEAST_ROWS), present.shape[1]):
        base = present[:, max(0, now - ACTIVE) : now]
        active = base.sum(axis=1) >= max(1.0, ALMOST_EVERY * base.any(axis=0).sum())
        gone, new = active & (last < now), (began == now) & present[:, now]
        if min(gone.sum(), new.sum()) > NEW_IDS * max(1, int(active.sum())):
            at = np.zeros_like(present)
            at[:, now] = new
            text = f"{int(gone.sum()):,} products end and {int(new.sum()):,} others begin on one day"
            yield sales.found("stop", at, text, example=f"{str(sales.grid.ids[gone][0])!r} gone")
            return
    if known is not None:
        lost = known.present[:, -ACTIVE:].any(axis=1) & ~np.isin(known.product_ids, sales.grid.ids)
        fresh = ~np.isin(sales.grid.ids, known.product_ids)
        if min(lost.sum(), fresh.sum()) > NEW_IDS * known.present[:, -ACTIVE:].any(axis=1).sum():
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
    grid, step = sales.grid, STEP_DAYS[sales.period]
    days = grid.dates[grid.present.any(axis=0)]
    found = swapped_dates(days, sales.bad_days, step=step)
    if found is not None:
        yield Found(found)
        return
    if sales.today is None:
        return
    today = np.datetime64(sales.today, "D")
    ahead = np.broadcast_to(grid.dates > today + 1, grid.present.shape) & grid.present
    late = int((today - days[-1]).astype(int))
    if ahead.any():
        yield sales.found("set_aside", ahead, "rows lie in the future", aside=ROWS)
    elif sales.known is not None and LATE * step < late < OLD:
        first, last = str(days[-1] + step), str(today)
        text = f"the newest sales are of {days[-1]}, {late} days ago"
        yield Found(Finding("", "set_aside", first=first, last=last, sentence=text))


def swapped_dates(days: Days, bad_days: Days, *, step: int) -> Finding | None:
    """The finding that the newest rows bear dates whose day and month are swapped; None where they do not.

    Such rows lie far ahead, or on days that have their rows already.

    Args:
        days: (day,) ascending days with rows that satisfy the contract.
        bad_days: Days of rows that break it.
        step: Days of a period.
    """
    gaps = np.flatnonzero(np.diff(days).astype(np.int64) > max(AHEAD, 2 * step))
    gaps = gaps[len(days) - 1 - gaps <= ACTIVE]
    last = days[gaps[0]] if len(gaps) else days[-1]
    ahead = np.union1d(days[days > last], bad_days)
    swapped = [(day, other) for day in ahead if (other := _swapped(day)) is not None]
    due = [(day, other) for day, other in swapped if 0 < (other - last).astype(int) <= AHEAD + len(ahead)]
    if not due or 2 * len(due) < len(ahead):
        return None
    day, other = min(due, key=lambda pair: pair[1])
    text = f"after {last} come rows of {day}, which with day and month swapped would be {other}"
    return Finding("dates", "stop", first=str(other), last=str(days[-1]), sentence=text)


def _swapped(day: "np.datetime64") -> "np.datetime64 | None":
    """The day with day and month swapped; None where that is no other day."""
    year, month, number = str(day).split("-")
    return np.datetime64(f"{year}-{number}-{month}", "D") if int(number) <= 12 and number != month else None


def _coverage(sales: GivenRows) -> Iterator[Found]:
    present, periods = sales.grid.present, sales.grid.present.shape[1]
    if (days := periods * STEP_DAYS[sales.period]) < SHORT and sales.known is None:
        yield sales.whole("note", f"there are only {days} days: most products will be priced by what others teach")
    sold = (sales.columns["units_sold"] > 0).any(axis=0)
    weekday = np.arange(periods) % sales.phases
    often = np.bincount(weekday, weights=sold) > np.bincount(weekday) / 2  # no closing day
    closed = ~sold & often[weekday] & ~sales.calendar
    times = int((closed[1:] & ~closed[:-1]).sum())
    if times >= LEAST_TOGETHER and 2 * (sold & sales.calendar).sum() > sales.calendar.sum():
        text = (
            f"nothing was sold on {int(closed.sum()):,} days that are no holidays of data.country, but on most that are"
        )
        yield sales.found("note", np.broadcast_to(closed, present.shape), text)
    for name in ("is_promo", "stock"):
        values = sales.columns.get(name, np.full((1, 1), np.nan))
        known, zero = np.isfinite(values), name == "stock"
        if len(sales.grid.dates) * STEP_DAYS[sales.period] >= WINDOW_DAYS and known.any() and not np.ptp(values[known]):
            empty = zero and not values[known].any()
            text = f"{name} is {values[known][0]:g} on every row that has it, and says nothing"
            yield sales.found("set_aside" if empty else "note", known, text, aside=name if empty else "")
        elif zero and (over := known & (sales.columns["units_sold"] > values)).sum() > 0.2 * known.sum():
            yield sales.found("note", over, "many rows sell more than their stock, which is that at opening")


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: For programs; also what `data.quality.accept` names.
        level: The gravest level that it gives.
        look: Finds; `check` and `advice` of its findings are filled in from here.
        advice: What to do.
    """

    name: str
    level: Level
    look: Callable[[GivenRows], Iterator[Found]]
    advice: str


CHECKS = (
    Check(
        "dates", "stop", _dates, "Write dates as YYYY-MM-DD, of days that are over; look at the feed where none come"
    ),
    Check("price_unit", "stop", price_unit, "Deliver all prices in one unit, of one piece, tax included, as before"),
    Check("price_outlier", "set_aside", price_outlier, "Look at the rows that were set aside, and mend the feed"),
    Check("units", "stop", units, "Deliver pieces and not cases or totals; if demand was that strong, accept it"),
    Check(
        "lost_days", "set_aside", _lost_days, "Read these days again when they are complete; closed days need nothing"
    ),
    Check("lost_columns", "stop", _lost_columns, "Deliver the column as before, under the contract's name"),
    Check(
        "renamed_ids", "stop", _renamed_ids, "Deliver the former ids, or give the history the new ones and train anew"
    ),
    Check("duplicates", "note", _duplicates, "They are learnt as different ones: write each in one way"),
    Check(
        "competitor", "set_aside", competitor, "Look at the feed of competitor prices: unit, pack, copies, old prices"
    ),
    Check(
        "coverage", "set_aside", _coverage, "Give a longer history, data.country, and only columns that are filled in"
    ),
)


def check_sales(
    rows: pd.DataFrame,
    config: DataConfig,
    *,
    known: Panel | None = None,
    given: Sequence[str] = (),
    others: Sequence[str] = (),
    bad_days: Days | None = None,
    today: dt.date | None = None,
) -> list[Finding]:
    """Run the ten checks. Pure; the rows are not modified.

    Args:
        rows: Rows that satisfy the contract, one per product and period.
        config: The grain, the country, and what a person accepts.
        known: The end of the history that the champion has read.
        given: The contract's columns that the sales have; those of `rows` when empty.
        others: Their other columns.
        bad_days: Days of rows that break the contract.
        today: The day of the check; absent: no row is in the future, and none is old.

    Returns:
        The findings, the gravest first.

    Example:
        >>> import pandas as pd
        >>> from pricing.config import load_config
        >>> from pricing.data.quality import check_sales
        >>> days = pd.date_range("2026-01-05", periods=80)
        >>> sales = pd.DataFrame({"date": days, "product_id": "tea", "units_sold": 5, "price": 4.99})
        >>> sales.loc[70, "price"] = 499.0
        >>> [(one.check, one.level, one.first) for one in check_sales(sales, load_config().data)]
        [('price_outlier', 'set_aside', '2026-03-16')]
    """
    sales = GivenRows.of(rows, config, known=known, given=given, others=others, bad_days=bad_days, today=today)
    return ordered(one.finding for one in look(sales, config.quality.accept))


def look(sales: GivenRows, accept: Mapping[str, dt.date]) -> Iterator[Found]:
    """Run the checks on rows laid out; what a person accepts is a note, and sets nothing aside.

    After a finding that stops only such are told: the others see the same fault from another side.
    """
    stopped = False
    for check in CHECKS:
        until = str(accept.get(check.name, ""))
        for found in check.look(sales):
            one = replace(found.finding, check=check.name, advice=check.advice)
            if until and one.level != "note" and one.last <= until:
                one = replace(one, level="note", advice=f"Accepted up to {until} (data.quality.accept)")
            if stopped and one.level != "stop":
                continue
            stopped = one.level == "stop"
            open_days = sales.grid.dates.astype(str) > until
            yield Found(one, {name: cells & open_days for name, cells in found.cells.items()})
