"""Find days on which far more products are odd than on any day before, each judged by its own past. See `quality`.

Shops differ in how many products are odd on a usual day, so that a day is compared with the highest share before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special

from pricing.arrays import Bools, Floats, Ints
from pricing.data.findings import ROWS, Found, Level
from pricing.data.given_rows import LEAST_SEEN, LOOKBACK, WINDOW_DAYS, GivenRows, past_range
from pricing.data.latest import period_before, value_before

BEFORE = 56  # periods before, at most, that a period is compared with
FEWEST_BEFORE = 14  # of them that are needed
LEAST_JUDGED = 5  # products of a share
USUAL = 0.05  # share of odd products on a usual day, at least
CHANCE = 1e-6  # of so many odd products on a usual day: what is rarer is a fault
ALLOWED = 0.4  # share that a shop may change on one day, however few it changed before
FAR_LEVEL = 5.0  # standard deviations of the periods before
ALIKE = 0.01  # relative difference of moves that are one round move of many prices, such as a sale or inflation
EQUAL = 0.005  # relative difference of prices that are equal but for rounding
CUTS = 20  # parts of a price: offers are of whole parts, 5 %
SAME_PRICE = 0.1  # log units between prices whose units can be compared
NOISE = 0.15  # variance of log units beside that of a Poisson number
FURTHEST = 2.0  # log units that one product counts for, at most
RIVAL_MARGIN = 1.1  # × and ÷ the range of a competitor's prices
ACTIVE = 28  # periods over which a product has rows, or sales, almost always
ALMOST_ALWAYS = 0.8  # the share of them with one, at least


@dataclass(frozen=True)
class Rule:
    """Cells that are odd, among those that can be judged; (product, period)."""

    sentence: str  # what odd products have or do
    odd: Bools
    among: Bools
    column: str = "units_sold"  # the column of the odd values
    least: float = 0.0  # share of odd products below which a day is like others
    aside: str = ""  # column whose odd values are set aside, or ROWS; empty: they stop the job

    def days(self, sales: GivenRows, members: Ints) -> Bools:
        """(period,) newest periods on which more of these products are odd than chance explains."""
        judged = self.among[members].sum(axis=0)
        odd = (self.odd & self.among)[members].sum(axis=0)
        share = odd / np.maximum(judged, 1)
        unlike = np.zeros(len(share), dtype=np.bool_)
        for now, before in _newest(sales, judged >= LEAST_JUDGED, unlike):
            usual = max(USUAL, float(share[before].max()))
            if share[now] > max(usual, self.least):
                as_many = special.betainc(odd[now], judged[now] - odd[now] + 1, usual)  # or more, of binomial numbers
                unlike[now] = as_many < CHANCE
        return unlike

    def found(self, sales: GivenRows, *, by_part: bool = False) -> Iterator[Found]:
        """Find its days in the whole shop, or in each category and store too."""
        groups = list(sales.groups())
        at = np.zeros_like(self.odd)
        for _, members in groups if by_part else groups[-1:]:
            at[members] |= (self.odd & self.among)[members] & self.days(sales, members)
        if at.any():
            first = np.argmax(at.any(axis=0))
            text = f"{at[:, first].sum():,} of {self.among[:, first].sum():,} products {self.sentence}"
            level: Level = "set_aside" if self.aside else "stop"
            yield sales.found(level, at, text, column=self.column, aside=self.aside)


def _newest(sales: GivenRows, usable: Bools, unlike: Bools) -> Iterator[tuple[int, Ints]]:
    """Yield usable periods, each with those before it that are not marked as `unlike` meanwhile.

    It begins before the newest ones, whose marks alone remain, so that an accepted day is usual for none of them.
    """
    usable = usable & sales.usual_days
    start = max(0, sales.since - BEFORE - WINDOW_DAYS)
    for now in np.flatnonzero(usable[start:]) + start:
        before = np.flatnonzero((usable & ~unlike)[:now])[-BEFORE:]
        before = before[before >= now - BEFORE - WINDOW_DAYS]
        if len(before) >= FEWEST_BEFORE:
            yield int(now), before
    unlike[: sales.since] = False


def new_prices(sales: GivenRows) -> Iterator[Found]:
    """Find a day on which most prices are none that the product had, that was given for it, or a round cut of list."""
    present = sales.grid.present & sales.usual_days
    price = np.where(present, sales.columns["price"], np.nan)
    before = value_before(price, present)
    ratio = price / before
    moved = present & (np.abs(ratio - 1) > EQUAL)
    common = _middle(ratio, moved)
    listed = sales.columns.get("list_price", price)
    listed_before = value_before(listed, present)
    alike = (np.abs(ratio / common - 1) <= ALIKE) & _round(common)
    cut = (price <= listed_before) & _round(price / listed_before)
    if "list_price" in sales.columns:  # a cut of list prices is no offer
        kept = np.abs(listed / listed_before - 1) <= EQUAL
        alike &= (common > 1) | kept
        cut &= kept

    new = moved & ~alike & ~cut
    new[new] = ~_had_before(price, new, past=sales.past)
    new &= ~sales.was_given(new)
    among = present & np.isfinite(before) & ~_advertised(sales)
    text = "have a price that they never had, and that nobody gave"
    yield from Rule(text, new, among, "price", least=ALLOWED).found(sales)


def _round(ratio: Floats) -> Bools:
    """True where a ratio of prices is a whole number of 5 %."""
    parts = ratio * CUTS
    return np.asarray(np.abs(parts - np.round(parts)) <= EQUAL * CUTS)


def _had_before(price: Floats, marked: Bools, *, past: int) -> Bools:
    """(marked,) True where the price of a marked cell is one of the product's own past periods."""
    product, now = np.nonzero(marked)
    had = np.zeros(len(now), dtype=np.bool_)
    for back in range(1, past + 1):
        earlier = price[product, np.maximum(now - back, 0)]
        had |= (now >= back) & (np.abs(earlier / price[product, now] - 1) <= EQUAL)
    return had


def units(sales: GivenRows) -> Iterator[Found]:
    """Find days of more or fewer units than before in a category, store or the shop, or another day's."""
    comparable, usual = _usual_units(sales)
    sold = sales.columns["units_sold"]
    away = np.clip(np.log((sold + 0.5) / (usual + 0.5)), -FURTHEST, FURTHEST)
    away = np.where(comparable, away, 0.0)
    weight = np.where(comparable, usual / (1 + NOISE * usual), 0.0)
    at = np.zeros_like(comparable)
    times = 1.0
    for _, members in sales.groups():
        enough = comparable[members].sum(axis=0) >= LEAST_JUDGED
        level = (away * weight)[members].sum(axis=0) / np.where(enough, weight[members].sum(axis=0), np.inf)
        unlike = np.zeros_like(enough)
        for now, before in _newest(sales, enough, unlike):
            further = level[now] - np.median(level[before])
            if abs(further) > FAR_LEVEL * level[before].std():
                unlike[now] = True
                times = float(np.exp(further))
        at[members] |= comparable[members] & unlike
    if at.any():
        text = f"at usual prices products sell about {times:.2g} times what they do on such days"
        yield sales.found("stop", at, text, column="units_sold")

    for back in sorted({1, sales.phases}):
        then = _earlier(sold, back)
        text = f"sell exactly what they did {back} {sales.period}(s) before"
        yield from Rule(text, sold == then, (sold > 0) & np.isfinite(then), least=ALLOWED).found(sales)


def _usual_units(sales: GivenRows) -> tuple[Bools, Floats]:
    """(product, period) cells that can be compared with the usual units of such days, and these units."""
    prices = sales.logs("price")
    sold = sales.columns["units_sold"]
    usual = np.full_like(sold, np.nan)
    usual_price = np.full_like(sold, np.nan)
    usual_days = sales.usual_days
    for now in range(max(0, sales.since - BEFORE - WINDOW_DAYS), sold.shape[1]):
        such = np.arange(now - sales.phases, -1, -sales.phases)[:LOOKBACK]
        such = such[usual_days[such]]
        if len(such) >= LEAST_SEEN:
            usual[:, now] = np.median(sold[:, such], axis=1)
            usual_price[:, now] = np.median(prices[:, such], axis=1)
    comparable = (np.abs(prices - usual_price) < SAME_PRICE) & (usual >= 1) & ~_advertised(sales)
    return comparable & ~_sold_out(sales), usual


def stock(sales: GivenRows) -> Iterator[Found]:
    """Find a day whose stock is not that of its opening, by its sales and the day before, or is one value."""
    if "stock" not in sales.columns:
        return
    held = sales.columns["stock"]
    same = held == _middle(held, held > 0)
    alike = Rule("have one and the same stock", same, held > 0, "stock", least=ALLOWED, aside="stock")
    yield from alike.found(sales)
    before = _earlier(held)
    left = before - _earlier(sales.columns["units_sold"])
    follows = np.isfinite(held) & np.isfinite(left)
    more = Rule("sell more than their stock", sales.columns["units_sold"] > held, held > 0, column="stock")
    yield from more.found(sales)
    for text, odd, among in (
        ("have less stock than the day before left", held < left - 0.5, follows),
        ("have the stock of the day before, and sold some of it", held == before, follows & (left < before)),
    ):
        yield from Rule(text, odd, among, column="stock", aside="stock").found(sales)


def promo_flags(sales: GivenRows) -> Iterator[Found]:
    """Find a day on which offers begin or end although prices stay."""
    if "is_promo" not in sales.columns:
        return
    flag = sales.columns["is_promo"]
    price = sales.columns["price"]
    judged = sales.grid.present & sales.usual_days
    before = value_before(flag, judged)
    changed = (flag != before) & (np.abs(price / value_before(price, judged) - 1) <= EQUAL)
    known = np.isfinite(flag + before)
    yield from Rule("begin or end an offer at the same price", changed, known, "is_promo").found(sales)


def competitor(sales: GivenRows) -> Iterator[Found]:
    """Find days on which the competitor's prices are outside their products' own past.

    What is found, and not accepted, is in the past of no later day, so that a fault that lasts stays found.
    """
    logs = sales.logs("comp_price")
    past = logs.copy()
    accepted = sales.grid.dates <= np.datetime64(sales.accept.get("competitor"), "D")  # never at or before NaT
    while True:
        low, high = past_range(past, sales.past)
        outside = np.fmax(logs - high, low - logs) > np.log(RIVAL_MARGIN)
        among = np.isfinite(logs + low)
        rule = Rule("have a competitor's price outside all before", outside, among, "comp_price", aside="comp_price")
        found = outside & ~accepted & rule.days(sales, np.arange(len(logs)))
        if not np.isfinite(past[found]).any():
            break
        past[found] = np.nan
    yield from rule.found(sales)


def lost_parts(sales: GivenRows) -> Iterator[Found]:
    """Find categories and stores without rows, or without a sale, on a day on which others have some.

    A product is missed that was there almost always up to its last row, or sale, and this lately.
    """
    for text, there in (
        ("that almost always have a row have none", sales.grid.present),
        ("that are sold almost always are not", sales.columns["units_sold"] > 0),
    ):
        total = np.cumsum(there, axis=1, dtype=np.float32)
        times = total - np.nan_to_num(_earlier(total, ACTIVE))
        often = value_before(times, there) >= ALMOST_ALWAYS * ACTIVE
        lately = np.arange(there.shape[1]) - period_before(there) <= ACTIVE
        among = often & lately & ~_sold_out(sales) & there.any(axis=0)
        yield from Rule(text, ~there, among, aside=ROWS).found(sales, by_part=True)


def _earlier(values: Floats, back: int = 1) -> Floats:
    """(product, period) values some periods before; NaN where there is none."""
    then = np.full_like(values, np.nan)
    then[:, back:] = values[:, :-back]
    return then


def _middle(values: Floats, there: Bools) -> Floats:
    """(period,) median over the products that are there; NaN where none is."""
    columns = zip(values.T, there.T, strict=True)
    return np.array([np.median(day[here]) if here.any() else np.nan for day, here in columns], dtype=np.float32)


def _advertised(sales: GivenRows) -> Bools:
    flag = sales.columns.get("is_promo")
    return np.zeros_like(sales.grid.present) if flag is None else flag > 0


def _sold_out(sales: GivenRows) -> Bools:
    held = sales.columns.get("stock")
    return np.zeros_like(sales.grid.present) if held is None else held == 0
