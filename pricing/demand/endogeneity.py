"""Which price moves are routine and which deliberate: the part of a move that may answer to demand nobody else saw.

Whoever sets prices answers to demand they see, so a price a little above its expectation tells of demand above its
own, and a regression takes that for a weak elasticity. Routine moves are small; large ones (clearances, campaigns,
mistakes) have reasons of their own. With both kinds drawn from normal distributions of mean 0, what a move tells of
hidden demand is proportional to the move times the chance that it is routine: a control function (Petrin and Train
2010, doi:10.1509/jmkr.47.1.3) that fades for large moves. Its coefficient is identified by the shape of the
distribution (heteroskedasticity identifies: Rigobon 2003, doi:10.1162/003465303772815727) and shared by all products.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from pricing.arrays import Floats

ROUNDS = 60
SAMPLE = 60_000


@dataclass(frozen=True)
class Moves:
    """A mixture of two normal distributions of mean 0 over price residuals, in log units.

    Attributes:
        routine: Standard deviation of routine moves.
        deliberate: Standard deviation of deliberate moves, larger.
        share: Share of deliberate moves.
    """

    routine: float
    deliberate: float
    share: float


def fit_moves(residual: Floats) -> Moves:
    """Fits the mixture by expectation–maximisation (Dempster, Laird, Rubin 1977) to (move,) residuals."""
    move = residual[:: max(len(residual) // SAMPLE, 1)].astype(np.float64)
    if not len(move):
        return Moves(1.0, 1.0, 0.0)
    scale = max(float(np.std(move)), 1e-6)
    small, large, share = 0.5 * scale, 2.0 * scale, 0.1
    for _ in range(ROUNDS):
        chance = _chance(move, Moves(small, large, share))
        share = float(np.clip(chance.mean(), 1e-3, 0.5))
        large = max(float(np.sqrt((chance * move**2).sum() / max(chance.sum(), 1e-9))), 1e-6)
        small = max(float(np.sqrt(((1 - chance) * move**2).sum() / max((1 - chance).sum(), 1e-9))), 1e-6)
    return Moves(min(small, large), max(small, large), share)


def routine_part(residual: Floats, moves: Moves) -> Floats:
    """The control: each residual times the chance that it is a routine move; same shape."""
    part: Floats = residual * (1.0 - _chance(residual, moves))
    return part


def _chance(move: Floats, moves: Moves) -> Floats:
    """Probability that a move is deliberate."""
    with np.errstate(over="ignore", under="ignore"):
        odds = (
            (1.0 - moves.share)
            / moves.share
            * (moves.deliberate / moves.routine)
            * np.exp(-0.5 * move**2 * (1.0 / moves.routine**2 - 1.0 / moves.deliberate**2))
            if moves.share > 0
            else np.full_like(move, np.inf)
        )
        chance: Floats = 1.0 / (1.0 + odds)
    return chance


CHANCE = 0.01  # share of true hypotheses that fail
BIAS_SD = 0.5  # size of a bias, in units of an elasticity, that is expected before any test
EXPECTED = frozenset({"promoted"})  # kinds that ought to differ: advertising draws shoppers besides its price


@dataclass(frozen=True)
class Check:
    """One figure that ought to be 0, in units of an elasticity.

    Attributes:
        value: The figure.
        error: Its standard error; infinite where it is not known.
        looks: How many figures it was chosen from.
        share: Of a difference between two kinds of moves, the share of what all moves tell that is the first kind's.
    """

    value: float
    error: float
    looks: int = 1
    share: float = 0.5

    @property
    def excess(self) -> float:
        """Variance that it adds: its square beyond its noise, as far as so noisy a test can tell of a bias at all."""
        if not np.isfinite(self.error):
            return 0.0
        telling = 1.0 / (1.0 + (self.error / BIAS_SD) ** 2)
        return float(telling**2 * max(self.value**2 - self.looks * self.error**2, 0.0))

    @property
    def misplaced(self) -> float:
        """Mean square by which an estimate from both kinds lies off, either of them being equally likely the right one.

        The estimate lies between the kinds by their shares of what moves tell.
        """
        return self.excess * (self.share**2 + (1.0 - self.share) ** 2) / 2.0

    def failed(self, *, least: float) -> bool:
        """Whether it differs from 0 by more than chance would have it in 1 % of cases, and by at least so much."""
        critical = NormalDist().inv_cdf(1.0 - CHANCE / 2.0 / self.looks)
        return bool(abs(self.value) > max(critical * self.error, least))


@dataclass(frozen=True)
class Checks:
    """What was tested of a panel's moves.

    Attributes:
        before: Effect of a move on the window before it: prices follow a demand that forecasts do not.
        later: Effect of a move on forecasts that have seen it: demand goes on where the price has stopped.
        dip: What a passing cut takes from the sales after it, per unit sold more while it lasted.
        kinds: How much more one kind of moves brings than the others, by the name of the kind.
    """

    before: Check
    later: Check
    dip: Check
    kinds: dict[str, Check]

    @property
    def trend(self) -> Check:
        """The worse of the tests before and after: both show the same, a demand that moves along with prices."""
        tests = [Check(test.value, test.error, looks=2) for test in (self.before, self.later)]
        return max(tests, key=_excess)

    @property
    def disagreement(self) -> Check:
        """The largest difference between kinds of moves."""
        known = [test for name, test in self.kinds.items() if name not in EXPECTED and np.isfinite(test.error)]
        tests = [replace(test, looks=len(known)) for test in known]
        return max(tests, key=_excess, default=SILENT)

    @property
    def doubt(self) -> float:
        """Standard deviation of the error of all elasticities that the tests speak of."""
        return float(np.sqrt(self.trend.excess + self.dip.excess + self.disagreement.misplaced))


def _excess(test: Check) -> float:
    return test.excess


SILENT = Check(0.0, np.inf)
