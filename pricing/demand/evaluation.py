"""Forecast evaluation: WAPE, bias, coverage, CRPS and the probability transform, for backtests and monitoring."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from pricing.arrays import Bools, Floats
from pricing.demand.baselines import NAMES, baseline_of, sales_rows
from pricing.demand.ensemble import CLASSES

LARGEST_SIZE = 1e6  # of a negative binomial; beyond, it is numerically a Poisson distribution
LEAST_MEAN = 1e-6  # units a period
_SPREAD = 1e-12  # a narrower PIT interval is a point
_NODE_STEP, _NODES = 0.3, 56  # of the quadrature in `half_mean_difference`
_COUNTED = 512  # stock up to which the score is summed count by count; above, the sum is integrated
_NO_TAIL = 1e-7  # probability of selling out below which the stock does not change the score
_BREAKS = (-10.0, 8.0, 40.0)  # standard deviations from the mean between which the tail is integrated


def quantile(level: float, *, mean: Floats, size: Floats, counted: Bools) -> Floats:
    """Quantile of demand at probability `level`, whole where `counted`, else interpolated as in `sales_transform`.

    All is (row,); the mean is above 0, in counting units.
    """
    truth = stats.nbinom(size, size / (size + mean))
    count = truth.ppf(level)
    below, at = truth.cdf(count - 1), truth.cdf(count)
    inside = count - 0.5 + (level - below) / np.maximum(at - below, _SPREAD)
    return np.asarray(np.where(counted | (count <= 0), count, inside))


def share_inside(below: Floats, at: Floats, *, level: float) -> Floats:
    """Share of each outcome's probability inside the central interval of `level`, 0…1 (its mean is the coverage).

    For counts, intervals whose ends count as inside would cover far more than `level`. So the PIT, whose two ends are
    those of `sales_transform`, is spread evenly over each count's own probability (Czado, Gneiting, Held 2009,
    doi:10.1111/j.1541-0420.2009.01191.x), in expectation and not by random draws. Where nothing is spread, as for goods
    sold by weight, the PIT itself is inside or not. NaN gives NaN.
    """
    low, high = (1.0 - level) / 2.0, (1.0 + level) / 2.0
    width = np.asarray(at, np.float64) - below
    spread = width > _SPREAD
    part = np.clip(np.minimum(at, high) - np.maximum(below, low), 0.0, None) / np.where(spread, width, 1.0)
    whole = np.where((at >= low) & (at <= high), 1.0, 0.0)
    return np.where(np.isnan(width), np.nan, np.where(spread, part, whole))


def half_mean_difference(*, mean: Floats, size: Floats) -> Floats:
    """½ E|X − X'| of two independent negative binomial draws: (mean / p) ₂F₁(size + 1, ½; 2; −4 (1 − p) / p²).

    The hypergeometric series suffers from cancellation at large sizes, so its Euler integral is used (substituting
    sin² θ, then u = tan θ): with e = p / (2 − p) it is
    4 e / π ∫₀^∞ (1 + u²)^(−1 − size) (1 + e² u²)^(size − 1) du. The integrand is positive and even, and with u a
    hyperbolic sine, scaled by the integrand's width, the trapezoidal rule converges geometrically: the relative error
    is below 1e-6 for sizes up to `LARGEST_SIZE`.
    """
    rest = mean / (size + mean)  # 1 − p
    edge = (1.0 - rest) / (1.0 + rest)  # e
    gap = 4.0 * rest / (1.0 + rest) ** 2  # 1 − e²
    width = 1.0 / np.sqrt(1.0 + edge**2 + size * gap)
    total = np.full_like(edge, 0.5)  # the integrand at u = 0, half of it on this side
    for node in range(1, _NODES + 1):
        square = (width * np.sinh(_NODE_STEP * node)) ** 2
        far = 1.0 + edge**2 * square
        total += np.cosh(_NODE_STEP * node) * np.exp(-size * np.log1p(gap * square / far)) / ((1.0 + square) * far)
    return np.asarray(mean / (1.0 + rest) * (4.0 / np.pi * _NODE_STEP * width * total))


def sales_moments(*, mean: Floats, size: Floats, shelf: Floats) -> tuple[Floats, Floats]:
    """(row,) mean and variance of sales min(D, S) for negative binomial demand D and opening stock S.

    With D' and D'' negative binomials of sizes larger by one and two and the same p, and n the least count that uses up
    the stock, E[D; D < n] = mean · P(D' ≤ n − 2) and E[D (D − 1); D < n] = mean² (1 + 1 / size) · P(D'' ≤ n − 3), since
    k P(D = k) = mean · P(D' = k − 1). NaN where the forecast is unknown; arguments as of `sales_score`.
    """
    known, centre, r = _forecast(mean, size)
    chance = r / (r + centre)
    bound = np.isfinite(shelf)
    stock = np.where(bound, shelf, 0.0).astype(np.float64)
    least = np.ceil(stock)  # the least count that uses it up
    emptied = np.where(least > 0, special.betainc(np.maximum(least, 1.0), r, 1.0 - chance), 1.0)
    first = centre * _at_most(least - 2.0, r + 1.0, chance)
    second = centre**2 * (1.0 + 1.0 / r) * _at_most(least - 3.0, r + 2.0, chance) + first
    sold = first + stock * emptied
    spread = np.maximum(second + stock**2 * emptied - sold**2, 0.0)
    expected = np.where(bound, np.minimum(sold, np.minimum(centre, stock)), centre)
    variance = np.where(bound, spread, centre + centre**2 / r)
    return np.where(known, expected, np.nan), np.where(known, variance, np.nan)


def sales_transform(units: Floats, *, mean: Floats, size: Floats, shelf: Floats) -> tuple[Floats, Floats]:
    """Probability integral transform (PIT) of sales: P(sales < units) and P(sales ≤ units), (row,) each.

    The two differ by the outcome's own probability. Amounts sold by weight lie between two counts: each count's
    probability is spread evenly over the amounts nearest to it, so that both ends coincide there. The probability of 0
    is not spread. On a sold-out day the upper end is 1: the likelier that was, the wider the interval, and the closer
    `share_inside` is to `level` whatever the forecast.

    All is in counting units; arguments are those of `sales_score`. NaN where the forecast is unknown.
    """
    known, centre, r = _forecast(mean, size)
    truth = stats.nbinom(r, r / (r + centre))
    sold = np.asarray(units, np.float64)
    count = np.floor(sold + 0.5)
    below, at = truth.cdf(count - 1), truth.cdf(count)
    between = (sold != count) & (count > 0)
    inside = below + (at - below) * (sold - count + 0.5)
    below, at = np.where(between, inside, below), np.where(between, inside, at)
    nearly = (sold > 0) & (count == 0)  # more than 0 and less than half a counting unit
    below, at = np.where(nearly, at, below), np.where(sold >= shelf, 1.0, at)
    return np.where(known, below, np.nan), np.where(known, at, np.nan)


def sales_score(units: Floats, *, mean: Floats, size: Floats, shelf: Floats) -> Floats:
    """(row,) continuous ranked probability score (CRPS) of sales min(D, S), in units: ∫ (F(z) − 1{z ≥ units})² dz.

    For demand it is E|D − units| − ½ E|D − D'| (Gneiting and Raftery 2007, doi:10.1198/016214506000001437, equation
    21), in the closed form for the negative binomial of Wei and Held 2014, doi:10.1007/s11749-014-0380-8. From the
    stock on both distribution functions are 1: ∫ (1 − F(z))² dz over z ≥ S is subtracted. A point forecast's CRPS is
    its absolute error. Smaller is better; NaN where the forecast is unknown.

    Units may be fractional; those above the opening stock `shelf`, which is infinite where sales are not limited, are
    scored as `shelf`. `mean` and `size` are of demand.

    Example:
        >>> import numpy as np
        >>> from pricing.demand.evaluation import sales_score
        >>> units, shelf = np.array([12.0, 30.0, 10.0]), np.array([np.inf, np.inf, 10.0])  # the third day sold out
        >>> sales_score(units, mean=np.full(3, 12.0), size=np.full(3, 5.0), shelf=shelf).round(2)
        array([ 1.49, 14.59,  0.4 ])
    """
    known, centre, r = _forecast(mean, size)
    sold = np.minimum(np.asarray(units, np.float64), shelf)
    whole = np.floor(sold)
    chance = r / (r + centre)
    # k P(X = k) is the mean times the probability of k − 1 in a negative binomial whose size is larger by one.
    below = np.where(whole >= 1.0, special.betainc(r + 1.0, np.maximum(whole, 1.0), chance), 0.0)
    distance = sold * (2.0 * special.betainc(r, whole + 1.0, chance) - 1.0) + centre * (1.0 - 2.0 * below)
    score = np.maximum(distance - half_mean_difference(mean=centre, size=r), 0.0)
    at = np.flatnonzero(known & np.isfinite(shelf))
    stock, middle, spread = np.asarray(shelf, np.float64)[at], centre[at], r[at]
    some = _above(np.maximum(np.ceil(stock) - 1.0, 0.0), middle, spread) > _NO_TAIL
    for few, tail in ((True, _counted_tail), (False, _integrated_tail)):
        part = some & ((stock < _COUNTED) == few)
        score[at[part]] -= tail(stock[part], mean=middle[part], size=spread[part])
    return np.where(known, np.maximum(score, 0.0), np.nan)


def _counted_tail(shelf: Floats, *, mean: Floats, size: Floats) -> Floats:
    """∫ (1 − F)² over z ≥ shelf: the full integral, mean − ½ E|X − X'|, less a sum over the counts below the stock."""
    order = np.argsort(-shelf, kind="stable")
    stock, centre, r = shelf[order], mean[order], size[order]
    odds = centre / (r + centre)  # 1 − p
    mass = np.exp(-r * np.log1p(centre / r))
    at_most, below = mass.copy(), np.zeros_like(mass)
    active = len(stock)
    for count in range(int(np.ceil(stock[0])) if active else 0):
        active = int(np.searchsorted(-stock, -count, side="left"))  # rows with more than `count` in stock
        rest = 1.0 - at_most[:active]
        below[:active] += np.minimum(stock[:active] - count, 1.0) * rest * rest
        mass[:active] *= odds[:active] * (count + r[:active]) / (count + 1.0)
        at_most[:active] += mass[:active]
    tail = np.empty_like(below)
    tail[order] = centre - half_mean_difference(mean=centre, size=r) - below
    return tail


def _integrated_tail(shelf: Floats, *, mean: Floats, size: Floats) -> Floats:
    """The same for large stocks: the sum over counts as an integral (inverse midpoint rule, Gauss–Legendre nodes)."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    least = np.ceil(shelf)
    deviation = np.sqrt(mean + mean**2 / size)
    begin = least - 0.5
    edges = np.maximum(mean + np.asarray(_BREAKS)[:, None] * deviation, begin)  # (break, row)
    # Below the first break 1 − F is 1.
    total = edges[0] - begin + (least - shelf) * _above(least - 1.0, mean, size) ** 2
    for low, high in pairwise(edges):
        half = (high - low) / 2.0
        for node, weight in zip(nodes, weights, strict=True):
            total += weight * half * _above(low + half * (1.0 + node), mean, size) ** 2
    slope = _above(least, mean, size) ** 2 - _above(least - 1.0, mean, size) ** 2
    return np.asarray(total + slope / 24.0)  # next term of the Euler–Maclaurin expansion


def _forecast(mean: Floats, size: Floats) -> tuple[Bools, Floats, Floats]:
    """(row,) whether the forecast is known, and its mean and size clipped to the computable range."""
    known = np.isfinite(mean) & (size > 0)
    centre = np.where(known, np.maximum(mean, LEAST_MEAN), 1.0).astype(np.float64)
    return np.asarray(known), centre, np.where(known, np.minimum(size, LARGEST_SIZE), 1.0).astype(np.float64)


def _at_most(count: Floats, size: Floats, chance: Floats) -> Floats:
    """P(D ≤ count) of a negative binomial; 0 for counts below 0."""
    return np.where(count >= 0, special.betainc(size, np.maximum(count, 0.0) + 1.0, chance), 0.0)


def _above(count: Floats, mean: Floats, size: Floats) -> Floats:
    """P(D > count) of a negative binomial for count ≥ 0, interpolated smoothly between counts."""
    return np.asarray(special.betainc(count + 1.0, size, mean / (size + mean)))


def wape(actual: Floats, forecast: Floats) -> float:
    """Σ|actual − forecast| / Σ|actual|; NaN where nothing was sold."""
    total = float(np.abs(actual).sum())
    return float(np.abs(actual - forecast).sum() / total) if total > 0 else float("nan")


def bias(actual: Floats, forecast: Floats) -> float:
    """Σ(forecast − actual) / Σ actual; positive when too much was forecast."""
    total = float(np.abs(actual).sum())
    return float((forecast - actual).sum() / total) if total > 0 else float("nan")


def coverage(frame: pd.DataFrame, *, level: float) -> float:
    """Share of actuals inside the central interval of `level`; see `share_inside`."""
    inside = share_inside(frame["pit_low"].to_numpy(), frame["pit_high"].to_numpy(), level=level)
    return float(inside.mean()) if len(frame) else float("nan")


def figures(frame: pd.DataFrame) -> dict[str, Any]:
    """Score an evaluation frame, on sales given the opening stock (`baselines.sales_rows`), in total and by part.

    `censored` counts sold-out rows, `left_out` rows not scored, `always_sold_out` products that sold out in every row:
    their demand forecasts cannot be judged. `baseline` is that of `baseline_of`, in all parts. `by_step` is per 7
    steps.
    """
    scored = sales_rows(frame)
    baseline = baseline_of(scored)
    of = partial(scores, baseline=baseline)
    volumes = set(scored["volume_class"])
    return {
        **of(scored),
        "baseline": baseline,
        "rows": len(scored),
        "censored": int(frame["censored"].sum()),
        "left_out": len(frame) - len(scored),
        "always_sold_out": int(frame.groupby("product_id")["censored"].all().sum()),
        "folds": [
            {"cutoff": str(pd.Timestamp(str(cutoff)).date()), **of(part)}
            for cutoff, part in scored.groupby("cutoff", sort=True)
        ],
        "by_volume": {name: of(scored[scored["volume_class"] == name]) for name in CLASSES if name in volumes},
        "by_step": {
            f"{7 * int(week) + 1}-{7 * int(week) + 7}": of(part)
            for week, part in scored.groupby((scored["step"] - 1) // 7)
        },
    }


def scores(scored: pd.DataFrame, *, baseline: str) -> dict[str, float]:
    """Score rows from `baselines.sales_rows`: sums of errors over the sum of actuals, NaN where nothing was sold.

    `wape` is the median's, `wape_baseline` that of the column `baseline`. A point forecast's CRPS is its absolute
    error, so `crps` stands beside the baselines' WAPE.
    """
    actual = scored["actual"].to_numpy()
    total = float(np.abs(actual).sum())
    nothing = np.full(len(scored), np.nan)  # of a baseline that the frame lacks
    return {
        "wape": wape(actual, scored["q50"].to_numpy()),
        "wape_mean": wape(actual, scored["forecast"].to_numpy()),
        **{f"wape_{name}": wape(actual, np.asarray(scored.get(name, nothing))) for name in NAMES},
        "wape_baseline": wape(actual, scored[baseline].to_numpy()),
        "crps": float(scored["crps"].sum() / total) if total > 0 else float("nan"),
        "bias": bias(actual, scored["forecast"].to_numpy()),
        "coverage_80": coverage(scored, level=0.80),
        "coverage_95": coverage(scored, level=0.95),
    }
