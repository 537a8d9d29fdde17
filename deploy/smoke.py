"""Ask a running service whether it prices as promised: readiness, version, keys, guardrails.

`python -m deploy.smoke https://HOST`, the key in PRICING_SMOKE_KEY; the standard library is all that it needs. Every
request is a dry run: the decision log keeps nothing of it.
"""

import argparse
import datetime as dt
import json
import math
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TIMEOUT = 10.0  # seconds for an answer
PRICE = "/get_price?dry_run=true"
PRODUCTS = 20  # asked for, at most
WITHOUT_MODEL = {"no_model", "model_failed"}  # reasons; a rule has others that are as it should be, such as a holdout
LARGEST_MOVE = 0.3  # share by which a price may lie from the last one charged (`serving.largest_jump`)
EDGE = 1e-6  # share of a price; what rounding may do at a limit


class Service:
    """A running service, which may ask for no key."""

    def __init__(self, url: str, *, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._key = key

    def ask(self, path: str, body: Any = None, *, with_key: bool = True) -> tuple[int, Any]:
        """Sends GET, or POST where there is a body; returns status (0: a fault of the network) and parsed answer."""
        headers = {"Content-Type": "application/json"}
        if with_key and self._key:
            headers["X-API-Key"] = self._key
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self._url + path, data, headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, error.reason
        except (OSError, ValueError) as error:
            return 0, error


def faults(service: Service, *, version: str | None, by_rule: bool, keyed: bool, wait: float) -> Iterator[str]:
    """Yields each promise that a service does not keep, once it is ready, for which it has `wait` seconds.

    A version None means any; `by_rule`, prices by rule will do; where it is `keyed`, a request without a key must be
    refused.
    """
    served = _ready(service, version=version, by_rule=by_rule, until=time.monotonic() + wait)
    if not served:
        yield f"not ready, or not with version {version or 'any'}, after {wait:g} s: {service.ask('/health/ready')}"
        return
    status, _ = service.ask(PRICE, {"product_id": "smoke-test", "current_stock": -1})
    if status not in (400, 422):
        yield f"a bad request is answered {status}"
    if keyed:
        status, _ = service.ask(PRICE, request_of({"product_id": "smoke-test", "price": 1.0}), with_key=False)
        if status != 401:
            yield f"a request without a key is answered {status}"
    _, listed = service.ask("/products")
    products = listed.get("products", []) if isinstance(listed, dict) else []
    if not products and not by_rule:
        yield "/products names none; --by_rule where nothing is promoted yet"
    products = products[:: max(1, math.ceil(len(products) / PRODUCTS))]
    for product in products or [{"product_id": "smoke-test", "price": 9.99}]:
        yield from _price_faults(product, *service.ask(PRICE, request_of(product)), served=served, by_rule=by_rule)


def _ready(service: Service, *, version: str | None, by_rule: bool, until: float) -> list[str]:
    """Waits until the service is ready.

    Returns:
        The version that it serves, `none` by rule, and the one that an experiment tries beside it; empty where time is
        up.
    """
    while True:
        status, answer = service.ask("/health/ready")
        if status == 200 and version in (None, answer["model_version"]):
            return [name for name in (answer["model_version"], answer.get("challenger")) if name]
        if by_rule and service.ask("/health/live")[0] == 200:
            return ["none"]
        if time.monotonic() >= until:
            return []
        time.sleep(1)


def request_of(product: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a price of a product as /products describes it."""
    stock = product.get("stock")
    price = product.get("price")
    return {
        "product_id": product["product_id"],
        "current_stock": None if stock is None else max(0, math.floor(stock)),
        "day_of_week": dt.date.today().strftime("%A"),
        "comp_price": product.get("comp_price"),
        "is_promo": False,
        **({} if price is None else {"current_price": price}),
    }


def _price_faults(
    product: Mapping[str, Any], status: int, answer: Any, *, served: Sequence[str], by_rule: bool
) -> Iterator[str]:
    name = product["product_id"]
    price = answer.get("recommended_price") if isinstance(answer, dict) else None
    if status != 200 or not isinstance(price, int | float) or not (math.isfinite(price) and price > 0):
        yield f"{name}: status {status}, {str(answer)[:200]}"
        return
    if WITHOUT_MODEL.intersection(answer["reasons"]) and not by_rule:
        yield f"{name}: by {answer['source']}, {', '.join(answer['reasons'])}"
    if answer["model_version"] not in served:
        yield f"{name}: version {answer['model_version']}, /health/ready names {', '.join(served)}"
    low, high = answer["price_range"]
    if not low * (1 - EDGE) <= price <= high * (1 + EDGE):
        yield f"{name}: {price:g} lies outside its range {low:g} to {high:g}"
    charged = product.get("price")
    if charged and answer["source"] != "override" and abs(price / charged - 1) > LARGEST_MOVE + EDGE:
        yield f"{name}: {price:g} instead of {charged:g} is a move beyond the limit"


def main(argv: Sequence[str] | None = None) -> int:
    """Asks; returns 0, or 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m deploy.smoke", description=__doc__)
    parser.add_argument("url", help="of the service, such as http://127.0.0.1:8080")
    parser.add_argument("--version", help="model version that must be served; absent: any")
    parser.add_argument("--by_rule", action="store_true", help="prices by rule will do: nothing is promoted yet")
    parser.add_argument("--wait", type=float, default=60, metavar="S", help="seconds to become ready (default 60)")
    options = parser.parse_args(argv)
    key = os.environ.get("PRICING_SMOKE_KEY") or None
    service = Service(options.url, key=key)
    promised = {"version": options.version, "by_rule": options.by_rule}
    found = list(faults(service, keyed=key is not None, wait=options.wait, **promised))
    print("\n".join(found) or f"{options.url} prices as promised")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
