"""Keep what sources forget: products as they were on each day, and promotions that are over."""

import datetime as dt

import pandas as pd

from pricing.sources.product_master import EVER

BEGINNING = dt.date.fromisoformat(str(EVER))

_KEY = ["product_id", "valid_from"]


def as_seen(former: pd.DataFrame, found: pd.DataFrame, *, today: dt.date) -> pd.DataFrame:
    """Dates the rows of a product master that has no first days: a change holds from the day on which it was seen.

    Otherwise a cost that changes today would change what the past seems to have cost (slowly changing dimension, type
    2: Kimball and Ross, The Data Warehouse Toolkit, 3rd ed., chapter 5).

    Args:
        former: Rows kept so far; empty on the first run, whose rows hold for all of the past.
        found: Rows of today, one by product, without first day.
        today: In the shop's zone.

    Returns:
        Rows kept, with those that differ from the product's newest one; products that are gone keep theirs.
    """
    if former.empty:
        return found
    names = [name for name in found.columns if name not in _KEY]
    newest = former.sort_values(_KEY, kind="stable").drop_duplicates("product_id", keep="last")
    both = found[["product_id", *names]].merge(
        newest[["product_id", *names]], how="left", on=["product_id", *names], indicator=True
    )
    changed = found[(both["_merge"] == "left_only").to_numpy()].copy()
    known = changed["product_id"].isin(former["product_id"])
    changed["valid_from"] = changed["valid_from"].mask(known, pd.Timestamp(today))
    whole = pd.concat([former.astype(found.dtypes.to_dict()), changed], ignore_index=True)
    whole = whole.drop_duplicates(_KEY, keep="last")
    ordered: pd.DataFrame = whole.sort_values(_KEY, kind="stable", ignore_index=True)[list(found.columns)]
    return ordered


def with_former(former: pd.DataFrame, found: pd.DataFrame, *, first: str, last: str, today: dt.date) -> pd.DataFrame:
    """Keeps rows that are over and that the source no longer has: calendars drop what is past.

    A row of today replaces one that differs from it in its last day alone.

    Args:
        former: Rows kept so far.
        found: Rows of today.
        first: Name of the column of first days.
        last: Name of that of last days.
        today: In the shop's zone.
    """
    if former.empty:
        return found
    over = former[former[last] < pd.Timestamp(today)]
    if found.empty:
        return over.reset_index(drop=True)
    over = over.astype(found.dtypes.to_dict())
    key = [name for name in found.columns if name != last]
    told = pd.MultiIndex.from_frame(over[key]).isin(pd.MultiIndex.from_frame(found[key]))
    over = over[~told]
    whole = pd.concat([over, found], ignore_index=True).drop_duplicates(ignore_index=True)
    ordered: pd.DataFrame = whole.sort_values(list(found.columns), kind="stable", ignore_index=True)
    return ordered


def first_change(former: pd.DataFrame, found: pd.DataFrame, *, day: str) -> dt.date:
    """The first day from which rows hold that only one of two tables has; they are not equal."""
    if former.empty or found.empty or list(former.columns) != list(found.columns):
        return BEGINNING
    both = pd.concat([former.astype(found.dtypes.to_dict()), found], ignore_index=True)
    odd = both[~both.duplicated(keep=False)]
    return pd.Timestamp(odd[day].min()).date() if len(odd) else BEGINNING


def differing(former: pd.DataFrame, found: pd.DataFrame, *, names: list[str]) -> "pd.Series[str]":
    """Products whose rows differ in some columns, those included that only one of two product masters has."""
    if former.empty:
        return found["product_id"].drop_duplicates()
    columns = ["product_id", "valid_from", *names]
    both = pd.concat([former[columns].astype(found[columns].dtypes.to_dict()), found[columns]], ignore_index=True)
    return both[~both.duplicated(keep=False)]["product_id"].drop_duplicates()


def category_changed(before: pd.DataFrame, now: pd.DataFrame) -> bool:
    """Whether a product that was sold before is of another category now; all its rows have that of today.

    Args:
        before: product_id and category of everything that was sold.
        now: The same, some days later.
    """
    former, present = (
        frame.drop_duplicates("product_id").set_index("product_id")["category"] for frame in (before, now)
    )
    return bool((present.reindex(former.index).fillna("") != former).any())
