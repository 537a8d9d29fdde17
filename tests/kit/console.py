"""A console for tests: a PRICING_HOME with a price table of any size, a published version, keys, and a client."""

import datetime as dt
import gzip
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from console.access import Access
from console.app import create_app
from console.shop import Shop
from pipelines.steps.decisions import COLUMNS
from pricing.config import read_config_file
from pricing.objects import FolderStore
from pricing.registry.published_store import put_prices
from tests.kit.serving import publish
from tests.kit.versions import product_names, shared_version

KEYS = {"ann": "the-key-of-ann-0123456789", "bob": "the-key-of-bob-0123456789", "eve": "the-key-of-eve-0123456789"}
ROLES = {"ann": "decide", "bob": "decide", "eve": "look"}
BEYOND = 0.05


def price_table(products: list[str], *, change: Any = 0.10, **columns: Any) -> pd.DataFrame:
    """A table as `pricing price` writes it; every price moves by `change`, a fraction, or one for each product."""
    rng, count = np.random.default_rng(5), len(products)
    current = np.round(rng.uniform(2, 40, count), 2)
    gain = np.round(rng.gamma(1.0, 30.0, count), 4)
    proposed = np.round(current * (1 + np.broadcast_to(change, count)), 2)
    values: dict[str, Any] = {
        "row": np.arange(1, count + 1), "product_id": products, "date": "2023-08-02", "recommended_price": proposed,
        "confidence": np.round(rng.uniform(0.5, 0.99, count), 3), "price_low": proposed, "price_high": proposed,
        "expected_units": np.round(rng.gamma(2.0, 4.0, count), 2), "expected_margin": 1.0, "expected_gain": gain,
        "gain_low": gain - 20, "gain_high": gain + 20, "source": "model", "reasons": "",
        "binds": "max_move", "gave_way": "", "strategy": "margin", "model_version": "7",
        "decision_id": [f"{number:032x}" for number in range(count)], "current_price": current,
        "list_price": current, "unit_cost": current * 0.6, "tax_rate": 0.0, "comp_price_used": np.nan,
        "comp_price_age": np.nan, "proposed_price": proposed, "category": "drinks", "current_stock": 100.0,
        "name": "", "step": "target",
    }  # fmt: skip
    return pd.DataFrame(values | columns, columns=list(COLUMNS))


def packed(table: pd.DataFrame) -> bytes:
    """A table as it is published."""
    return gzip.compress(table.to_csv(index=False).encode())


def put_table(home: Path, table: pd.DataFrame) -> None:
    """Puts a table where `pricing price` does."""
    put_prices(FolderStore(home / "published"), packed(table), model="pricing", at=dt.datetime.now(dt.UTC))


def shop_home(home: Path, table: pd.DataFrame | None = None, *, beyond: float | None = BEYOND, more: str = "") -> Path:
    """Fills a PRICING_HOME: the table, a published version, keys and a configuration."""
    home.mkdir(parents=True, exist_ok=True)
    put_table(home, price_table(product_names()) if table is None else table)
    publish(str(home / "published"), shared_version(), version="7")
    lines = [f"{name} {key} {ROLES[name]}" for name, key in KEYS.items()]
    (home / "keys").write_text("\n".join([*lines, "till key-of-the-till-0123456789 price"]))
    said = f"decision:\n  approve_beyond: {'null' if beyond is None else beyond}\n{more}"
    (home / "shop.yaml").write_text(said)
    return home


def environment(home: Path, **more: str) -> dict[str, str]:
    """What the programs are started with."""
    return {
        "PRICING_HOME": str(home),
        "PRICING_CONFIG": str(home / "shop.yaml"),
        "PRICING_API_KEYS_FILE": str(home / "keys"),
        "PRICING_KEYS": "required",
        **more,
    }


@dataclass(frozen=True)
class Visitor:
    """A person at a browser without one."""

    client: FlaskClient
    headers: Mapping[str, str]

    def see(self, address: str, status: int = 200) -> str:
        answer = self.client.get(address, headers=dict(self.headers))
        assert answer.status_code == status, answer.text
        return answer.text

    def send(self, address: str, page: str, **fields: Any) -> TestResponse:
        """Sends a form with what its page hid in it: token, table, and what was seen."""
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
        kept = {name: hidden[name] for name in ("csrf", "table", "seen", "query", "count") if name in hidden}
        kept = {name: value.replace("&amp;", "&") for name, value in kept.items()}
        return self.client.post(address, data=kept | fields, headers=dict(self.headers))

    def decide(self, **fields: Any) -> TestResponse:
        """Sends a decision from the first page of the list."""
        return self.send("/decide", self.see("/"), **fields)


@dataclass(frozen=True)
class Console:
    """A console, and its visitors."""

    shop: Shop
    home: Path
    app: Any

    def anybody(self, **headers: str) -> Visitor:
        return Visitor(self.app.test_client(), {name.replace("_", "-"): value for name, value in headers.items()})

    def visitor(self, name: str) -> Visitor:
        """A person who has logged in."""
        found = self.anybody()
        page = found.see("/login")
        assert found.send("/login", page, key=KEYS[name]).status_code == 302
        return found


@contextmanager
def open_console(home: Path, *, host: str = "127.0.0.1", **more: str) -> Iterator[Console]:
    """A console around a home that `shop_home` filled."""
    given = environment(home, **more)
    file = read_config_file(given["PRICING_CONFIG"])
    shop = Shop(file, given, home=home)
    shop.look()
    yield Console(shop, home, create_app(shop, Access(file.config, given, host=host)))
