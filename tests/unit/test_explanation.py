import datetime as dt
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pricing.data.promotions import Promotions
from pricing.decision.explanation import GROUPS, explain, shapley
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.registry.version import MEANINGS, load
from tests.kit.decision import TODAY as KIT_TODAY
from tests.kit.decision import ConstantElasticity, config, facts
from tests.kit.serving import REQUEST, ServingApp, open_app
from tests.kit.versions import shared_version, with_feast

TODAY = dt.date(2023, 8, 1)


@pytest.fixture(scope="module")
def pricer() -> Pricer:
    return load(shared_version()).pricer(version="7")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    with open_app(tmp_path, version=shared_version()) as one:
        yield one


def request(**changes: Any) -> PriceRequest:
    return PriceRequest.model_validate(
        {**REQUEST, "current_stock": 5, "unit_cost": 0.7, "is_holiday": True, "strategy": "revenue", **changes}
    )


GAMES = st.integers(1, 5).flatmap(lambda players: arrays(np.float64, 1 << players, elements=st.floats(-100, 100)))


@given(values=GAMES)
def test_shapley_values_are_the_mean_gain_over_all_orders(values: Any) -> None:
    players = int(math.log2(len(values)))
    slow = np.zeros(players)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        coalition = 0
        for player in order:
            slow[player] += values[coalition | 1 << player] - values[coalition]
            coalition |= 1 << player

    found = shapley(values)

    assert found == pytest.approx(slow / len(orders), abs=1e-9)
    assert sum(found) == pytest.approx(values[-1] - values[0], abs=1e-9)


@given(values=GAMES, data=st.data())
def test_a_player_who_changes_nothing_gets_nothing(values: Any, data: Any) -> None:
    players = int(math.log2(len(values)))
    idle = data.draw(st.integers(0, players - 1))
    coalitions = np.arange(len(values))
    values = values[coalitions & ~(1 << idle)]

    assert shapley(values)[idle] == pytest.approx(0, abs=1e-9)


@given(values=GAMES, data=st.data())
def test_players_who_can_stand_in_for_each_other_get_the_same(values: Any, data: Any) -> None:
    players = int(math.log2(len(values)))
    first, second = data.draw(st.integers(0, players - 1)), data.draw(st.integers(0, players - 1))
    coalitions = np.arange(len(values))
    swapped = (
        coalitions & ~(1 << first | 1 << second)
        | (coalitions >> first & 1) << second
        | (coalitions >> second & 1) << first
    )

    found = shapley(values + values[swapped])

    assert found[first] == pytest.approx(found[second], abs=1e-9)


@given(values=GAMES, data=st.data())
def test_the_values_of_two_games_add_up(values: Any, data: Any) -> None:
    others = data.draw(arrays(np.float64, len(values), elements=st.floats(-100, 100)))

    together = shapley(values + 3 * others)

    assert together == pytest.approx(np.array(shapley(values)) + 3 * np.array(shapley(others)), abs=1e-9)


@pytest.mark.parametrize("quantity", ["price", "demand"])
def test_the_effects_add_up_to_the_difference(pricer: Pricer, quantity: Any) -> None:
    explanation = explain(request(), pricer, today=TODAY, quantity=quantity)

    total = sum(driver.effect for driver in explanation.drivers)
    assert total == pytest.approx(explanation.value - explanation.baseline_value, abs=1e-9)
    assert {driver.name for driver in explanation.drivers} >= {"stock", "promotion", "history", "cost"}


def test_what_is_explained_is_the_price_that_is_given(pricer: Pricer) -> None:
    for product in ("P00001", "P00005", "P00009"):
        asked = request(product_id=product, unit_cost=None)

        explanation = explain(asked, pricer, today=TODAY)

        (decision,) = pricer.price([asked], today=TODAY)
        assert explanation.value == decision.recommended_price
        assert explanation.decision.decision.recommended_price == decision.recommended_price


@pytest.mark.parametrize("current", [9.0, 10.5, 12.0])
def test_the_price_of_a_product_whose_cost_is_assumed_is_the_one_explained(current: float) -> None:
    known = facts(cost_assumed=np.ones(3, bool))
    pricer = Pricer(ConstantElasticity(), known, config(guardrails={"max_move": 0.1}), version="1")
    asked = PriceRequest(product_id="apple", current_stock=100, day_of_week="Friday", current_price=current)

    explanation = explain(asked, pricer, today=KIT_TODAY)

    assert "cost_assumed" in explanation.decision.decision.reasons
    assert explanation.value == explanation.decision.decision.recommended_price
    assert "cost" not in {driver.name for driver in explanation.drivers}


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("2023-08-03", "2023-08-03 (1 day before Feast: +16 % ± 7 %), rather than"),
        ("2023-08-04", "2023-08-04 (Feast: +35 % ± 8 %), rather than"),
        ("2023-08-08", "2023-08-08, rather than"),
    ],
)
def test_a_named_event_of_the_day_is_said_with_its_lift(day: str, said: str) -> None:
    version = load(shared_version())
    pricer = replace(version, demand=with_feast(version.demand, date="2023-08-04")).pricer(version="7")
    weekday = dt.date.fromisoformat(day).strftime("%A")

    explanation = explain(request(date=day, day_of_week=weekday), pricer, today=TODAY, quantity="demand")

    (driver,) = [driver for driver in explanation.drivers if driver.name == "day"]
    assert said in driver.sentence


@pytest.mark.parametrize(("day", "ordinary"), [("2023-08-09", "2023-08-02"), ("2023-08-10", "2023-08-02")])
def test_an_event_on_the_ordinary_day_itself_is_not_compared_with_itself(day: str, ordinary: str) -> None:
    version = load(shared_version())
    pricer = replace(version, demand=with_feast(version.demand, date=day)).pricer(version="7")
    weekday = dt.date.fromisoformat(day).strftime("%A")

    explanation = explain(request(date=day, day_of_week=weekday), pricer, today=TODAY, quantity="demand")

    (driver,) = [driver for driver in explanation.drivers if driver.name == "day"]
    assert str(explanation.baseline.date) == ordinary
    assert "(Feast: +35 % ± 8 %)" in driver.sentence
    assert driver.effect > 0


def test_the_lift_of_an_event_is_the_days_doing(pricer: Pricer) -> None:
    version = load(shared_version())
    lifted = replace(version, demand=with_feast(version.demand, date="2023-08-04")).pricer(version="7")
    asked = request(date="2023-08-04", day_of_week="Friday")

    plain, found = (explain(asked, each, today=TODAY, quantity="demand") for each in (pricer, lifted))

    effects = {driver.name: driver.effect for driver in found.drivers}
    assert sum(effects.values()) == pytest.approx(found.value - found.baseline_value, abs=1e-9)
    assert effects["day"] > {driver.name: driver.effect for driver in plain.drivers}["day"]


def test_a_request_that_denies_the_holiday_keeps_the_lift_of_the_calendar() -> None:
    version = load(shared_version())
    lifted = replace(version, demand=with_feast(version.demand, date="2023-08-04"))
    ask = request(date="2023-08-04", day_of_week="Friday", is_holiday=False)

    with_it, without = (each.pricer(version="7").demand_at([ask], [10.0], today=TODAY)[0] for each in (lifted, version))

    assert with_it / without == pytest.approx(np.exp(0.3), rel=1e-4)


def test_a_planned_promotion_is_explained_as_one() -> None:
    plan = Promotions(np.array(["apple"]), np.array(["2025-03-07"], "M8[D]"), np.array(["2025-03-07"], "M8[D]"))
    pricer = Pricer(ConstantElasticity(), facts().planned(plan), config(), version="1")
    asked = PriceRequest(product_id="apple", current_stock=100, day_of_week="Friday", date=dt.date(2025, 3, 7))

    explanation = explain(asked, pricer, today=KIT_TODAY)

    assert "promotion_planned" in explanation.decision.decision.reasons
    assert "promotion" in {driver.name for driver in explanation.drivers}


def test_an_unknown_product_is_explained_too(pricer: Pricer) -> None:
    asked = request(product_id="stranger", list_price=10, unit_cost=6)

    explanation = explain(asked, pricer, today=TODAY)

    assert explanation.value == pricer.price([asked], today=TODAY)[0].recommended_price
    assert "history" not in {driver.name for driver in explanation.drivers}


def test_only_what_differs_is_a_driver(pricer: Pricer) -> None:
    asked = request(date="2023-08-04")

    explanation = explain(
        asked, pricer, today=TODAY, against=asked.model_copy(update={"current_stock": 500.0, "strategy": "margin"})
    )

    assert {driver.name for driver in explanation.drivers} == {"stock", "strategy"}


def test_a_request_against_itself_has_no_drivers(pricer: Pricer) -> None:
    asked = request(date="2023-08-04")

    explanation = explain(asked, pricer, today=TODAY, against=asked)

    assert explanation.drivers == ()
    assert explanation.value == explanation.baseline_value


@pytest.mark.parametrize(
    "against", [None, {}, {"date": "2023-08-14"}, {"date": "2023-08-14", "next_delivery": "2023-08-15"}]
)
def test_the_day_of_one_request_beside_the_delivery_of_another_is_no_contradiction(
    pricer: Pricer, against: dict[str, str] | None
) -> None:
    monday = {"day_of_week": "Monday", "current_stock": 20}
    other = None if against is None else request(**monday, **against)

    asked = request(**monday, date="2023-08-07", next_delivery="2023-08-08")
    explanation = explain(asked, pricer, today=TODAY, against=other)

    total = sum(driver.effect for driver in explanation.drivers)
    assert total == pytest.approx(explanation.value - explanation.baseline_value)
    assert pricer.price([explanation.baseline], today=TODAY)  # it can be asked for by itself


def test_every_field_of_a_request_belongs_to_one_group() -> None:
    grouped = [field for fields in GROUPS.values() for field in fields]

    assert sorted(grouped) == sorted(PriceRequest.model_fields.keys() - {"strict"})  # which moves no price
    assert len(GROUPS) <= 10


def test_every_driver_says_its_effect_in_a_sentence(pricer: Pricer) -> None:
    for driver in explain(request(next_delivery="2023-08-20"), pricer, today=TODAY).drivers:
        assert driver.sentence.endswith(".")
        assert "None" not in driver.sentence
        verb = "leaves" if abs(driver.effect) < 0.005 else "raises" if driver.effect > 0 else "lowers"
        assert f" {verb} the price " in driver.sentence


def test_explain_over_http_names_guardrails_elasticity_and_its_limits(shop: ServingApp) -> None:
    answer = shop.client.post("/explain", json={"request": {**REQUEST, "current_stock": 5}}).get_json()

    total = sum(driver["effect"] for driver in answer["drivers"])
    assert total == pytest.approx(answer["value"] - answer["baseline_value"])
    assert "not the world" in answer["note"]
    assert answer["elasticity"]["elasticity"] < -1
    codes = {meaning["code"] for meaning in answer["guardrails"]}
    assert codes == {code for code in answer["decision"]["reasons"] if code.startswith(("at_", "gave_way_"))}


@pytest.mark.parametrize(("product", "grade"), [("P00001", "own_history"), ("nobody", None)])
def test_explain_says_in_words_how_well_the_elasticity_is_known(
    shop: ServingApp, product: str, grade: str | None
) -> None:
    answer = shop.client.post("/explain", json={"request": {**REQUEST, "product_id": product}}).get_json()

    meaning = None if grade is None else {"code": grade, "meaning": MEANINGS[grade]}
    assert answer["grade"] == meaning


def test_explaining_and_simulating_leave_no_trace_in_the_log(shop: ServingApp) -> None:
    shop.client.post("/explain", json={"request": REQUEST})
    shop.client.post("/simulate", json={"request": REQUEST})

    assert shop.service.log.status().issued == 0


def test_every_configured_strategy_is_compared_in_one_call(shop: ServingApp) -> None:
    answer = shop.client.post("/simulate", json={"request": REQUEST, "prices": []}).get_json()

    assert {outcome["strategy"] for outcome in answer["outcomes"]} == {"margin", "revenue", "clearance", "match"}
    for outcome in answer["outcomes"]:
        assert outcome["demand"]["low"] < outcome["demand"]["mean"] < outcome["demand"]["high"]
        assert 0 <= outcome["stock_out"] <= 1


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/simulate", {"request": REQUEST, "prices": [0]}, "prices.0"),
        ("/simulate", {"request": REQUEST, "strategies": ["greed"]}, "strategy"),
        ("/simulate", {"prices": [1]}, "request"),
        ("/explain", {"request": {**REQUEST, "current_stock": -1}}, "request.current_stock"),
        ("/explain", {"request": REQUEST, "of": "profit"}, "of"),
    ],
)
def test_a_question_that_cannot_be_understood_is_refused_by_name(
    shop: ServingApp, path: str, body: Any, field: str
) -> None:
    answer = shop.client.post(path, json=body)

    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.get_json()["errors"]] == [field]


def test_without_a_model_explaining_demand_says_why_it_cannot(tmp_path: Path) -> None:
    with open_app(tmp_path) as shop:
        answer = shop.client.post("/explain", json={"request": REQUEST, "of": "demand"})

    assert answer.status_code == 422
    assert "nothing says how much" in answer.get_json()["detail"]
