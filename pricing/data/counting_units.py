"""Find each product's counting unit: the step of its sales, or the purchase size of goods sold by weight."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints, Strings

SHARE = 0.99  # of a product's sales must be whole multiples of its step; tolerates a few odd rows
SAMPLED = 200  # products, evenly spaced, whose own steps are tried on all
PACKS = 6  # own steps up to so many times a commoner one are packs of it, or even numbers by chance
BY_PURCHASE = 0.1  # share of the period-to-period variance attributed to the size of purchases
LUMPS = 10.0  # steps in a purchase from which sales are amounts, not counts
LEAST_ROWS = 14  # periods with a row below which a product gets its category's unit
_NEAR = 1e-3  # tolerance of a multiple in steps, plus the single precision of the amounts
_PRECISION = 2e-7
_FURTHEST = 1e6  # steps; beyond, single precision cannot resolve one step
_PROPOSED = 12  # steps tried on every product
_PARTS = np.arange(1, 11)


@dataclass(frozen=True)
class Units:
    """How each product's sales are counted."""

    # (product,) counting unit, in the units of `units_sold`, above 0: the step of a product sold by the piece, the size
    # of a typical small purchase of one sold by weight:
    size: Floats
    counted: Bools  # (product,) True where it is sold by the piece


def find_units(units_sold: Floats, categories: Strings) -> Units:
    """Find each product's counting unit. Scaling sales by a constant scales `size` and changes nothing else.

    A product's own step is the largest of which all but 1 % of its sales are whole multiples; if it is a small multiple
    of a step that more products have, that step is used. Sales whose noise comes in lumps of many steps are amounts
    (money, grams, huge counts): sums of independent purchases, compound Poisson (Jørgensen 1987,
    doi:10.1111/j.2517-6161.1987.tb01685.x) with variance mean × purchase size. A tenth of the period-to-period variance
    is attributed to purchases, since the model estimates the rest; the unit is that size, but at most the lowest decile
    of sales. A product with few rows gets its category's unit, else that of all. Units sold are (product, period), NaN
    where there is no row.
    """
    seen = np.isfinite(units_sold)
    sold = np.where(seen & (units_sold > 0), units_sold, np.nan).astype(np.float64)
    step = common_steps(sold)
    lump = _lumps(units_sold, seen)
    small = _ranked(sold, part=10)
    stepped = np.isfinite(step)
    counted = stepped & ~(lump > LUMPS * step)
    size = np.where(counted, step, np.fmin(lump, small))
    steps = np.round(size / step)  # whole steps, so that rescaled sales give bit-identical counts
    size = np.where(stepped & ~counted, np.maximum(steps, 1.0) * step, size)
    known = (seen.sum(axis=1) >= LEAST_ROWS) & (size > 0)
    return _shared(Units(size, counted), known=known, categories=categories)


def in_steps(amounts: Floats, size: Floats) -> Floats:
    """Divide amounts by `size` (broadcast) and round what is whole but for rounding errors. Single precision."""
    steps = amounts.astype(np.float64) / size
    whole = np.round(steps)
    with np.errstate(invalid="ignore"):  # infinite values stay infinite
        near = np.abs(steps - whole) <= _NEAR + _PRECISION * np.abs(whole)
    return np.where(near, whole, steps).astype(np.float32)


def common_steps(sold: Floats) -> Floats:
    """(product,) step of which each product's sales, (product, period) above 0 or NaN, are whole multiples, or NaN."""
    rows = np.flatnonzero(np.isfinite(sold).any(axis=1))
    found = np.full(len(sold), np.nan)
    proposed = _proposed_steps([sold[row][np.isfinite(sold[row])] for row in _sampled(rows)])
    if not len(proposed):
        return found

    fits = np.stack([_share_whole(sold, step) >= SHARE for step in proposed])  # (step, product)
    largest = np.where(fits.any(axis=0), fits.argmax(axis=0), -1)
    common = np.bincount(largest[largest >= 0], minlength=len(proposed))
    for number, step in enumerate(proposed):
        ratio = step / proposed
        packs = (ratio > 1 - _NEAR) & (ratio < PACKS + 0.5) & (np.abs(ratio - np.round(ratio)) < PACKS * _NEAR)
        candidates = np.flatnonzero(packs)
        found[largest == number] = proposed[candidates[np.argmax(common[candidates])]]
    for row in rows[largest[rows] < 0]:
        found[row] = _own_step(sold[row][np.isfinite(sold[row])])
    return found


def _sampled(rows: Ints) -> Ints:
    """Return at most SAMPLED rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(int))] if len(rows) else rows


def _proposed_steps(amounts: list[Floats]) -> Floats:
    """(step,) the commonest own steps of some products, largest first, from each one's amounts (row,)."""
    telling = [each for each in amounts if each.min() < each.max()]  # a single distinct amount shows no step
    if amounts and not telling:
        telling = [np.concatenate(amounts)]
    own = np.array([_own_step(each) for each in telling])
    own = np.sort(own[np.isfinite(own)])
    if not len(own):
        return own

    groups = np.split(own, np.flatnonzero(np.diff(np.log(own)) > _NEAR) + 1)  # which agree but for rounding
    groups = sorted(groups, key=len, reverse=True)[:_PROPOSED]
    return np.sort([np.median(group) for group in groups])[::-1]


def _own_step(sold: Floats) -> float:
    """Find the largest step of one product's amounts (row,), above 0; NaN where there is none."""
    values = np.unique(sold)
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-5 * values[-1] / 2]
    first = [values[0]]
    if len(gaps):
        first += [gaps.min(), np.median(gaps)]
    candidates = np.unique(np.concatenate([value / _PARTS for value in first]))[::-1]
    for candidate in candidates:
        step = _refined(candidate, values, gaps)
        if _share_whole(sold[None], step)[0] >= SHARE:
            return step
    return float("nan")


def _refined(step: float, values: Floats, gaps: Floats) -> float:
    """Refine a step by least squares over its multiples, since one difference has the error of single precision.

    Starts with amounts of few steps, whose number is certain. Values are distinct and ascending, gaps their
    differences.
    """
    amounts = np.concatenate([gaps, values - values[0], values])
    most = float(values[-1] / step)
    furthest = 16.0
    while True:
        steps = amounts / step
        whole = np.round(steps)
        use = (whole >= 1) & (whole <= furthest) & (np.abs(steps - whole) < 0.25)
        if use.any():
            step = float((amounts[use] * whole[use]).sum() / (whole[use] ** 2).sum())
        if furthest > most:
            return step
        furthest *= 4.0


def _share_whole(sold: Floats, step: float) -> Floats:
    """(product,) share of the amounts that are whole multiples of a step; 0 without amounts."""
    steps = sold / step
    whole = np.round(steps)
    near = np.abs(steps - whole) <= _NEAR + _PRECISION * whole
    near &= (whole >= 1) & (whole <= _FURTHEST)
    number = np.isfinite(sold).sum(axis=1)
    return np.asarray(near.sum(axis=1) / np.maximum(number, 1))


def _lumps(units_sold: Floats, seen: Bools) -> Floats:
    """(product,) purchase size, from the period-to-period variance; NaN where nothing was sold.

    The median absolute difference tells it, so that price cuts and holidays do not count; of a product that sells in
    less than half of its periods, the sample variance.
    """
    order = np.argsort(~seen, axis=1, kind="stable")  # periods with a row first, in time
    amounts = np.take_along_axis(np.where(seen, units_sold, np.nan), order, axis=1).astype(np.float64)
    number = seen.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(amounts, axis=1) / np.maximum(number, 1)
        plain = np.nansum((amounts - mean[:, None]) ** 2, axis=1) / np.maximum(number - 1, 1)
        steady = _ranked(np.abs(np.diff(amounts, axis=1)), part=2) / 0.6745  # of a normal variable's differences
        middle = _ranked(amounts, part=2)
        often = (middle > 0) & (steady > 0)
        lump = BY_PURCHASE * np.where(often, 0.5 * steady**2 / np.where(often, middle, 1.0), plain / mean)
    return np.where((mean > 0) & (lump > 0), lump, np.nan)


def _ranked(values: Floats, *, part: int) -> Floats:
    """(product,) lower 1/`part` quantile of the known values, NaN where there is none; `numpy.nanquantile` is slow."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    number = np.isfinite(values).sum(axis=1)
    ordered = np.sort(values, axis=1)  # NaN last
    found: Floats = np.take_along_axis(ordered, (np.maximum(number - 1, 0) // part)[:, None], axis=1)[:, 0]
    return found


def _shared(own: Units, *, known: Bools, categories: Strings) -> Units:
    """Give products that are not `known` the typical unit of their category, or of all products."""
    size = own.size.astype(np.float64)
    counted = own.counted.copy()
    everybody = typical_unit(own, known)
    for name in np.unique(categories):
        members = categories == name
        theirs = typical_unit(own, known & members) if (known & members).any() else everybody
        size[members & ~known], counted[members & ~known] = theirs
    return Units(size, counted)


def typical_unit(units: Units, members: Bools) -> tuple[float, bool]:
    """The median unit size of the products in a mask (product,), and whether most sell by the piece; or (1.0, True)."""
    if not members.any():
        return 1.0, True
    counted = bool(units.counted[members].mean() >= 0.5)
    sizes = np.sort(units.size[members & (units.counted == counted)])
    return float(sizes[(len(sizes) - 1) // 2]), counted  # lower median: always an existing step
