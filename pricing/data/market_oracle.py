"""The planner who knows expected demand: the most that prices alone could have earned, and the test bed's yardstick."""

import numpy as np
from scipy import special

from pricing.data.market import Market
from pricing.data.market_rollforward import Requests
from pricing.data.market_truth import Floats, Ints

CANDIDATES = 64
SHADOW_PRICES = 40


class Oracle:
    """Prices for the best expected profit until the next delivery, knowing each day's expected demand.

    One shadow price for a unit of stock holds until the delivery: on each day the price earns the most over cost
    and shadow price. Of a ladder of shadow prices it takes the one whose plan earns the most in expectation, the
    chance of running out counted, charges the plan's first price, and plans anew the next morning. It takes the
    competitor's and the list price for constant until the delivery.

    Args:
        market: The market whose truth it knows.
        heed_stock: False for a planner who takes stock for endless: what knowing demand alone is worth.
    """

    def __init__(self, market: Market, *, heed_stock: bool = True) -> None:
        self._market, self._heed_stock = market, heed_stock
        self._row = {product: row for row, product in enumerate(market.product_ids)}
        self._last = market.config.total_days - 1

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        rows = np.array([self._row[product] for product in requests.product_id])
        shelf_comp = self._competitor(requests, rows)
        span = requests.highest - requests.lowest
        ladder = requests.lowest[:, None] + span[:, None] * np.linspace(0, 1, CANDIDATES)
        price = np.empty(len(rows))
        for days in np.unique(requests.days_left):
            some = np.flatnonzero(requests.days_left == days)
            price[some] = self._plan(
                requests, rows=rows[some], ladder=ladder[some], some=some, comp_price=shelf_comp[some]
            )
        return price

    def _competitor(self, requests: Requests, rows: Ints) -> Floats:
        """The competitor's price; where nobody saw it, the one it would set now."""
        world = self._market.world
        guess = requests.list_price * self._market.supply.rival_ratio[rows]
        guess *= np.exp(world.rival_move[rows] * (requests.day >= world.truth.regime_day))
        return np.where(np.isnan(requests.comp_price), guess, requests.comp_price)

    def _plan(self, requests: Requests, *, rows: Ints, ladder: Floats, some: Ints, comp_price: Floats) -> Floats:
        truth = self._market.truth
        horizon = np.minimum(requests.day + np.arange(requests.days_left[some[0]]), self._last)
        units = truth.expected_demand(
            rows[:, None, None], horizon[:, None], ladder[:, None, :], comp_price=comp_price[:, None, None]
        )  # (request, day, candidate)
        margin = ladder - requests.unit_cost[some, None]
        return best_first_price(
            ladder,
            margin=margin,
            units=units,
            stock=requests.stock[some] if self._heed_stock else np.full(len(some), 10**9),
            size=truth.size,
        )


def best_first_price(ladder: Floats, *, margin: Floats, units: Floats, stock: Ints, size: float) -> Floats:
    """The first day's price of the best plan with one shadow price for stock.

    Args:
        ladder: (request, candidate) candidate prices.
        margin: (request, candidate) price less cost.
        units: (request, day, candidate) expected units on each day until the delivery.
        stock: (request,) units on hand.
        size: Size of a day's negative binomial; inf for Poisson.
    """
    first, total, value = _plan_at(ladder, margin=margin, units=units, shadow=np.zeros(len(ladder)))
    spread = np.sqrt(total + total**2 / (size * units.shape[1]))
    scarce = np.flatnonzero(stock < total + 4 * spread)
    best = value[scarce] * expected_share(total[scarce], stock=stock[scarce], size=size * units.shape[1])
    for step in np.linspace(0, 1, SHADOW_PRICES)[1:] ** 2:
        shadow = step * margin[scarce].max(axis=1)
        price, total, value = _plan_at(ladder[scarce], margin=margin[scarce], units=units[scarce], shadow=shadow)
        value *= expected_share(total, stock=stock[scarce], size=size * units.shape[1])
        first[scarce] = np.where(value > best, price, first[scarce])
        best = np.maximum(best, value)
    return first


def _plan_at(ladder: Floats, *, margin: Floats, units: Floats, shadow: Floats) -> tuple[Floats, Floats, Floats]:
    """The first price, the expected units and the value, were stock endless, of the plan at a shadow price."""
    requests, days = np.arange(len(ladder))[:, None], np.arange(units.shape[1])
    choice = np.argmax((margin - shadow[:, None])[:, None, :] * units, axis=2)  # (request, day)
    sold = units[requests, days, choice]
    value: Floats = (sold * margin[requests, choice]).sum(axis=1)
    return ladder[requests[:, 0], choice[:, 0]], sold.sum(axis=1), value


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
