"""A competitor's price API for the demo: the reference format, page by page, with a key, over HTTP.

`python -m pipelines.demo_competitor` runs it alone, with the prices of a small simulated market, to try settings with.
"""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from pricing.runtime.cli import Options, at_least, run_main
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import shop_tables

KEY = "of-the-demo"
_MOST = 10_000  # offers on a page


@dataclass
class CompetitorApi:
    """A running API.

    Attributes:
        port: Where it listens on this machine.
        offers: What it has published so far, in the order of their days.
        calls: Requests that it answered.
    """

    port: int
    _prices: pd.DataFrame
    offers: list[dict[str, object]] = field(default_factory=list)
    calls: int = 0

    def publish(self, first: np.datetime64, last: np.datetime64) -> int:
        """Publishes the prices of the days from `first` to `last`; returns how many."""
        days = pd.to_datetime(self._prices["seen_at"], utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[D]")
        part = self._prices[(days >= first) & (days <= last)].sort_values(["seen_at", "sku"], kind="stable")
        times = pd.to_datetime(part["seen_at"], utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ").tolist()
        names, products, prices = (
            part["competitor"].tolist(),
            part["sku"].tolist(),
            part["price"].astype(float).tolist(),
        )
        new: list[dict[str, object]] = [
            {"competitor": name, "product_id": sku, "price": price, "currency": "EUR", "observed_at": time}
            for time, name, sku, price in zip(times, names, products, prices, strict=True)
        ]
        self.offers += new
        return len(new)


@contextmanager
def competitor_api(prices: pd.DataFrame, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[CompetitorApi]:
    """Starts the API; nothing is published yet.

    Args:
        prices: seen_at (with its zone), sku, competitor and price of all that the competitor will ever ask.
        host: Address to bind.
        port: Port to bind; 0 for a free one.
    """
    server = ThreadingHTTPServer((host, port), _Handler)
    server.api = CompetitorApi(server.server_port, prices)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.api  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers one page of offers."""
        api: CompetitorApi = self.server.api  # type: ignore[attr-defined]
        api.calls += 1
        if self.headers.get("X-Api-Key") != KEY:
            self._answer(401, b'{"error": "key"}')
            return
        asked = parse_qs(urlsplit(self.path).query)
        start = int(asked.get("cursor", ["0"])[0])
        end = start + min(int(asked.get("limit", [str(_MOST)])[0]), _MOST)
        page = {"offers": api.offers[start:end], "next_cursor": str(end) if end < len(api.offers) else None}
        body = json.dumps(page).encode()
        self._answer(200, body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves all prices until a signal; returns the exit code."""
    return run_main(_serve, argv)


def _serve(argv: Sequence[str] | None) -> int:
    options = Options("python -m pipelines.demo_competitor", "Serves the prices of an invented competitor.")
    options.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to bind")
    options.add_argument("--port", default=8099, type=at_least(0), metavar="N", help="port to bind; 0: a free one")
    found = options.parse(argv)
    market = MarketConfig(products=16, days=400)
    frame = simulate(market).frame()
    prices = shop_tables(
        frame, zone=ZoneInfo("Europe/Berlin"), rng=np.random.default_rng(market.seed)
    ).competitor_prices
    with competitor_api(prices, host=found.host, port=found.port) as api:
        api.publish(np.datetime64("0001-01-01"), np.datetime64("9999-12-31"))
        print(f"{len(api.offers):,} offers at http://{found.host}:{api.port}, for X-Api-Key: {KEY}", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
