"""Estimate how much promotions add to demand beyond their price, with shrinkage. NumPy only.

Promoted sales must be restated, or they would raise the level and the next promotion would be counted twice; they are
compared with the level expected from ordinary periods alone, and categories are shrunk towards their common mean
(Morris 1983, doi:10.1080/01621459.1983.10477920).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data import features
from pricing.data.ewma import HALF_LIVES, SIZE, Norms, demand_above
from pricing.data.panel import Panel
from pricing.demand.cluster_robust import cluster_robust_variance, normal_factor
from pricing.demand.grades import FORTNIGHT

CHUNK = 500  # products whose features are held at a time
LIMIT = 3.0  # log units at which a lift is clipped
LEAST_BEFORE = 4  # least ordinary rows within the level's half-life for a reference
RATIO = 20.0  # units are capped at this many times the expectation, and at least this many units
BETWEEN_SD = 0.3  # log units: prior standard deviation between categories, with the weight of one category
CENTRE_SD = 1.0  # log units: prior standard deviation of the common mean, around 0
STEPS = 50
SETTLED = 1e-4


def learn_promotions(panel: Panel, *, norms: Norms, category: Ints) -> Norms:
    """Return the scales with `promotion` and `depth`, estimated per category from promoted sales.

    Both are at least 0. `norms` have the elasticities for the price's own effect. Shoppers answer to an advertised deep
    cut less than in proportion, so the price below a full promotion's cut has a share of the elasticity, `depth`, of
    its own. A category without usable promotions in two fortnights gets the common mean; lift 0 and depth 1 if no
    category has any.
    """
    nothing = np.zeros(len(category), np.float32)
    norms = replace(norms, promotion=nothing, depth=nothing + 1.0)
    rows = np.flatnonzero((panel.present & (panel.is_promo > 0)).any(axis=1))
    if not len(rows):
        return norms
    chunks = np.array_split(rows, -(-len(rows) // CHUNK))
    parts = [_promoted(panel.select(some), norms.take(some), category[some]) for some in chunks]
    events = _Promoted(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    less = _by_category(events, category, columns=("draw", "deep"))
    depth = np.maximum(1.0 + less, 0.0)
    events = events._replace(mean=events.mean * np.exp((depth[events.category] - 1.0) * events.deep))
    lift = np.maximum(_by_category(events, category, columns=("draw",)), 0.0)
    return replace(norms, promotion=lift[category].astype(np.float32), depth=depth[category].astype(np.float32))


def _by_category(events: "_Promoted", category: Ints, *, columns: tuple[str, ...]) -> Floats:
    """(category,) shrunk coefficient of the last column, with the others beside it."""
    count = int(category.max()) + 1
    value = np.zeros(count)
    error = np.full(count, np.inf)
    for row in np.unique(events.category):
        own = events.category == row
        value[row], error[row] = _coefficient(_Promoted(*(values[own] for values in events)), columns)
    return _shrunk(value, error)


class _Promoted(NamedTuple):
    """Promoted product-periods, one entry an event."""

    category: Ints
    cluster: Ints  # fortnight
    draw: Floats
    deep: Floats  # log units of the price's effect below a full promotion's cut
    units: Floats
    mean: Floats  # units expected at that price without promotion
    censored: Bools  # whether sold out


def _promoted(panel: Panel, norms: Norms, category: Ints) -> _Promoted:
    """Select promoted product-periods that have ordinary ones shortly before."""
    columns = features.restated_columns(panel, norms)
    promoted = panel.present & (panel.is_promo > 0)
    ordinary = replace(panel, present=panel.present & ~promoted)
    past, _ = features.past_features(ordinary, norms=norms)
    weekday = features.weekdays(panel.dates, period=panel.period)
    profile = np.take_along_axis(past.profile[:, :-1], weekday[None, 1:, None], axis=2)[:, :, 0]
    level = np.pad(past.level[:, :-1] + profile, ((0, 0), (1, 0)))

    seen = np.cumsum(ordinary.present, axis=1)
    window = HALF_LIVES[panel.period][1]
    before = np.pad(seen, ((0, 0), (window, 0)))[:, : seen.shape[1]]
    near = seen - before >= LEAST_BEFORE  # during a long promotion the reference becomes outdated
    at = np.nonzero(promoted & near & (columns["promo"] > 0))
    product, period = at
    effect = columns["effect"][at].astype(np.float64)
    deep = features.price_slope(panel, norms) * features.below_full_cut(panel.price, panel.list_price)
    return _Promoted(
        category=category[product],
        cluster=period.astype(np.int64) // FORTNIGHT[panel.period],
        draw=columns["promo"][at].astype(np.float64),
        deep=deep[at].astype(np.float64),
        units=(columns["restated"][at] * np.exp(effect)).astype(np.float64),
        mean=np.maximum(np.exp(level[at] + effect), 1e-3),
        censored=panel.censored[at],
    )


def _coefficient(events: _Promoted, columns: tuple[str, ...]) -> tuple[float, float]:
    """Estimate the columns' coefficients by quasi-likelihood; returns the last, and its CR2 standard error.

    Its clusters are fortnights (promotions share shocks). The error is infinite where the column is 0 throughout.
    """
    design = np.stack([getattr(events, name) for name in columns], axis=1)  # (event, column)
    if not design[:, -1].any():
        return 0.0, np.inf
    found = np.zeros(len(columns))
    most = RATIO * np.maximum(events.mean, 1.0)
    ridge = 1e-9 * np.eye(len(columns))
    for _ in range(STEPS):
        expected = events.mean * np.exp(np.clip(design @ found, -LIMIT, LIMIT))
        wanted = np.where(events.censored, demand_above(events.units, mean=expected), events.units)  # EM algorithm
        weight = 1.0 / (1.0 + expected / SIZE)
        score = design * (weight * (np.minimum(wanted, most) - expected))[:, None]
        information = design[:, :, None] * design[:, None, :] * (weight * expected)[:, None, None]
        total = information.sum(axis=0) + ridge
        step = np.clip(np.linalg.solve(total, score.sum(axis=0)), -1.0, 1.0)
        found = np.clip(found + step, -LIMIT, LIMIT)
        if np.abs(step).max() < SETTLED:
            break
    clusters, row = np.unique(events.cluster, return_inverse=True)
    inside = np.zeros((len(clusters), *total.shape))
    outer = np.zeros((len(clusters), len(found)))
    np.add.at(inside, row, information)
    np.add.at(outer, row, score)
    inside += ridge / len(clusters)
    robust = cluster_robust_variance(inside, outer)
    variance = np.maximum(robust.variance, np.diag(np.linalg.inv(total)))[-1]
    return float(found[-1]), float(np.sqrt(variance) * normal_factor(robust.degrees)[-1])


def _shrunk(lift: Floats, error: Floats) -> Floats:
    """(category,) posterior means around a common mean, whose prior mean is 0; the common mean without an estimate."""
    known = np.isfinite(error)
    if not known.any():
        return np.zeros_like(lift)
    precision = np.where(known, 1.0 / np.where(known, error, 1.0) ** 2, 0.0)
    value = lift[known]
    noise = error[known] ** 2
    spread = BETWEEN_SD**2
    for _ in range(STEPS):
        weight = 1.0 / (spread + noise)
        centre = float(weight @ value / (weight.sum() + CENTRE_SD**-2))
        told = float(weight @ ((value - centre) ** 2 - noise)) + 1.0  # pseudo-observation BETWEEN_SD²
        spread = max(told / (float(weight.sum()) + BETWEEN_SD**-2), 1e-6)
    share = precision / (precision + 1.0 / spread)
    return np.asarray(share * lift + (1.0 - share) * centre)
