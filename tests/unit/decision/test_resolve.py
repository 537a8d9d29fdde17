"""What fills a request's gaps: the competitor's newest price, planned promotions and deliveries, and unknown stock."""

import datetime as dt
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.steps.sales import with_plan
from pricing.arrays import flatten, restore
from pricing.config import load_config
from pricing.data.calendar import Plan
from pricing.data.events import read_plan
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest
from pricing.decision.resolve import Resolver
from pricing.decision_log.write import LogEntry
from pricing.errors import SourceError
from tests.kit.decision import TODAY, answer, ask, config, facts, pricer
from tests.kit.versions import loaded_version

FRIDAY = dt.date(2025, 3, 7)
NOW = dt.datetime(2025, 3, 2, tzinfo=dt.UTC)
HORIZON = load_config().demand.horizon


def seeing(*, seen: str = "2025-02-28", **decision: Any) -> Pricer:
    """It knows a price of a competitor of apple, none of the others."""
    known = facts(
        comp_price=np.array([8.0, np.nan, np.nan]), comp_price_date=np.array([seen, "NaT", "NaT"], "datetime64[D]")
    )
    return pricer(known, **{"guardrails": {"comp_band": [0.95, 1.0]}} | decision)


def used(decision: Decision) -> tuple[float | None, float | None, bool, bool]:
    stale, binds = "comp_price_stale" in decision.reasons, "comp_band" in decision.binds
    return decision.comp_price_used, decision.comp_price_age, stale, binds


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (8.0, 7.0, False, True)),  # the newest one known, with its age on the day priced
        ({"product_id": "bread"}, (None, None, False, False)),
        ({"comp_price": None}, (None, None, False, False)),
        ({"comp_price": 9.0}, (9.0, 0.0, False, True)),
        ({"comp_price": 9.0, "comp_price_age": 3.5}, (9.0, 3.5, False, True)),
        ({"comp_price": 9.0, "comp_price_age": 15}, (None, 15.0, True, False)),
    ],
)
def test_a_competitors_price_that_is_given_counts_before_the_known_one_and_a_null_is_none(
    fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    assert used(answer(ask(**fields), seeing())) == expected


@given(limit=st.integers(0, 40), age=st.integers(0, 40))
def test_a_competitors_price_counts_up_to_its_limit_and_moves_nothing_beyond(limit: int, age: int) -> None:
    by = seeing(seen=str(FRIDAY - dt.timedelta(days=age)), comp_price_max_age=limit)

    found, none = answer(ask(), by), answer(ask(comp_price=None), by)

    assert found.comp_price_age == age
    assert (found.comp_price_used is not None) == ("comp_price_stale" not in found.reasons) == (age <= limit)
    assert age <= limit or found.recommended_price == none.recommended_price


def test_where_the_state_is_stale_a_price_is_as_old_as_today_and_not_as_the_day_that_is_priced() -> None:
    found = answer(ask(), seeing(), today=dt.date(2025, 6, 1))

    assert "stale_state" in found.reasons
    assert (found.comp_price_used, found.comp_price_age) == (None, 93.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"comp_price_age": 3},
        {"comp_price": None, "comp_price_age": 3},
        *({"comp_price": 8.0, "comp_price_age": age} for age in (-1, 4000, float("nan"))),
    ],
)
def test_an_age_that_is_none_or_without_a_price_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="comp_price_age"):
        ask(**fields)


def test_the_log_tells_a_null_from_a_price_left_out() -> None:
    def logged(request: PriceRequest) -> dict[str, Any]:
        entry = LogEntry(request, seeing().price_detailed([request], today=TODAY)[0], NOW)
        record: dict[str, Any] = json.loads(entry.encode("w", 1))
        return record

    absent, null = (logged(ask(**fields)) for fields in ({}, {"comp_price": None}))

    assert "comp_price" not in absent["request"]
    assert null["request"]["comp_price"] is None
    assert "comp_price" in PriceRequest.model_validate(null["request"]).model_fields_set
    assert (absent["decision"]["comp_price_used"], absent["decision"]["comp_price_age"]) == (8.0, 7.0)


PROMOTION = Plan(np.array(["apple"]), np.array(["2025-03-07"], "M8[D]"), np.array(["2025-03-09"], "M8[D]"))


@pytest.mark.parametrize(
    ("product", "said", "day", "planned"),
    [
        ("apple", {}, 9, True),
        ("apple", {}, 10, False),
        ("bread", {}, 7, False),
        ("apple", {"is_promo": False}, 7, False),
        ("apple", {"is_promo": True}, 7, False),
    ],
)
def test_a_request_that_is_silent_takes_the_planned_promotion(
    product: str, said: dict[str, Any], day: int, planned: bool
) -> None:
    date = dt.date(2025, 3, day)
    by = pricer(facts().planned(PROMOTION), guardrails={"min_advertised": 1.2})

    decision = answer(ask(product, date=date, day_of_week=f"{date:%A}", **said), by)

    assert ("promotion_planned" in decision.reasons) == planned
    advertised = planned or said.get("is_promo", False)
    assert (decision.recommended_price >= 12.0) == advertised, "the minimum advertised price tells whether it counts"


def deliveries(*days: str) -> Plan:
    return Plan(np.array(["apple"] * len(days)), *[np.array(days, "M8[D]")] * 2)


PLAN = deliveries("2025-03-20", "2025-03-07", "2025-03-12", "2025-03-07")


@pytest.mark.parametrize(
    ("product", "day", "fields", "periods"),
    [
        ("apple", 6, {}, 1),
        ("apple", 7, {}, 5),  # what comes that day is in its opening stock
        ("apple", 7, {"strategy": "clearance"}, 5),  # a given delivery wins there, and so does a planned one
        ("apple", 7, {"next_delivery": dt.date(2025, 3, 9)}, 2),
        ("apple", 7, {"next_delivery": None}, 1),  # deliveries come on 1, 8, 15 March, …
        ("apple", 20, {}, 2),  # none is planned after that day
        ("bread", 7, {}, 1),
        ("bread", 8, {}, 7),  # the delivery is in this day's opening stock
        ("bread", 7, {"next_delivery": dt.date(2099, 1, 1)}, HORIZON),
        ("bread", 7, {"strategy": "clearance"}, 14),
    ],
)
def test_a_request_looks_ahead_to_the_delivery_named_or_planned_or_that_history_tells(
    product: str, day: int, fields: dict[str, Any], periods: int
) -> None:
    date, known = dt.date(2025, 3, day), facts().planned(deliveries=PLAN)
    resolver = Resolver(None, known, config(), pricer(known).policy)

    found = resolver.resolve([ask(product, date=date, day_of_week=f"{date:%A}", **fields)], today=TODAY)

    assert found.offers.periods.tolist() == [periods]


@given(
    days=st.lists(st.integers(-5, 40), max_size=4),
    stock=st.floats(0, 200),
    strategy=st.sampled_from(["margin", "revenue", "clearance"]),
)
@example(days=[HORIZON], stock=5.0, strategy="margin")
@example(days=[HORIZON + 1], stock=5.0, strategy="margin")
def test_a_silent_request_is_priced_as_one_that_names_the_first_planned_day(
    days: list[int], stock: float, strategy: str
) -> None:
    plan = deliveries(*(str(FRIDAY + dt.timedelta(days=one)) for one in days))
    coming = [one for one in days if 0 < one <= HORIZON]
    named = {"next_delivery": FRIDAY + dt.timedelta(days=min(coming)) if coming else None}
    asked = [ask(current_stock=stock, strategy=strategy, date=FRIDAY, **more) for more in ({}, named)]

    silent, written = pricer(facts().planned(deliveries=plan)).price(asked, today=TODAY)

    ignored = {"decision_id", "reasons"}
    assert silent.model_dump(exclude=ignored) == written.model_dump(exclude=ignored)
    assert set(silent.reasons) == set(written.reasons) | ({"delivery_planned"} if coming else set())


def test_a_plan_of_deliveries_comes_along_without_what_is_over_and_one_that_is_gone_stays(tmp_path: Path) -> None:
    promotions, gone = tmp_path / "promotions.csv", tmp_path / "gone.csv"
    promotions.write_text("product_id,first,last\napple,2025-03-07,2025-03-08\n")
    data = load_config().data.model_copy(update={"promotions": str(promotions), "deliveries": str(gone)})
    known = facts().planned(deliveries=deliveries("2025-03-01", "2025-03-02"))

    found = with_plan(restore(ProductFacts, *flatten(known)), data)

    assert list(found.promotions.spans()) == ["apple"]
    assert found.planned_deliveries.last.tolist() == [dt.date(2025, 3, 2)]
    with pytest.raises(SourceError, match=r"data\.deliveries"):
        read_plan(data, "deliveries")


BY_RULE, BY_MODEL = pricer(demand=None), pricer()


@cache
def by_version() -> Pricer:
    return loaded_version().pricer(version="7")


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
    fields = {"list_price": 10.0, "strategy": strategy, **fields, "day_of_week": "Friday"}
    asked = {"product_id": known if product == "known" else product, **fields}

    absent, null, ample = (
        answer(PriceRequest(**asked, **stock), by).model_dump(exclude={"decision_id"})
        for stock in ({}, {"current_stock": None}, {"current_stock": 1e9})
    )

    assert absent == null == ample
    assert not {"stock_short", "no_stock"} & set(absent["reasons"])
