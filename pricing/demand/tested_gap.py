"""Estimate by how much elasticities from people's price changes differ from tested ones, category by category.

The gap of a category (observed less tested) is the bias of its observed elasticities. Gaps are normal around a bias b
that all categories share (docs/develop/demand.md, section 3, *Draws*). NumPy only.
"""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Floats, Ints

# Before the data, the standard deviation of gaps around b, as a fraction of that of b: as categories' elasticities
# differ around the level of all (`shrinkage.CATEGORIES`).
BETWEEN = 0.5
# Degrees of freedom of that prior. Few categories cannot tell the variance of their gaps: an estimate of 0 would take
# every untested category for exactly as biased as the tested ones (Chung, Rabe-Hesketh and Choi 2013,
# doi:10.1002/sim.5821). Moderated as in Smyth 2004, doi:10.2202/1544-6115.1027.
DEGREES = 4.0


@dataclass(frozen=True)
class PairedMeans:
    """Mean elasticities of each category's products that were both observed and tested; NaN where none was.

    Both means have the same weights, so that their difference is the mean gap. A product's stores count as one.
    """

    observed: Floats  # (category,) from people's price changes
    observed_error: Floats  # (category,) standard error
    tested: Floats  # (category,) from random draws
    tested_error: Floats  # (category,) standard error
    products: Ints  # (category,) number of products with both

    @property
    def gap(self) -> Floats:
        """(category,) observed less tested."""
        return self.observed - self.tested

    @property
    def variance(self) -> Floats:
        """(category,) variance of the gap's error; infinite where nothing was tested."""
        return np.where(self.products > 0, self.observed_error**2 + self.tested_error**2, np.inf)


@dataclass(frozen=True)
class Gaps:
    """Posterior gaps: with z standard normal, that of category c is `value` + `exposure` · `shared_sd` · z + rest."""

    value: Floats  # (category,) posterior means; where nothing was tested, that of b
    shared_sd: float  # posterior standard deviation of b
    exposure: Floats  # (category,) by how much each moves per unit of b, 0 to 1; 1 where nothing was tested
    variance: Floats  # (category,) of the rest, which categories do not share
    common: float  # posterior mean of the error that all tested elasticities share
    tested_sd: float  # and its standard deviation


def mean_elasticities(value: Floats, variance: Floats, *, share: Floats, category: Ints) -> PairedMeans:
    """Average the estimates of parents that are both observed and tested, by precision of their gaps.

    `value` and `variance` are (2, parent), observed and tested, the latter infinite without an estimate. `share` is (2,
    category): the part of their information that counts for a mean, where errors go together; see `shrinkage.shrink`.
    """
    both = np.isfinite(variance).all(axis=0)
    row = category[both]
    weight = 1.0 / variance[:, both].sum(axis=0)

    def sums(values: Floats) -> Floats:
        return np.stack([np.bincount(row, each, share.shape[1]) for each in values])

    with np.errstate(divide="ignore", invalid="ignore"):
        total = sums(weight[None])
        mean = sums(weight * value[:, both]) / total
        error = np.sqrt(sums(weight**2 * variance[:, both]) / share) / total
    usable = np.isfinite(error).all(axis=0)
    observed, tested = np.where(usable, mean, np.nan)
    observed_error, tested_error = np.where(usable, error, np.nan)
    products = np.where(usable, np.bincount(row, minlength=share.shape[1]), 0)
    return PairedMeans(observed, observed_error, tested, tested_error, products)


def between_variance(gap: Floats, variance: Floats, *, open_to: float) -> float:
    """Estimate the variance of gaps around b from (category,) measured gaps, with variances as for `posterior_gaps`.

    The method of moments of DerSimonian and Laird (1986, doi:10.1016/0197-2456(86)90046-2), averaged with the prior's
    by degrees of freedom. Those of the data are the information on the variance at the prior, where k gaps without
    error have k − 1. `open_to` is the prior standard deviation of b.
    """
    prior = (BETWEEN * open_to) ** 2
    known = np.isfinite(variance)
    count = int(known.sum())
    if count < 2:
        return prior
    gap = gap[known]
    variance = variance[known]
    weight = 1.0 / variance
    around = gap - np.average(gap, weights=weight)
    excess = float(weight @ around**2) - (count - 1)
    moments = max(excess / float(weight.sum() - (weight @ weight) / weight.sum()), 0.0)
    degrees = (1.0 - 1.0 / count) * float(((prior / (prior + variance)) ** 2).sum())
    return (DEGREES * prior + degrees * moments) / (DEGREES + degrees)


def posterior_gaps(gap: Floats, variance: Floats, *, open_to: float, between: float, common: float) -> Gaps:
    """Compute the posterior of all gaps: b ~ N(0, `open_to`²), a category's around it with variance `between`.

    `gap` is (category,) measured, with `variance` of its error; infinite where nothing was tested. `common` is the
    variance of an error e that all tested elasticities share: gaps show b − e alone, which is divided in proportion
    to the variances of both.
    """
    tested = np.isfinite(variance)
    gap = np.where(tested, gap, 0.0)
    weight = 1.0 / (between + variance)
    part = common / (open_to**2 + common)
    left = 1.0 / (float(weight.sum()) + 1.0 / (open_to**2 + common))  # posterior variance of b − e
    shown = left * float(weight @ gap)  # and its mean
    exposure = 1.0 - between * weight
    value = exposure * shown + (1.0 - exposure) * gap - part * shown
    shared = (exposure - part) ** 2 * left + part * open_to**2
    shared_sd = np.sqrt((1.0 - part) ** 2 * left + part * open_to**2)
    return Gaps(
        value=value,
        shared_sd=float(shared_sd),
        exposure=np.minimum(np.sqrt(shared) / shared_sd, 1.0),
        variance=between * exposure,
        common=-part * shown,
        tested_sd=float(np.sqrt(part**2 * left + part * open_to**2)),
    )
