"""Tables as a shop's own systems keep them, made from rows of the contract, which the ETL should restore."""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Ints

_OPENS, _CLOSES = 8, 21  # hours of the day within which people buy
_COUNTED = 5  # hour at which stock is counted
_MOST_IN_LINE = 3  # units


@dataclass(frozen=True)
class ShopTables:
    """The tables of a shop's database."""

    # line_id, ordered_at (with zone), sku, quantity, unit_price, status. Some are cancelled, some were loaded twice,
    # some are returns of the same day.
    order_lines: pd.DataFrame
    stock_counts: pd.DataFrame  # counted_at (with zone), sku, on_hand, at each opening
    product_master: pd.DataFrame  # sku, category, list_price, cost, shelf_price and the first day that they hold
    promotions: pd.DataFrame  # sku, first_day, last_day
    competitor_prices: pd.DataFrame  # seen_at (with zone), sku, competitor, price


def shop_tables(rows: pd.DataFrame, *, zone: ZoneInfo, rng: np.random.Generator) -> ShopTables:
    """Takes daily rows of the contract, all columns, whole units, apart into what a shop's systems would have recorded.

    Times of day, line sizes, cancellations, returns and repeated lines are drawn.
    """
    rows = rows.sort_values(["date", "product_id"], ignore_index=True)
    seen = rows[rows["comp_price"].notna()]
    counted, told = (_at(some["date"], np.full(len(some), _COUNTED * 3600), zone) for some in (rows, seen))
    offers = {"seen_at": told, "sku": seen["product_id"], "competitor": "rival", "price": seen["comp_price"]}
    return ShopTables(
        order_lines=_order_lines(rows, zone, rng),
        stock_counts=pd.DataFrame(
            {"counted_at": counted, "sku": rows["product_id"], "on_hand": rows["stock"].astype("Int64")}
        ),
        product_master=_master(rows),
        promotions=_promotions(rows),
        competitor_prices=pd.DataFrame(offers).reset_index(drop=True),
    )


def _order_lines(rows: pd.DataFrame, zone: ZoneInfo, rng: np.random.Generator) -> pd.DataFrame:
    units = rows["units_sold"].to_numpy(dtype=np.int64)
    unit_row = np.repeat(np.arange(len(rows)), units)
    # A unit opens a new line, or joins the one before it where that is of the same row and not yet full.
    opens = rng.random(len(unit_row)) < 1 / 2
    opens |= np.diff(unit_row, prepend=-1) != 0
    start = np.maximum.accumulate(np.where(opens, np.arange(len(unit_row)), 0))
    opens |= (np.arange(len(unit_row)) - start) % _MOST_IN_LINE == 0
    row = unit_row[opens]
    quantity = np.diff(np.append(np.flatnonzero(opens), len(unit_row)))

    def lines(row: Ints, quantity: Ints, status: str = "sold") -> pd.DataFrame:
        seconds = rng.integers(_OPENS * 3600, _CLOSES * 3600, size=len(row))
        return pd.DataFrame(
            {
                "ordered_at": _at(rows["date"].iloc[row], seconds, zone),
                "sku": rows["product_id"].to_numpy()[row],
                "quantity": quantity,
                "unit_price": rows["price"].to_numpy()[row],
                "status": status,
            }
        )

    sold = lines(row, quantity)
    again = sold.iloc[rng.choice(len(sold), size=len(sold) // 200, replace=False)]
    dropped = rng.choice(len(row), size=len(row) // 50, replace=False)
    cancelled = lines(row[dropped], quantity[dropped], "cancelled")
    unwanted = rng.choice(len(row), size=len(row) // 100, replace=False)
    bought, returned = (lines(row[unwanted], np.full(len(unwanted), sign)) for sign in (1, -1))
    returned["ordered_at"] = bought["ordered_at"] + pd.Timedelta(minutes=5)
    recorded = pd.concat([sold, cancelled, bought, returned], ignore_index=True)
    recorded = recorded.sort_values("ordered_at", kind="stable", ignore_index=True)
    recorded.insert(0, "line_id", np.arange(1, len(recorded) + 1))
    copies = recorded.merge(again[["ordered_at", "sku"]].drop_duplicates(), on=["ordered_at", "sku"])
    return pd.concat([recorded, copies], ignore_index=True)


def _at(days: "pd.Series[pd.Timestamp]", seconds: Ints, zone: ZoneInfo) -> NDArray[np.object_]:
    """Times of day, in UTC, as the shop's clock shows them."""
    local = pd.DatetimeIndex(days) + pd.to_timedelta(seconds, unit="s")
    return np.asarray(local.tz_localize(zone).tz_convert(dt.UTC).astype(object))


def _master(rows: pd.DataFrame) -> pd.DataFrame:
    """One row each time that one of a product's values changes."""
    names = ["category", "list_price", "unit_cost", "price"]
    ordered = rows.sort_values(["product_id", "date"])
    values = ordered[["product_id", *names]]
    changed = (values != values.shift()).any(axis=1)
    return ordered.loc[changed, ["product_id", *names, "date"]].rename(
        columns={"product_id": "sku", "unit_cost": "cost", "price": "shelf_price", "date": "valid_from"}
    )


def _promotions(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values(["product_id", "date"])
    on = ordered["is_promo"].astype(bool)
    days, sku = ordered["date"], ordered["product_id"]
    follows = on.shift(fill_value=False) & (sku == sku.shift()) & (days == days.shift() + pd.Timedelta(days=1))
    run = (on & ~follows).cumsum()[on]
    runs = ordered[on].groupby(run)
    return pd.DataFrame(
        {"sku": runs["product_id"].first(), "first_day": runs["date"].min(), "last_day": runs["date"].max()}
    ).reset_index(drop=True)
