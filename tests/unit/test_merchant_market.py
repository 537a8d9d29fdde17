"""The merchant's markets: what the merchandiser knows and does, how heavy the tail is, and what a price is worth."""

from functools import cache

import numpy as np
import pytest

from simulation.config import DEVELOPMENT_SEEDS
from simulation.market import Market, MarketConfig, simulate


@cache
def full(seed: int) -> Market:
    return simulate(MarketConfig("merchant", seed=seed, future=0))


def within(values: np.ndarray) -> np.ndarray:
    """(day, product) deviations from each product's mean."""
    return values - values.mean(axis=0)


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("merchant", 1.25, 7.0), ("merchant_steep", 4.0, 15.0), ("merchant_thin", 4.0, 11.5)],
)
def test_elasticities_are_the_kind_s(kind: str, least: float, most: float) -> None:
    size = -simulate(MarketConfig(kind, products=12, days=200, future=0, seed=401)).truth.elasticity

    assert least < size.min() < size.max() < most


@pytest.mark.parametrize("seed", DEVELOPMENT_SEEDS["merchant"][:1])
def test_one_product_makes_a_third_of_the_profit_and_prices_move_40_to_60_times(seed: int) -> None:
    one = full(seed)
    truth, days = one.truth, one.config.days
    list_price, everyone = truth.list_price[:days], np.arange(len(truth.cross))
    units = truth.expected_demand(everyone, np.arange(days)[:, None], list_price, comp_price=one.ledger.comp_price)
    profit = ((list_price - one.unit_cost[:days]) * units).sum(axis=0)

    moves = (np.diff(one.ledger.price, axis=0) != 0).sum(axis=0)

    assert 0.25 < profit.max() / profit.sum() < 0.45
    assert 40 <= np.median(moves) <= 60


def test_the_merchandiser_raises_prices_with_demand_clears_what_is_left_and_promotes() -> None:
    one = full(400)
    days, plain = one.config.days, ~one.truth.is_promo[: one.config.days]
    hand, shock = np.log(one.ledger.price / one.truth.list_price[:days]), one.truth.shock[:days]

    together = np.corrcoef(within(hand)[plain], within(shock)[plain])[0, 1]

    cleared = plain & (hand < np.log(0.91))
    assert 0.2 < together < 0.6
    assert 0.02 < cleared.sum() / plain.sum() < 0.25
    assert one.truth.shock.std() == pytest.approx(0.27, abs=0.02)
    starts = np.diff(one.truth.is_promo.astype(int), axis=0, prepend=0) == 1
    assert 5 <= one.truth.is_promo.sum() / starts.sum() <= 10
    assert 3 < starts.sum(axis=0).mean() / 2 < 6
    np.testing.assert_allclose(np.quantile(one.promo_cut[one.truth.is_promo], [0, 1]), [0.1, 0.3], atol=0.005)


def test_the_competitor_follows_the_price_charged() -> None:
    one = full(400)
    days = one.config.days
    ours, theirs = (np.log(side / one.truth.list_price[:days]) for side in (one.ledger.price, one.ledger.comp_price))

    after = {lag: np.corrcoef(within(ours)[: days - lag].ravel(), within(theirs)[lag:].ravel())[0, 1] for lag in (0, 5)}

    assert after[5] > max(after[0], 0.4)
