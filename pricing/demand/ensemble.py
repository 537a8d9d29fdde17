"""Combine three forecasters of the sales level: the network, the EWMA level and boosted trees.

Which is best depends on the length and regularity of the history and is not known beforehand; a combination is rarely
far from its best part (Bates and Granger 1969, doi:10.1057/jors.1969.103). The response to price and promotion is the
same in all three: it is part of the trees' offset, as of the network's, and no feature.

Trees are LightGBM's (Ke et al. 2017, NeurIPS 30), one set for all products and steps; no other module loads it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.data import features
from pricing.data.ewma import SIZE, demand_above
from pricing.data.panel import Panel, Period
from pricing.demand.batches import FeatureTable, common_features
from pricing.errors import TrainingError

FORECASTERS = ("network", "level", "booster")  # columns of the evaluation frame
CLASSES = ("low", "mid", "high")  # thirds of the products by volume; one more row: unknown volume
UNKNOWN_VOLUME = len(CLASSES)
LIMIT = 3.0  # log units by which a forecaster may change a level
LEAST_NOISE = 0.2  # least share of the over-dispersion that is a period's own noise and not the level's error
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
class Combination:
    """Weights and corrections that combine the three forecasters."""

    weights: Floats  # (class, forecaster) of the volume classes and of products of unknown volume; each row sums to 1
    dispersion: Floats  # (class,) log factor on the negative binomial's size, so that it covers all of the error
    narrow: Floats  # (product,) log factor on the size that adds `dispersion`, less the level's error (`own_noise`)
    volume: Ints  # (product,) row of `weights` and `dispersion`
    booster: NDArray[np.uint8]  # (byte,) the trees as text; empty without any
    # (product, horizon + 1) log units to add to the network's, by steps after the state's date; column 0 repeats 1
    factor: Floats


def volume_rows(mean_units: Floats) -> NDArray[np.int8]:
    """(product,) third of the products by mean units, as a row of `Combination.weights`; NaN counts as 0.

    The thirds are equally large; ties at a boundary are split by the order of the products.
    """
    rank = np.argsort(np.argsort(np.nan_to_num(mean_units), kind="stable"), kind="stable")
    return np.minimum(rank * len(CLASSES) // max(len(mean_units), 1), len(CLASSES) - 1).astype(np.int8)


def volume_of(panel: Panel) -> Ints:
    """(product,) thirds by mean units; see `volume_rows`."""
    sold = np.where(panel.present, panel.units_sold, 0.0).sum(axis=1)
    return volume_rows(sold / np.maximum(panel.present.sum(axis=1), 1))


def prior_weights(periods: int, *, context: int, trees: bool = True) -> Floats:
    """(class, forecaster) weights before any fold is scored: equal, but none for trees where there are none.

    With fewer `periods` of history than the `context` that it reads, the network counts for less in proportion.
    """
    own = np.array([min(periods / context, 1.0), 1.0, float(trees)])
    return np.tile(own / own.sum(), (len(CLASSES) + 1, 1))


def network_only(products: int) -> Combination:
    """Return a combination with all weight on the network."""
    weights = np.zeros((len(CLASSES) + 1, len(FORECASTERS)))
    weights[:, 0] = 1.0
    return Combination(
        weights=weights,
        dispersion=np.zeros(len(weights)),
        narrow=np.zeros(products, np.float32),
        volume=np.full(products, UNKNOWN_VOLUME, np.int8),
        booster=np.zeros(0, np.uint8),
        factor=np.zeros((products, 2), np.float32),
    )


def extend_combination(combination: Combination, rows: Ints) -> Combination:
    """Return it with products `rows`, (product,) in its order; −1 stands for a new one of unknown volume."""
    new, at = rows < 0, np.maximum(rows, 0)
    return replace(
        combination,
        narrow=np.where(new, 0.0, combination.narrow[at]).astype(np.float32),
        volume=np.where(new, UNKNOWN_VOLUME, combination.volume[at]).astype(np.int8),
        factor=np.where(new[:, None], 0.0, combination.factor[at]).astype(np.float32),
    )


def own_noise(log_size: Floats, *, dispersion: Floats, level_error: tuple[float, float], step: float) -> Floats:
    """(product,) log factor on the size that leaves only a period's own noise.

    Var = m + m²/r includes the level's error, m² (e^(a² + b² step) − 1), which decisions treat separately since a
    product's periods share it. The network's `log_size` and the folds' `dispersion`, (product,) each, add up to log r;
    `level_error` is a and b.
    """
    size = np.exp(log_size + dispersion)
    shared = np.exp(level_error[0] ** 2 + level_error[1] ** 2 * step) - 1.0
    rest = np.maximum(1.0 / size - shared, LEAST_NOISE / size)
    return np.asarray(-np.log(rest) - log_size, np.float32)


def bounded(paths: Floats) -> Floats:
    """Clip log factors on the level to ±LIMIT: a forecaster may diverge, as where every row sold out."""
    return np.clip(paths, -LIMIT, LIMIT)


def combined_factor(paths: Floats, *, weights: Floats, volume: Ints) -> Floats:
    """(product, horizon + 1) `Combination.factor`, from (forecaster, product, horizon) `LevelForecasts.paths`."""
    shares = weights[volume].T[:, :, None]  # (forecaster, product, 1)
    factor = np.log((shares * np.exp(bounded(paths))).sum(axis=0)) - paths[0]
    return np.concatenate([factor[:, :1], factor], axis=1).astype(np.float32)


def tree_features(
    *,
    period: Period,
    level: Floats,
    slow: Floats,
    recent: Floats,
    step: Ints,
    common: Floats,
    weekday: Ints,
    category: Ints,
) -> Floats:
    """(row, feature) the trees' features of a product at a cutoff and a period to forecast, in each row.

    Units enter as log ratios to the level, comparable across product sizes.

    Args:
        period: The grain.
        level: (row,) log units a period at usual price, known at the cutoff.
        slow: (row, SUMMARY + 1) slow features known at the cutoff, and the log factor of the forecast period's weekday.
        recent: (row, reach) restated units of the last periods up to the cutoff, newest last; NaN where unknown.
        step: (row,) periods from the cutoff, at least 1.
        common: (row, 15) `features.known_features` of the forecast period.
        weekday: (row,) its column of the profile.
        category: (row,) the product's category.
    """
    season, reach = SEASON[period], recent.shape[1]
    usual = np.exp(level)
    first = -(-step // season) * season - step  # periods back from the cutoff to the same weekday
    back = first[:, None] + season * np.arange(SAME)
    newest = recent.astype(np.float64)[np.arange(len(step))[:, None], np.maximum(reach - 1 - back, 0)]
    same = np.where(back < reach, newest, np.nan)
    there = np.isfinite(recent)
    sold = np.where(there, recent, 0.0)
    means = []
    for length in MEANS[period]:
        number = there[:, -length:].sum(axis=1)
        mean = sold[:, -length:].sum(axis=1) / np.maximum(number, 1)
        means.append(np.where(number > 0, np.log((mean + 0.25) / (usual + 0.25)), np.nan))
    parts = [
        slow,
        np.log((same + 0.5) / (usual + 0.5)[:, None]),
        np.stack(means, axis=-1),
        common[:, :-1],
        np.stack([step, weekday, category], axis=-1),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def train_trees(
    table: FeatureTable, *, lift: Floats, period: Period, horizon: int, reach: int, rows: int, seed: int
) -> bytes:
    """Train trees on random rows of a panel's last 15 months; sold-out rows get their expected demand.

    Price and promotion, with the network's (product,) `lift`, are in the offset. Features read as many of the last
    periods as a version stores, `reach`, at most REACH.

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
    at = np.minimum(cutoff + step, periods - 1)
    usable = (cutoff + step < periods) & (cutoff > table.begin[some] + SEASON[period]) & (table.seen[some, at] > 0)
    outcomes = len(np.unique(some[usable] * periods + at[usable]))
    if outcomes < _LEAST_OUTCOMES:
        return b""
    rows = min(rows, MOST_ROWS_AN_OUTCOME * outcomes)
    some, cutoff, step = some[usable][:rows], cutoff[usable][:rows], step[usable][:rows]
    at, effect = cutoff + step, table.offset + table.draw * lift[:, None]
    level, profile = table.past.level[some, cutoff], table.past.profile[some, cutoff, table.weekday[at]]
    expected = np.maximum(np.exp(level + profile + effect[some, at]), 1e-3)
    units = table.units[some, at]
    units = np.where(table.censored[some, at] > 0, demand_above(units, mean=expected), units)
    restated = np.where((table.seen > 0) & (table.censored == 0), table.restated, np.nan)
    inputs = tree_features(
        period=period,
        level=level,
        slow=np.column_stack([table.past.summary[some, cutoff], profile]),
        recent=_recent(restated, some, cutoff, reach=min(reach, REACH[period])),
        step=step,
        common=table.common[some, at],
        weekday=table.weekday[at],
        category=table.category[some],
    )
    data = lightgbm.Dataset(
        inputs,
        np.minimum(units, RATIO * np.maximum(expected, 1.0)) / expected,
        weight=expected / (1.0 + expected / SIZE),
        categorical_feature=[inputs.shape[1] - 1],
    )
    leaf = _least_in_leaf(len(some), outcomes, parts=500)
    settings = _SETTINGS | {"objective": "poisson", "lambda_l2": 5.0, "min_data_in_leaf": leaf, "seed": seed}
    text: str = lightgbm.train(settings, data, num_boost_round=_ROUNDS).model_to_string()
    return text.encode()


def predict_trees(text: bytes, inputs: Floats) -> Floats:
    """(row,) predicted log factor on level and profile, from `tree_features`.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    factor = np.asarray(_library().Booster(model_str=text.decode()).predict(inputs))
    return bounded(np.log(np.maximum(factor, 1e-9)))


def direct_forecast(panel: Panel, *, known: int, rows: int, seed: int) -> Floats | None:
    """(product, step) units forecast by LightGBM alone: the baseline that a practitioner would try first.

    Recent units, calendar, price, promotion and competitor are features and the absolute error is minimised, so that
    forecasts are medians. Its price response is unusable: trees are constant outside the observed prices.

    The panel is the history, `known` periods, and what comes after and is forecast, of which all but units and stock is
    read.

    Returns:
        None if there are too few product-periods or nothing was sold.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    lightgbm = _library()
    period, end = panel.period, len(panel.dates)
    products, horizon = len(panel.product_ids), end - known
    rng = np.random.default_rng([seed, horizon])
    some = rng.integers(0, products, 2 * rows)
    cutoff = rng.integers(min(REACH[period] // 2, known - 2), known - 1, 2 * rows)
    step = rng.integers(1, horizon + 1, 2 * rows)
    at = np.minimum(cutoff + step, known - 1)
    usable = (cutoff + step < known) & panel.present[some, at] & ~panel.censored[some, at]
    outcomes = len(np.unique(some[usable] * known + at[usable]))
    units = np.where(panel.present & ~panel.censored, panel.units_sold, np.nan)[:, :known].astype(np.float64)
    if outcomes < _LEAST_OUTCOMES or not np.nansum(units) > 0:
        return None
    rows = min(rows, MOST_ROWS_AN_OUTCOME * outcomes)
    some, cutoff, step = some[usable][:rows], cutoff[usable][:rows], step[usable][:rows]
    price, promo = panel.price.astype(np.float64), panel.is_promo
    common = common_features(panel, price)
    log_price = np.log(np.where(price > 0, price, np.nan))
    weekday = features.weekdays(panel.dates, period=period)
    category = np.unique(panel.categories, return_inverse=True)[1]
    least = np.nanmean(units) * 1e-2

    def read(rows: Ints, cutoff: Ints, step: Ints) -> tuple[Floats, Floats]:
        """(row, feature) features, and (row,) the mean of recent units that predictions are multiplied by."""
        at, recent = cutoff + step, _recent(units, rows, cutoff, reach=REACH[period])
        there = np.isfinite(recent)
        level = np.maximum(np.where(there, recent, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1), least)
        shared = tree_features(
            period=period,
            level=np.zeros(len(rows)),
            slow=np.zeros((len(rows), 1)),
            recent=recent / level[:, None],
            step=step,
            common=common[rows, at],
            weekday=weekday[at],
            category=category[rows],
        )
        now, then = log_price[rows, cutoff], log_price[rows, at]
        own = np.stack([then - now, then, promo[rows, at], np.log(level / least)], axis=-1)
        return np.concatenate([shared, own], axis=-1), level

    inputs, level = read(some, cutoff, step)
    data = lightgbm.Dataset(inputs, units[some, cutoff + step] / level, weight=level)
    leaf = _least_in_leaf(len(some), outcomes, parts=1000)
    settings = _SETTINGS | {"objective": "l1", "min_data_in_leaf": leaf, "seed": seed}
    trees = lightgbm.train(settings, data, num_boost_round=2 * _ROUNDS)
    who = np.repeat(np.arange(products), horizon)
    inputs, level = read(who, np.full(len(who), known - 1), np.tile(np.arange(1, horizon + 1), products))
    forecast = np.maximum(np.asarray(trees.predict(inputs)), 0.0) * level
    return np.asarray(forecast.reshape(products, -1))


def _recent(units: Floats, rows: Ints, cutoff: Ints, *, reach: int) -> Floats:
    """(row, reach) units of products `rows` in the last periods up to the (row,) `cutoff`, newest last."""
    back = cutoff[:, None] + np.arange(1 - reach, 1)
    return np.where(back >= 0, units[rows[:, None], np.maximum(back, 0)], np.nan)


def _least_in_leaf(rows: int, outcomes: int, *, parts: int) -> int:
    """Least rows in a leaf: rows / `parts`, and enough to cover _LEAST_IN_LEAF outcomes (each is in several rows)."""
    return max(_LEAST_IN_LEAF * rows // outcomes, rows // parts, _LEAST_IN_LEAF)


def _library() -> Any:
    try:
        import lightgbm  # noqa: PLC0415 - only training and refreshing need it
    except (ImportError, OSError) as error:  # OSError: OpenMP's library is not installed
        raise TrainingError(
            f"LightGBM cannot be loaded ({error}): install it with its OpenMP library (Debian, Ubuntu: apt-get install "
            "libgomp1), or set demand.booster_rows to 0 to go without"
        ) from error
    return lightgbm
