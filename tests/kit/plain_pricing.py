"""Reference implementation of pricing, slow and simple, request by request: the oracle for the fast one."""

import math
from statistics import NormalDist

import numpy as np

from pricing.data import features
from pricing.data.panel import STEP_DAYS
from pricing.decision.context import PricingContext
from pricing.demand import forecast, forward
from pricing.demand.curve import DemandGrid, Offers
from pricing.demand.forecast import Reader

POINTS = 40


def plain_grid(reader: Reader, offers: Offers, prices: np.ndarray) -> DemandGrid:
    """`forecast.grid`, computed for one request after the other."""
    parts = [_one(reader, offers, row, prices[row]) for row in range(len(prices))]
    first, until, first_size, until_size, source, grade = map(np.array, zip(*parts, strict=True))
    return DemandGrid(first, until, first_size, until_size, forecast.WEIGHT, source, grade)


def _one(reader: Reader, offers: Offers, number: int, prices: np.ndarray) -> tuple[object, ...]:
    parameters, kernel = reader.parameters, reader.weights["from_known/kernel"]
    product, category = int(offers.product[number]), int(offers.category[number])
    row = product if product >= 0 else reader.products + category if category >= 0 else len(parameters.level) - 1
    start = int((offers.date[number] - reader.start) / np.timedelta64(1, "D")) // STEP_DAYS[reader.period]
    usual, listed = (
        float(price) if math.isfinite(price) else float(offers.list_price[number])
        for price in (parameters.usual_price[row], parameters.list_price[row])
    )
    gap, gap_known = (
        part[0] for part in features.competitor_gap(offers.comp_price[number : number + 1], np.array([usual]))
    )
    periods = int(offers.periods[number])
    deliveries = [periods] * 4 if offers.deliveries is None else offers.deliveries[number].tolist()
    ahead = deliveries[-1]
    steps = np.arange(start, start + ahead)[None]
    days, weekday = forecast._calendar_part(reader, steps)
    profile = parameters.profile[row][weekday[0]]
    hidden = (reader.own[row] + (gap * kernel[forecast.GAP_ROW] + gap_known * kernel[forecast.GAP_ROW + 1]))[None, None]
    hidden = hidden + days + profile[None, :, None] * kernel[forecast.PROFILE_ROW]
    given = reader.holidays[min(max(start, 0), len(reader.holidays) - 1)]
    hidden[0, 0] += np.float32(offers.is_holiday[number] - given) * kernel[forecast.HOLIDAY_ROW]
    mean, lift, log_size = (part[0] for part in forward.heads(reader.weights, hidden))
    base = parameters.level[row] + profile + mean

    counted = min(max(start, 1), forecast.STALE_HORIZONS * reader.horizon)
    level_sd = np.sqrt(reader.level_error[0] ** 2 + reader.level_error[1] ** 2 * counted)
    shift = level_sd * forecast.LEVEL_Z
    shift = (shift - np.log(np.exp(shift).mean())).astype(np.float32)
    x = np.log(prices / usual).astype(np.float32)
    draw = np.clip((1.0 - prices / listed) / features.FULL_PROMO_CUT, 0.0, 1.0) * offers.is_promo[number]
    plain, size = np.exp(base), np.exp(log_size)
    day = offers.date[number].astype("datetime64[D]").astype(int)
    weekend = np.array([(day + 3 + k) % 7 >= 5 and reader.period == "day" for k in range(ahead)], float)
    share = (plain * weekend)[:periods].sum() / plain[:periods].sum()
    gain = float(parameters.weekend[row])
    first, until = [], []
    spread = np.exp(
        min(parameters.elasticity_sd[row] / -parameters.elasticity[row], forecast.WIDEST) * forecast.ELASTICITY_Z
    )
    spread /= spread.mean()
    for node in range(forecast.NODES):
        elasticity = max(min(parameters.elasticity[row] * spread[node], -0.2), -20.0)
        away = x - parameters.recent_price[row]
        form = (np.exp(away) - 1) if forecast.FORM[node] else away
        turned = elasticity * form + parameters.elasticity[row] * parameters.recent_price[row]
        effect, today = (
            np.exp(np.clip(turned * (1 + gain * part) + shift[node], -forecast.POWER_LIMIT, forecast.POWER_LIMIT))
            for part in (share, weekend[0])
        )
        units = np.exp(base)[:, None]
        if offers.is_promo[number]:
            units = np.exp(base[:, None] + lift[:, None] * draw)
        first.append(units[0].astype(np.float32) * today)
        until.append(units[: deliveries[forecast.DELIVERY[node]]].sum(axis=0).astype(np.float32) * effect)
    plain, size = plain[:periods], size[:periods]
    until_size = plain.sum() ** 2 / max((plain**2 / size).sum(), 1e-12)
    return first, until, size[0], until_size, 0 if parameters.own[row] and product >= 0 else 1, parameters.grade[row]


def plain_sales(mean: np.ndarray, *, size: float, stock: float) -> np.ndarray:
    """(node, candidate) expected sales of one request, interpolated between points computed one by one."""
    top = math.log(max(mean[:, 0].max(), 1e-12))
    bottom = min(max(math.log(max(mean[:, -1].min(), 1e-12)), top - 9.0), top - 0.01)
    points = np.linspace(bottom, top, POINTS)
    share = [plain_expected(math.exp(point), size=min(size, 1e6), stock=stock) / math.exp(point) for point in points]
    return np.interp(np.log(np.maximum(mean, 1e-300)), points, share) * mean


def plain_expected(mean: float, *, size: float, stock: float) -> float:
    """The formula of `stock.expected_sales`, as its docstring gives it."""
    units = max(stock, 1.0)
    p = size / (size + mean)
    q = mean / (size + mean)
    log_choose = math.lgamma(size + units + 1) - math.lgamma(size + 1) - math.lgamma(units + 1)
    mass = math.exp(log_choose + size * math.log(p) + units * math.log(q))
    shifted = size + 2
    trials = shifted + units
    bend = p * _bend((units + 0.5) / (trials * q)) + q * _bend((shifted - 0.5) / (trials * p))
    spread = max(1 + bend, 0.0) / ((trials + 1 / 6) * p * q)
    distance = (trials + 1 / 3) * q - units - 2 / 3
    distance -= p * (0.02 / (units + 1) + 0.02 / (trials + 1)) - q * (0.02 / shifted) - 0.01 / (trials + 1)
    above = _normal(distance * math.sqrt(spread)) - mass * p * q * (size + units + 1) / (size + 1)
    sales = mean + above * (units - mean) - (size + units) * q * mass
    return min(max(sales, 0.0), mean, units)


def _bend(x: float) -> float:
    return (1 - x * x + 2 * x * math.log(x)) / ((1 - x) ** 2 + 1e-12)


def _normal(z: float) -> float:
    z = min(max(z, -8.0), 8.0)
    return 1 / (1 + math.exp(-z * (1.59543566 + z * z * (7.35965074e-02 - 6.31612787e-04 * z * z))))


def plain_worth(context: PricingContext, grid: DemandGrid, prices: np.ndarray, *, row: int, level: float) -> np.ndarray:
    """(candidate,) the objective of each price under the strategy margin, unsold units worth their cost.

    The expected shortfall at `level` of half the log of its profit over that of the price nearest list, taken as
    normal; the worse one of two equally likely costs.
    """
    stock = float(context.stock[row])
    sold = grid.until[row].astype(np.float64)
    if stock > 0:
        sold = plain_sales(sold, size=float(grid.until_size[row]), stock=stock)
    home = int(np.abs(np.log(prices / context.list_price[row])).argmin())
    z = NormalDist().inv_cdf(level)
    worst = []
    for sign in (-1, 1):  # two standard deviations to either side
        profit = np.maximum(prices - context.unit_cost[row] + sign * 2 * context.cost_sd[row], 1e-30) * sold
        gain = 0.5 * np.log(profit / profit[:, home : home + 1])
        mean = grid.weight @ gain
        sd = np.sqrt(np.maximum(grid.weight @ gain**2 - mean**2, 0))
        worst.append(mean - NormalDist().pdf(z) / level * sd)
    return np.minimum(*worst)
