"""Second family of simulated markets, with different demand, incumbent and supply: `simulate_foreign`."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats, Ints, Strings
from simulation.foreign_config import HELD_DAYS, ForeignConfig
from simulation.foreign_demand import ForeignTruth, Shoppers
from simulation.foreign_world import BEYOND, ForeignWorld, draw_world, ending, stream
from simulation.market import BAND, Ledger, record_day, rows
from simulation.supply import Shelf

USUAL_WEIGHT = 1 / 28  # weight of a day's sales in the moving average for ordering
LAST_BUY = 0.7  # sales the buyer expects at a season's end, relative to the season's usual ones


@dataclass
class ForeignShelf(Shelf):
    """State of a foreign market between days. Each array is (product,) except `coming`.

    Attributes:
        household_stock: Shoppers' excess household stock, in days of use.
        memory: Shoppers' reference price; NaN before the launch.
        coming: (day modulo its length, product) units arriving on a day.
    """

    household_stock: Floats
    memory: Floats
    coming: Ints

    def copy(self) -> "ForeignShelf":
        """Return a deep copy."""
        return ForeignShelf(**{field.name: getattr(self, field.name).copy() for field in fields(self)})


@dataclass(frozen=True)
class ForeignSupply:
    """Purchasing of each product: drawn once, independent of the policy.

    Attributes:
        delivers: (day, product) whether a delivery is due; extends beyond the future.
        next_day: (day, product) first day after each one on which a delivery is due.
        gap: (product,) mean days between two deliveries.
        span: (day, product) days of usual sales that a delivery on that day has to cover: the mean gap; for a season's
            last delivery the rest of the season, at the sales expected then.
        lead: (product,) days from an order to its delivery.
        cover: (product,) order-up-to level in usual sales over gap and lead time.
        order_error: (day, product) factor on the order-up-to level.
    """

    delivers: Bools
    next_day: Ints
    gap: Floats
    span: Floats
    lead: Ints
    cover: Floats
    order_error: Floats


@dataclass(frozen=True)
class ForeignMarket:
    """Market of the second family with its history; satisfies `simulation.protocol.SimulatedMarket`.

    Attributes:
        world: Products, costs, list prices, plans, and the hidden truth in `world.truth`.
        supply: Purchasing.
        ledger: The history under the incumbent.
        shelf: Stock, prices and the shoppers' state at the end of the history.
    """

    world: ForeignWorld
    supply: ForeignSupply
    ledger: Ledger
    shelf: ForeignShelf

    @property
    def config(self) -> ForeignConfig:
        """Options of the market."""
        return self.world.config

    @property
    def truth(self) -> ForeignTruth:
        """Hidden truth, for the oracle only."""
        return self.world.truth

    @property
    def product_ids(self) -> Strings:
        """(product,) sorted."""
        return self.world.product_ids

    @property
    def in_history(self) -> Bools:
        """(product,) whether a product was on sale during the history."""
        known: Bools = self.truth.launch < self.config.days
        return known

    @property
    def announces_deliveries(self) -> bool:
        """Whether requests carry the date of the next delivery."""
        return self.config.features.announces_deliveries

    @property
    def oracle_limit(self) -> str:
        """Why the oracle may not be the best policy."""
        return self.config.features.oracle_limit

    def frame(self) -> pd.DataFrame:
        """Return the history as rows of the data contract, sorted by product and date."""
        return rows(self.world, self.ledger)

    def next_delivery(self, day: int) -> Ints:
        """(product,) first day after `day` on which a delivery is due."""
        day_after: Ints = self.supply.next_day[day]
        return day_after

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Start a day: launches, deliveries, the competitor's new prices. Modifies `shelf`."""
        state, truth, supply = _own(shelf), self.truth, self.supply
        new = np.flatnonzero(truth.launch == day)
        if len(new):
            state.price[new] = state.memory[new] = truth.list_price[day, new]
            state.usual[new] = np.exp(truth.level[day, new] - truth.shock[day, new])
            level = supply.cover * supply.order_error[day] * state.usual * (supply.gap + supply.lead)
            state.stock[new] = np.ceil(level[new]).astype(np.int64)
        slot = day % len(state.coming)
        state.stock = state.stock + state.coming[slot]
        state.on_order = state.on_order - state.coming[slot]
        state.coming[slot] = 0
        state.comp_price = np.where(truth.launch <= day, truth.comp_price[day], np.nan)

    def trade(self, shelf: Shelf, *, day: int, price: Floats) -> tuple[Ints, Ints]:
        """Simulate sales and orders of a day at `price`, (product,); returns units sold, demanded. Modifies `shelf`."""
        state, truth = _own(shelf), self.truth
        active = truth.launch <= day
        price = np.where(active, price, truth.list_price[day])
        memory = np.where(active, state.memory, price)
        expected = truth.expected_demand(
            np.arange(len(price)), day, price, shoppers=Shoppers(state.household_stock, memory), others=price
        )
        demand = truth.demand_units(day, expected)
        units = np.minimum(demand, state.stock)
        served = np.where(demand > 0, units / np.maximum(demand, 1), 1.0)
        stockpiled = truth.stockpiled(price, list_price=truth.list_price[day], household_stock=state.household_stock)
        state.household_stock = np.where(
            active, state.household_stock + np.where(stockpiled > 0, stockpiled * served, stockpiled), 0.0
        )
        state.memory = np.where(active, truth.next_reference_price(memory, price), np.nan)
        state.price = np.where(active, price, state.price)
        learns = active & (units < state.stock) & self.world.in_season[day]
        state.usual = np.where(learns, state.usual + USUAL_WEIGHT * (units - state.usual), state.usual)
        state.stock = state.stock - units
        self._order(state, day=day, active=active)
        return units, demand

    def outlook(
        self, product: Ints, prices: Floats, *, day: int, days: int, comp_price: Floats, shelf: Shelf
    ) -> Floats:
        """(request, day, price) expected units on each of `days` days from `day`; see `SimulatedMarket.outlook`.

        Each price is held, with its effect on household stock and reference price; competitor prices are the true ones.
        """
        state = _own(shelf)
        active = self.truth.launch <= day
        list_price = self.truth.list_price[day]
        return self.truth.path(
            product,
            prices,
            days=np.minimum(day + np.arange(days), self.config.total_days - 1),
            shoppers=Shoppers(state.household_stock[product], np.where(active, state.memory, list_price)[product]),
            others=np.where(active, state.price, list_price),
        )

    @property
    def held_days(self) -> int:
        """Days for which a price must be held to evaluate it; 0 if shoppers have no state."""
        features = self.config.features
        return HELD_DAYS if features.stockpile_days or features.gain or features.loss else 0

    def substitution_profit(self, product: Ints, prices: Floats, *, day: int, days: int, shelf: Shelf) -> Floats:
        """(request, day, price) profit of the other products; see `SimulatedMarket.substitution_profit`."""
        if self.config.features.nest is None:
            return np.zeros((1, 1, 1))
        truth = self.truth
        others = np.where(truth.launch <= day, shelf.price, truth.list_price[day])
        horizon = np.minimum(day + np.arange(days), self.config.total_days - 1)
        costs = self.world.unit_cost
        return np.stack(
            [
                truth.other_products_profit(product[:, None], int(at), prices, others=others, unit_cost=costs[at])
                for at in horizon
            ],
            axis=1,
        )

    def _order(self, state: ForeignShelf, *, day: int, active: Bools) -> None:
        """Place the day's orders, for the deliveries a lead time ahead."""
        supply, everyone = self.supply, np.arange(len(active))
        span = supply.span[day + supply.lead, everyone]
        level = supply.cover * supply.order_error[day] * state.usual * (span + supply.lead)
        wanted = np.maximum(np.ceil(level - state.stock - state.on_order), 0).astype(np.int64)
        ordered = np.where(active & supply.delivers[day + supply.lead, everyone], wanted, 0)
        np.add.at(state.coming, ((day + supply.lead) % len(state.coming), everyone), ordered)
        state.on_order = state.on_order + ordered


class ForeignIncumbent:
    """Pricing policy of the history: monthly reviews of whole categories, by judgement and the competitor's prices.

    Leaflets and clearances take precedence; prices end in 9 cents.
    """

    def __init__(self, world: ForeignWorld) -> None:
        config = world.config
        self._world = world
        self._rng = stream(config, "incumbent")
        category = world.truth.category
        self._review = self._rng.integers(0, config.constants.review, config.categories)[category]
        self._follows = self._rng.random(config.products) < config.constants.followers
        self._factor = np.ones(config.products)

    def prices(self, day: int) -> Floats:
        """(product,) prices of the day; must be called once for each day in order."""
        world, truth, constants = self._world, self._world.truth, self._world.config.constants
        list_price: Floats = truth.list_price[day]
        if world.config.features.price_changes is not None:
            return list_price.copy()
        factor = self._reviewed(day)
        self._factor = np.where(day % constants.review == self._review, factor, self._factor)
        cut = np.maximum(world.promo_cut[day], world.markdown[day])
        price = list_price * np.where(cut > 0, 1 - cut, self._factor)
        label = np.where((cut == 0) & (self._factor == 1.0), list_price, ending(price))
        inside = np.clip(label, BAND[0] * list_price, BAND[1] * list_price)
        charged: Floats = np.maximum(inside, world.unit_cost[day]).round(2)
        return charged

    def _reviewed(self, day: int) -> Floats:
        """(product,) price over list price that a review today would set."""
        world, truth, constants = self._world, self._world.truth, self._world.config.constants
        foresight = world.config.features.foresight
        hand, noise = self._rng.standard_normal((2, len(self._factor)))
        past, coming = truth.shock[max(day - 28, 0) : day + 1].mean(axis=0), truth.shock[day : day + 28].mean(axis=0)
        seen = foresight * coming + constants.foresight_noise * noise
        answer = constants.foresight_reaction * seen if foresight else constants.felt * past
        factor: Floats = np.exp(constants.tilt * hand + answer)
        followed = np.minimum(factor, truth.comp_price[day] / truth.list_price[day])
        reviewed: Floats = np.where(self._follows, followed, factor)
        return reviewed


def simulate_foreign(config: ForeignConfig) -> ForeignMarket:
    """Draw a market of the second family and simulate its history under its incumbent."""
    world = draw_world(config)
    supply = _draw_supply(world)
    incumbent = ForeignIncumbent(world)
    ledger = Ledger.blank(0, config.days, config.total_products)
    market = ForeignMarket(world, supply, ledger, _empty_shelf(config, supply))
    for day in range(config.days):
        market.open_day(market.shelf, day=day)
        record_day(market, market.shelf, ledger=ledger, day=day, price=incumbent.prices(day))
    return market


def _own(shelf: Shelf) -> ForeignShelf:
    if not isinstance(shelf, ForeignShelf):
        raise TypeError("a foreign market needs a shelf of its own, such as a copy of market.shelf")
    return shelf


def _empty_shelf(config: ForeignConfig, supply: ForeignSupply) -> ForeignShelf:
    products = config.products
    nothing, unknown = np.zeros(products, dtype=np.int64), np.full(products, np.nan)
    return ForeignShelf(
        stock=nothing,
        on_order=nothing.copy(),
        usual=np.zeros(products),
        price=unknown,
        comp_price=unknown.copy(),
        household_stock=np.zeros(products),
        memory=unknown.copy(),
        coming=np.zeros((int(supply.lead.max()) + 1, products), dtype=np.int64),
    )


def _draw_supply(world: ForeignWorld) -> ForeignSupply:
    """Draw deliveries, with irregular gaps around each product's mean and one at each season's start, and orders."""
    config, constants, features = world.config, world.config.constants, world.config.features
    rng, products = stream(config, "supply"), config.products
    days = config.total_days + BEYOND
    gap = rng.integers(features.gap[0], features.gap[1] + 1, products).astype(np.float64)
    lead = rng.integers(features.lead[0], features.lead[1] + 1, products)
    delivers = np.zeros((days, products), dtype=np.bool_)
    for product in range(products):
        spread = stream(config, "supply", 2 + product).uniform(*constants.gap_spread, days // 2)
        gaps = np.ceil(gap[product] * spread).astype(np.int64)
        arrivals = np.cumsum(np.maximum(gaps, 1))
        delivers[arrivals[arrivals < days], product] = True
    delivers = (delivers & world.in_season) | world.opening
    delivers[-1] = True
    next_day = _next_day(delivers)
    last = np.zeros((days, products), dtype=np.bool_)
    for opening in zip(*np.nonzero(world.opening), strict=True):
        last[: opening[0], opening[1]] |= next_day[: opening[0], opening[1]] == opening[0]
    ahead = next_day - np.arange(days)[:, None]
    return ForeignSupply(
        delivers=delivers,
        next_day=next_day[: config.total_days],
        gap=gap,
        span=np.where(last, LAST_BUY * ahead, gap),
        lead=lead,
        cover=rng.uniform(*constants.cover, products),
        order_error=np.exp(
            constants.order_error * stream(config, "supply", 1).standard_normal((days, products))
        ).astype(np.float32),
    )


def _next_day(delivers: Bools) -> Ints:
    """(day, product) first day after each one with a delivery."""
    days = len(delivers)
    day = np.where(delivers, np.arange(days)[:, None], days)
    ahead: Ints = np.minimum.accumulate(day[::-1], axis=0)[::-1].astype(np.int64)
    return np.concatenate([ahead[1:], np.full((1, ahead.shape[1]), days)])
