"""Combination weights of the forecasters, chosen by their scores in earlier folds.

The weights with the best score are shrunk towards equal ones, which estimated weights seldom beat on little evidence
(Diebold and Pauly 1990, doi:10.1016/0169-2070(90)90028-A; Smith and Wallis 2009,
doi:10.1111/j.1468-0084.2008.00541.x).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.data.counting_units import in_steps
from pricing.demand.baselines import sales_rows, shelf_of
from pricing.demand.combination import CLASSES, FORECASTERS
from pricing.demand.evaluation import sales_score
from pricing.demand.intervals import equivalent_folds, shrink_by_folds, spread_rows

PARTS = 4  # candidate weights are multiples of a quarter
ALIKE = 1e-9  # of the units sold: scores closer than this are ties
_TRIED = np.array([p for p in product(range(PARTS + 1), repeat=len(FORECASTERS)) if sum(p) == PARTS]) / PARTS


def choose_weights(earlier: Sequence[pd.DataFrame], *, prior: Floats) -> Floats:
    """(class, forecaster) combination weights chosen from earlier folds, as in real time.

    For each volume class, and for all products, the quarters with the smallest CRPS over the earlier folds. A class's
    weights are shrunk towards those of all products, and these towards the prior, the more the fewer folds there are.

    Args:
        earlier: The earlier folds' evaluation frames, with a column for each forecaster, NaN where a fold had none;
            only rows whose outcome is known at the cutoff.
        prior: (class, forecaster) from `combination.prior_weights`; a forecaster with weight 0 there is left out.
    """
    if not earlier:
        return prior
    frame = pd.concat(earlier, ignore_index=True)
    scored = sales_rows(frame)
    folds = equivalent_folds(frame)
    tried = _TRIED[(_TRIED[:, prior[0] == 0] == 0).all(axis=1)]
    everything = shrink_by_folds(_best(scored, tried, otherwise=prior[0]), towards=prior[0], folds=folds)
    own = [_best(scored[scored["volume_class"] == name], tried, otherwise=everything) for name in CLASSES]
    return np.array([*(shrink_by_folds(one, towards=everything, folds=folds) for one in own), everything])


def _best(scored: pd.DataFrame, tried: Floats, *, otherwise: Floats) -> Floats:
    """(forecaster,) candidate weights with the smallest total CRPS; `otherwise` without rows.

    A forecaster that was never scored keeps its part of `otherwise`; rows of folds that lack one are not used. Ties go
    to the weights nearest to `otherwise`.
    """
    known = scored[list(FORECASTERS)].notna().to_numpy()
    there = known.any(axis=0)
    some = spread_rows(scored.iloc[np.flatnonzero(known[:, there].all(axis=1))])
    if some["censored"].all():  # no row, or only sold-out ones, which never penalise a high forecast
        return otherwise
    tried = tried[(tried[:, ~there] == 0).all(axis=1)]
    unit, size = some["unit"].to_numpy(np.float64), some["size"].to_numpy(np.float64)
    sold, shelf = in_steps(some["actual"].to_numpy(np.float64), unit), in_steps(shelf_of(some), unit)
    means = np.stack([some[name].to_numpy(np.float64) / unit for name in FORECASTERS])
    means[~there] = 0.0
    scores = np.array([(unit * sales_score(sold, mean=each @ means, size=size, shelf=shelf)).sum() for each in tried])
    alike = tried[scores <= scores.min() + ALIKE * float((unit * sold).sum())]
    best = alike[int(np.argmin(np.abs(alike - otherwise).sum(axis=1)))]
    return np.where(there, best * otherwise[there].sum(), otherwise)
