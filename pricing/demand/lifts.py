"""Estimate how much named events, and promotions beyond their price, add to demand, with shrinkage. NumPy only.

*Events*: log demand of a period is modelled as its expectation from level, weekday and price, plus the lift of the
event in whose window it lies: the sum of an effect of all categories and a deviation of the category, both normal
around 0. *Promotions* must be restated, or promoted sales would raise the level and the next promotion would be counted
twice; they are compared with the level expected from ordinary periods alone, and categories are shrunk towards their
common mean. Variances are estimated: parametric empirical Bayes (Morris 1983, doi:10.1080/01621459.1983.10477920), so
that little evidence gives small lifts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.data import features
from pricing.data.event_windows import EventLifts, Placed, place, spread
from pricing.data.ewma import HALF_LIVES, SIZE, Norms, demand_above
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand.cluster_robust import cluster_robust_variance, normal_factor
from pricing.demand.grades import FORTNIGHT

PASSES = 2  # events bias the levels they are measured against; the second pass corrects by the first one's lifts
CHUNK = 500  # products whose features are held at a time
WARM: dict[Period, int] = {"day": 28, "week": 8}  # rows of a product after which its level is reliable
NEAR: dict[Period, float] = {"day": 7.0, "week": 3.0}  # half-life of the weights of neighbouring ordinary periods
LEAST_NEAR = 1.0  # weighted ordinary periods near by needed for a period's reference
LEAST_ORDINARY = 28  # ordinary periods needed to estimate the noise variance
LEAST_ROWS = 30  # product-periods needed for an event that occurred once: a month of one product
LEAST_PAIRS = 5  # repetitions needed to estimate the variance between occurrences of an event
LIMIT = 3.0  # log units at which lifts are clipped: more is no response to an event
CLOSED = 1.5  # log units from which the shop was closed; left out of the variance of lifts
PRIOR_SD = 0.1  # log units: prior standard deviation of lifts, with the weight of one lift of that size
MOST_SHRUNK = 3.0  # standard errors: limit of the shrinkage of one lift
ROUNDS = 20  # iterations of Morris's variance estimate
KINDS = 3  # before an event, on it, after it: lifts of one kind share a variance
# Of promotions:
LEAST_BEFORE = 4  # least ordinary rows within the level's half-life for a reference
RATIO = 20.0  # units are capped at this many times the expectation, and at least this many units
BETWEEN_SD = 0.3  # log units: prior standard deviation between categories, with the weight of one category
CENTRE_SD = 1.0  # log units: prior standard deviation of the common mean, around 0
STEPS, SETTLED = 50, 1e-4


@dataclass(frozen=True)
class _Windows:
    """Assignment of periods to slots; a slot is one position in the window of one event."""

    event: Ints  # (slot,) row of the event's name
    column: Ints  # (slot,) column of the position
    kind: Ints  # (slot,) 0 before the event, 1 on it, 2 after it
    group: Ints  # (slot,) row of the only category it concerns; −1 for all
    seen: Ints  # (slot,) occurrences while products were on sale
    of: Floats  # (period, slot) 1.0 where a period is in the slot

    def take(self, slots: Bools) -> "_Windows":
        """Select slots."""
        return _Windows(**{name: values[..., slots] for name, values in vars(self).items()})


@dataclass(frozen=True)
class _LiftEvidence:
    """Sufficient statistics of one series for the lifts."""

    windows: _Windows  # its slots; their `of` has the periods of `value` only
    value: Floats  # (period,) the series in the windows
    mean: Floats  # (slot,) mean value
    noise: float  # variance of a period's value around its lift


def learn_lifts(panel: Panel, *, norms: Norms, category: Ints, ahead: int, passes: int = PASSES) -> EventLifts | None:
    """Estimate the lift of each event in the panel's calendar, for `ahead` periods after the history, too.

    Product-periods with an advertised cut are left out: the promotion lift is estimated elsewhere. Sold-out ones count
    with their expected demand. An event needs two occurrences, or one with LEAST_ROWS product-periods. Each of `passes`
    over the history starts from the previous one's lifts, the first from those of `norms`.
    """
    if not panel.events:
        return None
    categories = np.unique(panel.categories)
    names = list(dict.fromkeys(event.name for event in panel.events))
    step = np.timedelta64(STEP_DAYS[panel.period], "D")
    dates = (panel.dates[0] + np.arange(len(panel.dates) + ahead) * step).astype("datetime64[D]")
    placed = list(place(panel.events, names, dates, period=panel.period))
    positions = np.array(sorted({each.position for each in placed} | {0}), np.int32)
    shape = (len(categories) + 1, len(names), len(positions))
    blank = EventLifts(
        category=np.asarray(category, np.int32),
        categories=categories,
        names=np.array(names, np.str_),
        positions=positions,
        value=np.zeros(shape, np.float32),
        sd=np.zeros(shape, np.float32),
        seen=np.zeros(len(names), np.int32),
        dates=dates,
        by_period=np.zeros((shape[0], len(dates)), np.float32),
        events=panel.events,
    )
    lifts = blank if norms.lifts is None else replace(blank, by_period=norms.lifts.rows(dates))
    past = [each for each in placed if each.at < len(panel.dates)]
    lasting = {event.name for event in panel.events if event.overlay and not event.before + event.after}
    eventful = [each.at for each in past if names[each.event] not in lasting]
    for _ in range(passes):
        units, expected, rows = _sums(panel, replace(norms, lifts=lifts), lifts)
        ordinary = rows > 0
        ordinary[eventful] = False
        windows = _windows(past, rows, categories=categories, positions=positions)
        if ordinary.sum() < LEAST_ORDINARY or not len(windows.event):
            return blank
        value, sd = _fit(*_series(units, expected, ordinary, period=panel.period), ordinary, windows, shape=shape)
        seen = np.zeros(len(names), np.int32)
        np.maximum.at(seen, windows.event, windows.seen)
        by_period = spread(placed, value, positions, categories=categories, periods=len(dates))
        lifts = replace(blank, value=value, sd=sd, by_period=by_period, seen=seen)
    return lifts


def _sums(panel: Panel, norms: Norms, lifts: EventLifts) -> tuple[Floats, Floats, Ints]:
    """(group, period) units at usual price, the same expected without events, and (period,) product-periods."""
    groups, periods = len(lifts.by_period), len(panel.dates)
    units, expected, rows = np.zeros((groups, periods)), np.zeros((groups, periods)), np.zeros(periods, np.int64)
    at, weekday = np.arange(periods - 1), features.weekdays(panel.dates, period=panel.period)[1:]
    for begin in range(0, len(lifts.category), CHUNK):
        some = np.arange(begin, min(begin + CHUNK, len(lifts.category)))
        theirs, own = panel.select(some), norms.take(some)
        past, _ = features.past_features(theirs, norms=own)
        # (product, period − 1): expected one period ahead
        mean = np.exp(past.level[:, :-1] + past.profile[:, at, weekday])
        sold = features.restated_units(theirs, own)[:, 1:]
        sold = np.where(theirs.censored[:, 1:], demand_above(sold, mean=mean), sold)
        with np.errstate(invalid="ignore"):
            promoted = (theirs.is_promo > 0) & (theirs.price < theirs.list_price)
        counted = theirs.present & ~promoted & (np.cumsum(theirs.present, axis=1) > WARM[panel.period])
        np.add.at(units[:, 1:], lifts.category[some], np.where(counted[:, 1:], sold, 0.0))
        np.add.at(expected[:, 1:], lifts.category[some], np.where(counted[:, 1:], mean, 0.0))
        rows += counted.sum(axis=0)
    rows[0] = 0
    units *= np.exp(lifts.by_period[:, :periods])
    units[-1], expected[-1] = units[:-1].sum(axis=0), expected[:-1].sum(axis=0)  # the last group: all products
    return units, expected, rows


def _series(units: Floats, expected: Floats, ordinary: Bools, *, period: Period) -> tuple[Floats, Bools]:
    """(group, period) log of units over expected, less its mean over near ordinary periods, and where it is known."""
    known = expected > 0
    value = np.log((units + 0.5) / (expected + 0.5))
    apart = np.abs(np.subtract.outer(np.arange(len(ordinary)), np.flatnonzero(ordinary)))
    weight = np.where(apart > 0, 0.5 ** (apart / NEAR[period]), 0.0)  # a period is not its own reference
    there = known[:, ordinary].astype(np.float64)  # (group, ordinary)
    total = there @ weight.T
    around = ((there * value[:, ordinary]) @ weight.T) / np.maximum(total, 1e-12)
    return np.clip(value - around, -LIMIT, LIMIT), known & (total > LEAST_NEAR)


def _windows(past: Sequence[Placed], rows: Ints, *, categories: Strings, positions: Ints) -> _Windows:
    """Build the slots that have enough evidence in the history."""
    column = {int(position): number for number, position in enumerate(positions)}
    row = {str(name): number for number, name in enumerate(categories)}
    periods: dict[tuple[int, int, int], list[int]] = {}
    for event, position, at, only in past:
        if rows[at] > 0 and (not only or only in row):
            group = row[only] if only and len(categories) > 1 else -1  # a single category equals all products
            periods.setdefault((event, position, group), []).append(at)
    found: list[tuple[int, int, int, int, int]] = []
    of: list[Floats] = []
    for (event, position, group), those in periods.items():
        seen = 1 + int((np.diff(np.sort(those)) > 1).sum())  # consecutive periods are one occurrence
        if seen > 1 or rows[those].sum() >= LEAST_ROWS:
            found.append((event, column[position], int(np.sign(position)) + 1, group, seen))
            of.append(np.bincount(those, minlength=len(rows)).astype(np.float64))
    events, columns, kinds, groups, times = np.array(found, np.int64).reshape(-1, 5).T
    return _Windows(events, columns, kinds, groups, times, of=np.array(of).reshape(-1, len(rows)).T)


def _fit(
    value: Floats, known: Bools, ordinary: Bools, windows: _Windows, *, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(row, event, position) posterior means and standard deviations of the lifts."""
    mean, variance = np.zeros(shape), np.zeros(shape)

    def add(row: int | slice, evidence: _LiftEvidence | None, prior: Floats) -> None:
        if evidence is not None:
            event, column = evidence.windows.event, evidence.windows.column
            more, doubt = _posterior(evidence, prior[evidence.windows.kind])
            mean[row, event, column] += more
            variance[row, event, column] += doubt

    of_all = windows.take(windows.group < 0)
    together = _evidence(value[-1], known[-1], ordinary, of_all)
    spreads = _spreads([together])
    add(slice(None), together, spreads)
    rows = range(shape[0] - 1 if shape[0] > 2 else 0)  # a single category equals all products
    # Categories are estimated from their difference to all products, which removes common shocks such as weather.
    each = [_evidence(value[row] - value[-1], known[row] & known[-1], ordinary, of_all) for row in rows]
    differing = _spreads(each)
    for row in rows:
        add(row, each[row], differing)
        # Events of one category are estimated from its own series, since they are in the sum over all products as well.
        alone = _evidence(value[row], known[row], ordinary, windows.take(windows.group == row))
        add(row, alone, spreads + differing)
    return np.clip(mean, -LIMIT, LIMIT).astype(np.float32), np.sqrt(variance).astype(np.float32)


def _evidence(value: Floats, known: Bools, ordinary: Bools, windows: _Windows) -> _LiftEvidence | None:
    """Summarise a series; None where it has too few ordinary periods, or no event."""
    calm, inside = known & ordinary, known & (windows.of.sum(axis=1) > 0)
    if calm.sum() < LEAST_ORDINARY or not inside.any():
        return None
    windows = replace(windows, of=windows.of[inside])
    windows = windows.take(windows.of.sum(axis=0) > 0)
    count = windows.of.sum(axis=0)
    mean = (windows.of.T @ value[inside]) / count
    # The variance between repetitions of an event is noise of its lift, like that of ordinary periods.
    again = (count > 1) & (np.abs(mean) < CLOSED)
    apart = windows.of[:, again] * (value[inside][:, None] - mean[again])
    pairs = float((count[again] - 1).sum())
    between = float((apart**2).sum()) / pairs if pairs >= LEAST_PAIRS else 0.0
    return _LiftEvidence(windows, value[inside], mean, max(float(np.var(value[calm])), between, 1e-6))


def _spreads(evidence: Sequence[_LiftEvidence | None]) -> Floats:
    """(kind,) variance of lifts around 0: Morris's estimate from the slots' means and one pseudo-lift of PRIOR_SD."""
    there = [each for each in evidence if each is not None]
    kinds = np.concatenate([np.zeros(0, np.int64), *(each.windows.kind for each in there)])
    means = np.concatenate([np.zeros(0), *(each.mean for each in there)])
    errors = np.concatenate([np.zeros(0), *(each.noise / each.windows.of.sum(axis=0) for each in there)])
    found = np.full(KINDS, PRIOR_SD**2)
    for kind in range(KINDS):
        chosen = (kinds == kind) & (np.abs(means) < CLOSED)
        for _ in range(ROUNDS):
            weight = 1.0 / (found[kind] + errors[chosen])
            told = (weight * (means[chosen] ** 2 - errors[chosen])).sum() + 1.0  # pseudo-observation PRIOR_SD²
            found[kind] = max(told / (weight.sum() + PRIOR_SD**-2), 1e-6)
    return found


def _posterior(evidence: _LiftEvidence, prior: Floats) -> tuple[Floats, Floats]:
    """(slot,) posterior means and variances of lifts that are normal around 0 with (slot,) variances `prior`.

    Large lifts do not fit that normal, so none is shrunk by more than MOST_SHRUNK standard errors from the mean of its
    own periods (limited translation: Efron and Morris 1972, doi:10.1080/01621459.1972.10481215). This does not apply
    to slots that overlap with others, whose periods' mean is not the event's alone.
    """
    of = evidence.windows.of
    covariance = np.linalg.inv(of.T @ of / evidence.noise + np.diag(1.0 / prior))
    mean, variance = covariance @ (of.T @ evidence.value) / evidence.noise, np.diagonal(covariance)
    error = np.sqrt(evidence.noise / of.sum(axis=0))
    reach = MOST_SHRUNK * error
    limited = np.clip(mean, evidence.mean - reach, evidence.mean + reach)
    apart = (of * (of.sum(axis=1, keepdims=True) > 1)).sum(axis=0) == 0
    moved = apart & (limited != mean)
    return np.where(moved, limited, mean), np.where(moved, error**2, variance)


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
        lift[row], error[row] = _promotion_lift(cluster[own], draw[own], units[own], mean[own], censored[own])
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
    near = seen - before >= LEAST_BEFORE  # during a long promotion the reference becomes outdated
    product, period = np.nonzero(promoted & near & (columns["promo"] > 0))
    effect = columns["effect"][product, period].astype(np.float64)
    mean = np.maximum(np.exp(level[product, period] + effect), 1e-3)
    units = columns["restated"][product, period] * np.exp(effect)
    draw = columns["promo"][product, period].astype(np.float64)
    cluster = period.astype(np.int64) // FORTNIGHT[panel.period]
    return category[product], cluster, draw, units.astype(np.float64), mean, panel.censored[product, period]


def _promotion_lift(cluster: Ints, draw: Floats, units: Floats, mean: Floats, censored: Bools) -> tuple[float, float]:
    """Estimate one lift by quasi-likelihood, with CR2 standard error over fortnights (promotions share shocks)."""
    lift, information, score = 0.0, np.zeros(len(mean)), np.zeros(len(mean))
    most = RATIO * np.maximum(mean, 1.0)
    for _ in range(STEPS):
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
    spread = BETWEEN_SD**2
    for _ in range(STEPS):
        weight = 1.0 / (spread + noise)
        centre = float(weight @ value / (weight.sum() + CENTRE_SD**-2))
        told = float(weight @ ((value - centre) ** 2 - noise)) + 1.0  # pseudo-observation PRIOR_SD²
        spread = max(told / (float(weight.sum()) + BETWEEN_SD**-2), 1e-6)
    share = precision / (precision + 1.0 / spread)
    return np.asarray(share * lift + (1.0 - share) * centre)
