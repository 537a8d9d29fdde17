"""Guardrails: what they leave, which one gives way, and which contradictions the configuration refuses."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from pricing.decision.allowed_prices import AllowedPrices
from pricing.decision.decide import Choices, Policy, decide
from pricing.decision.limits import NUMBER, rules
from pricing.decision.reasons import GAVE_WAY, GUARDRAILS, named
from pricing.demand.grades import PRIOR_ONLY, TESTED
from tests.kit.decision import config, demand, pricing_context, without_guardrail

money = st.floats(0.02, 1e6)
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
)


def interval(guardrails: dict[str, Any], **context: Any) -> tuple[float, float, tuple[str, ...]]:
    """The limits of one request, and what gave way."""
    found = AllowedPrices(config(guardrails=guardrails).decision).limits(pricing_context(**context))
    return float(found.low[0]), float(found.high[0]), tuple(named(int(found.gave_way[0]))["gave_way"])


@pytest.mark.parametrize(
    ("guardrails", "context", "expected"),
    [
        ({}, {}, (7.0, 13.5, ())),
        ({}, {"unit_cost": 8.0}, (8.0, 13.5, ())),
        ({}, {"unit_cost": 8.0, "tax_rate": 0.25}, (10.0, 13.5, ())),
        ({}, {"unit_cost": 20.001}, (20.01, 20.01, ("band",))),
        ({"min_margin": 0.25}, {}, (8.0, 13.5, ())),
        ({"min_margin": 0.25}, {"unit_cost": 12.0}, (12.0, 13.5, ("min_margin",))),
        ({"max_move": 0.05}, {}, (9.5, 10.5, ())),
        ({"max_move": 0.05}, {"current_price": 5.0}, (7.0, 13.5, ("max_move",))),
        ({"max_move": 0.05}, {"current_known": False}, (7.0, 13.5, ())),
        ({"min_days": 7}, {"days_since_change": 6.0}, (10.0, 10.0, ())),
        ({"min_days": 7}, {"days_since_change": 7.0}, (7.0, 13.5, ())),
        ({"min_days": 7}, {"days_since_change": 2.0, "current_price": 20.0}, (7.0, 13.5, ("min_days",))),
        ({"comp_band": [0.9, 1.1]}, {"comp_price": 8.0}, (7.2, 8.8, ())),
        ({"comp_band": [0.9, 1.1]}, {"comp_price": 3.0}, (7.0, 13.5, ("comp_band",))),
        ({"comp_band": [0.9, 1.1], "max_move": 0.05}, {"comp_price": 8.0}, (9.5, 10.5, ("comp_band",))),
        ({"comp_band": [0.9, 1.1], "max_move": 0.05}, {"comp_price": 9.0}, (9.5, 9.9, ())),
        ({}, {"anchor_price": 30.0}, (7.0, 13.5, ("anchor",))),
        ({"seen": 0.1}, {"seen_low": 1.0, "seen_high": 2.0}, (7.0, 13.5, ("seen",))),
        ({"min_advertised": 0.9}, {"is_promo": True}, (9.0, 13.5, ())),
        ({"endings": [0.49, 0.99]}, {}, (7.49, 13.49, ())),
        ({"max_move": 0.01, "endings": [0.49]}, {}, (9.9, 10.1, ("price_rung",))),
        ({"min_days": 7, "endings": [0.49]}, {"days_since_change": 1.0}, (10.0, 10.0, ("price_rung",))),
    ],
)
def test_each_guardrail_cuts_what_the_stronger_ones_left(
    guardrails: dict[str, Any], context: dict[str, Any], expected: tuple[float, float, tuple[str, ...]]
) -> None:
    found = interval(guardrails, **context)

    assert found[:2] == pytest.approx(expected[:2])
    assert found[2] == expected[2]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, (9.0, 11.0, ())),
        ({"current_price": 12.5}, (11.25, 13.0, ())),
        ({"current_price": 1000.0}, (7.0, 13.0, ("max_move",))),
        ({"current_price": 1000.0, "last_price": np.nan}, (7.0, 13.5, ("max_move",))),
        ({"list_price": 20.0}, (9.0, 11.0, ("band",))),
        ({"unit_cost": 20.0}, (20.0, 20.0, ("largest_jump", "band", "max_move"))),
        ({"unit_cost": 12.5, "cost_assumed": True}, (12.5, 13.0, ("max_move",))),
        ({"unit_cost": 20.0, "cost_assumed": True}, (9.0, 11.0, ())),
        ({"anchor_price": 30.0}, (9.0, 11.0, ("anchor",))),
    ],
)
def test_only_a_given_cost_moves_a_price_further_than_the_largest_jump(
    context: dict[str, Any], expected: tuple[float, float, tuple[str, ...]]
) -> None:
    allowed = AllowedPrices(config(guardrails={"max_move": 0.1}).decision, largest_jump=0.3)

    found = allowed.limits(pricing_context(**{"last_price": 10.0, **context}))

    assert (float(found.low[0]), float(found.high[0])) == pytest.approx(expected[:2])
    assert set(named(int(found.gave_way[0]))["gave_way"]) == set(expected[2])


def test_a_price_at_the_end_of_the_largest_jump_says_so() -> None:
    limit = AllowedPrices(config().decision, largest_jump=0.3).limits(pricing_context(last_price=8.0))

    reasons = limit.reasons(np.array([10.4]), stays=np.array([False]))
    assert named(int(reasons[0]))["binds"] == ["largest_jump"]


@given(
    guardrails=GIVING_WAY,
    columns=st.fixed_dictionaries(
        {name: st.floats(0.05, 500) for name in ("list_price", "current_price", "anchor_price", "comp_price")}
        | {"seen_low": st.floats(0.05, 500), "seen_high": st.floats(0.05, 500), "last_price": st.floats(0.5, 50)},
        optional={"days_since_change": st.sampled_from([0.0, 7.0]), "current_known": st.booleans()},
    ),
    cost=st.floats(0.01, 500),
    assumed=st.booleans(),
)
def test_no_number_of_a_request_but_its_cost_moves_a_price_beyond_the_largest_jump(
    guardrails: dict[str, Any], columns: dict[str, Any], cost: float, assumed: bool
) -> None:
    last = columns["last_price"]
    context = pricing_context(**columns, unit_cost=cost, cost_assumed=assumed)

    found = AllowedPrices(config(guardrails=guardrails).decision, largest_jump=0.3).limits(context)

    low, high = float(found.low[0]), float(found.high[0])
    assert assumed or low >= cost * (1 - 1e-9)
    if not assumed and cost > last * 1.3:
        assert cost * (1 - 1e-9) <= low == high <= cost + 0.01
    else:
        assert last * 0.7 - 0.01 <= low <= high <= last * 1.3 + 0.01


@pytest.mark.parametrize(
    ("decision", "named"),
    [
        ({"guardrails": {"band": [1.2, 0.8]}}, ("band", "1.2", "0.8")),
        ({"guardrails": {"comp_band": [1.2, 0.8]}}, ("comp_band",)),
        ({"guardrails": {"min_advertised": 1.5}}, ("min_advertised", "band")),
        ({"guardrails": {"endings": [1.99]}}, ("endings", "ending_unit")),
        ({"guardrails": {"endings": [0.995]}}, ("endings", "price_step")),
        ({"guardrails": {"min_margin": 0.6}}, ("min_margin", "band", "data.margin")),
        ({"guardrails": {"min_margin": 0.3}, "target_margin": {"toys": 0.2}}, ("target_margin", "min_margin", "toys")),
        ({"strategy": "greed"}, ("greed", "margin")),
    ],
)
def test_a_contradictory_configuration_fails_at_load_and_names_both_sides(
    decision: dict[str, Any], named: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as failure:
        config(**decision)

    for name in named:
        assert name in str(failure.value)


def test_guardrails_are_laid_over_one_another_in_the_order_of_their_names() -> None:
    fractions = {"min_margin": 0.1, "min_advertised": 0.8, "max_move": 0.1, "seen": 0.1}
    every = config(guardrails={**fractions, "min_days": 7, "comp_band": [0.9, 1.1]})

    asked = rules(pricing_context(), every.decision.guardrails, largest_jump=0.3)
    laid = [name for name, *_ in asked]

    assert ["cost", *laid, "price_rung"] == list(GUARDRAILS)


@given(
    list_price=money,
    current=money,
    comp=money,
    move=st.floats(0.001, 0.5),
    cost=st.floats(0.05, 0.75),
)
@example(list_price=0.09765625, current=0.125, comp=0.1171875, move=0.5, cost=0.5)
def test_no_guardrail_pushes_a_price_over_the_band_by_rounding(
    list_price: float, current: float, comp: float, move: float, cost: float
) -> None:
    guardrails = {"band": [0.8, 1.1], "max_move": move, "comp_band": [0.9, 1.1]}
    context = pricing_context(
        current_price=current, list_price=list_price, comp_price=comp, unit_cost=list_price * cost
    )

    low, high = list_price * 0.8, list_price * 1.1
    found = AllowedPrices(config(guardrails=guardrails).decision).limits(context)

    if np.floor(high * 100) >= np.ceil(low * 100):  # else no price of whole cents is inside
        assert low * (1 - 1e-9) - 1e-9 <= found.low[0]
        assert found.high[0] <= high * (1 + 1e-9) + 1e-9


PRICES = st.lists(st.integers(200, 3000).map(lambda cents: cents / 100), min_size=6, max_size=6).map(np.array)
SIX = st.fixed_dictionaries(dict.fromkeys(("current_price", "comp_price", "seen_high", "unit_cost"), PRICES))


@given(
    guardrails=GIVING_WAY, six=SIX, threshold=st.sampled_from([0.0, 0.5]),
    grade=st.sampled_from([TESTED, PRIOR_ONLY]), strategy=st.integers(0, 3),
)  # fmt: skip
def test_a_guardrail_that_gave_way_has_no_effect(
    guardrails: dict[str, Any], six: dict[str, Any], threshold: float, grade: int, strategy: int
) -> None:
    """But on draws, whose interval is another one than that of the price before the draw."""
    context = pricing_context(
        **six | {"unit_cost": six["unit_cost"] / 2}, seen_low=0.9 * six["seen_high"], strategy=strategy,
        days_since_change=np.array([0.0, 9.0] * 3), is_promo=np.array([False, False, True] * 2),
        stock=np.array([5.0, np.inf, 100.0] * 2),
    )  # fmt: skip

    def ask(guardrails: dict[str, Any]) -> Choices:
        settings = config(guardrails=guardrails, confidence_threshold=threshold)
        return decide(context, demand([1.5, 2.5, 4.0], grade=grade), Policy(settings.decision))

    chosen = ask(guardrails)

    assert (chosen.price >= context.unit_cost * (1 - 1e-9)).all()
    for name in (*(set(guardrails) & set(NUMBER)), "price_rung"):
        gave_way = (chosen.reasons & GAVE_WAY[name]) > 0
        alone = without_guardrail(guardrails, name)
        if alone == guardrails or not gave_way.any():
            continue
        plain = ask(alone)
        for figure in ("price", "confidence", "low", "high", "units", "kept"):
            ours, theirs = (getattr(one, figure)[gave_way] for one in (chosen, plain))
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}: {figure}")
