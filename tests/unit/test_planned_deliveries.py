"""Planned deliveries: from a file into a version, and from there into the answers to requests that name none."""

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.data.calendar import WEEKDAYS, Deliveries
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.decision.resolve import Resolver
from tests.kit.decision import TODAY, ConstantElasticity, config, facts

DAY = dt.date(2025, 3, 7)
HORIZON = load_config().demand.horizon


def deliveries(*days: str, product: str = "apple") -> Deliveries:
    return Deliveries(np.array([product] * len(days)), np.array(days, "M8[D]"))


PLAN = deliveries("2025-03-20", "2025-03-07", "2025-03-12", "2025-03-07")


def ask(product_id: str = "apple", *, day: dt.date = DAY, **fields: Any) -> PriceRequest:
    given_fields = {"product_id": product_id, "current_stock": 5.0, "date": day, "day_of_week": WEEKDAYS[day.weekday()]}
    return PriceRequest(**(given_fields | fields))


def pricer(plan: Deliveries = PLAN, **columns: Any) -> Pricer:
    return Pricer(ConstantElasticity(), facts(**columns).planned(deliveries=plan), config(), version="7")


def ahead(request: PriceRequest, *, plan: Deliveries = PLAN, period: str = "day") -> int:
    """Periods that a request looks ahead."""
    known = facts(period=period).planned(deliveries=plan)
    resolver = Resolver(None, known, config(), pricer().policy)
    (found,) = resolver.resolve([request], today=TODAY).offers.periods.tolist()
    return int(found)


@pytest.mark.parametrize(
    ("product", "day", "fields", "periods"),
    [
        ("apple", 6, {}, 1),
        ("apple", 7, {}, 5),  # what comes that day is in its opening stock
        ("apple", 12, {}, 8),
        ("apple", 7, {"strategy": "clearance"}, 5),  # a given delivery wins there, and so does a planned one
        ("apple", 7, {"next_delivery": dt.date(2025, 3, 9)}, 2),
        ("apple", 7, {"next_delivery": None}, 1),  # deliveries come on 1, 8, 15 March, …
        ("apple", 20, {}, 2),  # none is planned after that day
        ("bread", 7, {}, 1),
        ("bread", 8, {}, 7),  # the delivery is in this day's opening stock
        ("bread", 7, {"next_delivery": dt.date(2025, 3, 10)}, 3),
        ("bread", 7, {"next_delivery": dt.date(2099, 1, 1)}, HORIZON),
        ("bread", 7, {"strategy": "clearance"}, 14),
    ],
)
def test_a_request_looks_ahead_to_the_delivery_named_or_planned_or_that_history_tells(
    product: str, day: int, fields: dict[str, Any], periods: int
) -> None:
    asked = ask(product, day=dt.date(2025, 3, day), **fields)

    assert ahead(asked) == periods


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
    plan = deliveries(*(str(DAY + dt.timedelta(days=days_)) for days_ in days))
    by = pricer(plan)
    coming = [days_ for days_ in days if 0 < days_ <= HORIZON]
    named = DAY + dt.timedelta(days=min(coming)) if coming else None

    silent, written = by.price(
        [ask(current_stock=stock, strategy=strategy, **more) for more in ({}, {"next_delivery": named})], today=TODAY
    )

    ignored = {"decision_id", "reasons"}
    assert silent.model_dump(exclude=ignored) == written.model_dump(exclude=ignored)
    assert set(silent.reasons) == set(written.reasons) | ({"delivery_planned"} if coming else set())


def test_a_plan_of_deliveries_comes_along_and_what_is_over_does_not() -> None:
    plain = facts()
    known = plain.planned(deliveries=deliveries("2025-03-01", "2025-03-02"))

    again = ProductFacts.from_arrays(known.to_arrays(), known.meta())

    assert again.planned_deliveries.days() == {"apple": [dt.date(2025, 3, 2)]}
    assert again.planned().planned_deliveries.days() == again.planned_deliveries.days(), "a plan not given stays"
