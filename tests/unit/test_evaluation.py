"""Scores of sales against slow sums: coverage, CRPS and moments, with and without a shelf that limits them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pricing.demand import evaluation
from pricing.demand.evaluation import sales_moments, sales_score, sales_transform, share_inside

SIZE = 6.0
SHELVES = [0.5, 1.0, 2.0, 7.0, 7.3, 40.0, 511.0, 512.0, 700.0, 3000.5, np.inf]
FORECASTS = [(0.05, 0.3), (0.9, 2.0), (6.0, 0.5), (9.0, 6.0), (60.0, 1e6), (600.0, 0.4), (650.0, 80.0), (2000.0, 1e6)]


def given(units: np.ndarray, mean: float, *, size: float = SIZE, shelf: float = np.inf) -> dict[str, np.ndarray]:
    same = np.ones(len(units))
    return {"mean": mean * same, "size": size * same, "shelf": shelf * same}


def sales(shelf: float, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Units that may be sold, and how likely each is."""
    truth = stats.nbinom(SIZE, SIZE / (SIZE + mean))
    units = np.arange(min(shelf, 600.0) + 1)
    return units, np.append(truth.pmf(units[:-1]), truth.sf(units[-1] - 1))


@pytest.mark.parametrize(
    ("mean", "shelf"), [*((m, np.inf) for m in (0.1, 2.0, 60.0)), (9.0, 1.0), (9.0, 4.0), (9.0, 30.0)]
)
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_a_true_interval_holds_what_it_says_whatever_sells_and_the_shelf_holds(
    mean: float, shelf: float, level: float
) -> None:
    units, chance = sales(shelf, mean)

    low, high = sales_transform(units, **given(units, mean, shelf=shelf))

    assert share_inside(low, high, level=level) @ chance == pytest.approx(level, abs=1e-6)
    assert high[-1] == 1.0


def test_an_outcome_is_inside_by_the_share_of_its_own_probability_that_is() -> None:
    low, high = np.asarray([0.4, 0.0, 0.95, 0.5]), np.asarray([0.6, 0.2, 0.99, 0.5])

    np.testing.assert_allclose(share_inside(low, high, level=0.8), [1.0, 0.5, 0.0, 1.0])
    assert evaluation.coverage(pd.DataFrame({"pit_low": low, "pit_high": high}), level=0.8) == pytest.approx(2.5 / 4)


def slow_score(units: float, shelf: float, truth: Any) -> float:
    """The integral over the steps of the distribution of sales, which is 1 from the shelf on."""
    edges = np.unique([*np.arange(np.ceil(min(shelf, truth.isf(1e-14)))), units, min(shelf, truth.isf(1e-14) + units)])
    at = np.floor(edges[:-1])
    # Far above the mean 1 − F is told exactly by the survival function only.
    return float(np.where(edges[:-1] >= units, truth.sf(at), truth.cdf(at)) ** 2 @ np.diff(edges))


@pytest.mark.parametrize(("mean", "size"), FORECASTS)
@pytest.mark.parametrize("shelf", SHELVES)
def test_the_score_of_sales_is_the_sum_up_to_the_shelf(mean: float, size: float, shelf: float) -> None:
    truth = stats.nbinom(size, size / (size + mean))
    top = min(shelf, 4 * mean)
    units = np.asarray([0.0, min(1.0, shelf), min(np.ceil(mean), shelf), top / 3, top])

    found = sales_score(units, **given(units, mean, size=size, shelf=shelf))

    slow = [slow_score(one, shelf, truth) for one in units]
    np.testing.assert_allclose(found, slow, rtol=2e-5, atol=2e-8 * mean)


@pytest.mark.parametrize(("mean", "size"), FORECASTS)
@pytest.mark.parametrize("shelf", SHELVES[:-1])
def test_mean_and_variance_of_sales_are_sums_over_counts(mean: float, size: float, shelf: float) -> None:
    truth = stats.nbinom(size, size / (size + mean))
    sold = np.append(np.arange(np.ceil(shelf)), shelf)
    chance = np.append(truth.pmf(sold[:-1]), truth.sf(np.ceil(shelf) - 1))

    expected, variance = sales_moments(**given(np.ones(1), mean, size=size, shelf=shelf))

    assert expected[0] == pytest.approx(chance @ sold, rel=1e-6)
    assert variance[0] == pytest.approx(chance @ (sold - chance @ sold) ** 2, rel=1e-5, abs=1e-9 * mean**2)


@pytest.mark.parametrize("shelf", [2.0, 8.0, 12.0, np.inf])
def test_the_score_of_sales_is_least_in_expectation_for_the_true_forecast(shelf: float) -> None:
    units, chance = sales(shelf, 8.0)

    expected = {
        (mean, size): float(chance @ sales_score(units, **given(units, mean, size=size, shelf=shelf)))
        for mean in (5.0, 8.0, 12.0)
        for size in (3.0, SIZE, 20.0)
    }

    assert min(expected, key=lambda key: expected[key]) == (8.0, SIZE)


def test_an_unknown_forecast_has_no_score() -> None:
    about = {"mean": np.asarray([np.nan, 3.0, 3.0, 3.0]), "size": np.asarray([2.0, np.nan, 0.0, 2.0])}
    about["shelf"] = np.full(4, 2.0)

    found = [sales_score(np.full(4, 2.0), **about), sales_moments(**about)[0]]

    for values in (*found, *sales_transform(np.full(4, 2.0), **about)):
        assert np.isnan(values).tolist() == [True, True, True, False]
