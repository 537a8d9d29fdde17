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
LIMITS = (-8.0, -0.2)
# Standard deviations of the control's and the weekend's coefficient around none: what two years of one shop's moves say
# of either is hardly surer than that.
CONTROL_SD, WEEKEND_SD = 0.2, 0.15


@dataclass(frozen=True)
class Residuals:
    """What the two cross-fitted networks leave unexplained, one entry for each scored period of a price move.

    Attributes:
        product: (event,) row of the product.
        cluster: (event,) number of the cluster; events of one cluster share their shocks.
        units: (event,) units sold.
        mean: (event,) units that the demand network expected at the price charged, with the current elasticity in its
            offset.
        price: (event,) log price over usual price less what the price network expected.
        routine: (event,) the part of it that may answer to hidden demand (`moves.routine_part`).
        weight: (event,) recency weight, 0 or more.
        size: (event,) size of the negative binomial.
        weekend: (event,) what a stronger answer on weekends does to log units there, per unit: 0 on other days.
    """

    product: Ints
    cluster: Ints
    units: Floats
    mean: Floats
    price: Floats
    routine: Floats
    weight: Floats
    size: Floats
    weekend: Floats


@dataclass(frozen=True)
class Shift:
    """How far elasticities are from those in the offset.

    Attributes:
        value: (product,) shift of each product.
        error: (product,) its standard error, the control's coefficient taken as known; infinite where nothing is known.
        mean: The shift that all products share.
        mean_error: Its standard error, clustered over products, with what is not known of control and weekend in it.
        control: Coefficient of the routine part: what a routine move tells of hidden demand.
        common: (product,) standard deviation of the error that all products share through that coefficient.
        weekend: How much more elastic weekends are, relatively and for all products, beyond what the offset says.
    """

    value: Floats
    error: Floats
    mean: float
    mean_error: float
    control: float
    common: Floats
    weekend: float


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


def regress(residuals: Residuals, *, products: int, weekend: float = 0.0) -> Shift:
    """Quasi-Poisson regression of units on price residuals, the networks' forecast as offset.

    First all products together: units = mean · exp(αᵢ + δ·price + κ·routine + ω·weekend). Then κ and ω are shrunk
    towards 0 by their own standard errors (normal priors, CONTROL_SD and WEEKEND_SD): both rest on few moves. Last δ
    again, and each product's own δᵢ, with those κ and ω. ω is a step from the offset's weekend factor; what
    is shrunk is the factor that comes of the step, so that more rounds do not wear the prior down.

    Weights are 1 / (1 + mean / size), standard errors sandwich estimates clustered over products for the shared
    coefficients and over `cluster` for a product's own (Liang and Zeger 1986, doi:10.1093/biomet/73.1.13).

    Args:
        residuals: Events of all products.
        products: Number of products, those without events included.
        weekend: The weekend factor that the offset holds already.
    """
    who = residuals.product
    v = residuals.weight / (1.0 + residuals.mean / residuals.size)
    columns = np.stack([residuals.price, residuals.routine, residuals.weekend])  # (3, event)

    def by_product(values: Floats) -> Floats:
        total: Floats = np.bincount(who, values, products).astype(np.float64)
        return total

    def centred(information: Floats) -> Floats:
        total = np.maximum(by_product(information), 1e-12)
        means = np.stack([by_product(information * column) / total for column in columns])
        spread: Floats = columns - means[:, who]
        return spread

    level, beta = np.zeros(products), np.zeros(len(columns))

    def newton(free: slice) -> Floats:
        """Moves `level` and the free coefficients to where their score is 0; returns their variances."""
        nonlocal level, beta
        for _ in range(MAX_NEWTON):
            mean = residuals.mean * np.exp(np.clip(level[who] + beta @ columns, -3, 3))
            around = centred(v * mean)[free]
            hessian = (around * (v * mean)) @ around.T + 1e-9 * np.eye(len(around))
            step = np.linalg.solve(hessian, around @ (v * (residuals.units - mean)))
            beta[free] += np.clip(step, -2, 2)
            level = level + _level_step(by_product(v * (residuals.units - mean)), by_product(v * mean))
        inverse = np.linalg.inv(hessian)
        moments = np.stack([by_product(v * (residuals.units - mean) * column) for column in around])
        sandwich = inverse @ (moments @ moments.T) @ inverse
        # With a handful of products the sandwich can be next to nothing; the counts alone say at least this much.
        variance: Floats = np.maximum(np.diag(sandwich), np.diag(inverse))
        return variance

    shared = newton(slice(0, 3))
    prior = np.asarray([CONTROL_SD, WEEKEND_SD]) ** 2
    kept = prior / (prior + shared[1:])
    so_far = np.asarray([0.0, weekend])
    beta[1:] = kept * (so_far + beta[1:]) - so_far
    shared_part = beta[1:] @ columns[1:]
    alone = float(newton(slice(0, 1))[0])
    mean = residuals.mean * np.exp(np.clip(level[who] + beta @ columns, -3, 3))
    around = centred(v * mean)
    # What the errors of the shrunk coefficients do to δ: their posterior variance through their tie with the price.
    ties = around[1:] @ (v * mean * around[0]) / max(float((v * mean * around[0]) @ around[0]), 1e-9)
    mean_error = float(np.sqrt(alone + (ties**2) @ (kept * shared[1:])))

    own = np.full(products, beta[0])
    for _ in range(MAX_NEWTON):
        mean = residuals.mean * np.exp(np.clip(level[who] + own[who] * columns[0] + shared_part, -3, 3))
        around = centred(v * mean)
        information = by_product(v * mean * around[0] ** 2)
        usable = information > 1e-6
        gain = by_product(v * (residuals.units - mean) * around[0])
        own = np.clip(own + np.where(usable, np.clip(gain / np.where(usable, information, 1.0), -1, 1), 0.0), -10, 10)
        level = level + _level_step(by_product(v * (residuals.units - mean)), by_product(v * mean))
    error = _clustered_error(residuals, v * (residuals.units - mean) * around[0], information)
    tie = by_product(v * mean * around[0] * around[1]) / np.where(usable, information, 1.0)
    return Shift(
        value=np.where(np.isfinite(error), own, 0.0),
        error=error,
        mean=float(beta[0]),
        mean_error=mean_error,
        control=float(beta[1]),
        common=np.where(usable, np.abs(tie), 0.0) * float(np.sqrt(kept[0] * shared[1])),
        weekend=float(beta[2]),
    )


def _level_step(score: Floats, information: Floats) -> Floats:
    # Half an observation of "the forecast was right": a product with a single event must not fit it exactly.
    step: Floats = np.clip(score / (information + 0.5), -0.5, 0.5)
    return step


def _clustered_error(residuals: Residuals, moment: Floats, information: Floats) -> Floats:
    """(product,) sandwich errors with the small-sample factor, never below the Poisson error."""
    products = len(information)
    clusters = int(residuals.cluster.max(initial=0)) + 1
    cell = residuals.product * clusters + residuals.cluster
    sums = np.bincount(cell, moment, products * clusters).reshape(products, clusters)
    events = np.bincount(cell, minlength=products * clusters).reshape(products, clusters)
    active = (events > 0).sum(axis=1)
    known = (information > 1e-6) & (active > 2)
    safe = np.where(known, information, 1.0)
    factor = np.where(known, active / np.maximum(active - 1, 1), 1.0)
    error = np.sqrt(np.maximum(factor * (sums**2).sum(axis=1) / safe**2, 1.0 / safe))
    return np.where(known, error, np.inf)


def level_prior(level: float, error: float, *, start: tuple[float, float]) -> tuple[float, float]:
    """The weak prior of the categories' means: the level found as far as it is sure of itself, else the start.

    Args:
        level: Mean elasticity of all products, as found.
        error: Its standard error; infinite where nothing was found.
        start: Mean and standard deviation of what is believed before.

    Returns:
        Mean and standard deviation; the latter stays, so that categories are free to differ.
    """
    if not np.isfinite(error):
        return start
    sure = 1.0 / (1.0 + (error / start[1]) ** 2)
    return sure * level + (1.0 - sure) * start[0], start[1]


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
