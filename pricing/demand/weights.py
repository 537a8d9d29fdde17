"""How much each forecaster weighs in a combination, by what it would have been worth in folds that are over.

The weights that would have scored best are drawn towards equal ones, which estimated weights seldom beat on little
evidence (Diebold and Pauly 1990, doi:10.1016/0169-2070(90)90028-A; Smith and Wallis 2009,
doi:10.1111/j.1468-0084.2008.00541.x).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.data.units import in_steps
from pricing.demand.baselines import sales_rows, shelf_of
from pricing.demand.combination import CLASSES, FORECASTERS
from pricing.demand.evaluation import sales_score
from pricing.demand.intervals import drawn, folds_worth, spread_rows

PARTS = 4  # weights are tried in quarters
ALIKE = 1e-9  # of the units sold: a difference of scores that says nothing
_TRIED = np.array([p for p in product(range(PARTS + 1), repeat=len(FORECASTERS)) if sum(p) == PARTS]) / PARTS


def choose_weights(earlier: Sequence[pd.DataFrame], *, prior: Floats) -> Floats:
    """(class, forecaster) the weights that a forecaster would have taken.

    For each volume class, and for all products, the quarters with the smallest CRPS over the folds before; a class's
    own are drawn towards those of all products, and these towards the prior ones, as far as folds are few.

    Args:
        earlier: The earlier folds' evaluation frames, with a column for each forecaster, NaN where a fold had none;
            only rows whose outcome is known by then.
        prior: (class, forecaster) from `combination.prior_weights`; who weighs nothing there is no forecaster.
    """
    if not earlier:
        return prior
    frame = pd.concat(earlier, ignore_index=True)
    scored = sales_rows(frame)
    folds = folds_worth(frame)
    tried = _TRIED[(_TRIED[:, prior[0] == 0] == 0).all(axis=1)]
    everything = drawn(_best(scored, tried, otherwise=prior[0]), towards=prior[0], folds=folds)
    own = [_best(scored[scored["volume_class"] == name], tried, otherwise=everything) for name in CLASSES]
    return np.array([*(drawn(one, towards=everything, folds=folds) for one in own), everything])


def _best(scored: pd.DataFrame, tried: Floats, *, otherwise: Floats) -> Floats:
    """(forecaster,) of the weights tried those with the smallest CRPS in total; `otherwise` without rows.

    A forecaster that was never scored keeps its part of `otherwise`; one that some folds lacked is tried on the others.
    Of weights that score alike those nearest to `otherwise` are taken.
    """
    known = scored[list(FORECASTERS)].notna().to_numpy()
    there = known.any(axis=0)
    some = spread_rows(scored.iloc[np.flatnonzero(known[:, there].all(axis=1))])
    if some["censored"].all():  # without a row, or with shelves alone, which a forecast cannot be too high for
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
