"""A part of a source's table, as it was read, and rows of it that cannot be used."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one file, table or query.

    Attributes:
        frame: Rows with the columns' names of the configuration (`TableSource.NEEDED` and `OPTIONAL`), those that are
            there; numbers and flags as float64, times as datetime64, everything else as text without blanks around it.
            See `pricing.sources.reading.read_chunks`.
        origin: The file, table or query, without passwords.
        lines: (row,) number of each row in its origin; the first after a header is 1.
    """

    frame: pd.DataFrame
    origin: str
    lines: NDArray[np.int64]

    def rejected(self, broken: Bools, *, reason: str) -> pd.DataFrame:
        """The marked rows as texts, led by source, line and reason; for the quarantine."""
        rows = self.frame[broken].astype("string")
        rows.insert(0, "reason", reason)
        rows.insert(0, "line", self.lines[broken])
        rows.insert(0, "source", self.origin)
        return rows.reset_index(drop=True)
