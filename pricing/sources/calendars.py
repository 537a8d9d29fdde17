"""A retailer's calendars: promotions, past and planned, and events, in the forms that the data settings read."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools
from pricing.config_sources import EventSource, PromotionSource
from pricing.sources.checked_rows import CheckedRows
from pricing.sources.chunk import Chunk
from pricing.sources.identifiers import Identifiers, series_id
from pricing.sources.set_aside import SetAside

PROMOTIONS, EVENTS = "promotions", "events"
PROMOTION_COLUMNS = ("product_id", "category", "store", "first", "last")
PLAN_COLUMNS = ("product_id", "first", "last")
EVENT_COLUMNS = ("date", "name", "last_date", "category")
_LONGEST = 3660  # days of a promotion; a longer one is an end that was never set, such as 9999-12-31
_DAY_BITS = 20


def read_promotions(
    chunks: Iterable[Chunk], source: PromotionSource, *, ids: Identifiers, set_aside: SetAside
) -> pd.DataFrame:
    """Read promotions as they are given.

    Returns:
        `PROMOTION_COLUMNS`, sorted: first and last day, both included; texts are "" where empty. Without a product
        a row is of its category, without that of all products; without a store it is of all stores.

    Raises:
        SourceError: A needed column is not there.
    """
    parts = []
    for chunk in chunks:
        cells = CheckedRows(chunk, source, table=PROMOTIONS, set_aside=set_aside)
        codes = ids.codes(cells.column("product_id"), source=PROMOTIONS)
        first, last = cells.days("first"), cells.days("last")
        for name, days in (("first", first), ("last", last)):
            cells.refuse(days.missing, f"{name} must not be missing")
            cells.refuse(days.wrong, f"{name} must be a day such as 2026-11-27")
        cells.refuse(last.values < first.values, "last must not come before first")
        long = last.values - first.values > np.timedelta64(_LONGEST, "D")
        cells.refuse(long, f"a promotion must end within {_LONGEST:,} days")
        keep = cells.usable
        columns = {
            "product_id": pd.Series(np.array([*ids.ids, ""], dtype=object)[codes[keep]], dtype="str"),
            **{name: pd.Series(cells.texts(name)[keep], dtype="str") for name in ("category", "store")},
            "first": first.values[keep].astype("datetime64[s]"),
            "last": last.values[keep].astype("datetime64[s]"),
        }
        parts.append(pd.DataFrame(columns))
    return _stacked(parts, PROMOTION_COLUMNS, days=("first", "last"))


def promotion_plan(promotions: pd.DataFrame, products: pd.DataFrame, *, separate: bool) -> pd.DataFrame:
    """Promotions of each product, or of each product in each store.

    Where stores are summed, a promotion counts on the days on which it runs in at least half of a product's stores.

    Args:
        promotions: From `read_promotions`.
        products: product_id, store and category of everything that is sold; each pair of product and store once.
        separate: Whether stores are kept apart.

    Returns:
        `PLAN_COLUMNS`, sorted: spans that neither overlap nor touch, as `data.promotions` reads them.
    """
    of_product = promotions[promotions["product_id"] != ""].drop(columns="category")
    others = promotions[promotions["product_id"] == ""].drop(columns="product_id")
    of_category, of_all = others[others["category"] != ""], others[others["category"] == ""].drop(columns="category")
    sold = products[["product_id", "store", "category"]].rename(columns={"store": "_store"})
    spans = pd.concat(
        [
            of_product.merge(sold, on="product_id"),
            of_category.merge(sold, on="category"),
            of_all.merge(sold, how="cross"),
        ],
        ignore_index=True,
    )
    spans = spans[(spans["store"] == "") | (spans["store"] == spans["_store"])]
    spans = spans.drop(columns=["store", "category"]).rename(columns={"_store": "store"})
    spans = _united(spans, ["product_id", "store"], least=None)
    if separate:
        stored = spans["store"] != ""
        names = spans["product_id"].where(~stored, series_id(spans["product_id"], spans["store"]))
        plan = spans.assign(product_id=names)
    else:
        stores = products.groupby("product_id")["store"].nunique()
        least = np.ceil(spans["product_id"].map(stores).to_numpy(np.float64) / 2)
        plan = _united(spans, ["product_id"], least=least)
    return plan[list(PLAN_COLUMNS)].sort_values(["product_id", "first"], kind="stable", ignore_index=True)


def unknown_promotions(promotions: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Promotions of a product or category that nothing is sold of; the arguments are those of `promotion_plan`."""
    by_product = promotions["product_id"] != ""
    by_category = ~by_product & (promotions["category"] != "")
    lost = by_product & ~promotions["product_id"].isin(products["product_id"])
    lost |= by_category & ~promotions["category"].isin(products["category"])
    return promotions[lost].reset_index(drop=True)


def on_promotion(
    plan: pd.DataFrame, product_ids: "pd.Series[str]", dates: "pd.Series[pd.Timestamp]", *, days: int = 1
) -> Bools:
    """(row,) whether a product is promoted on any day of a period.

    Args:
        plan: From `promotion_plan`.
        product_ids: (row,) products.
        dates: (row,) first day of each period.
        days: Length of a period.
    """
    if plan.empty:
        return np.zeros(len(product_ids), dtype=np.bool_)
    known = pd.Index(plan["product_id"].unique())
    places = known.get_indexer(pd.Index(plan["product_id"]))
    begin = (places.astype(np.int64) << _DAY_BITS) + _days(plan["first"])
    order = np.argsort(begin, kind="stable")
    mine = known.get_indexer(pd.Index(product_ids))
    first = _days(dates)
    key = (np.maximum(mine, 0).astype(np.int64) << _DAY_BITS) + first + days - 1
    row = np.searchsorted(begin[order], key, side="right") - 1
    found = order[np.maximum(row, 0)]
    running: Bools = (row >= 0) & (mine >= 0) & (places[found] == mine) & (_days(plan["last"])[found] >= first)
    return running


def read_events(chunks: Iterable[Chunk], source: EventSource, *, set_aside: SetAside) -> pd.DataFrame:
    """Read events: `EVENT_COLUMNS`, sorted, as `data.events` reads them; category is "" for all, last_date is set.

    Raises:
        SourceError: A needed column is not there.
    """
    parts = []
    for chunk in chunks:
        cells = CheckedRows(chunk, source, table=EVENTS, set_aside=set_aside)
        first, last = cells.days("date"), cells.days("last_date")
        name = cells.texts("name")
        cells.refuse(first.missing | first.wrong, "date must be a day such as 2026-11-27")
        cells.refuse(last.wrong, "last_date must be a day such as 2026-11-27")
        ends = np.where(last.missing, first.values, last.values)
        cells.refuse(ends < first.values, "last_date must not come before date")
        cells.refuse(name == "", "name must not be missing")
        keep = cells.usable
        columns = {
            "date": first.values[keep].astype("datetime64[s]"),
            "name": pd.Series(name[keep], dtype="str"),
            "last_date": ends[keep].astype("datetime64[s]"),
            "category": pd.Series(cells.texts("category")[keep], dtype="str"),
        }
        parts.append(pd.DataFrame(columns))
    return _stacked(parts, EVENT_COLUMNS, days=("date", "last_date")).drop_duplicates(ignore_index=True)


def _united(spans: pd.DataFrame, by: list[str], *, least: NDArray[np.float64] | None) -> pd.DataFrame:
    """Days on which at least `least` (span,) spans of a key run, as spans; None: one."""
    if spans.empty:
        return spans[[*by, "first", "last"]]
    codes, keys = pd.factorize(pd.MultiIndex.from_frame(spans[by]), sort=True)
    needed = np.ones(len(keys))
    if least is not None:
        needed[codes] = least
    one = np.ones(len(spans))
    code = np.concatenate([codes, codes])
    day = np.concatenate([_days(spans["first"]), _days(spans["last"]) + 1])
    edge = pd.DataFrame({"code": code, "day": day, "change": np.concatenate([one, -one])})
    edge = edge.groupby(["code", "day"], sort=True).sum().reset_index()
    running = edge.groupby("code", sort=False)["change"].cumsum().to_numpy() >= needed[edge["code"].to_numpy()]
    code, day = edge["code"].to_numpy(), edge["day"].to_numpy()
    fresh = np.concatenate([[True], code[1:] != code[:-1]])
    former = np.concatenate([[False], running[:-1]]) & ~fresh
    starts, stops = np.flatnonzero(running & ~former), np.flatnonzero(~running & former)
    frame = keys.take(code[starts]).to_frame(index=False)
    frame.columns = pd.Index(by)
    return frame.astype(dict.fromkeys(by, "str")).assign(
        first=day[starts].astype("datetime64[D]").astype("datetime64[s]"),
        last=(day[stops] - 1).astype("datetime64[D]").astype("datetime64[s]"),
    )


def _days(column: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    return column.to_numpy().astype("datetime64[D]").astype(np.int64)


def _stacked(parts: list[pd.DataFrame], columns: tuple[str, ...], *, days: tuple[str, ...]) -> pd.DataFrame:
    if not parts:
        kinds = {name: "datetime64[s]" if name in days else "str" for name in columns}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    return pd.concat(parts, ignore_index=True).sort_values(list(columns), kind="stable", ignore_index=True)
