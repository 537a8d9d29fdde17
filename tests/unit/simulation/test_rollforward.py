"""The laws of a roll-forward, in which nothing hidden is shown; and the oracle against every plan there is."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pricing.errors import ConfigError
from simulation.config import BAND
from simulation.market import Market, MarketConfig, simulate
from simulation.policies import Oracle, best_first_price, expected_share, static
from simulation.rollforward import Requests, roll_forward, score

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
        "day",
        "date",
        "product_id",
        "category",
        "stock",
        "comp_price",
        "is_promo",
        "current_price",
        "list_price",
        "unit_cost",
        "next_delivery",
        "max_move",
    }


def test_a_future_that_was_not_drawn_is_refused(market: Market) -> None:
    with pytest.raises(ConfigError):
        roll_forward(market, static, days=41)


PRICES = np.linspace(0.8, 1.4, 13)
COST, SIZE = 0.6, 9.0


def demand(levels: tuple[float, ...], elasticity: float) -> np.ndarray:
    return np.array(levels)[:, None] * PRICES**elasticity  # (day, candidate)


@pytest.mark.parametrize("size", [1.5, 9.0])
@pytest.mark.parametrize("stock", [0, 1, 2, 5, 70])
@pytest.mark.parametrize("mean", [0.3, 4.0, 60.0])
def test_expected_sales_match_the_sum_over_all_counts(mean: float, stock: int, size: float) -> None:
    counts = np.arange(3000)
    chance = stats.nbinom.pmf(counts, size, size / (size + mean))

    share = expected_share(np.array([mean]), stock=np.array([stock]), size=size)[0]

    assert share * mean == pytest.approx((np.minimum(counts, stock) * chance).sum(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("levels", [(5.0, 5.0, 5.0), (3.0, 8.0), (8.0, 3.0, 2.0)])
@pytest.mark.parametrize("stock", [2, 5, 8, 12])
@pytest.mark.parametrize("elasticity", [-1.5, -3.0])
def test_the_plan_earns_what_the_best_of_all_plans_earns(
    levels: tuple[float, ...], stock: int, elasticity: float
) -> None:
    """Exact dynamic programming over stock and day, every candidate tried on every day."""
    units = demand(levels, elasticity)
    counts = np.arange(150)
    chances = stats.nbinom.pmf(counts, SIZE, SIZE / (SIZE + units[..., None]))

    @cache
    def best(day: int, left: int) -> float:
        return 0.0 if day == len(levels) else max(worth(day, left, place) for place in range(len(PRICES)))

    def worth(day: int, left: int, place: int, *, then: object = None) -> float:
        sold = np.minimum(counts, left)
        follow = then or best
        later = np.array([follow(day + 1, left - amount) for amount in range(left + 1)])
        return float((chances[day, place] * ((PRICES[place] - COST) * sold + later[sold])).sum())

    @cache
    def planned(day: int, left: int) -> float:
        if day == len(levels) or left == 0:
            return 0.0
        first = best_first_price(
            PRICES[None], margin=(PRICES - COST)[None], units=units[None, day:], stock=np.array([left]), size=SIZE
        )
        return worth(day, left, int(np.argmin(np.abs(PRICES - first[0]))), then=planned)

    assert planned(0, stock) >= 0.99 * best(0, stock)


class EndlessStock(Oracle):
    """Knows demand alone, and plans as if nothing could run out."""

    def __call__(self, requests: Requests) -> np.ndarray:
        return super().__call__(replace(requests, stock=np.full(len(requests), 10**9)))


def test_the_oracle_earns_most_heeding_stock_pays_and_scores_lie_between_static_and_it() -> None:
    market = simulate(MarketConfig(products=12, days=120, future=45, seed=2))
    hold = roll_forward(market, static, days=45)
    endless = roll_forward(market, EndlessStock(market), days=45)
    best = roll_forward(market, Oracle(market), days=45)

    still, top = (score(name, run, static=hold, oracle=best) for name, run in (("static", hold), ("oracle", best)))

    assert hold.profit.sum() < endless.profit.sum() < best.profit.sum()
    assert not best.refused.any()
    assert (still.gain, still.share, still.share_interval) == (0.0, 0.0, (0.0, 0.0))
    assert top.share == 1.0
    assert top.gain_interval[0] <= top.gain <= top.gain_interval[1]
    assert top.gain == pytest.approx(best.profit.sum() / hold.profit.sum() - 1)
    assert still.discount_depth == 0.0
    assert still.stock_turns > 0


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
        for name in ("product_id", "list_price", "unit_cost", "is_promo", "next_delivery"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
