"""List-price anchors: each product's regular price as people set it, never derived from the platform's own prices.

Without a list price in the sales it is derived from the prices charged, until the first promotion fixes it: else every
limit around it would follow the platform's own decisions.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Strings
from pricing.data.panel import STEP_DAYS, Panel

_AMOUNTS = ("list_price", "seen_low", "seen_high", "unit_cost")
_ARRAYS = ("product_ids", "dates", *_AMOUNTS)


@dataclass(frozen=True)
class Anchors:
    """Regular prices, one a product and one more a manual change. Arrays are (anchor,), by product id, then date."""

    since: np.datetime64  # first day whose prices may be the platform's own
    product_ids: Strings  # product of each anchor; sorted
    # First day of the period from which it applies; a product's first anchor applies from `since` on as well:
    dates: Days
    list_price: Floats  # regular price, currency units
    seen_low: Floats  # lowest price that people charged or set, currency units; NaN where unknown
    seen_high: Floats  # highest such price; NaN where unknown
    unit_cost: Floats  # cost of a unit when the anchor was made, by which it moves with later ones; NaN where unknown

    @classmethod
    def from_panel(cls, panel: Panel) -> "Anchors":
        """Derive anchors from a history priced by people to its end; the platform's prices begin in the next period."""
        since = panel.dates[-1].astype("datetime64[D]") + np.timedelta64(STEP_DAYS[panel.period], "D")
        none = np.zeros(0, np.float32)
        days = panel.dates[:0].astype("datetime64[D]")
        return cls(since, panel.product_ids[:0], days, **dict.fromkeys(_AMOUNTS, none)).extended(panel)

    def extended(self, panel: Panel) -> "Anchors":
        """Return these anchors plus anchors for the panel's products that have none.

        One sold before `since` gets its last list price before that day, one launched later its first list price.
        """
        return self.with_products(
            panel.product_ids,
            dates=panel.dates,
            present=panel.present,
            price=panel.price,
            list_price=panel.list_price,
            unit_cost=np.where(panel.cost_assumed[:, None], np.nan, panel.unit_cost),
        )

    def with_products(
        self,
        product_ids: Strings,
        *,
        dates: Days,
        present: Bools,
        price: Floats,
        list_price: Floats,
        unit_cost: Floats | None = None,
    ) -> "Anchors":
        """`extended` for a panel's arrays: prices (product, period) are NaN only before a product's first."""
        known = np.isfinite(price)
        rows = np.flatnonzero(known.any(axis=1) & ~np.isin(product_ids, self.product_ids))
        if not len(rows):
            return self

        before = int((dates < self.since).sum()) - 1
        column = np.maximum(np.argmax(known[rows], axis=1), before)  # last period before `since`, or the first
        at = np.where(column > before, -1, column)  # a launch's cost may come late, and is assumed until then
        charged = present[rows] & (np.arange(len(dates)) <= column[:, None])
        seen = np.where(charged, price[rows], np.nan)  # nothing where a panel of recent days has no row to its price
        return self._joined(
            product_ids=product_ids[rows],
            dates=dates[column].astype("datetime64[D]"),
            list_price=list_price[rows, column].astype(np.float32),
            seen_low=np.fmin.reduce(seen, axis=1).astype(np.float32),
            seen_high=np.fmax.reduce(seen, axis=1).astype(np.float32),
            unit_cost=np.full(len(rows), np.nan, np.float32) if unit_cost is None else unit_cost[rows, at],
        )

    def moved(
        self, product_ids: Strings, list_price: Floats, *, date: np.datetime64, unit_cost: Floats | None = None
    ) -> "Anchors":
        """Return these anchors with new ones for some products, each once, from `date` on; the new prices are seen."""
        now = self.columns(product_ids)
        new = list_price.astype(np.float32)
        replaced = (self.dates == date) & np.isin(self.product_ids, product_ids)  # changed twice on one day
        return self._take(~replaced)._joined(
            product_ids=product_ids,
            dates=np.full(len(product_ids), date, dtype="datetime64[D]"),
            list_price=new,
            seen_low=np.fmin(now["seen_low"], new),
            seen_high=np.fmax(now["seen_high"], new),
            unit_cost=np.full(len(new), np.nan, np.float32) if unit_cost is None else unit_cost.astype(np.float32),
        )

    def of(self, product_ids: Strings) -> "Anchors":
        """Return the anchors of some products."""
        return self._take(np.isin(self.product_ids, product_ids))

    def joined(self, *others: "Anchors") -> "Anchors":
        """Return these anchors and those of other products, sorted."""
        return self._joined(**{name: np.concatenate([getattr(each, name) for each in others]) for name in _ARRAYS})

    def columns(self, product_ids: Strings) -> dict[str, Floats]:
        """Latest prices and cost of each product, (product,) by attribute; NaN where it has no anchor."""
        if not len(self.product_ids):
            return {name: np.full(len(product_ids), np.nan, np.float32) for name in _AMOUNTS}
        last = np.maximum(np.searchsorted(self.product_ids, product_ids, side="right") - 1, 0)
        found = self.product_ids[last] == product_ids
        return {name: np.where(found, getattr(self, name)[last], np.nan).astype(np.float32) for name in _AMOUNTS}

    def list_prices(self, product_ids: Strings, dates: Days) -> Floats:
        """(product, period) regular price in force; NaN before `since` and where there is no anchor."""
        prices = np.full((len(product_ids), len(dates)), np.nan, np.float32)
        if not len(self.product_ids):
            return prices
        first = np.minimum(np.searchsorted(self.product_ids, product_ids), len(self.product_ids) - 1)
        found = self.product_ids[first] == product_ids
        prices[found] = self.list_price[first[found], None]
        for anchor in np.flatnonzero(self.product_ids[1:] == self.product_ids[:-1]) + 1:  # changed anchors
            since = np.ix_(product_ids == self.product_ids[anchor], dates >= self.dates[anchor])
            prices[since] = self.list_price[anchor]
        prices[:, dates < self.since] = np.nan
        return prices

    def differing(self, other: "Anchors") -> list[str]:
        """Products in both whose anchors differ, or all products in both where `since` differs; sorted."""
        common = set(self.product_ids.tolist()) & set(other.product_ids.tolist())
        if self.since != other.since:
            return sorted(common)
        return sorted(common & {product_id for product_id, _, _ in self._entries() ^ other._entries()})

    def _entries(self) -> set[tuple[str, dt.date, float]]:
        """Product, first day and regular price of each anchor."""
        return set(zip(self.product_ids.tolist(), self.dates.tolist(), self.list_price.tolist(), strict=True))

    def digest(self) -> str:
        """SHA-256 of the anchors, in hexadecimal."""
        digest = hashlib.sha256("\n".join([str(self.since), *self.product_ids.tolist()]).encode())
        digest.update(self.dates.astype(np.int64).tobytes())
        for name in _AMOUNTS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()

    def _take(self, kept: Bools) -> "Anchors":
        return replace(self, **{name: getattr(self, name)[kept] for name in _ARRAYS})

    def _joined(self, **new: NDArray[Any]) -> "Anchors":
        """Merge with new ones, sorted."""
        every = {name: np.concatenate([getattr(self, name), new[name]]) for name in _ARRAYS}
        order = np.lexsort((every["dates"], every["product_ids"]))
        return Anchors(since=self.since, **{name: values[order] for name, values in every.items()})


def matching_anchors(anchors: Anchors | None, product_ids: Strings) -> Anchors | None:
    """Return `anchors` if they have any of these products, else None: they belong to another history."""
    return anchors if anchors is not None and np.isin(product_ids, anchors.product_ids).any() else None


def version_anchors(anchors: Anchors | None, panel: Panel) -> Anchors:
    """Anchors to store in a version made from a panel: those in force plus new products', else the panel's own."""
    known = matching_anchors(anchors, panel.product_ids)
    return Anchors.from_panel(panel) if known is None else known.extended(panel)
