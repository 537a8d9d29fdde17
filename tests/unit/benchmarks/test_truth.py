"""The regression finds the effect of loan rates drawn at random, and a wrong one without the risk that they hang on."""

import pytest

from benchmarks.truth import Estimate, loans


@pytest.fixture(scope="module")
def found() -> dict[str, Estimate]:
    """Estimates by effect."""
    return {name: ours for name, _, ours in loans()}


@pytest.mark.parametrize(
    ("name", "published", "published_error"),
    [
        ("loans: take-up, log rate", -0.29, 0.05),
        ("loans: loan size, log rate", -0.37, 0.06),
        ("loans: take-up, rate over its mean", -0.29, 0.05),
        ("loans: take-up, rate over its mean, no controls", -0.90, 0.05),
    ],
)
def test_the_effect_of_rates_is_the_published_one(
    found: dict[str, Estimate], name: str, published: float, published_error: float
) -> None:
    value, error = found[name]

    assert value == pytest.approx(published, abs=error)
    assert error == pytest.approx(published_error, rel=0.25)


def test_rates_that_hang_on_risk_look_far_stronger(found: dict[str, Estimate]) -> None:
    value, error = found["loans: take-up, log rate"]
    biased, _ = found["loans: take-up, log rate, no controls"]

    assert biased < value - 5 * error
