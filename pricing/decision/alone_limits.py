"""One request's candidates: the guardrails as plain numbers, and the lattice between them. `candidates`, for one."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pricing.arrays import Floats
from pricing.config_models import Guardrails
from pricing.decision.candidates import EDGE, Lattice
from pricing.decision.guardrails import NUMBER
from pricing.decision.price_grid import SLACK
from pricing.decision.reasons import AT, BIT, GAVE_WAY
from pricing.decision.resolve import Row

_INF = math.inf
_BAND = NUMBER["band"]
_GAVE_WAY: list[int] = GAVE_WAY.tolist()
_ASSUMED = BIT["cost_assumed"]
_AT: list[int] = AT.tolist()


class Limit(NamedTuple):
    """The allowed interval: as `guardrails.Limits`, of one request."""

    low: float
    high: float
    low_by: int
    high_by: int
    gave_way: int
    ceiling: bool


class Field(NamedTuple):
    """The candidates of one request: as `candidates.Candidates`."""

    prices: Floats
    limit: Limit
    current: int
    allowed: bool
    nearest: int

    def binding(self, price: float, *, stays: bool) -> int:
        """Reason bits of the limits that a price touches, unless it stays by none, and of guardrails that gave way."""
        low, high, low_by, high_by, bits, _ = self.limit
        if stays:
            return bits
        if price <= low:
            bits |= _AT[low_by]
        if price >= high:
            bits |= _AT[high_by]
        return bits


def lay(row: Row, lattice: Lattice, config: Guardrails) -> Field:
    """The candidates of a request where any whole step will do; `lattice` has no rungs."""
    per = lattice.steps_per_unit
    current = row.current_price
    limit = _whole_steps(_limit(row, config), row, per)
    lattice_prices = lattice.ratios * row.list_price
    lattice_prices *= per
    np.rint(lattice_prices, out=lattice_prices)
    lattice_prices /= per
    np.maximum(lattice_prices, limit.low, out=lattice_prices)
    np.minimum(lattice_prices, limit.high, out=lattice_prices)
    place = int(lattice_prices.searchsorted(current))
    last = len(lattice_prices)
    prices = np.empty(last + 1)
    prices[:place] = lattice_prices[:place]
    prices[place] = current
    prices[place + 1 :] = lattice_prices[place:]
    if limit.low * (1 - EDGE) <= current <= limit.high * (1 + EDGE):
        return Field(prices, limit, place, True, place)
    below, above = max(place - 1, 0), min(place + 1, last)
    near_below = current - prices.item(below) <= prices.item(above) - current
    return Field(prices, limit, place, False, below if place > 0 and (near_below or place == last) else above)


def _limit(row: Row, config: Guardrails) -> Limit:
    """The guardrails laid over one another, the strongest first; see `guardrails.limits`."""
    low = row.unit_cost
    least, most = row.list_price * config.band[0], row.list_price * config.band[1]
    by = Limit(
        max(least, low),
        max(most, low),
        _BAND if least > low else 0,
        0 if most < low else _BAND,
        _GAVE_WAY[_BAND] if most < low else 0,
        ceiling=False,
    )
    for number, least, most in _guardrails(row, config):
        by = _cut(by, number, least, most)
    return by


def _cut(by: Limit, number: int, least: float, most: float) -> Limit:
    above, below = least > by.high, most < by.low
    low, high = min(max(least, by.low), by.high), max(min(most, by.high), by.low)
    return Limit(
        low,
        high,
        (by.high_by if above else number) if low > by.low else by.low_by,
        (by.low_by if below else number) if high < by.high else by.high_by,
        by.gave_way | (_GAVE_WAY[number] if above or below else 0),
        above if by.low < by.high else by.ceiling,
    )


def _guardrails(row: Row, config: Guardrails) -> Iterator[tuple[int, float, float]]:
    if not math.isnan(row.anchor_price):
        yield NUMBER["anchor"], row.anchor_price * config.band[0], row.anchor_price * config.band[1]
    if config.min_margin:
        yield NUMBER["min_margin"], row.unit_cost / (1 - config.min_margin), _INF
    if config.min_advertised is not None and row.is_promo:
        yield NUMBER["min_advertised"], row.list_price * config.min_advertised, _INF
    if config.min_days and row.current_known and row.days_since_change < config.min_days:
        yield NUMBER["min_days"], row.current_price, row.current_price
    if config.max_move is not None and row.current_known:
        price = row.current_price
        yield NUMBER["max_move"], price * (1 - config.max_move), price * (1 + config.max_move)
    if config.seen is not None:
        low = row.seen_low * (1 if row.reasons & _ASSUMED else 1 - config.seen)
        high = row.seen_high * (1 + config.seen)
        yield NUMBER["seen"], -_INF if math.isnan(low) else low, _INF if math.isnan(high) else high
    if config.comp_band is not None and math.isfinite(row.comp_price):
        price = row.comp_price
        yield NUMBER["comp_band"], price * config.comp_band[0], price * config.comp_band[1]


def _whole_steps(limit: Limit, row: Row, per: float) -> Limit:
    """The limits moved inwards to whole steps; see `candidates.Lattice`."""
    current = row.current_price
    low = max(math.ceil(limit.low * per - SLACK), 1.0) / per
    high = math.floor(limit.high * per + SLACK) / per
    if low <= high:
        return limit._replace(low=low, high=high)
    if limit.low * (1 - EDGE) <= current <= limit.high * (1 + EDGE):
        return limit._replace(low=current, high=current)
    gave_way = limit.gave_way | (_GAVE_WAY[-1] if limit.low < limit.high else 0)
    if (limit.ceiling or limit.high_by < limit.low_by) and high >= row.unit_cost:
        low = high
    return limit._replace(low=low, high=low, gave_way=gave_way)
