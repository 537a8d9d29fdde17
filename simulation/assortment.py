"""Products of a market, their costs and list prices, and which of them are promoted when."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from simulation.config import INSIDE, MarketConfig
from simulation.draws import ending, random_walk, steps, stream

KEYSTONE = 2.0  # mark-up factor on cost; doubling the cost is a retail rule of thumb, whatever the elasticity
MONTH = 28  # days
LEAST_CHANGE = 0.04  # least log size of a price change that follows no cost
WEEKLY_CUTS = (0.10, 0.15, 0.20, 0.25, 0.30)  # cuts below list in an advertised week
IDLE_PROMO = 0.08  # share of advertised weeks in which the price is not cut at all
LEAFLET_CUTS = (0.10, 0.20, 0.25)  # cuts below list in a leaflet
PROMO_PERIOD = 30  # days in which a product has at most one promotion
PROMO_START = 20  # days of that period in which it can begin, so that promotions do not touch
PROMO_DAYS = (5, 10)  # shortest and longest promotion: a leaflet's week, with its weekends
PROMO_CUT = (0.10, 0.30)  # shallowest and deepest of these promotions below list


@dataclass(frozen=True)
class Assortment:
    """Products, as drawn before any day. Arrays are (product,) unless another shape is given."""

    category: Ints  # row among the categories
    category_slope: Floats  # (category,) size of a category's elasticities
    # Size of the elasticity at the first list price; for a quadratic curve that of weekdays, in a nest that of the
    # product's utility, without substitutes and outside option.
    slope: Floats
    log_volume: Floats  # of usual units a day
    cost: Floats  # unit cost at first
    weekend: Floats  # relative change of the elasticity on weekends
    curvature: Floats  # growth of the elasticity per log unit of price
    cross: Floats  # response of log demand to the competitor's price
    lift: Floats  # log lift of an advertised cut
    launch: Ints  # first day on sale


def draw_assortment(config: MarketConfig) -> Assortment:
    """Draw the products. The order of draws is part of what a seed means."""
    settings, products = config.settings, config.total_products
    rng = stream(config, "product")
    category = rng.permutation(np.arange(products) % config.categories)
    category_slope, slope = _slopes(config, rng, category)
    volume = settings.volume[1] * rng.standard_normal(products)
    cost = settings.cost[0] * np.exp(
        settings.cost[1] * rng.standard_normal(products) - settings.cost_by_volume * volume
    )
    quadratic = settings.demand == "quadratic"
    return Assortment(
        category=category,
        category_slope=category_slope,
        slope=slope,
        log_volume=np.log(settings.volume[0]) + volume,
        cost=np.maximum(cost, 0.25),
        weekend=rng.uniform(*settings.weekend, products) if quadratic else np.zeros(products),
        curvature=rng.uniform(*settings.curvature, products) if quadratic else np.zeros(products),
        cross=rng.uniform(*settings.cross, products),
        lift=rng.uniform(*settings.promo_lift, products),
        launch=_launch_days(config, rng),
    )


def _slopes(config: MarketConfig, rng: np.random.Generator, category: Ints) -> tuple[Floats, Floats]:
    """(category,) and (product,) sizes of elasticities, log-normal between categories and between their products."""
    settings = config.settings
    if settings.demand == "quadratic":
        category_slope = settings.slope * np.exp(settings.category_spread * rng.standard_normal(config.categories))
        slope = category_slope[category] * np.exp(settings.product_spread * rng.standard_normal(len(category)))
        return category_slope, np.clip(slope, *settings.slope_bounds)

    own = settings.product_spread * rng.standard_normal(len(category))
    shared = settings.category_spread * rng.standard_normal(config.categories)
    slope = np.clip(np.exp(np.log(settings.slope) + own + shared[category]), *settings.slope_bounds)
    if settings.nest is not None:
        # The slope within a nest that gives a product of mean share this elasticity:
        # d log units / d log price = −nested slope × (1 − share × (1 − (1 − nest) × (1 − inside))).
        share = min(config.categories / config.products, 0.5)
        slope = slope / (1 - share * (1 - (1 - settings.nest) * (1 - INSIDE)))
    return settings.slope * np.exp(shared), slope


def _launch_days(config: MarketConfig, rng: np.random.Generator) -> Ints:
    """(product,) launch day: mostly 0, for some during the history, for unseen products after it."""
    share_from, share_until, less = config.settings.launch_days
    first = max(1, int(share_from * config.days))
    last = max(first + 1, int(share_until * config.days) - less)
    late = rng.random(config.products) < config.settings.late_launches
    launch = np.where(late, rng.integers(first, last, config.products), 0)
    unseen = config.total_products - config.products
    after = config.days + rng.integers(0, max(1, min(28, config.future)), unseen)
    return np.concatenate([launch, after])


def draw_unit_costs(config: MarketConfig, assortment: Assortment) -> Floats:
    """(day, product) costs that change in steps, by category (supplier) and by product."""
    settings, days = config.settings, np.arange(config.total_days)
    of_categories = (len(days), config.categories)
    of_products = (len(days), config.total_products)
    if settings.costs == "daily":
        shared = random_walk(stream(config, "supplier"), of_categories, settings.category_cost)
        own = random_walk(stream(config, "cost"), of_products, settings.product_cost)
    else:
        shared = _monthly_walk(config, 0, of_categories, settings.category_cost)
        own = _monthly_walk(config, 2, of_products, settings.product_cost)
    cost: Floats = np.maximum(assortment.cost * np.exp(own + shared[:, assortment.category]), 0.05)
    return cost.round(2)


def _monthly_walk(config: MarketConfig, part: int, shape: tuple[int, int], rate: tuple[float, float]) -> Floats:
    """(day, walk) random walks that move at the start of 28-day months."""
    days, walks = shape
    moved = steps(config, "cost", part, (days // MONTH + 1, walks), (rate[0], rate[1] / MONTH))
    moved[0] = 0.0
    walk: Floats = np.cumsum(moved, axis=0)[np.arange(days) // MONTH]
    return walk


def draw_list_prices(config: MarketConfig, assortment: Assortment, unit_cost: Floats) -> Floats:
    """(day, product) the incumbent's list prices: a mark-up on the cost of the last review, or few changes of them."""
    settings, rng = config.settings, stream(config, "list")
    markup = _markups(config, rng, assortment)
    if settings.price_changes is not None:
        return ending(unit_cost[0] * markup * np.exp(_rare_changes(config, rng)))
    if settings.reviews_categories:
        review = rng.integers(0, settings.list_review, config.categories)[assortment.category]
    else:
        review = rng.integers(0, settings.list_review, config.total_products)

    cost_then = unit_cost[0]
    path = np.empty_like(unit_cost)
    for day in range(config.total_days):
        moved = np.abs(np.log(unit_cost[day] / cost_then)) > settings.list_trigger
        reprice = moved & (day % settings.list_review == review)
        cost_then = np.where(reprice, unit_cost[day], cost_then)
        path[day] = cost_then
    price = ending(path * markup) if settings.nines else np.round(path * markup, 2)
    return np.maximum(price, unit_cost) if settings.list_covers_cost else price


def _markups(config: MarketConfig, rng: np.random.Generator, assortment: Assortment) -> Floats:
    """(product,) mark-up factors: the best at the elasticities believed, or a keystone; with errors."""
    settings, products = config.settings, config.total_products
    markup = np.full(products, KEYSTONE)
    if settings.belief is not None:
        slope = assortment.category_slope if settings.believes_by_category else assortment.slope
        believed = np.clip(slope * np.exp(settings.belief * rng.standard_normal(len(slope))), *settings.belief_bounds)
        markup = believed / (believed - 1)
        if settings.believes_by_category:
            markup = markup[assortment.category]
    if settings.list_error:
        error = np.exp(settings.list_error * rng.standard_normal(products))
        markup = np.maximum(markup * error, settings.least_markup)
    return markup


def _rare_changes(config: MarketConfig, rng: np.random.Generator) -> Floats:
    """(day, product) log changes of list prices, each after the first for half of the products only."""
    days, products = np.arange(config.total_days)[:, None], config.total_products
    path = np.zeros((len(days), products))
    for number in range(config.settings.price_changes or 0):
        when = rng.integers(config.days // 6, config.days - config.days // 6, products)
        size = config.settings.list_error * rng.standard_normal(products)
        size = np.where(np.abs(size) < LEAST_CHANGE, LEAST_CHANGE * np.where(size < 0, -1, 1), size)
        happens = (number == 0) | (rng.random(products) < 0.5)
        path += np.where(happens & (days >= when), size, 0.0)
    return path


def draw_promotions(config: MarketConfig) -> tuple[Bools, Floats]:
    """(day, product) advertising plan, and its cuts as a share of list; 0 where nothing is advertised."""
    draw = {"weeks": _advertised_weeks, "leaflets": _leaflets, "periods": _promotion_periods}
    is_promo, cut = draw[config.settings.promotions](config, np.arange(config.total_days))
    return is_promo, np.where(is_promo, cut, 0.0).astype(np.float32)


def _advertised_weeks(config: MarketConfig, day: Ints) -> tuple[Bools, Floats]:
    """Weeks that start on a product's own weekday."""
    rng, products, weeks = stream(config, "promo"), config.total_products, config.total_days // 7 + 2
    rate = rng.uniform(0, config.settings.promo_rate, products)
    phase = rng.integers(0, 7, products)
    planned = np.empty((weeks, products), dtype=np.bool_)
    cut = np.empty((weeks, products))
    for week in range(weeks):
        planned[week] = rng.random(products) < rate
        depth = rng.choice(WEEKLY_CUTS, products)
        cut[week] = np.where(rng.random(products) < IDLE_PROMO, 0.0, depth)
    block = (day[:, None] + phase) // 7
    columns = np.arange(products)
    return planned[block, columns], cut[block, columns]


def _leaflets(config: MarketConfig, day: Ints) -> tuple[Bools, Floats]:
    """Fortnightly leaflets, whose prices hold in the first week."""
    shape = (config.total_days // 14 + 1, config.total_products)
    listed = stream(config, "promo").random(shape) < config.settings.promo_rate
    cut = stream(config, "promo", 1).choice(LEAFLET_CUTS, shape)
    return listed[day // 14] & (day % 14 < 7)[:, None], cut[day // 14]


def _promotion_periods(config: MarketConfig, day: Ints) -> tuple[Bools, Floats]:
    """At most one promotion in each period, of some days."""
    period, within = day // PROMO_PERIOD, (day % PROMO_PERIOD)[:, None]
    periods, products = int(period[-1]) + 1, config.total_products
    happens, begins, lasts = stream(config, "promo").random((periods, 3, products)).swapaxes(0, 1)
    least, most = PROMO_DAYS
    start = np.floor(PROMO_START * begins)[period]
    length = (least + np.floor((most - least + 1) * lasts))[period]
    running = (happens < config.settings.promo_rate)[period] & (within >= start) & (within < start + length)
    cut = stream(config, "depth").uniform(*PROMO_CUT, (periods, products))
    return running, cut[period]
