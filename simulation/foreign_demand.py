"""True demand of the second family: variable elasticity, stockpiling, reference prices and substitution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pricing.arrays import Bools, Days, Floats, Ints
from simulation.foreign_config import HELD_DAYS, Scenario
from simulation.truth import poisson_quantile

FULL_CUT = 0.10  # cut below list from which an advertisement has its full effect
NUDGE = 0.01  # relative price step of finite differences


@dataclass(frozen=True)
class Shoppers:
    """Shoppers' state between days; arrays that broadcast against each other.

    Attributes:
        household_stock: Excess household stock, in days of use.
        memory: Reference price, currency units.
    """

    household_stock: Floats
    memory: Floats


@dataclass(frozen=True)
class ForeignTruth:
    """True demand, hidden from all policies but the oracle.

    Attributes:
        dates: (day,) history and future.
        category: (product,) row among the categories.
        launch: (product,) first day on sale.
        anchor: (product,) first list price, at which `level` is stated.
        slope: (product,) size of the elasticity at the anchor; in a nest, of the product's utility: without substitutes
            and outside option.
        potential: (product,) shoppers a day who consider its category; not used outside nests.
        cross: (product,) response of log demand to (competitor's price / anchor − 1).
        lift: (product,) log lift of an advertised cut.
        level: (day, product) log expected units with own and competitor's price at the anchor, shocks included.
        shock: (day, product) the hidden, transitory part of `level`.
        list_price: (day, product) regular price; independent of the policy.
        is_promo: (day, product) advertising plan; independent of the policy.
        comp_price: (day, product) competitor's price, exogenous.
        uniform: (day, product) uniform random number for demand, common to all prices.
        day_factor: (day, product) the day's random factor, mean 1; 0 where the product is off its shelf.
        size: Negative binomial size with the variance of `day_factor`.
        history: Days of history; later days are the future.
        scenario: Deviations of the scenario.
    """

    dates: Days
    category: Ints
    launch: Ints
    anchor: Floats
    slope: Floats
    potential: Floats
    cross: Floats
    lift: Floats
    level: Floats
    shock: Floats
    list_price: Floats
    is_promo: Bools
    comp_price: Floats
    uniform: Floats
    day_factor: Floats
    size: float
    history: int
    scenario: Scenario

    @property
    def elasticity(self) -> Floats:
        """(product,) long-run own-price elasticity at list price from the history's last day on."""
        return self.elasticity_on(self.history - 1)

    def elasticity_on(self, day: int) -> Floats:
        """(product,) long-run own-price elasticity, below 0, from total units of the 28 days from `day` on.

        The price is held 1 % above and 1 % below that day's list price, which is also the earlier price and the other
        products' price; household stock and reference price adjust, and nothing is advertised. Days past the end of the
        future are like the last one.
        """
        everyone = np.arange(len(self.anchor))
        list_price = self.list_price[day]
        prices = list_price[:, None] * np.array([1 + NUDGE, 1 - NUDGE])
        units = self.path(
            everyone,
            prices,
            days=np.minimum(day + np.arange(HELD_DAYS), len(self.dates) - 1),
            shoppers=Shoppers(household_stock=np.zeros(len(everyone)), memory=list_price),
            others=list_price,
            advertised=False,
        ).sum(axis=1)
        elasticity: Floats = np.log(units[:, 0] / units[:, 1]) / np.log((1 + NUDGE) / (1 - NUDGE))
        return elasticity

    def path(
        self,
        product: Ints,
        prices: Floats,
        *,
        days: Ints,
        shoppers: Shoppers,
        others: Floats,
        advertised: bool = True,
    ) -> Floats:
        """Expected units on consecutive days if each price is held, all else is constant and stock is unlimited.

        Args:
            product: (request,) products.
            prices: (request, price) in currency units.
            days: (day,) the days.
            shoppers: (request,) state at the first day's opening.
            others: (all products,) prices of all products, for substitution.
            advertised: Whether the advertising plan applies.

        Returns:
            (request, day, price) units.
        """
        state = Shoppers(shoppers.household_stock[:, None], shoppers.memory[:, None])
        units = np.empty((len(product), len(days), prices.shape[1]))
        for place, day in enumerate(days.tolist()):
            units[:, place] = self.expected_demand(
                product[:, None], day, prices, shoppers=state, others=others, advertised=advertised
            )
            list_price = self.list_price[day, product][:, None]
            household_stock = state.household_stock + self.stockpiled(
                prices, list_price=list_price, household_stock=state.household_stock
            )
            state = Shoppers(household_stock, self.next_reference_price(state.memory, prices))
        return units

    def expected_demand(
        self,
        product: Ints,
        day: int,
        price: ArrayLike,
        *,
        shoppers: Shoppers,
        others: Floats,
        advertised: bool = True,
    ) -> Floats:
        """Expected demand of one day in units, not limited by stock.

        Args:
            product: Products; broadcasts against `price` and `shoppers`.
            day: The day.
            price: Prices in currency units.
            shoppers: State at the day's opening.
            others: (all products,) prices of all products, for substitution.
            advertised: Whether the advertising plan applies.
        """
        price = np.asarray(price, dtype=np.float64)
        list_price = self.list_price[day, product]
        log_units = self._drawn(product, day, price, advertised=advertised) + self._felt(
            product, price, shoppers.memory
        )
        if self.scenario.nest is None:
            units = np.exp(self.level[day, product] + log_units)
        else:
            units = self._chosen(product, day, log_units, others, advertised=advertised)
        units = units * (1 + self.stockpiled(price, list_price=list_price, household_stock=shoppers.household_stock))
        return np.where(day >= self.launch[product], units, 0.0)

    def stockpiled(self, price: Floats, *, list_price: Floats, household_stock: Floats) -> Floats:
        """Change of household stock on a day, in days of use; below 0 where shoppers use up stock."""
        wanted = self.scenario.stockpile_days * np.maximum(np.log(list_price / price), 0.0)
        moved: Floats = (wanted - household_stock) / self.scenario.trip
        return np.maximum(moved, -1.0)

    def next_reference_price(self, memory: Floats, price: Floats) -> Floats:
        """Update the reference price after a day at `price`."""
        kept: Floats = self.scenario.memory * memory + (1 - self.scenario.memory) * price
        return kept

    def demand_units(self, day: int, expected: Floats) -> Ints:
        """(product,) demand of a day in units, given expected units; nondecreasing in `expected`."""
        return poisson_quantile(expected * self.day_factor[day], self.uniform[day])

    def _drawn(self, product: Ints, day: int, price: Floats, *, advertised: bool) -> Floats:
        """Effect of price, competitor and advertisement on log demand, relative to the anchor."""
        bend = self.scenario.bend
        anchor = self.anchor[product]
        answer: Floats = self.slope[product] / bend * (1 - (price / anchor) ** bend)
        answer = answer + self.cross[product] * (self.comp_price[day, product] / anchor - 1)
        if not advertised:
            return answer
        cut = np.clip((1 - price / self.list_price[day, product]) / FULL_CUT, 0, 1)
        drawn: Floats = answer + self.lift[product] * self.is_promo[day, product] * cut
        return drawn

    def _felt(self, product: Ints, price: Floats, memory: Floats) -> Floats:
        """Reference-price effect on log demand."""
        gap = np.log(memory / price)
        pull = self.scenario.gain * np.maximum(gap, 0) + self.scenario.loss * np.minimum(gap, 0)
        felt: Floats = self.slope[product] * pull
        return felt

    def other_products_profit(
        self, product: Ints, day: int, price: Floats, *, others: Floats, unit_cost: Floats
    ) -> Floats:
        """Expected profit of the category's other products on a day, at prices of one product (nested logit).

        Args:
            product: Products; broadcasts against `price`.
            day: The day.
            price: Prices in currency units.
            others: (all products,) prices of all products.
            unit_cost: (all products,) the day's costs.
        """
        everyone = np.arange(len(self.anchor))
        weight = self._weight(everyone, day, self._drawn(everyone, day, others, advertised=True))
        worth = weight * (others - unit_cost)
        own = self._weight(product, day, self._drawn(product, day, price, advertised=True))
        rest, money = (
            (np.bincount(self.category, values)[self.category] - values)[product] for values in (weight, worth)
        )
        beside: Floats = money * self._visits(product, own + np.maximum(rest, 0.0))
        return beside

    def _weight(self, product: Ints, day: int, log_units: Floats) -> Floats:
        """A product's attraction in its nest: its share of the category's units at the anchors times exp(log_units)."""
        usual = np.log(self.potential * self.scenario.inside)[product]
        return np.where(day >= self.launch[product], np.exp(self.level[day, product] - usual + log_units), 0.0)

    def _visits(self, product: Ints, total: Floats) -> Floats:
        """Shoppers who buy in a category, per unit of its products' total attraction."""
        inside = self.scenario.inside
        draw = inside / (1 - inside) * total ** (1 - (self.scenario.nest or 0.0))
        visits: Floats = self.potential[product] * draw / (1 + draw) / np.maximum(total, 1e-300)
        return visits

    def _chosen(self, product: Ints, day: int, log_units: Floats, others: Floats, *, advertised: bool) -> Floats:
        """Expected units in a nested logit with outside option, the other products at prices `others`."""
        everyone = np.arange(len(self.anchor))
        theirs = self._weight(everyone, day, self._drawn(everyone, day, others, advertised=advertised))
        rest = (np.bincount(self.category, theirs)[self.category] - theirs)[product]
        own = self._weight(product, day, log_units)
        chosen: Floats = own * self._visits(product, own + np.maximum(rest, 0.0))
        return chosen
