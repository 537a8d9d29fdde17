"""Posterior elasticities: hierarchical shrinkage to categories and level, shared bias, and plausibility limits."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints

RAISED = 0.05  # shift added to all estimates to measure each posterior's sensitivity to it
# Split of the configured prior standard deviation: products around their category, categories around the level; the
# level's variance is the rest.
BETWEEN, CATEGORIES = 0.6, 0.5
SPREAD_DOUBT = 0.5  # prior standard deviation of the log of both spreads
TAILS = 4.0  # degrees of freedom of the level's Student t prior, which yields to a level far from it
EDGE_Z = 1.2816  # normal quantile of the 80 % interval that must lie inside the limits
WILD = 9.0  # cap on one estimate's squared standardised residual in the likelihood of the spreads


@dataclass(frozen=True)
class PosteriorElasticities:
    """Elasticities after shrinkage.

    Attributes:
        mean: (product,) posterior mean, below 0.
        sd: (product,) posterior standard deviation.
        category_mean: (category,) posterior mean of each category's mean.
        category_sd: (category,) spread of a new product of that category: between products and of the mean itself.
        between: Standard deviation of products around their category.
        mean_sd: (category,) posterior standard deviation of the category's mean.
        at_limit: (product,) whether the 80 % interval reaches a limit, so that nothing is identified.
        category_at_limit: (category,) the same for the category's mean.
    """

    mean: Floats
    sd: Floats
    category_mean: Floats
    category_sd: Floats
    between: float
    mean_sd: Floats
    at_limit: NDArray[np.bool_]
    category_at_limit: NDArray[np.bool_]


@dataclass(frozen=True)
class Prior:
    """Normal prior of an elasticity, its variance split over product, category and common level.

    Standard errors of estimates are multiplied by `widening`. An estimate that reaches one of `limits`, the lowest and
    the highest elasticity, counts as not identified.
    """

    mean: float
    sd: float
    widening: float = 1.0
    limits: tuple[float, float] = (-np.inf, 0.0)

    @property
    def level_sd(self) -> float:
        """Prior standard deviation of the level that all categories share."""
        return float(self.sd * np.sqrt(1.0 - BETWEEN**2 - CATEGORIES**2))


def level_prior(level: float, error: float, *, start: tuple[float, float]) -> tuple[float, float]:
    """Combine the estimated level of all categories with its prior, weighted by precision.

    Args:
        level: Estimated mean elasticity of all products.
        error: Its standard error; infinite without an estimate.
        start: Mean and standard deviation of the prior.

    Returns:
        Posterior mean and standard deviation.
    """
    if not np.isfinite(error):
        return start
    sure = 1.0 / (1.0 + (error / start[1]) ** 2)
    return sure * level + (1.0 - sure) * start[0], float(start[1] * np.sqrt(1.0 - sure))


def level_start(prior: Prior, *, level: float, error: float) -> tuple[float, float]:
    """Mean and standard deviation of the normal prior of the level that represents its Student t prior here.

    A t prior with TAILS degrees of freedom yields to a level far from it (O'Hagan 1979). It is replaced by a normal
    with the weight of one step of iteratively reweighted least squares (Lange, Little and Taylor 1989,
    doi:10.2307/2290063), never narrower than configured.

    Args:
        prior: The configured prior.
        level: Estimated level.
        error: Standard deviation of all its errors; infinite without an estimate.
    """
    variance = prior.level_sd**2
    weight = (TAILS + (level - prior.mean) ** 2 / (variance + error**2)) / (TAILS + 1.0)
    return prior.mean, float(np.sqrt(variance * max(1.0, weight)))


def shrink(
    estimate: Floats,
    error: Floats,
    *,
    category: Ints,
    prior: tuple[float, float],
    sd: float = 1.0,
    categories: int = 0,
) -> PosteriorElasticities:
    """Empirical-Bayes shrinkage (hierarchical normal model): products around categories, categories around the level.

    Both spreads are integrated out on a grid (log-normal priors of median about BETWEEN and CATEGORIES times `sd`), so
    that their uncertainty is in the posterior deviations (Gelman 2006, doi:10.1214/06-BA117A).

    Args:
        estimate: (product,) estimated elasticities.
        error: (product,) their standard errors; infinite without an estimate.
        category: (product,) row of the category.
        prior: Mean and standard deviation of the level.
        sd: Configured prior standard deviation of an elasticity.
        categories: Least number of categories; the last ones may have no product.
    """
    usable = np.isfinite(error)
    noise, value = np.where(usable, error, 1.0) ** 2, np.where(usable, estimate, 0.0)
    fits, chances = [], []
    for between, chance in zip(*_grid(BETWEEN * sd, known=usable.sum() > 2), strict=True):
        weight = np.where(usable, 1.0 / (noise + between**2), 0.0)
        total: Floats = np.bincount(category, weight, categories).astype(np.float64)
        centre = np.divide(
            np.bincount(category, weight * value, categories), total, where=total > 0, out=np.zeros(len(total))
        )
        # Capped like a Huber loss: one outlier must not inflate the spread of all products.
        wild = np.minimum(weight * (value - centre[category]) ** 2, WILD)
        within = 0.5 * (np.log(weight[usable]).sum() - wild.sum() - np.log(total[total > 0]).sum())
        for spread, odds in zip(*_grid(CATEGORIES * sd, known=(total > 0).sum() > 2), strict=True):
            around = np.divide(1.0, total, where=total > 0, out=np.full(len(total), np.inf)) + spread**2
            miss = np.where(total > 0, (centre - prior[0]) ** 2 / around, 0.0)
            across = -0.5 * (np.log(around[total > 0]).sum() + np.minimum(miss, WILD).sum())
            chances.append(np.log(chance) + np.log(odds) + within + across)
            precision = np.where(usable, 1.0 / noise, 0.0)
            fits.append(
                _given(
                    value,
                    precision,
                    total=total,
                    centre=centre,
                    category=category,
                    prior=prior,
                    spreads=(between, spread),
                )
            )
    share = np.exp(np.asarray(chances) - max(chances))
    return _average(fits, share / share.sum())


@dataclass(frozen=True)
class _Given:
    """Posterior means and variances at one pair of spreads."""

    mean: Floats
    variance: Floats
    category_mean: Floats
    category_variance: Floats
    between: float


def _grid(middle: float, *, known: bool) -> tuple[Floats, Floats]:
    """Grid of spreads with prior probabilities, whose root mean square is `middle`; one point unless identifiable."""
    if not known:
        return np.asarray([middle]), np.ones(1)
    z = np.linspace(-2.5, 2.5, 9)
    chance = np.exp(-0.5 * z**2)
    chance /= chance.sum()
    spread = np.exp(SPREAD_DOUBT * z)
    return middle * spread / np.sqrt((chance * spread**2).sum()), chance


def _given(
    value: Floats,
    precision: Floats,
    *,
    total: Floats,
    centre: Floats,
    category: Ints,
    prior: tuple[float, float],
    spreads: tuple[float, float],
) -> _Given:
    between, spread = spreads
    towards = 1.0 / (spread**2 + prior[1] ** 2)
    category_variance = 1.0 / (total + towards)
    category_mean = (total * centre + towards * prior[0]) * category_variance
    alone = 1.0 / (precision + between**-2)
    mean = (precision * value + category_mean[category] * between**-2) * alone
    share = alone * between**-2
    variance = alone + share**2 * category_variance[category]
    return _Given(mean, variance, category_mean, category_variance, between)


def _average(fits: list[_Given], share: Floats) -> PosteriorElasticities:
    def mix(name: str) -> Floats:
        values = np.stack([getattr(fit, name) for fit in fits])
        return np.tensordot(share, values, axes=1)

    def deviation(mean: str, variance: str) -> Floats:
        means = np.stack([getattr(fit, mean) for fit in fits])
        scatter = np.tensordot(share, means**2, axes=1) - mix(mean) ** 2
        return np.sqrt(mix(variance) + np.maximum(scatter, 0.0))

    square = float(share @ np.asarray([fit.between**2 for fit in fits]))
    mean_sd = deviation("category_mean", "category_variance")
    nowhere = np.zeros(len(mix("mean")), bool), np.zeros(len(mean_sd), bool)
    return PosteriorElasticities(
        mean=mix("mean"),
        sd=deviation("mean", "variance"),
        category_mean=mix("category_mean"),
        category_sd=np.sqrt(mean_sd**2 + square),
        between=float(np.sqrt(square)),
        mean_sd=mean_sd,
        at_limit=nowhere[0],
        category_at_limit=nowhere[1],
    )


def with_shared_bias(
    shrunk: PosteriorElasticities,
    *,
    raised: PosteriorElasticities,
    level: float,
    error: float,
    own: Floats,
    shared: float,
    start: tuple[float, float],
) -> PosteriorElasticities:
    """Account for a bias that all products share, from nuisances, confounding or the control function.

    Such a bias B shifts every estimate alike. The larger its standard deviation, the more of the distance between the
    estimated level and its prior is attributed to it. Each posterior mean is corrected by the expected B times its
    sensitivity to a shift of all estimates, and its deviation is widened accordingly.

    Args:
        shrunk: Posterior without such a bias.
        raised: The same with every estimate and the level shifted by RAISED.
        level: Estimated level.
        error: Its standard error; infinite without an estimate.
        own: (product,) standard deviation of the bias in each product's estimate; at least `shared`.
        shared: The same for estimates of categories.
        start: Mean and standard deviation of the level's prior.
    """
    if not np.isfinite(error):
        return shrunk
    far, room = level - start[0], start[1] ** 2 + error**2

    def blame(doubt: Floats) -> Floats:
        return 1.0 / (1.0 + room / np.maximum(doubt, 1e-9) ** 2)

    product, group = blame(own), blame(np.full(len(shrunk.category_mean), shared))
    taken = np.clip((raised.mean - shrunk.mean) / RAISED, 0.0, 1.0)
    by_category = np.clip((raised.category_mean - shrunk.category_mean) / RAISED, 0.0, 1.0)
    return replace(
        shrunk,
        mean=shrunk.mean - taken * product * far,
        sd=np.sqrt(shrunk.sd**2 + taken**2 * product * room),
        category_mean=shrunk.category_mean - by_category * group * far,
        category_sd=np.sqrt(shrunk.category_sd**2 + by_category**2 * group * room),
        mean_sd=np.sqrt(shrunk.mean_sd**2 + by_category**2 * group * room),
    )


def within_limits(shrunk: PosteriorElasticities, *, category: Ints, prior: Prior) -> PosteriorElasticities:
    """Flag estimates at a limit; a product beyond one gets its category's mean, or the prior if that is at one too.

    An estimate beyond the plausible range shows that the history violates the assumptions, not that demand is
    inelastic.
    """
    category_at_limit, category_beyond = _ends(shrunk.category_mean, shrunk.mean_sd, prior.limits)
    category_mean = np.where(category_beyond, prior.mean, shrunk.category_mean)
    category_sd = np.where(category_beyond, prior.sd, shrunk.category_sd)
    at_limit, beyond = _ends(shrunk.mean, shrunk.sd, prior.limits)
    instead = np.where(category_at_limit, prior.mean, category_mean)[category]
    doubt = np.where(category_at_limit, prior.sd, category_sd)[category]
    return replace(
        shrunk,
        mean=np.where(beyond, instead, shrunk.mean),
        sd=np.where(beyond, np.maximum(doubt, shrunk.sd), shrunk.sd),
        category_mean=category_mean,
        category_sd=category_sd,
        at_limit=at_limit,
        category_at_limit=category_at_limit,
    )


def _ends(mean: Floats, sd: Floats, limits: tuple[float, float]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the 80 % interval reaches a limit, and whether the mean itself does."""
    beyond = (mean <= limits[0]) | (mean >= limits[1])
    return beyond | (mean - EDGE_Z * sd < limits[0]) | (mean + EDGE_Z * sd > limits[1]), beyond
