"""True demand of a market: its parameters, drawn once, and the demand equations."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pricing.arrays import Bools, Days, Floats, Ints, weekday_of
from simulation.assortment import Assortment
from simulation.config import HELD_DAYS, INSIDE
from simulation.kinds import Kind

LOG_RANGE = 0.7  # log price distance from the anchor beyond which a quadratic curve's elasticity is constant
FULL_CUT = 0.10  # cut below list from which an advertisement has its full effect
NUDGE = 0.01  # relative price step of finite differences
TRIP = 14.0  # days over which shoppers adjust to the desired household stock: two weeks of shopping trips
MEMORY = 0.93  # daily carry-over of a reference price: 0.6 a week (Greenleaf 1995; Briesch et al. 1997)
EXACT_BELOW = 30.0  # Poisson quantiles are exact for means below this


@dataclass(frozen=True)
class Shoppers:
    """Shoppers' state between days; arrays that broadcast against each other."""

    household_stock: Floats  # excess household stock, in days of use
    memory: Floats  # reference price, currency units


@dataclass(frozen=True)
class Truth(Assortment):
    """Products, levels and equations of demand; hidden from all policies but the oracle.

    The elasticity is proportional to a power of the price; a subclass has another curve of demand. Stockpiling,
    reference prices and substitution are as the kind's settings have them.
    """

    features: Kind  # settings of the market's kind
    dates: Days  # (day,) history and future
    anchor: Floats  # (product,) first list price, at which `level` is stated
    potential: Floats  # (product,) shoppers a day who consider its category; not used outside nests
    level: Floats  # (day, product) log expected units with own and competitor's price at the anchor, shocks included
    shock: Floats  # (day, product) hidden, transitory part of `level`
    list_price: Floats  # (day, product) regular price; independent of the policy
    is_promo: Bools  # (day, product) advertising plan; independent of the policy
    comp_price: Floats | None  # (day, product) competitor's price where it is exogenous; None for one who reacts
    uniform: Floats  # (day, product) uniform random number for demand, common to all prices
    day_factor: Floats  # (day, product) random factor of the day, mean 1; 0 where the product is off its shelf
    size: float  # size of the negative binomial approximating a day's demand
    history: int  # days of history; later days are the future

    @property
    def elasticity(self) -> Floats:
        """(product,) own-price elasticity at list price on the history's last day; below 0."""
        return self.elasticity_on(self.history - 1)

    def elasticity_on(self, day: int) -> Floats:
        """(product,) long-run own-price elasticity, below 0, from total units of the 28 days from `day` on.

        The price is held 1 % above and 1 % below that day's list price, which is also the earlier price and the other
        products' price; household stock and reference price adjust, and nothing is advertised. Days past the end of the
        future are like the last one.
        """
        quiet, held = self._held_from(day)
        units = quiet.path(**held, comp_price=self.list_price[day]).sum(axis=1)
        elasticity: Floats = np.log(units[:, 0] / units[:, 1]) / np.log((1 + NUDGE) / (1 - NUDGE))
        return elasticity

    def diversion_on(self, day: int) -> Floats:
        """(product,) share, 0 to 1, of the units lost to a dearer price that other products of the category win.

        Prices, days and states are those of `elasticity_on`; 0 where products are no substitutes, and before a launch.
        """
        share = np.zeros(len(self.anchor))
        if self.features.nest is None:
            return share
        quiet, held = self._held_from(day)
        own = quiet.path(**held, comp_price=self.list_price[day]).sum(axis=1)
        beside = quiet.beside_path(**held, margin=np.ones((HELD_DAYS, len(share)))).sum(axis=1)
        lost = own[:, 1] - own[:, 0]
        np.divide(beside[:, 0] - beside[:, 1], lost, where=lost > 0, out=share)
        return share

    def _held_from(self, day: int) -> tuple["Truth", dict[str, Any]]:
        """Return the truth without advertisements, and arguments of its paths: prices 1 % above and 1 % below list."""
        everyone, list_price = np.arange(len(self.anchor)), self.list_price[day]
        held = {
            "product": everyone,
            "prices": list_price[:, None] * np.array([1 + NUDGE, 1 - NUDGE]),
            "days": np.minimum(day + np.arange(HELD_DAYS), len(self.dates) - 1),
            "shoppers": Shoppers(household_stock=np.zeros(len(everyone)), memory=list_price),
            "others": list_price,
        }
        return replace(self, is_promo=np.zeros_like(self.is_promo)), held

    def path(
        self, product: Ints, prices: Floats, *, days: Ints, comp_price: Floats, shoppers: Shoppers, others: Floats
    ) -> Floats:
        """(request, day, price) expected units at held prices, the shoppers' state going the way of each price.

        `comp_price` is (request,); `others`, (all products,), are the prices of all products, and `shoppers` the state
        of all. See `Market.outlook`.
        """
        state = Shoppers(shoppers.household_stock[product, None], shoppers.memory[product, None])
        units = np.empty((len(product), len(days), prices.shape[1]))
        for place, day in enumerate(days.tolist()):
            units[:, place] = self.expected_demand(
                product[:, None], day, prices, comp_price=comp_price[:, None], shoppers=state, others=others
            )
            list_price = self.list_price[day, product][:, None]
            state = self.next_shoppers(state, prices, list_price=list_price, served=1.0)
        return units

    def beside_path(
        self, product: Ints, prices: Floats, *, days: Ints, shoppers: Shoppers, others: Floats, margin: Floats
    ) -> Floats:
        """(request, day, price) expected profit of the category's other products, at held prices of one product.

        `margin`, (day, all products), is theirs; other arguments as in `path`. Zeros of a broadcastable shape if
        products are no substitutes.
        """
        if self.features.nest is None:
            return np.zeros((1, 1, 1))
        earned = [
            self.other_products_profit(product[:, None], day, prices, others=others, margin=margin[place])
            for place, day in enumerate(days.tolist())
        ]
        return np.stack(earned, axis=1)

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
        """Expected demand in units, not limited by stock. Prices are in currency units.

        The arguments but `others` broadcast against each other.

        Args:
            product: Rows of the products.
            day: Days; one where products are substitutes.
            price: Prices charged.
            comp_price: The competitor's prices; not read where they are exogenous.
            shoppers: Shoppers' state; None for those who have nothing at home and remember no price.
            others: (all products,) the prices of all products, which substitutes need; None if `price` is these.
        """
        product, day = np.asarray(product), np.asarray(day)
        price = np.asarray(price, dtype=np.float64)
        if self.features.nest is None:
            units = np.exp(self._log_units(self.level[day, product], product, day, price, comp_price, shoppers))
        else:
            rest = self._beside(product, self._attraction(day, price if others is None else others))
            own = self._weight(product, day, price, shoppers)
            units = own * self._visits(product, own + np.maximum(rest, 0.0))
        if shoppers is not None:
            list_price = self.list_price[day, product]
            at_home = shoppers.household_stock
            units = units * (1 + self.stockpiled(price, list_price=list_price, household_stock=at_home))
        return np.where(day >= self.launch[product], units, 0.0)

    def demand_units(self, day: int, expected: Floats) -> Ints:
        """(product,) demand of a day in units, given expected units; nondecreasing in `expected`."""
        return poisson_quantile(expected * self.day_factor[day], self.uniform[day])

    def stockpiled(self, price: Floats, *, list_price: Floats, household_stock: Floats) -> Floats:
        """Change of household stock on a day, in days of use; below 0 where shoppers use up stock."""
        wanted = self.features.stockpile_days * np.maximum(np.log(list_price / price), 0.0)
        moved: Floats = (wanted - household_stock) / TRIP
        return np.maximum(moved, -1.0)

    def next_shoppers(
        self, shoppers: Shoppers, price: Floats, *, list_price: Floats, served: Floats | float
    ) -> Shoppers:
        """Update the shoppers' state after a day at `price` on which a share `served` got what they wanted."""
        stockpiled = self.stockpiled(price, list_price=list_price, household_stock=shoppers.household_stock)
        stockpiled = np.where(stockpiled > 0, stockpiled * served, stockpiled)
        return Shoppers(shoppers.household_stock + stockpiled, MEMORY * shoppers.memory + (1 - MEMORY) * price)

    def after_day(
        self, shoppers: Shoppers, price: Floats, *, day: int, demand: Floats | Ints, units: Floats | Ints
    ) -> Shoppers:
        """Update the shoppers' state of all products after a day on which `units` of the `demand` were sold."""
        served = np.where(demand > 0, units / np.maximum(demand, 1), 1.0)
        return self.next_shoppers(shoppers, price, list_price=self.list_price[day], served=served)

    def _log_units(
        self,
        level: Floats,
        product: Ints,
        day: Ints,
        price: Floats,
        comp_price: ArrayLike,
        shoppers: Shoppers | None,
    ) -> Floats:
        """`level` plus the effects of price, competitor, advertisement and reference price on log demand."""
        bend, anchor = self.features.bend, self.anchor[product]
        answer = self.slope[product] / bend * (1 - (price / anchor) ** bend)
        rival = self.cross[product] * (self._rival_price(product, day, comp_price) / anchor - 1)
        advertised = self._advertised(product, day, price)
        total: Floats = level + (answer + rival + advertised + self._remembered(product, price, shoppers))
        return total

    def _rival_price(self, product: Ints, day: Ints, comp_price: ArrayLike) -> Floats:
        """The competitor's price: the true one where it is exogenous, else `comp_price`."""
        return np.asarray(comp_price if self.comp_price is None else self.comp_price[day, product])

    def _remembered(self, product: Ints, price: Floats, shoppers: Shoppers | None) -> Floats | float:
        """Effect of the reference price on log demand."""
        if shoppers is None:
            return 0.0
        gap = np.log(shoppers.memory / price)
        felt: Floats = self.features.gain * np.maximum(gap, 0) + self.features.loss * np.minimum(gap, 0)
        return self.slope[product] * felt

    def _advertised(self, product: Ints, day: Ints, price: Floats) -> Floats:
        """Effect of the advertising plan on log demand: none at list price, full from 10 % below."""
        cut = np.clip((1 - price / self.list_price[day, product]) / FULL_CUT, 0, 1)
        drawn: Floats = self.lift[product] * self.is_promo[day, product] * cut
        return drawn

    def usual_at_launch(self, product: Ints, day: int, comp_price: Floats) -> Floats:
        """Units that the buyer expects of a new product: without the day's shock."""
        usual: Floats = np.exp(self.level[day, product] - self.shock[day, product])
        return usual

    def other_products_profit(
        self, product: Ints, day: Ints, price: Floats, *, others: Floats, margin: Floats
    ) -> Floats:
        """Expected profit of the category's other products on a day, at prices of one product (nested logit).

        Products broadcast against prices; `others` and `margin` are prices and margins of all products.
        """
        weight = self._attraction(day, others)
        own = self._weight(product, day, price)
        visits = self._visits(product, own + np.maximum(self._beside(product, weight), 0.0))
        return self._beside(product, weight * margin) * visits

    def _weight(self, product: Ints, day: Ints, price: Floats, shoppers: Shoppers | None = None) -> Floats:
        """A product's attraction in its nest: at the anchors, its share of the category's units."""
        level = self.level[day, product] - np.log(self.potential * INSIDE)[product]
        weight = np.exp(self._log_units(level, product, day, price, np.nan, shoppers))
        return np.where(day >= self.launch[product], weight, 0.0)

    def _attraction(self, day: Ints, prices: Floats) -> Floats:
        """(all products,) attraction of every product at these prices."""
        return self._weight(np.arange(len(self.anchor)), day, prices)

    def _beside(self, product: Ints, values: Floats) -> Floats:
        """Sum of (all products,) `values` over the other products of each one's category."""
        summed: Floats = np.bincount(self.category, values)[self.category] - values
        return summed[product]

    def _visits(self, product: Ints, total: Floats) -> Floats:
        """Shoppers who buy in a category, per unit of its products' total attraction."""
        draw = INSIDE / (1 - INSIDE) * total ** (1 - (self.features.nest or 0.0))
        visits: Floats = self.potential[product] * draw / (1 + draw) / np.maximum(total, 1e-300)
        return visits


@dataclass(frozen=True)
class QuadraticTruth(Truth):
    """Demand that is quadratic in logs near the anchor."""

    def _log_units(
        self,
        level: Floats,
        product: Ints,
        day: Ints,
        price: Floats,
        comp_price: ArrayLike,
        shoppers: Shoppers | None,
    ) -> Floats:
        is_weekend = weekday_of(self.dates)[day] >= 5
        slope = self.slope[product] * (1 + self.weekend[product] * is_weekend)
        distance = np.log(price / self.anchor[product])
        near = np.clip(distance, -LOG_RANGE, LOG_RANGE)
        bend = self.curvature[product]
        answer = near + bend * near**2 / 2 + (distance - near) * (1 + bend * near)
        rival = self.cross[product] * np.log(self._rival_price(product, day, comp_price) / self.anchor[product])
        advertised = self._advertised(product, day, price)
        total: Floats = level - slope * answer + rival + advertised + self._remembered(product, price, shoppers)
        return total

    def usual_at_launch(self, product: Ints, day: int, comp_price: Floats) -> Floats:
        """Units that the buyer expects of a new product: those of the day at list price."""
        return self.expected_demand(product, day, self.list_price[day, product], comp_price=comp_price)

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity at that day's list price, averaged over a week without promotion."""
        slope = self.slope * (1 + self.weekend * 2 / 7)
        distance = np.clip(np.log(self.list_price[day] / self.anchor), -LOG_RANGE, LOG_RANGE)
        elasticity: Floats = -slope * (1 + self.curvature * distance)
        return elasticity


def poisson_quantile(mean: Floats, uniform: NDArray[np.floating]) -> Ints:
    """Poisson quantile at `uniform`: exact below a mean of 30, Cornish–Fisher above; nondecreasing in the mean."""
    mean, chance = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(uniform, dtype=np.float64))
    small = np.minimum(mean, EXACT_BELOW)
    found = np.ceil(np.nan_to_num(special.pdtrik(chance, small)))  # no number at a mean of 0
    count: Ints = (found - (special.pdtr(np.maximum(found - 1, 0), small) >= chance)).clip(0).astype(np.int64)
    large = np.flatnonzero(mean > EXACT_BELOW)
    middle, z = mean[large], special.ndtri(chance[large])
    far = np.floor(middle + z * np.sqrt(middle) + (z**2 - 1) / 6 + 0.5).astype(np.int64)
    count[large] = np.maximum(count[large], far)
    return count
