"""A closed loop on a shop with known demand: nights of refresh, price and sell, and the profit really earned."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.config import Config
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest, Weekday
from pricing.demand.curve import Demand, DemandAt, DemandGrid, Offers
from pricing.demand.grades import GRADES
from pricing.demand.model import DemandModel
from tests.kit.decision import Eventless

NEEDED = ("date", "product_id", "units_sold", "price")
OPTIONAL = ("list_price", "unit_cost", "comp_price", "stock", "is_promo")
START = np.datetime64("2024-01-01")  # a Monday
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
LADDER = (0.85, 0.9, 0.95, 1.0, 1.0)  # prices that people charge in an ordinary week, × list price
RECENT = 60  # days of rows that a night reads
WEEK = np.array([0.9, 0.9, 0.9, 1.0, 1.1, 1.2, 1.0])  # demand by weekday
AMPLE = 1e6


@dataclass(frozen=True)
class Shop:
    """Products with known demand: level × (price / list price) ^ −elasticity × weekday.

    Attributes:
        elasticity: (product,) size of the elasticity.
        margin: (product,) true margin at list price, fraction of it.
        list_price: (product,) regular price as people set it, currency units.
        level: (product,) mean units a day at list price.
        size: Size of the negative binomial of what is sold; None sells the mean, to whole units.
    """

    elasticity: Floats
    margin: Floats
    list_price: Floats
    level: Floats
    size: float | None = None

    @property
    def product_ids(self) -> NDArray[np.str_]:
        """(product,) ids, sorted."""
        return np.array([f"P{row:03d}" for row in range(len(self.elasticity))])

    @property
    def unit_cost(self) -> Floats:
        """(product,) true cost of a unit."""
        cost: Floats = self.list_price * (1 - self.margin)
        return cost

    def demand(self, price: Floats, *, day: int) -> Floats:
        """(product,) units expected on a day."""
        expected: Floats = self.level * WEEK[day % 7] * (price / self.list_price) ** -self.elasticity
        return expected

    def profit(self, price: Floats, *, day: int) -> Floats:
        """(product,) money expected over the true cost on a day."""
        earned: Floats = (price - self.unit_cost) * self.demand(price, day=day)
        return earned

    def history_prices(self, days: int, rng: np.random.Generator) -> Floats:
        """(day, product) prices that people charged: drawn from LADDER each week, in the last week the list price."""
        weeks = rng.choice(LADDER, size=(-(-days // 7), len(self.level)))
        weeks[-1] = 1.0
        prices: Floats = np.round(np.repeat(weeks, 7, axis=0)[:days] * self.list_price, 2)
        return prices

    def sell(self, price: Floats, *, day: int, rng: np.random.Generator) -> pd.DataFrame:
        """A day's rows with every column of the contract that the shop can know."""
        mean = self.demand(price, day=day)
        size = self.size
        units = np.round(mean) if size is None else rng.negative_binomial(size, size / (size + mean))
        return pd.DataFrame(
            {
                "date": (START + day).astype("datetime64[s]"),
                "product_id": self.product_ids,
                "units_sold": units.astype(np.float64),
                "price": price,
                "list_price": self.list_price,
                "unit_cost": self.unit_cost,
                "comp_price": self.list_price,
                "stock": self.level * (60.0 - 5.0 * (day % 7)),  # filled up every Monday, and never short
                "is_promo": 0.0,
            }
        )


@dataclass(frozen=True)
class LoopResult:
    """The result of a loop. Arrays are (night, product) unless said otherwise.

    Attributes:
        price: Prices charged.
        earned: Money expected over the true cost.
        held: (product,) what the last price of the history would have earned over all nights.
        anchor: (product,) the anchor that the prices started with.
    """

    price: Floats
    earned: Floats
    held: Floats
    anchor: Floats

    @property
    def against_holding(self) -> Floats:
        """(product,) profit as a multiple of holding's."""
        ratio: Floats = self.earned.sum(axis=0) / self.held
        return ratio

    def moved(self, *, last: int = 10) -> Floats:
        """(product,) how far the highest price of the last nights lies above the lowest, fraction."""
        part = self.price[-last:]
        move: Floats = part.max(axis=0) / part.min(axis=0) - 1
        return move


Learnt = Demand | DemandModel
Learn = Callable[[Panel, Anchors], Learnt]
Refresh = Callable[[Learnt, Panel], Learnt]


def run_nights(
    shop: Shop,
    config: Config,
    *,
    learn: Learn,
    refresh: Refresh,
    columns: Collection[str] = (),
    history: int = 120,
    nights: int = 60,
    recent: int = RECENT,
    echo: bool = False,
) -> LoopResult:
    """Runs a history that people priced, then nights of refresh, price and sell.

    Args:
        shop: The shop that charges the prices.
        config: The platform's configuration.
        learn: Makes a demand model from the history and its anchors.
        refresh: Carries it forward over a panel of recent days.
        columns: Optional columns that the sales have.
        history: Days that people priced.
        nights: Days that the platform prices.
        recent: Days of rows that a night reads.
        echo: Whether the shop's system fills `list_price` with the platform's price.
    """
    rng = np.random.default_rng(0)
    known = [*NEEDED, *columns]
    persons = shop.history_prices(history, rng)
    sales = pd.concat([shop.sell(persons[day], day=day, rng=rng) for day in range(history)], ignore_index=True)[known]
    panel = build_panel(sales, config.data)
    anchors = Anchors.from_panel(panel)
    demand = learn(panel, anchors)
    prices = []
    for day in range(history, history + nights):
        facts = ProductFacts.from_panel(panel, anchors=anchors)
        served = demand.table() if isinstance(demand, DemandModel) else demand
        answers = Pricer(served, facts, config, version="loop").price(
            _requests(shop, day, stocked="stock" in columns), today=(START + day).item()
        )
        prices.append(np.array([answer.recommended_price for answer in answers]))
        kept = sales[-(recent - 1) * len(shop.level) :]
        sold = shop.sell(prices[-1], day=day, rng=rng)
        sold = sold.assign(list_price=prices[-1]) if echo else sold
        sales = pd.concat([kept, sold[known]], ignore_index=True)
        panel = build_panel(sales, config.data, anchors=anchors)
        anchors = anchors.extended(panel)
        demand = refresh(demand, panel)
    numbers = range(history, history + nights)
    return LoopResult(
        price=np.stack(prices),
        earned=np.stack([shop.profit(price, day=day) for price, day in zip(prices, numbers, strict=True)]),
        held=np.sum([shop.profit(persons[-1], day=day) for day in numbers], axis=0),
        anchor=anchors.columns(shop.product_ids)["list_price"].astype(np.float64),
    )


def _requests(shop: Shop, day: int, *, stocked: bool) -> list[PriceRequest]:
    stock = shop.level * (60.0 - 5.0 * (day % 7)) if stocked else np.full(len(shop.level), AMPLE)
    return [
        PriceRequest(product_id=name, current_stock=units, day_of_week=WEEKDAYS[day % 7], date=(START + day).item())
        for name, units in zip(shop.product_ids.tolist(), stock.tolist(), strict=True)
    ]


class TrueDemand(Eventless):
    """The shop's true demand without uncertainty, whatever the platform takes for the list price."""

    def __init__(self, shop: Shop) -> None:
        self.product_ids = shop.product_ids
        self.categories = np.array(["all"])
        self._shop = shop

    def curves(self, offers: Offers) -> DemandAt:
        """Demand as a function of candidate prices."""
        return partial(self._grid, offers)

    def _grid(self, offers: Offers, prices: NDArray[np.floating]) -> DemandGrid:
        shop, product = self._shop, offers.product
        relative = prices / shop.list_price[product, None]
        usual = shop.level[product, None] * relative ** -shop.elasticity[product, None]
        day = (offers.date - START).astype(np.int64)
        ahead = day[:, None] + np.arange(int(offers.periods.max()))
        week = np.where(np.arange(ahead.shape[1]) < offers.periods[:, None], WEEK[ahead % 7], 0.0).sum(axis=1)
        sure = np.full(len(product), 1e6)
        return DemandGrid(
            first=(usual * WEEK[day % 7, None])[:, None, :],
            until=(usual * week[:, None])[:, None, :],
            first_size=sure,
            until_size=sure,
            weight=np.ones(1),
            source=np.zeros(len(product), dtype=np.int64),
            grade=np.full(len(product), GRADES.index("tested")),
            known=np.ones(len(product)),
        )
