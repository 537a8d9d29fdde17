"""What is believed of demand where no model answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.cold_start import LEAST_ELASTICITY, STEEPEST, believed_elasticity
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from tests.decision_kit import TODAY, config

USUAL = (2.5, 0.8)
MARGINS = st.floats(0.01, 0.95)


def best_price(size: float, *, unit_cost: float) -> float:
    """Lerner's."""
    return unit_cost * size / (size - 1)


def believed(margin: float, own: float, *, trust: float) -> tuple[float, float]:
    mean, sd = believed_elasticity(np.array([margin]), own=np.array([own]), usual=USUAL, trust=trust)
    return float(mean[0]), float(sd[0])


@given(own=st.floats(-3, 0.99))
def test_without_trust_a_products_own_list_price_says_nothing(own: float) -> None:
    assert believed(0.4, own, trust=0.0) == pytest.approx((2.5, 0.8))
    assert believed(np.nan, own, trust=0.0) == USUAL


@given(margin=st.floats(0.2, 0.8), own=st.floats(0.2, 0.8), trust=st.floats(0, 1))
def test_the_best_price_lies_between_the_usual_one_and_list_price_by_the_trust_in_it(
    margin: float, own: float, trust: float
) -> None:
    unit_cost, list_price = 6.0, 6.0 / (1 - own)

    size, _ = believed(margin, own, trust=trust)

    expected = (unit_cost / (1 - margin)) ** (1 - trust) * list_price**trust
    assert best_price(size, unit_cost=unit_cost) == pytest.approx(expected)


@given(margin=MARGINS, own=st.floats(-5, 0.999), trust=st.floats(0, 1))
def test_what_is_believed_stays_within_its_bounds_and_as_doubtful(margin: float, own: float, trust: float) -> None:
    size, sd = believed(margin, own, trust=trust)

    assert LEAST_ELASTICITY - 1e-9 <= size <= STEEPEST + 1e-9
    assert sd / size == pytest.approx(USUAL[1] / USUAL[0])


def test_the_configured_trust_draws_the_rules_price_towards_list_price() -> None:
    request = PriceRequest(
        product_id="new", current_stock=1e6, day_of_week="Monday", list_price=12, unit_cost=6, current_price=12
    )

    none, half, full = (
        Pricer(None, None, config(rule_list_trust=trust, rule_elasticity=(2.5, 0.0)), version="none")
        .price([request], today=TODAY)[0]
        .recommended_price
        for trust in (0.0, 0.5, 1.0)
    )

    assert none < half < full
    assert full == pytest.approx(12, rel=0.02)
