"""A small made-up shop in an SQLite file: order lines, counts of stock and a product master, day by day."""

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

FIRST = dt.date(2026, 1, 20)


class Shop:
    """The shop; every change is committed at once."""

    def __init__(self, folder: Path, *, products: int = 5, seed: int = 0, stores: int = 1) -> None:
        self.file = folder / "shop.db"
        self.rng = np.random.default_rng(seed)
        self.products = [f"P{number}" for number in range(products)]
        self.stores = [f"S{number}" for number in range(stores)] if stores > 1 else [""]
        self.day = FIRST
        self.line = 0
        self.prices: dict[tuple[dt.date, str, str], float] = {}  # on the shelf
        self.sold: list[tuple[dt.date, str, str, float]] = []  # units that may come back
        self.execute("CREATE TABLE lines (line_id INTEGER, at TEXT, sku TEXT, store TEXT, quantity REAL, paid REAL)")
        self.execute("CREATE TABLE counts (day TEXT, sku TEXT, store TEXT, quantity REAL)")
        self.execute("CREATE TABLE master (sku TEXT, category TEXT, cost REAL)")
        self.execute("CREATE TABLE leaflets (sku TEXT, begins TEXT, ends TEXT)")
        self.execute("CREATE TABLE fairs (date TEXT, name TEXT)")
        self.execute("CREATE TABLE trucks (sku TEXT, store TEXT, day TEXT)")
        for number, product in enumerate(self.products):
            self.execute("INSERT INTO master VALUES (?, ?, ?)", product, f"category {number % 2}", 1.0 + number)
        self.execute("INSERT INTO leaflets VALUES ('P1', '2026-03-02', '2026-03-08')")
        self.execute("INSERT INTO fairs VALUES ('2026-03-04', 'Spring fair')")
        self.execute("INSERT INTO trucks VALUES ('P1', ?, '2026-03-09')", self.stores[0])

    @property
    def tables(self) -> dict[str, Any]:
        """The setting etl.tables."""
        at = f"sqlite:///{self.file}#"
        store = {"store": "store"} if len(self.stores) > 1 else {}
        return {
            "order_lines": {
                "location": f"{at}lines",
                "columns": {"time": "at", "product_id": "sku", "unit_price": "paid", **store},
            },
            "stock": {"location": f"{at}counts", "columns": {"time": "day", "product_id": "sku", **store}},
            "products": {"location": f"{at}master", "columns": {"product_id": "sku", "unit_cost": "cost"}},
            "promotions": {
                "location": f"{at}leaflets",
                "columns": {"product_id": "sku", "first": "begins", "last": "ends"},
            },
            "events": {"location": f"{at}fairs"},
            "deliveries": {"location": f"{at}trucks", "columns": {"product_id": "sku", "date": "day", **store}},
        }

    @property
    def evening(self) -> dt.datetime:
        """When the night after the last day of trade begins."""
        return dt.datetime.combine(self.day, dt.time(2), dt.UTC)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def sell(self, product: str, units: float, *, day: dt.date, price: float = 5.0, store: str = "") -> None:
        self.line += 1
        at = f"{day}T{8 + self.line % 12:02d}:30:00+01:00"
        self.execute(
            "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?)", self.line, at, product, store or self.stores[0], units, price
        )

    def trade(self, days: int = 1) -> None:
        """Trades on further days: sales, returns of the days before, counts that may lack, and late lines."""
        for _ in range(days):
            for number, product in enumerate(self.products):
                for store in self.stores:
                    if self.rng.random() < 0.7:
                        units = float(self.rng.choice([0, 3, 9], p=[0.3, 0.3, 0.4]))
                        self.execute(
                            "INSERT INTO counts VALUES (?, ?, ?, ?)",
                            f"{self.day}T05:00:00+01:00",
                            product,
                            store,
                            units,
                        )
                    price = 5.0 + number + float(self.rng.integers(0, 2))
                    self.prices[self.day, product, store] = price
                    for _ in range(int(self.rng.choice([0, 0, 0, 1, 2]))):
                        units = int(self.rng.integers(1, 4))
                        self.sell(product, units, day=self.day, price=price, store=store)
                        self.sold += [(self.day, product, store, price)] * units
            self.sold = [one for one in self.sold if one[0] > self.day - dt.timedelta(days=4)]
            if self.sold and self.rng.random() < 0.5:
                _, product, store, price = self.sold.pop(int(self.rng.integers(len(self.sold))))
                self.sell(product, -1, day=self.day + dt.timedelta(days=1), price=price, store=store)
            if self.rng.random() < 0.3 and self.day > FIRST + dt.timedelta(days=4):
                late = self.day - dt.timedelta(days=int(self.rng.integers(1, 4)))
                product, store = str(self.rng.choice(self.products)), str(self.rng.choice(self.stores))
                self.sell(product, 2, day=late, price=self.prices[late, product, store], store=store)
            self.day += dt.timedelta(days=1)
