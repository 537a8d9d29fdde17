"""The laws of a roll-forward: the same shoppers for every policy, refused prices counted, nothing hidden shown."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from pricing.errors import ConfigError
from simulation.market import Market, MarketConfig, simulate
from simulation.policies import CostPlus, RulePolicy, static
from simulation.rollforward import Requests, roll_forward
from simulation.world import BAND

CONFIG = MarketConfig(products=24, days=200, future=40, seed=6, unseen=0.1)


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(CONFIG)


def dearer(share: float) -> object:
    return lambda requests: np.round(np.clip(share * requests.list_price, requests.lowest, requests.highest), 2)


def test_two_policies_meet_the_same_shoppers(market: Market) -> None:
    cheap, dear = (roll_forward(market, dearer(share), days=30) for share in (0.9, 1.1))

    same_rival = cheap.ledger.comp_price == dear.ledger.comp_price
    assert same_rival.any()
    assert (dear.ledger.demand <= cheap.ledger.demand)[same_rival].all()
    assert (dear.ledger.demand < cheap.ledger.demand)[same_rival].any()


def test_no_policy_moves_costs_list_prices_or_the_advertising_plan(market: Market) -> None:
    seen: dict[str, list[Requests]] = {"cheap": [], "dear": []}

    def watch(name: str, share: float) -> object:
        def policy(requests: Requests) -> np.ndarray:
            seen[name].append(requests)
            return dearer(share)(requests)

        return policy

    for name, share in (("cheap", 0.9), ("dear", 1.1)):
        roll_forward(market, watch(name, share), days=20)

    for one, other in zip(seen["cheap"], seen["dear"], strict=True):
        for name in ("product_id", "list_price", "unit_cost", "is_promo", "is_holiday", "next_delivery"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_the_roll_forward_goes_on_where_the_history_ended(market: Market) -> None:
    last = market.ledger
    first: list[Requests] = []

    def policy(requests: Requests) -> np.ndarray:
        first.append(requests)
        return requests.list_price

    run = roll_forward(market, policy, days=1)

    old = market.truth.launch < CONFIG.days
    due = market.supply.delivers[CONFIG.days]
    assert first[0].date == market.truth.dates[CONFIG.days - 1] + 1
    np.testing.assert_array_equal(first[0].current_price[: old.sum()], last.price[-1, old])
    carried = last.stock[-1] - last.units[-1]
    assert np.array_equal(run.ledger.stock[0, old & ~due], carried[old & ~due])


def test_prices_out_of_bounds_are_counted_and_the_list_price_is_charged(market: Market) -> None:
    def policy(requests: Requests) -> np.ndarray:
        price = requests.list_price.copy()
        price[:5] = [np.nan, np.inf, -1.0, requests.highest[3] + 0.02, requests.lowest[4] - 0.02]
        return price

    run = roll_forward(market, policy, days=3)

    assert run.refused.sum() == 15
    days = slice(CONFIG.days, CONFIG.days + 3)
    assert np.array_equal(run.ledger.price[:, :5], market.truth.list_price[days, :5])


def test_the_list_price_is_never_refused_even_below_cost(market: Market) -> None:
    dear = replace(market, unit_cost=market.unit_cost * 3)

    run = roll_forward(dear, static, days=3)

    assert not run.refused.any()
    assert run.profit.sum() < 0


@pytest.mark.parametrize("bound", ["lowest", "highest"])
def test_no_move_is_larger_than_allowed_unless_the_band_or_the_cost_asks_for_it(market: Market, bound: str) -> None:
    run = roll_forward(market, lambda requests: np.round(getattr(requests, bound), 2), days=20, max_move=0.05)

    price = run.ledger.price
    days = slice(CONFIG.days + 1, CONFIG.days + 20)
    floor = np.maximum(BAND[0] * market.truth.list_price[days], market.unit_cost[days])
    ceiling = np.maximum(BAND[1] * market.truth.list_price[days], floor)
    allowed = np.clip(price[:-1] * (0.95 if bound == "lowest" else 1.05), floor, ceiling)
    old = ~np.isnan(price[:-1])
    np.testing.assert_allclose(price[1:][old], allowed[old], atol=0.00501)
    assert not run.refused.any()


def test_a_policy_learns_each_row_once_and_before_it_prices_the_next(market: Market) -> None:
    told: list[pd.DataFrame] = []

    run = roll_forward(market, static, days=40, refresh=told.append, every=14)

    dates = [(rows["date"].min(), rows["date"].max()) for rows in told]
    start = pd.Timestamp(market.truth.dates[CONFIG.days])
    assert dates == [
        (start, start + pd.Timedelta(days=13)),
        (start + pd.Timedelta(days=14), start + pd.Timedelta(days=27)),
    ]
    recorded = run.frame()
    pd.testing.assert_frame_equal(
        pd.concat(told).sort_values(["product_id", "date"], ignore_index=True),
        recorded[recorded["date"] < start + pd.Timedelta(days=28)].reset_index(drop=True),
    )


def test_requests_carry_nothing_that_a_shop_does_not_know() -> None:
    known = {field.name for field in fields(Requests)}

    assert known == {
        *("day", "date", "product_id", "category", "stock", "comp_price", "is_promo", "current_price"),
        *("list_price", "unit_cost", "is_holiday", "next_delivery", "max_move"),
    }


def test_products_that_nobody_has_seen_are_asked_for_from_their_launch(market: Market) -> None:
    run = roll_forward(market, static, days=40)

    unseen = market.truth.launch >= market.config.days
    assert unseen.sum() == 2
    launched = market.truth.launch[unseen] - CONFIG.days
    assert np.array_equal(run.on_sale[:, unseen].argmax(axis=0), launched)
    assert np.isnan(market.ledger.price[:, unseen]).all()


def test_a_future_that_was_not_drawn_is_refused(market: Market) -> None:
    with pytest.raises(ConfigError, match="future of 40 days"):
        roll_forward(market, static, days=41)


def test_rules_ask_more_than_cost_plus_only_where_stock_will_run_out(market: Market) -> None:
    history = market.frame()
    asked: list[Requests] = []

    def policy(requests: Requests) -> np.ndarray:
        asked.append(requests)
        return requests.list_price

    roll_forward(market, policy, days=1, max_move=None)
    requests = asked[0]
    plenty = replace(requests, stock=np.full(len(requests), 10**6))
    little = replace(requests, stock=np.ones(len(requests), dtype=np.int64))

    np.testing.assert_array_equal(RulePolicy(history)(plenty), CostPlus(history)(plenty))
    assert (RulePolicy(history)(little) >= CostPlus(history)(little)).all()
    assert (RulePolicy(history)(little) > CostPlus(history)(little)).mean() > 0.7
