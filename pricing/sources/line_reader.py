"""Read order lines: each cell checked, in the shop's days, units and currency, as compact arrays."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_sources import OrderLines, SourcesConfig
from pricing.data.contract import LARGEST, LONGEST_ID
from pricing.errors import SourceError
from pricing.sources.checked_rows import FUTURE, CheckedRows
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.line_versions import CANCELLED, LINE, NEVER, RETURN, SALE, hashed
from pricing.sources.local_times import DAY_SECONDS, LocalTimes, local_times
from pricing.sources.product_master import ProductMaster
from pricing.sources.set_aside import SetAside

TABLE = "sales"
_NAMED = 5  # statuses in a note


class LineReader:
    """Turns chunks into usable lines (`LINE`), and counts.

    Attributes:
        read: Lines read.
        without_id: Usable lines without line_id.
        origins: Code of each file, table or query.
        stores: Code of each store; "" is 0.
        categories: Newest category of each product code that has one.
    """

    def __init__(
        self,
        source: OrderLines,
        *,
        config: SourcesConfig,
        ids: Identifiers,
        set_aside: SetAside,
        master: ProductMaster,
        latest: np.datetime64 | None = None,
    ) -> None:
        """Reads nothing yet; `latest` is the last day that a line may have in the shop's zone."""
        self.source = source
        self.config = config
        self.ids = ids
        self.set_aside = set_aside
        self.master = master
        self.latest = latest
        self.read = self.without_id = 0
        self.origins: dict[str, int] = {}
        self.stores: dict[str, int] = {"": 0}
        self.categories: dict[int, str] = {}
        self._places = np.zeros(0, np.int64)
        self.statuses: dict[str, int] = {}  # on neither list: lines
        self._status: dict[str, int] = {
            **{word.strip().lower(): RETURN for word in source.returned},
            **{word.strip().lower(): CANCELLED for word in source.cancelled},
        }
        self._currency = config.currency
        self._notes: dict[str, int] = {}
        self._returned_later = False

    def lines(self, chunk: Chunk) -> tuple[NDArray[Any], Bools]:
        """Usable lines of a chunk, and which of them have a line_id."""
        cells = CheckedRows(chunk, self.source, table=TABLE, set_aside=self.set_aside)
        count = len(chunk.frame)
        self.read += count
        quantity = cells.numbers("quantity")
        amount, each = cells.numbers("amount"), cells.numbers("unit_price")
        units = np.abs(quantity.values)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            price = np.where(np.isfinite(amount.values), amount.values * np.sign(quantity.values) / units, each.values)
        given = {"units": quantity.values, "revenue": price * quantity.values}
        when = local_times(cells.column("time"), zone=self.config.zone, own_zone=self.source.zone)
        back = local_times(cells.column("returned_time"), zone=self.config.zone, own_zone=self.source.zone)
        self._remember(when)
        self._returned_later |= cells.has("returned_time")
        kind, returned = self._kinds(cells, quantity.values, back)
        price = np.where(kind == RETURN, np.abs(price), price)  # refunds are written with either sign
        products = self.ids.codes(cells.column("product_id"), source=TABLE)
        self._refuse_cells(cells, (when, back), products, given=given)
        cells.refuse(quantity.missing | quantity.wrong, "quantity must be a number", **given)
        cells.refuse(units == 0, "quantity must not be 0", **given)
        cells.refuse(units > LARGEST, f"quantity must be at most {LARGEST:,.0f}", **given)
        sold = kind == SALE
        cells.refuse(
            sold & (amount.wrong | (np.isnan(amount.values) & each.wrong)), "the price must be a number", **given
        )
        cells.refuse(sold & np.isnan(price), "unit_price or amount must not be missing", **given)
        cells.refuse(sold & (price == 0), "the price is 0 (a gift or a sample)", **given)
        cells.refuse(sold & (price < 0), "the price must be above 0", **given)
        price = price * self._worth(cells, given=given)
        cells.refuse(sold & (price > LARGEST), f"the price must be at most {LARGEST:,.0f}", **given)
        rate = self._rates(cells, products, when.days, given=given)
        if not self.source.includes_tax:
            cells.refuse(sold & np.isnan(rate), "the price is without tax and no tax rate is known", **given)
            price = price * (1 + rate)
        price = np.where(price > 0, price, np.nan)
        return self._pack(
            cells,
            units=units,
            price=price,
            rate=rate,
            day=when.days,
            back=np.where(returned, back.days, NEVER),
            kind=kind,
            product=products,
        )

    def notes(self) -> tuple[str, ...]:
        """What was decided, with the number of lines."""
        notes = [f"{TABLE}: {what} on {count:,} lines." for what, count in self._notes.items()]
        if self._returned_later and self.source.updated is None and self.source.returns != "ignore":
            notes.append(
                f"{TABLE}: returned_time is set later, and without sources.{TABLE}.updated a night reads "
                f"{self.source.late_days} days back only: returns of older lines are not seen."
            )
        if self.statuses:
            named = ", ".join(f"{name} {count:,}" for name, count in sorted(self.statuses.items())[:_NAMED])
            notes.append(
                f"{TABLE}: statuses on neither list count as sales ({named}): name under cancelled or returned what is "
                "none."
            )
        return tuple(notes)

    def _remember(self, when: LocalTimes) -> None:
        for what, count in when.notes:
            self._notes[what] = self._notes.get(what, 0) + count

    def _refuse_cells(
        self,
        cells: CheckedRows,
        times: tuple[LocalTimes, LocalTimes],
        products: NDArray[np.int64],
        *,
        given: dict[str, Any],
    ) -> None:
        when, back = times
        cells.refuse(when.missing, "time must not be missing", **given)
        cells.refuse(when.wrong, "time must be an ISO 8601 time between 1970 and 2199", **given)
        cells.refuse(back.wrong, "returned_time must be an ISO 8601 time between 1970 and 2199", **given)
        cells.refuse(back.usable & (back.days < when.days), "returned_time must not come before time", **given)
        cells.refuse(products < 0, "product_id must not be missing", **given)
        lengths = np.array([*(len(name) for name in self.ids.ids), 0])
        cells.refuse(lengths[products] > LONGEST_ID, f"product_id must have at most {LONGEST_ID} characters", **given)
        if self.config.history_from is not None:
            first = np.datetime64(self.config.history_from, "D").astype(np.int64)
            cells.refuse(when.usable & (when.days < first), "the day is before sources.history_from", **given)
        if self.latest is not None:
            # One typing error of 2999 would be the newest day for ever.
            last = self.latest.astype("datetime64[D]").astype(np.int64)
            cells.refuse(when.days > last, FUTURE, **given)
            cells.refuse(back.days > last, "returned_time lies in the future", **given)

    def _kinds(self, cells: CheckedRows, quantity: Floats, back: LocalTimes) -> tuple[NDArray[np.int8], Bools]:
        """(line,) SALE, RETURN or CANCELLED; and whether its goods came back on a day of their own."""
        status = cells.names("status")
        lines = np.bincount(status.values[status.values >= 0], minlength=len(status.names))
        for name, count in zip(status.names, lines.tolist(), strict=True):
            if name.strip().lower() not in self._status:
                self.statuses[name.strip()] = self.statuses.get(name.strip(), 0) + count
        known = np.array([*(self._status.get(name.strip().lower(), SALE) for name in status.names), SALE], np.int8)
        kind = known[status.values]
        returned = back.usable & (kind != CANCELLED)
        # A line that says when it came back is a sale of its own `time`; a booking of a return has only its own.
        booking = (kind == RETURN) & ~(returned & (quantity > 0))
        negative = (quantity < 0) & (kind != CANCELLED)
        kind = np.where(kind == CANCELLED, CANCELLED, np.where(booking | negative, RETURN, SALE)).astype(np.int8)
        return kind, returned

    def _worth(self, cells: CheckedRows, *, given: dict[str, Any]) -> Floats:
        """(line,) what one unit of its currency is worth in the shop's."""
        currency = cells.names("currency")
        if not currency.names:
            return np.ones(len(currency.values))
        names = [name.upper() for name in currency.names]
        if self._currency is None:
            self._currency = names[0]
        own, rates = self._currency, self.config.rates
        if self.config.currency is None and (others := sorted(set(names) - {own})):
            raise SourceError(
                f"{cells.chunk.origin}: expected one currency, found {own} and {others[0]}: set sources.currency to "
                f"the shop's, and sources.rates to what the others are worth in it, such as {{{others[0]}: 0.9}}"
            )
        worth = np.array([1.0 if name == own else rates.get(name, np.nan) for name in names])
        for place in np.flatnonzero(np.isnan(worth)):
            cells.refuse(currency.values == place, f"the currency {names[place]} is not in sources.rates", **given)
        worths: Floats = np.append(worth, 1.0)[currency.values]
        return worths

    def _rates(
        self, cells: CheckedRows, products: NDArray[np.int64], days: NDArray[np.int64], *, given: dict[str, Any]
    ) -> Floats:
        """(line,) tax rate: the line's, else the product master's of that day."""
        read = cells.numbers("tax_rate")
        rates: Floats = read.values.astype(np.float64)
        with np.errstate(invalid="ignore"):
            wrong = read.wrong | (rates < 0) | (rates >= 1)
        cells.refuse(wrong, "tax_rate must be at least 0 and below 1 (20 % is 0.2)", **given)
        unknown = np.isnan(rates)
        if unknown.any() and len(self.master.table):
            if len(self._places) < len(self.ids.ids):
                self._places = self.master.places(pd.Index(self.ids.ids, dtype="str"))
            places = np.append(self._places, -1)[products]
            rates = np.where(unknown, self.master.on("tax_rate", places, days), rates)
        return rates

    def _pack(self, cells: CheckedRows, **columns: NDArray[Any]) -> tuple[NDArray[Any], Bools]:
        keep = cells.usable
        lines = np.zeros(int(keep.sum()), LINE)
        for name, values in columns.items():
            lines[name] = values[keep]
        lines["line"] = cells.chunk.lines[keep]
        lines["origin"] = self.origins.setdefault(cells.chunk.origin, len(self.origins))
        store = cells.names("store")
        codes = [self.stores.setdefault(name, len(self.stores)) for name in store.names]
        lines["store"] = np.array([*codes, 0], dtype=np.int32)[store.values][keep]
        self._learn_categories(cells, columns["product"])
        identified = np.zeros(len(lines), dtype=np.bool_)
        if cells.has("line_id"):
            hashes, there = hashed(cells.column("line_id"))
            lines["id"], identified = hashes[keep], there[keep]
        if "updated" in cells.chunk.frame:
            updated = local_times(cells.chunk.frame["updated"], zone="UTC", own_zone=self.source.zone)
            lines["updated"] = (updated.days * DAY_SECONDS + updated.seconds)[keep]
        self.without_id += int(np.count_nonzero(~identified))
        return lines, identified

    def _learn_categories(self, cells: CheckedRows, products: NDArray[np.int64]) -> None:
        """The newest category of each product."""
        category = cells.names("category")
        if not category.names:
            return
        rows = np.flatnonzero(cells.usable & (category.values >= 0))[::-1]
        known, first = np.unique(products[rows], return_index=True)
        for product, row in zip(known.tolist(), rows[first].tolist(), strict=True):
            self.categories[product] = category.names[category.values[row]]
