"""What monitoring costs as its log grows: `python -m benchmarks.log_scale`, in about 5 minutes on 2 cores and 4 GB.

A shop of so many products with one decision a product and day. Each row is a process of its own that reads the decision
log for one night: whole, line by line, as a reader without an index must; or from the archive, the days that an
evaluation looks at and their columns alone. Prints the table of benchmarks/log_scale.md and writes it.
"""

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.provenance import stamp, take
from monitoring.decisions import load_decisions
from pricing.config import load_config
from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log.archive import default_archive, write_archive
from pricing.decision_log.format import LogEntry, decode_line, read_decisions
from pricing.decision_log.writer import LogWriter

HERE = Path(__file__).parent
PAGE = "log_scale.md"
TODAY = dt.date(2026, 6, 30)
STEPS = 9  # candidates in a line


def entry(product: int, day: dt.date) -> LogEntry:
    """One decision of the made-up shop."""
    price = 5.0 + product % 97
    request = PriceRequest(product_id=f"SKU{product:06d}", current_stock=40, day_of_week="Friday", comp_price=price)
    decision = Decision(
        recommended_price=price,
        confidence=0.9,
        price_range=(price, price),
        expected_units=4.2,
        expected_margin=8.4,
        source="model",
        reasons=["at_max_move"],
        strategy="margin",
        model_version="7",
        decision_id=f"{day:%y%m%d}{product:026d}",
    )
    return LogEntry(
        request=request,
        decision=decision,
        at=dt.datetime.combine(day, dt.time(3), dt.UTC),
        date=day,
        category=f"category {product % 20}",
        current_price=price,
        list_price=price,
        unit_cost=price / 2,
        candidate_prices=[price * (0.8 + 0.05 * step) for step in range(STEPS)],
        candidate_units=[6.0 - 0.37 * step for step in range(STEPS)],
        candidate_sizes=[3.0] * STEPS,
    )


def write(home: Path, *, products: int, days: int) -> None:
    """Writes the archive of the days before today, and today's log."""
    log = LogWriter(home / "decisions", flush_seconds=0.1)
    log.append([entry(product, TODAY) for product in range(products)])
    log.close()
    for back in range(1, days):
        day = TODAY - dt.timedelta(days=back)
        lines = (
            b'{"schema":2,"worker":"night","sequence":%d,%b'
            % ((days - back) * products + product + 1, entry(product, day).encode()[1:])
            for product in range(products)
        )
        records = [record for record in map(decode_line, lines) if record is not None]
        write_archive(records, to=str(default_archive(home / "decisions")), name=f"decisions-night-{days - back:012d}")


def read(home: Path, how: str) -> dict[str, float]:
    """Reads the log once; returns seconds, decisions and the process's largest memory, MB."""
    folder, start = home / "decisions", time.perf_counter()
    if how == "whole":
        rows = len(read_decisions(folder).records)
    else:
        since = TODAY - dt.timedelta(days=load_config().monitoring.days_looked_at)
        now = dt.datetime.combine(TODAY, dt.time(4), dt.UTC)
        rows = len(load_decisions(folder, now=now, since=since)[0])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "rows": rows, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(products: int, days: int) -> list[dict[str, float | str]]:
    """The rows of one shop."""
    with tempfile.TemporaryDirectory(prefix="pricing-log-") as scratch:
        home = Path(scratch)
        write(home, products=products, days=days)
        size = sum(file.stat().st_size for file in home.rglob("*.parquet")) / 1e6
        rows: list[dict[str, float | str]] = []
        for how in ("whole", "window"):
            command = [sys.executable, "-m", "benchmarks.log_scale", "--read", how, "--home", scratch]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"products": products, "days": days, "how": how, "archive": size, **json.loads(done.stdout)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", choices=("whole", "window"))
    parser.add_argument("--home", type=Path)
    options = parser.parse_args(argv)
    if options.read:
        print(json.dumps(read(options.home, options.read)))
        return 0
    taken = take(PAGE)
    rows = [row for products, days in ((1_000, 30), (1_000, 365)) for row in measure(products, days)]
    names = {"whole": "every line", "window": "the days looked at, by column"}
    table = ["| products | days | read | decisions | seconds | µs each | MB | archive, MB |", "|" + "---|" * 8]
    for row in rows:
        each = float(row["seconds"]) / float(row["rows"]) * 1e6
        table.append(
            f"| {row['products']:,} | {row['days']} | {names[str(row['how'])]} | {row['rows']:,} "
            f"| {row['seconds']:.1f} | {each:.0f} | {row['mb']:,.0f} | {row['archive']:,.0f} |"
        )
    page = HERE / PAGE
    text = page.read_text(encoding="utf-8")
    begin, end = text.index("<!-- table -->\n"), text.index("<!-- end -->")
    page.write_text(text[:begin] + "<!-- table -->\n" + "\n".join(table) + "\n" + text[end:], encoding="utf-8")
    stamp(page, taken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
