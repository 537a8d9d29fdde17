"""Order lines summed to one table, for tests that need not do it a month at a time."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from pricing.config_sources import OrderLines
from pricing.sources.chunk import Chunk
from pricing.sources.order_lines import COLUMNS, LineCounts, OrderLineSums


@dataclass(frozen=True)
class OrderDays:
    """Order lines by day, product and store.

    Attributes:
        table: Rows of `OrderLineSums.months`, sorted by date, product_id and store.
        counts: What became of the lines.
    """

    table: pd.DataFrame
    counts: LineCounts


def order_line_days(chunks: Iterable[Chunk], source: OrderLines, **settings: object) -> OrderDays:
    """All months of `OrderLineSums`, one below the other; `settings` are its arguments."""
    with OrderLineSums(source, **settings) as sums:  # type: ignore[arg-type]
        for chunk in chunks:
            sums.add(chunk)
        tables = [table for _, table in sorted(sums.months(), key=lambda month: month[0])]
        return OrderDays(pd.concat(tables, ignore_index=True) if tables else _no_rows(), sums.counts)


def _no_rows() -> pd.DataFrame:
    texts = ("product_id", "store", "category")
    kinds = {name: "str" if name in texts else "float64" for name in COLUMNS} | {"date": "datetime64[s]"}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
