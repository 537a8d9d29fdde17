"""The competitor: one who follows the price charged, and one whose prices are drawn beforehand."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from simulation.config import MarketConfig
from simulation.draws import ending, stream
from simulation.shelf import Shelf

FORTNIGHT = 14  # days for which an aloof competitor's prices hold


@dataclass(frozen=True)
class Follower:
    """A competitor who follows the price charged; drawn once, independent of the policy."""

    launch: Ints  # (product,) first day on sale
    list_price: Floats  # (day, product) the incumbent's regular price
    ratio: Floats  # (product,) its price level over the incumbent's list price
    moves: Bools  # (day, product) whether it reprices
    noise: Floats  # (day, product) random factor on its new price
    pull: float  # weight of the price charged in its new one

    @classmethod
    def draw(cls, config: MarketConfig, launch: Ints, list_price: Floats) -> "Follower":
        """Draw its level, and day by day when it moves and how far."""
        settings, rng = config.settings, stream(config, "rival")
        ratio = np.exp(rng.normal(0.0, settings.rival_level, len(launch)))
        moves = np.empty(list_price.shape, dtype=np.bool_)
        noise = np.empty(list_price.shape, dtype=np.float32)
        for day in range(len(moves)):
            moves[day] = rng.random(len(launch)) < settings.rival_moves
            noise[day] = np.exp(settings.rival_noise * rng.standard_normal(len(launch)))
        return cls(launch, list_price, ratio, moves, noise, settings.rival_pull)

    def usual(self, day: int) -> Floats:
        """(product,) prices that it would set now without noise."""
        return np.asarray(self.list_price[day] * self.ratio)

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Set the competitor's prices of a day. Modifies `shelf`."""
        level = self.usual(day)
        shelf.comp_price = np.where(self.launch == day, np.round(level * self.noise[day], 2), shelf.comp_price)
        target = shelf.price**self.pull * level ** (1 - self.pull) * self.noise[day]
        moves = self.moves[day] & (self.launch < day)
        shelf.comp_price = np.where(moves, np.round(target, 2), shelf.comp_price)

    def assumed(self, product: Ints, comp_price: Floats, *, day: int) -> Floats:
        """(request,) the observed prices; the usual ones where not observed."""
        return np.where(np.isnan(comp_price), self.usual(day)[product], comp_price)


@dataclass(frozen=True)
class Aloof:
    """A competitor whose prices are drawn beforehand."""

    launch: Ints  # (product,) first day on sale
    price: Floats  # (day, product) its prices

    @classmethod
    def draw(cls, config: MarketConfig, launch: Ints, list_price: Floats) -> "Aloof":
        """Draw its own level around list prices, and its prices anew every fortnight."""
        settings, rng = config.settings, stream(config, "rival")
        level = settings.rival_level * rng.standard_normal(len(launch))
        fortnight = np.arange(len(list_price)) // FORTNIGHT
        noise = settings.rival_noise * rng.standard_normal((int(fortnight[-1]) + 1, len(launch)))
        return cls(launch, ending(list_price[fortnight * FORTNIGHT] * np.exp(level + noise[fortnight])))

    def usual(self, day: int) -> Floats:
        """(product,) its prices of the day."""
        return np.asarray(self.price[day])

    def open_day(self, shelf: Shelf, *, day: int) -> None:
        """Set the competitor's prices of a day. Modifies `shelf`."""
        shelf.comp_price = np.where(self.launch <= day, self.price[day], np.nan)

    def assumed(self, product: Ints, comp_price: Floats, *, day: int) -> Floats:
        """(request,) the observed prices; demand knows the true ones."""
        return comp_price


Rival = Follower | Aloof
RIVALS: dict[str, type[Rival]] = {"follower": Follower, "aloof": Aloof}
