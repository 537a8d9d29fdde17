"""The decision: closed forms, brute force and laws, on demand whose elasticity is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pricing.config import Config
from pricing.decision.choose import Choices, choose
from pricing.decision.confidence import chance_at_least
from pricing.decision.context import PricingContext
from pricing.decision.guardrails import NUMBER
from pricing.decision.reasons import BIT, codes
from pricing.decision.strategies import Policy
from pricing.demand.curve import DemandGrid
from pricing.demand.grades import OWN_HISTORY, PRIOR_ONLY
from tests.kit.decision import config, pricing_context, without_guardrail

NEXT_DELIVERY = 7


def demand(
    elasticity: float | list[float],
    *,
    level: float = 10.0,
    size: float = 50.0,
    weight: list[float] | None = None,
    grade: int = OWN_HISTORY,
) -> Any:
    """Asks a demand of constant elasticity, or one per node, around a list price of 10."""
    nodes = np.atleast_1d(np.asarray(elasticity, dtype=float))
    shares = np.full(len(nodes), 1 / len(nodes)) if weight is None else np.array(weight)

    def demand_at(prices: np.ndarray) -> DemandGrid:
        first = level * np.exp(-nodes[:, None] * np.log(prices / 10.0)[:, None, :])
        sizes = np.full(len(prices), size)
        return DemandGrid(
            first, first * NEXT_DELIVERY, sizes, sizes, shares, np.zeros(len(prices), int), np.full(len(prices), grade)
        )

    return demand_at


def decide(context: PricingContext, demand_at: Any, settings: Config | None = None) -> Choices:
    return choose(context, demand_at, Policy((settings or FREE).decision))


FREE = config(
    menu_cost=0.0, candidates=256, confidence_threshold=0.0, guardrails={"band": [0.3, 5.0]}
)  # room to find the optimum in
STEP = float(np.log(5.0 / 0.3) / 253)  # the candidates' own, log units


@pytest.mark.parametrize("elasticity", [1.5, 2.0, 2.5, 4.0])
def test_with_ample_stock_the_price_is_lerners(elasticity: float) -> None:
    chosen = decide(pricing_context(), demand(elasticity))

    assert np.log(chosen.price[0] / (6.0 * elasticity / (elasticity - 1))) == pytest.approx(0, abs=0.6 * STEP + 1e-3)


@pytest.mark.parametrize("elasticity", [1.3, 2.5])
def test_revenue_of_elastic_demand_is_highest_at_the_lowest_allowed_price(elasticity: float) -> None:
    settings = config(strategy="revenue", strategies={"revenue": {"kind": "revenue"}})

    assert decide(pricing_context(), demand(elasticity), settings).price[0] == 7.0


@pytest.mark.parametrize(("stock", "level", "size"), [(5, 3.0, 2.0), (20, 4.0, 5.0), (40, 10.0, 0.8), (100, 9.0, 20.0)])
def test_run_out_pricing_agrees_with_brute_force_over_every_count(stock: int, level: float, size: float) -> None:
    chosen = decide(pricing_context(stock=float(stock)), demand(2.5, level=level, size=size))

    counts = np.arange(20_000)
    prices = chosen.candidates.prices[0]
    profit = []
    for price in prices:
        mean = NEXT_DELIVERY * level * (price / 10.0) ** -2.5
        mass = stats.nbinom.pmf(counts, size, size / (size + mean))
        profit.append((mass * np.minimum(counts, stock)).sum() * (price - 6.0))
    here = profit[int(np.flatnonzero(prices == chosen.price[0])[0])]
    assert here >= 0.999 * max(profit)


@pytest.mark.parametrize("stock", [1.0, 3.0, 10.0, 30.0, 60.0, 100.0, np.inf])
def test_lower_stock_never_lowers_the_price(stock: float) -> None:
    less = np.arange(1.0, min(stock, 60.0) + 1)

    ample, short = decide(pricing_context(stock=stock), demand(2.5)), decide(pricing_context(stock=less), demand(2.5))

    assert (np.log(short.price / ample.price) >= -1.01 * STEP).all()


@given(
    cost=st.floats(1.0, 30.0),
    rise=st.floats(1.0, 1.5),
    elasticity=st.floats(1.3, 5.0),
    current=st.floats(2.0, 60.0),
)
def test_a_higher_cost_never_lowers_the_price(cost: float, rise: float, elasticity: float, current: float) -> None:
    context = pricing_context(unit_cost=np.array([cost, cost * rise]), current_price=round(current, 2))

    before, after = decide(context, demand(elasticity)).price

    assert after >= before - 1e-9


def test_a_worth_of_kept_units_below_cost_lowers_the_price_and_more_stock_lowers_it_further() -> None:
    settings = config(
        menu_cost=0.0, strategies={"margin": {"kind": "margin"}, "clearance": {"kind": "clearance", "kept_value": 0.1}}
    )
    context = pricing_context(strategy=np.array([0, 1, 1]), stock=np.array([60.0, 60.0, 400.0]), unit_cost=8.0)

    margin, some, much = decide(context, demand(2.0), settings).price

    assert margin >= some > much >= 8.0


def test_doubt_about_the_elasticity_raises_no_price_and_shrinks_every_move() -> None:
    nodes = 2.5 + np.array([-1.0, -0.3, 0.3, 1.0])
    for cost in (4.0, 8.0):  # the best price lies below list price, and above
        prices = [
            decide(pricing_context(unit_cost=cost), demand(list(2.5 + doubt * (nodes - 2.5)))).price[0]
            for doubt in (0.0, 0.5, 1.0)
        ]

        moves = np.abs(np.log(np.array(prices) / 10.0))
        assert moves[0] > moves[1] > moves[2]


@pytest.mark.parametrize(("cost", "level"), [(4.0, 0.8), (8.0, 0.8), (4.0, 1.0), (8.0, 1.0)])
def test_the_price_maximises_the_mean_of_the_worst_part_of_what_it_may_gain(cost: float, level: float) -> None:
    nodes = np.array([1.5, 2.2, 2.8, 3.9])
    settings = FREE.model_copy(update={"decision": FREE.decision.model_copy(update={"cvar_level": level})})

    chosen = decide(pricing_context(unit_cost=cost), demand(list(nodes)), settings)

    prices = chosen.candidates.prices[0]
    gain = 0.5 * np.log(np.maximum(prices - cost, 1e-9) / (10.0 - cost) * (prices / 10.0) ** -nodes[:, None])
    z = stats.norm.ppf(level)
    tail = 0.0 if level == 1 else stats.norm.expect(lambda x: -x, ub=z, conditional=True)
    assert chosen.price[0] == prices[(gain.mean(axis=0) - tail * gain.std(axis=0)).argmax()]


@pytest.mark.parametrize("elasticity", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("margin", np.linspace(-0.2, 0.2, 9))
def test_with_an_assumed_cost_no_true_cost_in_doubt_loses_against_list_price(elasticity: float, margin: float) -> None:
    chosen = decide(pricing_context(unit_cost=6.5, cost_sd=1.0), demand(elasticity))

    price, true_cost = chosen.price[0], 10.0 * (1 - 0.35 - margin)
    assert (price - true_cost) * (price / 10.0) ** -elasticity >= (10.0 - true_cost) * (1 - 1e-9)


@pytest.mark.parametrize("kind", ["margin", "revenue"])
@given(current=st.floats(7.8, 14.0), nodes=st.lists(st.floats(0.3, 6.0), min_size=1, max_size=4))
def test_where_nothing_tells_the_elasticity_the_price_stays(kind: str, current: float, nodes: list[float]) -> None:
    settings = config(strategy="s", strategies={"s": {"kind": kind}}, guardrails={"max_move": 0.1})
    context = pricing_context(current_price=round(current, 2))

    chosen = decide(context, demand(nodes, grade=PRIOR_ONLY), settings)

    kept = min(round(current, 2), 10.0)  # above list price only a shortage can have brought it
    assert chosen.price[0] == pytest.approx(max(kept, round(current, 2) * 0.9), abs=0.011)
    assert "elasticity_unidentified" in codes(int(chosen.reasons[0]))
    assert chosen.doubtful[0]


def test_where_nothing_tells_the_elasticity_the_price_still_rises_when_stock_runs_out() -> None:
    context = pricing_context(stock=np.array([20.0, 1e6]))

    short, ample = decide(context, demand([1.5, 2.5, 3.5], grade=PRIOR_ONLY), config()).price

    assert short > ample == 10.0


def test_clearing_stock_and_matching_a_competitor_need_no_elasticity() -> None:
    settings = config(strategies={"clearance": {"kind": "clearance"}, "match": {"kind": "match"}}, strategy="match")
    context = pricing_context(strategy=np.array([0, 1, 1]), comp_price=np.array([9.0, 9.0, np.nan]), stock=500.0)

    clearance, match, blind = decide(context, demand(2.5, grade=PRIOR_ONLY), settings).price

    assert clearance < 10.0
    assert match == 9.0
    assert blind == 10.0


def test_a_price_that_nobody_ever_charged_is_said_and_limited() -> None:
    context = pricing_context(unit_cost=8.0, seen_low=9.0, seen_high=10.5)

    free, near = (decide(context, demand(2.5), config(guardrails={"seen": seen})) for seen in (None, 0.1))

    assert free.price[0] > near.price[0] == pytest.approx(11.55)
    assert "at_seen" in codes(int(near.reasons[0]))
    assert all("outside_seen_prices" in codes(int(chosen.reasons[0])) for chosen in (free, near))


@pytest.mark.parametrize("doubt", [0.0, 0.1])
def test_with_an_assumed_cost_no_price_lies_below_what_was_ever_charged(doubt: float) -> None:
    assumed_too = np.array([False, True])
    context = pricing_context(
        unit_cost=4.0, cost_sd=doubt * assumed_too, cost_assumed=assumed_too, seen_low=9.5, seen_high=12.0
    )

    known, assumed = decide(context, demand(4.0), config(guardrails={"seen": 0.1})).price

    assert known == pytest.approx(8.55)
    assert assumed == 9.5


def test_searching_the_ladder_earns_at_least_what_rounding_earns() -> None:
    rng = np.random.default_rng(3)
    gains = []
    for _ in range(60):
        elasticity, cost, stock = rng.uniform(1.6, 4.0), rng.uniform(3.0, 8.0), float(rng.integers(5, 120))
        context, demand_at = pricing_context(unit_cost=cost, stock=stock), demand(elasticity)
        ladder = np.array([7.0, 9.0, 13.0])
        free = decide(context, demand_at, config(menu_cost=0.0, confidence_threshold=0.0))
        rounded = ladder[np.abs(ladder - free.price[0]).argmin()]

        searched = decide(
            context, demand_at, config(menu_cost=0.0, confidence_threshold=0.0, guardrails={"ladder": ladder.tolist()})
        )

        mean = NEXT_DELIVERY * 10.0 * (np.array([searched.price[0], rounded]) / 10.0) ** -elasticity
        counts, k = np.arange(5000), 50.0
        mass = stats.nbinom.pmf(counts[:, None], k, k / (k + mean))
        profit = (mass * np.minimum(counts, stock)[:, None]).sum(axis=0) * (
            np.array([searched.price[0], rounded]) - cost
        )
        assert searched.price[0] in ladder
        gains.append(profit[0] / profit[1] - 1 if rounded >= cost else 1.0)
    assert min(gains) > -2e-3  # the error of expected sales
    assert max(gains) > 0.005


def test_a_target_margin_draws_the_price_towards_it() -> None:
    context = pricing_context(target_margin=np.array([0.25, np.nan, 0.55]))

    low, free, high = decide(context, demand(2.5)).price

    assert low < free < high
    assert free == decide(pricing_context(), demand(2.5)).price[0]


def test_the_competitors_price_is_matched_to_the_cent_inside_the_guardrails() -> None:
    settings = config(strategy="match", strategies={"match": {"kind": "match", "ratio": 0.99}}, menu_cost=0.0)
    context = pricing_context(comp_price=np.array([9.09, 2.0, np.nan]))

    chosen = decide(context, demand(2.5), settings)

    assert chosen.price[:2].tolist() == [9.0, 7.0]
    assert chosen.price[2] == decide(pricing_context(), demand(2.5), config(menu_cost=0.0)).price[0]
    assert "no_comp_price" in codes(int(chosen.reasons[2]))
    assert "at_band" in codes(int(chosen.reasons[1]))


def test_a_move_that_gains_too_little_is_not_made() -> None:
    best = decide(pricing_context(), demand(2.5)).price[0]
    near = round(best * 1.01, 2)

    chosen = decide(pricing_context(current_price=near), demand(2.5), config(confidence_threshold=0.0))

    assert chosen.price[0] == near
    assert "held" in codes(int(chosen.reasons[0]))


def test_dead_demand_keeps_the_current_price() -> None:
    chosen = decide(pricing_context(current_price=9.17), demand(2.5, level=0.0), config(confidence_threshold=0.0))

    assert chosen.price[0] == 9.17


def test_below_the_threshold_the_current_price_is_kept_inside_the_guardrails() -> None:
    settings = config(confidence_threshold=1.0, guardrails={"max_move": 0.1})
    nodes = list(np.linspace(1.2, 5.0, 8))

    inside, outside = (decide(pricing_context(current_price=now), demand(nodes), settings) for now in (8.0, 5.0))

    assert (inside.price[0], outside.price[0]) == (8.0, 7.0)
    assert inside.doubtful[0]
    assert "low_confidence" in codes(int(inside.reasons[0]))


def test_no_stock_is_priced_as_it_will_be_and_expects_no_sales() -> None:
    empty, ample = decide(pricing_context(stock=0.0), demand(2.5)), decide(pricing_context(), demand(2.5))

    assert empty.price[0] == ample.price[0]
    assert (empty.units[0], empty.margin[0]) == (0.0, 0.0)
    assert "no_stock" in codes(int(empty.reasons[0]))


def test_expected_units_are_those_of_the_first_period_and_margin_is_profit_on_them() -> None:
    chosen = decide(pricing_context(), demand(2.5))

    price = chosen.price[0]
    assert chosen.units[0] == pytest.approx(10.0 * (price / 10.0) ** -2.5)
    assert chosen.margin[0] == pytest.approx(chosen.units[0] * (price - 6.0))


@given(
    stock=st.floats(0.0, 1e6), cost=st.floats(0.5, 40.0), current=st.floats(0.5, 40.0), comp=st.floats(0.5, 40.0),
    strategy=st.integers(0, 3), nodes=st.lists(st.floats(0.2, 6.0), min_size=1, max_size=5), level=st.floats(0.0, 1e5),
)  # fmt: skip
def test_the_decision_lies_inside_the_guardrails_whatever_comes(
    stock: float, cost: float, current: float, comp: float, strategy: int, nodes: list[float], level: float
) -> None:
    context = pricing_context(
        stock=stock, unit_cost=cost, current_price=round(current, 2), comp_price=comp, strategy=strategy
    )
    copy = context.take(np.arange(1))

    chosen = decide(context, demand(nodes, level=level), config(guardrails={"max_move": 0.2}))

    price, limit = chosen.price[0], chosen.candidates.limits
    assert max(limit.low[0], cost - 1e-9) <= price <= limit.high[0]
    assert 0 <= chosen.confidence[0] <= 1
    assert chosen.low[0] <= price <= chosen.high[0]
    assert limit.low[0] <= chosen.low[0]
    assert chosen.high[0] <= limit.high[0]
    assert 0 <= chosen.units[0] <= stock
    assert np.isfinite(chosen.margin[0])
    for name in set(PricingContext.__slots__) - {"target_margin"}:
        np.testing.assert_array_equal(getattr(context, name), getattr(copy, name))


GIVING_WAY = st.fixed_dictionaries(
    {},
    optional={
        "min_margin": st.sampled_from([0.1, 0.4]),
        "min_advertised": st.sampled_from([0.8, 1.1]),
        "min_days": st.just(7),
        "max_move": st.sampled_from([0.001, 0.05, 0.2]),
        "seen": st.sampled_from([0.0, 0.1]),
        "comp_band": st.sampled_from([[0.9, 1.1], [0.999, 1.001], [0.3, 0.4]]),
        "endings": st.sampled_from([[0.99], [0.49, 0.99]]),
    },
) | st.fixed_dictionaries(
    {"ladder": st.sampled_from([[5.0, 40.0], [8.5, 12.0], [9.95]])}, optional={"max_move": st.just(0.05)}
)
PRICES = st.lists(st.integers(200, 3000).map(lambda cents: cents / 100), min_size=6, max_size=6)


@given(
    guardrails=GIVING_WAY, current=PRICES, comp=PRICES, anchor=PRICES, seen=PRICES, cost=PRICES,
    threshold=st.sampled_from([0.0, 0.5]), grade=st.sampled_from([OWN_HISTORY, PRIOR_ONLY]),
    strategy=st.integers(0, 3), test=st.booleans(),
)  # fmt: skip
def test_a_guardrail_that_gave_way_has_no_effect(
    guardrails: dict[str, Any], current: list[float], comp: list[float], anchor: list[float], seen: list[float],
    cost: list[float], threshold: float, grade: int, strategy: int, test: bool,
) -> None:  # fmt: skip
    columns: dict[str, Any] = {
        "current_price": np.array(current), "comp_price": np.array(comp), "anchor_price": np.array(anchor),
        "unit_cost": np.array(cost) / 2, "seen_low": 0.9 * np.array(seen), "seen_high": np.array(seen),
        "days_since_change": np.array([0.0, 9.0] * 3), "is_promo": np.array([False, False, True] * 2),
        "stock": np.array([5.0, np.inf, 100.0] * 2), "strategy": strategy,
    }  # fmt: skip
    tested = {"test_base": np.array(current), "test_draw": np.array([np.nan, 0.03, -0.03] * 2)} if test else {}
    demand_at = demand([1.5, 2.5, 4.0], grade=grade)

    def decided(guardrails: dict[str, Any], **changed: Any) -> Choices:
        settings = config(guardrails=guardrails, confidence_threshold=threshold)
        return decide(replace(pricing_context(**columns | changed), **tested), demand_at, settings)

    chosen = decided(guardrails)

    assert (chosen.price >= columns["unit_cost"] * (1 - 1e-9)).all()
    for name in ("anchor", *(set(guardrails) & set(NUMBER)), "price_rung"):
        gave_way = (chosen.reasons & BIT[f"gave_way_{name}"]) > 0
        alone = without_guardrail(guardrails, name)
        if (name == "price_rung" and alone == guardrails) or not gave_way.any():
            continue
        plain = decided(alone, **({"anchor_price": np.nan} if name == "anchor" else {}))
        for figure in ("price", "confidence", "low", "high", "units", "doubtful"):
            ours, theirs = (getattr(one, figure)[gave_way] for one in (chosen, plain))
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}: {figure}")


def test_a_competitor_far_away_makes_no_price_odd_and_moves_none_that_is_kept() -> None:
    far = {"max_move": 0.05, "comp_band": [0.9, 1.1]}
    context = pricing_context(current_price=684.99, list_price=684.99, unit_cost=400.0, comp_price=300.0)

    ended = decide(context, demand(2.5), config(guardrails={**far, "endings": [0.99]}))
    kept = decide(context, demand([1.2, 2.5, 5.0]), config(guardrails=far, confidence_threshold=1.0))

    assert "gave_way_comp_band" in codes(int(ended.reasons[0]))
    assert ended.price[0] % 1 == pytest.approx(0.99)
    assert kept.price[0] == 684.99
    assert "low_confidence" in codes(int(kept.reasons[0]))


@pytest.mark.parametrize(("current", "kept"), [(9.0, 9.0), (9.37, 9.49)])
def test_the_confidence_of_a_price_that_is_kept_speaks_of_that_price(current: float, kept: float) -> None:
    nodes = list(np.linspace(1.2, 5.0, 8))
    raw = {"moves": [], "holds": []}
    settings = config(confidence_threshold=1.0, guardrails={"endings": [0.0, 0.49]}, calibration=raw)

    chosen = decide(pricing_context(current_price=current), demand(nodes), settings)

    def gain(price: float) -> np.ndarray:  # half the log of profit, node by node
        return np.asarray(0.5 * (np.log(price - 6.0) - np.array(nodes) * np.log(price)))

    prices = chosen.candidates.prices[0]
    steps = (prices[prices >= kept * 1.1][0], prices[prices <= kept / 1.1][-1])
    chances = [
        chance_at_least((gain(kept) - gain(other))[None], weight=np.full(8, 1 / 8))[0]
        for other in (steps if kept == current else (current,))
    ]
    assert "low_confidence" in codes(int(chosen.reasons[0]))
    assert chosen.price[0] == kept
    assert chosen.confidence[0] == pytest.approx(max(sum(chances) - len(chances) + 1, 0.0), abs=1e-3)


def test_the_price_range_holds_what_is_not_distinguishably_worse() -> None:
    narrow, wide = (decide(pricing_context(), demand(nodes)) for nodes in ([2.4, 2.5, 2.6], [1.6, 2.5, 3.4]))

    assert narrow.low[0] >= wide.low[0]
    assert narrow.high[0] <= wide.high[0]
    assert wide.high[0] / wide.low[0] > narrow.high[0] / narrow.low[0] > 1.0
