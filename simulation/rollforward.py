"""Roll a simulated market forward under a pricing policy's prices, and score the policy's profit."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.errors import ConfigError
from simulation.config import BAND
from simulation.market import Ledger, Market, record_day, rows
from simulation.shelf import Shelf

CENT = 0.005001  # tolerance of bounds, for rounding to cents
MAX_MOVE = 0.10  # largest change from yesterday's price, as a fraction of it; the same for all policies
Refresh = Callable[[pd.DataFrame], None]
RESAMPLES = 1000


@dataclass(frozen=True)
class Requests:
    """Price requests of one morning, one for each product on sale, as columns of one length."""

    day: int  # day number in the market; the future starts at `config.days`
    date: np.datetime64  # the day's date, datetime64[D]
    product_id: Strings  # (request,) the product
    category: Strings  # (request,) category name
    stock: Ints  # (request,) units on hand, today's delivery included
    comp_price: Floats  # (request,) the competitor's price; NaN if not observed
    is_promo: Bools  # (request,) whether the product is advertised today
    current_price: Floats  # (request,) yesterday's price; the list price of a product that launches today
    list_price: Floats  # (request,) regular price
    unit_cost: Floats  # (request,) cost of a unit
    next_delivery: Days  # (request,) date of the next delivery due after today; NaT where not announced
    # Largest accepted change from `current_price`, as a fraction of it; None for no limit.
    max_move: float | None = None

    def __len__(self) -> int:
        return len(self.product_id)

    @property
    def floor(self) -> Floats:
        """(request,) lower end of the price band, at least cost."""
        return np.asarray(np.maximum(BAND[0] * self.list_price, self.unit_cost))

    @property
    def ceiling(self) -> Floats:
        """(request,) upper end of the price band, at least `floor`."""
        return np.asarray(np.maximum(BAND[1] * self.list_price, self.floor))

    @property
    def lowest(self) -> Floats:
        """(request,) lowest price accepted today: `floor`, within the largest allowed change.

        If no allowed change reaches the band, its nearest end is the only price accepted besides the list price.
        """
        move = 1.0 if self.max_move is None else self.max_move
        return np.asarray(np.clip(self.current_price * (1 - move), self.floor, self.ceiling))

    @property
    def highest(self) -> Floats:
        """(request,) highest price accepted today: `ceiling`, within the largest allowed change."""
        move = np.inf if self.max_move is None else self.max_move
        return np.asarray(np.clip(self.current_price * (1 + move), self.floor, self.ceiling))

    @property
    def days_left(self) -> Ints:
        """(request,) days until the next delivery: today included, the delivery's day excluded.

        Raises:
            ConfigError: The market does not announce deliveries.
        """
        if np.isnat(self.next_delivery).any():
            raise ConfigError("this market does not say when deliveries come; estimate it, as DeliveryGaps does")
        return (self.next_delivery - self.date).astype(np.int64)


Policy = Callable[[Requests], Floats]


@dataclass(frozen=True)
class Run:
    """Result of a policy in a market."""

    market: Market  # the market
    ledger: Ledger  # record of the days after the history
    refused: Bools  # (day, product) prices out of bounds or not finite; the list price was charged instead

    @property
    def on_sale(self) -> Bools:
        """(day, product) whether the product was on sale."""
        return ~np.isnan(self.ledger.price)

    @property
    def earned(self) -> Floats:
        """(day, product) profit over unit cost; unsold units are valued at cost."""
        margin = np.where(self.on_sale, self.ledger.price - self.market.unit_cost[self.ledger.days], 0.0)
        return np.asarray(margin * self.ledger.units)

    @property
    def profit(self) -> Floats:
        """(product,) profit over all days."""
        return np.asarray(self.earned.sum(axis=0))

    def frame(self) -> pd.DataFrame:
        """Return the days as rows of the data contract."""
        return rows(self.market, self.ledger)


def roll_forward(
    market: Market,
    policy: Policy,
    *,
    days: int = 90,
    refresh: Refresh | None = None,
    every: int = 14,
    max_move: float | None = MAX_MOVE,
) -> Run:
    """Let a policy price every product on every day after the history.

    All policies face the same shoppers, list prices, costs, advertising and random draws. The market is not modified.

    Args:
        market: The market, at the end of its history.
        policy: Maps requests to prices; NaN, or a price outside the requests' bounds, is refused. One that is shown
            hidden state, as the oracle is, has `observe_shelf`, which gets each morning's shelf first.
        days: Number of days.
        refresh: Called every `every` days, before that morning's requests, with the rows recorded since its last
            call, so that a policy can be updated; the history is in `market.frame()`.
        every: Days between two refreshes.
        max_move: Largest change from yesterday's price, as a fraction of it; None for no limit besides band and cost.
            The list price is always accepted.

    Raises:
        ConfigError: The market's future is shorter than `days`.
    """
    config = market.config
    if not 1 <= days <= config.future or every < 1:
        raise ConfigError(
            f"cannot roll {days} days forward, refreshing every {every}: the market was drawn with a future of "
            f"{config.future} days; give its configuration a longer `future`"
        )
    shelf = deepcopy(market.shelf)
    ledger = Ledger.blank(config.days, days, config.total_products)
    refused = np.zeros((days, config.total_products), dtype=np.bool_)
    told, observe = 0, getattr(policy, "observe_shelf", None)
    for row in range(days):
        day = config.days + row
        if refresh is not None and row and row % every == 0:
            refresh(rows(market, ledger.part(told, row)))
            told = row
        market.open_day(shelf, day=day)
        active = np.flatnonzero(market.truth.launch <= day)
        requests = _requests(market, shelf, day=day, max_move=max_move)
        if observe is not None:
            observe(shelf)
        charged, refused[row, active] = _accept(requests, np.asarray(policy(requests), dtype=np.float64))
        price = market.truth.list_price[day].copy()
        price[active] = charged
        record_day(market, shelf, ledger=ledger, day=day, price=price)
    return Run(market, ledger, refused)


def _requests(market: Market, shelf: Shelf, *, day: int, max_move: float | None) -> Requests:
    truth = market.truth
    on_sale = np.flatnonzero(truth.launch <= day)
    delivery = truth.dates[day] + (market.supply.next_day[day, on_sale] - day)
    if not truth.features.announces_deliveries:
        delivery = np.full(len(on_sale), np.datetime64("NaT", "D"))
    return Requests(
        day=day,
        date=truth.dates[day],
        product_id=market.product_ids[on_sale],
        category=market.category_names[on_sale],
        stock=shelf.stock[on_sale],
        comp_price=np.where(market.comp_seen[day], shelf.comp_price, np.nan)[on_sale],
        is_promo=truth.is_promo[day, on_sale],
        current_price=shelf.price[on_sale],
        list_price=truth.list_price[day, on_sale],
        unit_cost=market.unit_cost[day, on_sale],
        next_delivery=delivery,
        max_move=max_move,
    )


def _accept(requests: Requests, price: Floats) -> tuple[Floats, Bools]:
    """(request,) prices charged, to the cent, and whether the policy's was refused; list prices are always accepted."""
    if price.shape != (len(requests),):
        raise ConfigError(f"a policy must answer {len(requests)} prices, one a request; found shape {price.shape}")
    with np.errstate(invalid="ignore"):
        inside = (price >= requests.lowest - CENT) & (price <= requests.highest + CENT)
    fine = (inside & np.isfinite(price)) | (price == requests.list_price)
    return np.where(fine, np.round(np.where(fine, price, 1.0), 2), requests.list_price), ~fine


@dataclass(frozen=True)
class PolicyScore:
    """One policy's figures in a market."""

    policy: str  # its name
    profit: float  # total profit over unit cost
    gain: float  # profit relative to static's, less 1
    gain_interval: tuple[float, float]  # 95 % interval of `gain`, by a bootstrap over products, paired with static
    share: float  # gain over static as a share of the oracle's
    share_interval: tuple[float, float]  # 95 % interval of `share`, products resampled jointly for the three policies
    stock_turns: float  # annualised cost of goods sold over mean stock at cost
    discount_depth: float  # mean cut below list, as a share, weighted by units sold; prices above list count as 0
    price_changes: float  # price changes per week and product
    stock_outs: float  # share of product-days that opened without stock or sold out
    refused: int  # number of refused prices


def score(policy: str, run: Run, *, static: Run, oracle: Run, seed: int = 0) -> PolicyScore:
    """Compute a policy's figures against static's and the oracle's runs in the same market."""
    gains = _gains(run.profit, static.profit, oracle.profit)
    drawn = np.random.default_rng(seed).integers(0, len(run.profit), (RESAMPLES, len(run.profit)))
    resampled = np.array([_gains(run.profit[pick], static.profit[pick], oracle.profit[pick]) for pick in drawn])
    low, high = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    ledger, market = run.ledger, run.market
    cost = np.where(run.on_sale, market.unit_cost[ledger.days], 0.0)
    cut = np.where(run.on_sale, np.maximum(1 - ledger.price / market.truth.list_price[ledger.days], 0.0), 0.0)
    both = run.on_sale[1:] & run.on_sale[:-1]
    changed = both & (np.abs(np.diff(ledger.price, axis=0)) > 0.001)
    return PolicyScore(
        policy=policy,
        profit=float(run.profit.sum()),
        gain=float(gains[0]),
        gain_interval=(float(low[0]), float(high[0])),
        share=float(gains[1]),
        share_interval=(float(low[1]), float(high[1])),
        stock_turns=float((cost * ledger.units).sum() * 365 / max((cost * ledger.stock).sum(), 1e-9)),
        discount_depth=float((cut * ledger.units).sum() / max(ledger.units.sum(), 1)),
        price_changes=float(7 * changed.sum() / max(both.sum(), 1)),
        stock_outs=float(((ledger.units >= ledger.stock) & run.on_sale).sum() / max(run.on_sale.sum(), 1)),
        refused=int(run.refused.sum()),
    )


def _gains(policy: Floats, static: Floats, oracle: Floats) -> tuple[float, float]:
    """Relative gain over static, and share of the oracle's gain; NaN if the denominator is not positive."""
    base, best = float(static.sum()), float(oracle.sum() - static.sum())
    gain = float(policy.sum() - base)
    return (gain / base if base > 0 else np.nan, gain / best if best > 0 else np.nan)
