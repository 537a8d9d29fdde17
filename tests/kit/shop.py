"""A small made-up shop in an SQLite file: order lines, counts of stock and a product master, night by night."""

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from pricing.config import Config, load_config

FIRST = dt.date(2026, 1, 20)
CONFIG = """
data: {{missing: zero}}
sources:
  zone: Europe/Berlin
  sales:
    kind: order_lines
    location: "sqlite:///{file}#lines"
    columns: {{time: at, product_id: sku, unit_price: paid}}
    late_days: 4
    return_days: 10
  stock:
    kind: snapshots
    location: "sqlite:///{file}#counts"
    columns: {{time: day, product_id: sku}}
    late_days: 4
  products:
    location: "sqlite:///{file}#master"
    columns: {{product_id: sku, unit_cost: cost}}
{more}
"""
PLANS = """
  promotions:
    location: "sqlite:///{file}#leaflets"
    columns: {{product_id: sku, first: begins, last: ends}}
  events:
    location: "sqlite:///{file}#fairs"
  deliveries:
    location: "sqlite:///{file}#trucks"
    columns: {{product_id: sku, date: day}}
"""


class Shop:
    """The shop; every change is committed at once."""

    def __init__(self, folder: Path, *, products: int = 5, seed: int = 0, stores: int = 1, more: str = "") -> None:
        self.file = folder / "shop.db"
        self.rng = np.random.default_rng(seed)
        self.products = [f"P{number}" for number in range(products)]
        self.stores = [f"S{number}" for number in range(stores)] if stores > 1 else [""]
        self.day = FIRST
        self.line = 0
        self.execute("CREATE TABLE lines (line_id INTEGER, at TEXT, sku TEXT, store TEXT, quantity REAL, paid REAL)")
        self.execute("CREATE TABLE counts (day TEXT, sku TEXT, store TEXT, quantity REAL)")
        self.execute("CREATE TABLE master (sku TEXT, category TEXT, cost REAL)")
        for number, product in enumerate(self.products):
            self.execute("INSERT INTO master VALUES (?, ?, ?)", product, f"category {number % 2}", 1.0 + number)
        self.path = folder / "shop.yaml"
        self.path.write_text(CONFIG.format(file=self.file, more=more))
        self.config: Config = load_config(self.path)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def sell(self, product: str, units: float, *, day: dt.date, price: float = 5.0, store: str = "") -> None:
        self.line += 1
        at = f"{day}T{8 + self.line % 12:02d}:30:00+01:00"
        self.execute(
            "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?)", self.line, at, product, store or self.stores[0], units, price
        )

    def count(self, product: str, units: float, *, day: dt.date, store: str = "") -> None:
        self.execute("INSERT INTO counts VALUES (?, ?, ?, ?)", str(day), product, store or self.stores[0], units)

    def trade(self, days: int = 1) -> None:
        """Trades on further days: sales, returns of earlier days, counts that may lack, and late lines."""
        for _ in range(days):
            for number, product in enumerate(self.products):
                for store in self.stores:
                    if self.rng.random() < 0.9:
                        self.count(
                            product, float(self.rng.choice([0, 3, 9], p=[0.3, 0.3, 0.4])), day=self.day, store=store
                        )
                    price = 5.0 + number + float(self.rng.integers(0, 2))
                    for _ in range(int(self.rng.integers(0, 3))):
                        self.sell(product, float(self.rng.integers(1, 4)), day=self.day, price=price, store=store)
                    if self.rng.random() < 0.15:
                        self.sell(product, -float(self.rng.integers(1, 5)), day=self.day, price=price, store=store)
            if self.rng.random() < 0.3 and self.day > FIRST + dt.timedelta(days=4):
                late = self.day - dt.timedelta(days=int(self.rng.integers(1, 4)))
                self.sell(str(self.rng.choice(self.products)), 2, day=late, store=str(self.rng.choice(self.stores)))
            self.day += dt.timedelta(days=1)


def planning_shop(folder: Path, *, stores: int = 1, more: str = "") -> Shop:
    """A shop after 20 days, with a promotion, an event and a delivery in March."""
    shop = Shop(folder, stores=stores, more=PLANS.format(file=folder / "shop.db") + more)
    shop.execute("CREATE TABLE leaflets (sku TEXT, begins TEXT, ends TEXT)")
    shop.execute("CREATE TABLE fairs (date TEXT, name TEXT)")
    shop.execute("CREATE TABLE trucks (sku TEXT, store TEXT, day TEXT, quantity REAL)")
    shop.execute("INSERT INTO leaflets VALUES ('P1', '2026-03-02', '2026-03-08')")
    shop.execute("INSERT INTO fairs VALUES ('2026-03-04', 'Spring fair')")
    deliver(shop, "P1", "2026-03-09")
    shop.trade(20)
    return shop


def deliver(shop: Shop, product: str, day: str, *, store: str = "") -> None:
    """Plans a delivery."""
    shop.execute("INSERT INTO trucks VALUES (?, ?, ?, 40)", product, store, day)
