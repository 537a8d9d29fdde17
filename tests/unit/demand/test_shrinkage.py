"""What is believed of elasticities: a hierarchical model of their logs, against draws from it and simulated markets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.arrays import Floats, Ints
from pricing.demand.shrinkage import (
    BETWEEN,
    CATEGORIES,
    GRID,
    PRIOR_MEDIAN,
    PRIOR_SD,
    SPREAD_DOUBT,
    START,
    TAILS,
    PosteriorElasticities,
    shrink,
)

Z = 1.2816  # of an 80 % interval
OWN = np.zeros(6, int)


def believed(estimate: Floats, error: Floats, *, category: Ints = OWN, bias: float = 0.0) -> PosteriorElasticities:
    return shrink(np.asarray(estimate), np.asarray(error), category=category, centre=np.zeros(3), bias=bias)


def drawn(rng: np.random.Generator, category: Ints, *, worlds: int) -> Floats:
    """(world, product) logs of elasticities as the model has them."""
    between, around = (
        share * PRIOR_SD * np.exp(SPREAD_DOUBT * rng.standard_normal((worlds, 1)) - SPREAD_DOUBT**2)
        for share in (BETWEEN, CATEGORIES)
    )
    width = PRIOR_SD * np.sqrt(1 - BETWEEN**2 - CATEGORIES**2)
    level = np.log(PRIOR_MEDIAN) + width * rng.standard_t(TAILS, (worlds, 1))
    of_category = level + around * rng.standard_normal((worlds, 3))
    return np.asarray(of_category[:, category] + between * rng.standard_normal((worlds, len(category))))


@pytest.mark.parametrize(
    ("estimate", "error", "bias"),
    [
        ((-1.2, -2.5, -4.0), (0.5, 2.0, np.inf), 0.0),
        ((-1.2, -2.5, -4.0), (0.5, 2.0, np.inf), 0.3),
        ((0.8, -6.0, 0.1), (1.0, 3.0, 0.4), 0.15),
        ((-3.0, 0.0, 0.0), (0.7, np.inf, np.inf), 0.0),
    ],
)
def test_the_posterior_is_that_of_draws_weighed_by_how_well_they_explain_the_estimates(
    estimate: tuple[float, ...], error: tuple[float, ...], bias: float
) -> None:
    rng, category = np.random.default_rng(0), np.array([0, 0, 1])
    theta = drawn(rng, np.append(category, [0, 1, 2]), worlds=400_000)  # the last are new products
    factor = bias * rng.standard_normal((len(theta), 1))
    weight = np.exp(-0.5 * (((estimate + np.exp(theta[:, :3] + factor)) / error) ** 2).sum(axis=1))
    weight *= (np.abs(theta + factor - GRID.mean()) <= np.ptp(GRID) / 2).all(axis=1)

    found = believed(np.array(estimate), np.array(error), category=category, bias=bias)

    mean = weight @ theta / weight.sum()
    sd = np.sqrt(weight @ (theta - mean) ** 2 / weight.sum())
    np.testing.assert_allclose([*found.mean, *found.category_mean[:3]], mean, atol=0.04)
    np.testing.assert_allclose([*found.sd, *found.category_sd[:3]], sd, atol=0.04)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, category, inside = np.random.default_rng(1), np.repeat([0, 1, 2], 8), []

    for _ in range(60):
        theta = drawn(rng, category, worlds=1)[0]
        error = rng.uniform(0.1, 1.5) * np.exp(theta.mean() + 0.5 * rng.standard_normal(24))
        shared = np.exp(0.2 * rng.standard_normal())
        found = believed(-np.exp(theta) * shared + error * rng.standard_normal(24), error, category=category, bias=0.2)
        inside.append(np.abs(found.mean - theta) < Z * found.sd)

    assert np.mean(inside) == pytest.approx(0.8, abs=0.05)


def test_without_an_estimate_all_that_is_believed_is_the_prior() -> None:
    found = believed(np.zeros(6), np.full(6, np.inf), bias=0.15)

    for values in (found.mean, found.category_mean):
        np.testing.assert_allclose(np.exp(values), PRIOR_MEDIAN, rtol=0.03)
    for values in (found.sd, found.category_sd):
        np.testing.assert_allclose(values, PRIOR_SD, rtol=0.1)
    np.testing.assert_allclose(found.elasticity, START, rtol=0.1)


def test_estimates_whose_errors_are_one_tell_of_their_category_as_one() -> None:
    estimate, error = np.full(6, -8.0), np.full(6, 3.0)

    alike = shrink(estimate, error, category=OWN, centre=np.zeros(1), bias=0.0, share=np.array([1 / 6]))
    one = shrink(estimate[:1], error[:1], category=OWN[:1], centre=np.zeros(1), bias=0.0)
    apart = shrink(estimate, error, category=OWN, centre=np.zeros(1), bias=0.0)

    np.testing.assert_allclose(alike.category_mean, one.category_mean, atol=0.02)
    np.testing.assert_allclose(alike.category_sd, one.category_sd, rtol=0.05)
    assert apart.category_mean[0] > alike.category_mean[0] + 0.2


@given(
    estimate=st.lists(st.floats(-100, 100), min_size=6, max_size=6),
    error=st.lists(st.one_of(st.floats(1e-3, 100), st.just(np.inf)), min_size=6, max_size=6),
    bias=st.sampled_from([0.0, 0.5]),
)
def test_whatever_was_estimated_every_elasticity_is_below_zero(
    estimate: list[float], error: list[float], bias: float
) -> None:
    found = believed(np.array(estimate), np.array(error), category=np.arange(6) // 3, bias=bias)

    for values in vars(found).values():
        assert np.isfinite(values).all()
    assert (found.elasticity < 0).all()
    assert (found.sd >= 0).all()


def test_a_bias_that_all_share_widens_all_and_keeps_their_order() -> None:
    estimate, error = -np.array([1.0, 1.5, 2.0, 3.0, 5.0, 8.0]), np.full(6, 0.2)

    none, some, much = (believed(estimate, error, bias=bias) for bias in (0.0, 0.3, 0.6))

    assert (none.sd < some.sd).all()
    assert (some.sd < much.sd).all()
    assert (np.diff(much.mean) > 0).all()


def test_where_margins_are_thin_an_unknown_elasticity_is_expected_to_be_large() -> None:
    nothing = np.full(4, np.inf)
    category = np.array([0, 0, 1, 1])
    centre = np.array([0.0, 0.7])

    found = shrink(np.zeros(4), nothing, category=category, centre=centre, bias=0.0)

    assert found.mean[2] - found.mean[0] == pytest.approx(0.7, abs=0.05)
    assert found.category_mean[2] == pytest.approx(found.category_mean[0], abs=0.05)  # an unknown category is as usual
