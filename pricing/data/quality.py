"""Find what is probably wrong with sales that keep the contract: one table of ten checks.

    check_sales(rows, config, known=None, given=(), others=(), bad_days=None, today=None) -> list[Finding]
    Finding(check, level, products, rows, first, last, example, sentence, advice)

Rows are compared with the past of their own product, shop and weekday, and with what the champion has read. `stop`: the
job ends and the champion stays; `set_aside`: rows or values count as unknown, the rest goes on and a person should
look; `note`: it is said. A person accepts a finding by `data.quality.accept` ({check: last day}), which makes a note of
it. No check depends on the currency, and none changes the rows.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days
from pricing.config_models import DataConfig
from pricing.data.given_rows import LEAST_ROWS, WINDOW, GivenRows, far_off, past_range, still_since
from pricing.data.grid import carry
from pricing.data.panel import STEP_DAYS, Panel
from pricing.errors import PricingError, SourceError, nearest
from pricing.fileio import replace_text

Level = Literal["note", "set_aside", "stop"]
LEVELS: tuple[Level, ...] = ("note", "set_aside", "stop")  # from the mildest on
ROWS = "rows"  # in the place of a column: the whole rows are set aside, and periods without a row are unknown
TOGETHER = 0.25, 1.5  # × the range of most products of a category: no clearance of all goes below, no inflation above
ALONE = 0.1, 5.0  # × the range of one product: clearance ends at a tenth, nothing gets five times dearer overnight
MANY_UNITS = 100.0  # × the most a product sold in its past: a total, or a number of another column
OTHER_UNITS = 8.0  # × or ÷ the usual units of most products of a category: Black Friday and hoarding sell up to 7 times
LEAST_UNITS = 160  # that products sell together on such days, for a fraction of them to be no chance
FAR_COMPETITOR = 20.0  # × or ÷ the own price: another unit or pack
FEWEST = 0.7  # of the fewest of the last eight such weekdays: chance is in those eight; a third less is a fault
QUIET = 7  # rows with a sale that such weekdays had at least, for a day without any to be lost and no chance
LEAST_TOGETHER = 3  # products that say something together; fewer are judged alone
LATE = 3  # newest periods that may be incomplete; older ones count as they are
LASTING = 2  # days after which missing values are a fault: on one day a source may have failed to answer
ACTIVE, ALMOST_EVERY = 28, 0.8  # periods, and the share of them with a row, of a product that is sold every day
NEW_IDS = 0.2  # share of the products that end where as many begin: a range changes more slowly
AHEAD = 7  # days without rows after which later dates are looked at for swapped day and month
SHORT = 56  # days of history below which little can be learnt
EQUAL = 0.005  # relative difference of prices that are equal but for rounding
NULLABLE = ("list_price", "unit_cost", "stock", "comp_price", "is_promo")


@dataclass(frozen=True)
class Finding:
    """One thing that is probably wrong with sales.

    Attributes:
        check: Name of the check, in CHECKS, or `contract` for rows that break the contract.
        level: What happens.
        products: Products affected.
        rows: Rows affected.
        first: First day affected, YYYY-MM-DD; empty where it is about no day.
        last: Last day affected.
        example: The first offender.
        sentence: What was found, one sentence without full stop.
        advice: What to do.
    """

    check: str
    level: Level
    products: int = 0
    rows: int = 0
    first: str = ""
    last: str = ""
    example: str = ""
    sentence: str = ""
    advice: str = ""

    def __str__(self) -> str:
        """What was found, an example, and what to do."""
        return f"{self.sentence}{f', such as {self.example}' if self.example else ''}. {self.advice}".rstrip()


@dataclass(frozen=True)
class Found:
    """A finding, and the (product, period) cells to set aside: of a column, or of ROWS."""

    finding: Finding
    cells: Mapping[str, Bools] = field(default_factory=dict)


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
    """Run the checks on rows laid out; what a person accepts is a note, and sets nothing aside."""
    for check in CHECKS:
        until = str(accept.get(check.name, ""))
        for found in check.look(sales):
            one = replace(found.finding, check=check.name, advice=check.advice)
            if one.level != "note" and one.last <= until:
                yield Found(replace(one, level="note", advice=f"Accepted up to {until} (data.quality.accept)"))
            else:
                open_days = sales.grid.dates.astype(str) > until
                yield Found(one, {name: cells & open_days for name, cells in found.cells.items()})


def _found(
    sales: GivenRows, level: Level, at: Bools, sentence: str, *, column: str = "", aside: str = "", example: str = ""
) -> Found:
    """The finding on marked cells, (product, period); the first of them is the example."""
    grid, days = sales.grid, np.flatnonzero(at.any(axis=0))
    product = int(np.argmax(at[:, days[0]]))
    value = f": {column} {sales.columns[column][product, days[0]]:g}" if column in sales.columns else ""
    finding = Finding(
        "",
        level,
        products=int(at.any(axis=1).sum()),
        rows=int((at & grid.present).sum()),
        first=str(grid.dates[days[0]]),
        last=str(grid.dates[days[-1]]),
        example=example or f"{str(grid.ids[product])!r} on {grid.dates[days[0]]}{value}",
        sentence=sentence,
    )
    return Found(finding, {aside: at} if aside else {})


def _whole(sales: GivenRows, level: Level, sentence: str, *, since: int = 0, aside: str = "") -> Found:
    """The finding on all rows from a period on."""
    at = sales.grid.present.copy()
    at[:, :since] = False
    return _found(sales, level, at, sentence, aside=aside)


def _price_unit(sales: GivenRows) -> Iterator[Found]:
    for column in ("price", "list_price", "unit_cost"):
        at = _together(sales, column) if column in sales.columns else np.zeros((1, 1), dtype=np.bool_)
        if at.any():
            first = int(np.argmax(at.any(axis=0)))
            moved = at[:, first] & (sales.grid.latest[:, first - 1] >= 0)
            before = carry(sales.columns[column], sales.grid.latest)[:, first - 1]
            factor = np.nanmedian(sales.columns[column][moved, first] / before[moved])
            text = f"{column} of {int(at[:, first].sum()):,} products is about {factor:.3g} times what it was before"
            yield _found(sales, "stop", at, text, column=column)
            return
    yield from _unit_not_as_read(sales)
    yield from _net_of_tax(sales)


def _together(sales: GivenRows, column: str) -> Bools:
    """(product, period) values of categories, or of the shop, most of which left their own past's range alike."""
    logs = sales.logs(column)
    low, high = past_range(logs)
    if column == "price" and "list_price" in sales.columns:  # back to list price after a long promotion
        high = np.fmax(high, past_range(sales.logs("list_price"))[1])
    with np.errstate(invalid="ignore"):
        moves = logs - high > np.log(TOGETHER[1]), logs - low < np.log(TOGETHER[0])
    judged, marked = np.isfinite(logs) & np.isfinite(high), np.zeros(logs.shape, dtype=np.bool_)
    for _, members in sales.groups() if moves[0].any() or moves[1].any() else ():
        count = judged[members].sum(axis=0)
        for moved in moves:
            days = (count >= LEAST_TOGETHER) & (2 * (moved & judged)[members].sum(axis=0) > count)
            marked[members] |= moved[members] & judged[members] & days
    marked[:, : sales.grid.own.start] = False
    return marked


def _unit_not_as_read(sales: GivenRows) -> Iterator[Found]:
    """Find a new export in another unit by the days that the champion has read."""
    known, grid = sales.known, sales.grid
    if known is None:
        return
    _, here, there = np.intersect1d(grid.dates[grid.own], known.dates, return_indices=True)
    ids, rows, others = np.intersect1d(grid.ids, known.product_ids, return_indices=True)
    at = np.zeros_like(grid.present)
    at[np.ix_(rows, here + grid.own.start)] = known.present[np.ix_(others, there)]
    at &= grid.present
    if len(ids) < LEAST_TOGETHER or at.any(axis=1).sum() < LEAST_TOGETHER:
        return
    before = np.full(at.shape, np.nan)
    before[np.ix_(rows, here + grid.own.start)] = known.price[np.ix_(others, there)]
    factor = float(np.median((sales.columns["price"] / before)[at]))
    if not TOGETHER[0] < factor < TOGETHER[1]:
        text = f"price is about {factor:.3g} times what the champion has read of the same days"
        yield _found(sales, "stop", at, text, column="price")


def _net_of_tax(sales: GivenRows) -> Iterator[Found]:
    """Find the day from which prices are a like part of what they were, list prices too, and by no round cut."""
    last = np.pad(sales.grid.latest[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    ratio = sales.columns["price"] / carry(sales.columns["price"], last)
    if "is_promo" in sales.columns:
        ratio[sales.columns["is_promo"] > 0] = np.nan
    for now in range(sales.since, ratio.shape[1]):
        moved = ratio[:, now][np.isfinite(ratio[:, now])]
        factor = float(np.median(moved)) if len(moved) > LEAST_TOGETHER else 1.0
        alike = np.abs(ratio[:, now] / factor - 1) <= 2 * EQUAL
        if not 0.74 < factor < 0.97 or alike.sum() <= 0.6 * len(moved):
            continue
        listed = sales.columns.get("list_price")
        if listed is not None:
            cut = np.nanmedian(listed[alike, now] / carry(listed, last)[alike, now])
            tax = abs(cut / factor - 1) <= 2 * EQUAL
        else:
            tax = abs(factor * 20 - round(factor * 20)) > 20 * EQUAL  # a sale is of 10, 15 or 20 %
        if tax:
            at = np.zeros_like(sales.grid.present)
            at[:, now] = alike
            text = f"price of {int(alike.sum()):,} products is {factor:.3f} times that of the day before, all alike"
            yield _found(sales, "stop", at, text, column="price")
            return


def _price_outlier(sales: GivenRows) -> Iterator[Found]:
    for column in ("price", "list_price", "unit_cost"):
        if column not in sales.columns:
            continue
        at = far_off(sales.logs(column), low=np.log(ALONE[0]), high=np.log(ALONE[1])) & (sales.numbers >= 0)
        if at.any():
            text = (
                f"{column} is over {ALONE[1]:g} times, or under {ALONE[0]:g} times, all that the product asked before"
            )
            yield _found(sales, "set_aside", at, text, column=column, aside=column if column == "unit_cost" else ROWS)


def _units(sales: GivenRows) -> Iterator[Found]:
    at = far_off(sales.logs("units_sold"), low=-np.inf, high=np.log(MANY_UNITS)) & (sales.numbers >= 0)
    if at.any():
        text = f"units are over {MANY_UNITS:g} times the most that the product sold before"
        yield _found(sales, "set_aside", at, text, column="units_sold", aside=ROWS)
    few_before: set[str] = set()
    units = sales.columns["units_sold"]
    plain = sales.logs("price") > past_range(sales.logs("price"))[1] + np.log(0.9)  # as dear as in its past, …
    if "is_promo" in sales.columns:
        plain &= ~(sales.columns["is_promo"] > 0)  # … not advertised, …
    if "stock" in sales.columns:
        plain &= sales.columns["stock"] != 0  # … and in stock
    open_days = sales.grid.present.any(axis=0) & ~sales.calendar & ~sales.flagged
    for now in np.flatnonzero(open_days[sales.since :]) + sales.since:
        such = sales.such_days(int(now))
        such = such[open_days[such]]
        if len(such) < 4:
            continue
        usual = np.median(np.nan_to_num(units[:, such]), axis=1)
        told = plain[:, now] & (usual >= 1)
        few_now = set[str]()
        for name, members in sales.groups():
            some = members[told[members]]
            if len(some) < LEAST_TOGETHER:
                continue
            ratio, total = units[some, now] / usual[some], float(units[some, now].sum() / usual[some].sum())
            many = total > OTHER_UNITS and 2 * (ratio > OTHER_UNITS / 2).sum() > len(some)
            few = 0 < total * OTHER_UNITS < 1 and 2 * (ratio * OTHER_UNITS / 2 < 1).sum() > len(some)
            if few and usual[some].sum() >= LEAST_UNITS:  # a shop may be closed for one day
                few_now.add(name)
            if many or (name in few_now and name in few_before):
                of = f"most products of category {name!r} sell" if name else "most products sell"
                day = np.zeros_like(sales.grid.present)
                day[some, now] = True
                text = f"at usual prices {of} {total:.3g} times what they do on such days"
                yield _found(sales, "stop", day, text, column="units_sold")
                return
        few_before = few_now


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
            yield _found(sales, "set_aside", np.broadcast_to(at, present.shape), text, aside=ROWS, example=day)
    newest = _length(low & (counts > 0))
    if not newest:
        return
    missing = _missing_products(sales, len(counts) - newest)
    if missing.any():
        text = f"{int(missing.any(axis=1).sum()):,} products that had a row almost every {sales.period} have none now"
        yield _found(sales, "set_aside", missing, text, aside=ROWS)
        return
    since = len(counts) - min(newest, LATE)
    cells = np.zeros_like(present)
    cells[:, since:] = True
    text = f"{sales.grid.dates[since]} has {counts[since]:,} rows, such {sales.period}s had {usual[since]:,.0f} or more"
    yield _found(sales, "set_aside", cells, text, aside=ROWS)


def _length(flags: Bools) -> int:
    """How many of the newest periods are flagged without a break."""
    return len(flags) if flags.all() else int(np.argmax(~flags[::-1]))


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
    return (np.arange(present.shape[1]) >= first) & (missing & many)[:, None]


def _lost_columns(sales: GivenRows) -> Iterator[Found]:
    had = set() if sales.known is None else _columns_of(sales.known)
    for name in ("category", *NULLABLE, *sorted(had - {"category", *NULLABLE})):
        if name in sales.given:
            continue
        near = nearest(name, sales.others) if name in NULLABLE or name == "category" else None
        if name in had or near is not None:
            hint = "" if near is None else f", but a column {near!r} is"
            yield _whole(sales, "stop" if name in had else "note", f"column {name} is not in the sales{hint}")
    present = sales.grid.present
    rows = np.maximum(present.sum(axis=0), 1)
    filled = {name: np.isfinite(sales.columns[name]) & present for name in NULLABLE if name in sales.columns}
    if "stock" in filled:
        filled["stock is 0"] = present & ~(sales.columns["stock"] == 0)
    for name, cells in {**filled, "category": sales.categorised}.items():
        share = cells.sum(axis=0) / rows
        low, _ = sales.less_than_usual(share, usable=present.any(axis=0), share=FEWEST)
        newest = _length(low[present.any(axis=0)])
        zero = name == "stock is 0"
        if newest or (zero and low.any()):
            text = name if zero else f"{name} is missing"
            level: Level = "set_aside" if newest >= min(LASTING, sales.phases) or zero else "note"
            at = present & ~cells & low
            yield _found(sales, level, at, f"{text} on far more rows than on such days", aside="stock" if zero else "")
    if "stock" in sales.columns:
        yield from _frozen(sales, "stock", np.isfinite(sales.columns["stock"]))


def _frozen(sales: GivenRows, name: str, known: Bools) -> Iterator[Found]:
    since = still_since(sales.columns[name], known, least=LATE)
    if since is not None:
        yield _whole(sales, "set_aside", f"{name} of all products has stayed the same", since=since, aside=name)


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
            yield _found(sales, "stop", at, text, example=f"{str(sales.grid.ids[gone][0])!r} gone")
            return
    if known is not None:
        lost = known.present[:, -ACTIVE:].any(axis=1) & ~np.isin(known.product_ids, sales.grid.ids)
        fresh = ~np.isin(sales.grid.ids, known.product_ids)
        if min(lost.sum(), fresh.sum()) > NEW_IDS * known.present[:, -ACTIVE:].any(axis=1).sum():
            text = f"{int(lost.sum()):,} products that the champion knows are in no row, {int(fresh.sum()):,} are new"
            yield _found(sales, "stop", present & fresh[:, None], text)


def _duplicates(sales: GivenRows) -> Iterator[Found]:
    for names, what in ((sales.grid.ids, "product ids"), (sales.categories, "categories")):
        distinct = np.unique(names)
        plain = np.array([" ".join(str(name).split()).casefold() for name in distinct])
        _, place, count = np.unique(plain, return_inverse=True, return_counts=True)
        twins = distinct[count[place] > 1]
        if len(twins):
            pair = " and ".join(repr(str(name)) for name in distinct[plain == plain[count[place] > 1][0]][:2])
            at = sales.grid.present & np.isin(names, twins)[:, None]
            yield _found(sales, "note", at, f"{len(twins):,} {what} differ only in case or blanks", example=pair)


def _competitor(sales: GivenRows) -> Iterator[Found]:
    if "comp_price" not in sales.columns:
        return
    ratio = sales.logs("comp_price") - sales.logs("price")
    with np.errstate(invalid="ignore"):
        at = np.abs(ratio) > np.log(FAR_COMPETITOR)
    at |= far_off(ratio, low=-np.log(ALONE[1]), high=np.log(ALONE[1]))
    at &= sales.numbers >= 0
    if at.any():
        text = "comp_price is of another size beside the own price than before, or than it can be"
        yield _found(sales, "set_aside", at, text, column="comp_price", aside="comp_price")
    known = np.isfinite(ratio)
    days = np.flatnonzero(known.any(axis=0))
    same = (known & (np.abs(ratio) <= EQUAL)).sum(axis=0) >= 0.95 * known.sum(axis=0)
    newest = _length(same[days])
    if newest >= 4 * sales.phases and known[:, days[-newest:]].sum() >= LEAST_TOGETHER * newest:
        text = f"comp_price is the own price on the newest {newest:,} {sales.period}s"
        yield _whole(sales, "set_aside", text, since=int(days[-newest]), aside="comp_price")
    fresh = known & ~(sales.columns.get("comp_price_age", np.zeros_like(ratio)) > 0)  # an old price says so itself
    yield from _frozen(sales, "comp_price", fresh)


def _dates(sales: GivenRows) -> Iterator[Found]:
    grid, step = sales.grid, STEP_DAYS[sales.period]
    days = grid.dates[grid.present.any(axis=0)]
    found = swapped_dates(days, sales.bad_days, step=step)
    if found is not None:
        yield Found(found)
        return
    if sales.today is None:
        return
    ahead = np.broadcast_to(grid.dates > np.datetime64(sales.today, "D") + 1, grid.present.shape)
    if (ahead & grid.present).any():
        yield _found(sales, "set_aside", ahead & grid.present, "rows lie in the future", aside=ROWS)
    elif (
        sales.known is not None
        and (late := int((np.datetime64(sales.today, "D") - days[-1]).astype(int))) > LATE * step
    ):
        yield Found(
            Finding(
                "", "note", first=str(days[-1]), last=str(days[-1]), sentence=f"the newest sales are {late} days old"
            )
        )


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
        yield _whole(sales, "note", f"there are only {days} days: most products will be priced by what others teach")
    sold = (sales.columns["units_sold"] > 0).any(axis=0)
    weekday = np.arange(periods) % sales.phases
    often = np.bincount(weekday, weights=sold) > np.bincount(weekday) / 2  # no closing day
    closed = ~sold & often[weekday] & ~sales.calendar
    if closed.sum() >= LEAST_TOGETHER and 2 * (sold & sales.calendar).sum() > sales.calendar.sum():
        text = (
            f"nothing was sold on {int(closed.sum()):,} days that are no holidays of data.country, but on most that are"
        )
        yield _found(sales, "note", np.broadcast_to(closed, present.shape), text)
    for name in ("is_promo", "stock") if periods >= WINDOW // sales.phases else ():
        values = sales.columns.get(name, np.full((1, 1), np.nan))
        if (known := np.isfinite(values)).sum() > LEAST_ROWS and np.ptp(values[known]) == 0:
            empty = name == "stock" and not values[known].any()
            text = f"{name} is {values[known][0]:g} on every row that has it, and says nothing"
            yield _found(sales, "set_aside" if empty else "note", known, text, aside=name if empty else "")
    if "stock" in sales.columns:
        known = present & np.isfinite(sales.columns["stock"])
        over = known & (sales.columns["units_sold"] > sales.columns["stock"])
        if over.sum() > 0.2 * known.sum():  # deliveries during the day do not explain it
            yield _found(sales, "note", over, "many rows sell more than their stock, which is that at opening")


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
    Check("price_unit", "stop", _price_unit, "Deliver all prices in one unit, of one piece, tax included, as before"),
    Check("price_outlier", "set_aside", _price_outlier, "Look at the rows that were set aside, and mend the feed"),
    Check("units", "stop", _units, "Deliver pieces and not cases or totals; if demand was that strong, accept it"),
    Check(
        "lost_days", "set_aside", _lost_days, "Read these days again when they are complete; closed days need nothing"
    ),
    Check("lost_columns", "stop", _lost_columns, "Deliver the column as before, under the contract's name"),
    Check(
        "renamed_ids", "stop", _renamed_ids, "Deliver the former ids, or give the history the new ones and train anew"
    ),
    Check("duplicates", "note", _duplicates, "They are learnt as different ones: write each in one way"),
    Check(
        "competitor", "set_aside", _competitor, "Look at the feed of competitor prices: unit, pack, copies, old prices"
    ),
    Check(
        "coverage", "set_aside", _coverage, "Give a longer history, data.country, and only columns that are filled in"
    ),
)


class QualityError(PricingError):
    """Sales that lie too far from their own past to be learnt from or judged by.

    Attributes:
        findings: All that were found, the gravest first.
    """

    def __init__(self, where: str, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        found = " Also, ".join(f"{one.check}: {one}." for one in self.findings if one.level == "stop")
        super().__init__(
            f"{where} is not as it was before, so nothing is learnt from it and the champion stays as it is. {found} "
            "If all is as it should be, accept it (data.quality.accept: {CHECK: last day}); days that cannot be mended "
            "are left out by data.quality.leave_out"
        )


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first."""
    return sorted(findings, key=lambda one: -LEVELS.index(one.level))


def tags(findings: Iterable[Finding]) -> dict[str, str]:
    """Tags of an MLflow run: the gravest level, and each check's name with its level."""
    found = ordered(findings)
    named = ", ".join(dict.fromkeys(f"{one.check} {one.level}" for one in found))
    return {"quality": found[0].level if found else "fine", "quality_findings": named[:5000] or "none"}


def quality_file(panel: str | Path) -> Path:
    """The file beside a saved panel's folder that says what the checks found when it was made, or was not."""
    return Path(panel).with_name(f"{Path(panel).name}.quality.json")


def to_json(findings: Iterable[Finding]) -> str:
    """The JSON text of findings."""
    return json.dumps([asdict(one) for one in findings], indent=1, ensure_ascii=False) + "\n"


def save_findings(findings: Iterable[Finding], path: str | Path) -> None:
    """Write findings as JSON, atomically.

    Raises:
        SourceError: The file cannot be written.
    """
    try:
        replace_text(Path(path), to_json(findings))
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror})") from error


def load_findings(path: str | Path) -> list[Finding]:
    """Read what `save_findings` wrote.

    Raises:
        SourceError: There is no such file, or it is none of these.
    """
    try:
        return [Finding(**one) for one in json.loads(Path(path).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path}: holds no findings of data quality ({error}); run the job again") from error
