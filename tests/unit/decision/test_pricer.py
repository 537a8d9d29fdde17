"""From a request to a decision: what fills its gaps, who answers, and that a price always comes."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.cold_start import LEAST_ELASTICITY, RULE_ELASTICITY, STEEPEST, prior_demand, prior_elasticity
from pricing.decision.pricer import Pricer
from pricing.decision.reasons import REASONS
from pricing.decision.request import PriceRequest, request_fields
from pricing.decision.stock import Sales
from pricing.demand.curve import DemandGrid, Offers
from pricing.errors import RequestError, UnknownProductError
from tests.kit.decision import FOUR, NODES, TODAY, ConstantElasticity, answer, ask, config, facts, pricer

KINDS = ("margin", "revenue", "clearance", "match")
TEMPTING = {"current_stock": 5.0, "comp_price": 3.0}  # all else being equal, to another price
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def test_the_five_contract_fields_are_enough() -> None:
    decision = answer(ask(comp_price=21.5, is_promo=True), pricer())

    assert decision.recommended_price == pytest.approx(9.97, abs=0.15)
    assert (decision.source, decision.strategy, decision.model_version) == ("model", "margin", "7")
    assert decision.expected_gain is not None
    assert len({one.decision_id for one in pricer().price([ask()] * 50, today=TODAY)}) == 50
    assert pricer().price([], today=TODAY) == []


@pytest.mark.parametrize(
    ("known", "request_fields", "low", "reason"),
    [
        ({}, {}, 7.0, None),
        ({}, {"unit_cost": 9.0}, 9.0, None),
        ({}, {"list_price": 20.0}, 14.0, None),
        ({"unit_cost": np.full(3, np.nan)}, {}, 7.0, "cost_assumed"),
        ({"cost_assumed": np.ones(3, dtype=bool)}, {}, 7.0, "cost_assumed"),
        ({"cost_assumed": np.ones(3, dtype=bool)}, {"unit_cost": 9.0}, 9.0, None),
        ({"list_price": np.full(3, np.nan)}, {"current_price": 30.0}, 21.0, "list_price_assumed"),
        ({"price": np.full(3, np.nan)}, {}, 7.0, "current_price_unknown"),
    ],
)
def test_a_request_counts_before_the_facts_and_gaps_are_said(
    known: dict[str, Any], request_fields: dict[str, Any], low: float, reason: str | None
) -> None:
    by = pricer(known=facts(**known), confidence_threshold=0.0)

    simulated = by.simulate(ask(**request_fields), today=TODAY)
    decision = answer(ask(**request_fields), by)

    assert simulated.price_limits[0] == low
    assert reason is None or reason in decision.reasons
    assert ("cost_assumed" in decision.reasons) == (reason == "cost_assumed")


def test_product_then_category_then_rule_each_labelled() -> None:
    asked = [ask(), ask("fig", category="fruit", list_price=10.0), ask("saw", category="tools", list_price=10.0)]

    decisions = pricer().price(asked, today=TODAY)

    assert [decision.source for decision in decisions] == ["model", "category", "rule"]
    assert decisions[1].expected_gain is None, "no current price is known"
    assert "unknown_product" in decisions[1].reasons
    assert "unknown_category" not in decisions[1].reasons
    assert {"unknown_product", "unknown_category"} <= set(decisions[2].reasons)


@pytest.mark.parametrize(
    ("fields", "price", "reason"),
    [
        ({"current_price": 14.0, "list_price": 10.0}, 13.5, "band"),
        ({"current_price": 10.0, "list_price": 10.0, "unit_cost": 11.0}, 11.0, "cost"),
        ({"list_price": 10.0, "current_stock": 2.0}, 10.0, "current_price_unknown"),
        ({"current_price": 12.34}, 12.34, "list_price_assumed"),
        ({"unit_cost": 6.5}, 10.0, "current_price_unknown"),
        *(({"current_price": 10.5, **TEMPTING, "strategy": kind}, 10.5, "list_price_assumed") for kind in KINDS),
    ],
)
@pytest.mark.parametrize("demand", [FOUR, None], ids=["by the model", "by the rules of a version"])
def test_any_price_or_cost_prices_a_product_that_nobody_knows_inside_the_guardrails(
    demand: Any, fields: dict[str, Any], price: float, reason: str
) -> None:
    decision = answer(ask("saw", **fields), pricer(demand=demand))

    assert (decision.recommended_price, decision.source) == (price, "rule")
    assert reason in decision.reasons + decision.binds
    assert decision.reasons[0] == "unknown_product"
    assert decision.confidence <= 0.5


def test_a_strict_request_is_refused_for_an_unknown_product_alone() -> None:
    asked = ask("Aple", category="fruit", current_price=3.0, strict=True)

    for batch in ([asked], [ask()] * 5 + [asked]):
        with pytest.raises(UnknownProductError):
            pricer().price(batch, today=TODAY)
    strict, plain = answer(ask(strict=True), pricer()), answer(ask(), pricer())
    assert strict.model_dump(exclude={"decision_id"}) == plain.model_dump(exclude={"decision_id"})
    assert "no_model" in answer(ask(strict=True, list_price=10.0), NOTHING).reasons


@pytest.mark.parametrize(
    "fields",
    [{"strategy": "greed"}, {"date": dt.date(2025, 3, 8)}, {"next_delivery": dt.date(2025, 3, 6)}],
    ids=["no strategy", "a date that contradicts its weekday", "a delivery before the day priced"],
)
def test_a_request_that_contradicts_itself_or_the_configuration_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        answer(ask(**fields), pricer())


def test_the_rule_keeps_the_price_and_protects_against_running_out() -> None:
    ample, short = pricer(demand=None).price([ask(), ask(current_stock=20.0)], today=TODAY)

    assert ample.recommended_price == 10.0
    assert short.recommended_price > 10.0
    assert "stock_short" in short.reasons
    assert (ample.source, "no_model" in ample.reasons) == ("rule", True)


def test_a_delivery_beyond_the_horizon_is_said() -> None:
    day = dt.date(2025, 3, 7)
    within, beyond = (answer(ask(next_delivery=day + dt.timedelta(days=days)), pricer()).reasons for days in (28, 29))

    assert "delivery_beyond_horizon" not in within
    assert "delivery_beyond_horizon" in beyond
    assert "delivery_beyond_horizon" not in answer(ask(), pricer(review_days=60)).reasons


@pytest.mark.parametrize("days_later", [0, 9, 20])
def test_a_price_that_history_does_not_show_may_have_changed_today(days_later: int) -> None:
    today = TODAY + dt.timedelta(days=days_later)
    known = facts(last_change=np.full(3, np.datetime64("2025-02-01")))
    by = pricer(known=known, guardrails={"min_days": 7}, confidence_threshold=0.0)

    old, new = by.price([ask(unit_cost=8.0), ask(unit_cost=8.0, current_price=9.5)], today=today)

    assert old.recommended_price > 10.5
    assert new.recommended_price == 9.5
    assert new.binds == ["min_days"]


def test_the_logged_size_gives_the_variance_of_all_nodes_together() -> None:
    demand = ConstantElasticity(elasticities=(1.5, 2.5, 4.0), weight=(0.2, 0.5, 0.3), size=5.0)

    (details,) = pricer(demand=demand).price_detailed([ask()], today=TODAY)

    rng = np.random.default_rng(0)
    node = rng.choice(3, p=[0.2, 0.5, 0.3], size=400_000)
    for price, mean, size in zip(
        details.candidate_prices, details.candidate_units, details.candidate_sizes, strict=True
    ):
        means = 10.0 * (price / 10.0) ** -demand.elasticities[node]
        drawn = rng.negative_binomial(5.0, 5.0 / (5.0 + means))
        assert mean == pytest.approx(drawn.mean(), rel=0.02)
        assert mean + mean**2 / size == pytest.approx(drawn.var(), rel=0.04)


OPTIONAL = st.fixed_dictionaries(
    {},
    optional={
        "comp_price": st.floats(1e-4, 1e9),
        "current_price": st.floats(1e-4, 1e9),
        "list_price": st.floats(1e-4, 1e9),
        "unit_cost": st.floats(1e-4, 1e9),
        "category": st.sampled_from(["fruit", "tools", ""]),
        "strategy": st.sampled_from(KINDS),
        "is_promo": st.booleans(),
        "next_delivery": st.dates(dt.date(2031, 1, 1), dt.date(2100, 1, 1)),
    },
)


@given(
    product_id=st.sampled_from(["apple", "bread", "unknown"]),
    stock=st.none() | st.floats(0, 1e12),
    weekday=st.sampled_from(WEEKDAYS),
    fields=OPTIONAL,
    kind=st.sampled_from(["full", "rules", "nothing"]),
    today=st.dates(dt.date(2024, 1, 1), dt.date(2030, 1, 1)),
)
def test_a_price_comes_wherever_any_price_or_cost_is_known_finite_and_never_below_cost(
    product_id: str, stock: float | None, weekday: str, fields: dict[str, Any], kind: str, today: dt.date
) -> None:
    by = {"full": FULL, "rules": RULES, "nothing": NOTHING}[kind]
    request = PriceRequest(product_id=product_id, current_stock=stock, day_of_week=weekday, **fields)  # type: ignore[arg-type]
    known = kind != "nothing" and (product_id != "unknown" or fields.get("category") == "fruit")
    if not known and not {"current_price", "list_price", "unit_cost"} & fields.keys():
        with pytest.raises(UnknownProductError):
            by.price([request], today=today)
        return

    (detail,) = by.price_detailed([request], today=today)

    decision = detail.decision
    assert 0 < decision.recommended_price < np.inf
    assert decision.recommended_price >= detail.unit_cost * (1 - 1e-9) - 1e-9
    assert 0 <= decision.confidence <= 1
    assert decision.price_range[0] <= decision.recommended_price <= decision.price_range[1]
    assert 0 <= decision.expected_units <= (np.inf if stock is None else stock)
    assert np.isfinite(decision.expected_margin)
    assert set(decision.reasons) <= set(REASONS)
    if detail.list_price >= 1 and detail.unit_cost <= 0.7 * detail.list_price:
        assert 0.7 * detail.list_price - 0.011 <= decision.recommended_price <= 1.35 * detail.list_price + 0.011


FULL = pricer()
RULES = pricer(demand=None)
NOTHING = Pricer(None, None, config(), version="7")


def test_a_simulation_compares_prices_and_strategies_over_the_same_days() -> None:
    simulation = pricer().simulate(
        ask(current_stock=60.0), today=TODAY, prices=[5.0, 10.0, 10.004], strategies=["revenue"]
    )

    cheap, usual, crooked, revenue = simulation.outcomes
    assert simulation.periods == 1
    assert (cheap.allowed, usual.allowed, crooked.allowed, revenue.allowed) == (False, True, False, True)
    assert (cheap.strategy, revenue.strategy) == (None, "revenue")
    assert cheap.demand.mean > usual.demand.mean
    assert cheap.margin.mean < 0 < usual.margin.mean
    assert usual.demand.low <= usual.demand.mean <= usual.demand.high
    assert usual.revenue.mean == pytest.approx(10.0 * usual.units.mean)
    assert cheap.stock_out > usual.stock_out
    assert revenue.price == 7.65


def test_with_unknown_stock_a_simulation_sells_what_is_demanded_and_gives_no_chance_of_running_out() -> None:
    (outcome,) = pricer().simulate(ask(current_stock=None), today=TODAY, prices=[9.0]).outcomes

    assert outcome.units == outcome.demand
    assert outcome.stock_out is None


def test_a_simulation_needs_prices_within_reach_of_the_list_price_and_some_idea_of_demand() -> None:
    for price in (0.0, 0.09, 1001.0, float("nan")):
        with pytest.raises(RequestError):
            pricer().simulate(ask(), today=TODAY, prices=[10.0, price])
    with pytest.raises(RequestError):
        NOTHING.simulate(ask(list_price=3.0), today=TODAY)


class Broken(ConstantElasticity):
    """Demand that is no number for bread, nor how well it is known."""

    def __init__(self, figure: float) -> None:
        super().__init__(elasticities=NODES)
        self._figure = figure

    def _grid(self, offers: Offers, prices: np.ndarray) -> DemandGrid:
        grid = super()._grid(offers, prices)
        odd = np.where(offers.product == 1, self._figure, 1.0)
        first, until = (units * odd[:, None, None] for units in (grid.first, grid.until))
        return replace(grid, first=first, until=until, known=grid.known * odd)


@pytest.mark.parametrize("figure", [np.nan, np.inf])
@pytest.mark.parametrize("stock", [0.0, 3.0, 1e9])
def test_where_the_model_gives_no_number_the_rule_answers_and_says_so(figure: float, stock: float) -> None:
    names = ("apple", "bread", "nobody", "cocoa", "bread")
    requests = [ask(name, current_stock=stock, list_price=10.0) for name in names]

    answers = pricer(demand=Broken(figure)).price(requests, today=TODAY)

    rule = answer(ask("bread", current_stock=stock, list_price=10.0), by=RULES)
    assert [decision.source for decision in answers] == ["model", "rule", "rule", "model", "rule"]
    assert ["model_failed" in decision.reasons for decision in answers] == [False, True, False, False, True]
    for decision in (answers[1], answers[4]):
        assert decision.recommended_price == rule.recommended_price
        assert decision.expected_margin == pytest.approx(rule.expected_margin)


@given(margin=st.one_of(st.just(np.nan), st.floats(-5, 0.999)))
def test_what_is_believed_where_no_model_answers_stays_within_its_bounds_and_as_doubtful(margin: float) -> None:
    size, sd = prior_elasticity(np.array([margin]))[:, 0]

    assert LEAST_ELASTICITY - 1e-9 <= size <= STEEPEST + 1e-9
    assert sd / size == pytest.approx(RULE_ELASTICITY[1] / RULE_ELASTICITY[0])


@pytest.mark.parametrize("scale", [0.0, 0.1, 100.0])
def test_what_a_rule_believes_sells_does_not_depend_on_the_unit_of_sales(scale: float) -> None:
    def sold(level: float, stock: float) -> np.ndarray:
        price, elasticity = np.array([[9.0, 10.0, 12.0]]), np.array([[2.5], [0.8]])
        shelf = {"list_price": np.array([10.0]), "level": np.array([level]), "periods": np.array([3])}
        return Sales(prior_demand(price, **shelf, elasticity=elasticity), np.array([stock])).until

    plain, other = sold(3.0, 5.0), sold(3.0 * scale, 5.0 * scale)

    np.testing.assert_allclose(other, scale * plain, rtol=1e-5)


def test_an_empty_cell_is_an_absent_field_but_of_the_competitor_who_then_has_none() -> None:
    fields = request_fields({"product_id": "tea", "comp_price": None, "tax_rate": None})

    assert fields == {"product_id": "tea", "comp_price": None}
