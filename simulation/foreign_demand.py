"""The foreign markets' hidden truth: demand that bends in price, shoppers who remember, products that substitute."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pricing.arrays import Bools, Days, Floats, Ints
from simulation.foreign_config import HELD_DAYS, Scenario
from simulation.truth import poisson_quantile

FULL_CUT = 0.10  # the cut below list from which an advertisement draws fully
NUDGE = 0.01  # how far, a share of the price, a finite difference goes up and down


@dataclass(frozen=True)
class Shoppers:
    """What shoppers carry from one day to the next; arrays of one shape, or of shapes that broadcast.

    Attributes:
        home: Days of use that they have at home beyond the usual.
        memory: The price that they remember, currency units.
    """

    home: Floats
    memory: Floats


@dataclass(frozen=True)
class ForeignTruth:
    """Everything about demand that no policy but the oracle may know.

    Attributes:
        dates: (day,) history and future.
        category: (product,) row among the categories.
        launch: (product,) first day on sale.
        anchor: (product,) first list price, at which `level` is stated.
        slope: (product,) size of the elasticity at the anchor; in a nest, of what it would be with no other product
            there and nobody staying away.
        potential: (product,) shoppers a day who consider its category; of no matter outside nests.
        cross: (product,) response of log demand to the competitor's price over the anchor, less 1.
        lift: (product,) log lift of an advertised price that is really cut.
        level: (day, product) log of expected units at the anchor, the competitor there too, shocks included.
        shock: (day, product) the part of `level` that is hidden and passes.
        list_price: (day, product) regular price; no policy moves it.
        is_promo: (day, product) the advertising plan; no policy moves it.
        comp_price: (day, product) the competitor's price, which does not answer to anybody.
        uniform: (day, product) the shoppers: one uniform for each product and day, whatever the price.
        crowd: (day, product) the day's own factor, mean 1; 0 where the product is off its shelf.
        size: Size of the negative binomial whose variance the crowd has.
        history: Days of history; later days are the future.
        scenario: What is different here.
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
    crowd: Floats
    size: float
    history: int
    scenario: Scenario

    @property
    def elasticity(self) -> Floats:
        """(product,) long-run own-price elasticity at list price from the history's last day on."""
        return self.elasticity_on(self.history - 1)

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity in the long run, below 0: units of the 28 days from `day` on.

        The price is held 1 % above and 1 % below that day's list price, at which it stood before and at which all
        other prices stand; what shoppers lay in and remember goes its way, and nothing is advertised. Days past the
        end of the future are like the last one.
        """
        everyone = np.arange(len(self.anchor))
        list_price = self.list_price[day]
        prices = list_price[:, None] * np.array([1 + NUDGE, 1 - NUDGE])
        units = self.path(
            everyone,
            prices,
            days=np.minimum(day + np.arange(HELD_DAYS), len(self.dates) - 1),
            shoppers=Shoppers(home=np.zeros(len(everyone)), memory=list_price),
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
        """Expected units on each of some days in a row, were each price held, nothing else moved and no shelf empty.

        Args:
            product: (request,) products.
            prices: (request, price) in currency units.
            days: (day,) the days.
            shoppers: (request,) as they are at the first day's opening.
            others: (every product,) what all products cost meanwhile, for those that substitute each other.
            advertised: Whether the advertising plan is kept to.

        Returns:
            (request, day, price) units.
        """
        state = Shoppers(shoppers.home[:, None], shoppers.memory[:, None])
        units = np.empty((len(product), len(days), prices.shape[1]))
        for place, day in enumerate(days.tolist()):
            units[:, place] = self.expected_demand(
                product[:, None], day, prices, shoppers=state, others=others, advertised=advertised
            )
            list_price = self.list_price[day, product][:, None]
            home = state.home + self.laid_in(prices, list_price=list_price, home=state.home)
            state = Shoppers(home, self.remembered(state.memory, prices))
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
        """Expected units of one day, shoppers turned away by empty shelves included.

        Args:
            product: Products; broadcasts against `price` and `shoppers`.
            day: The day.
            price: Prices in currency units.
            shoppers: As they are at the day's opening.
            others: (every product,) what all products cost, for those that substitute each other.
            advertised: Whether the advertising plan is kept to.
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
        units = units * (1 + self.laid_in(price, list_price=list_price, home=shoppers.home))
        return np.where(day >= self.launch[product], units, 0.0)

    def laid_in(self, price: Floats, *, list_price: Floats, home: Floats) -> Floats:
        """Days of use by which a day's purchases pass its use; below 0 where shoppers live on what they have."""
        wanted = self.scenario.pantry * np.maximum(np.log(list_price / price), 0.0)
        moved: Floats = (wanted - home) / self.scenario.trip
        return np.maximum(moved, -1.0)

    def remembered(self, memory: Floats, price: Floats) -> Floats:
        """The price that shoppers remember after a day on which they saw `price`."""
        kept: Floats = self.scenario.memory * memory + (1 - self.scenario.memory) * price
        return kept

    def buyers(self, day: int, expected: Floats) -> Ints:
        """(product,) units demanded on a day, given what is expected; never falls when `expected` rises."""
        return poisson_quantile(expected * self.crowd[day], self.uniform[day])

    def _drawn(self, product: Ints, day: int, price: Floats, *, advertised: bool) -> Floats:
        """What price, competitor and advertisement do to log demand, against the anchor."""
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
        """What a price dearer or cheaper than the remembered one does to log demand."""
        gap = np.log(memory / price)
        pull = self.scenario.gain * np.maximum(gap, 0) + self.scenario.loss * np.minimum(gap, 0)
        felt: Floats = self.slope[product] * pull
        return felt

    def earned_beside(self, product: Ints, day: int, price: Floats, *, others: Floats, unit_cost: Floats) -> Floats:
        """Money over cost that a day's other products of the category earn in a nest, at prices of one product.

        Args:
            product: Products; broadcasts against `price`.
            day: The day.
            price: Prices in currency units.
            others: (every product,) what all products cost.
            unit_cost: (every product,) the day's costs.
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
        """A product's pull inside its nest: its share of the category's units at the anchors, and what moves it."""
        usual = np.log(self.potential * self.scenario.inside)[product]
        return np.where(day >= self.launch[product], np.exp(self.level[day, product] - usual + log_units), 0.0)

    def _visits(self, product: Ints, total: Floats) -> Floats:
        """Shoppers of a category who buy in it, per unit of its products' pull together."""
        inside = self.scenario.inside
        draw = inside / (1 - inside) * total ** (1 - (self.scenario.nest or 0.0))
        visits: Floats = self.potential[product] * draw / (1 + draw) / np.maximum(total, 1e-300)
        return visits

    def _chosen(self, product: Ints, day: int, log_units: Floats, others: Floats, *, advertised: bool) -> Floats:
        """Units where a category is a nest beside the outside option, the other products at `others`."""
        everyone = np.arange(len(self.anchor))
        theirs = self._weight(everyone, day, self._drawn(everyone, day, others, advertised=advertised))
        rest = (np.bincount(self.category, theirs)[self.category] - theirs)[product]
        own = self._weight(product, day, log_units)
        chosen: Floats = own * self._visits(product, own + np.maximum(rest, 0.0))
        return chosen
