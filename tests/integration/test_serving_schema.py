"""Schemathesis reads the OpenAPI document and tries to break its promises."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pricing.data.calendar import WEEKDAYS
from tests.serving_kit import NOW, open_shop
from tests.versions import shared_version

schemathesis = pytest.importorskip("schemathesis", reason="it is not in the locks yet")

TODAY, WEEK, FAR = NOW.date(), dt.timedelta(days=7), dt.timedelta(days=700)
STRATEGIES = (None, "margin", "revenue", "clearance", "match")


def sound(body: Any) -> bool:
    """Whether a body keeps the rules that no schema can say: known strategies, and days that agree and are near."""
    requests = [body] if isinstance(body, dict) else []
    if isinstance(body, dict):
        requests += [body.get("request"), body.get("against"), *(body.get("requests") or [])]
    for request in requests:
        if isinstance(request, dict):
            if request.get("strategy") not in STRATEGIES or not set(request.get("strategies") or ()) <= set(STRATEGIES):
                return False
            day, delivery = (_day(request.get(name)) for name in ("date", "next_delivery"))
            if day and (WEEKDAYS[day.weekday()] != request.get("day_of_week") or abs(day - TODAY) > FAR):
                return False
            if delivery and delivery < (day or TODAY + WEEK):
                return False
    return True


def _day(text: Any) -> dt.date | None:
    try:
        return dt.date.fromisoformat(str(text))
    except ValueError:
        return None


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_route_keeps_what_the_document_promises(tmp_path: Path, mode: str) -> None:
    checks = schemathesis.checks
    with open_shop(tmp_path, version=shared_version()) as shop:
        schema = schemathesis.openapi.from_wsgi("/openapi.json", shop.client.application)
        tried = 0
        for found in schema.get_all_operations():
            operation = found.ok()

            @settings(
                max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
            )
            @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
            def keeps(case: Any) -> None:
                kept = mode == "positive" and sound(case.body)
                left_out = [] if kept else [checks.positive_data_acceptance]
                if case.path == "/get_prices":
                    left_out.append(checks.negative_data_rejection)  # a bad item becomes an error in its place
                nonlocal tried
                case.call_and_validate(excluded_checks=left_out)  # raises on a broken promise
                tried += 1

            if mode == "positive" or operation.body or operation.query:
                keeps()
        assert tried > 0
