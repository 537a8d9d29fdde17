"""What is believed of an elasticity: shrinkage, shared doubt and limits."""

import numpy as np
import pytest
from scipy import stats

from pricing.demand.elasticity import (
    BETWEEN,
    CATEGORIES,
    RAISED,
    TAILS,
    Prior,
    level_prior,
    level_start,
    shrink,
    with_shared_bias,
    within_limits,
)

PRIOR = Prior(-2.0, 1.0, limits=(-20.0, -0.2))


def test_shrinkage_weighs_a_product_against_its_category() -> None:
    estimate = np.asarray([-2.0, -2.2, -1.8, -2.1, -6.0, -4.0, -4.1, -3.9])
    error = np.asarray([0.1, 0.1, 0.1, 0.1, 3.0, 0.1, 0.1, np.inf])
    category = np.asarray([0, 0, 0, 0, 0, 1, 1, 1])

    shrunk = shrink(estimate, error, category=category, prior=(-3.0, 1.0))

    assert shrunk.mean[0] == pytest.approx(-2.0, abs=0.1)
    assert shrunk.mean[4] == pytest.approx(shrunk.category_mean[0], abs=0.3)
    assert shrunk.mean[7] == pytest.approx(shrunk.category_mean[1], abs=1e-6)
    assert shrunk.sd[7] > shrunk.sd[0]
    assert shrunk.category_mean[1] < shrunk.category_mean[0]


@pytest.mark.parametrize(
    ("error", "mean", "sd"),
    [(0.0, -3.0, 0.0), (0.1, -2.990099, 0.099504), (1.0, -2.5, 0.707107), (3.0, -2.1, 0.948683), (np.inf, -2.0, 1.0)],
)
def test_a_level_counts_as_far_as_it_is_sure_of_itself(error: float, mean: float, sd: float) -> None:
    assert level_prior(-3.0, error, start=(-2.0, 1.0)) == pytest.approx((mean, sd), rel=1e-4)


def test_the_levels_prior_gives_way_as_students_t_does() -> None:
    """Against the posterior mean by quadrature; one step of weights is a bound from the prior's side."""
    level = np.linspace(-40.0, 40.0, 200_001)

    for found in (-2.1, -4.0, -6.0, -9.0):
        start = level_start(PRIOR, level=found, error=0.4)
        ours = level_prior(found, 0.4, start=start)[0]
        belief = stats.t.pdf((level - PRIOR.mean) / PRIOR.level_sd, TAILS) * stats.norm.pdf(level, found, 0.4)
        exact = (level * belief).sum() / belief.sum()
        normal = level_prior(found, 0.4, start=(PRIOR.mean, PRIOR.level_sd))[0]

        assert abs(ours - exact) < 0.1
        assert abs(ours - exact) <= abs(normal - exact) + 0.02


@pytest.mark.parametrize("sd", [0.5, 1.0, 1.7])
def test_without_a_move_the_deviation_is_the_configured_one(sd: float) -> None:
    prior = Prior(-2.0, sd)

    shrunk = shrink(np.zeros(8), np.full(8, np.inf), category=np.arange(8) // 2, prior=(-2.0, prior.level_sd), sd=sd)

    np.testing.assert_allclose(shrunk.sd, sd, rtol=1e-9)
    np.testing.assert_allclose(shrunk.category_sd, sd, rtol=1e-9)
    np.testing.assert_allclose(shrunk.mean, -2.0)


def test_products_tell_of_the_spread_between_them() -> None:
    rng = np.random.default_rng(0)
    truth, category = rng.normal(-2.5, 1.2, 120), np.zeros(120, int)
    alike = rng.normal(-2.5, 0.1, 120)

    wide = shrink(truth + rng.normal(0, 0.3, 120), np.full(120, 0.3), category=category, prior=(-2.5, 0.6))
    narrow = shrink(alike + rng.normal(0, 0.3, 120), np.full(120, 0.3), category=category, prior=(-2.5, 0.6))

    assert wide.between == pytest.approx(1.2, abs=0.2)
    assert narrow.between < 0.3


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        category = np.arange(60) // 10
        truth = -2.0 + rng.normal(0, 0.62) + rng.normal(0, CATEGORIES, 6)[category] + rng.normal(0, BETWEEN, 60)
        error = rng.uniform(0.2, 1.5, 60)
        found = truth + rng.normal(0, error)
        shrunk = shrink(found, error, category=category, prior=(-2.0, PRIOR.level_sd))
        inside.append(np.abs(shrunk.mean - truth) < 1.2816 * shrunk.sd)

    assert 0.75 < np.mean(inside) < 0.85


def test_an_error_that_all_share_moves_all_towards_the_prior_and_widens() -> None:
    certain, raised = (
        shrink(np.full(6, level), np.full(6, 0.1), category=np.arange(6) // 3, prior=(level, 0.1))
        for level in (-4.0, -4.0 + RAISED)
    )
    shared = {"raised": raised, "level": -4.0, "error": 0.1, "start": (PRIOR.mean, PRIOR.level_sd)}

    none = with_shared_bias(certain, own=np.zeros(6), shared=0.0, **shared)
    some = with_shared_bias(certain, own=np.full(6, 0.5), shared=0.5, **shared)
    all_of_it = with_shared_bias(certain, own=np.full(6, np.inf), shared=np.inf, **shared)

    np.testing.assert_allclose(none.mean, certain.mean, atol=1e-9)
    assert (some.mean > certain.mean + 0.3).all()
    assert (some.sd > 0.35).all()
    np.testing.assert_allclose(all_of_it.mean, certain.mean + 2.0)
    assert (all_of_it.sd > some.sd).all()


@pytest.mark.parametrize("error", [0.2, 1.5])
def test_where_the_error_that_all_share_is_endless_nothing_is_learnt(error: float) -> None:
    start = (PRIOR.mean, PRIOR.level_sd)
    of_level = float(np.sqrt(error**2 + PRIOR.sd**2 - PRIOR.level_sd**2))  # one product's level, found for all
    found, raised = (
        shrink(
            np.array([value]),
            np.array([error]),
            category=np.zeros(1, int),
            prior=level_prior(value, of_level, start=start),
        )
        for value in (-0.7, -0.7 + RAISED)
    )

    doubtful = with_shared_bias(
        found, raised=raised, level=-0.7, error=of_level, own=np.array([np.inf]), shared=np.inf, start=start
    )

    assert doubtful.mean[0] == pytest.approx(PRIOR.mean, abs=0.2)
    assert doubtful.sd[0] >= 0.9 * PRIOR.sd


def test_an_estimate_beyond_a_limit_is_given_up_for_its_category_and_that_for_the_prior() -> None:
    category = np.asarray([0, 0, 0, 1, 1])
    found = shrink(np.asarray([0.5, -3.0, -3.2, 0.4, 0.3]), np.full(5, 0.05), category=category, prior=(-2.0, 0.6))

    kept = within_limits(found, category=category, prior=PRIOR)

    assert kept.mean[0] == pytest.approx(kept.category_mean[0])
    assert kept.mean[1] == pytest.approx(found.mean[1])
    np.testing.assert_allclose(kept.mean[3:], -2.0)
    np.testing.assert_allclose(kept.sd[3:], 1.0)
    assert kept.at_limit.tolist() == [True, False, False, True, True]
    assert kept.category_at_limit[1]


def test_an_interval_that_ends_at_a_limit_is_marked_and_stays_as_wide_as_it_is() -> None:
    found = shrink(np.full(4, -0.6), np.full(4, 0.9), category=np.zeros(4, int), prior=(-0.6, 0.6))

    kept = within_limits(found, category=np.zeros(4, int), prior=PRIOR)

    assert kept.at_limit.all()
    np.testing.assert_allclose(kept.sd, found.sd)
    assert (kept.mean <= PRIOR.limits[1]).all()


def test_a_trade_that_answers_strongly_needs_wider_limits_only() -> None:
    category = np.zeros(4, int)
    found = shrink(
        np.asarray([-13.0, -14.0, -12.5, -13.5]), np.full(4, 0.5), category=category, prior=(-12.0, 2.0), sd=2.0
    )

    narrow = within_limits(found, category=category, prior=Prior(-2.0, 2.0, limits=(-8.0, -0.2)))
    wide = within_limits(found, category=category, prior=Prior(-2.0, 2.0, limits=(-20.0, -0.2)))

    assert narrow.at_limit.all()
    np.testing.assert_allclose(narrow.mean, -2.0)
    assert not wide.at_limit.any()
    np.testing.assert_array_equal(wide.mean, found.mean)
