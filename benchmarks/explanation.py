"""How long an explanation takes, warm: exact Shapley values of all the drivers in which a request differs.

Run `python -m benchmarks.explanation` from the root; results stand in explanation.md. The model's weights are random:
what a price costs depends on the shapes of its arrays only.
"""

import argparse
import datetime as dt
import os
import time
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from benchmarks.provenance import reminder
from pricing.config import load_config
from pricing.decision.explanation import GUARDRAILS, Quantity, explain
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from tests.kit.versions import make_demand, make_panel

ORDINARY = {"current_stock": 5.0, "is_promo": True, "comp_price": 9.5}
EVERYTHING: dict[str, Any] = {
    **ORDINARY,
    **{"is_holiday": True, "unit_cost": 3.0, "strategy": "revenue", "current_price": 9.0, "list_price": 11.0},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--products", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20, help="explanations of each kind")
    options = parser.parse_args(argv)
    panel = make_panel(products=options.products)
    demand = make_demand(panel)
    pricer = Pricer(demand, ProductFacts.from_panel(panel), load_config(), version="bench")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; milliseconds")
    print(
        f"{'what is explained':44}{'drivers':>8}{'mixtures':>9}{'wall, median':>14}{'wall, worst':>13}{'processor':>11}"
    )
    for words, given in (("five fields", ORDINARY), ("every field that can differ", EVERYTHING)):
        for quantity in get_args(Quantity):
            _line(
                f"{quantity}, {words}", given, quantity, pricer=pricer, today=demand.state_date, rounds=options.rounds
            )
    print(reminder("explanation.md"))
    return 0


def _line(
    words: str, given: dict[str, Any], quantity: Quantity, *, pricer: Pricer, today: dt.date, rounds: int
) -> None:
    rng = np.random.default_rng(0)
    walls, processor, drivers, averaged = [], [], 0, 0
    for number in range(rounds + 1):  # the first one warms up
        product = f"P{int(rng.integers(1, 100)):05}"
        request = PriceRequest.model_validate({"product_id": product, "day_of_week": "Thursday", **given})
        wall, cpu = time.perf_counter(), time.thread_time()
        found = explain(request, pricer, today=today, quantity=quantity)
        if number:
            walls.append(1000 * (time.perf_counter() - wall))
            processor.append(1000 * (time.thread_time() - cpu))
        drivers = max(drivers, len(found.drivers))
        averaged = max(averaged, sum(driver.name != GUARDRAILS for driver in found.drivers))
    print(
        f"{words:44}{drivers:>8}{2**averaged:>9}{np.median(walls):>14.0f}{max(walls):>13.0f}"
        f"{np.median(processor):>11.0f}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
