import datetime as dt
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pricing.data.promotions import Promotions
from pricing.decision.explanation import GROUPS, Explanation, Told, explain, round_together, shapley
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


@given(data=st.data(), digits=st.integers(0, 4))
def test_rounded_effects_add_up_as_printed_and_stay_where_they_were(data: Any, digits: int) -> None:
    effects = data.draw(st.lists(st.one_of(st.just(0.0), st.floats(-50, 50)), min_size=1, max_size=10))
    start, end = 20.0, 20.0 + sum(effects)
    total = Decimal(f"{end:.{digits}f}") - Decimal(f"{start:.{digits}f}")

    rounded = round_together(effects, of=float(total), digits=digits)

    if any(effects):
        assert sum(Decimal(repr(one)) for one in rounded) == total
    unit = 10.0**-digits
    assert all(abs(one - exact) <= 1.5 * unit for one, exact in zip(rounded, effects, strict=True))
    assert all(one == 0 for one, exact in zip(rounded, effects, strict=True) if exact == 0)


def printed(explanation: Explanation) -> Decimal:
    """The sum of the effects as a reader of the answer would add them up."""
    return sum((Decimal(repr(driver.effect)) for driver in explanation.drivers), start=Decimal(0))


def difference(explanation: Explanation) -> Decimal:
    return Decimal(repr(explanation.value)) - Decimal(repr(explanation.baseline_value))


@pytest.mark.parametrize("product", ["P00001", "P00005", "P00009"])
@pytest.mark.parametrize("against", [None, {"current_stock": 900, "product_id": "P00002", "is_promo": False}])
@pytest.mark.parametrize("quantity", ["price", "demand"])
def test_the_printed_effects_add_up_to_the_printed_difference(
    pricer: Pricer, product: str, against: dict[str, Any] | None, quantity: Any
) -> None:
    other = None if against is None else request(**against)

    explanation = explain(
        request(product_id=product, is_promo=True), pricer, today=TODAY, quantity=quantity, against=other
    )

    assert printed(explanation) == difference(explanation)
    exact = sum(driver.exact for driver in explanation.drivers)
    assert exact == pytest.approx(explanation.value - explanation.baseline_value, abs=10.0**-explanation.digits)


def in_all_orders(effects_of: Any, names: list[str]) -> dict[str, float]:
    """Shapley values by their definition: what each driver changes when it comes in, averaged over all orders."""
    totals = dict.fromkeys(names, 0.0)
    orders = list(itertools.permutations(names))
    for order in orders:
        inside: set[str] = set()
        for name in order:
            before = effects_of(frozenset(inside))
            inside.add(name)
            totals[name] += effects_of(frozenset(inside)) - before
    return {name: total / len(orders) for name, total in totals.items()}


class Untold(ConstantElasticity):
    """The same demand, of whose elasticity nothing is known."""

    def grid(self, offers: Any, prices: np.ndarray) -> Any:
        found = super().grid(offers, prices)
        return replace(found, grade=np.zeros_like(found.grade))


def test_effects_on_the_price_are_the_averages_over_all_orders_of_what_each_driver_changes() -> None:
    known = facts(unit_cost=np.array([6.0, 4.0, 7.0]), price=np.array([8.0, 10.0, 10.0]))
    # The shipped band from 0.70 to 1.35 at 64 prices, and at the same distances 30 more to either side.
    step = math.log(1.35 / 0.70) / 61
    band = [0.70 * math.exp(-30 * step), 1.35 * math.exp(30 * step)]
    wide = config(guardrails={"band": band}, candidates=124)
    pricers = {
        told: Pricer(model, known, wide, version="1") for told, model in enumerate((Untold(), ConstantElasticity()))
    }
    asked = {"product_id": "apple", "current_stock": 30, "day_of_week": "Wednesday", "date": "2025-03-05"}
    request = PriceRequest.model_validate(asked | {"unit_cost": 5.5})
    usual = 10 * (1 - 0.4)  # the margin of fruit is 40 %: apple's own in the history
    absent = {"cost": {"unit_cost": usual}, "list_price": {"list_price": 8.0}, "stock": {"current_stock": 1e9}}

    def price(inside: frozenset[str]) -> float:
        changes = {key: value for name, part in absent.items() if name not in inside for key, value in part.items()}
        (decision,) = pricers["elasticity" in inside].price([request.model_copy(update=changes)], today=KIT_TODAY)
        return decision.recommended_price

    found = explain(request, Pricer(ConstantElasticity(), known, config(), version="1"), today=KIT_TODAY)

    exact = {driver.name: driver.exact for driver in found.drivers}
    oracle = in_all_orders(price, ["elasticity", *absent])
    assert {name: exact.get(name, 0.0) for name in oracle} == pytest.approx(oracle, abs=1e-9)
    assert min(abs(effect) for effect in oracle.values()) > 0.1
    assert found.baseline_value == 8.0


@pytest.mark.parametrize("product", ["P00001", "P00005", "P00009"])
def test_the_price_is_explained_from_the_one_charged_now(pricer: Pricer, product: str) -> None:
    asked = request(product_id=product, current_price=9.37, unit_cost=4.0, list_price=10.0)

    explanation = explain(asked, pricer, today=TODAY)

    assert explanation.baseline_value == 9.37
    assert explanation.summary.startswith("The price goes from 9.37, charged now, to ")


def test_a_price_below_the_usual_cost_is_where_the_explanation_starts() -> None:
    pricer = Pricer(ConstantElasticity(), facts(price=np.full(3, 5.0)), config(), version="1")  # 6.00 is usual
    asked = PriceRequest(product_id="apple", current_stock=1000, day_of_week="Friday", unit_cost=7.0)

    explanation = explain(asked, pricer, today=KIT_TODAY)

    assert explanation.baseline_value == 5.0
    assert next(driver for driver in explanation.drivers if driver.name == "cost").effect > 0


def test_the_drivers_are_those_that_a_buyer_knows(pricer: Pricer) -> None:
    asked = request(list_price=12.5, is_promo=True, comp_price=8.0, date="2023-08-04")

    explanation = explain(asked, pricer, today=TODAY)

    assert {driver.name for driver in explanation.drivers} == {
        *("cost", "elasticity", "list_price", "stock", "competitor", "promotion", "season", "strategy", "guardrails"),
    }


def test_guardrails_take_back_what_they_cut_off_the_wish(pricer: Pricer) -> None:
    explanation = explain(request(strategy=None, unit_cost=None), pricer, today=TODAY)

    (guardrails,) = [driver for driver in explanation.drivers if driver.name == "guardrails"]
    wished = explanation.value - guardrails.exact
    assert "at_max_move" in explanation.decision.decision.reasons
    assert guardrails.effect < 0
    assert guardrails.sentence == (
        f"The guardrails (the largest move) lower the price by {-guardrails.effect:.2f}: "
        f"without them it would be {wished:.2f}."
    )


def test_where_nothing_binds_guardrails_are_no_driver() -> None:
    pricer = Pricer(ConstantElasticity(), facts(price=np.full(3, 8.9)), config(), version="1")
    asked = PriceRequest(product_id="apple", current_stock=1000, day_of_week="Friday")

    explanation = explain(asked, pricer, today=KIT_TODAY)

    assert not [code for code in explanation.decision.decision.reasons if code.startswith("at_")]
    assert "guardrails" not in {driver.name for driver in explanation.drivers}
    assert explanation.value != explanation.baseline_value


@pytest.mark.parametrize(
    ("guardrails", "asked", "gave_way", "said"),
    [
        ({"max_move": 0.1, "comp_band": [0.9, 1.1]}, {"comp_price": 3.0}, "comp_band", "the largest move"),
        ({"comp_band": [0.9, 1.1]}, {"comp_price": 3.0}, "comp_band", None),
        ({"max_move": 0.01, "endings": [0.49]}, {}, "price_rung", "the largest move"),
        ({}, {"unit_cost": 20.0}, "band", "the cost as the lowest price, the band around the list price"),
        (
            {"max_move": 0.01, "min_margin": 0.2},  # from 10.25 to 10.302, in steps of 0.5
            {"unit_cost": 8.2, "current_price": 10.2},
            "price_rung",
            "the least margin, the largest move, the smallest step of price",
        ),
    ],
)
def test_a_guardrail_that_gave_way_is_named_only_where_it_acts_on_the_price(
    guardrails: dict[str, Any], asked: dict[str, Any], gave_way: str, said: str | None
) -> None:
    step = 0.5 if "min_margin" in guardrails else 0.01
    pricer = Pricer(ConstantElasticity(), facts(), config(guardrails=guardrails, price_step=step), version="1")
    whole = {"product_id": "apple", "current_stock": 1000, "day_of_week": "Friday", "unit_cost": 5.0, **asked}

    explanation = explain(PriceRequest.model_validate(whole), pricer, today=KIT_TODAY)

    sentences = [driver.sentence for driver in explanation.drivers if driver.name == "guardrails"]
    assert f"gave_way_{gave_way}" in explanation.decision.decision.reasons
    assert len(sentences) == (said is not None)
    assert all(sentence.startswith(f"The guardrails ({said}) ") for sentence in sentences)


def test_a_cost_beyond_the_largest_jump_is_the_doing_of_both() -> None:
    known = facts(last_price=np.full(3, 10.0))
    pricer = Pricer(ConstantElasticity(), known, config(), version="1", largest_jump=0.3)
    asked = PriceRequest(
        product_id="apple",
        current_stock=1000,
        day_of_week="Friday",
        unit_cost=20.0,
        current_price=40.0,
        list_price=40.0,
    )

    explanation = explain(asked, pricer, today=KIT_TODAY)

    (guardrails,) = [driver for driver in explanation.drivers if driver.name == "guardrails"]
    assert explanation.value == 20.0
    assert guardrails.sentence.startswith(
        "The guardrails (the cost as the lowest price, the largest distance from the last price charged) "
    )


def test_price_endings_are_the_guardrails_doing() -> None:
    ending = config(guardrails={"endings": [0.49, 0.99]})
    pricer = Pricer(ConstantElasticity(), facts(price=np.full(3, 9.49)), ending, version="1")
    asked = PriceRequest(product_id="apple", current_stock=1000, day_of_week="Friday", unit_cost=5.0)

    explanation = explain(asked, pricer, today=KIT_TODAY)

    (guardrails,) = [driver for driver in explanation.drivers if driver.name == "guardrails"]
    assert guardrails.sentence.startswith("Rounding to an allowed price point ")
    assert guardrails.effect
    assert printed(explanation) == difference(explanation)


def test_where_nothing_tells_the_elasticity_the_explanation_says_so() -> None:
    pricer = Pricer(Untold(), facts(), config(), version="1")
    asked = PriceRequest(product_id="apple", current_stock=1000, day_of_week="Friday", unit_cost=5.0)

    explanation = explain(asked, pricer, today=KIT_TODAY)

    sentences = {driver.name: driver.sentence for driver in explanation.drivers}
    assert sentences["elasticity"].startswith("Too little is known of how demand answers to the price")
    assert explanation.value == explanation.baseline_value == 10.0
    assert explanation.summary == "The price stays at 10.00, charged now."


def test_a_held_out_product_keeps_its_price_for_no_driver(pricer: Pricer) -> None:
    asked = request(strategy=None, unit_cost=None, current_stock=500)

    explanation = explain(asked, pricer, today=TODAY, held={asked.product_id})

    assert explanation.value == explanation.baseline_value
    assert not any(driver.effect for driver in explanation.drivers)


def test_the_demand_starts_at_the_price_charged_now_on_an_ordinary_day(pricer: Pricer) -> None:
    asked = request(date="2023-08-04", is_promo=True)

    explanation = explain(asked, pricer, today=TODAY, quantity="demand")

    (now,) = [known.current_price for known in [explanation.decision]]
    assert now is not None
    (start,) = pricer.demand_at([explanation.baseline], [now], today=TODAY)
    assert explanation.baseline_value == pytest.approx(start, rel=1e-3)
    assert explanation.baseline.is_promo is False
    assert explanation.baseline.day_of_week == "Wednesday"
    assert {driver.name for driver in explanation.drivers} == {"price", "promotion", "competitor", "season"}


def test_what_the_version_tells_of_demand_is_said() -> None:
    pricer = Pricer(ConstantElasticity(), facts(comp_price=np.full(3, 9.5)), config(), version="1")
    asked = PriceRequest(product_id="apple", current_stock=100, day_of_week="Friday", current_price=9.0, comp_price=8.5)
    told = Told(elasticity=-2.5, competitor="What it does to demand is not known.")

    explanation = explain(asked, pricer, today=KIT_TODAY, told=told)

    sentences = {driver.name: driver.sentence for driver in explanation.drivers}
    assert sentences["elasticity"].startswith(
        "The elasticity of −2.50 (1 % dearer sells 2.50 % less) raises the price by "
    )
    assert sentences["competitor"] == (
        "The competitor at 8.50, rather than 9.50 when the history ended, leaves the price as it is. "
        "What it does to demand is not known."
    )


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
        ("2023-08-03", "2023-08-03 (a holiday; 1 day before Feast: +16 % ± 7 %), rather than"),
        ("2023-08-04", "2023-08-04 (a holiday; Feast: +35 % ± 8 %), rather than"),
        ("2023-08-08", "2023-08-08 (a holiday), rather than"),
    ],
)
def test_a_named_event_of_the_day_is_said_with_its_lift(day: str, said: str) -> None:
    version = load(shared_version())
    pricer = replace(version, demand=with_feast(version.demand, date="2023-08-04")).pricer(version="7")
    weekday = dt.date.fromisoformat(day).strftime("%A")

    explanation = explain(request(date=day, day_of_week=weekday), pricer, today=TODAY, quantity="demand")

    (driver,) = [driver for driver in explanation.drivers if driver.name == "season"]
    assert said in driver.sentence


@pytest.mark.parametrize(("day", "ordinary"), [("2023-08-09", "2023-08-02"), ("2023-08-10", "2023-08-02")])
def test_an_event_on_the_ordinary_day_itself_is_not_compared_with_itself(day: str, ordinary: str) -> None:
    version = load(shared_version())
    pricer = replace(version, demand=with_feast(version.demand, date=day)).pricer(version="7")
    weekday = dt.date.fromisoformat(day).strftime("%A")

    explanation = explain(request(date=day, day_of_week=weekday), pricer, today=TODAY, quantity="demand")

    (driver,) = [driver for driver in explanation.drivers if driver.name == "season"]
    assert str(explanation.baseline.date) == ordinary
    assert "(a holiday; Feast: +35 % ± 8 %)" in driver.sentence
    assert driver.effect > 0


def test_the_lift_of_an_event_is_the_days_doing(pricer: Pricer) -> None:
    version = load(shared_version())
    lifted = replace(version, demand=with_feast(version.demand, date="2023-08-04")).pricer(version="7")
    asked = request(date="2023-08-04", day_of_week="Friday")

    plain, found = (explain(asked, each, today=TODAY, quantity="demand") for each in (pricer, lifted))

    effects = {driver.name: driver.effect for driver in found.drivers}
    assert printed(found) == difference(found)
    assert effects["season"] > {driver.name: driver.effect for driver in plain.drivers}["season"]


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


@pytest.mark.parametrize("against", [None, request(unit_cost=None)], ids=["what it is now", "a known product"])
def test_an_unknown_product_is_explained_too(pricer: Pricer, against: PriceRequest | None) -> None:
    asked = request(product_id="stranger", current_price=10, unit_cost=None)

    explanation = explain(asked, pricer, today=TODAY, against=against)

    assert explanation.value == pricer.price([asked], today=TODAY)[0].recommended_price
    assert printed(explanation) == difference(explanation)


def test_only_what_differs_is_a_driver(pricer: Pricer) -> None:
    asked = request(date="2023-08-04")

    explanation = explain(
        asked, pricer, today=TODAY, against=asked.model_copy(update={"current_stock": 500.0, "strategy": "margin"})
    )

    assert {driver.name for driver in explanation.drivers} - {"guardrails"} == {"stock", "strategy"}


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

    assert printed(explanation) == difference(explanation)
    assert pricer.price([explanation.baseline], today=TODAY)  # it can be asked for by itself


def test_every_field_of_a_request_belongs_to_one_group() -> None:
    grouped = [field for fields in GROUPS.values() for field in fields]

    assert sorted(grouped) == sorted(PriceRequest.model_fields.keys() - {"strict"})  # which moves no price
    assert len(GROUPS) <= 10


def test_every_driver_says_its_effect_in_a_sentence(pricer: Pricer) -> None:
    for driver in explain(request(next_delivery="2023-08-20"), pricer, today=TODAY).drivers:
        assert driver.sentence.endswith(".")
        assert "None" not in driver.sentence
        verb = "leave" if not driver.effect else "raise" if driver.effect > 0 else "lower"
        assert f" {verb}{'' if driver.name == 'guardrails' else 's'} the price " in driver.sentence


def test_explain_over_http_rounds_units_and_money(shop: ServingApp) -> None:
    answer = shop.client.post("/explain", json={"request": {**REQUEST, "unit_cost": 6.4321}}).get_json()

    money = [answer["value"], answer["baseline_value"], answer["decision"]["expected_margin"]]
    money += [answer["baseline"]["unit_cost"], answer["elasticity"]["list_price"]]
    money += [driver["effect"] for driver in answer["drivers"]]
    assert all(number == round(number, 2) for number in money)
    assert len(repr(answer["decision"]["expected_units"]).replace(".", "")) <= 5
    assert answer["elasticity"]["elasticity"] == round(answer["elasticity"]["elasticity"], 2)


def test_explain_over_http_names_guardrails_elasticity_and_its_limits(shop: ServingApp) -> None:
    answer = shop.client.post("/explain", json={"request": {**REQUEST, "current_stock": 5}}).get_json()

    total = sum(Decimal(repr(driver["effect"])) for driver in answer["drivers"])
    assert total == Decimal(repr(answer["value"])) - Decimal(repr(answer["baseline_value"]))
    assert answer["summary"].startswith("The price ")
    elasticity = f"−{-answer['elasticity']['elasticity']:.2f}"
    assert any(f"The elasticity of {elasticity} " in driver["sentence"] for driver in answer["drivers"])
    assert "not the world" in answer["note"]
    assert answer["elasticity"]["elasticity"] < -1
    codes = {meaning["code"] for meaning in answer["guardrails"]}
    assert codes == {code for code in answer["decision"]["reasons"] if code.startswith(("at_", "gave_way_"))}


@pytest.mark.parametrize(("product", "grade"), [("P00001", "own_history"), ("nobody", None)])
def test_explain_says_in_words_how_well_the_elasticity_is_known(
    shop: ServingApp, product: str, grade: str | None
) -> None:
    answer = shop.client.post(
        "/explain", json={"request": {**REQUEST, "product_id": product, "list_price": 9}}
    ).get_json()

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
        answer = shop.client.post("/explain", json={"request": {**REQUEST, "list_price": 9}, "of": "demand"})

    assert answer.status_code == 422
    assert "nothing says how much" in answer.get_json()["detail"]
