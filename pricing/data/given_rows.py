"""Sales as they were given, for checks that compare days with days before. Causal: nothing looks at a later day."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.config_models import DataConfig
from pricing.data.calendar import holidays_for
from pricing.data.findings import ROWS, Finding, Found, Level
from pricing.data.grid import Grid, as_rows, days_of
from pricing.data.own_prices import NO_MOVES, Moves, given_lately
from pricing.data.panel import STEP_DAYS, Panel, Period

SERIES = (
    "units_sold",
    "price",
    "list_price",
    "unit_cost",
    "stock",
    "available",
    "comp_price",
    "comp_price_age",
    "is_promo",
)
LOOKBACK = 8  # earlier periods of the same weekday that a period is compared with
LEAST_SEEN = 4  # of them that are needed
LEAST_TOGETHER = 3  # products that are judged together; fewer are judged alone
LEAST_ROWS = 7  # rows of a product's past needed to tell what is usual for it
PAST_DAYS = 91  # that prices are compared with: a season, so that its promotions are in it
SETTLED = 14  # rows at a new level after which it is taken for the usual one
WINDOW_DAYS = 28  # newest days that are judged beside those that no champion has read, where a shop's range may change


@dataclass(frozen=True)
class GivenRows:
    """Rows laid out over products × periods, those that the champion has read of the time before among them."""

    grid: Grid  # the rows; `own` are the periods of the sales themselves
    numbers: Ints  # (product, period) number of the row in the sales, counted from 0; -1 where there is none
    period: Period  # the grain
    columns: dict[str, Floats]  # (product, period) values of each numeric column of the sales; NaN where missing
    categories: Strings  # (product,) latest category, "" where none is given
    categorised: Bools  # (product, period) whether the row names a category
    stores: Strings  # (product,) store or channel of a series, "" where it is none
    country: str  # whose holidays count
    calendar: Bools  # (period,) whether the country's calendar calls it a holiday
    odd: Bools  # (period,) whether that or most rows do, or a person leaves it out
    since: int  # first of the newest periods that are judged
    names: Sequence[str]  # the columns that the sales have, in the contract and beyond it
    known: Panel | None  # the end of the history that the champion has read
    today: dt.date | None  # the day of the check; None where it does not matter
    accept: Mapping[str, dt.date]  # day up to which a person accepts what a check finds
    given: Moves = NO_MOVES  # prices that the platform gave

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        config: DataConfig,
        *,
        names: Sequence[str],
        known: Panel | None,
        today: dt.date | None,
        given: Moves = NO_MOVES,
    ) -> "GivenRows":
        """Lay out rows that satisfy the contract; a `known` history of other products or grain is ignored."""
        step = STEP_DAYS[config.period]
        start = days_of(frame["date"]).min()
        known = _comparable(known, frame, config.period, start)
        earlier = 0
        if known is not None and known.dates[0] < start:
            read = _read_before(known, frame, start)
            earlier = len(read)
            frame = pd.concat([read, frame], ignore_index=True)

        grid = Grid.of(frame, period=config.period, start=start)
        numbers = np.full(grid.present.shape, -1, dtype=np.int64)
        numbers.flat[grid.cells] = np.maximum(np.arange(len(frame)) - earlier, -1)
        codes, latest, names_of = grid.codes("category")

        since = max(0, len(grid.dates) - WINDOW_DAYS // step)
        if known is not None:
            since = min(since, int((grid.dates <= known.dates[-1]).sum()))

        calendar = holidays_for(grid.dates, recurring=None, country=config.country, period=config.period)
        flagged = 2 * np.nansum(grid.spread("is_holiday"), axis=0) > grid.present.sum(axis=0)
        return cls(
            grid=grid,
            numbers=numbers,
            period=config.period,
            columns={name: grid.spread(name) for name in SERIES if name in frame},
            categories=np.array([*names_of, ""])[latest[:, -1]],
            categorised=codes >= 0,
            stores=_stores(grid),
            country=config.country,
            calendar=calendar,
            odd=calendar | flagged | left_out(grid.dates, config),
            since=max(since, grid.own.start),
            names=names,
            known=known,
            today=today,
            accept=config.quality.accept,
            given=given,
        )

    @property
    def phases(self) -> int:
        """Periods after which the same weekday comes again."""
        return 7 if self.period == "day" else 1

    @property
    def past(self) -> int:
        """Periods that prices are compared with."""
        return PAST_DAYS // STEP_DAYS[self.period]

    @property
    def usual_days(self) -> Bools:
        """(period,) True where it has rows and is like others."""
        return np.asarray(self.grid.present.any(axis=0) & ~self.odd)

    def was_given(self, changed: Bools) -> Bools:
        """(product, period) True where a price changed to one that the platform gave."""
        price = self.columns["price"]
        return given_lately(changed, self.given, product_ids=self.grid.ids, dates=self.grid.dates, price=price)

    def is_holiday(self, day: np.datetime64) -> bool:
        """Returns whether the country's calendar calls the period that begins on a day a holiday."""
        return bool(holidays_for(np.array([day]), recurring=None, country=self.country, period=self.period)[0])

    def groups(self) -> Iterator[tuple[str, Ints]]:
        """Each category and store with the rows of its products, and the whole shop under the empty name, last."""
        for part in (self.categories, self.stores):
            names, codes = np.unique(part, return_inverse=True)
            for code, name in enumerate(names if len(names) > 1 else ()):
                if name:
                    yield str(name), np.flatnonzero(codes == code)
        yield "", np.arange(len(self.grid.ids))

    def found(
        self, level: Level, at: Bools, sentence: str, *, column: str = "", aside: str = "", example: str = ""
    ) -> Found:
        """The finding on marked cells, (product, period), whose values in the column `aside`, or whose rows, go aside.

        The example is the first cell, with its value in `column` where it has a row.
        """
        periods = np.flatnonzero(at.any(axis=0))
        first = periods[0]
        day = str(self.grid.dates[first])
        product = int(np.argmax(at[:, first]))
        known = column in self.columns and self.grid.present[product, first]
        value = f": {column} {self.columns[column][product, first]:g}" if known else ""
        finding = Finding(
            "",
            level,
            products=int(at.any(axis=1).sum()),
            rows=int((at & self.grid.present).sum()),
            first=day,
            last=str(self.grid.dates[periods[-1]]),
            example=example or f"{str(self.grid.ids[product])!r} on {day}{value}",
            sentence=sentence,
        )
        return Found(finding, aside, at)

    def whole(self, level: Level, sentence: str, *, since: int = 0, aside: str = "") -> Found:
        """The finding on all rows from a period on."""
        at = self.grid.present & (np.arange(len(self.grid.dates)) >= since)
        return self.found(level, at, sentence, aside=aside)

    def days(self, marked: Bools, sentence: str, *, example: str = "") -> Found:
        """The finding that sets whole periods, (period,), aside: what has no row in them is unknown."""
        at = np.broadcast_to(marked, self.grid.present.shape)
        return self.found("set_aside", at, sentence, aside=ROWS, example=example)

    def logs(self, name: str) -> Floats:
        """(product, period) logarithms of a column's values; NaN where there is none above 0."""
        values = self.columns[name]
        return np.log(np.where(values > 0, values, np.nan))

    def less_than_usual(self, values: Floats | Ints, *, usable: Bools, share: float) -> tuple[Bools, Floats]:
        """(period,) True where a value is below `share` of the lowest of the last such weekdays, and that lowest one.

        Later ones are not compared with those, so that a fault that lasts stays found.
        """
        low = np.zeros(len(values), dtype=np.bool_)
        lowest = np.full(len(values), np.nan)
        for now in np.flatnonzero(usable).tolist():
            furthest = max(0, now - 2 * LOOKBACK * self.phases)
            before = np.arange(now - self.phases, furthest - 1, -self.phases)
            before = before[(usable & ~low)[before]][:LOOKBACK]
            if len(before) >= LEAST_SEEN:
                lowest[now] = values[before].min()
                low[now] = values[now] < share * lowest[now]
        low[: self.grid.own.start] = False
        return low, lowest


def _comparable(known: Panel | None, frame: pd.DataFrame, period: Period, start: np.datetime64) -> Panel | None:
    """Return the known history if it is of these products, of this grain, and its weeks begin on the same weekday."""
    if known is None or known.period != period or (start - known.dates[0]).astype(int) % STEP_DAYS[period]:
        return None
    return known if frame["product_id"].isin(known.product_ids).any() else None


def _read_before(known: Panel, frame: pd.DataFrame, start: np.datetime64) -> pd.DataFrame:
    """Return the known rows before a day, with the columns of a frame."""
    read = known.through(start - np.timedelta64(1, "D"))
    columns = [name for name in ("product_id", "category", *SERIES, "is_holiday") if name in frame]
    return as_rows(read, read.present, columns)


def _stores(grid: Grid) -> Strings:
    """(product,) what a series' id adds to its parent's, or has behind an @."""
    _, latest, parents = grid.codes("parent_id")
    of = np.array([*parents, ""])[latest[:, -1]]
    pairs = zip(grid.ids.tolist(), of.tolist(), strict=True)
    return np.array(
        [name.removeprefix(parent) if parent else name.rpartition("@")[2] * ("@" in name) for name, parent in pairs]
    )


def left_out(days: Days, config: DataConfig) -> Bools:
    """(day,) True where the period that begins on a day holds one that a person leaves out."""
    marked = np.zeros(len(days), dtype=np.bool_)
    for first, last in config.quality.leave_out:
        marked |= (days + (STEP_DAYS[config.period] - 1) >= np.datetime64(first)) & (days <= np.datetime64(last))
    return marked


def past_range(logs: Floats, past: int) -> tuple[Floats, Floats]:
    """(product, period) lowest and highest of the past periods before each; NaN after fewer than LEAST_ROWS rows."""
    before = pd.DataFrame(logs.T).shift().rolling(past, min_periods=LEAST_ROWS)
    return before.min().to_numpy(np.float32).T, before.max().to_numpy(np.float32).T


def far_off(logs: Floats, *, low: float, high: float, past: int) -> Bools:
    """(product, period) values beyond the range of the product's own `past` periods by more than a factor, all in logs.

    The first LEAST_ROWS values are compared with their median. A run of more than SETTLED is a new level, in the range
    from then on. Only products whose values span such a factor are gone through.
    """
    off = np.zeros(logs.shape, dtype=np.bool_)
    known = np.isfinite(logs)
    span = np.max(logs, axis=1, where=known, initial=-np.inf) - np.min(logs, axis=1, where=known, initial=np.inf)
    wide = np.flatnonzero((span > min(high, -low)) & (known.sum(axis=1) >= LEAST_ROWS))
    values = logs[wide]
    known = known[wide]

    opening = known & (np.cumsum(known, axis=1) <= LEAST_ROWS)
    middle = np.median(values[opening].reshape(len(wide), LEAST_ROWS), axis=1)
    away = values - middle[:, None]
    usable = known & ~(opening & ((away > high) | (away < low)))

    run = np.zeros(len(wide), dtype=np.int64)
    for now in range(1, logs.shape[1]):
        base = slice(max(0, now - past), now)
        highest = np.max(values[:, base], axis=1, where=usable[:, base], initial=-np.inf)
        lowest = np.min(values[:, base], axis=1, where=usable[:, base], initial=np.inf)
        judged = known[:, now] & ~opening[:, now]
        enough = judged & (usable[:, base].sum(axis=1) >= LEAST_SEEN)
        outside = (values[:, now] - highest > high) | (values[:, now] - lowest < low)
        far = enough & outside & (run < SETTLED)
        run = np.where(far, run + 1, np.where(judged, 0, run))
        usable[:, now] &= ~far
    off[wide] = known & ~usable
    return off


def newest_run(flags: Bools) -> int:
    """How many of the newest periods are flagged without a break."""
    return len(flags) if flags.all() else int(np.argmax(~flags[::-1]))
