"""Make rows of the contract from the stored tables, those of the days that a change may have touched."""

import datetime as dt
from dataclasses import dataclass

import pandas as pd

from pricing.config_sources import OrderLines, SourcesConfig
from pricing.data.manifest import Change, JoinCount
from pricing.data.panel import STEP_DAYS, Period
from pricing.sources.calendars import EVENT_COLUMNS, PLAN_COLUMNS, promotion_plan, unknown_promotions
from pricing.sources.competitor_prices import comp_prices
from pricing.sources.identifiers import series_id
from pricing.sources.inventory import openings
from pricing.sources.join import REACH, contract_rows
from pricing.sources.partitions import changes, from_month, month, put_rows
from pricing.sources.product_master import ProductMaster
from pricing.sources.returns import net_of_returns
from pricing.sources.store import Draft, Store

ALL = "all"  # the only partition of a table that is read whole
_WEEK = 7
_NAMED = 3  # products in a note


@dataclass(frozen=True)
class Derived:
    """What became of a change.

    Attributes:
        changes: Rows that differ.
        joins: How the tables matched, on the rows that were made anew.
        notes: What was decided on the way, one sentence each.
        since: First month that was made anew; None: all.
    """

    changes: list[Change]
    joins: list[JoinCount]
    notes: list[str]
    since: str | None


def derive_rows(
    store: Store,
    draft: Draft,
    *,
    config: SourcesConfig,
    period: Period,
    known: pd.DataFrame,
    touched: dt.date | None,
    today: dt.date,
    offers: pd.DataFrame | None = None,
) -> Derived:
    """Makes the rows from a day on anew, and puts those that differ into the draft.

    What a row says depends on its own day, on `REACH` days before it, on returns up to `return_days` after it, and on
    the price paid last before: so months that begin so long before the day that was touched are made anew, and none
    before.

    Args:
        store: The former rows.
        draft: The tables as they are now; gets the rows.
        config: How they are joined.
        period: The grain.
        known: From `products_sold`.
        touched: First day of a change; None: everything is made anew.
        today: In the shop's zone. Periods that are not over have no row yet: a morning's sales are no day's.
        offers: Matched offers of competitors, as they were seen; None: there is no such source.
    """
    sales_source = config.sales
    reach = sales_source.return_days if isinstance(sales_source, OrderLines) else 0
    since = None if touched is None else month(touched - dt.timedelta(days=reach + _WEEK))
    begin = None if since is None else pd.Timestamp(f"{since}-01")
    context = None if begin is None else month((begin - pd.Timedelta(days=REACH + _WEEK)).date())
    sales = draft.read("sales", from_month(draft.tables.get("sales", {}), context))
    former = store.rows(from_month({} if store.manifest is None else store.manifest.rows, since))
    if sales.empty:  # nothing was sold for so long, or what there was is gone
        put_rows(draft, former[:0], first=since, count=config.shards)
        return Derived(changes(former, former[:0], newest=None), unchanged(store).joins, [], since)
    notes: list[str] = []
    if isinstance(sales_source, OrderLines):
        sales, returned = net_of_returns(sales, rule=sales_source.returns, reach=reach, counted_from=begin)
        notes += returned.notes()
    plan = _plan(draft, known, config)
    competitor = None if offers is None else _competitor(offers, sales, config, notes=notes)
    joined = contract_rows(
        sales,
        config=config,
        period=period,
        stock=_stock(draft, config, context, notes=notes),
        master=_master(draft),
        plan=plan,
        competitor=competitor,
        last_prices=_last_prices(store, context),
    )
    rows = _with_categories(joined.rows, known)
    over = rows["date"] + pd.Timedelta(days=STEP_DAYS[period]) <= pd.Timestamp(today)
    if not over.all():
        told = f"{int((~over).sum()):,} rows of the {period} that begins on {rows['date'].max():%Y-%m-%d}"
        notes.append(f"{told} wait until it is over.")
    rows = rows[over if begin is None else over & (rows["date"] >= begin)].reset_index(drop=True)
    newest = _newest(store)
    put_rows(draft, rows, first=since, count=config.shards)
    found = changes(former, rows, newest=newest)
    return Derived(found, joined.joins, [*notes, *joined.notes], since)


def unchanged(store: Store) -> Derived:
    """What there is to say where no table differs from before: how they matched then."""
    former = store.manifest
    return Derived([], [] if former is None else former.joins, [], None)


def put_plans(draft: Draft, *, config: SourcesConfig, known: pd.DataFrame) -> list[str]:
    """Puts what the data settings read into the draft: promotions, events and deliveries that are planned, a file each.

    A table without rows is a plan without any, not the former one.

    Args:
        draft: The tables; gets the plans.
        config: Which of them there are.
        known: From `products_sold`.

    Returns:
        What of them counts for nothing, one sentence each.

    Raises:
        SourceError: A file cannot be written.
    """
    plans: dict[str, tuple[pd.DataFrame | None, tuple[str, ...]]] = {}
    notes: list[str] = []
    if config.promotions is not None:
        plans["promotions"] = _plan(draft, known, config), PLAN_COLUMNS
        promotions = draft.read("promotions", [ALL])
        unknown = promotions if promotions.empty else unknown_promotions(promotions, known)
        if len(unknown):
            names = (unknown["product_id"] + unknown["category"]).drop_duplicates().tolist()
            notes.append(
                f"promotions: {len(unknown):,} are of products or categories that were never sold, such as "
                f"{', '.join(names[:_NAMED])}: they count for nothing."
            )
    if config.events is not None:
        plans["events"] = draft.read("events", [ALL]), EVENT_COLUMNS
    if config.deliveries is not None:
        plans["deliveries"] = _deliveries(draft, known, config), ("product_id", "date")
    for name, (frame, columns) in plans.items():
        nothing = pd.DataFrame(columns=columns, dtype="str")
        draft.put_plan(name, nothing if frame is None or frame.empty else frame[list(columns)])
    return notes


def _with_categories(rows: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Gives every row its product's category of today, so that a product has one."""
    named = known.drop_duplicates("product_id", keep="last").set_index("product_id")["category"]
    category = rows["parent_id" if "parent_id" in rows else "product_id"].map(named).fillna("")
    return rows.assign(category=category) if (category != "").any() else rows.drop(columns="category", errors="ignore")


def _master(draft: Draft) -> ProductMaster:
    table = draft.read("products", [ALL])
    return ProductMaster(table) if len(table) else ProductMaster.empty()


def products_sold(draft: Draft) -> pd.DataFrame:
    """Every product and store that ever sold, with the product's category, "" where unknown."""
    sales = draft.read("sales", columns=["date", "product_id", "store", "category"])
    if sales.empty:
        return pd.DataFrame({name: pd.Series(dtype="str") for name in ("product_id", "store", "category")})
    if "category" not in sales:
        sales = sales.assign(category="")
    named = sales[sales["category"].fillna("") != ""].drop_duplicates("product_id", keep="last")
    known = sales[["product_id", "store"]].drop_duplicates(ignore_index=True)
    master = _master(draft)
    category = master.last("category", master.places(pd.Index(known["product_id"], dtype="str")))
    own = known["product_id"].map(named.set_index("product_id")["category"]).fillna("")
    return known.assign(category=category.where(category.to_numpy() != "", own.to_numpy()))


def _plan(draft: Draft, known: pd.DataFrame, config: SourcesConfig) -> pd.DataFrame | None:
    if config.promotions is None:
        return None
    promotions = draft.read("promotions", [ALL])
    if promotions.empty:
        return None
    return promotion_plan(promotions, known, separate=config.stores == "separate")


def _deliveries(draft: Draft, known: pd.DataFrame, config: SourcesConfig) -> pd.DataFrame:
    """Days of deliveries by product, or by product and store: one that names no store is of all that sell the product.

    Where stores are summed, a delivery to any of them is one of the product.
    """
    planned = draft.read("deliveries", [ALL])
    if planned.empty:
        return planned
    if config.stores == "separate":
        stored = planned["store"] != ""
        everywhere = (
            planned[~stored].drop(columns="store").merge(known[["product_id", "store"]], "left", on="product_id")
        )
        planned = pd.concat([planned[stored], everywhere.fillna({"store": ""})], ignore_index=True)
        whole = planned["store"] == ""  # of products that no store by name has sold
        names = planned["product_id"].where(whole, series_id(planned["product_id"], planned["store"]))
        planned = planned.assign(product_id=names)
    days = planned[["product_id", "date"]].drop_duplicates()
    return days.sort_values(["product_id", "date"], kind="stable", ignore_index=True)


def _stock(draft: Draft, config: SourcesConfig, context: str | None, *, notes: list[str]) -> pd.DataFrame | None:
    """Openings from a month on; what movements do not tell is added to the notes."""
    if config.stock is None:
        return None
    partitions = draft.tables.get("stock", {})
    if config.stock.kind == "snapshots":
        return _or_none(draft.read("stock", from_month(partitions, context)))
    found, counts = openings(draft.read("stock"))  # a sum from the very first movement on
    if counts.negative_days:
        notes.append(f"stock: on {counts.negative_days:,} days movements sum below 0: unknown.")
    if counts.incomplete:
        named = ", ".join(counts.incomplete[:_NAMED])
        notes.append(
            f"stock: {len(counts.incomplete):,} products lack the beginning of their movements, such as {named}: all "
            "their days are unknown; deliver the movements from the first one on, or one of what was there."
        )
    return _or_none(found if context is None else found[found["date"] >= pd.Timestamp(f"{context}-01")])


def _or_none(frame: pd.DataFrame) -> pd.DataFrame | None:
    return None if frame.empty else frame


def _competitor(
    offers: pd.DataFrame, sales: pd.DataFrame, config: SourcesConfig, *, notes: list[str]
) -> pd.DataFrame | None:
    """One price by product and day of the sales at hand; says in `notes` which of the newest offers count for none."""
    if sales.empty or offers.empty or config.competitors is None:
        return None
    days = pd.date_range(sales["date"].min(), sales["date"].max())
    found = comp_prices(
        offers,
        products=sorted(sales["product_id"].unique()),
        periods=[day.date() for day in days],
        config=config.competitors,
        time_zone=config.zone,
        own_prices=sales[["date", "product_id", "price"]],
    )
    newest = offers.sort_values("seen_at", kind="stable")["run_id"].iloc[-1]
    odd = found.set_aside[found.set_aside["run_id"] == newest]
    for (competitor, reason), rows in odd.groupby(["competitor", "reason"], sort=True):
        notes.append(
            f"competitors: {len(rows):,} of the newest offers of {competitor} count for none ({reason}), such as "
            f"{rows['product_id'].iloc[0]}: {rows['found'].iloc[0]}."
        )
    known: pd.DataFrame = found.prices[found.prices["comp_price"].notna()]
    return known


def _last_prices(store: Store, context: str | None) -> pd.DataFrame | None:
    """The last price of each series before the days at hand, with its day."""
    if context is None or store.manifest is None:
        return None
    earlier = [name for name in store.manifest.rows if name < context]
    rows = store.rows(earlier, columns=["date", "product_id", "price"])
    if rows.empty:
        return None
    return rows.sort_values("date", kind="stable").drop_duplicates("product_id", keep="last", ignore_index=True)


def _newest(store: Store) -> pd.Timestamp | None:
    if store.manifest is None or not store.manifest.rows:
        return None
    last = max(name.partition("/")[0] for name in store.manifest.rows)
    rows = store.rows([name for name in store.manifest.rows if name.startswith(last)], columns=["date"])
    return pd.Timestamp(rows["date"].max())
