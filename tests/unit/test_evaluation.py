"""Where outcomes lie in their forecasts: the one measure of coverage that backtests and monitoring share."""

import numpy as np
import pytest
from scipy import stats

from pricing.demand.evaluation import probability_transform, share_inside

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
