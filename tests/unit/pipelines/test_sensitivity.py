"""One demand curve a product: as the service answers, and as the page shows it."""

from functools import cache

import pytest

from pipelines.reports.plots import Sensitivity, analyse, sensitivity_page
from pricing.decision.request import PriceRequest
from serving.routes.catalogue import elasticity_of
from tests.kit.versions import loaded_version

PRODUCTS = 12


@cache
def found() -> Sensitivity:
    return analyse(loaded_version())


def test_a_curve_is_what_the_pricer_answers_for_the_next_ordinary_day() -> None:
    pricer, state = loaded_version().pricer(version="7"), loaded_version().demand.state_date
    assert (found().day - state).days in (1, 2, 3)
    assert found().day.weekday() < 5

    for row in found().products.iloc[::7].itertuples():
        asked = PriceRequest(product_id=row.product_id, date=found().day, is_promo=False)
        assert [row.units] == pytest.approx(pricer.demand_at([asked], [row.price], today=state))


def test_the_summary_has_the_elasticity_and_grade_of_the_service() -> None:
    summary = found().summary
    served = [elasticity_of("7", loaded_version(), row) for row in range(PRODUCTS)]

    shown = summary[["elasticity", "elasticity_low", "elasticity_high"]].to_numpy().tolist()
    assert shown == [[one.elasticity, one.low, one.high] for one in served]
    assert summary["grade"].tolist() == [one.grade for one in served]
    assert summary["price"].tolist() == loaded_version().facts.price.tolist()


def test_the_page_draws_one_curve_a_product_and_takes_no_name_for_markup() -> None:
    evil = "</td><script>alert(1)</script>"
    tables = [frame.assign(product_id=evil + frame["product_id"]) for frame in (found().summary, found().products)]

    page = sensitivity_page(Sensitivity(*tables, found().day), title=evil)

    assert "<script" not in page
    assert page.count("<polyline") == 2 * PRODUCTS
