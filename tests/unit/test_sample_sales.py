"""The sample of sales that the README trains on comes from a market whose truth is known."""

from pathlib import Path

import pandas as pd

from simulation.config import MarketConfig
from simulation.market import simulate

SAMPLE = Path(__file__).parents[2] / "docs" / "sample_sales.csv"
MARKET = MarketConfig(products=6, days=200, seed=1)


def test_the_sample_is_what_the_market_sold() -> None:
    sold = simulate(MARKET).frame()
    kept = pd.read_csv(SAMPLE, parse_dates=["date"])

    pd.testing.assert_frame_equal(kept, sold, check_dtype=False, rtol=1e-9)
