"""The incumbent: whoever set the prices of the history. It sees part of the hidden demand, and it errs."""

import numpy as np

from pricing.arrays import Floats
from pricing.data.market_supply import Shelf, Supply
from pricing.data.market_world import World, stream

BAND = (0.70, 1.35)  # of the list price; the incumbent's and everybody's


class Incumbent:
    """Reprices each product once a week, on the product's own weekday, and lets advertised weeks take precedence."""

    def __init__(self, world: World, supply: Supply) -> None:
        config = world.config
        self._world, self._supply = world, supply
        self._rng = stream(config, "incumbent")
        self._weekday = self._rng.integers(0, 7, config.total_products)
        self._hand = np.zeros(config.total_products)
        self._felt = np.zeros(config.total_products)
        steps = np.linspace(*BAND, config.price_points)
        steps[np.argmin(np.abs(steps - 1))] = 1.0
        self._steps = steps

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) the prices of the day, called once for each day in turn."""
        world, truth = self._world, self._world.truth
        self._felt += (truth.shock[day] - self._felt) / world.config.calibration.slowness
        todays = day % 7 == self._weekday
        self._hand = np.where(todays, self._new_hand(day, shelf), self._hand)
        factor = np.where(truth.is_promo[day], 1 - world.promo_cut[day], np.exp(self._hand))
        nearest = self._steps[np.argmin(np.abs(factor[:, None] - self._steps), axis=1)]
        price: Floats = np.maximum(np.round(nearest * truth.list_price[day], 2), world.unit_cost[day])
        return price

    def _new_hand(self, day: int, shelf: Shelf) -> Floats:
        """What it lays on the list price: demand it sees, stock it wants gone, its own errors; a log factor."""
        world, constants = self._world, self._world.config.calibration
        products = len(self._hand)
        noise, wobble, error = self._rng.standard_normal((3, products))
        chance = self._rng.random(products)
        fresh = constants.fresh
        seen = fresh * world.truth.shock[day] + (1 - fresh) * self._felt + constants.seen_noise * noise
        cover = shelf.stock / np.maximum(shelf.usual * self._supply.interval, 0.1)
        answer = constants.reaction * seen - constants.clear_cut * (cover > constants.clear_cover)
        mistake = np.where(chance < constants.mistake[0], constants.mistake[1] * error, 0.0)
        hand: Floats = world.config.endogeneity * answer + constants.wobble * wobble + mistake
        return hand
