"""Rows that are the contract's already but for ids and stores: made alike, in the form that the join takes."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.config_sources import FinishedRows, SourcesConfig
from pricing.sources.checked_rows import FUTURE, CheckedRows
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers
from pricing.sources.set_aside import ReasonCount, SetAside

TABLE = "sales"
NUMBERS = (
    *("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price", "comp_price_age", "is_promo"),
    *("is_holiday", "tax_rate"),
)
_KEY = ["date", "product_id", "store"]


def read_rows(
    chunks: Iterable[Chunk],
    source: FinishedRows,
    *,
    config: SourcesConfig,
    ids: Identifiers,
    set_aside: SetAside,
    latest: np.datetime64 | None = None,
) -> pd.DataFrame:
    """Read finished rows of one or several stores.

    What the contract refuses (a price of 0, units below 0) is set aside here, where file and line are known. Of several
    rows of one day, product and store the last one read counts; the others are counted in `set_aside`.

    Args:
        chunks: The rows as read.
        source: What the columns are called.
        config: The first day that counts.
        ids: Makes product ids alike.
        set_aside: Takes rows that cannot be used.
        latest: The last day that a row may have in the shop's zone; None: any.

    Returns:
        date, product_id, store and those of the contract's columns that are there, sorted by the first three.

    Raises:
        SourceError: A needed column is not there.
    """
    parts = [_part(chunk, source, config=config, ids=ids, set_aside=set_aside, latest=latest) for chunk in chunks]
    if not parts:
        return pd.DataFrame(columns=[*_KEY, "units_sold", "price"])
    table = pd.concat(parts, ignore_index=True)
    again = table.duplicated(_KEY, keep="last")
    if again.any():
        former = table[again]
        first = former.iloc[0]
        set_aside.add_count(
            ReasonCount(
                TABLE,
                "a later row of this day, product and store replaces it",
                len(former),
                float(former["units_sold"].sum()),
                float((former["units_sold"] * former["price"]).sum()),
                f"{first['_origin']}, line {first['_line']}",
            )
        )
    table = table[~again].drop(columns=["_origin", "_line"])
    return table.sort_values(_KEY, kind="stable", ignore_index=True)


def _part(
    chunk: Chunk,
    source: FinishedRows,
    *,
    config: SourcesConfig,
    ids: Identifiers,
    set_aside: SetAside,
    latest: np.datetime64 | None,
) -> pd.DataFrame:
    cells = CheckedRows(chunk, source, table=TABLE, set_aside=set_aside)
    codes = ids.codes(cells.column("product_id"), source=TABLE)
    days = cells.days("date")
    values = {}
    for name in NUMBERS:
        if not cells.has(name):
            continue
        values[name] = _flag_or_number(cells, name)
    given = {"units": values["units_sold"], "revenue": values["units_sold"] * values["price"]}
    cells.refuse(codes < 0, "product_id must not be missing", **given)
    cells.refuse(days.missing, "date must not be missing", **given)
    cells.refuse(days.wrong, "date must be an ISO day such as 2024-01-31", **given)
    for name in ("units_sold", "price"):
        cells.refuse(np.isnan(values[name]), f"{name} must be a number", **given)
    cells.refuse(values["units_sold"] < 0, "units_sold must be at least 0", **given)
    cells.refuse(values["price"] <= 0, "price must be above 0", **given)
    if config.history_from is not None:
        early = days.values < np.datetime64(config.history_from, "D")
        cells.refuse(early, "the day is before sources.history_from", **given)
    if latest is not None:
        cells.refuse(days.values > latest, FUTURE, **given)
    keep = cells.usable
    frame = pd.DataFrame(
        {
            "date": days.values[keep].astype("datetime64[s]"),
            "product_id": pd.Series(np.array([*ids.ids, ""], dtype=object)[codes[keep]], dtype="str"),
            "store": pd.Series(cells.texts("store")[keep], dtype="str"),
            **{name: column[keep] for name, column in values.items()},
            "_origin": chunk.origin,
            "_line": chunk.lines[keep],
        }
    )
    if cells.has("category"):
        frame["category"] = pd.Series(cells.texts("category")[keep], dtype="str")
    return frame


def _flag_or_number(cells: CheckedRows, name: str) -> NDArray[np.float64]:
    read = cells.flags(name) if name in ("is_promo", "is_holiday") else cells.numbers(name)
    if name not in ("units_sold", "price"):
        cells.note(read.wrong, f"{name} must be a number")
    return read.values.astype(np.float64)
