"""Draw a market of the second family: products, shocks, costs, list prices, seasons and plans, before any sales."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from simulation.foreign_config import FIRST_DAY, ForeignConfig
from simulation.foreign_demand import ForeignTruth
from simulation.truth import holidays_among, weekday

CATEGORY_NAMES = ("bath", "garden", "kitchen", "lighting", "office", "toys")
STREAMS = (
    *("product", "cost", "list", "calendar", "shock", "rival", "leaflet", "season", "shopper", "crowd", "supply"),
    *("incumbent", "record", "sighting"),
)
FAMILY = 12021  # separates these random streams from the default markets' of the same seed
BEYOND = 70  # days past the future for which deliveries and seasons are drawn, so that every day has a next delivery
BUY_STOP = 42  # days before a season's end from which deliveries stop
SEASON = (112, 168)  # shortest and longest season, days: two or three a year
FALL = (35, 56)  # days over which demand falls at a season's end, shortest and longest
DEPTH = (0.8, 1.4)  # log units by which it falls, least and most
MARKDOWNS = ((42, 0.10), (28, 0.20), (14, 0.30))  # days before the end and cut below list: steps of a clearance
SKIPPED = 0.15  # probability that a step of a clearance is left out
LEAST_CHANGE = 0.04  # least log size of a price change


@dataclass(frozen=True)
class ForeignWorld:
    """Market of the second family before any sales: hidden truth and observable data.

    Attributes:
        config: Options of the market.
        product_ids: (product,) sorted.
        category_names: (product,) category name.
        truth: Hidden truth, for the oracle only.
        unit_cost: (day, product) cost of a unit.
        promo_cut: (day, product) advertised cut as a share of list; 0 outside leaflets.
        markdown: (day, product) end-of-season cut as a share of list; else 0. This and the next two extend `BEYOND`
            days past the future.
        in_season: (day, product) whether deliveries take place: not at a season's end.
        opening: (day, product) first day of a season.
        is_holiday: (day,) whether the day is a holiday.
        comp_seen: (day, product) whether the competitor's price was observed.
        recorded: (day, product) whether the day's row was recorded in the history.
    """

    config: ForeignConfig
    product_ids: Strings
    category_names: Strings
    truth: ForeignTruth
    unit_cost: Floats
    promo_cut: Floats
    markdown: Floats
    in_season: Bools
    opening: Bools
    is_holiday: Bools
    comp_seen: Bools
    recorded: Bools


@dataclass(frozen=True)
class Seasons:
    """Effects of seasons. Arrays are (day, product); neutral without seasons.

    Attributes:
        fall: Log units by which demand has fallen.
        markdown: Cut as a share of list.
        buying: Whether deliveries take place.
        opening: Whether a season begins.
    """

    fall: Floats
    markdown: Floats
    buying: Bools
    opening: Bools


def stream(config: ForeignConfig, name: str, part: int = 0) -> np.random.Generator:
    """Return the random generator for one kind of draw and one of its arrays (rows are days).

    Separate streams ensure that scenarios change nothing else, and that a longer future changes no earlier day.
    """
    return np.random.default_rng([FAMILY, config.seed, STREAMS.index(name), part])


def ending(price: Floats) -> Floats:
    """Round prices to end in 9 cents, at least 9 cents."""
    label: Floats = np.maximum(np.round(price, 1) - 0.01, 0.09).round(2)
    return label


def draw_world(config: ForeignConfig) -> ForeignWorld:
    """Draw the market that `config` describes."""
    constants, features, products = config.constants, config.features, config.products
    dates = np.datetime64(FIRST_DAY, "D") + np.arange(config.total_days)
    rng = stream(config, "product")
    category = rng.permutation(np.arange(products) % config.categories)
    log_slope = np.log(constants.slope) + constants.product_spread * rng.standard_normal(products)
    log_slope += constants.category_spread * rng.standard_normal(config.categories)[category]
    slope = np.clip(np.exp(log_slope), *constants.slope_bounds)
    log_volume = np.log(constants.volume) + features.volume_spread * rng.standard_normal(products)
    base_cost = constants.cost[0] * np.exp(constants.cost[1] * rng.standard_normal(products))
    cross, lift = rng.uniform(*constants.cross, products), rng.uniform(*constants.lift, products)
    launch = np.where(
        rng.random(products) < constants.late_launch, rng.integers(1, max(2, config.days // 2), products), 0
    )
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
    potential = np.bincount(category, volume)[category] / features.inside
    truth = ForeignTruth(
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
        scenario=features,
    )
    names = [*CATEGORY_NAMES, *(f"category-{number}" for number in range(len(CATEGORY_NAMES), config.categories))]
    return ForeignWorld(
        config=config,
        product_ids=np.array([f"F{row + 1:05d}" for row in range(products)]),
        category_names=np.array(names)[category],
        truth=truth,
        unit_cost=unit_cost,
        promo_cut=promo_cut,
        markdown=seasons.markdown,
        in_season=seasons.buying,
        opening=seasons.opening,
        is_holiday=holidays_among(dates),
        comp_seen=stream(config, "sighting").random(level.shape, dtype=np.float32) < constants.comp_seen,
        recorded=stream(config, "record").random(level.shape, dtype=np.float32) > 0.004,
    )


def _nested_slope(config: ForeignConfig, slope: Floats) -> Floats:
    """Slope within a nest that gives a product of mean share the elasticity `slope`; `slope` without nests.

    d log units / d log price = −nested slope × (1 − share × (1 − (1 − nest) × (1 − inside))), so a product that
    dominates its category is less elastic.
    """
    nest = config.features.nest
    if nest is None:
        return slope
    share = config.categories / config.products
    inner: Floats = slope / (1 - min(share, 0.5) * (1 - (1 - nest) * (1 - config.features.inside)))
    return inner


def _unit_costs(config: ForeignConfig, category: Ints, base_cost: Floats) -> Floats:
    """(day, product) costs, which change at the start of 28-day months."""
    constants, months = config.constants, config.total_days // 28 + 1

    def steps(rate: tuple[float, float], columns: int, part: int) -> Floats:
        moves = stream(config, "cost", part).random((months, columns)) < rate[0]
        moved = moves * rate[1] * stream(config, "cost", part + 1).standard_normal((months, columns))
        moved[0] = 0.0
        path: Floats = np.cumsum(moved, axis=0)
        return path

    log_cost = steps(constants.category_cost, config.categories, 0)[:, category]
    log_cost += steps(constants.product_cost, config.products, 2)
    cost: Floats = np.maximum(base_cost * np.exp(log_cost), 0.05).round(2)
    return cost[np.arange(config.total_days) // 28]


def _list_prices(config: ForeignConfig, category: Ints, unit_cost: Floats) -> Floats:
    """(day, product) cost times a mark-up independent of elasticity, reviewed quarterly, or `price_changes` changes."""
    constants, rng = config.constants, stream(config, "list")
    markup = constants.keystone * np.exp(constants.keystone_error * rng.standard_normal(config.products))
    markup = np.maximum(markup, 1.15)
    days = np.arange(config.total_days)
    if config.features.price_changes is None:
        offset = rng.integers(0, constants.list_review, config.categories)[category]
        reviewed = np.maximum(days[:, None] - (days[:, None] - offset) % constants.list_review, 0)
        return ending(np.take_along_axis(unit_cost, reviewed, axis=0) * markup)
    path = np.zeros((config.total_days, config.products))
    for number in range(config.features.price_changes):
        when = rng.integers(config.days // 6, config.days - config.days // 6, config.products)
        size = constants.keystone_error * rng.standard_normal(config.products)
        size = np.where(np.abs(size) < LEAST_CHANGE, LEAST_CHANGE * np.where(size < 0, -1, 1), size)
        happens = (number == 0) | (rng.random(config.products) < 0.5)  # each further change for half of the products
        path += np.where(happens & (days[:, None] >= when), size, 0.0)
    return ending(unit_cost[0] * markup * np.exp(path))


def _levels(config: ForeignConfig, category: Ints, dates: Days) -> Floats:
    """(day, product) log effects of weekday, paydays, triangular yearly season, holidays and level shifts, around 0."""
    constants, rng = config.constants, stream(config, "calendar")
    strength = rng.uniform(0.5, 1.5, config.categories)
    week = np.array(constants.week)[weekday(dates)][:, None] * strength
    day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64)
    payday = constants.payday * (day_of_month < 5)[:, None]
    phase = rng.uniform(0, 1, config.categories)
    turn = (np.arange(config.total_days)[:, None] / 365.25 + phase) % 1
    year = constants.year * rng.uniform(0.2, 1.0, config.categories) * (4 * np.abs(turn - 0.5) - 1)
    holiday = rng.normal(*constants.holiday, config.categories) * holidays_among(dates)[:, None]
    level = (week + payday + year + holiday)[:, category]
    spread, apart = constants.shift
    shifted = stream(config, "calendar", 1).random(level.shape) < 1 / apart
    shifts = np.cumsum(shifted * spread * stream(config, "calendar", 2).standard_normal(level.shape), axis=0)
    summed: Floats = (level + shifts).astype(np.float32)
    return summed


def _shocks(config: ForeignConfig, category: Ints) -> Floats:
    """(day, product) hidden log shocks: AR(1) per product plus a weekly normal shock per category."""
    constants, rng = config.constants, stream(config, "shock")
    spread, persistence = constants.shock
    own = np.empty((config.total_days, config.products))
    own[0] = spread * rng.standard_normal(config.products)
    for day in range(1, config.total_days):
        step = spread * np.sqrt(1 - persistence**2) * rng.standard_normal(config.products)
        own[day] = persistence * own[day - 1] + step
    shape = (config.total_days // 7 + 1, config.categories)
    weeks = constants.category_week * stream(config, "shock", 1).standard_normal(shape)
    shared = weeks[np.arange(config.total_days) // 7][:, category]
    return (own + shared).astype(np.float32)


def _comp_prices(config: ForeignConfig, list_price: Floats) -> Floats:
    """(day, product) competitor's prices: its own level around list prices, drawn anew every fortnight."""
    constants, rng = config.constants, stream(config, "rival")
    level = constants.comp_level * rng.standard_normal(config.products)
    fortnight = np.arange(config.total_days) // 14
    noise = constants.comp_move * rng.standard_normal((int(fortnight[-1]) + 1, config.products))
    return ending(list_price[fortnight * 14] * np.exp(level + noise[fortnight]))


def _leaflets(config: ForeignConfig) -> tuple[Bools, Floats]:
    """(day, product) whether a fortnightly leaflet advertises the product (first week only), and its cut."""
    constants, features = config.constants, config.features
    rate = constants.promo_rate if features.promo_rate is None else features.promo_rate
    if features.price_changes is not None:
        rate = 0.0
    fortnights = config.total_days // 14 + 1
    listed = stream(config, "leaflet").random((fortnights, config.products)) < rate
    cut = stream(config, "leaflet", 1).choice(constants.promo_cuts, (fortnights, config.products)).astype(np.float32)
    days = np.arange(config.total_days)
    is_promo = listed[days // 14] & (days % 14 < 7)[:, None]
    return is_promo, np.where(is_promo, cut[days // 14], np.float32(0))


def _seasons(config: ForeignConfig) -> Seasons:
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


def _crowds(config: ForeignConfig) -> tuple[Floats, float]:
    """(day, product) log-normal factor on demand, 0 where off shelf; and the negative binomial size of its variance."""
    constants = config.constants
    shape = (config.total_days, config.products)
    noise = constants.day_noise
    factor = np.exp(noise * stream(config, "crowd").standard_normal(shape) - noise**2 / 2)
    there = stream(config, "crowd", 1).random(shape) >= constants.off_shelf
    kept = 1 - constants.off_shelf
    size = 1 / (np.exp(noise**2) / kept - 1)
    return (factor * there / kept).astype(np.float32), float(size)
