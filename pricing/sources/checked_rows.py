"""The rows of a chunk: their cells by the kind of their column, and which rows are still usable."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_sources import TableSource
from pricing.data import coerce
from pricing.data.coerce import Coerced
from pricing.errors import SourceError, nearest
from pricing.sources.chunk import Chunk
from pricing.sources.set_aside import SetAside

FUTURE = "the day lies in the future"


class CheckedRows:
    """One chunk's rows. A column that is not there is missing on every row.

    Attributes:
        chunk: The rows as they were read.
        source: Where they are from.
        table: Its name in counts, such as "stock".
        usable: (row,) rows that nothing is wrong with so far; `refuse` takes rows out.
    """

    def __init__(self, chunk: Chunk, source: TableSource, *, table: str, set_aside: SetAside) -> None:
        """Checks that the needed columns are there.

        Raises:
            SourceError: One is not.
        """
        self.chunk = chunk
        self.source = source
        self.table = table
        self._set_aside = set_aside
        self.usable: Bools = np.ones(len(chunk.frame), dtype=np.bool_)
        for name in source.NEEDED:
            if name not in chunk.frame:
                found = [str(column) for column in chunk.frame.columns]
                near = nearest(name, (other for other in found if other not in source.NEEDED), cutoff=0.5)
                hint = f"; is it {near!r}?" if near else ""
                raise SourceError(
                    f"{chunk.origin}: expected a column {name}, found {', '.join(found) or 'none'}{hint} Say what it "
                    f"is called there in sources.{table}.columns, such as {{{name}: {near or 'their name'}}}"
                )

    def has(self, name: str) -> bool:
        """Whether a column is there."""
        return name in self.chunk.frame

    def column(self, name: str) -> "pd.Series[Any]":
        """Cells of a column as read; empty ones where it is not there."""
        if name in self.chunk.frame:
            return self.chunk.frame[name]
        return pd.Series(np.full(len(self.chunk.frame), None, dtype=object), index=self.chunk.frame.index)

    def numbers(self, name: str) -> Coerced:
        """Numbers of a column."""
        if not self.has(name):
            count = len(self.chunk.frame)
            return Coerced(np.full(count, np.nan), np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_))
        return coerce.numbers(self.column(name))

    def flags(self, name: str) -> Coerced:
        """0 and 1 of a column."""
        return coerce.flags(self.column(name))

    def names(self, name: str) -> Coerced:
        """Texts of a column."""
        if not self.has(name):
            count = len(self.chunk.frame)
            codes = np.full(count, -1, dtype=np.int64)
            return Coerced(codes, np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_))
        return coerce.names(self.column(name))

    def texts(self, name: str) -> NDArray[np.object_]:
        """(row,) texts of a column; "" where empty."""
        read = self.names(name)
        texts: NDArray[np.object_] = np.array([*read.names, ""], dtype=object)[read.values]
        return texts

    def days(self, name: str) -> Coerced:
        """Days of a column."""
        if not self.has(name):
            count = len(self.chunk.frame)
            values = np.full(count, np.datetime64("NaT"), "datetime64[D]")
            return Coerced(values, np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_))
        return coerce.days(self.column(name))

    def refuse(self, broken: Bools, reason: str, *, units: Floats | None = None, revenue: Floats | None = None) -> None:
        """Sets the marked rows aside, those that are still usable; `units` and `revenue` are (row,)."""
        broken = broken & self.usable
        if broken.any():
            self._set_aside.add(self.chunk, broken, table=self.table, reason=reason, units=units, revenue=revenue)
            self.usable &= ~broken

    def note(self, unusable: Bools, reason: str) -> None:
        """Counts the marked cells, which are taken as missing, and keeps their rows."""
        marked = unusable & self.usable
        if marked.any():
            self._set_aside.add(
                self.chunk, marked, table=self.table, reason=f"{reason}; taken as missing", dropped=False
            )
