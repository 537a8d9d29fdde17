"""The laws of every kind of market: reproducible, conserved, monotone; and the truth of each, which is what it says."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pricing.data.contract import check
from pricing.errors import ConfigError
from simulation.config import DEVELOPMENT_SEEDS, HELD_OUT_SEEDS
from simulation.kinds import KINDS
from simulation.market import Market, MarketConfig, simulate
from simulation.policies import Oracle, RulePolicy, static
from simulation.rollforward import Requests, roll_forward
from simulation.truth import Shoppers, Truth, poisson_quantile

SIZE = {"products": 20, "days": 300, "future": 60, "seed": 5, "categories": 4}
DAYS = SIZE["days"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def market(kind: str = "default") -> Market:
    return simulate(MarketConfig(kind, **SIZE))


@every_kind
def test_the_same_options_give_the_same_history_whatever_the_future(kind: str) -> None:
    again = simulate(MarketConfig(kind, **SIZE | {"future": 130}))

    pd.testing.assert_frame_equal(again.frame(), market(kind).frame())
    np.testing.assert_allclose(again.truth.elasticity, market(kind).truth.elasticity)


@pytest.mark.parametrize(
    ("kind", "units", "revenue", "elasticity"),
    [
        ("default", 232_862, 890_775.38, -1.923447),
        ("clearance", 53_099, 818_235.02, -2.416500),
        ("stockpiling", 60_421, 951_565.19, -2.713152),
        ("reference_price", 57_169, 915_287.81, -2.817143),
        ("informed", 57_576, 920_574.84, -2.416500),
        ("logit", 54_115, 866_104.75, -2.421726),
        ("few_prices", 59_049, 918_303.71, -2.329133),
        ("no_prices", 55_072, 906_163.68, -2.355988),
        ("heavy_tail", 84_725, 1_307_749.35, -2.429139),
        ("merchant", 51_385, 1_164_532.27, -2.237831),
        ("merchant_steep", 71_274, 816_087.67, -7.051948),
        ("merchant_thin", 69_457, 840_388.51, -6.222244),
        ("households", 121_488, 691_673.05, -2.654148),
    ],
)
def test_no_market_changes_from_one_version_to_the_next(
    kind: str, units: int, revenue: float, elasticity: float
) -> None:
    frame = market(kind).frame()

    assert frame["units_sold"].sum() == units
    assert (frame["units_sold"] * frame["price"]).sum() == pytest.approx(revenue)
    assert market(kind).truth.elasticity.mean() == pytest.approx(elasticity, rel=1e-5)


def test_the_sample_that_the_readme_trains_on_is_what_a_market_sold() -> None:
    sold = simulate(MarketConfig(products=6, days=200, seed=1)).frame()
    kept = pd.read_csv(Path(__file__).parents[3] / "docs" / "sample_sales.csv", parse_dates=["date"])

    pd.testing.assert_frame_equal(kept, sold, check_dtype=False, rtol=1e-9)


@every_kind
def test_the_history_keeps_the_data_contract_and_has_gaps_and_unseen_competitors(kind: str) -> None:
    frame = market(kind).frame()

    assert not check(frame, where="market", period="day").violations
    assert (frame.groupby("product_id")["date"].diff().dt.days > 1).any()
    assert frame["comp_price"].isna().any()
    assert set(KINDS[kind].withheld) <= set(frame.columns)
    assert (frame["price"] >= frame["unit_cost"]).all()


@every_kind
def test_a_roll_forward_repeats_and_leaves_the_market_alone(kind: str) -> None:
    one = market(kind)
    before = {name: np.copy(value) for name, value in vars(one.shelf).items()}

    first, second = (roll_forward(one, static, days=30) for _ in range(2))

    assert np.array_equal(first.profit, second.profit)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(one.shelf, name), value)


@every_kind
def test_stock_is_conserved_but_for_deliveries_on_the_days_that_requests_name(kind: str) -> None:
    one, asked = market(kind), list[Requests]()

    def policy(requests: Requests) -> np.ndarray:
        asked.append(requests)
        return np.clip(0.85 * requests.list_price, requests.lowest, requests.highest)

    ledger = roll_forward(one, policy, days=60).ledger

    delivered = ledger.stock[1:] - (ledger.stock[:-1] - ledger.units[:-1])
    days = np.arange(DAYS + 1, DAYS + 60)
    launch = one.truth.launch == days[:, None]
    assert (ledger.units == np.minimum(ledger.stock, ledger.demand)).all()
    assert (delivered >= 0).all()
    assert (delivered[~one.supply.delivers[days] & ~launch] == 0).all()
    assert (delivered[~launch] > 0).any()
    if KINDS[kind].announces_deliveries:
        due = one.supply.delivers[DAYS + 1 :].argmax(axis=0) + 1
        np.testing.assert_array_equal(asked[0].days_left, due[: len(asked[0])])
    else:
        assert np.isnat(asked[0].next_delivery).all()
        with pytest.raises(ConfigError, match="does not say when deliveries come"):
            _ = asked[0].days_left


@every_kind
def test_no_rule_earns_more_than_the_oracle(kind: str) -> None:
    one = market(kind)
    rules = RulePolicy(one.frame())

    held, ruled, best = (roll_forward(one, policy, days=14) for policy in (static, rules, Oracle(one)))

    assert not best.refused.any()
    assert best.profit.sum() > max(held.profit.sum(), ruled.profit.sum())


def test_no_seed_belongs_to_two_pools() -> None:
    pools = [*DEVELOPMENT_SEEDS.values(), *HELD_OUT_SEEDS.values()]

    assert len(set().union(*pools)) == sum(len(pool) for pool in pools)


@pytest.mark.parametrize("kind", [name for name, features in KINDS.items() if features.demand == "quadratic"])
def test_elasticities_match_numerical_derivatives_averaged_over_a_week(kind: str) -> None:
    one, step = market(kind), 1e-4
    truth, days = one.truth, np.arange(DAYS - 7, DAYS)[:, None]
    product, list_price = np.arange(len(truth.launch)), truth.list_price[DAYS - 1]
    plain = replace(truth, is_promo=np.zeros_like(truth.is_promo), launch=np.zeros_like(truth.launch))

    dearer = plain.expected_demand(product, days, list_price * np.exp(step), comp_price=list_price)
    cheaper = plain.expected_demand(product, days, list_price * np.exp(-step), comp_price=list_price)

    slope = (np.log(dearer) - np.log(cheaper)).mean(axis=0) / (2 * step)
    np.testing.assert_allclose(slope, truth.elasticity, rtol=1e-3)


@given(low=st.floats(0, 400), extra=st.floats(0, 200), chance=st.floats(1e-6, 1 - 1e-6))
def test_a_higher_mean_never_sells_less_to_the_same_shoppers(low: float, extra: float, chance: float) -> None:
    uniform = np.array([chance])

    fewer, more = (poisson_quantile(np.array([mean]), uniform)[0] for mean in (low, low + extra))

    assert more >= fewer


def test_shoppers_are_poisson_distributed() -> None:
    chance = (np.arange(20_000) + 0.5) / 20_000

    for mean in (0.05, 3.0, 29.0, 31.0, 250.0):
        drawn = poisson_quantile(np.full_like(chance, mean), chance)
        exact = stats.poisson.ppf(chance, mean)
        assert np.abs(drawn - exact).max() <= (0 if mean < 30 else 1)
        assert abs(drawn.mean() - mean) < 0.01 * mean + 0.01


@pytest.mark.parametrize(
    "wrong", [{"kind": "sale"}, {"products": 0}, {"mean_elasticity": 2.5}, {"kind": "logit", "endogeneity": 0.0}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MarketConfig(**wrong)


def test_blind_prices_do_not_follow_hidden_shocks() -> None:
    def follows(endogeneity: float) -> float:
        one = simulate(MarketConfig(products=40, days=400, future=1, seed=5, endogeneity=endogeneity))
        shown = ~np.isnan(one.ledger.price) & ~one.truth.is_promo[:400]
        markup = np.log(one.ledger.price / one.truth.list_price[:400])[shown]
        return float(np.corrcoef(markup, one.truth.shock[:400][shown])[0, 1])

    assert follows(1.0) > 0.3
    assert abs(follows(0.0)) < 0.05


# The foreign family: each kind does what it is named after.
WITHOUT_MEMORY = ("clearance", "informed", "few_prices", "no_prices", "heavy_tail")


def quiet(one: Market) -> Truth:
    """Its truth without advertisements."""
    return replace(one.truth, is_promo=np.zeros_like(one.truth.is_promo))


def at_rest(one: Market, day: int) -> Shoppers:
    """Shoppers who have nothing at home and remember the list price, (product, 1)."""
    return Shoppers(np.zeros((len(one.truth.launch), 1)), one.truth.list_price[day][:, None])


def expected(
    one: Market, day: int, ratio: np.ndarray, shoppers: Shoppers | None = None, *, truth: Truth | None = None
) -> np.ndarray:
    """(product, ratio) expected units at prices in shares of list, others at list; advertised is what `truth` says."""
    others = one.truth.list_price[day]
    product, rival = np.arange(len(others))[:, None], others[:, None]
    there = shoppers or at_rest(one, day)
    return (truth or quiet(one)).expected_demand(
        product, day, rival * ratio, comp_price=rival, shoppers=there, others=others
    )


def log_slope(units: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    return np.diff(np.log(units), axis=1) / np.diff(np.log(ratio))


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.family != "choice"])  # it has its own
@given(
    day=st.integers(0, DAYS + SIZE["future"] - 1),
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
    shoppers = Shoppers(there.household_stock + household_stock, there.memory * memory)
    units = expected(one, day, np.array([low, low * more]), shoppers, truth=one.truth)

    cheap, dear = (one.truth.demand_units(day, column) for column in units.T)

    assert (units[:, 1] <= units[:, 0] * (1 + 1e-12)).all()
    assert (dear <= cheap).all()


@pytest.mark.parametrize("kind", WITHOUT_MEMORY)
def test_where_shoppers_remember_nothing_the_finite_difference_is_the_closed_form(kind: str) -> None:
    truth = market(kind).truth
    last = DAYS - 1

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
    one, day = market("logit"), DAYS
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


def test_the_heavy_tail_s_elasticity_grows_by_the_power_of_its_bend() -> None:
    ratio = np.array([0.999, 1.001, 1.299, 1.301])

    slope = log_slope(expected(market("heavy_tail"), 250, ratio), ratio)

    on_sale = market("heavy_tail").truth.launch <= 250
    np.testing.assert_allclose((slope[:, 2] / slope[:, 0])[on_sale], 1.3**1.2, rtol=1e-3)


def test_in_a_nest_a_dearer_product_sends_some_shoppers_to_its_category_and_some_away() -> None:
    one, day = market("logit"), 250
    truth, everyone = one.truth, np.arange(SIZE["products"])
    list_price = truth.list_price[day]
    dearer = list_price.copy()
    dearer[0] *= 1.2

    def sold(prices: np.ndarray) -> np.ndarray:
        shoppers = Shoppers(np.zeros(len(prices)), list_price)
        return quiet(one).expected_demand(everyone, day, prices, shoppers=shoppers, others=prices)

    change = sold(dearer) - sold(list_price)

    rivals = (truth.category == truth.category[0]) & (everyone != 0) & (truth.launch <= day)
    assert change[0] < 0
    assert (change[rivals] > 0).all()
    assert change[rivals].sum() < -change[0]
    np.testing.assert_allclose(change[truth.category != truth.category[0]], 0, atol=1e-12)


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


def test_the_grocer_never_prices_outside_the_band_unless_cost_asks_for_it() -> None:
    frame = market().frame()
    ratio = frame["price"] / frame["list_price"]

    assert ((ratio >= 0.695) | (frame["price"] == frame["unit_cost"])).all()
    assert (ratio <= 1.355).all()
