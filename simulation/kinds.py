"""Settings of every kind of market, by family. Data only: the modules that draw a market read them.

Constants are taken from the literature or plausibility, none from a model's results. They are frozen with the held-out
seeds: changing one invalidates every figure measured on a market. Logs are natural; "sd" is a standard deviation.
A constant that only one part of a market uses stands beside that part.
"""

from dataclasses import dataclass, replace
from typing import Literal

Family = Literal["default", "foreign", "merchant", "choice"]


@dataclass(frozen=True)
class Kind:
    """Settings of one kind of market: the parts that make it, by name, and their constants.

    The values given here are the default kind's: a grocer who reacts to demand that nobody else sees.
    """

    family: Family = "default"  # whose random streams and seeds it has

    # Parts; the module named draws them.
    demand: Literal["quadratic", "power", "households"] = "quadratic"  # truth, households: demand over price
    calendar: Literal["grocery", "merchandise"] = "grocery"  # levels: weekdays, seasons, holidays, level shifts
    costs: Literal["daily", "monthly"] = "daily"  # assortment: when unit costs change
    promotions: Literal["weeks", "leaflets", "periods"] = "weeks"  # assortment: the advertising plan
    deliveries: Literal["weekly", "irregular"] = "weekly"  # supply
    rival: Literal["follower", "aloof"] = "follower"  # rivals: the competitor
    incumbent: Literal["grocer", "reviewer", "merchandiser", "list"] = "grocer"  # incumbents: who priced the history

    # Products
    first_day: str = "2023-03-01"
    prefix: str = "P"  # of product ids
    category_names: str = "bakery beverages coffee dairy frozen household personal snacks"
    volume: tuple[float, float] = (10.0, 1.4)  # median units a day at list price, and the sd of its log over products
    cost: tuple[float, float] = (5.0, 0.4)  # median unit cost, and the sd of its log
    cost_by_volume: float = 0.5  # log units by which a product is cheaper per log unit of volume
    late_launches: float = 0.12  # share of products that launch during the history
    # First day of those launches and the day before which they happen, as a share of the history less days.
    launch_days: tuple[float, float, int] = (1 / 8, 1.0, 45)

    # Demand
    slope: float = 2.5  # median size of an elasticity at a product's first list price
    category_spread: float = 0.20  # sd of the log elasticity between categories
    product_spread: float = 0.28  # and between the products of one
    slope_bounds: tuple[float, float] = (1.0, 4.5)  # smallest and largest size of an elasticity
    weekend: tuple[float, float] = (-0.10, 0.25)  # least and most share by which a weekend changes an elasticity
    curvature: tuple[float, float] = (0.0, 0.6)  # growth of the elasticity per log unit of price above the anchor
    bend: float = 1.0  # power of price to which an elasticity is proportional; 1 is demand exponential in price
    cross: tuple[float, float] = (0.1, 0.7)  # response of log demand to the competitor's price
    promo_lift: tuple[float, float] = (0.15, 0.50)  # log lift of an advertised and really cut price
    stockpile_days: float = 0.0  # days of use that shoppers stockpile per log unit of cut below list; 0 for none
    gain: float = 0.0  # reference-price effect below the reference price, as a share of the elasticity
    loss: float = 0.0  # the same above it; losses weigh about twice as much (Hardie, Johnson & Fader 1993)
    # Nest correlation within a category, or within each half of one, 0 to 1; None if products are no substitutes.
    nest: float | None = None
    seasons: bool = False  # whether products have seasons, at whose ends demand falls and prices are cut in steps
    top_share: tuple[float, float] | None = None  # share of the best product in the profit at list prices, least, most

    # Noise
    shift: tuple[float, float] = (0.25, 500.0)  # sd of a level shift, log units, and mean days between two of a product
    product_shock: tuple[float, float] = (0.25, 0.97)  # stationary sd and AR(1) coefficient a day of a hidden shock
    # The same for the shock that a category shares. A coefficient of 0 makes it one of whole weeks.
    category_shock: tuple[float, float] = (0.15, 0.98)
    unknown_shock: bool = False  # whether a second product shock is as large, which the incumbent does not know
    size: float = 10.0  # of the negative binomial of a day; variance is mean + mean² / size
    day_noise: float = 0.0  # sd of a log-normal factor of a day, instead of that; 0 for none
    comp_seen: tuple[float, float] = (0.04, 1.0)  # range of a uniform number where the competitor's price is observed

    # Costs and list prices
    category_cost: tuple[float, float] = (0.05, 90.0)  # sd of a supplier's log cost change, and mean days between two
    product_cost: tuple[float, float] = (0.05, 120.0)  # the same for a single product
    belief: float | None = 0.10  # sd of the log error about an elasticity, which sets its mark-up; None for a keystone
    belief_bounds: tuple[float, float] = (1.5, 5.0)  # smallest and largest elasticity believed
    believes_by_category: bool = True  # whether one elasticity is believed of a category; else of each product
    list_error: float = 0.17  # sd of the log of a product's list price around that mark-up
    least_markup: float = 1.1  # least mark-up factor with that error
    list_review: int = 28  # days between two reviews of a list price
    reviews_categories: bool = False  # whether the list prices of a category are reviewed on the same day
    list_trigger: float = 0.05  # log cost change since it was last set, above which it is set again
    list_covers_cost: bool = False  # whether a list price is raised at once where cost passes it
    nines: bool = False  # whether list prices end in 9 cents
    price_changes: int | None = None  # largest number of changes of a list price, whatever the cost; None for reviews

    # Promotions and the incumbent
    promo_rate: float = 0.14  # largest probability that a product is promoted in a week, leaflet or period
    foresight: float = 0.0  # share of the coming four weeks' hidden shock in the incumbent's demand signal

    # Supply and competitor
    gap: tuple[int, int] = (7, 14)  # shortest and longest mean gap between deliveries, days
    lead: tuple[int, int] = (1, 4)  # shortest and longest lead time, days
    order_cover: tuple[float, float] = (0.8, 1.5)  # order-up-to level, in usual sales over interval and lead time
    order_error: float = 0.30  # sd of the log error of one order
    announces_deliveries: bool = True  # whether requests carry the date of the next delivery
    rival_level: float = 0.08  # sd of the log of the competitor's own price level for a product
    rival_noise: float = 0.06  # sd of the log noise of a new competitor price
    rival_moves: float = 0.04  # probability a day that a following competitor reprices a product
    rival_pull: float = 0.5  # weight of the price charged in his new one

    # Why the oracle may not be the best policy: with household stock or reference prices it assumes held prices; with
    # substitutes it optimises each product given the others' prices.
    oracle_limit: str = ""
    withheld: tuple[str, ...] = ()  # columns that the platform must not have, though the market's frame has them

    @property
    def remembers(self) -> bool:
        """Whether shoppers have a state: household stock or a reference price."""
        return bool(self.stockpile_days or self.gain or self.loss)


# Other demand, calendar, supply and incumbent than the default's: general merchandise in a single shop.
FOREIGN = Kind(
    family="foreign",
    demand="power",
    calendar="merchandise",
    costs="monthly",
    promotions="leaflets",
    deliveries="irregular",
    rival="aloof",
    incumbent="reviewer",
    first_day="2022-01-03",  # a Monday, so that weeks of 7 days are weeks of the calendar
    prefix="F",
    category_names="bath garden kitchen lighting office toys",
    volume=(6.0, 1.2),
    cost=(8.0, 0.5),
    cost_by_volume=0.0,
    late_launches=0.10,
    launch_days=(0.0, 0.5, 0),  # during the first half
    # A meta-analysis of 1,851 elasticities has a mean of 2.6 and a median of 2.2 (Bijmolt, van Heerde & Pieters 2005);
    # both spreads together match its interquartile range.
    slope=2.3,
    category_spread=0.25,
    product_spread=0.30,
    slope_bounds=(0.8, 6.0),
    cross=(0.0, 0.7),  # cross elasticities between shops are mostly below 0.7
    promo_lift=(0.05, 0.35),
    shift=(0.30, 300.0),
    product_shock=(0.25, 0.95),  # lasts about three weeks
    category_shock=(0.12, 0.0),
    day_noise=0.30,
    comp_seen=(-1.0, 0.6),
    category_cost=(0.04, 28 / 0.20),
    product_cost=(0.03, 28 / 0.15),
    belief=None,
    list_error=0.12,
    least_markup=1.15,
    list_review=91,
    reviews_categories=True,
    list_trigger=0.0,
    nines=True,
    promo_rate=0.08,
    gap=(5, 12),
    lead=(2, 7),
    order_cover=(0.8, 1.6),
    rival_noise=0.07,
)
# The default's demand, calendar and supply, priced by a merchandiser who knows half of each slow demand shock.
MERCHANT = Kind(
    family="merchant",
    promotions="periods",
    incumbent="merchandiser",
    volume=(5.0, 1.9),  # a single shop; ten of sixty products make 60 % of the profit, before the best is raised
    cost=(12.0, 0.4),  # general merchandise
    late_launches=0.0,
    slope=2.4,
    category_spread=0.28,  # with that of products the interquartile range of published elasticities
    slope_bounds=(1.4, 6.0),  # weekends and later list prices carry it a tenth further
    weekend=(-0.10, 0.15),
    curvature=(0.2, 1.2),  # between constant elasticity and demand exponential in price (about 1)
    cross=(0.1, 0.6),  # cross elasticities between shops are mostly below 0.7
    promo_lift=(0.1, 0.4),  # beyond the price: the leaflet itself
    top_share=(0.32, 0.38),  # about a third
    product_shock=(0.19, 0.96),  # each half; the sum has an sd of 0.27 and lasts about a month
    category_shock=(0.0, 0.96),  # none: the specified shock is the product's
    unknown_shock=True,
    comp_seen=(-1.0, 0.7),  # a crawl with gaps
    category_cost=(0.03, 150.0),  # two or three steps of some per cent a year and category
    product_cost=(0.025, 180.0),  # and two a product
    # List prices miss the optimum by belief / (elasticity − 1), about 0.15 at −2.4, whatever the margin.
    belief=0.22,
    belief_bounds=(1.5, 15.0),  # mark-up factors of 1.07 to 3
    believes_by_category=False,
    list_error=0.0,
    list_trigger=0.02,  # thin margins bear no larger cost change
    list_covers_cost=True,  # a step between two reviews can exceed a thin margin
    promo_rate=0.38,  # four or five times a year
    rival_moves=0.15,  # follows within a week
    rival_pull=0.7,
    rival_noise=0.03,
)
# The default's grocer, whose households choose among the products of a category.
HOUSEHOLDS = Kind(
    family="choice",
    demand="households",
    rival="aloof",  # the rest of the world: its prices are known to all products' shoppers
    # With the loss below and the nests, own elasticities over 28 days have a mean of about −2.5; spreads as foreign
    # (Bijmolt, van Heerde & Pieters 2005).
    slope=2.1,
    category_spread=0.25,
    product_spread=0.30,
    cross=(0.0, 0.7),  # cross elasticities between shops are mostly below 0.7
    # A third of what a cut adds on its days comes from other products (van Heerde, Leeflang & Wittink 2004).
    nest=0.25,
    # Losses weigh about twice as much as gains (Hardie, Johnson & Fader 1993; Mazumdar, Raj & Sinha 2005).
    gain=0.25,
    loss=0.5,
    oracle_limit="held prices, product by product",
)
KINDS: dict[str, Kind] = {
    "default": Kind(),
    "clearance": replace(FOREIGN, seasons=True, promo_rate=0.0),
    # 18 days of use per log unit: a cut of 20 % stockpiles four days, so that about a third of a week's extra sales are
    # taken from later weeks (van Heerde, Leeflang & Wittink 2004) and the first week overstates the elasticity by about
    # that third (Hendel & Nevo 2006). Such goods are promoted twice as often as others.
    "stockpiling": replace(FOREIGN, stockpile_days=18.0, promo_rate=0.16, oracle_limit="held prices"),
    "reference_price": replace(FOREIGN, gain=0.25, loss=0.5, oracle_limit="held prices"),
    "informed": replace(FOREIGN, foresight=0.8),  # the incumbent sees most of the coming shock
    # Nest correlation and outside option make a category's total demand about unit elastic, as found for groceries; the
    # products' own elasticities are those of the other kinds.
    "logit": replace(FOREIGN, nest=0.4, oracle_limit="product by product"),
    "few_prices": replace(FOREIGN, incumbent="list", price_changes=2, promo_rate=0.0, late_launches=0.0),
    "no_prices": replace(FOREIGN, incumbent="list", price_changes=0, promo_rate=0.0, late_launches=0.0),
    "heavy_tail": replace(FOREIGN, bend=1.2, volume=(6.0, 1.6), gap=(8, 21), lead=(5, 21), announces_deliveries=False),
    "merchant": MERCHANT,
    "merchant_steep": replace(MERCHANT, slope=7.5, slope_bounds=(4.7, 13.0)),  # elasticities of −4 to −15
    "merchant_unmarked": replace(MERCHANT, withheld=("is_promo",)),  # advertised cuts are not marked as such
    # Unit costs unknown and margins of about 15 %, at the elasticities to which they are the answer (Lerner).
    "merchant_thin": replace(MERCHANT, slope=6.5, slope_bounds=(4.5, 10.0), withheld=("unit_cost",)),
    "households": HOUSEHOLDS,
}


# Kind of draw → the number of the family whose stream it is, if it has one, and that of the stream.
Streams = dict[str, tuple[tuple[int, ...], int]]


def _numbered(names: str, *family: int) -> Streams:
    """Number the streams of a family; `family` separates them from another family's with the same seed."""
    return {name: (family, number) for number, name in enumerate(names.split())}


_DEFAULT_STREAMS = _numbered(
    "product calendar shock supplier cost list promo shopper crowd supply rival incumbent record sighting"
)
STREAMS: dict[Family, Streams] = {
    "default": _DEFAULT_STREAMS,
    "foreign": _numbered(
        "product cost list calendar shock rival promo season shopper crowd supply incumbent record sighting", 12021
    ),
    "merchant": _DEFAULT_STREAMS | _numbered("list unknown promo depth sighting tail incumbent", 12022),
    "choice": {name: ((12023,), number) for name, (_, number) in _DEFAULT_STREAMS.items()},
}
