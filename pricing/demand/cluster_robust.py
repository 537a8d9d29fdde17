"""Cluster-robust standard errors for few clusters: CR2 sandwich variances with Satterthwaite degrees of freedom.

Bell and McCaffrey (2002), "Bias reduction in standard errors for linear regression with multi-stage samples", Survey
Methodology 28; as worked out by Imbens and Kolesár (2016), doi:10.1162/REST_a_00552. A cluster enters only through its
information matrix and score vector, whose size is the number of coefficients.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from pricing.arrays import Floats

SATURATED = 1e-9  # 1 − leverage of a cluster; below this its residuals carry no information
LEVEL = 0.9  # one-sided level at which t and normal quantiles are matched (80 % intervals)


@dataclass(frozen=True)
class ClusterRobustVariance:
    """Cluster-robust variances of coefficients."""

    variance: Floats  # (…, p) CR2 variance of each coefficient
    degrees: Floats  # (…, p) its Satterthwaite degrees of freedom; 0 where the clusters leave no residual


def cluster_robust_variance(information: Floats, score: Floats) -> ClusterRobustVariance:
    """Compute CR2 variances of coefficients that solve Σ score = 0, with independent clusters.

    `information` is (…, cluster, p, p), whose sum over clusters has an inverse; `score` (…, cluster, p), at the
    solution.
    """
    half = np.linalg.inv(np.linalg.cholesky(information.sum(axis=-3)))  # (…, p, p); half' half = inverse information
    wide = half[..., None, :, :]
    leverage, axes = np.linalg.eigh(wide @ information @ np.swapaxes(wide, -1, -2))  # (…, cluster, p)
    left = np.clip(1.0 - leverage, 0.0, 1.0)
    inverse = np.where(left > SATURATED, 1.0 / np.where(left > SATURATED, left, 1.0), 0.0)
    turned = np.swapaxes(axes, -1, -2) @ (wide @ score[..., None])  # (…, cluster, p, 1)
    adjusted = (axes @ (np.sqrt(inverse)[..., None] * turned))[..., 0]  # (…, cluster, p)
    # Column j of `half` is coefficient j's direction in whitened coordinates.
    variance = ((adjusted @ half) ** 2).sum(axis=-2)
    along = np.swapaxes(axes, -1, -2) @ wide  # (…, cluster, p, coefficient)
    pull = axes @ ((np.sqrt(inverse) * leverage)[..., None] * along)  # (…, cluster, p, coefficient)
    own = ((inverse * leverage)[..., None] * along**2).sum(axis=-2)  # (…, cluster, coefficient)
    shared = (pull**2).sum(axis=-2)
    cross = np.einsum("...gic,...gjc->...cij", pull, pull)
    trace = (own - shared).sum(axis=-2)
    square = (own**2 - 2.0 * own * shared).sum(axis=-2) + (cross**2).sum(axis=(-1, -2))
    known = trace > SATURATED * np.maximum(own.sum(axis=-2), 1e-300)
    degrees = np.where(known, trace**2 / np.where(known, np.maximum(square, 1e-300), 1.0), 0.0)
    return ClusterRobustVariance(variance, degrees)


def absorbed_variance(information: Floats, ties: Floats, score: Floats) -> tuple[float, float]:
    """CR2 variance of one coefficient beside many absorbed ones, such as an intercept for every series.

    With the other coefficients projected out of its column, a cluster is three numbers, however many there are of
    them. Each cluster's score is scaled so that its expected square is its information, were the working variance true.
    This is Bell and McCaffrey's correction along one direction; where clusters overlap with the absorbed coefficients
    it differs from `cluster_robust_variance` slightly, being unbiased alike.

    `information` (cluster,), of positive sum, and `score` (cluster,) are of the projected column; `ties` is (cluster,
    absorbed) information between it and each absorbed coefficient, over the root of that coefficient's information.
    Each column of `ties` sums to 0. The second result is Satterthwaite's degrees of freedom; 0 where the clusters leave
    no residual.
    """
    total = float(information.sum())
    leverage = information / total
    along = np.column_stack([ties / np.sqrt(total), leverage])  # (cluster, absorbed + 1)
    left = leverage - (along**2).sum(axis=1)
    tells = left > SATURATED * np.maximum(leverage, 1e-300)
    scale = np.sqrt(np.where(tells, leverage / np.where(tells, left, 1.0), 0.0))
    variance = float(((scale * score) ** 2).sum()) / total**2
    spread = scale[:, None] * (np.diag(leverage) - along @ along.T) * scale
    trace = float(np.trace(spread))
    degrees = trace**2 / float((spread**2).sum()) if trace > SATURATED else 0.0
    return variance, degrees


def normal_factor(degrees: Floats) -> Floats:
    """(…) factor that gives a normal the 80 % interval of t with these degrees; infinite at 0: the error is unknown."""
    safe = np.maximum(degrees, 1e-3)
    with np.errstate(over="ignore"):
        quantile = stats.t.ppf(LEVEL, safe)
    return np.where(degrees >= 1e-2, quantile / stats.norm.ppf(LEVEL), np.inf)
