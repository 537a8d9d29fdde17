"""A stock that is not known moves nothing: the price is that with ample stock, and no reason speaks of stock."""

import datetime as dt
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.decision.pricer import Pricer
from pricing.decision.request import Decision, PriceRequest
from tests.kit.decision import TODAY, ConstantElasticity, config, facts
from tests.kit.versions import loaded_version

AMPLE = 1e9
BY_RULE = Pricer(None, facts(), config(), version="none")
BY_MODEL = Pricer(ConstantElasticity(elasticities=(1.6, 2.5)), facts(), config(), version="1")


def ask(product_id: str = "apple", **fields: Any) -> PriceRequest:
    return PriceRequest(**({"product_id": product_id, "day_of_week": "Friday"} | fields))


@cache
def by_version() -> Pricer:
    return loaded_version().pricer(version="7")


def told(decision: Decision) -> dict[str, Any]:
    return decision.model_dump(exclude={"decision_id"})


@settings(deadline=None)  # the first example builds a version
@given(
    kind=st.sampled_from(["version", "model", "rule"]),
    product=st.sampled_from(["known", "ghost"]),
    strategy=st.sampled_from(["margin", "revenue", "clearance", "match"]),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "next_delivery": st.sampled_from([dt.date(2025, 3, 10), dt.date(2025, 4, 1)]),
            "comp_price": st.sampled_from([None, 9.0]),
            "is_promo": st.booleans(),
            "unit_cost": st.sampled_from([0.5, 6.0]),
        },
    ),
)
def test_unknown_stock_is_priced_as_ample_stock(kind: str, product: str, strategy: str, fields: dict[str, Any]) -> None:
    by = {"model": BY_MODEL, "rule": BY_RULE}.get(kind) or by_version()
    known = "P00001" if kind == "version" else "apple"
    asked = {"product_id": known if product == "known" else product, "list_price": 10.0, "strategy": strategy, **fields}

    absent, null, ample = (
        told(by.price([ask(**asked, **stock)], today=TODAY)[0])
        for stock in ({}, {"current_stock": None}, {"current_stock": AMPLE})
    )

    assert absent == null == ample
    assert not {"stock_short", "no_stock"} & set(absent["reasons"])


def test_a_simulation_with_unknown_stock_sells_what_is_demanded_and_gives_no_chance_of_running_out() -> None:
    (outcome,) = BY_MODEL.simulate(ask(), today=TODAY, prices=[9.0]).outcomes

    assert outcome.units == outcome.demand
    assert outcome.stock_out is None
