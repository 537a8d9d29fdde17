"""Join sales with stock, product master, promotions and competitor prices to rows of the data contract."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats
from pricing.config_sources import OrderLines, SourcesConfig
from pricing.data.manifest import JoinCount
from pricing.data.panel import STEP_DAYS, Period
from pricing.sources.calendars import on_promotion
from pricing.sources.identifiers import series_id
from pricing.sources.product_master import ProductMaster
from pricing.sources.returns import summed_sales, week_of

ROW_COLUMNS = (
    *("date", "product_id", "units_sold", "price", "category", "list_price", "unit_cost", "stock", "comp_price"),
    *("comp_price_age", "is_promo", "tax_rate", "parent_id"),
)
REACH = 28
"""Days after the last sale or stock of a product on which it still counts as one that the shop keeps."""
STORE_DAYS = 7
"""Days after its last count of a product on which a store still counts as one that keeps it."""
_EXAMPLES = 5
_KEY = ["date", "product_id"]


@dataclass(frozen=True)
class ZeroCounts:
    """Rows of 0 units, of days with stock and without a sale.

    Attributes:
        rows: Rows added.
        shelf_price: Those with the product master's price.
        last_price: Those with the price that was paid last.
        no_price: Days left out, because neither is known.
        closed: Days left out, because nothing at all was sold on them: the shop was closed, or its lines are missing.
    """

    rows: int = 0
    shelf_price: int = 0
    last_price: int = 0
    no_price: int = 0
    closed: int = 0


@dataclass(frozen=True)
class Joined:
    """Rows of the contract.

    Attributes:
        rows: Those of `ROW_COLUMNS` that some source has, sorted by product_id and date; the pair is unique.
        zeros: Rows that were added.
        partial_stock: Days on which not all stores of a product counted their stock: its sum is unknown.
        joins: How each source met the sales.
        notes: What was decided for many rows at once, one sentence each.
    """

    rows: pd.DataFrame
    zeros: ZeroCounts
    partial_stock: int
    joins: list[JoinCount]
    notes: tuple[str, ...]


def contract_rows(
    sales: pd.DataFrame,
    *,
    config: SourcesConfig,
    period: Period = "day",
    stock: pd.DataFrame | None = None,
    master: ProductMaster | None = None,
    plan: pd.DataFrame | None = None,
    competitor: pd.DataFrame | None = None,
    last_prices: pd.DataFrame | None = None,
) -> Joined:
    """Join all that is known of each product and period.

    No row of sales is lost: the units of the rows are those of `sales`. What sales say themselves is never replaced;
    other sources fill what is missing.

    Args:
        sales: `pricing.sources.returns.NET_COLUMNS`, or rows of `pricing.sources.finished_rows`, by day and store.
        config: Whether stores are summed, when weeks begin, whether days without a sale get rows.
        period: The grain of the rows.
        stock: Openings by date, product_id and store; None: there is no such source.
        master: The product master.
        plan: From `pricing.sources.calendars.promotion_plan`, made with the same treatment of stores.
        competitor: One competitor price by date and product_id: comp_price and comp_price_age.
        last_prices: product_id and price of each series before the sales at hand, where these are not all.
    """
    separate = config.stores == "separate"
    frame = _series(sales, separate=separate)
    if stock is not None:  # days that were read from Parquet are of another unit than those just derived
        stock = stock.assign(date=stock["date"].astype(frame["date"].dtype))
    openings, partial = (None, 0) if stock is None else _stock_of_series(stock, separate=separate)
    open_days = frame[["date"] if not separate else ["date", "store"]].drop_duplicates()
    if period == "week":
        frame = frame.assign(date=week_of(frame["date"], starts=config.week_starts))
        open_days = open_days.assign(date=week_of(open_days["date"], starts=config.week_starts)).drop_duplicates()
        if openings is not None:  # a week opens with its first day
            openings = openings[openings["date"] == week_of(openings["date"], starts=config.week_starts)]
    keep = [*_KEY, "parent_id", "store"]
    frame = _summed(frame, keep)
    joins: list[JoinCount] = []
    zeros = ZeroCounts()
    master = master or ProductMaster.empty()
    if openings is not None:
        if len(frame) and isinstance(config.sales, OrderLines) and config.sales.zero_days == "stock":
            frame, zeros = _with_zero_rows(frame, openings, open_days, master=master, last_prices=last_prices)
        known = frame.merge(openings[[*_KEY, "stock"]], how="left", on=_KEY, suffixes=("", "_counted"))
        counted = known["stock_counted" if "stock_counted" in known else "stock"].to_numpy(np.float64)
        joins.append(_count("stock", frame["product_id"], np.isfinite(counted), theirs=openings["product_id"]))
        frame["stock"] = _filled(frame, "stock", counted)
    if len(master.table):
        joins.append(_join_master(frame, master))
    if plan is not None:
        joins.append(_join_promotions(frame, plan, days=STEP_DAYS[period]))
    if competitor is not None:
        weeks = config.week_starts if period == "week" else None
        frame, join = _join_competitor(frame, competitor, weeks=weeks)
        joins.append(join)
    if not separate:
        frame = frame.drop(columns="parent_id")
    columns = [name for name in (*ROW_COLUMNS, "is_holiday") if name in frame and not _empty(frame[name])]
    rows = frame.sort_values(["product_id", "date"], kind="stable", ignore_index=True)[columns]
    return Joined(rows, zeros, partial, joins, _notes(frame, zeros, partial))


def _series(sales: pd.DataFrame, *, separate: bool) -> pd.DataFrame:
    """Sales with the id of their series as product_id and that of their product as parent_id."""
    frame = sales.assign(parent_id=sales["product_id"])
    if not separate:
        return frame.assign(store="")
    stored = sales["store"] != ""
    return frame.assign(product_id=sales["product_id"].where(~stored, series_id(sales["product_id"], sales["store"])))


def _summed(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    others = [name for name in frame if name in ROW_COLUMNS and name not in (*by, "units_sold", "price", "tax_rate")]
    others += [name for name in ("is_holiday",) if name in frame]
    if not frame.duplicated(by).any():
        wanted = [*by, "units_sold", "price", *(["tax_rate"] if "tax_rate" in frame else []), *others]
        return frame[wanted].reset_index(drop=True)
    if "units_gross" in frame:
        return summed_sales(frame, by)[[*by, "units_sold", "price", "tax_rate"]]
    return summed_rows(frame, by)


def summed_rows(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sums finished rows of several stores or days.

    Units and stock are added; stock is unknown where one of the rows has none. Prices, costs and rates are weighted by
    units, by all rows alike where nothing was sold. A flag holds where it does for at least half of the units. The
    category is the first one; the age of a competitor's price the highest.

    Args:
        rows: date, product_id, units_sold, price, and other columns of the contract.
        by: Columns that stay.
    """
    units = rows["units_sold"].to_numpy(np.float64)
    total = rows.groupby(by, sort=True)["units_sold"].transform("sum").to_numpy(np.float64)
    weight = np.where(total > 0, units, 1.0)
    numbers = [name for name in ("price", "list_price", "unit_cost", "comp_price", "tax_rate") if name in rows]
    flags = [name for name in ("is_promo", "is_holiday") if name in rows]
    parts = rows[by].assign(units_sold=units)
    for name in (*numbers, *flags):
        values = rows[name].to_numpy(np.float64)
        parts[name] = np.where(np.isnan(values), 0.0, values) * weight
        parts[f"_{name}"] = np.where(np.isnan(values), 0.0, weight)
    grouped = parts.groupby(by, sort=True, as_index=False).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in numbers:
            grouped[name] = grouped[name] / grouped[f"_{name}"]
        for name in flags:
            share = grouped[name] / grouped[f"_{name}"]
            grouped[name] = np.where(share.isna(), np.nan, share >= 0.5)
    again = rows.groupby(by, sort=True, as_index=False)
    if "stock" in rows:
        grouped["stock"] = again["stock"].agg(lambda column: column.sum(skipna=False))["stock"]
    if "category" in rows:
        grouped["category"] = again["category"].first()["category"]
    if "comp_price_age" in rows:
        grouped["comp_price_age"] = again["comp_price_age"].max()["comp_price_age"]
    return grouped.drop(columns=[f"_{name}" for name in (*numbers, *flags)])


def _stock_of_series(stock: pd.DataFrame, *, separate: bool) -> tuple[pd.DataFrame, int]:
    """Openings by series; where stores are summed, those of days on which all stores of the product counted.

    A store is one of a product on the days of its counts and `STORE_DAYS` after each: what comes later changes nothing.
    """
    if separate:
        return _series(stock, separate=True), 0
    frame = stock[["date", "product_id", "store", "stock"]]
    summed = frame.groupby(["product_id", "date"], sort=True, as_index=False).agg(
        stock=("stock", "sum"), counted=("stock", "count")
    )
    counts = frame.sort_values(["product_id", "store", "date"], kind="stable")[["product_id", "store", "date"]]
    apart = counts["date"].diff() > pd.Timedelta(days=STORE_DAYS + 1)
    opens = apart | counts.duplicated(["product_id", "store"]).eq(False)
    begin = counts.loc[opens, ["product_id", "date"]].assign(change=1)
    end = counts.loc[opens.shift(-1, fill_value=True), ["product_id", "date"]].assign(change=-1)
    end["date"] += pd.Timedelta(days=STORE_DAYS + 1)
    edges = pd.concat([begin, end]).groupby(["product_id", "date"]).sum().reset_index()
    edges["stores"] = edges.groupby("product_id")["change"].cumsum()
    edges["date"] = edges["date"].astype(summed["date"].dtype)
    both = pd.merge_asof(
        summed.sort_values("date", kind="stable"),
        edges.sort_values("date", kind="stable")[["date", "product_id", "stores"]],
        on="date",
        by="product_id",
    )
    whole = both["counted"] >= both["stores"]
    summed = both[whole][["date", "product_id", "stock"]].assign(store="")
    summed = summed.assign(parent_id=summed["product_id"])
    return summed.sort_values(["product_id", "date"], kind="stable", ignore_index=True), int((~whole).sum())


def _with_zero_rows(
    frame: pd.DataFrame,
    openings: pd.DataFrame,
    open_days: pd.DataFrame,
    *,
    master: ProductMaster,
    last_prices: pd.DataFrame | None,
) -> tuple[pd.DataFrame, ZeroCounts]:
    """Adds rows of 0 units for periods that open with stock, and for sold-out ones up to `REACH` days after the last.

    Whether a day gets a row depends on nothing later, so that more days change none before.
    """
    days = openings[(openings["date"] >= frame["date"].min()) & (openings["date"] <= frame["date"].max())]
    days = days.merge(frame[[*_KEY, "units_sold"]], how="left", on=_KEY)
    alive = pd.concat([days[days["stock"] > 0][_KEY], frame[_KEY]]).drop_duplicates().sort_values("date")
    days = pd.merge_asof(
        days.sort_values("date", kind="stable"),
        alive.assign(alive=alive["date"]),
        on="date",
        by="product_id",
        tolerance=pd.Timedelta(days=REACH),
    )
    wanted = days["units_sold"].isna() & days["alive"].notna()
    found = days[wanted][[*_KEY, "parent_id", "store"]]
    opened = found.merge(open_days, how="left", indicator=True)["_merge"].to_numpy() == "both"
    closed = int(np.count_nonzero(~opened))
    found = found[opened].assign(units_sold=0.0).reset_index(drop=True)
    shelf = _of_master(master, "price", found)
    whole = pd.concat([frame, found.assign(price=shelf)], ignore_index=True)
    whole = whole.sort_values(["product_id", "date"], kind="stable", ignore_index=True)
    carried = whole.groupby("product_id", sort=False)["price"].ffill()
    if last_prices is not None:
        carried = carried.fillna(whole["product_id"].map(last_prices.set_index("product_id")["price"]))
    lacking = whole["price"].isna()
    whole["price"] = carried
    kept = whole["price"].notna()
    counts = ZeroCounts(
        int(len(found) - (~kept).sum()),
        int(np.isfinite(shelf).sum()),
        int((lacking & kept).sum()),
        int((~kept).sum()),
        closed,
    )
    return whole[kept].reset_index(drop=True), counts


def _of_master(master: ProductMaster, name: str, frame: pd.DataFrame) -> Floats:
    codes, products = pd.factorize(frame["parent_id"])
    places = master.places(pd.Index(products, dtype="str"))[codes]
    return master.on(name, places, frame["date"].to_numpy().astype("datetime64[D]").astype(np.int64))


def _join_master(frame: pd.DataFrame, master: ProductMaster) -> JoinCount:
    codes, products = pd.factorize(frame["parent_id"])
    places = master.places(pd.Index(products, dtype="str"))[codes]
    for name in ("list_price", "unit_cost", "tax_rate"):
        frame[name] = _filled(frame, name, _of_master(master, name, frame))
    _fill_category(frame, master.last("category", places))
    return _count("products", frame["parent_id"], places >= 0, theirs=pd.Series(master.product_ids))


def _join_promotions(frame: pd.DataFrame, plan: pd.DataFrame, *, days: int) -> JoinCount:
    running = on_promotion(plan, frame["product_id"], frame["date"], days=days)
    flags = running.astype(np.float64)
    if len(plan):  # before its first entry the calendar may not have been kept
        flags[(frame["date"] + pd.Timedelta(days=days - 1) < plan["first"].min()).to_numpy()] = np.nan
    frame["is_promo"] = _filled(frame, "is_promo", flags)
    past = plan[plan["first"] <= frame["date"].max()]
    return _count("promotions", frame["product_id"], running, theirs=past["product_id"])


def _join_competitor(
    frame: pd.DataFrame, competitor: pd.DataFrame, *, weeks: str | None
) -> tuple[pd.DataFrame, JoinCount]:
    """Prices by day; those of a week are its days' mean, with the highest age."""
    prices = competitor[[*_KEY, "comp_price", "comp_price_age"]]
    prices = prices.assign(date=prices["date"].astype("datetime64[s]"))
    if weeks is not None:
        prices = prices.assign(date=week_of(prices["date"], starts=weeks))
        prices = prices.groupby(_KEY, as_index=False).agg({"comp_price": "mean", "comp_price_age": "max"})
    prices = prices.rename(columns={"product_id": "parent_id"})
    former = [name for name in ("comp_price", "comp_price_age") if name in frame]
    theirs = frame.drop(columns=former).merge(prices, how="left", on=["date", "parent_id"])
    matched = theirs["comp_price"].notna().to_numpy()
    if "comp_price" in former:
        own = frame["comp_price"].notna().to_numpy()
        theirs["comp_price"] = np.where(own, frame["comp_price"], theirs["comp_price"])
        age = frame.get("comp_price_age", np.nan)
        theirs["comp_price_age"] = np.where(own, age, theirs["comp_price_age"])
    return theirs, _count("competitor", frame["parent_id"], matched, theirs=prices["parent_id"])


def _filled(frame: pd.DataFrame, name: str, values: Floats) -> Floats:
    """The column, with `values` where it has none."""
    if name not in frame:
        return values
    own = frame[name].to_numpy(np.float64)
    filled: Floats = np.where(np.isnan(own), values, own)
    return filled


def _fill_category(frame: pd.DataFrame, names: "pd.Series[str]") -> None:
    own = frame["category"].fillna("") if "category" in frame else pd.Series("", index=frame.index, dtype="str")
    frame["category"] = own.where(own != "", pd.Series(names.to_numpy(object), index=frame.index, dtype="str"))


def _count(name: str, ours: "pd.Series[str]", matched: Bools, *, theirs: "pd.Series[str]") -> JoinCount:
    lonely = sorted(set(ours.unique()) - set(ours[matched].unique()))
    unused = sorted(set(theirs.unique()) - set(ours.unique()))
    return JoinCount(
        table=name,
        sales_rows=len(ours),
        matched=int(np.count_nonzero(matched)),
        unmatched_sales=len(lonely),
        unmatched_table=len(unused),
        examples=[
            *(f"sales only: {one}" for one in lonely[:_EXAMPLES]),
            *(f"{name} only: {one}" for one in unused[:_EXAMPLES]),
        ],
    )


def _empty(column: "pd.Series[Any]") -> bool:
    return bool(column.isna().all()) or bool((column == "").all())


def _notes(frame: pd.DataFrame, zeros: ZeroCounts, partial: int) -> tuple[str, ...]:
    notes = []
    if zeros.rows:
        notes.append(
            f"{zeros.rows:,} rows of 0 units for days with stock and without a sale: {zeros.shelf_price:,} at the "
            f"product master's price, {zeros.last_price:,} at the price paid last."
        )
    if zeros.no_price:
        notes.append(f"{zeros.no_price:,} days with stock and without a sale have no row: no price is known of them.")
    if zeros.closed:
        notes.append(f"{zeros.closed:,} days with stock have no row: nothing at all was sold on them.")
    if partial:
        notes.append(f"{partial:,} days of products lack the stock of some of their stores: unknown there.")
    if "tax_rate" in frame and (lacking := int(frame["tax_rate"].isna().sum())) and lacking < len(frame):
        notes.append(f"{lacking:,} rows have no tax rate.")
    return tuple(notes)
