"""The foreign markets' options: scenarios by name, the constants behind them, and the seeds that are sealed."""

from dataclasses import dataclass, field

from pricing.errors import ConfigError

FIRST_DAY = "2022-01-03"  # a Monday, so that weeks of 7 days are weeks of the calendar
DEVELOPMENT_SEEDS = tuple(range(200, 220))  # markets to look at
HELD_OUT_SEEDS = tuple(range(300, 320))  # markets to be judged on, and on nothing else
HELD_DAYS = 28  # days that a price is held for an elasticity to count as long-run


@dataclass(frozen=True)
class Constants:
    """What all scenarios share. Logs are natural; "sd" is a standard deviation.

    They come from literature or plausibility, one by one, and from no model's results.

    Attributes:
        slope: Median size of a product's elasticity at its first list price; the mean over categories that a
            meta-analysis of 1,851 elasticities found is 2.6, the median 2.2 (Bijmolt, van Heerde & Pieters 2005).
        category_spread: Sd of the log elasticity between categories.
        product_spread: Sd of the log elasticity between the products of a category; with the former it spreads
            elasticities as far as the middle half of that meta-analysis.
        slope_bounds: Smallest and largest size of an elasticity at the first list price.
        volume: Median units a day: that of a shop's, not of a chain's shelf.
        cost: Median unit cost in currency units, and the sd of its log: general merchandise.
        keystone: Mark-up factor on cost; doubling the cost is retail's rule of thumb, whatever demand answers.
        keystone_error: Sd of the log of a product's own mark-up.
        list_review: Days between two looks at a list price: once a quarter.
        category_cost: Chance that a month moves a category's costs, and the sd of the log move.
        product_cost: The same for a product.
        cross: Lowest and highest response of log demand to the competitor's price over the first list price, less 1:
            cross elasticities between shops are mostly below 0.7.
        lift: Lowest and highest log lift of an advertised and really cut price beyond the price's own.
        promo_rate: Share of products in a fortnight's leaflet.
        promo_cuts: Cuts below list that a leaflet prints.
        week: Log factor of each weekday, Monday first: shopping at the end of the week.
        payday: Log factor of a month's first five days: demand follows wages (Stephens 2003).
        year: Largest amplitude of a category's year, a triangle wave: stock-up seasons have kinks, not sines.
        holiday: Mean and sd over categories of the log effect of a holiday, shops being shut for part of it.
        shift: Sd of a level shift (a shelf move, a rival's listing), log units, and the mean days between two.
        shock: Stationary sd of a product's hidden shock, and its day-to-day persistence: about three weeks.
        category_week: Sd of the log shock that a category shares for one week.
        day_noise: Sd of the log-normal factor of a single day.
        off_shelf: Chance that a product is not on its shelf for a day though the stock says so; audits of
            shelves find a few per cent.
        comp_level: Sd of the log of the competitor's own price level for a product.
        comp_move: Sd of the log noise of the competitor's prices, which are new every fortnight.
        comp_seen: Share of days on which a crawl gets the competitor's price.
        followers: Share of products on which the incumbent follows the competitor down at each review.
        review: Days between two reviews of a category's prices: monthly.
        tilt: Sd of the log of what a reviewer adds by hand.
        felt: Log price per unit of the last four weeks' hidden shock: a buyer charges more for what went well.
        foresight_noise: Sd of what an informed incumbent takes for a coming shock and is none.
        foresight_reaction: Log price per unit of a shock that it sees coming.
        cover: Lowest and highest order-up-to level, in usual sales over gap and lead time.
        order_error: Sd of the log error of one order.
        gap_spread: Shortest and longest gap between two deliveries, in a product's own mean gap.
        late_launch: Share of products that launch in the first half of the history.
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
    """What one scenario does differently.

    Attributes:
        title: One line for tables.
        bend: Power of price with which the elasticity grows; 1 is demand exponential in price.
        pantry: Days of use that shoppers lay in per log unit of cut below list; 0: they lay in nothing.
        trip: Days over which they reach what they want at home: a fortnight's trips.
        gain: Pull of a price below the remembered one, in shares of the elasticity.
        loss: The same above it; shoppers mind a loss about twice as much (Hardie, Johnson & Fader 1993).
        memory: What is left of a remembered price after a day; 0.93 is 0.6 a week, between the values that have been
            estimated (Greenleaf 1995; Briesch et al. 1997).
        nest: Correlation of tastes inside a category, 0 to 1; None where products do not substitute each other.
        inside: Share of a category's shoppers who buy anything at first list prices; the rest take the outside option.
        seasons: Whether products live seasons, at whose ends demand falls and prices are cut in steps.
        foresight: Share of the coming four weeks' hidden shock that the incumbent sees.
        price_changes: Most changes of price in the whole history; None for an incumbent who reviews monthly.
        promo_rate: Share of products in a leaflet; None for the usual.
        volume_spread: Sd of the log volume over products.
        gap: Shortest and longest mean gap between deliveries, days.
        lead: Shortest and longest lead time, days.
        tells_deliveries: Whether requests carry the date of the next delivery.
        oracle_limit: What keeps the oracle from being the best of all policies: where shoppers remember, it plans as
            if each price were held; where products substitute, it moves each one as if the others stood.
    """

    title: str
    bend: float = 1.0
    pantry: float = 0.0
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
    tells_deliveries: bool = True
    oracle_limit: str = ""


SCENARIOS: dict[str, Scenario] = {
    "clearance": Scenario(
        "Seasons: demand falls towards their end, and prices are cut in steps", seasons=True, promo_rate=0.0
    ),
    # 18 days of use per log unit: a cut of 20 % lays in four days, so that about a third of a week's extra sales come
    # from later weeks (van Heerde, Leeflang & Wittink 2004), and the first week overstates the elasticity by about
    # that third (Hendel & Nevo 2006). Such goods are promoted twice as often as others.
    "stockpiling": Scenario("Shoppers lay in what is cheap", pantry=18.0, promo_rate=0.16, oracle_limit="held prices"),
    "reference_price": Scenario(
        "Shoppers compare with the price they remember", gain=0.25, loss=0.5, oracle_limit="held prices"
    ),
    "informed": Scenario("The incumbent sees most of the coming shock", foresight=0.8),
    # The correlation of tastes and the outside option make a category as a whole about unit elastic, as studies of
    # grocery categories find, while its products' own elasticities are those of the other scenarios.
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
        tells_deliveries=False,
    ),
}


@dataclass(frozen=True)
class ForeignConfig:
    """The options of a foreign market. The same options give the same market, to the last unit.

    Attributes:
        scenario: A key of `SCENARIOS`.
        products: Products.
        days: Days of history.
        seed: Seed of everything that is drawn.
        future: Days after the history that a roll-forward can use.
        categories: Categories the products belong to.
        constants: The constants that all scenarios share.
    """

    scenario: str
    products: int = 60
    days: int = 730
    seed: int = 0
    future: int = 120
    categories: int = 6
    constants: Constants = field(default_factory=Constants)

    def __post_init__(self) -> None:
        """Refuses what cannot be simulated.

        Raises:
            ConfigError: An option is out of range, or the scenario is unknown; the message names every one.
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
        """What the scenario does differently."""
        return SCENARIOS[self.scenario]

    @property
    def total_days(self) -> int:
        """Days of history and future together."""
        return self.days + self.future

    @property
    def total_products(self) -> int:
        """Products; none launches after the history."""
        return self.products
