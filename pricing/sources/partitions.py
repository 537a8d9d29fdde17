"""Replace days of a table that is kept by month, tell the first day that changed, and split rows into shards."""

import datetime as dt
import zlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from pricing.data.manifest import Change
from pricing.sources.store import Draft

_KEY = ["product_id", "date"]
DAY_KEY = ["date", "product_id", "store"]  # of summed tables


def month(day: dt.date) -> str:
    """The month of a day, such as 2026-03."""
    return f"{day:%Y-%m}"


def from_month(names: Iterable[str], first: str | None) -> list[str]:
    """The partitions of a month and of later ones; all of them where `first` is None."""
    return sorted(name for name in names if first is None or name[: len(first)] >= first)


def replace_days(
    draft: Draft, table: str, frame: pd.DataFrame, *, first: dt.date | None, last: dt.date | None
) -> dt.date | None:
    """Replaces the days from `first` to `last` of a table, which is kept by month.

    Args:
        draft: What is changed.
        table: Its name.
        frame: All rows of those days, sorted, with `date` and the columns of the table before; others are ignored.
        first: None: from the first one on.
        last: None: to the last one.

    Returns:
        The first day whose rows differ now; None where nothing does.
    """
    low = pd.Timestamp.min if first is None else pd.Timestamp(first)
    high = pd.Timestamp.max if last is None else pd.Timestamp(last)
    frame = frame[(frame["date"] >= low) & (frame["date"] <= high)]
    months = frame["date"].to_numpy().astype("datetime64[M]").astype(str) if len(frame) else np.zeros(0, dtype=np.str_)
    known = [name for name in draft.tables.get(table, {}) if _touched(name, first, last)]
    changed: list[pd.Timestamp] = []
    for name in sorted({*known, *np.unique(months)}):
        former = draft.read(table, [name])
        kept = former[(former["date"] < low) | (former["date"] > high)] if len(former) else former
        parts = [part for part in (kept, frame[months == name]) if len(part)]
        new = pd.concat(parts, ignore_index=True) if parts else frame[:0]
        order = [column for column in ("date", *_KEY, "store") if column in new]
        new = new.sort_values(list(dict.fromkeys(order)), kind="stable", ignore_index=True)
        if draft.put(table, name, new):
            changed.append(first_difference(former, new))
    return min(changed).date() if changed else None


def united(table: pd.DataFrame) -> pd.DataFrame:
    """Adds up rows of one day, product and store, as there are once two products are one."""
    key = DAY_KEY
    if not table.duplicated(key).any():
        return table.sort_values(key, kind="stable", ignore_index=True)
    rules = {
        name: {"price_low": "min", "price_high": "max", "category": "last"}.get(name, "sum")
        for name in table.columns
        if name not in key
    }
    return table.groupby(key, sort=True, as_index=False).agg(rules)[list(table.columns)]


def _touched(name: str, first: dt.date | None, last: dt.date | None) -> bool:
    return (first is None or name >= month(first)) and (last is None or name <= month(last))


def first_difference(former: pd.DataFrame, new: pd.DataFrame) -> pd.Timestamp:
    """The earliest `date` of rows that only one of two tables has; they are not equal."""
    if former.empty or new.empty or list(former.columns) != list(new.columns):
        return pd.Timestamp(min(frame["date"].min() for frame in (former, new) if len(frame)))
    both = pd.concat([former, new], ignore_index=True)
    odd = both[~both.duplicated(keep=False)]
    return pd.Timestamp(odd["date"].min() if len(odd) else both["date"].min())


def shards(product_ids: "pd.Series[str]", count: int) -> np.ndarray:
    """(row,) shard of each product: the same on every machine and in every release."""
    codes, names = pd.factorize(product_ids)
    of_name = np.array([zlib.crc32(str(name).encode()) % count for name in names], dtype=np.int64)
    return of_name[codes] if len(names) else np.zeros(0, dtype=np.int64)


def put_rows(draft: Draft, rows: pd.DataFrame, *, first: str | None, count: int) -> list[str]:
    """Replaces the rows of a month and of later ones; returns the partitions that changed.

    Args:
        draft: What is changed.
        rows: All rows of these months.
        first: The month; None: all rows are replaced.
        count: Number of shards.
    """
    parts = dict(_parts(rows, count))
    names = {*parts, *from_month(draft.rows, first)}
    return [name for name in sorted(names) if draft.put_rows(name, parts.get(name, rows[:0]))]


def _parts(rows: pd.DataFrame, count: int) -> Iterable[tuple[str, pd.DataFrame]]:
    if rows.empty:
        return
    months = rows["date"].to_numpy().astype("datetime64[M]")
    codes, distinct = pd.factorize(months)
    shard = shards(rows["product_id"], count)
    for place, frame in rows.groupby(codes * count + shard, sort=True):
        yield f"{distinct[int(place) // count]}/{int(place) % count}", frame.reset_index(drop=True)


def changes(former: pd.DataFrame, rows: pd.DataFrame, *, newest: pd.Timestamp | None) -> list[Change]:
    """Says what differs between the rows of the same partitions before and now.

    Args:
        former: Rows before.
        rows: Rows now.
        newest: The last day of all rows before; None where there were none.
    """
    if former.empty:
        return _change("new", rows) if len(rows) else []
    both = former.merge(rows, how="outer", on=_KEY, suffixes=("_former", ""), indicator=True)
    added = both[both["_merge"] == "right_only"]
    later = added["date"] > newest if newest is not None else pd.Series(True, index=added.index)
    shared = both[both["_merge"] == "both"]
    differs = np.zeros(len(shared), dtype=np.bool_)
    for name in {*former.columns, *rows.columns} - set(_KEY):
        before, now = _pair(name, former, rows)
        differs |= _differ(shared.get(before), shared.get(now))
    return [
        *_change("new", added[later]),
        *_change("late", added[~later]),
        *_change("corrected", shared[differs]),
        *_change("withdrawn", both[both["_merge"] == "left_only"]),
    ]


def _pair(name: str, former: pd.DataFrame, rows: pd.DataFrame) -> tuple[str, str]:
    """The columns of a merged frame that hold a value before and now; a name that it does not have stands for none."""
    if name in former and name in rows:
        return f"{name}_former", name
    return (name, "") if name in former else ("", name)


def _differ(before: "pd.Series | None", now: "pd.Series | None") -> np.ndarray:
    if before is None or now is None:
        there = now if before is None else before
        return np.zeros(0, dtype=np.bool_) if there is None else there.notna().to_numpy()
    same = (before == now) | (before.isna() & now.isna())
    return ~same.fillna(False).to_numpy(dtype=np.bool_)


def _change(kind: str, rows: pd.DataFrame) -> list[Change]:
    if rows.empty:
        return []
    return [
        Change(
            kind=kind,  # type: ignore[arg-type]
            rows=len(rows),
            first_day=rows["date"].min().date(),
            last_day=rows["date"].max().date(),
            products=int(rows["product_id"].nunique()),
        )
    ]
