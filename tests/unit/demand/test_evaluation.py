"""Scores of sales against slow sums, with and without a shelf; a perfect forecaster looks perfect if half sells out."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pricing.demand import evaluation
from pricing.demand.baselines import against_baseline, sales_rows
from pricing.demand.evaluation import sales_moments, sales_score, sales_transform, share_inside
from pricing.demand.out_of_fold import Width, measure_level_error, with_quantiles

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


def test_an_unknown_forecast_has_no_score() -> None:
    about = {"mean": np.asarray([np.nan, 3.0, 3.0, 3.0]), "size": np.asarray([2.0, np.nan, 0.0, 2.0])}
    about["shelf"] = np.full(4, 2.0)

    found = [sales_score(np.full(4, 2.0), **about), sales_moments(**about)[0]]

    for values in (*found, *sales_transform(np.full(4, 2.0), **about)):
        assert np.isnan(values).tolist() == [True, True, True, False]


EXACT = Width((0.0, 0.0), np.zeros(4))  # no error of the level
SPREAD = 5.0  # size of the negative binomials of `market`


def market(*, products: int = 60, days: int = 56) -> pd.DataFrame:
    """Forecasts of products of which 45 % of the days sell out: the true mean."""
    rng = np.random.default_rng(0)
    mean = np.repeat(rng.gamma(2.0, 5.0, products) + 0.5, days)
    demand = rng.negative_binomial(SPREAD, SPREAD / (SPREAD + mean)).astype(float)
    shelf = np.maximum(np.round(mean * rng.gamma(6.0, 1.15 / 6.0, len(mean))), 1.0)
    step = np.tile(np.arange(days) % 28 + 1, products)
    cutoff = np.datetime64("2024-01-01") + np.tile(np.arange(days) // 28 * 28, products)
    sold = np.minimum(demand, shelf)
    return pd.DataFrame(
        {
            "product_id": np.repeat([f"p{i}" for i in range(products)], days),
            "volume_class": "mid",
            "cutoff": cutoff,
            "date": cutoff + step.astype("timedelta64[D]"),
            "step": step,
            "actual": sold,
            "censored": sold >= shelf,
            "shelf": shelf,
            "forecast": mean,
            "size": SPREAD,
            "unit": 1.0,
            "counted": True,
            "naive": rng.negative_binomial(SPREAD, SPREAD / (SPREAD + mean)).astype(float),
            "flat": np.round(mean),
        }
    )


@pytest.fixture(scope="module")
def perfect() -> pd.DataFrame:
    return with_quantiles(market(), EXACT)


def test_a_perfect_forecaster_has_no_bias_and_holds_its_ranges_where_half_of_the_days_sell_out(
    perfect: pd.DataFrame,
) -> None:
    figures = evaluation.figures(perfect)

    assert 0.40 < perfect["censored"].mean() < 0.50
    assert figures["bias"] == pytest.approx(0.0, abs=0.015)
    assert figures["coverage_80"] == pytest.approx(0.80, abs=0.015)
    assert figures["coverage_95"] == pytest.approx(0.95, abs=0.01)
    assert (figures["rows"], figures["left_out"]) == (len(perfect), 0)


def test_point_forecasts_and_baselines_ask_for_no_more_than_the_shelf_holds(perfect: pd.DataFrame) -> None:
    rows = sales_rows(perfect)

    for name in ("forecast", "q10", "q50", "q90", "naive", "flat"):
        assert (rows[name] <= rows["shelf"]).all()
        assert (perfect[name] > perfect["shelf"]).any()
    figures, gain = evaluation.figures(perfect), against_baseline(perfect, rng=np.random.default_rng(0))
    assert figures["crps"] < figures["wape"] < figures["wape_flat"]
    assert gain["wape"] == pytest.approx(figures["wape"] - figures["wape_baseline"])
    pd.testing.assert_frame_equal(sales_rows(rows), rows)


def test_a_delivery_during_the_day_makes_no_perfect_forecaster_look_biased() -> None:
    frame = market(products=200)
    rng = np.random.default_rng(4)
    demand = rng.negative_binomial(SPREAD, SPREAD / (SPREAD + frame["forecast"].to_numpy())).astype(float)
    delivered = rng.random(len(frame)) < 0.5
    frame["actual"] = np.where(delivered, demand, np.minimum(demand, frame["shelf"]))

    figures = evaluation.figures(with_quantiles(frame, EXACT))

    assert (frame["actual"] > frame["shelf"]).any()
    assert figures["left_out"] == 0
    assert figures["bias"] == pytest.approx(0.0, abs=0.015)


@pytest.mark.parametrize("error", [0.0, 0.3])
def test_the_levels_error_is_found_again_where_half_of_the_days_sell_out(error: float) -> None:
    frame = market(products=400, days=28)
    rng = np.random.default_rng(1)
    week = frame["product_id"] + "/" + ((frame["step"] - 1) // 7).astype(str)
    codes = pd.factorize(week)[0]
    off = np.exp(error * rng.standard_normal(codes.max() + 1))[codes]
    demand = rng.negative_binomial(SPREAD, SPREAD / (SPREAD + frame["forecast"] * off))
    sold = np.minimum(demand, frame["shelf"])
    frame = frame.assign(actual=sold, censored=sold >= frame["shelf"])

    at_once, growth = measure_level_error(frame)

    assert np.sqrt(at_once**2 + growth**2 * 14.0) == pytest.approx(error, abs=0.07)  # halfway


@pytest.mark.parametrize("shelf", [2.0, 8.0, 12.0, np.inf])
def test_the_score_of_sales_is_least_in_expectation_for_the_true_forecast(shelf: float) -> None:
    units, chance = sales(shelf, 8.0)

    expected = {
        (mean, size): float(chance @ sales_score(units, **given(units, mean, size=size, shelf=shelf)))
        for mean in (5.0, 8.0, 12.0)
        for size in (3.0, SIZE, 20.0)
    }

    assert min(expected, key=lambda key: expected[key]) == (8.0, SIZE)
