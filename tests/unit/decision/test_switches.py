"""Switches of a person: what counts for a product, and what is charged under it."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pricing.config import load_config
from pricing.decision.experiments import Arm, Experiment, Experiments
from pricing.decision.pricer import Pricer
from pricing.decision.request import Decision, PriceRequest
from pricing.decision.switches import NO_SWITCHES, Switch, Switches
from tests.kit import control as kit
from tests.kit.control import NIGHT, freeze
from tests.kit.decision import ask
from tests.kit.versions import loaded_version, product_names, shared_panel

MORNING = NIGHT + dt.timedelta(hours=5)
TODAY = dt.date(2023, 8, 1)
CATEGORY = str(shared_panel().categories[0])
PRODUCTS = product_names()


def override(price: float, scope: Any = "product", name: str = PRODUCTS[0], **more: Any) -> Switch:
    return kit.override(price, name, scope=scope, at=NIGHT, until=MORNING, **more)


@pytest.fixture(scope="module")
def pricer() -> Pricer:
    return loaded_version().pricer(version="7")


def request(product: str = PRODUCTS[0], **more: Any) -> PriceRequest:
    return ask(product, **{"current_stock": 150} | more)


def priced(pricer: Pricer, switches: Switches, *requests: PriceRequest, **more: Any) -> list[Decision]:
    return [one.decision for one in pricer.price_detailed(requests, today=TODAY, switches=switches, **more)]


def test_the_narrowest_switch_counts_and_of_the_same_scope_the_last() -> None:
    everything, category, product = freeze(), override(5, "category", "drinks"), freeze("product", "tea")
    later = override(9, "category", "drinks")

    switches = Switches([product, everything, category, later])

    assert switches.of("tea", category="drinks") is product
    assert switches.of("cola", category="drinks") is later
    assert switches.of("bread", category="bakery") is everything
    assert switches.of("bread", category="") is everything
    assert Switches([category]).of("bread", category="") is None
    assert len(switches) == 3
    assert [one.action for one in switches.at(MORNING)] == ["freeze", "freeze"]
    assert switches.at(NIGHT) is switches


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "override", "price": 5.0, "until": None},
        {"action": "override", "price": -5.0},
        {"action": "freeze", "price": None, "below_cost": True},
        {"scope": "all"},
        {"reason": ""},
        {"until": dt.datetime(2026, 3, 2)},
    ],
)
def test_a_switch_that_contradicts_itself_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Switch.model_validate({**override(5).model_dump(), **wrong})


@pytest.mark.parametrize(("current", "charged"), [(5.0, 7.0), (20.0, 13.5), (9.37, 9.37)])
def test_a_frozen_price_is_kept_inside_cost_and_the_band_around_list_price(
    pricer: Pricer, current: float, charged: float
) -> None:
    asked = request("stranger", current_price=current, list_price=10.0, unit_cost=4.0)

    (frozen,) = priced(pricer, Switches([freeze()]), asked)
    (below,) = priced(pricer, Switches([freeze()]), asked.model_copy(update={"unit_cost": 12.5, "current_price": 9.0}))

    assert frozen.recommended_price == charged
    assert below.recommended_price == 12.5


@pytest.mark.parametrize(
    ("asked", "charged"),
    [
        ({"current_price": 499.0, "list_price": 499.0}, 4.99),  # a typo, or a night in another unit
        ({"current_price": 499.0}, 4.99),
        ({"current_price": 5.99, "list_price": 5.99}, 5.99),
        ({"current_price": 5.99, "list_price": 499.0}, 5.99),
        ({"current_price": 6.80, "list_price": 5.99}, 4.99),
        ({"current_price": 499.0, "list_price": 499.0, "unit_cost": 5.5}, 5.5),
        ({"current_price": 499.0, "list_price": 499.0, "unit_cost": 9.0}, 9.0),  # a cost beyond the jump
    ],
)
def test_a_frozen_price_keeps_the_largest_jump(asked: dict[str, Any], charged: float) -> None:
    version = loaded_version()
    facts = replace(version.facts, last_price=np.full(len(PRODUCTS), 4.99))
    pricer = Pricer(version.demand, facts, load_config(), version="7", largest_jump=0.3)

    (frozen,) = priced(pricer, Switches([freeze()]), request(**{"list_price": 4.99, "unit_cost": 2.0, **asked}))

    assert frozen.recommended_price == pytest.approx(charged)
    assert "frozen" in frozen.reasons


def test_no_soft_guardrail_moves_a_frozen_price() -> None:
    config = load_config()
    soft = {"comp_band": (0.95, 1.05), "endings": [0.99], "min_margin": 0.5, "max_move": 0.01, "min_days": 400}
    guardrails = config.decision.guardrails.model_copy(update=soft)
    decision = config.decision.model_copy(update={"guardrails": guardrails})
    version = loaded_version()
    pricer = version.pricer(version="7", config=version.config.model_copy(update={"decision": decision}))
    asked = request("stranger", current_price=9.37, list_price=10.0, unit_cost=6.0, comp_price=2.0, category=CATEGORY)

    (frozen,), (free,) = priced(pricer, Switches([freeze()]), asked), priced(pricer, NO_SWITCHES, asked)

    assert frozen.recommended_price == 9.37
    assert free.recommended_price != 9.37


def test_a_freeze_goes_before_experiments_and_strategies(pricer: Pricer) -> None:
    arms = Arm("draw", share=0.5, size=0.05), Arm("keep", share=0.5)
    draw = Experiment("s", dt.date(2023, 7, 31), 6, arms, {PRODUCTS[0]: "draw"}, prices={PRODUCTS[0]: 9.0})
    keep = Experiment("s", dt.date(2023, 7, 31), 6, arms, {PRODUCTS[0]: "keep"})
    asked = [request(strategy="clearance", current_stock=1e6, current_price=3.0, list_price=3.0)]

    for one in (draw, keep):
        given: dict[str, Any] = {"experiments": Experiments((one,)), "switches": Switches([freeze()])}
        (answer,) = pricer.price_detailed(asked, today=TODAY, **given)

        assert answer.decision.recommended_price == 3.0
        assert "frozen" in answer.decision.reasons
        assert {"holdout", "price_test"}.isdisjoint(answer.decision.reasons)
        assert answer.experiment is None


def test_an_override_is_charged_as_it_was_given_whatever_the_guardrails(pricer: Pricer) -> None:
    asked = request(current_price=3.0, list_price=3.0, unit_cost=1.0, comp_price=1.0)

    (answer,) = priced(pricer, Switches([override(29.99)]), asked)

    assert (answer.recommended_price, answer.price_range, answer.source) == (29.99, (29.99, 29.99), "override")
    assert answer.confidence == 1.0
    assert answer.expected_margin == pytest.approx(answer.expected_units * 28.99)
    assert "overridden" in answer.reasons
    assert (answer.binds, answer.gave_way) == ([], [])
    assert answer.expected_units == pytest.approx(pricer.demand_at([asked], [29.99], today=TODAY)[0])
    few = asked.model_copy(update={"current_stock": 0.01})
    assert priced(pricer, Switches([override(2.5)]), few)[0].expected_units == 0.01


@pytest.mark.parametrize(
    ("given", "cost", "forced", "charged"),
    [
        (4.994, 1.0, False, 4.99),
        (4.995, 1.0, False, 5.0),
        (6.004, 6.0041, False, 6.01),
        (5.0, 5.8500000000000005, False, 5.85),  # what 35 % off 9 makes in floating point
        (0.004, 1.0, True, 0.01),
    ],
)
def test_an_override_is_charged_in_whole_steps_and_not_below_cost(
    pricer: Pricer, given: float, cost: float, forced: bool, charged: float
) -> None:
    asked = request(current_price=9.0, list_price=9.0, unit_cost=cost)

    (answer,) = priced(pricer, Switches([override(given, below_cost=forced)]), asked)

    assert (answer.recommended_price, answer.price_range) == (charged, (charged, charged))
    assert ("below_cost" in answer.reasons) is forced
    by_rule = Pricer(None, None, load_config(), version="none")  # where no version is loaded
    assert priced(by_rule, Switches([override(given, below_cost=forced)]), asked)[0].recommended_price == charged


def test_a_category_is_that_of_the_history_else_that_of_the_request(pricer: Pricer) -> None:
    switches = Switches([override(9.99, "category", CATEGORY)])
    known = next(product for product, name in zip(PRODUCTS, shared_panel().categories, strict=True) if name == CATEGORY)

    sources = [
        one.source
        for one in priced(
            pricer, switches, request(known), request("stranger", category=CATEGORY),
            request("stranger", list_price=5.0), request(known, category="elsewhere"),
        )
    ]  # fmt: skip

    assert [source == "override" for source in sources] == [True, True, False, True]


def test_a_cost_that_is_only_assumed_raises_no_price_that_a_person_gave() -> None:
    by_rule = Pricer(None, None, load_config(), version="none")  # knows no cost
    asked = request(current_price=4.0, list_price=20.0)

    (answer,) = priced(by_rule, Switches([override(4.5)]), asked)

    assert answer.recommended_price == 4.5
    assert {"cost_assumed", "below_cost", "overridden"} <= set(answer.reasons)
