"""Forecasts to beat: what they are, which of them is the baseline, what the model gains on it.

No pandas at run time: the gates read names from here, and serving does without it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pricing.arrays import Floats
from pricing.data.panel import Panel

if TYPE_CHECKING:
    import pandas as pd

NAIVE, FLAT, DIRECT = "naive", "flat", "direct"  # columns of the evaluation frame
NAMES = {NAIVE: "seasonal naive", FLAT: "flat median", DIRECT: "direct LightGBM"}
FLAT_PERIODS = 28
_DEMAND = ("q025", "q10", "q50", "q90", "q975")  # columns of the evaluation frame that say what demand may be
RESAMPLES = 1000
LEVEL = 0.90  # of the interval of `paired_difference`


def seasonal_naive(past: Panel, *, steps: int) -> Floats:
    """(product, step) the last units sold on the same weekday; on weeks the last week's; 0 where there is none."""
    season = 7 if past.period == "day" else 1
    periods = len(past.dates)
    last = np.zeros((len(past.product_ids), season))
    for phase in range(min(season, periods)):
        seen = past.present[:, phase::season]
        newest = np.where(seen, np.arange(seen.shape[1]), -1).max(axis=1)
        units = np.take_along_axis(past.units_sold[:, phase::season], np.maximum(newest, 0)[:, None], axis=1)[:, 0]
        last[:, phase] = np.where(newest >= 0, units, 0.0)
    return last[:, (periods + np.arange(steps)) % season]


def flat_median(past: Panel) -> Floats:
    """(product,) the median units of each product's last 28 periods with a row, whatever the weekday.

    Sold-out periods are left out, since what would have sold is not known, unless the 28 hold no others. 0 where a
    product has no row.
    """
    order = np.where(past.present, np.arange(len(past.dates)), -1)
    column = np.sort(order, axis=1)[:, -FLAT_PERIODS:]  # (product, newest) −1 where there is no row
    seen, at = column >= 0, np.maximum(column, 0)
    clean = seen & ~np.take_along_axis(past.censored, at, axis=1)
    counted = np.where(clean.any(axis=1, keepdims=True), clean, seen)
    units = np.where(counted, np.take_along_axis(past.units_sold, at, axis=1), np.nan).astype(np.float64)
    units[~counted.any(axis=1)] = 0.0
    median: Floats = np.nanmedian(units, axis=1)
    return median


def sales_rows(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows that are scored, their forecasts of demand turned into forecasts of what the shelf could give.

    Days that did not sell out are those with little demand: scored alone, they make a perfect forecast look too high.
    So every day counts, and what is forecast is min(demand, shelf): its mean is `expected`, its quantiles and what
    point forecasts say of it are theirs, at most the shelf. Of sales above the opening stock (a delivery during the
    day) as much counts as the shelf held: to leave them out would be to leave out days of much demand. Left out are
    shelves that opened empty, and, where the frame has no `shelf`, what sold out. Applied twice it changes nothing.
    """
    if "shelf" not in frame:
        return frame[~frame["censored"].astype(bool)]
    rows = frame[frame["shelf"] > 0]
    rows = rows.assign(actual=np.minimum(rows["actual"], rows["shelf"]))
    names = [name for name in (*_DEMAND, *NAMES) if name in rows]
    capped = {name: np.minimum(rows[name], rows["shelf"]) for name in names}
    return rows.assign(**capped, **({"forecast": rows["expected"]} if "expected" in rows else {}))


def baseline_of(frame: "pd.DataFrame") -> str:
    """Name the baseline's column: of those that every fold has, the one with the least absolute error over all rows."""
    there = [name for name in NAMES if name in frame and frame[name].notna().all()]
    return min(there, key=lambda name: float(np.abs(frame["actual"] - frame[name]).sum()))


def baseline_words(figures: Mapping[str, Any]) -> str:
    """Name the baseline of `evaluation.figures` in words."""
    return NAMES[figures["baseline"]]


def against_baseline(frame: "pd.DataFrame", *, rng: np.random.Generator) -> dict[str, float]:
    """Compare the model's `wape` (the median's) and `crps` with the baseline's error: `paired_difference`."""
    scored = sales_rows(frame)
    actual = scored["actual"].to_numpy(np.float64)
    theirs = np.abs(actual - scored[baseline_of(scored)].to_numpy(np.float64))
    more = {
        "wape": np.abs(actual - scored["q50"].to_numpy()) - theirs,
        "crps": scored["crps"].to_numpy() - theirs,
    }
    return paired_difference(scored, more=more, rng=rng)


def paired_difference(
    scored: "pd.DataFrame", *, more: Mapping[str, Floats], rng: np.random.Generator
) -> dict[str, float]:
    """Sums of paired differences over the sum of actuals, with 90 % intervals.

    Products and folds are drawn with replacement, each on its own (the pigeonhole bootstrap, Owen 2007,
    doi:10.1214/07-AOAS122): a product's days are not independent, nor are products on the same days. Crossed, they err
    towards intervals that are too wide; with one fold products alone are drawn.

    Args:
        scored: `product_id`, `cutoff` and `actual` of the rows that count.
        more: (row,) by name, how much larger one error is than the other.
        rng: Draws products and folds.

    Returns:
        By name the sum, below 0 where the first is better, and `…_low`, `…_high`. NaN where nothing was sold; no
        interval of fewer than two products.
    """
    actual = scored["actual"].to_numpy(np.float64)
    product, fold = (np.unique(scored[name].to_numpy(), return_inverse=True)[1] for name in ("product_id", "cutoff"))
    shape = (int(product.max(initial=0)) + 1, int(fold.max(initial=0)) + 1)
    # (resample, group) how often each is drawn
    drawn = [rng.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES).astype(np.float64) for count in shape]
    cell = product * shape[1] + fold
    sold = np.bincount(cell, actual, shape[0] * shape[1]).reshape(shape)
    below = ((drawn[0] @ sold) * drawn[1]).sum(axis=1)
    total = float(sold.sum())
    found: dict[str, float] = {}
    for name, difference in more.items():
        summed = np.bincount(cell, difference, shape[0] * shape[1]).reshape(shape)
        found[name] = float(summed.sum()) / total if total > 0 else float("nan")
        above = ((drawn[0] @ summed) * drawn[1]).sum(axis=1)
        some = below > 0
        known = shape[0] > 1 and some.any()
        tails = np.array([(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
        low, high = np.quantile(above[some] / below[some], tails) if known else (np.nan, np.nan)
        found |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return found
