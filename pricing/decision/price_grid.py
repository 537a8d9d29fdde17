"""The prices there are: whole cents, allowed endings, or a ladder. Stepping between them, never rounding a decision."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.config_models import DecisionConfig

SLACK = 1e-9  # rungs; what floating point may lose


class Rungs(Protocol):
    """A set of allowed prices, ascending without end on both sides."""

    def above(self, prices: Floats) -> Floats:
        """The lowest rung at or above each price; infinite where there is none."""
        ...

    def below(self, prices: Floats) -> Floats:
        """The highest rung at or below each price; minus infinite, or not above 0, where there is none."""
        ...

    def nearest(self, prices: Floats) -> Floats:
        """The rung nearest to each price; ascending prices give rungs that do not descend."""
        ...


class Steps:
    """Whole multiples of a smallest unit."""

    def __init__(self, step: float) -> None:
        self.per_unit = 1.0 / step if abs(1.0 / step - round(1.0 / step)) > SLACK else float(round(1.0 / step))

    def above(self, prices: Floats) -> Floats:
        """See Rungs."""
        return np.asarray(np.maximum(np.ceil(prices * self.per_unit - SLACK), 1.0) / self.per_unit)

    def below(self, prices: Floats) -> Floats:
        """See Rungs."""
        return np.asarray(np.floor(prices * self.per_unit + SLACK) / self.per_unit)

    def nearest(self, prices: Floats) -> Floats:
        """See Rungs."""
        return np.asarray(np.rint(prices * self.per_unit) / self.per_unit)


class Points:
    """A given list of prices."""

    def __init__(self, points: list[float]) -> None:
        self._points = np.concatenate([[-np.inf], np.unique(points), [np.inf]])

    def above(self, prices: Floats) -> Floats:
        """See Rungs."""
        return np.asarray(self._points[np.searchsorted(self._points, prices * (1 - SLACK))])

    def below(self, prices: Floats) -> Floats:
        """See Rungs."""
        return np.asarray(self._points[np.searchsorted(self._points, prices * (1 + SLACK), side="right") - 1])

    def nearest(self, prices: Floats) -> Floats:
        """See Rungs."""
        below, above = self.below(prices), self.above(prices)
        return np.where(prices - below <= above - prices, below, above)


class Endings:
    """Prices that end in one of a few amounts within a unit, such as .49 and .99 within 1."""

    def __init__(self, endings: list[float], *, unit: float, step: float) -> None:
        self._endings = np.unique(endings)
        self._unit = unit
        self._cents = Steps(step)

    def above(self, prices: Floats) -> Floats:
        """See Rungs."""
        base = np.floor(prices / self._unit)
        place = np.searchsorted(self._endings, prices - base * self._unit - SLACK)
        rung = self._rung(base, place)
        return np.where(rung > 0, rung, self._rung(base, place + 1))

    def below(self, prices: Floats) -> Floats:
        """See Rungs."""
        base = np.floor(prices / self._unit)
        return self._rung(base, np.searchsorted(self._endings, prices - base * self._unit + SLACK, side="right") - 1)

    def nearest(self, prices: Floats) -> Floats:
        """See Rungs."""
        below, above = self.below(prices), self.above(prices)
        return np.where((prices - below <= above - prices) & (below > 0), below, above)

    def _rung(self, base: Floats, place: NDArray[np.integer]) -> Floats:
        carry, place = np.divmod(place, len(self._endings))
        return self._cents.nearest((base + carry) * self._unit + self._endings[place])


def rungs_of(config: DecisionConfig) -> Rungs | None:
    """The ladder or the endings that the guardrails ask for; None when any whole step will do."""
    limits = config.guardrails
    if limits.ladder:
        return Points(limits.ladder)
    if limits.endings:
        return Endings(limits.endings, unit=limits.ending_unit, step=config.price_step)
    return None
