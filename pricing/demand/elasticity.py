"""From residuals to elasticities: residual on residual per product, then empirical Bayes towards the category.

Chernozhukov et al. (2018), "Double/debiased machine learning for treatment and structural parameters",
doi:10.1111/ectj.12097; Schultz et al. (2023), "Causal forecasting for pricing", arXiv:2312.15282; the quasi-Poisson
score keeps zeros and is consistent when only the mean is right (Gourieroux, Monfort, Trognon 1984).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

MAX_NEWTON = 20
CLUSTER = 14  # periods; shocks live shorter than that
LIMITS = (-8.0, -0.2)


@dataclass(frozen=True)
class Residuals:
    """What the two cross-fitted networks leave unexplained, one row a product.

    Attributes:
        units: (product, period) units sold.
        mean: (product, period) units that the demand network expected at the price charged, with the current
            elasticity in its offset.
        price: (product, period) log price over usual price less what the price network expected.
        weight: (product, period) recency weight; 0 where there is no row, the stock ran out, or it was not scored.
        size: (product, period) size of the negative binomial.
        cluster: (period,) number of the cluster that a period belongs to.
    """

    units: Floats
    mean: Floats
    price: Floats
    weight: Floats
    size: Floats
    cluster: Ints


@dataclass(frozen=True)
class Shift:
    """How far each product's elasticity is from the one in the offset, with its standard error; (product,) each."""

    value: Floats
    error: Floats


@dataclass(frozen=True)
class Shrunk:
    """Elasticities after shrinkage.

    Attributes:
        mean: (product,) posterior mean, below 0.
        sd: (product,) posterior standard deviation.
        category_mean: (category,) posterior mean of each category's mean.
        category_sd: (category,) spread of a new product of that category: between products and of the mean itself.
        between: Standard deviation of products around their category.
    """

    mean: Floats
    sd: Floats
    category_mean: Floats
    category_sd: Floats
    between: float


def regress(residuals: Residuals) -> Shift:
    """Solves Σ v (units − mean·exp(δ·price)) price = 0 for each product, v = weight / (1 + mean / size).

    Standard errors are sandwich estimates clustered over periods (Liang and Zeger 1986). A product without price
    variation gets shift 0 with infinite error.
    """
    v = residuals.weight / (1.0 + residuals.mean / residuals.size)
    information = v * residuals.mean
    total = information.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(total > 0, (information * residuals.price).sum(axis=1, keepdims=True) / total, 0.0)
    price = np.where(residuals.weight > 0, residuals.price - centre, 0.0)  # (product, period)
    # A baseline that is off by a constant factor must not tilt the slope: solve for both.
    shift, level = np.zeros(len(price)), np.zeros(len(price))
    for _ in range(MAX_NEWTON):
        mean = residuals.mean * np.exp(np.clip(level[:, None] + shift[:, None] * price, -3, 3))
        gap = v * (residuals.units - mean)
        g0, g1 = gap.sum(axis=1), (gap * price).sum(axis=1)
        h00, h01 = (v * mean).sum(axis=1), (v * mean * price).sum(axis=1)
        h11 = (v * mean * price**2).sum(axis=1)
        det = h00 * h11 - h01**2
        usable = det > 1e-9 * np.maximum(h00, 1e-12) ** 2
        safe = np.where(usable, det, 1.0)
        step0 = np.where(usable, (h11 * g0 - h01 * g1) / safe, 0.0)
        step1 = np.where(usable, (h00 * g1 - h01 * g0) / safe, 0.0)
        level = np.clip(level + np.clip(step0, -0.5, 0.5), -2, 2)
        shift = np.clip(shift + np.clip(step1, -1.0, 1.0), -8.0, 8.0)
    moment = gap * (price - np.where(usable, h01 / np.where(h00 > 0, h00, 1.0), 0.0)[:, None])
    clusters = int(residuals.cluster.max()) + 1
    sums = np.zeros((len(price), clusters))
    for number in range(clusters):
        sums[:, number] = moment[:, residuals.cluster == number].sum(axis=1)
    bread = np.where(usable, det / np.where(h00 > 0, h00, 1.0), 0.0)
    meat = (sums**2).sum(axis=1)
    active = (np.abs(sums) > 0).sum(axis=1)
    # Few clusters understate the error: the usual small-sample factor, and the Poisson error as a floor.
    factor = np.where(active > 1, active / np.maximum(active - 1, 1), np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(np.maximum(factor * meat / bread**2, 1.0 / bread))
    unusable = ~usable | ~np.isfinite(error)
    return Shift(np.where(unusable, 0.0, shift), np.where(unusable, np.inf, error))


def pooled(shift: Shift, *, between: float) -> tuple[float, float]:
    """The mean shift over all products and its standard error, each product weighted by its precision."""
    precision = 1.0 / (shift.error**2 + between**2)
    total = precision.sum()
    if total <= 0:
        return 0.0, float("inf")
    return float((precision * shift.value).sum() / total), float(np.sqrt(1.0 / total))


def shrink(estimate: Floats, error: Floats, *, category: Ints, prior: tuple[float, float]) -> Shrunk:
    """Empirical Bayes: products towards their category, categories towards a weak prior.

    Args:
        estimate: (product,) elasticities as regressed.
        error: (product,) their standard errors; infinite where nothing was learnt.
        category: (product,) row of the category.
        prior: Mean and standard deviation of the categories' means.

    Returns:
        Posterior means and deviations; the between-product variance is Paule and Mandel's (1982) moment estimate.
    """
    categories = int(category.max()) + 1
    usable = np.isfinite(error)
    between = _between(estimate[usable], error[usable], category[usable])
    weight = np.where(usable, 1.0 / (np.where(usable, error, 1.0) ** 2 + between**2), 0.0)
    total: Floats = np.bincount(category, weight, categories).astype(np.float64)
    weighted: Floats = np.bincount(category, weight * np.where(usable, estimate, 0.0), categories).astype(np.float64)
    overall = (weighted.sum() + prior[0] / prior[1] ** 2) / (total.sum() + 1.0 / prior[1] ** 2)
    spread = _between_categories(weighted, total)
    precision = total + 1.0 / spread**2
    category_mean = (weighted + overall / spread**2) / precision
    own = np.where(usable, 1.0 / np.where(usable, error, 1.0) ** 2, 0.0)
    towards = 1.0 / between**2
    mean = (own * np.where(usable, estimate, 0.0) + towards * category_mean[category]) / (own + towards)
    share = towards / (own + towards)
    variance = 1.0 / (own + towards) + share**2 / precision[category]
    return Shrunk(
        mean=np.clip(mean, *LIMITS),
        sd=np.sqrt(variance),
        category_mean=np.clip(category_mean, *LIMITS),
        category_sd=np.sqrt(between**2 + 1.0 / precision),
        between=between,
    )


def _between(estimate: Floats, error: Floats, category: Ints) -> float:
    """Spread of true elasticities within categories: the variance at which the residuals' χ² equals its degrees."""
    if len(estimate) < 3:
        return 0.6
    low, high = 0.15**2, 2.0**2
    for _ in range(40):
        middle = 0.5 * (low + high)
        weight = 1.0 / (error**2 + middle)
        total = np.bincount(category, weight)
        centre = np.bincount(category, weight * estimate) / np.maximum(total, 1e-12)
        # Huber-like: one wild estimate must not make all products strangers to their category.
        terms = np.minimum(weight * (estimate - centre[category]) ** 2, 9.0)
        degrees = len(estimate) - int((total > 0).sum())
        if terms.sum() > max(degrees, 1):
            low = middle
        else:
            high = middle
    return float(np.sqrt(0.5 * (low + high)))


def _between_categories(weighted: Floats, total: Floats) -> float:
    known = total > 0
    if known.sum() < 3:
        return 0.5
    means = weighted[known] / total[known]
    variance = float(np.var(means, ddof=1) - np.mean(1.0 / total[known]))
    return float(np.sqrt(np.clip(variance, 0.15**2, 1.0)))
