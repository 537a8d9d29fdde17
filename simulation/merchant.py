"""Third family of simulated markets: a merchandiser who knows half of each slow demand shock. `simulate_merchant`.

The demand equation, calendar, purchasing and bookkeeping are the default family's, with constants of its own. Products,
list prices, shocks, promotions, the incumbent and how closely the competitor follows are this family's.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import signal

from pricing.arrays import Bools, Floats
from pricing.errors import ConfigError
from simulation.config import MarketConfig, MarketConstants
from simulation.foreign_world import ending
from simulation.market import Market, live_through
from simulation.supply import Shelf, Supply, draw_supply
from simulation.truth import Truth
from simulation.world import World, draw_world, follow_costs

DEVELOPMENT_SEEDS = tuple(range(400, 420))  # markets for development
HELD_OUT_SEEDS = tuple(range(500, 520))  # markets for evaluation only
FAMILY = 12022  # separates these random streams from the other families' of the same seed
STREAMS = ("markup", "shock", "promo", "depth", "sighting", "tail", "incumbent")
PROMO_PERIOD = 30  # days in which a product has at most one promotion
PROMO_START = 20  # days of that period in which it can begin, so that promotions do not touch
NINES = 5.0  # price from which labels end in 9 cents; below, a step of 10 cents would be a price change by itself


@dataclass(frozen=True)
class MerchantConstants:
    """Constants of the merchandiser, shared by all variants. Logs are natural; "sd" is a standard deviation.

    Attributes:
        belief: Sd of the log error about a product's elasticity, which sets its mark-up: list prices miss the optimum
            by belief / (elasticity − 1), about 0.15 at −2.4, whatever the margin.
        belief_bounds: Smallest and largest elasticity believed: mark-up factors of 1.07 to 3.
        review_days: Mean days between two price reviews of a product; with promotions 40 to 60 moves in two years.
        reaction: Log change of the unit margin per unit of the known half of the shock: at a margin of 40 % a third of
            it goes into the price, as where managers price by what sells.
        clear_cover: Cover, in delivery intervals of usual sales, above which stock counts as high.
        clear_cut: Lowest and highest cut of a clearance, the usual first step of a markdown.
        wobble: Sd of the log noise of a reviewed price: judgement and rounding.
        promo_rate: Probability per period of 30 days that a product is promoted: four or five times a year.
        promo_days: Shortest and longest promotion: a leaflet's week, with its weekends.
        promo_cut: Shallowest and deepest promotion below list.
        top_share: Lowest and highest share of the best product in the profit at list prices: about a third.
        comp_seen: Share of days on which the competitor's price is observed: a crawl with gaps.
    """

    belief: float = 0.22
    belief_bounds: tuple[float, float] = (1.5, 15.0)
    review_days: float = 24.0
    reaction: float = 0.85
    clear_cover: float = 2.0
    clear_cut: tuple[float, float] = (0.10, 0.20)
    wobble: float = 0.015
    promo_rate: float = 0.38
    promo_days: tuple[int, int] = (5, 10)
    promo_cut: tuple[float, float] = (0.10, 0.30)
    top_share: tuple[float, float] = (0.32, 0.38)
    comp_seen: float = 0.7


CONSTANTS = MerchantConstants()
MARKET = MarketConstants(
    volume=(5.0, 1.9),  # a single shop; ten of sixty products make 60 % of the profit, before the best is raised
    cost=(12.0, 0.4),  # general merchandise
    category_spread=0.28,  # together the interquartile range of published elasticities
    product_spread=0.28,
    elasticity_bounds=(1.0, 99.0),  # each variant has its own
    weekend=(-0.10, 0.15),
    curvature=(0.2, 1.2),  # between constant elasticity and demand exponential in price (about 1)
    cross=(0.1, 0.6),  # cross elasticities between shops are mostly below 0.7
    promo_lift=(0.1, 0.4),  # beyond the price: the leaflet itself
    product_shock=(0.19, 0.96),  # each half; the sum has an sd of 0.27 and lasts about a month
    category_shock=(0.0, 0.96),  # none: the specified shock is the product's
    list_trigger=0.02,  # thin margins bear no larger cost change
    category_cost=(0.03, 150.0),  # two or three steps of some per cent a year and category
    product_cost=(0.025, 180.0),  # and two a product
    competitor_change=0.15,  # follows within a week
    competitor_pull=0.7,
    competitor_noise=0.03,
)


@dataclass(frozen=True)
class Variant:
    """What is different in a kind of merchant's market.

    Attributes:
        title: One line for tables.
        slope: Median size of a product's elasticity at its first list price.
        slope_bounds: Smallest and largest; weekends and later list prices carry it a tenth further.
        withheld: Columns that the merchant's data lack; the market's own frame has them, the platform must not.
    """

    title: str
    slope: float = 2.4
    slope_bounds: tuple[float, float] = (1.4, 6.0)
    withheld: tuple[str, ...] = ()


VARIANTS: dict[str, Variant] = {
    "plain": Variant("A merchandiser who knows half of each product's demand shock"),
    "steep": Variant("His elasticities are −4 to −15", slope=7.5, slope_bounds=(4.7, 13.0)),
    "unmarked": Variant("His advertised cuts are not marked as such", withheld=("is_promo",)),
    # Elasticities to which margins of 15 % are the answer (Lerner): at −2.4 every price would be far too low.
    "thin": Variant(
        "His margins are about 15 %, and unit costs unknown",
        slope=6.5,
        slope_bounds=(4.5, 10.0),
        withheld=("unit_cost",),
    ),
}


@dataclass(frozen=True)
class MerchantConfig:
    """Options of a merchant's market. The same options give exactly the same market.

    Attributes:
        variant: A key of `VARIANTS`.
        products: Number of products, all on sale from the first day.
        days: Days of history.
        seed: Seed of all random draws.
        future: Days after the history available for a roll-forward.
        categories: Number of categories.
    """

    variant: str = "plain"
    products: int = 60
    days: int = 730
    seed: int = 0
    future: int = 120
    categories: int = 6

    def __post_init__(self) -> None:
        """Validate the variant; `market` validates the rest.

        Raises:
            ConfigError: The variant is unknown.
        """
        if self.variant not in VARIANTS:
            raise ConfigError(f"merchant market: variant must be one of {', '.join(VARIANTS)}, not {self.variant!r}")

    @property
    def market(self) -> MarketConfig:
        """Options of the default family from which the world is drawn.

        Raises:
            ConfigError: Options are out of range.
        """
        return MarketConfig(
            products=self.products,
            days=self.days,
            seed=self.seed,
            future=self.future,
            categories=self.categories,
            mean_elasticity=-VARIANTS[self.variant].slope,
            unseen=0.0,
            constants=MARKET,
        )

    def stream(self, name: str) -> np.random.Generator:
        """Return the random generator for one kind of draw."""
        return np.random.default_rng([FAMILY, self.seed, STREAMS.index(name)])


def simulate_merchant(config: MerchantConfig | None = None) -> Market:
    """Draw a merchant's market and simulate its history under the merchandiser.

    Args:
        config: The options; the plain variant when absent.
    """
    config = config or MerchantConfig()
    world, known = draw_merchant_world(config)
    supply = draw_supply(world)
    return live_through(world, supply, Merchandiser(config, world, supply, known))


def draw_merchant_world(config: MerchantConfig) -> tuple[World, Floats]:
    """Draw the market that `config` describes, and the (day, product) half of its shock that the merchandiser knows."""
    drawn = draw_world(config.market)
    truth, constants = drawn.truth, CONSTANTS
    slope = np.clip(truth.slope, *VARIANTS[config.variant].slope_bounds)
    rng = config.stream("markup")
    error = np.exp(constants.belief * rng.standard_normal(slope.shape[1]))
    believed = np.clip(slope[0] * error, *constants.belief_bounds)
    list_price = follow_costs(drawn.config, rng, markup=believed / (believed - 1), unit_cost=drawn.unit_cost)
    list_price = np.maximum(list_price, drawn.unit_cost)  # a step between two reviews can exceed a thin margin
    known, unknown = truth.shock, _slow_shock(config, truth.shock.shape)
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
    seen = config.stream("sighting").random(known.shape, dtype=np.float32) < constants.comp_seen
    return replace(drawn, truth=truth, promo_cut=promo_cut, comp_seen=seen), known


def _slow_shock(config: MerchantConfig, shape: tuple[int, ...]) -> Floats:
    """(day, product) second half of the shock: the same stationary AR(1) as the half that the default family drew."""
    spread, persistence = MARKET.product_shock
    step = spread * np.sqrt(1 - persistence**2) * config.stream("shock").standard_normal(shape)
    step[0] /= np.sqrt(1 - persistence**2)
    half: Floats = signal.lfilter([1.0], [1.0, -persistence], step, axis=0).astype(np.float32)
    return half


def _promotions(config: MerchantConfig, shape: tuple[int, ...]) -> tuple[Bools, Floats]:
    """(day, product) promotion plan, at most one promotion in 30 days, and its cut as a share of list; 0 without."""
    constants, rng = CONSTANTS, config.stream("promo")
    day = np.arange(shape[0])[:, None]
    period, within = day[:, 0] // PROMO_PERIOD, day % PROMO_PERIOD
    draws = rng.random((period[-1] + 1, 3, shape[1]))  # whether, when, how long; by period, for any length of future
    least, most = constants.promo_days
    start = np.floor(PROMO_START * draws[:, 1])[period]
    length = (least + np.floor((most - least + 1) * draws[:, 2]))[period]
    running = (draws[:, 0] < constants.promo_rate)[period] & (within >= start) & (within < start + length)
    cut = config.stream("depth").uniform(*constants.promo_cut, (period[-1] + 1, shape[1]))[period]
    return running, np.where(running, cut, 0.0).astype(np.float32)


def _raise_best_product(config: MerchantConfig, truth: Truth, unit_cost: Floats) -> None:
    """Scale demand for the most profitable product to its drawn share of the history's profit at list prices.

    Log-normal volumes alone leave the best of 60 products with 7 to 33 %, by luck of the seed; a tail that made it a
    third on average would leave most of the others unsold. Modifies `truth.level`.
    """
    days = np.arange(config.days)[:, None]
    price = truth.list_price[: config.days]
    units = truth.expected_demand(np.arange(price.shape[1]), days, price, comp_price=price)
    profit = ((price - unit_cost[: config.days]) * units).sum(axis=0)
    best = int(np.argmax(profit))
    share = config.stream("tail").uniform(*CONSTANTS.top_share)
    rest = float(profit.sum() - profit[best])
    if rest > 0:
        truth.level[:, best] += np.log(share / (1 - share) * rest / profit[best])


class Merchandiser:
    """Pricing policy of the history: each product is reviewed at irregular times; promotions come first."""

    def __init__(self, config: MerchantConfig, world: World, supply: Supply, known: Floats) -> None:
        self._world, self._supply, self._known = world, supply, known
        self._rng = config.stream("incumbent")
        self._hand = np.zeros(known.shape[1])  # log factor on the list price

    def prices(self, day: int, shelf: Shelf) -> Floats:
        """(product,) prices of the day, at least cost; must be called once for each day in order."""
        world, list_price, cost = self._world, self._world.truth.list_price[day], self._world.unit_cost[day]
        chance, cut = self._rng.random((2, len(cost)))
        reviewed = (chance < 1 / CONSTANTS.review_days) | (day == 0)
        answer = self._answer(day, shelf, cut=cut, margin=np.maximum(1 - cost / list_price, 0.0))
        self._hand = np.where(reviewed, answer, self._hand)
        promoted = world.truth.is_promo[day]
        price = list_price * np.where(promoted, 1 - world.promo_cut[day], np.exp(self._hand))
        label: Floats = np.maximum(np.where(price >= NINES, ending(price), np.round(price, 2)), cost)
        return label

    def _answer(self, day: int, shelf: Shelf, *, cut: Floats, margin: Floats) -> Floats:
        """(product,) log factor on list that a review today sets: dearer when demand is strong, cheaper to clear."""
        least, most = CONSTANTS.clear_cut
        cover = shelf.stock / np.maximum(shelf.usual * self._supply.interval, 0.1)
        clearing = np.where(cover > CONSTANTS.clear_cover, np.log(1 - least - (most - least) * cut), 0.0)
        wobble = CONSTANTS.wobble * self._rng.standard_normal(len(cut))
        answer: Floats = CONSTANTS.reaction * margin * self._known[day] + clearing + wobble
        return answer
