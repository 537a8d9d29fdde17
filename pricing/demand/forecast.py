"""Compute demand at candidate prices from the states, for backtests and requests alike. NumPy only."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.data import features
from pricing.data.panel import STEP_DAYS, Period
from pricing.demand import forward
from pricing.demand.curve import DemandGrid, Offers
from pricing.demand.forward import Weights
from pricing.demand.product_parameters import ProductParameters

# Rows of the network's `known` input as `features.known_features` lays them out: 8 waves, 4 holidays, gap, known,
# step; then the profile and the summary.
HOLIDAY_ROW = 9  # the requested period's own flag, after the one before it
GAP_ROW = 12
PROFILE_ROW = 15

NODES = 8
# Quadrature with equally likely nodes: normal quantiles of the elasticity, scaled to variance 1, each paired with a
# quantile of the level, a form of the curve and a time of the next delivery, ordered to be nearly uncorrelated.
_QUANTILES = np.asarray([NormalDist().inv_cdf((i + 0.5) / NODES) for i in range(NODES)])
ELASTICITY_Z = _QUANTILES / _QUANTILES.std()
LEVEL_Z = ELASTICITY_Z[[5, 3, 0, 7, 1, 6, 2, 4]]
# Box–Cox powers of the price in log demand (Box and Cox 1964): 0 is constant elasticity, 1 exponential demand, whose
# elasticity is proportional to the price, as in a logit with a small share. The two most common forms.
FORMS = np.array([0.0, 1.0], np.float32)
FORM = np.array([0, 0, 1, 1, 1, 1, 0, 0])  # (node,) row of FORMS
DELIVERY = np.array([2, 2, 0, 0, 3, 3, 1, 1])  # (node,) column of Offers.deliveries
WEIGHT = np.full(NODES, 1.0 / NODES)
WIDEST = 1.5  # cap on the standard deviation of the log elasticity
POWER_LIMIT = 30.0  # log units; keeps absurd prices from overflowing
STALE_HORIZONS = 4  # horizons after the state's date beyond which the level's uncertainty stops growing


@dataclass(frozen=True)
class ForecastSettings:
    """Date and settings of a model's forecasts.

    Attributes:
        weights: The network's.
        period: The grain.
        start: The last period encoded in the states.
        horizon: Largest step that the network was trained for; later steps are clipped to it.
        holidays: (period,) holiday flags from `start` on.
        level_error: Log-level standard deviation one period ahead and its growth with the root of the step.
        products: Number of products in the sheet.
        elasticity_limits: Lowest and highest elasticity of a node.
        lifts: (group, step) log units that named events add from `start` on; a group is a category, the last one
            unknown. None without estimated lifts.
        group: (row,) row of `lifts` of each row of the sheet.
    """

    weights: Weights
    period: Period
    start: np.datetime64
    horizon: int
    holidays: Floats
    level_error: tuple[float, float]
    products: int
    elasticity_limits: tuple[float, float]
    lifts: Floats | None
    group: Ints


@dataclass(frozen=True)
class Reader(ForecastSettings):
    """Product parameters and everything else that does not depend on the request, computed once.

    Attributes:
        parameters: Products, then categories, then the unknown category.
        own: (row, HIDDEN) hidden-layer input from a product: state, category and slow features.
        days: (step, HIDDEN) hidden-layer input from the calendar, for each period of `holidays`.
        weekday: (step,) column of the profile.
        factor: (row, step) log units that other forecasters add to the network's, by steps after the state's date,
            up to the horizon; 0 for categories.
        narrow: (row,) log factor on the network's size.
        answer: (row, node) elasticity of each node, at the product's recent price.
        shift: (step, node) log units that the level's uncertainty adds at each node, up to the last step it grows.
        first_day: `start` in days since 1970.
    """

    parameters: ProductParameters
    own: Floats
    days: Floats
    weekday: Ints
    factor: Floats
    narrow: Floats
    answer: Floats
    shift: Floats
    first_day: int


def open_reader(parameters: ProductParameters, settings: ForecastSettings, *, factor: Floats, narrow: Floats) -> Reader:
    """Precompute, once for a version, what its forecasts share.

    Args:
        parameters: Parameters of every row.
        settings: Settings of the version.
        factor: (product, step) see `Reader.factor`.
        narrow: (product,) see `Reader.narrow`.
    """
    others = len(parameters.level) - len(factor)
    kernel = settings.weights["from_known/kernel"]
    spread = np.minimum(parameters.elasticity_sd / np.abs(parameters.elasticity), WIDEST).astype(np.float32)
    step = np.arange(len(settings.holidays))
    days, weekday = _calendar_part(settings, step)
    return Reader(
        **vars(settings),
        parameters=parameters,
        own=(parameters.prepared + parameters.summary @ kernel[PROFILE_ROW + 1 :]).astype(np.float32),
        days=days,
        weekday=weekday,
        factor=np.concatenate([factor, np.zeros((others, factor.shape[1]), np.float32)]),
        narrow=np.concatenate([narrow, np.zeros(others)]).astype(np.float32),
        answer=_nodes(parameters.elasticity, spread, limits=settings.elasticity_limits),
        shift=_level_shift(settings),
        first_day=int(settings.start.astype("datetime64[D]").astype(np.int64)),
    )


def _nodes(elasticity: Floats, spread: Floats, *, limits: tuple[float, float]) -> Floats:
    """(row, node) elasticities: log-normal with the given mean, clipped to the limits."""
    factor = np.exp(spread[:, None] * ELASTICITY_Z)
    factor /= factor.mean(axis=1, keepdims=True)
    return np.asarray(np.clip(elasticity[:, None] * factor, *limits), dtype=np.float32)


def curve_forms(away: Floats) -> Floats:
    """(…, form, candidate) Box–Cox transform of price ratios, given by their logs (…, candidate)."""
    forms = FORMS[1:, None] * away[..., None, :]
    np.expm1(forms, out=forms)
    forms /= FORMS[1:, None]
    return np.concatenate([away[..., None, :], forms], axis=-2)


def _level_shift(settings: ForecastSettings) -> Floats:
    """(step, node) level deviations in log units; the mean of demand over the nodes is unchanged."""
    step = np.arange(STALE_HORIZONS * settings.horizon + 1)
    level_sd = np.sqrt(settings.level_error[0] ** 2 + settings.level_error[1] ** 2 * step)
    shift = level_sd[:, None] * LEVEL_Z
    return np.asarray((shift - np.log(np.exp(shift).mean(axis=1, keepdims=True))).astype(np.float32))


def parameter_rows(reader: Reader, offers: Offers) -> Ints:
    """(request,) row of the sheet: products first, then categories, last the unknown category."""
    product = offers.product
    if product.min(initial=0) >= 0:
        return product
    fallback = np.where(offers.category >= 0, reader.products + offers.category, len(reader.parameters.level) - 1)
    return np.where(product >= 0, product, fallback)


def slopes(reader: Reader, rows: Ints) -> Floats:
    """(row, node) elasticity at list price of each product and node, on a weekday."""
    parameters = reader.parameters
    with np.errstate(invalid="ignore"):
        away = np.log(parameters.list_price[rows] / parameters.usual_price[rows]) - parameters.recent_price[rows]
    bend = np.exp(FORMS[FORM] * np.where(np.isfinite(away), away, 0.0)[:, None])
    return np.asarray(reader.answer[rows] * bend)


def usual_price_demand(
    reader: Reader, offers: Offers, rows: Ints, first: Ints, usual: Floats
) -> tuple[Floats, Floats, Floats]:
    """Demand at usual price: log units without promotion, log lift of a full promotion, log size; (request, ahead).

    Periods ahead run from the requested one to the last before the latest delivery among the requests.

    Args:
        reader: The model's reader.
        offers: The requests.
        rows: (request,) from `parameter_rows`.
        first: (request,) periods from the state's date to the requested one.
        usual: (request,) each product's usual price.
    """
    parameters, kernel = reader.parameters, reader.weights["from_known/kernel"]
    last = offers.periods if offers.deliveries is None else offers.deliveries[:, -1]
    ahead = max(int(last.max(initial=1)), 1)
    step = first[:, None] + np.arange(ahead)
    if first.min(initial=0) >= 0 and first.max(initial=0) + ahead <= len(reader.days):
        days, weekday = reader.days[step], reader.weekday[step]
        given = reader.holidays[first]
    else:
        days, weekday = _calendar_part(reader, step)
        given = reader.holidays[np.clip(first, 0, len(reader.holidays) - 1)]
    gap, gap_known = features.competitor_gap(offers.comp_price, usual)
    request = gap[:, None] * kernel[GAP_ROW] + gap_known[:, None] * kernel[GAP_ROW + 1]  # (request, HIDDEN)
    profile = parameters.profile[rows[:, None], weekday]
    hidden = (reader.own[rows] + request)[:, None] + days
    hidden += profile[..., None] * kernel[PROFILE_ROW]
    # The request's holiday flag replaces the calendar's, for the requested period only.
    hidden[:, 0] += (offers.is_holiday - given)[:, None].astype(np.float32) * kernel[HOLIDAY_ROW]
    mean, lift, size = forward.heads(reader.weights, hidden)
    mean += reader.factor[rows[:, None], np.minimum(np.maximum(step, 0), reader.factor.shape[1] - 1)]
    size += reader.narrow[rows, None]
    base = parameters.level[rows][:, None] + profile + mean
    if reader.lifts is not None:
        base += event_lifts(reader.lifts, reader.group[rows], step)
    return base, lift, size


def event_lifts(lifts: Floats, group: Ints, step: Ints) -> Floats:
    """(request, ahead) log units that named events add; 0 beyond the calendar."""
    last = lifts.shape[1] - 1
    if step.min(initial=0) >= 0 and step.max(initial=0) <= last:
        return np.asarray(lifts[group[:, None], step])
    inside = (step >= 0) & (step <= last)
    return np.where(inside, lifts[group[:, None], np.clip(step, 0, last)], 0.0)


def grid(reader: Reader, offers: Offers, prices: Floats) -> DemandGrid:
    """Compute demand at candidate prices; see `curve.DemandGrid`.

    The nodes' curves intersect at the product's recent price, where its level is known best. Until the delivery, the
    weekend elasticity applies to the share of demand on weekends.
    """
    # Time is spent on the number of NumPy calls for a single price, on passes over the grid for a batch.
    parameters, rows, first = reader.parameters, parameter_rows(reader, offers), _first_step(reader, offers)
    usual = _anchor(parameters.usual_price[rows], offers)
    base, lift, log_size = usual_price_demand(reader, offers, rows, first, usual)
    every, size = np.exp(base), np.exp(log_size)  # (request, ahead)
    plain = every
    waiting = None
    if len(rows) > 1 or offers.deliveries is not None:  # a single request uses all computed periods
        waiting = np.arange(base.shape[1]) < np.maximum(offers.periods, 1)[:, None]
        now, plain = plain[:, :1], plain * waiting
    else:
        now = plain[:, :1]
    total = plain.sum(axis=1, keepdims=True)  # (request, 1 or node)
    today, later = _weekend_shares(reader, offers, plain, total[:, 0])
    until = None if offers.deliveries is None else offers.deliveries[:, DELIVERY] - 1  # (request, node)
    if until is not None:
        total = np.take_along_axis(np.cumsum(every, axis=1), until, axis=1)
    gain = parameters.weekend[rows]
    recent = parameters.recent_price[rows]
    away = (np.log(prices / usual[:, None]) - recent[:, None]).astype(np.float32)  # (request, candidate)
    np.minimum(np.maximum(away, -POWER_LIMIT), POWER_LIMIT, out=away)
    power = curve_forms(away).take(FORM, axis=1)  # (request, node, candidate)
    power *= reader.answer[rows][:, :, None]
    power += (recent * parameters.elasticity[rows])[:, None, None]
    shift = reader.shift[np.minimum(np.maximum(first, 1), len(reader.shift) - 1)][:, :, None]
    of_today = (
        None if (gain * (today - later) == 0).all() else _effect(power * (1.0 + gain * today)[:, None, None], shift)
    )
    power *= (1.0 + gain * later)[:, None, None]
    effect = _effect(power, shift)
    drawn = np.flatnonzero(offers.is_promo)
    if len(drawn):
        listed = _anchor(parameters.list_price[rows], offers)[drawn]
        draw = offers.is_promo[drawn, None] * features.promo_effect_share(prices[drawn], listed[:, None])
        units = np.exp(base[drawn, :, None] + lift[drawn, :, None] * draw[:, None, :])  # (promotion, ahead, candidate)
        now, total = np.repeat(now, prices.shape[1], axis=1), np.repeat(total[:, :, None], prices.shape[1], axis=2)
        now[drawn] = units[:, 0]
        if until is not None:
            total[drawn] = np.take_along_axis(np.cumsum(units, axis=1), until[drawn, :, None], axis=1)
        else:
            if waiting is not None:
                units *= waiting[drawn, :, None]
            total[drawn, 0] = units.sum(axis=1)
    else:
        total = total[:, :, None]
    # Size of the sum, from its variance: Σ m² / r = M² / R.
    sum_of_squares = np.maximum((plain * plain / size).sum(axis=1), 1e-12)
    return DemandGrid(
        first=now[:, None, :] * (effect if of_today is None else of_today),
        until=total * effect,
        first_size=size[:, 0],
        until_size=plain.sum(axis=1) ** 2 / sum_of_squares,
        weight=WEIGHT,
        source=np.where(parameters.own[rows] & (offers.product >= 0), 0, 1),
        grade=parameters.grade[rows],
        unit=parameters.unit[rows],
    )


def _effect(power: Floats, shift: Floats) -> Floats:
    """Factor of price and node on units at usual price; modifies `power`."""
    power += shift
    np.maximum(power, -POWER_LIMIT, out=power)
    np.minimum(power, POWER_LIMIT, out=power)
    return np.exp(power, out=power)


def _weekend_shares(reader: Reader, offers: Offers, plain: Floats, total: Floats) -> tuple[Floats, Floats]:
    """(request,) 1.0 if the requested day is on a weekend, and the share of demand until the delivery on weekends."""
    if reader.period == "week":
        return np.zeros(len(plain), np.float32), np.zeros(len(plain), np.float32)
    days = offers.date.astype("datetime64[D]", copy=False).view(np.int64)
    weekend = ((days[:, None] + np.arange(3, 3 + plain.shape[1])) % 7 >= features.SATURDAY).astype(np.float32)
    return weekend[:, 0], ((plain * weekend).sum(axis=1) / np.maximum(total, 1e-12)).astype(np.float32)


def _anchor(price: Floats, offers: Offers) -> Floats:
    """(request,) the model's own price; the request's list price where it has none."""
    return np.where(np.isfinite(price), price, offers.list_price)


def _first_step(reader: Reader, offers: Offers) -> Ints:
    """(request,) periods from the state's date to the requested one."""
    days: Ints = offers.date.astype("datetime64[D]", copy=False).view(np.int64) - reader.first_day
    return days if reader.period == "day" else days // STEP_DAYS[reader.period]


def _calendar_part(settings: ForecastSettings, step: Ints) -> tuple[Floats, Ints]:
    """Hidden-layer input from the calendar at steps (…), and the column of the profile."""
    dates = settings.start + (step * STEP_DAYS[settings.period]).astype("timedelta64[D]")
    window = step[..., None] + np.arange(-1, 3)
    inside = (window >= 0) & (window < len(settings.holidays))
    holiday = np.where(inside, settings.holidays[np.clip(window, 0, len(settings.holidays) - 1)], 0.0)
    known = features.known_features(
        dates,
        holiday=holiday.astype(np.float32),
        gap=np.zeros(step.shape, np.float32),
        gap_known=np.zeros(step.shape, np.float32),
        step=np.clip(step, 1, settings.horizon),
    )
    weekday = features.weekdays(dates.reshape(-1), period=settings.period).reshape(step.shape)
    return (known @ settings.weights["from_known/kernel"][:PROFILE_ROW]).astype(np.float32), weekday
