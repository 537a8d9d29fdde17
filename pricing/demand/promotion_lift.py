"""Estimate how much a promotion adds to demand beyond its price, to restate past sales. NumPy only.

Without restating, promoted sales would raise the level, and the next promotion would be counted twice. Promoted sales
are compared with the level expected from ordinary periods alone; categories are shrunk towards their common mean:
empirical Bayes (Morris 1983, doi:10.1080/01621459.1983.10477920).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.data import features
from pricing.data.ewma import HALF_LIVES, SIZE, Norms, demand_above
from pricing.data.panel import Panel
from pricing.demand.cluster_robust import cluster_robust_variance, normal_factor
from pricing.demand.grades import FORTNIGHT

CHUNK = 500  # products whose features are computed at a time
LEAST = 4  # least ordinary rows within the level's half-life for a reference
RATIO = 20.0  # units are capped at this many times the expectation, and at least this many units
PRIOR_SD = 0.3  # log units: prior standard deviation between categories, with the weight of one category
CENTRE_SD = 1.0  # log units: prior standard deviation of the common mean, around 0
LIMIT = 3.0  # log units
ROUNDS, SETTLED = 50, 1e-4


def learn_promotion_lift(panel: Panel, *, norms: Norms, category: Ints) -> NDArray[np.float32]:
    """(product,) log units that a full promotion adds beyond its price, estimated per category.

    At least 0, as in forecasts. `norms` have the elasticities for the price's own effect. A category without usable
    promotions in two fortnights gets the common mean; 0 if no category has any.
    """
    count = int(category.max(initial=-1)) + 1
    rows = np.flatnonzero((panel.present & (panel.is_promo > 0)).any(axis=1))
    if not len(rows):
        return np.zeros(len(category), np.float32)
    events = [
        _promoted(panel.select(some), norms.take(some), category[some])
        for some in np.array_split(rows, -(-len(rows) // CHUNK))
    ]
    group, cluster, draw, units, mean, censored = (np.concatenate(each) for each in zip(*events, strict=True))
    lift, error = np.zeros(count), np.full(count, np.inf)
    for row in np.unique(group):
        own = group == row
        lift[row], error[row] = _fit(cluster[own], draw[own], units[own], mean[own], censored[own])
    return np.maximum(_shrunk(lift, error), 0.0)[category].astype(np.float32)


def _promoted(panel: Panel, norms: Norms, category: Ints) -> tuple[Ints, Ints, Floats, Floats, Floats, Bools]:
    """Select promoted product-periods that have ordinary ones shortly before.

    (event,) category, fortnight, draw, units, units expected at that price without promotion, and whether sold out.
    """
    columns = features.restated_columns(panel, replace(norms, promotion=np.zeros_like(norms.promotion)))
    promoted = panel.present & (panel.is_promo > 0)
    ordinary = replace(panel, present=panel.present & ~promoted)
    past, _ = features.past_features(ordinary, norms=norms)
    weekday = features.weekdays(panel.dates, period=panel.period)
    profile = np.take_along_axis(past.profile[:, :-1], weekday[None, 1:, None], axis=2)[:, :, 0]
    level = np.concatenate([np.zeros((len(category), 1)), past.level[:, :-1] + profile], axis=1)
    seen = np.cumsum(ordinary.present, axis=1)
    window = HALF_LIVES[panel.period][1]
    before = np.concatenate([np.zeros((len(seen), window), seen.dtype), seen[:, :-window]], axis=1)[:, : seen.shape[1]]
    near = seen - before >= LEAST  # during a long promotion the reference becomes outdated
    product, period = np.nonzero(promoted & near & (columns["promo"] > 0))
    effect = columns["effect"][product, period].astype(np.float64)
    mean = np.maximum(np.exp(level[product, period] + effect), 1e-3)
    units = columns["restated"][product, period] * np.exp(effect)
    draw = columns["promo"][product, period].astype(np.float64)
    cluster = period.astype(np.int64) // FORTNIGHT[panel.period]
    return category[product], cluster, draw, units.astype(np.float64), mean, panel.censored[product, period]


def _fit(cluster: Ints, draw: Floats, units: Floats, mean: Floats, censored: Bools) -> tuple[float, float]:
    """Estimate one lift by quasi-likelihood, with CR2 standard error over fortnights (promotions share shocks)."""
    lift, information, score = 0.0, np.zeros(len(mean)), np.zeros(len(mean))
    most = RATIO * np.maximum(mean, 1.0)
    for _ in range(ROUNDS):
        expected = mean * np.exp(lift * draw)
        wanted = np.where(censored, demand_above(units, mean=expected), units)  # EM algorithm
        weight = 1.0 / (1.0 + expected / SIZE)
        information = weight * draw**2 * expected
        score = weight * draw * (np.minimum(wanted, most) - expected)
        step = float(np.clip(score.sum() / max(float(information.sum()), 1e-9), -1.0, 1.0))
        lift = float(np.clip(lift + step, -LIMIT, LIMIT))
        if abs(step) < SETTLED:
            break
    row = np.unique(cluster, return_inverse=True)[1]
    total = max(float(information.sum()), 1e-9)
    inside, outer = (np.bincount(row, values).astype(np.float64) for values in (information, score))
    found = cluster_robust_variance(inside[:, None, None], outer[:, None])
    return lift, float(np.sqrt(max(float(found.variance[0]), 1.0 / total)) * normal_factor(found.degrees)[0])


def _shrunk(lift: Floats, error: Floats) -> Floats:
    """(category,) posterior means around a common mean, whose prior mean is 0; the common mean without an estimate."""
    known = np.isfinite(error)
    if not known.any():
        return np.zeros_like(lift)
    precision = np.where(known, 1.0 / np.where(known, error, 1.0) ** 2, 0.0)
    value, noise = lift[known], error[known] ** 2
    spread = PRIOR_SD**2
    for _ in range(ROUNDS):
        weight = 1.0 / (spread + noise)
        centre = float(weight @ value / (weight.sum() + CENTRE_SD**-2))
        told = float(weight @ ((value - centre) ** 2 - noise)) + 1.0  # pseudo-observation PRIOR_SD²
        spread = max(told / (float(weight.sum()) + PRIOR_SD**-2), 1e-6)
    share = precision / (precision + 1.0 / spread)
    return np.asarray(share * lift + (1.0 - share) * centre)
