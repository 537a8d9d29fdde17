"""The planner who knows expected demand: the most that prices alone could have earned, and the test bed's yardstick."""

import numpy as np
from scipy import special

from pricing.arrays import Floats, Ints
from pricing.data.market_protocol import SimulatedMarket
from pricing.data.market_rollforward import Requests
from pricing.data.market_supply import Shelf

CANDIDATES = 64
SHADOW_PRICES = 40


class Oracle:
    """Prices for the best expected profit until the next delivery, knowing each day's expected demand.

    One shadow price for a unit of stock holds until the delivery: on each day the price earns the most over cost
    and shadow price. Of a ladder of shadow prices it takes the one whose plan earns the most in expectation, the
    chance of running out counted, charges the plan's first price as far as today's bounds let it, and plans anew the
    next morning. It takes the competitor's, the list and other products' prices for constant until the delivery. Where
    shoppers remember, it judges a price by what it sells when held for `market.held_days`.

    Args:
        market: The market whose truth it knows.
        heed_stock: False for a planner who takes stock for endless: what knowing demand alone is worth.
    """

    def __init__(self, market: SimulatedMarket, *, heed_stock: bool = True) -> None:
        self._market, self._heed_stock = market, heed_stock
        self._row = {product: row for row, product in enumerate(market.product_ids)}
        self._shelf = market.shelf

    def see(self, shelf: Shelf) -> None:
        """Shown the morning's shelf, with what shoppers remember."""
        self._shelf = shelf

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        rows = np.array([self._row[product] for product in requests.product_id])
        days_left = self._market.next_delivery(requests.day)[rows] - requests.day
        span = requests.ceiling - requests.floor
        ladder = requests.floor[:, None] + span[:, None] * np.linspace(0, 1, CANDIDATES)
        price = np.empty(len(rows))
        for days in np.unique(days_left):
            some = np.flatnonzero(days_left == days)
            price[some] = self._plan(requests, rows=rows[some], ladder=ladder[some], some=some, days=int(days))
        return np.clip(price, requests.lowest, requests.highest)

    def _plan(self, requests: Requests, *, rows: Ints, ladder: Floats, some: Ints, days: int) -> Floats:
        market, shelf = self._market, self._shelf
        ahead = max(days, market.held_days)
        units = market.outlook(
            rows, ladder, day=requests.day, days=ahead, comp_price=requests.comp_price[some], shelf=shelf
        )  # (request, day, candidate)
        spill = market.spill(rows, ladder, day=requests.day, days=ahead, shelf=shelf)
        if market.held_days:  # the mean of all days of a held price, so that its first day's rush counts for no more
            units = np.repeat(units.mean(axis=1, keepdims=True), days, axis=1)
            spill = np.repeat(spill.mean(axis=1, keepdims=True), days, axis=1)
        return best_first_price(
            ladder,
            margin=ladder - requests.unit_cost[some, None],
            units=units,
            stock=requests.stock[some] if self._heed_stock else np.full(len(some), 10**9),
            size=market.truth.size,
            spill=spill,
        )


def best_first_price(
    ladder: Floats, *, margin: Floats, units: Floats, stock: Ints, size: float, spill: Floats | None = None
) -> Floats:
    """The first day's price of the best plan with one shadow price for stock.

    Args:
        ladder: (request, candidate) candidate prices.
        margin: (request, candidate) price less cost.
        units: (request, day, candidate) expected units on each day until the delivery.
        stock: (request,) units on hand.
        size: Size of a day's negative binomial; inf for Poisson.
        spill: (request, day, candidate) what other products earn at a candidate; None for nothing.
    """
    spill = np.broadcast_to(0.0 if spill is None else spill, units.shape)
    first, total, value, beside = _plan_at(
        ladder, margin=margin, units=units, shadow=np.zeros(len(ladder)), spill=spill
    )
    spread = np.sqrt(total + total**2 / (size * units.shape[1]))
    scarce = np.flatnonzero(stock < total + 4 * spread)
    best = value[scarce] * expected_share(total[scarce], stock=stock[scarce], size=size * units.shape[1])
    best += beside[scarce]
    for step in np.linspace(0, 1, SHADOW_PRICES)[1:] ** 2:
        shadow = step * margin[scarce].max(axis=1)
        price, total, value, beside = _plan_at(
            ladder[scarce], margin=margin[scarce], units=units[scarce], shadow=shadow, spill=spill[scarce]
        )
        value = value * expected_share(total, stock=stock[scarce], size=size * units.shape[1]) + beside
        first[scarce] = np.where(value > best, price, first[scarce])
        best = np.maximum(best, value)
    return first


def _plan_at(
    ladder: Floats, *, margin: Floats, units: Floats, shadow: Floats, spill: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Of the plan at a shadow price: first price, expected units, its value were stock endless, others' earnings."""
    requests, days = np.arange(len(ladder))[:, None], np.arange(units.shape[1])
    choice = np.argmax((margin - shadow[:, None])[:, None, :] * units + spill, axis=2)  # (request, day)
    sold = units[requests, days, choice]
    value: Floats = (sold * margin[requests, choice]).sum(axis=1)
    beside: Floats = spill[requests, days, choice].sum(axis=1)
    return ladder[requests[:, 0], choice[:, 0]], sold.sum(axis=1), value, beside


def expected_share(mean: Floats, *, stock: Ints, size: float) -> Floats:
    """Expected sales, E[min(demand, stock)], over expected demand, for a negative binomial; Poisson at size inf."""
    stock = np.asarray(stock, dtype=np.float64)
    if np.isinf(size):
        inner = np.where(stock >= 2, special.pdtr(np.maximum(stock - 2, 0), mean), 0.0)
        outer = np.where(stock >= 1, special.pdtrc(np.maximum(stock - 1, 0), mean), 0.0)
    else:
        chance = size / (size + mean)
        inner = np.where(stock >= 2, special.betainc(size + 1, np.maximum(stock - 1, 1), chance), 0.0)
        outer = np.where(stock >= 1, special.betaincc(size, np.maximum(stock, 1), chance), 0.0)
    share: Floats = inner + np.minimum(stock / np.maximum(mean, 1e-12), 1e12) * outer
    return np.minimum(share, 1.0)
