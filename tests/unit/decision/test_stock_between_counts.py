"""A shop that counts its stock now and then, with deliveries in between that nobody records."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.product_facts import ProductFacts
from tests.kit.panels import put

PRODUCTS, DAYS, LEARNT = 8, 420, 300
START = np.datetime64("2025-01-06")


@cache
def shop(*, counts: int, deliveries: int) -> tuple[Panel, np.ndarray]:
    """Its history, and (product, day) the stock that each day really opened with, one day more."""
    rng = np.random.default_rng(7)
    mean, phase = np.array([0.6, 2.0, 5.0, 9.0] * 2), rng.integers(0, deliveries, PRODUCTS)
    full = np.ceil(mean * deliveries * 1.5 + 6)  # which never runs out
    stock, units = np.zeros((PRODUCTS, DAYS + 1)), np.zeros((PRODUCTS, DAYS + 1))
    shelf = full.copy()
    for day in range(DAYS + 1):
        shelf = np.where(day % deliveries == phase, full, shelf)
        stock[:, day], units[:, day] = shelf, np.minimum(rng.poisson(mean), shelf)
        shelf = shelf - units[:, day]
    product, day = np.indices((PRODUCTS, DAYS)).reshape(2, -1)
    counted = (day + product) % counts == 0
    rows: dict[str, Any] = {
        "date": START + day,
        "product_id": [f"P{number}" for number in product],
        "units_sold": units[product, day],
        "price": 5.0,
        "stock": np.where(counted, stock[product, day], np.nan),
    }
    return build_panel(pd.DataFrame(rows), load_config().data), stock


def facts_on(day: int, **rhythm: int) -> ProductFacts:
    panel = shop(**rhythm)[0]
    return ProductFacts.from_panel(panel.through(panel.dates[day]))


@pytest.mark.parametrize(
    ("counts", "deliveries", "known"),
    [(7, 7, 0.0), (7, 10, 0.4), (7, 14, 0.4), (7, 28, 0.6), (14, 28, 0.3), (28, 7, 0.0), (28, 56, 0.3)],
)
def test_the_stock_that_is_priced_is_near_the_truth_or_unknown(counts: int, deliveries: int, known: float) -> None:
    days = range(LEARNT, DAYS, 11)
    found = np.array([facts_on(day, counts=counts, deliveries=deliveries).stock for day in days])
    truth = shop(counts=counts, deliveries=deliveries)[1][:, [day + 1 for day in days]].T

    told = np.isfinite(found)
    assert told.mean() >= known
    assert (np.abs(found - truth) <= 0.5 * truth)[told].all()


@pytest.mark.parametrize(("counts", "deliveries"), [(7, 10), (7, 14), (7, 28), (14, 28), (28, 56)])
def test_counts_that_rise_tell_the_rhythm_of_deliveries(counts: int, deliveries: int) -> None:
    gaps = facts_on(DAYS - 1, counts=counts, deliveries=deliveries).delivery_gaps

    assert gaps @ np.arange(1, gaps.shape[1] + 1) == pytest.approx(np.full(PRODUCTS, deliveries), abs=1.0)


def test_the_next_delivery_is_known_to_the_day_where_counts_fall_on_all_days_of_the_rhythm() -> None:
    stock = shop(counts=7, deliveries=10)[1]
    filled = np.diff(stock, axis=1) > 0

    ahead = facts_on(LEARNT, counts=7, deliveries=10).deliveries[:, 0].astype(int)

    assert (ahead == 1 + np.argmax(filled[:, LEARNT + 1 :], axis=1)[:, None]).all()


@pytest.mark.parametrize("counts", [7, 28])
def test_deliveries_before_every_count_tell_no_next_one(counts: int) -> None:
    assert not facts_on(LEARNT, counts=counts, deliveries=7).deliveries.any()


@pytest.mark.parametrize("counts", [1, 7, 28])
def test_no_day_of_a_shop_that_never_ran_out_is_censored(counts: int) -> None:
    assert not shop(counts=counts, deliveries=7)[0].censored.any()


@pytest.mark.parametrize("day", [LEARNT, LEARNT + 4, DAYS - 1])
def test_a_stock_counted_every_day_is_what_the_day_left(day: int) -> None:
    panel = shop(counts=1, deliveries=7)[0]

    found = facts_on(day, counts=1, deliveries=7)

    assert found.stock.tolist() == (panel.stock - panel.units_sold)[:, day].tolist()
    assert (found.delivery_gaps.argmax(axis=1) == 6).all()


def test_a_product_too_new_to_show_a_rhythm_has_no_stock_where_the_others_are_counted_now_and_then() -> None:
    panel = shop(counts=7, deliveries=28)[0]
    new = put(put(panel, np.s_[0, :-5], stock=np.nan), (0, -5), stock=50.0)

    assert np.isnan(ProductFacts.from_panel(new).stock[0])


def test_a_day_that_sold_more_than_its_stock_has_an_unknown_one_and_is_not_censored() -> None:
    sold = {"units_sold": [3.0, 9.0, 5.0], "stock": [20.0, 8.0, 5.0], "price": 5.0, "product_id": "tea"}
    panel = build_panel(pd.DataFrame({"date": START + np.arange(3), **sold}), load_config().data)

    assert panel.stock[0].tolist() == pytest.approx([20.0, np.nan, 5.0], nan_ok=True)
    assert panel.censored[0].tolist() == [False, False, True]
