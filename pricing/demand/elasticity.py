"""What is believed of each product's elasticity: shrinkage towards the category, doubt that all share, the limits."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints

RAISED = 0.05  # what is added to all estimates to see how much of it each posterior takes
# How the configured prior variance is split: products around their category, categories around the level; the level
# has the rest.
BETWEEN, CATEGORIES = 0.6, 0.5
SPREAD_DOUBT = 0.5  # standard deviation of the log of both spreads, before any estimate
TAILS = 4.0  # degrees of freedom of the level's prior: a level far from what was believed is rather believed than not
EDGE_Z = 1.2816  # of the 80 % interval that must end inside the limits
WILD = 9.0  # squared standard errors beyond which one estimate no longer tells of the spread


@dataclass(frozen=True)
class Shrunk:
    """Elasticities after shrinkage.

    Attributes:
        mean: (product,) posterior mean, below 0.
        sd: (product,) posterior standard deviation.
        category_mean: (category,) posterior mean of each category's mean.
        category_sd: (category,) spread of a new product of that category: between products and of the mean itself.
        between: Standard deviation of products around their category.
        mean_sd: (category,) standard deviation of the category's mean alone.
        at_limit: (product,) whether the estimate or its 80 % interval ends at a limit, where nothing is identified.
        category_at_limit: (category,) the same of the category's mean.
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
    """What is believed of an elasticity before any price moved: a normal distribution, split into three levels.

    Standard errors of what is found later are multiplied by `widening`. What ends at one of `limits`, the lowest and
    the highest elasticity, is no finding.
    """

    mean: float
    sd: float
    widening: float = 1.0
    limits: tuple[float, float] = (-np.inf, 0.0)

    @property
    def level_sd(self) -> float:
        """Standard deviation of the level that all categories share."""
        return float(self.sd * np.sqrt(1.0 - BETWEEN**2 - CATEGORIES**2))


def level_prior(level: float, error: float, *, start: tuple[float, float]) -> tuple[float, float]:
    """The level that all categories share: what was found and what was believed, by their precisions.

    Args:
        level: Mean elasticity of all products, as found.
        error: Its standard error; infinite where nothing was found.
        start: Mean and standard deviation of what is believed before.

    Returns:
        Posterior mean and standard deviation.
    """
    if not np.isfinite(error):
        return start
    sure = 1.0 / (1.0 + (error / start[1]) ** 2)
    return sure * level + (1.0 - sure) * start[0], float(start[1] * np.sqrt(1.0 - sure))


def level_start(prior: Prior, *, level: float, error: float) -> tuple[float, float]:
    """Mean and standard deviation of what is believed of the level, as seen from the level found.

    The belief is Student's t with TAILS degrees of freedom, which gives way to a level far from it (O'Hagan 1979): the
    normal prior with the weight that one step of iterated least squares gives it (Lange, Little and Taylor 1989,
    doi:10.2307/2290063), never narrower than configured.

    Args:
        prior: What was believed before.
        level: Level found.
        error: Standard deviation of all errors in it; infinite where nothing was found.
    """
    variance = prior.level_sd**2
    weight = (TAILS + (level - prior.mean) ** 2 / (variance + error**2)) / (TAILS + 1.0)
    return prior.mean, float(np.sqrt(variance * max(1.0, weight)))


def shrink(estimate: Floats, error: Floats, *, category: Ints, prior: tuple[float, float], sd: float = 1.0) -> Shrunk:
    """Hierarchical normal model: products around their category, categories around the level.

    Both spreads are averaged over their posterior on a grid (log-normal priors of median about BETWEEN and CATEGORIES
    times `sd`), so that what is not known of them is in the deviations (Gelman 2006, doi:10.1214/06-BA117A).

    Args:
        estimate: (product,) elasticities as regressed.
        error: (product,) their standard errors; infinite where nothing was learnt.
        category: (product,) row of the category.
        prior: Mean and standard deviation of the level.
        sd: Configured standard deviation of an elasticity before anything was learnt.
    """
    usable = np.isfinite(error)
    noise, value = np.where(usable, error, 1.0) ** 2, np.where(usable, estimate, 0.0)
    fits, chances = [], []
    for between, chance in zip(*_grid(BETWEEN * sd, known=usable.sum() > 2), strict=True):
        weight = np.where(usable, 1.0 / (noise + between**2), 0.0)
        total: Floats = np.bincount(category, weight).astype(np.float64)
        centre = np.divide(np.bincount(category, weight * value), total, where=total > 0, out=np.zeros(len(total)))
        # Huber-like: one wild estimate must not make all products strangers to their category.
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
    """Spreads and their prior chances; the mean square is the configured one. One point where nothing tells of them."""
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


def _average(fits: list[_Given], share: Floats) -> Shrunk:
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
    return Shrunk(
        mean=mix("mean"),
        sd=deviation("mean", "variance"),
        category_mean=mix("category_mean"),
        category_sd=np.sqrt(mean_sd**2 + square),
        between=float(np.sqrt(square)),
        mean_sd=mean_sd,
        at_limit=nowhere[0],
        category_at_limit=nowhere[1],
    )


def doubted(
    shrunk: Shrunk,
    *,
    raised: Shrunk,
    level: float,
    error: float,
    own: Floats,
    shared: float,
    start: tuple[float, float],
) -> Shrunk:
    """Takes in errors that all products share: nuisances, confounding, the control.

    Such an error B adds to every estimate alike. The prior of the level says how large it may be: the larger B is
    expected to be, the more of the distance between the level found and the prior is put down to it. Of B a posterior
    mean holds what it takes of an amount that is added to all estimates; as much is taken off it.

    Args:
        shrunk: Posterior that knows of no such error.
        raised: The same, had every estimate and the level been RAISED higher.
        level: Level found.
        error: Its standard error; infinite where nothing was found.
        own: (product,) standard deviation of the error in each product's estimate; at least `shared`.
        shared: The same for what rests on the category alone.
        start: Mean and standard deviation of what was believed of the level before.
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


def within_limits(shrunk: Shrunk, *, category: Ints, prior: Prior) -> Shrunk:
    """Marks what ends at a limit; a product beyond one gets its category's mean, or the prior where that is no better.

    An estimate beyond what an elasticity can be says that its history broke the assumptions, not that demand is
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
    """Whether the 80 % interval ends at a limit, and whether the mean itself lies there."""
    beyond = (mean <= limits[0]) | (mean >= limits[1])
    return beyond | (mean - EDGE_Z * sd < limits[0]) | (mean + EDGE_Z * sd > limits[1]), beyond
