"""Three forecasters as one: a combined level that is their weighted mean, and the noise that is a period's own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.demand.ensemble import (
    CLASSES,
    _recent,
    combined_factor,
    extend_combination,
    network_only,
    own_noise,
    prior_weights,
    volume_rows,
)
from tests.kit.demand_fakes import make_model, make_panel


@given(st.integers(0, 29), st.integers(1, 40))
def test_trees_read_of_recent_units_those_up_to_the_cutoff(cutoff: int, reach: int) -> None:
    units = np.arange(60.0).reshape(2, 30)

    (found,) = _recent(units, np.array([1]), np.array([cutoff]), reach=reach)

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
    assert grown.factor[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_volume_classes_are_thirds_of_the_products_and_unknown_sales_count_as_none() -> None:
    assert volume_rows(np.asarray([9.0, np.nan, 5.0])).tolist() == [2, 0, 1]
    assert volume_rows(np.arange(9.0)[::-1]).tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]


@given(st.floats(0.3, 50), st.floats(0, 0.6))
def test_the_levels_error_is_taken_from_a_periods_noise_and_leaves_some(size: float, error: float) -> None:
    factor = own_noise(np.asarray([np.log(size)]), dispersion=np.zeros(1), level_error=(error, 0.0), step=4.0)

    own, shared = 1 / (size * np.exp(factor[0])), np.exp(error**2) - 1
    assert own == pytest.approx(max(1 / size - shared, 0.2 / size), rel=1e-4)
