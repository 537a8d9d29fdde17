"""One demand curve a product beside the decision: as the service answers, and as the page shows it."""

from dataclasses import replace
from functools import cache

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


def test_a_price_that_the_service_keeps_is_shown_as_kept_and_no_other_as_better() -> None:
    held = analyse(replace(loaded_version(), meta={**loaded_version().meta, "holds_only": True}))

    kept = held.summary["decided"] == held.summary["price"]

    assert kept.any()
    assert held.summary.loc[kept, "decision"].str.contains(REASONS["elasticity_unidentified"], regex=False).all()


def test_a_price_lies_no_further_from_the_last_one_than_the_service_lets_it() -> None:
    config = loaded_version().config
    free = config.decision.guardrails.model_copy(update={"max_move": None})
    loose = config.model_copy(update={"decision": config.decision.model_copy(update={"guardrails": free})})
    far = replace(loaded_version(), config=loose)

    summaries = [analyse(far, largest_jump=jump).summary for jump in (None, 0.02)]

    free_move, held_move = (float(np.abs(one["decided"] / one["price"] - 1).max()) for one in summaries)
    assert held_move < 0.03 < free_move


def test_every_product_has_one_row_a_price_level_and_sells_less_where_it_is_dearer() -> None:
    products, levels = found().products, price_levels((0.7, 1.35))

    assert len(products) == PRODUCTS * len(levels)
    for product_id, curve in products.groupby("product_id"):
        assert curve["ratio"].tolist() == levels.tolist(), product_id
        assert (np.diff(curve["units"]) < 0).all()


def test_the_summary_has_the_elasticity_and_grade_of_the_service() -> None:
    summary = found().summary
    served = [elasticity_of("7", loaded_version(), row) for row in range(PRODUCTS)]

    shown = summary[["elasticity", "elasticity_low", "elasticity_high"]].to_numpy().tolist()
    assert shown == [[one.elasticity, one.low, one.high] for one in served]
    assert summary["grade"].tolist() == [one.grade for one in served]
    assert summary["price"].tolist() == loaded_version().facts.price.tolist()


def test_a_price_counts_as_seen_between_those_ever_charged() -> None:
    facts, products = loaded_version().facts, found().products
    levels = len(products) // PRODUCTS
    low, high = (np.repeat(ends, levels).round(6) for ends in (facts.seen_low, facts.seen_high))

    price = products["price"].round(6)
    assert (products["seen"] == ((price >= low) & (price <= high))).all()
    assert 0 < products["seen"].mean() < 1


@pytest.mark.parametrize("band", [(0.7, 1.35), (0.5, 1.0), (1.0, 1.2), (1.0, 1.0)])
def test_price_levels_rise_from_end_to_end_and_hold_list_price(band: tuple[float, float]) -> None:
    levels = price_levels(band)

    assert (levels[0], levels[-1]) == band
    assert (np.diff(levels) > 0.01).all()
    assert np.isclose(levels, 1.0).sum() == 1


def test_the_page_draws_one_curve_a_product_and_takes_no_name_for_markup() -> None:
    evil = "</td><script>alert(1)</script>"
    tables = [frame.assign(product_id=evil + frame["product_id"]) for frame in (found().summary, found().products)]

    page = sensitivity_page(Sensitivity(*tables, found().day), {"plot of it": "cG5n"}, title=evil)

    assert "<script" not in page
    assert page.count("<polyline") == 2 * page.count("<circle") == 2 * page.count("<line") == 2 * PRODUCTS
