"""Control function for price endogeneity, and falsification tests of the elasticity estimates.

Whoever sets prices reacts to demand shocks that the model does not observe, so price residuals correlate with demand
residuals and the regression is biased towards a weak elasticity. Routine price changes, which react, are small; large
ones (clearances, campaigns, mistakes) have other reasons. With both drawn from normal distributions of mean 0, the
expected demand shock given a change is proportional to the change times the probability that it is routine: a
control function (Petrin and Train 2010, doi:10.1509/jmkr.47.1.3) that vanishes for large changes. Its coefficient is
identified by heteroskedasticity (Rigobon 2003, doi:10.1162/003465303772815727) and shared by all products.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from pricing.arrays import Floats
from pricing.demand.grades import DIP_AFTER_CUT, KINDS_DISAGREE, TREND

ROUNDS = 60
SAMPLE = 60_000
CHANCE = 0.01  # significance level of the tests
BIAS_SD = 0.5  # prior standard deviation of a bias, in units of an elasticity
EXPECTED = frozenset({"promoted"})  # kinds that should differ: advertising has an effect besides the price cut


@dataclass(frozen=True)
class PriceChangeMixture:
    """Mixture of two normal distributions of mean 0 for price residuals, in log units."""

    routine: float  # standard deviation of routine price changes
    deliberate: float  # of deliberate ones, larger
    share: float  # of deliberate price changes


def fit_price_change_mixture(residual: Floats) -> PriceChangeMixture:
    """Fit the mixture by expectation–maximisation (Dempster, Laird, Rubin 1977) to (event,) price residuals."""
    move = residual[:: max(len(residual) // SAMPLE, 1)].astype(np.float64)
    if not len(move):
        return PriceChangeMixture(1.0, 1.0, 0.0)
    scale = max(float(np.std(move)), 1e-6)
    small, large, share = 0.5 * scale, 2.0 * scale, 0.1
    for _ in range(ROUNDS):
        chance = _chance(move, PriceChangeMixture(small, large, share))
        share = float(np.clip(chance.mean(), 1e-3, 0.5))
        large = max(float(np.sqrt((chance * move**2).sum() / max(chance.sum(), 1e-9))), 1e-6)
        small = max(float(np.sqrt(((1 - chance) * move**2).sum() / max((1 - chance).sum(), 1e-9))), 1e-6)
    return PriceChangeMixture(min(small, large), max(small, large), share)


def control_function(residual: Floats, moves: PriceChangeMixture) -> Floats:
    """Compute the control function: each residual times the probability that it is routine; same shape."""
    return np.asarray(residual * (1.0 - _chance(residual, moves)))


def _chance(move: Floats, moves: PriceChangeMixture) -> Floats:
    """Posterior probability that a price change is deliberate."""
    if moves.share <= 0:
        return np.zeros_like(move)
    narrower = 1.0 / moves.routine**2 - 1.0 / moves.deliberate**2
    with np.errstate(over="ignore", under="ignore"):
        odds = (
            (1.0 - moves.share) / moves.share * (moves.deliberate / moves.routine) * np.exp(-0.5 * move**2 * narrower)
        )
        return np.asarray(1.0 / (1.0 + odds))


@dataclass(frozen=True)
class FalsificationTest:
    """A falsification test: an estimate that should be 0, in units of an elasticity."""

    value: float
    error: float  # standard error; infinite where unknown
    comparisons: int = 1  # number of tests it was chosen from (multiple testing)
    share: float = 0.5  # of the information that the first of two compared kinds of price changes has

    @property
    def excess(self) -> float:
        """Variance of a bias implied by the test: square less noise, discounted by the test's power."""
        if not np.isfinite(self.error):
            return 0.0
        telling = 1.0 / (1.0 + (self.error / BIAS_SD) ** 2)
        return float(telling**2 * max(self.value**2 - self.comparisons * self.error**2, 0.0))

    @property
    def misplaced(self) -> float:
        """Mean square error of both kinds' mean, weighted by information, if either is equally likely to be right."""
        return self.excess * (self.share**2 + (1.0 - self.share) ** 2) / 2.0

    @property
    def failed(self) -> bool:
        """Tells whether it differs from 0 significantly (1 %, Bonferroni over `comparisons`)."""
        critical = NormalDist().inv_cdf(1.0 - CHANCE / 2.0 / self.comparisons)
        return bool(abs(self.value) > critical * self.error)


@dataclass(frozen=True)
class FalsificationTests:
    """Falsification tests of a panel's price changes."""

    before: FalsificationTest  # lead test, of demand before a price change: nonzero if prices follow unforecast demand
    later: FalsificationTest  # of demand some periods after it, when forecasts know it: nonzero if it keeps trending
    dip: FalsificationTest  # demand after a temporary cut, relative to the extra units while it lasted (stockpiling)
    kinds: dict[str, FalsificationTest]  # difference in elasticity between changes of a kind and others, by kind

    @property
    def trend(self) -> FalsificationTest:
        """The worse of the tests before and after: both detect a demand trend correlated with prices."""
        tests = [replace(test, comparisons=2) for test in (self.before, self.later)]
        return max(tests, key=lambda test: test.excess)

    @property
    def disagreement(self) -> FalsificationTest:
        """The largest difference between kinds of price changes."""
        known = [test for name, test in self.kinds.items() if name not in EXPECTED and np.isfinite(test.error)]
        tests = [replace(test, comparisons=len(known)) for test in known]
        return max(tests, key=lambda test: test.excess, default=UNTESTED)

    @property
    def doubt(self) -> float:
        """Standard deviation of the bias of all elasticities implied by the tests."""
        return float(np.sqrt(self.trend.excess + self.dip.excess + self.disagreement.misplaced))

    @property
    def flags(self) -> int:
        """The tests that failed, as bits named by `grades.FLAGS`."""
        failed = {TREND: self.trend, DIP_AFTER_CUT: self.dip, KINDS_DISAGREE: self.disagreement}
        return sum(flag for flag, test in failed.items() if test.failed)


UNTESTED = FalsificationTest(0.0, np.inf)
