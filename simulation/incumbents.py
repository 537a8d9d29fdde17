"""Incumbents: who priced the history, each by a factor on the list price that is set anew at reviews.

Each has `review`, called once for each day in order, and `label`, which makes prices as labels show them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats
from simulation.config import BAND
from simulation.draws import ending, stream
from simulation.shelf import Shelf
from simulation.world import World

# The grocer
PRICE_POINTS = 27  # prices that he uses between 0.70 and 1.35 × list
FRESH = 0.15  # weight of today's hidden shock in his demand signal; the rest is its moving average
SLOWNESS = 14.0  # days of that exponential moving average
SEEN_NOISE = 0.20  # sd of the noise in the demand signal
REACTION = 0.15  # log price per unit of the demand signal
CLEAR_COVER = 2.5  # cover, in delivery intervals of usual sales, above which he clears stock
CLEAR_CUT = 0.15  # log price cut in a clearance
MISTAKE = (0.05, 0.12)  # probability per week that he misprices a product, and the sd of that error
WOBBLE = 0.02  # sd of the log price noise of an ordinary week

# The reviewer
FOLLOWERS = 0.3  # share of products for which he follows lower competitor prices at each review
REVIEW = 28  # days between two reviews of a category's prices: monthly
TILT = 0.05  # sd of the log of his own adjustment
FELT = 0.10  # log price per unit of the last four weeks' mean hidden shock: retailers charge more for what sold well
FORESIGHT_NOISE = 0.10  # sd of the noise in his demand signal, if informed
FORESIGHT_REACTION = 0.35  # log price per unit of that signal

# The merchandiser
REVIEW_DAYS = 24.0  # mean days between two price reviews; with promotions 40 to 60 moves in two years
# Log change of the unit margin per unit of the known half of the shock: at a margin of 40 % a third of it goes into the
# price, as where managers price by what sells.
MARGIN_REACTION = 0.85
HIGH_COVER = 2.0  # cover, in delivery intervals of usual sales, above which stock counts as high
MARKDOWN = (0.10, 0.20)  # lowest and highest cut of a clearance, the usual first step of a markdown
JUDGEMENT = 0.015  # sd of the log noise of a reviewed price: judgement and rounding
NINES = 5.0  # price from which his labels end in 9 cents; below, a step of 10 cents would be a price change by itself

Prices = Callable[[int, Shelf], Floats]  # (product,) prices of a day; called once for each day in order


class Review(NamedTuple):
    """An incumbent's reviews of one day. Arrays are (product,)."""

    due: Bools  # whether the product is reviewed today
    factor: Floats  # price over list price that a review sets


class Grocer:
    """Reviews each product weekly on its own weekday: reacts to demand and excess stock, with noise and errors."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        self._weekday = rng.integers(0, 7, world.config.total_products)
        self._felt = np.zeros(world.config.total_products)  # moving average of the shock
        self._steps = np.linspace(*BAND, PRICE_POINTS)
        self._steps[np.argmin(np.abs(self._steps - 1))] = 1.0

    def review(self, day: int, shelf: Shelf) -> Review:
        """React to what he feels of demand, as strongly as the market's endogeneity."""
        world, shock = self._world, self._world.known_shock[day]
        self._felt += (shock - self._felt) / SLOWNESS
        noise, wobble, error = self._rng.standard_normal((3, len(shock)))
        chance = self._rng.random(len(shock))
        seen = FRESH * shock + (1 - FRESH) * self._felt + SEEN_NOISE * noise
        answer = REACTION * seen - CLEAR_CUT * (world.supply.cover_in_stock(shelf) > CLEAR_COVER)
        mistake = np.where(chance < MISTAKE[0], MISTAKE[1] * error, 0.0)
        moved = world.config.endogeneity * answer + WOBBLE * wobble + mistake
        return Review(np.equal(self._weekday, day % 7), np.exp(moved))

    def label(self, factor: Floats, list_price: Floats) -> Floats:
        """Round to steps of the list price, in cents."""
        nearest = np.argmin(np.abs(factor[:, None] - self._steps), axis=1)
        return np.asarray(np.round(self._steps[nearest] * list_price, 2))


class Reviewer:
    """Reviews whole categories each month, by judgement and the competitor's prices."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        self._day = rng.integers(0, REVIEW, world.config.categories)[world.truth.category]
        self._follows = rng.random(world.config.total_products) < FOLLOWERS

    def review(self, day: int, shelf: Shelf) -> Review:
        """React to past demand, or to the demand to come where informed."""
        world, shock = self._world, self._world.known_shock
        foresight = world.config.settings.foresight
        judgement, noise = self._rng.standard_normal((2, len(self._day)))
        answer = FELT * shock[max(day - 28, 0) : day + 1].mean(axis=0)
        if foresight:
            coming = shock[day : day + 28].mean(axis=0)
            answer = FORESIGHT_REACTION * (foresight * coming + FORESIGHT_NOISE * noise)
        factor = np.exp(TILT * judgement + answer)
        rival = world.rival.usual(day) / world.truth.list_price[day]
        return Review(np.equal(self._day, day % REVIEW), np.where(self._follows, np.minimum(factor, rival), factor))

    def label(self, factor: Floats, list_price: Floats) -> Floats:
        """Make prices end in 9 cents, but for list prices, within the band."""
        label = np.where(factor == 1.0, list_price, ending(factor * list_price))
        return np.clip(label, BAND[0] * list_price, BAND[1] * list_price).round(2)


class Merchandiser:
    """Reviews each product at irregular times: dearer when demand is strong, cheaper to clear stock."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng

    def review(self, day: int, shelf: Shelf) -> Review:
        """React to the shock that he knows, in proportion to the margin."""
        world, shock = self._world, self._world.known_shock[day]
        chance, depth = self._rng.random((2, len(shock)))
        least, most = MARKDOWN
        high = world.supply.cover_in_stock(shelf) > HIGH_COVER
        clearing = np.where(high, np.log(1 - least - (most - least) * depth), 0.0)
        margin = np.maximum(1 - world.unit_cost[day] / world.truth.list_price[day], 0.0)
        wobble = JUDGEMENT * self._rng.standard_normal(len(shock))
        moved = MARGIN_REACTION * margin * shock + clearing + wobble
        return Review((chance < 1 / REVIEW_DAYS) | (day == 0), np.exp(moved))

    def label(self, factor: Floats, list_price: Floats) -> Floats:
        """Make prices from 5 on end in 9 cents."""
        price = factor * list_price
        return np.where(price >= NINES, ending(price), np.round(price, 2))


INCUMBENTS: dict[str, type[Grocer | Reviewer | Merchandiser]] = {
    "grocer": Grocer,
    "reviewer": Reviewer,
    "merchandiser": Merchandiser,
}


def incumbent_prices(world: World) -> Prices:
    """Return the pricing policy of a world's history."""
    name = world.config.settings.incumbent
    if name == "list":
        return lambda day, shelf: world.truth.list_price[day].copy()
    incumbent = INCUMBENTS[name](world, stream(world.config, "incumbent"))
    held = np.ones(world.config.total_products)

    def prices(day: int, shelf: Shelf) -> Floats:
        """Price a day: planned cuts come first, then the factors of the last review; never below cost."""
        due, factor = incumbent.review(day, shelf)
        held[due] = factor[due]
        cut = world.promo_cut[day]
        planned = world.truth.is_promo[day] | (cut > 0)
        label = incumbent.label(np.where(planned, 1 - cut, held), world.truth.list_price[day])
        return np.asarray(np.maximum(label, world.unit_cost[day]))

    return prices
