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


@given(margin=st.one_of(st.just(np.nan), st.floats(-5, 0.999)))
def test_what_is_believed_stays_within_its_bounds_and_as_doubtful(margin: float) -> None:
    size, sd = believed_elasticity(np.array([margin]), usual=USUAL)[:, 0]

    assert LEAST_ELASTICITY - 1e-9 <= size <= STEEPEST + 1e-9
    assert sd / size == pytest.approx(USUAL[1] / USUAL[0])


@pytest.mark.parametrize("cost", [1.0, 6.0, 11.0])
def test_a_rule_keeps_the_price_whatever_the_margin(cost: float) -> None:
    request = PriceRequest(
        product_id="new", current_stock=1e6, day_of_week="Monday", list_price=12, unit_cost=cost, current_price=11.5
    )

    answer = Pricer(None, None, config(), version="none").price([request], today=TODAY)[0]

    assert answer.recommended_price == 11.5
    assert {"elasticity_unidentified", "held"} <= set(answer.reasons)
