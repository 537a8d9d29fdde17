"""Check the values of sales against their products' own past: prices, units, competitor's prices. See `quality`."""

from collections.abc import Iterator

import numpy as np

from pricing.arrays import Bools, Floats
from pricing.data import day_checks
from pricing.data.day_checks import EQUAL
from pricing.data.findings import ROWS, Found
from pricing.data.given_rows import LEAST_SEEN, LEAST_TOGETHER, GivenRows, far_off, newest_run, past_range
from pricing.data.latest import period_before, value_before

# × the range of most products of a category: no clearance of all goes below, no inflation above.
LOW_TOGETHER = 0.25
HIGH_TOGETHER = 1.5
# × the range of one product: clearance ends at a tenth, nothing gets five times dearer overnight.
LOW_ALONE = 0.1
HIGH_ALONE = 5.0
MANY_UNITS = 100.0  # × the most a product sold in its past: a total, or a number of another column
FAR_COMPETITOR = 20.0  # × or ÷ the own price: another unit or pack
PRICES = ("price", "list_price", "unit_cost")
RARE = 0.05  # share of rows up to which a price that is not the shelf's is no habit of the export
LEAST_DISCOUNT = 0.01  # of a single buyer, a fraction: less is rounding
MOST_DISCOUNT = 0.15  # more is an offer to everybody


def price_unit(sales: GivenRows) -> Iterator[Found]:
    """Find the day from which most prices of a category, a store or the shop are of another unit or pack."""
    for column in PRICES:
        at = _moved_together(sales, column)
        if at.any():
            first = int(np.argmax(at.any(axis=0)))
            products = at[:, first]
            factor = np.nanmedian(_ratios(sales, sales.columns[column])[products, first])
            text = f"{column} of {int(products.sum()):,} products is about {factor:.3g} times what it was before"
            yield sales.found("stop", at, text, column=column)
            return
    yield from _unit_not_as_read(sales)


def _ratios(sales: GivenRows, values: Floats) -> Floats:
    """(product, period) each value over that on the row before; NaN where there is none."""
    return values / value_before(values, sales.grid.present)


def _moved_together(sales: GivenRows, column: str) -> Bools:
    """(product, period) values of categories, or of the shop, most of which left their own past's range alike."""
    marked = np.zeros(sales.grid.present.shape, dtype=np.bool_)
    if column not in sales.columns:
        return marked
    logs = sales.logs(column)
    low, high = past_range(logs, sales.past)
    if column == "price" and "list_price" in sales.columns:  # back to list price after a long promotion
        high = np.fmax(high, past_range(sales.logs("list_price"), sales.past)[1])

    judged = np.isfinite(logs) & np.isfinite(high)
    rose = judged & (logs - high > np.log(HIGH_TOGETHER))
    fell = judged & (logs - low < np.log(LOW_TOGETHER))
    for moved in (rose, fell):
        for _, members in sales.groups() if moved.any() else ():
            count = judged[members].sum(axis=0)
            days = (count >= LEAST_TOGETHER) & (2 * moved[members].sum(axis=0) > count)
            marked[members] |= moved[members] & days
    marked[:, : sales.grid.own.start] = False
    return marked


def _unit_not_as_read(sales: GivenRows) -> Iterator[Found]:
    """Find a new export in another unit by the days that the champion has read."""
    known = sales.known
    grid = sales.grid
    if known is None:
        return
    _, here, there = np.intersect1d(grid.dates[grid.own], known.dates, return_indices=True)
    _, rows, others = np.intersect1d(grid.ids, known.product_ids, return_indices=True)
    read = np.full(grid.present.shape, np.nan)
    read[np.ix_(rows, here + grid.own.start)] = np.where(known.present, known.price, np.nan)[np.ix_(others, there)]
    ratio = sales.columns["price"] / read
    at = np.isfinite(ratio)
    if at.any(axis=1).sum() < LEAST_TOGETHER:
        return
    factor = float(np.median(ratio[at]))
    if not LOW_TOGETHER < factor < HIGH_TOGETHER:
        text = f"price is about {factor:.3g} times what the champion has read of the same days"
        yield sales.found("stop", at, text, column="price")


def price_outlier(sales: GivenRows) -> Iterator[Found]:
    """Find single prices far outside the product's own past."""
    for column in PRICES:
        if column not in sales.columns:
            continue
        logs = sales.logs(column)
        at = _outside(sales, logs)
        if at.any():  # without what most products did together, such as a new currency
            together = _moved_together(sales, column)
            shift = np.where(together, np.nan_to_num(logs - value_before(logs, sales.grid.present)), 0.0)
            at &= _outside(sales, logs - np.cumsum(shift, axis=1))
        if at.any():
            text = f"{column} is over {HIGH_ALONE:g} times, or under {LOW_ALONE:g} times, all that it was before"
            aside = column if column == "unit_cost" else ROWS
            yield sales.found("set_aside", at, text, column=column, aside=aside)


def _outside(sales: GivenRows, logs: Floats) -> Bools:
    """(product, period) rows of the sales whose value, in logs, no product alone could have."""
    low, high = np.log(LOW_ALONE), np.log(HIGH_ALONE)
    return far_off(logs, low=low, high=high, past=sales.past) & (sales.numbers >= 0)


def shelf_price(sales: GivenRows) -> Iterator[Found]:
    """Find prices that are not the shelf's: of rows without a sale, and of days on which single buyers paid less.

    Both look like moves of the price, to which demand answers far too much or not at all. Nothing is set aside: no rule
    can tell which price is right.
    """
    price = sales.columns["price"]
    units_sold = sales.columns["units_sold"]
    sold = np.asarray(units_sold > 0)
    before = value_before(price, sold)
    after = value_before(price[:, ::-1], sold[:, ::-1])[:, ::-1]
    unchanged = np.abs(before / after - 1) <= EQUAL

    between = (units_sold == 0) & unchanged
    other = between & (np.abs(price / before - 1) > EQUAL)
    other &= ~sales.was_given(other)
    if _is_habit(other, among=between):
        text = f"{other.sum():,} of {between.sum():,} rows of 0 units have another price than the sales around them"
        yield sales.found("warning", other, text, column="price")

    if sales.period != "day":  # a week's offer ends as such a discount does
        return
    advertised = sales.columns.get("is_promo", np.zeros_like(price)) > 0
    charged = sold & np.isfinite(before) & np.isfinite(after) & ~advertised
    off = 1 - price / before
    lower = charged & unchanged & (off > LEAST_DISCOUNT) & (off < MOST_DISCOUNT)
    lower &= ~sales.was_given(lower)
    if _is_habit(lower, among=charged):
        share = lower.sum() / charged.sum()
        text = f"on {share:.0%} of the days with a sale the price is lower than on those beside it"
        yield sales.found("warning", lower, text, column="price")


def _is_habit(at: Bools, *, among: Bools) -> bool:
    """Returns whether cells are many among others, and of several products."""
    return bool(at.sum() > RARE * among.sum() and at.any(axis=1).sum() >= LEAST_TOGETHER)


def units(sales: GivenRows) -> Iterator[Found]:
    """Find single units far outside the product's own past, and days of other units than before."""
    at = far_off(sales.logs("units_sold"), low=-np.inf, high=np.log(MANY_UNITS), past=sales.past) & (sales.numbers >= 0)
    if at.any():
        text = f"units are over {MANY_UNITS:g} times the most that the product sold before"
        yield sales.found("set_aside", at, text, column="units_sold", aside=ROWS)
    yield from day_checks.units(sales)


def competitor(sales: GivenRows) -> Iterator[Found]:
    """Find competitor's prices of another unit, copies of the own ones, and those that no longer change."""
    if "comp_price" not in sales.columns:
        return
    at = _far_competitor(sales)
    if at.any():
        text = "comp_price is far outside what it was before, or can be beside the own price"
        yield sales.found("set_aside", at, text, column="comp_price", aside="comp_price")
    yield from day_checks.competitor(sales)

    difference = sales.logs("comp_price") - sales.logs("price")
    known = np.isfinite(difference)
    days = np.flatnonzero(known.any(axis=0))
    equal = known & (np.abs(difference) <= EQUAL)
    copied = equal.sum(axis=0) >= 0.95 * known.sum(axis=0)
    newest = newest_run(copied[days])
    if newest >= 4 * sales.phases and known[:, days[-newest:]].sum() >= LEAST_TOGETHER * newest:
        text = f"comp_price is the own price on the newest {newest:,} {sales.period}s"
        yield sales.whole("set_aside", text, since=int(days[-newest]), aside="comp_price")

    if "comp_price_age" in sales.columns:  # an old price shows its age
        known &= ~(sales.columns["comp_price_age"] > 0)
    yield from frozen(sales, "comp_price", known)


def _far_competitor(sales: GivenRows) -> Bools:
    """(product, period) competitor's prices far from the own price and its median, or from their own past."""
    logs = sales.logs("comp_price")
    own = sales.logs("price")
    both = np.isfinite(own).any(axis=1) & np.isfinite(logs).any(axis=1)
    usual = np.full((len(own), 1), np.nan)
    usual[both] = np.nanmedian(own[both], axis=1, keepdims=True)  # one day's may be mistyped
    away = np.minimum(np.abs(logs - usual), np.abs(logs - own))
    limit = np.log(HIGH_ALONE)
    far = far_off(logs, low=-limit, high=limit, past=sales.past) | (away > np.log(FAR_COMPETITOR))
    return np.asarray(far & (sales.numbers >= 0))


def frozen(sales: GivenRows, name: str, known: Bools) -> Iterator[Found]:
    """Find that no product's known value has changed for twice as long as ever before, and three periods at least."""
    values = sales.columns[name]
    comparable = known & (period_before(known) >= 0)
    moved = comparable & (values != value_before(values, known))
    places = np.flatnonzero(comparable.any(axis=0))
    moves = np.flatnonzero(moved[:, places].any(axis=0))
    still = len(places) - 1 - int(moves[-1]) if len(moves) else 0
    moves = moves[moves >= len(places) - sales.past - still]
    if still and len(moves) > LEAST_SEEN and still >= max(3, 2 * int(np.diff(moves).max())):
        text = f"{name} of all products has stayed the same"
        yield sales.whole("set_aside", text, since=int(places[-still]), aside=name)
