"""Prices that wait for a person's approval: what is charged meanwhile, and what a word of somebody else forbids."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.steps.decisions import as_frame, decide
from pricing.config import load_config
from pricing.decision.explanation import explain
from pricing.decision.pricer import Pricer
from pricing.decision.request import DetailedDecision
from pricing.decision.switches import NO_SWITCHES, Control, Review, Switches, parse_control
from pricing.errors import ConflictError
from tests.kit.control import NIGHT, SAID, approve, freeze, override, table
from tests.kit.decision import ask
from tests.kit.versions import loaded_version, product_names

TODAY = dt.date(2023, 8, 1)
PRODUCTS = product_names()


def pricer(beyond: float | None, **facts: Any) -> Pricer:
    """Prices by the shared version, some columns of its facts replaced."""
    decision = load_config().decision.model_copy(update={"approve_beyond": beyond})
    version = replace(loaded_version(), facts=replace(loaded_version().facts, **facts))
    return version.pricer(version="7", config=load_config().model_copy(update={"decision": decision}))


REQUESTS = [ask(product, current_stock=150) for product in PRODUCTS]
PLAIN = pricer(None).price_detailed(REQUESTS, today=TODAY)


def moved() -> tuple[int, DetailedDecision]:
    """The product whose proposal lies furthest from the current price, and its proposal."""
    far = [abs(one.decision.recommended_price / (one.current_price or 1) - 1) for one in PLAIN]
    place = far.index(max(far))
    return place, PLAIN[place]


def priced(switches: Switches, *, beyond: float | None = 0.02) -> list[DetailedDecision]:
    return pricer(beyond).price_detailed(REQUESTS, today=TODAY, switches=switches)


@pytest.mark.parametrize("beyond", [0.0, 0.02, 0.06])
def test_nobody_sees_a_move_of_more_than_that_before_a_person_approved_it(beyond: float) -> None:
    for plain, answer in zip(PLAIN, priced(NO_SWITCHES, beyond=beyond), strict=True):
        current, proposed = plain.current_price or 0.0, plain.decision.recommended_price
        waits = abs(proposed / current - 1) > beyond + 1e-9
        assert answer.decision.recommended_price == pytest.approx(current if waits else proposed)
        assert ("awaiting_approval" in answer.decision.reasons) == waits
        assert (answer.proposed is None) != waits
        if answer.proposed is not None:
            assert answer.proposed.recommended_price == proposed
            assert answer.decision.expected_units > 0
            assert answer.decision.expected_gain is not None
            assert answer.decision.expected_gain.mean == 0
    assert max(abs(one.decision.recommended_price / (one.current_price or 1) - 1) for one in PLAIN) > 0.06


def test_a_cost_that_is_only_assumed_moves_no_price_that_nobody_approved() -> None:
    facts = loaded_version().facts
    by = pricer(0.0, cost_assumed=np.ones_like(facts.cost_assumed), unit_cost=facts.list_price * 1.2)

    answers = by.price_detailed(REQUESTS, today=TODAY)

    waiting = [answer for answer in answers if answer.proposed is not None]
    assert waiting
    assert [one.decision.recommended_price for one in waiting] == [one.current_price for one in waiting]


def test_an_approved_price_counts_until_a_proposal_further_away_is_approved() -> None:
    place, plain = moved()
    product, proposed = PRODUCTS[place], plain.decision.recommended_price
    near, far = round(proposed * 1.01, 2), round(proposed * 1.15, 2)

    charged = [
        priced(Switches((), {product: price}))[place].decision.recommended_price for price in (proposed, near, far)
    ]

    assert charged == [proposed, proposed, far]


def test_an_approved_price_below_cost_is_raised_to_it() -> None:
    place, plain = moved()

    answer = priced(Switches((), {PRODUCTS[place]: 0.01}))[place].decision

    assert answer.recommended_price == pytest.approx(plain.unit_cost, abs=0.01)
    assert answer.recommended_price >= plain.unit_cost
    assert ("awaiting_approval" in answer.reasons, answer.binds) == (True, ["cost"])


def test_a_freeze_and_an_override_count_above_an_approval() -> None:
    place, _ = moved()
    product = PRODUCTS[place]

    by_override = priced(Switches((override(3.21, product, below_cost=True),), {product: 2.5}))[place].decision
    frozen = priced(Switches((freeze("product", product),), {product: 2.5}))[place].decision

    assert (by_override.recommended_price, "overridden" in by_override.reasons) == (3.21, True)
    assert "frozen" in frozen.reasons
    assert "awaiting_approval" not in (*by_override.reasons, *frozen.reasons)


def test_the_steps_of_a_price_that_waits_add_up_to_it() -> None:
    place, _ = moved()

    found = explain(REQUESTS[place], pricer(0.02), today=TODAY)

    assert found.drivers[-1].name == "approval"
    assert found.baseline_value + sum(one.effect for one in found.drivers) == pytest.approx(found.value)


def test_a_table_has_what_may_be_charged_beside_the_proposal_and_its_figures() -> None:
    control = Control(Switches((), {PRODUCTS[0]: 9.0}))
    answers = decide(pricer(0.02), REQUESTS, today=TODAY, control=control)

    frame = as_frame(zip(REQUESTS, answers, strict=True))

    plain = as_frame(zip(REQUESTS, PLAIN, strict=True))
    waits = frame["reasons"].str.contains("awaiting_approval")
    assert (bool(waits.any()), bool(waits.all())) == (True, False)
    assert frame["recommended_price"][0] == 9.0
    assert (frame["recommended_price"] != frame["proposed_price"]).tolist() == waits.tolist()
    for column in ("proposed_price", "expected_gain", "gain_low", "confidence", "expected_units"):
        assert frame[column].tolist() == plain[column].tolist()


def test_the_mirror_has_the_newest_approval_of_each_product_and_a_rejection_ends_none(tmp_path: Path) -> None:
    record = table(tmp_path)
    record.append(approve({"tea": 4.0, "milk": 1.0}, by="ann"))
    record.append(approve({"tea": 4.5}, by="bob"), Review(verdict="reject", prices={"milk": 1.2}, **SAID))

    control = record.mirror(now=NIGHT)

    assert control.switches.approved == {"tea": 4.5, "milk": 1.0}
    assert parse_control(control.to_json()).switches.at(NIGHT).approved == {"tea": 4.5, "milk": 1.0}
    assert [(entry.who, entry.kind) for entry in record.entries(after=1)] == [("bob", "verdict"), ("ops", "verdict")]


def test_approved_prices_that_cannot_be_read_are_named() -> None:
    found = parse_control(Control().to_json().replace(b'"sequence"', b'"approved": {"tea": "dear"}, "sequence"'))

    assert (found.switches.approved, len(found.unread)) == ({}, 1)


def test_what_somebody_else_said_meanwhile_is_not_overruled(tmp_path: Path) -> None:
    record = table(tmp_path)
    record.append(approve({"tea": 4.0, "milk": 1.0}, by="ann"), seen=0)

    with pytest.raises(ConflictError) as refused:
        record.append(approve({"tea": 5.0, "bread": 2.0}, by="bob"), seen=0)
    record.append(approve({"bread": 2.0}, by="bob"), seen=0)
    record.append(freeze("product", "tea"), seen=2)
    with pytest.raises(ConflictError):
        record.append(approve({"tea": 5.0}), seen=2)

    assert list(refused.value.changed) == ["tea"]
    assert "ann" in refused.value.changed["tea"]
    assert record.control().switches.approved == {"milk": 1.0, "bread": 2.0}, "a word on tea alone ends its approval"
