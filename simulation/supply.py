"""Purchasing: deliveries and orders, and the seasons at whose ends there are none."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from simulation.config import BEYOND, MarketConfig
from simulation.draws import stream
from simulation.shelf import Shelf

WEEKLY = 0.75  # share of products that are delivered at the shortest gap; the others at the longest
USUAL_ERROR = 0.2  # sd of the log error of a new product's expected sales
GAP_SPREAD = (0.5, 1.5)  # shortest and longest gap between two irregular deliveries, relative to a product's mean gap
BUY_STOP = 42  # days before a season's end from which deliveries stop
SEASON = (112, 168)  # shortest and longest season, days: two or three a year
FALL = (35, 56)  # days over which demand falls at a season's end, shortest and longest
DEPTH = (0.8, 1.4)  # log units by which it falls, least and most
MARKDOWNS = ((42, 0.10), (28, 0.20), (14, 0.30))  # days before the end and cut below list: steps of a clearance
SKIPPED = 0.15  # probability that a step of a clearance is left out
LAST_BUY = 0.7  # sales the buyer expects at a season's end, relative to the season's usual ones


@dataclass(frozen=True)
class Supply:
    """Purchasing of each product: drawn once, independent of the policy."""

    delivers: Bools  # (day, product) whether a delivery is due; extends beyond the future, as `span` and `buying` do
    gap: Floats  # (product,) mean days between two deliveries
    # (day, product) days of usual sales that a delivery on that day has to cover: the mean gap; for a season's last
    # delivery the rest of the season, at the sales expected then.
    span: Floats
    buying: Bools  # (day, product) whether deliveries take place and sales tell what is usual: not at a season's end
    lead: Ints  # (product,) days from an order to its delivery
    cover: Floats  # (product,) order-up-to level in usual sales over span and lead time
    order_error: Floats  # (day, product) factor on the order-up-to level
    first_guess: Floats  # (product,) error factor on a new product's expected sales
    weight: float  # weight of a day's sales in the moving average for ordering

    @cached_property
    def next_day(self) -> Ints:
        """(day, product) first day after each one on which a delivery is due."""
        return next_days(self.delivers)[:-BEYOND]

    def level(self, shelf: Shelf, *, day: int, span: Floats) -> Floats:
        """(product,) units up to which an order on `day` fills stock for `span` days after the lead time."""
        level: Floats = self.cover * self.order_error[day] * shelf.usual * (span + self.lead)
        return level

    def cover_in_stock(self, shelf: Shelf) -> Floats:
        """(product,) usual sales between two deliveries that the stock on hand lasts for, as a multiple."""
        return np.asarray(shelf.stock / np.maximum(shelf.usual * self.gap, 0.1))


@dataclass(frozen=True)
class Seasons:
    """Effects of seasons. Arrays are (day, product); neutral without seasons."""

    fall: Floats  # log units by which demand has fallen
    markdown: Floats  # cut as a share of list
    buying: Bools  # whether deliveries take place
    opening: Bools  # whether a season begins


def draw_seasons(config: MarketConfig) -> Seasons:
    """Draw consecutive seasons for each product, with falling demand and stepwise markdowns at their ends."""
    days = np.arange(config.total_days + BEYOND)
    shape = (len(days), config.total_products)
    seasons = Seasons(
        fall=np.zeros(shape, dtype=np.float32),
        markdown=np.zeros(shape, dtype=np.float32),
        buying=np.ones(shape, dtype=np.bool_),
        opening=np.zeros(shape, dtype=np.bool_),
    )
    for product in range(config.total_products if config.settings.seasons else 0):
        rng = stream(config, "season", product)
        start = -int(rng.integers(0, SEASON[0]))
        while start < len(days):
            end = start + int(rng.integers(*SEASON))
            _draw_season(seasons, product, days[max(start, 0) : max(end, 0)], end=end, rng=rng)
            if start >= 0:
                seasons.opening[start, product] = True
            start = end
    return seasons


def _draw_season(seasons: Seasons, product: int, days: Ints, *, end: int, rng: np.random.Generator) -> None:
    """Draw the end of a season of these `days`. Modifies `seasons`."""
    left = end - days  # days to the end, today included
    lasting, deep = rng.integers(*FALL), rng.uniform(*DEPTH)
    seasons.fall[days, product] = deep * np.clip(1 - left / lasting, 0, 1)
    late, chance = rng.integers(-7, 8, len(MARKDOWNS)), rng.random(len(MARKDOWNS))
    for step, (before, cut) in enumerate(MARKDOWNS):
        reached = days[(left <= before + late[step]) & (chance[step] > SKIPPED)]
        seasons.markdown[reached, product] = cut
    seasons.buying[days, product] = left > BUY_STOP


def draw_supply(config: MarketConfig, seasons: Seasons) -> Supply:
    """Draw deliveries and orders, with one delivery at each season's start and none at its end."""
    draw = {"weekly": _weekly_deliveries, "irregular": _irregular_deliveries}
    supply = draw[config.settings.deliveries](config, seasons)
    if not config.settings.seasons:
        return supply
    delivers = (supply.delivers & seasons.buying) | seasons.opening
    delivers[-1] = True
    next_day = next_days(delivers)
    last = np.zeros_like(delivers)  # whether a season opens with the next delivery
    for day, product in zip(*np.nonzero(seasons.opening), strict=True):
        last[:day, product] |= next_day[:day, product] == day
    ahead = next_day - np.arange(len(delivers))[:, None]
    return replace(
        supply,
        delivers=delivers,
        span=np.where(last, LAST_BUY * ahead, supply.gap),
    )


def _weekly_deliveries(config: MarketConfig, seasons: Seasons) -> Supply:
    """Deliveries on a product's own weekday, mostly each week; errors of orders last a week."""
    settings, products, rng = config.settings, config.total_products, stream(config, "supply")
    gap = np.where(rng.random(products) < WEEKLY, *settings.gap)
    phase = rng.integers(0, gap)
    lead = rng.integers(*settings.lead, products, endpoint=True)
    cover = rng.uniform(*settings.order_cover, products)
    first_guess = np.exp(USUAL_ERROR * rng.standard_normal(products))
    error = settings.order_error * rng.standard_normal((config.total_days // 7 + 2, products))
    delivers = (np.arange(config.total_days + BEYOND)[:, None] - phase) % gap == 0
    return Supply(
        delivers=delivers,
        gap=gap,
        span=np.broadcast_to(gap, delivers.shape),
        buying=seasons.buying,
        lead=lead,
        cover=cover,
        order_error=np.exp(error).astype(np.float32)[np.arange(config.total_days) // 7],
        first_guess=first_guess,
        weight=1 / 21,
    )


def _irregular_deliveries(config: MarketConfig, seasons: Seasons) -> Supply:
    """Deliveries at irregular gaps around each product's mean; errors of orders last a day."""
    settings, products, rng = config.settings, config.total_products, stream(config, "supply")
    days = config.total_days + BEYOND
    gap = rng.integers(*settings.gap, products, endpoint=True).astype(np.float64)
    lead = rng.integers(*settings.lead, products, endpoint=True)
    delivers = np.zeros((days, products), dtype=np.bool_)
    for product in range(products):
        spread = stream(config, "supply", 2 + product).uniform(*GAP_SPREAD, days // 2)
        arrivals = np.cumsum(np.maximum(np.ceil(gap[product] * spread).astype(np.int64), 1))
        delivers[arrivals[arrivals < days], product] = True
    delivers[-1] = True
    error = settings.order_error * stream(config, "supply", 1).standard_normal((days, products))
    return Supply(
        delivers=delivers,
        gap=gap,
        span=np.broadcast_to(gap, delivers.shape),
        buying=seasons.buying,
        lead=lead,
        cover=rng.uniform(*settings.order_cover, products),
        order_error=np.exp(error).astype(np.float32),
        first_guess=np.ones(products),
        weight=1 / 28,
    )


def next_days(delivers: Bools) -> Ints:
    """(day, product) first day after each one with a delivery."""
    days = len(delivers)
    day = np.where(delivers, np.arange(days)[:, None], days)
    ahead: Ints = np.minimum.accumulate(day[::-1], axis=0)[::-1].astype(np.int64)
    return np.concatenate([ahead[1:], np.full((1, ahead.shape[1]), days)])
