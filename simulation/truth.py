"""True demand of a market: its parameters, drawn once, and the demand equations of the families."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pricing.arrays import Bools, Days, Floats, Ints, weekday_of
from simulation.config import HELD_DAYS, Kind

HOLIDAYS = ("01-01", "02-14", "05-01", "07-04", "10-31", "11-11", "12-24", "12-25", "12-31")  # month-day, every year
LOG_RANGE = 0.7  # log price distance from the anchor beyond which the default elasticity is constant
FULL_CUT = 0.10  # cut below list from which an advertisement has its full effect
NUDGE = 0.01  # relative price step of finite differences
TRIP = 14.0  # days over which shoppers adjust to the desired household stock: two weeks of shopping trips
MEMORY = 0.93  # daily carry-over of a reference price: 0.6 a week (Greenleaf 1995; Briesch et al. 1997)
INSIDE = 0.3  # share of a nest's shoppers who buy at first list prices; the rest take the outside option
EXACT_BELOW = 30.0  # Poisson quantiles are exact for means below this


@dataclass(frozen=True)
class Shoppers:
    """Shoppers' state between days; arrays that broadcast against each other."""

    household_stock: Floats  # excess household stock, in days of use
    memory: Floats  # reference price, currency units


@dataclass(frozen=True)
class _Truth:
    """Parameters and state that the families' demand shares; hidden from all policies but the oracle."""

    features: Kind  # differences of the market's kind
    dates: Days  # (day,) history and future
    category: Ints  # (product,) row among the categories
    launch: Ints  # (product,) first day on sale
    anchor: Floats  # (product,) first list price, at which `level` is stated
    cross: Floats  # (product,) response of log demand to the competitor's price
    lift: Floats  # (product,) log lift of an advertised cut
    level: Floats  # (day, product) log expected units with own and competitor's price at the anchor, shocks included
    shock: Floats  # (day, product) hidden, transitory part of `level`
    list_price: Floats  # (day, product) regular price; independent of the policy
    is_promo: Bools  # (day, product) advertising plan; independent of the policy
    uniform: Floats  # (day, product) uniform random number for demand, common to all prices
    day_factor: Floats  # (day, product) random factor of the day, mean 1; 0 where the product is off its shelf
    size: float  # size of the negative binomial approximating a day's demand
    history: int  # days of history; later days are the future

    @property
    def elasticity(self) -> Floats:
        """(product,) own-price elasticity at list price on the history's last day; below 0."""
        return self.elasticity_on(self.history - 1)

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity at that day's list price."""
        raise NotImplementedError

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

    def _advertised(self, product: Ints, day: int | Ints, price: Floats) -> Floats:
        """Effect of the advertising plan on log demand: none at list price, full from 10 % below."""
        cut = np.clip((1 - price / self.list_price[day, product]) / FULL_CUT, 0, 1)
        drawn: Floats = self.lift[product] * self.is_promo[day, product] * cut
        return drawn


@dataclass(frozen=True)
class DefaultTruth(_Truth):
    """Demand that is quadratic in logs near the anchor; the competitor reacts, shoppers have no state."""

    slope: Floats  # (product,) size of the weekday elasticity at the anchor
    weekend: Floats  # (product,) relative change of the elasticity on weekends
    curvature: Floats  # (product,) growth of the elasticity per log unit of price

    def elasticity_on(self, day: int) -> Floats:
        """(product,) own-price elasticity at that day's list price, averaged over a week without promotion."""
        slope = self.slope * (1 + self.weekend * 2 / 7)
        distance = np.clip(np.log(self.list_price[day] / self.anchor), -LOG_RANGE, LOG_RANGE)
        elasticity: Floats = -slope * (1 + self.curvature * distance)
        return elasticity

    def expected_demand(
        self,
        product: ArrayLike,
        day: ArrayLike,
        price: ArrayLike,
        *,
        comp_price: ArrayLike,
        shoppers: Shoppers | None = None,
        others: Floats | None = None,
    ) -> Floats:
        """Expected demand in units, not limited by stock; of shoppers without state and products without substitutes.

        The arguments broadcast against each other; prices and competitor prices are in currency units.
        """
        product, day = np.asarray(product), np.asarray(day)
        price = np.asarray(price, dtype=np.float64)
        is_weekend = weekday_of(self.dates)[day] >= 5
        slope = self.slope[product] * (1 + self.weekend[product] * is_weekend)
        distance = np.log(price / self.anchor[product])
        near = np.clip(distance, -LOG_RANGE, LOG_RANGE)
        bend = self.curvature[product]
        answer = near + bend * near**2 / 2 + (distance - near) * (1 + bend * near)
        log_units = (
            self.level[day, product]
            - slope * answer
            + self.cross[product] * np.log(np.asarray(comp_price) / self.anchor[product])
            + self._advertised(product, day, price)
        )
        units: Floats = np.where(day >= self.launch[product], np.exp(log_units), 0.0)
        return units

    def at_launch(self, product: Ints, day: int, comp_price: Floats) -> Floats:
        """Expected units at list price."""
        return self.expected_demand(product, day, self.list_price[day, product], comp_price=comp_price)

    def path(
        self, product: Ints, prices: Floats, *, days: Ints, comp_price: Floats, shoppers: Shoppers, others: Floats
    ) -> Floats:
        """(request, day, price) expected units at held prices; `comp_price` and `shoppers` are (request,).

        See `Market.outlook`; `others`, (all products,), are the prices of all products.
        """
        return self.expected_demand(
            product[:, None, None], days[:, None], prices[:, None, :], comp_price=comp_price[:, None, None]
        )


@dataclass(frozen=True)
class ForeignTruth(_Truth):
    """Demand with variable elasticity, stockpiling, reference prices and substitution, as the kind says."""

    # (product,) size of the elasticity at the anchor; in a nest, of the product's utility: without substitutes and
    # outside option.
    slope: Floats
    potential: Floats  # (product,) shoppers a day who consider its category; not used outside nests
    comp_price: Floats  # (day, product) competitor's price, exogenous

    def elasticity_on(self, day: int) -> Floats:
        """(product,) long-run own-price elasticity, below 0, from total units of the 28 days from `day` on.

        The price is held 1 % above and 1 % below that day's list price, which is also the earlier price and the other
        products' price; household stock and reference price adjust, and nothing is advertised. Days past the end of the
        future are like the last one.
        """
        everyone, list_price = np.arange(len(self.anchor)), self.list_price[day]
        units = (
            replace(self, is_promo=np.zeros_like(self.is_promo))
            .path(
                everyone,
                list_price[:, None] * np.array([1 + NUDGE, 1 - NUDGE]),
                days=np.minimum(day + np.arange(HELD_DAYS), len(self.dates) - 1),
                comp_price=list_price,
                shoppers=Shoppers(household_stock=np.zeros(len(everyone)), memory=list_price),
                others=list_price,
            )
            .sum(axis=1)
        )
        elasticity: Floats = np.log(units[:, 0] / units[:, 1]) / np.log((1 + NUDGE) / (1 - NUDGE))
        return elasticity

    def path(
        self, product: Ints, prices: Floats, *, days: Ints, comp_price: Floats, shoppers: Shoppers, others: Floats
    ) -> Floats:
        """Expected units on each day, the shoppers' state going the way of each price; see `DefaultTruth.path`."""
        state = Shoppers(shoppers.household_stock[:, None], shoppers.memory[:, None])
        units = np.empty((len(product), len(days), prices.shape[1]))
        for place, day in enumerate(days.tolist()):
            units[:, place] = self.expected_demand(product[:, None], day, prices, shoppers=state, others=others)
            list_price = self.list_price[day, product][:, None]
            state = self.next_shoppers(state, prices, list_price=list_price, served=1.0)
        return units

    def expected_demand(
        self,
        product: Ints,
        day: int,
        price: ArrayLike,
        *,
        shoppers: Shoppers,
        others: Floats,
        comp_price: Floats | None = None,
    ) -> Floats:
        """Expected demand of one day in units, not limited by stock, at the true competitor's price.

        Products, prices and the shoppers' state broadcast; `others`, (all products,), are the prices of all products.
        """
        price = np.asarray(price, dtype=np.float64)
        list_price = self.list_price[day, product]
        gap = np.log(shoppers.memory / price)
        felt = self.slope[product] * (self.features.gain * np.maximum(gap, 0) + self.features.loss * np.minimum(gap, 0))
        log_units = self._drawn(product, day, price) + felt
        if self.features.nest is None:
            units = np.exp(self.level[day, product] + log_units)
        else:
            rest = self._beside(product, self._attraction(day, others))
            own = self._weight(product, day, log_units)
            units = own * self._visits(product, own + np.maximum(rest, 0.0))
        units = units * (1 + self.stockpiled(price, list_price=list_price, household_stock=shoppers.household_stock))
        return np.where(day >= self.launch[product], units, 0.0)

    def at_launch(self, product: Ints, day: int, comp_price: Floats) -> Floats:
        """Usual units, without the day's shock."""
        usual: Floats = np.exp(self.level[day, product] - self.shock[day, product])
        return usual

    def other_products_profit(
        self, product: Ints, day: int, price: Floats, *, others: Floats, unit_cost: Floats
    ) -> Floats:
        """Expected profit of the category's other products on a day, at prices of one product (nested logit).

        Products broadcast against prices; `others` and `unit_cost` are those of all products.
        """
        weight = self._attraction(day, others)
        own = self._weight(product, day, self._drawn(product, day, price))
        visits = self._visits(product, own + np.maximum(self._beside(product, weight), 0.0))
        return self._beside(product, weight * (others - unit_cost)) * visits

    def _drawn(self, product: Ints, day: int, price: Floats) -> Floats:
        """Effect of price, competitor and advertisement on log demand, relative to the anchor."""
        bend = self.features.bend
        anchor = self.anchor[product]
        answer: Floats = self.slope[product] / bend * (1 - (price / anchor) ** bend)
        answer = answer + self.cross[product] * (self.comp_price[day, product] / anchor - 1)
        return answer + self._advertised(product, day, price)

    def _weight(self, product: Ints, day: int, log_units: Floats) -> Floats:
        """A product's attraction in its nest: its share of the category's units at the anchors times exp(log_units)."""
        usual = np.log(self.potential * INSIDE)[product]
        return np.where(day >= self.launch[product], np.exp(self.level[day, product] - usual + log_units), 0.0)

    def _attraction(self, day: int, prices: Floats) -> Floats:
        """(all products,) attraction of every product at these prices."""
        everyone = np.arange(len(self.anchor))
        return self._weight(everyone, day, self._drawn(everyone, day, prices))

    def _beside(self, product: Ints, values: Floats) -> Floats:
        """Sum of (all products,) `values` over the other products of each one's category."""
        summed: Floats = np.bincount(self.category, values)[self.category] - values
        return summed[product]

    def _visits(self, product: Ints, total: Floats) -> Floats:
        """Shoppers who buy in a category, per unit of its products' total attraction."""
        draw = INSIDE / (1 - INSIDE) * total ** (1 - (self.features.nest or 0.0))
        visits: Floats = self.potential[product] * draw / (1 + draw) / np.maximum(total, 1e-300)
        return visits


Truth = DefaultTruth | ForeignTruth


def holidays_among(dates: Days) -> Bools:
    """(date,) whether it is one of the market's holidays, which are on the same day every year."""
    month_day = np.array([str(date)[5:] for date in dates.astype("datetime64[D]")])
    return np.isin(month_day, HOLIDAYS)


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
