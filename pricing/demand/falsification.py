"""Falsification tests of the elasticity estimates, and the bias of all elasticities that they imply."""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from pricing.demand.grades import DIP_AFTER_CUT, KINDS_DISAGREE, TREND

CHANCE = 0.01  # significance level of the tests
BIAS_SD = 0.5  # prior standard deviation of a bias, in units of an elasticity
EXPECTED = frozenset({"promoted"})  # kinds that should differ: advertising has an effect besides the price cut


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
