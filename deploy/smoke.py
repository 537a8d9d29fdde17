"""Ask a running service whether it prices as promised: readiness, version, keys, guardrails, time, a bounded load.

`python -m deploy.smoke URL`, or `--environment staging` for the domain in `environments.yaml`. With a URL it needs the
standard library alone. Every request is a dry run: the decision log keeps nothing of it.
"""

import argparse
import datetime as dt
import http.client
import json
import math
import os
import ssl
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEY_VARIABLE = "PRICING_SMOKE_KEY"
TIMEOUT = 10.0  # seconds for an answer
PRICE = "/get_price?dry_run=true"
UNKNOWN = "smoke-test"  # a product that no model knows, priced where none is served
WITHOUT_MODEL = {"no_model", "model_failed"}  # reasons; a rule has others that are as it should be, such as a holdout
NO_VERSION = "none"  # the version of answers where none is served
EDGE = 1e-6  # share of a price; what rounding may do at a limit
FAILED = 1


@dataclass(frozen=True)
class Check:
    """One promise, and what was found.

    Attributes:
        name: Of the promise.
        passed: Whether it is kept.
        found: In words.
    """

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status; 0 where nothing came back.
        body: Parsed JSON; the text, or the reason, where it is none.
        seconds: From the first byte sent to the last one read.
    """

    status: int
    body: Any
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What counts as kept.

    Attributes:
        version: Version that must be served; absent: any.
        by_rule: Whether prices by rule will do, since nothing is promoted yet.
        largest_move: Share by which a price may lie from the last one charged (`serving.largest_jump`).
        latency_ms: Median time to a single price.
        p99_ms: 99th percentile under load.
        failed: Share of requests under load that may fail.
    """

    version: str | None = None
    by_rule: bool = False
    largest_move: float = 0.3
    latency_ms: float = 250.0
    p99_ms: float = 500.0
    failed: float = 0.001


class Connection:
    """One kept-alive connection, opened anew after a fault."""

    def __init__(self, url: str, *, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url}: expected http://HOST or https://HOST")
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._key = key
        self._open: http.client.HTTPConnection | None = None

    def ask(self, path: str, body: Any = None, *, with_key: bool = True) -> Answer:
        """Sends GET, or POST where there is a body; a fault of the network is an answer with status 0."""
        headers = {"Content-Type": "application/json"}
        if with_key and self._key:
            headers["X-API-Key"] = self._key
        begun = time.perf_counter()
        try:
            connection = self._open or self._connect()
            connection.request(
                "GET" if body is None else "POST",
                self._path + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
            )
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(0, f"{type(error).__name__}: {error}", time.perf_counter() - begun)
        seconds = time.perf_counter() - begun
        if response.will_close:
            self.close()
        try:
            return Answer(response.status, json.loads(text), seconds)
        except ValueError:
            return Answer(response.status, text[:200], seconds)

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            self._open = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        else:
            self._open = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=self._tls)
        return self._open


def check_ready(connection: Connection, limits: Limits, *, wait_seconds: float) -> Check:
    """Waits until the service is ready and serves the version expected, or answers by rule where that will do."""
    deadline = time.monotonic() + wait_seconds
    while True:
        answer = connection.ask("/health/ready")
        version = answer.body.get("model_version") if isinstance(answer.body, dict) else None
        if answer.status == 200 and limits.version in (None, version):
            return Check("ready", True, f"version {version}")
        if limits.by_rule and connection.ask("/health/live").status == 200:
            return Check("ready", True, f"version {NO_VERSION}")
        if time.monotonic() >= deadline:
            break
        time.sleep(1)
    if answer.status == 200:
        return Check("ready", False, f"serves version {version}, expected {limits.version}, after {wait_seconds:g} s")
    return Check("ready", False, f"status {answer.status}: {_words(answer)}, after {wait_seconds:g} s")


def check_refusals(connection: Connection, *, keyed: bool) -> list[Check]:
    """Whether what must not be answered is refused."""
    bad = connection.ask(PRICE, {"product_id": UNKNOWN, "current_stock": -1})
    checks = [Check("a bad request is refused", bad.status in (400, 422), f"status {bad.status}")]
    if keyed:
        bare = connection.ask(PRICE, request_of({"product_id": UNKNOWN, "price": 1.0}), with_key=False)
        checks.append(Check("a request without a key is refused", bare.status == 401, f"status {bare.status}"))
    return checks


def products_of(connection: Connection, *, most: int) -> list[dict[str, Any]]:
    """At most so many products of the served version, spread over all; none without a version."""
    body = connection.ask("/products").body
    listed = body.get("products", []) if isinstance(body, dict) else []
    step = max(1, math.ceil(len(listed) / most))
    return list(listed[::step])


def request_of(product: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a price of a product as /products describes it."""
    stock = product.get("stock")
    return {
        "product_id": product["product_id"],
        "current_stock": None if stock is None else max(0, math.floor(stock)),
        "day_of_week": dt.date.today().strftime("%A"),
        "comp_price": product.get("comp_price"),
        "is_promo": False,
        **({} if product.get("price") is None else {"current_price": product["price"]}),
    }


def check_prices(
    answers: Sequence[tuple[Mapping[str, Any], Answer]], limits: Limits, *, version: str | None
) -> list[Check]:
    """Judges prices.

    Args:
        answers: Each product with the answer to its request.
        limits: What they must keep.
        version: That readiness told.
    """
    complaints: dict[str, list[str]] = {"prices": [], "served by the model": [], "one version": [], "guardrails": []}
    for product, answer in answers:
        name, body = product["product_id"], answer.body
        price = body.get("recommended_price") if isinstance(body, dict) else None
        if answer.status != 200 or not isinstance(price, int | float) or not (math.isfinite(price) and price > 0):
            complaints["prices"].append(f"{name}: status {answer.status}, {_words(answer)}")
            continue
        if WITHOUT_MODEL.intersection(body["reasons"]) and not limits.by_rule:
            complaints["served by the model"].append(f"{name}: by {body['source']}, {', '.join(body['reasons'])}")
        if body["model_version"] != version:
            complaints["one version"].append(f"{name}: version {body['model_version']}, readiness said {version}")
        low, high = body["price_range"]
        charged = product.get("price")
        if not low * (1 - EDGE) <= price <= high * (1 + EDGE):
            complaints["guardrails"].append(f"{name}: {price:g} lies outside its range {low:g} to {high:g}")
        elif charged and body["source"] != "override" and abs(price / charged - 1) > limits.largest_move + EDGE:
            complaints["guardrails"].append(f"{name}: {price:g} instead of {charged:g} is a move beyond the limit")
    good = f"{len(answers)} products"
    return [Check(name, not found, "; ".join(found[:3]) or good) for name, found in complaints.items()]


def check_latency(answers: Sequence[Answer], limits: Limits) -> Check:
    """Whether a single price comes in time, by the median."""
    median = 1000 * statistics.median(answer.seconds for answer in answers)
    return Check("latency", median <= limits.latency_ms, f"median {median:.1f} ms, limit {limits.latency_ms:g} ms")


def check_load(
    url: str,
    bodies: Sequence[Mapping[str, Any]],
    limits: Limits,
    *,
    key: str | None,
    seconds: float,
    connections: int,
    rate: float,
) -> Check:
    """Sends requests at an even pace, and judges the share that failed and the slowest per cent.

    Args:
        url: Of the service.
        bodies: Requests, sent in turn.
        limits: What is kept.
        key: API key.
        seconds: How long; a service that hangs adds one timeout.
        connections: How many at once.
        rate: Requests a second, at most, over all connections.
    """
    answers: list[Answer] = []
    begun = time.monotonic()

    def send(place: int) -> None:
        connection = Connection(url, key=key)
        due = begun + place / rate
        while due < begun + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            answers.append(connection.ask(PRICE, bodies[place % len(bodies)]))
            place += connections
            due += connections / rate
        connection.close()

    threads = [threading.Thread(target=send, args=(place,)) for place in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = sum(answer.status != 200 for answer in answers)
    times = sorted(1000 * answer.seconds for answer in answers)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    passed = failed <= limits.failed * len(answers) and p99 <= limits.p99_ms
    found = f"{len(answers)} requests in {seconds:g} s: {failed} failed, p99 {p99:.1f} ms, limit {limits.p99_ms:g} ms"
    return Check("load", passed, found)


def markdown(url: str, checks: Sequence[Check]) -> str:
    """A table of the checks."""
    missed = sum(not check.passed for check in checks)
    title = f"{missed} of {len(checks)} checks failed" if missed else f"all {len(checks)} checks passed"
    rows = [f"| {check.name} | {'pass' if check.passed else '**FAIL**'} | {_cell(check.found)} |\n" for check in checks]
    return f"### Smoke test of {url}: {title}\n\n| check | | found |\n|---|---|---|\n{''.join(rows)}"


def run(url: str, limits: Limits, options: argparse.Namespace, *, key: str | None) -> list[Check]:
    """Runs every check; ends after the first where the service is not ready."""
    with closing(Connection(url, key=key)) as connection:
        ready = check_ready(connection, limits, wait_seconds=options.wait)
        if not ready.passed:
            return [ready]
        products = products_of(connection, most=options.products)
        if not products and not limits.by_rule:
            return [ready, Check("products", False, "/products names none; --by_rule where nothing is promoted yet")]
        products = products or [{"product_id": UNKNOWN, "price": 9.99}]
        asked = [(product, connection.ask(PRICE, request_of(product))) for product in products]
        checks = [
            ready,
            *check_refusals(connection, keyed=key is not None),
            *check_prices(asked, limits, version=ready.found.removeprefix("version ")),
            check_latency([answer for _, answer in asked], limits),
        ]
    if options.load_seconds > 0:
        bodies = [request_of(product) for product in products]
        load = {"seconds": options.load_seconds, "connections": options.connections, "rate": options.rate}
        checks.append(check_load(url, bodies, limits, key=key, **load))
    return checks


def _words(answer: Answer) -> str:
    detail = answer.body.get("detail", answer.body) if isinstance(answer.body, dict) else answer.body
    return str(detail)[:200]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.smoke", description=__doc__)
    parser.add_argument("url", nargs="?", help="of the service, such as http://127.0.0.1:8080")
    parser.add_argument("--environment", help="instead of the URL: one of deploy/environments.yaml")
    parser.add_argument("--version", help="model version that must be served; absent: any")
    parser.add_argument("--by_rule", action="store_true", help="prices by rule will do: nothing is promoted yet")
    parser.add_argument("--wait", type=float, default=60, metavar="S", help="seconds to become ready (default 60)")
    parser.add_argument("--products", type=int, default=20, metavar="N", help="products to price (default 20)")
    parser.add_argument("--largest_move", type=float, default=0.3, metavar="SHARE", help="of a price (default 0.3)")
    parser.add_argument("--latency_ms", type=float, default=250, metavar="MS", help="median (default 250)")
    parser.add_argument("--load_seconds", type=float, default=0, metavar="S", help="of load; 0: none (default)")
    parser.add_argument("--rate", type=float, default=50, metavar="N", help="requests a second of load (default 50)")
    parser.add_argument("--connections", type=int, default=8, metavar="N", help="of load (default 8)")
    parser.add_argument("--p99_ms", type=float, default=500, metavar="MS", help="under load (default 500)")
    parser.add_argument("--failed", type=float, default=0.001, metavar="SHARE", help="under load (default 0.001)")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append the table to this file, too")
    options = parser.parse_args(argv)
    if (options.url is None) == (options.environment is None):
        parser.error("give the URL, or --environment, and not both")
    if options.products < 1 or options.connections < 1 or options.rate <= 0:
        parser.error("--products, --connections and --rate must be above 0")
    return options


def _url(options: argparse.Namespace) -> str:
    if options.url is not None:
        return str(options.url).rstrip("/")
    from deploy.environment import environment_named  # noqa: PLC0415 - needs packages, which a URL does not

    return f"https://{environment_named(options.environment).domain}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the checks; returns 0 where all passed, 1 where one failed, 2 where they could not be asked for."""
    options = _options(argv)
    limits = Limits(
        version=options.version,
        by_rule=options.by_rule,
        largest_move=options.largest_move,
        latency_ms=options.latency_ms,
        p99_ms=options.p99_ms,
        failed=options.failed,
    )
    try:
        url = _url(options)
        checks = run(url, limits, options, key=os.environ.get(KEY_VARIABLE) or None)
    except ValueError as error:  # a URL that is none, or an environment that there is not
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = markdown(url, checks)
    print(table)
    if options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(table + "\n")
    return 0 if all(check.passed for check in checks) else FAILED


if __name__ == "__main__":
    sys.exit(main())
