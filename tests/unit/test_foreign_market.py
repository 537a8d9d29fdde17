"""The laws of the foreign markets: each kind does what it is named after, and the truth is what it says."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.config import KINDS
from simulation.market import Market, MarketConfig, simulate
from simulation.policies import DeliveryGaps
from simulation.rollforward import Requests, roll_forward
from simulation.truth import ForeignTruth, Shoppers

EVERY = [name for name, features in KINDS.items() if features.family == "foreign"]
WITHOUT_MEMORY = ("clearance", "informed", "few_prices", "no_prices", "heavy_tail")
SIZE = {"products": 20, "days": 300, "future": 60, "seed": 5, "categories": 4}


@cache
def market(kind: str) -> Market:
    return simulate(MarketConfig(kind, **SIZE))


def quiet(one: Market) -> ForeignTruth:
    """Its truth without advertisements."""
    return replace(one.truth, is_promo=np.zeros_like(one.truth.is_promo))


def at_rest(one: Market, day: int) -> Shoppers:
    """Shoppers who have nothing at home and remember the list price, (product, 1)."""
    return Shoppers(np.zeros((SIZE["products"], 1)), one.truth.list_price[day][:, None])


def expected(one: Market, day: int, ratio: np.ndarray, shoppers: Shoppers | None = None) -> np.ndarray:
    """(product, ratio) expected units at prices in shares of list, nothing advertised, all others at list."""
    product = np.arange(SIZE["products"])[:, None]
    prices = one.truth.list_price[day][:, None] * ratio
    others = one.truth.list_price[day]
    return quiet(one).expected_demand(product, day, prices, shoppers=shoppers or at_rest(one, day), others=others)


def log_slope(units: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    return np.diff(np.log(units), axis=1) / np.diff(np.log(ratio))


def first_requests(one: Market) -> Requests:
    seen: list[Requests] = []

    def policy(requests: Requests) -> np.ndarray:
        seen.append(requests)
        return requests.list_price

    roll_forward(one, policy, days=1)
    return seen[0]


@given(
    kind=st.sampled_from(EVERY),
    day=st.integers(0, SIZE["days"] - 1),
    household_stock=st.floats(0.0, 20.0),
    memory=st.floats(0.5, 2.0),
    low=st.floats(0.3, 3.0),
    more=st.floats(1.0, 3.0),
)
def test_dearer_never_sells_more_to_the_same_shoppers(
    kind: str, day: int, household_stock: float, memory: float, low: float, more: float
) -> None:
    one = market(kind)
    there = at_rest(one, day)
    units = expected(
        one, day, np.array([low, low * more]), Shoppers(there.household_stock + household_stock, there.memory * memory)
    )

    cheap, dear = (one.truth.demand_units(day, column) for column in units.T)

    assert (units[:, 1] <= units[:, 0] * (1 + 1e-12)).all()
    assert (dear <= cheap).all()


@pytest.mark.parametrize("kind", WITHOUT_MEMORY)
def test_where_shoppers_remember_nothing_the_finite_difference_is_the_closed_form(kind: str) -> None:
    truth = market(kind).truth
    last = SIZE["days"] - 1

    closed = -truth.slope * (truth.list_price[last] / truth.anchor) ** truth.features.bend

    np.testing.assert_allclose(truth.elasticity, closed, rtol=2e-3)


def test_in_a_nest_the_own_elasticity_is_the_closed_form_of_the_nested_logit() -> None:
    one, day, ratio = market("logit"), 250, np.array([0.9999, 1.0001])
    truth = one.truth
    nest = truth.features.nest
    units = expected(one, day, np.array([1.0]))[:, 0]
    category = np.bincount(truth.category, units)[truth.category]
    share_inside = category / truth.potential

    closed = -truth.slope * truth.list_price[day] / truth.anchor
    closed *= 1 - units / category * (1 - (1 - nest) * (1 - share_inside))

    np.testing.assert_allclose(log_slope(expected(one, day, ratio), ratio)[:, 0], closed, rtol=1e-5)


def test_what_a_price_sends_to_others_is_what_they_earn_there() -> None:
    one, day = market("logit"), SIZE["days"]
    prices = np.array([[0.9, 1.1]]) * one.shelf.price[0]

    beside = one.substitution_profit(np.array([0]), prices, day=day, days=1, shelf=one.shelf)[0, 0]

    for place in range(2):
        all_prices = one.shelf.price.copy()
        all_prices[0] = prices[0, place]
        shoppers = Shoppers(np.zeros(SIZE["products"]), all_prices)
        units = one.truth.expected_demand(
            np.arange(SIZE["products"]), day, all_prices, shoppers=shoppers, others=all_prices
        )
        earned = units * (all_prices - one.unit_cost[day])
        others = (one.truth.category == one.truth.category[0]) & (np.arange(SIZE["products"]) != 0)
        assert beside[place] == pytest.approx(earned[others].sum(), rel=1e-9)


def test_a_promotion_lays_in_stock_and_a_dip_follows_it() -> None:
    one, day = market("stockpiling"), 200
    truth, list_price = one.truth, one.truth.list_price[day]
    shoppers, units, plain = Shoppers(np.zeros(SIZE["products"]), list_price), [], []
    everyone = np.arange(SIZE["products"])

    for ahead in range(60):
        price = list_price * (0.8 if ahead < 7 else 1.0)
        for kept, state in ((units, shoppers), (plain, Shoppers(np.zeros(SIZE["products"]), list_price))):
            kept.append(
                quiet(one).expected_demand(
                    everyone,
                    day,
                    price if kept is units else list_price,
                    shoppers=state,
                    others=price,
                )
            )
        later = truth.next_shoppers(shoppers, price, list_price=list_price, served=1.0)
        shoppers = Shoppers(later.household_stock, list_price)

    ratio = np.array(units) / np.maximum(np.array(plain), 1e-300)
    on_sale = truth.launch <= day
    used = np.exp(truth.slope * (list_price / truth.anchor) * 0.2)[on_sale]
    assert (ratio[0, on_sale] > used * 1.2).all()
    assert ((ratio[7, on_sale] < 0.92) & (ratio[7, on_sale] > 0.7)).all()
    assert (np.diff(ratio[7:, on_sale], axis=0) > 0).all()
    np.testing.assert_allclose(shoppers.household_stock, 0, atol=0.1)
    excess = (ratio[:7, on_sale] / used - 1).sum(axis=0)  # days of use that were laid in; they come back as the dip
    np.testing.assert_allclose(excess + (ratio[7:, on_sale] - 1).sum(axis=0), 0, atol=0.1)


def test_a_price_above_the_remembered_one_hurts_more_than_one_below_it_helps_and_both_are_forgotten() -> None:
    one, day = market("reference_price"), 250
    truth, list_price = one.truth, one.truth.list_price[day]
    on_sale = truth.launch <= day

    def at(memory: float, price: float = 1.0) -> np.ndarray:
        shoppers = Shoppers(np.zeros((SIZE["products"], 1)), list_price[:, None] * memory)
        return np.log(expected(one, day, np.array([price]), shoppers))[on_sale, 0]

    gain, loss = at(1.1) - at(1.0), at(1.0) - at(1 / 1.1)
    ones = np.ones(len(list_price))
    shoppers = Shoppers(0 * ones, 2 * ones)
    for _ in range(90):
        shoppers = truth.next_shoppers(shoppers, ones, list_price=ones, served=1.0)

    assert (gain > 0).all()
    np.testing.assert_allclose(loss, 2 * gain)
    np.testing.assert_allclose(shoppers.memory, 1.0, atol=0.01)


def test_at_the_end_of_a_season_demand_falls_while_prices_are_cut_and_nothing_is_delivered() -> None:
    one = market("clearance")
    days = SIZE["days"]
    cut, buying = one.promo_cut[:days], one.supply.buying[:days]
    on_sale = one.truth.launch <= np.arange(days)[:, None]
    level = one.truth.level[:days] - one.truth.shock[:days]
    ratio = one.ledger.price / one.truth.list_price[:days]

    late = on_sale & (cut >= 0.2)
    full = on_sale & (cut == 0) & buying
    own = np.where(on_sale, level, np.nan)
    fall = np.nanmean(np.where(full, own, np.nan), axis=0) - np.nanmean(np.where(late, own, np.nan), axis=0)

    assert np.median(fall) > 0.3
    assert ratio[late].max() <= 0.81
    assert set(np.unique(cut)) == {np.float32(step) for step in (0.0, 0.10, 0.20, 0.30)}
    assert not (one.supply.delivers[:days] & ~buying).any()


def test_plain_rules_take_the_median_gap_between_deliveries_where_none_is_announced() -> None:
    one = market("heavy_tail")
    history = one.frame()
    requests = first_requests(one)

    left = DeliveryGaps(history).days_left(requests)

    assert np.corrcoef(left, one.supply.gap)[0, 1] > 0.8
    announced = replace(requests, next_delivery=np.full(len(requests), requests.date + 3))
    np.testing.assert_array_equal(DeliveryGaps(history).days_left(announced), 3.0)
