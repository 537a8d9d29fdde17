"""The merchant's markets: what the merchandiser knows and does, how heavy the tail is, and what a price is worth."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from pricing.data.contract import check
from pricing.errors import ConfigError
from simulation import config, foreign_config, merchant
from simulation.market import Market
from simulation.merchant import DEVELOPMENT_SEEDS, VARIANTS, MerchantConfig, simulate_merchant
from simulation.policies import Oracle, static
from simulation.rollforward import roll_forward

SMALL = {"products": 12, "days": 200, "future": 30, "seed": 401, "categories": 3}


@cache
def market(variant: str) -> Market:
    return simulate_merchant(MerchantConfig(variant, **SMALL))


@cache
def full(seed: int) -> Market:
    return simulate_merchant(MerchantConfig(seed=seed, future=0))


def within(values: np.ndarray) -> np.ndarray:
    """(day, product) deviations from each product's mean."""
    return values - values.mean(axis=0)


@pytest.mark.parametrize("future", [SMALL["future"], 90])
def test_the_same_options_give_the_same_history_whatever_the_future(future: int) -> None:
    again = simulate_merchant(MerchantConfig("plain", **SMALL | {"future": future}))

    pd.testing.assert_frame_equal(again.frame(), market("plain").frame())
    np.testing.assert_array_equal(again.truth.elasticity, market("plain").truth.elasticity)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_history_keeps_the_data_contract_and_has_what_is_withheld(variant: str) -> None:
    frame = market(variant).frame()

    assert not check(frame, where="market", period="day").violations
    assert set(VARIANTS[variant].withheld) <= set(frame.columns)
    assert (frame["price"] >= frame["unit_cost"]).all()
    assert 0.65 < frame["comp_price"].notna().mean() < 0.75


def test_no_seed_belongs_to_two_pools() -> None:
    families = (config, foreign_config, merchant)
    pools = [pool for family in families for pool in (family.DEVELOPMENT_SEEDS, family.HELD_OUT_SEEDS)]

    assert len(set().union(*pools)) == sum(len(pool) for pool in pools)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="variant must be one of plain, steep, unmarked, thin"):
        MerchantConfig("flat")


@pytest.mark.parametrize(
    ("variant", "least", "most"),
    [("plain", 1.25, 7.0), ("unmarked", 1.25, 7.0), ("steep", 4.0, 15.0), ("thin", 4.0, 11.5)],
)
def test_elasticities_are_the_variant_s_and_those_of_a_nudged_price(variant: str, least: float, most: float) -> None:
    truth, day, everyone = market(variant).truth, SMALL["days"] - 7, np.arange(SMALL["products"])
    list_price = truth.list_price[SMALL["days"] - 1]

    size = -truth.elasticity

    week = [
        truth.expected_demand(everyone, day + np.arange(7)[:, None], list_price * nudge, comp_price=list_price)
        for nudge in (1.0001, 1.0002)
    ]
    shown = -np.diff(np.log(week), axis=0)[0] / np.log(1.0002 / 1.0001)
    assert least < size.min() < size.max() < most
    np.testing.assert_allclose(shown.mean(axis=0), size, rtol=2e-3)


@pytest.mark.parametrize("seed", DEVELOPMENT_SEEDS[:4])
def test_one_product_makes_a_third_of_the_profit_and_prices_move_40_to_60_times(seed: int) -> None:
    one = full(seed)
    truth, days = one.truth, one.config.days
    list_price, everyone = truth.list_price[:days], np.arange(len(truth.cross))
    units = truth.expected_demand(everyone, np.arange(days)[:, None], list_price, comp_price=one.ledger.comp_price)
    profit = ((list_price - one.world.unit_cost[:days]) * units).sum(axis=0)

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
    np.testing.assert_allclose(np.quantile(one.world.promo_cut[one.truth.is_promo], [0, 1]), [0.1, 0.3], atol=0.005)


def test_the_competitor_follows_the_price_charged() -> None:
    one = full(400)
    days = one.config.days
    ours, theirs = (np.log(side / one.truth.list_price[:days]) for side in (one.ledger.price, one.ledger.comp_price))

    after = {lag: np.corrcoef(within(ours)[: days - lag].ravel(), within(theirs)[lag:].ravel())[0, 1] for lag in (0, 5)}

    assert after[5] > max(after[0], 0.4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_oracle_earns_more_than_list_prices(variant: str) -> None:
    listed, best = (roll_forward(market(variant), policy, days=20) for policy in (static, Oracle(market(variant))))

    assert not best.refused.any()
    assert best.profit.sum() > listed.profit.sum()
