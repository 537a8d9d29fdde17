"""Check which rows, columns, products and days sales have, against those before. See `quality`."""

from collections.abc import Iterator

import numpy as np

from pricing.arrays import Bools
from pricing.data import day_checks
from pricing.data.contract import COLUMNS
from pricing.data.day_checks import ACTIVE, ALMOST_ALWAYS
from pricing.data.findings import ROWS, Finding, Found, Level
from pricing.data.given_rows import LEAST_ROWS, LEAST_SEEN, LEAST_TOGETHER, WINDOW_DAYS, GivenRows, newest_run
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.price_checks import frozen
from pricing.errors import nearest

FEWEST = 0.7  # of the fewest of the last eight such weekdays: chance is in those eight; a third less is a fault
QUIET = 7  # rows with a sale that such weekdays had at least, for a day without any to be lost and no chance
LASTING = 2  # days after which missing values are a fault: on one day a source may have failed to answer
NEW_IDS = 0.2  # share of the products that end where as many begin: a range changes more slowly
STALE = 3  # periods without new sales after which a feed has stopped
OLD = 60  # days without new sales from which they are a history, and no feed
SHORT = 56  # days of history below which little can be learnt
OVERSOLD = 0.2  # share of rows that sell more than their stock: with fewer, deliveries came on those days
EMPTY = "stock is 0"
NULLABLE = ("list_price", "unit_cost", "stock", "available", "comp_price", "is_promo")


def lost_days(sales: GivenRows) -> Iterator[Found]:
    """Find days without rows or sales, and newest days with far fewer rows than usual."""
    present = sales.grid.present
    counts = present.sum(axis=0)
    sold = (sales.columns["units_sold"] > 0).sum(axis=0)
    low, usual = sales.less_than_usual(counts, usable=~sales.odd, share=FEWEST)
    _, usually_sold = sales.less_than_usual(sold, usable=~sales.odd, share=FEWEST)
    periods = np.arange(len(counts))

    empty = low & (counts == 0)
    unsold = (periods >= sales.grid.own.start) & (counts > 0) & (sold == 0) & (usually_sold >= QUIET)
    for what, at in {"have no row at all": empty, "report 0 units for every product": unsold}.items():
        if at.any():
            first = str(sales.grid.dates[np.argmax(at)])
            yield sales.days(at, f"{int(at.sum()):,} {sales.period}s {what}", example=first)

    newest = newest_run(low & (counts > 0))
    if newest == 1:
        text = f"{sales.grid.dates[-1]} has {counts[-1]:,} rows, such {sales.period}s had {usual[-1]:,.0f} or more"
        yield sales.days(periods == periods[-1], text)
    elif newest:
        since = len(counts) - newest
        absent = ~present & (periods >= since) & _sold_every_day(present, since)[:, None]
        text = f"{int(absent.any(axis=1).sum()):,} products that had a row almost every {sales.period} lack rows now"
        if absent.any():
            yield sales.found("set_aside", absent, text, aside=ROWS)
    yield from day_checks.lost_parts(sales)


def _sold_every_day(present: Bools, now: int) -> Bools:
    """(product,) True where a product had a row on almost every one of the last days before a period."""
    base = present[:, max(0, now - ACTIVE) : now]
    least = max(1.0, ALMOST_ALWAYS * base.any(axis=0).sum())
    return np.asarray(base.sum(axis=1) >= least)


def lost_columns(sales: GivenRows) -> Iterator[Found]:
    """Find columns that are gone, were renamed, have far fewer values than usual, or no longer change."""
    yield from _absent_columns(sales)
    yield from _missing_values(sales)
    if "stock" in sales.columns:
        yield from frozen(sales, "stock", np.isfinite(sales.columns["stock"]))


def _absent_columns(sales: GivenRows) -> Iterator[Found]:
    had = set() if sales.known is None else _columns_of(sales.known)
    common = ("category", *NULLABLE)
    unknown = [name for name in sales.names if name not in COLUMNS]
    for name in (*common, *sorted(had - {*common})):
        if name in sales.names:
            continue
        near = nearest(name, unknown) if name in common else None
        hint = "" if near is None else f", but a column {near!r} is"
        text = f"column {name} is not in the sales{hint}"
        if name in had:
            yield sales.whole("stop", text)
        elif near is not None:
            yield sales.whole("note", text)


def _columns_of(panel: Panel) -> set[str]:
    """Return the optional columns that the sales behind a panel had for certain."""
    numbers = ("stock", "comp_price", "comp_price_age", "tax_rate", "is_promo")
    had = {name for name in numbers if (getattr(panel, name) > 0).any()}
    if not panel.cost_assumed.all():
        had.add("unit_cost")
    if panel.parent_ids is not None:
        had.add("parent_id")
    if (panel.categories != panel.categories[0]).any():
        had.add("category")
    return had


def _missing_values(sales: GivenRows) -> Iterator[Found]:
    present = sales.grid.present
    rows = np.maximum(present.sum(axis=0), 1)
    there = np.asarray(present.any(axis=0))

    fine = {f"{name} is missing": np.isfinite(sales.columns[name]) for name in NULLABLE if name in sales.columns}
    if "stock" in sales.columns:
        fine[EMPTY] = sales.columns["stock"] != 0
    fine["category is missing"] = sales.categorised
    for text, cells in fine.items():
        filled = cells & present
        low, _ = sales.less_than_usual(filled.sum(axis=0) / rows, usable=there, share=FEWEST)
        newest = newest_run(low[there])
        empty = text == EMPTY
        if newest or (empty and low.any()):
            level: Level = "set_aside" if empty or newest >= min(LASTING, sales.phases) else "note"
            at = present & ~filled & low
            yield sales.found(level, at, f"{text} on far more rows than on such days", aside="stock" if empty else "")


def renamed_ids(sales: GivenRows) -> Iterator[Found]:
    """Find a day on which many products that were sold every day end and as many others begin."""
    present = sales.grid.present
    periods = np.arange(present.shape[1])
    began = np.argmax(present, axis=1)
    last = sales.grid.latest[:, -1]
    for now in range(max(sales.since, 2 * LEAST_ROWS), len(periods)):
        active = _sold_every_day(present, now)
        gone = active & (last < now)
        new = (began == now) & present[:, now]
        if min(gone.sum(), new.sum()) > NEW_IDS * max(1, int(active.sum())):
            text = f"{int(gone.sum()):,} products end and {int(new.sum()):,} others begin on one day"
            at = new[:, None] & (periods == now)
            yield sales.found("stop", at, text, example=f"{str(sales.grid.ids[gone][0])!r} gone")
            return

    known = sales.known
    if known is not None:
        sold = known.present[:, -ACTIVE:].any(axis=1)
        lost = sold & ~np.isin(known.product_ids, sales.grid.ids)
        new = ~np.isin(sales.grid.ids, known.product_ids)
        if min(lost.sum(), new.sum()) > NEW_IDS * sold.sum():
            text = f"{int(lost.sum()):,} products that the champion knows are in no row, {int(new.sum()):,} are new"
            yield sales.found("stop", present & new[:, None], text)


def duplicates(sales: GivenRows) -> Iterator[Found]:
    """Find products, and categories, whose names differ only in case or blanks."""
    for what, names in {"product ids": sales.grid.ids, "categories": sales.categories}.items():
        distinct = np.unique(names)
        plain = np.array([" ".join(str(name).split()).casefold() for name in distinct])
        _, number, count = np.unique(plain, return_inverse=True, return_counts=True)
        several = count[number] > 1
        if several.any():
            pair = distinct[plain == plain[several][0]][:2]
            at = sales.grid.present & np.isin(names, distinct[several])[:, None]
            text = f"{int(several.sum()):,} {what} differ only in case or blanks"
            yield sales.found("note", at, text, example=" and ".join(repr(str(name)) for name in pair))


def dates(sales: GivenRows) -> Iterator[Found]:
    """Find a feed that has stopped, or is the one read last; rows in the future are set aside before all checks."""
    if sales.today is None or sales.known is None:
        return
    newest = sales.grid.dates[-1]
    today = np.datetime64(sales.today, "D")
    step = STEP_DAYS[sales.period]
    late = int((today - newest).astype(int))
    such = sales.grid.present[:, -sales.phases :: -sales.phases][:, :LEAST_SEEN]  # days as the one that is due
    due = such.any(axis=0).all() and not sales.is_holiday(newest + step)
    again = due and late >= 2 * step and newest == sales.known.dates[-1]
    if (again or late > STALE * step) and late < OLD:
        text = f"the newest sales are of {newest}, {late} days ago"
        yield Found(Finding("", "set_aside", first=str(newest + step), last=str(today), sentence=text))


def coverage(sales: GivenRows) -> Iterator[Found]:
    """Find a short history, closed days that the country's calendar does not know, and columns that hold one value."""
    days = len(sales.grid.dates) * STEP_DAYS[sales.period]
    if days < SHORT and sales.known is None:
        yield sales.whole("note", f"there are only {days} days: most products will be priced by what others teach")
    yield from _closed_days(sales)
    for name in ("is_promo", "stock"):
        if name in sales.columns:
            yield from _one_value(sales, name, days=days)


def _closed_days(sales: GivenRows) -> Iterator[Found]:
    sold = (sales.columns["units_sold"] > 0).any(axis=0)
    weekday = np.arange(len(sales.grid.dates)) % sales.phases
    often = np.bincount(weekday, weights=sold) > np.bincount(weekday) / 2  # no closing day
    closed = ~sold & often[weekday] & ~sales.odd
    times = int((closed[1:] & ~closed[:-1]).sum())
    if times >= LEAST_TOGETHER and 2 * (sold & sales.calendar).sum() > sales.calendar.sum():
        text = f"nothing was sold on {closed.sum():,} days that are no holidays of data.country, but on most that are"
        yield sales.found("note", np.broadcast_to(closed, sales.grid.present.shape), text)


def _one_value(sales: GivenRows, name: str, *, days: int) -> Iterator[Found]:
    values = sales.columns[name]
    known = np.isfinite(values)
    if days >= WINDOW_DAYS and known.any() and not np.ptp(values[known]):
        value = values[known][0]
        text = f"{name} is {value:g} on every row that has it, and says nothing"
        if name == "stock" and value == 0:
            yield sales.found("set_aside", known, text, aside=name)
        else:
            yield sales.found("note", known, text)
    elif name == "stock":
        over = known & (sales.columns["units_sold"] > values)
        if over.sum() > OVERSOLD * known.sum():
            yield sales.found("note", over, "many rows sell more than their stock, which is that at opening")
