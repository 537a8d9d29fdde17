"""Reference implementation of pricing, slow and simple, request by request: the oracle for the fast one."""

import math
from statistics import NormalDist

import numpy as np
from scipy import stats

from pricing.config_models import DecisionConfig
from pricing.data import features
from pricing.data.panel import STEP_DAYS
from pricing.decision.limits import Limits, PricingContext
from pricing.decision.resolve import take
from pricing.demand.curve import DemandGrid, Offers
from pricing.demand.grades import PRIOR_ONLY
from pricing.demand.table import DELIVERY, ELASTICITY_Z, EXPONENTIAL, LEVEL_Z, WEIGHT, DemandTable

FINE = 2001  # prices between cost and band, in place of a parabola between few
PRIOR_SD = 0.8  # of the log of an elasticity


def plain_grid(table: DemandTable, offers: Offers, prices: np.ndarray) -> DemandGrid:
    """`DemandTable.curves`, computed for one request after the other by the formula in its docstring."""
    parts = [_one(table, offers, row, prices[row]) for row in range(len(prices))]
    first, until, first_size, until_size, source, grade, known = map(np.array, zip(*parts, strict=True))
    return DemandGrid(first, until, first_size, until_size, WEIGHT, source, grade, known)


def _one(table: DemandTable, offers: Offers, number: int, prices: np.ndarray) -> tuple[object, ...]:
    product, category = int(offers.product[number]), int(offers.category[number])
    products = len(table.product_ids)
    row = product if product >= 0 else products + category if category >= 0 else len(table.levels) - 1
    group = len(table.categories) if row == len(table.levels) - 1 else row - products
    group = int(table.category[product]) if product >= 0 else group
    reference, listed = (
        float(price) if math.isfinite(price) else float(offers.list_price[number])
        for price in (table.reference[row], table.list_price[row])
    )
    start = int((offers.date[number] - np.datetime64(table.state_date)) / np.timedelta64(STEP_DAYS[table.period], "D"))
    periods = int(offers.periods[number])
    deliveries = [periods] * 4 if offers.deliveries is None else offers.deliveries[number].tolist()
    week, last = 7 if table.period == "day" else 1, table.levels.shape[1]
    log_units, weekend = [], []
    for step in range(start, start + deliveries[-1]):
        while step > last:
            step -= week  # noqa: PLW2901 - the last week again
        while step < 1:
            step += week  # noqa: PLW2901 - before the table: the first week
        log_units.append(float(table.levels[row, step - 1]))
    for ahead in range(deliveries[-1]):
        date = offers.date[number] + np.timedelta64(ahead * STEP_DAYS[table.period], "D")
        if table.lifts is not None:
            log_units[ahead] += float(table.lifts.rows(np.array([date]))[group, 0])
        weekend.append(table.period == "day" and date.astype(object).weekday() >= 5)
    counted = min(max(start, 1), 4 * table.horizon)
    shift = math.sqrt(table.level_error[0] ** 2 + table.level_error[1] ** 2 * counted) * LEVEL_Z
    shift -= np.log(np.exp(shift).mean())
    sd = float(table.elasticity_sd[row])
    spread = np.exp(sd * ELASTICITY_Z)
    elasticity = table.elasticity[row] * spread / spread.mean()
    away = np.log(prices / reference)
    draw = np.clip((1.0 - prices / listed) / features.FULL_PROMO_CUT, 0.0, 1.0) * offers.is_promo[number]
    apart = math.log(offers.comp_price[number] / table.rival_usual[row])
    rival = float(table.rival[row]) * min(max(apart, -1.0), 1.0) if math.isfinite(apart) else 0.0
    first, until = [], []
    for node in range(len(WEIGHT)):
        bent = np.exp(away) - 1 if node in range(len(WEIGHT))[EXPONENTIAL] else away
        days = [
            math.exp(log)
            * np.exp(
                elasticity[node] * bent * (1 + float(table.weekend[row]) * on_weekend)
                + float(table.promotion[row]) * draw
                + rival
                + shift[node]
            )
            for log, on_weekend in zip(log_units, weekend, strict=True)
        ]
        first.append(days[0])
        until.append(sum(days[: deliveries[DELIVERY[node]]]))
    units, size = np.exp(log_units[:periods]), float(table.size[row])
    source = 0 if product >= 0 and table.own[product] else 1
    known = max(1 - (sd / PRIOR_SD) ** 2, 0.0)
    return first, until, size, size * units.sum() ** 2 / (units**2).sum(), source, table.grade[row], known


def plain_sales(mean: np.ndarray, *, size: float, stock: float) -> np.ndarray:
    """E[min(D, S)] from scipy: mean · P(D' ≤ S − 1) + S · P(D > S), D' of size + 1."""
    p = size / (size + mean)
    return mean * stats.nbinom.cdf(stock - 1, size + 1, p) + stock * stats.nbinom.sf(stock, size, p)


class PlainDecision:
    """The decision of one request under the strategy margin, unsold units worth their cost; whole cents, no draws."""

    def __init__(
        self, context: PricingContext, row: int, *, table: DemandTable, offers: Offers, config: DecisionConfig
    ) -> None:
        self.table, self.offers, self.config = table, take(offers, np.array([row])), config
        names = (
            "current_price",
            "list_price",
            "anchor_price",
            "unit_cost",
            "tax_rate",
            "cost_sd",
            "supply",
            "seen_low",
        )
        now, listed, anchor, *rest = (float(getattr(context, name)[row]) for name in names)
        self.current, self.anchor = now, anchor if math.isfinite(anchor) else listed
        self.cost, self.tax_rate, self.cost_sd, self.supply, seen = rest
        self.seen_low = seen if context.cost_assumed[row] and math.isfinite(seen) else 0.0

    def price(self, limits: Limits, *, row: int) -> tuple[float, float]:
        """The price to charge between the limits of a row, and by how much any of its conditions is nearly another."""
        low, high = float(limits.low[row]), float(limits.high[row])
        wanted, tilt, near = self._wanted()
        stay, moved = (min(max(round(price, 2), low), high) for price in (self.current, wanted))
        if self.grid.grade[0] == PRIOR_ONLY or stay == moved:
            return moved, near
        units = np.log(self._sold(np.array([stay, moved])))
        units = units[:, 1] - units[:, 0]
        gains = {
            doubt: units + math.log(self._worth(moved, doubt) / self._worth(stay, doubt)) for doubt in (-2, -1, 0, 1, 2)
        }
        gain = (
            min(gains[-2].mean(), gains[2].mean()) + tilt * math.log(moved / stay) - math.log1p(self.config.menu_cost)
        )
        if abs(math.log(moved / self.anchor)) <= abs(math.log(stay / self.anchor)):  # back towards the regular price
            return (moved if gain > 0 else stay), min(near, abs(gain))
        chance = (_chance(gains[-1]) + _chance(gains[1])) / 2 - self.config.confidence_threshold
        return (moved if gain > 0 and chance >= 0 else stay), min(near, abs(gain), abs(chance))

    def _wanted(self) -> tuple[float, float, float]:
        low, high = (self.anchor * end for end in self.config.guardrails.band)
        low = max(low, self.cost * (1 + self.tax_rate))
        prices = np.exp(np.linspace(math.log(low), max(math.log(high), math.log(low) + 1e-4), FINE))
        until = self._until(prices)
        values = {
            doubt: WEIGHT @ np.log(until) + np.log([self._worth(price, doubt) for price in prices])
            for doubt in (-2, 0, 2)
        }
        ends = sorted(float(prices[values[doubt].argmax()]) for doubt in (-2, 2))
        best = max(min(max(self.anchor, ends[0]), ends[1]), self.seen_low)
        target = self.anchor * (best / self.anchor) ** (self.config.step * min(1.0, 2 * float(self.grid.known[0])))
        if self.grid.grade[0] == PRIOR_ONLY:
            target = min(self.current, self.anchor)
        here, sold = int(np.abs(prices - target).argmin()), self._sold(prices)
        served = (sold[:, here].mean() / until[:, here].mean()) - 0.98
        logs = np.log(prices)
        slopes = np.gradient(values[0], logs)
        tilt = min(float(np.interp(math.log(best), logs, slopes)), 0.0) - slopes[here]
        if served >= 0:
            return target, tilt, served
        short = WEIGHT @ np.log(sold) + values[0] - WEIGHT @ np.log(until) + tilt * logs
        return max(float(prices[short.argmax()]), target), tilt, -served

    def _worth(self, price: float, doubt: int) -> float:
        return max(price / (1 + self.tax_rate) - self.cost - doubt * self.cost_sd, 1e-30)

    def _until(self, prices: np.ndarray) -> np.ndarray:
        self.grid = plain_grid(self.table, self.offers, prices[None])
        return np.asarray(self.grid.until[0])

    def _sold(self, prices: np.ndarray) -> np.ndarray:
        until = self._until(prices)
        if not 0 < self.supply < math.inf:
            return until
        return plain_sales(until, size=float(self.grid.until_size[0]), stock=self.supply)


def _chance(gain: np.ndarray) -> float:
    """The chance that a gain is not negative: every node a normal, 30 % nearer to the mean, as wide."""
    width = max(gain.std() * math.sqrt(1 - 0.7**2), 1e-12)
    return float(np.mean([NormalDist().cdf((gain.mean() + 0.7 * (one - gain.mean())) / width) for one in gain]))
