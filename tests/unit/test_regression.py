"""Residual on residual, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pricing.demand.endogeneity import control_function, fit_price_change_mixture
from pricing.demand.regression import (
    Residuals,
    complete_censored,
    difference,
    expected_above,
    placebo,
    regress,
)
from tests.kit.stores import select


def simulate(
    *, shift: np.ndarray, confounding: float = 0.0, events: int = 600, seed: int = 0, mean: float = 40.0
) -> Residuals:
    """Moves of which nine in ten are routine and answer to hidden demand by `confounding`."""
    rng = np.random.default_rng(seed)
    products = len(shift)
    who = np.repeat(np.arange(products), events)
    deliberate = rng.random(len(who)) < 0.15
    shock = rng.normal(0, 0.2, len(who))
    routine = rng.normal(0, 0.03, len(who)) + confounding * shock
    price = np.where(deliberate, rng.normal(0, 0.15, len(who)), routine)
    shock = np.where(deliberate, rng.normal(0, 0.2, len(who)), shock)
    expected = np.full(len(who), mean)
    units = rng.poisson(expected * np.exp(shift[who] * price + shock))
    return Residuals(
        product=who,
        cluster=np.tile(np.arange(events) // 10, products),
        units=units.astype(float),
        mean=expected * np.exp(0.02),
        price=price,
        routine=control_function(price, fit_price_change_mixture(price)),
        weight=np.ones(len(who)),
        size=np.full(len(who), 20.0),
        weekend=np.zeros(len(who)),
        censored=np.zeros(len(who)),
    )


def test_a_known_shift_is_found_for_each_product() -> None:
    truth = np.asarray([-1.0, 0.0, 0.5, 1.0])

    shift = regress(simulate(shift=truth, events=3000), products=4)

    np.testing.assert_allclose(shift.value, truth, atol=4 * shift.error.max())
    assert shift.error.max() < 0.15


def test_prices_that_answer_to_hidden_demand_do_not_bias_the_level() -> None:
    truth = np.full(20, -0.5)
    confounded = simulate(shift=truth, confounding=0.2)

    shift = regress(confounded, products=20)
    naive = np.polyfit(confounded.price, np.log(confounded.units + 0.5), 1)[0]

    assert naive > -0.2
    assert shift.mean == pytest.approx(-0.5, abs=0.2)
    assert shift.control > 0.5


def test_a_product_without_moves_has_shift_zero_and_no_certainty() -> None:
    shift = regress(simulate(shift=np.asarray([0.3, 0.3])), products=3)

    assert shift.value[2] == 0.0
    assert np.isinf(shift.error[2])


def test_standard_errors_cover_the_truth_about_as_often_as_they_say() -> None:
    inside = []
    for seed in range(20):
        truth = np.random.default_rng(seed).normal(0, 0.5, 10)
        shift = regress(simulate(shift=truth, seed=seed, events=400), products=10)
        inside.append(np.abs(shift.value - truth) < 1.2816 * np.hypot(shift.error, shift.common))

    assert 0.70 < np.mean(inside) < 0.92


def test_weekends_on_which_shoppers_answer_more_are_found() -> None:
    rng = np.random.default_rng(3)
    plain = simulate(shift=np.zeros(40), events=600)
    column = np.where(rng.random(len(plain.price)) < 2 / 7, -2.0 * plain.price, 0.0)
    units = rng.poisson(plain.mean * np.exp(0.4 * column)).astype(float)

    found = regress(replace(plain, weekend=column, units=units), products=40)

    assert found.weekend == pytest.approx(0.4, abs=0.1)
    assert found.mean == pytest.approx(0.0, abs=0.1)


def one_move(truth: float, *, seed: int, products: int = 60, same_day: bool = False) -> Residuals:
    """Two weeks after the only price move of each product; forecasts err by 0.15 in level."""
    rng = np.random.default_rng(seed)
    days = 14
    who = np.repeat(np.arange(products), days)
    move = rng.choice([-1.0, 1.0], products) * rng.uniform(0.1, 0.2, products)
    level = rng.normal(0, 0.15, products)
    units = rng.poisson(40.0 * np.exp((truth + 2.0) * move[who] + level[who]))
    cluster = np.zeros(products, int) if same_day else rng.integers(0, 40, products)
    zeros = np.zeros(len(who))
    return Residuals(
        product=who,
        cluster=cluster[who],
        units=units.astype(float),
        mean=np.full(len(who), 40.0),
        price=move[who],
        routine=zeros,
        weight=np.ones(len(who)),
        size=np.full(len(who), 50.0),
        weekend=zeros,
        censored=zeros,
    )


@pytest.mark.parametrize("truth", [-3.6, -1.2])
def test_one_move_a_product_tells_what_all_have_in_common(truth: float) -> None:
    shift = regress(one_move(truth, seed=1), products=60)

    assert shift.mean - 2.0 == pytest.approx(truth, abs=0.35)
    assert 0.05 < shift.mean_error < 0.3
    assert shift.level_sd == pytest.approx(0.15, abs=0.05)


def test_the_pooled_level_is_covered_about_as_often_as_its_error_says() -> None:
    inside = []
    for seed in range(60):
        shift = regress(one_move(-3.0, seed=seed, products=20), products=20)
        inside.append(abs(shift.mean + 1.0) < 1.2816 * np.hypot(shift.mean_error, shift.drift))

    assert 0.7 < np.mean(inside) < 0.95


def test_moves_that_all_fall_together_say_nothing_of_the_level() -> None:
    shift = regress(one_move(-3.6, seed=1, same_day=True), products=60)

    assert np.isinf(shift.drift)


def test_sold_out_events_bias_nothing() -> None:
    rng = np.random.default_rng(5)
    plain = simulate(shift=np.full(20, -1.0), events=600)
    stock = rng.poisson(plain.mean * 1.15)
    met = plain.units >= stock
    limited = replace(plain, units=np.minimum(plain.units, stock), censored=met.astype(float))

    kept = regress(limited, products=20)
    dropped = regress(select(limited, ~met), products=20)

    assert 0.2 < met.mean() < 0.4
    assert kept.mean == pytest.approx(-1.0, abs=0.12)
    assert dropped.mean > kept.mean + 0.1


def test_a_placebo_without_effect_is_within_its_error() -> None:
    rng = np.random.default_rng(8)
    plain = simulate(shift=np.zeros(30), events=300)
    coming = rng.normal(0, 0.1, len(plain.price))

    nothing = placebo(plain, coming, products=30)
    effect = placebo(replace(plain, units=rng.poisson(plain.mean * np.exp(coming))), coming, products=30)

    assert abs(nothing[0]) < 3 * nothing[1]
    assert effect[0] == pytest.approx(1.0, abs=4 * effect[1])
    assert effect[1] < 0.15


def test_a_placebo_that_never_varied_is_unknown() -> None:
    plain = simulate(shift=np.zeros(3), events=20)

    assert placebo(plain, np.zeros(len(plain.price)), products=3) == (0.0, np.inf)


def test_a_kind_of_moves_that_brings_more_is_found() -> None:
    rng = np.random.default_rng(9)
    plain = simulate(shift=np.full(30, -0.5), events=400)
    kind = rng.random(len(plain.price)) < 0.5
    units = rng.poisson(plain.units * np.exp(-1.5 * plain.price * kind)).astype(float)

    alike = difference(plain, regress(plain, products=30), kind)
    unlike = replace(plain, units=units)
    apart = difference(unlike, regress(unlike, products=30), kind)

    assert abs(alike[0]) < 3 * alike[1]
    assert apart[0] == pytest.approx(-1.5, abs=0.4)
    assert apart[0] < -5 * apart[1]


@pytest.mark.parametrize("units", [1, 2, 7, 30])
@pytest.mark.parametrize(("mean", "size"), [(5.0, 2.0), (0.4, 0.7), (20.0, 50.0)])
def test_the_expectation_is_the_sum_over_the_tail(units: int, mean: float, size: float) -> None:
    count = np.arange(units, units + 4000)
    chance = stats.nbinom.pmf(count, size, size / (size + mean))

    found = expected_above(np.asarray([float(units)]), np.asarray([mean]), np.asarray([size]))

    assert found[0] == pytest.approx((count * chance).sum() / chance.sum(), rel=1e-5)


def test_the_completed_score_is_the_slope_of_the_censored_likelihood() -> None:
    units, mean, size = np.asarray([6.0]), np.asarray([5.0]), np.asarray([3.0])
    full, information = complete_censored(units, mean, size, censored=np.ones(1))
    score = (full - mean) / (1 + mean / size)

    def log_chance(log_mean: float) -> float:
        return float(stats.nbinom.logsf(5, 3.0, 3.0 / (3.0 + np.exp(log_mean))))

    at, step = np.log(5.0), 1e-5
    slope = (log_chance(at + step) - log_chance(at - step)) / (2 * step)

    assert score[0] == pytest.approx(slope, rel=1e-5)
    assert 0 < information[0] < mean[0]
