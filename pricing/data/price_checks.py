"""Sales as they were given, and checks of their values against their products' own past. See `quality`.

Causal: nothing looks at a later day.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days, Floats, Ints, Strings
from pricing.config_models import DataConfig
from pricing.data.calendar import holidays_for
from pricing.data.findings import ROWS, Finding, Found, Level
from pricing.data.grid import Grid, as_rows, carry, days_of
from pricing.data.panel import STEP_DAYS, Panel, Period

SERIES = ("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price", "comp_price_age", "is_promo")
LOOKBACK, LEAST_SEEN = 8, 4  # earlier periods of the same weekday that a period is compared with, and those needed
LEAST_TOGETHER = 3  # products that say something together; fewer are judged alone
LEAST_ROWS = 7  # rows of a product's past needed to tell what is usual for it
PAST_DAYS = 91  # that prices are compared with: a season, so that its promotions are in it
SETTLED = 14  # rows at a new level after which it is taken for the usual one
WINDOW_DAYS = 28  # newest days that are judged beside those that no champion has read, where a shop's range may change
_BLOCK = 4096  # products whose ranges are found at once
TOGETHER = 0.25, 1.5  # × the range of most products of a category: no clearance of all goes below, no inflation above
ALONE = 0.1, 5.0  # × the range of one product: clearance ends at a tenth, nothing gets five times dearer overnight
MANY_UNITS = 100.0  # × the most a product sold in its past: a total, or a number of another column
FAR_COMPETITOR = 20.0  # × or ÷ the own price: another unit or pack
PRICES = ("price", "list_price", "unit_cost")


@dataclass(frozen=True)
class GivenRows:
    """Rows laid out over products × periods, those that the champion has read of the time before among them."""

    grid: Grid  # the rows; `own` are the periods of the sales themselves
    numbers: Ints  # (product, period) number of the row in the sales, counted from 0; -1 where there is none
    period: Period  # the grain
    columns: dict[str, Floats]  # (product, period) values of each numeric column of the sales; NaN where missing
    categories: Strings  # (product,) latest category, "" where none is given
    categorised: Bools  # (product, period) whether the row names a category
    odd: Bools  # (period,) whether the calendar or most rows call it a holiday, or a person leaves it out
    since: int  # first of the newest periods that are judged
    names: Sequence[str]  # the columns that the sales have, in the contract and beyond it
    known: Panel | None  # the end of the history that the champion has read

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        config: DataConfig,
        *,
        names: Sequence[str],
        known: Panel | None,
    ) -> "GivenRows":
        """Lay out rows that satisfy the contract; a `known` history of other products or grain is ignored."""
        step, start = STEP_DAYS[config.period], days_of(frame["date"]).min()
        if known is not None and (
            known.period != config.period
            or (start - known.dates[0]).astype(int) % step
            or not frame["product_id"].isin(known.product_ids).any()
        ):
            known = None
        earlier = 0
        if known is not None and known.dates[0] < start:
            read = known.through(start - np.timedelta64(1, "D"))
            columns = [name for name in ("product_id", "category", *SERIES, "is_holiday") if name in frame]
            read_rows = as_rows(read, read.present, columns)
            frame, earlier = pd.concat([read_rows, frame], ignore_index=True), len(read_rows)
        grid = Grid.of(frame, period=config.period, start=start)
        numbers = np.full(grid.present.shape, -1, dtype=np.int64)
        numbers.flat[grid.cells] = np.maximum(np.arange(len(frame)) - earlier, -1)
        codes, latest, texts = grid.codes("category")
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
            categories=np.array([*texts, ""])[latest[:, -1]],
            categorised=codes >= 0,
            odd=calendar | flagged | left_out(grid.dates, config),
            since=max(since, grid.own.start),
            names=names,
            known=known,
        )

    @property
    def phases(self) -> int:
        """Periods after which the same weekday comes again."""
        return 7 if self.period == "day" else 1

    @property
    def past(self) -> int:
        """Periods that prices are compared with."""
        return PAST_DAYS // STEP_DAYS[self.period]

    def groups(self) -> Iterator[Bools]:
        """(product,) each category's products, and the whole shop, last."""
        names = np.unique(self.categories)
        yield from (self.categories == name for name in names if name and len(names) > 1)
        yield np.ones(len(self.grid.ids), dtype=np.bool_)

    def found(
        self, level: Level, at: Bools, sentence: str, *, column: str = "", aside: str = "", example: str = ""
    ) -> Found:
        """The finding on marked cells, (product, period), whose values in the column `aside`, or whose rows, go aside.

        The example is the first cell, with its value in `column`.
        """
        days = np.flatnonzero(at.any(axis=0))
        product, dates = int(np.argmax(at[:, days[0]])), self.grid.dates
        value = f": {column} {self.columns[column][product, days[0]]:g}" if column in self.columns else ""
        finding = Finding(
            "",
            level,
            products=int(at.any(axis=1).sum()),
            rows=int((at & self.grid.present).sum()),
            first=str(dates[days[0]]),
            last=str(dates[days[-1]]),
            example=example or f"{str(self.grid.ids[product])!r} on {dates[days[0]]}{value}",
            sentence=sentence,
        )
        return Found(finding, aside, at)

    def days(self, marked: Bools, sentence: str, *, example: str = "") -> Found:
        """The finding that sets whole periods, (period,), aside: what has no row in them is unknown."""
        at = np.broadcast_to(marked, self.grid.present.shape)
        return self.found("set_aside", at, sentence, aside=ROWS, example=example)

    def logs(self, name: str) -> Floats:
        """(product, period) logarithms of a column's values; NaN where there is none above 0."""
        values = self.columns[name]
        return np.log(np.where(values > 0, values, np.nan))

    def less_than_usual(self, values: Floats, *, usable: Bools, share: float) -> tuple[Bools, Floats]:
        """(period,) whether a value is below `share` of the lowest of the last such weekdays, and that lowest one.

        Later ones are not compared with those, so that a fault that lasts stays found.
        """
        low, lowest = np.zeros(len(values), dtype=np.bool_), np.full(len(values), np.nan)
        for now in range(len(values)):
            before = np.arange(now - self.phases, max(-1, now - 2 * LOOKBACK * self.phases - 1), -self.phases)
            before = before[(usable & ~low)[before]][:LOOKBACK]
            if usable[now] and len(before) >= LEAST_SEEN:
                lowest[now] = values[before].min()
                low[now] = values[now] < share * lowest[now]
        low[: self.grid.own.start] = False
        return low, lowest


def left_out(days: Days, config: DataConfig) -> Bools:
    """(day,) whether the period that begins on each day holds a day that a person leaves out."""
    marked = np.zeros(len(days), dtype=np.bool_)
    for first, last in config.quality.leave_out:
        marked |= (days + (STEP_DAYS[config.period] - 1) >= np.datetime64(first)) & (days <= np.datetime64(last))
    return marked


def past_range(logs: Floats, past: int) -> tuple[Floats, Floats]:
    """(product, period) lowest and highest of the past periods before each; NaN after fewer than LEAST_ROWS rows."""
    low, high = np.full(logs.shape, np.nan, dtype=np.float32), np.full(logs.shape, np.nan, dtype=np.float32)
    for start in range(0, len(logs), _BLOCK):
        some = slice(start, start + _BLOCK)
        before = pd.DataFrame(logs[some].T).shift().rolling(past, min_periods=LEAST_ROWS)
        low[some], high[some] = before.min().to_numpy().T, before.max().to_numpy().T
    return low, high


def far_off(logs: Floats, *, low: float, high: float, past: int) -> Bools:
    """(product, period) values beyond the range of the product's own `past` periods by more than a factor, all in logs.

    The first LEAST_ROWS values are compared with their median. A run of more than SETTLED is a new level, in the range
    from then on. Only products whose values span such a factor are gone through.
    """
    off, known = np.zeros(logs.shape, dtype=np.bool_), np.isfinite(logs)
    span = np.max(logs, axis=1, where=known, initial=-np.inf) - np.min(logs, axis=1, where=known, initial=np.inf)
    wide = np.flatnonzero((span > min(high, -low)) & (known.sum(axis=1) >= LEAST_ROWS))
    values, known = logs[wide], known[wide]
    opening = known & (np.cumsum(known, axis=1) <= LEAST_ROWS)
    middle = np.median(values[opening].reshape(len(wide), LEAST_ROWS), axis=1)
    away = values - middle[:, None]
    usable = known & ~(opening & ((away > high) | (away < low)))
    run = np.zeros(len(wide), dtype=np.int64)
    for now in range(1, logs.shape[1]):
        base, here = slice(max(0, now - past), now), known[:, now] & ~opening[:, now]
        highest = np.max(values[:, base], axis=1, where=usable[:, base], initial=-np.inf)
        lowest = np.min(values[:, base], axis=1, where=usable[:, base], initial=np.inf)
        enough = here & (usable[:, base].sum(axis=1) >= LEAST_SEEN)
        far = enough & ((values[:, now] - highest > high) | (values[:, now] - lowest < low)) & (run < SETTLED)
        run = np.where(far, run + 1, np.where(here, 0, run))
        usable[:, now] &= ~far
    off[wide] = known & ~usable
    return off


def newest_run(flags: Bools) -> int:
    """How many of the newest periods are flagged without a break."""
    return len(flags) if flags.all() else int(np.argmax(~flags[::-1]))


def price_unit(sales: GivenRows) -> Iterator[Found]:
    """Find the day from which most prices of a category, or of the shop, are of another unit or pack."""
    for column in PRICES:
        if column in sales.columns and (at := _together(sales, column)).any():
            first = int(np.argmax(at.any(axis=0)))
            factor = np.nanmedian((sales.columns[column] / _before(sales, sales.columns[column]))[at[:, first], first])
            text = f"{column} of {int(at[:, first].sum()):,} products is about {factor:.3g} times what it was before"
            yield sales.found("stop", at, text, column=column)
            return
    yield from _unit_not_as_read(sales)


def _before(sales: GivenRows, values: Floats) -> Floats:
    """(product, period) the value on the row before; NaN where there is none."""
    return carry(values, np.pad(sales.grid.latest[:, :-1], ((0, 0), (1, 0)), constant_values=-1))


def _together(sales: GivenRows, column: str) -> Bools:
    """(product, period) values of categories, or of the shop, most of which left their own past's range alike."""
    logs = sales.logs(column)
    low, high = past_range(logs, sales.past)
    if column == "price" and "list_price" in sales.columns:  # back to list price after a long promotion
        high = np.fmax(high, past_range(sales.logs("list_price"), sales.past)[1])
    with np.errstate(invalid="ignore"):
        moves = logs - high > np.log(TOGETHER[1]), logs - low < np.log(TOGETHER[0])
    judged, marked = np.isfinite(logs) & np.isfinite(high), np.zeros(logs.shape, dtype=np.bool_)
    for members in sales.groups() if moves[0].any() or moves[1].any() else ():
        count = judged[members].sum(axis=0)
        for moved in moves:
            days = (count >= LEAST_TOGETHER) & (2 * (moved & judged)[members].sum(axis=0) > count)
            marked[members] |= moved[members] & judged[members] & days
    marked[:, : sales.grid.own.start] = False
    return marked


def _unit_not_as_read(sales: GivenRows) -> Iterator[Found]:
    """Find a new export in another unit by the days that the champion has read."""
    known, grid = sales.known, sales.grid
    if known is None:
        return
    _, here, there = np.intersect1d(grid.dates[grid.own], known.dates, return_indices=True)
    _, rows, others = np.intersect1d(grid.ids, known.product_ids, return_indices=True)
    read = np.full(grid.present.shape, np.nan)
    read[np.ix_(rows, here + grid.own.start)] = np.where(known.present, known.price, np.nan)[np.ix_(others, there)]
    ratio = sales.columns["price"] / read
    at = np.isfinite(ratio)
    if at.any(axis=1).sum() < LEAST_TOGETHER:
        return
    factor = float(np.median(ratio[at]))
    if not TOGETHER[0] < factor < TOGETHER[1]:
        text = f"price is about {factor:.3g} times what the champion has read of the same days"
        yield sales.found("stop", at, text, column="price")


def price_outlier(sales: GivenRows) -> Iterator[Found]:
    """Find single prices far outside the product's own past."""
    limits = {"low": np.log(ALONE[0]), "high": np.log(ALONE[1]), "past": sales.past}
    for column in PRICES:
        if column not in sales.columns:
            continue
        logs = sales.logs(column)
        at = far_off(logs, **limits) & (sales.numbers >= 0)
        if at.any():  # without what most products did together, such as a new currency
            shift = np.where(_together(sales, column), np.nan_to_num(logs - _before(sales, logs)), 0.0)
            at &= far_off(logs - np.cumsum(shift, axis=1), **limits)
        if at.any():
            text = f"{column} is over {ALONE[1]:g} times, or under {ALONE[0]:g} times, all that it was before"
            yield sales.found("set_aside", at, text, column=column, aside=column if column == "unit_cost" else ROWS)


def units(sales: GivenRows) -> Iterator[Found]:
    """Find single units far outside the product's own past."""
    at = far_off(sales.logs("units_sold"), low=-np.inf, high=np.log(MANY_UNITS), past=sales.past) & (sales.numbers >= 0)
    if at.any():
        text = f"units are over {MANY_UNITS:g} times the most that the product sold before"
        yield sales.found("set_aside", at, text, column="units_sold", aside=ROWS)


def competitor(sales: GivenRows) -> Iterator[Found]:
    """Find competitor's prices of another unit or pack."""
    if "comp_price" not in sales.columns:
        return
    logs, own = sales.logs("comp_price"), sales.logs("price")
    some = np.isfinite(own).any(axis=1) & np.isfinite(logs).any(axis=1)
    usual = np.full((len(own), 1), np.nan)
    usual[some] = np.nanmedian(own[some], axis=1, keepdims=True)  # one day's may be mistyped
    at = np.minimum(np.abs(logs - usual), np.abs(logs - own)) > np.log(FAR_COMPETITOR)
    at |= far_off(logs, low=-np.log(ALONE[1]), high=np.log(ALONE[1]), past=sales.past)
    at &= sales.numbers >= 0
    if at.any():
        text = "comp_price is far outside what it was before, or can be beside the own price"
        yield sales.found("set_aside", at, text, column="comp_price", aside="comp_price")
