"""The elasticities that a history supports, by what is held fixed, on sales in which they are known."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from pricing.data.panel import Panel
from pricing.demand.fixed_effects import estimate_ladder
from pricing.demand.ladder import ADVERTISED, ALL, LASTING, STORES, UNKNOWN, Ladder
from tests.kit.demand_fakes import make_panel

PRODUCTS = 20
DAYS = 364


def history(log_price: np.ndarray, log_units: np.ndarray, *, seed: int = 0, promo: np.ndarray | None = None) -> Panel:
    """Sales of products at (product, day) log prices, around their expected log units."""
    base = make_panel(products=len(log_price), periods=log_price.shape[1])
    flags = np.zeros(log_price.shape) if promo is None else promo
    return replace(
        base,
        present=np.ones(log_price.shape, bool),
        price=np.exp(log_price).astype(np.float32),
        units_sold=np.random.default_rng(seed).poisson(np.exp(log_units)).astype(np.float32),
        is_promo=flags.astype(np.float32),
        categories=np.full(len(log_price), "all"),
    )


def two_kinds(rng: np.random.Generator, *, products: int = PRODUCTS) -> tuple[np.ndarray, np.ndarray]:
    """(product, day) log prices that last a quarter, and cuts of a week."""
    lasting = np.repeat(rng.normal(0.0, 0.1, (products, DAYS // 91)), 91, axis=1)
    cut = np.repeat(-0.25 * (rng.random((products, DAYS // 7)) < 0.15), 7, axis=1)
    return lasting, cut


def test_a_rung_is_the_poisson_regression_with_an_effect_of_each_series_and_fortnight() -> None:
    rng = np.random.default_rng(3)
    log_price = np.repeat(rng.normal(1.0, 0.1, (4, 12)), 7, axis=1)
    sales = history(log_price, 2.0 - 1.5 * log_price)

    found = estimate_ladder(sales)

    row, day = np.indices(log_price.shape).reshape(2, -1)
    effects = [(row == each) for each in range(4)] + [(day // 14 == each) for each in range(1, 6)]
    columns = np.stack([np.log(sales.price).ravel(), *effects], axis=1).astype(float)
    oracle = sm.GLM(sales.units_sold.ravel(), columns, family=sm.families.Poisson()).fit()
    assert found.value[ALL] == pytest.approx(oracle.params[0], abs=1e-3)


def test_cuts_and_lasting_prices_that_differ_stand_apart_and_cast_doubt() -> None:
    lasting, cut = two_kinds(np.random.default_rng(1))

    found = estimate_ladder(history(lasting + cut, 3.0 - 1.0 * lasting - 3.0 * cut))
    alike = estimate_ladder(history(lasting + cut, 3.0 - 2.0 * lasting - 2.0 * cut))

    assert found.value[LASTING] == pytest.approx(-1.0, abs=3 * found.error[LASTING])
    assert found.value[ALL] < -1.7
    assert found.doubt > 0.5
    assert alike.doubt < 0.2
    assert replace(found, level=-1.0).steepest == pytest.approx(
        -found.value.min(where=np.isfinite(found.value), initial=0.0)
    )
    assert replace(found, level=-9.0).steepest == found.steepest == 1.0


def test_an_advertisement_held_fixed_takes_its_share() -> None:
    lasting, cut = two_kinds(np.random.default_rng(2))

    found = estimate_ladder(history(lasting + cut, 3.0 - 1.0 * (lasting + cut) + 0.5 * (cut < 0), promo=cut < 0))

    assert found.value[ADVERTISED] == pytest.approx(-1.0, abs=3 * found.error[ADVERTISED])
    assert found.value[ALL] < -2.0


def test_between_stores_nothing_counts_that_all_stores_share() -> None:
    rng = np.random.default_rng(4)
    own = np.repeat(rng.normal(0.0, 0.1, (PRODUCTS, DAYS // 28)), 28, axis=1)
    common = np.repeat(np.repeat(rng.normal(0.0, 0.1, (PRODUCTS // 4, DAYS // 28)), 28, axis=1), 4, axis=0)
    sales = history(own + common, 3.0 - 2.0 * own + 1.0 * common)
    stores = replace(sales, parent_ids=np.repeat([f"P{number}" for number in range(PRODUCTS // 4)], 4))

    found = estimate_ladder(stores)

    assert found.value[STORES] == pytest.approx(-2.0, abs=3 * found.error[STORES])
    assert found.value[ALL] > -1.5
    assert np.isnan(estimate_ladder(sales).value[STORES])


def test_of_a_large_chain_whole_products_are_read_with_all_their_stores() -> None:
    rng = np.random.default_rng(6)
    log_price = np.repeat(rng.normal(0.0, 0.1, (1040, 8)), 14, axis=1)
    sales = history(log_price, 2.0 - 2.0 * log_price)
    stores = replace(sales, parent_ids=np.repeat([f"P{number:02}" for number in range(26)], 40))

    found = estimate_ladder(stores)

    assert found.value[STORES] == pytest.approx(-2.0, abs=3 * found.error[STORES])


def test_what_cannot_be_computed_adds_nothing() -> None:
    flat = estimate_ladder(history(np.zeros((PRODUCTS, DAYS)), np.full((PRODUCTS, DAYS), 2.0)))

    assert np.isnan(flat.value).all()
    assert flat.doubt == UNKNOWN.doubt == Ladder(np.array([-2.0, np.nan]), np.array([0.1, np.nan])).doubt == 0.0
    assert flat.sentence() == ""
    assert replace(flat, level=-2.0).steepest == 1.0


def test_prices_of_the_platform_tell_nothing() -> None:
    lasting, cut = two_kinds(np.random.default_rng(5))
    sales = history(lasting + cut, 3.0 - 2.0 * (lasting + cut))
    own = np.zeros(lasting.shape, bool)
    own[:, DAYS // 2 :] = True
    other = replace(sales, units_sold=np.where(own, 0.0, sales.units_sold).astype(np.float32))

    np.testing.assert_array_equal(estimate_ladder(sales, own=own).value, estimate_ladder(other, own=own).value)
