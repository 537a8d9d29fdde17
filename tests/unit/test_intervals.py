"""Intervals of forecasts: measured on what came before, right where the truth is known, for counts and for weights."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pricing.demand import evaluation
from pricing.demand.out_of_fold import (
    LEVEL_ERROR,
    default_width,
    measure_level_error,
    measure_width,
    with_measured_width,
    with_quantiles,
)

STEPS = np.arange(1, 29)


def fold(number: int, *, error: tuple[float, float], products: int = 200, kilograms: bool = False) -> pd.DataFrame:
    """Forecasts whose level is off by a normal error of known size, one draw a product and week."""
    rng = np.random.default_rng(number)
    week = (STEPS - 1) // 7
    sd = np.sqrt(error[0] ** 2 + error[1] ** 2 * (week * 7.0 + 4.0))
    off = (rng.standard_normal((products, 4)) * sd[::7])[:, week]
    mean = np.broadcast_to(rng.uniform(4, 20, (products, 1)), off.shape)
    actual: NDArray[np.float64] = rng.negative_binomial(8.0, 8.0 / (8.0 + mean * np.exp(off))).astype(float)
    return pd.DataFrame(
        {
            "product_id": np.repeat([f"p{i}" for i in range(products)], len(STEPS)),
            "cutoff": np.datetime64("2024-01-01") + 28 * number,
            "date": np.tile(np.datetime64("2024-01-01") + 28 * number + STEPS, products),
            "volume_class": "mid",
            "step": np.tile(STEPS, products),
            "actual": actual.ravel() + (0.4 if kilograms else 0.0),
            "censored": False,
            "forecast": mean.ravel() + (0.4 if kilograms else 0.0),
            "size": 8.0,
            "unit": 1.0,
            "counted": not kilograms,
        }
    )


def test_a_folds_intervals_rest_on_earlier_folds_only() -> None:
    frames = [with_quantiles(fold(number, error=(0.3, 0.0)), default_width()) for number in range(3)]
    later = [*frames[:2], with_quantiles(fold(2, error=(1.5, 0.1)), default_width())]

    ours, theirs = with_measured_width(frames), with_measured_width(later)

    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        pd.testing.assert_frame_equal(mine, other)
    assert (ours[1]["q90"] > frames[1]["q90"]).any()


def test_one_fold_alone_keeps_the_default_width() -> None:
    frame = with_quantiles(fold(0, error=(0.5, 0.0)), default_width())

    pd.testing.assert_frame_equal(with_measured_width([frame])[0], frame)


@pytest.mark.parametrize("error", [(0.0, 0.0), (0.3, 0.0), (0.2, 0.05)])
def test_the_levels_error_is_found_again(error: tuple[float, float]) -> None:
    frame = pd.concat([fold(number, error=error) for number in range(4)], ignore_index=True)

    found = measure_level_error(frame)

    assert found == (pytest.approx(error[0], abs=0.07), pytest.approx(error[1], abs=0.015))


def test_one_week_of_days_says_nothing_of_how_the_error_grows() -> None:
    first = pd.concat([fold(number, error=(0.3, 0.0)) for number in range(4)], ignore_index=True)

    at_once, growth = measure_level_error(first[first["step"] <= 7])

    assert growth == pytest.approx(LEVEL_ERROR[1])
    assert at_once == pytest.approx(0.3, abs=0.07)


def test_weeks_are_summed_by_the_fortnight_so_that_four_of_them_show_growth() -> None:
    rng = np.random.default_rng(0)
    products, steps = 4000, np.arange(1, 5)
    off = 0.12 * np.sqrt(steps) * rng.standard_normal((products, 2))[:, (steps - 1) // 2]
    mean = np.full(off.shape, 40.0)
    cutoff = np.datetime64("2024-01-01")
    frame = pd.DataFrame(
        {
            "product_id": np.repeat([f"p{i}" for i in range(products)], 4),
            "cutoff": cutoff,
            "date": np.tile(cutoff + 7 * steps, products),
            "step": np.tile(steps, products),
            "actual": rng.negative_binomial(50.0, 50.0 / (50.0 + mean * np.exp(off))).ravel().astype(float),
            "censored": False,
            "forecast": mean.ravel(),
            "size": np.tile(1.0 / (1.0 / 50.0 + np.expm1(0.12**2 * steps)), products),  # all that a period may be off
            "unit": 1.0,
            "counted": True,
        }
    )

    at_once, growth = measure_level_error(frame)

    assert growth == pytest.approx(0.12, abs=0.03)
    assert at_once < 0.08


def test_a_handful_of_rows_measures_nothing() -> None:
    assert measure_level_error(fold(0, error=(0.9, 0.0), products=3)) == LEVEL_ERROR


@pytest.mark.parametrize("kilograms", [False, True])
def test_intervals_hold_what_they_say(kilograms: bool) -> None:
    folds = [fold(number, error=(0.3, 0.0), products=400, kilograms=kilograms) for number in range(8)]

    frame = with_quantiles(folds[7], measure_width(folds[:7]))

    assert evaluation.coverage(frame, level=0.8) == pytest.approx(0.8, abs=0.05)
    assert evaluation.coverage(frame, level=0.95) == pytest.approx(0.95, abs=0.03)
