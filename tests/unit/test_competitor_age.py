"""A competitor's price has an age: left out of a request it is the newest one known, and one too old is none."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from monitoring.evaluate import of_share
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest, request_fields
from pricing.decision_log.write import LogEntry
from tests.kit.decision import NO_DAY, TODAY, ConstantElasticity, config, facts
from tests.kit.serving import ServingApp, open_app
from tests.kit.versions import shared_version

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
    codes = decision.reasons
    return decision.comp_price_used, decision.comp_price_age, "comp_price_stale" in codes, "at_comp_band" in codes


def test_a_competitors_price_that_is_left_out_is_the_newest_one_known_with_its_age_on_the_day_priced() -> None:
    assert used(answer()) == (8.0, 7.0, False, True)
    assert used(answer(product_id="bread")) == (None, None, False, False)


def test_a_null_is_no_competitor() -> None:
    assert used(answer(comp_price=None)) == (None, None, False, False)


def test_a_price_that_is_given_counts_before_the_known_one_and_is_of_today_unless_its_age_is_said() -> None:
    assert used(answer(comp_price=9.0)) == (9.0, 0.0, False, True)
    assert used(answer(comp_price=9.0, comp_price_age=3.5)) == (9.0, 3.5, False, True)


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


def test_one_request_and_a_batch_use_the_same_competitor() -> None:
    by = pricer(known(seen="2025-02-20"))
    requests = [ask(), ask(comp_price=None), ask(comp_price=9.0, comp_price_age=2), ask(product_id="bread")] * 2

    together = by.price(requests, today=TODAY)
    alone = [by.price([request], today=TODAY)[0] for request in requests]

    assert [used(one) for one in together] == [used(one) for one in alone]


def test_a_known_price_of_unknown_day_is_not_used() -> None:
    by = pricer(replace(known(), comp_price_date=np.full(3, NO_DAY)))

    assert used(answer(by)) == (None, None, False, False)


def test_where_the_state_is_stale_a_price_is_as_old_as_today_and_not_as_the_day_that_is_priced() -> None:
    found = answer(today=dt.date(2025, 6, 1))

    assert "stale_state" in found.reasons
    assert (found.comp_price_used, found.comp_price_age) == (None, 93.0)


@pytest.mark.parametrize("fields", [{"comp_price_age": 3}, {"comp_price": None, "comp_price_age": 3}])
def test_an_age_without_a_price_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="should stand beside the comp_price"):
        ask(**fields)


@pytest.mark.parametrize("age", [-1, 4000, float("nan")])
def test_an_age_that_is_none_is_refused(age: float) -> None:
    with pytest.raises(ValidationError, match="comp_price_age"):
        ask(comp_price=8.0, comp_price_age=age)


def test_in_a_row_of_a_table_an_empty_cell_is_an_absent_field_but_for_the_competitors_price() -> None:
    assert request_fields({"strict": None, "comp_price": None, "date": None}) == {"comp_price": None}
    assert request_fields({"strict": None}) == {}


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


def test_the_newest_price_is_known_with_the_day_on_which_it_was_seen() -> None:
    ages = [0.0] * 20 + list(range(1, 9))

    found = ProductFacts.from_panel(build_panel(sales(comp_price=4.5, comp_price_age=ages), load_config().data))
    of_their_day = ProductFacts.from_panel(build_panel(sales(comp_price=4.5), load_config().data))

    assert (found.comp_price[0], found.comp_price_date[0]) == (4.5, np.datetime64("2026-03-21"))
    assert of_their_day.comp_price_date[0] == np.datetime64("2026-03-29")


def test_a_price_that_is_too_old_is_unknown_to_all_that_learns_and_said_so() -> None:
    ages = [0.0] * 7 + [float(day) for day in range(1, 22)]

    panel = build_panel(sales(comp_price=4.5, comp_price_age=ages), load_config().data)

    assert np.isnan(panel.comp_price[0]).tolist() == [False] * 21 + [True] * 7
    assert_array_equal(np.isnan(panel.comp_price), np.isnan(panel.comp_price_age))
    assert "comp_price is older than 14 days (data.comp_price_max_age) on 7 rows: unknown there." in panel.notes
    assert ProductFacts.from_panel(panel).comp_price_date[0] == np.datetime64("2026-03-08")


@pytest.mark.parametrize(("share", "level"), [(0.1, "note"), (0.4, "warning")])
def test_many_stale_competitors_are_a_matter_for_a_person(share: float, level: str) -> None:
    (found,) = of_share("comp_price_stale", share, warn_above=0.25)

    assert (found.code, found.level) == ("comp_price_stale", level)
    assert f"{share:.0%}" in found.text
    assert (
        of_share("comp_price_stale", float("nan"), warn_above=0.25)
        == of_share("comp_price_stale", 0.0, warn_above=0.25)
        == []
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApp]:
    with open_app(tmp_path_factory.mktemp("ages"), version=shared_version()) as one:
        yield one


def test_json_tells_absent_from_null_on_every_route_that_prices(shop: ServingApp) -> None:
    absent, null = ({"comp_price": what} for what in (..., None))
    fields = {"product_id": "P00001", "current_stock": 150, "day_of_week": "Friday"}

    single = [shop.price(**each).get_json() for each in (absent, null)]
    many = shop.client.post("/get_prices", json={"requests": [fields, fields | {"comp_price": None}]}).get_json()
    tried = [
        shop.client.post("/simulate", json={"request": fields | more, "prices": []}).get_json()
        for more in ({}, {"comp_price": None})
    ]
    explained = [
        shop.client.post("/explain", json={"request": fields | more}).get_json()["decision"]
        for more in ({}, {"comp_price": None})
    ]

    for known_one, none in (single, many["decisions"], tried, explained):
        assert known_one["comp_price_used"] > 0
        assert known_one["comp_price_age"] >= 0
        assert none["comp_price_used"] is none["comp_price_age"] is None


def test_an_age_without_a_price_is_a_bad_request_that_names_the_field(shop: ServingApp) -> None:
    refused = shop.price(comp_price=..., comp_price_age=3)

    assert refused.status_code == 422
    assert "comp_price_age" in refused.get_data(as_text=True)


def test_the_catalogue_says_the_tax_and_the_newest_competitors_price(shop: ServingApp) -> None:
    products = shop.client.get("/products").get_json()["products"]

    assert {one["tax_rate"] for one in products} == {0.0}
    assert all((one["comp_price"] is None) == (one["comp_price_date"] is None) for one in products)
    assert any(one["comp_price"] for one in products)
