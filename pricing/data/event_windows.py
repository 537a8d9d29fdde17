"""Event lifts: log units that named events add to demand, by event, day of its window and category. NumPy only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Days, Floats, Ints, Strings
from pricing.data.panel import STEP_DAYS, Event, Period


class Placed(NamedTuple):
    """Period `at` in an event's window; `event` is a row of names, `position` its distance from the event."""

    event: int
    position: int
    at: int
    category: str


class _Claim(NamedTuple):
    """The claim of an event on a period; the least wins."""

    distance: int
    past: bool  # True where the event lies behind
    length: int
    order: int  # of the event in the calendar, unique
    name: str
    position: int


class Lift(NamedTuple):
    """Lift of one event on one period: `value` and `sd` in log units, `position` its distance in periods."""

    name: str
    position: int
    value: float
    sd: float
    period: Period

    def words(self) -> str:
        """Describe event, distance and lift, such as "2 days before Thanksgiving Day: +38 % ± 9 %"."""
        count = abs(self.position)
        unit = self.period if count == 1 else f"{self.period}s"
        side = "before" if self.position < 0 else "after"
        when = f"{count} {unit} {side} " if count else ""
        return f"{when}{self.name}: {percent(self.value, self.sd)}"


def percent(value: float, sd: float) -> str:
    """Format a lift in log units and its sd as per cent of demand (delta method)."""
    return f"{100 * np.expm1(value):+.0f} % ± {100 * np.exp(value) * sd:.0f} %"


@dataclass(frozen=True)
class EventLifts:
    """Estimated lifts, the event calendar, and the log units of each period. The last row is an unknown category."""

    category: Ints  # (product,) row of each product's category
    categories: Strings  # (category,) their names
    names: Strings  # (event,) names of events
    positions: Ints  # (position,) ascending: periods from the event, 0 on it, below 0 before it
    value: Floats  # (row, event, position) log units added; 0 without an estimate
    sd: Floats  # (row, event, position) standard deviation of the value; 0 without an estimate
    seen: Ints  # (event,) occurrences in the history
    dates: Days  # (period,) evenly spaced, from the first period of the history on
    by_period: Floats  # (row, period) log units that the events of each period add
    events: tuple[Event, ...]  # the calendar, those of one day in order of precedence

    def of(self, dates: Days) -> Floats:
        """(product, date) log units that events add to each product's demand; 0 outside the calendar."""
        return self.rows(dates)[self.category]

    def rows(self, dates: Days) -> Floats:
        """(row, date) the same by category, the last row for an unknown one."""
        return self.at(np.arange(len(self.by_period))[:, None], dates)

    def at(self, row: Ints, dates: Days) -> Floats:
        """(…) log units that the events of a period add, by rows (…) and dates (…); 0 outside the calendar."""
        at = (dates - self.dates[0]) // (self.dates[1] - self.dates[0])
        inside = (at >= 0) & (at < len(self.dates))
        return np.where(inside, self.by_period[row, np.clip(at, 0, len(self.dates) - 1)], np.float32(0.0))

    def since(self, date: np.datetime64) -> "EventLifts":
        """Return the lifts of the periods from a date on."""
        cut = int(np.searchsorted(self.dates, date))
        return replace(self, dates=self.dates[cut:], by_period=self.by_period[:, cut:])

    def on(self, date: np.datetime64, *, row: int, period: Period) -> list[Lift]:
        """List the lifts of the events whose windows contain a period, largest first; row −1 is an unknown category."""
        dates = np.asarray([date], self.dates.dtype)
        category = str(self.categories[row]) if 0 <= row < len(self.categories) else ""
        found = []
        for placed in place(self.events, self.names.tolist(), dates, period=period):
            if placed.category not in ("", category) or placed.position not in self.positions:
                continue
            cell = row, placed.event, int(np.searchsorted(self.positions, placed.position))
            sd = float(self.sd[cell])
            if sd > 0:
                name = str(self.names[placed.event])
                found.append(Lift(name, placed.position, float(self.value[cell]), sd, period))
        return sorted(found, key=lambda lift: -abs(lift.value))

    def with_products(self, category: Ints) -> "EventLifts":
        """Return the same lifts for other products, given by the rows of their categories."""
        return replace(self, category=np.asarray(category, np.int32))

    def with_calendar(
        self, events: tuple[Event, ...], *, since: np.datetime64, until: np.datetime64, period: Period
    ) -> "EventLifts":
        """Return the same lifts with a newer calendar up to the period of `until`; an empty one keeps the present.

        Periods up to `since`, the last one that states have encoded, stay as they are. An event that was not in the
        calendar when lifts were estimated has none.
        """
        events = _with_past(self.events, events, since=since) if events else self.events
        new = sorted({event.name for event in events} - set(self.names.tolist()))
        width = (0, len(new))
        names = np.concatenate([self.names, np.array(new, np.str_)])
        value = np.pad(self.value, ((0, 0), width, (0, 0)))

        dates = np.arange(self.dates[0], until + np.timedelta64(1, "D"), STEP_DAYS[period], dtype="datetime64[D]")
        placed = list(place(events, names.tolist(), dates, period=period))
        by_period = spread(placed, value, self.positions, categories=self.categories, periods=len(dates))
        kept = int((self.dates[: len(dates)] <= since).sum())
        by_period[:, :kept] = self.by_period[:, :kept]
        return replace(
            self,
            names=names,
            value=value,
            sd=np.pad(self.sd, ((0, 0), width, (0, 0))),
            seen=np.pad(self.seen, width),
            dates=dates,
            by_period=by_period,
            events=events,
        )


def _with_past(own: tuple[Event, ...], events: tuple[Event, ...], *, since: np.datetime64) -> tuple[Event, ...]:
    """Return the events after a day, behind the own ones up to it; the own ones where the coming are the same."""
    coming = [event for event in events if event.first > since]
    if set(coming) == {event for event in own if event.first > since}:
        return own
    return (*(event for event in own if event.first <= since), *coming)


def place(events: Sequence[Event], names: Sequence[str], dates: Days, *, period: Period) -> Iterator[Placed]:
    """Assign periods, which begin on evenly spaced `dates`, to events' windows, in no order.

    A period belongs to the nearest event that is no overlay; ties go to the event ahead, then to the shorter one, then
    to the earlier in the calendar. Overlays also take all of theirs, and what is not among `names` still occupies its
    own.
    """
    row = {name: number for number, name in enumerate(names)}
    step = STEP_DAYS[period]
    start = dates[0].astype("datetime64[D]")
    best: dict[int, _Claim] = {}
    for order, event in enumerate(events):
        first = int((event.first - start).astype(np.int64)) // step
        last = int((event.last - start).astype(np.int64)) // step
        for at in range(max(first - event.before, 0), min(last + event.after, len(dates) - 1) + 1):
            position = min(at - first, 0) + max(at - last, 0)
            if event.overlay:
                if event.name in row:
                    yield Placed(row[event.name], position, at, event.category)
                continue
            claim = _Claim(abs(position), position > 0, last - first, order, event.name, position)
            best[at] = min(best.get(at, claim), claim)
    for at, claim in best.items():
        if claim.name in row:
            yield Placed(row[claim.name], claim.position, at, "")


def spread(
    placed: Sequence[Placed], value: Floats, positions: Ints, *, categories: Strings, periods: int
) -> NDArray[np.float32]:
    """(row, period) log units that events add, from (row, event, position) values."""
    by_period = np.zeros((len(value), periods), np.float32)
    group = {str(name): row for row, name in enumerate(categories)}
    column = {int(position): number for number, position in enumerate(positions)}
    for event, position, at, category in placed:
        if position not in column:
            continue  # outside the windows of the estimation
        rows = slice(None) if not category else group.get(category, slice(0))
        by_period[rows, at] += value[rows, event, column[position]]
    return by_period
