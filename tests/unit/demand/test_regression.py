"""Residual on residual, where the truth is known; one elasticity for the series of a product; small-cluster errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg, stats

from pricing.demand.censoring import complete_censored, expected_above
from pricing.demand.cluster_robust import absorbed_variance, cluster_robust_variance, normal_factor
from pricing.demand.endogeneity import control_function, fit_price_change_mixture
from pricing.demand.grades import category_of_parents
from pricing.demand.regression import Residuals, Shift, difference, placebo, regress
from tests.kit.stores import ChainConfig, as_if_independent, draw_chain, estimate, estimate_chain, posterior, select


def simulate(*, shift: np.ndarray, confounding: float = 0.0, events: int = 600, seed: int = 0) -> Residuals:
    """Moves of which nine in ten are routine and answer to hidden demand by `confounding`."""
    rng = np.random.default_rng(seed)
    products = len(shift)
    who = np.repeat(np.arange(products), events)
    deliberate = rng.random(len(who)) < 0.15
    shock = rng.normal(0, 0.2, len(who))
    routine = rng.normal(0, 0.03, len(who)) + confounding * shock
    price = np.where(deliberate, rng.normal(0, 0.15, len(who)), routine)
    shock = np.where(deliberate, rng.normal(0, 0.2, len(who)), shock)
    expected = np.full(len(who), 40.0)
    units = rng.poisson(expected * np.exp(shift[who] * price + shock))
    return Residuals(
        product=who,
        cluster=np.tile(np.arange(events) // 10, products),
        units=units.astype(float),
        mean=expected * np.exp(0.02),
        price=price,
        routine=control_function(price, fit_price_change_mixture(price)),
        size=np.full(len(who), 20.0),
        weekend=np.zeros(len(who)),
        advertised=np.zeros(len(who)),
        censored=np.zeros(len(who)),
    )


def alone(residuals: Residuals, products: int, **shared: np.ndarray) -> Shift:
    """Regress products that share no elasticity, and one category, where nothing else is given."""
    each = {"parent": np.arange(products), "category": np.zeros(products, int)} | shared
    return regress(residuals, weekend=0.0, **each)


def test_prices_that_answer_to_hidden_demand_do_not_bias_the_level() -> None:
    truth = np.full(20, -0.5)
    confounded = simulate(shift=truth, confounding=0.2)

    shift = alone(confounded, 20)
    naive = np.polyfit(confounded.price, np.log(confounded.units + 0.5), 1)[0]

    assert naive > -0.2
    assert shift.mean == pytest.approx(-0.5, abs=0.2)
    assert shift.control > 0.5


def test_a_product_without_moves_has_shift_zero_and_no_certainty() -> None:
    shift = alone(simulate(shift=np.asarray([0.3, 0.3])), 3)

    assert shift.value[2] == 0.0
    assert np.isinf(shift.error[2])


def test_standard_errors_cover_the_truth_about_as_often_as_they_say() -> None:
    inside = []
    for seed in range(20):
        truth = np.random.default_rng(seed).normal(0, 0.5, 10)
        shift = alone(simulate(shift=truth, seed=seed, events=400), 10)
        inside.append(np.abs(shift.value - truth) < 1.2816 * np.hypot(shift.error, shift.common))

    assert 0.70 < np.mean(inside) < 0.92


def test_weekends_on_which_shoppers_answer_more_are_found() -> None:
    rng = np.random.default_rng(3)
    plain = simulate(shift=np.zeros(40), events=600)
    column = np.where(rng.random(len(plain.price)) < 2 / 7, -2.0 * plain.price, 0.0)
    units = rng.poisson(plain.mean * np.exp(0.4 * column)).astype(float)

    found = alone(replace(plain, weekend=column, units=units), 40)

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
        size=np.full(len(who), 50.0),
        weekend=zeros,
        advertised=zeros,
        censored=zeros,
    )


@pytest.mark.parametrize("truth", [-3.6, -1.2])
def test_one_move_a_product_tells_what_all_have_in_common(truth: float) -> None:
    shift = alone(one_move(truth, seed=1), 60)

    assert shift.mean - 2.0 == pytest.approx(truth, abs=0.35)
    assert 0.05 < shift.mean_error < 0.3
    assert shift.level_sd == pytest.approx(0.15, abs=0.05)


def test_the_pooled_level_is_covered_about_as_often_as_its_error_says() -> None:
    inside = []
    for seed in range(60):
        shift = alone(one_move(-3.0, seed=seed, products=20), 20)
        inside.append(abs(shift.mean + 1.0) < 1.2816 * np.hypot(shift.mean_error, shift.drift))

    assert 0.7 < np.mean(inside) < 0.95


def test_moves_that_all_fall_together_say_nothing_of_the_level() -> None:
    shift = alone(one_move(-3.6, seed=1, same_day=True), 60)

    assert np.isinf(shift.drift)


def test_sold_out_events_bias_nothing() -> None:
    rng = np.random.default_rng(5)
    plain = simulate(shift=np.full(20, -1.0), events=600)
    stock = rng.poisson(plain.mean * 1.15)
    met = plain.units >= stock
    limited = replace(plain, units=np.minimum(plain.units, stock), censored=met.astype(float))

    kept = alone(limited, 20)
    dropped = alone(select(limited, ~met), 20)

    assert 0.2 < met.mean() < 0.4
    assert kept.mean == pytest.approx(-1.0, abs=0.12)
    assert dropped.mean > kept.mean + 0.1


def test_a_placebo_without_effect_is_within_its_error() -> None:
    rng = np.random.default_rng(8)
    plain = simulate(shift=np.zeros(30), events=300)
    coming = rng.normal(0, 0.1, len(plain.price))

    nothing = placebo(plain, coming, parent=np.arange(30))
    effect = placebo(replace(plain, units=rng.poisson(plain.mean * np.exp(coming))), coming, parent=np.arange(30))

    assert abs(nothing[0]) < 3 * nothing[1]
    assert effect[0] == pytest.approx(1.0, abs=4 * effect[1])
    assert effect[1] < 0.15


def test_a_kind_of_moves_that_brings_more_is_found() -> None:
    rng = np.random.default_rng(9)
    plain = simulate(shift=np.full(30, -0.5), events=400)
    kind = rng.random(len(plain.price)) < 0.5
    units = rng.poisson(plain.units * np.exp(-1.5 * plain.price * kind)).astype(float)

    alike = difference(plain, alone(plain, 30), kind, parent=np.arange(30))
    unlike = replace(plain, units=units)
    apart = difference(unlike, alone(unlike, 30), kind, parent=np.arange(30))

    assert abs(alike[0]) < 3 * alike[1]
    assert apart[0] == pytest.approx(-1.5, abs=0.4)
    assert apart[0] < -5 * apart[1]


def test_sales_that_happen_to_fit_too_well_are_no_surer_than_counts_allow() -> None:
    fitted = simulate(shift=np.zeros(3), events=100)
    fitted = replace(fitted, units=fitted.mean)
    information = (fitted.price**2 / (1 / fitted.mean + 1 / fitted.size)).reshape(3, -1).sum(axis=1)

    shift = alone(fitted, 3)
    _, error = difference(fitted, shift, np.arange(300) % 2 > 0, parent=np.arange(3))

    assert (shift.error >= 1 / np.sqrt(information)).all()
    assert error >= 1 / np.sqrt(information.sum())


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


def textbook(design: np.ndarray, residual: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CR2 and Bell and McCaffrey's degrees of freedom with whole hat matrices, as published."""
    inverse = np.linalg.inv(design.T @ design)
    remainder = np.eye(len(design)) - design @ inverse @ design.T
    columns = design.shape[1]
    meat, pulls = np.zeros((columns, columns)), []
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        adjust = linalg.pinv(np.real(linalg.sqrtm(remainder[np.ix_(rows, rows)])), atol=1e-8)
        score = design[rows].T @ adjust @ residual[rows]
        meat += np.outer(score, score)
        pulls.append(remainder[:, rows] @ adjust @ design[rows] @ inverse)
    degrees = []
    for column in range(columns):
        pull = np.stack([one[:, column] for one in pulls], axis=1)
        spread = pull.T @ pull
        degrees.append(np.trace(spread) ** 2 / (spread**2).sum())
    return np.diag(inverse @ meat @ inverse), np.asarray(degrees)


@pytest.mark.parametrize("clusters", [3, 5, 12])
def test_the_compact_form_is_the_textbooks(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    group = np.concatenate([np.arange(clusters), rng.integers(0, clusters, 40)])
    design = np.column_stack([np.ones(len(group)), rng.normal(size=len(group)) + 0.3 * group])
    actual = rng.normal(size=len(group))
    residual = actual - design @ np.linalg.lstsq(design, actual, rcond=None)[0]
    information = np.stack([design[group == one].T @ design[group == one] for one in range(clusters)])
    score = np.stack([design[group == one].T @ residual[group == one] for one in range(clusters)])

    found = cluster_robust_variance(information, score)
    variance, degrees = textbook(design, residual, group)

    np.testing.assert_allclose(found.variance, variance, rtol=1e-8)
    np.testing.assert_allclose(found.degrees, degrees, rtol=1e-8)


def test_a_single_cluster_leaves_no_degree_of_freedom() -> None:
    found = cluster_robust_variance(np.eye(2)[None] * 3.0, np.zeros((1, 2)))

    np.testing.assert_array_equal(found.degrees, 0.0)
    assert np.isinf(normal_factor(found.degrees)).all()


def test_with_five_clusters_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(2000):
        price = rng.normal(size=5)
        shock = rng.normal(size=5)
        x, y = np.repeat(price, 4), np.repeat(shock, 4) + 0.3 * rng.normal(size=20)
        slope = (x @ y) / (x @ x)
        left = (y - slope * x).reshape(5, 4)
        found = cluster_robust_variance(
            (x**2).reshape(5, 4).sum(axis=1)[:, None, None], (x.reshape(5, 4) * left).sum(1)[:, None]
        )
        half = stats.norm.ppf(0.9) * np.sqrt(found.variance[0]) * normal_factor(found.degrees)[0]
        inside.append(abs(slope) < half)

    assert 0.76 < np.mean(inside) < 0.86


Z = 1.2816
COMMON = ChainConfig(common_prices=True, common_shock=0.15)


def along(design: np.ndarray, column: np.ndarray, actual: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Bell and McCaffrey's variance of one coefficient along its own direction, with whole hat matrices."""
    others = design @ np.linalg.solve(design.T @ design, design.T)
    around = column - others @ column
    whole = np.column_stack([design, column])
    remainder = np.eye(len(column)) - whole @ np.linalg.solve(whole.T @ whole, whole.T)
    residual, total = remainder @ actual, around @ around
    variance, pulls = 0.0, []
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        part = around[rows]
        scale = np.sqrt((part @ part) / (part @ remainder[np.ix_(rows, rows)] @ part))
        variance += (scale * part @ residual[rows]) ** 2 / total**2
        pulls.append(scale * remainder[:, rows] @ part)
    spread = np.stack(pulls, axis=1).T @ np.stack(pulls, axis=1)
    return variance, np.trace(spread) ** 2 / (spread**2).sum()


@pytest.mark.parametrize("clusters", [4, 9])
def test_absorbed_intercepts_count_as_in_the_whole_matrices(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    series, group = np.divmod(np.arange(5 * clusters * 2) % (5 * clusters), clusters)
    column = rng.normal(size=len(group)) + 0.3 * group
    actual = rng.normal(size=len(group)) + rng.normal(size=clusters)[group]
    design = (series[:, None] == np.arange(5)).astype(float)
    around = column - (design.T @ column / design.sum(axis=0))[series]
    slope = around @ actual / (around @ around)
    residual = actual - (design.T @ actual / design.sum(axis=0))[series] - slope * around
    ties = np.stack([around[(group == one)] @ design[group == one] for one in range(clusters)])

    variance, degrees = absorbed_variance(
        np.bincount(group, around**2), ties / np.sqrt(design.sum(axis=0)), np.bincount(group, around * residual)
    )

    expected = along(design, column, actual, group)
    np.testing.assert_allclose((variance, degrees), expected, rtol=1e-8)


def test_the_shared_coefficient_is_that_of_one_regression_with_a_level_for_each_store() -> None:
    chain = draw_chain(ChainConfig(products=2, stores=4, common_shock=0.1), seed=3)

    found = alone(chain.residuals, 8, parent=chain.parent)

    for product in range(2):
        slope = penalised_poisson(chain.residuals, np.flatnonzero(chain.parent == product), sd=found.level_sd)
        assert found.value[product] == pytest.approx(slope, abs=1e-3)


def penalised_poisson(residuals: Residuals, rows: np.ndarray, *, sd: float) -> float:
    """Slope of a weighted Poisson regression with dummies and a normal prior of theirs, by Newton's method."""
    some = np.flatnonzero(np.isin(residuals.product, rows))
    dummies = (residuals.product[some][:, None] == rows).astype(float)
    design = np.column_stack([dummies, residuals.price[some]])
    weight = 1.0 / (1.0 + residuals.mean[some] / residuals.size[some])
    prior = np.diag([*np.full(len(rows), 1.0 / sd**2), 0.0])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        mean = residuals.mean[some] * np.exp(design @ beta)
        score = design.T @ (weight * (residuals.units[some] - mean)) - prior @ beta
        beta += np.linalg.solve((design * (weight * mean)[:, None]).T @ design + prior, score)
    return float(beta[-1])


def test_copies_of_a_store_add_no_certainty() -> None:
    one = draw_chain(ChainConfig(products=8, stores=1, common_shock=0.4, units=60.0), seed=4)
    events = len(one.residuals.units)
    copies = select(one.residuals, np.tile(np.arange(events), 10))
    copies = replace(copies, product=copies.product * 10 + np.repeat(np.arange(10), events))

    shared = alone(copies, 80, parent=np.arange(80) // 10)
    told = alone(copies, 80, category=np.arange(80) // 10).category_information
    single = alone(one.residuals, 8)

    np.testing.assert_allclose(shared.value, single.value, atol=0.1)
    np.testing.assert_allclose(shared.error, single.error, rtol=0.25)
    assert shared.mean_error == pytest.approx(single.mean_error, rel=0.25)
    np.testing.assert_allclose(told, 1.0 / single.error**2, rtol=0.5)  # a category of copies is one of them


def test_intervals_hold_as_often_as_they_say_though_stores_share_their_shocks() -> None:
    inside, naive = [], []
    for seed in range(16):
        chain = draw_chain(COMMON, seed=seed)
        alone = estimate(chain, shared=False)
        for known, held in ((estimate(chain, shared=True), inside), (as_if_independent(chain, alone), naive)):
            shrunk = posterior(chain, known)
            held.append(np.abs(shrunk.mean - np.log(-chain.elasticity)) < Z * shrunk.sd)

    assert 0.73 < np.mean(inside) < 0.88
    assert np.mean(naive) < 0.65


def test_a_parent_lies_in_the_category_of_most_of_its_products() -> None:
    found = category_of_parents(np.array([0, 2, 2, 1, 1, 0]), np.array([0, 0, 0, 1, 2, 2]))

    assert found.tolist() == [2, 1, 0]


def test_a_round_gives_one_estimate_a_parent() -> None:
    known, _ = estimate_chain()

    np.testing.assert_allclose(known.value, [-3.0, -1.5, -2.5], atol=4 * known.error.max())  # in order of first rows
    assert known.error[0] < 0.7 * known.error[1:].min()


def test_a_placebo_of_common_changes_is_within_its_error() -> None:
    told = []
    for seed in range(12):
        chain = draw_chain(replace(COMMON, products=6), seed=seed)
        residuals = chain.residuals
        rng = np.random.default_rng(seed)
        column = rng.normal(0, 0.08, (6, 26))[chain.parent[residuals.product], residuals.cluster]
        offset = np.exp((chain.of_series[residuals.product] + 2.0) * residuals.price)
        value, error = placebo(replace(residuals, mean=residuals.mean * offset), column, parent=chain.parent)
        told.append(value / error)

    assert np.mean(np.abs(told) < Z) > 0.55


def test_a_known_shift_is_found_for_each_product() -> None:
    truth = np.asarray([-1.0, 0.0, 0.5, 1.0])

    shift = alone(simulate(shift=truth, events=3000), 4)

    np.testing.assert_allclose(shift.value, truth, atol=4 * shift.error.max())
    assert shift.error.max() < 0.15


@pytest.mark.parametrize("lift", [0.0, 0.4])
def test_what_advertisements_add_is_not_taken_for_the_price(lift: float) -> None:
    rng = np.random.default_rng(3)
    products, events = 40, 60
    who = np.repeat(np.arange(products), events)
    advertised = rng.random(len(who)) < 0.3
    price = np.where(advertised, -rng.uniform(0.1, 0.3, len(who)), rng.normal(0, 0.06, len(who)))
    own_lift = lift + rng.normal(0, 0.05, products)
    units = rng.poisson(50.0 * np.exp(-0.5 * price + own_lift[who] * advertised))
    nothing = np.zeros(len(who))
    found = Residuals(
        product=2 * who + advertised,
        cluster=np.tile(np.arange(events) // 3, products),
        units=units.astype(float),
        mean=np.full(len(who), 50.0),
        price=price,
        routine=nothing,
        size=np.full(len(who), 50.0),
        weekend=nothing,
        advertised=advertised.astype(float),
        censored=nothing,
    )

    shift = regress(found, weekend=0.0, parent=np.repeat(np.arange(products), 2), category=np.zeros(2 * products, int))

    assert shift.lift == pytest.approx(lift, abs=0.05)
    assert shift.mean == pytest.approx(-0.5, abs=3 * shift.mean_error)
    assert shift.mean_error < 0.15
