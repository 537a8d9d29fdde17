"""Measure how often a day's price is not the shelf's, by the rule that reads it off order lines.

`python -m benchmarks.tills` prints the tables of tills.md: tills with known truth (`tests/kit/till.py`), where six
bottles cost 5 % less, a share of buyers pays 10 % less, and prices move. Rules beside ours: the average of a day, the
price of most units, that of the upper quarter of lines, the highest.
"""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from benchmarks.table import markdown, measured
from tests.kit.till import till

DEVELOPMENT, SEALED = (1, 2, 3), (101, 102, 103)  # seeds: constants were chosen on the first alone
SHOPS = [(regulars, buyers) for regulars in (0.0, 0.1, 0.2, 0.4) for buyers in (0.3, 1.2, 5.0)]
OURS = Path(__file__).parents[1] / "etl" / "sql" / "shelf_prices.sql"
RULES = {
    "average": "SELECT product_id, date, sum(units * price) / sum(units) AS price FROM lines GROUP BY ALL",
    "most units": "SELECT product_id, date, arg_max(price, units) AS price FROM (SELECT product_id, date, "
    "round(price, 2) AS price, sum(units) AS units FROM lines GROUP BY ALL) GROUP BY ALL",
    "upper quarter": "SELECT product_id, date, quantile_disc(price, 0.75) AS price FROM lines GROUP BY ALL",
    "highest": "SELECT product_id, date, max(price) AS price FROM lines GROUP BY ALL",
}


def wrong(*, regulars: float, buyers: float, seed: int) -> Mapping[str, float]:
    """The share of days with a sale whose price differs from the shelf's by over half a per cent, by rule."""
    shop = till(products=20, days=400, seed=seed, regulars=regulars, buyers=buyers)
    truth = shop.truth.assign(date=pd.to_datetime(shop.truth["date"]))
    sold = shop.lines
    lines = pd.DataFrame(  # noqa: F841 - which DuckDB finds by its name
        {
            "seq": np.arange(len(sold)),
            "moment": sold["sold_at"],
            "date": sold["sold_at"].dt.date,
            "product_id": sold["article"],
            "store": "",
            "units": sold["bottles"].astype(float),
            "price": (sold["paid"] / sold["bottles"]).round(6),
            "full": ((sold["paid"] + sold["discount"]) / sold["bottles"]).round(6),
        }
    )
    found = {}
    for name, full in (("ours", "price"), ("ours, discounts named", '"full"')):
        with duckdb.connect() as con:
            con.execute(f"CREATE TABLE lines AS SELECT *, {full} AS full_price FROM lines")
            con.execute("CREATE TABLE last_prices (product_id VARCHAR, price DOUBLE)")
            con.execute(OURS.read_text(encoding="utf-8"))
            found |= {name: con.execute("FROM shelves").df()}
            found |= {rule: con.execute(query).df() for rule, query in RULES.items()}
    shares = {}
    for rule, rows in found.items():
        days = rows.assign(date=pd.to_datetime(rows["date"])).merge(truth, on=["product_id", "date"])
        shares[rule] = float((abs(days["price"] / days["shelf_price"] - 1) > 0.005).mean())
    return shares


if __name__ == "__main__":
    print(measured())
    rules = [*RULES, "ours", "ours, discounts named"]
    for title, seeds in (("development", DEVELOPMENT), ("sealed", SEALED)):
        table = []
        for regulars, buyers in SHOPS:
            shares = pd.DataFrame([wrong(regulars=regulars, buyers=buyers, seed=seed) for seed in seeds]).mean()
            table.append([f"{regulars:.0%}", f"{buyers:g}", *(f"{shares[rule]:.1%}" for rule in rules)])
        print(markdown([f"{title}: regulars", "buyers a day", *rules], table))
