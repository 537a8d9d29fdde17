"""What a version knows of elasticities, and that one which knows too little keeps every price."""

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.steps.parts import identified_of
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.demand.grades import GRADES, LEAST_FORTNIGHTS, PRIOR_ONLY, TESTED
from pricing.registry.knowledge import identified_share, shares_by_grade, words_of_tests
from pricing.registry.version import LoadedVersion
from tests.kit.versions import loaded_version, make_demand, make_version, shared_panel, with_test

TODAY = dt.date(2023, 8, 1)


def moved(version: LoadedVersion) -> int:
    """How many of a version's products get another price than the current one, stock being ample."""
    prices = [round(float(price), 2) for price in version.facts.list_price]
    requests = [
        PriceRequest(product_id=str(product), current_stock=1e6, day_of_week="Friday", current_price=price)
        for product, price in zip(version.facts.product_ids, prices, strict=True)
    ]
    decisions = version.pricer(version="1").price(requests, today=TODAY)
    return sum(one.recommended_price != price for one, price in zip(decisions, prices, strict=True))


def test_a_product_weighs_by_what_it_sold_of_late() -> None:
    facts = ProductFacts.from_panel(shared_panel())
    count = len(facts.product_ids)
    grade = np.full(count, PRIOR_ONLY, np.int8)
    grade[0] = TESTED
    demand = replace(make_demand(shared_panel()).table(), grade=grade)
    units = np.array([3.0, 1.0, *[np.nan] * (count - 2)])

    known, unknown = (replace(facts, typical_units=one) for one in (units, units * np.nan))

    shares = {**dict.fromkeys(GRADES, 0.0), "tested": 0.75, "prior_only": 0.25}
    assert shares_by_grade(demand, known) == pytest.approx(shares)
    assert identified_share(demand, known) == pytest.approx(0.75)
    assert identified_share(demand, unknown) == pytest.approx(1 / count)


def test_what_may_be_behind_a_refusal_is_counted_net_of_tax_and_by_the_figures_of_the_backtest() -> None:
    version = loaded_version()
    size = len(version.facts.product_ids)
    price, cost, assumed = np.full(size, 12.0), np.full(size, 9.0), np.zeros(size, bool)
    cost[:3], assumed[0] = 11.0, True
    facts = replace(version.facts, price=price, unit_cost=cost, cost_assumed=assumed, tax_rate=np.full(size, 0.2))
    evidence = replace(version.demand.evidence, fortnights=np.arange(size) // 2, drawn=np.zeros(size, int))
    figures = {**version.backtest, "censored": 30, "rows": 80, "left_out": 20, "history": ["short"]}
    demand = replace(version.demand, evidence=evidence)

    found = replace(version, facts=facts, demand=demand, backtest=figures).circumstances()

    assert (found.products, found.below_cost, found.few_moves) == (size, 2, 2 * LEAST_FORTNIGHTS)
    assert (found.sold_out, found.short) == (0.3, ["short"])


def test_only_categories_with_tests_show_what_was_observed_beside_it_over_a_week() -> None:
    demand = loaded_version().demand
    tested = with_test(demand)
    weekend = replace(tested, weekend=np.full_like(demand.weekend, 0.35))
    category = str(demand.categories[0])

    assert words_of_tests(demand) == {}
    assert words_of_tests(tested).keys() == {category}
    assert re.findall(r"−?[0-9.]+", words_of_tests(tested)[category]) == ["−2.40", "0.20", "−1.60", "0.30", "12"]
    assert re.findall(r"−?[0-9.]+", words_of_tests(weekend)[category]) == ["−2.64", "0.22", "−1.76", "0.33", "12"]


@pytest.mark.parametrize(("units", "share"), [((3.0, 1.0), 0.65), ((0.0, np.nan), 0.2 + 0.6 * 6 / 18)])
def test_a_partition_weighs_by_what_it_sold_of_late_or_by_its_products(
    units: tuple[float, float], share: float
) -> None:
    whole = loaded_version()
    versions = [
        replace(
            whole,
            facts=replace(whole.facts, typical_units=np.array([sold, np.nan])),
            meta={"products": products, "identified": identified},
        )
        for sold, products, identified in zip(units, (6, 12), (0.8, 0.2), strict=True)
    ]

    assert identified_of(versions) == pytest.approx(share)


def test_a_version_that_holds_only_keeps_every_price_and_forecasts_as_any(tmp_path: Path) -> None:
    moves = make_version(tmp_path / "moves", panel=shared_panel())
    holds = make_version(tmp_path / "holds", panel=shared_panel(), holds_only=True)
    request = PriceRequest(product_id="P00001", current_stock=1e6, day_of_week="Friday")

    units = [version.pricer(version="1").demand_at([request], [1.0], today=TODAY) for version in (moves, holds)]

    assert (moved(moves) > 0, moved(holds)) == (True, 0)
    assert units[0] == units[1]
    holds.verify()
