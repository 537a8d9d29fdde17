"""Levels of products that sell out: they may pass what was ever on the shelf, come to rest, and are carried exactly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pricing.data.ewma import FARTHEST, TAIL_SIZE, Norms, demand_above
from pricing.data.features import past_features
from pricing.data.panel import Panel
from pricing.demand.regression import expected_above
from pricing.demand.state import encode_panel, span
from tests.kit.demand_fakes import make_norms, make_panel, make_weights


def shelves(mean: float, shelf: float, *, size: float = 1e6, products: int = 30, periods: int = 300) -> Panel:
    """Products of one demand and so many units on the shelf every day, at the usual price."""
    rng = np.random.default_rng(0)
    panel = make_panel(products=products, periods=periods)
    demand = rng.negative_binomial(size, size / (size + mean), panel.present.shape).astype(np.float32)
    stock = np.full_like(panel.stock, shelf)
    return replace(
        panel,
        present=np.ones_like(panel.present),
        units_sold=np.minimum(demand, stock),
        stock=stock,
        price=np.full_like(panel.price, 10.0),
        is_promo=np.zeros_like(panel.is_promo),
    )


def levels(panel: Panel, *, norms: Norms | None = None) -> np.ndarray:
    """(period,) mean level over the products."""
    past, _ = past_features(panel, norms=norms or make_norms(panel))
    return np.exp(past.level).mean(axis=0)


def without_the_tail(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The level if a sold-out day said only that it must not fall."""
    with monkeypatch.context() as patched:
        patched.setattr("pricing.data.ewma.demand_above", lambda units, *, mean: np.maximum(units, mean))
        return levels(panel)


@pytest.mark.parametrize("size", [1e6, 10.0, 4.0])
def test_the_level_of_a_product_that_sells_out_passes_its_shelf_and_comes_nearer_to_its_demand(
    size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = shelves(10.0, 8.0, size=size)

    found, before = levels(panel)[-1], without_the_tail(panel, monkeypatch)[-1]

    assert before < 8.0 < found
    assert abs(found - 10.0) < 0.65 * abs(before - 10.0)


@pytest.mark.parametrize("size", [1e6, 4.0])
def test_a_shelf_that_hardly_ever_runs_out_changes_hardly_anything(
    size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = shelves(2.0, 8.0, size=size)

    assert levels(panel)[-1] == pytest.approx(without_the_tail(panel, monkeypatch)[-1], rel=0.02)


def test_the_level_of_what_is_never_seen_with_anything_left_comes_to_rest() -> None:
    panel = shelves(1000.0, 8.0, products=2, periods=1500)

    found = levels(panel)

    assert panel.censored.all()
    assert found[-1] < 1.15 * FARTHEST * 8.0
    assert found[-1] == pytest.approx(found[-300], rel=0.01)


def test_an_empty_shelf_and_a_nearly_empty_one_leave_the_level_where_it_was() -> None:
    panel = shelves(10.0, 1000.0, periods=100)
    for shelf in (0.0, 1.0):
        units, stock = panel.units_sold.copy(), panel.stock.copy()
        units[:, -1] = stock[:, -1] = shelf

        found = levels(replace(panel, units_sold=units, stock=stock))

        assert found[-1] == pytest.approx(found[-2], rel=2e-3)


@pytest.mark.parametrize("mean", [0.1, 1.0, 5.0, 10.0, 30.0, 1000.0])
@pytest.mark.parametrize("share", [0.5, 0.7, 1.0, 1.3, 2.0, 4.0])
def test_demand_above_the_shelf_is_near_the_sum_over_the_tail(mean: float, share: float) -> None:
    units = np.maximum(np.ceil([share * mean]), 1.0)
    exact = expected_above(units, np.asarray([mean]), np.asarray([TAIL_SIZE]))

    found = demand_above(units, mean=np.asarray([mean]))

    assert found[0] == pytest.approx(exact[0], rel=0.09 if mean < 5 else 0.03)


@given(units=st.floats(0, 1e6), mean=st.floats(1e-3, 1e6))
def test_demand_above_is_never_below_what_sold_or_was_expected_nor_far_above_both(units: float, mean: float) -> None:
    found = demand_above(np.asarray([units]), mean=np.asarray([mean]))[0]

    assert found >= max(units, mean)
    assert found <= 1.4 * max(units, mean) + 2.0


def test_counts_vary_at_the_price_charged_and_not_at_the_usual_one() -> None:
    panel = shelves(10.0, 8.0, periods=60)
    norms = make_norms(panel)
    half = replace(panel, price=np.full_like(panel.price, 5.0))  # an elasticity of −2 sells four times as much

    found = levels(half, norms=replace(norms, prior_level=norms.prior_level / 4, weekend=np.zeros_like(norms.weekend)))

    assert 4.0 * found[-1] == pytest.approx(levels(panel)[-1], rel=0.05)


@pytest.mark.parametrize("split", [1, 40, 150])
def test_sold_out_days_are_carried_forward_as_if_encoded_from_scratch(split: int) -> None:
    panel = shelves(10.0, 8.0, size=4.0, products=5, periods=160)
    norms, weights = make_norms(panel), make_weights()

    whole = encode_panel(weights, panel, norms=norms, tail=20)
    _, memory = past_features(span(panel, 0, split), norms=norms)
    _, carried = past_features(span(panel, split, 160), norms=norms, memory=memory)

    for name, values in vars(whole.state.memory).items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(getattr(carried, name), values, rtol=1e-5, atol=1e-6)


def test_the_hazard_is_the_normals() -> None:
    from pricing.data.ewma import _hazard  # noqa: PLC0415

    z = np.linspace(-8.0, 30.0, 77)

    np.testing.assert_allclose(_hazard(z), np.exp(stats.norm.logpdf(z) - stats.norm.logsf(z)), rtol=1e-6)
