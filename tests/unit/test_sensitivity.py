"""One demand curve a product beside the decision: as the service answers, and as the page shows it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from pipelines.reports.sensitivity import Sensitivity, analyse, sensitivity_page
from pricing.decision.reasons import REASONS
from pricing.decision.request import PriceRequest
from serving.routes.catalogue import elasticity_of
from tests.kit.versions import loaded_version

PRODUCTS = 12


@cache
def found() -> Sensitivity:
    return analyse(loaded_version())


def test_a_curve_and_a_decision_are_what_the_pricer_answers_for_the_next_ordinary_day() -> None:
    pricer, state = loaded_version().pricer(version="7"), loaded_version().demand.state_date
    assert (found().day - state).days in (1, 2, 3)
    assert found().day.weekday() < 5

    for row in found().products.iloc[::7].itertuples():
        asked = PriceRequest(product_id=row.product_id, date=found().day, is_promo=False)
        assert [row.units] == pytest.approx(pricer.demand_at([asked], [row.price], today=state))
    for row in found().summary.itertuples():
        (decision,) = pricer.price([PriceRequest(product_id=row.product_id, date=found().day)], today=state)
        assert row.decided == decision.recommended_price
        assert row.decision.startswith("kept") == (decision.recommended_price == pytest.approx(row.price))
        assert all(REASONS[reason] in row.decision for reason in decision.reasons)


def test_a_price_that_the_service_keeps_is_not_shown_as_one_to_move() -> None:
    held = replace(loaded_version(), meta={**loaded_version().meta, "holds_only": True})

    summary = analyse(held).summary

    kept = summary["decided"] == summary["price"]
    assert kept.any()
    assert summary.loc[kept, "decision"].str.contains(REASONS["elasticity_unidentified"], regex=False).all()


def test_revenue_and_profit_are_units_times_price_and_margin_after_tax() -> None:
    facts = replace(loaded_version().facts, tax_rate=np.full(PRODUCTS, 0.19))

    products = analyse(replace(loaded_version(), facts=facts)).products

    cost = np.repeat(facts.unit_cost, len(products) // PRODUCTS)
    kept = products["price"] / 1.19
    assert products["revenue"].to_numpy() == pytest.approx((products["units"] * kept).to_numpy())
    assert products["profit"].to_numpy() == pytest.approx((products["units"] * (kept - cost)).to_numpy())


def test_the_summary_has_the_elasticity_of_the_service_and_the_curve_at_list_price() -> None:
    summary, products = found().summary, found().products
    served = [elasticity_of("7", loaded_version(), row) for row in range(PRODUCTS)]
    listed = products[products["ratio"] == 1.0]

    shown = summary[["elasticity", "elasticity_low", "elasticity_high"]].to_numpy().tolist()
    assert shown == [[one.elasticity, one.low, one.high] for one in served]
    assert summary["grade"].tolist() == [one.grade for one in served]
    assert summary["price"].tolist() == loaded_version().facts.price.tolist()
    for name in ("units", "profit"):
        assert summary[name].tolist() == listed[name].tolist()


def test_the_page_draws_one_curve_a_product_and_takes_no_name_for_markup() -> None:
    evil = "</td><script>alert(1)</script>"
    tables = [frame.assign(product_id=evil + frame["product_id"]) for frame in (found().summary, found().products)]

    page = sensitivity_page(Sensitivity(*tables, found().day), {}, title=evil)

    assert "<script" not in page
    assert page.count("<polyline") == PRODUCTS
