"""The learning benchmark logs and cuts as the platform's own log and markets do."""

from typing import Any

import numpy as np

from benchmarks.learning import last_days, moves, shortened
from simulation.market import MarketConfig, simulate
from simulation.policies import static
from simulation.rollforward import roll_forward


def test_only_prices_that_differ_from_the_current_one_are_moves() -> None:
    log: list[dict[str, Any]] = [
        {"product_id": product, "date": "2026-03-02", "current_price": 5.0, "decision": {"recommended_price": price}}
        for product, price in (("kept", 5.0), ("moved", 5.5))
    ]

    found = moves(log)

    assert found.product_ids.tolist() == ["moved"]
    assert found.price.tolist() == [5.5]
    assert found.days.tolist() == np.array(["2026-03-02"], "datetime64[D]").tolist()


def test_a_shortened_market_under_its_own_prices_sells_what_the_whole_one_sold() -> None:
    market = simulate(MarketConfig(kind="few_prices", products=3, categories=1, days=90, future=10))

    short = shortened(market, days=60)
    run = roll_forward(short, static, days=40)  # its incumbent charges list prices

    assert np.array_equal(run.ledger.units[:30], market.ledger.units[60:])
    assert np.array_equal(last_days(run, 10).earned, run.earned[-10:])
