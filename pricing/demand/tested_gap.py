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
class TestedMeans:
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
    def gap_variance(self) -> Floats:
        """(category,) variance of the gap's error; infinite where nothing was tested."""
        return np.where(self.products > 0, self.observed_error**2 + self.tested_error**2, np.inf)


@dataclass(frozen=True)
class Gaps:
    """Posterior gaps: with z standard normal, that of category c is `value` + `exposure` · `shared_sd` · z + rest."""

    shared: float  # posterior mean of b
    shared_sd: float  # posterior standard deviation of b
    value: Floats  # (category,) posterior means
    exposure: Floats  # (category,) by how much each moves per unit of b, 0 to 1; 1 where nothing was tested
    variance: Floats  # (category,) of the rest, which categories do not share


def mean_elasticities(
    observed: Floats, observed_variance: Floats, tested: Floats, tested_variance: Floats, *, shares: Floats, row: Ints
) -> TestedMeans:
    """Average (parent,) estimates that have both errors, by precision of their gaps.

    `row` is (parent,) each one's category. `shares` is (2, category): the part of the information of its observed and
    of its tested estimates that counts for a mean, where their errors go together; see `shrinkage.shrink`.
    """
    count = shares.shape[1]
    both = np.isfinite(observed_variance) & np.isfinite(tested_variance)
    row = row[both]
    weight = 1.0 / (observed_variance + tested_variance)[both]
    total = np.bincount(row, weight, count).astype(np.float64)
    usable = (total > 0) & (shares > 0).all(axis=0)

    def ratio(values: Floats, below: Floats) -> Floats:
        above = np.bincount(row, values, count)
        return np.asarray(np.divide(above, below, where=usable, out=np.full(count, np.nan)))

    def mean(values: Floats) -> Floats:
        return ratio(weight * values[both], total)

    def error(variance: Floats, share: Floats) -> Floats:
        return np.sqrt(ratio(weight**2 * variance[both], total**2 * share))

    return TestedMeans(
        observed=mean(observed),
        observed_error=error(observed_variance, shares[0]),
        tested=mean(tested),
        tested_error=error(tested_variance, shares[1]),
        products=np.where(usable, np.bincount(row, minlength=count), 0),
    )


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


def posterior_gaps(gap: Floats, variance: Floats, *, open_to: float, between: float) -> Gaps:
    """Compute the posterior of all gaps: b ~ N(0, `open_to`²), a category's around it with variance `between`.

    `gap` is (category,) measured, with `variance` of its error; infinite where nothing was tested.
    """
    tested = np.isfinite(variance)
    weight = np.where(tested, 1.0 / (between + variance), 0.0)
    left = 1.0 / (float(weight.sum()) + 1.0 / open_to**2)
    shared = left * float(weight[tested] @ gap[tested])
    exposure = np.where(tested, weight * np.where(tested, variance, 0.0), 1.0)
    return Gaps(
        shared=shared,
        shared_sd=float(np.sqrt(left)),
        value=exposure * shared + (1.0 - exposure) * np.where(tested, gap, 0.0),
        exposure=exposure,
        variance=between * exposure,
    )
