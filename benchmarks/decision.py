"""Measure how fast the decision is: prices a second in batches, microseconds for one, through the real model.

`python -m benchmarks.decision` prints the table of decision.md. The model's weights are random: what a
price costs depends on the shapes of its arrays only.
"""

import argparse
import datetime as dt
import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import numpy as np

from benchmarks.table import markdown, measured
from pricing.config import load_config
from pricing.decision.choose import choose
from pricing.decision.pricer import PREPARED, Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest, Weekday
from pricing.decision.resolve import Resolver
from tests.kit.versions import make_demand, make_panel

BATCH = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--products", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20, help="batches measured")
    options = parser.parse_args(argv)
    panel = make_panel(products=options.products)
    demand, config = make_demand(panel), load_config()
    facts = ProductFacts.from_panel(panel)
    pricer = Pricer(demand, facts, config, version="bench", largest_jump=config.serving.largest_jump)
    today = demand.state_date + dt.timedelta(days=1)
    rng = np.random.default_rng(0)
    requests = [_request(str(rng.choice(demand.product_ids)), rng=rng, today=today) for _ in range(BATCH)]
    short, other = 5.0, 6.0  # units of stock
    ample = requests[0].model_copy(update={"current_stock": 1e6})

    fast, median = _seconds(lambda: pricer.price(requests, today=today), rounds=options.rounds)
    rows = [["batch of 1,000, prices a second on one core", f"{BATCH / fast:,.0f}", f"{BATCH / median:,.0f}"]]
    batch = Resolver(demand, facts, config, pricer.policy).resolve([ample], today=today)
    prices = pricer.policy.candidate_grid.candidates(batch.context).prices
    demand_at = partial(demand.grid, batch.offers)
    grid = demand_at(prices)
    jobs: dict[str, Callable[[], object]] = {
        "one price, new, ample stock": _new_requests(pricer, ample, today=today),
        "one price, new, short stock": _new_requests(pricer, _with_stock(ample, short), today=today),
        "one price, again with another stock, ample": partial(pricer.price, [ample], today=today),
        "one price, again with another stock, short": partial(pricer.price, [_with_stock(ample, other)], today=today),
        "a batch of one: the model's demand": lambda: demand_at(prices),
        "a batch of one: the choice": lambda: choose(batch.context, lambda _: grid, pricer.policy),
    }
    for name, job in jobs.items():
        fast, median = _seconds(job, rounds=100 * options.rounds)
        rows.append([f"{name}, µs", f"{fast * 1e6:,.0f}", f"{median * 1e6:,.0f}"])
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    print(f"{measured()}\n{markdown([machine, 'fastest twentieth', 'median'], rows)}")
    return 0


def _request(product_id: str, *, rng: np.random.Generator, today: dt.date) -> PriceRequest:
    day = today + dt.timedelta(days=int(rng.integers(1, 7)))
    return PriceRequest(
        product_id=product_id,
        current_stock=float(rng.integers(0, 300)),
        day_of_week=get_args(Weekday)[day.weekday()],
        comp_price=float(np.round(rng.uniform(5, 20), 2)),
        is_promo=bool(rng.random() < 0.1),
    )


def _with_stock(request: PriceRequest, stock: float) -> PriceRequest:
    return request.model_copy(update={"current_stock": stock})


def _new_requests(pricer: Pricer, request: PriceRequest, *, today: dt.date) -> Callable[[], object]:
    """Prices a request that is new each time: with another competitor's price, of too many to be kept prepared."""
    comp_prices = [round(5.0 + 0.001 * number, 3) for number in range(2 * PREPARED)]
    asked = itertools.cycle([request.model_copy(update={"comp_price": price}) for price in comp_prices])
    return lambda: pricer.price([next(asked)], today=today)


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
    raise SystemExit(main())
