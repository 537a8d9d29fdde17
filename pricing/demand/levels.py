"""Compute every forecaster's level of every row over the periods to come, in batches. NumPy only.

Rows are products, then categories, then the unknown category.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.data import features
from pricing.data.ewma import Norms, ewma_features, smoothed_price
from pricing.data.panel import STEP_DAYS, Period
from pricing.demand import trees
from pricing.demand.ensemble import FORECASTERS, Combination
from pricing.demand.forward_pass import Weights, heads, prepare
from pricing.demand.state import Encoded

# Row of the network's `known` input: before it `features.known_features` lays out 8 waves, 4 holidays, gap, known and
# step, after it the summary follows.
PROFILE_ROW = 15
CHUNK = 5000  # rows computed at a time
FIRST: dict[Period, int] = {"day": 7, "week": 2}  # first periods ahead, over which the size is averaged


@dataclass(frozen=True)
class Priors:
    """Parameters of products without history: one entry a category, the last for an unknown category.

    `level` is in the category's own `unit`, its counting unit in the units of `units_sold`; `counted` tells whether
    that is a piece.
    """

    level: Floats
    unit: Floats
    elasticity: Floats
    elasticity_sd: Floats
    grade: Ints
    counted: Bools
    diversion: Floats  # share of what each loses, in money, that its category's others win; see `diversion`


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a model's forecasts of levels rest on."""

    category: Ints  # (product,) row of each product's category; one past the end where it is unknown
    period: Period
    horizon: int  # periods after the state's date up to which the state is not stale
    weights: Weights  # the network's
    norms: Norms  # (product,) scales, elasticities among them
    priors: Priors  # parameters of products without history, by category
    holidays: Floats  # (period,) holiday flags from the state's date on
    combination: Combination
    encoded: Encoded

    def rival_usual(self) -> Floats:
        """(product,) the median of the competitor's prices since the checkpoint; NaN where there is none."""
        return row_median(self.encoded.tail.comp_price)


class RowParameters(NamedTuple):
    """What each row's forecast starts from."""

    unit: Floats  # (row,) counting unit, in the units of `units_sold`
    level: Floats  # (row,) log of units as in `units_sold`, at usual price
    profile: Floats  # (row, weekday) log factors
    summary: Floats  # (row, SUMMARY) slow features
    prepared: Floats  # (row, HIDDEN) the states' part of the hidden layer
    elasticity: Floats  # (row,) on ordinary days
    weekend: Floats  # (row,) relative change of it on weekends
    promotion: Floats  # (row,) log units that a full promotion adds
    recent_price: Floats  # (row,) smoothed log price over usual price


class NetworkForecast(NamedTuple):
    """The network's forecast from the period after the states on; the size is a mean over the first periods."""

    mean: Floats  # (row, period) log factor on level and profile, without promotion and named events
    log_size: Floats  # (row,) of the negative binomial


class LevelForecasts(NamedTuple):
    """Forecasts of a model's forecasters."""

    paths: Floats  # (forecaster, product, horizon) log factor on level and profile, as in `FORECASTERS`
    log_size: Floats  # (product,) as of `NetworkForecast`


def row_median(values: Floats) -> Floats:
    """(row,) medians of what is known in each row; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        median: Floats = np.nanmedian(values, axis=1)
    return median


def typical(values: Floats, category: Ints, *, count: int) -> Floats:
    """(count, …) category means of (product, …) values; the overall mean for a category without products."""
    everyone = values.mean(axis=0) if len(values) else np.zeros(values.shape[1:], values.dtype)
    rows = [values[category == c] for c in range(count)]
    return np.stack([row.mean(axis=0) if len(row) else everyone for row in rows])


def row_parameters(model: Learnt) -> RowParameters:
    """Gather the parameters of every row; a category's own are its prior's or its products' mean."""
    norms = model.norms
    priors = model.priors
    state = model.encoded.state
    level, profile, summary = ewma_features(state.memory, norms)
    count = len(priors.level)

    def stack(own: Floats, category: Floats | None = None) -> Floats:
        more = typical(own, model.category, count=count) if category is None else category
        return np.concatenate([own, more], dtype=np.float32)

    unit = np.concatenate([norms.unit, priors.unit]).astype(np.float64)
    return RowParameters(
        unit=unit,
        level=stack(level, np.log(np.maximum(priors.level, 1e-3))) + np.log(unit).astype(np.float32),
        profile=stack(profile),
        summary=stack(summary),
        prepared=stack(prepare(model.weights, state.hidden, model.category)),
        elasticity=stack(norms.elasticity, priors.elasticity),
        weekend=stack(norms.weekend),
        promotion=stack(norms.promotion),
        recent_price=stack(smoothed_price(state.memory), np.zeros(count)),
    )


def coming_dates(model: Learnt, periods: int) -> Days:
    """(period,) the dates after the states'."""
    steps = np.arange(1, periods + 1) * STEP_DAYS[model.period]
    return np.asarray(model.encoded.tail.dates[-1] + steps.astype("timedelta64[D]"))


def network_forecast(model: Learnt, parameters: RowParameters, *, periods: int) -> NetworkForecast:
    """Run the network's heads over the periods after the states, of every row."""
    kernel = model.weights["from_known/kernel"]
    count = len(parameters.level)
    weekday = features.weekdays(coming_dates(model, periods), period=model.period)
    own = parameters.prepared + parameters.summary @ kernel[PROFILE_ROW + 1 :]
    gap = np.concatenate([model.rival_usual() / model.norms.usual_price, np.full(len(model.priors.level), np.nan)])
    found = np.empty((2, count, periods), np.float32)
    step = np.minimum(np.arange(1, periods + 1), model.horizon)
    for begin in range(0, count, CHUNK):
        rows = slice(begin, begin + CHUNK)
        profile = parameters.profile[rows][:, weekday]
        hidden = _known(model, gap[rows], step=step) @ kernel[:PROFILE_ROW]
        hidden += own[rows][:, None] + profile[..., None] * kernel[PROFILE_ROW]
        found[:, rows] = heads(model.weights, hidden)
    return NetworkForecast(found[0], found[1][:, : FIRST[model.period]].mean(axis=1))


def _known(model: Learnt, gap: Floats, *, step: Ints) -> Floats:
    """(row, period, known) known covariates of the periods after the states.

    The periods past the horizon, which look-ahead repeats, have no holiday; the competitor is at his usual price.

    Args:
        model: The model.
        gap: (row,) that price over the product's usual one; NaN where either is unknown.
        step: (period,) periods after the cutoff.
    """
    shape = (len(gap), len(step))
    ahead = np.arange(1, len(step) + 1)[:, None]
    window = np.minimum(ahead + np.arange(-1, 3), len(model.holidays) - 1)
    holiday = np.where(ahead > model.horizon, np.float32(0.0), model.holidays[window])
    log_gap, gap_known = features.competitor_gap(gap, np.ones_like(gap))
    return features.known_features(
        np.broadcast_to(coming_dates(model, len(step)), shape),
        holiday=np.broadcast_to(holiday, (*shape, 4)),
        gap=np.broadcast_to(log_gap[:, None], shape),
        gap_known=np.broadcast_to(gap_known[:, None], shape),
        step=np.broadcast_to(step, shape),
    )


def forecast_levels(model: Learnt) -> LevelForecasts:
    """Compute each forecaster's level under the covariates known at the states' date.

    These are the calendar's holidays, no promotion, and the competitor's usual price; named events are common to all.
    """
    products = len(model.category)
    horizon = model.horizon
    network = network_forecast(model, row_parameters(model), periods=horizon)
    paths = np.zeros((len(FORECASTERS), products, horizon), np.float32)
    paths[FORECASTERS.index("network")] = network.mean[:products]
    if model.combination.booster.size:
        paths[FORECASTERS.index("booster")] = _tree_paths(model)
    return LevelForecasts(paths, network.log_size[:products])


def _tree_paths(model: Learnt) -> Floats:
    """(product, horizon) the trees' log factor on level and profile."""
    tail = model.encoded.tail
    horizon = model.horizon
    text = model.combination.booster.tobytes()
    level, profile, summary = ewma_features(model.encoded.state.memory, model.norms)
    weekday = features.weekdays(coming_dates(model, horizon), period=model.period)
    gap = model.rival_usual() / model.norms.usual_price
    units = features.restated_columns(tail, model.norms)["restated"]
    reach = min(trees.REACH[model.period], len(tail.dates))
    recent = np.where(tail.present & (tail.censored == 0), units, np.nan)[:, -reach:]
    paths = np.zeros((len(level), horizon), np.float32)
    for begin in range(0, len(level), CHUNK):
        rows = np.arange(begin, min(begin + CHUNK, len(level)))
        known = _known(model, gap[rows], step=np.ones(horizon, np.int64))
        inputs = trees.tree_features(
            period=model.period,
            level=np.repeat(level[rows], horizon),
            slow=np.column_stack(
                [
                    np.repeat(summary[rows], horizon, axis=0),
                    profile[rows][:, weekday].ravel(),
                    np.zeros((len(rows) * horizon, trees.OFFERED)),
                ]
            ),
            recent=np.repeat(recent[rows], horizon, axis=0),
            step=np.tile(np.arange(1, horizon + 1), len(rows)),
            common=known.reshape(len(rows) * horizon, -1),
            weekday=np.tile(weekday, len(rows)),
            category=np.repeat(model.category[rows], horizon),
        )
        paths[rows] = trees.predict_trees(text, inputs).reshape(len(rows), -1)
    return paths
