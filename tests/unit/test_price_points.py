"""The prices that may be charged: steps, endings and ladders, and the candidates for the best price."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.guardrails import AllowedPrices, PriceEndings, PriceGrid, PriceLadder
from tests.kit.decision import config, pricing_context

money = st.floats(0.02, 1e6)


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


def test_a_ladder_knows_no_price_beyond_its_ends() -> None:
    points = PriceLadder([1.0, 2.0, 5.0])

    assert points.above(np.array([0.5, 2.0, 5.1])).tolist() == [1.0, 2.0, np.inf]
    assert points.below(np.array([0.5, 2.0, 5.1])).tolist() == [-np.inf, 2.0, 5.0]
    assert points.nearest(np.array([0.5, 3.4, 3.6, 9.0])).tolist() == [1.0, 2.0, 5.0, 5.0]


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
