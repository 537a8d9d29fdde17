"""What counts as a competitor's offer, and what an API's settings may say."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.competitors import SCHEMA, CompetitorSettings, Reading, read_match
from etl.http import ApiError, retry_after

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
SECRET = "a-key-nobody-else-has"
FIELDS = {"product_id": "sku", "price": "price.amount", "available": "in_stock", "seen_at": "seen"}
GOOD = {"sku": "P1", "price": {"amount": 9.5}, "in_stock": True, "seen": "2026-03-10T08:00:00+02:00"}
DEEP = json.loads("[" * 900 + "]" * 900)


def settings(**others: Any) -> CompetitorSettings:
    return CompetitorSettings.model_validate({"url": "https://prices.example.com/offers", "fields": FIELDS, **others})


def read(*records: Any, match: dict[str, str] | None = None, api: CompetitorSettings | None = None) -> Reading:
    reading = Reading("rival", api or settings(), now=NOW)
    reading.add(records, match=match, hide=lambda text: text.replace(SECRET, "***"))
    return reading


def rows(reading: Reading) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = reading.offers.to_pylist()
    return found


def test_a_good_offer_becomes_a_row() -> None:
    reading = read(GOOD)

    seen = dt.datetime(2026, 3, 10, 6, tzinfo=dt.UTC)
    names = {"source": "rival", "offer_id": "P1", "product_id": "P1"}
    assert rows(reading) == [{**names, "price": 9.5, "available": True, "seen_at": seen}]
    assert reading.offers.schema == SCHEMA


BAD = [
    *(("price", value) for value in (0, math.nan, math.inf, 10**399, "9.5", True, None, DEEP)),
    *(("sku", value) for value in ("\ud800", " ", None, True, {}, "a\0b", "x" * 201, DEEP)),
    ("sku", f"of {SECRET}"),
    *(("seen", f"{value}T00:00:00Z") for value in ("10000-01-01", "1999-12-31", "2026-03-11", "2026-02-30")),
    *(("seen", value) for value in ("2026-03-10T08:00:00", None, 1e300)),
    ("in_stock", "yes"),
]


@pytest.mark.parametrize(("theirs", "value"), BAD, ids=lambda value: ascii(value)[:30])
def test_a_bad_offer_is_set_aside_by_its_field_and_loses_no_other(theirs: str, value: Any) -> None:
    bad = {**GOOD, theirs: {"amount": value} if theirs == "price" else value}
    ours = {"sku": {"product_id", "offer_id"}, "seen": {"seen_at"}, "in_stock": {"available"}}.get(theirs, {theirs})

    reading = read(GOOD, bad, {**GOOD, "sku": "P2"})

    counts = reading.counts()
    assert [row["product_id"] for row in rows(reading)] == ["P1", "P2"]
    assert (counts.read, counts.used, list(counts.aside.values())) == (3, 2, [1])
    assert set(counts.examples) == set(counts.aside) <= ours
    assert all(len(text) <= 80 and text.isascii() and SECRET not in text for text in counts.examples.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "amount"]), inner),
    max_leaves=8,
)


@given(st.lists(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, JSON)), max_size=5))
def test_no_record_ends_the_reading_and_all_are_counted(records: list[Any]) -> None:
    reading = read(*records, GOOD)

    counts = reading.counts()
    assert counts.read == len(records) + 1 == counts.used + sum(counts.aside.values())
    assert all(0 < row["price"] <= 1e9 and row["product_id"] for row in rows(reading))


def test_offers_are_matched_by_a_file_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "match.csv"
    path.write_text("\ufeffoffer_id,product_id\nr-1,P1\nr-2,P1\n", encoding="utf-8")
    api = settings(fields={"offer_id": "sku", "price": "price.amount"}, match=path)

    reading = read(*({**GOOD, "sku": sku} for sku in ("r-1", "r-2", "r-3")), api=api, match=read_match(path))

    assert [(row["offer_id"], row["product_id"]) for row in rows(reading)] == [("r-1", "P1"), ("r-2", "P1")]
    assert reading.counts().aside == {"match": 1}


@pytest.mark.parametrize("content", [b"offer,product\na,b\n", b"offer_id,product_id\na,P1\na,P2\n", b"offer_id\n\xff"])
def test_a_file_of_ids_that_cannot_be_used_is_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "match.csv").write_bytes(content)

    with pytest.raises(ApiError, match=r"match\.csv"):
        read_match(tmp_path / "match.csv")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("37", 37), ("9" * 400, 1e12 - 1), *((text, None) for text in ("", "soon", "-1", "²", "Tue, 10 Mar 2026"))],
)
def test_a_wish_to_wait_is_read_as_seconds(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


KEY = {"kind": "key", "variable": "RIVAL_KEY"}
OAUTH = {"kind": "oauth", "client_id_variable": "RIVAL_ID", "client_secret_variable": "RIVAL_SECRET"}


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"url": url}
            for url in ("http://prices.example.com/", "ftp://a.b/", "https://u:p@a.b/", "https://a.b/?api_key=x")
        ),
        {"authentication": {**KEY, "variable": SECRET}},
        {"authentication": {**KEY, "header": "X-Key: 1"}},
        {"authentication": {**KEY, "prefix": "a\r\nb"}},
        {"authentication": {**OAUTH, "token_url": "http://login.example.com/token"}},
        {"match": "match.csv"},
        {"fields": {"price": "price"}},
        {"fields": {"price": "price", "offer_id": "id"}},
        {"fields": {**FIELDS, "price": "price..amount"}},
        {"paging": {"kind": "guess"}},
        {"currency": "EUR"},
    ],
    ids=str,
)
def test_settings_that_would_tell_a_secret_or_guess_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**wrong)

    assert SECRET not in str(caught.value)
