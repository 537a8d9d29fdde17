"""One demand curve a product beside the decision: as the service answers, and as the page shows it."""

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest

from pipelines.reports.sensitivity import Sensitivity, analyse, price_levels, sensitivity_page
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


def test_every_product_has_one_row_a_price_level_and_sells_less_where_it_is_dearer() -> None:
    products, levels = found().products, price_levels((0.7, 1.35))

    assert len(products) == PRODUCTS * len(levels)
    for product_id, curve in products.groupby("product_id"):
        assert curve["ratio"].tolist() == levels.tolist(), product_id
        assert (np.diff(curve["units"]) < 0).all()


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


def test_a_price_counts_as_seen_between_those_ever_charged() -> None:
    facts, products = loaded_version().facts, found().products
    levels = len(products) // PRODUCTS
    low, high = (np.repeat(ends, levels).round(6) for ends in (facts.seen_low, facts.seen_high))

    price = products["price"].round(6)
    assert (products["seen"] == ((price >= low) & (price <= high))).all()
    assert 0 < products["seen"].mean() < 1


@pytest.mark.parametrize("band", [(0.7, 1.35), (0.5, 1.0), (1.0, 1.2), (0.9, 1.1), (1.0, 1.0), (0.71, 1.33)])
def test_price_levels_rise_from_end_to_end_and_hold_list_price(band: tuple[float, float]) -> None:
    levels = price_levels(band)

    assert (levels[0], levels[-1]) == band
    assert (np.diff(levels) > 0.01).all()
    assert np.isclose(levels, 1.0).sum() == 1


class Text(HTMLParser):
    """The tags and the cells of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "td":
            self.cells.append(data)


def test_the_page_draws_one_curve_a_product_and_takes_no_name_for_markup() -> None:
    evil = "</td><script>alert(1)</script>"
    tables = [frame.assign(product_id=evil + frame["product_id"]) for frame in (found().summary, found().products)]

    page = sensitivity_page(Sensitivity(*tables, found().day), {"plot of it": "cG5n"}, title=evil)

    text = Text()
    text.feed(page)
    assert "script" not in text.tags
    assert text.tags.count("polyline") == text.tags.count("line") == PRODUCTS
    assert {*tables[0]["product_id"], "own history"} <= set(text.cells)
    assert "data:image/png;base64,cG5n" in page
