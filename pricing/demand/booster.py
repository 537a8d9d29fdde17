"""Gradient-boosted trees for future sales levels, and the direct LightGBM baseline. The only module using LightGBM.

Ke et al. (2017), "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 30. One direct global model:
the step is a feature, so that one set of trees forecasts every period of the horizon. Price and promotion are not
features but part of the offset, as for the network: trees model levels alone, and the price response is unchanged.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.data import features
from pricing.data.ewma import SIZE, demand_above
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand.combination import LIMIT
from pricing.errors import TrainingError

if TYPE_CHECKING:
    from pricing.demand.batches import FeatureTable


REACH: dict[Period, int] = {"day": 28, "week": 8}  # periods whose units are features; older ones are in the levels
MEANS = {"day": (7, 14, 28), "week": (2, 4, 8)}
SEASON = {"day": 7, "week": 1}
HISTORY = {"day": 455, "week": 65}  # periods back that trees are trained on: a year and a quarter
SAME = 4  # features of the last periods with the same weekday
RATIO = 20.0  # units are capped at this many times the expectation, and at least this many units
MOST_ROWS_AN_OUTCOME = 8  # more cutoffs of one product-period add hardly any information
_ROUNDS, _LEAST_OUTCOMES = 120, 500
_LEAST_IN_LEAF = 20  # outcomes
_SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # OpenMP threads spin while waiting: on a busy machine two are many times slower than one
    "verbosity": -1,
}


@dataclass(frozen=True)
class TreeInputs:
    """Inputs of the trees: a product at a cutoff and a period to forecast in each row.

    Attributes:
        level: (row,) log units a period at usual price, known at the cutoff.
        profile: (row,) log factor of the forecast period's weekday.
        summary: (row, SUMMARY) slow features known at the cutoff.
        recent: (row, reach) restated units of the last periods up to the cutoff, newest last; NaN where unknown.
        step: (row,) periods from the cutoff, at least 1.
        common: (row, 15) `features.known_features` of the forecast period.
        weekday: (row,) its column of the profile.
        category: (row,) the product's category.
    """

    level: Floats
    profile: Floats
    summary: Floats
    recent: Floats
    step: Ints
    common: Floats
    weekday: Ints
    category: Ints


def columns(read: TreeInputs, *, period: Period) -> Floats:
    """(row, feature) the trees' features; units enter as log ratios to the level, comparable across product sizes."""
    season, reach = SEASON[period], read.recent.shape[1]
    rows = np.arange(len(read.step))
    usual = np.exp(read.level)
    first = -(-read.step // season) * season - read.step  # periods back from the cutoff to the same weekday
    same = np.full((len(rows), SAME), np.nan)
    for number in range(SAME):
        back = first + number * season
        known = back < reach
        same[:, number] = np.where(known, read.recent[rows, np.maximum(reach - 1 - back, 0)], np.nan)
    there = np.isfinite(read.recent)
    sold = np.where(there, read.recent, 0.0)
    means = []
    for length in MEANS[period]:
        number = there[:, -length:].sum(axis=1)
        mean = sold[:, -length:].sum(axis=1) / np.maximum(number, 1)
        means.append(np.where(number > 0, np.log((mean + 0.25) / (usual + 0.25)), np.nan))
    parts = [
        read.summary,
        read.profile[:, None],
        np.log((same + 0.5) / (usual + 0.5)[:, None]),
        np.stack(means, axis=-1),
        read.common[:, :-1],
        np.stack([read.step, read.weekday, read.category], axis=-1),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def train_booster(
    table: "FeatureTable", *, lift: Floats, period: Period, horizon: int, reach: int, rows: int, seed: int
) -> bytes:
    """Train trees on random rows of a panel's last 15 months; sold-out rows get their expected demand.

    Args:
        table: The panel's table.
        lift: (product,) log units of a full promotion, from the network.
        period: The grain.
        horizon: Periods forecast.
        reach: Periods of recent units used as features, at most REACH: as many as a version stores.
        rows: Largest number of rows.
        seed: Of the row sample and the trees.

    Returns:
        The trees in LightGBM's text format; empty if there are too few product-periods.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    lightgbm = _library()
    rng = np.random.default_rng([seed, horizon])
    products, periods = table.seen.shape
    first = max(periods - HISTORY[period], REACH[period] // 2)
    some = rng.integers(0, products, 2 * rows)
    cutoff = rng.integers(min(first, periods - 2), periods - 1, 2 * rows)
    step = rng.integers(1, horizon + 1, 2 * rows)
    usable = (cutoff + step < periods) & (cutoff > table.begin[some] + SEASON[period])
    at = np.minimum(cutoff + step, periods - 1)
    usable &= table.seen[some, at] > 0
    outcomes = len(np.unique(some[usable] * periods + at[usable]))
    if outcomes < _LEAST_OUTCOMES:
        return b""
    rows = min(rows, MOST_ROWS_AN_OUTCOME * outcomes)
    some, cutoff, step = some[usable][:rows], cutoff[usable][:rows], step[usable][:rows]
    effect = table.offset + table.draw * lift[:, None]
    read = _read(table, restated(table), some, cutoff, step, reach=min(reach, REACH[period]))
    at = cutoff + step
    expected = np.maximum(np.exp(read.level + read.profile + effect[some, at]), 1e-3)
    units = table.units[some, at]
    units = np.where(table.censored[some, at] > 0, demand_above(units, mean=expected), units)
    inputs = columns(read, period=period)
    data = lightgbm.Dataset(
        inputs,
        np.minimum(units, RATIO * np.maximum(expected, 1.0)) / expected,
        weight=expected / (1.0 + expected / SIZE),
        categorical_feature=[inputs.shape[1] - 1],
    )
    leaf = _least_in_leaf(len(some), outcomes, parts=500)
    settings = _SETTINGS | {"objective": "poisson", "lambda_l2": 5.0, "min_data_in_leaf": leaf, "seed": seed}
    trees = lightgbm.train(settings, data, num_boost_round=_ROUNDS)
    text: str = trees.model_to_string()
    return text.encode()


def _least_in_leaf(rows: int, outcomes: int, *, parts: int) -> int:
    """Least rows in a leaf: rows / `parts`, and enough to cover _LEAST_IN_LEAF outcomes (each is in several rows)."""
    return max(_LEAST_IN_LEAF * rows // outcomes, rows // parts, _LEAST_IN_LEAF)


def restated(table: "FeatureTable") -> Floats:
    """(product, period) units at usual price, without promotion and events; NaN where demand is unknown."""
    known = (table.seen > 0) & (table.censored == 0)
    return np.where(known, table.restated, np.nan)


def predict_booster(text: bytes, read: TreeInputs, *, period: Period) -> Floats:
    """(row,) predicted log factor on level and profile; 0 without trees.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    if not text:
        return np.zeros(len(read.step))
    trees = _library().Booster(model_str=text.decode())
    factor = np.asarray(trees.predict(columns(read, period=period)))
    moved: Floats = np.clip(np.log(np.maximum(factor, 1e-9)), -LIMIT, LIMIT)
    return moved


def direct_forecast(past: Panel, known: Panel, *, rows: int, seed: int) -> Floats | None:
    """(product, step) units forecast by LightGBM alone: the baseline that a practitioner would try first.

    Recent units, calendar, price, promotion and competitor are features and the absolute error is minimised, so that
    forecasts are medians. Its price response is unusable: trees are constant outside the observed prices.

    Args:
        past: The history up to the cutoff.
        known: The same products in the periods to forecast, of which all but units and stock is read; it may begin
            some periods after the cutoff.
        rows: Largest number of rows to train on.
        seed: Of the row sample and the trees.

    Returns:
        None if there are too few product-periods or nothing was sold.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    lightgbm = _library()
    period = past.period
    days = np.timedelta64(STEP_DAYS[period], "D")
    skip = int((known.dates[0] - past.dates[-1]) // days) - 1
    horizon = skip + len(known.dates)
    sales = _TrainingSales.of(past, known, skip=skip)
    rng = np.random.default_rng([seed, horizon])
    products, periods = past.present.shape
    some = rng.integers(0, products, 2 * rows)
    cutoff = rng.integers(min(REACH[period] // 2, periods - 2), periods - 1, 2 * rows)
    step = rng.integers(1, horizon + 1, 2 * rows)
    at = np.minimum(cutoff + step, periods - 1)
    usable = (cutoff + step < periods) & past.present[some, at] & ~past.censored[some, at]
    outcomes = len(np.unique(some[usable] * periods + at[usable]))
    if outcomes < _LEAST_OUTCOMES or not np.nansum(sales.units) > 0:
        return None
    rows = min(rows, MOST_ROWS_AN_OUTCOME * outcomes)
    some, cutoff, step = some[usable][:rows], cutoff[usable][:rows], step[usable][:rows]
    inputs, level = sales.features(some, cutoff, step)
    data = lightgbm.Dataset(inputs, sales.units[some, cutoff + step] / level, weight=level)
    leaf = _least_in_leaf(len(some), outcomes, parts=1000)
    settings = _SETTINGS | {"objective": "l1", "min_data_in_leaf": leaf, "seed": seed}
    trees = lightgbm.train(settings, data, num_boost_round=2 * _ROUNDS)
    who = np.repeat(np.arange(products), len(known.dates))
    ahead = np.tile(np.arange(skip + 1, horizon + 1), products)
    inputs, level = sales.features(who, np.full(len(who), periods - 1), ahead)
    forecast = np.maximum(np.asarray(trees.predict(inputs)), 0.0) * level
    return np.asarray(forecast.reshape(products, -1))


@dataclass(frozen=True)
class _TrainingSales:
    """Arrays for `direct_forecast`, (product, period) over the history, a gap and the periods to forecast."""

    period: Period
    units: Floats
    log_price: Floats
    promo: Floats
    common: Floats
    weekday: Ints
    category: Ints

    @classmethod
    def of(cls, past: Panel, known: Panel, *, skip: int) -> "_TrainingSales":
        def joined(name: str) -> Floats:
            gap = np.full((len(past.product_ids), skip), np.nan)
            return np.concatenate([getattr(past, name), gap, getattr(known, name)], axis=1)

        price, comp = joined("price"), joined("comp_price")
        with np.errstate(invalid="ignore"):
            gaps = features.competitor_gap(comp, price)
        days = np.timedelta64(STEP_DAYS[past.period], "D")
        dates = past.dates[0] + np.arange(price.shape[1]) * days
        common = features.known_features(
            np.broadcast_to(dates, price.shape),
            holiday=features.holiday_window(np.nan_to_num(joined("is_holiday"))),
            gap=gaps[0],
            gap_known=gaps[1],
            step=np.ones(price.shape, np.float32),
        )
        return cls(
            period=past.period,
            units=np.where(past.present & ~past.censored, past.units_sold, np.nan).astype(np.float64),
            log_price=np.log(np.where(price > 0, price, np.nan)),
            promo=joined("is_promo"),
            common=common,
            weekday=features.weekdays(dates, period=past.period),
            category=np.unique(past.categories, return_inverse=True)[1],
        )

    def features(self, rows: Ints, cutoff: Ints, step: Ints) -> tuple[Floats, Floats]:
        """(row, feature) features, and (row,) the mean of recent units that predictions are multiplied by."""
        back = cutoff[:, None] + np.arange(1 - REACH[self.period], 1)
        recent = np.where(back >= 0, self.units[rows[:, None], np.maximum(back, 0)], np.nan)
        there = np.isfinite(recent)
        mean = np.where(there, recent, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        least = np.nanmean(self.units) * 1e-2
        level = np.maximum(mean, least)
        at = cutoff + step
        read = TreeInputs(
            level=np.zeros(len(rows)),
            profile=np.zeros(len(rows)),
            summary=np.zeros((len(rows), 0)),
            recent=recent / level[:, None],
            step=step,
            common=self.common[rows, at],
            weekday=self.weekday[at],
            category=self.category[rows],
        )
        now = self.log_price[rows, cutoff]
        own = [self.log_price[rows, at] - now, self.log_price[rows, at], self.promo[rows, at], np.log(level / least)]
        return np.concatenate([columns(read, period=self.period), np.stack(own, axis=-1)], axis=-1), level


def _read(table: "FeatureTable", units: Floats, rows: Ints, cutoff: Ints, step: Ints, *, reach: int) -> TreeInputs:
    before = cutoff[:, None] + np.arange(1 - reach, 1)  # (row, reach)
    recent = np.where(before >= 0, units[rows[:, None], np.maximum(before, 0)], np.nan)
    at = cutoff + step
    return TreeInputs(
        level=table.past.level[rows, cutoff],
        profile=table.past.profile[rows, cutoff, table.weekday[at]],
        summary=table.past.summary[rows, cutoff],
        recent=recent,
        step=step,
        common=table.common[rows, at],
        weekday=table.weekday[at],
        category=table.category[rows],
    )


def _library() -> Any:
    try:
        import lightgbm  # noqa: PLC0415 - only training and refreshing need it
    except (ImportError, OSError) as error:  # OSError: OpenMP's library is not installed
        raise TrainingError(
            f"LightGBM cannot be loaded ({error}): install it with its OpenMP library (Debian, Ubuntu: apt-get install "
            "libgomp1), or set demand.booster_rows to 0 to go without"
        ) from error
    return lightgbm
