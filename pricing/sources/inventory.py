"""Stock on hand at opening by day, product and store, from counts or movements; and planned deliveries."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_sources import DeliverySource, SourcesConfig, StockSource
from pricing.data.contract import LARGEST
from pricing.sources.checked_rows import FUTURE, CheckedRows
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.local_times import DAY_SECONDS, LocalTimes, local_times
from pricing.sources.product_master import ProductMaster
from pricing.sources.set_aside import SetAside

TABLE = "stock"
DELIVERIES = "deliveries"
COUNT_COLUMNS = ("date", "product_id", "store", "stock")
MOVEMENT_COLUMNS = ("date", "product_id", "store", "received", "taken")
MOST_NEGATIVE = 0.05  # share of a ledger's days below 0 above which it lacks its beginning, and tells nothing
_NOON = DAY_SECONDS // 2
_KEY = ["date", "product_id", "store"]


@dataclass(frozen=True)
class StockCounts:
    """What became of the rows of a stock source.

    Attributes:
        read: Rows read.
        replaced: Counts that another one nearer to the same opening replaces.
        by_day: Counts taken between 6 and 18 o'clock, when the day's sales make them differ from the opening.
        negative_days: Openings that movements sum to less than 0: unknown.
        incomplete: Products (in a store) whose movements sum below 0 so often that their beginning is missing: unknown.
        notes: What was decided for many rows at once, one sentence each.
    """

    read: int = 0
    replaced: int = 0
    by_day: int = 0
    negative_days: int = 0
    incomplete: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Reader:
    """Cells of a stock source that are usable, as columns."""

    def __init__(
        self,
        source: StockSource,
        *,
        config: SourcesConfig,
        ids: Identifiers,
        set_aside: SetAside,
        master: ProductMaster | None,
        latest: np.datetime64 | None,
    ) -> None:
        self.source, self.config, self.ids = source, config, ids
        self.set_aside, self.master, self.latest = set_aside, master, latest
        self.read = 0
        self._notes: dict[str, int] = {}

    def rows(self, chunks: Iterable[Chunk], *, signed: bool) -> pd.DataFrame:
        """Day, seconds since midnight, product, store and quantity of each usable row."""
        parts = [self._part(chunk, signed=signed) for chunk in chunks]
        columns = {"day": "int64", "seconds": "int64", "product_id": "str", "store": "str", "quantity": "float64"}
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns)).astype(columns)

    def notes(self) -> tuple[str, ...]:
        return tuple(f"{TABLE}: {what} on {count:,} rows." for what, count in self._notes.items())

    def _part(self, chunk: Chunk, *, signed: bool) -> pd.DataFrame:
        cells = CheckedRows(chunk, self.source, table=TABLE, set_aside=self.set_aside)
        self.read += len(chunk.frame)
        when = local_times(cells.column("time"), zone=self.config.zone, own_zone=self.source.zone)
        for what, count in when.notes:
            self._notes[what] = self._notes.get(what, 0) + count
        codes = self.ids.codes(cells.column("product_id"), source=TABLE)
        quantity = cells.numbers("quantity")
        values: Floats = quantity.values.astype(np.float64)
        _refuse_times(cells, when)
        if self.latest is not None:
            last = self.latest.astype("datetime64[D]").astype(np.int64)
            ahead = when.days > last if signed else _opening_days(self.source, when.days, when.seconds) > last + 1
            cells.refuse(ahead, FUTURE)
        cells.refuse(codes < 0, "product_id must not be missing")
        cells.refuse(quantity.missing | quantity.wrong, "quantity must be a number")
        if not signed:
            cells.refuse(values < 0, "a count must not be below 0")
        cells.refuse(np.abs(values) > LARGEST, f"quantity must be at most {LARGEST:,.0f}")
        if self.source.pieces:
            values = self._packs(cells, codes, when, values)
        store = cells.texts("store")
        keep = cells.usable
        return pd.DataFrame(
            {
                "day": when.days[keep],
                "seconds": when.seconds[keep],
                "product_id": self.ids.of(codes[keep]),
                "store": pd.Series(store[keep], dtype="str"),
                "quantity": values[keep],
            }
        )

    def _packs(self, cells: CheckedRows, codes: NDArray[np.int64], when: LocalTimes, pieces: Floats) -> Floats:
        master = self.master or ProductMaster.empty()
        places = np.append(master.places(pd.Index(self.ids.ids, dtype="str")), -1)[codes]
        size = master.on("pack_size", places, when.days)
        cells.refuse(np.isnan(size), "pieces are counted, and the product master has no pack_size")
        packs: Floats = pieces / size
        return packs


def stock_counts(
    chunks: Iterable[Chunk],
    source: StockSource,
    *,
    config: SourcesConfig,
    ids: Identifiers,
    set_aside: SetAside,
    master: ProductMaster | None = None,
    latest: np.datetime64 | None = None,
) -> tuple[pd.DataFrame, StockCounts]:
    """Openings from counts (snapshots).

    A count without a time of day (midnight is none) is that of its day's morning or evening, as `taken` says. One with
    a time belongs to the nearest midnight: before noon to its own day's opening, from noon on to the next day's. Of
    several for one opening the nearest counts, then the last one read. A day without a count is unknown: nothing is
    carried to it. `latest` is today in the shop's zone: the last opening that may be known is that of the next day.

    Returns:
        `COUNT_COLUMNS` by date, product_id and store, sorted; stock in units, whole packs where pieces are counted.

    Raises:
        SourceError: A needed column is not there.
    """
    reader = _Reader(source, config=config, ids=ids, set_aside=set_aside, master=master, latest=latest)
    rows = reader.rows(chunks, signed=False)
    seconds = rows["seconds"].to_numpy()
    timed = seconds != 0
    away = np.where(timed, np.minimum(seconds, DAY_SECONDS - seconds), 0)
    opening = _opening_days(source, rows["day"].to_numpy(), seconds).astype("datetime64[D]").astype("datetime64[s]")
    stock = rows["quantity"].to_numpy()
    frame = pd.DataFrame(
        {
            "date": opening,
            "product_id": rows["product_id"],
            "store": rows["store"],
            "stock": np.floor(stock + 1e-9) if source.pieces else stock,
            "_away": -away,
        }
    )
    frame = frame.sort_values([*_KEY, "_away"], kind="stable")
    again = frame.duplicated(_KEY, keep="last")
    by_day = int(np.count_nonzero(timed & (seconds > DAY_SECONDS // 4) & (seconds < 3 * DAY_SECONDS // 4)))
    counts = StockCounts(read=reader.read, replaced=int(again.sum()), by_day=by_day, notes=reader.notes())
    return frame[~again].drop(columns="_away").reset_index(drop=True), counts


def stock_movements(
    chunks: Iterable[Chunk],
    source: StockSource,
    *,
    config: SourcesConfig,
    ids: Identifiers,
    set_aside: SetAside,
    master: ProductMaster | None = None,
    latest: np.datetime64 | None = None,
) -> tuple[pd.DataFrame, StockCounts]:
    """Movements summed by day: what came in (above 0) and what went out (below 0); none is after `latest`.

    Returns:
        `MOVEMENT_COLUMNS` by date, product_id and store, sorted; received and taken at least 0, in units.

    Raises:
        SourceError: A needed column is not there.
    """
    reader = _Reader(source, config=config, ids=ids, set_aside=set_aside, master=master, latest=latest)
    rows = reader.rows(chunks, signed=True)
    moved = rows["quantity"].to_numpy()
    frame = pd.DataFrame(
        {
            "date": rows["day"].to_numpy().astype("datetime64[D]").astype("datetime64[s]"),
            "product_id": rows["product_id"],
            "store": rows["store"],
            "received": np.maximum(moved, 0.0),
            "taken": np.maximum(-moved, 0.0),
        }
    )
    summed = frame.groupby(_KEY, sort=True, as_index=False).sum()
    return summed.round({"received": 9, "taken": 9}), StockCounts(read=reader.read, notes=reader.notes())


def openings(movements: pd.DataFrame, *, until: np.datetime64 | None = None) -> tuple[pd.DataFrame, StockCounts]:
    """Openings summed from movements: on each day what all earlier days' movements come to.

    Movements make every day exact, those without any included, from the day after a product's first one. Sums below 0
    are unknown; where they are frequent the ledger lacks its beginning, and all its days are.

    Args:
        movements: `MOVEMENT_COLUMNS`, from the very first movement on.
        until: Last day to tell; None: the day after the last movement of any product.

    Returns:
        `COUNT_COLUMNS` by date, product_id and store, sorted.
    """
    empty = pd.DataFrame({"date": movements["date"][:0], **{n: pd.Series(dtype="str") for n in _KEY[1:]}})
    if movements.empty:
        return empty.assign(stock=pd.Series(dtype="float64")), StockCounts()
    series = pd.MultiIndex.from_frame(movements[["product_id", "store"]])
    codes, names = pd.factorize(series, sort=True)
    days = movements["date"].to_numpy().astype("datetime64[D]").astype(np.int64)
    last = int(days.max()) + 1 if until is None else int(until.astype("datetime64[D]").astype(np.int64))
    order = np.lexsort((days, codes))
    codes, days = codes[order], days[order]
    change = (movements["received"] - movements["taken"]).to_numpy(np.float64)[order]
    begins = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    total = np.cumsum(change)
    total -= np.repeat(total[begins] - change[begins], np.diff(np.append(begins, len(codes))))
    after = np.append(days[1:], last)
    after[np.append(begins[1:] - 1, len(codes) - 1)] = last
    spans = np.maximum(np.minimum(after, last) - days, 0)  # the days whose opening each sum is
    row = np.repeat(np.arange(len(codes)), spans)
    ahead = np.arange(len(row)) - np.repeat(np.cumsum(spans) - spans, spans) + 1
    day, stock, series_of = days[row] + ahead, np.round(total[row], 6), codes[row]
    negative = stock < 0
    share = np.bincount(series_of, negative, len(names)) / np.maximum(np.bincount(series_of, minlength=len(names)), 1)
    hopeless = share > MOST_NEGATIVE
    keep = ~negative & ~hopeless[series_of]
    frame = pd.DataFrame(
        {
            "date": day[keep].astype("datetime64[D]").astype("datetime64[s]"),
            "product_id": pd.Series(names.get_level_values(0)[series_of[keep]], dtype="str"),
            "store": pd.Series(names.get_level_values(1)[series_of[keep]], dtype="str"),
            "stock": stock[keep],
        }
    )
    incomplete = tuple(f"{product}@{store}" if store else str(product) for product, store in names[hopeless])
    counts = StockCounts(negative_days=int(negative.sum()), incomplete=incomplete)
    return frame.sort_values(_KEY, kind="stable", ignore_index=True), counts


def planned_deliveries(
    chunks: Iterable[Chunk],
    source: DeliverySource,
    *,
    ids: Identifiers,
    set_aside: SetAside,
) -> pd.DataFrame:
    """Planned deliveries: product_id, store, date and quantity (NaN where it is not said), sorted by them.

    Several rows of one product, store and day are one delivery; their quantities are added.

    Raises:
        SourceError: A needed column is not there.
    """
    parts = []
    for chunk in chunks:
        cells = CheckedRows(chunk, source, table=DELIVERIES, set_aside=set_aside)
        codes = ids.codes(cells.column("product_id"), source=DELIVERIES)
        days, quantity, store = cells.days("date"), cells.numbers("quantity"), cells.texts("store")
        cells.refuse(codes < 0, "product_id must not be missing")
        cells.refuse(days.missing | days.wrong, "date must be a day such as 2026-11-27")
        bad: Bools = quantity.wrong | (quantity.values <= 0) | (quantity.values > LARGEST)
        cells.refuse(bad, f"quantity must be above 0 and at most {LARGEST:,.0f}")
        keep = cells.usable
        parts.append(
            pd.DataFrame(
                {
                    "product_id": ids.of(codes[keep]),
                    "store": pd.Series(store[keep], dtype="str"),
                    "date": days.values[keep].astype("datetime64[s]"),
                    "quantity": quantity.values[keep].astype(np.float64),
                }
            )
        )
    if not parts:
        texts = {name: pd.Series(dtype="str") for name in ("product_id", "store")}
        return pd.DataFrame({**texts, "date": pd.Series(dtype="datetime64[s]"), "quantity": pd.Series(dtype="float64")})
    whole = pd.concat(parts, ignore_index=True)
    by = ["product_id", "store", "date"]
    return whole.groupby(by, sort=True).sum(min_count=1).reset_index()


def _opening_days(source: StockSource, days: NDArray[np.int64], seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(row,) day, since 1970, whose opening each count is, by its own day and the seconds since midnight."""
    evening = np.where(seconds != 0, seconds >= _NOON, source.taken == "closing")
    openings: NDArray[np.int64] = days + evening
    return openings


def _refuse_times(cells: CheckedRows, when: LocalTimes) -> None:
    cells.refuse(when.missing, "time must not be missing")
    cells.refuse(when.wrong, "time must be an ISO 8601 time between 1970 and 2199")
