"""The console shows what the service charges: one rule on approvals, freezes and prices that people give."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from console.worklist import STATES, Worklist, read_table
from pipelines.steps.decisions import as_frame
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.switches import NO_SWITCHES, Switch, Switches
from pricing.registry.control import Heard
from tests.kit.console import packed, price_table
from tests.kit.control import NIGHT, freeze, override
from tests.kit.decision import TODAY, ask, facts, pricer

PRODUCTS = ("apple", "bread", "cocoa")
CENTS = st.integers(300, 3000).map(lambda cents: cents / 100)
MONEY = st.one_of(CENTS, st.floats(1.0, 40.0))


def alike(known: dict[str, Any]) -> ProductFacts:
    """Facts of three products that are the same of all."""
    return facts(**{name: np.broadcast_to(np.asarray(value), 3).copy() for name, value in known.items()})


def both(by: Pricer, switches: Switches, known: ProductFacts) -> tuple[list[Any], Worklist]:
    """What the service answers for every product, and the console's table of the proposals before anybody's word."""
    requests = [ask(product) for product in PRODUCTS]
    proposals = by.price_detailed(requests, today=TODAY)
    proposed = [one._replace(decision=one.proposed, proposed=None) if one.proposed else one for one in proposals]
    frame = as_frame(zip(requests, proposed, strict=True)).assign(name="", step="")
    table = read_table(packed(frame), key="1", made=NIGHT)
    standing = table.standing(Heard(), switches, policy=by.policy, facts=known)
    return by.price_detailed(requests, today=TODAY, switches=switches), standing


COLUMNS = st.fixed_dictionaries(
    {
        "price": st.just(np.nan) | MONEY,
        "list_price": MONEY,
        "unit_cost": st.just(np.nan) | MONEY,
        "cost_assumed": st.booleans(),
        "last_price": st.just(np.nan) | CENTS,
        "anchor_price": st.just(np.nan) | CENTS,
        "tax_rate": st.sampled_from([0.0, 0.19]),
    }
)
SWITCHES = st.sampled_from(
    [
        [],
        [freeze("all")],
        [freeze("category", "fruit"), freeze("product", "cocoa")],
        [override(4.996, "apple"), override(0.5, "bread", below_cost=True)],
        [freeze("all"), override(50.0, "cocoa")],
    ]
)


@given(
    columns=COLUMNS,
    said=SWITCHES,
    approved=st.dictionaries(st.sampled_from(PRODUCTS), MONEY),
    beyond=st.sampled_from([None, 0.0, 0.05, 0.2]),
    jump=st.sampled_from([None, 0.3]),
    step=st.sampled_from([0.01, 0.05, 1.0]),
    endings=st.booleans(),
)
@example(
    columns={"price": 10.004, "list_price": 10.0, "unit_cost": 6.0},
    said=[],
    approved={},
    beyond=0.0,
    jump=None,
    step=0.01,
    endings=False,
)
def test_the_console_shows_what_the_service_charges(
    columns: dict[str, Any],
    said: list[Switch],
    approved: dict[str, float],
    beyond: float | None,
    jump: float | None,
    step: float,
    endings: bool,
) -> None:
    guardrails = {"max_move": 0.1, "endings": [0.0] if endings else []}
    known = alike(columns)
    by = pricer(known, jump=jump, approve_beyond=beyond, price_step=step, guardrails=guardrails)

    answers, table = both(by, Switches(said, approved), known)

    assert table.number["charged"].tolist() == [one.decision.recommended_price for one in answers]
    waits = ["awaiting_approval" in one.decision.reasons for one in answers]
    assert [STATES[state] in ("open", "rejected") for state in table.state] == waits or beyond is None
    by_hand = [bool({"frozen", "overridden"} & set(one.decision.reasons)) for one in answers]
    assert [STATES[state] == "by hand" for state in table.state] == by_hand


@pytest.mark.parametrize(
    ("proposed", "waits"), [(420.0, False), (420.0000004, False), (420.01, True), (380.0, False), (379.99, True)]
)
def test_a_move_waits_from_the_first_cent_beyond_the_limit(proposed: float, waits: bool) -> None:
    known = alike({"price": 400.0, "list_price": 400.0, "unit_cost": 100.0})
    by = pricer(known, approve_beyond=0.05)
    requests = [ask(product) for product in PRODUCTS]
    answers = [
        one._replace(decision=one.decision.model_copy(update={"recommended_price": proposed}))
        for one in pricer(known).price_detailed(requests, today=TODAY)
    ]

    served = by._approved(requests, list(answers), NO_SWITCHES, TODAY)
    frame = as_frame(zip(requests, answers, strict=True)).assign(name="", step="")
    table = read_table(packed(frame), key="1", made=NIGHT)
    shown = table.standing(Heard(), NO_SWITCHES, policy=by.policy)

    assert ["awaiting_approval" in one.decision.reasons for one in served] == [waits] * 3
    assert [STATES[state] for state in shown.state] == ["open" if waits else "automatic"] * 3
    assert shown.number["charged"].tolist() == [one.decision.recommended_price for one in served]


@pytest.mark.parametrize(
    ("known", "jump", "charged"),
    [
        ({}, None, 100.0),
        ({"unit_cost": 150.0}, None, 150.0),
        ({"list_price": 200.0}, None, 140.0),
        ({"list_price": 50.0}, None, 67.5),
        ({"anchor_price": 60.0}, None, 81.0),
        ({"anchor_price": 200.0}, None, 100.0),  # the anchor's band gives way to the one around list price
        ({"list_price": 160.0, "anchor_price": 80.0}, None, 112.0),
        ({"last_price": 50.0, "list_price": 60.0}, 0.3, 50.0),  # the current price is taken for a fault
        ({"last_price": 90.0}, 0.3, 100.0),
        ({"unit_cost": 150.0, "cost_assumed": True, "last_price": 100.0}, 0.3, 100.0),
    ],
)
def test_a_frozen_price_stays_inside_the_hard_guardrails_in_the_console_too(
    known: dict[str, Any], jump: float | None, charged: float
) -> None:
    columns = alike({"price": 100.0, "list_price": 100.0, "unit_cost": 40.0, **known})

    answers, table = both(pricer(columns, jump=jump), Switches([freeze()]), columns)

    assert table.number["charged"] == pytest.approx([charged] * 3)
    assert [one.decision.recommended_price for one in answers] == table.number["charged"].tolist()


def test_products_may_be_named_as_what_others_take_for_nothing() -> None:
    table = read_table(packed(price_table(["NA", "null", "007"])), key="1", made=NIGHT)

    assert list(table.rows) == ["007", "NA", "null"]
    assert np.isnan(table.number["comp_price_used"]).all()
