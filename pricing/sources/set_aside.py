"""Rows that are set aside, counted by table and reason, with their units, and the first of them for the quarantine."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats
from pricing.sources.chunk import Chunk

KEPT = 10_000
"""Rows of each table and reason that are kept with their cells; further ones are only counted."""


@dataclass(frozen=True)
class ReasonCount:
    """How many rows of a table were set aside for one reason.

    Attributes:
        table: Such as "sales" or "stock".
        reason: In words.
        rows: Number of rows.
        units: Units on them, as far as they have readable ones.
        revenue: What was paid for those, tax included where it is known, in the shop's currency where it is known.
        first: The first of them in words: its file, table or query, and line.
        dropped: Whether the rows are not used at all; False: a cell counts as missing and the rest of the row is used.
    """

    table: str
    reason: str
    rows: int
    units: float
    revenue: float
    first: str
    dropped: bool = True


class SetAside:
    """Collects rows that cannot be used; memory is bounded by `KEPT` rows of each table and reason."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._counts: dict[tuple[str, str], ReasonCount] = {}
        self._rows: dict[tuple[str, str], list[pd.DataFrame]] = {}

    def add(
        self,
        chunk: Chunk,
        broken: Bools,
        *,
        table: str,
        reason: str,
        units: Floats | None = None,
        revenue: Floats | None = None,
        dropped: bool = True,
    ) -> None:
        """Adds the marked rows of a chunk.

        Args:
            chunk: Rows as they were read.
            broken: (row,) which of them.
            table: Their table.
            reason: Why, in words.
            units: (row,) units on each row; NaN where unreadable.
            revenue: (row,) what was paid for them; NaN where unreadable.
            dropped: Whether the rows are not used at all.
        """
        count = int(np.count_nonzero(broken))
        if not count:
            return
        former = self._counts.get((table, reason))
        room = self._kept - (0 if former is None else former.rows)
        if room > 0:
            some = np.zeros(len(broken), dtype=np.bool_)
            some[np.flatnonzero(broken)[:room]] = True
            self._rows.setdefault((table, reason), []).append(chunk.rejected(some, reason=reason))
        first = f"{chunk.origin}, line {int(chunk.lines[int(np.argmax(broken))])}"
        self._count(
            ReasonCount(
                table,
                reason,
                count,
                0.0 if units is None else float(np.nansum(units[broken])),
                0.0 if revenue is None else float(np.nansum(revenue[broken])),
                first,
                dropped,
            )
        )

    def add_count(self, count: ReasonCount, *, rows: pd.DataFrame | None = None) -> None:
        """Adds rows that were counted elsewhere.

        Args:
            count: Their count.
            rows: Some of them, with source, line and reason; None: their cells are no longer at hand.
        """
        if not count.rows:
            return
        key = (count.table, count.reason)
        room = self._kept - sum(len(frame) for frame in self._rows.get(key, ()))
        if rows is not None and room > 0:
            self._rows.setdefault(key, []).append(rows.iloc[:room])
        self._count(count)

    def add_unread(self, rows: pd.DataFrame, *, table: str) -> None:
        """Adds rows that a reader could not read: source, line, reason and text; their units are not known."""
        for reason, group in rows.groupby("reason", sort=False):
            first = f"{group['source'].iloc[0]}, line {group['line'].iloc[0]}"
            self.add_count(ReasonCount(table, str(reason), len(group), 0.0, 0.0, first), rows=group)

    @property
    def counts(self) -> tuple[ReasonCount, ...]:
        """Counts by table and reason, in the order in which they were first seen."""
        return tuple(self._counts.values())

    def rows_of(self, table: str) -> int:
        """Number of rows of a table that are not used."""
        return sum(count.rows for count in self._counts.values() if count.table == table and count.dropped)

    def frame(self, table: str) -> pd.DataFrame:
        """The rows kept of a table, as texts: source, line, reason, and the cells; by source and line."""
        found = [frame for (name, _), frames in self._rows.items() if name == table for frame in frames]
        if not found:
            return pd.DataFrame(columns=["source", "line", "reason"])
        return pd.concat(found, ignore_index=True).sort_values(["source", "line"], kind="stable", ignore_index=True)

    def _count(self, more: ReasonCount) -> None:
        key = (more.table, more.reason)
        former = self._counts.get(key)
        if former is None:
            self._counts[key] = more
            return
        self._counts[key] = ReasonCount(
            more.table,
            more.reason,
            former.rows + more.rows,
            former.units + more.units,
            former.revenue + more.revenue,
            former.first,
            former.dropped,
        )
