"""The objectives of pricing, and the policy that names them: what a unit sold, or a price itself, is worth.

Profit of a price p, net of tax, with S units at hand is p · sold + kept_value · cost · (S − sold), less what S cost:
linear in `sold`. Under margin and clearance `kept_value` is configured; revenue counts no cost, and match all of it.
"""

from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import AnyStrategyConfig, DecisionConfig
from pricing.data.net_price import margin_of, net_price, unit_profit
from pricing.decision.confidence import deviation_at, shortfall
from pricing.decision.context import PricingContext
from pricing.decision.price_grid import CandidateGrid
from pricing.decision.reasons import BIT


class Objective(NamedTuple):
    """What a decision maximises, linear in units sold: `per_unit` × units + `fixed`.

    Attributes:
        per_unit: (request, candidate) worth of a unit sold, in currency units.
        fixed: (request, candidate) worth of the price itself; 0 where it has none.
        kept: (request,) by how much `per_unit` falls per unit of cost.
        rests_on_elasticity: (request,) whether the direction of a move depends on how demand answers to price.
        reasons: (request,) reason bits; 0 for none.
    """

    per_unit: Floats
    fixed: Floats
    kept: Floats
    rests_on_elasticity: Bools
    reasons: Ints


class Policy:
    """A decision configuration made ready: its strategies and its grid of candidate prices. Made once for a version."""

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None) -> None:
        """Prepares `config`; `largest_jump` is as in `guardrails.limits`."""
        self.config = config
        self.largest_jump = largest_jump
        strategies = config.strategies.values()
        self.names = tuple(config.strategies)
        self.number = {name: place for place, name in enumerate(self.names)}
        self.days = tuple(strategy.days for strategy in strategies)
        self.candidate_grid = CandidateGrid(config, largest_jump=largest_jump)
        self.range_deviation = deviation_at(config.range_level)
        self.caution = shortfall(config.cvar_level)
        self.change_costs = float(np.log1p(config.menu_cost))
        self._kind = np.array([strategy.kind for strategy in strategies])
        self._kept = np.array([_kept_value(strategy) for strategy in strategies])
        self._ratio = np.array([strategy.ratio if strategy.kind == "match" else np.nan for strategy in strategies])

    def followed(self, context: PricingContext) -> Floats:
        """(request,) the price that its strategy goes as near to as it may; NaN where it maximises worth."""
        return np.asarray(context.comp_price * self._ratio[context.strategy])

    def objective(self, context: PricingContext, prices: Floats) -> Objective:
        """The objective of each request's own strategy at each of `prices` (request, candidate)."""
        kind, kept, target = self._kind[context.strategy], self._kept[context.strategy], self.followed(context)
        follows = np.isfinite(target)
        cost, tax_rate = context.unit_cost[:, None], context.tax_rate[:, None]
        worth = unit_profit(prices, kept[:, None] * cost, tax_rate=tax_rate)
        if context.target_margin is not None:
            # A gap g between the margin and its category's target costs target_weight · g² of revenue.
            gap = margin_of(prices, cost, tax_rate=tax_rate) - context.target_margin[:, None]
            penalty = self.config.target_weight * gap * gap * net_price(prices, tax_rate)
            worth = worth - np.where(np.isnan(gap) | (kind != "margin")[:, None], 0.0, penalty)
        distance = np.abs(np.log(prices / np.where(follows, target, 1.0)[:, None]))
        return Objective(
            per_unit=np.where(follows[:, None], 0.0, worth),
            fixed=np.where(follows[:, None], -distance, 0.0),
            kept=np.where(follows, 0.0, kept),
            rests_on_elasticity=~follows & (kind != "clearance"),  # prices are cut to clear stock in any case
            reasons=((kind == "match") & ~follows) * BIT["no_comp_price"],
        )


def _kept_value(strategy: AnyStrategyConfig) -> float:
    """By how much the worth of a unit sold falls per unit of its cost."""
    if strategy.kind in ("margin", "clearance"):
        return strategy.kept_value
    return 0.0 if strategy.kind == "revenue" else 1.0
