"""From residuals to elasticities, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.demand.elasticity import CONTROL_SD, LIMITS, Residuals, level_prior, regress, shrink
from pricing.demand.moves import Moves, fit_moves, routine_part


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
        routine=routine_part(price, fit_moves(price)),
        weight=np.ones(len(who)),
        size=np.full(len(who), 20.0),
        weekend=np.zeros(len(who)),
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


def test_blind_prices_need_no_control() -> None:
    shift = regress(simulate(shift=np.full(20, -0.5)), products=20)

    assert shift.mean == pytest.approx(-0.5, abs=4 * shift.mean_error)
    assert abs(shift.control) < 0.6


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


def test_the_mixture_is_recovered() -> None:
    rng = np.random.default_rng(3)
    large = rng.random(20_000) < 0.2
    move = np.where(large, rng.normal(0, 0.15, 20_000), rng.normal(0, 0.03, 20_000))

    moves = fit_moves(move)

    assert moves.routine == pytest.approx(0.03, rel=0.1)
    assert moves.deliberate == pytest.approx(0.15, rel=0.1)
    assert moves.share == pytest.approx(0.2, abs=0.03)


def test_the_control_fades_for_large_moves() -> None:
    moves = Moves(routine=0.03, deliberate=0.15, share=0.2)

    part = routine_part(np.asarray([0.01, 0.3, -0.3]), moves)

    assert part[0] == pytest.approx(0.01, rel=0.1)
    assert np.abs(part[1:]).max() < 1e-6


def test_no_moves_at_all_are_no_error() -> None:
    assert fit_moves(np.asarray([])).share == 0.0


def test_shrinkage_weighs_a_product_against_its_category() -> None:
    estimate = np.asarray([-2.0, -2.2, -1.8, -2.1, -6.0, -4.0, -4.1, -3.9])
    error = np.asarray([0.1, 0.1, 0.1, 0.1, 3.0, 0.1, 0.1, np.inf])
    category = np.asarray([0, 0, 0, 0, 0, 1, 1, 1])

    shrunk = shrink(estimate, error, category=category, prior=(-3.0, 1.0))

    assert shrunk.mean[0] == pytest.approx(-2.0, abs=0.1)
    assert shrunk.mean[4] == pytest.approx(shrunk.category_mean[0], abs=0.3)
    assert shrunk.mean[7] == pytest.approx(shrunk.category_mean[1], abs=1e-6)
    assert shrunk.sd[7] > shrunk.sd[0]
    assert shrunk.category_mean[1] < shrunk.category_mean[0]


def test_shrunk_elasticities_stay_negative_and_bounded() -> None:
    shrunk = shrink(np.asarray([3.0, -20.0, 0.0]), np.full(3, 0.05), category=np.zeros(3, int), prior=(-2.0, 1.0))

    assert (shrunk.mean <= LIMITS[1]).all()
    assert (shrunk.mean >= LIMITS[0]).all()


@pytest.mark.parametrize(
    ("error", "expected"), [(0.0, -3.0), (0.1, -2.990099), (1.0, -2.5), (3.0, -2.1), (float("inf"), -2.0)]
)
def test_a_level_counts_as_far_as_it_is_sure_of_itself(error: float, expected: float) -> None:
    assert level_prior(-3.0, error, start=(-2.0, 1.0)) == (pytest.approx(expected), 1.0)


def test_weekends_on_which_shoppers_answer_more_are_found() -> None:
    rng = np.random.default_rng(3)
    plain = simulate(shift=np.zeros(40), events=600)
    column = np.where(rng.random(len(plain.price)) < 2 / 7, -2.0 * plain.price, 0.0)
    units = rng.poisson(plain.mean * np.exp(0.4 * column)).astype(float)

    found = regress(replace(plain, weekend=column, units=units), products=40)

    assert found.weekend == pytest.approx(0.4, abs=0.1)
    assert found.mean == pytest.approx(0.0, abs=0.1)


def test_where_every_move_is_routine_the_controls_prior_is_all_the_doubt_there_is() -> None:
    plain = simulate(shift=np.full(20, -0.5))

    shift = regress(replace(plain, routine=plain.price), products=20)

    assert shift.mean_error == pytest.approx(CONTROL_SD, rel=0.3)
    assert shift.mean + shift.control == pytest.approx(-0.5, abs=0.2)


def test_a_second_round_does_not_wear_the_weekends_prior_down() -> None:
    rng = np.random.default_rng(4)
    plain = simulate(shift=np.zeros(10), events=200)
    column = np.where(rng.random(len(plain.price)) < 2 / 7, -2.0 * plain.price, 0.0)
    units = rng.poisson(plain.mean * np.exp(0.4 * column)).astype(float)
    once = regress(replace(plain, weekend=column, units=units), products=10).weekend

    offset = replace(plain, weekend=column, units=units, mean=plain.mean * np.exp(once * column))
    again = regress(offset, products=10, weekend=once).weekend

    assert 0.2 < once < 0.35
    assert once + again == pytest.approx(once, abs=0.02)


def test_a_weekend_of_which_hardly_a_move_speaks_is_taken_for_a_weekday() -> None:
    plain = simulate(shift=np.zeros(3), events=40)
    column = np.where(np.arange(len(plain.price)) < 4, -2.0 * plain.price, 0.0)

    found = regress(replace(plain, weekend=column), products=3)

    assert abs(found.weekend) < 0.1
