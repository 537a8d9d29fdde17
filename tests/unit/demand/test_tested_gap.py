"""What random draws tell of a category corrects its observed elasticities, and those of other categories by less."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.arrays import Floats
from pricing.demand.estimation import Estimates, with_draws
from pricing.demand.falsification import UNTESTED, FalsificationTests
from pricing.demand.regression import Shift
from pricing.demand.shrinkage import shrink
from pricing.demand.tested_gap import BETWEEN, between_variance, mean_elasticities, posterior_gaps

OPEN_TO = 0.8
CATEGORY = np.arange(12) // 3  # the last category is not tested
GAPS = slice(12, 16)  # places of the gaps among the unknowns, behind the elasticities
SHARED = 16  # that of b
TESTED = 17  # and of the error that all tests share


def shift_of(value: Floats, error: Floats, *, drift: float = 0.0) -> Shift:
    nil = np.zeros(len(error))
    information = np.bincount(CATEGORY, 1.0 / error**2)
    return Shift(value, error, information, 0.0, 0.1, drift, 0.0, 0.0, 0.0, nil, 0.0, nil, 0.0)


def drawn(seed: int, *, drift: float = 0.0) -> tuple[Estimates, Shift]:
    """Observed and tested estimates: all tested in category 0, two of three in 1, one in 2 and none in 3."""
    rng = np.random.default_rng(seed)
    error = rng.uniform(0.2, 0.5, 12)
    random = np.where(np.isin(np.arange(12), [0, 1, 2, 3, 4, 6]), rng.uniform(0.2, 0.6, 12), np.inf)
    moves = shift_of(rng.normal(-2.5, 0.6, 12), error)
    known = Estimates(
        value=moves.value,
        error=error,
        category_information=moves.category_information,
        level=float(moves.value.mean()),
        level_error=0.1,
        step=0.0,
        moved=0.0,
        bias=OPEN_TO,
        shift=moves,
        checks=FalsificationTests(UNTESTED, UNTESTED, UNTESTED, {}),
    )
    return known, shift_of(rng.normal(-1.8, 0.6, 12), random, drift=drift)


def joint_posterior(known: Estimates, random: Shift) -> tuple[Floats, Floats, float]:
    """Posterior of elasticities (flat prior), gaps, b, the tests' error: mean, covariance, variance around b.

    Observations and priors are rows of one weighted regression.
    """
    unknowns = np.eye(TESTED + 1)
    elasticity, gap, shared, off = unknowns[:12], unknowns[GAPS], unknowns[SHARED:TESTED], unknowns[TESTED:]
    measured = np.flatnonzero(np.isfinite(random.error))

    apart = (known.value - random.value)[measured]
    weight = 1.0 / (known.error**2 + random.error**2)[measured]
    total = np.bincount(CATEGORY[measured], weight)
    between = between_variance(np.bincount(CATEGORY[measured], weight * apart) / total, 1.0 / total, open_to=OPEN_TO)

    design = np.concatenate([elasticity + gap[CATEGORY], elasticity[measured] + off, gap - shared, shared, off])
    values = np.concatenate([known.value, random.value[measured], np.zeros(6)])
    errors = [known.error, random.error[measured], np.full(4, np.sqrt(between)), [OPEN_TO], [max(random.drift, 1e-6)]]
    precise = 1.0 / np.concatenate(errors) ** 2
    covariance = np.linalg.inv(design.T @ (precise[:, None] * design))
    return covariance @ design.T @ (precise * values), covariance, between


def test_corrections_are_those_of_the_joint_normal_posterior() -> None:
    known, random = drawn(3)
    found = with_draws(known, random, old=np.zeros(12), category=CATEGORY)

    mean, covariance, between = joint_posterior(known, random)
    of_shared = covariance[:, SHARED] / covariance[SHARED, SHARED]
    given_shared = covariance - np.outer(of_shared, covariance[SHARED])
    np.testing.assert_allclose(found.value, mean[:12])
    np.testing.assert_allclose(found.error**2, np.diag(given_shared)[:12])
    assert found.bias == pytest.approx(np.sqrt(covariance[SHARED, SHARED]))
    np.testing.assert_allclose(found.exposure, of_shared[GAPS])
    assert found.exposure[3] == 1.0
    np.testing.assert_allclose(1 / found.category_information[3], 1 / known.category_information[3] + between)


def test_an_error_that_all_tests_share_is_divided_between_them_and_history() -> None:
    known, random = drawn(3, drift=0.5)
    found = with_draws(known, random, old=np.zeros(12), category=CATEGORY)

    mean, covariance, _ = joint_posterior(known, random)

    np.testing.assert_allclose(found.value, mean[:12], rtol=1e-6)
    untested = GAPS.stop - 1
    assert found.bias == pytest.approx(np.sqrt(covariance[SHARED, SHARED]), rel=1e-6)
    assert mean[untested] == pytest.approx(mean[SHARED], rel=1e-6)
    assert 0.3 < found.bias < OPEN_TO
    assert found.exposure.max() == 1.0


def test_what_a_draw_does_to_the_week_after_it_is_part_of_the_elasticity() -> None:
    known, random = drawn(3)

    def corrected(carried: float, error: float) -> Estimates:
        shift = replace(random, control=carried, control_error=error)
        return with_draws(known, shift, old=np.zeros(12), category=CATEGORY)

    nothing = corrected(0.0, 0.0)
    known_well = corrected(0.4, 0.0)
    unknown = corrected(0.0, 0.7)

    assert nothing.tested is not None
    assert known_well.tested is not None
    assert unknown.tested is not None
    np.testing.assert_allclose(known_well.tested.tested[:3] - nothing.tested.tested[:3], 0.4)
    assert known_well.bias == pytest.approx(nothing.bias)
    assert unknown.bias > nothing.bias
    np.testing.assert_allclose(unknown.tested.tested[:3], nothing.tested.tested[:3])


def test_what_was_only_tested_has_the_doubt_of_tests() -> None:
    known, random = drawn(3, drift=0.6)
    nothing = replace(known, error=np.full(12, np.inf), category_information=np.zeros(4), bias=0.45)

    found = with_draws(nothing, random, old=np.zeros(12), category=CATEGORY)

    assert found.bias == pytest.approx(0.6)
    assert found.tested is None
    unknown_drift = with_draws(nothing, replace(random, drift=np.inf), old=np.zeros(12), category=CATEGORY)
    assert unknown_drift.bias == pytest.approx(abs(known.level))


def test_categories_that_are_equally_biased_are_corrected_by_one_bias() -> None:
    gap = np.array([0.9, 0.5, np.nan])
    variance = np.array([0.05, 0.02, np.inf])

    found = posterior_gaps(gap, variance, open_to=OPEN_TO, between=0.0, common=0.0)

    left = 1 / (1 / 0.05 + 1 / 0.02 + 1 / OPEN_TO**2)
    np.testing.assert_allclose(found.value, left * (0.9 / 0.05 + 0.5 / 0.02))
    assert found.shared_sd == pytest.approx(np.sqrt(left))
    assert found.exposure.tolist() == [1.0, 1.0, 1.0]
    assert found.variance.tolist() == [0.0, 0.0, 0.0]


def test_few_categories_do_not_tell_how_much_their_gaps_differ() -> None:
    prior = (BETWEEN * OPEN_TO) ** 2
    alike = np.zeros(40)

    assert between_variance(np.array([0.7]), np.array([0.01]), open_to=OPEN_TO) == prior
    assert between_variance(alike[:2], alike[:2] + 1e-4, open_to=OPEN_TO) == pytest.approx(0.8 * prior, rel=0.01)
    assert between_variance(alike, alike + 1e-4, open_to=OPEN_TO) < 0.1 * prior
    assert between_variance(alike, alike + 10.0, open_to=OPEN_TO) == pytest.approx(prior, rel=0.01)


def test_without_a_prior_the_variance_between_is_that_of_dersimonian_and_laird() -> None:
    gap = np.array([0.1, 1.9, -0.8, 0.6, 1.2])
    variance = np.array([0.04, 0.09, 0.02, 0.05, 0.03])
    weight = 1 / variance
    q = (weight * (gap - (weight * gap).sum() / weight.sum()) ** 2).sum()
    expected = (q - 4) / (weight.sum() - (weight**2).sum() / weight.sum())

    huge = 1e3  # the prior's part is known
    prior = (BETWEEN * huge) ** 2
    found = between_variance(gap, variance, open_to=huge)

    assert found == pytest.approx((4 * prior + 4 * expected) / 8, rel=1e-6)


def test_errors_that_go_together_count_in_a_mean() -> None:
    value, variance = np.array([[-2.0, -3.0], [-1.0, -2.5]]), np.full((2, 2), 0.04)

    alone = mean_elasticities(value, variance, share=np.ones((2, 1)), category=np.zeros(2, int))
    together = mean_elasticities(value, variance, share=np.array([[0.5], [1.0]]), category=np.zeros(2, int))
    unknown = mean_elasticities(value, variance, share=np.array([[0.0], [1.0]]), category=np.zeros(2, int))

    assert alone.gap == pytest.approx(-0.75)
    assert alone.variance == pytest.approx(0.04)
    assert together.observed_error**2 == pytest.approx(0.04)
    assert together.tested_error**2 == pytest.approx(0.02)
    assert np.isinf(unknown.variance).all()
    assert unknown.products.tolist() == [0]


@pytest.mark.parametrize("common", [0.0, 0.2])
@pytest.mark.parametrize("tested", [1, 3, 12])
def test_intervals_hold_where_the_gaps_of_categories_differ(tested: int, common: float) -> None:
    rng = np.random.default_rng(tested)
    categories, count, open_to, spread = 12, 3000, 0.6, 0.3
    inside = np.zeros((count, categories), bool)
    for world in range(count):
        shared = rng.normal(0.0, open_to)
        gap = rng.normal(shared, spread, categories)
        variance = np.where(np.arange(categories) < tested, rng.uniform(0.01, 0.2, categories), np.inf)
        measured = gap + rng.normal(size=categories) * np.sqrt(np.where(np.isfinite(variance), variance, 1.0))
        measured -= rng.normal(0.0, np.sqrt(common))
        between = between_variance(measured, variance, open_to=open_to)
        found = posterior_gaps(measured, variance, open_to=open_to, between=between, common=common)
        sd = np.sqrt(found.variance + (found.exposure * found.shared_sd) ** 2)
        inside[world] = np.abs(found.value - gap) < 1.2816 * sd

    assert inside[:, :tested].mean() == pytest.approx(0.8, abs=0.03)
    assert inside[:, tested:].mean() == pytest.approx(0.8, abs=0.04) if tested < categories else True


def test_only_what_a_category_is_exposed_to_widens_it() -> None:
    estimate, error = np.full(40, -2.5), np.full(40, 0.05)
    category = np.arange(40) // 20

    def sd(*exposure: float) -> Floats:
        found = shrink(estimate, error, category=category, centre=np.zeros(2), bias=0.3, exposure=np.array(exposure))
        return found.sd[[0, 20]]

    both = sd(1.0, 1.0)
    first = sd(1.0, 0.0)
    whole = shrink(estimate, error, category=category, centre=np.zeros(2), bias=0.3)

    np.testing.assert_allclose(both, whole.sd[[0, 20]], rtol=1e-12)
    assert first[1] < 0.03
    assert 0.1 < first[0] <= both[0] * 1.01
    assert (sd(0.0, 0.0) < 0.03).all()
