"""A shop that pays 20 % tax: from its sales through training and a version to prices, none sells below net cost."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pricing.data.net_price import net_price
from tests.kit.mlflow_jobs import JobFolder, place, write_config, write_sales

TAX = 0.20


@pytest.fixture
def shop(empty_store: Path, tmp_path: Path) -> JobFolder:
    return place(tmp_path / "shop", template=empty_store)


def test_no_price_sells_below_net_cost_from_sales_to_prices(shop: JobFolder) -> None:
    sales, config = write_sales(shop.folder / "sales.csv"), str(write_config(shop.folder / "config.yaml"))
    frame = pd.read_csv(sales)
    # What is left of a price after tax is 0.83 of it, so that these products were sold at a loss.
    frame.assign(tax_rate=TAX, unit_cost=0.9 * frame["list_price"], comp_price=0.8 * frame["list_price"]).to_csv(
        sales, index=False
    )
    output = shop.folder / "prices.csv"

    trained = shop.run("train", "--sales", str(sales), "--config", config)
    today = (dt.date.fromisoformat(frame["date"].max()) + dt.timedelta(days=1)).isoformat()
    options = ["--version", "challenger", "--config", config, "--output", str(output), "--today", today]
    priced = shop.run("price", *options)

    assert (trained.code, priced.code) == (0, 0), trained.err + priced.err
    prices = pd.read_csv(output)
    assert len(prices) == frame["product_id"].nunique()
    assert (prices["tax_rate"] == TAX).all()
    assert (net_price(prices["recommended_price"], TAX) >= prices["unit_cost"] * (1 - 1e-6)).all()
    assert (prices["binds"] == "cost").any()
    assert np.allclose(
        prices["expected_margin"],
        prices["expected_units"] * (net_price(prices["recommended_price"], TAX) - prices["unit_cost"]),
        atol=1e-6,
    )
    assert prices["comp_price_used"].notna().all()
    assert (prices["comp_price_age"] == 1).all()
