"""Forecast by a global LightGBM, against which forecasts are judged, on the folds of a backtest.

LightGBM is direct: each step of the horizon is a row, with the step as a column. Quantile models of one set of
parameters make its distribution. The parameters are those of least absolute error on the block before the first
judged cutoff.
"""

import warnings
from itertools import product
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.data.panel import Panel

LIGHTGBM = "lightgbm"
KEYS = ["product_id", "cutoff", "date"]
LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
QUANTILES = tuple(f"q{round(100 * level):02d}" for level in LEVELS)
LAGS = (1, 2, 3, 4, 5, 6, 7, 8, 14, 21, 28)
PAST, ORIGINS, ROWS = 400, 80, 80_000  # periods that training looks back, cutoffs in it, rows at most
YEAR = {"day": 364, "week": 52}
TREES, PATIENCE = 600, 50
PARAMETERS = {
    "learning_rate": 0.05,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_pre_filter": False,
    "deterministic": True,
    "num_threads": 1,  # more wait for each other where others work on the machine
    "seed": 1,
    "verbose": -1,
}
SEARCH = {"relative": (False, True), "num_leaves": (15, 63), "min_data_in_leaf": (20, 100)}
OF_TREES = ("num_leaves", "min_data_in_leaf")


def global_lightgbm(panel: Panel, cutoffs: list[np.datetime64], *, horizon: int) -> pd.DataFrame:
    """`KEYS` and `QUANTILES` of every product-period that a backtest may score.

    Parameters are searched on the block before the first cutoff; at each it is fitted anew.
    """
    history = _History(panel)
    ends = [int(np.searchsorted(panel.dates, cutoff)) for cutoff in cutoffs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are NaN, which trees take
        chosen = _search(history, ends[0] - horizon, horizon)
        frames = [_fold(history, end, horizon, chosen) for end in ends]
    return pd.concat(frames, ignore_index=True)


class _History:
    """A panel as the arrays that features are cut from: units are NaN where there is no row."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.units = np.where(panel.present, panel.units_sold, np.nan).astype(np.float64)
        self.known_price = np.where(panel.present, panel.price, np.nan)
        self.category = np.unique(panel.categories, return_inverse=True)[1]
        self.season = 7 if panel.period == "day" else 1
        self.day = panel.dates.astype("datetime64[D]").astype(int)
        self.least = 2 * self.season  # periods of past below which nothing is learnt from a cutoff

    def table(self, end: int, steps: "list[int] | range") -> tuple[pd.DataFrame, Floats, Floats]:
        """Features, units and scale of every product on the given steps after period `end`, step by step."""
        own, cutoff = self._own(end)
        parts = [pd.DataFrame(own | self._known(end, end + step, cutoff)) for step in steps]
        actual = np.concatenate([self.units[:, end + step] for step in steps])
        scale = np.nan_to_num(own["mean91"]) + 0.05  # units; so that nothing is divided by 0
        return pd.concat(parts, ignore_index=True), actual, np.tile(scale, len(parts))

    def _own(self, end: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """What is known of each product at the end: its columns, and the price that it usually has."""
        past, nothing = self.units[:, : end + 1], np.full(len(self.units), np.nan)
        own = {f"lag{k}": past[:, -k] if past.shape[1] >= k else nothing for k in LAGS}
        own |= {f"mean{w}": np.nanmean(past[:, -w:], axis=1) for w in (3, 7, 28, 91, 364)}
        own |= {f"median{w}": np.nanmedian(past[:, -w:], axis=1) for w in (7, 28)}
        own |= {"spread28": np.nanstd(past[:, -28:], axis=1), "zeros28": np.nanmean(past[:, -28:] == 0, axis=1)}
        total = pd.DataFrame({"category": self.category, "recent": own["mean7"], "usual": own["mean28"]})
        total = total.groupby("category")[["recent", "usual"]].transform("sum")
        own["trend_category"] = (total["recent"] / total["usual"].where(total["usual"] > 0)).to_numpy()
        own["age"] = np.isfinite(past).sum(axis=1).astype(np.float64)
        own["product"], own["category"] = np.arange(len(past), dtype=np.float64), self.category.astype(np.float64)
        prices = self.known_price[:, : end + 1]
        usual = {"all": np.nanmedian(prices, axis=1), "recent": np.nanmedian(prices[:, -28:], axis=1)}
        own["price_now"] = np.log(self.panel.price[:, end] / usual["all"])
        own["promo_now"] = self.panel.is_promo[:, end].astype(np.float64)
        return own, usual

    def _known(self, end: int, at: int, usual: dict[str, Floats]) -> dict[str, Any]:
        """What a request carries on a day after the cutoff, and the past of such days."""
        panel, same = self.panel, [i for i in range(at - self.season, -1, -self.season) if i <= end][:8]
        year = at - YEAR[panel.period]
        near = self.units[:, max(year - 1, 0) : year + 2] if year + 1 >= 0 else self.units[:, :0]
        return {
            "same1": self.units[:, same[0]],
            "same4": np.nanmean(self.units[:, same[:4]], axis=1),
            "same8": np.nanmean(self.units[:, same], axis=1),
            "year_ago": np.nanmean(near, axis=1) if year <= end - 1 else np.nan,
            "step": at - end,
            "weekday": (self.day[at] + 3) % 7,
            "month_day": panel.dates[at].astype(object).day,
            "year_day": self.day[at] % 365.25,
            "holiday": panel.is_holiday[:, at],
            "price": np.log(panel.price[:, at] / usual["all"]),
            "price_recent": np.log(panel.price[:, at] / usual["recent"]),
            "price_level": np.log(panel.price[:, at]),
            "below_list": np.log(panel.price[:, at] / panel.list_price[:, at]),
            "comp": np.log(panel.comp_price[:, at] / panel.price[:, at]),
            "promo": panel.is_promo[:, at],
        }

    def training(self, end: int, horizon: int, *, relative: bool) -> lgb.Dataset:
        """Rows whose outcome is known at the end, of cutoffs spread over the past, steps drawn where they are many."""
        first = max(self.least, end - PAST)
        origins = np.unique(np.linspace(min(first, end - 1), end - 1, ORIGINS).astype(int))
        count = int(np.clip(ROWS // (len(self.units) * len(origins)), 1, horizon))
        rng = np.random.default_rng(1)
        tables = []
        for origin in origins.tolist():
            possible = np.arange(1, min(horizon, end - origin) + 1)
            steps = np.sort(rng.choice(possible, min(count, len(possible)), replace=False))
            tables.append(self.table(origin, steps.tolist()))
        x, y, scale = (pd.concat([t[0] for t in tables]), *(np.concatenate([t[i] for t in tables]) for i in (1, 2)))
        known = np.isfinite(y)
        data = lgb.Dataset(_features(x, scale, relative=relative)[known], free_raw_data=False)
        data.set_label((y / scale if relative else y)[known])
        if relative:
            data.set_weight(scale[known])  # the same absolute error in units
        return data


def _features(x: pd.DataFrame, scale: Floats, *, relative: bool) -> pd.DataFrame:
    if not relative:
        return x
    sold = [name for name in x if name.startswith(("lag", "mean", "median", "same", "spread", "year_ago"))]
    return x.assign(**{name: x[name] / scale for name in sold}, scale=np.log(scale))


def _search(history: _History, end: int, horizon: int) -> dict[str, Any]:
    """The parameters of least absolute error on the block after `end`."""
    x, y, scale = history.table(end, range(1, horizon + 1))
    known = np.isfinite(y)
    best: tuple[float, dict[str, Any]] = (np.inf, {})
    sets = {relative: history.training(end, horizon, relative=relative) for relative in SEARCH["relative"]}
    for values in product(*SEARCH.values()):
        tried: dict[str, Any] = dict(zip(SEARCH, values, strict=True))
        features, factor = _features(x, scale, relative=tried["relative"]), scale if tried["relative"] else 1.0
        valid = lgb.Dataset(features[known], (y / factor)[known], reference=sets[tried["relative"]])
        if tried["relative"]:
            valid.set_weight(scale[known])
        parameters = (
            PARAMETERS | {"objective": "l1", "metric": "l1"} | {k: v for k, v in tried.items() if k != "relative"}
        )
        stop = lgb.early_stopping(PATIENCE, verbose=False)
        model = lgb.train(parameters, sets[tried["relative"]], TREES, valid_sets=[valid], callbacks=[stop])
        forecast = np.maximum(np.asarray(model.predict(features), np.float64) * factor, 0.0)
        error = float(np.abs(y - forecast)[known].sum() / np.abs(y[known]).sum())
        if error < best[0]:
            best = (error, tried | {"trees": max(int(model.best_iteration), 20), "wape": error})
    return best[1]


def _fold(history: _History, end: int, horizon: int, chosen: dict[str, Any]) -> pd.DataFrame:
    """The quantiles of every product on every step after a cutoff."""
    panel, relative = history.panel, chosen["relative"]
    train = history.training(end, horizon, relative=relative)
    x, _, scale = history.table(end, range(1, horizon + 1))
    features = _features(x, scale, relative=relative)
    own = PARAMETERS | {name: chosen[name] for name in OF_TREES}
    columns = []
    for level in LEVELS:
        aim = {"objective": "l1"} if level == 0.50 else {"objective": "quantile", "alpha": level}
        model = lgb.train(own | aim, train, chosen["trees"])
        forecast = np.asarray(model.predict(features), np.float64) * (scale if relative else 1.0)
        columns.append(np.maximum(forecast, 0.0))
    quantiles = np.sort(np.stack(columns, axis=1), axis=1)
    keys = {
        "product_id": np.tile(panel.product_ids, horizon),
        "cutoff": panel.dates[end].astype("datetime64[s]"),
        "date": np.repeat(panel.dates[end + 1 : end + horizon + 1], len(panel.product_ids)).astype("datetime64[s]"),
    }
    return pd.DataFrame(keys | dict(zip(QUANTILES, quantiles.T, strict=True)))
