"""Features: causal, and the same whether computed at once or carried."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.data.ewma import Norms, has_own_history
from pricing.data.features import (
    competitor_gap,
    holiday_window,
    past_features,
    promo_effect_share,
    weekdays,
)
from pricing.data.panel import SERIES
from pricing.demand.state import span
from tests.kit.demand_fakes import make_norms, make_panel


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


def test_features_in_two_parts_equal_features_at_once() -> None:
    panel = make_panel()
    norms = make_norms(panel)

    whole, _ = past_features(panel, norms=norms)
    _, memory = past_features(span(panel, 0, 40), norms=norms)
    rest, _ = past_features(span(panel, 40, 90), norms=norms, memory=memory)

    np.testing.assert_allclose(rest.inputs, whole.inputs[:, 40:], atol=1e-6)


def test_the_level_is_stated_at_usual_price() -> None:
    panel = make_panel(products=1, periods=200)
    units = np.full_like(panel.units_sold, 8.0)
    half = replace(
        panel,
        units_sold=units,
        price=np.full_like(panel.price, 5.0),
        is_promo=np.zeros_like(panel.is_promo),
        present=np.ones_like(panel.present),
    )
    norms = Norms(*(np.asarray([value], np.float32) for value in (10.0, 1.0, 2.0, -2.0, 0.0, 0.0)))

    past, _ = past_features(half, norms=norms)

    # At half the usual price an elasticity of −2 sells four times as much.
    assert np.exp(past.level[0, -1]) == pytest.approx(2.0, rel=0.02)


def test_few_units_at_a_high_price_do_not_lift_the_level() -> None:
    rng = np.random.default_rng(3)
    panel = make_panel(products=200, periods=200)
    log_price = rng.choice([0.0, 0.5], panel.price.shape)  # at the higher one an elasticity of -6 leaves 5 % of demand
    seen = replace(
        panel,
        units_sold=rng.poisson(4.0 * np.exp(-6.0 * log_price)).astype(np.float32),
        price=(10.0 * np.exp(log_price)).astype(np.float32),
        is_promo=np.zeros_like(panel.is_promo),
        stock=np.full_like(panel.stock, np.nan),
        present=np.ones_like(panel.present),
    )
    norms = Norms(*(np.full(200, value, np.float32) for value in (10.0, 1.0, 4.0, -6.0, 0.0, 0.0)))

    past, _ = past_features(seen, norms=norms)

    level = np.exp(past.level[:, -1])
    assert level.mean() == pytest.approx(4.0, rel=0.03)
    # Two thirds of the noise of equally weighted ratios, each of whose half at the high price is 20 times as noisy.
    assert level.std() < 0.5


def test_one_mistyped_price_cannot_run_away_with_the_level() -> None:
    panel = make_panel(products=1, periods=60)
    price = panel.price.copy()
    price[0, 40] *= 1000
    slip = replace(panel, price=price)

    past, _ = past_features(slip, norms=make_norms(panel))

    assert past.level[0, -1] - past.level[0, 39] < 2.0


def test_a_day_that_sold_out_never_pulls_the_level_down() -> None:
    panel = make_panel(products=1, periods=60)
    stock = panel.stock.copy()
    units = panel.units_sold.copy()
    units[0, -1], stock[0, -1] = 1.0, 1.0
    sold_out = replace(panel, units_sold=units, stock=stock)
    open_day = replace(panel, units_sold=units)

    censored, _ = past_features(sold_out, norms=make_norms(panel))
    plain, _ = past_features(open_day, norms=make_norms(panel))

    assert censored.level[0, -1] >= censored.level[0, -2] - 1e-3
    assert plain.level[0, -1] < censored.level[0, -1]


def test_a_weekday_that_sells_double_gets_its_profile() -> None:
    panel = make_panel(products=1, periods=280)
    day = weekdays(panel.dates, period="day")
    units = np.where(day == 5, 20.0, 10.0)[None].astype(np.float32)
    busy = replace(
        panel, units_sold=units, price=np.full_like(panel.price, 10.0), is_promo=np.zeros_like(panel.is_promo)
    )

    past, _ = past_features(busy, norms=make_norms(panel))

    profile = np.exp(past.profile[0, -1])
    assert profile[5] / profile[[0, 1, 2, 3, 4, 6]].mean() == pytest.approx(2.0, rel=0.15)


def test_a_gap_in_the_history_is_neither_a_zero_nor_forgotten() -> None:
    panel = make_panel()

    past, _ = past_features(panel, norms=make_norms(panel))

    np.testing.assert_array_equal(past.level[2, 50:60], np.broadcast_to(past.level[2, 49], 10))


@pytest.mark.parametrize(("price", "draw"), [(10.0, 0.0), (12.0, 0.0), (9.5, 0.5), (9.0, 1.0), (5.0, 1.0)])
def test_a_promotion_draws_only_when_the_price_is_really_cut(price: float, draw: float) -> None:
    assert promo_effect_share(np.asarray([price]), np.asarray([10.0]))[0] == pytest.approx(draw)


def test_a_missing_competitor_is_neutral_and_flagged() -> None:
    gap, known = competitor_gap(np.asarray([np.nan, 10.0, 5.0]), np.asarray([10.0, 10.0, 10.0]))

    np.testing.assert_allclose(gap, [0.0, 0.0, np.log(0.5)], atol=1e-6)
    np.testing.assert_array_equal(known, [0.0, 1.0, 1.0])


def test_the_holiday_window_looks_one_back_and_two_ahead() -> None:
    window = holiday_window(np.asarray([[0, 0, 1, 0, 0]], np.float32))

    np.testing.assert_array_equal(window[0, :, 0], [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(window[0, :, 1], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(window[0, :, 2], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(window[0, :, 3], [1, 0, 0, 0, 0])


def test_a_product_speaks_for_itself_by_the_rows_seen_of_it_not_by_its_age() -> None:
    panel = make_panel()
    present = panel.present.copy()
    present[0, 1:], present[3, 28:], present[4, 27:] = False, False, False
    _, memory = past_features(replace(panel, present=present), norms=make_norms(panel))

    own = has_own_history(memory, periods=28, period="day")

    assert (memory.age[[0, 3, 4]] > 60).all()
    assert list(own[[0, 3, 4]]) == [False, True, False]
