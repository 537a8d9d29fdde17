"""True demand of households that choose among a category's products and the rest of the world, day by day."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pricing.arrays import Floats, Ints
from simulation.truth import MEMORY, Shoppers, Truth

# Latent classes of households, and the price sensitivity of each relative to the mean, which is 1 (Kamakura & Russell
# 1989): half are average, the others care much less or much more.
CLASS_SHARE = np.array([0.25, 0.5, 0.25])
CLASS_SENSITIVITY = np.array([0.4, 1.0, 1.6])
HALVES = 2  # nests of a category, as brands and private label: half of its products each
BUYS = 0.10  # share of households that buy in a category on a day at first list prices: about every ten days
# Days of use at home at rest. Households eat this part of their stock a day: more where they have more (Ailawadi &
# Neslin 1998; Bell, Chiang & Padmanabhan 1999). A change of stock is half gone after ten days, and a dip after a cut
# over in about six weeks (van Heerde, Leeflang & Wittink 2004).
PANTRY = 28.0
# Log odds of buying in a category that a day of use more at home takes away. With it, half of what a cut adds to a
# category comes back as a later dip, and half is eaten: a cut's extra units are about a third each other products',
# later weeks' and new (van Heerde, Leeflang & Wittink 2004).
FULLNESS = 1 / (PANTRY * (1 - BUYS))
NEVER = 1e-300  # in place of an attraction of 0, to divide by


class Choice(NamedTuple):
    """Choices of a day at candidate prices of one product at a time."""

    units: Floats  # (class, request, price) expected units of the product
    beside: Floats  # (request, price) what the category's other products earn
    bought: Floats  # (class, request, price) expected units of the whole category


@dataclass(frozen=True)
class ChoiceTruth(Truth):
    """Nested logit with latent classes, pantries and reference prices.

    A household buys in a category or not, in one half of it, and one product there. Utility is linear in the price as a
    share of the first list price: money spent is money not spent elsewhere, at a constant rate where a category is a
    small part of income (Guadagni & Little 1983), so that elasticities grow with price. In log price a category would
    be about unit elastic at every price, and its best price have no bound.

    At first list prices, competitor's too, with nothing advertised, all products launched and pantries at rest, a
    product's expected units are exp(`level`): shares are inverted to utilities (Berry 1994). What moves the level of a
    category moves the number of households, and their appetite.

    `Shoppers.household_stock` is (class, product), the excess stock of the product's category over rest in days of use;
    one array of zeros for all classes is rest. `Shoppers.memory`, (product,), is every product's reference price.
    """

    @cached_property
    def half(self) -> Ints:
        """(product,) number of its nest: the products of a category belong to its halves in turn."""
        earlier = np.tril(self.category[:, None] == self.category, -1).sum(axis=1)
        return np.asarray(HALVES * self.category + earlier % HALVES)

    @cached_property
    def usual(self) -> Floats:
        """(product,) units a day that its category sells at rest, before calendar and shocks."""
        return np.asarray(np.bincount(self.category, np.exp(self.log_volume))[self.category])

    @cached_property
    def crowd(self) -> Floats:
        """(day, product) units of its category at rest, relative to `usual`."""
        crowd: Floats = self._in_category(self._by_half(np.exp(self.level.astype(np.float64)))) / self.usual
        return crowd

    @cached_property
    def attraction(self) -> Floats:
        """(day, product) log attraction in its half at first list prices, which gives it its share of the units."""
        units = np.exp(self.level.astype(np.float64))
        halves = self._by_half(units)
        category = self._in_category(halves)
        correlation = self._correlation
        share = np.log(halves[:, self.half] / category)
        attraction: Floats = np.log(units / category) + correlation / (1 - correlation) * share
        return attraction

    def path(
        self, product: Ints, prices: Floats, *, days: Ints, comp_price: Floats, shoppers: Shoppers, others: Floats
    ) -> Floats:
        """(request, day, price) expected units at held prices; see `Truth.path`. `comp_price` is not read."""
        nothing = np.zeros((len(days), 1))
        return self._held(product, prices, days=days, shoppers=shoppers, others=others, margin=nothing)[0]

    def beside_path(
        self, product: Ints, prices: Floats, *, days: Ints, shoppers: Shoppers, others: Floats, margin: Floats
    ) -> Floats:
        """(request, day, price) expected profit of the category's other products; see `Truth.beside_path`."""
        return self._held(product, prices, days=days, shoppers=shoppers, others=others, margin=margin)[1]

    def expected_demand(
        self,
        product: ArrayLike,
        day: ArrayLike,
        price: ArrayLike,
        *,
        comp_price: ArrayLike = np.nan,
        shoppers: Shoppers | None = None,
        others: Floats | None = None,
    ) -> Floats:
        """Expected demand of a day in units, not limited by stock; see `Truth.expected_demand`.

        Args:
            product: (request,) rows of the products.
            day: One day.
            price: (request,) or (request, price) prices; those of all products if `others` is None.
            comp_price: Not read: the competitor's prices are drawn beforehand.
            shoppers: State of all products; None for pantries at rest and households that remember no price.
            others: (all products,) the prices of all products.
        """
        product, price = np.asarray(product), np.asarray(price, dtype=np.float64)
        others = price if others is None else others
        if shoppers is None:
            shoppers = Shoppers(np.zeros(len(others)), np.full(len(others), np.nan))
        rows, own = price.reshape(len(product), -1), _of(shoppers, product)
        choice = self._choose(product, int(np.asarray(day)), rows, own=own, shoppers=shoppers, others=others)
        return np.asarray(choice.units.sum(axis=0).reshape(price.shape))

    def after_day(
        self, shoppers: Shoppers, price: Floats, *, day: int, demand: Floats | Ints, units: Floats | Ints
    ) -> Shoppers:
        """Fill the pantries with the `units` sold, which classes buy as expected, and eat from them."""
        everyone = np.arange(len(price))
        own = _of(shoppers, everyone)
        choice = self._choose(everyone, day, price[:, None], own=own, shoppers=shoppers, others=price)
        expected = choice.units[..., 0]
        bought = expected * units / np.maximum(expected.sum(axis=0), NEVER)
        bought = self._in_category(self._by_half(bought))
        home = self._next_home(shoppers.household_stock, bought, everyone, day, classes=CLASS_SHARE[:, None])
        return Shoppers(home, MEMORY * shoppers.memory + (1 - MEMORY) * price)

    def _held(
        self, product: Ints, prices: Floats, *, days: Ints, shoppers: Shoppers, others: Floats, margin: Floats
    ) -> tuple[Floats, Floats]:
        """(request, day, price) expected units and the others' profit, the state going the way of each price."""
        own = _of(shoppers, product)
        units = np.empty((len(product), len(days), prices.shape[1]))
        beside = np.empty_like(units)
        for place, day in enumerate(days.tolist()):
            choice = self._choose(product, day, prices, own=own, shoppers=shoppers, others=others, margin=margin[place])
            units[:, place] = choice.units.sum(axis=0)
            beside[:, place] = choice.beside
            home = self._next_home(
                own.household_stock, choice.bought, product[:, None], day, classes=CLASS_SHARE[:, None, None]
            )
            own = Shoppers(home, MEMORY * own.memory + (1 - MEMORY) * prices)
            shoppers = replace(shoppers, memory=MEMORY * shoppers.memory + (1 - MEMORY) * others)
        return units, beside

    def _choose(
        self,
        product: Ints,
        day: int,
        prices: Floats,
        *,
        own: Shoppers,
        shoppers: Shoppers,
        others: Floats,
        margin: Floats | float = 0.0,
    ) -> Choice:
        """Choices at (request, price) `prices` of one product at a time, all others at `others`.

        `own` is the state of a request's category and of the product's reference price, (…, request, price); `margin`,
        (all products,), is what a unit of each earns.
        """
        half = self.half[product]
        each = self._weight(np.arange(len(others)), day, others, shoppers)  # (class, product)
        mine = self._weight(product[:, None], day, prices, own)  # (class, request, price)
        halves = self._by_half(each)  # (class, half)
        here = (halves[:, half] - each[:, product]).clip(0)[..., None]  # its half but for the product
        nests = halves ** (1 - self._correlation)
        elsewhere = (self._over_halves(nests)[:, self.category[product]] - nests[:, half])[..., None]

        together = np.maximum(mine + here, NEVER)
        nest = together ** (1 - self._correlation)
        total = nest + elsewhere
        households = self.usual[product] * self.crowd[day, product] / BUYS
        drawn = BUYS / (1 - BUYS) * np.exp(-FULLNESS * own.household_stock) * total
        bought = CLASS_SHARE[:, None, None] * households[:, None] * drawn / (1 + drawn)
        visits = bought / np.maximum(total, NEVER)
        inside = visits * nest / together  # units of a product of its half per unit of attraction

        earning_each = margin * each
        earning = self._by_half(earning_each)
        earning_here = (earning[:, half] - earning_each[:, product])[..., None]
        earned = earning * nests / np.maximum(halves, NEVER)
        earning_elsewhere = (self._over_halves(earned)[:, self.category[product]] - earned[:, half])[..., None]
        beside = (earning_here * inside + earning_elsewhere * visits).sum(axis=0)
        return Choice(mine * inside, beside, bought)

    def _weight(self, product: Ints, day: int, price: Floats, shoppers: Shoppers) -> Floats:  # type: ignore[override]
        """(class, …) attraction of products in their halves at these prices."""
        anchor = self.anchor[product]
        rival = self.cross[product] * (self._rival_price(product, np.asarray(day), np.nan) / anchor - 1)
        free = self.attraction[day, product] + rival + self._advertised(product, np.asarray(day), price)
        remembered = np.nan_to_num(self._remembered(product, price, shoppers))
        felt = self.slope[product] * (1 - price / anchor) + remembered
        sensitivity = CLASS_SENSITIVITY.reshape(-1, *([1] * felt.ndim))
        return np.where(day >= self.launch[product], np.exp(free + sensitivity * felt), 0.0)

    def _next_home(self, home: Floats, bought: Floats, product: Ints, day: int, *, classes: Floats) -> Floats:
        """Excess stock after a day on which households `bought` and ate a part of what they had."""
        eaten = self.crowd[day, product] * (PANTRY + home) / PANTRY
        after: Floats = home + bought / (classes * self.usual[product]) - eaten
        return after

    @property
    def _correlation(self) -> float:
        return self.features.nest or 0.0

    def _by_half(self, values: Floats) -> Floats:
        """Sum (…, product) `values` to (…, half), always in the same order."""
        summed = np.zeros((HALVES * (int(self.category.max()) + 1), len(values)))
        np.add.at(summed, self.half, values.T)
        return summed.T

    def _over_halves(self, values: Floats) -> Floats:
        """Sum (…, half) `values` to (…, category)."""
        summed: Floats = values.reshape(len(values), -1, HALVES).sum(axis=2)
        return summed

    def _in_category(self, values: Floats) -> Floats:
        """(…, product) sum of the (…, half) `values` of its category."""
        return self._over_halves(values)[:, self.category]


def _of(shoppers: Shoppers, product: Ints) -> Shoppers:
    """The state of these products, with an axis for prices."""
    return Shoppers(shoppers.household_stock[..., product, None], shoppers.memory[product, None])
