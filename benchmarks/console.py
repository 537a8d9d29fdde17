"""Measure how long a page of the console takes, by its server, where the price table is large.

python -m benchmarks.console --products 100000

One client without a browser asks for one page after the other, with another product, filter or page each time. The
published version knows `--known` products of the table, those with the most money, so that a what-if prices by the
model; the cost of a page does not depend on how many others it knows. An approval of half of them is in the record.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil

from benchmarks.table import markdown, measured
from pricing.data.panel import save_panel
from pricing.decision.switches import Review
from tests.kit.console import environment, price_table, shop_home
from tests.kit.control import NOW, table
from tests.kit.servers import free_port, python, running
from tests.kit.serving import publish
from tests.kit.versions import make_panel, make_version


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--products", type=int, default=100_000)
    options.add_argument("--known", type=int, default=1_000)
    options.add_argument("--times", type=int, default=60, help="requests of each kind of page")
    given = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        print(f"{given.products:,} products, {given.times} requests of each kind, one at a time.\n")
        print("\n".join(_measured(Path(folder), given.products, given.known, times=given.times)))
    return 0


def _measured(folder: Path, products: int, known: int, *, times: int) -> list[str]:
    panel, home, rng = make_panel(products=known), folder / "home", np.random.default_rng(1)
    names = [*panel.product_ids.tolist(), *(f"Q{number:07d}" for number in range(products - known))]
    change = rng.choice([-0.1, -0.04, 0.0, 0.03, 0.08], products)
    categories = rng.choice([f"category {number}" for number in range(40)], products)
    frame = price_table(names, change=change, category=categories)
    frame.loc[: known - 1, "expected_gain"] += 1_000
    frame["reasons"] = rng.choice(["held", "stock_short", "", "low_confidence"], products)
    shop_home(home, frame)
    save_panel(panel, home / "panel")
    make_version(folder / "version", panel=panel)
    publish(str(home / "published"), folder / "version", version="8")
    half = dict(zip(names[::2], frame["proposed_price"][::2].tolist(), strict=True))
    table(home).append(Review(verdict="approve", prices=half, reason="all", by="ann", at=NOW))
    draw = random.Random(1)
    pages: dict[str, Callable[[], str]] = {
        "Today": lambda: f"/?page={draw.randint(1, 200)}",
        "Today, filtered": lambda: (
            f"/?show=all&category=category+{draw.randint(0, 39)}&least=5&q={draw.randint(0, 99)}"
        ),
        "Product": lambda: "/products/" + quote(draw.choice(names[:known])),
        "What if, one product": lambda: f"/what-if?change={draw.randint(-20, 20)}&product={draw.choice(names[:known])}",
        "What if, a list": lambda: f"/what-if?show=all&change={draw.randint(-20, 20)}",
        "Portfolio": lambda: "/portfolio",
        "Price file": lambda: "/price-file",
    }
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    given = environment(home, PRICING_KEYS="none", PORT=str(port), PYTHONPATH=str(Path.cwd()))
    rows = []
    with running(
        python("pricing.runtime.command", "console"),
        ready=f"{address}/health/live",
        log=folder / "log",
        environment=given,
    ):
        for name, page in pages.items():
            _seconds(address + page())  # fills what is kept
            before = _worked(port)
            took = [_seconds(address + page()) for _ in range(times)]
            worked = (_worked(port) - before) / times
            rows.append([name, *(f"{1000 * value:.0f}" for value in (*np.quantile(took, (0.5, 0.95, 1.0)), worked))])
    return [markdown(["page", "median ms", "p95 ms", "slowest ms", "processor ms"], rows), measured()]


def _worked(port: int) -> float:
    """Processor seconds of the server on a port so far, which say more than the clock where others use the machine."""
    found = 0.0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PORT") == str(port):
                found += sum(process.cpu_times()[:2])
    return found


def _seconds(url: str) -> float:
    started = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        answer.read()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
