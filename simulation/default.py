"""The default family: demand that is quadratic in logs, a grocer who reacts to it, a competitor who follows."""

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints, weekday_of
from simulation.config import BEYOND, MarketConfig
from simulation.truth import DefaultTruth, holidays_among
from simulation.world import BAND, Incumbent, Rival, Shelf, Supply, World, autoregression, names_of, next_days

PRICE_POINTS = 27  # prices that the incumbent uses between 0.70 and 1.35 × list
FIRST_DAY = "2023-03-01"
CATEGORY_NAMES = ("bakery", "beverages", "coffee", "dairy", "frozen", "household", "personal", "snacks")
STREAMS = (
    *("product", "calendar", "shock", "supplier", "cost", "list", "promo", "shopper", "crowd", "supply", "rival"),
    *("incumbent", "record", "sighting"),
)
MARKUP_BOUNDS = (1.25, 3.0)  # plausible mark-up factors
BELIEF_BOUNDS = (1.5, 5.0)
USUAL_ERROR = 0.2  # sd of the log error of a new product's expected sales
FRESH = 0.15  # weight of today's hidden shock in the incumbent's demand signal; the rest is its moving average
SLOWNESS = 14.0  # days of that exponential moving average
SEEN_NOISE = 0.20  # sd of the noise in the demand signal
REACTION = 0.15  # log price per unit of the demand signal
CLEAR_COVER = 2.5  # cover, in delivery intervals of usual sales, above which the incumbent clears stock
CLEAR_CUT = 0.15  # log price cut in a clearance
MISTAKE = (0.05, 0.12)  # probability per week that it misprices a product, and the sd of that error
WOBBLE = 0.02  # sd of the log price noise of an ordinary week


def draw(config: MarketConfig) -> tuple[World, Incumbent]:
    """Draw the market that `config` describes, and its incumbent."""
    world = draw_world(config)
    return world, Grocer(world).prices


def stream(config: MarketConfig, name: str) -> np.random.Generator:
    """Return the random generator for one kind of draw; separate streams keep the others unchanged by an option."""
    return np.random.default_rng([config.seed, STREAMS.index(name)])


def draw_world(config: MarketConfig) -> World:
    """Draw the market. Days are drawn in order: a longer future changes no earlier day."""
    constants = config.constants
    days, products = config.total_days, config.total_products
    dates = np.datetime64(FIRST_DAY, "D") + np.arange(days)
    rng = stream(config, "product")

    category = rng.permutation(np.arange(products) % config.categories)
    category_slope = config.mean_slope * np.exp(constants.category_spread * rng.standard_normal(config.categories))
    slope = category_slope[category] * np.exp(constants.product_spread * rng.standard_normal(products))
    low, high = constants.elasticity_bounds
    slope = np.clip(slope, low, high * max(1.0, config.mean_slope / 2.5))

    volume_log = constants.volume[1] * rng.standard_normal(products)
    base_cost = constants.cost[0] * np.exp(constants.cost[1] * rng.standard_normal(products) - volume_log / 2)
    base_cost = np.maximum(base_cost, 0.25)
    weekend = rng.uniform(*constants.weekend, products)
    curvature = rng.uniform(*constants.curvature, products)
    cross = rng.uniform(*constants.cross, products)
    lift = rng.uniform(*constants.promo_lift, products)
    launch = _launch_days(config, rng)

    unit_cost = _unit_costs(config, category, base_cost)
    list_price = _list_prices(config, category, category_slope, unit_cost)
    shock = _shocks(config, category)
    level = _levels(config, category, dates)
    level += shock + (np.log(constants.volume[0]) + volume_log).astype(np.float32)
    is_promo, promo_cut = _promotions(config)
    truth = DefaultTruth(
        features=config.features,
        dates=dates,
        category=category,
        launch=launch,
        anchor=list_price[0].copy(),
        slope=slope,
        weekend=weekend,
        curvature=curvature,
        cross=cross,
        lift=lift,
        level=level,
        shock=shock,
        list_price=list_price,
        is_promo=is_promo,
        uniform=np.clip(stream(config, "shopper").random(level.shape, dtype=np.float32), 1e-6, 1 - 1e-6),
        day_factor=stream(config, "crowd").standard_gamma(constants.size, level.shape, dtype=np.float32)
        / np.float32(constants.size),
        size=constants.size,
        history=config.days,
    )
    return World(
        config=config,
        product_ids=np.array([f"P{row + 1:05d}" for row in range(products)]),
        category_names=names_of(config.categories, CATEGORY_NAMES)[category],
        truth=truth,
        unit_cost=unit_cost,
        promo_cut=promo_cut,
        comp_seen=stream(config, "sighting").random(level.shape, dtype=np.float32) > 0.04,
        recorded=stream(config, "record").random(level.shape, dtype=np.float32) > 0.004,
        supply=_supply(config),
        rival=_rival(config, truth),
    )


def _launch_days(config: MarketConfig, rng: np.random.Generator) -> Ints:
    """(product,) launch day: mostly 0, for about an eighth during the history, for unseen products after it."""
    launch = np.zeros(config.total_products, dtype=np.int64)
    late = rng.random(config.products) < 0.12
    when = rng.integers(config.days // 8, max(config.days // 8 + 1, config.days - 45), config.products)
    launch[: config.products] = np.where(late, when, 0)
    unseen = config.total_products - config.products
    launch[config.products :] = config.days + rng.integers(0, max(1, min(28, config.future)), unseen)
    return launch


def _unit_costs(config: MarketConfig, category: Ints, base_cost: Floats) -> Floats:
    """(day, product) costs that change in steps, by category (supplier) and by product."""
    constants, days = config.constants, config.total_days
    supplier = _steps(stream(config, "supplier"), (days, config.categories), constants.category_cost)
    own = _steps(stream(config, "cost"), (days, config.total_products), constants.product_cost)
    cost: Floats = np.maximum(base_cost * np.exp(own + supplier[:, category]), 0.05)
    return cost.round(2)


def _steps(rng: np.random.Generator, shape: tuple[int, int], rate: tuple[float, float]) -> Floats:
    """(day, walk) random walks with steps of sd `rate[0]`, every `rate[1]` days on average."""
    path = np.empty(shape)
    position = np.zeros(shape[1])
    for day in range(shape[0]):
        moves = rng.random(shape[1]) < 1 / rate[1]
        position += np.where(moves, rate[0] * rng.standard_normal(shape[1]), 0.0)
        path[day] = position
    return path


def _list_prices(config: MarketConfig, category: Ints, category_slope: Floats, unit_cost: Floats) -> Floats:
    """(day, product) incumbent's list prices: category mark-up with errors, cost changes passed on with delay."""
    constants, rng = config.constants, stream(config, "list")
    believed = category_slope * np.exp(constants.belief * rng.standard_normal(config.categories))
    believed = np.clip(believed, *BELIEF_BOUNDS)
    markup = np.clip(believed / (believed - 1), *MARKUP_BOUNDS)[category]
    markup = markup * np.exp(constants.list_error * rng.standard_normal(config.total_products))
    return follow_costs(config, rng, markup=np.maximum(markup, 1.1), unit_cost=unit_cost)


def follow_costs(config: MarketConfig, rng: np.random.Generator, *, markup: Floats, unit_cost: Floats) -> Floats:
    """(day, product) list prices: a factor, (product,), on the cost when a review last found that it had moved."""
    constants = config.constants
    review = rng.integers(0, constants.list_review, config.total_products)
    cost_then = unit_cost[0].copy()
    current = np.round(cost_then * markup, 2)
    path = np.empty_like(unit_cost)
    for day in range(config.total_days):
        moved = np.abs(np.log(unit_cost[day] / cost_then)) > constants.list_trigger
        reprice = moved & (day % constants.list_review == review)
        cost_then = np.where(reprice, unit_cost[day], cost_then)
        current = np.where(reprice, np.round(cost_then * markup, 2), current)
        path[day] = current
    return path


def _shocks(config: MarketConfig, category: Ints) -> Floats:
    """(day, product) hidden demand shocks: a stationary AR(1) per product plus one per category."""
    products = config.total_products
    (spread, persistence), (wide, lasting) = config.constants.product_shock, config.constants.category_shock
    normal = stream(config, "shock").standard_normal((config.total_days, products + config.categories))
    own = autoregression(normal[:, :products], spread=spread, persistence=persistence)
    shared = autoregression(normal[:, products:], spread=wide, persistence=lasting)
    return (own + shared[:, category]).astype(np.float32)


def _levels(config: MarketConfig, category: Ints, dates: Days) -> Floats:
    """(day, product) log effects of weekday, season, holidays, trends and level shifts, around 0."""
    constants, rng = config.constants, stream(config, "calendar")
    products = config.total_products
    week = 0.10 * rng.standard_normal((7, config.categories)) + rng.uniform(0.05, 0.45) * np.array(
        [[-0.4], [-0.5], [-0.4], [-0.1], [0.4], [0.8], [0.2]]
    )
    own_week = 0.05 * rng.standard_normal((7, products))
    phase = rng.uniform(0, 2 * np.pi, config.categories)
    amplitude = rng.uniform(0.05, constants.season, config.categories)
    holiday_lift = rng.normal(0.15, 0.20, config.categories)
    trend = constants.trend * rng.standard_normal(products) / 365
    day_of_year = 2 * np.pi * np.arange(config.total_days) / 365.25
    season = amplitude * np.sin(day_of_year[:, None] + phase)
    near = _holiday_nearness(dates)[:, None] * holiday_lift
    level = (season + near + week[weekday_of(dates)])[:, category].astype(np.float32)
    level += _steps(rng, level.shape, constants.shift)
    level += own_week[weekday_of(dates)]
    level += trend * (np.arange(config.total_days)[:, None] - config.days / 2)
    return level


def _holiday_nearness(dates: Days) -> Floats:
    """(date,) 1 on a holiday, less on each of the three days before it."""
    nearness = np.zeros(len(dates))
    for before, weight in enumerate((1.0, 0.8, 0.5, 0.25)):
        nearness = np.maximum(nearness, weight * holidays_among(dates + before))
    return nearness


def _promotions(config: MarketConfig) -> tuple[Bools, Floats]:
    """(day, product) advertising plan, in weeks that start on a product's own weekday, and planned cuts."""
    constants, rng = config.constants, stream(config, "promo")
    products, weeks = config.total_products, config.total_days // 7 + 2
    rate = rng.uniform(0, constants.promo_rate, products)
    phase = rng.integers(0, 7, products)
    planned = np.empty((weeks, products), dtype=np.bool_)
    cut = np.empty((weeks, products), dtype=np.float32)
    for week in range(weeks):
        planned[week] = rng.random(products) < rate
        depth = rng.choice([0.10, 0.15, 0.20, 0.25, 0.30], products)
        cut[week] = np.where(rng.random(products) < constants.idle_promo, 0.0, depth)
    block = (np.arange(config.total_days)[:, None] + phase) // 7
    columns = np.arange(products)
    is_promo = planned[block, columns]
    return is_promo, np.where(is_promo, cut[block, columns], 0.0).astype(np.float32)


def _supply(config: MarketConfig) -> Supply:
    """Draw purchasing: deliveries on a product's own weekday, mostly each week."""
    constants, days, products = config.constants, config.total_days + BEYOND, config.total_products
    rng = stream(config, "supply")
    interval = np.where(rng.random(products) < 0.75, 7, 14)
    phase, lead = rng.integers(0, interval), rng.integers(1, 5, products)
    cover = rng.uniform(*constants.order_cover, products)
    first_guess = np.exp(USUAL_ERROR * rng.standard_normal(products))
    weeks = (config.total_days // 7 + 2, products)
    order_error = np.exp(constants.order_error * rng.standard_normal(weeks)).astype(np.float32)
    delivers = (np.arange(days)[:, None] - phase) % interval == 0
    return Supply(
        delivers=delivers,
        next_day=next_days(delivers)[: config.total_days],
        gap=interval,
        span=np.broadcast_to(interval, delivers.shape),
        buying=np.broadcast_to(True, delivers.shape),
        lead=lead,
        cover=cover,
        order_error=order_error[np.arange(config.total_days) // 7],
        first_guess=first_guess,
        weight=1 / 21,
    )


def _rival(config: MarketConfig, truth: DefaultTruth) -> Rival:
    """Draw the competitor."""
    constants, rng = config.constants, stream(config, "rival")
    moves = np.empty((config.total_days, config.total_products), dtype=np.bool_)
    noise = np.empty(moves.shape, dtype=np.float32)
    ratio = np.exp(rng.normal(0.0, 0.08, config.total_products))
    for day in range(config.total_days):
        moves[day] = rng.random(config.total_products) < constants.competitor_change
        noise[day] = np.exp(constants.competitor_noise * rng.standard_normal(config.total_products))
    return Rival(
        launch=truth.launch,
        list_price=truth.list_price,
        ratio=ratio,
        moves=moves,
        noise=noise,
        pull=constants.competitor_pull,
    )


class Grocer:
    """Pricing policy of the history: reprices each product weekly on its own weekday; advertised cuts come first."""

    def __init__(self, world: World) -> None:
        config = world.config
        self._world = world
        self._rng = stream(config, "incumbent")
        self._weekday = self._rng.integers(0, 7, config.total_products)
        self._hand = np.zeros(config.total_products)
        self._felt = np.zeros(config.total_products)
        steps = np.linspace(*BAND, PRICE_POINTS)
        steps[np.argmin(np.abs(steps - 1))] = 1.0
        self._steps = steps

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) prices of the day; must be called once for each day in order."""
        world, truth = self._world, self._world.truth
        self._felt += (truth.shock[day] - self._felt) / SLOWNESS
        todays = day % 7 == self._weekday
        self._hand = np.where(todays, self._new_hand(day, shelf), self._hand)
        factor = np.where(truth.is_promo[day], 1 - world.promo_cut[day], np.exp(self._hand))
        nearest = self._steps[np.argmin(np.abs(factor[:, None] - self._steps), axis=1)]
        price: Floats = np.maximum(np.round(nearest * truth.list_price[day], 2), world.unit_cost[day])
        return price

    def _new_hand(self, day: int, shelf: Shelf) -> Floats:
        """(product,) log factor on the list price: reaction to demand and excess stock, noise and errors."""
        noise, wobble, error = self._rng.standard_normal((3, len(self._hand)))
        chance = self._rng.random(len(self._hand))
        seen = FRESH * self._world.truth.shock[day] + (1 - FRESH) * self._felt + SEEN_NOISE * noise
        cover = shelf.stock / np.maximum(shelf.usual * self._world.supply.gap, 0.1)
        answer = REACTION * seen - CLEAR_CUT * (cover > CLEAR_COVER)
        mistake = np.where(chance < MISTAKE[0], MISTAKE[1] * error, 0.0)
        hand: Floats = self._world.config.endogeneity * answer + WOBBLE * wobble + mistake
        return hand
