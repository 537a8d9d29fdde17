"""Prices include tax and costs do not: whatever covers a cost, or earns over it, is reckoned on the net price."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from monitoring.report import line
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.net_price import cost_at_margin, margin_of, net_price, price_at_margin, unit_profit, with_tax
from pricing.data.panel import Panel
from pricing.decision.allowed_prices import AllowedPrices
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.switches import Switches
from tests.kit.control import override
from tests.kit.decision import FOUR, TODAY, ask, config, facts, pricer, pricing_context

DAYS = pd.date_range("2026-03-02", periods=28)
STRATEGIES = ("margin", "revenue", "clearance", "match")


def sales(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"date": DAYS, "product_id": "tea", "units_sold": 5.0, "price": 12.0} | columns)


def panel(**columns: Any) -> Panel:
    return build_panel(sales(**columns), load_config().data)


def taxing(tax_rate: float = 0.0, scale: float = 1.0, *, demand: bool = True, **decision: Any) -> Pricer:
    """Prices of three products that cost 6, list price 10 × `scale`."""
    known = facts(tax_rate=np.full(3, tax_rate), price=np.full(3, 10.0 * scale), list_price=np.full(3, 10.0 * scale))
    return pricer(known, demand=FOUR if demand else None, **decision)


@given(price=st.floats(0.01, 1e6), cost=st.floats(0.01, 1e6), margin=st.floats(0, 0.9), tax_rate=st.floats(0, 1))
def test_the_formulas_of_tax_undo_one_another(price: float, cost: float, margin: float, tax_rate: float) -> None:
    assert with_tax(net_price(price, tax_rate), tax_rate) == pytest.approx(price)
    assert unit_profit(with_tax(cost, tax_rate), cost, tax_rate=tax_rate) == pytest.approx(0, abs=1e-9 * cost)
    assert margin_of(price_at_margin(cost, margin, tax_rate=tax_rate), cost, tax_rate=tax_rate) == pytest.approx(margin)
    assert cost_at_margin(price_at_margin(cost, margin, tax_rate=tax_rate), margin, tax_rate=tax_rate) == pytest.approx(
        cost
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("demand", [True, False])
@pytest.mark.parametrize("guardrails", [{"min_margin": 0.45}, {"comp_band": [0.95, 1.0], "max_move": 0.2}])
def test_prices_with_tax_are_those_without_times_the_tax(
    strategy: str, guardrails: dict[str, Any], *, demand: bool
) -> None:
    settings_ = {"guardrails": guardrails, "target_margin": {"fruit": 0.5}, "price_step": 0.0001}
    net = taxing(demand=demand, **settings_)
    taxed = taxing(0.2, 1.2, demand=demand, **settings_)

    (plain,) = net.price([ask(strategy=strategy, comp_price=11.0)], today=TODAY)
    (gross,) = taxed.price([ask(strategy=strategy, comp_price=13.2)], today=TODAY)

    assert gross.recommended_price == pytest.approx(1.2 * plain.recommended_price, abs=2e-4)
    assert gross.expected_margin == pytest.approx(plain.expected_margin, rel=1e-3)
    assert gross.confidence == pytest.approx(plain.confidence, abs=1e-3)
    assert set(gross.reasons) == set(plain.reasons)


def test_the_last_tax_rate_given_counts_until_there_is_another() -> None:
    rates = [np.nan] * 4 + [0.07] * 4 + [np.nan] * 4 + [0.2] * 16

    found = panel(tax_rate=rates)

    assert found.tax_rate[0, [0, 5, 10, 27]].tolist() == pytest.approx([0.0, 0.07, 0.07, 0.2])
    assert ProductFacts.from_panel(found).tax_rate.tolist() == [0.2]


def some_untaxed(*, rate: float, other: str = "food", **columns: Any) -> pd.DataFrame:
    """Sales of tea, which is given no tax rate, of jam with `rate` in the category `other`, and of ale with 2 %."""
    tea = sales(category="food", unit_cost=10.0, tax_rate=np.nan, **columns)
    jam = sales(product_id="jam", category=other, unit_cost=6.0, tax_rate=rate)
    return pd.concat([tea, jam, sales(product_id="ale", category="drinks", unit_cost=6.0, tax_rate=0.02)])


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(0, 0.25),
    other=st.sampled_from(["food", "drinks", "toys"]),
    strategy=st.sampled_from(STRATEGIES),
    comp_price=st.none() | st.floats(0.5, 50),
    demand=st.booleans(),
)
def test_a_product_that_was_given_no_tax_rate_sells_above_cost_and_the_highest_of_its_category(
    rate: float, other: str, strategy: str, comp_price: float | None, *, demand: bool
) -> None:
    known = ProductFacts.from_panel(build_panel(some_untaxed(rate=rate, other=other), load_config().data))
    by = pricer(known, demand=FOUR if demand else None)
    highest = float(np.float32(rate if other == "food" else max(rate, 0.02)))

    (answer,) = by.price_detailed([ask(product_id="tea", strategy=strategy, comp_price=comp_price)], today=TODAY)

    assert answer.tax_rate == pytest.approx(highest, abs=1e-6)
    assert net_price(answer.decision.recommended_price, highest) >= 10.0 * (1 - 1e-6)
    assert ("tax_rate_assumed" in answer.decision.reasons) == (highest > 0)


def test_a_rate_that_was_never_given_is_unknown_and_assumed_in_what_a_shop_earned() -> None:
    found = build_panel(some_untaxed(rate=0.2), load_config().data)
    tea = found.product_ids == "tea"

    assert np.isnan(found.tax_rate[tea]).all()
    assert found.tax_rates()[tea] == pytest.approx(0.2)
    assert line(found, name="all", rows=tea, periods=slice(-7, None)).revenue == pytest.approx(7 * 5 * 10.0)
    assert ProductFacts.from_panel(found).tax_rates() == pytest.approx([0.02, 0.2, 0.2])


def test_a_cost_is_assumed_net_of_the_tax_given_or_assumed() -> None:
    frame = some_untaxed(rate=0.2, list_price=12.0).assign(unit_cost=np.nan)
    net = 1 - load_config().data.margin["default"]

    assert build_panel(frame, load_config().data).unit_cost[2, -1] == pytest.approx(10.0 * net)
    assert panel(list_price=12.0, tax_rate=0.2).unit_cost[0, -1] == pytest.approx(10.0 * net)
    assert panel(list_price=12.0).unit_cost[0, -1] == pytest.approx(12.0 * net)


def test_newer_rows_of_products_without_a_rate_know_that_others_of_the_past_have_one() -> None:
    past = build_panel(some_untaxed(rate=0.2), load_config().data)
    newer = sales(date=DAYS + pd.Timedelta(days=28), category="food")

    both = pd.concat([newer, newer.assign(product_id="rum")])

    assert np.isnan(build_panel(both, load_config().data, past=past).tax_rate).all()


@pytest.mark.parametrize("rate", [20, -0.1])
def test_a_request_with_a_percentage_for_a_tax_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValidationError, match="tax_rate"):
        ask(tax_rate=rate)


def test_a_products_own_tax_gives_way_to_the_requests_and_an_unknown_one_has_the_highest_of_its_category() -> None:
    known = facts(tax_rate=np.array([0.2, 0.07, 0.19]), categories=np.array(["fruit", "pantry", "pantry"]))
    by = pricer(known)
    new = {"product_id": "new", "category": "pantry", "list_price": 10.0, "unit_cost": 6.0}

    own, given_, assumed = by.price_detailed([ask(), ask(tax_rate=0.05), ask(**new)], today=TODAY)

    assert (own.tax_rate, given_.tax_rate, assumed.tax_rate) == (0.2, 0.05, 0.19)
    assert ["tax_rate_assumed" in one.decision.reasons for one in (own, given_, assumed)] == [False, False, True]


def test_what_a_simulation_earns_is_net() -> None:
    (outcome,) = taxing(0.2, 1.2).simulate(ask(), today=TODAY, prices=[12.0]).outcomes

    assert outcome.revenue.mean == pytest.approx(outcome.units.mean * 10.0)
    assert outcome.margin.mean == pytest.approx(outcome.units.mean * 4.0)


def test_a_price_that_a_person_gave_below_cost_and_tax_is_raised_to_them() -> None:
    by = taxing(0.2, 1.2)

    (answer,) = by.price_detailed([ask()], today=TODAY, switches=Switches((override(6.5, "apple"),)))

    assert answer.decision.recommended_price == pytest.approx(7.2)
    assert ("overridden" in answer.decision.reasons, answer.decision.binds) == (True, ["cost"])


def test_what_a_shop_earned_is_net_of_tax_and_its_discounts_are_of_prices_paid() -> None:
    everything = np.ones(1, dtype=np.bool_)

    found = line(
        panel(tax_rate=0.2, unit_cost=6.0, list_price=15.0), name="all", rows=everything, periods=slice(-7, None)
    )

    assert found.revenue == pytest.approx(7 * 5 * 10.0)
    assert found.margin == pytest.approx(7 * 5 * 4.0)
    assert found.discount == pytest.approx(0.2)


def test_limits_that_leave_no_whole_step_never_lead_below_cost_and_tax() -> None:
    limits = {"min_margin": 0.04, "band": [0.5, 1.0]}  # at least 7.50, at most 7.90, and the cost with tax is 7.20
    allowed = AllowedPrices(config(guardrails=limits, price_step=1.0).decision)
    context = pricing_context(unit_cost=6.0, tax_rate=0.2, list_price=7.9, current_price=7.0)

    found = allowed.limits(context)

    assert (found.low[0], found.high[0]) == (8.0, 8.0)


@pytest.mark.parametrize("split", [None, 14])
def test_the_shops_rate_holds_where_a_product_was_given_none(split: int | None) -> None:
    config = load_config().data.model_copy(update={"tax_rate": 0.2})
    given = np.where(np.arange(28) == 10, 0.07, np.nan)
    frame = pd.concat([sales(), sales(product_id="book", tax_rate=given), sales(product_id="stamp", tax_rate=0.0)])

    found = build_panel(frame, config)
    if split is not None:
        newer = frame[frame["date"] >= DAYS[split]].assign(tax_rate=np.nan)
        found = build_panel(newer, config, past=found.through(DAYS[split - 1].to_datetime64()))

    assert found.product_ids.tolist() == ["book", "stamp", "tea"]
    assert found.tax_rate[:, -1].tolist() == pytest.approx([0.07, 0.0, 0.2])
    assert found.tax_rate[:, 0].tolist() == pytest.approx([0.2 if split is None else 0.07, 0.0, 0.2])
