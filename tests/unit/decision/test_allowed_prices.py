"""Prices that may be charged: whole steps, endings, and the candidates between cost and band."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.allowed_prices import AllowedPrices, PriceEndings, PriceGrid
from pricing.decision.reasons import named
from tests.kit.decision import config, pricing_context

money = st.floats(0.02, 1e6)


@pytest.mark.parametrize(
    ("comp", "cost", "expected"),
    [
        (7.0, 3.0, 6.03),  # up to 6.039 by the band, from 6.0375 by the competitor's, which is missed by a step
        (4.2, 3.0, 4.40),  # from 4.392 by the band, up to 4.3995 by the competitor's
        (7.0, 6.038, 6.04),  # but never below cost
    ],
)
def test_where_no_step_lies_between_two_guardrails_the_stronger_one_holds(
    comp: float, cost: float, expected: float
) -> None:
    settings = config(guardrails={"band": [0.8, 1.1], "comp_band": [0.8625, 1.0475]}).decision
    context = pricing_context(current_price=8.0, list_price=5.49, unit_cost=cost, comp_price=comp)

    found = AllowedPrices(settings).limits(context)

    assert found.low[0] == found.high[0] == pytest.approx(expected)
    assert named(int(found.gave_way[0]))["gave_way"] == ["price_rung"]


@given(price=money, step=st.sampled_from([0.01, 0.05, 0.25, 1.0, 5.0]))
def test_whole_steps_stand_on_either_side_of_a_price(price: float, step: float) -> None:
    points = PriceGrid(step)

    below, above = points.below(np.array([price]))[0], points.above(np.array([price]))[0]

    assert below - 1e-6 * price <= price <= above + 1e-6 * price
    assert above - below < step * 1.000001 or above == pytest.approx(step)


@given(price=money, endings=st.sets(st.integers(0, 99), min_size=1, max_size=5))
def test_endings_are_the_nearest_prices_that_end_so(price: float, endings: set[int]) -> None:
    points = PriceEndings([ending / 100 for ending in endings], unit=1.0, step=0.01)
    prices = np.array([price])

    below, above, nearest = points.below(prices)[0], points.above(prices)[0], points.nearest(prices)[0]

    base = np.floor(price)
    allowed = sorted(
        round(whole + ending / 100, 2) for whole in (base - 1, base, base + 1, base + 2) for ending in endings
    )
    assert above == pytest.approx(min(point for point in allowed if point >= price - 1e-9 and point > 0))
    assert below == pytest.approx(max(point for point in allowed if point <= price + 1e-9))
    positive = [point for point in allowed if point > 0]
    assert abs(nearest - price) == pytest.approx(
        min(abs(point - price) for point in positive), abs=1e-8 + 1e-12 * price
    )


@given(cost=money, list_price=money, anchor=st.none() | money, tax_rate=st.floats(0, 1))
def test_candidates_ascend_from_cost_or_the_band_around_the_regular_price(
    cost: float, list_price: float, anchor: float | None, tax_rate: float
) -> None:
    context = pricing_context(unit_cost=cost, list_price=list_price, anchor_price=anchor or np.nan, tax_rate=tax_rate)

    prices = AllowedPrices(config().decision).candidates(context)[0]

    regular, floor = anchor or list_price, cost * (1 + tax_rate)
    assert (np.diff(prices) > 0).all()
    assert prices[0] == pytest.approx(max(0.7 * regular, floor))
    assert prices[-1] == pytest.approx(max(1.35 * regular, prices[0]), rel=2e-4)
