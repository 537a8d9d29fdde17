"""Which prices a decision considers: a fixed lattice around the list price, on allowed rungs, inside the limits."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DecisionConfig
from pricing.decision.context import Circumstances
from pricing.decision.guardrails import NUMBER, Limits, limits
from pricing.decision.price_grid import Steps, rungs_of
from pricing.decision.reasons import GAVE_WAY

NEAR = 1e-6  # relative; prices nearer than this are one price, as single precision holds seven digits
EDGE = 1e-9  # relative; what floating point may lose at a limit


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidate prices of a batch.

    Attributes:
        prices: (request, candidate) ascending. All are allowed, except perhaps the current price.
        limits: What the guardrails left; `low` and `high` are on rungs where any lies between the limits.
        current: (request,) column of the current price.
        allowed: (request,) whether the current price may be charged.
        nearest: (request,) column of the allowed price nearest to the current one: its own column if allowed.
        all_allowed: Whether every current price may be charged.
    """

    prices: Floats
    limits: Limits
    current: Ints
    allowed: Bools
    nearest: Ints
    all_allowed: bool


class Lattice:
    """Candidate prices at fixed ratios of the list price: a limit that moves a little does not move them all.

    Attributes:
        ratios: (candidate,) ascending; the current price comes on top.
    """

    def __init__(self, config: DecisionConfig) -> None:
        self._guardrails = config.guardrails
        self._steps = Steps(config.price_step)
        self._rungs = rungs_of(config)
        low, high = np.log(config.guardrails.band)
        ratios = config.candidates - 1  # one column is the current price's
        step = max((high - low) / (ratios - 2), 1e-9)
        first = np.floor(low / step + EDGE) if low < 0 < high else low / step  # so that list price is one of them
        self.ratios = np.exp(step * (first + np.arange(ratios)))

    @property
    def plain(self) -> bool:
        """Whether any whole step is a price: no ladder and no endings."""
        return self._rungs is None

    @property
    def steps_per_unit(self) -> float:
        """How many steps of price make a currency unit."""
        return self._steps.per_unit

    def candidates(self, these: Circumstances, *, anchor: Floats | None = None) -> Candidates:
        """Lays out the candidates of every request; its outermost allowed prices are the limits themselves.

        Args:
            these: What each request is priced under.
            anchor: (request,) a further price to consider where the guardrails allow it; NaN for none.
        """
        limit = limits(these, self._guardrails)
        current = these.current_price
        limit = self._whole_steps(limit, current, these.unit_cost)
        prices = these.list_price[:, None] * self.ratios
        if anchor is not None:
            prices = np.concatenate([prices, np.where(np.isnan(anchor), these.list_price, anchor)[:, None]], axis=1)
        inside = (current >= limit.low * (1 - EDGE)) & (current <= limit.high * (1 + EDGE))
        if self._rungs is None:
            prices = self._steps.nearest(prices)
            allowed = inside
        else:
            low, high = self._rungs.above(limit.low), self._rungs.below(limit.high)
            gives_way = low > high
            prices = np.where(gives_way[:, None], self._steps.nearest(prices), self._rungs.nearest(prices))
            # The rungs on either side of the current price, which a coarse lattice may step over.
            beside = np.stack([self._rungs.below(current), self._rungs.above(current)], axis=1)
            prices = np.concatenate([prices, np.where(gives_way[:, None], prices[:, :2], beside)], axis=1)
            on_rung = np.abs(self._rungs.nearest(current) - current) <= NEAR * current
            allowed = inside & (gives_way | on_rung)
            limit = Limits(
                np.where(gives_way, limit.low, low),
                np.where(gives_way, limit.high, high),
                np.where(~gives_way & (low == high) & (limit.low < limit.high), NUMBER["price_rung"], limit.low_by),
                limit.high_by,
                limit.gave_way | gives_way * GAVE_WAY[-1],
                limit.ceiling,
            )
        np.maximum(prices, limit.low[:, None], out=prices)
        np.minimum(prices, limit.high[:, None], out=prices)
        prices = np.concatenate([prices, current[:, None]], axis=1)
        prices.sort(axis=1)
        place = (prices < current[:, None]).sum(axis=1)
        all_allowed = bool(allowed.all())
        nearest = place if all_allowed else self._nearest(prices, place, allowed)
        return Candidates(prices, limit, place, allowed, nearest, all_allowed)

    def allows(self, prices: Floats, field: Candidates) -> Bools:
        """(price,) which of some prices the guardrails of one request allow; `field` holds its candidates.

        A price counts that lies between the limits on a rung, or is the current price where that may stay.
        """
        limit = field.limits
        inside = (prices >= limit.low * (1 - EDGE)) & (prices <= limit.high * (1 + EDGE))
        rungs = self._rungs if self._rungs is not None and not limit.gave_way[0] & GAVE_WAY[-1] else self._steps
        on_rung = np.abs(rungs.nearest(prices) - prices) <= NEAR * prices
        stays = field.allowed & (np.abs(field.prices[0, field.current] - prices) <= NEAR * prices)
        return np.asarray(inside & (on_rung | stays))

    def towards(self, prices: Floats, home: Floats) -> Floats:
        """(request,) the price on a rung that is nearest to each of `prices` and no further from `home`."""
        rungs = self._rungs or self._steps
        up = np.maximum(rungs.below(prices), home)
        return np.where(prices == home, home, np.where(prices > home, up, np.minimum(rungs.above(prices), home)))

    def _whole_steps(self, limit: Limits, current: Floats, unit_cost: Floats) -> Limits:
        """Moves the limits inwards to whole steps.

        Where none lies between them: to the current price if that may stay, down a step from an upper end whose
        guardrail is the stronger one if that covers the cost, else up a step.
        """
        low, high = self._steps.above(limit.low), self._steps.below(limit.high)
        empty = low > high
        if not empty.any():
            return Limits(low, high, limit.low_by, limit.high_by, limit.gave_way, limit.ceiling)
        held = empty & (current >= limit.low * (1 - EDGE)) & (current <= limit.high * (1 + EDGE))
        down = limit.ceiling | (limit.high_by < limit.low_by)
        low = np.where(held, current, np.where(empty & down & (high >= unit_cost), high, low))
        gave_way = limit.gave_way | (empty & ~held & (limit.low < limit.high)) * GAVE_WAY[-1]
        return Limits(low, np.where(empty, low, high), limit.low_by, limit.high_by, gave_way, limit.ceiling)

    @staticmethod
    def _nearest(prices: Floats, place: Ints, allowed: Bools) -> Ints:
        rows = np.arange(len(prices))
        last = prices.shape[1] - 1
        here = prices[rows, place]
        below, above = np.maximum(place - 1, 0), np.minimum(place + 1, last)
        down, up = here - prices[rows, below], prices[rows, above] - here
        nearest = np.where((place > 0) & ((down <= up) | (place == last)), below, above)
        return np.where(allowed, place, nearest)
