"""Gradient-boosted trees of a product's level in the periods to come: the only place that knows LightGBM.

Ke et al. (2017), "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 30. One direct global model:
the step is a feature, so that one set of trees forecasts every period of the horizon. Price and promotion are no
features. They are in the offset, as for the network, so that trees decide on levels alone and demand falls in price as
it did.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pricing.data.memory import demand_above
from pricing.data.panel import Period
from pricing.errors import TrainingError

if TYPE_CHECKING:
    from pricing.demand.sampling import Table

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

REACH = {"day": 28, "week": 8}  # periods whose own units trees read; older ones are in the levels
MEANS = {"day": (7, 14, 28), "week": (2, 4, 8)}
SEASON = {"day": 7, "week": 1}
SAME = 4  # last periods of the same weekday
LIMIT = 3.0  # log units that trees may move a level by
RATIO = 20.0  # times what the level expects, beyond which a period's units count as so many
SIZE = 2.0  # of the negative binomial whose weights rows get: what its variance leaves of them
_ROUNDS, _LEAST_ROWS = 120, 500


@dataclass(frozen=True)
class Read:
    """What trees read of some (row,) products at their cutoffs, and of the period that each one forecasts.

    Attributes:
        level: (row,) log units a period at usual price, known at the cutoff.
        profile: (row,) log factor of the forecast period's weekday.
        summary: (row, SUMMARY) slow features known at the cutoff.
        recent: (row, reach) restated units of the last periods up to the cutoff, the newest last; NaN where unknown.
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


def columns(read: Read, *, period: Period) -> Floats:
    """(row, feature) what trees read; log ratios to the level, so that one tree serves products of every size."""
    season, reach = SEASON[period], read.recent.shape[1]
    rows = np.arange(len(read.step))
    usual = np.exp(read.level)
    first = -(-read.step // season) * season - read.step  # periods from the cutoff back to the same weekday
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
    table: "Table", *, lift: Floats, period: Period, horizon: int, reach: int, rows: int, seed: int
) -> bytes:
    """Trains on rows drawn at random from a panel's last 15 months; where the shelf ran out, on what is expected then.

    Args:
        table: The panel's table.
        lift: (product,) log units that a promotion draws fully.
        period: The grain.
        horizon: Periods forecast.
        reach: Periods of their own units that trees may read, at most REACH: as many as a version keeps.
        rows: Largest number of rows.
        seed: Of the draw and of the trees.

    Returns:
        The trees as LightGBM's own text; empty where there are too few rows to tell anything.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    lightgbm = _library()
    rng = np.random.default_rng([seed, horizon])
    products, periods = table.seen.shape
    first = max(periods - 13 * 35 // (1 if period == "day" else 7), REACH[period] // 2, 1)
    some = rng.integers(0, products, 2 * rows)
    cutoff = rng.integers(min(first, periods - 2), periods - 1, 2 * rows)
    step = rng.integers(1, horizon + 1, 2 * rows)
    told = (cutoff + step < periods) & (cutoff > table.begin[some] + SEASON[period])
    at = np.minimum(cutoff + step, periods - 1)
    told &= table.seen[some, at] > 0
    some, cutoff, step = some[told][:rows], cutoff[told][:rows], step[told][:rows]
    if len(some) < _LEAST_ROWS:
        return b""
    effect = table.offset + table.draw * lift[:, None]
    read = _read(table, restated(table, effect), some, cutoff, step, reach=min(reach, REACH[period]))
    at = cutoff + step
    expected = np.maximum(np.exp(read.level + read.profile + effect[some, at]), 1e-3)
    units = table.units[some, at]
    units = np.where(table.censored[some, at] > 0, demand_above(units, mean=expected), units)
    data = lightgbm.Dataset(
        columns(read, period=period),
        np.minimum(units / expected, RATIO),
        weight=expected / (1.0 + expected / SIZE),
        categorical_feature=[columns(_first(read), period=period).shape[1] - 1],
        free_raw_data=False,
    )
    settings = {
        "objective": "poisson",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": max(20, len(some) // 500),
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    trees = lightgbm.train(settings, data, num_boost_round=_ROUNDS)
    text: str = trees.model_to_string()
    return text.encode()


def restated(table: "Table", effect: Floats) -> Floats:
    """(product, period) units at usual price and without promotion; NaN where demand is not known."""
    known = (table.seen > 0) & (table.censored == 0)
    return np.where(known, table.units * np.exp(-effect), np.nan)


def predict_booster(text: bytes, read: Read, *, period: Period) -> Floats:
    """(row,) log factor on level and profile.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    if not text:
        return np.zeros(len(read.step))
    trees = _library().Booster(model_str=text.decode())
    factor = np.asarray(trees.predict(columns(read, period=period)))
    moved: Floats = np.clip(np.log(np.maximum(factor, 1e-9)), -LIMIT, LIMIT)
    return moved


def _read(table: "Table", units: Floats, rows: Ints, cutoff: Ints, step: Ints, *, reach: int) -> Read:
    before = cutoff[:, None] + np.arange(1 - reach, 1)  # (row, reach)
    recent = np.where(before >= 0, units[rows[:, None], np.maximum(before, 0)], np.nan)
    at = cutoff + step
    return Read(
        level=table.past.level[rows, cutoff],
        profile=table.past.profile[rows, cutoff, table.weekday[at]],
        summary=table.past.summary[rows, cutoff],
        recent=recent,
        step=step,
        common=table.common[rows, at],
        weekday=table.weekday[at],
        category=table.category[rows],
    )


def _first(read: Read) -> Read:
    return Read(**{name: values[:1] for name, values in vars(read).items()})


def _library() -> Any:
    try:
        import lightgbm  # noqa: PLC0415 - only training and refreshing need it
    except (ImportError, OSError) as error:  # OSError: OpenMP's library is not installed
        raise TrainingError(
            f"LightGBM cannot be loaded ({error}): install it with its OpenMP library (Debian, Ubuntu: apt-get install "
            "libgomp1), or set demand.booster_rows to 0 to go without"
        ) from error
    return lightgbm
