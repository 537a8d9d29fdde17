"""Demand above the stock, against sums over the negative binomial."""

import numpy as np
import pytest
from scipy import stats

from pricing.demand.regression import complete_censored, expected_above


@pytest.mark.parametrize("units", [1, 2, 7, 30])
@pytest.mark.parametrize(("mean", "size"), [(5.0, 2.0), (0.4, 0.7), (20.0, 50.0)])
def test_the_expectation_is_the_sum_over_the_tail(units: int, mean: float, size: float) -> None:
    count = np.arange(units, units + 4000)
    chance = stats.nbinom.pmf(count, size, size / (size + mean))

    found = expected_above(np.asarray([float(units)]), np.asarray([mean]), np.asarray([size]))

    assert found[0] == pytest.approx((count * chance).sum() / chance.sum(), rel=1e-5)


def test_the_completed_score_is_the_slope_of_the_censored_likelihood() -> None:
    units, mean, size = np.asarray([6.0]), np.asarray([5.0]), np.asarray([3.0])
    full, information = complete_censored(units, mean, size, censored=np.ones(1))
    score = (full - mean) / (1 + mean / size)

    def log_chance(log_mean: float) -> float:
        return float(stats.nbinom.logsf(5, 3.0, 3.0 / (3.0 + np.exp(log_mean))))

    at, step = np.log(5.0), 1e-5
    slope = (log_chance(at + step) - log_chance(at - step)) / (2 * step)

    assert score[0] == pytest.approx(slope, rel=1e-5)
    assert 0 < information[0] < mean[0]


def test_an_empty_shelf_at_opening_says_nothing() -> None:
    full, information = complete_censored(np.zeros(1), np.asarray([4.0]), np.asarray([2.0]), censored=np.ones(1))

    assert full[0] == pytest.approx(4.0)
    assert information[0] == pytest.approx(0.0, abs=1e-9)
