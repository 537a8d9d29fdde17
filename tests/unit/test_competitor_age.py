"""A competitor's price has an age: left out of a request it is the newest one known, and one too old is none."""

import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log.write import LogEntry
from tests.kit.decision import TODAY, ConstantElasticity, config, facts

NODES = (2.0, 2.3, 2.7, 3.0)
FRIDAY = dt.date(2025, 3, 7)
NOW = dt.datetime(2025, 3, 2, tzinfo=dt.UTC)
BAND = {"comp_band": [0.95, 1.0]}


def known(*, seen: str = "2025-02-28", price: float = 8.0) -> ProductFacts:
    """Facts of three products; of the first a competitor's price is known."""
    return facts(
        comp_price=np.array([price, np.nan, np.nan]),
        comp_price_date=np.array([seen, "NaT", "NaT"], dtype="datetime64[D]"),
    )


def pricer(of: ProductFacts | None = None, **decision: Any) -> Pricer:
    settings = {"guardrails": BAND} | decision
    return Pricer(ConstantElasticity(elasticities=NODES), of or known(), config(**settings), version="7")


def ask(**fields: Any) -> PriceRequest:
    return PriceRequest(**({"product_id": "apple", "current_stock": 1000.0, "day_of_week": "Friday"} | fields))


def answer(by: Pricer | None = None, *, today: dt.date = TODAY, **fields: Any) -> Decision:
    return (by or pricer()).price([ask(**fields)], today=today)[0]


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
    ],
)
def test_a_price_that_is_given_counts_before_the_known_one_and_a_null_is_no_competitor(
    fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    assert used(answer(**fields)) == expected


@pytest.mark.parametrize("fields", [{}, {"comp_price": 8.0, "comp_price_age": 15}])
def test_a_competitors_price_older_than_the_limit_binds_nothing_and_moves_nothing(fields: dict[str, Any]) -> None:
    by = pricer(known(seen="2025-02-20"))

    stale, none = answer(by, **fields), answer(by, comp_price=None)

    assert used(stale) == (None, 15.0, True, False)
    assert stale.recommended_price == none.recommended_price
    assert set(stale.reasons) - set(none.reasons) == {"comp_price_stale"}


@given(limit=st.integers(0, 40), age=st.integers(0, 40))
def test_a_price_counts_up_to_the_limit_and_no_longer(limit: int, age: int) -> None:
    seen = str(FRIDAY - dt.timedelta(days=age))

    found = answer(pricer(known(seen=seen), comp_price_max_age=limit))

    assert found.comp_price_age == age
    assert (found.comp_price_used is not None) == ("comp_price_stale" not in found.reasons) == (age <= limit)


def test_where_the_state_is_stale_a_price_is_as_old_as_today_and_not_as_the_day_that_is_priced() -> None:
    found = answer(today=dt.date(2025, 6, 1))

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
    by = pricer()

    def logged(request: PriceRequest) -> dict[str, Any]:
        entry = LogEntry(request, by.price_detailed([request], today=TODAY)[0], NOW)
        record: dict[str, Any] = json.loads(entry.encode("w", 1))
        return record

    absent, null, aged = (logged(ask(**fields)) for fields in ({}, {"comp_price": None}, {"comp_price": 9.0}))

    assert "comp_price" not in absent["request"]
    assert null["request"]["comp_price"] is None
    assert PriceRequest.model_validate(null["request"]).asks_newest_comp_price is False
    assert (absent["decision"]["comp_price_used"], absent["decision"]["comp_price_age"]) == (8.0, 7.0)
    assert (aged["decision"]["comp_price_used"], aged["tax_rate"]) == (9.0, 0.0)


DAYS = pd.date_range("2026-03-02", periods=28)


def sales(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"date": DAYS, "product_id": "tea", "units_sold": 5.0, "price": 5.0} | columns)


def test_a_price_that_is_too_old_is_unknown_to_all_that_learns() -> None:
    ages = [0.0] * 7 + [float(day) for day in range(1, 22)]

    panel = build_panel(sales(comp_price=4.5, comp_price_age=ages), load_config().data)

    assert np.isnan(panel.comp_price[0]).tolist() == [False] * 21 + [True] * 7
    assert_array_equal(np.isnan(panel.comp_price), np.isnan(panel.comp_price_age))
    assert ProductFacts.from_panel(panel).comp_price_date[0] == np.datetime64("2026-03-08")
