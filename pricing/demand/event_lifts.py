"""Estimate how much named events add to demand, with shrinkage. NumPy only.

Log demand of a period is modelled as its expectation from level, weekday and price, plus the lift of the event in whose
window it lies: the sum of an effect of all categories and a deviation of the category, both normal around 0. Their
variances are estimated: parametric empirical Bayes (Morris 1983, doi:10.1080/01621459.1983.10477920), so that little
evidence gives small lifts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.data import features
from pricing.data.event_windows import EventLifts, Placed, place, spread
from pricing.data.ewma import Norms, demand_above
from pricing.data.panel import STEP_DAYS, Panel, Period

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
    periods = len(panel.dates)
    names = list(dict.fromkeys(event.name for event in panel.events))
    step = np.timedelta64(STEP_DAYS[panel.period], "D")
    dates = (panel.dates[0] + np.arange(periods + ahead) * step).astype("datetime64[D]")
    placed = list(place(panel.events, names, dates, period=panel.period))
    blank = _no_lifts(panel, category, names, dates, positions=sorted({each.position for each in placed} | {0}))
    lifts = blank if norms.lifts is None else replace(blank, by_period=norms.lifts.rows(dates))
    past = [each for each in placed if each.at < periods]
    lasting = {event.name for event in panel.events if event.overlay and not event.before + event.after}
    calm = np.ones(periods, np.bool_)
    calm[[each.at for each in past if names[each.event] not in lasting]] = False
    for _ in range(passes):
        units, expected, rows = _sums(panel, replace(norms, lifts=lifts), lifts)
        ordinary = calm & (rows > 0)
        windows = _windows(past, rows, blank)
        if ordinary.sum() < LEAST_ORDINARY or not len(windows.event):
            return blank
        series, known = _series(units, expected, ordinary, period=panel.period)
        value, sd = _fit(series, known, ordinary, windows, shape=blank.value.shape)
        seen = np.zeros(len(names), np.int32)
        np.maximum.at(seen, windows.event, windows.seen)
        by_period = spread(placed, value, blank.positions, categories=blank.categories, periods=len(dates))
        lifts = replace(blank, value=value, sd=sd, by_period=by_period, seen=seen)
    return lifts


def _no_lifts(panel: Panel, category: Ints, names: list[str], dates: Days, *, positions: list[int]) -> EventLifts:
    """Return the panel's calendar without any lift."""
    categories = np.unique(panel.categories)
    shape = (len(categories) + 1, len(names), len(positions))
    return EventLifts(
        category=np.asarray(category, np.int32),
        categories=categories,
        names=np.array(names, np.str_),
        positions=np.array(positions, np.int32),
        value=np.zeros(shape, np.float32),
        sd=np.zeros(shape, np.float32),
        seen=np.zeros(len(names), np.int32),
        dates=dates,
        by_period=np.zeros((len(categories) + 1, len(dates)), np.float32),
        events=panel.events,
    )


def _sums(panel: Panel, norms: Norms, lifts: EventLifts) -> tuple[Floats, Floats, Ints]:
    """(group, period) units at usual price, the same expected without events, and (period,) product-periods.

    The groups are the categories and, last, all products.
    """
    products, periods = panel.present.shape
    units, expected = np.zeros((2, len(lifts.by_period), periods))
    rows = np.zeros(periods, np.int64)
    for begin in range(0, products, CHUNK):
        some = np.arange(begin, min(begin + CHUNK, products))
        sold, mean, counted = _restated(panel.select(some), norms.take(some))
        np.add.at(units[:, 1:], lifts.category[some], np.where(counted[:, 1:], sold, 0.0))
        np.add.at(expected[:, 1:], lifts.category[some], np.where(counted[:, 1:], mean, 0.0))
        rows += counted.sum(axis=0)
    rows[0] = 0
    units *= np.exp(lifts.by_period[:, :periods])
    units[-1] = units[:-1].sum(axis=0)
    expected[-1] = expected[:-1].sum(axis=0)
    return units, expected, rows


def _restated(panel: Panel, norms: Norms) -> tuple[Floats, Floats, Bools]:
    """(product, period − 1) restated units, those expected one period ahead; (product, period) which of them count."""
    past, _ = features.past_features(panel, norms=norms)
    weekday = features.weekdays(panel.dates, period=panel.period)[1:]
    mean = np.exp(past.level[:, :-1] + past.profile[:, np.arange(len(weekday)), weekday])
    sold = features.restated_units(panel, norms)[:, 1:]
    sold = np.where(panel.bounded[:, 1:], demand_above(sold, mean=mean), sold)
    with np.errstate(invalid="ignore"):
        promoted = (panel.is_promo > 0) & (panel.price < panel.list_price)
    counted = panel.present & ~promoted & (np.cumsum(panel.present, axis=1) > WARM[panel.period])
    return sold, mean, counted


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


def _windows(past: Sequence[Placed], rows: Ints, lifts: EventLifts) -> _Windows:
    """Build the slots that have enough evidence in the history, of which (period,) `rows` product-periods count."""
    row = {str(name): number for number, name in enumerate(lifts.categories)}
    periods: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
    for event, position, at, only in past:
        if rows[at] > 0 and (not only or only in row):
            group = row[only] if only and len(row) > 1 else -1  # a single category equals all products
            periods[event, position, group].append(at)
    # Consecutive periods are one occurrence.
    seen = {slot: 1 + int((np.diff(np.sort(those)) > 1).sum()) for slot, those in periods.items()}
    kept = [slot for slot, those in periods.items() if seen[slot] > 1 or rows[those].sum() >= LEAST_ROWS]
    events, positions, groups = np.array(kept, np.int64).reshape(-1, 3).T
    of = [np.bincount(periods[slot], minlength=len(rows)) for slot in kept]
    return _Windows(
        event=events,
        column=np.searchsorted(lifts.positions, positions),
        kind=np.sign(positions) + 1,
        group=groups,
        seen=np.array([seen[slot] for slot in kept], np.int64),
        of=np.array(of, np.float64).reshape(-1, len(rows)).T,
    )


def _fit(
    value: Floats, known: Bools, ordinary: Bools, windows: _Windows, *, shape: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """(row, event, position) posterior means and standard deviations of the lifts."""
    mean, variance = np.zeros((2, *shape))

    def add(row: int | slice, evidence: _LiftEvidence | None, prior: Floats) -> None:
        if evidence is not None:
            slots = evidence.windows
            more, doubt = _posterior(evidence, prior[slots.kind])
            mean[row, slots.event, slots.column] += more
            variance[row, slots.event, slots.column] += doubt

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
    calm = known & ordinary
    inside = known & (windows.of.sum(axis=1) > 0)
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
    mean = covariance @ (of.T @ evidence.value) / evidence.noise
    variance = np.diagonal(covariance)
    error = np.sqrt(evidence.noise / of.sum(axis=0))
    reach = MOST_SHRUNK * error
    limited = np.clip(mean, evidence.mean - reach, evidence.mean + reach)
    apart = (of * (of.sum(axis=1, keepdims=True) > 1)).sum(axis=0) == 0
    moved = apart & (limited != mean)
    return np.where(moved, limited, mean), np.where(moved, error**2, variance)
