"""Measure time and memory of training and refreshing 1,000 to 10,000 products, and how fast a price is.

python -m benchmarks.scale            prints the table of scale.md; half an hour, 1 GB of temporary files
python -m benchmarks.scale fit 1000 FOLDER     one case on the panel saved in FOLDER; prints one JSON object
python -m benchmarks.scale price      prints the table of decision.md: prices a second in batches, microseconds for one

Panels of the simulated market, 730 days, saved beforehand, so that neither simulating nor reading counts. `backtest`:
five folds with the horizon and step of the default configuration. `fit`: the final training, identification and states
of every product included. `refresh`: one more day. Each case runs in a process of its own. `price`: weights are random,
since what a price costs depends on the shapes of its arrays only.
"""

import argparse
import datetime as dt
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.table import markdown, measured
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import load_panel, save_panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest, Weekday
from pricing.demand.backtest import backtest
from pricing.demand.training import fit
from simulation.market import MarketConfig, simulate
from tests.kit.versions import make_demand, make_panel

SEED = 50
CASES = (("backtest", 1000), ("fit", 1000), ("fit", 10000), ("refresh", 10000))
BATCH, ROUNDS = 1000, 20  # requests of a batch; batches measured
SHOP = 200  # products that are priced


def make(products: int, folder: Path) -> dict[str, Any]:
    """Saves the panel of a market with a category for every fifty products."""
    market = simulate(MarketConfig(products=products, categories=max(products // 50, 6), seed=SEED, future=28))
    save_panel(build_panel(market.frame(), load_config().data), folder)
    return {}


def case(kind: str, folder: Path) -> dict[str, Any]:
    """Runs one case on the panel in `folder`."""
    config = load_config().demand
    panel = load_panel(folder)
    found: dict[str, Any] = {"case": kind, "products": len(panel.product_ids), "rows": int(panel.present.sum())}
    if kind == "refresh":
        earlier = panel.through(panel.dates[-2])
        model = fit(earlier, config.model_copy(update={"steps": 2, "demand_steps": 2, "price_steps": 2})).model
        newest = panel.through(panel.dates[-1])
        begun = _now()
        model.refresh(newest)
        return found | _since(begun, memory=False)
    begun = _now()
    if kind == "backtest":
        backtest(panel, config.model_copy(update={"folds": 5}))
    else:
        fit(panel, config)
    return found | _since(begun, memory=True)


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _since(begun: tuple[float, float], *, memory: bool) -> dict[str, float]:
    peak = {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6} if memory else {}
    return {"seconds": time.monotonic() - begun[0], "cpu_seconds": time.process_time() - begun[1], **peak}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a case."""
    lines = []
    for row in rows:
        peak = f"{row['peak_gb']:.1f} GB" if "peak_gb" in row else ""
        lines.append([row["case"], f"{row['products']:,}", f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", peak])
    return markdown(["case", "products", "seconds", "CPU seconds", "peak memory"], lines)


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


def _run(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Runs every case, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=("make", "backtest", "fit", "refresh", "price"))
    parser.add_argument("products", nargs="?", type=int)
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args(argv)
    if options.kind == "price":
        print(f"{measured()}\n{prices()}")
        return
    if options.kind is not None:
        if options.folder is None:
            parser.error("one case needs a number of products and a folder")
        run = make(options.products, options.folder) if options.kind == "make" else case(options.kind, options.folder)
        print(json.dumps(run))
        return
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for products in sorted({products for _, products in CASES}):
            _run("make", str(products), f"{place}/{products}")
        for kind, products in CASES:
            rows.append(_run(kind, str(products), f"{place}/{products}"))
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{measured()}\n{platform.machine()}, Python {platform.python_version()}.\n\n{table(rows)}")


if __name__ == "__main__":
    main()
