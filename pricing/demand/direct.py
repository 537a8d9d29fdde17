"""Forecast units by LightGBM alone: the baseline that a practitioner would try first.

Recent units, calendar, price, promotion and competitor are features. Its price response is unusable: trees are constant
outside the observed prices.
"""

import numpy as np

from pricing.arrays import Floats
from pricing.data import features
from pricing.data.panel import Panel
from pricing.demand.batches import Targets, common_features
from pricing.demand.trees import REACH, ROUNDS, draw_targets, fit_trees, least_in_leaf, recent_units, tree_features


def direct_forecast(panel: Panel, *, known: int, rows: int, seed: int) -> Floats | None:
    """(product, step) units forecast; the absolute error is minimised, so that forecasts are medians.

    The panel is the history, `known` periods, and what comes after and is forecast, of which all but units and stock is
    read.

    Returns:
        None if there are too few product-periods or nothing was sold.

    Raises:
        TrainingError: LightGBM cannot be loaded.
    """
    products, periods = panel.present.shape
    horizon = periods - known
    usable = (panel.present & ~panel.censored)[:, :known]
    units = np.where(usable, panel.units_sold[:, :known], np.nan).astype(np.float64)
    targets, outcomes = draw_targets(
        usable,
        ready=np.zeros(products, np.int64),
        first=REACH[panel.period] // 2,
        horizon=horizon,
        rows=rows,
        seed=seed,
    )
    if not len(targets) or not np.nansum(units) > 0:
        return None
    reader = _Reader(panel, units)
    inputs, level = reader.read(targets)
    leaf = least_in_leaf(len(targets), outcomes, parts=1000)
    trees = fit_trees(
        inputs,
        units[targets.product, targets.at] / level,
        weight=level,
        categorical="auto",
        rounds=ROUNDS,
        settings={"objective": "l1", "min_data_in_leaf": leaf, "seed": seed},
    )
    product, step = np.divmod(np.arange(products * horizon), horizon)
    inputs, level = reader.read(Targets(product, np.full(len(product), known - 1), step + 1))
    forecast = np.maximum(np.asarray(trees.predict(inputs)), 0.0) * level
    return np.asarray(forecast.reshape(products, horizon))


class _Reader:
    """Reads features of a panel, and of the (product, period) units known of it."""

    def __init__(self, panel: Panel, units: Floats) -> None:
        price = panel.price.astype(np.float64)
        self._period = panel.period
        self._units = units
        self._least = np.nanmean(units) * 1e-2
        self._common = common_features(panel, price)
        self._log_price = np.log(np.where(price > 0, price, np.nan))
        self._promo = panel.is_promo
        self._weekday = features.weekdays(panel.dates, period=panel.period)
        self._category = np.unique(panel.categories, return_inverse=True)[1]

    def read(self, targets: Targets) -> tuple[Floats, Floats]:
        """(row, feature) features, and (row,) the mean of recent units that predictions are multiplied by."""
        product, at = targets.product, targets.at
        recent = recent_units(self._units, targets, reach=REACH[self._period])
        there = np.isfinite(recent)
        level = np.maximum(np.where(there, recent, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1), self._least)
        shared = tree_features(
            period=self._period,
            level=np.zeros(len(targets)),
            slow=np.zeros((len(targets), 1)),
            recent=recent / level[:, None],
            step=targets.step,
            common=self._common[product, at],
            weekday=self._weekday[at],
            category=self._category[product],
        )
        then = self._log_price[product, at]
        change = then - self._log_price[product, targets.cutoff]
        own = np.stack([change, then, self._promo[product, at], np.log(level / self._least)], axis=-1)
        return np.concatenate([shared, own], axis=-1), level
