"""The product master: what a product is called, costs and is listed at, from which day on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.config_sources import ProductSource, SourcesConfig
from pricing.data.contract import LARGEST
from pricing.sources.checked_rows import CheckedRows
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.set_aside import SetAside

TABLE = "products"
EVER = np.datetime64("1970-01-01", "D")  # the first day of a row without valid_from
NUMBERS = ("list_price", "unit_cost", "price", "pack_size", "tax_rate")
NAMES = ("category", "substitutes", "tax_class", "ean")
COLUMNS = ("product_id", "valid_from", "valid_until", *NAMES, *NUMBERS)
_DAY_BITS = 20


@dataclass(frozen=True)
class MasterCounts:
    """What was found in a product master.

    Attributes:
        rows: Rows read.
        products: Products.
        repeated: Rows that say the same as another one of their product and first day.
        replaced: Rows that a later row of their product and first day says otherwise; that one holds.
        overlaps: Rows whose time begins before that of the former row has ended; the newer one holds from then on.
        gaps: Times between two rows of a product on which none holds.
        undated: Rows without a first day: they hold on all days, also on those before anyone wrote them.
    """

    rows: int
    products: int
    repeated: int
    replaced: int
    overlaps: int
    gaps: int
    undated: int


def read_products(
    chunks: Iterable[Chunk],
    source: ProductSource,
    *,
    config: SourcesConfig,
    ids: Identifiers,
    set_aside: SetAside,
) -> tuple[pd.DataFrame, MasterCounts]:
    """Read the product master.

    A number that cannot be used (a text, 0 or less, a tax rate of 1 or more) counts as missing and its row is kept.

    Args:
        chunks: Rows as read.
        source: Where they are from.
        config: Tax rates by tax class.
        ids: Makes product ids alike.
        set_aside: Takes rows that cannot be used.

    Returns:
        One row by product and first day: `COLUMNS`, sorted by product_id and valid_from; valid_from is 1970-01-01 where
        there is none, valid_until NaT, texts "" and numbers NaN.

    Raises:
        SourceError: The column product_id is not there.
    """
    parts = [
        _part(CheckedRows(chunk, source, table=TABLE, set_aside=set_aside), config=config, ids=ids) for chunk in chunks
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    key = ["product_id", "valid_from"]
    rows, undated = len(table), int((table["valid_from"] == EVER).sum())
    table = table[~(same := table.duplicated(keep="last"))]
    table = table[~(replaced := table.duplicated(key, keep="last"))]
    table = table.sort_values(key, kind="stable", ignore_index=True)
    after = table.groupby("product_id", sort=False)["valid_from"].shift(-1)
    until = table["valid_until"]
    bounded = until.notna() & after.notna()
    counts = MasterCounts(
        rows,
        int(table["product_id"].nunique()),
        int(same.sum()),
        int(replaced.sum()),
        int((bounded & (until >= after)).sum()),
        int((bounded & (until + pd.Timedelta(days=1) < after)).sum()),
        undated,
    )
    return table, counts


def _part(cells: CheckedRows, *, config: SourcesConfig, ids: Identifiers) -> pd.DataFrame:
    codes = ids.codes(cells.column("product_id"), source=TABLE)
    cells.refuse(codes < 0, "product_id must not be missing")
    first, last = cells.days("valid_from"), cells.days("valid_until")
    for name, days in (("valid_from", first), ("valid_until", last)):
        cells.refuse(days.wrong, f"{name} must be a day such as 2026-11-27")
    begins = np.where(np.isnat(first.values), EVER, first.values)
    cells.refuse(~last.missing & (last.values < begins), "valid_until must not come before valid_from")
    columns: dict[str, object] = {}
    for name in NAMES:
        columns[name] = cells.texts(name)
    for name in NUMBERS:
        columns[name] = _numbers(cells, name)
    rate = columns["tax_rate"]
    by_class = pd.Series(columns["tax_class"], dtype="str").map(config.tax_rates).to_numpy(np.float64)
    known = np.isfinite(rate)  # type: ignore[call-overload]
    lacking = ~known & np.isnan(by_class) & (columns["tax_class"] != "")
    cells.note(lacking, "tax_class must be one of sources.tax_rates")
    columns["tax_rate"] = np.where(known, rate, by_class)  # type: ignore[call-overload]
    frame = pd.DataFrame({"valid_from": begins, "valid_until": last.values, **columns})
    frame.insert(0, "product_id", ids.of(np.maximum(codes, 0)) if len(ids.ids) else "")
    frame = frame[cells.usable]
    texts = dict.fromkeys(("product_id", *NAMES), "str")
    days_ = dict.fromkeys(("valid_from", "valid_until"), "datetime64[s]")
    return frame.astype({**texts, **days_})


def _numbers(cells: CheckedRows, name: str) -> Floats:
    read = cells.numbers(name)
    cells.note(read.wrong, f"{name} must be a number")
    values: Floats = read.values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = (values < 0) | (values >= 1) if name == "tax_rate" else (values <= 0) | (values > LARGEST)
    rule = "at least 0 and below 1 (20 % is 0.2)" if name == "tax_rate" else f"above 0 and at most {LARGEST:,.0f}"
    cells.note(bad, f"{name} must be {rule}")
    return np.where(bad, np.nan, values)


class ProductMaster:
    """What holds of each product on each day.

    Prices and costs hold from their first day on and are never carried back: a day before it knows nothing of them.
    The category and the tax rate are facts about the product rather than about the market, so the first ones known
    also hold for the days before.

    Attributes:
        table: From `read_products`.
        product_ids: The products, sorted.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table = table.sort_values(["product_id", "valid_from"], kind="stable", ignore_index=True)
        self._of_row, products = pd.factorize(table["product_id"])
        self.product_ids = pd.Index(products, dtype="str")
        self._begins = _key(self._of_row, _days(table["valid_from"]))
        self._ends = np.where(
            table["valid_until"].isna(), np.iinfo(np.int64).max, _days(table["valid_until"].fillna(EVER))
        )
        self._first = np.searchsorted(self._of_row, np.arange(len(products)))
        self._numbers = {name: table[name].to_numpy(np.float64) for name in NUMBERS}

    @classmethod
    def empty(cls) -> "ProductMaster":
        """A master that knows nothing."""
        frame = pd.DataFrame({name: pd.Series(dtype="str") for name in COLUMNS})
        kinds = dict.fromkeys(NUMBERS, "float64")
        return cls(frame.astype({"valid_from": "datetime64[s]", "valid_until": "datetime64[s]", **kinds}))

    def places(self, product_ids: pd.Index) -> NDArray[np.int64]:
        """(product,) the master's number of each product; -1 where it is not in it."""
        return np.asarray(self.product_ids.get_indexer(product_ids), dtype=np.int64)

    def on(self, name: str, places: NDArray[np.int64], days: NDArray[np.int64]) -> Floats:
        """(row,) a number of the master as of a day; NaN where none holds.

        Args:
            name: One of `NUMBERS`.
            places: (row,) from `places`.
            days: (row,) days since 1970.
        """
        row = self._rows(places, days, carried_back=name == "tax_rate")
        values = np.append(self._numbers[name], np.nan)
        return values[row]

    def last(self, name: str, places: NDArray[np.int64]) -> "pd.Series[str]":
        """(row,) a text of each product's newest row, such as its category; "" where it has none."""
        after = np.append(self._first, len(self.table))
        row = np.where(places < 0, len(self.table), after[places + 1] - 1)
        return pd.Series(np.append(self.table[name].to_numpy(object), "")[row], dtype="str")

    def _rows(self, places: NDArray[np.int64], days: NDArray[np.int64], *, carried_back: bool) -> NDArray[np.int64]:
        """(row,) the row of the table that holds; the length of the table where none does."""
        none = len(self.table)
        if not none:
            return np.full(len(places), none, dtype=np.int64)
        row = np.searchsorted(self._begins, _key(np.maximum(places, 0), days), side="right") - 1
        first = self._first[places]
        known = (places >= 0) & (row >= first)
        ended = self._ends[np.maximum(row, 0)] < days
        if carried_back:
            row, known, ended = np.maximum(row, first), places >= 0, np.zeros(len(row), dtype=np.bool_)
        return np.where(known & ~ended, row, none)


def _days(column: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    return column.to_numpy().astype("datetime64[D]").astype(np.int64)


def _key(places: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int64]:
    return (places.astype(np.int64) << _DAY_BITS) + days
