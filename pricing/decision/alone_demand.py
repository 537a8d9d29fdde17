"""Demand of one known product at prices: what `forecast.grid` says of it, by a third of the array operations."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.data import features
from pricing.data.panel import STEP_DAYS
from pricing.decision.columns import Row
from pricing.demand import forward
from pricing.demand.forecast import GAP_ROW, HOLIDAY_ROW, POWER_LIMIT, PROFILE_ROW, Reader

Floats = NDArray[np.floating]


class Curve(NamedTuple):
    """Demand of one request at its candidates: as `curve.DemandGrid`.

    Attributes:
        until: (node, candidate) expected units until the next delivery.
        first: (node, candidate) expected units in the requested period.
        until_size: Size of the negative binomial of `until`.
        first_size: Size of the negative binomial of `first`.
        source: Index into SOURCES.
    """

    until: Floats
    first: Floats
    until_size: float
    first_size: float
    source: int


class Forecaster:
    """Reads the demand of one product after the other. Everything that requests share is worked out once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        sheet, kernel = reader.sheet, reader.weights["from_known/kernel"]
        self._gap, self._gap_known = kernel[GAP_ROW], kernel[GAP_ROW + 1]
        self._profile, self._holiday = kernel[PROFILE_ROW], kernel[HOLIDAY_ROW]
        self._start = reader.first_day
        self._days_a_period = STEP_DAYS[reader.period]
        days = self._start + np.arange(len(reader.days)) * self._days_a_period
        self._weekend = np.zeros(len(days), np.float32)
        if reader.period == "day":
            self._weekend = ((days + 3) % 7 >= features.SATURDAY).astype(np.float32)
        # The log of what price makes of demand is a line in the log of price: slope and constant of each node.
        turned = -reader.tilt * sheet.recent_price[:, None]
        self._line = np.stack([reader.tilt + sheet.elasticity[:, None], turned], axis=-1)  # (row, node, 2)

    def curve(self, row: Row, prices: Floats) -> Curve | None:
        """Demand at prices (candidate,); None beyond the calendar that was worked out for the version."""
        reader, product = self._reader, row.product
        sheet = reader.sheet
        start = (row.day - self._start) // self._days_a_period
        end = start + row.periods
        if start < 0 or end > len(reader.days):
            return None
        usual, listed = sheet.usual_price.item(product), sheet.list_price.item(product)
        usual = usual if math.isfinite(usual) else row.list_price
        base, lift, log_size = self._outlook(row, start, end, usual)
        plain = np.exp(base)
        total, now = float(plain.sum()), plain.item(0)
        squares = float((plain * plain / np.exp(log_size)).sum())
        today, gain = self._weekend.item(start), sheet.weekend.item(product)
        later = float(plain @ self._weekend[start:end]) / max(total, 1e-12)
        same = gain * (today - later) == 0

        shift = reader.shift[min(max(start, 1), len(reader.shift) - 1)]
        line, nodes = self._line[product], len(shift)
        logs = np.ones((2, len(prices)), np.float32)
        logs[0] = np.log(prices / usual)
        lines = np.empty((nodes if same else 2 * nodes, 2), np.float32)
        np.multiply(line, 1.0 + gain * later, out=lines[:nodes])
        lines[:nodes, 1] += shift
        if not same:
            np.multiply(line, 1.0 + gain * today, out=lines[nodes:])
            lines[nodes:, 1] += shift
        power = lines @ logs
        np.maximum(power, -POWER_LIMIT, out=power)
        np.minimum(power, POWER_LIMIT, out=power)
        effect = np.exp(power, out=power)
        of_today = effect if same else effect[nodes:]
        if row.is_promo:
            listed = listed if math.isfinite(listed) else row.list_price
            units = np.exp(base[:, None] + lift[:, None] * features.promo_draw(prices, np.array([listed])))
            first, until = of_today * units[0], effect[:nodes] * units.sum(axis=0)
        else:
            first, until = of_today * now, effect[:nodes] * total
        return Curve(
            until,
            first,
            total * total / max(squares, 1e-12),
            math.exp(log_size.item(0)),
            0 if sheet.own.item(product) else 1,
        )

    def _outlook(self, row: Row, start: int, end: int, usual: float) -> tuple[Floats, Floats, Floats]:
        """(ahead,) log units at usual price without promotion, the lift of a full draw, log size."""
        reader, product = self._reader, row.product
        profile = reader.sheet.profile[product].take(reader.weekday[start:end])
        own = reader.own[product]
        if math.isfinite(row.comp_price):
            gap = min(max(math.log(max(row.comp_price / usual, 1e-6)), -1.0), 1.0)
            own = own + (gap * self._gap + self._gap_known)
        hidden = reader.days[start:end] + own
        hidden += profile[:, None] * self._profile
        corrected = row.is_holiday - reader.holidays.item(start)
        if corrected:
            hidden[0] += corrected * self._holiday
        mean, lift, log_size = forward.heads(reader.weights, hidden)
        mean += profile
        mean += reader.sheet.level.item(product)
        return mean, lift, log_size
