"""One day of the default market under any pricing policy: deliveries, competitor's prices, sales, orders."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from simulation.world import World, stream

USUAL_WEIGHT = 1 / 21  # weight of a day's sales in the moving average for ordering
USUAL_ERROR = 0.2  # sd of the log error of a new product's expected sales


@dataclass(frozen=True)
class Supply:
    """Purchasing and competitor of each product: drawn once, independent of the policy.

    Attributes:
        interval: (product,) days between two deliveries.
        phase: (product,) remainder by `interval` of the days with a delivery.
        lead: (product,) days from an order to its delivery.
        cover: (product,) order-up-to level in usual sales over interval and lead time.
        order_error: (week, product) factor on the order-up-to level.
        first_guess: (product,) error factor on a new product's expected sales.
        rival_ratio: (product,) competitor's price level over the incumbent's list price.
        rival_moves: (day, product) whether the competitor reprices.
        rival_noise: (day, product) random factor on the competitor's new price.
    """

    interval: Ints
    phase: Ints
    lead: Ints
    cover: Floats
    order_error: Floats
    first_guess: Floats
    rival_ratio: Floats
    rival_moves: Bools
    rival_noise: Floats

    def next_delivery(self, day: int) -> Ints:
        """(product,) first day after `day` on which a delivery is due."""
        return day + self.interval - (day - self.phase) % self.interval

    def due(self, day: int | Ints) -> Bools:
        """(product,) whether a delivery is due on the morning of `day`."""
        arriving: Bools = (day - self.phase) % self.interval == 0
        return arriving


@dataclass
class Shelf:
    """State of a market between days. Each array is (product,).

    Attributes:
        stock: Units on hand.
        on_order: Units ordered and not delivered.
        usual: Exponential moving average of daily sales, for ordering.
        price: Last price charged; NaN before the launch.
        comp_price: Competitor's price; NaN before the launch.
    """

    stock: Ints
    on_order: Ints
    usual: Floats
    price: Floats
    comp_price: Floats

    def copy(self) -> "Shelf":
        """Return a deep copy."""
        return Shelf(
            self.stock.copy(), self.on_order.copy(), self.usual.copy(), self.price.copy(), self.comp_price.copy()
        )


def draw_supply(world: World) -> Supply:
    """Draw purchasing and competitor of a market."""
    config, constants = world.config, world.config.constants
    days, products = config.total_days, config.total_products
    rng, rival = stream(config, "supply"), stream(config, "rival")
    interval = np.where(rng.random(products) < 0.75, 7, 14)
    moves = np.empty((days, products), dtype=np.bool_)
    noise = np.empty((days, products), dtype=np.float32)
    ratio = np.exp(rival.normal(0.0, 0.08, products))
    for day in range(days):
        moves[day] = rival.random(products) < constants.competitor_change
        noise[day] = np.exp(constants.competitor_noise * rival.standard_normal(products))
    return Supply(
        interval=interval,
        phase=rng.integers(0, interval),
        lead=rng.integers(1, 5, products),
        cover=rng.uniform(*constants.order_cover, products),
        first_guess=np.exp(USUAL_ERROR * rng.standard_normal(products)),
        order_error=np.exp(constants.order_error * rng.standard_normal((days // 7 + 2, products))).astype(np.float32),
        rival_ratio=ratio,
        rival_moves=moves,
        rival_noise=noise,
    )


def empty_shelf(world: World) -> Shelf:
    """Return the state before the first day."""
    products = world.config.total_products
    nothing, unknown = np.zeros(products, dtype=np.int64), np.full(products, np.nan)
    return Shelf(nothing, nothing.copy(), np.zeros(products), unknown, unknown.copy())


def open_day(world: World, supply: Supply, shelf: Shelf, *, day: int) -> None:
    """Start a day: launches, deliveries, the competitor's new prices. Modifies `shelf`."""
    truth = world.truth
    list_price = truth.list_price[day]
    ratio = supply.rival_ratio * np.exp(world.rival_move * (day >= truth.regime_day))
    new = np.flatnonzero(truth.launch == day)
    if len(new):
        shelf.comp_price[new] = np.round(list_price[new] * ratio[new] * supply.rival_noise[day, new], 2)
        expected = truth.expected_demand(new, day, list_price[new], comp_price=shelf.comp_price[new])
        shelf.usual[new] = expected * supply.first_guess[new]
        shelf.stock[new] = np.ceil(_order_level(supply, shelf, day=day)[new]).astype(np.int64)
        shelf.price[new] = list_price[new]
    arriving = supply.due(day)
    shelf.stock += np.where(arriving, shelf.on_order, 0)
    shelf.on_order[arriving] = 0
    pull = world.config.constants.competitor_pull
    target = shelf.price**pull * (list_price * ratio) ** (1 - pull) * supply.rival_noise[day]
    moves = supply.rival_moves[day] & (truth.launch < day)
    shelf.comp_price = np.where(moves, np.round(target, 2), shelf.comp_price)


def trade(world: World, supply: Supply, shelf: Shelf, *, day: int, price: Floats) -> tuple[Ints, Ints]:
    """Simulate a day's demand, sales and orders. Modifies `shelf`.

    Args:
        world: The market.
        supply: Its purchasing and competitor.
        shelf: As `open_day` left it.
        day: The day.
        price: (product,) the price charged; ignored before the launch.

    Returns:
        (product,) units sold, and units demanded.
    """
    truth = world.truth
    everyone = np.arange(len(price))
    active = truth.launch <= day
    price = np.where(active, price, 1.0)
    comp_price = np.where(active, shelf.comp_price, 1.0)
    demand = truth.demand_units(day, truth.expected_demand(everyone, day, price, comp_price=comp_price))
    units = np.minimum(demand, shelf.stock)
    served = active & (units < shelf.stock)
    shelf.usual = np.where(served, shelf.usual + USUAL_WEIGHT * (units - shelf.usual), shelf.usual)
    shelf.stock = shelf.stock - units
    ordering = active & supply.due(day + supply.lead)
    wanted = np.ceil(_order_level(supply, shelf, day=day) - shelf.stock - shelf.on_order).astype(np.int64)
    shelf.on_order += np.where(ordering, np.maximum(wanted, 0), 0)
    shelf.price = np.where(active, price, shelf.price)
    return units, demand


def _order_level(supply: Supply, shelf: Shelf, *, day: int) -> Floats:
    level: Floats = supply.cover * supply.order_error[day // 7] * shelf.usual * (supply.interval + supply.lead)
    return level
