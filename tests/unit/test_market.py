"""The laws of the simulated market: reproducible, conserved, monotone, and its truth is what it says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pricing.data.contract import check
from pricing.errors import ConfigError
from simulation.market import Market, MarketConfig, simulate
from simulation.truth import is_weekend_day, poisson_quantile
from simulation.world import draw_world

SMALL = MarketConfig(products=24, days=240, future=40, seed=3)


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(SMALL)


def test_the_same_options_give_the_same_history(market: Market) -> None:
    again = simulate(SMALL)

    pd.testing.assert_frame_equal(again.frame(), market.frame())


def test_another_seed_gives_another_market(market: Market) -> None:
    other = simulate(replace(SMALL, seed=4))

    assert not np.array_equal(other.truth.elasticity, market.truth.elasticity)


def test_a_longer_future_changes_no_day_of_the_history(market: Market) -> None:
    longer = simulate(replace(SMALL, future=90, unseen=SMALL.unseen))

    pd.testing.assert_frame_equal(longer.frame(), market.frame())


def test_the_history_keeps_the_data_contract(market: Market) -> None:
    checked = check(market.frame(), where="market", period="day")

    assert not checked.violations
    assert len(checked.clean) == len(market.frame())


def test_the_history_has_late_launches_gaps_and_missing_competitor_prices(market: Market) -> None:
    frame = market.frame()
    first = frame.groupby("product_id")["date"].min()

    assert (first > frame["date"].min()).any()
    assert (frame.groupby("product_id")["date"].diff().dt.days > 1).any()
    assert frame["comp_price"].isna().any()


def test_products_that_launch_after_the_history_are_not_in_it(market: Market) -> None:
    unseen = market.product_ids[~market.in_history]

    assert len(unseen) == 1
    assert not set(unseen) & set(market.frame()["product_id"])


def test_sales_are_demand_cut_off_at_stock(market: Market) -> None:
    ledger = market.ledger

    assert np.array_equal(ledger.units, np.minimum(ledger.stock, ledger.demand))


def test_stock_is_conserved_but_for_deliveries_on_the_days_they_are_due(market: Market) -> None:
    ledger = market.ledger
    left = ledger.stock[:-1] - ledger.units[:-1]
    delivered = ledger.stock[1:] - left
    days = np.arange(1, SMALL.days)[:, None]
    due = (days - market.supply.phase) % market.supply.interval == 0
    launch = market.truth.launch == days

    assert (delivered >= 0).all()
    assert (delivered[~due & ~launch] == 0).all()
    assert (delivered[due] > 0).any()


def test_the_incumbent_never_sells_below_cost_nor_outside_the_band(market: Market) -> None:
    frame = market.frame()
    ratio = frame["price"] / frame["list_price"]

    assert (frame["price"] >= frame["unit_cost"]).all()
    assert ((ratio >= 0.695) | (frame["price"] == frame["unit_cost"])).all()
    assert (ratio <= 1.355).all()


def test_elasticities_match_numerical_derivatives_averaged_over_a_week(market: Market) -> None:
    truth, step = market.truth, 1e-4
    days = np.arange(SMALL.days - 7, SMALL.days)[:, None]
    product = np.arange(SMALL.total_products)
    list_price = truth.list_price[SMALL.days - 1]
    plain = replace(truth, is_promo=np.zeros_like(truth.is_promo), launch=np.zeros_like(truth.launch))

    dearer = plain.expected_demand(product, days, list_price * np.exp(step), comp_price=list_price)
    cheaper = plain.expected_demand(product, days, list_price * np.exp(-step), comp_price=list_price)

    slope = (np.log(dearer) - np.log(cheaper)).mean(axis=0) / (2 * step)
    np.testing.assert_allclose(slope, truth.elasticity, rtol=1e-3)


def test_elasticity_differs_between_weekdays_and_weekends_and_with_price(market: Market) -> None:
    truth, step = market.truth, 1e-4
    weekend = np.flatnonzero(is_weekend_day(truth.dates[: SMALL.days]))[-1]
    weekday = np.flatnonzero(~is_weekend_day(truth.dates[: SMALL.days]))[-1]

    def slope(day: int, price: np.ndarray) -> np.ndarray:
        ends = [truth.expected_demand(known, day, price * np.exp(s), comp_price=price) for s in (-step, step)]
        return np.log(ends[1] / ends[0]) / (2 * step)

    known = np.flatnonzero(truth.launch == 0)
    dear = truth.list_price[weekday, known] * 1.2

    assert (np.abs(slope(weekend, dear) - slope(weekday, dear)) > 1e-3).mean() > 0.9
    assert (slope(weekday, dear * 1.1) < slope(weekday, dear) + 1e-9).all()


def test_an_advertisement_draws_nobody_at_list_price_and_fully_from_a_tenth_below(market: Market) -> None:
    truth = market.truth
    product, day = np.flatnonzero(truth.launch == 0), 100
    price = truth.list_price[day, product]
    quiet = replace(truth, is_promo=np.zeros_like(truth.is_promo))
    loud = replace(truth, is_promo=np.ones_like(truth.is_promo))

    def lift(share: float) -> np.ndarray:
        ends = [t.expected_demand(product, day, share * price, comp_price=price) for t in (quiet, loud)]
        return np.log(ends[1] / ends[0])

    np.testing.assert_allclose(lift(1.0), 0, atol=1e-12)
    np.testing.assert_allclose(lift(0.9), truth.lift[product], rtol=1e-6)
    np.testing.assert_allclose(lift(0.8), truth.lift[product], rtol=1e-6)


def test_elasticities_and_volumes_span_what_the_market_promises() -> None:
    worlds = [draw_world(MarketConfig(products=200, days=28, future=1, seed=seed)) for seed in range(8)]
    elasticity = np.concatenate([world.truth.elasticity for world in worlds])
    volume = np.concatenate([np.exp(world.truth.level).mean(axis=0) for world in worlds])

    assert -2.8 < elasticity.mean() < -2.3
    assert np.quantile(elasticity, 0.02) < -4
    assert np.quantile(elasticity, 0.98) > -1.5
    assert np.quantile(volume, 0.99) / np.quantile(volume, 0.01) > 300


@given(
    low=st.floats(0, 400),
    extra=st.floats(0, 200),
    chance=st.floats(1e-6, 1 - 1e-6),
)
def test_a_higher_mean_never_sells_less_to_the_same_shoppers(low: float, extra: float, chance: float) -> None:
    uniform = np.array([chance])

    fewer, more = (poisson_quantile(np.array([mean]), uniform)[0] for mean in (low, low + extra))

    assert more >= fewer


def test_no_shopper_is_lost_where_the_exact_quantile_gives_way_to_the_approximation() -> None:
    chance = (np.arange(20_000) + 0.5) / 20_000

    exact, near = (poisson_quantile(np.full_like(chance, mean), chance) for mean in (30.0, 30.0001))

    assert (near >= exact).all()


def test_shoppers_are_poisson_distributed() -> None:
    chance = (np.arange(20_000) + 0.5) / 20_000

    for mean in (0.05, 3.0, 29.0, 31.0, 250.0):
        drawn = poisson_quantile(np.full_like(chance, mean), chance)
        exact = stats.poisson.ppf(chance, mean)
        assert np.abs(drawn - exact).max() <= (0 if mean < 30 else 1)
        assert abs(drawn.mean() - mean) < 0.01 * mean + 0.01


def test_dearer_never_sells_more_on_any_day(market: Market) -> None:
    truth = market.truth
    product = np.arange(SMALL.total_products)

    for day in range(0, SMALL.total_days, 17):
        before = None
        for share in np.linspace(0.6, 1.5, 10):
            price = share * truth.list_price[day]
            expected = truth.expected_demand(product, day, price, comp_price=truth.anchor)
            units = truth.demand_units(day, expected)
            assert before is None or (units <= before).all()
            before = units


def test_a_regime_change_moves_half_of_the_categories_and_nothing_before_it() -> None:
    calm = simulate(replace(SMALL, regime_change=False))
    torn = simulate(replace(SMALL, regime_change=True))
    turn = torn.config.regime_day

    assert turn == SMALL.days - 45
    pd.testing.assert_frame_equal(_before(torn, turn), _before(calm, turn))
    moved = torn.truth.elasticity_on(turn) != torn.truth.elasticity_on(turn - 1)
    hit = {name: moved[torn.world.category_names == name].mean() for name in np.unique(torn.world.category_names)}
    assert sum(share > 0.5 for share in hit.values()) == 3
    assert (torn.world.rival_move != 0).any()


def test_blind_prices_do_not_follow_hidden_shocks() -> None:
    def follows(endogeneity: float) -> float:
        market = simulate(MarketConfig(products=40, days=400, future=1, seed=5, endogeneity=endogeneity))
        shown = ~np.isnan(market.ledger.price) & ~market.truth.is_promo[:400]
        markup = np.log(market.ledger.price / market.truth.list_price[:400])[shown]
        return float(np.corrcoef(markup, market.truth.shock[:400][shown])[0, 1])

    assert follows(1.0) > 0.3
    assert abs(follows(0.0)) < 0.05


def test_few_price_points_mean_few_prices() -> None:
    market = simulate(replace(SMALL, price_points=4))
    shown = ~np.isnan(market.ledger.price)

    ratio = np.round((market.ledger.price / market.truth.list_price[: SMALL.days])[shown], 2)

    assert np.median(ratio) == 1.0
    assert len(np.unique(np.round(ratio / 0.05))) < 9


def test_without_noise_daily_counts_are_poisson() -> None:
    market = simulate(replace(SMALL, noise=0.0))

    assert (market.truth.day_factor == 1).all()
    assert np.isinf(market.truth.size)


def test_expected_demand_of_the_history_uses_the_day_s_competitor(market: Market) -> None:
    day, product = 120, int(np.flatnonzero(market.truth.launch == 0)[0])
    price = market.ledger.price[day, product]

    at_once = market.expected_demand(product, day, price)

    comp_price = market.ledger.comp_price[day, product]
    assert at_once == market.truth.expected_demand(product, day, price, comp_price=comp_price)


def test_options_out_of_range_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"products.*mean_elasticity"):
        MarketConfig(products=0, mean_elasticity=2.5)


def _before(market: Market, day: int) -> pd.DataFrame:
    frame = market.frame()
    return frame[frame["date"] < market.truth.dates[day]].reset_index(drop=True)
