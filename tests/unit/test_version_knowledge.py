"""What a version knows of elasticities, and that one which knows too little keeps every price."""

import datetime as dt
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.demand.grades import (
    GRADES,
    PRIOR_ONLY,
    TESTED,
)
from pricing.demand.table import DemandTable
from pricing.registry.version import (
    LoadedVersion,
    identified_share,
    shares_by_grade,
)
from tests.kit.versions import make_demand, make_version, shared_panel

TODAY = dt.date(2023, 8, 1)


@cache
def parts() -> tuple[DemandTable, ProductFacts]:
    return make_demand(shared_panel()).table(), ProductFacts.from_panel(shared_panel())


def graded(*grades: int) -> DemandTable:
    """The table, its products graded so in turn."""
    demand = parts()[0]
    return replace(demand, grade=np.resize(np.array(grades, np.int8), len(demand.product_ids)))


def moved(version: LoadedVersion) -> int:
    """How many of a version's products get another price than the current one, stock being ample."""
    facts = version.facts
    requests = [
        PriceRequest(
            product_id=str(product), current_stock=1e6, day_of_week="Friday", current_price=round(float(price), 2)
        )
        for product, price in zip(facts.product_ids, facts.list_price, strict=True)
    ]
    decisions = version.pricer(version="1").price(requests, today=TODAY)
    return sum(
        decision.recommended_price != request.current_price
        for request, decision in zip(requests, decisions, strict=True)
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_the_grades_share_all_units_between_them(grades: list[int]) -> None:
    demand, facts = graded(*grades), parts()[1]

    shares = shares_by_grade(demand, facts)

    assert tuple(shares) == GRADES[::-1]
    assert sum(shares.values()) == pytest.approx(1)
    assert identified_share(demand, facts) == pytest.approx(1 - shares["prior_only"])


def test_a_product_weighs_by_what_it_sold_of_late() -> None:
    demand, facts = graded(PRIOR_ONLY), parts()[1]
    units = np.full(len(facts.product_ids), np.nan)
    units[:2] = 3.0, 1.0
    demand = replace(demand, grade=np.where(np.arange(len(units)) == 0, TESTED, PRIOR_ONLY).astype(np.int8))

    known = replace(facts, typical_units=units)

    assert identified_share(demand, known) == pytest.approx(0.75)
    assert identified_share(demand, replace(facts, typical_units=units * np.nan)) == pytest.approx(1 / len(units))


def test_a_version_that_holds_only_keeps_every_price_and_forecasts_and_shows_its_grades(tmp_path: Path) -> None:
    moves = make_version(tmp_path / "moves", panel=shared_panel())
    holds = make_version(tmp_path / "holds", panel=shared_panel(), holds_only=True)
    request = PriceRequest(product_id="P00001", current_stock=1e6, day_of_week="Friday")

    units = [version.pricer(version="1").demand_at([request], [1.0], today=TODAY) for version in (moves, holds)]

    assert (moves.holds_only, holds.holds_only) == (False, True)
    assert (moved(moves) > 0, moved(holds)) == (True, 0)
    assert units[0] == units[1]
    assert shares_by_grade(holds.demand, holds.facts)["own_history"] == pytest.approx(1)
    holds.verify()
