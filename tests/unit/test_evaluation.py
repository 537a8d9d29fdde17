"""Where outcomes lie in their forecasts: coverage, as backtests and monitoring share it, and CRPS against sums."""

from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from pricing.demand.evaluation import (
    half_mean_difference,
    probability_transform,
    ranked_probability,
    sales_moments,
    sales_score,
    sales_transform,
    share_inside,
)

SIZE = 6.0


def held(units: np.ndarray, mean: float, *, level: float = 0.8) -> np.ndarray:
    low, high = probability_transform(units, mean=np.full(len(units), mean), size=np.full(len(units), SIZE))
    return share_inside(low, high, level=level)


@pytest.mark.parametrize("mean", [0.1, 0.5, 2.0, 9.0, 60.0])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_a_true_interval_holds_what_it_says_however_slow_the_seller(mean: float, level: float) -> None:
    units = np.arange(600.0)

    share = (held(units, mean, level=level) * stats.nbinom(SIZE, SIZE / (SIZE + mean)).pmf(units)).sum()

    assert share == pytest.approx(level, abs=1e-6)


def test_a_true_interval_holds_what_it_says_of_units_by_weight() -> None:
    rng = np.random.default_rng(0)
    mean = 40.0
    kilograms = rng.gamma(SIZE, mean / SIZE, 20_000) + rng.normal(0.0, np.sqrt(mean), 20_000)

    assert held(np.maximum(kilograms, 0.0), mean).mean() == pytest.approx(0.8, abs=0.02)


def test_an_outcome_is_inside_by_the_share_of_its_own_probability_that_is() -> None:
    low, high = np.asarray([0.4, 0.0, 0.95, 0.5]), np.asarray([0.6, 0.2, 0.99, 0.5])

    np.testing.assert_allclose(share_inside(low, high, level=0.8), [1.0, 0.5, 0.0, 1.0])


def test_where_the_forecast_is_unknown_nothing_is_said() -> None:
    mean, size = np.asarray([np.nan, 3.0, 3.0, 3.0]), np.asarray([2.0, np.nan, 0.0, 2.0])

    low, high = probability_transform(np.full(4, 3.0), mean=mean, size=size)

    assert np.isnan(share_inside(low, high, level=0.8)).tolist() == [True, True, True, False]


@pytest.mark.parametrize("mean", [0.002, 0.3, 2.0, 25.0, 400.0])
@pytest.mark.parametrize("size", [0.05, 0.7, 1.0, 6.0, 300.0, 1e6])
def test_the_ranked_probability_score_is_the_sum_over_counts(mean: float, size: float) -> None:
    truth = stats.nbinom(size, size / (size + mean))
    units = np.unique([0.0, 1.0, np.ceil(mean), np.ceil(4 * mean) + 3])
    counts = np.arange(max(truth.isf(1e-14), units[-1]) + 2)
    # Far above the mean 1 − F is told exactly by the survival function only.
    below, above = truth.cdf(counts), truth.sf(counts)
    slow = [np.where(counts >= one, above, below) @ np.where(counts >= one, above, below) for one in units]

    found = ranked_probability(units, mean=np.full(len(units), mean), size=np.full(len(units), size))

    np.testing.assert_allclose(found, slow, rtol=1e-5)


@pytest.mark.parametrize("kilograms", [0.0, 0.4, 7.25, 30.9])
def test_the_ranked_probability_score_of_units_by_weight_is_the_integral(kilograms: float) -> None:
    truth = stats.nbinom(SIZE, SIZE / (SIZE + 9.0))
    edges = np.unique([*np.arange(400.0), kilograms])
    square = (truth.cdf(np.floor(edges[:-1])) - (edges[:-1] >= kilograms)) ** 2

    found = ranked_probability(np.asarray([kilograms]), mean=np.asarray([9.0]), size=np.asarray([SIZE]))

    assert found[0] == pytest.approx(square @ np.diff(edges), rel=1e-6)


def test_a_forecast_all_but_sure_of_a_count_scores_like_a_point() -> None:
    found = ranked_probability(np.asarray([0.0, 5.0]), mean=np.full(2, 1e-6), size=np.full(2, 3.0))

    np.testing.assert_allclose(found, [0.0, 5.0], atol=1e-5)


@pytest.mark.parametrize("size", [0.4, 3.0, 50.0])
def test_the_mean_difference_of_two_draws_is_wei_and_helds_closed_form(size: float) -> None:
    mean = np.asarray([0.1, 1.0, 5.0])
    chance = size / (size + mean)
    closed = mean / chance * special.hyp2f1(size + 1.0, 0.5, 2.0, -4.0 * (1.0 - chance) / chance**2)

    np.testing.assert_allclose(half_mean_difference(mean=mean, size=np.full(3, size)), closed, rtol=1e-6)


def test_a_score_is_least_in_expectation_for_the_true_forecast() -> None:
    units = np.arange(400.0)
    weight = stats.nbinom(SIZE, SIZE / (SIZE + 20.0)).pmf(units)

    expected = {
        (mean, size): float(weight @ ranked_probability(units, mean=np.full(400, mean), size=np.full(400, size)))
        for mean in (17.0, 20.0, 23.0)
        for size in (3.0, SIZE, 20.0)
    }

    assert min(expected, key=lambda key: expected[key]) == (20.0, SIZE)


def test_an_unknown_forecast_has_no_score() -> None:
    mean, size = np.asarray([np.nan, 3.0, 3.0, 3.0]), np.asarray([2.0, np.nan, 0.0, 2.0])

    found = ranked_probability(np.full(4, 3.0), mean=mean, size=size)

    assert np.isnan(found).tolist() == [True, True, True, False]


SHELVES = [0.5, 1.0, 2.0, 7.0, 7.3, 40.0, 511.0, 512.0, 700.0, 3000.5]
FORECASTS = [(0.05, 0.3), (0.9, 2.0), (6.0, 0.5), (9.0, 6.0), (60.0, 1e6), (600.0, 0.4), (650.0, 80.0), (2000.0, 1e6)]


def slow_score(units: float, shelf: float, truth: Any) -> float:
    """The integral over the steps of the distribution of sales, which is 1 from the shelf on."""
    edges = np.unique([*np.arange(np.ceil(shelf)), units, shelf])
    at = np.floor(edges[:-1])
    return float(np.where(edges[:-1] >= units, truth.sf(at), truth.cdf(at)) ** 2 @ np.diff(edges))


@pytest.mark.parametrize(("mean", "size"), FORECASTS)
@pytest.mark.parametrize("shelf", SHELVES)
def test_the_score_of_sales_is_the_sum_up_to_the_shelf(mean: float, size: float, shelf: float) -> None:
    truth = stats.nbinom(size, size / (size + mean))
    units = np.asarray([0.0, min(1.0, shelf), min(np.ceil(mean), shelf), shelf / 3, shelf])
    same = np.ones(len(units))

    found = sales_score(units, mean=mean * same, size=size * same, shelf=shelf * same)

    slow = [slow_score(one, shelf, truth) for one in units]
    np.testing.assert_allclose(found, slow, rtol=2e-5, atol=2e-8 * mean)


@pytest.mark.parametrize(("mean", "size"), FORECASTS)
@pytest.mark.parametrize("shelf", SHELVES)
def test_mean_and_variance_of_sales_are_sums_over_counts(mean: float, size: float, shelf: float) -> None:
    truth = stats.nbinom(size, size / (size + mean))
    sold = np.append(np.arange(np.ceil(shelf)), shelf)
    chance = np.append(truth.pmf(sold[:-1]), truth.sf(np.ceil(shelf) - 1))

    expected, variance = sales_moments(mean=np.asarray([mean]), size=np.asarray([size]), shelf=np.asarray([shelf]))

    assert expected[0] == pytest.approx(chance @ sold, rel=1e-6)
    assert variance[0] == pytest.approx(chance @ (sold - chance @ sold) ** 2, rel=1e-5, abs=1e-9 * mean**2)


def test_where_nothing_limits_sales_they_are_scored_as_demand() -> None:
    units, mean, size = np.arange(30.0), np.full(30, 9.0), np.full(30, SIZE)
    shelf = np.full(30, np.inf)

    expected, variance = sales_moments(mean=mean, size=size, shelf=shelf)
    given = sales_transform(units, mean=mean, size=size, shelf=shelf)

    np.testing.assert_array_equal(given, probability_transform(units, mean=mean, size=size))
    np.testing.assert_array_equal(
        sales_score(units, mean=mean, size=size, shelf=shelf), ranked_probability(units, mean=mean, size=size)
    )
    assert (expected[0], variance[0]) == (9.0, pytest.approx(9.0 + 81.0 / SIZE))


@pytest.mark.parametrize("shelf", [1.0, 4.0, 9.0, 30.0])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_a_true_interval_of_sales_holds_what_it_says_whatever_the_shelf(shelf: float, level: float) -> None:
    truth = stats.nbinom(SIZE, SIZE / (SIZE + 9.0))
    units = np.arange(shelf + 1)
    chance = np.append(truth.pmf(units[:-1]), truth.sf(shelf - 1))
    same = np.ones(len(units))

    low, high = sales_transform(units, mean=9.0 * same, size=SIZE * same, shelf=shelf * same)

    assert (low[-1], high[-1]) == (pytest.approx(truth.cdf(shelf - 1)), 1.0)
    assert share_inside(low, high, level=level) @ chance == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize("shelf", [2.0, 8.0, 12.0])
def test_the_score_of_sales_is_least_in_expectation_for_the_true_forecast(shelf: float) -> None:
    units = np.arange(shelf + 1)
    truth = stats.nbinom(SIZE, SIZE / (SIZE + 8.0))
    chance = np.append(truth.pmf(units[:-1]), truth.sf(shelf - 1))
    same = np.ones(len(units))

    expected = {
        (mean, size): float(chance @ sales_score(units, mean=mean * same, size=size * same, shelf=shelf * same))
        for mean in (5.0, 8.0, 12.0)
        for size in (3.0, SIZE, 20.0)
    }

    assert min(expected, key=lambda key: expected[key]) == (8.0, SIZE)


def test_sales_of_an_unknown_forecast_have_no_score() -> None:
    mean, size, shelf = np.asarray([np.nan, 3.0, 3.0]), np.asarray([2.0, np.nan, 2.0]), np.asarray([2.0, 2.0, 2.0])

    found = sales_score(np.full(3, 2.0), mean=mean, size=size, shelf=shelf)
    expected, _ = sales_moments(mean=mean, size=size, shelf=shelf)
    _, high = sales_transform(np.full(3, 2.0), mean=mean, size=size, shelf=shelf)

    for values in (found, expected, high):
        assert np.isnan(values).tolist() == [True, True, False]
