"""Features: causal, and the same whether computed at once or carried."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.data.ewma import TAIL_SIZE, Norms, demand_above, has_own_history
from pricing.data.features import past_features, promo_effect_share
from pricing.data.panel import SERIES, Panel
from pricing.demand.censoring import expected_above
from pricing.demand.state import encode_panel, span
from tests.kit import panels
from tests.kit.demand_fakes import make_norms, make_panel, make_weights


@settings(max_examples=25)
@given(cutoff=st.integers(5, 85), seed=st.integers(0, 10_000))
def test_changing_rows_after_the_cutoff_changes_no_feature(cutoff: int, seed: int) -> None:
    panel = make_panel()
    rng = np.random.default_rng(seed)
    columns = {}
    for name in SERIES:
        values = getattr(panel, name).copy()
        values[:, cutoff:] = rng.permuted(values[:, cutoff:], axis=1)
        columns[name] = values
    other = replace(panel, **columns)

    ours, _ = past_features(panel, norms=make_norms(panel))
    theirs, _ = past_features(other, norms=make_norms(panel))

    for name in ("inputs", "level", "profile", "summary"):
        np.testing.assert_array_equal(getattr(ours, name)[:, :cutoff], getattr(theirs, name)[:, :cutoff])


def plain(panel: Panel, **columns: np.ndarray) -> Panel:
    """The panel with a row for every day, nothing promoted, and other columns."""
    return replace(panel, present=np.ones_like(panel.present), is_promo=np.zeros_like(panel.is_promo), **columns)


def test_the_level_is_stated_at_usual_price() -> None:
    panel = make_panel(products=1, periods=200)
    units = np.full_like(panel.units_sold, 8.0)
    half = plain(panel, units_sold=units, price=np.full_like(panel.price, 5.0))
    norms = Norms(*(np.asarray([value], np.float32) for value in (10.0, 1.0, 2.0, -2.0, 0.0, 0.0)))

    past, _ = past_features(half, norms=norms)

    # At half the usual price an elasticity of −2 sells four times as much.
    assert np.exp(past.level[0, -1]) == pytest.approx(2.0, rel=0.02)


def test_half_a_day_on_the_shelf_is_half_a_day_of_demand() -> None:
    panel = make_panel(products=1, periods=200)
    norms = Norms(*(np.asarray([value], np.float32) for value in (10.0, 1.0, 2.0, -2.0, 0.0, 0.0)))
    price = np.full_like(panel.price, 10.0)
    halves = np.where(np.arange(200) % 3 == 0, 0.5, 1.0)[None].astype(np.float32)
    known = plain(panel, units_sold=8 * halves, stock=8 * halves, price=price, available=halves)
    unknown = replace(known, available=np.full_like(halves, np.nan))

    level = {
        name: np.exp(past_features(given, norms=norms)[0].level[0, -1])
        for name, given in {"known": known, "unknown": unknown}.items()
    }

    assert level["known"] == pytest.approx(8.0, rel=0.02)
    assert level["unknown"] > 9.0


def test_what_is_known_of_a_shelf() -> None:
    stock = np.array([[5.0, 5.0, 5.0, 5.0, np.nan]])
    available = np.array([[np.nan, 1.0, 0.4, 0.0, np.nan]])
    shelf = panels.panel(days=5, units_sold=[[5.0, 5.0, 2.0, 0.0, 3.0]], stock=stock, available=available)

    assert shelf.bounded.tolist() == [[True, False, False, True, False]]
    assert shelf.censored.tolist() == [[True, False, True, True, False]]
    assert shelf.shelf.tolist() == [[5.0, np.inf, 0.0, 0.0, np.inf]]


def test_a_gap_in_the_history_is_neither_a_zero_nor_forgotten() -> None:
    panel = make_panel()

    past, _ = past_features(panel, norms=make_norms(panel))

    np.testing.assert_array_equal(past.level[2, 50:60], np.broadcast_to(past.level[2, 49], 10))


@pytest.mark.parametrize(("price", "draw"), [(10.0, 0.0), (12.0, 0.0), (9.5, 0.5), (9.0, 1.0), (5.0, 1.0)])
def test_a_promotion_draws_only_when_the_price_is_really_cut(price: float, draw: float) -> None:
    assert promo_effect_share(np.asarray([price]), np.asarray([10.0]))[0] == pytest.approx(draw)


def test_few_units_at_a_high_price_do_not_lift_the_level() -> None:
    rng = np.random.default_rng(3)
    panel = make_panel(products=200, periods=200)
    log_price = rng.choice([0.0, 0.5], panel.price.shape)  # at the higher one an elasticity of -6 leaves 5 % of demand
    seen = plain(
        panel,
        units_sold=rng.poisson(4.0 * np.exp(-6.0 * log_price)).astype(np.float32),
        price=(10.0 * np.exp(log_price)).astype(np.float32),
        stock=np.full_like(panel.stock, np.nan),
    )
    norms = Norms(*(np.full(200, value, np.float32) for value in (10.0, 1.0, 4.0, -6.0, 0.0, 0.0)))

    past, _ = past_features(seen, norms=norms)

    level = np.exp(past.level[:, -1])
    assert level.mean() == pytest.approx(4.0, rel=0.03)
    # Two thirds of the noise of equally weighted ratios, each of whose half at the high price is 20 times as noisy.
    assert level.std() < 0.5


def test_a_product_speaks_for_itself_by_the_rows_seen_of_it_not_by_its_age() -> None:
    panel = make_panel()
    present = panel.present.copy()
    present[0, 1:], present[3, 28:], present[4, 27:] = False, False, False
    _, memory = past_features(replace(panel, present=present), norms=make_norms(panel))

    own = has_own_history(memory, periods=28, period="day")

    assert (memory.age[[0, 3, 4]] > 60).all()
    assert list(own[[0, 3, 4]]) == [False, True, False]


def shelves(mean: float, shelf: float, *, size: float = 1e6, products: int = 30, periods: int = 300) -> Panel:
    """Products of one demand and so many units on the shelf every day, at the usual price."""
    rng = np.random.default_rng(0)
    panel = make_panel(products=products, periods=periods)
    demand = rng.negative_binomial(size, size / (size + mean), panel.present.shape).astype(np.float32)
    stock = np.full_like(panel.stock, shelf)
    return plain(panel, units_sold=np.minimum(demand, stock), stock=stock, price=np.full_like(panel.price, 10.0))


@pytest.mark.parametrize("size", [1e6, 4.0])
def test_the_level_of_a_product_that_sells_out_passes_its_shelf_and_comes_nearer_to_its_demand(size: float) -> None:
    panel = shelves(10.0, 8.0, size=size)

    past, _ = past_features(panel, norms=make_norms(panel))

    assert 8.5 < np.exp(past.level[:, -1]).mean() < 12.0


@pytest.mark.parametrize("mean", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("share", [0.5, 1.0, 1.3, 4.0])
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


def test_demand_behind_an_empty_shelf_is_at_most_three_times_what_sold() -> None:
    assert demand_above(np.array([10.0]), mean=np.array([30.0]))[0] == pytest.approx(30.0, abs=1e-6)
