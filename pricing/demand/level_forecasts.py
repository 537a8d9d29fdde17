"""Compute each forecaster's level of every product over the horizon, the inputs of `combination`."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.data import features
from pricing.data.ewma import Norms, forecast_inputs
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand import booster, forecast
from pricing.demand.combination import FORECASTERS, Combination
from pricing.demand.curve import Offers
from pricing.demand.forecast import Reader
from pricing.demand.state import Encoded

CHUNK = 5000  # products computed at a time
FIRST: dict[Period, int] = {"day": 7, "week": 2}  # first periods ahead, over which promotion lift and size are averaged


class LevelForecasts(NamedTuple):
    """Forecasts of a model's forecasters.

    Attributes:
        paths: (forecaster, product, horizon) log factor on level and profile, in the order of
            `combination.FORECASTERS`.
        lift: (product,) log units of a full promotion in the first periods.
        log_size: (product,) log size of the negative binomial in the first periods.
    """

    paths: Floats
    lift: Floats
    log_size: Floats


def forecast_levels(
    reader: Reader, *, encoded: Encoded, norms: Norms, category: Ints, combination: Combination
) -> LevelForecasts:
    """Compute each forecaster's level under the covariates known at the states' date.

    These are the calendar's holidays and named events, no promotion, and the competitor's last price. Deviations in a
    request are modelled by the network for all forecasters alike.

    Args:
        reader: Of the model; its `factor` and `narrow` are not used.
        encoded: The states, and the rows since the checkpoint.
        norms: The products' scales.
        category: (product,) row of the category.
        combination: The trees.
    """
    steps = np.arange(1, reader.horizon + 1)
    plain = replace(reader, factor=np.zeros_like(reader.factor), narrow=np.zeros_like(reader.narrow))
    level, profile, summary, _ = forecast_inputs(encoded.state.memory, norms=norms)
    weekday, first = reader.weekday[steps], FIRST[reader.period]
    network = np.empty((len(level), len(steps)), np.float32)
    lift, log_size = np.empty(len(level), np.float32), np.empty(len(level), np.float32)
    gap = features.competitor_gap(encoded.tail.comp_price[:, -1], norms.usual_price)
    for begin in range(0, len(level), CHUNK):
        rows = np.arange(begin, min(begin + CHUNK, len(level)))
        ordinary = _ordinary(plain, encoded, category, rows)
        base, drawn, size = forecast.usual_price_demand(plain, ordinary, rows, np.ones_like(rows), _usual(reader, rows))
        if reader.lifts is not None:  # common to all forecasters
            base = base - forecast.event_lifts(reader.lifts, reader.group[rows], np.broadcast_to(steps, base.shape))
        network[rows] = base - reader.parameters.level[rows][:, None] - profile[rows][:, weekday]
        lift[rows], log_size[rows] = drawn[:, :first].mean(axis=1), size[:, :first].mean(axis=1)
    paths = np.zeros((len(FORECASTERS), *network.shape), np.float32)
    paths[FORECASTERS.index("network")] = network
    if combination.booster.size:
        recent = _recent(encoded.tail, norms)
        text = combination.booster.tobytes()
        for begin in range(0, len(level), CHUNK):
            rows = np.arange(begin, min(begin + CHUNK, len(level)))
            read = _read(reader, rows, level=level, profile=profile, summary=summary, recent=recent, gap=gap)
            read = replace(read, category=np.repeat(category[rows], len(steps)))
            paths[FORECASTERS.index("booster"), rows] = booster.predict_booster(
                text, read, period=reader.period
            ).reshape(len(rows), -1)
    return LevelForecasts(paths, lift, log_size)


def _ordinary(reader: Reader, encoded: Encoded, category: Ints, rows: Ints) -> Offers:
    """Default covariates of the forecast periods."""
    count = len(rows)
    date = reader.start + np.timedelta64(STEP_DAYS[reader.period], "D")
    return Offers(
        product=rows,
        category=category[rows],
        date=np.full(count, date.astype("datetime64[D]")),
        list_price=reader.parameters.list_price[rows],
        comp_price=encoded.tail.comp_price[rows, -1],
        is_promo=np.zeros(count),
        is_holiday=np.full(count, reader.holidays[1]),
        periods=np.full(count, reader.horizon),
    )


def _usual(reader: Reader, rows: Ints) -> Floats:
    usual, listed = reader.parameters.usual_price[rows], reader.parameters.list_price[rows]
    return np.where(np.isfinite(usual), usual, listed)


def _recent(tail: Panel, norms: Norms) -> Floats:
    """(product, reach) restated units of the last periods, NaN where demand is unknown."""
    reach = min(booster.REACH[tail.period], len(tail.dates))
    columns = features.restated_columns(tail, norms)
    known = tail.present & (tail.censored == 0)
    return np.where(known, columns["restated"], np.nan)[:, -reach:]


def _read(
    reader: Reader,
    rows: Ints,
    *,
    level: Floats,
    profile: Floats,
    summary: Floats,
    recent: Floats,
    gap: tuple[Floats, Floats],
) -> booster.TreeInputs:
    """Build the trees' inputs for some products and every step; (row × step,)."""
    steps = np.arange(1, reader.horizon + 1)
    days = STEP_DAYS[reader.period]
    window = np.minimum(steps[:, None] + np.arange(-1, 3), len(reader.holidays) - 1)
    shape = (len(rows), len(steps))
    common = features.known_features(
        np.broadcast_to(reader.start + (steps * days).astype("timedelta64[D]"), shape),
        holiday=np.broadcast_to(reader.holidays[window], (*shape, 4)),
        gap=np.broadcast_to(gap[0][rows, None], shape),
        gap_known=np.broadcast_to(gap[1][rows, None], shape),
        step=np.ones(shape, np.float32),
    )
    count = len(steps)
    weekday = reader.weekday[steps]
    return booster.TreeInputs(
        level=np.repeat(level[rows], count),
        profile=profile[rows][:, weekday].ravel(),
        summary=np.repeat(summary[rows], count, axis=0),
        recent=np.repeat(recent[rows], count, axis=0),
        step=np.tile(steps, len(rows)),
        common=common.reshape(len(rows) * count, -1),
        weekday=np.tile(weekday, len(rows)),
        category=np.zeros(len(rows) * count, np.int64),
    )
