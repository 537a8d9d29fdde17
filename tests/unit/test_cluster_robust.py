"""Small-cluster standard errors against the textbook's matrices, row by row."""

import numpy as np
import pytest
from scipy import linalg, stats

from pricing.demand.cluster_robust import cluster_robust_variance, normal_factor


def by_hand(design: np.ndarray, residual: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    variance, degrees = by_hand(design, residual, group)

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


def test_with_many_degrees_the_factor_is_one() -> None:
    assert normal_factor(np.asarray([1e6])) == pytest.approx([1.0], rel=1e-4)
    assert normal_factor(np.asarray([2.0]))[0] == pytest.approx(stats.t.ppf(0.9, 2) / stats.norm.ppf(0.9))
