"""Estimate the ladder by Poisson regressions with effects of series and time.

Each rung is a regression of units on the log price with an effect of every series and of every category's fortnight,
by iterated weighted least squares with both effects projected out (Correia, Guimarães and Zylkin 2020,
doi:10.1177/1536867X20909691). Errors are clustered by product, as demand and prices both drift (Bertrand, Duflo and
Mullainathan 2004, doi:10.1162/003355304772839588).
"""

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats, Ints
from pricing.data.panel import Panel, Period
from pricing.demand.cluster_robust import cluster_robust_variance, normal_factor
from pricing.demand.grades import FORTNIGHT, parents_of
from pricing.demand.ladder import ADVERTISED, ALL, LASTING, RUNGS, STORES, Ladder

LASTS: dict[Period, int] = {"day": 57, "week": 9}  # periods whose median price is the lasting one
SERIES = 1000  # about, those of every so many products of a larger shop
WIDEST = 1.0  # standard error beyond which a rung is not told
_ROUNDS = 40
_SWEEPS = 200
_SETTLED = 1e-4
_PROJECTED = 1e-7


def estimate_ladder(panel: Panel, *, own: Bools | None = None) -> Ladder:
    """Estimate every rung from the prices that people set; `own` (product, period) marks the platform's."""
    of = parents_of(panel)
    chosen = np.isin(of, np.unique(of)[:: -(-len(of) // SERIES)])  # whole parents: siblings tell between stores
    use = panel.present[chosen] & (panel.price[chosen] > 0)
    if own is not None:
        use = use & ~own[chosen]
    log_price = np.log(np.where(use, panel.price[chosen], np.nan))
    lasting = _lasting(log_price, panel.period)
    series, at = np.nonzero(use & np.isfinite(lasting))
    units = panel.units_sold[chosen][series, at].astype(np.float64)
    price = log_price[series, at]
    slow = lasting[series, at]
    advertised = np.nan_to_num(panel.is_promo[chosen][series, at].astype(np.float64))
    parent = np.unique(of[chosen], return_inverse=True)[1][series]
    category = np.unique(panel.categories[chosen], return_inverse=True)[1][series]
    fortnight = _pairs(category, at // FORTNIGHT[panel.period])

    value = np.full(len(RUNGS), np.nan)
    error = np.full(len(RUNGS), np.nan)

    def rung(number: int, *columns: Floats, beside: Ints = fortnight) -> None:
        told = _first_coefficient(units, np.stack(columns, axis=1), effects=(series, beside), cluster=parent)
        if told is not None and told[1] < WIDEST:
            value[number], error[number] = told

    rung(ALL, price)
    if advertised.any():
        rung(ADVERTISED, price, advertised)
    rung(LASTING, slow, price - slow, advertised)
    if panel.parent_ids is not None:
        rung(STORES, price, advertised, beside=_pairs(parent, at))
    return Ladder(value, error)


def _lasting(log_price: Floats, period: Period) -> Floats:
    """(series, period) median log price of the weeks around, in which no cut of a week or two shows."""
    width = LASTS[period]
    rolling = pd.DataFrame(log_price.T).rolling(width, center=True, min_periods=width // 3)
    return np.asarray(rolling.median().to_numpy().T)


def _pairs(left: Ints, right: Ints) -> Ints:
    """(row,) number of each pair of a row's two numbers."""
    return np.asarray(left * (int(right.max(initial=0)) + 1) + right)


def _first_coefficient(
    units: Floats, columns: Floats, *, effects: tuple[Ints, Ints], cluster: Ints
) -> tuple[float, float] | None:
    """Estimate a Poisson regression of (row,) units on (row, column) with two effects.

    Returns:
        The first column's coefficient and its standard error; None where the effects leave nothing of the column,
        fewer than two clusters tell of it, or the iteration does not settle.
    """
    sold = np.ones(len(units), np.bool_)
    for effect in effects:  # an effect without any sale is −∞, and tells nothing
        sold &= (np.bincount(effect, units) > 0)[effect]
    units = units[sold]
    columns = columns[sold]
    effects = tuple(np.unique(effect[sold], return_inverse=True)[1] for effect in effects)  # type: ignore[assignment]
    cluster = np.unique(cluster[sold], return_inverse=True)[1]
    if not len(units):
        return None
    mean = 0.5 * (units + units.mean())
    log_mean = np.log(mean)
    slope = np.zeros(columns.shape[1])
    for _ in range(_ROUNDS):
        response = log_mean + (units - mean) / mean
        left = _projected(np.column_stack([response, columns]), mean, effects)
        told = left[:, 1:] * mean[:, None]
        information = told.T @ left[:, 1:]
        spread = np.sqrt(np.diag(information) / mean.sum())
        varies = spread > 1e-4
        if not varies[0]:
            return None
        before = slope
        slope = np.zeros(len(before))
        slope[varies] = np.linalg.lstsq(information[np.ix_(varies, varies)], told[:, varies].T @ left[:, 0])[0]
        rest = left[:, 0] - left[:, 1:] @ slope
        log_mean = np.clip(response - rest, -25.0, 25.0)
        mean = np.exp(log_mean)
        if np.abs(slope - before).max() < _SETTLED:
            return _with_error(slope[varies], left[:, 1:][:, varies], told[:, varies], rest, cluster)
    return None


def _with_error(
    slope: Floats, columns: Floats, told: Floats, rest: Floats, cluster: Ints
) -> tuple[float, float] | None:
    """The first coefficient with its standard error, from clusters of rows."""
    count = int(cluster.max()) + 1
    score = np.zeros((count, len(slope)))
    np.add.at(score, cluster, told * rest[:, None])
    information = np.zeros((count, len(slope), len(slope)))
    np.add.at(information, cluster, told[:, :, None] * columns[:, None, :])
    if np.linalg.matrix_rank(information.sum(axis=0)) < len(slope):
        return None
    found = cluster_robust_variance(information, score)
    error = np.sqrt(found.variance[0]) * normal_factor(found.degrees)[0]
    return (float(slope[0]), float(error)) if np.isfinite(error) else None


def _projected(values: Floats, weight: Floats, effects: tuple[Ints, Ints]) -> Floats:
    """(row, column) what both effects leave of each column, by alternating weighted means."""
    sums = [np.bincount(effect, weight) for effect in effects]
    for _ in range(_SWEEPS):
        largest = 0.0
        for effect, total in zip(effects, sums, strict=True):
            mean = np.stack([np.bincount(effect, weight * column) / total for column in values.T], axis=1)
            values = values - mean[effect]
            largest = max(largest, float(np.abs(mean).max()))
        if largest < _PROJECTED:
            break
    return values
