"""Compute every forecaster's level of every product over the periods to come, in batches. NumPy only."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.data import features
from pricing.data.ewma import EwmaState, Norms, forecast_inputs
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand import booster, forward
from pricing.demand.combination import FORECASTERS, Combination
from pricing.demand.forward import Weights
from pricing.demand.product_parameters import ProductParameters

# Row of the network's `known` input: before it `features.known_features` lays out 8 waves, 4 holidays, gap, known and
# step, after it the summary follows.
PROFILE_ROW = 15
CHUNK = 5000  # rows computed at a time
FIRST: dict[Period, int] = {"day": 7, "week": 2}  # first periods ahead, over which promotion lift and size are averaged


@dataclass(frozen=True)
class Reader:
    """What the network's forecasts of all rows rest on: products, then categories, then the unknown category.

    Attributes:
        weights: The network's.
        parameters: Of every row.
        period: The grain.
        start: The last period encoded in the states.
        horizon: Largest step that the network was trained for; later steps are clipped to it.
        holidays: (period,) holiday flags from `start` on.
        gap: (row,) the competitor's usual price over the product's; NaN where either is unknown.
    """

    weights: Weights
    parameters: ProductParameters
    period: Period
    start: np.datetime64
    horizon: int
    holidays: Floats
    gap: Floats

    def dates(self, periods: int) -> np.ndarray:
        """The periods after `start`."""
        steps = np.arange(1, periods + 1) * STEP_DAYS[self.period]
        return self.start + steps.astype("timedelta64[D]")

    def known(self, periods: int, *, rows: slice, step: Ints) -> Floats:
        """(row, period, known) known covariates of the periods after `start`.

        The periods past the horizon, which look-ahead repeats, have no holiday; the competitor is at his usual price.

        Args:
            periods: How many.
            rows: Of which.
            step: (period,) periods after the cutoff.
        """
        gap = self.gap[rows]
        dates, shape = self.dates(periods), (len(gap), periods)
        ahead = np.arange(1, periods + 1)[:, None]
        window = np.minimum(ahead + np.arange(-1, 3), len(self.holidays) - 1)
        holiday = np.where(ahead > self.horizon, np.float32(0.0), self.holidays[window])
        log_gap, gap_known = features.competitor_gap(gap, np.ones_like(gap))
        return features.known_features(
            np.broadcast_to(dates, shape),
            holiday=np.broadcast_to(holiday, (*shape, 4)),
            gap=np.broadcast_to(log_gap[:, None], shape),
            gap_known=np.broadcast_to(gap_known[:, None], shape),
            step=np.broadcast_to(step, shape),
        )


class NetworkForecast(NamedTuple):
    """The network's forecast of some rows; (row, period) each, from the period after the states on.

    Attributes:
        mean: Log factor on level and profile, without promotion and named events.
        lift: Log units that a full promotion adds.
        log_size: Log size of the negative binomial.
    """

    mean: Floats
    lift: Floats
    log_size: Floats


def network_forecast(reader: Reader, *, periods: int) -> NetworkForecast:
    """Run the network's heads over the periods after the states.

    Args:
        reader: What the forecasts rest on.
        periods: How many, at least one.
    """
    parameters, kernel = reader.parameters, reader.weights["from_known/kernel"]
    weekday = features.weekdays(reader.dates(periods), period=reader.period)
    own = parameters.prepared + parameters.summary @ kernel[PROFILE_ROW + 1 :]
    found = np.empty((3, len(own), periods), np.float32)
    step = np.minimum(np.arange(1, periods + 1), reader.horizon)
    for begin in range(0, len(own), CHUNK):
        rows = slice(begin, begin + CHUNK)
        profile = parameters.profile[rows][:, weekday]
        hidden = reader.known(periods, rows=rows, step=step) @ kernel[:PROFILE_ROW]
        hidden += own[rows][:, None] + profile[..., None] * kernel[PROFILE_ROW]
        found[:, rows] = forward.heads(reader.weights, hidden)
    return NetworkForecast(*found)


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
    reader: Reader,
    *,
    memory: EwmaState,
    tail: Panel,
    norms: Norms,
    category: Ints,
    combination: Combination,
) -> LevelForecasts:
    """Compute each forecaster's level under the covariates known at the states' date.

    These are the calendar's holidays, no promotion, and the competitor's usual price; named events are common to all.

    Args:
        reader: Of the model.
        memory: The features' state.
        tail: The rows since the checkpoint.
        norms: The products' scales.
        category: (product,) row of the category.
        combination: The trees.
    """
    products, horizon, first = len(category), reader.horizon, FIRST[reader.period]
    level, profile, summary, _ = forecast_inputs(memory, norms=norms)
    weekday = features.weekdays(reader.dates(horizon), period=reader.period)
    network = network_forecast(reader, periods=horizon)
    paths = np.zeros((len(FORECASTERS), products, horizon), np.float32)
    paths[FORECASTERS.index("network")] = network.mean[:products]
    if combination.booster.size:
        recent, text = _recent(tail, norms), combination.booster.tobytes()
        for begin in range(0, products, CHUNK):
            rows = np.arange(begin, min(begin + CHUNK, products))
            known = reader.known(horizon, rows=slice(begin, begin + len(rows)), step=np.ones(horizon, np.int64))
            read = booster.TreeInputs(
                level=np.repeat(level[rows], horizon),
                profile=profile[rows][:, weekday].ravel(),
                summary=np.repeat(summary[rows], horizon, axis=0),
                recent=np.repeat(recent[rows], horizon, axis=0),
                step=np.tile(np.arange(1, horizon + 1), len(rows)),
                common=known.reshape(len(rows) * horizon, -1),
                weekday=np.tile(weekday, len(rows)),
                category=np.repeat(category[rows], horizon),
            )
            paths[FORECASTERS.index("booster"), rows] = booster.predict_booster(
                text, read, period=reader.period
            ).reshape(len(rows), -1)
    lift, log_size = (values[:products, :first].mean(axis=1) for values in network[1:])
    return LevelForecasts(paths, lift, log_size)


def _recent(tail: Panel, norms: Norms) -> Floats:
    """(product, reach) restated units of the last periods, NaN where demand is unknown."""
    reach = min(booster.REACH[tail.period], len(tail.dates))
    columns = features.restated_columns(tail, norms)
    known = tail.present & (tail.censored == 0)
    return np.where(known, columns["restated"], np.nan)[:, -reach:]
