"""The objectives of pricing: one class for each kind of strategy."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.decision.context import Circumstances
from pricing.decision.reasons import BIT
from pricing.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Worth:
    """The objective, linear in units sold: `per_unit` × units + `fixed`, per request and candidate.

    Attributes:
        per_unit: (request, candidate) worth of a unit sold, in currency units.
        fixed: (request, candidate) worth of the price itself; 0.0 where it has none.
        reasons: (request,) reason bits; 0 for none.
        kept: (request,) by how much `per_unit` falls per unit of cost.
    """

    per_unit: Floats
    fixed: Floats | float = 0.0
    reasons: Ints | int = 0
    kept: Floats | float = 0.0


@dataclass(frozen=True)
class Strategy(ABC):
    """An objective that a decision maximises: one subclass each, its fields the parameters in the configuration.

    Attributes:
        kind: Its name in the configuration.
        days: Days it looks ahead where no delivery is given; None uses the deliveries learnt from history.
    """

    kind: ClassVar[str]
    days: int | None = None

    @abstractmethod
    def worth(self, these: Circumstances, prices: Floats, *, target_weight: float) -> Worth:
        """The objective at each of `prices` (request, candidate)."""

    def anchor(self, these: Circumstances) -> Floats:
        """(request,) a price that must be among the candidates; NaN for none."""
        return np.full(len(these), np.nan)

    needs_elasticity: ClassVar[bool] = True

    def rests_on_elasticity(self, these: Circumstances) -> Bools:
        """(request,) whether the direction of a price change depends on the elasticity."""
        return np.full(len(these), self.needs_elasticity)

    @property
    def kept(self) -> float | None:
        """Value of an unsold unit, fraction of its cost, where a sold one is worth its price less that; else None."""
        return None


@dataclass(frozen=True)
class Margin(Strategy):
    """Profit: price less what a kept unit is worth, drawn to the category's target margin where there is one.

    Profit of a price p with S units at hand is p · sold + kept_value · cost · (S − sold), less what S cost: linear in
    `sold`. A gap g between the margin and its target costs target_weight · g² of revenue.
    """

    kind: ClassVar[str] = "margin"
    kept_value: float = 1.0

    @property
    def kept(self) -> float | None:
        """See Strategy; holds where there is no target margin."""
        return self.kept_value

    def worth(self, these: Circumstances, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        per_unit = prices - self.kept_value * these.unit_cost[:, None]
        targets = these.target_margin
        if targets is None:
            return Worth(per_unit, kept=self.kept_value)
        gap = 1 - these.unit_cost[:, None] / prices - targets[:, None]
        penalty = np.where(np.isnan(gap), 0.0, target_weight * gap * gap * prices)
        return Worth(per_unit - penalty, kept=self.kept_value)


@dataclass(frozen=True)
class Revenue(Strategy):
    """Turnover: units sold times price, inside the guardrails and so never below cost."""

    kind: ClassVar[str] = "revenue"

    @property
    def kept(self) -> float | None:
        """See Strategy."""
        return 0.0

    def worth(self, these: Circumstances, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        return Worth(prices.copy())


@dataclass(frozen=True)
class Clearance(Strategy):
    """Getting rid of stock by a day: profit when what is left over then is worth a fraction of its cost."""

    kind: ClassVar[str] = "clearance"
    needs_elasticity: ClassVar[bool] = False  # prices are cut to clear stock, whatever the elasticity
    days: int | None = 14
    kept_value: float = 0.3

    @property
    def kept(self) -> float | None:
        """See Strategy."""
        return self.kept_value

    def worth(self, these: Circumstances, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        return Worth(prices - self.kept_value * these.unit_cost[:, None], kept=self.kept_value)


@dataclass(frozen=True)
class Match(Strategy):
    """As near as the guardrails allow to a ratio of the competitor's price; profit where that price is not known."""

    kind: ClassVar[str] = "match"
    ratio: float = 1.0

    def worth(self, these: Circumstances, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        known = np.isfinite(these.comp_price)
        target = np.where(known, these.comp_price * self.ratio, these.list_price)[:, None]
        profit = prices - these.unit_cost[:, None]
        return Worth(
            np.where(known[:, None], 0.0, profit),
            np.where(known[:, None], -np.abs(np.log(prices / target)), 0.0),
            np.where(known, 0, BIT["no_comp_price"]),
            np.where(known, 0.0, 1.0),
        )

    def rests_on_elasticity(self, these: Circumstances) -> Bools:
        """See Strategy."""
        return np.isnan(these.comp_price)

    def anchor(self, these: Circumstances) -> Floats:
        """See Strategy."""
        return these.comp_price * self.ratio


KINDS: dict[str, type[Strategy]] = {kind.kind: kind for kind in (Margin, Revenue, Clearance, Match)}


def make_strategies(configured: dict[str, dict[str, Any]]) -> dict[str, Strategy]:
    """Builds the configured strategies by name, in the order of the configuration.

    Raises:
        ConfigError: A kind or a parameter is unknown (the nearest known one is named), or is no positive number.
    """
    return {name: _make(name, dict(parameters)) for name, parameters in configured.items()}


def _make(name: str, parameters: dict[str, Any]) -> Strategy:
    where = f"decision.strategies.{name}"
    kind = str(parameters.pop("kind", name))
    if kind not in KINDS:
        raise ConfigError(f"{where}: unknown kind {kind!r}; expected {_nearest(kind, KINDS)}")
    cls: Any = KINDS[kind]
    known = [field.name for field in fields(cls)]
    for parameter, value in parameters.items():
        if parameter not in known:
            raise ConfigError(f"{where}: unknown parameter {parameter!r} of kind {kind}; known: {', '.join(known)}")
        least = 1 if parameter == "days" else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < np.inf:
            raise ConfigError(f"{where}.{parameter}: expected a number of at least {least}, found {value!r}")
    made: Strategy = cls(**parameters)
    return made


def _nearest(kind: str, known: dict[str, Any]) -> str:
    near = nearest(kind, known)
    return f"{near} (the nearest), or one of {', '.join(known)}" if near else f"one of {', '.join(known)}"
