"""The objectives of pricing, and the policy that names them: what a unit sold is worth, or which price is followed.

Profit of a price p, net of tax, with S units at hand is p · sold + kept_value · cost · (S − sold), less what S cost:
linear in `sold`. Under margin and clearance `kept_value` is configured; revenue counts no cost. Match follows.
"""

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import AnyStrategyConfig, DecisionConfig
from pricing.data.net_price import margin_of, net_price, unit_profit
from pricing.decision.context import PricingContext
from pricing.decision.price_points import AllowedPrices
from pricing.decision.reasons import BIT
from pricing.decision.stock import NOTHING

LOSS = 1e3  # log units a loss of a whole price counts for: more than units sold can make up for


class Policy:
    """A decision configuration made ready: its strategies and its allowed prices. Made once for a version."""

    def __init__(self, config: DecisionConfig, *, largest_jump: float | None = None) -> None:
        """Prepares `config`; `largest_jump` is as in `guardrails.limits`."""
        self.config = config
        self.largest_jump = largest_jump
        strategies = config.strategies.values()
        self.names = tuple(config.strategies)
        self.number = {name: place for place, name in enumerate(self.names)}
        self.days = tuple(strategy.days for strategy in strategies)
        self.allowed = AllowedPrices(config, largest_jump=largest_jump)
        self.change_costs = float(np.log1p(config.menu_cost))
        self._kind = np.array([strategy.kind for strategy in strategies])
        self._kept = np.array([_kept_value(strategy) for strategy in strategies])
        self._ratio = np.array([strategy.ratio if strategy.kind == "match" else np.nan for strategy in strategies])

    def followed(self, context: PricingContext) -> Floats:
        """(request,) the price that its strategy goes as near to as it may; NaN where it maximises worth."""
        return np.asarray(context.comp_price * self._ratio[context.strategy])

    def follows(self, context: PricingContext) -> Bools:
        """(request,) whether its strategy follows a price."""
        return np.asarray(np.isfinite(self.followed(context)))

    def rests_on_elasticity(self, context: PricingContext) -> Bools:
        """(request,) whether the direction of a move depends on how demand answers to price; clearance always cuts."""
        return np.asarray(~self.follows(context) & (self._kind[context.strategy] != "clearance"))

    def reasons(self, context: PricingContext) -> Ints:
        """(request,) reason bits of the strategy; 0 for none."""
        matches = self._kind[context.strategy] == "match"
        return np.asarray((matches & ~self.follows(context)) * BIT["no_comp_price"])

    def log_worth(self, context: PricingContext, prices: Floats, *, doubt: float) -> Floats:
        """(request, candidate) log of what a unit sold at each of `prices` is worth to the strategy, in currency units.

        That of a loss is below the log of every profit, and the lower the larger the loss.

        Args:
            context: What each request is priced under.
            prices: (request, candidate) in currency units.
            doubt: By how many standard deviations an assumed cost is lower than it is taken for.
        """
        kept = self._kept[context.strategy]
        cost, tax_rate = (context.unit_cost - doubt * context.cost_sd)[:, None], context.tax_rate[:, None]
        worth = unit_profit(prices, kept[:, None] * cost, tax_rate=tax_rate)
        if context.target_margin is not None:
            # A gap g between the margin and its category's target costs target_weight · g² of revenue.
            gap = margin_of(prices, cost, tax_rate=tax_rate) - context.target_margin[:, None]
            penalty = self.config.target_weight * gap * gap * net_price(prices, tax_rate)
            other = np.isnan(gap) | (self._kind[context.strategy] != "margin")[:, None]
            worth = worth - np.where(other, 0.0, penalty)
        return np.asarray(np.log(np.maximum(worth, NOTHING)) + LOSS * np.minimum(worth, 0.0) / prices)


def _kept_value(strategy: AnyStrategyConfig) -> float:
    """By how much the worth of a unit sold falls per unit of its cost."""
    if strategy.kind in ("margin", "clearance"):
        return strategy.kept_value
    return 0.0 if strategy.kind == "revenue" else 1.0
