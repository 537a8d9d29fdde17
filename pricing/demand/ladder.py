"""The ladder: elasticities that a shop's history supports, by what is held fixed. NumPy only.

Random shelf prices in 82 stores gave −0.34 where the same chain's history says −2.0 (Bray, Sanders and Stamatopoulos
2024, SSRN 4899765): no regression on history is a test. How far a shop's own answers lie apart shows in part how little
it can tell, and widens the doubt that all its elasticities share. `fixed_effects` computes it.
"""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Floats

RUNGS = ("all prices", "advertisements held", "lasting prices", "between stores")
ALL, ADVERTISED, LASTING, STORES = range(len(RUNGS))


@dataclass(frozen=True)
class Ladder:
    """Elasticities that a history supports, by what is held fixed; NaN where one cannot be computed."""

    value: Floats  # (rung,) in the order of RUNGS
    error: Floats  # (rung,) standard errors
    level: float = 0.0  # mean elasticity that the model has of the shop's products; 0 where it knows none

    @property
    def known(self) -> dict[str, tuple[float, float]]:
        """Rung → elasticity and standard error, of those that can be computed."""
        rows = zip(RUNGS, self.value.tolist(), self.error.tolist(), strict=True)
        return {name: (value, error) for name, value, error in rows if np.isfinite(value)}

    @property
    def doubt(self) -> float:
        """Standard deviation, in units of an elasticity, of the rungs beyond their sampling errors.

        The moment estimator of Hedges and Olkin (1985). Rungs share their data, so that their differences are better
        known than is assumed here: the doubt is rather too small.
        """
        here = np.isfinite(self.value)
        if here.sum() < 2:
            return 0.0
        beyond = float(np.var(self.value[here], ddof=1) - np.mean(self.error[here] ** 2))
        return float(np.sqrt(max(beyond, 0.0)))

    @property
    def steepest(self) -> float:
        """Factor, 1 or more, by which the most elastic rung exceeds the model's mean elasticity."""
        here = np.isfinite(self.value)
        most = float(np.min(self.value, where=here, initial=0.0))
        return max(1.0, most / self.level) if self.level < 0 else 1.0

    def sentence(self) -> str:
        """Summarise the rungs for a person; empty where none is known."""
        told = ", ".join(f"{value:+.1f} ± {error:.1f} ({name})" for name, (value, error) in self.known.items())
        if not told:
            return ""
        unknown = [name for name in RUNGS if name not in self.known]
        silent = f"; the data cannot tell: {', '.join(unknown)}" if unknown else ""
        model = f"; the model's mean is {self.level:+.1f}" if self.level else ""
        return f"Plain regressions, which take every price for chance, support {told}{silent}{model}"


UNKNOWN = Ladder(np.full(len(RUNGS), np.nan), np.full(len(RUNGS), np.nan))
