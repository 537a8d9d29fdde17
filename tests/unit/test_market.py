"""The laws of the simulated market: reproducible, conserved, monotone, and its truth is what it says."""

import numpy as np
import pandas as pd
import pytest

from pricing.data.market import Market, MarketConfig, simulate
from pricing.errors import ConfigError


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(MarketConfig(products=12, days=200, seed=3))


def test_the_same_options_give_the_same_history(market: Market) -> None:
    again = simulate(MarketConfig(products=12, days=200, seed=3))

    pd.testing.assert_frame_equal(again.frame(), market.frame())


def test_sales_never_exceed_stock_nor_demand(market: Market) -> None:
    ledger = market.ledger

    assert (ledger.units <= ledger.stock).all()
    assert (ledger.units == np.minimum(ledger.stock, ledger.demand)).all()


def test_options_out_of_range_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"products.*mean_elasticity"):
        MarketConfig(products=0, mean_elasticity=2.5)
