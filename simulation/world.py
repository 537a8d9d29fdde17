"""A market before any sales: products, plans, costs, purchasing and competitor; and its state between two days."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

from pricing.arrays import Bools, Floats, Ints, Strings
from simulation.config import MarketConfig
from simulation.truth import Truth

BAND = (0.70, 1.35)  # of the list price; for the incumbent and all policies


@dataclass
class Shelf:
    """State of a market between days. Each array is (product,) except `coming`."""

    stock: Ints  # units on hand
    usual: Floats  # exponential moving average of daily sales, for ordering
    price: Floats  # last price charged; NaN before the launch
    comp_price: Floats  # Competitor's price; NaN before the launch
    household_stock: Floats  # shoppers' excess household stock, in days of use
    memory: Floats  # shoppers' reference price; NaN before the launch
    coming: Ints  # (day modulo its length, product) units ordered that arrive on a day


@dataclass(frozen=True)
class Supply:
    """Purchasing of each product: drawn once, independent of the policy."""

    delivers: Bools  # (day, product) whether a delivery is due; extends beyond the future, as `span` and `buying` do
    next_day: Ints  # (day, product) first day after each one on which a delivery is due
    gap: Floats  # (product,) mean days between two deliveries
    # (day, product) days of usual sales that a delivery on that day has to cover: the mean gap; for a season's last
    # delivery the rest of the season, at the sales expected then.
    span: Floats
    buying: Bools  # (day, product) whether deliveries take place and sales tell what is usual: not at a season's end
    lead: Ints  # (product,) days from an order to its delivery
    cover: Floats  # (product,) order-up-to level in usual sales over span and lead time
    order_error: Floats  # (day, product) factor on the order-up-to level
    first_guess: Floats  # (product,) error factor on a new product's expected sales
    weight: float  # weight of a day's sales in the moving average for ordering

    def level(self, shelf: Shelf, *, day: int, span: Floats) -> Floats:
        """(product,) units up to which an order on `day` fills stock for `span` days after the lead time."""
        level: Floats = self.cover * self.order_error[day] * shelf.usual * (span + self.lead)
        return level


@dataclass(frozen=True)
class Rival:
    """A competitor who follows the price charged; drawn once, independent of the policy."""

    launch: Ints  # (product,) first day on sale
    list_price: Floats  # (day, product) the incumbent's regular price
    ratio: Floats  # (product,) its price level over the incumbent's list price
    moves: Bools  # (day, product) whether it reprices
    noise: Floats  # (day, product) random factor on its new price
    pull: float  # weight of the price charged in its new one

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Set the competitor's prices of a day. Modifies `shelf`."""
        level = self.list_price[day] * self.ratio
        shelf.comp_price = np.where(self.launch == day, np.round(level * self.noise[day], 2), shelf.comp_price)
        target = shelf.price**self.pull * level ** (1 - self.pull) * self.noise[day]
        moves = self.moves[day] & (self.launch < day)
        shelf.comp_price = np.where(moves, np.round(target, 2), shelf.comp_price)

    def assumed(self, product: Ints, comp_price: Floats, *, day: int) -> Floats:
        """(request,) the observed prices; where not observed, what it would set now without noise."""
        return np.where(np.isnan(comp_price), self.list_price[day, product] * self.ratio[product], comp_price)


@dataclass(frozen=True)
class AloofRival:
    """A competitor whose prices are drawn beforehand."""

    launch: Ints  # (product,) first day on sale
    price: Floats  # (day, product) its prices

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Set the competitor's prices of a day. Modifies `shelf`."""
        shelf.comp_price = np.where(self.launch <= day, self.price[day], np.nan)

    def assumed(self, product: Ints, comp_price: Floats, *, day: int) -> Floats:
        """(request,) the observed prices; demand knows the true ones."""
        return comp_price


@dataclass(frozen=True)
class World:
    """A market before any sales: hidden truth and observable data."""

    config: MarketConfig  # options of the market
    product_ids: Strings  # (product,) sorted; those that launch after the history come last
    category_names: Strings  # (product,) category name
    truth: Truth  # hidden truth, for the oracle only
    unit_cost: Floats  # (day, product) cost of a unit
    promo_cut: Floats  # (day, product) incumbent's planned cut, advertised or at a season's end, as a share of list
    comp_seen: Bools  # (day, product) whether the competitor's price was observed
    recorded: Bools  # (day, product) whether the day's row was recorded in the history
    supply: Supply  # purchasing
    rival: Rival | AloofRival  # the competitor


Incumbent = Callable[[int, Shelf], Floats]  # (product,) prices of a day; called once for each day in order


def empty_shelf(supply: Supply) -> Shelf:
    """Return the state before the first day."""
    products = len(supply.lead)
    unknown = np.full(products, np.nan)
    return Shelf(
        stock=np.zeros(products, dtype=np.int64),
        usual=np.zeros(products),
        price=unknown,
        comp_price=unknown.copy(),
        household_stock=np.zeros(products),
        memory=unknown.copy(),
        coming=np.zeros((int(supply.lead.max()) + 1, products), dtype=np.int64),
    )


def autoregression(normal: Floats, *, spread: float, persistence: float) -> Floats:
    """(day, series) stationary AR(1) of sd `spread` from standard normal draws of that shape."""
    step = spread * np.sqrt(1 - persistence**2) * normal
    step[0] = spread * normal[0]
    path: Floats = signal.lfilter([1.0], [1.0, -persistence], step, axis=0)
    return path


def next_days(delivers: Bools) -> Ints:
    """(day, product) first day after each one with a delivery."""
    days = len(delivers)
    day = np.where(delivers, np.arange(days)[:, None], days)
    ahead: Ints = np.minimum.accumulate(day[::-1], axis=0)[::-1].astype(np.int64)
    return np.concatenate([ahead[1:], np.full((1, ahead.shape[1]), days)])


def ending(price: Floats) -> Floats:
    """Round prices to end in 9 cents, at least 9 cents."""
    label: Floats = np.maximum(np.round(price, 1) - 0.01, 0.09).round(2)
    return label


def names_of(categories: int, known: tuple[str, ...]) -> Strings:
    """(category,) names, numbered past those known."""
    return np.array([*known, *(f"category-{number}" for number in range(len(known), categories))][:categories])
