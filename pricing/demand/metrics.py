"""How good a forecast was: WAPE, bias, coverage, by product class. Pure arrays and frames."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.demand.evaluation import share_inside

Floats = NDArray[np.floating]

VOLUME_CLASSES = ("low", "mid", "high")


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
    """Thirds of the products by mean units: low, mid, high."""
    rank = np.argsort(np.argsort(mean_units, kind="stable"), kind="stable")
    third = np.minimum(rank * 3 // max(len(mean_units), 1), 2)
    return np.asarray(VOLUME_CLASSES)[third]


def figures(frame: pd.DataFrame) -> dict[str, Any]:
    """The scores of an evaluation frame; censored rows are left out, since their demand is not known.

    Returns:
        `wape`, `wape_naive`, `bias`, `coverage_80`, `coverage_95`, `rows`, `censored`, the same per fold in `folds`
        and per volume class in `by_volume`, and `by_step` (a week of steps each).
    """
    scored = frame[~frame["censored"]]
    result: dict[str, Any] = _scores(scored)
    result["rows"] = len(scored)
    result["censored"] = int(frame["censored"].sum())
    result["folds"] = [
        {"cutoff": str(pd.Timestamp(str(cutoff)).date()), **_scores(part)}
        for cutoff, part in scored.groupby("cutoff", sort=True)
    ]
    result["by_volume"] = {
        name: _scores(scored[scored["volume_class"] == name])
        for name in VOLUME_CLASSES
        if (scored["volume_class"] == name).any()
    }
    week = (scored["step"] - 1) // 7
    result["by_step"] = {f"{7 * int(w) + 1}-{7 * int(w) + 7}": _scores(part) for w, part in scored.groupby(week)}
    return result


def _scores(frame: pd.DataFrame) -> dict[str, float]:
    actual = frame["actual"].to_numpy()
    naive = frame["naive"].to_numpy()
    return {
        "wape": wape(actual, frame["q50"].to_numpy()),
        "wape_mean": wape(actual, frame["forecast"].to_numpy()),
        "wape_naive": wape(actual, naive),
        "bias": bias(actual, frame["forecast"].to_numpy()),
        "coverage_80": coverage(frame, level=0.80),
        "coverage_95": coverage(frame, level=0.95),
    }
