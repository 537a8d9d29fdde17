"""Golden requests: a few requests whose answers are stored in a version and compared wherever it is loaded."""

import datetime as dt
import math
import time
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from pricing.arrays import Strings
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest, Weekday
from pricing.demand.curve import Demand
from pricing.errors import VersionError, first_line

TOLERANCE = 1e-4
PRODUCTS = 6
MOST = 100  # requests of a version, each priced TRIES times wherever it is loaded
TRIES = 5
FIELDS = (
    "recommended_price",
    "confidence",
    "expected_units",
    "expected_margin",
    "source",
    "strategy",
    "price_range",
)


def choose_requests(demand: Demand, *, on_sale: Strings, today: dt.date) -> list[PriceRequest]:
    """Chooses requests that cover a version: products over the whole list, no and unknown stock, unknown products.

    Products that are not `on_sale` are chosen where no other is known.
    """
    sold = np.flatnonzero(np.isin(demand.product_ids, on_sale))
    if not len(sold):
        sold = np.arange(len(demand.product_ids))
    rows = np.unique(sold[np.linspace(0, len(sold) - 1, num=PRODUCTS).astype(int)])
    weekdays = get_args(Weekday)
    known = [
        PriceRequest(
            product_id=str(demand.product_ids[row]),
            current_stock=(0.0, 5.0, 50.0, None)[place % 4],
            day_of_week=weekdays[(today.weekday() + place) % 7],
            is_promo=place % 3 == 2,
        )
        for place, row in enumerate(rows)
    ]
    stranger = {"current_stock": 20.0, "day_of_week": weekdays[today.weekday()], "list_price": 10.0, "unit_cost": 6.0}
    category = str(demand.categories[0])
    unknown: list[dict[str, Any]] = [{"category": category}, {"category": category, "comp_price": 9.5}, {}]
    strangers = [
        PriceRequest.model_validate({"product_id": f"golden-stranger-{place}", **stranger, **own})
        for place, own in enumerate(unknown)
    ]
    return known + strangers


def record(prices: Pricer, demand: Demand, *, on_sale: Strings, today: dt.date) -> dict[str, Any]:
    """Prices requests on this demand one by one, as `compare` does; returns both as JSON, for a version to store."""
    cases = [
        {
            "request": request.model_dump(mode="json", exclude_none=True),
            "decision": decision.model_dump(mode="json", include=set(FIELDS)),
        }
        for request in choose_requests(demand, on_sale=on_sale, today=today)
        for decision in prices.price([request], today=today)
    ]
    return {"today": today.isoformat(), "cases": cases}


def compare(prices: Pricer, recorded: Mapping[str, Any], *, where: str) -> tuple[float, ...]:
    """Prices the golden requests one by one, and compares the answers with those that `record` returned.

    Returns (request,) milliseconds of each, the fastest of TRIES, since the others measure the machine's load.

    Raises:
        VersionError: An answer differs by more than one part in 10,000, none was recorded, or none can be read.
    """
    try:
        today = dt.date.fromisoformat(recorded["today"])
        cases = [
            (PriceRequest.model_validate(case["request"]), case["decision"]) for case in recorded["cases"][: MOST + 1]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise VersionError(f"{where}: its golden requests cannot be read ({first_line(error)}); train again") from error
    if not 0 < len(cases) <= MOST:
        raise VersionError(f"{where}: carries no golden request, or more than {MOST}; train again")
    return tuple(_checked(prices, request, expected, today=today, where=where) for request, expected in cases)


def _checked(
    prices: Pricer, request: PriceRequest, expected: Mapping[str, Any], *, today: dt.date, where: str
) -> float:
    """Milliseconds of a request's fastest answer; raises VersionError where it is not the one that was recorded."""
    latencies = []
    for _ in range(TRIES):
        start = time.perf_counter()
        (decision,) = prices.price([request], today=today)
        latencies.append((time.perf_counter() - start) * 1000)
    found = decision.model_dump(mode="json")
    for field in FIELDS:
        if not _same(found[field], expected.get(field)):
            raise VersionError(
                f"{where}: the golden request for {request.product_id} answers {field} {found[field]!r} where "
                f"{expected.get(field)!r} was recorded; this library does not price as the one that packed it"
            )
    return min(latencies)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        # Confidences have four digits: one step of the last is no more than the tolerance, but for binary rounding.
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE * (1 + 1e-9))
    return bool(found == expected)
