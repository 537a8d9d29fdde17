"""The default simulated market with known demand: `simulate` runs a history under the incumbent's prices."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pricing.arrays import Bools, Floats, Ints, Strings
from simulation.config import MarketConfig
from simulation.protocol import MarketWorld, PricingPolicy, SimulatedMarket
from simulation.supply import Shelf, Supply, draw_supply, empty_shelf, open_day, trade
from simulation.truth import Truth
from simulation.world import World, draw_world, stream

__all__ = ["BAND", "Ledger", "Market", "MarketConfig", "Truth", "simulate"]


@dataclass(frozen=True)
class Ledger:
    """Record of consecutive days. Arrays are (day, product); 0 or NaN before a product's launch.

    Attributes:
        first_day: Day number of the first row.
        price: Price charged.
        units: Units sold.
        demand: Units demanded; hidden from policies.
        stock: Units on hand at opening.
        comp_price: Competitor's price, observed or not.
    """

    first_day: int
    price: Floats
    units: Ints
    demand: Ints
    stock: Ints
    comp_price: Floats

    @classmethod
    def blank(cls, first_day: int, days: int, products: int) -> "Ledger":
        """Return an empty ledger, to be filled by `record_day`."""
        shape = (days, products)
        return cls(
            first_day,
            np.full(shape, np.nan),
            np.zeros(shape, dtype=np.int32),
            np.zeros(shape, dtype=np.int32),
            np.zeros(shape, dtype=np.int32),
            np.full(shape, np.nan),
        )

    def part(self, start: int, stop: int) -> "Ledger":
        """Select the rows `start` … `stop` − 1, as views."""
        cut = slice(start, stop)
        return Ledger(
            self.first_day + start,
            self.price[cut],
            self.units[cut],
            self.demand[cut],
            self.stock[cut],
            self.comp_price[cut],
        )


@dataclass(frozen=True)
class Market:
    """A market with its history.

    Attributes:
        world: Products, costs, list prices, the advertising plan, and the hidden truth in `world.truth`.
        supply: Purchasing and the competitor.
        ledger: The history under the incumbent.
        shelf: Stock and prices at the end of the history, where a roll-forward starts.
    """

    world: World
    supply: Supply
    ledger: Ledger
    shelf: Shelf

    @property
    def config(self) -> MarketConfig:
        """Options of the market."""
        return self.world.config

    @property
    def truth(self) -> Truth:
        """Hidden truth, for the oracle only."""
        return self.world.truth

    @property
    def product_ids(self) -> Strings:
        """(product,) products with a history first, then those that launch after it."""
        return self.world.product_ids

    @property
    def in_history(self) -> Bools:
        """(product,) whether a product was on sale during the history."""
        known: Bools = self.truth.launch < self.config.days
        return known

    def frame(self) -> pd.DataFrame:
        """Return the history as rows of the data contract, sorted by product and date."""
        return rows(self.world, self.ledger)

    @property
    def announces_deliveries(self) -> bool:
        """True: requests carry the date of the next delivery."""
        return True

    @property
    def oracle_limit(self) -> str:
        """Empty: demand has no state, so the oracle's plan until the delivery is optimal."""
        return ""

    @property
    def held_days(self) -> int:
        """0: shoppers have no state."""
        return 0

    def substitution_profit(self, product: Ints, prices: Floats, *, day: int, days: int, shelf: Shelf) -> Floats:
        """Return 0 of shape (1, 1, 1): products are no substitutes."""
        return np.zeros((1, 1, 1))

    def next_delivery(self, day: int) -> Ints:
        """(product,) first day after `day` on which a delivery is due."""
        return self.supply.next_delivery(day)

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Start a day: launches, deliveries, the competitor's new prices. Modifies `shelf`."""
        open_day(self.world, self.supply, shelf, day=day)

    def trade(self, shelf: Shelf, *, day: int, price: Floats) -> tuple[Ints, Ints]:
        """Simulate sales and orders of a day at `price`, (product,); returns units sold, demanded. Modifies `shelf`."""
        return trade(self.world, self.supply, shelf, day=day, price=price)

    def outlook(
        self, product: Ints, prices: Floats, *, day: int, days: int, comp_price: Floats, shelf: Shelf
    ) -> Floats:
        """(request, day, price) expected units on each of `days` days from `day`; see `SimulatedMarket.outlook`.

        An unobserved competitor price is replaced by the one it would set now without noise; `shelf` is not used, since
        shoppers have no state.
        """
        guess = self.truth.list_price[day, product] * self.supply.rival_ratio[product]
        guess *= np.exp(self.world.rival_move[product] * (day >= self.truth.regime_day))
        known = np.where(np.isnan(comp_price), guess, comp_price)
        horizon = np.minimum(day + np.arange(days), self.config.total_days - 1)
        return self.truth.expected_demand(
            product[:, None, None], horizon[:, None], prices[:, None, :], comp_price=known[:, None, None]
        )

    def expected_demand(self, product: ArrayLike, day: ArrayLike, price: ArrayLike) -> Floats:
        """Expected units at given prices on days of the history.

        The arguments broadcast against each other; `day` counts from 0, `product` is a row of `product_ids`.
        The competitor's price is that of the day. For other days see `Truth.expected_demand`.
        """
        comp_price = self.ledger.comp_price[np.asarray(day), np.asarray(product)]
        return self.truth.expected_demand(product, day, price, comp_price=np.where(comp_price > 0, comp_price, 1.0))


def simulated_sales() -> pd.DataFrame:
    """Return the default market's sales for `--sales simulated`: one contract row per product and day."""
    return simulate(MarketConfig()).frame()


def simulate(config: MarketConfig | None = None) -> Market:
    """Draw a market and simulate its history under the incumbent.

    Args:
        config: The options; 60 products over 730 days when absent.

    Example:
        >>> from simulation.market import MarketConfig, simulate
        >>> market = simulate(MarketConfig(products=4, days=90, seed=1))
        >>> sales = market.frame()  # rows of the data contract: all that a learner may see
        >>> sales[["date", "product_id", "units_sold", "price", "stock"]].head(3)
                date product_id  units_sold  price  stock
        0 2023-03-27     P00001         2.0  11.02   49.0
        1 2023-03-28     P00001         4.0   9.27   47.0
        2 2023-03-29     P00001         6.0   9.27   43.0
        >>> market.truth.elasticity.round(1)  # hidden: only for judging
        array([-3. , -2.1, -3.1, -3.4])
    """
    config = config or MarketConfig()
    world = draw_world(config)
    supply = draw_supply(world)
    return live_through(world, supply, Incumbent(world, supply))


def live_through(world: World, supply: Supply, incumbent: PricingPolicy) -> Market:
    """Simulate the history of a market under an incumbent."""
    config = world.config
    market = Market(world, supply, Ledger.blank(0, config.days, config.total_products), empty_shelf(world))
    for day in range(config.days):
        market.open_day(market.shelf, day=day)
        price = incumbent.prices(day, market.shelf)
        record_day(market, market.shelf, ledger=market.ledger, day=day, price=price)
    return market


def record_day(market: SimulatedMarket, shelf: Shelf, *, ledger: Ledger, day: int, price: Floats) -> None:
    """Simulate one day, after `open_day`, at `price` and record it. Modifies `shelf` and `ledger`."""
    row = day - ledger.first_day
    active = market.truth.launch <= day
    ledger.price[row] = np.where(active, price, np.nan)
    ledger.stock[row] = shelf.stock
    ledger.comp_price[row] = shelf.comp_price
    ledger.units[row], ledger.demand[row] = market.trade(shelf, day=day, price=price)


def rows(world: MarketWorld, ledger: Ledger) -> pd.DataFrame:
    """Convert a ledger to rows of the data contract, with unrecorded rows and competitor prices left out."""
    days = slice(ledger.first_day, ledger.first_day + len(ledger.price))
    there = world.recorded[days] & (world.truth.launch <= np.arange(days.start, days.stop)[:, None])
    product, day = np.nonzero(there.T)

    def column(values: NDArray[Any]) -> NDArray[Any]:
        picked: NDArray[Any] = values[day, product]
        return picked

    comp_price = np.where(column(world.comp_seen[days]), column(ledger.comp_price), np.nan)
    names, code = np.unique(world.category_names, return_inverse=True)
    return pd.DataFrame(
        {
            "date": world.truth.dates[days][day].astype("datetime64[s]"),
            "product_id": pd.Categorical.from_codes(product, pd.Index(world.product_ids)).astype(str),
            "units_sold": column(ledger.units).astype(np.float64),
            "price": column(ledger.price),
            "category": pd.Categorical.from_codes(code[product], pd.Index(names)).astype(str),
            "list_price": column(world.truth.list_price[days]),
            "unit_cost": column(world.unit_cost[days]),
            "stock": column(ledger.stock).astype(np.float64),
            "comp_price": comp_price,
            "is_promo": column(world.truth.is_promo[days]).astype(np.int8),
            "is_holiday": world.is_holiday[days][day].astype(np.int8),
        }
    )


BAND = (0.70, 1.35)  # of the list price; for the incumbent and all policies


class Incumbent:
    """Pricing policy of the history: reprices each product weekly on its own weekday; advertised cuts come first."""

    def __init__(self, world: World, supply: Supply) -> None:
        config = world.config
        self._world, self._supply = world, supply
        self._rng = stream(config, "incumbent")
        self._weekday = self._rng.integers(0, 7, config.total_products)
        self._hand = np.zeros(config.total_products)
        self._felt = np.zeros(config.total_products)
        steps = np.linspace(*BAND, config.price_points)
        steps[np.argmin(np.abs(steps - 1))] = 1.0
        self._steps = steps

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) prices of the day; must be called once for each day in order."""
        world, truth = self._world, self._world.truth
        self._felt += (truth.shock[day] - self._felt) / world.config.constants.slowness
        todays = day % 7 == self._weekday
        self._hand = np.where(todays, self._new_hand(day, shelf), self._hand)
        factor = np.where(truth.is_promo[day], 1 - world.promo_cut[day], np.exp(self._hand))
        nearest = self._steps[np.argmin(np.abs(factor[:, None] - self._steps), axis=1)]
        price: Floats = np.maximum(np.round(nearest * truth.list_price[day], 2), world.unit_cost[day])
        return price

    def _new_hand(self, day: int, shelf: Shelf) -> Floats:
        """(product,) log factor on the list price: reaction to demand and excess stock, noise and errors."""
        world, constants = self._world, self._world.config.constants
        products = len(self._hand)
        noise, wobble, error = self._rng.standard_normal((3, products))
        chance = self._rng.random(products)
        fresh = constants.fresh
        seen = fresh * world.truth.shock[day] + (1 - fresh) * self._felt + constants.seen_noise * noise
        cover = shelf.stock / np.maximum(shelf.usual * self._supply.interval, 0.1)
        answer = constants.reaction * seen - constants.clear_cut * (cover > constants.clear_cover)
        mistake = np.where(chance < constants.mistake[0], constants.mistake[1] * error, 0.0)
        hand: Floats = world.config.endogeneity * answer + constants.wobble * wobble + mistake
        return hand
