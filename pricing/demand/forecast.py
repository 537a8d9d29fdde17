"""From states to demand at prices: what every forecast, of a backtest or of a request, is computed by. NumPy only."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pricing.data import features
from pricing.data.panel import STEP_DAYS, Period
from pricing.demand import forward
from pricing.demand.curve import DemandGrid, Offers
from pricing.demand.elasticity import LIMITS
from pricing.demand.forward import Weights
from pricing.demand.sheet import Sheet

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

NODES = 8
# Eight equally likely truths: quantiles of the elasticity, each with a quantile of the level; the order makes the
# two uncorrelated (|r| < 0.03).
ELASTICITY_Z = np.asarray([NormalDist().inv_cdf((i + 0.5) / NODES) for i in range(NODES)])
LEVEL_Z = ELASTICITY_Z[[3, 6, 0, 5, 2, 7, 1, 4]]


@dataclass(frozen=True)
class Reader:
    """What a forecast needs of a model: the sheet, the weights, and the date they stand for.

    Attributes:
        sheet: Products, then categories, then the unknown category.
        weights: The network's.
        period: The grain.
        start: The last period that the states have read.
        horizon: The furthest step that the network was trained for; later ones are read as that one.
        holidays: (period,) holiday flags from `start` on.
        level_error: Log-level standard deviation one period ahead and its growth with the root of the step.
        products: Number of products in the sheet.
    """

    sheet: Sheet
    weights: Weights
    period: Period
    start: np.datetime64
    horizon: int
    holidays: Floats
    level_error: tuple[float, float]
    products: int


def sheet_rows(reader: Reader, offers: Offers) -> Ints:
    """(request,) row in the model's sheet: products first, then categories, last the unknown category."""
    fallback = np.where(offers.category >= 0, reader.products + offers.category, len(reader.sheet.level) - 1)
    return np.where(offers.product >= 0, offers.product, fallback)


def outlook(reader: Reader, offers: Offers) -> tuple[Floats, Floats, Floats]:
    """Demand at usual price: log units without promotion, the lift of a full draw, log size; (request, ahead).

    Periods ahead run from the requested one to the last before the delivery of the request that waits longest.
    """
    sheet, rows = reader.sheet, sheet_rows(reader, offers)
    ahead = np.arange(max(int(offers.periods.max(initial=1)), 1))
    days = STEP_DAYS[reader.period]
    dates = offers.date.astype("datetime64[D]")[:, None] + (ahead * days).astype("timedelta64[D]")
    start = reader.start
    step = ((dates - start) // np.timedelta64(days, "D")).astype(np.int64)
    window = np.clip(step[..., None] + np.arange(-1, 3), 0, len(reader.holidays) - 1)
    holiday = reader.holidays[window]  # (request, ahead, 4)
    holiday[:, 0, 1] = offers.is_holiday
    usual = np.where(np.isfinite(sheet.usual_price[rows]), sheet.usual_price[rows], offers.list_price)
    gap, gap_known = features.competitor_gap(offers.comp_price, usual)
    known = features.known_features(
        dates,
        holiday=holiday,
        gap=np.broadcast_to(gap[:, None], dates.shape),
        gap_known=np.broadcast_to(gap_known[:, None], dates.shape),
        step=np.clip(step, 1, reader.horizon),
    )
    weekday = features.weekdays(dates.reshape(-1), period=reader.period).reshape(dates.shape)
    profile = np.take_along_axis(sheet.profile[rows], weekday, axis=1)
    summary = np.broadcast_to(sheet.summary[rows][:, None], (*dates.shape, features.SUMMARY))
    known = np.concatenate([known, profile[..., None], summary], axis=-1, dtype=np.float32)
    mean, lift, size = forward.respond(reader.weights, sheet.prepared[rows][:, None], known)
    return sheet.level[rows][:, None] + profile + mean, lift, size


def grid(reader: Reader, offers: Offers, prices: Floats) -> DemandGrid:
    """Demand at candidate prices; see `curve.DemandGrid`.

    The elasticity's uncertainty turns the curve around the price at which the product has lately been sold, where
    its level is known best.
    """
    sheet, rows = reader.sheet, sheet_rows(reader, offers)
    base, lift, log_size = outlook(reader, offers)
    usual = np.where(np.isfinite(sheet.usual_price[rows]), sheet.usual_price[rows], offers.list_price)
    listed = np.where(np.isfinite(sheet.list_price[rows]), sheet.list_price[rows], offers.list_price)
    x = np.log(prices / usual[:, None])  # (request, candidate)
    mean = sheet.elasticity[rows]
    spread = sheet.elasticity_sd[rows] / np.abs(mean)
    factor = np.exp(spread[:, None] * ELASTICITY_Z - 0.5 * spread[:, None] ** 2)
    tilt = np.clip(mean[:, None] * factor, *LIMITS) - mean[:, None]  # (request, node)
    days = np.timedelta64(STEP_DAYS[reader.period], "D")
    step = np.maximum((offers.date.astype("datetime64[D]") - reader.start) // days, 1)
    level_sd = np.sqrt(reader.level_error[0] ** 2 + reader.level_error[1] ** 2 * step)
    shift = level_sd[:, None] * LEVEL_Z - 0.5 * level_sd[:, None] ** 2  # (request, node)
    around = x - sheet.recent_price[rows][:, None]
    effect = np.exp(
        (mean[:, None] * x)[:, None, :] + tilt[:, :, None] * around[:, None, :] + shift[:, :, None]
    )  # (request, node, candidate)
    waiting = np.arange(base.shape[1]) < np.maximum(offers.periods, 1)[:, None]  # (request, ahead)
    if offers.is_promo.any():
        draw = offers.is_promo[:, None] * features.promo_draw(prices, listed[:, None])
        units = np.exp(base[:, :, None] + lift[:, :, None] * draw[:, None, :])  # (request, ahead, candidate)
        now, total = units[:, 0], (units * waiting[:, :, None]).sum(axis=1)
    else:
        flat = np.exp(base)
        now, total = flat[:, :1], (flat * waiting).sum(axis=1, keepdims=True)
    plain = np.exp(base) * waiting
    own = sheet.own[rows] & (offers.product >= 0)
    return DemandGrid(
        first=now[:, None, :] * effect,
        until=total[:, None, :] * effect,
        first_size=np.exp(log_size[:, 0]),
        # Sizes add up through the variances: Σ m² / r = M² / R.
        until_size=plain.sum(axis=1) ** 2 / np.maximum((plain**2 / np.exp(log_size)).sum(axis=1), 1e-12),
        weight=np.full(NODES, 1.0 / NODES),
        source=np.where(own, 0, 1),
    )
