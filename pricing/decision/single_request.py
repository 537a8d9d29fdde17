"""Decide a single request faster than a batch of one: in Python numbers, with what does not depend on stock cached.

The rules are those of a batch (`guardrails`, `price_grid`, `choose`). Here is what makes one request cheap: all that
does not depend on its stock is prepared and kept, so that a product's demand is not worked out again for every request.
"""

import math
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.decision.choose import Choices, Decided, decide, figures
from pricing.decision.context import ResolvedRequest
from pricing.decision.price_grid import CandidatePrices
from pricing.decision.reasons import BIT
from pricing.decision.request import PriceRequest
from pricing.decision.stock import NOTHING, SalesByStock
from pricing.decision.strategies import Objective, Policy, objective_of
from pricing.demand.curve import Curve, Single

LEAST_LOG = math.log(NOTHING) + 1  # of demand; below it nothing sells at any price
ALL_BUT_STOCK = attrgetter(*(name for name in PriceRequest.model_fields if name != "current_stock"))


class PreparedRequest:
    """A single request without its stock, with all that its price depends on besides: what is kept for the next time.

    Attributes:
        request: The resolved request; its stock is not used.
        candidates: Its candidate prices.
        objective: What they are judged by.
        sales: Expected sales at them, for any stock.
        summary: (3, candidate) of the candidates that the decision log keeps their price, the demand expected, and the
            size of the negative binomial; see `detailed.details`.
        with_ample_stock: What is decided where stock sets no limit; None until that was asked.
    """

    __slots__ = ("candidates", "objective", "request", "sales", "summary", "with_ample_stock")

    def __init__(
        self,
        request: ResolvedRequest,
        candidates: CandidatePrices,
        objective: Objective,
        sales: SalesByStock,
        *,
        summary: Floats,
    ) -> None:
        self.request, self.candidates, self.objective, self.sales = request, candidates, objective, sales
        self.summary = summary
        self.with_ample_stock: Decided | None = None


class SingleRequest:
    """Decides requests about products that the model knows, one at a time.

    Floating-point warnings are the caller's to silence (`np.errstate`): figures that are no numbers are not used.
    """

    def __init__(self, demand: Single, policy: Policy, *, summary: NDArray[np.intp]) -> None:
        """Initialises it.

        Args:
            demand: What sells at which price.
            policy: Strategies, guardrails and thresholds.
            summary: Columns of the candidates that the decision log keeps.
        """
        self._demand = demand
        self._policy = policy
        self._kinds = tuple(policy.strategies.values())
        self._summary = summary

    def prepare(self, request: ResolvedRequest) -> PreparedRequest | None:
        """Works out all that does not depend on the request's stock.

        Returns:
            None for a request that only a batch (`choose.choose`) can decide: a product that the model does not know
            or that sells nothing; a strategy with more to it than units sold; a ladder of prices or price endings; a
            day beyond the calendar; or a figure that is no number or beyond what numbers reach.
        """
        kind = self._kinds[request.strategy]
        if request.product < 0 or not kind.only_units or not self._policy.candidate_grid.whole_steps:
            return None
        try:
            candidates = self._policy.candidate_grid.candidates(request)
            curve = self._demand.curve(request, candidates.prices)
            if curve is None:
                return None
            sales = SalesByStock(curve, self._demand.weight)
            if sales.largest < LEAST_LOG:
                return None
            worth = kind.worth(request, candidates.prices, target_weight=self._policy.config.target_weight)
            objective = objective_of(request, candidates, worth, rests_on_elasticity=kind.needs_elasticity)
            summary = self._summary_of(candidates.prices, curve)
        except (ArithmeticError, ValueError):  # Python's own numbers raise where arrays turn infinite
            return None
        if not math.isfinite(sum(summary[1].tolist())):
            return None
        return PreparedRequest(request, candidates, objective, sales, summary=summary)

    def choose(self, prepared: PreparedRequest, stock: float, *, keep: bool = False) -> Choices[Curve] | None:
        """Decides a request.

        Args:
            prepared: From `prepare`; not modified but for what is decided where stock is ample.
            stock: Units on hand.
            keep: True where the current price is to be kept, inside the guardrails.

        Returns:
            None where a figure is no number or beyond what numbers reach: only a batch can decide then.
        """
        request, candidates, curve = prepared.request, prepared.candidates, prepared.sales.curve
        try:
            sales = prepared.sales.within(stock)
            decided = prepared.with_ample_stock if sales.ample and not keep else None
            if decided is None:
                kept = BIT["holdout"] if keep else None
                decided = decide(request, candidates, prepared.objective, curve, sales, self._policy, keep=kept)
                if sales.ample and not keep:
                    prepared.with_ample_stock = decided
            choice = figures(request, candidates, curve, sales, decided)
        except (ArithmeticError, ValueError):  # as in `prepare`
            return None
        return choice if math.isfinite(choice.confidence + choice.units + choice.margin) else None

    def _summary_of(self, prices: Floats, curve: Curve) -> Floats:
        """As `PreparedRequest.summary`."""
        weight, made = self._demand.weight, np.empty((3, len(self._summary)))
        first: Floats = np.exp(curve.first[:, self._summary]).astype(np.float64)
        made[0] = prices[self._summary]
        made[1] = units = weight @ first
        first *= first
        beyond = weight @ first
        beyond /= units * units
        made[2] = 1 / (beyond - 1 + beyond / curve.first_size)
        return made
