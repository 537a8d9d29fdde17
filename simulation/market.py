"""A simulated market with known demand: `simulate` runs a history under the incumbent's prices."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats, Ints
from simulation.config import HELD_DAYS, MarketConfig
from simulation.incumbents import incumbent_prices
from simulation.levels import holidays_among
from simulation.shelf import Shelf
from simulation.truth import Shoppers
from simulation.world import World, draw_world

__all__ = ["Ledger", "Market", "MarketConfig", "record_day", "rows", "simulate", "simulated_sales"]


@dataclass(frozen=True)
class Ledger:
    """Record of consecutive days. Arrays are (day, product); 0 or NaN before a product's launch."""

    first_day: int  # day number of the first row
    price: Floats  # price charged
    units: Ints  # units sold
    demand: Ints  # units demanded; hidden from policies
    stock: Ints  # units on hand at opening
    comp_price: Floats  # Competitor's price, observed or not

    @classmethod
    def blank(cls, first_day: int, days: int, products: int) -> "Ledger":
        """Return an empty ledger, to be filled by `record_day`."""
        unknown, nothing = np.full((days, products), np.nan), np.zeros((days, products), dtype=np.int32)
        return cls(first_day, unknown, nothing, nothing.copy(), nothing.copy(), unknown.copy())

    def part(self, start: int, stop: int) -> "Ledger":
        """Select the rows `start` … `stop` − 1, as views."""
        cut, first = slice(start, stop), self.first_day + start
        return Ledger(first, self.price[cut], self.units[cut], self.demand[cut], self.stock[cut], self.comp_price[cut])

    @property
    def days(self) -> slice:
        """Its days in the market's arrays."""
        return slice(self.first_day, self.first_day + len(self.price))


@dataclass(frozen=True)
class Market(World):
    """A market with its history."""

    ledger: Ledger  # the history under the incumbent
    shelf: Shelf  # stock, prices and the shoppers' state at the end of the history, where a roll-forward starts

    @property
    def held_days(self) -> int:
        """Days for which a price must be held to evaluate it; 0 if shoppers have no state."""
        return HELD_DAYS if self.truth.features.remembers else 0

    def frame(self) -> pd.DataFrame:
        """Return the history as rows of the data contract, sorted by product and date."""
        return rows(self, self.ledger)

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Start a day: launches, deliveries, the competitor's new prices. Modifies `shelf`."""
        truth, supply = self.truth, self.supply
        self.rival.open_day(shelf, day=day)
        new = np.flatnonzero(truth.launch == day)
        if len(new):
            shelf.price[new] = shelf.memory[new] = truth.list_price[day, new]
            shelf.usual[new] = truth.usual_at_launch(new, day, shelf.comp_price[new]) * supply.first_guess[new]
            level = supply.level(shelf, day=day, span=supply.gap)
            shelf.stock[new] = np.ceil(level[new]).astype(np.int64)
        slot = day % len(shelf.coming)
        shelf.stock = shelf.stock + shelf.coming[slot]
        shelf.coming[slot] = 0

    def trade(self, shelf: Shelf, *, day: int, price: Floats) -> tuple[Ints, Ints]:
        """Simulate sales and orders of a day at `price`, (product,); returns units sold, demanded. Modifies `shelf`."""
        truth, supply = self.truth, self.supply
        active, list_price = truth.launch <= day, truth.list_price[day]
        price = np.where(active, price, list_price)
        shoppers = Shoppers(shelf.household_stock, np.where(active, shelf.memory, price))
        expected = truth.expected_demand(
            np.arange(len(price)), day, price, comp_price=shelf.comp_price, shoppers=shoppers
        )
        demand = truth.demand_units(day, expected)
        units = np.minimum(demand, shelf.stock)
        shoppers = truth.after_day(shoppers, price, day=day, demand=demand, units=units)
        shelf.household_stock = shoppers.household_stock
        shelf.memory = np.where(active, shoppers.memory, np.nan)
        shelf.price = np.where(active, price, shelf.price)
        learns = active & (units < shelf.stock) & supply.buying[day]
        shelf.usual = np.where(learns, shelf.usual + supply.weight * (units - shelf.usual), shelf.usual)
        shelf.stock = shelf.stock - units
        self._order(shelf, day=day, active=active)
        return units, demand

    def _order(self, shelf: Shelf, *, day: int, active: Bools) -> None:
        """Place the day's orders, for the deliveries a lead time ahead."""
        supply, everyone = self.supply, np.arange(len(active))
        due = day + supply.lead
        level = supply.level(shelf, day=day, span=supply.span[due, everyone])
        wanted = np.maximum(np.ceil(level - shelf.stock - shelf.coming.sum(axis=0)), 0).astype(np.int64)
        ordered = np.where(active & supply.delivers[due, everyone], wanted, 0)
        np.add.at(shelf.coming, (due % len(shelf.coming), everyone), ordered)

    def outlook(
        self, product: Ints, prices: Floats, *, day: int, days: int, comp_price: Floats, shelf: Shelf
    ) -> Floats:
        """(request, day, price) expected units on each of `days` days from `day`, not limited by stock.

        A product's price is held and all else is constant; days past the end of the future are like the last one.

        Args:
            product: (request,) rows of `product_ids`.
            prices: (request, price) in currency units.
            day: The first day.
            days: Number of days.
            comp_price: (request,) competitor's price observed that morning; NaN if not observed.
            shelf: The morning's shelf, including the shoppers' state.
        """
        truth, list_price = self.truth, self.truth.list_price[day]
        active = truth.launch <= day
        return truth.path(
            product,
            prices,
            days=self._days(day, days),
            comp_price=self.rival.assumed(product, comp_price, day=day),
            shoppers=Shoppers(shelf.household_stock, np.where(active, shelf.memory, list_price)),
            others=np.where(active, shelf.price, list_price),
        )

    def substitution_profit(self, product: Ints, prices: Floats, *, day: int, days: int, shelf: Shelf) -> Floats:
        """(request, day, price) expected profit of the other products at candidate prices of one product.

        Other prices are held and stock is unlimited; zeros of a broadcastable shape if products are no substitutes.
        Arguments as in `outlook`.
        """
        truth = self.truth
        list_price = truth.list_price[day]
        days_ahead = self._days(day, days)
        active = truth.launch <= day
        others = np.where(active, shelf.price, list_price)
        return truth.beside_path(
            product,
            prices,
            days=days_ahead,
            shoppers=Shoppers(shelf.household_stock, np.where(active, shelf.memory, list_price)),
            others=others,
            margin=others - self.unit_cost[days_ahead],
        )

    def _days(self, day: int, days: int) -> Ints:
        return np.minimum(day + np.arange(days), self.config.total_days - 1)


def simulated_sales() -> pd.DataFrame:
    """Return the default market's sales for `--sales simulated`: one contract row per product and day."""
    return simulate().frame()


def simulate(config: MarketConfig | None = None) -> Market:
    """Draw a market, of the default options when absent, and simulate its history under the incumbent."""
    config = config or MarketConfig()
    world = draw_world(config)
    incumbent = incumbent_prices(world)
    ledger = Ledger.blank(0, config.days, config.total_products)
    market = Market(**vars(world), ledger=ledger, shelf=Shelf.empty(world.supply.lead))
    for day in range(config.days):
        market.open_day(market.shelf, day=day)
        price = incumbent(day, market.shelf)
        record_day(market, market.shelf, ledger=market.ledger, day=day, price=price)
    return market


def record_day(market: Market, shelf: Shelf, *, ledger: Ledger, day: int, price: Floats) -> None:
    """Simulate one day, after `open_day`, at `price` and record it. Modifies `shelf` and `ledger`."""
    row = day - ledger.first_day
    active = market.truth.launch <= day
    ledger.price[row] = np.where(active, price, np.nan)
    ledger.stock[row] = shelf.stock
    ledger.comp_price[row] = shelf.comp_price
    ledger.units[row], ledger.demand[row] = market.trade(shelf, day=day, price=price)


def rows(world: World, ledger: Ledger) -> pd.DataFrame:
    """Convert a ledger to rows of the data contract, with unrecorded rows and competitor prices left out."""
    days, dates = ledger.days, world.truth.dates[ledger.days]
    there = world.recorded[days] & (world.truth.launch <= np.arange(days.start, days.stop)[:, None])
    product, day = np.nonzero(there.T)
    at = (day, product)
    names, code = np.unique(world.category_names, return_inverse=True)
    return pd.DataFrame(
        {
            "date": dates[day].astype("datetime64[s]"),
            "product_id": pd.Categorical.from_codes(product, pd.Index(world.product_ids)).astype(str),
            "units_sold": ledger.units[at].astype(np.float64),
            "price": ledger.price[at],
            "category": pd.Categorical.from_codes(code[product], pd.Index(names)).astype(str),
            "list_price": world.truth.list_price[days][at],
            "unit_cost": world.unit_cost[days][at],
            "stock": ledger.stock[at].astype(np.float64),
            "comp_price": np.where(world.comp_seen[days][at], ledger.comp_price[at], np.nan),
            "is_promo": world.truth.is_promo[days][at].astype(np.int8),
            "is_holiday": holidays_among(dates)[day].astype(np.int8),
        }
    )
