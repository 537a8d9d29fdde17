"""The decision: closed forms, brute force and laws, on demand whose elasticity is known."""

import json
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from pricing.decision.decide import Choices, Policy, _best, decide
from pricing.decision.limits import Limits, PricingContext
from pricing.decision.reasons import named
from pricing.decision.resolve import take
from pricing.demand.curve import DemandAt, Offers
from pricing.demand.grades import PRIOR_ONLY, TESTED
from tests.kit.decision import NEXT_DELIVERY, config, demand, pricing_context
from tests.kit.versions import loaded_version

FREE: dict[str, Any] = {"menu_cost": 0.0, "confidence_threshold": 0.0, "step": 1.0}
KINDS = ("margin", "revenue", "clearance", "match")
GRADES = st.sampled_from([TESTED, PRIOR_ONLY])
DEMANDS = st.builds(
    demand, st.lists(st.floats(1.1, 5.0), min_size=1, max_size=3), known=st.floats(0.0, 1.0), grade=GRADES
)
UNKNOWN = demand(2.5, known=0.0)
CENTS = st.integers(500, 1600).map(lambda cents: cents / 100)
COLUMNS: dict[str, Any] = {"current_price": CENTS, "unit_cost": st.floats(2.0, 12.0), "comp_price": CENTS}


@cache
def _policy(settings: str) -> Policy:
    return Policy(config(**json.loads(settings)).decision)


def decided(context: PricingContext, demand_at: DemandAt, **settings: Any) -> Choices:
    return decide(context, demand_at, _policy(json.dumps(settings)))


def limits(context: PricingContext, **settings: Any) -> Limits:
    return _policy(json.dumps(settings)).allowed.limits(context)


def only(kind: str, **settings: Any) -> dict[str, Any]:
    """Settings whose one strategy is of a kind."""
    return {"strategy": "s", "strategies": {"s": {"kind": kind}}, **settings}


def reasons(chosen: Choices, row: int = 0) -> set[str]:
    said = named(int(chosen.reasons[row]))
    return {*said["reasons"], *said["binds"]}


def most_profitable(*, elasticity: float, stock: float, level: float, size: float = 50.0, cost: float = 6.0) -> float:
    """The price between 7 and 13.50 with the largest expected profit, summed over every count; cost 0 for revenue."""
    prices, counts = np.linspace(7.0, 13.5, 400), np.arange(5000)[:, None]
    mean = NEXT_DELIVERY * level * (prices / 10.0) ** -elasticity
    mass = stats.nbinom.pmf(counts, size, size / (size + mean))
    return float(prices[((mass * np.minimum(counts, stock)).sum(axis=0) * (prices - cost)).argmax()])


@pytest.mark.parametrize(("elasticity", "lerner"), [(1.5, 12.0), (2.0, 9.0), (2.5, 10.0), (4.0, 8.0)])
def test_with_ample_stock_the_best_price_is_lerners_whatever_the_doubt(elasticity: float, lerner: float) -> None:
    context = pricing_context(unit_cost=lerner * (1 - 1 / elasticity), current_price=11.0)

    for doubt in (0.0, 0.4):
        chosen = decided(context, demand([elasticity - doubt, elasticity + doubt]), **FREE)

        assert chosen.best[0] == pytest.approx(lerner, rel=1e-3)
        assert chosen.price[0] == round(chosen.best[0], 2)


def test_the_best_price_forgoes_what_other_products_would_win() -> None:
    context = pricing_context(unit_cost=6.0, others_margin=0.375, list_price=10.0)

    alone, among_others = (decided(context, demand(2.5, diverted=share), **FREE) for share in (0.0, 0.4))

    assert alone.best[0] == pytest.approx(10.0, rel=1e-3)  # cost · e / (e − 1)
    assert among_others.best[0] == pytest.approx((6.0 + 0.4 * 10.0 * 0.375) * 2.5 / 1.5, rel=1e-3)


def test_revenue_forgoes_the_others_revenue() -> None:
    settings = FREE | only("revenue")

    alone, among_others = (decided(pricing_context(), demand(1.2, diverted=share), **settings) for share in (0.0, 0.4))

    assert alone.price[0] == limits(pricing_context(), **settings).low[0]
    assert among_others.price[0] == limits(pricing_context(), **settings).high[0]  # 4 · e / (e − 1) lies beyond it


def test_clearance_still_cuts_beside_substitutes() -> None:
    settings = FREE | only("clearance")
    context = pricing_context(unit_cost=6.0, others_margin=0.4, stock=400.0)

    chosen = decided(context, demand(2.5, diverted=0.5), **settings)

    assert chosen.price[0] < 9.0


def test_the_gain_counts_what_other_products_win() -> None:
    context = pricing_context(unit_cost=6.0, others_margin=0.375)

    chosen = decided(context, demand(2.5, diverted=0.4), **FREE)

    price = chosen.price[0]
    sold = NEXT_DELIVERY * 10 * (price / 10.0) ** -2.5
    before = NEXT_DELIVERY * 10
    won = 0.4 * (before - sold) * 10.0 * 0.375
    assert chosen.gain[0, 0] == pytest.approx(sold * (price - 6.0) - before * 4.0 + won)
    assert chosen.margin[0] == pytest.approx(sold / NEXT_DELIVERY * (price - 6.0))  # of this product alone


@given(share=st.floats(0.0, 0.6), others=st.floats(-0.5, 0.9), cost=st.floats(2.0, 12.0))
def test_however_much_others_win_no_guardrail_moves(share: float, others: float, cost: float) -> None:
    context = pricing_context(unit_cost=cost, others_margin=others)

    chosen = decided(context, demand(2.5, diverted=share))
    alone = decided(context, demand(2.5))

    assert limits(context).holds(chosen.price).all()
    assert (chosen.best[0] - alone.best[0]) * others >= -1e-9


@pytest.mark.parametrize(("known", "share"), [(0.0, 0.0), (0.1, 0.15), (0.3, 0.45), (0.5, 0.75), (np.inf, 0.75)])
@pytest.mark.parametrize(("cost", "best"), [(6.0, 8.0), (8.0, 8.0 * 4 / 3)])
def test_a_price_goes_that_part_of_the_way_in_logs_as_its_elasticity_is_known(
    cost: float, best: float, known: float, share: float
) -> None:
    anchor = np.array([10.0, 9.0])
    context = pricing_context(unit_cost=cost, list_price=9.5, anchor_price=anchor, current_price=anchor)

    chosen = decided(context, demand(4.0, known=known), **{**FREE, "step": 0.75})

    assert chosen.best == pytest.approx(best, rel=2e-3)
    assert chosen.target == pytest.approx(anchor * (best / anchor) ** share, rel=2e-3)
    assert (chosen.price == np.round(chosen.target, 2)).all()


@pytest.mark.parametrize(("stock", "level", "size"), [(30, 7.0, 2.0), (50, 8.0, 5.0), (75, 11.0, 50.0)])
@pytest.mark.parametrize(("kind", "counted"), [("margin", 6.0), ("revenue", 0.0)])
def test_run_out_pricing_agrees_with_brute_force_over_every_count(
    kind: str, counted: float, stock: float, level: float, size: float
) -> None:
    chosen = decided(pricing_context(stock=stock), demand(2.5, level=level, size=size), **only(kind, **FREE))

    best = most_profitable(elasticity=2.5, stock=stock, level=level, size=size, cost=counted)
    assert chosen.wanted[0] == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
@given(columns=st.fixed_dictionaries(COLUMNS), demand_at=DEMANDS)
def test_lower_stock_never_lowers_the_price(kind: str, columns: dict[str, float], demand_at: DemandAt) -> None:
    chosen = decided(pricing_context(**columns, stock=np.arange(1.0, 160.0, 3.0)), demand_at, **only(kind))

    assert (np.diff(np.log(chosen.wanted)) <= 0.004).all()  # what interpolated sales may lose


@example(columns={"current_price": 5.0, "unit_cost": 8.0, "comp_price": 5.0}, rise=1.234375, demand_at=UNKNOWN)
@example(columns={"current_price": 10.46, "unit_cost": 10.0, "comp_price": 5.0}, rise=1.03125, demand_at=UNKNOWN)
@given(columns=st.fixed_dictionaries(COLUMNS), rise=st.floats(1.0, 1.5), demand_at=DEMANDS)
def test_a_higher_cost_never_lowers_the_price(columns: dict[str, float], rise: float, demand_at: DemandAt) -> None:
    context = pricing_context(**columns | {"unit_cost": columns["unit_cost"] * np.array([1.0, rise])})

    before, after = decided(context, demand_at, **FREE).price

    assert after >= before * (1 - 1e-3) - 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stock", [5.0, 60.0, np.inf])
def test_a_cheaper_competitor_never_raises_our_price(kind: str, stock: float) -> None:
    table, comp = loaded_version().demand, np.linspace(4.0, 25.0, 43)
    rows, count = len(table.levels), len(comp)
    table = replace(table, rival=np.full(rows, 0.6, np.float32), rival_usual=np.full(rows, 10.0, np.float32))
    for product in range(4):
        usual = float(table.reference[product])
        dates, zeros = np.full(count, np.datetime64(table.state_date) + 1), np.zeros(count, int)
        offers = Offers(zeros + product, zeros, dates, zeros + usual, comp, zeros * 1.0, zeros + 7)
        prices = {"list_price": usual, "current_price": usual, "unit_cost": 0.5 * usual, "comp_price": comp}
        context = pricing_context(**prices, stock=stock)

        chosen = decided(context, table.curves(offers), **only(kind, **FREE))

        assert (np.diff(np.log(chosen.wanted)) >= -0.004).all()


@pytest.mark.parametrize("elasticity", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("margin", np.linspace(-0.2, 0.2, 9))
def test_with_an_assumed_cost_no_true_cost_in_doubt_loses_against_list_price(elasticity: float, margin: float) -> None:
    chosen = decided(pricing_context(unit_cost=6.5, cost_sd=1.0), demand(elasticity), **FREE)

    price, true_cost = chosen.price[0], 10.0 * (1 - 0.35 - margin)
    assert (price - true_cost) * (price / 10.0) ** -elasticity >= (10.0 - true_cost) * (1 - 1e-9)


@pytest.mark.parametrize("kind", ["margin", "revenue"])
@given(current=st.floats(7.8, 14.0), nodes=st.lists(st.floats(0.3, 6.0), min_size=1, max_size=4))
def test_where_nothing_tells_the_elasticity_the_price_stays(kind: str, current: float, nodes: list[float]) -> None:
    context = pricing_context(current_price=round(current, 2))

    chosen = decided(context, demand(nodes, grade=PRIOR_ONLY), **only(kind, guardrails={"max_move": 0.1}))

    kept = min(round(current, 2), 10.0)  # above list price only a shortage can have brought it
    assert chosen.price[0] == pytest.approx(max(kept, round(current, 2) * 0.9), abs=0.011)
    assert chosen.confidence[0] <= 0.5
    assert "elasticity_unidentified" in reasons(chosen)
    assert chosen.kept[0]


def test_clearing_stock_and_matching_a_competitor_go_whole_and_need_no_elasticity() -> None:
    strategies = {"clearance": {"kind": "clearance"}, "match": {"kind": "match", "ratio": 0.99}}
    settings = {"strategy": "match", "strategies": strategies, "step": 0.1}
    comp, stock = np.array([9.0, 9.09, 2.0, np.nan]), np.array([500.0, 1, 1, 500])

    chosen = decided(
        pricing_context(strategy=np.array([0, 1, 1, 1]), comp_price=comp, stock=stock),
        demand(2.5, grade=PRIOR_ONLY, known=0.0),
        **settings,
    )

    assert chosen.price[0] == round(chosen.best[0], 2) < 10.0
    assert chosen.price[1:].tolist() == [9.0, 7.0, 10.0]
    assert "band" in reasons(chosen, 2)
    assert "no_comp_price" in reasons(chosen, 3)


def test_a_target_margin_draws_the_price_towards_it_within_reach_or_not() -> None:
    context = pricing_context(
        target_margin=np.array([0.25, np.nan, 0.55, 0.9, 0.05]), unit_cost=np.array([6, 6, 6, 9, 2])
    )

    low, free, high, *out_of_reach = decided(context, demand(2.5)).best

    assert low < free < high
    assert free == decided(pricing_context(), demand(2.5)).best[0]
    assert out_of_reach == pytest.approx([13.5, 7.0])


def test_a_move_that_gains_too_little_is_not_made() -> None:
    near = round(decided(pricing_context(), demand(2.5)).price[0] * 1.01, 2)

    chosen = decided(pricing_context(current_price=near), demand(2.5), confidence_threshold=0.0)

    assert chosen.price[0] == near
    assert "held" in reasons(chosen)


@pytest.mark.parametrize("kind", ["margin", "revenue", "clearance"])
@pytest.mark.parametrize("grade", [TESTED, PRIOR_ONLY])
def test_dead_demand_keeps_the_current_price_and_says_that_none_is_better(kind: str, grade: int) -> None:
    chosen = decided(pricing_context(current_price=9.17), demand(2.5, level=0.0, grade=grade), **only(kind))

    assert chosen.price[0] == 9.17
    assert chosen.confidence[0] == pytest.approx(0.5 if grade == PRIOR_ONLY and kind != "clearance" else 1.0)


def test_below_the_threshold_no_price_goes_further_from_the_regular_one() -> None:
    context, demand_at = pricing_context(current_price=np.array([10.0, 9.9, 8.5])), demand([1.2, 2.0, 3.0, 5.0])

    chosen = decided(context, demand_at, confidence_threshold=1.0, guardrails={"max_move": 0.1})

    assert chosen.price[:2].tolist() == [10.0, 9.9]
    assert chosen.price[2] > 8.5  # back towards it may go, whatever the confidence
    assert chosen.kept.tolist() == [True, True, False]
    assert "low_confidence" in reasons(chosen)


def test_no_stock_and_one_without_a_known_delivery_limit_what_sells_and_move_no_price() -> None:
    context = pricing_context(stock=np.array([0.0, 3.0, np.inf]), supply=np.array([0.0, np.inf, np.inf]))

    chosen = decided(replace(context, current_price=context.current_price * 0.8), demand(2.5))

    assert len(set(chosen.price)) == 1
    assert (chosen.units[0], chosen.margin[0], chosen.units[1]) == (0.0, 0.0, 3.0)
    assert (chosen.gain[0] > 0).tolist() == [False, True, True]
    assert [reasons(chosen, row) & {"no_stock", "stock_short"} for row in range(3)] == [{"no_stock"}, set(), set()]


def test_units_and_margin_are_of_the_first_period_and_the_gain_is_over_the_current_price_until_the_delivery() -> None:
    nodes = np.array([2.0, 2.5, 3.0])
    context = pricing_context(current_price=np.array([8.0, 10.0]), tax_rate=0.25, unit_cost=4.8)

    chosen = decided(context, demand(list(nodes)), **FREE)

    def profit(price: float) -> np.ndarray:
        return np.asarray(NEXT_DELIVERY * 10.0 * (price / 10.0) ** -nodes * (price / 1.25 - 4.8))

    price, (mean, low, high) = chosen.price[0], chosen.gain[:, 0]
    assert chosen.units[0] == pytest.approx((10.0 * (price / 10.0) ** -nodes).mean())
    assert chosen.margin[0] == pytest.approx(chosen.units[0] * (price / 1.25 - 4.8))
    assert mean == pytest.approx((profit(price) - profit(8.0)).mean())
    assert (high - mean, mean - low) == pytest.approx((1.2816 * (profit(price) - profit(8.0)).std(),) * 2, rel=1e-3)
    assert chosen.price[1] == 10.0
    assert (chosen.gain[:, 1] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@given(
    columns=st.fixed_dictionaries(COLUMNS | {"stock": st.sampled_from([20.0, 70.0, np.inf])}), demand_at=DEMANDS,
    guardrails=st.sampled_from([{}, {"max_move": 0.1}, {"endings": [0.49, 0.99]}]),
)  # fmt: skip
def test_priced_from_its_own_prices_night_after_night_a_price_goes_one_way_and_stays(
    kind: str, columns: dict[str, float], demand_at: DemandAt, guardrails: dict[str, Any]
) -> None:
    context, prices = pricing_context(**columns), []
    if np.isfinite(columns["stock"]):  # with an unknown elasticity, a shortage raises a price below the regular one
        context = replace(context, current_price=np.maximum(context.current_price, 10.0))

    for _ in range(12 if "max_move" in guardrails else 2):
        prices.append(decided(context, demand_at, **only(kind, guardrails=guardrails)).price)
        context = replace(context, current_price=prices[-1])

    steps = np.diff(np.concatenate(prices))
    assert steps[-1] == 0
    assert (steps >= 0).all() or (steps <= 0).all()


ANY = st.floats(0.5, 40.0)
ANYTHING = st.fixed_dictionaries(
    dict.fromkeys(("current_price", "unit_cost", "comp_price", "list_price"), ANY)
    | {"stock": st.floats(0.0, 1e6), "strategy": st.integers(0, 3), "cost_sd": st.sampled_from([0.0, 2.0])}
    | {
        "tax_rate": st.floats(0, 1),
        "cost_assumed": st.booleans(),
        "anchor_price": st.just(np.nan) | ANY,
        "seen_low": st.just(np.nan) | ANY,
    }
)
ANY_DEMAND = st.builds(
    demand,
    st.lists(st.floats(0.2, 6.0), min_size=1, max_size=5),
    level=st.floats(0.0, 1e5), grade=GRADES, known=st.sampled_from([0.0, 0.3, 1.0, np.inf]),
)  # fmt: skip


@given(columns=ANYTHING, demand_at=ANY_DEMAND, more=st.sampled_from([{}, {"endings": [0.99]}]))
def test_the_decision_lies_inside_the_guardrails_whatever_comes(
    columns: dict[str, Any], demand_at: DemandAt, more: dict[str, Any]
) -> None:
    context, settings = pricing_context(**columns), {"guardrails": {"max_move": 0.2, **more}}
    copy = take(context, np.arange(1))

    chosen = decided(context, demand_at, **settings)

    price, limit = chosen.price[0], limits(context, **settings)
    assert max(limit.low[0], context.cost_floor[0] - 1e-9) <= price <= limit.high[0]
    assert 0 <= chosen.confidence[0] <= 1
    assert limit.low[0] <= chosen.low[0] <= price <= chosen.high[0] <= limit.high[0]
    assert 0 <= chosen.units[0] <= columns["stock"]
    assert chosen.gain[1, 0] <= chosen.gain[0, 0] <= chosen.gain[2, 0]
    assert chosen.finite().all()
    for name in {each.name for each in fields(PricingContext)} - {"target_margin"}:
        np.testing.assert_array_equal(getattr(context, name), getattr(copy, name))


@pytest.mark.parametrize(("assumed", "best"), [(True, 9.0), (False, 5.0)])
def test_an_assumed_cost_asks_for_no_price_below_those_ever_seen(assumed: bool, best: float) -> None:
    prices, worth = np.array([[5.0, 7.0, 9.0]]), np.array([[[1.0, 0.0, -9.0]]] * 2)
    context = pricing_context(cost_assumed=assumed, seen_low=9.0, anchor=3.0)

    assert _best(np.zeros_like(prices), context, prices, worth)[0] == pytest.approx(best, rel=0.1)
