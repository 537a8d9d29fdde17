"""The sample of sales that the README trains on comes from a market whose truth is known."""

from pathlib import Path

import pandas as pd

from pricing.data.contract import COLUMNS
from simulation.config import MarketConfig
from simulation.market import simulate

SAMPLE = Path(__file__).parents[2] / "docs" / "sample_sales.csv"
MARKET = MarketConfig(products=6, days=200, seed=1)


def test_the_sample_is_what_the_market_sold() -> None:
    sold = simulate(MARKET).frame()
    kept = pd.read_csv(SAMPLE, parse_dates=["date"])

    pd.testing.assert_frame_equal(kept, sold, check_dtype=False, rtol=1e-9)


def test_the_sample_has_columns_of_the_data_contract_only() -> None:
    columns = set(pd.read_csv(SAMPLE, nrows=1).columns)

    assert {name for name, column in COLUMNS.items() if column.needed} <= columns <= COLUMNS.keys()
