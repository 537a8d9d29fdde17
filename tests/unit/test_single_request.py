"""A single request is decided as it is in a batch, whether it was asked before or not."""

import copy
import datetime as dt
import math
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config import Config, load_config
from pricing.decision.detailed import DetailedDecision, summarised
from pricing.decision.pricer import FEW, Pricer
from pricing.decision.request import Decision, PriceRequest, Weekday
from pricing.decision.single_request import SingleRequest
from pricing.demand.curve import Curve, Offer, Single
from pricing.demand.model import DemandModel
from pricing.registry.version import LoadedVersion, load
from tests.kit.decision import config, without_guardrail
from tests.kit.versions import shared_version

STRATEGIES = ("margin", "revenue", "clearance", "match")
GUARDRAILS: list[dict[str, Any]] = [
    {},
    {"min_margin": 0.35, "max_move": 0.04},
    {"min_advertised": 0.95, "min_days": 9},
    {"comp_band": [0.97, 1.03], "max_move": 0.1},
    {"band": [0.999, 1.001]},
    {"endings": [0.49, 0.99]},
    {"largest_jump": 0.06, "max_move": 0.1},
]


@cache
def version() -> LoadedVersion:
    return load(shared_version(), check=False)


@cache
def pricer(number: int) -> Pricer:
    return guarded(GUARDRAILS[number])


def guarded(guardrails: dict[str, Any], **decision: Any) -> Pricer:
    """What prices with these guardrails, the largest jump among them."""
    ours = {name: value for name, value in guardrails.items() if name != "largest_jump"}
    return of(config(guardrails=ours, **decision), largest_jump=guardrails.get("largest_jump"))


def of(settings: Config, *, largest_jump: float | None = None) -> Pricer:
    return version().pricer(version="7", config=settings, largest_jump=largest_jump)


def day(later: int) -> dt.date:
    return version().demand.state_date + dt.timedelta(days=later)


def ask(place: int = 0, **fields: Any) -> PriceRequest:
    values = {"product_id": str(version().demand.product_ids[place]), "current_stock": 40, "day_of_week": "Friday"}
    return PriceRequest(**{**values, **fields})


def agree(single: DetailedDecision, batch: DetailedDecision) -> bool:
    """Whether two decisions are one; two prices may differ when they earn the same in single precision."""
    ours, theirs = single.decision, batch.decision
    standing = single.current_price or single.list_price
    moved = abs(math.log(ours.recommended_price / standing)) or 1.0
    nothing = 1e-3 if ours.expected_margin == 0 else 0.0  # at cost, where confidence compares differences of nothing
    numbers = [
        (getattr(one, name), getattr(other, name))
        for one, other, names in (
            (ours, theirs, ("recommended_price", "expected_units", "expected_margin")),
            (single, batch, ("current_price", "list_price", "unit_cost")),
        )
        for name in names
    ]
    numbers += zip(ours.price_range, theirs.price_range, strict=True)
    for name in ("candidate_prices", "candidate_units", "candidate_sizes"):
        numbers += zip(getattr(single, name), getattr(batch, name), strict=True)
    words = ("source", "reasons", "strategy", "model_version")
    return (
        all(one == other or math.isclose(one, other, rel_tol=5e-5, abs_tol=2e-4) for one, other in numbers)
        # A confidence about prices that hardly differ hangs on the last digits of single precision.
        and math.isclose(ours.confidence, theirs.confidence, abs_tol=2e-4 + 1e-6 / max(moved, 1e-4) + nothing)
        and [getattr(ours, word) for word in words] == [getattr(theirs, word) for word in words]
        and (single.date, single.category) == (batch.date, batch.category)
    )


def both(
    by: Pricer, request: PriceRequest, *, today: dt.date, held: bool = False
) -> tuple[DetailedDecision, DetailedDecision]:
    products = held_of(request, held)
    return by.price_detailed([request], today=today, held=products)[0], by._together([request], today, products)[0]


def held_of(request: PriceRequest, held: bool) -> set[str]:
    return {request.product_id} if held else set()


def decides(by: Pricer, request: PriceRequest, *, today: dt.date) -> bool:
    """Whether the request is really decided by itself, not as a batch of one."""
    assert by._single is not None
    with np.errstate(all="ignore"):
        prepared = by._single.prepare(by._resolver.resolve_one(request, today=today))
        return prepared is not None and by._single.choose(prepared, request.current_stock) is not None


@settings(deadline=None)  # the first example builds a version
@given(
    number=st.integers(0, len(GUARDRAILS) - 1),
    later=st.integers(0, 300),
    place=st.integers(0, 11),
    fields=st.fixed_dictionaries(
        {
            "current_stock": st.sampled_from([0, 0.5, 1, 5, 40, 300, 5000]),
            "day_of_week": st.sampled_from(get_args(Weekday)),
            "is_promo": st.booleans(),
            "strategy": st.sampled_from(STRATEGIES),
        },
        optional={
            "comp_price": st.floats(0.5, 30),
            "current_price": st.floats(0.5, 30).map(lambda price: round(price, 2)),
            "list_price": st.floats(0.5, 30),
            "unit_cost": st.floats(0.1, 30),
            "is_holiday": st.booleans(),
        },
    ),
    held=st.booleans(),
)
def test_a_single_request_is_decided_as_in_a_batch(
    number: int, later: int, place: int, fields: dict[str, Any], held: bool
) -> None:
    by = pricer(number)
    single, batch = both(by, ask(place, **fields), today=day(later), held=held)

    if single.decision.recommended_price != batch.decision.recommended_price:  # a tie in single precision
        strategy = by.policy.strategies[fields["strategy"]]
        assert strategy.only_units
        kept = getattr(strategy, "kept_value", 0.0)
        ours, theirs = (
            answer.decision.expected_units * (answer.decision.recommended_price - kept * answer.unit_cost)
            for answer in (single, batch)
        )
        assert ours == pytest.approx(theirs, rel=1e-4)
    else:
        assert agree(single, batch)


FAR = {"current_price": st.floats(0.4, 2.5), "comp_price": st.floats(0.4, 2.5), "unit_cost": st.floats(0.2, 2.0)}


@settings(deadline=None)  # as above
@given(
    guardrails=st.fixed_dictionaries(
        {},
        optional={
            "min_margin": st.sampled_from([0.1, 0.4]),
            "min_advertised": st.sampled_from([0.8, 1.1]),
            "min_days": st.just(9),
            "max_move": st.sampled_from([0.001, 0.05, 0.2]),
            "seen": st.sampled_from([0.0, 0.1]),
            "comp_band": st.sampled_from([[0.9, 1.1], [0.999, 1.001]]),
            "largest_jump": st.sampled_from([0.02, 0.3]),
        },
    ),
    place=st.integers(0, 11),
    ratios=st.fixed_dictionaries({}, optional=FAR),
    is_promo=st.booleans(),
    threshold=st.sampled_from([0.15, 0.9]),
)
def test_a_guardrail_that_gave_way_has_no_effect_on_a_single_request_nor_in_a_batch(
    guardrails: dict[str, Any], place: int, ratios: dict[str, float], is_promo: bool, threshold: float
) -> None:
    listed = float(version().facts.list_price[place])
    fields = {name: max(round(listed * ratio, 2), 0.01) for name, ratio in ratios.items()}
    request = ask(place, is_promo=is_promo, **fields)

    def priced(guardrails: dict[str, Any]) -> tuple[Decision, Decision]:
        by = guarded(guardrails, confidence_threshold=threshold)
        assert decides(by, request, today=day(1))
        single, batch = both(by, request, today=day(1))
        return single.decision, batch.decision

    found = priced(guardrails)

    for name in guardrails:
        if name != "largest_jump" and f"gave_way_{name}" in found[0].reasons:  # that one leaves the cost as the price
            for ours, theirs in zip(found, priced(without_guardrail(guardrails, name)), strict=True):
                assert ours.model_dump(exclude={"decision_id", "reasons"}) == theirs.model_dump(
                    exclude={"decision_id", "reasons"}
                )
                assert [reason for reason in ours.reasons if reason != f"gave_way_{name}"] == theirs.reasons


def test_hardly_any_price_differs() -> None:
    rng = np.random.default_rng(3)
    found = [
        both(
            pricer(int(rng.integers(5))),
            ask(
                int(rng.integers(12)),
                current_stock=float(rng.choice([0, 3, 30, 300])),
                comp_price=round(float(rng.uniform(1, 20)), 2),
                is_promo=bool(rng.random() < 0.5),
                strategy=str(rng.choice(STRATEGIES)),
            ),
            today=day(int(rng.integers(0, 60))),
        )
        for _ in range(400)
    ]

    assert sum(not agree(*pair) for pair in found) <= 2


@pytest.mark.parametrize(
    "fields",
    [
        {"product_id": "unknown", "list_price": 5.0, "category": "whatever"},
        {"strategy": "match", "comp_price": 3.0},
    ],
    ids=["an unknown product", "a strategy with more to it than a margin"],
)
def test_what_cannot_be_decided_singly_is_decided_as_a_batch(fields: dict[str, Any]) -> None:
    assert not decides(pricer(0), ask(**fields), today=day(1))
    assert agree(*both(pricer(0), ask(**fields), today=day(1)))


@pytest.mark.parametrize(
    "settings",
    [
        {"guardrails": {"endings": [0.49, 0.99]}},
        {"guardrails": {"ladder": [2.0, 4.0, 6.0, 8.0, 10.0, 15.0]}},
    ],
    ids=["endings", "a ladder"],
)
def test_a_configuration_that_needs_the_batchs_way_gets_it(settings: dict[str, Any]) -> None:
    by = of(config(**settings))

    assert not decides(by, ask(), today=day(1))
    assert agree(*both(by, ask(), today=day(1)))


@pytest.mark.parametrize("strategy", ["margin", "clearance"])
def test_a_target_margin_draws_the_price_of_a_single_request_as_in_a_batch(strategy: str) -> None:
    by = of(config(target_margin=dict.fromkeys(map(str, version().demand.categories[:2]), 0.55)))
    free = pricer(0)

    pairs = [both(by, ask(place, strategy=strategy, current_stock=300), today=day(1)) for place in range(12)]

    assert all(agree(*pair) for pair in pairs)
    assert decides(by, ask(strategy=strategy), today=day(1))
    drawn = [
        single.decision.recommended_price
        != both(free, ask(place, strategy=strategy, current_stock=300), today=day(1))[0].decision.recommended_price
        for place, (single, _) in enumerate(pairs)
    ]
    assert any(drawn) is (strategy == "margin")


def test_a_request_asked_again_is_answered_as_if_it_were_new() -> None:
    rng = np.random.default_rng(11)
    asked = [
        (
            ask(
                int(rng.integers(12)),
                current_stock=float(rng.choice([0, 0.5, 3, 30, 300, 1e6])),
                is_promo=bool(rng.random() < 0.3),
                strategy=str(rng.choice(STRATEGIES)),
                **({"comp_price": round(float(rng.uniform(1, 20)), 1)} if rng.random() < 0.5 else {}),
                **({"current_price": round(float(rng.uniform(1, 20)), 1)} if rng.random() < 0.3 else {}),
                **({"is_holiday": bool(rng.random() < 0.5)} if rng.random() < 0.3 else {}),
            ),
            day(int(rng.integers(0, 9))),
            bool(rng.random() < 0.2),
        )
        for _ in range(150)
    ]
    by = version().pricer(version="7", config=config(guardrails={"max_move": 0.2}))

    for place in rng.permutation(np.repeat(np.arange(len(asked)), 3)):
        request, today, held = asked[place]
        for stock in (request.current_stock, 5.0):
            again = request.model_copy(update={"current_stock": stock})
            new = Pricer(by._demand, version().facts, config(guardrails={"max_move": 0.2}), version="7")

            found, fresh = (one.price_detailed([again], today=today, held=held_of(again, held))[0] for one in (by, new))

            same_id = fresh.decision.model_copy(update={"decision_id": found.decision.decision_id})
            assert found == fresh._replace(decision=same_id)


class CountedDemand:
    """A demand of single requests that counts how often it was worked out."""

    def __init__(self, demand: Single) -> None:
        self.demand, self.calls = demand, 0

    @property
    def weight(self) -> np.ndarray:
        return self.demand.weight

    def curve(self, offer: Offer, prices: np.ndarray) -> Curve | None:
        self.calls += 1
        return self.demand.curve(offer, prices)


@pytest.fixture
def counted() -> tuple[Pricer, CountedDemand]:
    """A pricer with nothing in its cache, and how often its demand was worked out."""
    by = of(config())
    single = version().demand.single(candidates=by.policy.config.candidates)
    assert single is not None
    demand = CountedDemand(single)
    by._single = SingleRequest(demand, by.policy, summary=summarised(by.policy.config.candidates))
    return by, demand


def test_another_stock_does_not_have_the_demand_worked_out_again(counted: tuple[Pricer, CountedDemand]) -> None:
    by, demand = counted

    for stock in (1e6, 5.0, 0.0, 40.0):
        by.price([ask(current_stock=stock)], today=day(1))

    assert demand.calls == 1


@pytest.mark.parametrize(
    ("other", "later"),
    [
        ({"comp_price": 3.0}, 1),
        ({"is_promo": True}, 1),
        ({"unit_cost": 0.5}, 1),
        ({"current_price": 4.0}, 1),
        ({"strategy": "clearance"}, 1),
        ({"day_of_week": "Monday"}, 1),
        ({}, 8),
    ],
)
def test_whatever_else_is_asked_otherwise_has_the_demand_worked_out_again(
    counted: tuple[Pricer, CountedDemand], other: dict[str, Any], later: int
) -> None:
    by, demand = counted
    by.price([ask()], today=day(1))

    by.price([ask(**other)], today=day(later))

    assert demand.calls == 2


def test_only_the_requests_last_asked_are_kept(
    counted: tuple[Pricer, CountedDemand], monkeypatch: pytest.MonkeyPatch
) -> None:
    by, demand = counted
    monkeypatch.setattr("pricing.decision.pricer.PREPARED", 2)

    for place in (0, 1, 0, 2, 0, 1):  # 2 displaces 1, which was asked longest ago
        by.price([ask(place)], today=day(1))

    assert len(by._prepared) == 2
    assert demand.calls == 4


def test_a_day_beyond_the_calendar_is_decided_as_a_batch() -> None:
    today = day(len(version().demand.holidays) + 30)

    assert not decides(pricer(0), ask(date=today, day_of_week=get_args(Weekday)[today.weekday()]), today=today)


def test_ordinary_requests_are_decided_singly() -> None:
    assert decides(pricer(0), ask(is_promo=True, comp_price=3.0), today=day(1))


def unsound(fault: str) -> DemandModel:
    """The version's demand, damaged: an elasticity that is no number, or heads beyond what numbers reach."""
    demand = version().demand
    if fault == "nan":
        norms = replace(demand.norms, elasticity=np.full_like(demand.norms.elasticity, np.nan))
        return replace(demand, norms=norms)
    name, number = fault.split()
    value = np.full_like(demand.weights[f"heads/{name}"], float(number))
    return replace(demand, weights={**demand.weights, f"heads/{name}": value})


@pytest.mark.parametrize("fault", ["nan", "bias 800", "bias -800", "kernel 800", "kernel -800"])
def test_figures_beyond_all_numbers_leave_the_answer_to_the_batchs_way_or_the_rules(fault: str) -> None:
    broken = Pricer(unsound(fault), version().facts, load_config(), version="7")

    (single, batch) = (one.decision for one in both(broken, ask(), today=day(1)))

    assert not decides(broken, ask(), today=day(1))
    assert single.model_copy(update={"decision_id": batch.decision_id}) == batch
    assert math.isfinite(single.recommended_price)
    if "-" not in fault:  # no demand at all is an answer, too much of it is none
        assert single.source == "rule"
        assert "model_failed" in single.reasons


def test_a_weekly_version_decides_singly_as_in_a_batch() -> None:
    demand = replace(version().demand, period="week")
    facts = replace(version().facts, period="week")
    by = Pricer(demand, facts, load_config(), version="7")

    for place in range(12):
        assert agree(*both(by, ask(place, current_stock=12, is_promo=True), today=day(2)))


@pytest.mark.parametrize("doubt", [0.0, 0.1])
def test_an_assumed_cost_keeps_the_lowest_price_charged_as_a_floor_whatever_the_doubt_about_it(doubt: float) -> None:
    settings = config(guardrails={"seen": 0.1}, strategy="clearance", confidence_threshold=0.0)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"margin_sd": doubt})})
    facts = version().facts
    facts = replace(facts, cost_assumed=np.ones(12, bool), unit_cost=facts.price / 3, seen_low=0.99 * facts.price)
    by = Pricer(version().demand, facts, settings, version="7")
    floor = math.ceil(99 * facts.price[0] - 1e-6) / 100
    requests = [ask(current_stock=1e5), ask(current_stock=1e5, unit_cost=float(facts.unit_cost[0]))]

    for request, known in zip(requests, (False, True), strict=True):
        single, batch = both(by, request, today=day(1))

        assert decides(by, request, today=day(1))
        assert agree(single, batch)
        assert (single.decision.recommended_price < floor) is known
        assert ("cost_assumed" in single.decision.reasons) is not known


def test_a_few_requests_come_in_order_each_as_if_single() -> None:
    asked = [ask(place, current_stock=10 * place) for place in range(FEW)]

    together = pricer(0).price_detailed(asked, today=day(1))

    for request, found in zip(asked, together, strict=True):
        assert agree(found, both(pricer(0), request, today=day(1))[0])


def test_deciding_a_single_request_changes_nothing_that_requests_share() -> None:
    reader = version().demand._reader
    before = copy.deepcopy((reader.own, reader.days, reader.parameters.profile, reader.shift, reader.answer))

    pricer(0).price([ask(is_holiday=True, is_promo=True, comp_price=2.0)], today=day(1))

    for old, new in zip(
        before, (reader.own, reader.days, reader.parameters.profile, reader.shift, reader.answer), strict=True
    ):
        np.testing.assert_array_equal(old, new)
