"""Forecast accuracy: WAPE, CRPS, bias and interval coverage, overall and by fold, volume class and step."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.demand.baselines import DIRECT, FLAT, MIXED, NAIVE, baseline_forecast, better, sales_rows
from pricing.demand.combination import CLASSES, volume_rows
from pricing.demand.evaluation import share_inside

VOLUME_CLASSES = CLASSES
TARGET = "sales given shelf"  # what is scored


def wape(actual: Floats, forecast: Floats) -> float:
    """Σ|actual − forecast| / Σ|actual|; NaN where nothing was sold."""
    total = float(np.abs(actual).sum())
    return float(np.abs(actual - forecast).sum() / total) if total > 0 else float("nan")


def bias(actual: Floats, forecast: Floats) -> float:
    """Σ(forecast − actual) / Σ actual; positive when too much was forecast."""
    total = float(np.abs(actual).sum())
    return float((forecast - actual).sum() / total) if total > 0 else float("nan")


def coverage(frame: pd.DataFrame, *, level: float) -> float:
    """Share of actuals inside the central interval of `level`, by the randomised PIT; see `evaluation.share_inside`."""
    inside = share_inside(frame["pit_low"].to_numpy(), frame["pit_high"].to_numpy(), level=level)
    return float(inside.mean()) if len(frame) else float("nan")


def volume_class(mean_units: Floats) -> NDArray[np.str_]:
    """(product,) third of the products by mean units: low, mid or high."""
    return np.asarray(VOLUME_CLASSES)[volume_rows(mean_units)]


def figures(frame: pd.DataFrame) -> dict[str, Any]:
    """Score an evaluation frame, on sales given the opening stock; see `baselines.sales_rows`.

    Returns:
        Those of `scores`, `rows` scored, `censored` (sold-out rows), `left_out` (rows not scored), `always_sold_out`
        (products that sold out in every row: their demand forecasts cannot be judged), the same scores per fold in
        `folds`, per volume class in `by_volume` and per 7 steps in `by_step`. `target` names what is scored; versions
        made before sold-out rows were scored have none. `baseline` tells whether the baseline was `naive`, `flat`,
        `direct` or, over folds, `mixed`; `baseline_hindsight` and `wape_hindsight` are the best in hindsight.
    """
    scored = sales_rows(frame)
    names = {NAIVE} if scored.empty else set(scored["baseline"])
    result: dict[str, Any] = scores(scored)
    result["baseline"] = MIXED if len(names) > 1 else names.pop()
    result["baseline_hindsight"] = better(scored)
    result["wape_hindsight"] = result[f"wape_{result['baseline_hindsight']}"]
    result["rows"] = len(scored)
    result["censored"] = int(frame["censored"].sum())
    result["left_out"] = len(frame) - len(scored)
    result["always_sold_out"] = int(frame.groupby("product_id")["censored"].all().sum())
    result["target"] = TARGET
    result["folds"] = [
        {
            "cutoff": str(pd.Timestamp(str(cutoff)).date()),
            **scores(part),
            "baseline": str(part["baseline"].iloc[0]),
            "baseline_hindsight": better(part),
        }
        for cutoff, part in scored.groupby("cutoff", sort=True)
    ]
    result["by_volume"] = {
        name: scores(scored[scored["volume_class"] == name])
        for name in VOLUME_CLASSES
        if (scored["volume_class"] == name).any()
    }
    week = (scored["step"] - 1) // 7
    result["by_step"] = {f"{7 * int(w) + 1}-{7 * int(w) + 7}": scores(part) for w, part in scored.groupby(week)}
    return result


def scores(scored: pd.DataFrame) -> dict[str, float]:
    """Score rows from `baselines.sales_rows`.

    Errors are sums over the sum of actuals. A point forecast's CRPS is its absolute error, so `crps` is directly
    comparable with the baselines' WAPE.

    Returns:
        `wape` (of the median), `wape_mean`, `wape_naive`, `wape_flat`, `wape_direct` (NaN without it),
        `wape_baseline` (of the one chosen before each fold), `crps`, `bias`, `coverage_80`, `coverage_95`; NaN where
        nothing was sold.
    """
    actual = scored["actual"].to_numpy()
    total = float(np.abs(actual).sum())
    return {
        "wape": wape(actual, scored["q50"].to_numpy()),
        "wape_mean": wape(actual, scored["forecast"].to_numpy()),
        "wape_naive": wape(actual, scored[NAIVE].to_numpy()),
        "wape_flat": wape(actual, scored[FLAT].to_numpy()),
        "wape_direct": wape(actual, scored[DIRECT].to_numpy()) if DIRECT in scored else float("nan"),
        "wape_baseline": wape(actual, baseline_forecast(scored)),
        "crps": float(scored["crps"].sum() / total) if total > 0 else float("nan"),
        "bias": bias(actual, scored["forecast"].to_numpy()),
        "coverage_80": coverage(scored, level=0.80),
        "coverage_95": coverage(scored, level=0.95),
    }
