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


def learn_promotion_lift(panel: Panel, *, norms: Norms, category: Ints) -> Floats:
    """(product,) log units that a full promotion adds beyond its price, estimated per category.

    At least 0, as in forecasts. `norms` have the elasticities for the price's own effect. A category without usable
    promotions in two fortnights gets the common mean; 0 if no category has any.
    """
    rows = np.flatnonzero((panel.present & (panel.is_promo > 0)).any(axis=1))
    if not len(rows):
        return np.zeros(len(category), np.float32)
    chunks = np.array_split(rows, -(-len(rows) // CHUNK))
    parts = [_promoted(panel.select(some), norms.take(some), category[some]) for some in chunks]
    events = _Promoted(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    count = int(category.max()) + 1
    lift = np.zeros(count)
    error = np.full(count, np.inf)
    for row in np.unique(events.category):
        own = events.category == row
        lift[row], error[row] = _promotion_lift(_Promoted(*(values[own] for values in events)))
    return np.maximum(_shrunk(lift, error), 0.0)[category].astype(np.float32)


class _Promoted(NamedTuple):
    """Promoted product-periods, one entry an event."""

    category: Ints
    cluster: Ints  # fortnight
    draw: Floats
    units: Floats
    mean: Floats  # units expected at that price without promotion
    censored: Bools  # whether sold out


def _promoted(panel: Panel, norms: Norms, category: Ints) -> _Promoted:
    """Select promoted product-periods that have ordinary ones shortly before."""
    columns = features.restated_columns(panel, replace(norms, promotion=np.zeros_like(norms.promotion)))
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
    return _Promoted(
        category=category[product],
        cluster=period.astype(np.int64) // FORTNIGHT[panel.period],
        draw=columns["promo"][at].astype(np.float64),
        units=(columns["restated"][at] * np.exp(effect)).astype(np.float64),
        mean=np.maximum(np.exp(level[at] + effect), 1e-3),
        censored=panel.bounded[at],
    )


def _promotion_lift(events: _Promoted) -> tuple[float, float]:
    """Estimate one lift by quasi-likelihood, with CR2 standard error over fortnights (promotions share shocks)."""
    lift = 0.0
    most = RATIO * np.maximum(events.mean, 1.0)
    for _ in range(STEPS):
        expected = events.mean * np.exp(lift * events.draw)
        wanted = np.where(events.censored, demand_above(events.units, mean=expected), events.units)  # EM algorithm
        weight = 1.0 / (1.0 + expected / SIZE)
        information = weight * events.draw**2 * expected
        score = weight * events.draw * (np.minimum(wanted, most) - expected)
        step = float(np.clip(score.sum() / max(float(information.sum()), 1e-9), -1.0, 1.0))
        lift = float(np.clip(lift + step, -LIMIT, LIMIT))
        if abs(step) < SETTLED:
            break
    row = np.unique(events.cluster, return_inverse=True)[1]
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
