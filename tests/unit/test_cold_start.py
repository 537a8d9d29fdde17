"""What is believed of demand where no model answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.pricer import LEAST_ELASTICITY, RULE_ELASTICITY, STEEPEST, prior_demand, prior_elasticity
from pricing.decision.stock import Sales


@given(margin=st.one_of(st.just(np.nan), st.floats(-5, 0.999)))
def test_what_is_believed_stays_within_its_bounds_and_as_doubtful(margin: float) -> None:
    size, sd = prior_elasticity(np.array([margin]))[:, 0]

    assert LEAST_ELASTICITY - 1e-9 <= size <= STEEPEST + 1e-9
    assert sd / size == pytest.approx(RULE_ELASTICITY[1] / RULE_ELASTICITY[0])


@pytest.mark.parametrize("scale", [0.1, 100.0])
def test_what_a_rule_believes_sells_does_not_depend_on_the_unit_of_sales(scale: float) -> None:
    plain, other = (sold(level=3.0 * factor, stock=5.0 * factor) for factor in (1.0, scale))

    np.testing.assert_allclose(other, scale * plain, rtol=1e-5)


def test_of_a_product_that_sells_nothing_nothing_is_believed_to_sell() -> None:
    assert (sold(level=0.0, stock=5.0) == 0).all()


def sold(*, level: float, stock: float) -> np.ndarray:
    belief = prior_demand(
        np.array([[9.0, 10.0, 12.0]]),
        list_price=np.array([10.0]),
        level=np.array([level]),
        periods=np.array([3]),
        elasticity=np.array([[2.5], [0.8]]),
    )
    return Sales(belief, np.array([stock])).until
