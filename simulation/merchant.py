"""The merchant's family: a merchandiser who knows half of each slow demand shock.

The demand equation, calendar, purchasing and bookkeeping are the default family's, with constants of its own. Products,
list prices, shocks, promotions, the incumbent and how closely the competitor follows are this family's.
"""

from dataclasses import replace
from typing import cast

import numpy as np

from pricing.arrays import Bools, Floats
from simulation.config import MarketConfig
from simulation.default import draw_world, follow_costs
from simulation.truth import DefaultTruth
from simulation.world import Incumbent, Rival, Shelf, World, autoregression, ending

FAMILY = 12022  # separates these random streams from the other families' of the same seed
STREAMS = ("markup", "shock", "promo", "depth", "sighting", "tail", "incumbent")
# Sd of the log error about an elasticity, which sets the mark-up: list prices miss the optimum by
# belief / (elasticity − 1), about 0.15 at −2.4, whatever the margin.
BELIEF = 0.22
BELIEF_BOUNDS = (1.5, 15.0)  # smallest and largest elasticity believed: mark-up factors of 1.07 to 3
REVIEW_DAYS = 24.0  # mean days between two price reviews; with promotions 40 to 60 moves in two years
# Log change of the unit margin per unit of the known half of the shock: at a margin of 40 % a third of it goes into the
# price, as where managers price by what sells.
REACTION = 0.85
CLEAR_COVER = 2.0  # cover, in delivery intervals of usual sales, above which stock counts as high
CLEAR_CUT = (0.10, 0.20)  # lowest and highest cut of a clearance, the usual first step of a markdown
WOBBLE = 0.015  # sd of the log noise of a reviewed price: judgement and rounding
PROMO_PERIOD = 30  # days in which a product has at most one promotion
PROMO_START = 20  # days of that period in which it can begin, so that promotions do not touch
PROMO_RATE = 0.38  # probability per period that a product is promoted: four or five times a year
PROMO_DAYS = (5, 10)  # shortest and longest promotion: a leaflet's week, with its weekends
PROMO_CUT = (0.10, 0.30)  # shallowest and deepest promotion below list
TOP_SHARE = (0.32, 0.38)  # share of the best product in the profit at list prices: about a third
COMP_SEEN = 0.7  # share of days on which the competitor's price is observed: a crawl with gaps
NINES = 5.0  # price from which labels end in 9 cents; below, a step of 10 cents would be a price change by itself


def stream(config: MarketConfig, name: str) -> np.random.Generator:
    """Return the random generator for one kind of draw."""
    return np.random.default_rng([FAMILY, config.seed, STREAMS.index(name)])


def draw(config: MarketConfig) -> tuple[World, Incumbent]:
    """Draw the market that `config` describes, and its incumbent, who knows half of each shock."""
    drawn = draw_world(config)
    truth = cast(DefaultTruth, drawn.truth)
    slope = np.clip(truth.slope, *config.features.slope_bounds)
    rng = stream(config, "markup")
    error = np.exp(BELIEF * rng.standard_normal(config.products))
    believed = np.clip(slope * error, *BELIEF_BOUNDS)
    list_price = follow_costs(config, rng, markup=believed / (believed - 1), unit_cost=drawn.unit_cost)
    list_price = np.maximum(list_price, drawn.unit_cost)  # a step between two reviews can exceed a thin margin
    spread, persistence = config.constants.product_shock
    known, normal = truth.shock, stream(config, "shock").standard_normal(truth.shock.shape)
    unknown = autoregression(normal, spread=spread, persistence=persistence).astype(np.float32)
    is_promo, promo_cut = _promotions(config, truth.shock.shape)
    truth = replace(
        truth,
        launch=np.zeros_like(truth.launch),
        anchor=list_price[0].copy(),
        slope=slope,
        level=truth.level + unknown,
        shock=known + unknown,
        list_price=list_price,
        is_promo=is_promo,
    )
    _raise_best_product(config, truth, drawn.unit_cost)
    seen = stream(config, "sighting").random(known.shape, dtype=np.float32) < COMP_SEEN
    rival = replace(cast(Rival, drawn.rival), launch=truth.launch, list_price=list_price)
    world = replace(drawn, truth=truth, promo_cut=promo_cut, comp_seen=seen, rival=rival)
    return world, Merchandiser(world, known).prices


def _promotions(config: MarketConfig, shape: tuple[int, ...]) -> tuple[Bools, Floats]:
    """(day, product) promotion plan, at most one promotion in 30 days, and its cut as a share of list; 0 without."""
    rng = stream(config, "promo")
    day = np.arange(shape[0])[:, None]
    period, within = day[:, 0] // PROMO_PERIOD, day % PROMO_PERIOD
    draws = rng.random((period[-1] + 1, 3, shape[1]))  # whether, when, how long; by period, for any length of future
    least, most = PROMO_DAYS
    start = np.floor(PROMO_START * draws[:, 1])[period]
    length = (least + np.floor((most - least + 1) * draws[:, 2]))[period]
    running = (draws[:, 0] < PROMO_RATE)[period] & (within >= start) & (within < start + length)
    cut = stream(config, "depth").uniform(*PROMO_CUT, (period[-1] + 1, shape[1]))[period]
    return running, np.where(running, cut, 0.0).astype(np.float32)


def _raise_best_product(config: MarketConfig, truth: DefaultTruth, unit_cost: Floats) -> None:
    """Scale demand for the most profitable product to its drawn share of the history's profit at list prices.

    Log-normal volumes alone leave the best of 60 products with 7 to 33 %, by luck of the seed; a tail that made it a
    third on average would leave most of the others unsold. Modifies `truth.level`.
    """
    days = np.arange(config.days)[:, None]
    price = truth.list_price[: config.days]
    units = truth.expected_demand(np.arange(price.shape[1]), days, price, comp_price=price)
    profit = ((price - unit_cost[: config.days]) * units).sum(axis=0)
    best = int(np.argmax(profit))
    share = stream(config, "tail").uniform(*TOP_SHARE)
    rest = float(profit.sum() - profit[best])
    if rest > 0:
        truth.level[:, best] += np.log(share / (1 - share) * rest / profit[best])


class Merchandiser:
    """Pricing policy of the history: each product is reviewed at irregular times; promotions come first."""

    def __init__(self, world: World, known: Floats) -> None:
        self._world, self._known = world, known
        self._rng = stream(world.config, "incumbent")
        self._hand = np.zeros(known.shape[1])  # log factor on the list price

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) prices of the day, at least cost; must be called once for each day in order."""
        world, list_price, cost = self._world, self._world.truth.list_price[day], self._world.unit_cost[day]
        chance, cut = self._rng.random((2, len(cost)))
        reviewed = (chance < 1 / REVIEW_DAYS) | (day == 0)
        answer = self._answer(day, shelf, cut=cut, margin=np.maximum(1 - cost / list_price, 0.0))
        self._hand = np.where(reviewed, answer, self._hand)
        promoted = world.truth.is_promo[day]
        price = list_price * np.where(promoted, 1 - world.promo_cut[day], np.exp(self._hand))
        label: Floats = np.maximum(np.where(price >= NINES, ending(price), np.round(price, 2)), cost)
        return label

    def _answer(self, day: int, shelf: Shelf, *, cut: Floats, margin: Floats) -> Floats:
        """(product,) log factor on list that a review today sets: dearer when demand is strong, cheaper to clear."""
        least, most = CLEAR_CUT
        cover = shelf.stock / np.maximum(shelf.usual * self._world.supply.gap, 0.1)
        clearing = np.where(cover > CLEAR_COVER, np.log(1 - least - (most - least) * cut), 0.0)
        wobble = WOBBLE * self._rng.standard_normal(len(cut))
        answer: Floats = REACTION * margin * self._known[day] + clearing + wobble
        return answer
