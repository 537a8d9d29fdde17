"""What a simulated market has to offer so that any policy can be played on it, scored and judged."""

from typing import Protocol, runtime_checkable

import pandas as pd

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from simulation.supply import Shelf


class MarketOptions(Protocol):
    """The size of a market and the seed it was drawn with."""

    @property
    def seed(self) -> int:
        """Seed of everything that is drawn."""

    @property
    def days(self) -> int:
        """Days of history."""

    @property
    def future(self) -> int:
        """Days after the history that a roll-forward can use."""

    @property
    def total_days(self) -> int:
        """Days of history and future together."""

    @property
    def total_products(self) -> int:
        """Products with a history and those that launch after it."""


class HiddenTruth(Protocol):
    """What only the oracle and the judge know, and the plans that no policy moves."""

    @property
    def dates(self) -> Days:
        """(day,) history and future."""

    @property
    def launch(self) -> Ints:
        """(product,) first day on sale."""

    @property
    def list_price(self) -> Floats:
        """(day, product) regular price."""

    @property
    def is_promo(self) -> Bools:
        """(day, product) the advertising plan."""

    @property
    def size(self) -> float:
        """Size of the negative binomial that a day's demand is close to; inf for Poisson."""

    @property
    def elasticity(self) -> Floats:
        """(product,) own-price elasticity at list price on the history's last day."""

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity at that day's list price."""


class MarketWorld(Protocol):
    """A market before trade."""

    @property
    def truth(self) -> HiddenTruth:
        """What nobody sees."""

    @property
    def product_ids(self) -> Strings:
        """(product,) sorted."""

    @property
    def category_names(self) -> Strings:
        """(product,) the category in words."""

    @property
    def unit_cost(self) -> Floats:
        """(day, product) cost of a unit."""

    @property
    def is_holiday(self) -> Bools:
        """(day,) whether the day is a holiday."""

    @property
    def comp_seen(self) -> Bools:
        """(day, product) whether the competitor's price was observed."""

    @property
    def recorded(self) -> Bools:
        """(day, product) whether the day's row reached the history."""


class SimulatedMarket(Protocol):
    """A market at the end of its history. `Market` is one; a family of another making satisfies this too."""

    @property
    def config(self) -> MarketOptions:
        """Its options."""

    @property
    def world(self) -> MarketWorld:
        """Products, costs, list prices, plans and the truth."""

    @property
    def truth(self) -> HiddenTruth:
        """What no policy but the oracle may know."""

    @property
    def product_ids(self) -> Strings:
        """(product,) sorted."""

    @property
    def in_history(self) -> Bools:
        """(product,) whether a product was on sale during the history."""

    @property
    def shelf(self) -> Shelf:
        """Stock, prices and the shoppers' state at the end of the history."""

    @property
    def tells_deliveries(self) -> bool:
        """Whether requests carry the date of the next delivery."""

    @property
    def oracle_limit(self) -> str:
        """What keeps the oracle from being the best of all policies, such as "held prices"; empty where nothing."""

    @property
    def held_days(self) -> int:
        """Days that a price must be taken to stand to see what it is worth; 0 where shoppers remember nothing."""

    def frame(self) -> pd.DataFrame:
        """The history as rows of the data contract."""

    def next_delivery(self, day: int) -> Ints:
        """(product,) the first day after `day` on which a delivery is due."""

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """The morning: launches, deliveries, the competitor's move. Changes `shelf`."""

    def trade(self, shelf: Shelf, *, day: int, price: Floats) -> tuple[Ints, Ints]:
        """The day and its evening at `price`, (product,): units sold, units demanded. Changes `shelf`."""

    def outlook(
        self, product: Ints, prices: Floats, *, day: int, days: int, comp_price: Floats, shelf: Shelf
    ) -> Floats:
        """Expected units on each of `days` days from `day`, were a product sold at a price and nothing else moved.

        Args:
            product: (request,) rows of `product_ids`.
            prices: (request, price) in currency units.
            day: The first of the days; days past the end of the future are like the last one.
            days: How many.
            comp_price: (request,) the competitor's price as seen that morning; NaN where nobody saw it.
            shelf: The morning's shelf, with whatever shoppers remember.

        Returns:
            (request, day, price) units, shoppers turned away by empty shelves included.
        """

    def spill(self, product: Ints, prices: Floats, *, day: int, days: int, shelf: Shelf) -> Floats:
        """What the other products are expected to earn on each day at these prices of one, (request, day, price).

        Money over cost, others' prices standing and no shelf empty; zeros, of a shape that broadcasts, where products
        do not substitute each other. Arguments as those of `outlook`.
        """


@runtime_checkable
class Insider(Protocol):
    """A policy that is shown what no shop sees: the oracle, and whoever judges decisions."""

    def see(self, shelf: Shelf) -> None:
        """Shown each morning before the requests; must not change `shelf`."""
