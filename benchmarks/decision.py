"""Measure how fast a price is: prices a second in batches, microseconds for one.

`python -m benchmarks.decision` prints the table of decision.md. Weights are random, since what a price costs depends on
the shapes of its arrays only.
"""

import datetime as dt
import os
import time
from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np

from benchmarks.table import markdown, measured
from pricing.config import load_config
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest, Weekday
from tests.kit.versions import make_demand, make_panel

BATCH, ROUNDS = 1000, 20  # requests of a batch; batches measured
SHOP = 200  # products that are priced


def prices() -> str:
    """The table of how fast a price is: the fastest twentieth, which other processes disturb least, and the median."""
    panel, config = make_panel(products=SHOP), load_config()
    table, facts = make_demand(panel).table(), ProductFacts.from_panel(panel)
    pricer = Pricer(table, facts, config, version="bench", largest_jump=config.serving.largest_jump)
    today = table.state_date + dt.timedelta(days=1)
    rng = np.random.default_rng(0)
    requests = [_request(str(rng.choice(table.product_ids)), rng=rng, today=today) for _ in range(BATCH)]

    fast, median = _seconds(partial(pricer.price, requests, today=today), rounds=ROUNDS)
    rows = [["batch of 1,000, prices a second on one core", f"{BATCH / fast:,.0f}", f"{BATCH / median:,.0f}"]]
    for name, stock in (("ample", 1e6), ("short", 5.0)):
        one = requests[0].model_copy(update={"current_stock": stock})
        fast, median = _seconds(partial(pricer.price, [one], today=today), rounds=100 * ROUNDS)
        rows.append([f"one price, {name} stock, µs", f"{fast * 1e6:,.0f}", f"{median * 1e6:,.0f}"])
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    return markdown([machine, "fastest twentieth", "median"], rows)


def _request(product_id: str, *, rng: np.random.Generator, today: dt.date) -> PriceRequest:
    day = today + dt.timedelta(days=int(rng.integers(1, 7)))
    return PriceRequest(
        product_id=product_id,
        current_stock=float(rng.integers(0, 300)),
        day_of_week=get_args(Weekday)[day.weekday()],
        comp_price=float(np.round(rng.uniform(5, 20), 2)),
        is_promo=bool(rng.random() < 0.1),
    )


def _seconds(job: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """The fastest twentieth, which other processes disturb least, and the median; after one round to warm up."""
    job()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return float(np.quantile(times, 0.05)), float(np.median(times))


if __name__ == "__main__":
    print(f"{measured()}\n{prices()}")
