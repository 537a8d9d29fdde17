"""Scores of sales given the shelf: a perfect forecaster of products that sell out often looks perfect, as it should."""

import numpy as np
import pandas as pd
import pytest

from pricing.demand import evaluation
from pricing.demand.baselines import against_baseline, sales_rows
from pricing.demand.out_of_fold import Width, measure_level_error, with_quantiles

EXACT = Width((0.0, 0.0), np.zeros(4))  # no error of the level
SIZE = 5.0


def market(*, products: int = 60, days: int = 56, level: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Forecasts of products of which 45 % of the days sell out; `level` times the true mean."""
    rng = np.random.default_rng(seed)
    mean = np.repeat(rng.gamma(2.0, 5.0, products) + 0.5, days)
    demand = rng.negative_binomial(SIZE, SIZE / (SIZE + mean)).astype(float)
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
            "forecast": level * mean,
            "size": SIZE,
            "unit": 1.0,
            "counted": True,
            "naive": rng.negative_binomial(SIZE, SIZE / (SIZE + mean)).astype(float),
            "flat": np.round(mean),
            "baseline": "flat",
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


@pytest.mark.parametrize("share", [0.5])
def test_a_delivery_during_the_day_makes_no_perfect_forecaster_look_biased(share: float) -> None:
    frame = market(products=200)
    rng = np.random.default_rng(4)
    demand = rng.negative_binomial(SIZE, SIZE / (SIZE + frame["forecast"].to_numpy())).astype(float)
    delivered = rng.random(len(frame)) < share
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
    demand = rng.negative_binomial(SIZE, SIZE / (SIZE + frame["forecast"] * off))
    sold = np.minimum(demand, frame["shelf"])
    frame = frame.assign(actual=sold, censored=sold >= frame["shelf"])

    at_once, growth = measure_level_error(frame)

    assert np.sqrt(at_once**2 + growth**2 * 14.0) == pytest.approx(error, abs=0.07)  # halfway
