"""Laws of experiments: dealt evenly, drawn alike everywhere, inside the guardrails; what they tell is the truth."""

import datetime as dt
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.data.panel import Panel, Period
from pricing.decision.experiment_results import (
    Draws,
    cost_of_draws,
    estimate_elasticity,
    find_draws,
    profit_gain,
    spans,
)
from pricing.decision.experiments import NO_EXPERIMENTS, Arm, Experiment, Experiments, deal
from pricing.decision.limits import EDGE
from pricing.decision.pricer import Pricer
from pricing.decision.request import DetailedDecision, PriceRequest
from pricing.decision_log.write import LogEntry, LogWriter
from pricing.errors import ConfigError
from tests.kit import decision as kit
from tests.kit.decision import TODAY, ConstantElasticity, facts
from tests.kit.panels import panel
from tests.kit.serving import sent

MONDAY = dt.date(2025, 3, 3)
DAYS = [MONDAY + dt.timedelta(days=day) for day in range(21)]
DRAW, KEEP, RULE = Arm("draw", share=0.5, size=0.05), Arm("keep", share=0.25), Arm("rule", share=0.25)


def drawn(**changes: Any) -> Experiment:
    """Apple and bread have their prices drawn."""
    prices = {"apple": 10.0, "bread": 10.0}
    values = {"name": "spring", "start": MONDAY, "weeks": 6, "arms": (DRAW,), "prices": prices} | changes
    return Experiment(**({"products": dict.fromkeys(values["prices"], "draw")} | values))


def one_arm(arm: Arm, *, product: str = "apple", **changes: Any) -> Experiments:
    values = {"name": "spring", "start": MONDAY, "weeks": None} | changes
    return Experiments((Experiment(**values, arms=(arm,), products={product: arm.name}),))


pricer = partial(kit.pricer, demand=ConstantElasticity())


def request(product: str = "apple", date: dt.date = MONDAY, **changes: Any) -> PriceRequest:
    values = {"product_id": product, "current_stock": 1e6, "day_of_week": f"{date:%A}", "date": date}
    return PriceRequest.model_validate(values | changes)


def answer(
    asked: PriceRequest, experiments: Experiments | None = None, *, of: Pricer | None = None
) -> DetailedDecision:
    tried = Experiments((drawn(),)) if experiments is None else experiments
    return (of or pricer()).price_detailed([asked], today=TODAY, experiments=tried)[0]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    shares=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    name=st.from_regex(r"[a-z]{1,9}", fullmatch=True),
)
def test_each_stratum_has_its_share_of_every_arm_to_within_one_product(sizes, shares, name) -> None:
    strata = {f"{number}-{one}": str(number) for number, size in enumerate(sizes) for one in range(size)}
    arms = [Arm("strategy", share=share / 100, of=str(place)) for place, share in enumerate(shares)]

    dealt = deal(strata, arms, name=name)

    for number, size in enumerate(sizes):
        count = Counter(arm for product, arm in dealt.items() if strata[product] == str(number))
        assert all(abs(count[arm.name] - arm.share * size) <= 1 + 1e-9 for arm in arms)
    assert dealt == deal(dict(reversed(strata.items())), arms, name=name)


def test_arms_and_draws_are_the_same_in_every_process() -> None:
    one = drawn(prices=dict.fromkeys("abcdefgh", 1.0))

    dealt = deal(dict.fromkeys("abcdefghijkl", "tea"), (KEEP, RULE), name="spring")

    assert "".join(dealt.get(product, "-")[0] for product in "abcdefghijkl") == "--rk--rk-rk-"
    drawn_up = [product for product in "abcdefgh" if one.deviation(product, MONDAY) > 0]
    assert drawn_up == ["a", "c", "f", "g"]


@given(
    name=st.from_regex(r"[\w-]{1,50}", fullmatch=True).filter(str.isprintable),
    product=st.text(),
    size=st.floats(0.001, 0.05),
)
def test_each_product_is_down_up_and_where_it_was_once_in_three_weeks(name: str, product: str, size: float) -> None:
    one = drawn(name=name, prices={product: 1.0}, arms=(Arm("draw", share=1.0, size=size),))

    found = [one.deviation(product, MONDAY + dt.timedelta(weeks=week)) for week in range(6)]

    for block in (found[:3], found[3:]):
        assert [round(each / math.log1p(size)) for each in sorted(block)] == [-1, 0, 1]
    assert len({one.deviation(product, MONDAY + dt.timedelta(days=day)) for day in range(7)}) == 1


def test_an_experiment_asks_something_of_its_products_in_its_weeks_only() -> None:
    tried, stopped = Experiments((drawn(weeks=1),)), Experiments((drawn(),)).ended("spring", after=DAYS[3])

    assert tried.of("apple", DAYS[6]) is not None
    assert [tried.of(*asked) for asked in (("apple", TODAY), ("cocoa", MONDAY), ("cocoa", DAYS[7]))] == [None] * 3
    for over, last in ((tried, 7), (stopped, 3)):
        back = [over.of("apple", DAYS[0] + dt.timedelta(days=last + day)) for day in (0, 6, 7)]
        assert [word and word.deviation for word in back] == [0.0, 0.0, None]
        assert back[0].base == over.every[0].prices["apple"]
    assert NO_EXPERIMENTS.plus(drawn()).ended("spring", after=TODAY).plus(drawn(name="other")).every[0].end == MONDAY


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (drawn, {"start": TODAY}), (drawn, {"weeks": None}), (drawn, {"name": "a b"}), (drawn, {"arms": (DRAW, DRAW)}),
        (drawn, {"arms": (DRAW, Arm("keep", share=0.6))}), (drawn, {"products": {"apple": "rule"}}),
        (Arm, {"kind": "draw", "share": 0.1, "size": 0.11}), (Arm, {"kind": "keep", "share": 1.1}),
        (Arm, {"kind": "strategy", "share": 0.1}), (Arm, {"kind": "gift", "share": 0.1}),
    ],
)  # fmt: skip
def test_an_experiment_or_an_arm_that_contradicts_itself_is_refused(make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make(**wrong)


def test_no_product_is_in_two_experiments_at_a_time_and_one_challenger_is_tried() -> None:
    known = NO_EXPERIMENTS.plus(drawn())

    with pytest.raises(ConfigError):
        known.plus(drawn(name="other", start=MONDAY + dt.timedelta(weeks=5)))
    with pytest.raises(ConfigError):
        known.plus(drawn(start=MONDAY + dt.timedelta(weeks=6)))
    assert len(known.plus(drawn(name="other", start=MONDAY + dt.timedelta(weeks=6))).every) == 2
    seven, eight = (one_arm(Arm("challenger", 1.0, of=of), product=of, name=f"try-{of}") for of in ("7", "8"))
    with pytest.raises(ConfigError):
        seven.plus(eight.every[0])
    assert (seven.challenger(TODAY), seven.ended("try-7", after=DAYS[7]).challenger(DAYS[7])) == ("7", None)


def test_of_two_challengers_one_after_the_other_the_one_whose_days_they_are_is_tried() -> None:
    arms = [Arm("challenger", 1.0, of=of) for of in ("7", "8", "9")]
    weeks = [MONDAY + dt.timedelta(weeks=week) for week in range(4)]
    called_off = one_arm(arms[2], name="off", start=weeks[1], stopped=MONDAY)
    first = one_arm(arms[0], product="bread", name="now", weeks=2).every[0]
    later = one_arm(arms[1], product="coffee", name="later", start=weeks[2], weeks=1).every[0]

    known = NO_EXPERIMENTS.plus(called_off.every[0]).plus(later).plus(first)

    assert [known.challenger(day) for day in weeks] == ["7", "7", "8", None]


def test_a_kept_price_stays_inside_the_guardrails() -> None:
    tried = one_arm(KEEP)

    for price, expected in ((8.0, 8.0), (20.0, 13.5), (5.0, 7.0)):
        given_answer = answer(request(current_price=price), tried)
        assert given_answer.decision.recommended_price == pytest.approx(expected)
        assert "holdout" in given_answer.decision.reasons
    assert answer(request("bread", current_price=8.0), tried).decision.recommended_price != 8.0


def test_a_strategy_counts_where_the_request_names_none_and_the_version_has_it() -> None:
    tried, unknown = one_arm(Arm("strategy", 0.5, of="clearance")), one_arm(Arm("strategy", 0.5, of="greed"))

    asked, named, other = (
        answer(request(), tried),
        answer(request(strategy="margin"), tried),
        answer(request(), unknown),
    )

    assert [one.decision.strategy for one in (asked, named, other)] == ["clearance", "margin", "margin"]
    assert [one.experiment is not None for one in (asked, named, other)] == [True, False, False]


def test_the_chosen_price_is_multiplied_by_the_draw_and_the_answer_says_so() -> None:
    for day in DAYS[::7]:
        plain = pricer().price_detailed([request(date=day)], today=TODAY)[0].decision
        found = answer(request(date=day))

        assert found.experiment is not None
        assert found.experiment.deviation == drawn().deviation("apple", day)
        expected = plain.recommended_price * math.exp(found.experiment.deviation)
        assert found.decision.recommended_price == pytest.approx(expected, abs=0.01)
        assert ("price_test" in found.decision.reasons, found.decision.source) == (True, plain.source)
        again = answer(request(date=day, current_price=found.decision.recommended_price))
        assert again.decision.recommended_price == found.decision.recommended_price


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
    """The largest move holds for the price before the draw alone; what a guardrail clips is no draw."""
    limits = {"endings": endings, "band": [0.7, 1.35]}
    demand = ConstantElasticity(elasticities=(elasticity,))
    of, free = (pricer(demand=demand, guardrails=limits | {"max_move": most}) for most in (move, None))
    asked = request(product, DAYS[7 * week], current_price=price, unit_cost=cost)
    low, high = free.simulate(asked, today=TODAY).price_limits
    least, most = of.simulate(asked, today=TODAY).price_limits

    answered = answer(asked, Experiments((drawn(prices={product: price}),)), of=of)

    found = answered.decision
    assert least * (1 - 1e-6) <= answered.settled <= most * (1 + 1e-6)
    if "price_test" in found.reasons:
        assert low * (1 - 1e-6) <= found.recommended_price <= high * (1 + 1e-6)
    else:
        assert answered.experiment.deviation is None
        assert found.recommended_price == answered.settled
    if endings and "price_rung" not in found.gave_way:
        assert found.recommended_price == pytest.approx(price) or round(found.recommended_price % 1, 2) in endings


@given(cents=st.integers(20, 3000), week=st.integers(0, 2), endings=st.sampled_from([[], [0.49, 0.99]]))
def test_no_rounding_takes_a_price_further_than_the_size(cents: int, week: int, endings: list[float]) -> None:
    price = cents / 100
    known = facts(price=np.full(3, price), list_price=np.full(3, price), unit_cost=np.full(3, price / 2))
    flat = pricer(known, demand=None, guardrails={"endings": endings})
    asked = request(date=DAYS[7 * week])
    plain = flat.price_detailed([asked], today=TODAY)[0].decision.recommended_price

    found = answer(asked, Experiments((drawn(prices={"apple": price}),)), of=flat).decision.recommended_price

    assert abs(math.log(found / plain)) <= math.log1p(0.05) + EDGE


def test_an_advertised_offer_and_a_price_moved_by_others_are_not_drawn() -> None:
    for asked in (request(is_promo=True), request(current_price=7.5)):
        found = answer(asked, of=pricer(guardrails={"max_move": 0.1}))

        assert found.experiment is None
        assert "price_test" not in found.decision.reasons


@pytest.mark.parametrize(("highest", "ways"), [(1.06, {9.53, 10.0, 10.5}), (1.04, set())])
def test_what_is_drawn_does_not_depend_on_the_side_that_has_no_room(highest: float, ways: set[float]) -> None:
    flat = pricer(demand=None, guardrails={"band": [0.7, highest]})

    answers = [answer(request(date=day, current_price=10.0), of=flat) for day in DAYS]

    tested = [each.decision for each in answers if "price_test" in each.decision.reasons]
    assert {decision.recommended_price for decision in tested} == ways
    assert len(tested) == (len(answers) if ways else 0)


def test_draws_do_not_add_up_where_a_shop_sends_back_what_it_was_told() -> None:
    flat, price, charged = pricer(demand=None), 10.0, []

    for day in DAYS:
        for _ in range(2):
            price = answer(request(date=day, current_price=price), of=flat).decision.recommended_price
        charged.append(price)

    assert set(charged) == {9.53, 10.0, 10.5}
    assert all(len(set(charged[week : week + 7])) == 1 for week in (0, 7, 14))


def panel_of(
    names: np.ndarray, dates: np.ndarray, *, units: np.ndarray, price: np.ndarray, period: Period = "day"
) -> Panel:
    made = panel(products=len(names), days=len(dates), units_sold=units, price=price)
    return replace(made, product_ids=names, dates=dates, period=period)


TRUTH, WEEKS = -2.5, 8


def confounded(*, seed: int) -> tuple[Panel, Draws]:
    """Daily sales in which prices follow a hidden demand, upwards, and draws move them besides."""
    rng = np.random.default_rng(seed)
    names = np.array([f"P{number:02d}" for number in range(60)])
    one = drawn(prices=dict.fromkeys(names.tolist(), 10.0), weeks=WEEKS)
    days = [MONDAY + dt.timedelta(days=day) for day in range(7 * WEEKS)]
    hidden = np.repeat(rng.normal(0, 0.2, (60, WEEKS)), 7, axis=1) - np.linspace(0, 0.5, 7 * WEEKS)
    draw = np.array([[one.deviation(name, day) for day in days] for name in names.tolist()])
    log_price = np.log(10.0) + 0.3 * hidden + draw
    units = rng.poisson(np.exp(rng.normal(2.0, 0.5, (60, 1)) + hidden + TRUTH * (log_price - np.log(10.0))))
    sales = panel_of(names, np.array(days, dtype="datetime64[D]"), units=units, price=np.exp(log_price))
    return sales, draws_of(draw)


def draws_of(deviation: np.ndarray) -> Draws:
    """A draw a week of a daily panel that begins on a Monday."""
    week = np.broadcast_to(np.arange(deviation.shape[1]) // 7, deviation.shape)
    return Draws(deviation, week, deviation.size)


def test_the_draws_alone_tell_the_truth_where_a_regression_on_all_prices_does_not() -> None:
    found, inside = [], 0
    for seed in range(20):
        sales, draws = confounded(seed=seed)
        estimate = estimate_elasticity(sales, draws)
        found.append(estimate.value)
        inside += estimate.low <= TRUTH <= estimate.high

        log_price = np.log(sales.price) - np.log(sales.price).mean(axis=1, keepdims=True)
        naive = float((log_price * np.log(sales.units_sold + 0.5)).sum() / (log_price**2).sum())
        assert naive - TRUTH > 1.0  # biased towards zero, and beyond

    assert abs(np.mean(found) - TRUTH) < 3 * np.std(found) / np.sqrt(len(found))
    assert 12 <= inside <= 20  # of 20 intervals that hold 80 %


def test_the_cost_is_that_of_the_moved_weeks() -> None:
    draw = np.tile(np.repeat([-0.05, 0.0, 0.05], 7), (6, 1))
    names, dates = np.array([f"P{number}" for number in range(6)]), np.datetime64("2025-03-03") + np.arange(21)
    sales = panel_of(names, dates, units=np.where(draw == 0, 10.0, 8.0), price=np.full(draw.shape, 10.0))

    found = cost_of_draws(sales, draws_of(draw), rng=np.random.default_rng(0))

    assert (found.value, found.low, found.high) == pytest.approx((1 - (10 + 8 + 8) / 30,) * 3)


def test_profit_is_compared_by_its_change_since_before() -> None:
    """All fall by a third, and half of them earn a fifth more than that."""
    rng = np.random.default_rng(1)
    names, dates = np.array([f"P{number:02d}" for number in range(40)]), np.datetime64(MONDAY) + np.arange(-84, 42)
    after = np.arange(-84, 42) >= 0
    units = rng.poisson(np.where(after, 60, 90) * np.where(after & (np.arange(40)[:, None] < 20), 1.2, 1.0))
    sales = panel_of(names, dates, units=units, price=np.full(units.shape, 10.0))
    before, within = spans(sales, start=MONDAY, end=DAYS[14])

    found = profit_gain(
        sales, names[:20].tolist(), names[20:].tolist(), before=before, after=within, rng=np.random.default_rng(0)
    )

    assert (before, within) == (slice(0, 84), slice(84, 98))
    assert found.profit.low < 0.2 < found.profit.high
    assert found.profit.value == pytest.approx(0.2, abs=0.03)


def test_draws_come_back_from_the_log_where_the_price_was_charged(tmp_path: Path) -> None:
    """A shop that asks for apple and cocoa every morning; apple's price is drawn."""
    one, log = drawn(prices={"apple": 10.0}), LogWriter(tmp_path / "segments", url=str(tmp_path))
    for day in DAYS:
        for product in ("apple", "cocoa"):
            asked = request(product, day)
            at = dt.datetime.combine(day, dt.time(6), dt.UTC)
            log.append([LogEntry(asked, answer(asked, Experiments((one,))), at)])
    log.close()
    records = sent(str(tmp_path))
    charged = {(one["product_id"], one["date"]): one["decision"]["recommended_price"] for one in records}
    names = np.array(["apple", "cocoa"])
    price = np.array([[charged[name, str(day)] for day in DAYS] for name in names.tolist()])
    price[0, 4] *= 1.03  # a shop that did otherwise
    sales = panel_of(names, np.array(DAYS, "datetime64[D]"), units=np.full(price.shape, 5.0), price=price)

    draws = find_draws(sales, records)

    expected = [one.deviation("apple", day) for day in DAYS]
    expected[4] = np.nan
    np.testing.assert_allclose(draws.deviation[0], expected, rtol=1e-6)
    assert np.isnan(draws.deviation[1]).all()
    assert (draws.logged, draws.used) == (21, 20)
    assert [find_draws(sales, records, name=name).logged for name in ("spring", "autumn")] == [21, 0]
    late = [{**one, "at": "2026-01-01T00:00:00.000+00:00"} for one in records]
    assert find_draws(sales, late).logged == 0


def decision(day: int, price: float, *, made: int | None = None, plain: bool = False) -> dict[str, Any]:
    """A line of the log for apple, with its draw or without."""
    date, at = (MONDAY + dt.timedelta(days=each) for each in (day, day if made is None else made))
    asked = {"name": "spring", "arm": "draw", "odds": 0.5, "deviation": drawn().deviation("apple", date)}
    return {
        "product_id": "apple", "date": str(date), "at": f"{at}T09:00:00.000+00:00",
        "experiment": None if plain else asked, "decision": {"recommended_price": price},
    }  # fmt: skip


def found_on(price: list[float], *records: dict[str, Any], first: int = 0, period: Period = "day") -> list[int]:
    """The periods, from the first day on, in which apple's recorded prices show a draw."""
    step = 7 if period == "week" else 1
    dates = np.datetime64(MONDAY) + first + step * np.arange(len(price))
    units = np.ones((1, len(price)))
    sales = panel_of(np.array(["apple"]), dates, units=units, price=np.array([price]), period=period)
    return np.flatnonzero(np.isfinite(find_draws(sales, records).deviation[0])).tolist()


def test_a_decision_is_in_force_until_the_next_one_and_a_week_at_most() -> None:
    assert found_on([9.5] * 20, decision(2, 9.5), decision(5, 9.5, plain=True)) == [2, 3, 4]
    assert found_on([9.5] * 20, decision(2, 9.5)) == list(range(2, 9))
    assert found_on([9.5] * 6, decision(1, 9.5), first=3) == [0, 1, 2, 3, 4]
    assert found_on([9.5, 9.5, 8.0, 9.5], decision(0, 9.5)) == [0, 1, 3]


def test_on_a_weekly_panel_a_decision_counts_for_its_week() -> None:
    for asked in (0, 3, 6):
        assert found_on([9.0, 9.5, 9.5], decision(7, 9.5, made=7 + asked), period="week") == [1]
    assert found_on([9.5, 9.5], decision(0, 9.5, made=7), period="week") == []
    middle = (decision(0, 9.5), decision(7, 10.0, made=7), decision(7, 10.5, made=10))
    assert found_on([9.5, 10.2, 10.5], *middle, period="week") == [0]  # its price is a mean of two
