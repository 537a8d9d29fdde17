"""Three forecasters as one, and what folds teach of them: weights that they earn, and intervals that are right."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.demand import evaluation
from pricing.demand.batches import Targets
from pricing.demand.ensemble import (
    CLASSES,
    FORECASTERS,
    LIMIT,
    combined_factor,
    extend_combination,
    network_only,
    own_noise,
    prior_weights,
    volume_rows,
)
from pricing.demand.out_of_fold import (
    DEFAULT_WIDTH,
    LEVEL_ERROR,
    choose_weights,
    known_before,
    measure_level_error,
    measure_width,
    with_measured_width,
    with_quantiles,
)
from pricing.demand.trees import recent_units
from tests.kit.evaluation import fold_frame

FIRST = np.datetime64("2024-01-01")
EQUAL = prior_weights(200, context=120)


def off(number: int, *, error: tuple[float, float], products: int = 200, kilograms: bool = False) -> pd.DataFrame:
    """Forecasts whose level is off by a normal error of known size, one draw a product and week."""
    rng = np.random.default_rng(number)
    week = np.arange(28) // 7
    sd = np.sqrt(error[0] ** 2 + error[1] ** 2 * (week * 7.0 + 4.0))
    shift = (rng.standard_normal((products, 4)) * sd[::7])[:, week]
    mean = np.broadcast_to(rng.uniform(4, 20, (products, 1)), shift.shape)
    actual = rng.negative_binomial(8.0, 8.0 / (8.0 + mean * np.exp(shift)))
    more = 0.4 if kilograms else 0.0
    return fold_frame(mean + more, actual + more, cutoff=FIRST + 28 * number, shelf=np.inf, counted=not kilograms)


def test_a_folds_intervals_rest_on_earlier_folds_only() -> None:
    frames = [with_quantiles(off(number, error=(0.3, 0.0)), DEFAULT_WIDTH) for number in range(3)]
    later = [*frames[:2], with_quantiles(off(2, error=(1.5, 0.1)), DEFAULT_WIDTH)]

    ours, theirs = with_measured_width(frames), with_measured_width(later)

    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        pd.testing.assert_frame_equal(mine, other)
    pd.testing.assert_frame_equal(ours[0], frames[0])  # the default width
    assert (ours[1]["q90"] > frames[1]["q90"]).any()


def test_of_folds_that_overlap_a_later_one_knows_only_what_was_known_at_its_cutoff() -> None:
    first, second = (with_quantiles(off(number, error=(0.3, 0.0)), DEFAULT_WIDTH) for number in (0, 1))
    second = second.assign(cutoff=first["date"].iloc[13])
    late = first["date"] > second["cutoff"].iloc[0]
    other = first.assign(actual=np.where(late, 500.0, first["actual"]))

    (known,) = known_before([first], second["cutoff"].iloc[0])
    ours, theirs = (with_measured_width([one, second])[1] for one in (first, other))

    assert known["date"].max() == second["cutoff"].iloc[0]
    pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.parametrize("error", [(0.0, 0.0), (0.3, 0.0), (0.2, 0.05)])
def test_the_levels_error_is_found_again(error: tuple[float, float]) -> None:
    folds = pd.concat([off(number, error=error) for number in range(4)], ignore_index=True)

    found, first_week = measure_level_error(folds), measure_level_error(folds[folds["step"] <= 7])

    assert found == (pytest.approx(error[0], abs=0.07), pytest.approx(error[1], abs=0.015))
    assert first_week[1] == pytest.approx(LEVEL_ERROR[1])  # it says nothing of how the error grows


@pytest.mark.parametrize("kilograms", [False, True])
def test_intervals_hold_what_they_say(kilograms: bool) -> None:
    folds = [off(number, error=(0.3, 0.0), products=400, kilograms=kilograms) for number in range(8)]

    found = with_quantiles(folds[7], measure_width(folds[:7]))

    assert evaluation.coverage(found, level=0.8) == pytest.approx(0.8, abs=0.05)
    assert evaluation.coverage(found, level=0.95) == pytest.approx(0.95, abs=0.03)


def fold(number: int, *, right: str, products: int = 60, classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:
    """One forecaster is right and the others forecast too little, so no mix is right."""
    rng = np.random.default_rng(number)
    mean = rng.uniform(3, 20, (products, 14))
    means = {name: mean.ravel() * factor for name, factor in zip(FORECASTERS, (0.5, 0.4, 0.6), strict=True)}
    columns = {**means, right: mean.ravel(), "size": 5.0, "volume_class": np.resize(classes, mean.size)}
    sold = rng.negative_binomial(5.0, 5.0 / (5.0 + mean))
    return fold_frame(mean, sold, cutoff=FIRST + 14 * number, shelf=np.inf, **columns)


@pytest.mark.parametrize("right", FORECASTERS)
def test_the_forecaster_that_was_right_weighs_more_with_every_fold(right: str) -> None:
    place = FORECASTERS.index(right)

    shares = [
        choose_weights([fold(n, right=right) for n in range(folds)], prior=EQUAL)[:, place] for folds in (1, 3, 12)
    ]

    assert (shares[0] > 1 / 3).all()
    assert (shares[1] > shares[0]).all()
    assert (shares[2] > 0.85).all()


def test_a_volume_class_has_weights_of_its_own() -> None:
    low = [fold(n, right="level", classes=("low",)) for n in range(12)]
    high = [fold(n, right="network", classes=("high",), products=200) for n in range(12)]

    weights = choose_weights([pd.concat(pair, ignore_index=True) for pair in zip(low, high, strict=True)], prior=EQUAL)

    assert weights[CLASSES.index("low"), FORECASTERS.index("level")] > 0.6
    assert weights[CLASSES.index("high"), FORECASTERS.index("network")] > 0.8
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


@given(st.integers(0, 29), st.integers(1, 40))
def test_trees_read_of_recent_units_those_up_to_the_cutoff(cutoff: int, reach: int) -> None:
    units = np.arange(60.0).reshape(2, 30)

    (found,) = recent_units(units, Targets(np.array([1]), np.array([cutoff]), np.array([1])), reach=reach)

    known = units[1, : cutoff + 1][-reach:]
    np.testing.assert_array_equal(found, [*[np.nan] * (reach - len(known)), *known])


def test_a_network_that_has_seen_little_counts_for_less() -> None:
    shares = [prior_weights(periods, context=120)[0, 0] for periods in (30, 60, 120, 700)]

    assert shares == pytest.approx([1 / 9, 1 / 5, 1 / 3, 1 / 3])


@given(st.lists(st.floats(0.05, 1), min_size=3, max_size=3), st.integers(0, 50))
def test_the_combined_level_is_the_weighted_mean_of_the_forecasters(shares: list[float], seed: int) -> None:
    levels = np.exp(np.random.default_rng(seed).normal(0, 0.5, (3, 4, 6)))
    weights = np.tile(np.asarray(shares) / sum(shares), (4, 1))

    factor = combined_factor(np.log(levels), weights=weights, volume=np.asarray([0, 1, 2, 3]))

    expected = np.einsum("f,fph->ph", weights[0], levels)
    np.testing.assert_allclose(levels[0] * np.exp(factor[:, 1:]), expected, rtol=1e-5)
    np.testing.assert_array_equal(factor[:, 0], factor[:, 1])


def test_a_new_product_has_no_factor_and_the_weights_of_all() -> None:
    known = replace(network_only(2), volume=np.asarray([0, 2], np.int8), factor=np.ones((2, 3), np.float32))

    grown = extend_combination(known, np.asarray([0, -1, 1]))

    assert grown.volume.tolist() == [0, len(CLASSES), 2]
    assert grown.factor[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_volume_classes_are_thirds_of_the_products_and_unknown_sales_count_as_none() -> None:
    assert volume_rows(np.asarray([9.0, np.nan, 5.0])).tolist() == [2, 0, 1]
    assert volume_rows(np.arange(9.0)[::-1]).tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]


@given(st.floats(0.3, 50), st.floats(0, 0.6))
def test_the_levels_error_is_taken_from_a_periods_noise_and_leaves_some(size: float, error: float) -> None:
    factor = own_noise(np.asarray([np.log(size)]), dispersion=np.zeros(1), level_error=(error, 0.0), step=4.0)

    own, shared = 1 / (size * np.exp(factor[0])), np.exp(error**2) - 1
    assert own == pytest.approx(max(1 / size - shared, 0.2 / size), rel=1e-4)


def test_no_forecaster_moves_the_combination_beyond_its_limit() -> None:
    paths = np.array([0.0, 9.0, 9.0]).reshape(3, 1, 1)

    found = combined_factor(paths, weights=np.array([[0.0, 0.5, 0.5]] * 4), volume=np.array([0]))

    assert found[0, -1] == pytest.approx(LIMIT)
