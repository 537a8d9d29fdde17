"""Schemathesis reads the OpenAPI document and tries to break its promises."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.kit.serving import open_app
from tests.kit.versions import shared_version


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_route_keeps_what_the_document_promises(tmp_path: Path, mode: str) -> None:
    checks = schemathesis.checks
    with open_app(tmp_path, version=shared_version()) as shop:
        schema = schemathesis.openapi.from_wsgi("/openapi.json", shop.client.application)
        tried = 0
        for found in schema.get_all_operations():
            operation = found.ok()

            @settings(
                max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
            )
            @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
            def keeps(case: Any) -> None:
                # A schema cannot say that days must agree, that strategies are configured, or which prices are absurd.
                left_out = [checks.positive_data_acceptance]
                if case.path == "/get_prices":
                    left_out.append(checks.negative_data_rejection)  # a bad item becomes an error in its place
                nonlocal tried
                case.call_and_validate(excluded_checks=left_out)  # raises on a broken promise
                tried += 1

            if mode == "positive" or operation.body or operation.query:
                keeps()
        assert tried > 0
