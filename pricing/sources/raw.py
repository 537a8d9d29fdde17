"""What every reader gives, before names and kinds: rows of one file or query as they came, and lines that are none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 150_000  # rows of a chunk, about: 10 to 20 MB of order lines


@dataclass(frozen=True)
class RejectedLine:
    """A line that is no row.

    Attributes:
        line: Its number; the first after a header is 1.
        reason: Why, without the line's own values, so that reasons can be counted.
        text: The line.
    """

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Raw:
    """Consecutive rows.

    Attributes:
        columns: Our name: the (row,) Arrow array as it was read.
        lines: (row,) number of each row; the first after a header is 1.
        rejected: Lines before or between the rows that are none.
    """

    columns: dict[str, Any]
    lines: NDArray[np.int64]
    rejected: Sequence[RejectedLine] = field(default=())
