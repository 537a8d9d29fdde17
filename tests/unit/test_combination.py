"""Three forecasters as one: weights that earn their place, and a forecast that is theirs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.demand.ensemble import (
    CLASSES,
    FORECASTERS,
    combined_factor,
    extend_combination,
    network_only,
    own_noise,
    prior_weights,
    volume_rows,
)
from pricing.demand.out_of_fold import choose_weights
from tests.kit.demand_fakes import make_model, make_panel

EQUAL = prior_weights(200, context=120)


def fold(number: int, *, right: str, products: int = 60, classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:
    """An evaluation frame in which one forecaster is right and the others forecast too little, so no mix is right."""
    rng = np.random.default_rng(number)
    rows = products * 14
    mean = rng.uniform(3, 20, rows)
    means = {name: mean * factor for name, factor in zip(FORECASTERS, (0.5, 0.4, 0.6), strict=True)}
    return pd.DataFrame(
        {
            "date": np.tile(np.datetime64("2024-01-01") + 14 * number + np.arange(1, 15), products),
            "step": np.tile(np.arange(1, 15), products),
            "volume_class": np.resize(classes, rows),
            "censored": False,
            "actual": rng.negative_binomial(5.0, 5.0 / (5.0 + mean)).astype(float),
            "size": 5.0,
            "unit": 1.0,
            **means,
            right: mean,
        }
    )


def test_where_nothing_was_scored_all_forecasters_weigh_alike() -> None:
    np.testing.assert_allclose(choose_weights([], prior=EQUAL), EQUAL)


def test_a_network_that_has_seen_little_counts_for_less() -> None:
    shares = [prior_weights(periods, context=120)[0, 0] for periods in (30, 60, 120, 700)]

    assert shares == pytest.approx([1 / 9, 1 / 5, 1 / 3, 1 / 3])


def test_without_trees_nothing_weighs_on_them() -> None:
    prior = prior_weights(200, context=120, trees=False)

    weights = choose_weights([fold(n, right="level").assign(booster=1.0) for n in range(3)], prior=prior)

    assert prior[0].tolist() == [0.5, 0.5, 0.0]
    assert (weights[:, 2] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_trees_that_no_fold_had_keep_what_they_had_before() -> None:
    folds = [fold(n, right="level").assign(booster=np.nan) for n in range(3)]

    weights = choose_weights(folds, prior=EQUAL)

    np.testing.assert_allclose(weights[:, 2], EQUAL[:, 2])
    assert (weights[:, 1] > 0.5).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_where_every_row_sold_out_no_forecaster_is_preferred() -> None:
    emptied = [fold(n, right="level").assign(censored=True) for n in range(3)]
    emptied = [frame.assign(shelf=frame["actual"]) for frame in emptied]

    np.testing.assert_allclose(choose_weights(emptied, prior=EQUAL), EQUAL)


def test_trees_that_some_folds_lacked_are_judged_on_the_others() -> None:
    lacking = [fold(n, right="level").assign(booster=np.nan) for n in range(3)]

    weights = choose_weights([*lacking, *(fold(n, right="booster") for n in range(3, 12))], prior=EQUAL)

    assert (weights[:, 2] > 0.6).all()


def test_of_forecasters_that_score_alike_none_is_preferred() -> None:
    alike = [fold(n, right="level") for n in range(12)]
    alike = [frame.assign(booster=frame["level"]) for frame in alike]

    weights = choose_weights(alike, prior=EQUAL)

    assert (np.abs(weights[:, 1] - weights[:, 2]) < 0.3).all()


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


def test_folds_that_overlap_count_for_the_days_that_they_add() -> None:
    apart = choose_weights([fold(n, right="booster") for n in range(2)], prior=EQUAL)
    twice = choose_weights([fold(0, right="booster"), fold(0, right="booster")], prior=EQUAL)

    assert twice[0, 2] < apart[0, 2]


@given(st.lists(st.floats(0.05, 1), min_size=3, max_size=3), st.integers(0, 50))
def test_the_combined_level_is_the_weighted_mean_of_the_forecasters(shares: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    paths = rng.normal(0, 0.5, (3, 4, 6))
    weights = np.tile(np.asarray(shares) / sum(shares), (4, 1))

    factor = combined_factor(paths, weights=weights, volume=np.asarray([0, 1, 2, 3]))

    levels = np.exp(paths)
    expected = np.einsum("f,fph->ph", weights[0], levels)
    np.testing.assert_allclose(levels[0] * np.exp(factor[:, 1:]), expected, rtol=1e-5)
    np.testing.assert_array_equal(factor[:, 0], factor[:, 1])


def test_a_models_levels_are_the_combined_ones_and_beyond_the_horizon_the_last_step_stands() -> None:
    model = make_model(make_panel(products=4, periods=80))
    factor = np.random.default_rng(3).normal(0, 0.4, (4, 29)).astype(np.float32)
    moved = replace(model, combination=replace(model.combination, factor=factor))

    added = moved.table().levels - model.table().levels

    np.testing.assert_allclose(added[:4], np.hstack([factor[:, 1:], np.repeat(factor[:, -1:], 7, axis=1)]), atol=1e-5)
    assert not added[4:].any()


def test_a_new_product_has_no_factor_and_the_weights_of_all() -> None:
    known = replace(network_only(2), volume=np.asarray([0, 2], np.int8), factor=np.ones((2, 3), np.float32))

    grown = extend_combination(known, np.asarray([0, -1, 1]))

    assert grown.volume.tolist() == [0, len(CLASSES), 2]
    assert grown.factor[1].tolist() == [0.0, 0.0, 0.0]


def test_thirds_of_the_products_by_volume() -> None:
    assert volume_rows(np.asarray([9.0, 1.0, 5.0])).tolist() == [2, 0, 1]


@given(st.floats(0.3, 50), st.floats(0, 0.6))
def test_the_levels_error_is_taken_from_a_periods_noise_and_leaves_some(size: float, error: float) -> None:
    factor = own_noise(np.asarray([np.log(size)]), dispersion=np.zeros(1), level_error=(error, 0.0), step=4.0)

    own = 1 / (size * np.exp(factor[0]))
    shared = np.exp(error**2) - 1
    assert own <= 1 / size * (1 + 1e-5)
    assert own == pytest.approx(max(1 / size - shared, 0.2 / size), rel=1e-4)
