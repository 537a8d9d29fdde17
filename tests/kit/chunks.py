"""Chunks of sources, made by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pricing.config_sources import OrderLines, SourcesConfig, StockSource
from pricing.sources.chunk import Chunk


def chunk(columns: str, *rows: Sequence[Any], origin: str = "lines.csv", first: int = 1) -> Chunk:
    """Rows as a chunk; `columns` are names parted by blanks, `first` is the number of its first line."""
    frame = pd.DataFrame([list(row) for row in rows], columns=columns.split(), dtype=object).infer_objects()
    return Chunk(frame, origin, np.arange(first, first + len(rows), dtype=np.int64))


def sources(sales: OrderLines | None = None, **settings: Any) -> SourcesConfig:
    """A shop in New York whose sales are order lines."""
    return SourcesConfig(**{"zone": "America/New_York", "sales": sales or order_lines(), **settings})


def order_lines(**settings: Any) -> OrderLines:
    """Order lines of some file."""
    return OrderLines(location="lines.csv", kind="order_lines", **settings)


def stock_source(kind: str = "snapshots", **settings: Any) -> StockSource:
    """Counts or movements of some file."""
    return StockSource(location="stock.csv", kind=kind, **settings)
