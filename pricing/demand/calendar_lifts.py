"""How much named events add to demand, learnt from the history's own residuals and shrunk. NumPy only.

Log demand of a period is taken to be what its level, weekday and price let expect, plus the lift of the event in
whose window the period lies. A lift is that of all categories together plus what a category differs by; both are
normal around 0 with spreads that are estimated as well: parametric empirical Bayes (Morris 1983,
doi:10.1080/01621459.1983.10477920). So an event of which the history shows little adds little.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.data import features
from pricing.data.ewma import Norms, demand_above
from pricing.data.lifts import EventLifts, Placed, calendar_columns, place, spread
from pricing.data.panel import STEP_DAYS, Panel, Period

PASSES = 2  # a level that an event pulled up hides a part of it; the second pass knows of the first one's lifts
CHUNK = 500  # products whose features are held at a time
WARM: dict[Period, int] = {"day": 28, "week": 8}  # rows of a product after which its level can be relied on
NEAR: dict[Period, float] = {"day": 7.0, "week": 3.0}  # half-life of how much a period says of the ones beside it
LEAST_NEAR = 1.0  # near ordinary periods, weighted so, without which nothing tells what a period would have sold
LEAST_ORDINARY = 28  # ordinary periods without which nobody knows how much sales vary by themselves
LEAST_ROWS = 30  # product-periods that an event which came only once must show: a month's worth of one product
LEAST_PAIRS = 5  # repetitions without which nobody knows how one year's event differs from the next one's
LIMIT = 3.0  # log units beyond which sales were no answer to an event, and are read as if at the limit
CLOSED = 1.5  # log units from which a shop was closed: that says nothing of how large other lifts are
PRIOR_SD = 0.1  # log units: what lifts are expected to spread by before any was seen; weighs as one lift of that size
MOST_SHRUNK = 3.0  # standard errors: as far as noise hardly ever carries a lift
ROUNDS = 20  # of Morris's estimate of a spread
KINDS = 3  # before an event, on it, after it: lifts of one kind share a spread


@dataclass(frozen=True)
class _Windows:
    """Which periods lie in the window of which event; a slot is a position in the window of one event.

    Attributes:
        event: (slot,) row of the event's name.
        column: (slot,) column of the position.
        kind: (slot,) 0 before the event, 1 on it, 2 after it.
        group: (slot,) row of the category that alone it concerns; −1 for all.
        seen: (slot,) times it came while products sold.
        of: (period, slot) 1.0 where a period is in the slot.
    """

    event: Ints
    column: Ints
    kind: Ints
    group: Ints
    seen: Ints
    of: Floats

    def take(self, slots: Bools) -> "_Windows":
        """Some of them."""
        columns = {name: values[..., slots] for name, values in vars(self).items()}
        return _Windows(**columns)


@dataclass(frozen=True)
class _Evidence:
    """What one series says of lifts.

    Attributes:
        windows: Its slots; their `of` has the periods of `value` alone.
        value: (period,) the series in the windows.
        mean: (slot,) mean value.
        noise: Variance of a period's value around its lift.
    """

    windows: _Windows
    value: Floats
    mean: Floats
    noise: float


def learn_lifts(panel: Panel, *, norms: Norms, category: Ints, ahead: int, passes: int = PASSES) -> EventLifts | None:
    """What each event of the panel's calendar adds to demand, as far as its sales show it.

    Product-periods with an advertised cut are left out: what a promotion draws is learnt elsewhere. Of a sold-out one
    counts what is expected beyond its shelf. An event counts where it came twice, or once on LEAST_ROWS
    product-periods.

    Args:
        panel: The history; nothing after its last period is read but the calendar.
        norms: The products' scales. Lifts in them are where the passes begin.
        category: (product,) row of the category.
        ahead: Periods after the history that the lifts are worked out for.
        passes: Walks over the history, each with the lifts that the one before found.

    Returns:
        None without a calendar.
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
        **calendar_columns(panel.events, names),
    )
    lifts = blank if norms.lifts is None else replace(blank, by_period=norms.lifts.rows(dates))
    past = [each for each in placed if each.at < len(panel.dates)]
    lasting = {event.name for event in panel.events if event.overlay and not event.before + event.after}
    for _ in range(passes):
        units, expected, rows = _sums(panel, replace(norms, lifts=lifts), lifts)
        ordinary = rows > 0
        ordinary[[each.at for each in past if names[each.event] not in lasting]] = False
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
    """(group, period) units at usual price, the same expected without events, and (period,) product-periods.

    The last group is all products.
    """
    groups, periods = len(lifts.by_period), len(panel.dates)
    units, expected, rows = np.zeros((groups, periods)), np.zeros((groups, periods)), np.zeros(periods, np.int64)
    weekday = features.weekdays(panel.dates, period=panel.period)
    for begin in range(0, len(lifts.category), CHUNK):
        some = np.arange(begin, min(begin + CHUNK, len(lifts.category)))
        theirs, own = panel.select(some), norms.take(some)
        past, _ = features.past_features(theirs, norms=own)
        profile = np.take_along_axis(past.profile[:, :-1], weekday[None, 1:, None], axis=2)[:, :, 0]
        mean = np.exp(past.level[:, :-1] + profile)  # (product, period − 1): what the day before let expect
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
    units[-1], expected[-1] = units[:-1].sum(axis=0), expected[:-1].sum(axis=0)
    return units, expected, rows


def _series(units: Floats, expected: Floats, ordinary: Bools, *, period: Period) -> tuple[Floats, Bools]:
    """(group, period) log of units over expected less its mean over ordinary periods near by, and where it is known."""
    known = expected > 0
    value = np.log((units + 0.5) / (expected + 0.5))
    apart = np.abs(np.subtract.outer(np.arange(len(ordinary)), np.flatnonzero(ordinary)))
    weight = np.where(apart > 0, 0.5 ** (apart / NEAR[period]), 0.0)  # a period says nothing of itself
    there = known[:, ordinary].astype(np.float64)  # (group, ordinary)
    total = there @ weight.T
    around = ((there * value[:, ordinary]) @ weight.T) / np.maximum(total, 1e-12)
    return np.clip(value - around, -LIMIT, LIMIT), known & (total > LEAST_NEAR)


def _windows(past: Sequence[Placed], rows: Ints, *, categories: Strings, positions: Ints) -> _Windows:
    """The slots of which the history shows enough."""
    column = {int(position): number for number, position in enumerate(positions)}
    row = {str(name): number for number, name in enumerate(categories)}
    periods: dict[tuple[int, int, int], list[int]] = {}
    for event, position, at, only in past:
        if rows[at] > 0 and (not only or only in row):
            group = row[only] if only and len(categories) > 1 else -1  # the only category is all there is
            periods.setdefault((event, position, group), []).append(at)
    found: list[tuple[int, int, int, int, int]] = []
    of: list[Floats] = []
    for (event, position, group), those in periods.items():
        seen = 1 + int((np.diff(np.sort(those)) > 1).sum())  # periods in a row are one event that lasts
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
    together = _evidence(value[-1], known[-1], ordinary, windows.take(windows.group < 0))
    spreads = _spreads([together] if together else [])
    if together is not None:
        at = together.windows.event, together.windows.column
        mean[:, *at], variance[:, *at] = _posterior(together, spreads[together.windows.kind])
    if shape[0] == 2:  # one category, which is all there is
        return _as_stored(mean, variance)
    # Of a category the difference to all is read: a day's weather that all have in common is not in it.
    apart, both = value[:-1] - value[-1], known[:-1] & known[-1]
    rows = range(len(apart))
    each = [_evidence(apart[row], both[row], ordinary, windows.take(windows.group < 0)) for row in rows]
    differing = _spreads([evidence for evidence in each if evidence is not None])
    # What concerns one category alone is read from its own sales: it lifts the sales of all as well.
    alone = [_evidence(value[row], known[row], ordinary, windows.take(windows.group == row)) for row in rows]
    for prior, found in ((differing, each), (spreads + differing, alone)):
        for row, evidence in enumerate(found):
            if evidence is not None:
                more, doubt = _posterior(evidence, prior[evidence.windows.kind])
                mean[row, evidence.windows.event, evidence.windows.column] += more
                variance[row, evidence.windows.event, evidence.windows.column] += doubt
    return _as_stored(mean, variance)


def _as_stored(mean: Floats, variance: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.clip(mean, -LIMIT, LIMIT).astype(np.float32), np.sqrt(variance).astype(np.float32)


def _evidence(value: Floats, known: Bools, ordinary: Bools, windows: _Windows) -> _Evidence | None:
    """None where the series has too few ordinary periods, or no event."""
    calm, inside = known & ordinary, known & (windows.of.sum(axis=1) > 0)
    if calm.sum() < LEAST_ORDINARY or not inside.any():
        return None
    windows = replace(windows, of=windows.of[inside])
    windows = windows.take(windows.of.sum(axis=0) > 0)
    count = windows.of.sum(axis=0)
    mean = (windows.of.T @ value[inside]) / count
    # One year's event is larger than another's: what repetitions differ by is noise of a lift as much as a day's is.
    again = (count > 1) & (np.abs(mean) < CLOSED)
    apart = windows.of[:, again] * (value[inside][:, None] - mean[again])
    pairs = float((count[again] - 1).sum())
    between = float((apart**2).sum()) / pairs if pairs >= LEAST_PAIRS else 0.0
    return _Evidence(windows, value[inside], mean, max(float(np.var(value[calm])), between, 1e-6))


def _spreads(evidence: Sequence[_Evidence]) -> Floats:
    """(kind,) variance of lifts around 0: Morris's estimate from the means of slots, beside one lift of PRIOR_SD."""
    kinds = np.concatenate([each.windows.kind for each in evidence]) if evidence else np.zeros(0, np.int64)
    means = np.concatenate([each.mean for each in evidence]) if evidence else np.zeros(0)
    noise = [each.noise / each.windows.of.sum(axis=0) for each in evidence]
    errors = np.concatenate(noise) if evidence else np.zeros(0)
    found = np.full(KINDS, PRIOR_SD**2)
    for kind in range(KINDS):
        chosen = (kinds == kind) & (np.abs(means) < CLOSED)
        for _ in range(ROUNDS):
            weight = 1.0 / (found[kind] + errors[chosen])
            told = (weight * (means[chosen] ** 2 - errors[chosen])).sum() + 1.0  # PRIOR_SD² by its own weight
            found[kind] = max(told / (weight.sum() + PRIOR_SD**-2), 1e-6)
    return found


def _posterior(evidence: _Evidence, prior: Floats) -> tuple[Floats, Floats]:
    """(slot,) means and variances of lifts that are normal around 0 with (slot,) variances `prior`.

    A lift that stands out is no child of that normal: none is moved by more than MOST_SHRUNK standard errors away from
    what its own periods say (limited translation: Efron and Morris 1972, doi:10.1080/01621459.1972.10481215). Where
    windows overlap nothing is said by one event's periods alone.
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
