"""Laws of price tests: small, drawn alike everywhere, inside the guardrails, and nothing at all without a plan."""

import datetime as dt
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pricing.decision.price_tests import ARMS, NO_TESTS, Plan, PriceTest, read_plan, write_plan

from pricing.decision.explanation import explain
from pricing.decision.guardrails import EDGE
from pricing.decision.pricer import Pricer
from pricing.decision.reasons import REASONS
from pricing.decision.request import PriceRequest
from pricing.decision_log.format import LogEntry
from pricing.errors import ConfigError, SourceError
from tests.kit.decision import TODAY, ConstantElasticity, config, facts

MONDAY = dt.date(2025, 3, 3)
DAYS = [MONDAY + dt.timedelta(days=day) for day in range(21)]


def make_test(**changes: object) -> PriceTest:
    values = {"name": "spring", "prices": {"apple": 10.0, "bread": 10.0}, "size": 0.05, "start": MONDAY, "weeks": 6}
    return PriceTest(**(values | changes))  # type: ignore[arg-type]


def pricer(demand: ConstantElasticity | None = None, **decision: object) -> Pricer:
    return Pricer(demand or ConstantElasticity(), facts(), config(**decision), version="1", new_id=lambda: "id")


def request(product: str = "apple", date: dt.date = MONDAY, **changes: object) -> PriceRequest:
    values = {"product_id": product, "current_stock": 1e6, "day_of_week": f"{date:%A}", "date": date}
    return PriceRequest(**(values | changes))  # type: ignore[arg-type]


def answer(asked: PriceRequest, *, tests: Plan | None = None, of: Pricer | None = None, **kept: object):
    plan = tests or Plan((make_test(),))
    return (of or pricer()).price_detailed([asked], today=TODAY, tests=plan, **kept)[0]


@given(name=st.text(min_size=1).filter(str.isprintable), product=st.text(), size=st.floats(0.001, 0.05))
def test_each_product_has_every_arm_once_in_three_weeks(name: str, product: str, size: float) -> None:
    test = make_test(name=name, prices={product: 1.0}, size=size)

    drawn = [test.draw(product, MONDAY + dt.timedelta(weeks=week)) for week in range(6)]

    for block in (drawn[:3], drawn[3:]):
        assert sorted(draw.arm for draw in block) == sorted(ARMS)
        assert sum(draw.deviation for draw in block) == pytest.approx(0)
    assert all(abs(math.expm1(draw.deviation)) <= size + 1e-12 and draw.odds == 1 / 3 for draw in drawn)


def test_a_week_has_one_draw_and_products_have_their_own() -> None:
    test = make_test(prices={str(number): 1.0 for number in range(300)})

    arms = Counter(test.draw(product, MONDAY).arm for product in test.prices)

    assert all(70 <= arms[arm] <= 130 for arm in ARMS)
    assert len({test.draw("7", MONDAY + dt.timedelta(days=day)) for day in range(7)}) == 1


def test_a_test_draws_in_its_weeks_for_its_products_only() -> None:
    test = make_test(weeks=1)

    assert test.draw("apple", MONDAY - dt.timedelta(days=1)) is None
    assert test.draw("apple", MONDAY + dt.timedelta(days=7)) is None
    assert test.draw("cocoa", MONDAY) is None
    assert make_test(stopped=MONDAY + dt.timedelta(days=3)).draw("apple", MONDAY + dt.timedelta(days=3)) is None


@pytest.mark.parametrize("wrong", [{"size": 0.06}, {"size": 0.0}, {"start": TODAY}, {"weeks": 0}, {"name": ""}])
def test_a_test_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_test(**wrong)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan((make_test(), make_test(name="ü", start=MONDAY + dt.timedelta(weeks=6), stopped=dt.date(2025, 5, 1))))

    write_plan(tmp_path / "a" / "plan.json", plan)

    assert read_plan(tmp_path / "a" / "plan.json") == plan
    assert read_plan(tmp_path / "absent.json") == NO_TESTS


@pytest.mark.parametrize("text", ["{", "[]", '{"tests": [{"name": "x"}]}', '{"tests": 3}'])
def test_a_damaged_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)

    with pytest.raises(SourceError, match="no plan of price tests"):
        read_plan(tmp_path / "plan.json")


def test_no_product_is_in_two_tests_at_a_time() -> None:
    plan = Plan((make_test(),))

    with pytest.raises(ConfigError, match="2 of its products, first apple, are in spring"):
        plan.with_test(make_test(name="other", start=MONDAY + dt.timedelta(weeks=5)))
    assert len(plan.with_test(make_test(name="other", start=MONDAY + dt.timedelta(weeks=6))).tests) == 2


def test_a_test_that_was_stopped_before_it_began_is_cancelled_and_in_nobodys_way() -> None:
    earlier, later = MONDAY - dt.timedelta(weeks=3), MONDAY + dt.timedelta(weeks=3)
    plan = Plan((make_test(),)).without("spring", after=MONDAY - dt.timedelta(days=2))

    cancelled = plan.find("spring")

    assert cancelled.cancelled
    assert not make_test(stopped=later).cancelled
    assert cancelled.end == cancelled.start
    assert cancelled.days == "cancelled, no periods (it was to start on 2025-03-03)"
    assert all(cancelled.draw("apple", day) is None for day in DAYS)
    assert len(plan.with_test(make_test(name="other", start=earlier)).tests) == 2


def test_without_a_draw_every_answer_is_as_before() -> None:
    asked = [request(product, day) for product in ("apple", "cocoa") for day in DAYS[:3]]

    with_plan = pricer().price_detailed(asked, today=TODAY, tests=Plan((make_test(start=DAYS[7]),)))

    assert with_plan == pricer().price_detailed(asked, today=TODAY)


def test_the_chosen_price_is_multiplied_by_the_draw_and_the_answer_says_so() -> None:
    for day in DAYS[::7]:
        plain = pricer().price_detailed([request(date=day)], today=TODAY)[0].decision
        given = answer(request(date=day))

        expected = plain.recommended_price * math.exp(given.test.deviation)
        assert given.decision.recommended_price == pytest.approx(expected, abs=0.01)
        assert abs(given.decision.recommended_price / plain.recommended_price - 1) <= 0.05 + EDGE
        assert "price_test" in given.decision.reasons
        assert given.decision.source == plain.source
        units = 10 * (given.decision.recommended_price / 10) ** -2.5
        assert given.decision.expected_units == pytest.approx(units, rel=1e-6)


def test_an_answer_that_is_charged_and_asked_for_again_stays() -> None:
    for day in DAYS[::7]:
        first = answer(request(date=day)).decision.recommended_price

        assert answer(request(date=day, current_price=first)).decision.recommended_price == first


def test_one_request_and_a_batch_have_the_same_draw() -> None:
    asked = [request("apple", day) for day in DAYS]
    together = pricer().price_detailed(asked, today=TODAY, tests=Plan((make_test(),)))

    assert together == [answer(one) for one in asked]


@given(
    price=st.floats(5, 15),
    cost=st.floats(3, 12),
    elasticity=st.floats(1.1, 6),
    week=st.integers(0, 2),
    move=st.sampled_from([None, 0.02, 0.1]),
    endings=st.sampled_from([[], [0.49, 0.99]]),
    product=st.sampled_from(["apple", "bread"]),
)
def test_guardrails_hold_for_a_drawn_price(price, cost, elasticity, week, move, endings, product) -> None:
    limits = {"max_move": move, "endings": endings, "band": [0.7, 1.35]}
    of = pricer(ConstantElasticity(elasticities=(elasticity,)), guardrails=limits)
    asked = request(product, DAYS[7 * week], current_price=price, unit_cost=cost)
    low, high = of.simulate(asked, today=TODAY).price_limits

    given_price = answer(asked, of=of, tests=Plan((make_test(prices={product: price}),))).decision.recommended_price

    assert low * (1 - 1e-6) <= given_price <= high * (1 + 1e-6)
    if endings and not {"gave_way_price_rung"} & set(answer(asked, of=of).decision.reasons):
        assert given_price == pytest.approx(price) or round(given_price % 1, 2) in endings


def test_a_held_product_an_advertised_offer_and_a_price_moved_by_others_are_not_tested() -> None:
    for asked, kept in (
        (request(), {"held": {"apple"}}),
        (request(is_promo=True), {}),
        (request(current_price=7.5), {}),
    ):
        given = answer(asked, of=pricer(guardrails={"max_move": 0.1}), **kept)

        assert given.test is None
        assert "price_test" not in given.decision.reasons


def test_a_price_that_nobody_dares_to_move_is_tested_around_where_it_stands() -> None:
    flat = Pricer(None, facts(), config(), version="none", new_id=lambda: "id")

    given = [flat.price_detailed([request(date=day)], today=TODAY, tests=Plan((make_test(),)))[0] for day in DAYS[::7]]

    assert sorted(one.decision.recommended_price for one in given) == [9.53, 10.0, 10.5]
    assert all({"price_test", "elasticity_unidentified"} <= set(one.decision.reasons) for one in given)
    assert {one.decision.source for one in given} == {"rule"}


@pytest.mark.parametrize(("elasticity", "kept"), [(2.5, True), (6.0, False)])
def test_held_beside_a_draw_is_said_of_the_price_before_it(elasticity: float, kept: bool) -> None:
    of = pricer(ConstantElasticity(elasticities=(elasticity,)))

    given = [answer(request(date=day, current_price=9.53), of=of) for day in DAYS[::7]]

    before = {one.test.arm: one.decision.recommended_price for one in given}["stay"]
    assert (before == 10.0) is kept  # the price at planning
    assert all(("held" in one.decision.reasons) is kept for one in given)
    assert len({one.decision.recommended_price for one in given}) == 3
    assert all(word in REASONS["price_test"] for word in ("held", "low_confidence", "before the draw"))


@pytest.mark.parametrize("current", [None, 9.53, 10.5])
@pytest.mark.parametrize("elasticity", [1.5, 2.5, 6.0])
@pytest.mark.parametrize("assumed", [False, True])
@pytest.mark.parametrize("arm", ARMS)
def test_an_explanation_attributes_to_the_draw_what_the_arm_that_stays_lacks(
    current: float | None, elasticity: float, assumed: bool, arm: str
) -> None:
    """Whatever the price on the shelf is, which may hold the last draw."""
    known = facts(cost_assumed=np.full(3, assumed))
    demand = ConstantElasticity(elasticities=(elasticity,))
    of = Pricer(demand, known, config(guardrails={"max_move": 0.1}), version="1", new_id=lambda: "id")
    day = next(day for day in DAYS if make_test().draw("apple", day).arm == arm)
    others = (Plan((make_test(name=f"other-{number}"),)) for number in range(100))
    stays = next(plan for plan in others if plan.draw("apple", day).arm == "stay")
    asked = request(date=day, current_price=current)

    found = explain(asked, of, today=TODAY, tests=Plan((make_test(),)))

    price, still = (answer(asked, of=of, tests=plan).decision for plan in (Plan((make_test(),)), stays))
    effect = {driver.name: driver.effect for driver in found.drivers}
    assert effect.get("price_test", 0.0) == pytest.approx(price.recommended_price - still.recommended_price, abs=1e-12)
    assert found.value == price.recommended_price
    assert found.baseline_value + sum(effect.values()) == pytest.approx(found.value)


def test_the_log_keeps_the_draw_with_its_odds() -> None:
    given = answer(request())

    line = json.loads(LogEntry.of(request(), given, at=dt.datetime(2025, 3, 2, tzinfo=dt.UTC)).encode())

    assert line["test"] == {
        "name": "spring",
        "arm": given.test.arm,
        "odds": pytest.approx(1 / 3),
        "deviation": pytest.approx(given.test.deviation),
        "end": "2025-04-14",
    }
    untested = LogEntry.of(request("cocoa"), answer(request("cocoa")), at=dt.datetime(2025, 3, 2, tzinfo=dt.UTC))
    assert json.loads(untested.encode())["test"] is None


@given(cents=st.integers(20, 3000), week=st.integers(0, 2), endings=st.sampled_from([[], [0.49, 0.99]]))
def test_no_rounding_takes_a_price_further_than_the_size(cents: int, week: int, endings: list[float]) -> None:
    price = cents / 100
    known = facts(price=np.full(3, price), list_price=np.full(3, price), unit_cost=np.full(3, price / 2))
    flat = Pricer(None, known, config(guardrails={"endings": endings}), version="none")
    asked = request(date=DAYS[7 * week])
    plain = flat.price_detailed([asked], today=TODAY)[0].decision.recommended_price

    given_price = answer(asked, of=flat, tests=Plan((make_test(prices={"apple": price}),))).decision.recommended_price

    assert abs(math.log(given_price / plain)) <= math.log1p(0.05) + EDGE


def test_draws_do_not_add_up_where_a_shop_sends_back_what_it_was_told() -> None:
    flat = Pricer(None, facts(), config(), version="none")
    price, charged = 10.0, []

    for day in DAYS:
        for _ in range(2):
            price = answer(request(date=day, current_price=price), of=flat).decision.recommended_price
        charged.append(price)

    assert set(charged) == {9.53, 10.0, 10.5}
    assert all(len(set(charged[week : week + 7])) == 1 for week in (0, 7, 14))
