"""Estimate the diversion ratio: the share of what a product loses, in money, that our others win. NumPy only.

The diversion ratio of a product is the share of what it loses by a higher price that other products of the same shop
win (Shapiro 1996; Conlon and Mortimer 2021, doi:10.1111/1756-2171.12388). Where cross effects are symmetric, as in
every choice among offers without income effects, the units that i wins by dearer others are those that others win by a
dearer i. In money at regular prices, the share is then x / |e|: e is the own elasticity, and x the elasticity of demand
in the price of the others, all moved together.
"""

from dataclasses import replace

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.data.ewma import Norms
from pricing.data.features import restated_units
from pricing.data.panel import Panel
from pricing.demand.competitor import estimate_competitor_effects
from pricing.demand.grades import parents_of

# Share at most. Measured diversion within a shop's category is mostly below: a larger estimate is one of the
# category's common shocks.
MOST = 0.6


def estimate_diversion(panel: Panel, *, norms: Norms, group: Ints, elasticity_sd: Floats) -> Floats:
    """(group,) shares, 0 to MOST, of what a product loses, in money, that the other products of its group win.

    The effect of the others' price is estimated as a competitor's is, with their units-weighted geometric mean price
    in the place of his, and shrunk towards no effect. The share is the ratio of units-weighted means over the group's
    products; 0 where a group has too few price changes, or a single product.

    Args:
        panel: The history.
        norms: (product,) scales and elasticities.
        group: (product,) row of each product's group, from 0 on: its category.
        elasticity_sd: (product,) standard deviations of the elasticities' logs.
    """
    units = _mean_units(panel, norms)
    others = replace(panel, comp_price=others_price(panel, norms=norms, group=group, units=units))
    effect = estimate_competitor_effects(others, norms=norms, category=group, elasticity_sd=elasticity_sd).mean
    known = np.isfinite(effect)
    weight = np.where(known, units, 0.0)
    won = np.bincount(group, weight * np.where(known, effect, 0.0))
    lost = np.bincount(group, weight * np.abs(norms.elasticity))
    share = np.divide(won, lost, where=lost > 0, out=np.zeros(len(lost)))
    return np.clip(share, 0.0, MOST)


def others_price(panel: Panel, *, norms: Norms, group: Ints, units: Floats) -> Floats:
    """(product, period) geometric mean price of the other products of each one's group, over their usual prices.

    Weights are `units` (product,). Only products with a price in a period count, and no other series of the same
    parent; NaN where no other one has one.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        price = np.log(panel.price / norms.usual_price[:, None])
    here = panel.present & np.isfinite(price)
    weight = np.where(here, units[:, None], 0.0)
    weighted = weight * np.where(here, price, 0.0)
    shape = (int(group.max(initial=-1)) + 1, price.shape[1])
    _, parent = np.unique(parents_of(panel), return_inverse=True)

    def of_others(values: Floats) -> Floats:
        of_group = np.zeros(shape)
        of_parent = np.zeros((int(parent.max(initial=-1)) + 1, shape[1]))
        np.add.at(of_group, group, values)
        np.add.at(of_parent, parent, values)
        return np.asarray(of_group[group] - of_parent[parent])

    left = of_others(weight)
    some = left > 1e-9 * np.maximum(weight, 1e-9)
    mean = np.divide(of_others(weighted), left, where=some, out=np.full(left.shape, np.nan))
    return np.asarray(np.exp(mean), np.float32)


def _mean_units(panel: Panel, norms: Norms) -> Floats:
    """(product,) mean units a period, restated at the usual price."""
    units = np.where(panel.present, np.nan_to_num(restated_units(panel, norms)), 0.0)
    found: Floats = units.sum(axis=1, dtype=np.float64) / np.maximum(panel.present.sum(axis=1), 1)
    return found
