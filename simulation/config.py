"""Options of the default simulated market, and the constants of its equations."""

from dataclasses import dataclass, field

from pricing.errors import ConfigError

FIRST_DAY = "2023-03-01"
HOLIDAYS = ("01-01", "02-14", "05-01", "07-04", "10-31", "11-11", "12-24", "12-25", "12-31")  # month-day, every year
DEVELOPMENT_SEEDS = tuple(range(20))  # markets for development and tuning
# Markets for evaluation only; 120 to 124 were used for new products.
HELD_OUT_SEEDS = (*range(100, 120), *range(125, 145))


@dataclass(frozen=True)
class MarketConstants:
    """The constants of the market's equations. Logs are natural; "sd" is a standard deviation.

    Frozen with the held-out seeds above: changing one invalidates every figure measured on a market.

    Attributes:
        volume: Median units a day at list price, and the sd of its log over products.
        cost: Median unit cost in currency units, and the sd of its log.
        category_spread: Sd of the log elasticity between categories.
        product_spread: Sd of the log elasticity between the products of a category.
        elasticity_bounds: Smallest and largest size of a product's elasticity when the mean is 2.5.
        weekend: Lowest and highest share by which a weekend changes a product's elasticity.
        curvature: Lowest and highest growth of the elasticity per log unit of price above the anchor.
        cross: Lowest and highest elasticity of demand in the competitor's price.
        promo_lift: Lowest and highest log lift of an advertised and really cut price.
        season: Largest amplitude of the yearly wave of a category, log units.
        trend: Sd of a product's yearly trend, log units.
        shift: Sd of a level shift, log units.
        shift_days: Mean days between two level shifts of a product.
        product_shock: Stationary sd of a product's hidden demand shock, and its AR(1) coefficient per day.
        category_shock: The same for the shock shared within a category.
        size: Size of the negative binomial of daily demand when `noise` is 1; variance is mean + mean² / size.
        belief: Sd of the incumbent's error about a category's elasticity (log), which determines its mark-up.
        list_error: Sd of the log of a product's list price around its category's mark-up.
        list_review: Days between two reviews of a list price.
        list_trigger: Cost change since the list price was last set, in log units, above which it is set again.
        category_cost: Sd of a supplier's cost change for a category, log units, and the mean days between two.
        product_cost: The same for a single product.
        fresh: Weight of today's hidden shock in the incumbent's demand signal; the rest is its moving average.
        slowness: Days of that exponential moving average.
        seen_noise: Sd of the noise in the demand signal.
        reaction: Log price per unit of the demand signal.
        clear_cover: Cover, in delivery intervals of usual sales, above which the incumbent clears stock.
        clear_cut: Log price cut in a clearance.
        mistake: Probability per week that it misprices a product, and the sd of that error.
        wobble: Sd of the log price noise of an ordinary week.
        promo_rate: Largest probability that a product is advertised in a week.
        idle_promo: Share of advertised weeks in which the price is not cut at all.
        order_cover: Lowest and highest order-up-to level, in usual sales over interval and lead time.
        order_error: Sd of the log error of one order.
        competitor_change: Probability per day that the competitor reprices a product.
        competitor_pull: Weight of the incumbent's charged price in the competitor's new one.
        competitor_noise: Sd of the log noise of a new competitor price.
    """

    volume: tuple[float, float] = (10.0, 1.4)
    cost: tuple[float, float] = (5.0, 0.4)
    category_spread: float = 0.20
    product_spread: float = 0.28
    elasticity_bounds: tuple[float, float] = (1.0, 4.5)
    weekend: tuple[float, float] = (-0.10, 0.25)
    curvature: tuple[float, float] = (0.0, 0.6)
    cross: tuple[float, float] = (0.1, 0.7)
    promo_lift: tuple[float, float] = (0.15, 0.50)
    season: float = 0.30
    trend: float = 0.10
    shift: float = 0.25
    shift_days: float = 500.0
    product_shock: tuple[float, float] = (0.25, 0.97)
    category_shock: tuple[float, float] = (0.15, 0.98)
    size: float = 10.0
    belief: float = 0.10
    list_error: float = 0.17
    list_review: int = 28
    list_trigger: float = 0.05
    category_cost: tuple[float, float] = (0.05, 90.0)
    product_cost: tuple[float, float] = (0.05, 120.0)
    fresh: float = 0.15
    slowness: float = 14.0
    seen_noise: float = 0.20
    reaction: float = 0.15
    clear_cover: float = 2.5
    clear_cut: float = 0.15
    mistake: tuple[float, float] = (0.05, 0.12)
    wobble: float = 0.02
    promo_rate: float = 0.14
    idle_promo: float = 0.08
    order_cover: tuple[float, float] = (0.8, 1.5)
    order_error: float = 0.30
    competitor_change: float = 0.04
    competitor_pull: float = 0.5
    competitor_noise: float = 0.06


@dataclass(frozen=True)
class MarketConfig:
    """Options of a market. The same options give exactly the same market.

    Attributes:
        products: Products with a history.
        days: Days of history.
        seed: Seed of all random draws.
        future: Days after the history available for a roll-forward.
        categories: Number of categories.
        mean_elasticity: Approximate mean of the products' own-price elasticities; below 0.
        endogeneity: How strongly the incumbent reacts to shocks and cover; 0 makes prices independent of demand.
        noise: Scales the over-dispersion of daily demand; 0 gives Poisson counts.
        price_points: Number of prices the incumbent uses between 0.70 and 1.35 × list.
        regime_change: Whether elasticity, level and competitor prices change for half of the categories.
        regime_lead: Days before the end of the history at which they change; below 0 for a day after the end.
        unseen: Products that launch after the end of the history, as a share of `products`.
        constants: The constants of the equations.
    """

    products: int = 60
    days: int = 730
    seed: int = 0
    future: int = 120
    categories: int = 6
    mean_elasticity: float = -2.5
    endogeneity: float = 1.0
    noise: float = 1.0
    price_points: int = 27
    regime_change: bool = False
    regime_lead: int = 45
    unseen: float = 0.05
    constants: MarketConstants = field(default_factory=MarketConstants)

    def __post_init__(self) -> None:
        """Validate the options.

        Raises:
            ConfigError: Options are out of range; the message names all of them.
        """
        rules = {
            "products must be at least 1": self.products >= 1,
            "days must be at least 28": self.days >= 28,
            "seed must not be negative": self.seed >= 0,
            "future must not be negative": self.future >= 0,
            "categories must be at least 1": self.categories >= 1,
            "mean_elasticity must lie between -10 and -1": -10 <= self.mean_elasticity <= -1,
            "endogeneity must lie between 0 and 5": 0 <= self.endogeneity <= 5,
            "noise must lie between 0 and 10": 0 <= self.noise <= 10,
            "price_points must be at least 2": self.price_points >= 2,
            "regime_lead must lie inside history and future": not self.regime_change
            or -self.future < self.regime_lead < self.days,
            "unseen must lie between 0 and 1": 0 <= self.unseen <= 1,
        }
        broken = [rule for rule, kept in rules.items() if not kept]
        if broken:
            raise ConfigError("market: " + "; ".join(broken))

    @property
    def total_days(self) -> int:
        """Days of history and future together."""
        return self.days + self.future

    @property
    def total_products(self) -> int:
        """Products with a history and those that launch after it."""
        return self.products + round(self.unseen * self.products)

    @property
    def regime_day(self) -> int:
        """First day of the new regime; past the last day without a regime change."""
        return self.days - self.regime_lead if self.regime_change else self.total_days
