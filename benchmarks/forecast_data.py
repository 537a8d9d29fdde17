"""Real sales as contract rows: the data sets that forecasts are judged on. None of them is part of the project.

Where a source leaves out the days on which a product did not sell, they are zeros (`missing: zero`). Where products
were chosen, it was by units sold in the first part of the history, before any day that is judged.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import STEP_DAYS, Panel, Period
from simulation.completejourney import LARGEST_LINE, categories_of_goods

PRODUCTS = 300
DAILY_PRODUCTS = 100  # of the Complete Journey: below, a day sells less than one unit
FIRST_MONDAY = pd.Timestamp("2017-01-02")  # 1 January is a Sunday alone
FACTORS = {"whole": 1.0, "x0.1": 0.1, "x10": 10.0, "short": 1.0}  # of the units, by variant
CHOOSING = 0.45  # share of the history, from its beginning, whose units choose the products; no judged day is in it


@dataclass(frozen=True)
class Folds:
    """Walk-forward validation of one history: what `demand` is configured with."""

    horizon: int
    step: int
    min_history: int
    folds: int = 8


SHORT = {"day": Folds(horizon=7, step=3, min_history=32), "week": Folds(horizon=4, step=1, min_history=19)}


@dataclass(frozen=True)
class Sales:
    """A data set."""

    title: str  # what tables call it
    period: Period
    missing: Literal["zero", "unknown"]  # what an absent row means: `data.missing`
    read: Callable[[str], pd.DataFrame]  # from a path to contract rows
    whole: Folds  # of the whole history; `SHORT` has those of its end alone

    @property
    def short_periods(self) -> int:
        """Length of the short history: 60 days, or 30 weeks."""
        return 60 if self.period == "day" else 30


def m5(path: str) -> pd.DataFrame:
    """Store-items of Walmart, day by day; a row without a price was before the launch."""
    raw = pd.read_parquet(path)
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(raw["date"]),
            "product_id": raw["item_id"].astype(str) + "@" + raw["store_id"].astype(str),
            "category": raw["dept_id"].astype(str),
            "units_sold": raw["value"].astype(float),
            "price": raw["sell_price"].astype(float),
            "is_holiday": raw["event_name_1"].fillna("").astype(str).ne("").astype(int),
        }
    )
    return frame[frame["price"] > 0]


def orange_juice(path: str, *, every: int = 1) -> pd.DataFrame:
    """Brands of orange juice in Dominick's stores, week by week; prices of 64 ounces, that of rivals their mean.

    Args:
        path: The Parquet file.
        every: Which stores, by their numbers in order: each, or every second, third, ….
    """
    raw = pd.read_parquet(path)
    raw = raw[raw["store"].isin(np.sort(raw["store"].unique())[::every])]
    frame = pd.DataFrame(
        {
            "date": pd.Timestamp("1989-09-14") + pd.to_timedelta(7 * (raw["week"].astype(int) - 1), unit="D"),
            "product_id": raw["brand"].astype(int).astype(str) + "@" + raw["store"].astype(int).astype(str),
            "category": raw["brand"].astype(int).astype(str),
            "units_sold": raw["units"].astype(float),
            "price": raw["price"].astype(float) * 64,
            "comp_price": raw["comp_price"].astype(float) * 64,
            "is_promo": ((raw["feat"] > 0) | (raw["deal"] > 0)).astype(int),
        }
    )
    return frame[(frame["price"] > 0) & (frame["units_sold"] >= 0)]


def complete_journey(folder: str, *, period: Period = "week", products: int = PRODUCTS) -> pd.DataFrame:
    """Products of a grocer, all stores together, from receipts; prices before coupons, the median of the week.

    Args:
        folder: The package's `data` folder, with transactions.parquet and products.parquet.
        period: The grain.
        products: How many, most units in the first part of the year first.
    """
    columns = ["product_id", "quantity", "sales_value", "retail_disc", "coupon_match_disc", "transaction_timestamp"]
    lines = pd.read_parquet(Path(folder) / "transactions.parquet", columns=columns)
    category = categories_of_goods(Path(folder))
    day = lines["transaction_timestamp"].dt.normalize()
    start = day - pd.to_timedelta(day.dt.dayofweek, unit="D") if period == "week" else day
    paid = lines["sales_value"] + lines["coupon_match_disc"]
    kept = (
        (start >= FIRST_MONDAY)
        & (start <= FIRST_MONDAY + pd.Timedelta(weeks=51, days=6 if period == "day" else 0))
        & lines["quantity"].between(1, LARGEST_LINE)
        & (paid > 0)
        & lines["product_id"].isin(category.index)
    )
    lines = pd.DataFrame(
        {
            "date": start,
            "product_id": lines["product_id"],
            "units": lines["quantity"],
            "price": paid / lines["quantity"],
            "list_price": (paid + lines["retail_disc"]) / lines["quantity"],
        }
    )[kept]
    rows = _by_period(lines, products)
    rows["category"] = category.loc[rows["product_id"]].to_numpy()
    rows["list_price"] = rows[["price", "list_price"]].max(axis=1)
    return rows.assign(product_id=rows["product_id"].astype(str))


def ta_feng(path: str) -> pd.DataFrame:
    """Products of a grocer in Taiwan, day by day, from receipts; prices and costs are medians of the week."""
    raw = pd.read_csv(path)
    raw = raw[(raw["AMOUNT"] > 0) & (raw["SALES_PRICE"] > 0)]
    lines = pd.DataFrame(
        {
            "date": pd.to_datetime(raw["TRANSACTION_DT"], format="%m/%d/%Y"),
            "product_id": raw["PRODUCT_ID"],
            "units": raw["AMOUNT"],
            "price": raw["SALES_PRICE"] / raw["AMOUNT"],
            "unit_cost": np.where(raw["ASSET"] > 0, raw["ASSET"] / raw["AMOUNT"], np.nan),
        }
    )
    rows = _by_period(lines, PRODUCTS)
    kind = (raw["PRODUCT_SUBCLASS"] // 100).groupby(raw["PRODUCT_ID"]).first()
    rows["category"] = kind.loc[rows["product_id"]].astype(str).to_numpy()
    return rows.assign(product_id=rows["product_id"].astype(str))


def _by_period(lines: pd.DataFrame, products: int) -> pd.DataFrame:
    """Contract rows from receipts: units summed, prices the week's median, of products that sold most in the beginning.

    A shelf has a price on days without a sale as well, receipts have none. Carried forward from day to day, the price
    would tell that something was sold wherever it differs from the day before's. So all days of a week in which a
    product was sold have the median of the week's receipts.
    """
    dates = np.sort(lines["date"].unique())
    early = lines[lines["date"] < dates[int(CHOOSING * len(dates))]]
    units = early.groupby("product_id")["units"].sum().sort_index().sort_values(ascending=False, kind="stable")
    lines = lines[lines["product_id"].isin(units.index[:products])]
    open_days = pd.DataFrame({"date": dates}).assign(week=lambda days: days["date"].dt.to_period("W"))
    prices = [name for name in ("price", "list_price", "unit_cost") if name in lines]
    weeks = lines.groupby(["product_id", lines["date"].dt.to_period("W").rename("week")])[prices].median().reset_index()
    sold = lines.groupby(["product_id", "date"])["units"].sum().astype(float).rename("units_sold").reset_index()
    rows = weeks.merge(open_days, on="week").merge(sold, on=["product_id", "date"], how="left")
    rows = rows.sort_values(["product_id", "date"], ignore_index=True)
    return rows.assign(units_sold=rows["units_sold"].fillna(0.0)).drop(columns="week")


SETS = {
    "m5": Sales("Walmart store-items, daily (M5)", "day", "unknown", m5, Folds(horizon=28, step=28, min_history=400)),
    "oj": Sales(
        "Dominick's orange juice, weekly",
        "week",
        "unknown",
        lambda path: orange_juice(path, every=3),
        Folds(horizon=4, step=4, min_history=60),
    ),
    "cj": Sales(
        "Complete Journey grocer, weekly",
        "week",
        "zero",
        complete_journey,
        Folds(horizon=4, step=3, min_history=24),
    ),
    "cjday": Sales(
        "Complete Journey grocer, daily",
        "day",
        "zero",
        lambda folder: complete_journey(folder, period="day", products=DAILY_PRODUCTS),
        Folds(horizon=28, step=22, min_history=164),
    ),
    "tafeng": Sales("Ta Feng grocer, daily", "day", "zero", ta_feng, Folds(horizon=14, step=7, min_history=54)),
}


def configured(sales: Sales, *, short: bool) -> Config:
    """The default configuration but for the grain, what absent rows mean, and the folds."""
    config = load_config()
    data = config.data.model_copy(update={"period": sales.period, "missing": sales.missing})
    demand = config.demand.model_copy(update=asdict(SHORT[sales.period] if short else sales.whole))
    return config.model_copy(update={"data": data, "demand": demand})


def history(frame: pd.DataFrame, config: Config, *, periods: int | None, factor: float) -> Panel:
    """The panel that is forecast: the whole history or its last `periods` alone, units multiplied."""
    day, last = pd.Timedelta(days=STEP_DAYS[config.data.period]), frame["date"].max()
    first = frame["date"].min() if periods is None else last - (periods - 1) * day
    part = frame[frame["date"].between(first, last)]
    return build_panel(part.assign(units_sold=part["units_sold"] * factor), config.data)
