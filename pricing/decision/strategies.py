"""What a price is worth to the business: one small class for each kind of strategy."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.decision.context import Context, PricingContext
from pricing.decision.reasons import BIT
from pricing.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Worth:
    """The objective as a line in units sold: `per_unit` × units + `fixed`, per request and candidate.

    Attributes:
        per_unit: (request, candidate) worth of a unit sold, in currency units.
        fixed: (request, candidate) worth of the price itself; 0.0 where it has none.
        reasons: (request,) reason bits; 0 where there is nothing to say.
        kept: (request,) what a unit of cost takes from `per_unit`.
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
        needs_elasticity: Whether the direction of a move depends on how demand answers to price.
        only_units: Whether nothing but the units sold is worth anything. Only then is a single request decided without
            a batch.
        days: Days it looks ahead where no delivery is given; None leaves that to what history tells of deliveries.
    """

    kind: ClassVar[str]
    needs_elasticity: ClassVar[bool] = True
    only_units: ClassVar[bool] = True
    days: int | None = None

    @abstractmethod
    def worth(self, context: Context, prices: Floats, *, target_weight: float) -> Worth:
        """What each of `prices` (request, candidate) is worth under its circumstances."""

    def anchor(self, context: PricingContext) -> Floats:
        """(request,) a price that must be among the candidates; NaN for none."""
        return np.full(len(context), np.nan)

    def rests_on_elasticity(self, context: PricingContext) -> Bools:
        """(request,) whether the direction of a move depends on how demand answers to price."""
        return np.full(len(context), self.needs_elasticity)


@dataclass(frozen=True)
class Margin(Strategy):
    """Profit: price less what a kept unit is worth, drawn to the category's target margin where there is one.

    Profit of a price p with S units at hand is p · sold + kept_value · cost · (S − sold), less what S cost: a line in
    `sold`. A gap g between the margin and its target costs target_weight · g² of revenue.
    """

    kind: ClassVar[str] = "margin"
    kept_value: float = 1.0

    def worth(self, context: Context, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        column = context.operations.column
        cost = column(context.unit_cost)
        per_unit = prices - self.kept_value * cost
        if context.target_margin is None:
            return Worth(per_unit, kept=self.kept_value)
        gap = 1 - cost / prices - column(context.target_margin)
        penalty = np.where(np.isnan(gap), 0.0, target_weight * gap * gap * prices)
        return Worth(per_unit - penalty, kept=self.kept_value)


@dataclass(frozen=True)
class Revenue(Strategy):
    """Turnover: units sold times price, inside the guardrails and so never below cost."""

    kind: ClassVar[str] = "revenue"

    def worth(self, context: Context, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        return Worth(prices.copy())


@dataclass(frozen=True)
class Clearance(Strategy):
    """Getting rid of stock by a day: profit when what is left over then is worth a fraction of its cost."""

    kind: ClassVar[str] = "clearance"
    needs_elasticity: ClassVar[bool] = False  # whoever clears stock cuts prices because they want it gone
    days: int | None = 14
    kept_value: float = 0.3

    def worth(self, context: Context, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        cost = context.operations.column(context.unit_cost)
        return Worth(prices - self.kept_value * cost, kept=self.kept_value)


@dataclass(frozen=True)
class Match(Strategy):
    """As near as the guardrails allow to a ratio of the competitor's price; profit where that price is not known."""

    kind: ClassVar[str] = "match"
    only_units: ClassVar[bool] = False  # the price itself is to be near the competitor's
    ratio: float = 1.0

    def worth(self, context: Context, prices: Floats, *, target_weight: float) -> Worth:
        """See Strategy."""
        column = context.operations.column
        known = np.isfinite(context.comp_price)
        target = column(np.where(known, context.comp_price * self.ratio, context.list_price))
        profit = prices - column(context.unit_cost)
        return Worth(
            np.where(column(known), 0.0, profit),
            np.where(column(known), -np.abs(np.log(prices / target)), 0.0),
            np.where(known, 0, BIT["no_comp_price"]),
            np.where(known, 0.0, 1.0),
        )

    def rests_on_elasticity(self, context: PricingContext) -> Bools:
        """See Strategy."""
        return np.isnan(context.comp_price)

    def anchor(self, context: PricingContext) -> Floats:
        """See Strategy."""
        return context.comp_price * self.ratio


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
