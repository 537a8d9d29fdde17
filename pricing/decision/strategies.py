"""The objectives of pricing: one class for each kind of strategy, and the policy that names them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import AnyStrategyConfig, DecisionConfig
from pricing.data.net_price import margin_of, net_price, unit_profit
from pricing.decision.confidence import deviation_at, shortfall
from pricing.decision.context import PricingContext
from pricing.decision.price_grid import CandidateGrid, CandidatePrices
from pricing.decision.reasons import BIT
from pricing.decision.stock import NOTHING

COST_WIDTH = 2.0  # standard deviations to either side of an assumed cost that a price must stand


@dataclass(frozen=True, slots=True)
class LinearObjective:
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
    """An objective that a decision maximises: one subclass each.

    Its fields are the parameters that the section of its kind in `pricing.config_models` has, with their limits.

    Attributes:
        kind: Its name in the configuration.
        needs_elasticity: Whether the direction of a price change depends on the elasticity.
        days: Days it looks ahead where no delivery is given; None uses the deliveries learnt from history.
    """

    kind: ClassVar[str]
    needs_elasticity: ClassVar[bool] = True
    days: int | None = None

    @abstractmethod
    def worth(self, context: PricingContext, prices: Floats, *, target_weight: float) -> LinearObjective:
        """The objective at each of `prices` (request, candidate)."""

    def anchor(self, context: PricingContext) -> Floats:
        """(request,) a price that must be among the candidates; NaN for none."""
        return np.full(len(context), np.nan)

    def rests_on_elasticity(self, context: PricingContext) -> Bools:
        """(request,) whether the direction of a price change depends on the elasticity."""
        return np.full(len(context), self.needs_elasticity)


@dataclass(frozen=True)
class Margin(Strategy):
    """Profit: price less what a kept unit is worth, drawn to the category's target margin where there is one.

    Profit of a price p, net of tax, with S units at hand is p · sold + kept_value · cost · (S − sold), less what S
    cost: linear in `sold`. A gap g between the margin and its target costs target_weight · g² of revenue.
    """

    kind: ClassVar[str] = "margin"
    kept_value: float = 1.0

    def worth(self, context: PricingContext, prices: Floats, *, target_weight: float) -> LinearObjective:
        """See Strategy."""
        cost, tax_rate = context.unit_cost[:, None], context.tax_rate[:, None]
        per_unit = unit_profit(prices, self.kept_value * cost, tax_rate=tax_rate)
        if context.target_margin is None:
            return LinearObjective(per_unit, kept=self.kept_value)
        gap = margin_of(prices, cost, tax_rate=tax_rate) - context.target_margin[:, None]
        penalty = np.where(np.isnan(gap), 0.0, target_weight * gap * gap * net_price(prices, tax_rate))
        return LinearObjective(per_unit - penalty, kept=self.kept_value)


@dataclass(frozen=True)
class Revenue(Strategy):
    """Turnover: units sold times price, net of tax, inside the guardrails and so never below cost."""

    kind: ClassVar[str] = "revenue"

    def worth(self, context: PricingContext, prices: Floats, *, target_weight: float) -> LinearObjective:
        """See Strategy."""
        return LinearObjective(net_price(prices, context.tax_rate[:, None]))


@dataclass(frozen=True)
class Clearance(Strategy):
    """Getting rid of stock by a day: profit when what is left over then is worth a fraction of its cost."""

    kind: ClassVar[str] = "clearance"
    needs_elasticity: ClassVar[bool] = False  # prices are cut to clear stock, whatever the elasticity
    days: int | None = 14
    kept_value: float = 0.3

    def worth(self, context: PricingContext, prices: Floats, *, target_weight: float) -> LinearObjective:
        """See Strategy."""
        kept = self.kept_value * context.unit_cost[:, None]
        return LinearObjective(unit_profit(prices, kept, tax_rate=context.tax_rate[:, None]), kept=self.kept_value)


@dataclass(frozen=True)
class Match(Strategy):
    """As near as the guardrails allow to a ratio of the competitor's price; profit where that price is not known."""

    kind: ClassVar[str] = "match"
    ratio: float = 1.0

    def worth(self, context: PricingContext, prices: Floats, *, target_weight: float) -> LinearObjective:
        """See Strategy."""
        known = np.isfinite(context.comp_price)
        target = np.where(known, context.comp_price * self.ratio, context.list_price)[:, None]
        profit = unit_profit(prices, context.unit_cost[:, None], tax_rate=context.tax_rate[:, None])
        return LinearObjective(
            np.where(known[:, None], 0.0, profit),
            np.where(known[:, None], -np.abs(np.log(prices / target)), 0.0),
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


def make_strategies(configured: Mapping[str, AnyStrategyConfig]) -> dict[str, Strategy]:
    """Builds the configured strategies by name, in the order of the configuration."""
    return {name: KINDS[each.kind](**each.model_dump(exclude={"kind"})) for name, each in configured.items()}


class Policy:
    """A decision configuration made ready: its strategies and its grid of candidate prices. Made once for a version."""

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None) -> None:
        """Prepares `config`; `largest_jump` is as in `guardrails.limits`."""
        self.config = config
        self.largest_jump = largest_jump
        self.strategies = make_strategies(config.strategies)
        self.names = tuple(self.strategies)
        self.number = {name: place for place, name in enumerate(self.names)}
        self.candidate_grid = CandidateGrid(config, largest_jump=largest_jump)
        self.range_deviation = deviation_at(config.range_level)
        self.caution = shortfall(config.cvar_level)
        self.change_costs = float(np.log1p(config.menu_cost))
        self.days = tuple(strategy.days for strategy in self.strategies.values())
        self._kinds: tuple[Strategy, ...] = tuple(self.strategies.values())
        self._anchored = [n for n, kind in enumerate(self._kinds) if type(kind).anchor is not Strategy.anchor]

    def anchor(self, context: PricingContext) -> Floats:
        """(request,) the price that its strategy wants to see among the candidates; NaN for none."""
        anchors = np.full(len(context), np.nan)
        for number in self._anchored:
            anchors = np.where(context.strategy == number, self._kinds[number].anchor(context), anchors)
        return anchors

    def rests_on_elasticity(self, context: PricingContext) -> Bools:
        """(request,) whether the direction of a move depends on how demand answers to price."""
        rests = np.empty(len(context), dtype=np.bool_)
        for number in np.unique(context.strategy):
            rows = context.strategy == number
            rests[rows] = self._kinds[number].rests_on_elasticity(context.take(np.flatnonzero(rows)))
        return rests

    def worth(self, context: PricingContext, prices: Floats) -> LinearObjective:
        """What each candidate (request, candidate) is worth under each request's own strategy."""
        weight = self.config.target_weight
        first = self._kinds[int(context.strategy[0])]
        if len(context) == 1 or (context.strategy == context.strategy[0]).all():
            return first.worth(context, prices, target_weight=weight)
        per_unit, fixed = np.empty_like(prices), np.empty_like(prices)
        kept = np.empty(len(prices))
        reasons = np.empty(len(prices), dtype=np.int64)
        for number in np.unique(context.strategy):
            rows = np.flatnonzero(context.strategy == number)
            part = self._kinds[number].worth(context.take(rows), prices[rows], target_weight=weight)
            per_unit[rows], fixed[rows], reasons[rows] = part.per_unit, part.fixed, part.reasons
            kept[rows] = part.kept
        return LinearObjective(per_unit, fixed, reasons, kept)


class Objective(NamedTuple):
    """What a candidate is judged by, apart from demand and stock.

    Attributes:
        fixed: (request, candidate) worth of the price itself, and of a unit sold; None where only units sold count.
        reasons: (request,) reason bits of the strategy.
        home: (request,) column of the price nearest to list price, which the others are held against.
        worst: One or two of (request, candidate), half the log of a unit's worth over that at `home`: where the cost is
            assumed, at the ends of where it may lie.
        likely: The same, a standard deviation to either side.
        rests_on_elasticity: (request,) whether the direction of a move depends on how demand answers to price.
    """

    fixed: tuple[Floats, Floats] | None
    reasons: Ints
    home: Ints
    worst: tuple[Floats, ...]
    likely: tuple[Floats, ...]
    rests_on_elasticity: Bools


def objective_of(
    context: PricingContext, candidates: CandidatePrices, worth: LinearObjective, *, rests_on_elasticity: Bools
) -> Objective:
    """Holds the worth of every candidate against that of the price nearest to list price.

    Args:
        context: What each request is priced under.
        candidates: Its candidates.
        worth: Of each candidate.
        rests_on_elasticity: As in `Objective`.
    """
    rows = np.arange(len(context))
    home = np.abs(np.log(candidates.prices / context.list_price[:, None])).argmin(axis=1)

    def half_logs(per_unit: Floats) -> Floats:
        half = np.log(np.maximum(per_unit, NOTHING))
        half -= half[rows, home][:, None]
        half *= 0.5
        return half

    worst: tuple[Floats, ...]
    if context.cost_sd.any():
        doubt = (worth.kept * context.cost_sd)[:, None]
        worst, likely = (
            tuple(half_logs(worth.per_unit - side * width * doubt) for side in (1.0, -1.0))
            for width in (COST_WIDTH, 1.0)
        )
    else:
        worst = likely = (half_logs(worth.per_unit),)
    return Objective(
        fixed=None if isinstance(worth.fixed, float) else (worth.fixed, worth.per_unit),
        reasons=np.broadcast_to(worth.reasons, len(context)),
        home=home,
        worst=worst,
        likely=likely,
        rests_on_elasticity=rests_on_elasticity,
    )
