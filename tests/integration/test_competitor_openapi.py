"""The reference format's OpenAPI file is valid, says what the code reads, and is what the tests' server speaks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openapi_spec_validator
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings

from pricing.sources.competitor_offers import AnswerPage, Offer, ReferenceAnswer, read_offers
from tests.kit import competitor_server as kit
from tests.kit.competitor_server import NOON, PriceServer, offer, price_server

PATH = Path(__file__).parents[2] / "docs" / "competitor_openapi.yaml"
SPEC: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
SCHEMAS = SPEC["components"]["schemas"]


@pytest.fixture(scope="module")
def server() -> Iterator[PriceServer]:
    with price_server() as found:
        found.offers = [offer(f"P{number}", ean="4006381333931", in_stock=None) for number in range(5)]
        found.etags = True
        yield found


def schema_of(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": SPEC["components"]})


def test_the_file_is_valid_openapi() -> None:
    openapi_spec_validator.validate(SPEC)


@pytest.mark.parametrize(("name", "model"), [("Offer", Offer), ("OffersPage", ReferenceAnswer)])
def test_the_file_and_the_code_name_the_same_fields(name: str, model: type[Offer] | type[ReferenceAnswer]) -> None:
    own = model.model_json_schema()

    assert set(SCHEMAS[name]["properties"]) == set(own["properties"])
    assert set(SCHEMAS[name]["required"]) == set(own["required"])


@pytest.mark.parametrize(
    "change",
    [
        {"price": "10"},
        {"price": 0},
        {"currency": "eur"},
        {"observed_at": None},
        {"in_stock": "yes"},
        {"product_id": None},
        {"delivery_cost": -1},
        {"tax_rate": 1},
        {"tax_included": None},
    ],
)
def test_what_the_file_forbids_is_set_aside(change: dict[str, Any]) -> None:
    wrong = {**offer(), **change}

    batch = read_offers(AnswerPage([wrong, offer()]), source="rival", fetched_at=NOON, run_id="r")

    assert not schema_of("Offer").is_valid(wrong)
    assert (len(batch.offers), len(batch.set_aside)) == (1, 1)


def test_the_server_of_the_tests_speaks_the_format(server: PriceServer) -> None:
    """Any question that the file allows is answered as it says."""
    schema = schemathesis.openapi.from_dict(SPEC)
    base = server.url.removesuffix("/v1/offers")
    checks = schemathesis.checks
    operation = schema["/v1/offers"]["GET"]

    @settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(base_url=base)
        case.validate_response(
            answer,
            checks=[
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )

    ask()


def test_the_servers_pages_and_its_304_are_those_of_the_file(server: PriceServer) -> None:
    with httpx.Client(trust_env=False) as client:
        first = client.get(server.url, params={"limit": 2})
        second = client.get(server.url, params={"limit": 2, "cursor": first.json()["next_cursor"]})
        again = client.get(server.url, params={"limit": 2}, headers={"If-None-Match": first.headers["ETag"]})
        refused = client.get(server.url, params={"limit": 2, "cursor": "nowhere"})

    for page in (first, second):
        schema_of("OffersPage").validate(page.json())
    assert [each.status_code for each in (first, second, again, refused)] == [200, 200, 304, 400]
    assert (again.content, kit.offer().keys() <= SCHEMAS["Offer"]["properties"].keys()) == (b"", True)
