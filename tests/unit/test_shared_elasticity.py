"""One elasticity for the series of a product: the regression, its errors, shrinkage and evidence."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.demand.cluster_robust import absorbed_variance
from pricing.demand.grades import category_of_parents
from pricing.demand.identification import learn
from pricing.demand.regression import Residuals, placebo, regress
from tests.kit.stores import ChainConfig, as_if_independent, chain_sample, draw_chain, estimate, posterior, select

Z = 1.2816
COMMON = ChainConfig(common_prices=True, common_shock=0.15)


def by_hand(design: np.ndarray, column: np.ndarray, actual: np.ndarray, group: np.ndarray) -> tuple[float, float]:
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

    expected = by_hand(design, column, actual, group)
    np.testing.assert_allclose((variance, degrees), expected, rtol=1e-8)


def test_the_shared_coefficient_is_that_of_one_regression_with_a_level_for_each_store() -> None:
    chain = draw_chain(ChainConfig(products=2, stores=4, common_shock=0.1), seed=3)

    found = regress(chain.residuals, products=8, parent=chain.parent)

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


def test_products_without_a_parent_are_estimated_as_ever() -> None:
    residuals = draw_chain(ChainConfig(products=3, stores=3), seed=1).residuals

    own, none = regress(residuals, products=9, parent=np.arange(9)), regress(residuals, products=9)

    for name, values in vars(none).items():
        np.testing.assert_array_equal(getattr(own, name), values)


def test_copies_of_a_store_add_no_certainty() -> None:
    one = draw_chain(ChainConfig(products=8, stores=1, common_shock=0.4, units=60.0), seed=4)
    events = len(one.residuals.units)
    copies = select(one.residuals, np.tile(np.arange(events), 10))
    copies = replace(copies, product=copies.product * 10 + np.repeat(np.arange(10), events))

    shared = regress(copies, products=80, parent=np.arange(80) // 10)
    single = regress(one.residuals, products=8)

    np.testing.assert_allclose(shared.value, single.value, atol=0.1)
    np.testing.assert_allclose(shared.error, single.error, rtol=0.25)
    assert shared.mean_error == pytest.approx(single.mean_error, rel=0.25)


def test_a_category_of_copies_tells_as_much_as_one_of_them() -> None:
    one = draw_chain(ChainConfig(products=8, stores=1, common_shock=0.4, units=60.0), seed=4)
    events = len(one.residuals.units)
    copies = select(one.residuals, np.tile(np.arange(events), 10))
    copies = replace(copies, product=copies.product * 10 + np.repeat(np.arange(10), events))

    told = regress(copies, products=80, category=np.arange(80) // 10).category_information
    single = regress(one.residuals, products=8)

    np.testing.assert_allclose(told, 1.0 / single.error**2, rtol=0.5)


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


def test_a_placebo_of_common_changes_is_within_its_error() -> None:
    told = []
    for seed in range(12):
        chain = draw_chain(replace(COMMON, products=6), seed=seed)
        residuals, series = chain.residuals, len(chain.parent)
        rng = np.random.default_rng(seed)
        column = rng.normal(0, 0.08, (6, 26))[chain.parent[residuals.product], residuals.cluster]
        offset = np.exp((chain.of_series[residuals.product] + 2.0) * residuals.price)
        value, error = placebo(
            replace(residuals, mean=residuals.mean * offset), column, products=series, parent=chain.parent
        )
        told.append(value / error)

    assert np.mean(np.abs(told) < Z) > 0.55


def test_a_parent_lies_in_the_category_of_most_of_its_products() -> None:
    found = category_of_parents(np.array([0, 2, 2, 1, 1, 0]), np.array([0, 0, 0, 1, 2, 2]))

    assert found.tolist() == [2, 1, 0]


def test_a_round_gives_one_estimate_a_parent() -> None:
    sample, table, forecast, norms, _ = chain_sample()

    known = learn(sample, table, forecast, norms=norms, so_far=None)

    np.testing.assert_allclose(known.value, [-3.0, -1.5, -2.5], atol=4 * known.error.max())  # in order of first rows
    assert known.error[0] < 0.7 * known.error[1:].min()
