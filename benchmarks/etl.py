"""Measure what `etl` costs: ten million order lines, and a night of 50,000. `python -m benchmarks.etl` prints Markdown.

Two years of 2,000 products lie in Parquet or CSV files of months, with a daily count of stock and a product master.
Each run is a process of its own; memory is its largest. Core seconds tell what a busy machine hides.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import duckdb

ROOT = Path(__file__).parents[1]
PRODUCTS, DAYS, NIGHT, LAST = 2_000, 730, 50_000, date(2026, 6, 30)
CONFIG = """
time_zone: Europe/Berlin
etl:
  tables:
    order_lines: {{location: {folder}/lines, columns: {{time: ordered_at, product_id: sku}}}}
    stock: {{location: {folder}/stock.parquet, columns: {{time: counted_at, product_id: sku, quantity: on_hand}}}}
    products: {{location: {folder}/products.parquet, columns: {{product_id: sku, unit_cost: cost}}}}
"""
# Product n sells by its rank: a few sell most, as in shops. Prices move weekly by up to 10 % around 1 to 30.
LINES = """
SELECT i AS line_id, TIMESTAMP '{start} 06:00' + to_days(day::INTEGER) + to_seconds(i * 7919 % 43200) AS ordered_at,
    'SKU' || lpad(p::VARCHAR, 6, '0') AS sku, CASE WHEN i % 97 = 0 THEN -1 ELSE 1 + i % 3 END AS quantity,
    round((1 + p % 30) * (0.9 + 0.1 * ((p * 31 + (day // 7) * 17) % 100) / 100.0), 2) AS unit_price, 'sold' AS status
FROM (
    SELECT i, {day} AS day, (pow(((i * 7907) % 1000003) / 1000003.0, 2) * {products})::BIGINT AS p
    FROM range({first}, {last}) AS lines(i)
)
"""


def fill(folder: Path, *, lines: int, form: str) -> None:
    """Writes the history, and the next day's lines into a file that does not count yet."""
    con = duckdb.connect()
    start = LAST - timedelta(days=DAYS - 1)
    (folder / "lines").mkdir()
    options = "FORMAT parquet" if form == "parquet" else "FORMAT csv, HEADER"
    parts = 24
    for part in range(parts):
        first, last = part * lines // parts, (part + 1) * lines // parts
        query = LINES.format(start=start, products=PRODUCTS - 1, day=f"(i * {DAYS} // {lines})", first=first, last=last)
        con.execute(f"COPY ({query}) TO '{folder}/lines/{part:02d}.{form}' ({options})")
    query = LINES.format(start=start, products=PRODUCTS - 1, day=DAYS, first=lines, last=lines + NIGHT)
    con.execute(f"COPY ({query}) TO '{folder}/next.{form}' ({options})")
    sku = "'SKU' || lpad(p::VARCHAR, 6, '0') AS sku"
    con.execute(
        f"""COPY (SELECT TIMESTAMP '{start} 05:00' + to_days(d::INTEGER) AS counted_at, {sku},
        50 + (p * 13 + d) % 400 AS on_hand FROM range({DAYS + 1}) AS days(d), range({PRODUCTS}) AS products(p))
        TO '{folder}/stock.parquet' (FORMAT parquet)"""
    )
    con.execute(
        f"""COPY (SELECT {sku}, 'category ' || p % 20 AS category, 1.0 + p % 30 AS list_price,
        round((1 + p % 30) * 0.6, 2) AS cost, DATE '{start}' AS valid_from FROM range({PRODUCTS}) AS products(p))
        TO '{folder}/products.parquet' (FORMAT parquet)"""
    )


def run(folder: Path) -> str:
    """One `etl`: seconds, those of a core, its process's largest memory in MB, and rows made, as cells."""
    command = [sys.executable, "-m", "etl", "--config", f"{folder}/my.yaml", "--report", f"{folder}/report.json"]
    environment = {**os.environ, "PRICING_HOME": f"{folder}/home"}
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"etl failed with status {status}")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return f"{seconds:.1f} | {used.ru_utime + used.ru_stime:.1f} | {used.ru_maxrss / 1024:,.0f} | {report['rows']:,}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--forms", nargs="*", default=["parquet", "csv"], choices=["parquet", "csv"])
    options = parser.parse_args(argv)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    print(f"*{date.today()}, commit {commit.stdout.strip()}, {os.cpu_count()} cores.*\n")
    print("| order lines | files | run | seconds | core seconds | MB | rows |\n|---|---|---|---|---|---|---|")
    for form in options.forms:
        with tempfile.TemporaryDirectory(prefix="etl-bench-") as scratch:
            folder = Path(scratch)
            (folder / "my.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
            fill(folder, lines=options.lines, form=form)
            for what in ("first", "night"):
                if what == "night":
                    (folder / f"next.{form}").rename(folder / "lines" / f"99.{form}")
                lines = options.lines if what == "first" else NIGHT
                print(f"| {lines:,} | {form} | {what} | {run(folder)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
