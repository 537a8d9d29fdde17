"""Gaps between observed and tested elasticities, beside dense normal algebra and drawn worlds."""

import numpy as np
import pytest

from pricing.demand.tested_gap import BETWEEN, between_variance, mean_elasticities, posterior_gaps

GAP = np.array([-0.9, -0.4, np.nan, -1.3])
VARIANCE = np.array([0.04, 0.09, np.inf, 0.01])


def test_posterior_gaps_are_those_of_dense_normal_algebra() -> None:
    open_to, between = 0.8, 0.15
    known = np.isfinite(VARIANCE)

    found = posterior_gaps(GAP, VARIANCE, open_to=open_to, between=between)

    prior = open_to**2 + between * np.eye(len(GAP))  # of the gaps, which share b
    seen = prior[np.ix_(known, known)] + np.diag(VARIANCE[known])
    gain = prior[:, known] @ np.linalg.inv(seen)
    np.testing.assert_allclose(found.value, gain @ GAP[known])
    posterior = prior - gain @ prior[known]
    ours = np.outer(found.exposure, found.exposure) * found.shared_sd**2 + np.diag(found.variance)
    np.testing.assert_allclose(ours, posterior)
    assert found.value[2] == pytest.approx(found.shared)


def test_few_gaps_leave_the_prior_between_them_and_many_tell_it() -> None:
    rng = np.random.default_rng(2)
    exact = rng.normal(-0.5, 0.6, 400)

    alone = between_variance(np.array([-0.9]), np.array([0.01]), open_to=0.8)
    alike = between_variance(np.full(3, -0.9), np.full(3, 0.01), open_to=0.8)
    many = between_variance(exact, np.full(400, 1e-6), open_to=0.8)

    assert alone == (BETWEEN * 0.8) ** 2
    assert 0.0 < alike < alone
    assert many == pytest.approx(np.var(exact, ddof=1), rel=0.02)


def test_intervals_hold_of_categories_with_and_without_tests() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(400):
        gaps = rng.normal(0.0, 0.8) + rng.normal(0.0, 0.4, 8)
        variance = np.where(np.arange(8) < 5, 0.05, np.inf)
        measured = np.where(variance < 1.0, gaps + rng.normal(0.0, 0.05**0.5, 8), np.nan)
        between = between_variance(measured, variance, open_to=0.8)
        found = posterior_gaps(measured, variance, open_to=0.8, between=between)
        sd = np.sqrt((found.exposure * found.shared_sd) ** 2 + found.variance)
        inside.append(np.abs(gaps - found.value) < 1.2816 * sd)

    share = np.mean(inside, axis=0)

    assert share[:5].mean() == pytest.approx(0.8, abs=0.03)
    assert share[5:].mean() == pytest.approx(0.8, abs=0.04)


def test_means_weigh_products_by_what_both_tell_and_leave_out_those_without_both() -> None:
    observed = np.array([-2.0, -3.0, -9.0, -1.0])
    tested = np.array([-1.0, -2.0, -9.0, -1.0])
    observed_variance = np.array([0.1, 0.3, np.inf, 0.1])
    tested_variance = np.array([0.1, 0.1, 0.1, np.inf])

    found = mean_elasticities(
        observed, observed_variance, tested, tested_variance, shares=np.ones((2, 2)), row=np.array([0, 0, 0, 1])
    )

    weight = 1.0 / np.array([0.2, 0.4])
    assert found.products.tolist() == [2, 0]
    assert found.observed[0] == pytest.approx(np.average([-2.0, -3.0], weights=weight))
    assert found.gap[0] == pytest.approx(-1.0)
    assert found.observed_error[0] == pytest.approx(np.sqrt(weight**2 @ [0.1, 0.3]) / weight.sum())
    assert np.isinf(found.gap_variance[1])
