"""Households that choose: shares, pantries and reference prices; and what a product loses to its category."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.arrays import Floats
from simulation.config import HELD_DAYS
from simulation.households import BUYS, CLASS_SENSITIVITY, CLASS_SHARE, FULLNESS, PANTRY, ChoiceTruth
from simulation.kinds import KINDS
from simulation.market import Market, MarketConfig, simulate
from simulation.truth import NUDGE, Shoppers

SIZE = {"products": 20, "days": 120, "future": 40, "seed": 601, "categories": 3}
DAY = 119
EVERYONE = np.arange(20)
CLASSES = len(CLASS_SHARE)


@cache
def market(kind: str = "households") -> Market:
    return simulate(MarketConfig(kind, **SIZE))


def truth() -> ChoiceTruth:
    """The truth without advertisements, with every product launched."""
    found = market().truth
    assert isinstance(found, ChoiceTruth)
    return replace(found, is_promo=np.zeros_like(found.is_promo), launch=np.zeros_like(found.launch))


def at_anchors() -> ChoiceTruth:
    """The same, with the competitor's prices at the first list prices, which stand, and no shocks of days."""
    found = truth()
    return replace(
        found,
        comp_price=np.broadcast_to(found.anchor, found.level.shape),
        list_price=np.broadcast_to(found.anchor, found.level.shape),
        level=np.broadcast_to(found.log_volume, found.level.shape),
    )


def remembered(price: Floats) -> Shoppers:
    return Shoppers(np.zeros(len(price)), price)


def sold(found: ChoiceTruth, price: Floats, shoppers: Shoppers) -> Floats:
    return found.expected_demand(EVERYONE, DAY, price, shoppers=shoppers)


def days_at(found: ChoiceTruth, prices: list[Floats]) -> Floats:
    """(day, product) expected units on days at these prices, shoppers at rest before them."""
    shoppers, units = remembered(found.anchor), []
    for price in prices:
        units.append(sold(found, price, shoppers))
        shoppers = found.after_day(shoppers, price, day=DAY, demand=units[-1], units=units[-1])
    return np.array(units)


def test_class_sensitivities_have_a_mean_of_one() -> None:
    assert CLASS_SHARE.sum() == pytest.approx(1.0)
    assert pytest.approx(1.0) == CLASS_SHARE @ CLASS_SENSITIVITY


def test_at_first_list_prices_and_at_rest_a_product_sells_its_level() -> None:
    found = truth()
    found = replace(found, comp_price=np.broadcast_to(found.anchor, found.level.shape))

    units = sold(found, found.anchor, remembered(found.anchor))

    np.testing.assert_allclose(units, np.exp(found.level[DAY]), rtol=1e-6)


def slow_units(found: ChoiceTruth, price: Floats, home: Floats, memory: Floats) -> list[float]:
    """Units of a day by loops over classes, categories, halves and products."""
    nest, level = found.features.nest or 0.0, np.exp(found.level[DAY].astype(float))
    units = [0.0] * len(price)
    for group in set(found.category.tolist()):
        members = [j for j in EVERYONE if found.category[j] == group]
        halves = [members[0::2], members[1::2]]
        everything = sum(level[j] for j in members)
        for number, share in enumerate(CLASS_SHARE):
            attraction: dict[int, float] = {}
            for half in halves:
                popularity = sum(level[j] for j in half) / everything
                for j in half:
                    gap = math.log(memory[j] / price[j])
                    felt = 1 - price[j] / found.anchor[j] + (0.25 if gap > 0 else 0.5) * gap
                    rival = found.cross[j] * (found.comp_price[DAY, j] / found.anchor[j] - 1)
                    utility = rival + CLASS_SENSITIVITY[number] * found.slope[j] * felt
                    attraction[j] = level[j] / everything * popularity ** (nest / (1 - nest)) * math.exp(utility)
            sums = [sum(attraction[j] for j in half) for half in halves]
            total = sum(value ** (1 - nest) for value in sums)
            odds = BUYS / (1 - BUYS) * total * math.exp(-FULLNESS * home[number, members[0]])
            outside = 1 / (1 + odds)
            chances = [outside]
            for half, value in zip(halves, sums, strict=True):
                for j in half:
                    chance = (1 - outside) * value ** (1 - nest) / total * attraction[j] / value
                    chances.append(chance)
                    units[j] += share * everything / BUYS * chance
            assert sum(chances) == pytest.approx(1.0)  # every household buys one product or none
    return units


@given(seed=st.integers(0, 10_000))
def test_units_are_those_of_a_slow_loop_over_the_households(seed: int) -> None:
    found, rng = truth(), np.random.default_rng(seed)
    price = found.list_price[DAY] * rng.uniform(0.7, 1.35, len(EVERYONE))
    memory = found.list_price[DAY] * rng.uniform(0.8, 1.2, len(EVERYONE))
    home = rng.uniform(-10, 20, (CLASSES, 3))[:, found.category]

    units = sold(found, price, Shoppers(home, memory))

    np.testing.assert_allclose(units, slow_units(found, price, home, memory), rtol=1e-9)


@given(
    product=st.integers(0, 19),
    day=st.integers(0, 159),
    home=st.floats(-20, 40),
    memory=st.floats(0.5, 2.0),
    low=st.floats(0.4, 2.0),
    more=st.floats(1.0, 2.0),
)
def test_a_dearer_product_never_sells_more_itself_nor_less_of_another(
    product: int, day: int, home: float, memory: float, low: float, more: float
) -> None:
    found = market().truth
    cheap = found.list_price[day].copy()
    cheap[product] *= low
    dear = cheap.copy()
    dear[product] *= more
    shoppers = Shoppers(np.full((CLASSES, 20), home), memory * found.list_price[day])

    before, after = (found.expected_demand(EVERYONE, day, price, shoppers=shoppers) for price in (cheap, dear))

    assert after[product] <= before[product] * (1 + 1e-12)
    others = product != EVERYONE
    assert (after[others] >= before[others] * (1 - 1e-12)).all()
    elsewhere = found.category != found.category[product]
    np.testing.assert_array_equal(after[elsewhere], before[elsewhere])
    assert after.sum() <= before.sum() * (1 + 1e-12)


def test_products_of_a_half_win_more_of_what_one_of_it_loses() -> None:
    found = at_anchors()
    dearer = found.anchor.copy()
    dearer[0] *= 1.1

    won = sold(found, dearer, remembered(found.anchor)) / sold(found, found.anchor, remembered(found.anchor)) - 1

    same_half = (found.half == found.half[0]) & (EVERYONE != 0)
    other_half = (found.category == found.category[0]) & (found.half != found.half[0])
    assert won[same_half].min() > 1.2 * won[other_half].max() > 0


@given(seed=st.integers(0, 10_000))
def test_what_is_bought_is_eaten_or_stored(seed: int) -> None:
    found, rng = truth(), np.random.default_rng(seed)
    price = found.list_price[DAY] * rng.uniform(0.7, 1.35, len(EVERYONE))
    home = rng.uniform(-20, 20, (CLASSES, 3))[:, found.category]
    shoppers = Shoppers(home, found.list_price[DAY])
    demand = rng.poisson(sold(found, price, shoppers))
    units = np.minimum(demand, 15)

    after = found.after_day(shoppers, price, day=DAY, demand=demand, units=units).household_stock

    for group in range(3):
        members = found.category == group
        usual = np.exp(found.log_volume[members]).sum()
        now = np.exp(found.level[DAY, members].astype(float)).sum()
        first = int(np.flatnonzero(members)[0])
        stored = (CLASS_SHARE * usual * (after - home)[:, first]).sum()
        eaten = (CLASS_SHARE * now * (PANTRY + home[:, first]) / PANTRY).sum()
        assert units[members].sum() == pytest.approx(eaten + stored)
        assert (after[:, members] == after[:, [first]]).all()


def test_a_cut_that_is_over_leaves_fewer_sales_which_come_back() -> None:
    found = at_anchors()
    cut = np.where(EVERYONE == 0, 0.8, 1.0) * found.anchor

    change = days_at(found, [cut] * 7 + [found.anchor] * 90) - np.exp(found.log_volume)

    mates = (found.category == found.category[0]) & (EVERYONE != 0)
    assert (change[:7, 0] > 0).all()
    assert (change[7:, 0] < 0).all()
    assert (np.diff(change[7:, 0]) > 0).all()
    assert (change[7:28, mates].sum(axis=1) < 0).all()  # the pantry of the category is full
    assert np.abs(change[-1, mates]).max() < 0.02 * change[0, 0]
    assert abs(change[-1, 0]) < 0.02 * change[0, 0]
    np.testing.assert_allclose(change[:, found.category != found.category[0]], 0, atol=1e-9)


def test_a_third_of_a_cut_s_units_is_other_products_a_third_later_weeks_and_a_third_new() -> None:
    found, parts = at_anchors(), []

    for product in EVERYONE:
        cut = np.where(product == EVERYONE, 0.8, 1.0) * found.anchor
        change = days_at(found, [cut] * 7 + [found.anchor] * 56) - np.exp(found.log_volume)
        mates = found.category == found.category[product]
        own = change[:7, product].sum()
        others = change[:7, mates].sum() - own
        parts.append((-others / own, -change[7:, mates].sum() / own))

    np.testing.assert_allclose(np.mean(parts, axis=0), 1 / 3, atol=0.08)


def test_another_product_s_reference_price_enters_choice_and_losses_weigh_twice() -> None:
    found = at_anchors()
    at_rest = sold(found, found.anchor, remembered(found.anchor))

    def change(ratio: float) -> Floats:
        memory = np.where(EVERYONE == 0, ratio, 1.0) * found.anchor
        return sold(found, found.anchor, remembered(memory)) - at_rest

    gain, loss = change(1.001), change(1 / 1.001)

    mates = (found.category == found.category[0]) & (EVERYONE != 0)
    assert (gain[mates] < 0).all()
    assert (loss[mates] > 0).all()
    assert loss[0] / gain[0] == pytest.approx(-2.0, rel=0.01)


def test_own_elasticities_and_diversion_are_those_of_groceries() -> None:
    found = market().truth

    assert -3.5 < found.elasticity.mean() < -1.8
    assert 0.3 < found.diversion_on(DAY).mean() < 0.6


def slow_diversion(one: Market, product: int) -> float:
    """Held prices of one product, everything played day by day for all products at once."""
    found = replace(one.truth, is_promo=np.zeros_like(one.truth.is_promo))
    list_price = found.list_price[DAY]
    totals = []
    for share in (1 + NUDGE, 1 - NUDGE):
        price = np.where(product == EVERYONE, share, 1.0) * list_price
        shoppers, units = remembered(list_price), np.zeros(len(EVERYONE))
        for ahead in range(HELD_DAYS):
            day = DAY + ahead
            today = found.expected_demand(EVERYONE, day, price, shoppers=shoppers, others=price)
            shoppers = found.after_day(shoppers, price, day=day, demand=today, units=today)
            units += today
        totals.append(units)
    change = totals[0] - totals[1]
    mates = (found.category == found.category[product]) & (product != EVERYONE)
    return float(change[mates].sum() / -change[product])


@pytest.mark.parametrize("kind", ["households", "logit"])
def test_diversion_is_what_a_slow_loop_finds(kind: str) -> None:
    found = market(kind).truth.diversion_on(DAY)

    np.testing.assert_allclose(found, [slow_diversion(market(kind), product) for product in EVERYONE], rtol=1e-6)


@pytest.mark.parametrize("kind", [name for name, settings in KINDS.items() if settings.nest is None])
def test_where_products_are_no_substitutes_nothing_is_diverted(kind: str) -> None:
    assert not market(kind).truth.diversion_on(DAY).any()


def test_a_product_alone_in_its_category_diverts_nothing() -> None:
    alone = simulate(MarketConfig("households", products=3, days=28, future=1, seed=600, categories=3))

    np.testing.assert_allclose(alone.truth.diversion_on(27), 0, atol=1e-9)


def test_paths_are_the_days_played_one_by_one() -> None:
    one, product = market(), 4
    start = SIZE["days"]
    prices = one.truth.list_price[start, [product]][:, None] * np.array([[0.85, 1.2]])
    seen = np.array([np.nan])

    units = one.outlook(np.array([product]), prices, day=start, days=10, comp_price=seen, shelf=one.shelf)[0]
    beside = one.substitution_profit(np.array([product]), prices, day=start, days=10, shelf=one.shelf)[0]

    mates = (one.truth.category == one.truth.category[product]) & (product != EVERYONE)
    for place in range(2):
        price = one.shelf.price.copy()
        price[product] = prices[0, place]
        shoppers = Shoppers(one.shelf.household_stock, one.shelf.memory)
        for ahead in range(10):
            day = start + ahead
            today = one.truth.expected_demand(EVERYONE, day, price, shoppers=shoppers)
            shoppers = one.truth.after_day(shoppers, price, day=day, demand=today, units=today)
            assert units[ahead, place] == pytest.approx(today[product], rel=1e-9)
            earned = (today * (price - one.unit_cost[day]))[mates].sum()
            assert beside[ahead, place] == pytest.approx(earned, rel=1e-9)
