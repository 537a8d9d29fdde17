"""Options of the second market family: scenarios by name, shared constants, development and held-out seeds."""

from dataclasses import dataclass, field

from pricing.errors import ConfigError

FIRST_DAY = "2022-01-03"  # a Monday, so that weeks of 7 days are weeks of the calendar
DEVELOPMENT_SEEDS = tuple(range(200, 220))  # markets for development
HELD_OUT_SEEDS = tuple(range(300, 320))  # markets for evaluation only
HELD_DAYS = 28  # days that a price is held for an elasticity to count as long-run


@dataclass(frozen=True)
class Constants:
    """Constants shared by all scenarios. Logs are natural; "sd" is a standard deviation.

    Each is taken from the literature or plausibility, none from a model's results.

    Attributes:
        slope: Median size of a product's elasticity at its first list price; a meta-analysis of 1,851 elasticities has
            a mean of 2.6 and a median of 2.2 (Bijmolt, van Heerde & Pieters 2005).
        category_spread: Sd of the log elasticity between categories.
        product_spread: Sd of the log elasticity between the products of a category; together they match the
            interquartile range of that meta-analysis.
        slope_bounds: Smallest and largest size of an elasticity at the first list price.
        volume: Median units a day: of a single shop, not a chain.
        cost: Median unit cost in currency units, and the sd of its log: general merchandise.
        keystone: Mark-up factor on cost; doubling the cost is a retail rule of thumb, whatever the elasticity.
        keystone_error: Sd of the log of a product's own mark-up.
        list_review: Days between two reviews of a list price: quarterly.
        category_cost: Probability per month of a change in a category's costs, and the sd of the log change.
        product_cost: The same for a product.
        cross: Lowest and highest response of log demand to (competitor's price / first list price − 1): cross
            elasticities between shops are mostly below 0.7.
        lift: Lowest and highest log lift of an advertised cut beyond the price effect.
        promo_rate: Share of products in a fortnightly leaflet.
        promo_cuts: Cuts below list in a leaflet.
        week: Log factor of each weekday, Monday first: most shopping is at the end of the week.
        payday: Log factor of a month's first five days: demand follows wages (Stephens 2003).
        year: Largest amplitude of a category's yearly season, a triangle wave: seasons have kinks, not sines.
        holiday: Mean and sd over categories of the log effect of a holiday, with shops partly closed.
        shift: Sd of a level shift (another shelf, a competing product), log units, and the mean days between two.
        shock: Stationary sd of a product's hidden shock, and its AR(1) coefficient per day: lasts about three weeks.
        category_week: Sd of the weekly log shock of a category.
        day_noise: Sd of the log-normal factor of a single day.
        off_shelf: Probability per day that a product in stock is not on its shelf; audits find a few per cent.
        comp_level: Sd of the log of the competitor's own price level for a product.
        comp_move: Sd of the log noise of the competitor's prices, drawn anew every fortnight.
        comp_seen: Share of days on which the competitor's price is observed.
        followers: Share of products for which the incumbent follows lower competitor prices at each review.
        review: Days between two reviews of a category's prices: monthly.
        tilt: Sd of the log of a reviewer's own adjustment.
        felt: Log price per unit of the last four weeks' mean hidden shock: retailers charge more for what sold well.
        foresight_noise: Sd of the noise in an informed incumbent's demand signal.
        foresight_reaction: Log price per unit of that signal.
        cover: Lowest and highest order-up-to level, in usual sales over gap and lead time.
        order_error: Sd of the log error of one order.
        gap_spread: Shortest and longest gap between two deliveries, relative to a product's mean gap.
        late_launch: Share of products that launch during the first half of the history.
    """

    slope: float = 2.3
    category_spread: float = 0.25
    product_spread: float = 0.30
    slope_bounds: tuple[float, float] = (0.8, 6.0)
    volume: float = 6.0
    cost: tuple[float, float] = (8.0, 0.5)
    keystone: float = 2.0
    keystone_error: float = 0.12
    list_review: int = 91
    category_cost: tuple[float, float] = (0.20, 0.04)
    product_cost: tuple[float, float] = (0.15, 0.03)
    cross: tuple[float, float] = (0.0, 0.7)
    lift: tuple[float, float] = (0.05, 0.35)
    promo_rate: float = 0.08
    promo_cuts: tuple[float, ...] = (0.10, 0.20, 0.25)
    week: tuple[float, ...] = (-0.15, -0.20, -0.10, 0.0, 0.25, 0.30, -0.20)
    payday: float = 0.12
    year: float = 0.25
    holiday: tuple[float, float] = (-0.25, 0.15)
    shift: tuple[float, float] = (0.30, 300.0)
    shock: tuple[float, float] = (0.25, 0.95)
    category_week: float = 0.12
    day_noise: float = 0.30
    off_shelf: float = 0.02
    comp_level: float = 0.08
    comp_move: float = 0.07
    comp_seen: float = 0.6
    followers: float = 0.3
    review: int = 28
    tilt: float = 0.05
    felt: float = 0.10
    foresight_noise: float = 0.10
    foresight_reaction: float = 0.35
    cover: tuple[float, float] = (0.8, 1.6)
    order_error: float = 0.30
    gap_spread: tuple[float, float] = (0.5, 1.5)
    late_launch: float = 0.10


@dataclass(frozen=True)
class Scenario:
    """Deviations of one scenario from the defaults.

    Attributes:
        title: One line for tables.
        bend: Power of price to which the elasticity is proportional; 1 is demand exponential in price.
        stockpile_days: Days of use that shoppers stockpile per log unit of cut below list; 0 for none.
        trip: Days over which they adjust to the desired household stock: two weeks of shopping trips.
        gain: Reference-price effect below the reference price, as a share of the elasticity.
        loss: The same above it; losses weigh about twice as much (Hardie, Johnson & Fader 1993).
        memory: Daily carry-over of the reference price; 0.93 is 0.6 a week, within published estimates
            (Greenleaf 1995; Briesch et al. 1997).
        nest: Nest correlation within a category, 0 to 1; None if products are no substitutes.
        inside: Share of a category's shoppers who buy at first list prices; the rest take the outside option.
        seasons: Whether products have seasons, at whose ends demand falls and prices are cut in steps.
        foresight: Share of the coming four weeks' hidden shock in the incumbent's demand signal.
        price_changes: Largest number of price changes in the history; None for an incumbent with monthly reviews.
        promo_rate: Share of products in a leaflet; None for the default.
        volume_spread: Sd of the log volume over products.
        gap: Shortest and longest mean gap between deliveries, days.
        lead: Shortest and longest lead time, days.
        announces_deliveries: Whether requests carry the date of the next delivery.
        oracle_limit: Why the oracle may not be the best policy: with household stock or reference prices it assumes
            held prices; with substitutes it optimises each product given the others' prices.
    """

    title: str
    bend: float = 1.0
    stockpile_days: float = 0.0
    trip: float = 14.0
    gain: float = 0.0
    loss: float = 0.0
    memory: float = 0.93
    nest: float | None = None
    inside: float = 0.3
    seasons: bool = False
    foresight: float = 0.0
    price_changes: int | None = None
    promo_rate: float | None = None
    volume_spread: float = 1.2
    gap: tuple[int, int] = (5, 12)
    lead: tuple[int, int] = (2, 7)
    announces_deliveries: bool = True
    oracle_limit: str = ""


SCENARIOS: dict[str, Scenario] = {
    "clearance": Scenario(
        "Seasons: demand falls towards their end, and prices are cut in steps", seasons=True, promo_rate=0.0
    ),
    # 18 days of use per log unit: a cut of 20 % stockpiles four days, so that about a third of a week's extra sales are
    # taken from later weeks (van Heerde, Leeflang & Wittink 2004) and the first week overstates the elasticity by about
    # that third (Hendel & Nevo 2006). Such goods are promoted twice as often as others.
    "stockpiling": Scenario(
        "Shoppers lay in what is cheap", stockpile_days=18.0, promo_rate=0.16, oracle_limit="held prices"
    ),
    "reference_price": Scenario(
        "Shoppers compare with the price they remember", gain=0.25, loss=0.5, oracle_limit="held prices"
    ),
    "informed": Scenario("The incumbent sees most of the coming shock", foresight=0.8),
    # Nest correlation and outside option make a category's total demand about unit elastic, as found for groceries; the
    # products' own elasticities are those of the other scenarios.
    "logit": Scenario(
        "Nested logit: products of a category substitute each other", nest=0.4, oracle_limit="product by product"
    ),
    "few_prices": Scenario("One or two price changes per product in the whole history", price_changes=2),
    "no_prices": Scenario("Prices never moved", price_changes=0),
    "heavy_tail": Scenario(
        "Heavy-tailed volumes, lead times up to 21 days, deliveries not announced",
        bend=1.2,
        volume_spread=1.6,
        gap=(8, 21),
        lead=(5, 21),
        announces_deliveries=False,
    ),
}


@dataclass(frozen=True)
class ForeignConfig:
    """Options of a market of the second family. The same options give exactly the same market.

    Attributes:
        scenario: A key of `SCENARIOS`.
        products: Number of products.
        days: Days of history.
        seed: Seed of all random draws.
        future: Days after the history available for a roll-forward.
        categories: Number of categories.
        constants: Constants shared by all scenarios.
    """

    scenario: str
    products: int = 60
    days: int = 730
    seed: int = 0
    future: int = 120
    categories: int = 6
    constants: Constants = field(default_factory=Constants)

    def __post_init__(self) -> None:
        """Validate the options.

        Raises:
            ConfigError: Options are out of range or the scenario is unknown; the message names all of them.
        """
        rules = {
            f"scenario must be one of {', '.join(SCENARIOS)}, not {self.scenario!r}": self.scenario in SCENARIOS,
            "products must be at least 1": self.products >= 1,
            "days must be at least 56": self.days >= 56,
            "seed must not be negative": self.seed >= 0,
            "future must not be negative": self.future >= 0,
            "categories must be at least 1": self.categories >= 1,
        }
        broken = [rule for rule, kept in rules.items() if not kept]
        if broken:
            raise ConfigError("foreign market: " + "; ".join(broken))

    @property
    def features(self) -> Scenario:
        """Deviations of the scenario."""
        return SCENARIOS[self.scenario]

    @property
    def total_days(self) -> int:
        """Days of history and future together."""
        return self.days + self.future

    @property
    def total_products(self) -> int:
        """Number of products; none launches after the history."""
        return self.products
