"""Check the values of sales against their products' own past: prices, units, competitor's prices. See `quality`."""

from collections.abc import Iterator

import numpy as np

from pricing.arrays import Bools, Floats
from pricing.data.findings import ROWS, Found
from pricing.data.given_rows import LEAST_SEEN, LEAST_TOGETHER, LOOKBACK, GivenRows, far_off, newest_run, past_range
from pricing.data.grid import carry, latest_period

TOGETHER = 0.25, 1.5  # × the range of most products of a category: no clearance of all goes below, no inflation above
ALONE = 0.1, 5.0  # × the range of one product: clearance ends at a tenth, nothing gets five times dearer overnight
MANY_UNITS = 100.0  # × the most a product sold in its past: a total, or a number of another column
OTHER_UNITS = 8.0  # × or ÷ the usual units of most products of a category: Black Friday and hoarding sell up to 7 times
LEAST_UNITS = 160  # that products sell together on such days, for a fraction of them to be no chance
FAR_COMPETITOR = 20.0  # × or ÷ the own price: another unit or pack
EQUAL = 0.005  # relative difference of prices that are equal but for rounding
PRICES = ("price", "list_price", "unit_cost")
RARE = 0.05  # share of rows up to which a price that is not the shelf's is no habit of the export
BUYERS = 0.01, 0.15  # discounts of single buyers, fractions: less is rounding, more is an offer to everybody


def price_unit(sales: GivenRows) -> Iterator[Found]:
    """Find the day from which most prices of a category, or of the shop, are of another unit, pack or tax."""
    for column in PRICES:
        if column in sales.columns and (at := _together(sales, column)).any():
            first = int(np.argmax(at.any(axis=0)))
            factor = np.nanmedian((sales.columns[column] / _before(sales, sales.columns[column]))[at[:, first], first])
            text = f"{column} of {int(at[:, first].sum()):,} products is about {factor:.3g} times what it was before"
            yield sales.found("stop", at, text, column=column)
            return
    yield from _unit_not_as_read(sales)
    yield from _net_of_tax(sales)


def _before(sales: GivenRows, values: Floats) -> Floats:
    """(product, period) the value on the row before; NaN where there is none."""
    return carry(values, np.pad(sales.grid.latest[:, :-1], ((0, 0), (1, 0)), constant_values=-1))


def _together(sales: GivenRows, column: str) -> Bools:
    """(product, period) values of categories, or of the shop, most of which left their own past's range alike."""
    logs = sales.logs(column)
    low, high = past_range(logs, sales.past)
    if column == "price" and "list_price" in sales.columns:  # back to list price after a long promotion
        high = np.fmax(high, past_range(sales.logs("list_price"), sales.past)[1])
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
    _, rows, others = np.intersect1d(grid.ids, known.product_ids, return_indices=True)
    read = np.full(grid.present.shape, np.nan)
    read[np.ix_(rows, here + grid.own.start)] = np.where(known.present, known.price, np.nan)[np.ix_(others, there)]
    ratio = sales.columns["price"] / read
    at = np.isfinite(ratio)
    if at.any(axis=1).sum() < LEAST_TOGETHER:
        return
    factor = float(np.median(ratio[at]))
    if not TOGETHER[0] < factor < TOGETHER[1]:
        text = f"price is about {factor:.3g} times what the champion has read of the same days"
        yield sales.found("stop", at, text, column="price")


def _net_of_tax(sales: GivenRows) -> Iterator[Found]:
    """Find the day from which prices are a like part of what they were, list prices too, and by no round cut."""
    ratio = sales.columns["price"] / _before(sales, sales.columns["price"])
    if "is_promo" in sales.columns:
        ratio[sales.columns["is_promo"] > 0] = np.nan
    listed = sales.columns.get("list_price", np.full_like(ratio, np.nan))
    cuts = listed / _before(sales, listed)
    for now in range(sales.since, ratio.shape[1]):
        moved = ratio[:, now][np.isfinite(ratio[:, now])]
        factor = float(np.median(moved)) if len(moved) > LEAST_TOGETHER else 1.0
        alike = np.abs(ratio[:, now] / factor - 1) <= 2 * EQUAL
        if not 0.74 < factor < 0.97 or alike.sum() <= 0.6 * len(moved):
            continue
        cut = cuts[alike, now][np.isfinite(cuts[alike, now])]
        listed_too = len(cut) and abs(np.median(cut) / factor - 1) <= 2 * EQUAL
        if listed_too or (not len(cut) and abs(factor * 20 - round(factor * 20)) > 20 * EQUAL):  # no 10, 15 or 20 % off
            text = f"price of {int(alike.sum()):,} products is {factor:.3f} times that of the day before, all alike"
            at = alike[:, None] & (np.arange(ratio.shape[1]) == now)
            yield sales.found("stop", at, text, column="price")
            return


def price_outlier(sales: GivenRows) -> Iterator[Found]:
    """Find single prices far outside the product's own past."""
    limits = {"low": np.log(ALONE[0]), "high": np.log(ALONE[1]), "past": sales.past}
    for column in PRICES:
        if column not in sales.columns:
            continue
        logs = sales.logs(column)
        at = far_off(logs, **limits) & (sales.numbers >= 0)
        if at.any():  # without what most products did together, such as a new currency
            shift = np.where(_together(sales, column), np.nan_to_num(logs - _before(sales, logs)), 0.0)
            at &= far_off(logs - np.cumsum(shift, axis=1), **limits)
        if at.any():
            text = f"{column} is over {ALONE[1]:g} times, or under {ALONE[0]:g} times, all that it was before"
            yield sales.found("set_aside", at, text, column=column, aside=column if column == "unit_cost" else ROWS)


def shelf_price(sales: GivenRows) -> Iterator[Found]:
    """Find prices that are not the shelf's: of rows without a sale, and of days on which single buyers paid less.

    Both look like moves of the price, to which demand answers far too much or not at all. Nothing is set aside: no rule
    can tell which price is right.
    """
    price = sales.columns["price"]
    sold = np.asarray(sales.columns["units_sold"] > 0)
    before, after = _beside(price, sold)
    unchanged = np.abs(before / after - 1) <= EQUAL

    between = (sales.columns["units_sold"] == 0) & unchanged
    other = between & (np.abs(price / before - 1) > EQUAL)
    if _is_habit(other, among=between):
        text = f"{other.sum():,} of {between.sum():,} rows of 0 units have another price than the sales around them"
        yield sales.found("set_aside", other, text, column="price")

    if sales.period != "day":  # a week's offer ends as such a discount does
        return
    advertised = sales.columns.get("is_promo", np.zeros_like(price)) > 0
    charged = sold & np.isfinite(before) & np.isfinite(after) & ~advertised
    off = 1 - price / before
    lower = charged & unchanged & (off > BUYERS[0]) & (off < BUYERS[1])
    if _is_habit(lower, among=charged):
        text = (
            f"on {lower.sum() / charged.sum():.0%} of the days with a sale the price is lower than on those beside it"
        )
        yield sales.found("set_aside", lower, text, column="price")


def _beside(values: Floats, known: Bools) -> tuple[Floats, Floats]:
    """(product, period) the last known value before each period, and the next one after it; NaN where there is none."""
    found = []
    for series, there in ((values, known), (values[:, ::-1], known[:, ::-1])):
        latest = np.pad(latest_period(there)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        found.append(carry(series, latest))
    return found[0], found[1][:, ::-1]


def _is_habit(at: Bools, *, among: Bools) -> bool:
    """Returns whether cells are many among others, and of several products."""
    return bool(at.sum() > RARE * among.sum() and at.any(axis=1).sum() >= LEAST_TOGETHER)


def units(sales: GivenRows) -> Iterator[Found]:
    """Find single units far outside the product's own past, and a category counted in another unit."""
    at = far_off(sales.logs("units_sold"), low=-np.inf, high=np.log(MANY_UNITS), past=sales.past) & (sales.numbers >= 0)
    if at.any():
        text = f"units are over {MANY_UNITS:g} times the most that the product sold before"
        yield sales.found("set_aside", at, text, column="units_sold", aside=ROWS)
    sold = sales.columns["units_sold"]
    # As dear as in its past, not advertised, and in stock:
    plain = sales.logs("price") > past_range(sales.logs("price"), sales.past)[1] + np.log(0.9)
    if "is_promo" in sales.columns:
        plain &= ~(sales.columns["is_promo"] > 0)
    if "stock" in sales.columns:
        plain &= sales.columns["stock"] != 0
    few_before = set[str]()
    for now in np.flatnonzero(sales.open_days[sales.since :]) + sales.since:
        such = np.arange(now - sales.phases, -1, -sales.phases)[:LOOKBACK]
        such = such[sales.open_days[such]]
        if len(such) < LEAST_SEEN:
            continue
        usual = np.median(np.nan_to_num(sold[:, such]), axis=1)
        told, few_now = plain[:, now] & (usual >= 1), set[str]()
        for name, members in sales.groups():
            some = members[told[members]]
            if len(some) < LEAST_TOGETHER:
                continue
            ratio, total = sold[some, now] / usual[some], float(sold[some, now].sum() / usual[some].sum())
            many = total > OTHER_UNITS and 2 * (ratio > OTHER_UNITS / 2).sum() > len(some)
            few = 0 < total * OTHER_UNITS < 1 and 2 * (ratio * OTHER_UNITS / 2 < 1).sum() > len(some)
            if few and usual[some].sum() >= LEAST_UNITS:  # a shop may be closed for one day
                few_now.add(name)
            if many or (name in few_now and name in few_before):
                of = f"most products of category {name!r} sell" if name else "most products sell"
                day = np.zeros_like(sales.grid.present)
                day[some, now] = True
                text = f"at usual prices {of} {total:.3g} times what they do on such days"
                yield sales.found("stop", day, text, column="units_sold")
                return
        few_before = few_now


def competitor(sales: GivenRows) -> Iterator[Found]:
    """Find competitor's prices of another unit, copies of the own ones, and those that no longer change."""
    if "comp_price" not in sales.columns:
        return
    logs, own = sales.logs("comp_price"), sales.logs("price")
    some = np.isfinite(own).any(axis=1) & np.isfinite(logs).any(axis=1)
    usual = np.full((len(own), 1), np.nan)
    usual[some] = np.nanmedian(own[some], axis=1, keepdims=True)  # one day's may be mistyped
    at = np.minimum(np.abs(logs - usual), np.abs(logs - own)) > np.log(FAR_COMPETITOR)
    at |= far_off(logs, low=-np.log(ALONE[1]), high=np.log(ALONE[1]), past=sales.past)
    at &= sales.numbers >= 0
    if at.any():
        text = "comp_price is far outside what it was before, or can be beside the own price"
        yield sales.found("set_aside", at, text, column="comp_price", aside="comp_price")
    known = np.isfinite(logs - own)
    days = np.flatnonzero(known.any(axis=0))
    same = (known & (np.abs(logs - own) <= EQUAL)).sum(axis=0) >= 0.95 * known.sum(axis=0)
    newest = newest_run(same[days])
    if newest >= 4 * sales.phases and known[:, days[-newest:]].sum() >= LEAST_TOGETHER * newest:
        text = f"comp_price is the own price on the newest {newest:,} {sales.period}s"
        yield sales.whole("set_aside", text, since=int(days[-newest]), aside="comp_price")
    fresh = known & ~(sales.columns.get("comp_price_age", np.zeros_like(own)) > 0)  # an old price says so itself
    yield from frozen(sales, "comp_price", fresh)


def frozen(sales: GivenRows, name: str, known: Bools) -> Iterator[Found]:
    """Find that no product's known value has changed for twice as long as ever before, and three periods at least."""
    values, before = sales.columns[name], np.pad(latest_period(known)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    comparable = known & (before >= 0)
    moved = comparable & (values != np.take_along_axis(values, np.maximum(before, 0), axis=1))
    places = np.flatnonzero(comparable.any(axis=0))
    moves = np.flatnonzero(moved[:, places].any(axis=0))
    still = len(places) - 1 - int(moves[-1]) if len(moves) else 0
    moves = moves[moves >= len(places) - sales.past - still]
    if still and len(moves) > LEAST_SEEN and still >= max(3, 2 * int(np.diff(moves).max())):
        text = f"{name} of all products has stayed the same"
        yield sales.whole("set_aside", text, since=int(places[-still]), aside=name)
