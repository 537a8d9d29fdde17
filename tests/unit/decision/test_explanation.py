"""Explanations: effects that add up to what they explain, each with the name and the sign of its step or term."""

import datetime as dt
import math
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from pricing.decision.experiments import Arm, Experiment, Experiments
from pricing.decision.explanation import Explanation, explain, main_step
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switches
from pricing.errors import RequestError
from pricing.registry.knowledge import MEANINGS
from tests.kit import decision as kit
from tests.kit.control import freeze, override
from tests.kit.decision import TODAY, ConstantElasticity, config, facts
from tests.kit.serving import REQUEST, ServingApp
from tests.kit.versions import loaded_version, with_feast

SHOP_DAY = dt.date(2023, 8, 1)
FEAST = dt.date(2023, 8, 4)
MONDAY = dt.date(2025, 3, 3)
AMPLE: dict[str, Any] = {"product_id": "apple", "current_stock": 1000, "day_of_week": "Friday"}


@cache
def pricer() -> Pricer:
    """A version's whose demand answers to the competitor, to promotions and to a feast."""
    version = loaded_version()
    table = with_feast(version.learner, date=str(FEAST), lift=0.3).table()
    rows = np.ones(len(table.levels))
    table = replace(table, rival=0.5 * rows, rival_usual=10.0 * rows, promotion=0.3 * rows)
    return replace(version, demand=table).pricer(version="7")


def effects(explanation: Explanation) -> dict[str, float]:
    return {driver.name: driver.effect for driver in explanation.drivers}


def explained(**changes: Any) -> Explanation:
    """Of apple: charged 10, cost 6, ample stock; the price under which 2.5 of elasticity earns most is 10."""
    options = {name: changes.pop(name) for name in ("experiments", "switches") if name in changes}
    apples = kit.pricer(demand=ConstantElasticity(), guardrails=changes.pop("guardrails", {}))
    return explain(PriceRequest.model_validate({**AMPLE, **changes}), apples, today=TODAY, **options)


PRICES = st.decimals("0.5", "30", places=2).map(float)
DAYS = st.integers(1, 40).map(lambda days: str(SHOP_DAY + dt.timedelta(days)))
REQUESTS = st.fixed_dictionaries(
    {
        "product_id": st.sampled_from(["P00001", "P00005", "P00009", "stranger"]),
        "current_stock": st.sampled_from([None, 0, 3, 40, 5000]),
        "date": DAYS,
        "is_promo": st.booleans(),
    },
    optional={
        "comp_price": PRICES,
        "current_price": PRICES | st.just(9.999),
        "unit_cost": PRICES,
        "list_price": PRICES,
        "category": st.sampled_from(["", "no such"]),
        "strategy": st.sampled_from(["margin", "revenue", "clearance", "match"]),
    },
).map(lambda asked: {"list_price": 9.5, **asked} if asked["product_id"] == "stranger" else asked)
SWITCHES = st.sampled_from([Switches(), Switches([freeze()]), Switches([override(7.77, "", scope="all")])])


def draws(size: float = 0.05, start: dt.date = dt.date(2023, 7, 31), **prices: float) -> Experiments:
    arm = Arm("draw", share=1.0, size=size)
    return Experiments((Experiment("t", start, 6, (arm,), dict.fromkeys(prices, "draw"), prices),))


KEEP = (Arm("keep", share=1.0),)
KEEPING = Experiments((Experiment("kept", dt.date(2023, 7, 31), None, KEEP, {"P00001": "keep"}),))
EXPERIMENTS = st.sampled_from([Experiments(), draws(P00001=1.0, P00005=9.3), KEEPING])


@given(asked=REQUESTS, switches=SWITCHES, experiments=EXPERIMENTS)
def test_the_printed_effects_on_price_and_demand_add_up_to_the_printed_difference(
    asked: dict[str, Any], switches: Switches, experiments: Experiments
) -> None:
    request = PriceRequest.model_validate(asked)
    options: dict[str, Any] = {"today": SHOP_DAY, "switches": switches, "experiments": experiments}
    (given,) = pricer().price_detailed([request], **options)
    price = given.decision.recommended_price

    of_price, of_demand = (explain(request, pricer(), quantity=of, **options) for of in ("price", "demand"))

    for found in (of_price, of_demand):
        total = sum(Decimal(repr(driver.effect)) for driver in found.drivers)
        assert total == Decimal(repr(found.value)) - Decimal(repr(found.baseline_value))
        assert found.decision.decision.recommended_price == price
    assert of_price.value == pytest.approx(price, rel=1e-9)
    (units,) = pricer().demand_at([request], [price], today=SHOP_DAY)
    assert of_demand.value == pytest.approx(units, rel=1e-5, abs=0.51 * 10.0**-of_demand.digits)
    terms = pricer().terms(request, price, today=SHOP_DAY)
    start = math.exp(terms.pop("level"))
    mean = quad(lambda share: start * (units / start) ** share, 0, 1)[0]
    for name, term in terms.items():
        assert effects(of_demand).get(name, 0.0) == pytest.approx(mean * term, abs=2 * 10.0**-of_demand.digits)
    if not switches and "holdout" not in of_price.decision.decision.reasons:
        steps = (effects(of_price).get(name, 0.0) for name in ("target", "step", "stock"))
        assert of_price.baseline_value + sum(steps) == pytest.approx(given.wanted, abs=3 * 10.0**-of_price.digits)


@pytest.mark.parametrize("cost", [5.0, 7.5])
def test_guardrails_take_back_what_they_cut_off(cost: float) -> None:
    free, bound = explained(unit_cost=cost), explained(unit_cost=cost, guardrails={"max_move": 0.02})

    assert effects(bound)["target"] == effects(free)["target"]
    assert (effects(free)["target"] > 0) == (cost > 6)
    assert effects(bound)["guardrails"] == pytest.approx(bound.value - free.value)
    assert math.copysign(1, effects(bound)["guardrails"]) == -math.copysign(1, effects(free)["target"])


@pytest.mark.parametrize("week", range(3))
def test_a_price_test_adds_its_draw_to_the_price_chosen_from_its_base(week: int) -> None:
    plan, date = draws(0.04, MONDAY, apple=9.5), MONDAY + dt.timedelta(weeks=week)

    found = explained(date=str(date), day_of_week="Monday", experiments=plan, unit_cost=5.0)

    drawn = 1 - math.exp(-plan.every[0].deviation("apple", date))
    assert found.baseline_value == 9.5
    assert effects(found).get("price_test", 0.0) == pytest.approx(found.value * drawn, abs=0.01)


def test_demand_that_nothing_tells_is_no_explanation_but_a_refusal() -> None:
    never_sold = Pricer(None, facts(typical_units=np.zeros(3)), config(), version="1")
    lost = replace(loaded_version().demand, levels=np.full_like(loaded_version().demand.levels, np.nan))

    with pytest.raises(RequestError):
        explain(PriceRequest(**AMPLE), never_sold, today=TODAY, quantity="demand")
    by_rule = Pricer(lost, loaded_version().facts, loaded_version().config, version="1")
    told = explain(PriceRequest(**REQUEST), by_rule, today=SHOP_DAY, quantity="demand")
    assert "model_failed" in told.decision.decision.reasons
    assert math.isfinite(told.value)


def test_every_term_of_demand_is_named_with_its_size() -> None:
    asked = PriceRequest(**{**REQUEST, "date": str(FEAST), "list_price": 10.0, "comp_price": 8.0})
    cut = Switches([override(0.5, "", scope="all", below_cost=True)])

    explanation = explain(asked, pricer(), today=SHOP_DAY, quantity="demand", switches=cut)
    found, digit = effects(explanation), 10.0**-explanation.digits

    assert found.keys() == {"season", "events", "price", "promotion", "competitor"}
    assert found["price"] > 0
    one = found["events"] / 0.3
    assert found["promotion"] == pytest.approx(0.3 * one, abs=2 * digit)
    assert found["competitor"] == pytest.approx(0.5 * math.log(0.8) * one, abs=2 * digit)


def test_explain_over_http_names_guardrails_elasticity_and_grade_in_rounded_money(shop: ServingApp) -> None:
    asked = {**REQUEST, "unit_cost": 6.4321}

    answer = shop.explain(asked)

    money = [answer["value"], answer["baseline_value"], answer["decision"]["expected_margin"]]
    assert all(one == round(one, 2) for one in [*money, *(driver["effect"] for driver in answer["drivers"])])
    assert answer["elasticity"]["elasticity"] < -1
    assert answer["grade"] == {"code": "own_history", "meaning": MEANINGS["own_history"]}
    names = answer["decision"]["binds"] + answer["decision"]["gave_way"]
    assert [meaning["code"] for meaning in answer["guardrails"]] == names != []


def test_explaining_and_simulating_leave_no_trace_in_the_log(shop: ServingApp) -> None:
    assert shop.client.post("/explain", json={"request": REQUEST}).status_code == 200
    tried = shop.client.post("/simulate", json={"request": REQUEST, "prices": []}).get_json()

    assert {outcome["strategy"] for outcome in tried["outcomes"]} == {"margin", "revenue", "clearance", "match"}
    assert shop.service.log.status().issued == 0


@given(asked=REQUESTS, switches=SWITCHES, experiments=EXPERIMENTS)
def test_the_step_that_a_list_names_is_the_largest_of_the_explanation_that_goes_its_way(
    asked: dict[str, Any], switches: Switches, experiments: Experiments
) -> None:
    options: dict[str, Any] = {"today": SHOP_DAY, "switches": switches, "experiments": experiments}
    found = explain(PriceRequest.model_validate(asked), pricer(), **options)
    shown = {name: effect for name, effect in effects(found).items() if name != "approval"}
    digit, way = 10.0**-found.digits, math.copysign(1, sum(shown.values()))

    named = main_step(found.decision, pricer())

    assert (named == "") == (abs(sum(shown.values())) < digit / 2)
    if named:
        assert way * shown[named] >= max(way * effect for effect in shown.values()) - 1.5 * digit


def test_a_price_that_falls_is_not_explained_by_what_would_raise_it() -> None:
    found = explained(unit_cost=5.0).decision
    price = found.decision.recommended_price
    up_and_down = found._replace(best=price + 4, target=price + 2.5, wanted=price + 2.5)

    assert price < 10
    assert main_step(up_and_down, pricer()) == "guardrails"
