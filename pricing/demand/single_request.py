"""Demand of a single request about a known product: what `forecast.grid` says, by a quarter of the array operations."""

import math
from typing import NamedTuple

import numpy as np

from pricing.arrays import Floats
from pricing.data import features
from pricing.data.panel import STEP_DAYS
from pricing.demand.curve import Curve, Offer
from pricing.demand.forecast import (
    DELIVERY,
    FORM,
    FORMS,
    GAP_ROW,
    HOLIDAY_ROW,
    POWER_LIMIT,
    PROFILE_ROW,
    WEIGHT,
    Reader,
)
from pricing.demand.forward import LOG_SIZE_LIMITS


class _Outlook(NamedTuple):
    """Demand at usual price, without promotion.

    Attributes:
        logs: Log units of each period ahead.
        heads: (ahead, 3) what the network says of them.
        total: Units until the (median) delivery.
        squares: The sum of units² / size until then.
        weekend: Units on weekends until then.
        first_size: Size of the first period.
        sums: Units up to each period ahead.
    """

    logs: list[float]
    heads: Floats
    total: float
    squares: float
    weekend: float
    first_size: float
    sums: list[float]


class SingleDemand:
    """Reads the demand of one product after the other. Everything that requests share is worked out once.

    Attributes:
        weight: (node,) probabilities of the nodes.
    """

    def __init__(self, reader: Reader, *, candidates: int) -> None:
        """Reads `reader` at a fixed number of prices a request."""
        self.weight = WEIGHT
        self._reader = reader
        parameters, weights = reader.parameters, reader.weights
        kernel = weights["from_known/kernel"]
        self._gap, self._gap_known = kernel[GAP_ROW], kernel[GAP_ROW + 1]
        self._profile, self._holiday = kernel[PROFILE_ROW], kernel[HOLIDAY_ROW]
        self._heads, self._bias = weights["heads/kernel"], weights["heads/bias"]
        self._days_a_period = STEP_DAYS[reader.period]
        days = reader.first_day + np.arange(len(reader.days)) * self._days_a_period
        on_weekend = (days + 3) % 7 >= features.SATURDAY if reader.period == "day" else np.zeros(len(days))
        self._weekend: list[float] = on_weekend.astype(np.float64).tolist()
        # The log of what price makes of demand is a line in the node's form of the price ratio.
        level = np.broadcast_to((parameters.recent_price * parameters.elasticity)[:, None], reader.answer.shape)
        slopes = reader.answer[:, :, None] * (np.arange(len(FORMS)) == FORM[:, None])
        self._line = np.concatenate([slopes, level[:, :, None]], axis=-1, dtype=np.float32)  # (row, node, form + 1)
        self._steepest = np.abs(reader.answer).max(axis=1)  # (row,)
        self._furthest = float(np.abs(reader.shift).max())
        self._blank = np.ones((len(FORMS) + 1, candidates), np.float32)

    def curve(self, offer: Offer, prices: Floats) -> Curve | None:
        """Demand at prices (candidate,), ascending.

        Returns:
            None beyond the calendar that was worked out for the version, or where a price is so far from the usual one
            that `forecast.grid` would not follow the curve.
        """
        reader, product = self._reader, offer.product
        parameters = reader.parameters
        start = (offer.day - reader.first_day) // self._days_a_period
        end = start + (offer.deliveries[-1] if offer.deliveries else offer.periods)
        if start < 0 or end > len(reader.days):
            return None
        usual = parameters.usual_price.item(product)
        usual = usual if math.isfinite(usual) else offer.list_price
        recent = parameters.recent_price.item(product)
        away = np.log(prices / usual)
        away -= recent
        forms = self._blank.copy()
        forms[0] = away
        forms[1] = np.expm1(away)
        gain = parameters.weekend.item(product)
        reach = self._steepest.item(product) * max(-forms.item((0, 0)), forms.item((1, -1)), 0.0)
        reach += abs(self._line.item((product, 0, -1)))
        if not reach * (1 + abs(gain)) + self._furthest < POWER_LIMIT:
            return None

        ahead = self._outlook(offer, start, end, usual)
        shift = reader.shift[min(max(start, 1), len(reader.shift) - 1)]
        lines = np.empty((2, *self._line.shape[1:]), np.float32)
        later = ahead.weekend / max(ahead.total, 1e-12)
        np.multiply(self._line[product], 1.0 + gain * later, out=lines[0])
        np.multiply(self._line[product], 1.0 + gain * self._weekend[start], out=lines[1])
        lines[:, :, -1] += shift
        if not offer.is_promo:
            lines[0, :, -1] += _until(ahead, offer.deliveries)
            lines[1, :, -1] += ahead.logs[0]
        until, first = lines @ forms  # (node, candidate) each
        if offer.is_promo:
            listed = parameters.list_price.item(product)
            listed = listed if math.isfinite(listed) else offer.list_price
            lift = np.logaddexp(0.0, ahead.heads[:, 2] - 1.0)
            drawn = lift[:, None] * features.promo_effect_share(prices, np.array([listed]))
            drawn += np.array(ahead.logs)[:, None]  # (ahead, candidate)
            first += drawn[0]
            units = np.cumsum(np.exp(drawn), axis=0)
            places = np.array(offer.deliveries)[DELIVERY] if offer.deliveries else np.array([offer.periods])
            until += np.log(units[places - 1])
        size = ahead.total * ahead.total / max(ahead.squares, 1e-12)
        source, grade = 0 if parameters.own.item(product) else 1, parameters.grade.item(product)
        return Curve(until, first, size, ahead.first_size, source, grade, parameters.unit.item(product))

    def _outlook(self, offer: Offer, start: int, end: int, usual: float) -> _Outlook:
        reader, product = self._reader, offer.product
        profile = reader.parameters.profile[product].take(reader.weekday[start:end])
        hidden = profile[:, None] * self._profile
        hidden += reader.days[start:end]
        hidden += reader.own[product]
        if not math.isnan(offer.comp_price):
            gap = min(max(math.log(max(offer.comp_price / usual, 1e-6)), -1.0), 1.0)
            hidden += gap * self._gap + self._gap_known
        corrected = offer.is_holiday - reader.holidays.item(start)
        if corrected:
            hidden[0] += corrected * self._holiday
        np.maximum(hidden, 0.0, out=hidden)
        heads = hidden @ self._heads
        heads += self._bias
        # Some periods ahead are few numbers, with which Python is faster than NumPy.
        level, (least, most) = reader.parameters.level.item(product), LOG_SIZE_LIMITS
        known = profile if reader.lifts is None else profile + reader.lifts[reader.group.item(product), start:end]
        furthest = reader.factor.shape[1]
        factor = reader.factor[product, start:end].tolist()
        factor += [reader.factor.item(product, -1)] * (end - max(start, furthest))
        logs, total, squares, on_weekend, sizes, sums = [], 0.0, 0.0, 0.0, [], []
        so_far, narrow = 0.0, reader.narrow.item(product)
        for (mean, size, _), bump, weekend, more in zip(
            heads.tolist(), known.tolist(), self._weekend[start:end], factor, strict=True
        ):
            logs.append(level + bump + mean + more)
            units = math.exp(logs[-1])
            so_far += units
            sums.append(so_far)
            if len(logs) > offer.periods:  # beyond the median delivery
                continue
            sizes.append(math.exp(min(max(size + 1.0, least), most) + narrow))
            total += units
            squares += units * units / sizes[-1]
            on_weekend += units * weekend
        return _Outlook(logs, heads, total, squares, on_weekend, sizes[0], sums)


def _until(ahead: _Outlook, deliveries: tuple[int, ...]) -> Floats | float:
    """Log units until the delivery: (node,) where its time is uncertain, else one number."""
    if not deliveries:
        return math.log(max(ahead.total, 1e-300))
    sums = np.array([ahead.sums[periods - 1] for periods in deliveries])
    return np.asarray(np.log(np.maximum(sums, 1e-300))[DELIVERY])
