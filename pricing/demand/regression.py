"""Residual-on-residual regression: quasi-Poisson of units on price residuals, with the forecast as offset.

Double machine learning: Chernozhukov et al. (2018), doi:10.1111/ectj.12097, here as in Schultz et al. (2023), "Causal
forecasting for pricing", arXiv:2312.15282. The quasi-Poisson score allows zeros and is consistent if only the mean is
correctly specified (Gourieroux, Monfort, Trognon 1984). A product's level error is a random intercept (Breslow and
Clayton 1993, doi:10.2307/2290687): a fixed effect would absorb the only price change of a product that has one.

Products that are series of one parent, a product's stores or channels, have one price coefficient and an intercept
each. So have a product's advertised and its other periods, as its advertisements may lift it more or less than all do.
Errors may be correlated within a cluster of time, so that the parent counts as one in standard errors.
"""

from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.demand.censoring import complete_censored
from pricing.demand.cluster_robust import absorbed_variance, cluster_robust_variance, normal_factor

MAX_NEWTON = 40
SETTLED = 1e-4
# Prior standard deviations, around 0, of the control's and the weekend's coefficient: about the standard error that two
# years of one shop's price changes give; and of the lift of advertisements, which is hardly shrunk.
CONTROL_SD = 0.2
WEEKEND_SD = 0.15
LIFT_SD = 0.5
LEVEL_SD = 0.2  # log units: prior standard deviation of the level error, with the weight of one product
POOLED_DEGREES = 4.0  # prior degrees of freedom of each product's over-dispersion (moderated variance)


@dataclass(frozen=True)
class Residuals:
    """Outcomes and out-of-fold predictions of both nuisance networks, one entry a scored period; all (event,)."""

    product: Ints  # row of the product; a series of its own where it is advertised
    cluster: Ints  # number of the cluster; events of one cluster may be correlated
    units: Floats  # units sold
    mean: Floats  # units expected at the price charged, with the current elasticity in the offset
    price: Floats  # price residual (log price change less the price network's prediction) × weekend factor
    # Control function: its part that may respond to hidden demand (`endogeneity`); of draws, that of the week before.
    routine: Floats
    size: Floats  # of the negative binomial
    weekend: Floats  # regressor of the weekend coefficient: elasticity × price residual on weekends, else 0
    advertised: Floats  # regressor of the lift: a promotion's draw, 0 to 1
    censored: Floats  # 1.0 where the stock ran out, so that demand was at least `units`


@dataclass(frozen=True)
class Shift:
    """Estimated differences between elasticities and those in the offset."""

    value: Floats  # (parent,) δ, shift of each parent; a product without one is its own
    error: Floats  # (parent,) its standard error given the control's coefficient; infinite without an estimate
    # (category,) 1 / squared error of the shift that its products would share; 0 if unknown
    category_information: Floats
    mean: float  # shift that all products share
    mean_error: float  # its standard error clustered over parents, with the uncertainty of control and weekend
    drift: float  # what clustering over time adds to it, in quadrature; infinite with one cluster of time
    control: float  # κ, coefficient of the control function; of draws, that of the draw a week before
    control_error: float  # standard deviation of what its error adds to mean + control
    lift: float  # λ, log units that an advertisement adds beyond its price
    common: Floats  # (parent,) standard deviation of the error that all products share through κ and λ
    weekend: float  # Δω, relative change of the elasticity on weekends, for all products, beyond that in the offset
    level: Floats  # (product,) α, predicted random intercept: log error of the forecast's level
    level_sd: float  # standard deviation of the random intercepts


@dataclass(frozen=True)
class _Pooled:
    """Coefficients that all products share, and the products' random intercepts."""

    value: Floats  # (column,)
    error: Floats  # (column,) clustered over parents
    drift: Floats  # (column,) what clustering over time adds to it, in quadrature
    level: Floats  # (product,) α
    variance: float  # of the level, σ²


@dataclass(frozen=True)
class _Design:
    """Columns with the random intercepts projected out, at the current fit."""

    information: Floats  # (event,)
    residual: Floats  # (event,) score of log mean
    total: Floats  # (product,) information
    centre: Floats  # (column, product)
    around: Floats  # (column, event)


def regress(
    residuals: Residuals, *, weekend: float, parent: Ints, category: Ints, control_sd: float = CONTROL_SD
) -> Shift:
    """Quasi-Poisson regression of units on price residuals, with the demand network's forecast as offset.

    First all products together: units = mean · exp(αᵢ + δ·price + κ·routine + ω·weekend + λ·advertised), with random
    intercepts αᵢ of estimated variance. κ, ω and λ are shrunk towards 0 by their standard errors (normal priors,
    `control_sd`, WEEKEND_SD and LIFT_SD). Then δ again, and each parent's own δ, given these. ω changes `weekend`,
    the offset's weekend factor; the resulting factor is shrunk, so that more rounds do not weaken the prior. Sold-out
    events enter as censored: by the probability of at least that demand.

    Weights are 1 / (1 + mean / size). Standard errors are CR2 (`cluster_robust`): for shared coefficients the larger of
    those clustered over parents and over time; for a parent's own over time, its over-dispersion moderated by that of
    all (Smyth 2004, doi:10.2202/1544-6115.1027; parents of several products among themselves, since what these share
    counts in it) and at least 1.

    `parent` is (product,) row of the parent whose coefficient each shares, products without events included; `category`
    (product,) row of the category.
    """
    regressors = [residuals.price, residuals.routine, residuals.weekend, residuals.advertised]
    columns = np.stack(regressors).astype(np.float64)  # (4, event)
    shared = _fit(residuals, columns, parent=parent)
    prior = np.asarray([control_sd, WEEKEND_SD, LIFT_SD]) ** 2
    variance = (shared.error**2 + shared.drift**2)[1:]
    left = 1.0 / (1.0 / prior + 1.0 / variance)  # posterior variances of κ, ω and λ
    kept = 1.0 - left / prior
    so_far = np.asarray([0.0, weekend, 0.0])
    beta = kept * (so_far + shared.value[1:]) - so_far  # κ, Δω and λ

    known = replace(residuals, mean=residuals.mean * np.exp(np.clip(beta @ columns[1:], -3, 3)))
    alone = _fit(known, columns[:1], parent=parent)
    # Error of δ from the shrunk coefficients: their posterior variance times the squared regression on the price.
    design = _design(known, columns, alone, columns[:1])
    joint = (design.around * design.information) @ design.around[0]
    ties = joint[1:] / max(float(joint[0]), 1e-9)
    value, error, own_ties = _own(known, columns, alone, parent=parent)
    _, category_error, _ = _own(known, columns, alone, parent=category)
    control, more_on_weekends, lift = beta
    return Shift(
        value=value,
        error=error,
        category_information=1.0 / category_error**2,
        mean=float(alone.value[0]),
        mean_error=float(np.sqrt(alone.error[0] ** 2 + (ties**2) @ left)),
        drift=float(alone.drift[0]),
        control=float(control),
        control_error=float(np.sqrt(left[0]) * abs(1.0 - ties[0])),
        common=np.sqrt(own_ties[[0, 2]].T ** 2 @ left[[0, 2]]),
        lift=float(lift),
        weekend=float(more_on_weekends),
        level=alone.level,
        level_sd=float(np.sqrt(alone.variance)),
    )


def placebo(residuals: Residuals, column: Floats, *, parent: Ints) -> tuple[float, float]:
    """Coefficient of an (event,) column that should explain nothing, and its standard error (infinite if unknown)."""
    if not (np.abs(column) > 0).any():
        return 0.0, np.inf
    pooled = _fit(residuals, np.asarray(column, np.float64)[None], parent=parent)
    return float(pooled.value[0]), float(np.hypot(pooled.error[0], pooled.drift[0]))


def difference(residuals: Residuals, shift: Shift, kind: Bools, *, parent: Ints) -> tuple[float, float]:
    """Elasticity of price changes of an (event,) kind less that of the others, and its error; infinite if unknown."""
    of = parent[residuals.product]
    parents = len(shift.value)
    price = residuals.price.astype(np.float64)
    given = shift.value[of] * price + shift.control * residuals.routine + shift.weekend * residuals.weekend
    given += shift.lift * residuals.advertised
    fitted = replace(residuals, mean=residuals.mean * np.exp(np.clip(given, -3, 3)))
    level = _Pooled(np.zeros(1), np.zeros(1), np.zeros(1), shift.level, shift.level_sd**2)
    columns = np.stack([np.where(kind, price, 0.0), price])
    design = _design(fitted, columns, level, np.zeros((1, len(price))))

    # The kind's column less its regression, by parent, on the price.
    of_kind, of_all = design.around
    spread = _by(of, design.information * of_all**2, parents)
    tie = _by(of, design.information * of_kind * of_all, parents)
    slope = np.divide(tie, spread, where=spread > 1e-9, out=np.zeros(parents))
    column = of_kind - slope[of] * of_all

    information = _by(of, design.information * column**2, parents)
    score = _by(of, design.residual * column, parents)
    total = float(information.sum())  # one scoring step from the parents' own fits suffices for a test (Rao 1948)
    if total < 1e-6:
        return 0.0, np.inf
    found = cluster_robust_variance(information[:, None, None], score[:, None])
    variance = max(float(found.variance[0]), 1.0 / total)
    return float(score.sum()) / total, float(np.sqrt(variance) * normal_factor(found.degrees)[0])


def _by(row: Ints, values: Floats, rows: int) -> Floats:
    """(row,) sums of values."""
    return np.bincount(row, values, rows).astype(np.float64)


def _design(events: Residuals, columns: Floats, pooled: _Pooled, fitted: Floats) -> _Design:
    """Project the random intercepts out of `columns`, at the fit of the pooled coefficients to the columns `fitted`."""
    who = events.product
    products = len(pooled.level)
    mean = events.mean * np.exp(np.clip(pooled.level[who] + pooled.value @ fitted, -3, 3))
    weight = 1.0 / (1.0 + events.mean / events.size)
    units, slope = complete_censored(events.units, mean, events.size, censored=events.censored)
    information = weight * slope
    total = _by(who, information, products)
    precision = 1.0 / pooled.variance
    centre = np.stack([_by(who, information * column, products) for column in columns]) / (total + precision)
    return _Design(
        information=information,
        residual=weight * (units - mean),
        total=total,
        centre=centre,
        around=columns - centre[:, who],
    )


def _fit(events: Residuals, columns: Floats, *, parent: Ints) -> _Pooled:
    """Penalised quasi-likelihood: coefficients that all products share, and the products' random intercepts."""
    products = len(parent)
    present = np.bincount(events.product, minlength=products) > 0
    fit = _Pooled(
        value=np.zeros(len(columns)),
        error=np.full(len(columns), np.inf),
        drift=np.zeros(len(columns)),
        level=np.zeros(products),
        variance=LEVEL_SD**2,
    )
    if not present.any():
        return fit
    for _ in range(MAX_NEWTON):
        design = _design(events, columns, fit, columns)
        precision = 1.0 / fit.variance
        gap = _by(events.product, design.residual, products) - precision * fit.level
        information = _information(design, precision) + 1e-9 * np.eye(len(columns))
        step = np.clip(np.linalg.solve(information, columns @ design.residual - design.centre @ gap), -2, 2)
        rise = np.clip(gap / (design.total + precision) - step @ design.centre, -1, 1)
        level = fit.level + rise
        doubt = 1.0 / (design.total + precision)
        variance = float(((level**2 + doubt)[present].sum() + LEVEL_SD**2) / (present.sum() + 1))
        largest = max(np.abs(step).max(), np.abs(rise).max(), abs(variance / fit.variance - 1.0))
        fit = replace(fit, value=fit.value + step, level=level, variance=variance)
        if largest < SETTLED:
            break
    error, drift = _shared_error(events, columns, fit, group=parent[events.product])
    return replace(fit, error=error, drift=drift)


def _information(design: _Design, precision: float) -> Floats:
    """(column, column) information of the shared coefficients, random intercepts profiled out."""
    inside = (design.around * design.information) @ design.around.T
    return np.asarray(inside + precision * design.centre @ design.centre.T)


def _shared_error(events: Residuals, columns: Floats, fit: _Pooled, *, group: Ints) -> tuple[Floats, Floats]:
    """(column,) CR2 errors over (event,) parents, at least the model-based ones, and what clustering over time adds."""
    design = _design(events, columns, fit, columns)
    who = events.product
    precision = 1.0 / fit.variance
    # The prior of a product's intercept counts as data, distributed over its events in proportion to their information.
    part = design.information / np.maximum(design.total[who], 1e-300)
    centre = design.centre[:, who]
    score = design.around * design.residual + precision * fit.level[who] * centre * part
    pairs = np.einsum("ce,de->cde", design.around * design.information, design.around)
    pairs += precision * np.einsum("ce,de->cde", centre * part, centre)
    ridge = 1e-9 * np.eye(len(columns))

    error = np.sqrt(np.diag(np.linalg.inv(_information(design, precision) + ridge)))
    if len(np.unique(group)) > 1:
        error = np.maximum(error, _clustered(pairs, score, group, ridge=ridge))
    over_time = _clustered(pairs, score, events.cluster, ridge=ridge)
    safe = np.where(np.isfinite(error), error, 0.0)
    return error, np.sqrt(np.maximum(over_time**2 - safe**2, 0.0))


def _clustered(pairs: Floats, score: Floats, group: Ints, *, ridge: Floats) -> Floats:
    """(column,) CR2 errors from events' (column, column, event) information and scores, times `normal_factor`."""
    _, row = np.unique(group, return_inverse=True)
    count = int(row.max()) + 1
    columns = len(score)
    inside = np.stack([[_by(row, pairs[i, j], count) for j in range(columns)] for i in range(columns)], axis=-1)
    outer = np.stack([_by(row, values, count) for values in score], axis=-1)
    found = cluster_robust_variance(np.moveaxis(inside, 1, 0) + ridge / count, outer)
    factor = normal_factor(found.degrees)
    known = np.isfinite(factor)
    return np.where(known, np.sqrt(found.variance) * np.where(known, factor, 1.0), np.inf)


def _own(events: Residuals, columns: Floats, pooled: _Pooled, *, parent: Ints) -> tuple[Floats, Floats, Floats]:
    """Fit each parent's own price coefficient.

    Returns:
        It and its error, (parent,) each, and (column − 1, parent) the regressions of the other columns on the price.
    """
    who = events.product
    of = parent[who]
    products = len(parent)
    parents = int(parent.max(initial=-1)) + 1
    price = columns[0]
    precision = 1.0 / pooled.variance
    own = np.full(parents, pooled.value[0])
    level = pooled.level
    for _ in range(MAX_NEWTON):
        state = replace(pooled, value=np.ones(1), level=level)
        design = _design(events, columns, state, own[of][None] * price)
        gap = _by(who, design.residual, products) - precision * level
        inside = _by(who, design.information * design.around[0] ** 2, products) + precision * design.centre[0] ** 2
        inside = _by(parent, inside, parents)
        usable = inside > 1e-6
        gain = _by(parent, _by(who, design.residual * price, products) - design.centre[0] * gap, parents)
        step = np.where(usable, np.clip(gain / np.where(usable, inside, 1.0), -1, 1), 0.0)
        step = np.clip(own + step, -30, 30) - own
        rise = np.clip(gap / (design.total + precision) - step[parent] * design.centre[0], -1, 1)
        own = own + step
        level = level + rise
        if max(np.abs(step).max(initial=0.0), np.abs(rise).max(initial=0.0)) < SETTLED:
            break
    error = _own_error(events, price, design, fit=replace(pooled, level=level), inside=inside, parent=parent)
    ties = np.zeros((len(columns) - 1, parents))
    for tie, around, centre in zip(ties, design.around[1:], design.centre[1:], strict=True):
        joint = _by(who, design.information * design.around[0] * around, products)
        joint = _by(parent, joint + precision * design.centre[0] * centre, parents)
        np.divide(joint, inside, where=usable, out=tie)
    return np.where(usable, own, 0.0), np.where(usable, error, np.inf), ties


def _own_error(
    events: Residuals, price: Floats, design: _Design, *, fit: _Pooled, inside: Floats, parent: Ints
) -> Floats:
    """(parent,) errors of the parents' own coefficients."""
    several = np.bincount(parent, minlength=len(inside)) > 1
    inside = np.maximum(inside, 1e-6)
    variance, degrees, active = _alone_variance(events, price, design, fit=fit)
    if several.any():
        first = np.unique(parent, return_index=True)[1]
        variance, degrees, active = variance[first], degrees[first], active[first]
        order = np.argsort(parent[events.product], kind="stable")
        ends = np.cumsum(np.bincount(parent[events.product], minlength=len(inside)))
        of_parent = np.split(order, ends[:-1])
        for row in np.flatnonzero(several):
            members = np.flatnonzero(parent == row)
            found = _together_variance(events, price, design, fit=fit, rows=members, own=of_parent[row])
            variance[row], degrees[row], active[row] = found
    degrees = np.where(active > 1, degrees, 0.0)
    ratio = variance * inside
    pooled = np.where(several, _pooled_ratio(ratio, degrees, several), _pooled_ratio(ratio, degrees, ~several))
    moderated = np.maximum((degrees * ratio + POOLED_DEGREES * pooled) / (degrees + POOLED_DEGREES), 1.0)
    return np.asarray(np.sqrt(moderated / inside) * normal_factor(degrees + POOLED_DEGREES))


def _pooled_ratio(ratio: Floats, degrees: Floats, some: Bools) -> float:
    """Mean over-dispersion of some parents, weighted by degrees of freedom; 1 without any."""
    weight = degrees[some]
    return float((weight * ratio[some]).sum() / weight.sum()) if weight.sum() > 0 else 1.0


def _alone_variance(events: Residuals, price: Floats, design: _Design, *, fit: _Pooled) -> tuple[Floats, Floats, Ints]:
    """(product,) variance of each product's own coefficient, were it alone; its degrees; clusters with changes."""
    products = len(fit.level)
    clusters = int(events.cluster.max(initial=0)) + 2  # the last: the intercept's prior
    precision = 1.0 / fit.variance
    cell = events.product * clusters + events.cluster

    def sums(values: Floats) -> Floats:
        return _by(cell, values, products * clusters).reshape(products, clusters)

    information = np.empty((products, clusters, 2, 2))
    information[..., 0, 0] = sums(design.information)
    information[..., 0, 1] = information[..., 1, 0] = sums(design.information * price)
    information[..., 1, 1] = sums(design.information * price**2)
    information[:, -1, 0, 0] = precision
    score = np.stack([sums(design.residual), sums(design.residual * price)], axis=-1)
    score[:, -1, 0] = -precision * fit.level
    active = (information[:, :-1, 1, 1] > 0).sum(axis=1)
    information[:, -1, 1, 1] = np.where(active > 0, 1e-6, 1.0)  # keeps products without price changes invertible
    found = cluster_robust_variance(information, score)
    return found.variance[:, 1], found.degrees[:, 1], active


def _together_variance(
    events: Residuals, price: Floats, design: _Design, *, fit: _Pooled, rows: Ints, own: Ints
) -> tuple[float, float, int]:
    """Variance of the coefficient that products `rows`, of events `own`, share; its degrees; clusters with changes."""
    who = np.searchsorted(rows, events.product[own])
    cluster = events.cluster[own]  # a shock common to the products counts once
    clusters = int(cluster.max(initial=0)) + 2  # the last: the intercepts' priors
    precision = 1.0 / fit.variance
    told = design.information[own]
    around = design.around[0, own]
    centre = design.centre[0, rows]
    active = int((_by(cluster, told * price[own] ** 2, clusters) > 0).sum())

    information = _by(cluster, told * around**2, clusters)
    information[-1] = precision * (centre**2).sum()
    score = _by(cluster, design.residual[own] * around, clusters)
    score[-1] = precision * (centre * fit.level[rows]).sum()
    if not active or information.sum() < 1e-6:
        return 0.0, 0.0, active
    ties = _by(cluster * len(rows) + who, told * around, clusters * len(rows)).reshape(clusters, len(rows))
    ties[-1] = -precision * centre
    variance, degrees = absorbed_variance(information, ties / np.sqrt(design.total[rows] + precision), score)
    return variance, degrees, active
