"""Expected sales and the chance of running out, beside scipy's exact distributions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pricing.decision.stock import Sales, Tried, chance_above, expected_sales, outcomes
from pricing.demand.curve import DemandGrid
from tests.kit.plain_pricing import plain_sales


def grid_of(until: np.ndarray, *, size: float, first: np.ndarray | None = None) -> DemandGrid:
    """A grid of one node per row of `until` (node, candidate), for one request."""
    until = until[None]
    first = until if first is None else first[None]
    weight = np.full(until.shape[1], 1 / until.shape[1])
    return DemandGrid(
        first, until, np.array([size]), np.array([size]), weight, np.zeros(1, dtype=int), np.full(1, 2), np.ones(1)
    )


def test_expected_sales_are_close_to_the_exact_ones() -> None:
    rng = np.random.default_rng(0)
    mean = np.exp(rng.uniform(np.log(0.05), np.log(5000), 100_000))
    size = np.exp(rng.uniform(np.log(0.2), np.log(500), 100_000))
    stock = np.maximum(np.round(mean * np.exp(rng.uniform(-3, 3, 100_000))), 1.0)

    error = np.abs(expected_sales(mean, size=size, stock=stock) / plain_sales(mean, size=size, stock=stock) - 1)

    assert error.max() < 0.012
    assert error.mean() < 0.0005


@given(mean=st.floats(1e-6, 1e7), size=st.floats(0.05, 1e9), stock=st.floats(0.0, 1e12))
def test_expected_sales_never_exceed_demand_or_stock_and_are_finite(mean: float, size: float, stock: float) -> None:
    sales = expected_sales(np.array([mean]), size=np.array([size]), stock=np.array([stock]))[0]

    assert 0 <= sales <= min(mean, max(stock, 1.0))


@given(mean=st.floats(0.1, 1e4), size=st.floats(0.3, 100), stock=st.integers(1, 10_000))
def test_more_stock_sells_no_less(mean: float, size: float, stock: int) -> None:
    sales = expected_sales(np.full(2, mean), size=np.full(2, size), stock=np.array([stock, stock + 1.0]))

    assert sales[1] >= sales[0] * (1 - 2e-3)


def test_the_chance_of_running_out_is_within_half_a_percent_point() -> None:
    rng = np.random.default_rng(1)
    mean = np.exp(rng.uniform(np.log(0.1), np.log(2000), 50_000))
    size = np.exp(rng.uniform(np.log(0.2), np.log(200), 50_000))
    units = np.floor(mean * np.exp(rng.uniform(-3, 3, 50_000)))

    chance = chance_above(mean, size=size, units=units)

    assert np.abs(chance - stats.nbinom.sf(units, size, size / (size + mean))).max() < 0.005


def test_the_expected_sales_of_a_batch_interpolate_to_half_a_percent() -> None:
    rng = np.random.default_rng(2)
    ratio = np.exp(np.linspace(np.log(0.7), np.log(1.35), 64))
    for _ in range(200):
        level, size, stock = np.exp(rng.uniform(0, 6)), np.exp(rng.uniform(-1, 4)), np.exp(rng.uniform(0, 6))
        until = level * ratio ** -np.linspace(1.2, 4.5, 8)[:, None]
        grid = grid_of(until, size=size, first=until / 7)

        sales = Sales(grid, np.array([stock]))

        direct = expected_sales(until, size=np.full_like(until, size), stock=np.full_like(until, stock))
        assert np.abs(sales.until[0] / direct - 1).max() < 5e-3
        first = expected_sales(until / 7, size=np.full_like(until, size), stock=np.full_like(until, stock))
        found = sales.first(np.array([20]))
        assert found[0] == pytest.approx(first[:, 20].mean(), rel=5e-3)


def test_the_outcome_of_a_price_is_that_of_demand_sampled_until_the_next_delivery() -> None:
    rng = np.random.default_rng(5)
    until, stock = np.array([[20.0], [30.0]]), 25.0
    grid = replace(grid_of(until, size=3.0, first=until / 4), first_size=np.array([0.5]))

    (found,) = outcomes([Tried(10.0, None, True)], lambda _: grid, stock=stock, unit_cost=6.0, tax_rate=0.0)

    mean = rng.choice(until.ravel(), 400_000)
    sampled = rng.negative_binomial(3.0, 3.0 / (3.0 + mean))
    assert (found.demand.low, found.demand.high) == pytest.approx(tuple(np.quantile(sampled, [0.1, 0.9])), abs=1)
    assert found.units.mean == pytest.approx(np.minimum(sampled, stock).mean(), rel=0.01)
    assert found.stock_out == pytest.approx((sampled >= stock).mean(), abs=0.01)


def test_only_short_requests_are_limited() -> None:
    until = np.full((2, 1, 3), 50.0)
    sizes = np.full(2, 5.0)
    grid = DemandGrid(until, until, sizes, sizes, np.ones(1), np.zeros(2, dtype=int), np.full(2, 2), np.ones(2))

    sales = Sales(grid, np.array([10.0, np.inf]))

    assert (sales.until[0] < 10.01).all()
    assert (sales.until[1] == 50.0).all()
    assert (grid.until == 50.0).all()
