"""How long the market takes and what memory it needs, each size in a process of its own.

python -m benchmarks.market_speed      writes benchmarks/market_speed.json
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from simulation.market import MarketConfig, simulate
from simulation.policies import Oracle, static
from simulation.rollforward import roll_forward

CASES = ("simulate 60", "simulate 1000", "simulate 10000", "static 1000", "oracle 1000")


def run(case: str) -> dict[str, object]:
    """Runs one case in this process."""
    kind, products = case.split()
    config = MarketConfig(products=int(products))
    market = None if kind == "simulate" else simulate(config)
    started = time.monotonic()
    if market is None:
        rows = len(simulate(config).frame())
        what = f"{config.products:,} products × {config.days} days, as a frame of {rows:,} rows"
    else:
        roll_forward(market, static if kind == "static" else Oracle(market), days=90)
        what = f"90 days of {config.products:,} products under {kind}"
    seconds = time.monotonic() - started
    return {"what": what, "seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def main() -> None:
    """Runs every case and writes the results."""
    if len(sys.argv) > 1:
        print(json.dumps(run(" ".join(sys.argv[1:]))))
        return
    rows = []
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.market_speed", *case.split()]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1])
    path = Path(__file__).parent / "market_speed.json"
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
