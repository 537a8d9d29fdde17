"""Posterior elasticities: a hierarchical model of their logs, integrated on a grid. NumPy only.

θ = log(−elasticity). A product's θ is normal around its category's, that around the level of all, and the level has a
Student t prior, which yields to a level far from it (O'Hagan 1979), so that groceries at −1.5 and phones at −15 both
fit. An estimate is normal around the elasticity itself; all estimates may share a factor, their common bias. The graph
is a tree, so that messages along it give exact posteriors (Pearl 1988).
"""

from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Floats, Ints

# Of 1,851 published elasticities the median is −2.2, the mean −2.6 (Bijmolt, van Heerde and Pieters 2005,
# doi:10.1509/jmkr.42.2.141.62296); the sd also spans phones, where −15 was found, and what nobody can do without.
PRIOR_MEDIAN = 2.3
PRIOR_SD = 0.8
BETWEEN = 0.6  # share of PRIOR_SD: products around their category
CATEGORIES = 0.5  # likewise, categories around the level
PLAUSIBLE = (-20.0, -0.2)  # elasticities: fast electronics reach −15, what nobody can do without −0.3
TAILS = 4.0  # degrees of freedom of the level's prior
SPREAD_DOUBT = 0.5  # prior standard deviation of the log of both spreads (Gelman 2006, doi:10.1214/06-BA117A)
GRID = np.linspace(np.log(0.15), np.log(60.0), 121)  # of θ
_SPREADS = np.linspace(-1.5, 1.5, 3)  # standard normal points
_BIASES = np.linspace(-2.0, 2.0, 5)  # likewise
_TINY = 1e-300


@dataclass(frozen=True)
class PosteriorElasticities:
    """Elasticities after shrinkage, as mean and standard deviation of θ."""

    mean: Floats  # (product,)
    sd: Floats  # (product,)
    category_mean: Floats  # (category + 1,) of a new product of each category, and of an unknown one
    category_sd: Floats  # (category + 1,) likewise

    @property
    def elasticity(self) -> Floats:
        """(product,) posterior means of the elasticity."""
        return elasticity_of(self.mean, self.sd)

    def of_products(self, parent: Ints) -> "PosteriorElasticities":
        """Give each product that of its (product,) parent."""
        return replace(self, mean=self.mean[parent], sd=self.sd[parent])


def elasticity_of(mean: Floats, sd: Floats) -> Floats:
    """The mean elasticity whose θ is normal with `mean` and `sd`; same shape, below 0."""
    return np.asarray(-np.exp(mean + 0.5 * np.square(sd)))


START = float(elasticity_of(np.array(np.log(PRIOR_MEDIAN)), np.array(PRIOR_SD)))  # where nothing is known


def shrink(
    estimate: Floats,
    error: Floats,
    *,
    category: Ints,
    centre: Floats,
    bias: float,
    share: Floats | None = None,
    exposure: Floats | float = 1.0,
) -> PosteriorElasticities:
    """Compute the posterior of all elasticities from (product,) estimates, which may be above 0.

    `error` is infinite without an estimate. `centre` is (category,) by how much the θ of each is expected above the
    level of all; some categories may have no product. `bias` is the standard deviation of the log of the factor that
    all estimates share. `share` is (category,), from 0 to 1: the part of its products' likelihoods that tells of the
    category, where errors of its products go together; 1 when absent. With it the category's information is that of
    their mean (a power likelihood: Ibrahim and Chen 2000, doi:10.1214/ss/1009212673), and a product keeps its own
    estimate. `exposure` is (category,), from 0 to 1: the power of the shared factor that its estimates have.

    Example:
        >>> import numpy as np
        >>> from pricing.demand.shrinkage import shrink
        >>> estimate, error = np.array([-1.2, -6.0, 0.0]), np.array([0.1, 4.0, np.inf])
        >>> found = shrink(estimate, error, category=np.zeros(3, int), centre=np.zeros(1), bias=0.0)
        >>> found.elasticity.round(1)  # the uncertain one is drawn to its category, the unknown one lies there
        array([-1.2, -1.9, -1.8])
    """
    usable = np.isfinite(error)
    apart = (np.where(usable, estimate, 0.0)[:, None] + np.exp(GRID)) / np.where(usable, error, 1.0)[:, None]
    log_like = -0.5 * np.minimum(apart**2 - (apart**2).min(axis=1, keepdims=True), 60.0)
    like = np.where(usable[:, None], np.exp(log_like), 1.0)  # (product, θ)
    spreads, chances = _spreads()
    factors = _BIASES * bias if bias > 0 else np.zeros(1)
    odds = np.exp(-0.5 * _BIASES**2) if bias > 0 else np.ones(1)
    power = np.append(np.broadcast_to(exposure, len(centre)), 1.0)  # the last: an unknown category
    above = np.append(centre, 0.0)
    log_weights: list[float] = []  # of the parts of a mixture, and their means and variances
    of_products: list[tuple[Floats, Floats]] = []
    of_categories: list[tuple[Floats, Floats]] = []
    for between, chance in zip(spreads * BETWEEN, chances, strict=True):
        near = _normal(between)
        told = like @ near  # (product, category's θ)
        log_told = np.log(np.maximum(told, _TINY)) * (1.0 if share is None else share[category][:, None])
        together = np.zeros((len(centre), len(GRID)))
        np.add.at(together, category, log_told)
        for around, likely in zip(spreads * CATEGORIES, chances, strict=True):
            peak = together.max(axis=1, keepdims=True)
            members = np.exp(together - peak)
            for factor, odd in zip(factors, odds, strict=True):
                far = np.stack([_normal(around, above=each) for each in above + (power - 1.0) * factor])
                up = np.log(np.maximum(np.einsum("ct,ctl->cl", members, far[:-1]), _TINY)) + peak  # (category, level)
                joint = up.sum(axis=0) + _level_prior(factor)
                weight = float(joint.max() + np.log(np.exp(joint - joint.max()).sum()))
                others = _normalised(joint - up)
                middle = _scaled(np.einsum("cl,ctl->ct", others, far[:-1]) * members)  # (category, its θ)
                rest = np.log(np.maximum(middle, _TINY))[category] - log_told
                product = _scaled((_normalised(rest) @ near) * like)
                unknown = _normalised(joint[None]) @ far[-1].T
                new = np.concatenate([middle, unknown]) @ near
                log_weights.append(weight + float(np.log(chance * likely * odd)))
                of_products.append(_moments(product, factor * power[category]))
                of_categories.append(_moments(_scaled(new), factor * power))
    weights = np.exp(np.array(log_weights) - max(log_weights))
    weights /= weights.sum()
    mean, sd = _mixed(weights, of_products)
    category_mean, category_sd = _mixed(weights, of_categories)
    return PosteriorElasticities(mean, sd, category_mean, category_sd)


def _spreads() -> tuple[Floats, Floats]:
    """Factors of a spread whose root mean square is PRIOR_SD, and their prior probabilities."""
    chance = np.exp(-0.5 * _SPREADS**2)
    chance /= chance.sum()
    spread = np.exp(SPREAD_DOUBT * _SPREADS)
    return PRIOR_SD * spread / np.sqrt((chance * spread**2).sum()), chance


def _normal(sd: float, *, above: float = 0.0) -> Floats:
    """(to θ, from θ) density of a normal step of mean `above`, up to a constant."""
    return np.asarray(np.exp(-0.5 * ((GRID[:, None] - GRID - above) / sd) ** 2) / sd)


def _level_prior(factor: float) -> Floats:
    """(θ,) log density of the level as the estimates show it, times the exponential of `factor`."""
    sd = PRIOR_SD * np.sqrt(1.0 - BETWEEN**2 - CATEGORIES**2)
    away = (GRID - np.log(PRIOR_MEDIAN) - factor) / sd
    return np.asarray(-0.5 * (TAILS + 1.0) * np.log1p(away**2 / TAILS))


def _normalised(logs: Floats) -> Floats:
    return _scaled(np.exp(logs - logs.max(axis=1, keepdims=True)))


def _scaled(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), _TINY))


def _moments(chances: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """(row,) means, less the log of a (row,) factor, and variances of distributions over the grid."""
    mean = chances @ GRID
    return mean - factor, np.maximum(chances @ GRID**2 - mean**2, 0.0)


def _mixed(weights: Floats, parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a mixture, from the parts' means and variances."""
    means, variances = (np.stack(values) for values in zip(*parts, strict=True))
    mean = weights @ means
    return mean, np.sqrt(np.maximum(weights @ (variances + means**2) - mean**2, 0.0))
