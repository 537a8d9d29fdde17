"""Parameter table for forecasting: one row a product, then one a category, then the unknown category."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.data.ewma import Norms, forecast_inputs
from pricing.demand import forward
from pricing.demand.forward import Weights
from pricing.demand.state import State


@dataclass(frozen=True)
class Priors:
    """Parameters of products without history: one entry a category, the last for an unknown category.

    `level` is in the category's own `unit`, its counting unit in the units of `units_sold`; `counted` tells whether
    that is a piece.
    """

    level: Floats
    unit: Floats
    elasticity: Floats
    elasticity_sd: Floats
    grade: Ints
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class ProductParameters:
    """Parameters of products, then categories, then the unknown category; one row each.

    `level` is the log of units as in `units_sold`, not in multiples of the counting unit `unit`.
    """

    unit: Floats
    level: Floats
    profile: Floats
    summary: Floats
    prepared: Floats
    elasticity: Floats
    weekend: Floats
    recent_price: Floats


def typical(values: Floats, category: Ints, *, count: int) -> Floats:
    """(count, …) category means of (product, …) values; the overall mean for a category without products."""
    everyone = values.mean(axis=0) if len(values) else np.zeros(values.shape[1:], values.dtype)
    rows = [values[category == c] for c in range(count)]
    return np.stack([row.mean(axis=0) if len(row) else everyone for row in rows])


def build_product_parameters(
    state: State, *, norms: Norms, priors: Priors, category: Ints, weights: Weights
) -> ProductParameters:
    """Build the parameters of every row; `category` is the (product,) row of each product's category."""
    level, profile, summary, recent = forecast_inputs(state.memory, norms=norms)
    prepared, count = forward.prepare(weights, state.hidden, category), len(priors.level)

    def stack(own: Floats, category: Floats) -> Floats:
        return np.concatenate([own, category], dtype=np.float32)

    unit = np.concatenate([norms.unit, priors.unit]).astype(np.float64)
    return ProductParameters(
        unit=unit,
        level=stack(level, np.log(np.maximum(priors.level, 1e-3))) + np.log(unit).astype(np.float32),
        profile=stack(profile, typical(profile, category, count=count)),
        summary=stack(summary, typical(summary, category, count=count)),
        prepared=stack(prepared, typical(prepared, category, count=count)),
        elasticity=stack(norms.elasticity, priors.elasticity),
        weekend=stack(norms.weekend, typical(norms.weekend, category, count=count)),
        recent_price=stack(recent, np.zeros(count)),
    )
