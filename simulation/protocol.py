"""Protocols of a simulated market, as needed to run and score pricing policies."""

from typing import Protocol, runtime_checkable

import pandas as pd

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from simulation.supply import Shelf


class MarketOptions(Protocol):
    """Size and seed of a market."""

    @property
    def seed(self) -> int:
        """Seed of all random draws."""

    @property
    def days(self) -> int:
        """Days of history."""

    @property
    def future(self) -> int:
        """Days after the history available for a roll-forward."""

    @property
    def total_days(self) -> int:
        """Days of history and future together."""

    @property
    def total_products(self) -> int:
        """Products with a history and those that launch after it."""


class HiddenTruth(Protocol):
    """Hidden truth for oracle and scoring, and exogenous plans."""

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
        """(day, product) advertising plan."""

    @property
    def size(self) -> float:
        """Size of the negative binomial approximating a day's demand; inf for Poisson."""

    @property
    def elasticity(self) -> Floats:
        """(product,) own-price elasticity at list price on the history's last day."""

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity at that day's list price."""


class MarketWorld(Protocol):
    """A market before any sales."""

    @property
    def truth(self) -> HiddenTruth:
        """Hidden truth."""

    @property
    def product_ids(self) -> Strings:
        """(product,) sorted."""

    @property
    def category_names(self) -> Strings:
        """(product,) category name."""

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
        """(day, product) whether the day's row was recorded in the history."""


class SimulatedMarket(Protocol):
    """A market at the end of its history, such as `Market` or `ForeignMarket`."""

    @property
    def config(self) -> MarketOptions:
        """Its options."""

    @property
    def world(self) -> MarketWorld:
        """Products, costs, list prices, plans and the truth."""

    @property
    def truth(self) -> HiddenTruth:
        """Hidden truth, for the oracle only."""

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
    def announces_deliveries(self) -> bool:
        """Whether requests carry the date of the next delivery."""

    @property
    def oracle_limit(self) -> str:
        """Why the oracle may not be the best policy, such as "held prices"; empty if it is."""

    @property
    def held_days(self) -> int:
        """Days for which a price must be held to evaluate it; 0 if shoppers have no state."""

    def frame(self) -> pd.DataFrame:
        """Return the history as rows of the data contract."""

    def next_delivery(self, day: int) -> Ints:
        """(product,) first day after `day` on which a delivery is due."""

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Start a day: launches, deliveries, the competitor's new prices. Modifies `shelf`."""

    def trade(self, shelf: Shelf, *, day: int, price: Floats) -> tuple[Ints, Ints]:
        """Simulate sales and orders of a day at `price`, (product,); returns units sold, demanded. Modifies `shelf`."""

    def outlook(
        self, product: Ints, prices: Floats, *, day: int, days: int, comp_price: Floats, shelf: Shelf
    ) -> Floats:
        """Expected units on each of `days` days from `day` if a product's price is held and all else is constant.

        Args:
            product: (request,) rows of `product_ids`.
            prices: (request, price) in currency units.
            day: The first day; days past the end of the future are like the last one.
            days: Number of days.
            comp_price: (request,) competitor's price observed that morning; NaN if not observed.
            shelf: The morning's shelf, including the shoppers' state.

        Returns:
            (request, day, price) units demanded, not limited by stock.
        """

    def substitution_profit(self, product: Ints, prices: Floats, *, day: int, days: int, shelf: Shelf) -> Floats:
        """(request, day, price) expected profit of the other products at candidate prices of one product.

        Other prices are held and stock is unlimited; zeros of a broadcastable shape if products are no substitutes.
        Arguments as in `outlook`.
        """


class PricingPolicy(Protocol):
    """The incumbent's policy in the history."""

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) prices of the day; must be called once for each day in order."""


@runtime_checkable
class InformedPolicy(Protocol):
    """A policy with access to hidden state: the oracle, and code that scores decisions."""

    def observe_shelf(self, shelf: Shelf) -> None:
        """Called each morning before the requests; must not modify `shelf`."""
