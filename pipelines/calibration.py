"""How a backtest is cut up beyond the model's own scores: volatility classes, weeks, and the probability transform."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.units import find_units
from pricing.demand import metrics
from pricing.demand.baselines import sales_rows

CLASSES = metrics.VOLUME_CLASSES
BINS = 10  # of the histogram of the probability transform
WEEKS = 52  # at most; before the cutoff
LEAST_WEEKS = 4  # below which a product's volatility is not known
SPAN = 7  # days scored together, as in one of monitoring's windows
WHOLE_WEEK = 4  # days with a row that make a week count


def described(frame: pd.DataFrame, figures: Mapping[str, Any], panel: Panel) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Adds the column `volatility_class` to a frame, and `by_volatility`, `pit` and `weeks` to its figures; both anew.

    A product's class at a cutoff is read from its sales until then. `weeks` holds the scores of each whole week
    of each fold: how far such spans differ is what monitoring's windows are held against.

    Args:
        frame: As `Backtest.frame`.
        figures: As `Backtest.figures`.
        panel: The history that was scored.
    """
    parts = []
    for cutoff, part in frame.groupby("cutoff", sort=True):
        past = panel.through(np.datetime64(str(cutoff), "D"))
        known = np.isin(panel.product_ids, part["product_id"].unique())
        classes = volatility_class(volatility(past.select(known)))
        named = pd.Series(classes, index=panel.product_ids[known])
        parts.append(part.assign(volatility_class=named.reindex(part["product_id"]).to_numpy()))
    classed = pd.concat(parts, ignore_index=True)
    scored = sales_rows(classed)
    groups = {name: scored[scored["volatility_class"] == name] for name in CLASSES}
    by_volatility = {name: metrics.scores(part) for name, part in groups.items() if len(part)}
    span = max(1, SPAN // STEP_DAYS[panel.period])
    more = {"by_volatility": by_volatility, "pit": transform_figures(scored), "weeks": weekly(scored, span=span)}
    return classed, {**figures, **more}


def weekly(scored: pd.DataFrame, *, span: int = SPAN) -> list[dict[str, Any]]:
    """The scores of each whole `span` steps of each fold, oldest first, of rows from `baselines.sales_rows`.

    `bias_se` and `wape_mean_se` are standard errors over products: what of the weeks' differences is the luck of which
    products there are, which the interval of one of monitoring's windows allows for already.
    """
    found = []
    for (cutoff, number), part in scored.groupby(["cutoff", (scored["step"] - 1) // span], sort=True):
        if part["step"].nunique() < span:
            continue  # the horizon's rest is no week
        actual, forecast = part["actual"].to_numpy(), part["forecast"].to_numpy()
        product = pd.factorize(part["product_id"])[0]
        found.append(
            {
                "cutoff": str(pd.Timestamp(str(cutoff)).date()),
                "first_step": int(str(number)) * span + 1,
                "wape_mean": metrics.wape(actual, forecast),
                "wape_naive": metrics.wape(actual, part["naive"].to_numpy()),
                "wape_mean_se": ratio_error(np.abs(forecast - actual), actual, group=product),
                "bias": metrics.bias(actual, forecast),
                "bias_se": ratio_error(forecast - actual, actual, group=product),
                "coverage_80": metrics.coverage(part, level=0.80),
            }
        )
    return found


def ratio_error(above: Floats, below: Floats, *, group: NDArray[np.integer]) -> float:
    """Standard error of the ratio of two sums when whole groups are drawn (linearised, Cochran 1977, 6.4).

    Args:
        above: (row,) summed for the numerator.
        below: (row,) summed for the denominator.
        group: (row,) numbers from 0; each group's rows are drawn together.

    Returns:
        NaN with fewer than two groups, or a denominator of 0.
    """
    count, total = int(group.max(initial=-1)) + 1, float(below.sum())
    if count < 2 or total <= 0:
        return float("nan")
    residual = np.bincount(group, above, count) - above.sum() / total * np.bincount(group, below, count)
    return float(np.sqrt(count / (count - 1) * (residual**2).sum()) / total)


def volatility(panel: Panel) -> Floats:
    """(product,) how far weekly sales stray from their mean beyond what counting alone brings, a share of that mean.

    Without that correction whatever sells little would be volatile. NaN where fewer than four weeks are known.
    """
    length = 1 if panel.period == "week" else 7
    weeks = min(len(panel.dates) // length, WEEKS)
    size = find_units(panel.units_sold, panel.categories).size  # counting is in what counts as one
    units = np.where(panel.present, panel.units_sold / size[:, None], np.nan).astype(np.float64)
    units = units[:, units.shape[1] - weeks * length :].reshape(len(units), weeks, length)
    seen = np.isfinite(units).sum(axis=2) >= min(WHOLE_WEEK, length)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # weeks and products without a row
        weekly = np.where(seen, np.nanmean(units, axis=2) * length, np.nan)
        mean, variance = np.nanmean(weekly, axis=1), np.nanvar(weekly, axis=1)
        spread = np.sqrt(np.maximum(variance - mean, 0.0)) / mean
    return np.where((seen.sum(axis=1) >= LEAST_WEEKS) & (mean > 0), spread, np.nan)


def volatility_class(spread: Floats) -> NDArray[np.str_]:
    """Thirds of the products: low, mid, high; one whose volatility is not known counts as the middle one."""
    known = spread[np.isfinite(spread)]
    return metrics.volume_class(np.where(np.isfinite(spread), spread, np.median(known) if len(known) else 0.0))


def transform_figures(scored: pd.DataFrame) -> dict[str, float]:
    """What the randomised probability transform should be uniform for, in expectation over its drawing.

    Returns:
        `mean` (0.5 when forecasts are neither high nor low), `spread` (its standard deviation over a uniform's: below 1
        when forecasts are too wide, above when too narrow), and `distance` (total variation of the histogram of ten
        bins from a flat one, 0 to 0.9).
    """
    low, high = scored["pit_low"].to_numpy(float), scored["pit_high"].to_numpy(float)
    if not len(scored):
        return {"mean": float("nan"), "spread": float("nan"), "distance": float("nan")}
    mean = float(np.mean((low + high) / 2))
    square = float(np.mean((low * low + low * high + high * high) / 3))
    return {
        "mean": mean,
        "spread": float(np.sqrt(12 * max(square - mean * mean, 0.0))),
        "distance": float(np.abs(transform_histogram(scored) - 1 / BINS).sum() / 2),
    }


def transform_histogram(scored: pd.DataFrame) -> Floats:
    """(bin,) share of the randomised transforms in ten even bins, in expectation (Czado, Gneiting, Held 2009)."""
    low = np.minimum(scored["pit_low"].to_numpy(float), 1.0 - 1e-9)[:, None]
    high = np.maximum(scored["pit_high"].to_numpy(float)[:, None], low + 1e-9)  # an outcome all but impossible
    edges = np.linspace(0.0, 1.0, BINS + 1)
    below = np.clip((edges - low) / (high - low), 0.0, 1.0).mean(axis=0)  # (edge,) share at or below each
    return np.asarray(np.diff(below))


def coverage_by(frame: pd.DataFrame, column: str, *, level: float) -> "pd.Series[float]":
    """Share of outcomes inside the central interval of `level`, for each value of a column."""
    scored = sales_rows(frame)
    shares: Mapping[Any, float] = {
        value: metrics.coverage(part, level=level) for value, part in scored.groupby(column, observed=True)
    }
    return pd.Series(shares, dtype=float)
