"""Control function for price endogeneity (docs/develop/demand.md, equation 7).

Whoever sets prices reacts to demand shocks that the model does not observe, so price residuals correlate with demand
residuals and the regression is biased towards a weak elasticity. Routine price changes, which react, are small; large
ones (clearances, campaigns, mistakes) have other reasons. With both drawn from normal distributions of mean 0, the
expected demand shock given a change is proportional to the change times the probability that it is routine: a
control function (Petrin and Train 2010, doi:10.1509/jmkr.47.1.3) that vanishes for large changes. Its coefficient is
identified by heteroskedasticity (Rigobon 2003, doi:10.1162/003465303772815727) and shared by all products.
"""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Floats

ROUNDS = 60
SAMPLE = 60_000


@dataclass(frozen=True)
class PriceChangeMixture:
    """Mixture of two normal distributions of mean 0 for price residuals, in log units."""

    routine: float  # standard deviation of routine price changes
    deliberate: float  # of deliberate ones, larger
    share: float  # of deliberate price changes


def fit_price_change_mixture(residual: Floats) -> PriceChangeMixture:
    """Fit the mixture by expectation–maximisation (Dempster, Laird, Rubin 1977) to (event,) price residuals."""
    change = residual[:: max(len(residual) // SAMPLE, 1)].astype(np.float64)
    if not len(change):
        return PriceChangeMixture(1.0, 1.0, 0.0)
    scale = max(float(np.std(change)), 1e-6)
    found = PriceChangeMixture(routine=0.5 * scale, deliberate=2.0 * scale, share=0.1)
    for _ in range(ROUNDS):
        chance = _deliberate(change, found)
        found = PriceChangeMixture(
            routine=_spread(change, 1 - chance),
            deliberate=_spread(change, chance),
            share=float(np.clip(chance.mean(), 1e-3, 0.5)),
        )
    narrow, wide = sorted((found.routine, found.deliberate))
    return PriceChangeMixture(narrow, wide, found.share)


def control_function(residual: Floats, mixture: PriceChangeMixture) -> Floats:
    """Compute the control function C: each residual times the probability that it is routine; same shape."""
    return np.asarray(residual * (1.0 - _deliberate(residual, mixture)))


def _deliberate(change: Floats, mixture: PriceChangeMixture) -> Floats:
    """Posterior probability that a price change is deliberate."""
    if mixture.share <= 0:
        return np.zeros_like(change)
    narrower = 1.0 / mixture.routine**2 - 1.0 / mixture.deliberate**2
    prior = (1.0 - mixture.share) / mixture.share * (mixture.deliberate / mixture.routine)
    with np.errstate(over="ignore", under="ignore"):
        odds = prior * np.exp(-0.5 * change**2 * narrower)
        return np.asarray(1.0 / (1.0 + odds))


def _spread(change: Floats, chance: Floats) -> float:
    """Standard deviation around 0 of the price changes that belong to a part with these probabilities."""
    return max(float(np.sqrt((chance * change**2).sum() / max(chance.sum(), 1e-9))), 1e-6)
