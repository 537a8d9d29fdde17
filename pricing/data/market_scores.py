"""How policies compare: profit, share of the oracle's gain over static, stock, discounts, and how sure that is."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from pricing.arrays import Floats
from pricing.data.market import Ledger, Market
from pricing.data.market_rollforward import Run

RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """One policy's figures in a market.

    Attributes:
        policy: Its name.
        profit: Money earned over cost.
        gain: Profit over static's, less 1.
        gain_interval: 95 % interval of `gain`, by a bootstrap over products, paired with static.
        share: Part of the oracle's gain over static.
        share_interval: 95 % interval of `share`, products resampled for the three policies together.
        stock_turns: Cost of what was sold in a year over the mean stock at cost.
        discount_depth: Mean cut below list, a share, a sold unit counting once; prices above list count 0.
        price_changes: Price changes a week and product.
        stock_outs: Share of product-days that opened without stock or sold out.
        refused: Prices the market refused.
    """

    policy: str
    profit: float
    gain: float
    gain_interval: tuple[float, float]
    share: float
    share_interval: tuple[float, float]
    stock_turns: float
    discount_depth: float
    price_changes: float
    stock_outs: float
    refused: int


def score(policy: str, run: Run, *, static: Run, oracle: Run, seed: int = 0) -> Score:
    """Scores one policy's run against static's and the oracle's in the same market."""
    gains = _gains(run.profit, static.profit, oracle.profit)
    drawn = np.random.default_rng(seed).integers(0, len(run.profit), (RESAMPLES, len(run.profit)))
    resampled = np.array([_gains(run.profit[pick], static.profit[pick], oracle.profit[pick]) for pick in drawn])
    low, high = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    ledger, world = run.ledger, run.market.world
    days = slice(ledger.first_day, ledger.first_day + len(ledger.price))
    cost = np.where(run.on_sale, world.unit_cost[days], 0.0)
    cut = np.where(run.on_sale, np.maximum(1 - ledger.price / world.truth.list_price[days], 0.0), 0.0)
    both = run.on_sale[1:] & run.on_sale[:-1]
    changed = both & (np.abs(np.diff(ledger.price, axis=0)) > 0.001)
    return Score(
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


def best_forecast(market: Market, ledger: Ledger) -> Floats:
    """(day, product) the median of true demand at the prices charged: no forecast has a smaller absolute error.

    What it misses is the noise floor: `abs(ledger.demand - best_forecast(...))`, summed over the cells that a forecast
    is scored on, over the demand there. NaN before a launch.
    """
    truth, products = market.truth, np.arange(ledger.price.shape[1])
    days = ledger.first_day + np.arange(len(ledger.price))[:, None]
    on_sale = ~np.isnan(ledger.price)
    price, comp_price = (np.where(on_sale, prices, 1.0) for prices in (ledger.price, ledger.comp_price))
    mean = np.maximum(truth.expected_demand(products, days, price, comp_price=comp_price), 1e-9)
    poisson = np.isinf(truth.size)
    median = (
        stats.poisson.ppf(0.5, mean) if poisson else stats.nbinom.ppf(0.5, truth.size, truth.size / (truth.size + mean))
    )
    return np.where(on_sale, median, np.nan)


def _gains(policy: Floats, static: Floats, oracle: Floats) -> tuple[float, float]:
    """Gain over static, and share of the oracle's gain; NaN where there is nothing to divide by."""
    base, best = float(static.sum()), float(oracle.sum() - static.sum())
    gain = float(policy.sum() - base)
    return (gain / base if base > 0 else np.nan, gain / best if best > 0 else np.nan)
