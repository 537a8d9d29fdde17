"""The worst case of a price, if history misleads: its formula, what it warns of, what it holds, and what is exempt."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.decide import Choices, Policy, decide
from pricing.decision.reasons import BIT
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switches
from pricing.demand.curve import DemandAt, DemandGrid
from pricing.demand.grades import OWN_HISTORY, TESTED
from tests.kit.control import override
from tests.kit.decision import NEXT_DELIVERY, TODAY, ConstantElasticity, config, demand, pricer, pricing_context

FIELD = -0.35


def steep(elasticity: float, *, factor: float = 1.0, grade: int = OWN_HISTORY) -> DemandAt:
    """Demand of a known elasticity, which a rise may meet `factor` times as steep."""
    known = demand(elasticity)

    def demand_at(prices: np.ndarray) -> DemandGrid:
        learnt = np.full(len(prices), grade)
        return replace(known(prices), steepest=np.full(len(prices), -elasticity * factor), grade=learnt)

    return demand_at


def ask(
    elasticity: float, *, current: float = 10.0, factor: float = 1.0, field: float = FIELD, **decision: Any
) -> Choices:
    settings = config(menu_cost=0.0, confidence_threshold=0.0, **decision).decision
    context = pricing_context(current_price=np.array([current]), anchor_price=np.array([10.0]))
    return decide(
        replace(context, field_elasticity=np.array([field])), steep(elasticity, factor=factor), Policy(settings)
    )


def worst(price: float, *, current: float, elasticity: float, factor: float) -> float:
    """The profit over the regular price by the elasticity that may be true."""
    at_worst = {each: FIELD if each < 10.0 else -elasticity * factor for each in (price, current)}
    regular = 10.0 * NEXT_DELIVERY * (current / 10.0) ** (-elasticity - at_worst[current])
    return regular * (price / 10.0) ** at_worst[price] * (price - 6.0) - regular * 4.0


@given(elasticity=st.floats(1.2, 6.0), current=st.floats(8.0, 12.0), factor=st.floats(1.0, 3.0))
def test_it_is_the_profit_over_the_regular_price_by_the_elasticity_that_may_be_true(
    elasticity: float, current: float, factor: float
) -> None:
    found = ask(elasticity, current=current, factor=factor)

    expected = worst(found.price[0], current=round(current, 2), elasticity=elasticity, factor=factor)
    assert found.worst[0] == pytest.approx(expected, rel=1e-3, abs=1e-2)
    if found.reasons[0] & BIT["field_test"]:
        assert found.worst[0] < 0.0


@given(elasticity=st.floats(1.2, 6.0), current=st.floats(8.0, 12.0), factor=st.floats(1.0, 3.0))
def test_a_warning_moves_no_price_and_a_hold_makes_no_move_away_that_loses(
    elasticity: float, current: float, factor: float
) -> None:
    off, warned, held = (
        ask(elasticity, current=current, factor=factor, field_test=rule) for rule in ("off", "warn", "hold")
    )

    stays = worst(round(current, 2), current=round(current, 2), elasticity=elasticity, factor=factor)
    away = abs(np.log(warned.price[0] / 10.0)) > abs(np.log(round(current, 2) / 10.0)) + 1e-6
    loses = away and warned.worst[0] < -0.02 and warned.worst[0] < stays - 0.02
    assert warned.price == off.price
    assert np.isnan(off.worst[0])
    if loses:
        assert held.price[0] == round(current, 2)
        assert held.reasons[0] & warned.reasons[0] & BIT["field_test"]
    elif not away or warned.worst[0] > 0.0:
        assert held.price == warned.price
        assert not warned.reasons[0] & BIT["field_test"]


def test_no_more_is_sold_at_worst_than_there_is() -> None:
    settings = config(menu_cost=0.0, confidence_threshold=0.0).decision
    short = pricing_context(stock=5.0)

    found = decide(short, steep(3.0), Policy(settings))
    none = decide(pricing_context(stock=0.0), steep(3.0), Policy(settings))

    assert found.price[0] > 10.0
    assert found.worst[0] == pytest.approx(5.0 * (found.price[0] - 10.0))
    assert none.worst[0] == 0.0


def test_a_cut_has_none_where_no_field_elasticity_is_configured() -> None:
    found = ask(4.0, field=np.nan)

    assert found.price[0] < 10.0
    assert np.isnan(found.worst[0])
    assert not found.reasons[0] & BIT["field_test"]


def test_clearance_is_exempt() -> None:
    settings = config(field_test="hold", menu_cost=0.0, confidence_threshold=0.0).decision
    clearance = list(settings.strategies).index("clearance")
    context = replace(pricing_context(strategy=clearance), field_elasticity=np.array([FIELD]))

    cleared = decide(context, steep(4.0), Policy(settings))

    assert ask(4.0, field_test="hold").price[0] == 10.0
    assert cleared.price[0] < 10.0
    assert np.isnan(cleared.worst[0])


def test_an_elasticity_that_was_tested_has_no_worst_case() -> None:
    settings = config(field_test="hold", menu_cost=0.0, confidence_threshold=0.0).decision
    context = replace(pricing_context(), field_elasticity=np.array([FIELD]))

    tested = decide(context, steep(4.0, grade=TESTED), Policy(settings))

    assert tested.price[0] < 10.0
    assert np.isnan(tested.worst[0])


def test_the_configured_elasticity_is_the_categorys_else_the_usual_one() -> None:
    asked = [
        PriceRequest(product_id=name, current_stock=1e6, day_of_week="Monday", current_price=9.0)
        for name in ("apple", "bread")
    ]
    known = {"fruit": -0.2, "default": -0.9}
    flat = {"demand": ConstantElasticity(elasticities=(4.0,)), "menu_cost": 0.0, "confidence_threshold": 0.0}

    fruit, bread = pricer(field_elasticity=known, **flat).price(asked, today=TODAY)
    neither, _ = pricer(**flat).price(asked, today=TODAY)

    assert fruit.recommended_price == bread.recommended_price < 10.0
    assert fruit.worst_case < bread.worst_case < 0.0
    assert neither.worst_case is None


def test_a_price_that_a_person_gives_or_has_yet_to_approve_has_no_worst_case_of_another_price() -> None:
    asked = [PriceRequest(product_id="apple", current_stock=1e6, day_of_week="Monday", current_price=10.0)]
    flat = {"demand": ConstantElasticity(elasticities=(4.0,)), "menu_cost": 0.0, "confidence_threshold": 0.0}
    known = {"field_elasticity": {"default": FIELD}}
    given_price = Switches((override(12.0, "apple"),))

    (waits,) = pricer(approve_beyond=0.0, **known, **flat).price_detailed(asked, today=TODAY)
    (given,) = pricer(**known, **flat).price_detailed(asked, today=TODAY, switches=given_price)

    assert waits.proposed is not None
    assert waits.proposed.worst_case is not None
    assert waits.proposed.worst_case < 0.0
    assert "field_test" in waits.proposed.reasons
    for answer in (waits.decision, given.decision):
        assert answer.worst_case is None
        assert "field_test" not in answer.reasons
