"""Options of a simulated market: its kinds by name, the constants of the default demand, and each family's seeds."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.dataclasses import dataclass as bounded

from pricing.errors import ConfigError

Family = Literal["default", "foreign", "merchant"]

DEVELOPMENT_SEEDS: dict[Family, tuple[int, ...]] = {  # markets for development and tuning
    "default": tuple(range(20)),
    "foreign": tuple(range(200, 220)),
    "merchant": tuple(range(400, 420)),
}
HELD_OUT_SEEDS: dict[Family, tuple[int, ...]] = {  # markets for evaluation only
    "default": (*range(100, 120), *range(125, 145)),  # 120 to 124 were used for new products
    "foreign": tuple(range(300, 320)),
    "merchant": tuple(range(500, 520)),
}
HELD_DAYS = 28  # days that a price is held for an elasticity to count as long-run, where shoppers have state
BEYOND = 70  # days past the future for which deliveries and seasons are drawn, so that every day has a next delivery


@dataclass(frozen=True)
class Constants:
    """Constants of the default demand, supply and competitor; a merchant's markets have values of their own.

    Logs are natural; "sd" is a standard deviation. Frozen with the held-out seeds: changing one invalidates every
    figure measured on a market.
    """

    volume: tuple[float, float] = (10.0, 1.4)  # median units a day at list price, and the sd of its log over products
    cost: tuple[float, float] = (5.0, 0.4)  # median unit cost, and the sd of its log
    category_spread: float = 0.20  # sd of the log elasticity between categories
    product_spread: float = 0.28  # and between the products of one
    elasticity_bounds: tuple[float, float] = (1.0, 4.5)  # smallest and largest size of an elasticity at a mean of 2.5
    weekend: tuple[float, float] = (-0.10, 0.25)  # least and most share by which a weekend changes an elasticity
    curvature: tuple[float, float] = (0.0, 0.6)  # growth of the elasticity per log unit of price above the anchor
    cross: tuple[float, float] = (0.1, 0.7)  # elasticity of demand in the competitor's price
    promo_lift: tuple[float, float] = (0.15, 0.50)  # log lift of an advertised and really cut price
    season: float = 0.30  # largest amplitude of a category's yearly wave, log units
    trend: float = 0.10  # sd of a product's yearly trend, log units
    shift: tuple[float, float] = (0.25, 500.0)  # sd of a level shift, log units, and mean days between two of a product
    product_shock: tuple[float, float] = (0.25, 0.97)  # stationary sd and AR(1) coefficient a day of a hidden shock
    category_shock: tuple[float, float] = (0.15, 0.98)  # the same for the shock that a category shares
    size: float = 10.0  # of the negative binomial of a day; variance is mean + mean² / size
    belief: float = 0.10  # sd of the incumbent's error about a category's elasticity (log), which sets its mark-up
    list_error: float = 0.17  # sd of the log of a product's list price around its category's mark-up
    list_review: int = 28  # days between two reviews of a list price
    list_trigger: float = 0.05  # log cost change since it was last set, above which it is set again
    category_cost: tuple[float, float] = (0.05, 90.0)  # sd of a supplier's log cost change, and mean days between two
    product_cost: tuple[float, float] = (0.05, 120.0)  # the same for a single product
    promo_rate: float = 0.14  # largest probability that a product is advertised in a week
    idle_promo: float = 0.08  # share of advertised weeks in which the price is not cut at all
    order_cover: tuple[float, float] = (0.8, 1.5)  # order-up-to level, in usual sales over interval and lead time
    order_error: float = 0.30  # sd of the log error of one order
    competitor_change: float = 0.04  # probability a day that the competitor reprices a product
    competitor_pull: float = 0.5  # weight of the price charged in the competitor's new one
    competitor_noise: float = 0.06  # sd of the log noise of a new competitor price


MERCHANT = Constants(
    volume=(5.0, 1.9),  # a single shop; ten of sixty products make 60 % of the profit, before the best is raised
    cost=(12.0, 0.4),  # general merchandise
    category_spread=0.28,  # together the interquartile range of published elasticities
    product_spread=0.28,
    elasticity_bounds=(1.0, 99.0),  # each kind has its own
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
class Kind:
    """Differences of one kind of market from the others of its family."""

    family: Family = "foreign"  # the equations of demand, and who prices the history
    bend: float = 1.0  # power of price to which a foreign elasticity is proportional; 1 is demand exponential in price
    stockpile_days: float = 0.0  # days of use that shoppers stockpile per log unit of cut below list; 0 for none
    gain: float = 0.0  # reference-price effect below the reference price, as a share of the elasticity
    loss: float = 0.0  # the same above it; losses weigh about twice as much (Hardie, Johnson & Fader 1993)
    nest: float | None = None  # nest correlation within a category, 0 to 1; None if products are no substitutes
    seasons: bool = False  # whether products have seasons, at whose ends demand falls and prices are cut in steps
    foresight: float = 0.0  # share of the coming four weeks' hidden shock in the incumbent's demand signal
    # Largest number of price changes in the history; None for an incumbent with monthly reviews.
    price_changes: int | None = None
    promo_rate: float = 0.08  # share of a foreign market's products in a leaflet
    volume_spread: float = 1.2  # sd of a foreign market's log volume over products
    gap: tuple[int, int] = (5, 12)  # shortest and longest mean gap between a foreign market's deliveries, days
    lead: tuple[int, int] = (2, 7)  # shortest and longest lead time of a foreign market, days
    announces_deliveries: bool = True  # whether requests carry the date of the next delivery
    # Why the oracle may not be the best policy: with household stock or reference prices it assumes held prices; with
    # substitutes it optimises each product given the others' prices.
    oracle_limit: str = ""
    slope: float = 2.4  # median size of an elasticity at first list prices in a merchant's market
    # Smallest and largest there; weekends and later list prices carry it a tenth further.
    slope_bounds: tuple[float, float] = (1.4, 6.0)
    # Columns that a merchant's data lack; the market's own frame has them, the platform must not.
    withheld: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "default": Kind("default"),  # a grocer who reacts to demand that nobody else sees
    "clearance": Kind(seasons=True, promo_rate=0.0),
    # 18 days of use per log unit: a cut of 20 % stockpiles four days, so that about a third of a week's extra sales are
    # taken from later weeks (van Heerde, Leeflang & Wittink 2004) and the first week overstates the elasticity by about
    # that third (Hendel & Nevo 2006). Such goods are promoted twice as often as others.
    "stockpiling": Kind(stockpile_days=18.0, promo_rate=0.16, oracle_limit="held prices"),
    "reference_price": Kind(gain=0.25, loss=0.5, oracle_limit="held prices"),
    "informed": Kind(foresight=0.8),  # the incumbent sees most of the coming shock
    # Nest correlation and outside option make a category's total demand about unit elastic, as found for groceries; the
    # products' own elasticities are those of the other kinds.
    "logit": Kind(nest=0.4, oracle_limit="product by product"),
    "few_prices": Kind(price_changes=2, promo_rate=0.0),
    "no_prices": Kind(price_changes=0, promo_rate=0.0),
    "heavy_tail": Kind(bend=1.2, volume_spread=1.6, gap=(8, 21), lead=(5, 21), announces_deliveries=False),
    "merchant": Kind("merchant"),  # a merchandiser who knows half of each product's demand shock
    "merchant_steep": Kind("merchant", slope=7.5, slope_bounds=(4.7, 13.0)),  # elasticities of −4 to −15
    "merchant_unmarked": Kind("merchant", withheld=("is_promo",)),  # advertised cuts are not marked as such
    # Unit costs unknown and margins of about 15 %, at the elasticities to which they are the answer (Lerner).
    "merchant_thin": Kind("merchant", slope=6.5, slope_bounds=(4.5, 10.0), withheld=("unit_cost",)),
}
OF_THE_DEFAULT = ("mean_elasticity", "endogeneity", "unseen")


@bounded(frozen=True, config=ConfigDict(extra="forbid"))
class MarketConfig:
    """Options of a market; those out of range are a ConfigError. The same options give exactly the same market."""

    kind: Annotated[str, Field(pattern=f"^({'|'.join(KINDS)})$")] = "default"
    products: Annotated[int, Field(ge=1)] = 60  # products with a history
    days: Annotated[int, Field(ge=28)] = 730  # days of history
    seed: Annotated[int, Field(ge=0)] = 0  # seed of all random draws
    future: Annotated[int, Field(ge=0)] = 120  # days after the history available for a roll-forward
    categories: Annotated[int, Field(ge=1)] = 6  # number of categories
    # Approximate mean of the products' own-price elasticities. This and what follows are options of the default kind.
    mean_elasticity: Annotated[float, Field(ge=-10, le=-1)] = -2.5
    # How strongly the incumbent reacts to shocks and cover; 0 makes prices independent of demand.
    endogeneity: Annotated[float, Field(ge=0, le=5)] = 1.0
    # Products that launch after the end of the history, as a share of `products`.
    unseen: Annotated[float, Field(ge=0, le=1)] = 0.05

    @model_validator(mode="wrap")
    @classmethod
    def _refuse(cls, options: Any, checked: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = checked(options)
        except ValidationError as error:
            faults = (f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
            raise ConfigError("market: " + "; ".join(faults)) from error
        if config.kind != "default" and any(getattr(config, name) != getattr(cls, name) for name in OF_THE_DEFAULT):
            raise ConfigError(f"market: only the default kind has {', '.join(OF_THE_DEFAULT)}")
        return config

    @property
    def features(self) -> Kind:
        """Differences of its kind."""
        return KINDS[self.kind]

    @property
    def constants(self) -> Constants:
        """Constants of the default demand, which the foreign family does not use."""
        return MERCHANT if self.features.family == "merchant" else Constants()

    @property
    def mean_slope(self) -> float:
        """Approximate mean size of the default or a merchant's elasticities."""
        return -self.mean_elasticity if self.kind == "default" else self.features.slope

    @property
    def total_days(self) -> int:
        """Days of history and future together."""
        return self.days + self.future

    @property
    def total_products(self) -> int:
        """Products with a history and those that launch after it."""
        return self.products + (round(self.unseen * self.products) if self.kind == "default" else 0)
