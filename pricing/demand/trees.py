"""Forecast levels by boosted trees, one set for all products and steps. The only module that loads LightGBM.

Ke et al. 2017, "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 30.
"""

from typing import Any

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.ewma import PRICE_SCALE, RECENT_PRICE, SIZE, demand_above
from pricing.data.panel import Period
from pricing.demand.batches import FeatureTable, Targets
from pricing.demand.ensemble import bounded
from pricing.errors import TrainingError

REACH: dict[Period, int] = {"day": 28, "week": 8}  # periods whose units are features; older ones are in the levels
MEANS = {"day": (7, 14, 28), "week": (2, 4, 8)}
SEASON = {"day": 7, "week": 1}
HISTORY = {"day": 455, "week": 65}  # periods back that trees are trained on: a year and a quarter
SAME = 4  # features of the last periods with the same weekday
RATIO = 20.0  # units are capped at this many times the expectation, and at least this many units
MOST_ROWS_AN_OUTCOME = 8  # more cutoffs of one product-period add hardly any information
LEAST_OUTCOMES = 500
LEAST_IN_LEAF = 20  # outcomes
ROUNDS = 240
OFFERED = 2  # features of the period's price and promotion, 0 at the reference price without promotion
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
        slow: (row, SUMMARY + 1 + OFFERED) slow features known at the cutoff, the log factor of the forecast period's
            weekday, and what `price_features` has of that period; direct forecasts have none of these.
        recent: (row, reach) restated units of the last periods up to the cutoff, newest last; NaN where unknown.
        step: (row,) periods from the cutoff, at least 1.
        common: (row, 15) `features.known_features` of the forecast period.
        weekday: (row,) its column of the profile.
        category: (row,) the product's category.
    """
    usual = np.exp(level)
    return np.concatenate(
        [
            slow,
            np.log((_same_weekday(recent, step, season=SEASON[period]) + 0.5) / (usual + 0.5)[:, None]),
            np.stack([_log_mean(recent[:, -length:], usual) for length in MEANS[period]], axis=-1),
            common[:, :-1],
            np.stack([step, weekday, category], axis=-1),
        ],
        axis=-1,
    ).astype(np.float32)


def _same_weekday(recent: Floats, step: Ints, *, season: int) -> Floats:
    """(row, SAME) units of the last periods that had the weekday of the one to forecast; NaN where unknown."""
    reach = recent.shape[1]
    first = -(-step // season) * season - step  # periods back from the cutoff to the same weekday
    back = first[:, None] + season * np.arange(SAME)
    units = np.take_along_axis(recent.astype(np.float64), np.maximum(reach - 1 - back, 0), axis=1)
    return np.where(back < reach, units, np.nan)


def _log_mean(recent: Floats, usual: Floats) -> Floats:
    """(row,) log ratio of the mean of what is known of (row, period) units to the usual; NaN where nothing is."""
    there = np.isfinite(recent)
    number = there.sum(axis=1)
    mean = np.where(there, recent, 0.0).sum(axis=1) / np.maximum(number, 1)
    return np.where(number > 0, np.log((mean + 0.25) / (usual + 0.25)), np.nan)


def train_trees(table: FeatureTable, *, period: Period, horizon: int, reach: int, rows: int, seed: int) -> bytes:
    """Train trees on random rows of a panel's last 15 months; sold-out rows get their expected demand.

    Price and promotion are in the offset; they are features as well, so that the level at the reference price is not
    bent by what their estimated effects miss. Features read as many of the last periods as a version stores, `reach`,
    at most REACH.

    Returns:
        The trees in LightGBM's text format; empty if there are too few product-periods.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    seen = table.seen > 0
    targets, outcomes = draw_targets(
        seen,
        ready=table.begin + SEASON[period] + 1,
        first=max(seen.shape[1] - HISTORY[period], REACH[period] // 2),
        horizon=horizon,
        rows=rows,
        seed=seed,
    )
    if not len(targets):
        return b""
    product, cutoff, at = targets.product, targets.cutoff, targets.at
    level = table.past.level[product, cutoff]
    profile = table.past.profile[product, cutoff, table.weekday[at]]
    expected = np.maximum(np.exp(level + profile + table.offset[product, at]), 1e-3)
    units = table.units[product, at]
    units = np.where(table.censored[product, at] > 0, demand_above(units, mean=expected), units)
    restated = np.where(seen & (table.censored == 0), table.restated, np.nan)
    inputs = tree_features(
        period=period,
        level=level,
        slow=np.column_stack([table.past.summary[product, cutoff], profile, price_features(table, targets)]),
        recent=recent_units(restated, targets, reach=min(reach, REACH[period])),
        step=targets.step,
        common=table.common[product, at],
        weekday=table.weekday[at],
        category=table.category[product],
    )
    trees = fit_trees(
        inputs,
        np.minimum(units, RATIO * np.maximum(expected, 1.0)) / expected,
        weight=expected / (1.0 + expected / SIZE),
        categorical=[inputs.shape[1] - 1],
        rounds=ROUNDS,
        settings={
            "objective": "poisson",
            "lambda_l2": 5.0,
            "min_data_in_leaf": least_in_leaf(len(targets), outcomes, parts=500),
            "seed": seed,
        },
    )
    text: str = trees.model_to_string()
    return text.encode()


def price_features(table: FeatureTable, targets: Targets) -> Floats:
    """(row, OFFERED) log price over the smoothed one known at the cutoff, and the promotion flag."""
    product, at = targets.product, targets.at
    recent = table.past.summary[product, targets.cutoff, RECENT_PRICE] / PRICE_SCALE
    return np.stack([table.log_price[product, at] - recent, table.promo[product, at]], axis=-1)


def predict_trees(text: bytes, inputs: Floats) -> Floats:
    """(row,) predicted log factor on level and profile, from `tree_features`.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    factor = np.asarray(_library().Booster(model_str=text.decode()).predict(inputs))
    return bounded(np.log(np.maximum(factor, 1e-9)))


def draw_targets(known: Bools, *, ready: Ints, first: int, horizon: int, rows: int, seed: int) -> tuple[Targets, int]:
    """Draw periods to learn from, at most `rows`, and count the different ones; none where these are too few.

    Args:
        known: (product, period) True where the outcome is known.
        ready: (product,) the first period that may be a cutoff.
        first: The same of all products.
        horizon: The largest step.
        rows: How many to draw.
        seed: Of the draws.
    """
    rng = np.random.default_rng([seed, horizon])
    products, periods = known.shape
    product = rng.integers(0, products, 2 * rows)
    cutoff = rng.integers(min(first, periods - 2), periods - 1, 2 * rows)
    drawn = Targets(product, cutoff, rng.integers(1, horizon + 1, 2 * rows))
    drawn = drawn.select(drawn.at < periods)
    drawn = drawn.select(known[drawn.product, drawn.at] & (drawn.cutoff >= ready[drawn.product]))
    outcomes = len(np.unique(drawn.product * periods + drawn.at))
    most = min(rows, MOST_ROWS_AN_OUTCOME * outcomes)
    return drawn.select(slice(most if outcomes >= LEAST_OUTCOMES else 0)), outcomes


def recent_units(units: Floats, targets: Targets, *, reach: int) -> Floats:
    """(row, reach) the last (product, period) units up to each target's cutoff, newest last; NaN before the first."""
    back = targets.cutoff[:, None] + np.arange(1 - reach, 1)
    return np.where(back >= 0, units[targets.product[:, None], np.maximum(back, 0)], np.nan)


def least_in_leaf(rows: int, outcomes: int, *, parts: int) -> int:
    """Least rows in a leaf: rows / `parts`, and enough to cover LEAST_IN_LEAF outcomes (each is in several rows)."""
    return max(LEAST_IN_LEAF * rows // outcomes, rows // parts, LEAST_IN_LEAF)


def fit_trees(
    inputs: Floats, target: Floats, *, weight: Floats, categorical: Any, rounds: int, settings: dict[str, Any]
) -> Any:
    """Fit LightGBM trees to (row, feature) inputs and a (row,) target; `categorical` are columns, or "auto".

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    lightgbm = _library()
    data = lightgbm.Dataset(inputs, target, weight=weight, categorical_feature=categorical)
    return lightgbm.train(_SETTINGS | settings, data, num_boost_round=rounds)


def _library() -> Any:
    try:
        import lightgbm  # noqa: PLC0415 - only training and refreshing need it
    except (ImportError, OSError) as error:  # OSError: OpenMP's library is not installed
        raise TrainingError(
            f"LightGBM cannot be loaded ({error}): install it with its OpenMP library (Debian, Ubuntu: apt-get install "
            "libgomp1), or set demand.booster_rows to 0 to go without"
        ) from error
    return lightgbm
