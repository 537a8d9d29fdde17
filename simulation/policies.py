"""Reference pricing policies: list prices, cost-plus, competitor matching, rules, and the oracle."""

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd
from scipy import special

from pricing.arrays import Floats, Ints
from simulation.market import Market
from simulation.rollforward import Requests
from simulation.shelf import Shelf

RULE_ELASTICITY = 2.5  # elasticity that the rules assume for every product
USUAL_DAYS = 28
USUAL_GAP = 7.0  # days between deliveries if the history shows none
CANDIDATES = 64
SHADOW_PRICES = 40


def static(requests: Requests) -> Floats:
    """Charge list prices."""
    return requests.list_price


def match_competitor(requests: Requests) -> Floats:
    """Charge the competitor's price within the bounds; the list price where it is unknown."""
    price = np.where(np.isnan(requests.comp_price), requests.list_price, requests.comp_price)
    return np.clip(price, requests.lowest, requests.highest)


class CostPlus:
    """Cost times the median mark-up of the product's category in the history."""

    def __init__(self, history: pd.DataFrame) -> None:
        markup = (history["list_price"] / history["unit_cost"]).groupby(history["category"]).median()
        self._markup = markup.to_dict()
        self._otherwise = float(markup.median())

    def __call__(self, requests: Requests) -> Floats:
        """Return prices for one morning's requests."""
        markup = np.array([self._markup.get(category, self._otherwise) for category in requests.category])
        price: Floats = np.clip(requests.unit_cost * markup, requests.lowest, requests.highest)
        return price


class DeliveryGaps:
    """Days that stock has to last: to the announced delivery, else a product's median gap between deliveries.

    A delivery is detected where a day opens with more stock than the previous recorded day left.
    """

    def __init__(self, history: pd.DataFrame) -> None:
        rows = history.sort_values(["product_id", "date"])
        by = rows.groupby("product_id")
        left = (by["stock"].shift(1) - by["units_sold"].shift(1)).to_numpy()
        jumps = rows[rows["stock"].to_numpy() > left + 1e-6]
        gap = jumps.groupby("product_id")["date"].diff().dt.days
        self._gap = gap.groupby(jumps["product_id"]).median().dropna().to_dict()
        self._otherwise = float(np.median(list(self._gap.values()))) if self._gap else USUAL_GAP

    def days_left(self, requests: Requests) -> Floats:
        """(request,) days that the stock has to last, today included."""
        if not np.isnat(requests.next_delivery).any():
            return requests.days_left.astype(np.float64)
        return np.array([self._gap.get(product, self._otherwise) for product in requests.product_id])


class RecentSales:
    """Rows of the last four weeks."""

    def __init__(self) -> None:
        self._rows = pd.DataFrame()

    def add(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add newly recorded rows; return those of all recent days that did not sell out."""
        recent = pd.concat([self._rows, rows]) if len(self._rows) else rows
        self._rows = recent[recent["date"] > recent["date"].max() - pd.Timedelta(days=USUAL_DAYS)]
        return self._rows[self._rows["units_sold"] < self._rows["stock"]]


class RulePolicy:
    """Cost-plus, with higher prices where stock would run out before the next delivery.

    Expected daily sales are the product's mean over the last four weeks, without sold-out days.
    """

    def __init__(self, history: pd.DataFrame) -> None:
        self._cost_plus, self._gaps = CostPlus(history), DeliveryGaps(history)
        self._recent = RecentSales()
        self._usual: dict[Hashable, float] = {}
        self.refresh(history)

    def refresh(self, rows: pd.DataFrame) -> None:
        """Update mean daily sales from newly recorded rows."""
        served = self._recent.add(rows)
        self._usual |= served.groupby("product_id")["units_sold"].mean().to_dict()

    def __call__(self, requests: Requests) -> Floats:
        """Return prices for one morning's requests."""
        price = self._cost_plus(requests)
        usual = np.array([self._usual.get(product, 0.0) for product in requests.product_id])
        short = usual * self._gaps.days_left(requests) / np.maximum(requests.stock, 0.5)
        dearer = price * np.maximum(short, 1.0) ** (1 / RULE_ELASTICITY)
        return np.clip(dearer, requests.lowest, requests.highest)


def until_delivery(
    market: Market, requests: Requests, prices: Floats, *, shelf: Shelf
) -> Iterator[tuple[Ints, Floats, Floats]]:
    """Forecast by the truth, for the requests with equal numbers of days to the next delivery at a time.

    Where shoppers have state, every day is the mean of `market.held_days` at a held price, so as not to over-weight
    stockpiling at first.

    Args:
        market: The market.
        requests: One morning's requests.
        prices: (request, price) candidate prices.
        shelf: The morning's shelf.

    Yields:
        Places of those requests, and on each day until the delivery, (request, day, price), expected units, not
        limited by stock, and the other products' profit.
    """
    rows = np.searchsorted(market.product_ids, requests.product_id)
    days_left = market.supply.next_day[requests.day, rows] - requests.day
    for days in np.unique(days_left).tolist():
        some = np.flatnonzero(days_left == days)
        day, ahead, seen = requests.day, max(days, market.held_days), requests.comp_price[some]
        units = market.outlook(rows[some], prices[some], day=day, days=ahead, comp_price=seen, shelf=shelf)
        others = market.substitution_profit(rows[some], prices[some], day=day, days=ahead, shelf=shelf)
        if market.held_days:
            units = np.repeat(units.mean(axis=1, keepdims=True), days, axis=1)
            others = np.repeat(others.mean(axis=1, keepdims=True), days, axis=1)
        yield some, units, others


class Oracle:
    """Maximise expected profit until the next delivery, given the true expected demand of each day.

    With one shadow price of stock until the delivery, each day's price maximises profit over cost plus shadow price.
    Of a grid of shadow prices it takes the plan with the highest expected profit, allowing for stock-outs, charges its
    first price within today's bounds, and plans again the next morning. Competitor, list and other products' prices
    are taken as constant. Where shoppers have state, a price is evaluated as if held for `market.held_days`.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._shelf = market.shelf

    def observe_shelf(self, shelf: Shelf) -> None:
        """Receive the morning's shelf, including the shoppers' state."""
        self._shelf = shelf

    def __call__(self, requests: Requests) -> Floats:
        """Return prices for one morning's requests."""
        span = requests.ceiling - requests.floor
        ladder = requests.floor[:, None] + span[:, None] * np.linspace(0, 1, CANDIDATES)
        price = np.empty(len(ladder))
        for some, units, others in until_delivery(self._market, requests, ladder, shelf=self._shelf):
            price[some] = best_first_price(
                ladder[some],
                margin=ladder[some] - requests.unit_cost[some, None],
                units=units,
                stock=requests.stock[some],
                size=self._market.truth.size,
                substitution_profit=others,
            )
        return np.clip(price, requests.lowest, requests.highest)


def best_first_price(
    ladder: Floats,
    *,
    margin: Floats,
    units: Floats,
    stock: Ints,
    size: float,
    substitution_profit: Floats | float = 0.0,
) -> Floats:
    """(request,) first day's price of the best plan over a grid of shadow prices of stock.

    Args:
        ladder: (request, candidate) candidate prices.
        margin: (request, candidate) price less cost.
        units: (request, day, candidate) expected units on each day until the delivery.
        stock: (request,) units on hand.
        size: Size of a day's negative binomial.
        substitution_profit: (request, day, candidate) other products' profit at a candidate.
    """
    beside = np.broadcast_to(substitution_profit, units.shape)
    first, best = np.zeros(len(ladder)), np.full(len(ladder), -np.inf)
    some = np.arange(len(ladder))
    for step in np.linspace(0, 1, SHADOW_PRICES) ** 2:
        shadow = step * margin[some].max(axis=1)
        price, total, value, others = _plan_at(
            ladder[some], margin=margin[some], units=units[some], shadow=shadow, substitution_profit=beside[some]
        )
        value = value * expected_share(total, stock=stock[some], size=size * units.shape[1]) + others
        first[some] = np.where(value > best[some], price, first[some])
        best[some] = np.maximum(best[some], value)
        if step == 0:  # with stock enough, no shadow price is better than none
            some = np.flatnonzero(stock < total + 4 * np.sqrt(total + total**2 / (size * units.shape[1])))
    return first


def _plan_at(
    ladder: Floats, *, margin: Floats, units: Floats, shadow: Floats, substitution_profit: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Plan at a shadow price: first price, expected units, profit with unlimited stock, other products' profit."""
    requests, days = np.arange(len(ladder))[:, None], np.arange(units.shape[1])
    choice = np.argmax((margin - shadow[:, None])[:, None, :] * units + substitution_profit, axis=2)  # (request, day)
    sold = units[requests, days, choice]
    value: Floats = (sold * margin[requests, choice]).sum(axis=1)
    beside: Floats = substitution_profit[requests, days, choice].sum(axis=1)
    return ladder[requests[:, 0], choice[:, 0]], sold.sum(axis=1), value, beside


def expected_share(mean: Floats, *, stock: Ints, size: float) -> Floats:
    """E[min(demand, stock)] / E[demand] for negative binomial demand."""
    stock = np.asarray(stock, dtype=np.float64)
    chance = size / (size + mean)
    inner = np.where(stock >= 2, special.betainc(size + 1, np.maximum(stock - 1, 1), chance), 0.0)
    outer = np.where(stock >= 1, special.betaincc(size, np.maximum(stock, 1), chance), 0.0)
    share: Floats = inner + np.minimum(stock / np.maximum(mean, 1e-12), 1e12) * outer
    return np.minimum(share, 1.0)
