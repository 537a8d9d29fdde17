"""Sum a shop's order lines by day, product and store: what was sold, what came back, and what shoppers paid."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_sources import OrderLines, SourcesConfig
from pricing.errors import SourceError
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.line_reader import TABLE, LineReader
from pricing.sources.line_versions import CANCELLED, NEVER, RETURN, SALE, LineFiles, LineVersions, VersionCounts
from pricing.sources.local_times import LAST_DAY
from pricing.sources.product_master import ProductMaster
from pricing.sources.set_aside import KEPT, ReasonCount, SetAside

SUMS = (
    "units_gross",  # sold
    "revenue",  # what shoppers paid for those
    "taxed_revenue",  # of it, where the tax rate is known …
    "net_revenue",  # … and that without the tax
    "units_returned",  # booked on this day, of sales of any earlier day
    "units_came_back",  # of this day's own sales, whenever
    "refunded",  # what was booked for both
    "lines",  # of sales
)
COLUMNS = ("date", "product_id", "store", *SUMS, "price_low", "price_high", "category")
ABSURD = 100.0
"""A price so many times above or below the product's median is no price: 9,999,999, or a test order's cent."""
_LEAST_LINES = 20  # of a product whose median counts; with fewer its former days' does, or the product master's price
_LEAST_DAYS = 3  # of a product's former days whose median counts: one wrong price among them is outvoted
_BINS = 50  # of log price by factor of ten; the median is known to 5 %
_LOWEST = 15 * _BINS  # bin of a price of 1; prices begin at 1e-15
_BIN_BITS = 12
_MONTH_FILES = 64
_PRODUCT_BITS, _STORE_BITS = 24, 16
_DECIMALS = 9  # of sums: those of the same lines in another order are then the same numbers


@dataclass(frozen=True)
class LineCounts:
    """What became of the lines. Every line read is set aside, repeated, corrected, cancelled, or counted in the tables.

    Attributes:
        read: Lines read.
        set_aside: Lines set aside for their cells or their price; `SetAside.counts` has the reasons.
        versions: Lines that came again.
        cancelled: Lines that never were sales.
        sales: Lines of sales in the tables.
        returns: Lines of returns in the tables.
        without_id: Of all usable lines those without line_id: whether they came twice cannot be told.
        units_sold: Units of the sales, before returns.
        revenue: What was paid for those.
        units_returned: Units that came back, as booked.
        several_prices: Share of the tables' rows with sales on which more than one price was paid, 0 to 1.
        notes: What was decided for many lines at once, one sentence each.
    """

    read: int = 0
    set_aside: int = 0
    versions: VersionCounts = field(default_factory=VersionCounts)
    cancelled: int = 0
    sales: int = 0
    returns: int = 0
    without_id: int = 0
    units_sold: float = 0.0
    revenue: float = 0.0
    units_returned: float = 0.0
    several_prices: float = 0.0
    notes: tuple[str, ...] = ()


class OrderLineSums:
    """Sums order lines in bounded memory, a month at a time; lines wait in temporary files.

    Use it in a `with` statement: add every chunk, take every month, then read the counts.

    Attributes:
        counts: Complete once all months were taken.
    """

    def __init__(
        self,
        source: OrderLines,
        *,
        config: SourcesConfig,
        ids: Identifiers,
        set_aside: SetAside,
        master: ProductMaster | None = None,
        usual: "pd.Series[float] | None" = None,
        latest: np.datetime64 | None = None,
        folder: Path | None = None,
    ) -> None:
        """Opens the temporary files.

        Args:
            source: What columns, statuses and taxes mean.
            config: Zone, currency and rates.
            ids: Makes product ids alike.
            set_aside: Takes lines that cannot be used.
            master: Tax rates of lines that say none, and usual prices of products with few lines.
            usual: Of `usual_prices`: comes before the master's price.
            latest: The last day that a line may have in the shop's zone; None: any.
            folder: Where the files lie; None: the system's folder for temporary files.
        """
        self._source, self._ids, self._set_aside = source, ids, set_aside
        self._master = master or ProductMaster.empty()
        self._usual = usual
        self._reader = LineReader(
            source, config=config, ids=ids, set_aside=set_aside, master=self._master, latest=latest
        )
        self._versions = LineVersions(folder=folder)
        self._months = LineFiles(_MONTH_FILES, folder=folder)
        self._bins: dict[int, int] = {}  # product and bin of its price: lines
        self._before = set_aside.rows_of(TABLE)
        self._cancelled = self._sales = self._returns = 0
        self._several = self._rows = 0
        self._units = self._revenue = self._returned = 0.0

    def __enter__(self) -> "OrderLineSums":
        return self

    def __exit__(self, *_: object) -> None:
        self._versions.__exit__()
        self._months.__exit__()

    @property
    def counts(self) -> LineCounts:
        """What became of the lines."""
        return LineCounts(
            read=self._reader.read,
            set_aside=self._set_aside.rows_of(TABLE) - self._before,
            versions=self._versions.counts,
            cancelled=self._cancelled,
            sales=self._sales,
            returns=self._returns,
            without_id=self._reader.without_id,
            units_sold=self._units,
            revenue=self._revenue,
            units_returned=self._returned,
            several_prices=self._several / self._rows if self._rows else 0.0,
            notes=self._reader.notes(),
        )

    def add(self, chunk: Chunk) -> None:
        """Adds lines, in the order in which they were written: of two versions of a line the later one counts.

        Raises:
            SourceError: A needed column is not there, or there are several currencies and the configuration names none.
        """
        lines, identified = self._reader.lines(chunk)
        if identified.any():
            self._versions.add(lines[identified])
        if not identified.all():
            self._spread(lines[~identified])

    def months(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yields each month, such as "2026-11", with its rows; months come in no order.

        Rows have `COLUMNS`, one by date, product_id and store, sorted by them; store is "" without stores.

        Raises:
            SourceError: line_id tells no lines apart.
        """
        for lines in self._versions.newest():
            self._spread(lines)
        usual = self._usual_prices()
        for several in self._months.read():
            month = several["day"].astype("datetime64[D]").astype("datetime64[M]")
            for one in np.unique(month):
                lines = self._without_absurd(several[month == one], usual)
                if len(lines):
                    yield str(one), self._table(lines)

    def _spread(self, lines: NDArray[Any]) -> None:
        """Writes lines to the files of their months."""
        cancelled = lines["kind"] == CANCELLED
        self._cancelled += int(np.count_nonzero(cancelled))
        lines = lines[~cancelled]
        self._sales += int(np.count_nonzero(lines["kind"] == SALE))
        self._returns += int(np.count_nonzero(lines["kind"] == RETURN))
        self._count_prices(lines[lines["kind"] == SALE])
        if self._source.returns != "sale_day":
            # Goods are taken off on the day they came back, which may be in another month than their sale.
            back = lines[lines["back"] != NEVER]
            back["kind"], back["day"], back["back"] = RETURN, back["back"], NEVER
            own = lines[(lines["kind"] == SALE) | (lines["back"] == NEVER)]
            own["back"] = NEVER
            lines = np.concatenate([own, back])
        month = lines["day"].astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        self._months.add(lines, month)

    def _count_prices(self, sales: NDArray[Any]) -> None:
        place = np.floor(np.log10(sales["price"]) * _BINS).astype(np.int64) + _LOWEST
        keys = (sales["product"].astype(np.int64) << _BIN_BITS) + np.clip(place, 0, (1 << _BIN_BITS) - 1)
        codes, distinct = pd.factorize(keys)
        for key, count in zip(distinct.tolist(), np.bincount(codes).tolist(), strict=True):
            self._bins[key] = self._bins.get(key, 0) + count

    def _usual_prices(self) -> Floats:
        """(product,) median price of its lines; with few lines that of its former days, or the master's newest."""
        count = len(self._ids.ids)
        keys = np.array(sorted(self._bins), dtype=np.int64)
        lines = np.array([self._bins[key] for key in keys.tolist()], dtype=np.float64)
        products, bins = keys >> _BIN_BITS, keys & ((1 << _BIN_BITS) - 1)
        total = np.bincount(products, lines, count)
        before = np.cumsum(total) - total
        half = np.flatnonzero(2 * (np.cumsum(lines) - before[products]) >= total[products])
        found, first = np.unique(products[half], return_index=True)
        usual = np.full(count, np.nan)
        usual[found] = 10.0 ** ((bins[half[first]] - _LOWEST + 0.5) / _BINS)
        if len(self._master.table):
            places = self._master.places(pd.Index(self._ids.ids, dtype="str"))
            listed = np.full(count, np.nan)
            for name in ("list_price", "price"):
                values = self._master.on(name, places, np.full(count, LAST_DAY))
                listed = np.where(np.isfinite(values), values, listed)
            usual = np.where((total < _LEAST_LINES) & np.isfinite(listed), listed, usual)
        if self._usual is not None:
            former = self._usual.reindex(self._ids.ids).to_numpy(np.float64)
            usual = np.where((total < _LEAST_LINES) & np.isfinite(former), former, usual)
        return usual

    def _without_absurd(self, lines: NDArray[Any], usual: Floats) -> NDArray[Any]:
        """Sets sales aside whose price is `ABSURD` times above or below the product's usual one."""
        with np.errstate(invalid="ignore"):
            off = np.where(lines["kind"] == SALE, lines["price"] / usual[lines["product"]], 1.0)
        high, low = off > ABSURD, off < 1 / ABSURD
        for absurd, what in ((high, "more than {:g} times"), (low, "less than 1/{:g} of")):
            if absurd.any():
                self._refuse(lines[absurd], f"the price is {what.format(ABSURD)} the product's usual one", usual)
        return lines[~(high | low)]

    def _refuse(self, lines: NDArray[Any], reason: str, usual: Floats) -> None:
        self._sales -= len(lines)
        origins, names, stores = list(self._reader.origins), self._ids.ids, list(self._reader.stores)
        rows = pd.DataFrame(
            {
                "source": [origins[code] for code in lines["origin"][:KEPT].tolist()],
                "line": lines["line"][:KEPT],
                "reason": reason,
                "product_id": [names[code] for code in lines["product"][:KEPT].tolist()],
                "store": [stores[code] for code in lines["store"][:KEPT].tolist()],
                "quantity": lines["units"][:KEPT].astype(str),
                "unit_price": lines["price"][:KEPT].astype(str),
            }
        )
        units, paid = float(lines["units"].sum()), float((lines["units"] * lines["price"]).sum())
        product, price = int(lines["product"][0]), float(lines["price"][0])
        first = (
            f"{rows['source'].iloc[0]}, line {rows['line'].iloc[0]}: {names[product]!r} at {price:,.2f}, "
            f"usually {usual[product]:,.2f}"
        )
        self._set_aside.add_count(ReasonCount(TABLE, reason, len(lines), units, paid, first), rows=rows)

    def _table(self, lines: NDArray[Any]) -> pd.DataFrame:
        """Lines of one month by day, product and store."""
        days, products, stores = (lines[name].astype(np.int64) for name in ("day", "product", "store"))
        for what, codes, bits in (("products", products, _PRODUCT_BITS), ("stores", stores, _STORE_BITS)):
            if int(codes.max()) >= 1 << bits:
                raise SourceError(
                    f"sources.sales: expected at most {1 << bits:,} {what}, found more; check its columns"
                )
        cell, keys = pd.factorize((((days << _PRODUCT_BITS) + products) << _STORE_BITS) + stores)
        sums = {name: np.bincount(cell, values, len(keys)) for name, values in _parts(lines).items()}
        sold = lines["kind"] == SALE
        low, high = np.full(len(keys), np.inf), np.full(len(keys), -np.inf)
        np.minimum.at(low, cell[sold], lines["price"][sold])
        np.maximum.at(high, cell[sold], lines["price"][sold])
        self._rows += int(np.count_nonzero(sums["units_gross"] > 0))
        self._several += int(np.count_nonzero(high > low * 1.0005))
        self._units += float(sums["units_gross"].sum())
        self._revenue += float(sums["revenue"].sum())
        self._returned += float(sums["units_returned"].sum() + sums["units_came_back"].sum())
        product = (keys >> _STORE_BITS) & ((1 << _PRODUCT_BITS) - 1)
        store_names = pd.Index(list(self._reader.stores), dtype="str")
        categories = [self._reader.categories.get(code, "") for code in product.tolist()]
        frame = pd.DataFrame(
            {
                "date": (keys >> (_PRODUCT_BITS + _STORE_BITS)).astype("datetime64[D]").astype("datetime64[s]"),
                "product_id": self._ids.of(product),
                "store": pd.Series(store_names.take(keys & ((1 << _STORE_BITS) - 1)), dtype="str"),
                **{name: np.round(sums[name], _DECIMALS) for name in SUMS},
                "price_low": np.where(np.isfinite(low), low, np.nan),
                "price_high": np.where(np.isfinite(high), high, np.nan),
                "category": pd.Series(categories, dtype="str"),
            }
        )
        return frame.sort_values(["date", "product_id", "store"], kind="stable", ignore_index=True)


def usual_prices(days: pd.DataFrame) -> "pd.Series[float]":
    """Median price of each product over days that were summed before, for a run that reads only a few of its lines.

    Args:
        days: product_id, units_gross and revenue of `OrderLineSums.months`, without the days that are read anew: what
            was wrong on those is no yardstick for what is right.

    Returns:
        By product_id; a product with fewer than `_LEAST_DAYS` rows with sales is not there, so that one wrong price on
        its first day does not shut all right ones out.
    """
    sold = days[days["units_gross"] > 0]
    prices = (sold["revenue"] / sold["units_gross"]).groupby(sold["product_id"])
    usual: pd.Series[float] = prices.median()[prices.size() >= _LEAST_DAYS]
    return usual


def _parts(lines: NDArray[Any]) -> dict[str, Floats]:
    """(line,) what each line adds to each of `SUMS`."""
    sold: Bools = lines["kind"] == SALE
    came: Bools = lines["back"] != NEVER
    units, price, rate = lines["units"], np.nan_to_num(lines["price"]), lines["rate"]
    paid = units * price
    taxed = sold & np.isfinite(rate)
    return {
        "units_gross": np.where(sold, units, 0.0),
        "revenue": np.where(sold, paid, 0.0),
        "taxed_revenue": np.where(taxed, paid, 0.0),
        "net_revenue": np.where(taxed, paid / (1 + np.nan_to_num(rate)), 0.0),
        "units_returned": np.where(~sold & ~came, units, 0.0),
        "units_came_back": np.where(came, units, 0.0),
        "refunded": np.where(came | ~sold, paid, 0.0),
        "lines": sold.astype(np.float64),
    }
