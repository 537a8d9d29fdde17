"""The foreign family: other demand, calendar, supply and incumbent than the default one, with kinds of its own."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints, weekday_of
from simulation.config import BEYOND, MarketConfig
from simulation.truth import INSIDE, ForeignTruth, holidays_among
from simulation.world import (
    BAND,
    AloofRival,
    Incumbent,
    Shelf,
    Supply,
    World,
    autoregression,
    ending,
    names_of,
    next_days,
)

FIRST_DAY = "2022-01-03"  # a Monday, so that weeks of 7 days are weeks of the calendar
CATEGORY_NAMES = ("bath", "garden", "kitchen", "lighting", "office", "toys")
STREAMS = (
    *("product", "cost", "list", "calendar", "shock", "rival", "leaflet", "season", "shopper", "crowd", "supply"),
    *("incumbent", "record", "sighting"),
)
FAMILY = 12021  # separates these random streams from the default markets' of the same seed
BUY_STOP = 42  # days before a season's end from which deliveries stop
SEASON = (112, 168)  # shortest and longest season, days: two or three a year
FALL = (35, 56)  # days over which demand falls at a season's end, shortest and longest
DEPTH = (0.8, 1.4)  # log units by which it falls, least and most
MARKDOWNS = ((42, 0.10), (28, 0.20), (14, 0.30))  # days before the end and cut below list: steps of a clearance
SKIPPED = 0.15  # probability that a step of a clearance is left out
LAST_BUY = 0.7  # sales the buyer expects at a season's end, relative to the season's usual ones
LEAST_CHANGE = 0.04  # least log size of a price change


# Each constant is taken from the literature or plausibility, none from a model's results. Logs are natural; "sd" is a
# standard deviation.
# Median size of a product's elasticity at its first list price; a meta-analysis of 1,851 elasticities has a mean of 2.6
# and a median of 2.2 (Bijmolt, van Heerde & Pieters 2005).
SLOPE = 2.3
CATEGORY_SPREAD = 0.25  # sd of the log elasticity between categories
# Sd of the log elasticity between the products of a category; together they match the interquartile range of that meta-
# analysis.
PRODUCT_SPREAD = 0.30
SLOPE_BOUNDS = (0.8, 6.0)  # smallest and largest size of an elasticity at the first list price
VOLUME = 6.0  # median units a day: of a single shop, not a chain
COST = (8.0, 0.5)  # median unit cost in currency units, and the sd of its log: general merchandise
KEYSTONE = 2.0  # mark-up factor on cost; doubling the cost is a retail rule of thumb, whatever the elasticity
KEYSTONE_ERROR = 0.12  # sd of the log of a product's own mark-up
LIST_REVIEW = 91  # days between two reviews of a list price: quarterly
CATEGORY_COST = (0.20, 0.04)  # probability per month of a change in a category's costs, and the sd of the log change
PRODUCT_COST = (0.15, 0.03)  # the same for a product
# Lowest and highest response of log demand to (competitor's price / first list price − 1): cross elasticities between
# shops are mostly below 0.7.
CROSS = (0.0, 0.7)
LIFT = (0.05, 0.35)  # lowest and highest log lift of an advertised cut beyond the price effect
PROMO_CUTS = (0.10, 0.20, 0.25)  # cuts below list in a leaflet
# Log factor of each weekday, Monday first: most shopping is at the end of the week.
WEEK = (-0.15, -0.20, -0.10, 0.0, 0.25, 0.30, -0.20)
PAYDAY = 0.12  # log factor of a month's first five days: demand follows wages (Stephens 2003)
YEAR = 0.25  # largest amplitude of a category's yearly season, a triangle wave: seasons have kinks, not sines
HOLIDAY = (-0.25, 0.15)  # mean and sd over categories of the log effect of a holiday, with shops partly closed
# Sd of a level shift (another shelf, a competing product), log units, and the mean days between two.
SHIFT = (0.30, 300.0)
# Stationary sd of a product's hidden shock, and its AR(1) coefficient per day: lasts about three weeks.
SHOCK = (0.25, 0.95)
CATEGORY_WEEK = 0.12  # sd of the weekly log shock of a category
DAY_NOISE = 0.30  # sd of the log-normal factor of a single day
OFF_SHELF = 0.02  # probability per day that a product in stock is not on its shelf; audits find a few per cent
COMP_LEVEL = 0.08  # sd of the log of the competitor's own price level for a product
COMP_MOVE = 0.07  # sd of the log noise of the competitor's prices, drawn anew every fortnight
COMP_SEEN = 0.6  # share of days on which the competitor's price is observed
FOLLOWERS = 0.3  # share of products for which the incumbent follows lower competitor prices at each review
REVIEW = 28  # days between two reviews of a category's prices: monthly
TILT = 0.05  # sd of the log of a reviewer's own adjustment
FELT = 0.10  # log price per unit of the last four weeks' mean hidden shock: retailers charge more for what sold well
FORESIGHT_NOISE = 0.10  # sd of the noise in an informed incumbent's demand signal
FORESIGHT_REACTION = 0.35  # log price per unit of that signal
COVER = (0.8, 1.6)  # lowest and highest order-up-to level, in usual sales over gap and lead time
ORDER_ERROR = 0.30  # sd of the log error of one order
GAP_SPREAD = (0.5, 1.5)  # shortest and longest gap between two deliveries, relative to a product's mean gap
LATE_LAUNCH = 0.10  # share of products that launch during the first half of the history


@dataclass(frozen=True)
class Seasons:
    """Effects of seasons. Arrays are (day, product); neutral without seasons."""

    fall: Floats  # log units by which demand has fallen
    markdown: Floats  # cut as a share of list
    buying: Bools  # whether deliveries take place
    opening: Bools  # whether a season begins


def stream(config: MarketConfig, name: str, part: int = 0) -> np.random.Generator:
    """Return the random generator for one kind of draw and one of its arrays (rows are days).

    Separate streams ensure that kinds change nothing else, and that a longer future changes no earlier day.
    """
    return np.random.default_rng([FAMILY, config.seed, STREAMS.index(name), part])


def draw(config: MarketConfig) -> tuple[World, Incumbent]:
    """Draw the market that `config` describes, and its incumbent."""
    features, products = config.features, config.products
    dates = np.datetime64(FIRST_DAY, "D") + np.arange(config.total_days)
    rng = stream(config, "product")
    category = rng.permutation(np.arange(products) % config.categories)
    log_slope = np.log(SLOPE) + PRODUCT_SPREAD * rng.standard_normal(products)
    log_slope += CATEGORY_SPREAD * rng.standard_normal(config.categories)[category]
    slope = np.clip(np.exp(log_slope), *SLOPE_BOUNDS)
    log_volume = np.log(VOLUME) + features.volume_spread * rng.standard_normal(products)
    base_cost = COST[0] * np.exp(COST[1] * rng.standard_normal(products))
    cross, lift = rng.uniform(*CROSS, products), rng.uniform(*LIFT, products)
    launch = np.where(rng.random(products) < LATE_LAUNCH, rng.integers(1, max(2, config.days // 2), products), 0)
    if features.price_changes is not None:
        launch[:] = 0

    unit_cost = _unit_costs(config, category, base_cost)
    list_price = _list_prices(config, category, unit_cost)
    seasons = _seasons(config)
    shock = _shocks(config, category)
    level = _levels(config, category, dates) + shock + log_volume.astype(np.float32)
    level -= seasons.fall[: config.total_days]
    is_promo, promo_cut = _leaflets(config)
    day_factor, size = _crowds(config)
    volume = np.exp(log_volume)
    potential = np.bincount(category, volume)[category] / INSIDE
    truth = ForeignTruth(
        features=features,
        dates=dates,
        category=category,
        launch=launch,
        anchor=list_price[0].copy(),
        slope=_nested_slope(config, slope),
        potential=potential,
        cross=cross,
        lift=lift,
        level=level,
        shock=shock,
        list_price=list_price,
        is_promo=is_promo,
        comp_price=_comp_prices(config, list_price),
        uniform=np.clip(stream(config, "shopper").random(level.shape, dtype=np.float32), 1e-6, 1 - 1e-6),
        day_factor=day_factor,
        size=size,
        history=config.days,
    )
    world = World(
        config=config,
        product_ids=np.array([f"F{row + 1:05d}" for row in range(products)]),
        category_names=names_of(config.categories, CATEGORY_NAMES)[category],
        truth=truth,
        unit_cost=unit_cost,
        promo_cut=np.maximum(promo_cut, seasons.markdown[: config.total_days]),
        comp_seen=stream(config, "sighting").random(level.shape, dtype=np.float32) < COMP_SEEN,
        recorded=stream(config, "record").random(level.shape, dtype=np.float32) > 0.004,
        supply=_supply(config, seasons),
        rival=AloofRival(launch, truth.comp_price),
    )
    return world, Reviewer(world).prices


def _nested_slope(config: MarketConfig, slope: Floats) -> Floats:
    """Slope within a nest that gives a product of mean share the elasticity `slope`; `slope` without nests.

    d log units / d log price = −nested slope × (1 − share × (1 − (1 − nest) × (1 − inside))), so a product that
    dominates its category is less elastic.
    """
    nest = config.features.nest
    if nest is None:
        return slope
    share = config.categories / config.products
    inner: Floats = slope / (1 - min(share, 0.5) * (1 - (1 - nest) * (1 - INSIDE)))
    return inner


def _unit_costs(config: MarketConfig, category: Ints, base_cost: Floats) -> Floats:
    """(day, product) costs, which change at the start of 28-day months."""
    months = config.total_days // 28 + 1

    def steps(rate: tuple[float, float], columns: int, part: int) -> Floats:
        moves = stream(config, "cost", part).random((months, columns)) < rate[0]
        moved = moves * rate[1] * stream(config, "cost", part + 1).standard_normal((months, columns))
        moved[0] = 0.0
        path: Floats = np.cumsum(moved, axis=0)
        return path

    log_cost = steps(CATEGORY_COST, config.categories, 0)[:, category]
    log_cost += steps(PRODUCT_COST, config.products, 2)
    cost: Floats = np.maximum(base_cost * np.exp(log_cost), 0.05).round(2)
    return cost[np.arange(config.total_days) // 28]


def _list_prices(config: MarketConfig, category: Ints, unit_cost: Floats) -> Floats:
    """(day, product) cost times a mark-up independent of elasticity, reviewed quarterly, or `price_changes` changes."""
    rng = stream(config, "list")
    markup = KEYSTONE * np.exp(KEYSTONE_ERROR * rng.standard_normal(config.products))
    markup = np.maximum(markup, 1.15)
    days = np.arange(config.total_days)
    if config.features.price_changes is None:
        offset = rng.integers(0, LIST_REVIEW, config.categories)[category]
        reviewed = np.maximum(days[:, None] - (days[:, None] - offset) % LIST_REVIEW, 0)
        return ending(np.take_along_axis(unit_cost, reviewed, axis=0) * markup)
    path = np.zeros((config.total_days, config.products))
    for number in range(config.features.price_changes):
        when = rng.integers(config.days // 6, config.days - config.days // 6, config.products)
        size = KEYSTONE_ERROR * rng.standard_normal(config.products)
        size = np.where(np.abs(size) < LEAST_CHANGE, LEAST_CHANGE * np.where(size < 0, -1, 1), size)
        happens = (number == 0) | (rng.random(config.products) < 0.5)  # each further change for half of the products
        path += np.where(happens & (days[:, None] >= when), size, 0.0)
    return ending(unit_cost[0] * markup * np.exp(path))


def _levels(config: MarketConfig, category: Ints, dates: Days) -> Floats:
    """(day, product) log effects of weekday, paydays, triangular yearly season, holidays and level shifts, around 0."""
    rng = stream(config, "calendar")
    strength = rng.uniform(0.5, 1.5, config.categories)
    week = np.array(WEEK)[weekday_of(dates)][:, None] * strength
    day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64)
    payday = PAYDAY * (day_of_month < 5)[:, None]
    phase = rng.uniform(0, 1, config.categories)
    turn = (np.arange(config.total_days)[:, None] / 365.25 + phase) % 1
    year = YEAR * rng.uniform(0.2, 1.0, config.categories) * (4 * np.abs(turn - 0.5) - 1)
    holiday = rng.normal(*HOLIDAY, config.categories) * holidays_among(dates)[:, None]
    level = (week + payday + year + holiday)[:, category]
    spread, apart = SHIFT
    shifted = stream(config, "calendar", 1).random(level.shape) < 1 / apart
    shifts = np.cumsum(shifted * spread * stream(config, "calendar", 2).standard_normal(level.shape), axis=0)
    summed: Floats = (level + shifts).astype(np.float32)
    return summed


def _shocks(config: MarketConfig, category: Ints) -> Floats:
    """(day, product) hidden log shocks: AR(1) per product plus a weekly normal shock per category."""
    normal = stream(config, "shock").standard_normal((config.total_days, config.products))
    own = autoregression(normal, spread=SHOCK[0], persistence=SHOCK[1])
    shape = (config.total_days // 7 + 1, config.categories)
    weeks = CATEGORY_WEEK * stream(config, "shock", 1).standard_normal(shape)
    shared = weeks[np.arange(config.total_days) // 7][:, category]
    return (own + shared).astype(np.float32)


def _comp_prices(config: MarketConfig, list_price: Floats) -> Floats:
    """(day, product) competitor's prices: its own level around list prices, drawn anew every fortnight."""
    rng = stream(config, "rival")
    level = COMP_LEVEL * rng.standard_normal(config.products)
    fortnight = np.arange(config.total_days) // 14
    noise = COMP_MOVE * rng.standard_normal((int(fortnight[-1]) + 1, config.products))
    return ending(list_price[fortnight * 14] * np.exp(level + noise[fortnight]))


def _leaflets(config: MarketConfig) -> tuple[Bools, Floats]:
    """(day, product) whether a fortnightly leaflet advertises the product (first week only), and its cut."""
    fortnights = config.total_days // 14 + 1
    listed = stream(config, "leaflet").random((fortnights, config.products)) < config.features.promo_rate
    cut = stream(config, "leaflet", 1).choice(PROMO_CUTS, (fortnights, config.products)).astype(np.float32)
    days = np.arange(config.total_days)
    is_promo = listed[days // 14] & (days % 14 < 7)[:, None]
    return is_promo, np.where(is_promo, cut[days // 14], np.float32(0))


def _seasons(config: MarketConfig) -> Seasons:
    """Draw consecutive seasons for each product, with falling demand and stepwise markdowns at their ends."""
    days = np.arange(config.total_days + BEYOND)
    shape = (len(days), config.products)
    fall, markdown = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    opening = np.zeros(shape, dtype=np.bool_)
    buying = np.ones(shape, dtype=np.bool_)
    if not config.features.seasons:
        return Seasons(fall, markdown, buying, opening)
    for product in range(config.products):
        rng = stream(config, "season", product)
        start = -int(rng.integers(0, SEASON[0]))
        while start < len(days):
            end = start + int(rng.integers(*SEASON))
            season = slice(max(start, 0), max(end, 0))
            left = (end - days)[season]  # days to the end, today included
            lasting, deep = rng.integers(*FALL), rng.uniform(*DEPTH)
            fall[season, product] = deep * np.clip(1 - left / lasting, 0, 1)
            late = rng.integers(-7, 8, len(MARKDOWNS))
            for (before, cut), shift, chance in zip(MARKDOWNS, late, rng.random(len(MARKDOWNS)), strict=True):
                reached = (left <= before + shift) & (chance > SKIPPED)
                markdown[season, product] = np.where(reached, cut, markdown[season, product])
            buying[season, product] = left > BUY_STOP
            if start >= 0:
                opening[start, product] = True
            start = end
    return Seasons(fall, markdown, buying, opening)


def _crowds(config: MarketConfig) -> tuple[Floats, float]:
    """(day, product) log-normal factor on demand, 0 where off shelf; and the negative binomial size of its variance."""
    shape = (config.total_days, config.products)
    noise = DAY_NOISE
    factor = np.exp(noise * stream(config, "crowd").standard_normal(shape) - noise**2 / 2)
    there = stream(config, "crowd", 1).random(shape) >= OFF_SHELF
    kept = 1 - OFF_SHELF
    size = 1 / (np.exp(noise**2) / kept - 1)
    return (factor * there / kept).astype(np.float32), float(size)


def _supply(config: MarketConfig, seasons: Seasons) -> Supply:
    """Draw deliveries, with irregular gaps around each product's mean and one at each season's start, and orders."""
    features, rng, products = config.features, stream(config, "supply"), config.products
    days = config.total_days + BEYOND
    gap = rng.integers(features.gap[0], features.gap[1] + 1, products).astype(np.float64)
    lead = rng.integers(features.lead[0], features.lead[1] + 1, products)
    delivers = np.zeros((days, products), dtype=np.bool_)
    for product in range(products):
        spread = stream(config, "supply", 2 + product).uniform(*GAP_SPREAD, days // 2)
        gaps = np.ceil(gap[product] * spread).astype(np.int64)
        arrivals = np.cumsum(np.maximum(gaps, 1))
        delivers[arrivals[arrivals < days], product] = True
    delivers = (delivers & seasons.buying) | seasons.opening
    delivers[-1] = True
    next_day = next_days(delivers)
    last = np.zeros((days, products), dtype=np.bool_)
    for opening in zip(*np.nonzero(seasons.opening), strict=True):
        last[: opening[0], opening[1]] |= next_day[: opening[0], opening[1]] == opening[0]
    ahead = next_day - np.arange(days)[:, None]
    error = ORDER_ERROR * stream(config, "supply", 1).standard_normal((days, products))
    return Supply(
        delivers=delivers,
        next_day=next_day[: config.total_days],
        gap=gap,
        span=np.where(last, LAST_BUY * ahead, gap),
        buying=seasons.buying,
        lead=lead,
        cover=rng.uniform(*COVER, products),
        order_error=np.exp(error).astype(np.float32),
        first_guess=np.ones(products),
        weight=1 / 28,
    )


class Reviewer:
    """Pricing policy of the history: monthly reviews of whole categories, by judgement and the competitor's prices.

    Leaflets and clearances take precedence; prices end in 9 cents.
    """

    def __init__(self, world: World) -> None:
        config = world.config
        self._world = world
        self._rng = stream(config, "incumbent")
        category = world.truth.category
        self._review = self._rng.integers(0, REVIEW, config.categories)[category]
        self._follows = self._rng.random(config.products) < FOLLOWERS
        self._factor = np.ones(config.products)

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) prices of the day; must be called once for each day in order."""
        world, list_price = self._world, self._world.truth.list_price[day]
        if world.config.features.price_changes is not None:
            unmoved: Floats = list_price.copy()
            return unmoved
        factor = self._reviewed(day)
        self._factor = np.where(day % REVIEW == self._review, factor, self._factor)
        cut = world.promo_cut[day]
        price = list_price * np.where(cut > 0, 1 - cut, self._factor)
        label = np.where((cut == 0) & (self._factor == 1.0), list_price, ending(price))
        inside = np.clip(label, BAND[0] * list_price, BAND[1] * list_price)
        charged: Floats = np.maximum(inside, world.unit_cost[day]).round(2)
        return charged

    def _reviewed(self, day: int) -> Floats:
        """(product,) price over list price that a review today would set."""
        truth, foresight = cast(ForeignTruth, self._world.truth), self._world.config.features.foresight
        hand, noise = self._rng.standard_normal((2, len(self._factor)))
        past, coming = truth.shock[max(day - 28, 0) : day + 1].mean(axis=0), truth.shock[day : day + 28].mean(axis=0)
        seen = foresight * coming + FORESIGHT_NOISE * noise
        answer = FORESIGHT_REACTION * seen if foresight else FELT * past
        factor: Floats = np.exp(TILT * hand + answer)
        followed = np.minimum(factor, truth.comp_price[day] / truth.list_price[day])
        reviewed: Floats = np.where(self._follows, followed, factor)
        return reviewed
